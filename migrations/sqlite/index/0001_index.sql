-- The index: where to find what in ledger.db, by key. Everything here follows from ledger.db and lags a moment behind it; the
-- file may be deleted while nothing runs and is then made anew.
--
-- It is a file of its own because keys are random and the log is not: an insert by key dirties a page of its own, which would
-- go through the log's commit and its fsync. Here thousands of keys are put in at once, in their order, and nobody waits.

-- How far the index has come, in the one row that whoever adds to it locks.
create table progress (
    id          integer primary key check (id = 1),
    -- Every event up to this position is in `streams` …
    position    integer not null check (position >= 0),
    -- … and this is the hash of that event (32 zero bytes for none): the index belongs to this history and to no other.
    hash        blob    not null check (length(hash) = 32),
    -- Every receipt up to this id is in `receipt_keys` …
    receipt     integer not null check (receipt >= 0),
    -- … and this is that receipt's key (empty for none).
    receipt_key blob    not null
) strict;

insert into progress (id, position, hash, receipt, receipt_key) values (1, 0, zeroblob(32), 0, x'');

-- Each aggregate's events. The primary key also guards the log: a sequence that came twice stops the index, and the node.
create table streams (
    aggregate_type text    not null,
    aggregate_id   text    not null,
    sequence       integer not null,
    position       integer not null,
    primary key (aggregate_type, aggregate_id, sequence)
) strict, without rowid;

-- Which receipt a key has.
create table receipt_keys (
    key     blob    primary key not null,
    receipt integer not null
) strict, without rowid;

-- The state of an aggregate after one of its latest events: loading one is this row, and the fold of the few events since. The
-- first five columns are postgres-es's.
create table snapshots (
    aggregate_type   text    not null,
    aggregate_id     text    not null,
    -- The number of the last event in it.
    last_sequence    integer not null,
    -- How often this row has been written; postgres-es counts so.
    current_snapshot integer not null,
    -- The state, JSON.
    payload          text    not null,
    -- The version of the state's shape; another one than the reader's means: replay.
    state_version    integer not null,
    -- The head it was committed with: the state holds every event of its aggregate up to here.
    position         integer not null,
    primary key (aggregate_type, aggregate_id)
) strict, without rowid;
