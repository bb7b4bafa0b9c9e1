-- The ledger: one gapless log, and what is committed together with it. Runs with `ledger` as the only schema on the path.
--
-- Every table but `tokens` is written by whoever holds the head's lock, in one transaction a batch. Identifiers are hyphenated
-- texts; hashes and receipt keys are raw bytes; times have microseconds, which is all that the chain's texts have. `events`,
-- `head` and `receipts` are the truth; facts and snapshots can be rebuilt from the log, and `verify` compares them. The tables
-- are SQLite's of the same number, with the snapshots that it keeps in a file of their own.

-- What the triggers below say no with.
create function refuse() returns trigger language plpgsql as $$
begin
    raise exception '%', tg_argv[0] using errcode = 'integrity_constraint_violation';
end
$$;

-- The end of the log, in the one row that every writer locks.
create table head (
    -- There is one head: the check and the key leave room for no second row.
    id       integer primary key check (id = 1),
    -- The position of the last event; 0 while the log is empty.
    position bigint  not null check (position >= 0),
    -- The last event's hash; 32 zero bytes while the log is empty.
    hash     bytea   not null check (length(hash) = 32),
    -- Counts the times a writer had to find out what became of a commit. Committing this number is what makes the finding
    -- as durable as any later commit.
    epoch    bigint  not null check (epoch >= 0)
) with (fillfactor = 10); -- a page to itself: its versions then stay on it, and no index entry is ever added

insert into head (id, position, hash, epoch) values (1, 0, decode(repeat('00', 32), 'hex'), 0);

create trigger head_is_never_removed before delete on head
    for each row execute function refuse('the head is never removed');
create trigger head_is_never_emptied before truncate on head
    for each statement execute function refuse('the head is never removed');

-- The log. A superset of the table that postgres-es reads; it cannot write here, because it knows neither position nor hash.
create table events (
    -- 1, 2, 3 … in commit order: who has seen n has seen everything up to n. The primary key is the last guard against two
    -- writers.
    position       bigint      primary key check (position > 0),
    -- Whose event it is.
    aggregate_type text        not null,
    aggregate_id   text        not null,
    -- 1, 2, 3 … within the aggregate.
    sequence       bigint      not null check (sequence > 0),
    -- What happened, and in which version of its shape.
    event_type     text        not null,
    event_version  text        not null,
    -- `json` and not `jsonb`, because it is kept as the exact text that was hashed: it is never written a second time. To read
    -- that text, cast it.
    payload        json        not null,
    metadata       json        not null,
    -- When, by the database's clock; never decreasing with position.
    recorded_at    timestamptz not null,
    -- SHA-256 of the previous hash and this event's canonical line.
    hash           bytea       not null check (length(hash) = 32),
    -- Who, and by which command: also in the metadata, here to be searched for.
    actor          text        not null,
    command_id     text        not null,
    -- Finds an aggregate's events, and leaves no room for two writers of one aggregate.
    unique (aggregate_type, aggregate_id, sequence)
);

-- History is added to, never changed: not by us, not by a hand with a shell. `always`, because a session may otherwise ask for
-- triggers to be left out.
create trigger events_are_never_changed before update on events
    for each row execute function refuse('events are never changed');
create trigger events_are_never_deleted before delete on events
    for each row execute function refuse('events are never deleted');
create trigger events_are_never_emptied before truncate on events
    for each statement execute function refuse('events are never deleted');

-- Events follow the last one of the log, each the next, or there are none.
create function events_follow_one_another() returns trigger language plpgsql as $$
-- Names are whole here: it runs with the path of whoever inserts.
declare
    added record;
begin
    select count(*) as number, min(position) as first, max(position) as last into added from new_events;
    if added.number > 0 and (
        added.last - added.first + 1 <> added.number
        or added.last <> (select max(position) from ledger.events)
        or (added.first > 1 and not exists (select from ledger.events where position = added.first - 1))
    ) then
        raise exception 'an event must follow the last one of the log' using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end
$$;

create trigger events_follow_one_another after insert on events referencing new table as new_events
    for each statement execute function events_follow_one_another();

