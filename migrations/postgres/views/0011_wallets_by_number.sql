-- Wallets by number, and the feed names resellers by itself.
--
-- A wallet's row is written whenever it sells, earns or is credited, which is most of what a batch changes. By the number of its
-- opening it is found on a flatter tree and changed where it lies; by the reseller's id it was taken out and put in again.
--
-- A page of the feed names up to some hundred resellers. Each name was looked up in `resellers`, whose rows are wide.
--
-- No older version should fold into these tables: stop all nodes first. `company_name` has no default, so that it fails at a
-- registration; a rename it would fold without telling the feed, which a rebuild of `activity_feed` mends.

drop table wallets;
-- One row per wallet: what it holds now.
create table wallets (
    -- the position of its opening
    number bigint primary key not null,
    -- whose it is
    reseller_id text collate "C" not null,
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
    holds text collate "C" not null,
    -- the number of the wallet's last event
    sequence bigint not null,
    -- the position of the wallet's last event
    position bigint not null,
    -- when that was recorded
    updated_at text collate "C" not null,
    -- how many lines its statement has
    lines bigint not null,
    -- the position of the last one; null while there is none
    last_line bigint,
    -- the position of the last one that is a provision
    last_provision bigint
);
-- whose wallet it is; never changed, so that a row that is written again leaves it alone
create unique index wallets_by_reseller on wallets (reseller_id);

alter table wallets enable row level security, force row level security;
create policy scope on wallets using ((select current_setting('tallytree.scope', true)) = 'all'
    or views.reseller_is_in_scope(reseller_id));

drop table activity_resellers;
-- The line of each reseller, what it is called, and what its costs depend on: a price change must reach all whose own cost it changes.
create table activity_resellers (
    -- the position of its registration
    number bigint primary key not null,
    reseller_id text collate "C" not null,
    path bytea not null,
    tier text collate "C" not null,
    -- a decimal number of percent as text
    margin_percent text collate "C",
    -- what it is called now
    company_name text collate "C" not null
);
-- whose event it is
create unique index activity_resellers_by_id on activity_resellers (reseller_id);
-- all who stand below one whose price changes
create unique index activity_resellers_by_path on activity_resellers (path);

-- the line above is named
alter table activity_resellers enable row level security, force row level security;
create policy scope on activity_resellers using ((select current_setting('tallytree.scope', true)) = 'all'
    or views.line_is_in_scope(path) or starts_with(current_setting('tallytree.line', true), encode(path, 'hex')));

-- Both are folded again from the beginning, wallets with their statements; the others wait for them. Not `delete`:
-- row-level security would hide the rows from it.
truncate transactions, statement_marks, activity, activity_reach, activity_prices, activity_terms, activity_subjects;
delete from checkpoints where projection in ('wallets', 'activity_feed');
