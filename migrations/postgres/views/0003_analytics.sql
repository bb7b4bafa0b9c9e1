-- Analytics, and the dashboards without what moves: sums of movements have one home, here.
--
-- Resellers are numbered 0, 1, 2 … in the order of registration, and what a sale changes goes by that number: small keys, and
-- neighbours on a page. A sale changes one small row for the seller and one for each of those above it (`standings`), and
-- nothing else but the movement itself, which is packed into some eight bytes. What is over is written once: a day when the
-- next one begins for that reseller, everybody's sums now and then at midnight. Whatever does not end on a UTC day (another
-- time zone, a `from` in the middle of a day) is worked out from the movements.

drop table daily_totals;
drop table dashboards;

-- How many resellers stand below each, and what of its wallet changes rarely. The reseller 'platform', whose path is '/', is
-- the whole network: its limit is everybody's. Columns have defaults because what a batch did not touch is left out.
create table dashboards (
    reseller_id text collate "C" primary key not null,
    path text collate "C" not null default '',
    -- the reseller's own status, needed to know which count a deactivation leaves
    status text collate "C" not null default 'active',
    reserved bigint not null default 0,
    credit_limit bigint not null default 0,
    -- how many authorities hold its provisioning
    holds bigint not null default 0,
    -- direct children
    children bigint not null default 0,
    -- all descendants, then those of them that are active and pending
    downline bigint not null default 0,
    downline_active bigint not null default 0,
    downline_pending bigint not null default 0
);
-- what a look at a subtree's health lists and counts, by subtree
create index dashboards_held on dashboards (path) where holds > 0;
create index dashboards_inactive on dashboards (path) where status = 'deactivated';

-- The resellers as analytics must know them, so that this read model stands alone.
create table analytics_members (
    -- 0, 1, 2 … in the order of registration
    ordinal bigint primary key not null,
    reseller_id text collate "C" not null,
    -- the ordinals from the top down to its own, four bytes each, the highest first: subtrees are ranges
    line bytea not null,
    -- the line of ancestors, itself included
    path text collate "C" not null,
    tier text collate "C" not null,
    status text collate "C" not null,
    registered_at text collate "C" not null
);
-- what each batch asks of everybody in it, answered by the index alone
create unique index analytics_members_by_id on analytics_members (reseller_id, line);
-- the members of a subtree, answered by the index alone
create index analytics_members_by_path on analytics_members (path, ordinal);

-- What each reseller has done so far, and on the last day on which it or anybody below it did anything.
create table standings (
    -- -1 is the whole network
    ordinal bigint primary key not null,
    -- packed, numbers as LEB128 with the sign in the lowest bit: whether its credit is low (one byte), the day (since 1970),
    -- the threshold below which credit is low, then what it has done itself: figures of all time, figures of the day, how many
    -- movements that rankings show. Where anybody below it did anything, the same of all below it, and the sum of their
    -- balances above zero. Figures are a byte that says which of eight are not zero, then those: added, provisioned, refunded,
    -- transferred in, transferred out, commissions (less those reversed), net, clients taken on.
    figures bytea not null
);

-- The same by UTC day, once it is over: written when something happens on a later one. Days on which neither it nor anybody
-- below it did anything have no row.
create table days (
    -- since 1970
    day bigint not null,
    ordinal bigint not null,
    -- what it did itself, and what all below it did, packed as in `standings`
    figures bytea not null,
    primary key (day, ordinal)
);

-- What everybody had done before an instant, in one row: written when enough movements were counted since the row before.
-- Rankings are differences of these, mended by the movements. Never updated.
create table scores (
    -- of the first movement that is not counted
    position bigint primary key not null,
    -- when that was recorded, in microseconds since 1970; what is counted was recorded before
    before_micros bigint not null,
    -- how many movements that rankings show had been counted
    movements bigint not null,
    -- by ordinal, one after the other: what it had provisioned, credits added, clients taken on, commissions, movements;
    -- packed as in `standings`
    entries bytea not null
);

-- Whose credit is or has been low.
create table low_credits (
    -- as in `analytics_members`
    line bytea primary key not null,
    ordinal bigint not null,
    -- 1 while it is
    low bigint not null
);
-- what a look at a subtree's health lists and counts
create index low_credits_now on low_credits (line, ordinal) where low = 1;