alter table events enable always trigger events_are_never_changed;
alter table events enable always trigger events_are_never_deleted;
alter table events enable always trigger events_are_never_emptied;
alter table events enable always trigger events_follow_one_another;
alter table head enable always trigger head_is_never_removed;
alter table head enable always trigger head_is_never_emptied;

-- What was answered under idempotency keys.
create table receipts (
    -- The first 16 bytes of SHA-256(tenant, role, actor, key).
    key         bytea       primary key check (length(key) = 16),
    -- SHA-256 of what was sent: a repetition has the same, a key reused for something else has not.
    fingerprint bytea       not null check (length(fingerprint) = 32),
    -- `done` or `refused`, for those who look in with SQL.
    status      text        not null check (status in ('done', 'refused')),
    -- The position of the answer.
    position    bigint      not null,
    -- The answer, JSON.
    answer      text        not null,
    -- From when its retention counts.
    created_at  timestamptz not null
);

-- The oldest go first. Rows come in this order, so the index grows at its end only.
create index receipts_by_age on receipts (created_at);

-- What grows with history, by key: a pure function of events.
create table facts (
    -- provision, purchase_reference, refid, user, referral_code, totals.
    kind     text   not null,
    -- Unique within its kind.
    key      text   not null,
    -- JSON.
    value    text   not null,
    -- The position of the event that changed it last.
    position bigint not null,
    primary key (kind, key)
);

-- The state of an aggregate after its last event, written in the same commit: loading one is this row. The first five columns are
-- postgres-es's.
create table snapshots (
    aggregate_type   text    not null,
    aggregate_id     text    not null,
    -- The number of the last event in it.
    last_sequence    bigint  not null check (last_sequence >= 0),
    -- How often this row has been written; postgres-es counts so.
    current_snapshot bigint  not null check (current_snapshot >= 0),
    -- The state, JSON.
    payload          json    not null,
    -- The version of the state's shape; another one than the reader's means: replay.
    state_version    integer not null,
    -- The head it was committed with: the state holds every event of its aggregate up to here.
    position         bigint  not null,
    primary key (aggregate_type, aggregate_id)
) with (fillfactor = 50); -- a row is written again and again: room for its next version on its own page spares the index

-- Clients' personal data, beside a log that can never be deleted and holds only its salted hash. Forgetting a client deletes
-- its row.
create table personal_data (
    client_id text primary key,
    -- Random, new with every change, and part of what is hashed.
    salt      text not null,
    name      text not null,
    -- Not everyone has one.
    email     text null,
    -- A JSON object.
    metadata  text not null
);

-- Whose personal data it is, is for the read models to say: a tenant is shown that of the clients it is shown. The ledger's own
-- work says that it sees all. (The read models' schema is made after this one; the name is looked up when somebody asks.)
create function client_is_in_scope(id text) returns boolean language plpgsql stable as $$
begin
    if current_setting('tallytree.scope', true) = 'all' then
        return true;
    end if;
    return exists (select from views.clients c where c.client_id = id);
end
$$;
alter table personal_data enable row level security, force row level security;
create policy scope on personal_data using (ledger.client_is_in_scope(client_id));

-- Who may speak to the service. Not part of the history: tokens are given out and revoked by an operator with a shell.
create table tokens (
    -- The public half, by which a token is found.
    key_id        text        primary key,
    -- SHA-256 of the secret half, which is 256 random bits and shown once.
    secret_hash   bytea       not null,
    -- super_admin, reseller, payments, auditor, finance.
    role          text        not null,
    -- The reseller that a reseller's token acts for.
    tenant        text        null,
    -- The user it stands for; without one the actor is the key itself.
    user_id       text        null,
    -- Whether the holder may name a cost itself.
    declared_cost boolean     not null default false,
    -- For people.
    label         text        null,
    created_at    timestamptz not null,
    -- From when it is no longer taken; null for never.
    expires_at    timestamptz null,
    -- When it was revoked; null while it stands.
    revoked_at    timestamptz null
);

-- The service's role, which owns these tables where the operator has made no other, may not do it either. An owner can give
-- itself the right back, but not by mistake; and the triggers stand behind.
revoke update, delete, truncate on events from public, current_user;
revoke insert, delete, truncate on head from public, current_user;
