-- What was paid for a provision, and what of it has been refunded, is no fact that is kept here any more: `index.db` says where its
-- events stand (`provision_events`), and they say the rest. `facts` holds all other kinds: purchase_reference, refid, user,
-- referral_code, totals.
delete from facts where kind = 'provision';