-- Every movement there was, packed: exact to the microsecond, a few bytes each. A row holds the movements of one hour, and
-- of no more than 4096 positions of the log, so that the row which a batch appends to stays small.
create table movements (
    -- hours since 1970
    hour bigint not null,
    -- position / 4096
    block bigint not null,
    -- microseconds into the hour of the last movement, from which the next one is counted
    ends_micros bigint not null,
    -- entries, one after the other: microseconds since the one before (since the hour's beginning for the first), the
    -- reseller's ordinal, the kind, the amount; all but the kind, which is one byte, as LEB128
    entries bytea not null,
    primary key (hour, block)
);

-- Whenever a reseller joined or left the active ones of a tier. Never updated.
create table tier_changes (
    -- the reseller's line: subtrees are ranges
    path text collate "C" not null,
    position bigint not null,
    tier text collate "C" not null,
    -- 1 or -1
    change bigint not null,
    recorded_at text collate "C" not null,
    -- when the reseller registered
    registered_at text collate "C" not null,
    primary key (path, position, tier)
);

-- Both are folded again from the beginning, the others wait for them.
delete from checkpoints where projection in ('dashboard', 'analytics');

-- How many resellers are registered, and since when: told to everybody, because what is packed by number is as long as that, and
-- nothing happened before. The scope is widened for this one look and put back; a `set` clause of the function would do it, and is
-- for superusers only.
create or replace function views.registrations(out registered bigint, out first_at text) language plpgsql as $$
declare
    asked constant text := coalesce(current_setting('tallytree.scope', true), '');
begin
    perform set_config('tallytree.scope', 'all', true);
    select coalesce(max(ordinal) + 1, 0), min(registered_at) filter (where ordinal = 0)
        into registered, first_at from views.analytics_members;
    perform set_config('tallytree.scope', asked, true);
end
$$;

-- The first and the last day that is over for anybody: told to everybody likewise, since nobody's days lie outside.
create or replace function views.days_on_record(out first bigint, out last bigint) language plpgsql as $$
declare
    asked constant text := coalesce(current_setting('tallytree.scope', true), '');
begin
    perform set_config('tallytree.scope', 'all', true);
    select (select min(day) from views.days), (select max(day) from views.days) into first, last;
    perform set_config('tallytree.scope', asked, true);
end
$$;

-- Whether a number is that of somebody in scope.
create or replace function views.ordinal_is_in_scope(sought bigint) returns boolean language plpgsql stable as $$
begin
    -- Of the members nobody sees more than that.
    return current_setting('tallytree.scope', true) = 'all'
        or exists (select from views.analytics_members m where m.ordinal = sought);
end
$$;

-- What each tenant may see of these. `tallytree.members` is the line of numbers, in hexadecimal, of the reseller that looks.
alter table dashboards enable row level security, force row level security;
create policy scope on dashboards using (views.path_is_in_scope(path));
alter table analytics_members enable row level security, force row level security;
create policy scope on analytics_members using (views.path_is_in_scope(path));
alter table tier_changes enable row level security, force row level security;
create policy scope on tier_changes using (views.path_is_in_scope(path));
alter table standings enable row level security, force row level security;
create policy scope on standings using (views.ordinal_is_in_scope(ordinal));
alter table days enable row level security, force row level security;
create policy scope on days using (views.ordinal_is_in_scope(ordinal));
alter table low_credits enable row level security, force row level security;
create policy scope on low_credits using (current_setting('tallytree.scope', true) = 'all'
    or starts_with(encode(line, 'hex'), current_setting('tallytree.members', true)));
-- Everybody is in one row of these, so no row is anybody's. They open only where it is said that what is read is sorted by numbers
-- that are in scope, and close behind that; a query that has forgotten it finds nothing.
alter table movements enable row level security, force row level security;
create policy scope on movements using ('all' = current_setting('tallytree.scope', true)
    or current_setting('tallytree.packed', true) = 'open');
alter table scores enable row level security, force row level security;
create policy scope on scores using ('all' = current_setting('tallytree.scope', true)
    or current_setting('tallytree.packed', true) = 'open');
