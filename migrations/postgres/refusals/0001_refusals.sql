-- What was refused: who asked for what, why it was not done, and when. Outside of the ledger, because nothing happened: no
-- answer depends on it, it is kept for a while and then goes.

create table refusals (
    -- 1, 2, 3 … in the order in which they were written down: the order of lists
    id bigint generated always as identity primary key,
    -- when it was refused
    refused_at text collate "C" not null,
    -- who asked, and as what
    actor text collate "C" not null,
    role text collate "C" not null,
    -- the reseller it acted for; null for the operator's staff
    tenant text collate "C",
    -- what was asked: the request's method and path
    method text collate "C" not null,
    path text collate "C" not null,
    -- which item of a bulk, from 0; null where all of the request was refused
    item bigint,
    -- why: the code and the sentence that it was answered with
    code text collate "C" not null,
    detail text collate "C" not null,
    -- the figures that it was answered with, a JSON object
    members text collate "C" not null,
    -- the position of the log that it was decided on; null where the ledger was not asked
    position bigint,
    -- 1 where it was the first answer to an idempotency key, given again
    replayed bigint not null
);
-- what has been kept long enough
create index refusals_by_time on refusals (refused_at);
