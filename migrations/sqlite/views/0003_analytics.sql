-- Analytics, and the dashboards without the days that they used to keep: what happened on which day has one home, here.
--
-- What happens to a wallet is rolled up by UTC day twice: for the reseller itself, and for all who stand above it. The days
-- are clustered by day and not by reseller: a batch then writes neighbouring rows of one or two days instead of one page a
-- reseller, and a trend of n days costs n look-ups. Whatever does not end on a UTC day (another time zone, a `from` in the
-- middle of a day, a ranking of all resellers) is worked out from the movements, which are packed: some eight bytes each.

drop table daily_totals;
drop table dashboards;

-- Running totals of a reseller and of its subtree (itself included). The reseller 'platform', whose path is '/', is the
-- whole network: for it, own figures are everybody's. Columns have defaults because what a batch did not touch is left out.
create table dashboards (
    reseller_id text primary key not null,
    path text not null default '',
    -- the reseller's own status, needed to know which count a deactivation leaves
    status text not null default 'active',
    -- its own wallet
    balance bigint not null default 0,
    reserved bigint not null default 0,
    credit_limit bigint not null default 0,
    -- below which balance its credit is low
    low_credit_threshold bigint not null default 0,
    -- 1 while the balance is below it
    low_credit bigint not null default 0,
    -- how many authorities hold its provisioning
    holds bigint not null default 0,
    -- credits added from outside the wallets
    added_total bigint not null default 0,
    -- provisions, gross; what came back is `refunded_total`
    provisioned_total bigint not null default 0,
    refunded_total bigint not null default 0,
    -- commissions earned, less those reversed
    commissions_total bigint not null default 0,
    -- clients taken on by the reseller itself
    acquisitions_total bigint not null default 0,
    -- the same of the whole subtree
    subtree_balance bigint not null default 0,
    -- the sum of those balances that are above zero; what lies below is the difference
    subtree_positive bigint not null default 0,
    subtree_added_total bigint not null default 0,
    subtree_provisioned_total bigint not null default 0,
    subtree_commissions_total bigint not null default 0,
    subtree_acquisitions_total bigint not null default 0,
    -- direct children
    children bigint not null default 0,
    -- all descendants, then those of them that are active and pending
    downline bigint not null default 0,
    downline_active bigint not null default 0,
    downline_pending bigint not null default 0
) without rowid;
-- what a look at a subtree's health lists and counts, by subtree
create index dashboards_low_credit on dashboards (path) where low_credit = 1;
create index dashboards_held on dashboards (path) where holds > 0;
create index dashboards_inactive on dashboards (path) where status = 'deactivated';

-- The resellers as analytics must know them, so that this read model stands alone.
create table analytics_members (
    reseller_id text primary key not null,
    -- 0, 1, 2 … in the order of registration: what movements name a reseller by
    ordinal bigint not null,
    -- the line of ancestors, itself included
    path text not null,
    tier text not null,
    status text not null,
    registered_at text not null
) without rowid;
create unique index analytics_members_by_ordinal on analytics_members (ordinal);
-- the members of a subtree, answered by the index alone
create index analytics_members_by_path on analytics_members (path, ordinal);

-- What a reseller's own wallet did on a UTC day. Only days on which something happened have a row.
create table own_days (
    -- YYYY-MM-DD
    day text not null,
    reseller_id text not null,
    -- credits added from outside the wallets
    added bigint not null,
    -- gross
    provisioned bigint not null,
    refunded bigint not null,
    transferred_in bigint not null,
    transferred_out bigint not null,
    -- earned, less reversed
    commissions bigint not null,
    -- by how much the balance changed, for whatever reason
    net bigint not null,
    -- clients taken on
    acquisitions bigint not null,
    primary key (day, reseller_id)
) without rowid;

-- The same of all its descendants together, itself not included; 'platform' has the whole network.
create table downline_days (
    day text not null,
    reseller_id text not null,
    added bigint not null,
    provisioned bigint not null,
    refunded bigint not null,
    transferred_in bigint not null,
    transferred_out bigint not null,
    commissions bigint not null,
    net bigint not null,
    acquisitions bigint not null,
    primary key (day, reseller_id)
) without rowid;

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
    entries blob not null,
    primary key (hour, block)
) without rowid;

-- Whenever a reseller joined or left the active ones of a tier. Never updated.
create table tier_changes (
    -- the reseller's line: subtrees are ranges
    path text not null,
    position bigint not null,
    tier text not null,
    -- 1 or -1
    change bigint not null,
    recorded_at text not null,
    -- when the reseller registered
    registered_at text not null,
    primary key (path, position, tier)
) without rowid;

-- Both are folded again from the beginning, the others wait for them.
delete from checkpoints where projection in ('dashboard', 'analytics');
