-- The read models: tables folded from the log. Everything here can be thrown away and is then folded again, so nothing
-- here is a source of truth, nothing is relative to now, and every row is a function of the events up to the checkpoint.
--
-- Ids and times are text, credits are bigint, lists and objects are JSON text. A path is the line of ancestors from the
-- top, itself included: '/<id>/<id>/'. A subtree is then a range of paths: from '/<id>/' up to, not including, '/<id>0'
-- ('0' follows '/').

-- How far each projection has come.
create table checkpoints (
    -- the projection's name
    projection text primary key not null,
    -- the position of the last event that it has folded; 0 for none
    position bigint not null,
    -- the hash of that event: another one in the log at this position means another history
    hash blob not null,
    -- when that event was recorded: the time that answers are "as of"
    recorded_at text not null
);

-- Every policy that ever came into force; the one in force at a position is the last one up to it.
create table policies (
    -- where in the log it came into force
    position bigint primary key not null,
    -- the policy, whole, as its event carries it
    policy text not null,
    -- when it came into force
    recorded_at text not null
);

-- One row per wallet: what it holds now.
create table wallets (
    -- whose it is
    reseller_id text primary key not null,
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
    holds text not null,
    -- the number of the wallet's last event
    sequence bigint not null,
    -- the position of the wallet's last event
    position bigint not null,
    -- when that was recorded
    updated_at text not null
) without rowid;

-- Statement lines: one for every event that moved credits. Never updated.
create table transactions (
    -- the event's position: the line's identity
    position integer primary key not null,
    -- whose wallet
    reseller_id text not null,
    -- the event's number among the wallet's events
    sequence bigint not null,
    -- what happened: the event's name in lower case
    kind text not null,
    -- by how much the balance changed, signed
    amount bigint not null,
    -- the balance after it
    balance bigint not null,
    -- where added credits came from, or on which ground they were removed
    source text,
    -- the payment's reference
    reference text,
    -- in words
    note text,
    -- the other reseller: of a transfer, or the seller that a commission was earned from
    counterparty_id text,
    -- for which client
    client_id text,
    -- which provision
    provision_id text,
    -- which transfer
    transfer_id text,
    -- which refund
    refund_id text,
    -- by which command; what answers call the transaction's id
    transaction_id text not null,
    -- when
    recorded_at text not null
);
-- a wallet's statement, newest first
create index transactions_by_wallet on transactions (reseller_id, position);
-- a client's lines within the statement
create index transactions_by_client on transactions (client_id, position) where client_id is not null;

-- What was provisioned, as it was fixed then.
create table provisions (
    provision_id text primary key not null,
    -- who provisioned, and paid
    reseller_id text not null,
    -- the position of its event
    position bigint not null,
    -- what it cost: unit cost × quantity
    amount bigint not null,
    unit_cost bigint not null,
    -- how the unit cost came about
    price_source text not null,
    quantity bigint not null,
    -- null where the cost itself was declared
    base_cost bigint,
    -- a decimal number of percent as text; null where the cost itself was declared
    discount_percent text,
    sku text,
    client_id text,
    description text,
    -- a JSON object
    metadata text,
    -- a JSON list of {reseller, amount}, nearest upline first
    commissions text not null,
    -- how much of it has come back
    refunded_total bigint not null,
    recorded_at text not null
) without rowid;
-- a wallet's provisions, newest first
create index provisions_by_wallet on provisions (reseller_id, position);

-- What came back for provisions. Never updated.
create table refunds (
    refund_id text primary key not null,
    provision_id text not null,
    -- whose provision it was
    reseller_id text not null,
    amount bigint not null,
    -- how much had come back for the provision, this one included
    refunded_total bigint not null,
    reason text,
    position bigint not null,
    recorded_at text not null
) without rowid;
-- a provision's refunds, in order
create index refunds_by_provision on refunds (provision_id, position);

-- Transfers between two wallets. Never updated.
create table transfers (
    transfer_id text primary key not null,
    -- who sent
    from_id text not null,
    -- who received
    to_id text not null,
    amount bigint not null,
    note text,
    -- the position of the sender's event
    position bigint not null,
    recorded_at text not null
) without rowid;

