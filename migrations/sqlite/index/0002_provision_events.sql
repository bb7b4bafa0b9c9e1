-- Where the events stand that a provision's fact is the fold of. The facts themselves were in ledger.db, where each one dirtied a
-- page of the commit; everything that they say is in these two events.
create table provision_events (
    -- The 16 bytes of its id.
    id          blob    primary key not null check (length(id) = 16),
    -- The position of the event that made it …
    provisioned integer not null,
    -- … and of its last refund, which says what has been refunded in total; null while there is none.
    refunded    integer null
) strict, without rowid;

-- The index was not made to know of these: it is made anew, as where the file is missing.
delete from streams;
delete from receipt_keys;
delete from snapshots;
update progress set position = 0, hash = zeroblob(32), receipt = 0, receipt_key = x'' where id = 1;
