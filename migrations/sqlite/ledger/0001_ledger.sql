-- The ledger: one gapless log, and what is committed together with it.
--
-- Every table but `tokens` is written by whoever holds the head's lock, in one transaction a batch. Times are RFC 3339 texts in
-- UTC with six decimals and Z, so that text order is time order; identifiers are hyphenated texts; hashes and receipt keys are
-- raw bytes. `events`, `head` and `receipts` are the truth; facts can be rebuilt from the log, and `verify`
-- compares them. What finds rows by other keys than their number is in `index.db`.

-- The end of the log, in the one row that every writer locks.
create table head (
    -- There is one head: the check and the key leave room for no second row.
    id       integer primary key check (id = 1),
    -- The position of the last event; 0 while the log is empty.
    position integer not null check (position >= 0),
    -- The last event's hash; 32 zero bytes while the log is empty.
    hash     blob    not null check (length(hash) = 32),
    -- Counts the times a writer had to find out what became of a commit. Committing this number is what makes the finding
    -- as durable as any later commit.
    epoch    integer not null check (epoch >= 0)
) strict;

insert into head (id, position, hash, epoch) values (1, 0, zeroblob(32), 0);

create trigger head_is_never_removed before delete on head
begin
    select raise(abort, 'the head is never removed');
end;

-- The log. A superset of the table that postgres-es reads.
create table events (
    -- 1, 2, 3 … in commit order: who has seen n has seen everything up to n. The primary key is the last guard against two
    -- writers.
    position       integer primary key,
    -- Whose event it is.
    aggregate_type text    not null,
    aggregate_id   text    not null,
    -- 1, 2, 3 … within the aggregate.
    sequence       integer not null check (sequence > 0),
    -- What happened, and in which version of its shape.
    event_type     text    not null,
    event_version  text    not null,
    -- JSON, kept as the exact text that was hashed: it is never written a second time.
    payload        text    not null,
    metadata       text    not null,
    -- When; never decreasing with position.
    recorded_at    text    not null,
    -- SHA-256 of the previous hash and this event's canonical line.
    hash           blob    not null check (length(hash) = 32),
    -- Who, and by which command: also in the metadata, here to be searched for.
    actor          text    not null,
    command_id     text    not null
) strict;

-- There is no index here, on purpose: the log is written from its end only. An aggregate's events are found by `index.db`, which
-- also guards their sequences.

-- History is added to, never changed: not by us, not by a hand with a shell.
create trigger events_are_never_changed before update on events
begin
    select raise(abort, 'events are never changed');
end;

-- An event is the next one, or it is none. This also closes the way around the triggers above and below: `insert or replace`
-- would delete an event without asking them. Rolling back rather than aborting spares a journal of every statement.
create trigger events_follow_one_another before insert on events
when new.position is not (select coalesce(max(position), 0) + 1 from events)
begin
    select raise(rollback, 'an event must follow the last one of the log');
end;

create trigger events_are_never_deleted before delete on events
begin
    select raise(abort, 'events are never deleted');
end;

-- What was answered under idempotency keys, in the order in which it was; `index.db` finds a key's.
create table receipts (
    -- 1, 2, 3 … No number comes twice: an expired one goes only after the index knows of it.
    id          integer primary key,
    -- The first 16 bytes of SHA-256(tenant, role, actor, key).
    key         blob    not null check (length(key) = 16),
    -- SHA-256 of what was sent: a repetition has the same, a key reused for something else has not.
    fingerprint blob    not null check (length(fingerprint) = 32),
    -- `done` or `refused`, for those who look in with SQL.
    status      text    not null check (status in ('done', 'refused')),
    -- The position of the answer.
    position    integer not null,
    -- The answer, JSON.
    answer      text    not null,
    -- From when its retention counts.
    created_at  text    not null
) strict;

-- What grows with history, by key: a pure function of events.
create table facts (
    -- provision, purchase_reference, refid, user, referral_code, totals.
    kind     text    not null,
    -- Unique within its kind.
    key      text    not null,
    -- JSON.
    value    text    not null,
    -- The position of the event that changed it last.
    position integer not null,
    primary key (kind, key)
) strict, without rowid;

-- Clients' personal data, beside a log that can never be deleted and holds only its salted hash. Forgetting a client deletes
-- its row.
create table personal_data (
    client_id text primary key not null,
    -- Random, new with every change, and part of what is hashed.
    salt      text not null,
    name      text not null,
    -- Not everyone has one.
    email     text null,
    -- A JSON object.
    metadata  text not null
) strict;

-- Who may speak to the service. Not part of the history: tokens are given out and revoked by an operator with a shell.
create table tokens (
    -- The public half, by which a token is found.
    key_id        text primary key not null,
    -- SHA-256 of the secret half, which is 256 random bits and shown once.
    secret_hash   blob    not null,
    -- super_admin, reseller, payments, auditor, finance.
    role          text    not null,
    -- The reseller that a reseller's token acts for.
    tenant        text    null,
    -- The user it stands for; without one the actor is the key itself.
    user_id       text    null,
    -- 1 where the holder may name a cost itself.
    declared_cost integer not null default 0 check (declared_cost in (0, 1)),
    -- For people.
    label         text    null,
    created_at    text    not null,
    -- From when it is no longer taken; null for never.
    expires_at    text    null,
    -- When it was revoked; null while it stands.
    revoked_at    text    null
) strict;