-- The network: one row per reseller. What is counted over its downline stands in `dashboards`.
create table resellers (
    reseller_id text primary key not null,
    -- the position of its registration: the order of siblings and of lists
    position bigint not null,
    refid text not null,
    user_id text not null,
    -- 1 once the user belongs to this reseller: from registration by the platform, else from approval
    user_claimed bigint not null,
    company_name text not null,
    tier text not null,
    status text not null,
    -- null for a top-level reseller
    parent_id text,
    -- number of ancestors
    depth bigint not null,
    -- the line of ancestors, itself included
    path text not null,
    -- whose freezes lie on this very reseller, a JSON list; what freezes its downline is derived from the path
    freezes text not null,
    -- a JSON object
    metadata text not null,
    -- what it has set for itself, a JSON object
    settings text not null,
    -- also in the settings; here because prices need it: a decimal number of percent as text
    margin_percent text,
    created_at text not null
) without rowid;
-- subtrees, and the scope of every query
create unique index resellers_by_path on resellers (path);
-- children in order
create index resellers_by_parent on resellers (parent_id, position);
-- lists in order
create unique index resellers_by_position on resellers (position);
-- find by public reference
create index resellers_by_refid on resellers (refid);
-- find by user: only by one who is taken
create index resellers_by_user on resellers (user_id) where user_claimed = 1;
-- the few that carry a freeze of their own
create index resellers_by_freeze on resellers (path) where freezes <> '[]';

-- What the parent has set as a reseller's cost for a product.
create table prices (
    reseller_id text not null,
    sku text not null,
    -- null once cleared
    cost bigint,
    -- who set it: an authority as JSON
    set_by text,
    position bigint not null,
    updated_at text not null,
    primary key (reseller_id, sku)
) without rowid;

-- What can be provisioned.
create table products (
    sku text primary key not null,
    -- the position of its publication: the order of lists
    position bigint not null,
    name text not null,
    base_cost bigint not null,
    minimum_tier text not null,
    -- a decimal number of percent as text
    minimum_margin_percent text not null,
    retired bigint not null
) without rowid;
create unique index products_by_position on products (position);

-- Clients, without their personal data: that is beside the log, can be erased, and is joined when read.
create table clients (
    client_id text primary key not null,
    -- the position of its onboarding: the order of lists
    position bigint not null,
    -- the reseller it belongs to
    reseller_id text not null,
    status text not null,
    created_at text not null
) without rowid;
create unique index clients_by_position on clients (position);
create index clients_by_reseller on clients (reseller_id, position);

-- How many clients of each status a reseller has; the reseller 'platform' has all of them.
create table client_counts (
    reseller_id text not null,
    status text not null,
    clients bigint not null,
    primary key (reseller_id, status)
) without rowid;

-- Upline requests.
create table upline_requests (
    request_id text primary key not null,
    -- the position of its raising: the order of lists
    position bigint not null,
    requester_id text not null,
    -- what is asked: {kind, payload} as JSON
    ask text not null,
    status text not null,
    -- who is to answer: a reseller's id, or 'platform'
    addressed_to text not null,
    expires_at text not null,
    -- what came of it, JSON
    result text,
    created_at text not null
) without rowid;
-- what waits for an answer, from both sides
create index upline_requests_pending_out on upline_requests (requester_id) where status = 'pending';
create index upline_requests_pending_in on upline_requests (addressed_to) where status = 'pending';

-- Running totals of a reseller and of its subtree (itself included). The reseller 'platform', whose path is '/', is the
-- whole network: for it, own figures are everybody's.
create table dashboards (
    reseller_id text primary key not null,
    path text not null,
    -- the reseller's own status, needed to know which count a deactivation leaves
    status text not null,
    -- its own wallet
    balance bigint not null,
    reserved bigint not null,
    credit_limit bigint not null,
    -- credits added from outside the wallets
    added_total bigint not null,
    -- provisions, gross; what came back is `refunded_total`
    provisioned_total bigint not null,
    refunded_total bigint not null,
    -- commissions earned, less those reversed
    commissions_total bigint not null,
    -- the same of the whole subtree
    subtree_balance bigint not null,
    subtree_provisioned_total bigint not null,
    -- direct children
    children bigint not null,
    -- all descendants, then those of them that are active and pending
    downline bigint not null,
    downline_active bigint not null,
    downline_pending bigint not null
) without rowid;

-- The totals by UTC day of the event, so that "the last 30 days" is a sum over days when it is read.
create table daily_totals (
    reseller_id text not null,
    -- YYYY-MM-DD
    day text not null,
    added bigint not null,
    provisioned bigint not null,
    refunded bigint not null,
    commissions bigint not null,
    subtree_provisioned bigint not null,
    primary key (reseller_id, day)
) without rowid;
