-- What it takes to see a wallet as it was without folding it from its first event.
--
-- Every event of a wallet carries the balance after it, so what it held at a position stands in its last event up to there.
-- What its other terms were then stands here: one row for each event that is no statement line, and those are few.

create table wallet_terms (
    -- whose wallet
    reseller_id text collate "C" not null,
    -- the event's position
    position bigint not null,
    -- the event's number among the wallet's events
    sequence bigint not null,
    -- how far below zero provisioning might go from then on
    credit_limit bigint not null,
    -- below which balance credit was low from then on
    low_credit_threshold bigint not null,
    -- whose holds lay on provisioning from then on: a JSON list of authorities
    holds text collate "C" not null,
    primary key (reseller_id, position)
);

alter table wallet_terms enable row level security, force row level security;
create policy scope on wallet_terms using (views.reseller_is_in_scope(reseller_id));
