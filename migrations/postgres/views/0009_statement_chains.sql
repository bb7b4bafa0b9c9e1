-- Statements as chains: each line names the one before it in the same wallet's statement, and the wallet's row names the last.
--
-- The indexes by wallet are gone: each line and each provision was put into them at a page of its own, which in a large network was
-- two thirds of all pages that a batch changed. A statement is now read from its end backwards, line by line, or from a mark on.
--
-- No older version may fold into these tables any more, which knows nothing of chains: `former` and `lines` have no default, so that it
-- fails instead, and goes on failing until it is replaced.

-- Whoever folds has this lock, and whoever reads begins with that table: nobody is in the middle of anything.
select pg_advisory_xact_lock(7373001);
lock table checkpoints in access exclusive mode;

drop table transactions;
drop index provisions_by_wallet;

-- Statement lines: one for every event that moved credits. Never updated.
create table transactions (
    -- the event's position: the line's identity
    position bigint primary key not null,
    -- whose wallet
    reseller_id text collate "C" not null,
    -- the event's number among the wallet's events
    sequence bigint not null,
    -- what happened: the event's name in lower case
    kind text collate "C" not null,
    -- by how much the balance changed, signed
    amount bigint not null,
    -- the balance after it
    balance bigint not null,
    -- where added credits came from, or on which ground they were removed
    source text collate "C",
    -- the payment's reference
    reference text collate "C",
    -- in words
    note text collate "C",
    -- the other reseller: of a transfer, or the seller that a commission was earned from
    counterparty_id text collate "C",
    -- for which client
    client_id text collate "C",
    -- which provision
    provision_id text collate "C",
    -- which transfer
    transfer_id text collate "C",
    -- which refund
    refund_id text collate "C",
    -- by which command; what answers call the transaction's id
    transaction_id text collate "C" not null,
    -- when
    recorded_at text collate "C" not null,
    -- the position of the line before it in the wallet's statement; 0 for the first
    former bigint not null,
    -- of a provision: the position of the one before it in the wallet's statement, 0 for the first; null for what is none
    former_provision bigint
);
-- a client's lines within the statement
create index transactions_by_client on transactions (client_id, position) where client_id is not null;

-- Every 16th line of a statement, and the first after a month has ended: where to enter it on the way to a position in the
-- middle, which is mostly the end of a month. Never updated.
create table statement_marks (
    -- whose wallet
    reseller_id text collate "C" not null,
    -- the line's position
    position bigint not null,
    primary key (reseller_id, position)
);

-- One row per wallet: what it holds now.
drop table wallets;
create table wallets (
    -- whose it is
    reseller_id text collate "C" primary key not null,
    -- credits held; negative after a chargeback or within the credit limit
    balance bigint not null,
    -- credits spoken for by reservations
    reserved bigint not null,
    -- how far below zero provisioning may go
    credit_limit bigint not null,
    -- below which balance credit is low
    low_credit_threshold bigint not null,
    -- whether the next fall below the threshold is announced
    armed bigint not null,
    -- whose holds lie on provisioning: a JSON list of authorities
    holds text collate "C" not null,
    -- the number of the wallet's last event
    sequence bigint not null,
    -- the position of the wallet's last event
    position bigint not null,
    -- when that was recorded
    updated_at text collate "C" not null,
    -- how many lines its statement has
    lines bigint not null,
    -- the position of the last one; null while there is none
    last_line bigint,
    -- the position of the last one that is a provision
    last_provision bigint
);

alter table wallets enable row level security, force row level security;
create policy scope on wallets using ((select current_setting('tallytree.scope', true)) = 'all'
    or views.reseller_is_in_scope(reseller_id));
alter table transactions enable row level security, force row level security;
create policy scope on transactions using ((select current_setting('tallytree.scope', true)) = 'all'
    or views.reseller_is_in_scope(reseller_id));
alter table statement_marks enable row level security, force row level security;
create policy scope on statement_marks using ((select current_setting('tallytree.scope', true)) = 'all'
    or views.reseller_is_in_scope(reseller_id));

-- Wallets are folded again from the beginning, with their statements; the others wait for them. What is left of the projection that
-- the statements were in is as far as it was.
delete from checkpoints where projection = 'wallets';
update checkpoints set projection = 'provisions' where projection = 'transactions';
