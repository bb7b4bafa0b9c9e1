-- What everybody held before an instant, beside what everybody had done: what was outstanding at any position is the nearest of
-- these rows, mended by the movements in between, instead of a look-up for every wallet.

drop table scores;

-- What everybody had done and held before an instant, in one row: written when enough happened since the row before. Never updated.
create table scores (
    -- of the first movement that is not counted
    position bigint primary key not null,
    -- when that was recorded, in microseconds since 1970; what is counted was recorded before
    before_micros bigint not null,
    -- how many movements that rankings show had been counted
    movements bigint not null,
    -- by ordinal, one after the other: what it had provisioned, credits added, clients taken on, commissions, movements;
    -- packed as in `standings`
    entries bytea not null,
    -- by ordinal, one after the other: what its wallet held, as LEB128 with the sign in the lowest bit
    balances bytea not null
);

-- Everybody in one row: as the table that was here before.
alter table scores enable row level security, force row level security;
create policy scope on scores using ('all' = current_setting('tallytree.scope', true)
    or current_setting('tallytree.packed', true) = 'open');

-- Analytics is folded again from the beginning, the others wait for it. Not `delete`: row-level
-- security would hide the rows from it.
truncate analytics_members, standings, days, low_credits, movements, tier_changes;
delete from checkpoints where projection = 'analytics';
