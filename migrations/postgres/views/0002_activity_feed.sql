-- The activity feed: which event concerns whom, one small row an event. The words are not here: they are made when the feed is
-- read, from the event itself and for whoever reads, so nothing is redacted too late and no wording needs a rebuild.
--
-- A subtree's newest entries must be found fast whether the subtree is one reseller or nearly everybody. One row for each
-- ancestor of each event would be ten times the writes. Instead the log is cut into blocks of 16 384 positions, and within a
-- block entries are sorted by path: a page looks into the blocks from the newest on, one seek each, and stops when it is full.
-- Entries are inserted into the newest block only, so the pages of the index that are written stay few and in memory.
--
-- A reseller's number is the position of its registration. A path here is the line of its ancestors' numbers, itself included,
-- five bytes each with the highest first: a tenth of the length of the paths of ids, and in the same order as a tree. The
-- platform has number 0 and the empty path.

-- The line of each reseller, and what its costs depend on: a price change must reach all whose own cost it changes.
create table activity_resellers (
    -- the position of its registration
    number bigint primary key not null,
    reseller_id text collate "C" not null,
    path bytea not null,
    tier text collate "C" not null,
    -- a decimal number of percent as text
    margin_percent text collate "C"
);
-- whose event it is
create unique index activity_resellers_by_id on activity_resellers (reseller_id);
-- all who stand below one whose price changes
create unique index activity_resellers_by_path on activity_resellers (path);

-- Prices that are set for resellers, as `prices` has them: kept once more because this fold must know them as of each event.
create table activity_prices (
    -- whose cost it is
    number bigint not null,
    sku text collate "C" not null,
    -- null once cleared
    cost bigint,
    primary key (number, sku)
);

-- What all costs depend on: a product's terms under 'product:<sku>', the policy under 'policy'; JSON.
create table activity_terms (
    name text collate "C" primary key not null,
    terms text collate "C" not null
);

-- Whose a client is, and who asks whom in a request: their later events do not say it.
create table activity_subjects (
    -- a client's or a request's id
    subject_id text collate "C" primary key not null,
    -- the client's owner, or who asks
    number bigint not null,
    -- who is to answer a request; null for the platform, and for clients
    addressed_to bigint
);

-- The entries: one for every event.
create table activity (
    -- the event's position: the entry's identity
    position bigint primary key not null,
    -- position / 16384
    block bigint not null,
    -- what happened: the event's name in lower case
    kind text collate "C" not null,
    -- the number of the reseller that it happened to
    number bigint not null,
    -- that reseller's path
    path bytea not null,
    -- 0: for all above; 1: for the reseller itself and the operator's staff; 2: as 0, and for all below too (a freeze)
    audience bigint not null
);
-- a subtree's entries, block by block
create index activity_by_block on activity (block, path);
-- the same by kind; what most entries are is found without
create index activity_by_kind on activity (kind, block, path) where kind <> 'provisioned';
-- the few entries that concern all below: a reseller asks for those of its own line
create index activity_by_announcer on activity (number, position) where audience = 2;

-- Whom an event reaches besides: those whose own cost it changes, and who is to answer a request.
create table activity_reach (
    -- the event's position
    position bigint not null,
    -- whom it reaches
    number bigint not null,
    -- what it means there
    kind text collate "C" not null,
    -- of which product; null where it may be any
    sku text collate "C",
    -- what one unit cost before, and costs from here on
    former_cost bigint,
    unit_cost bigint,
    primary key (position, number)
);
-- what reached a reseller, newest first
create index activity_reach_by_number on activity_reach (number, position);

-- What each tenant may see of these. `tallytree.line` is the path here, in hexadecimal, of the reseller that looks.

-- Whether a path of numbers is of the subtree in scope.
create or replace function views.line_is_in_scope(line bytea) returns boolean language sql stable as $$
    select current_setting('tallytree.scope', true) = 'all'
        or starts_with(encode(line, 'hex'), current_setting('tallytree.line', true))
$$;
create or replace function views.number_is_in_scope(sought bigint) returns boolean language plpgsql stable as $$
begin
    return current_setting('tallytree.scope', true) = 'all' or exists (
        select from views.activity_resellers r where r.number = sought and views.line_is_in_scope(r.path));
end
$$;
create or replace function views.event_reaches_scope(at bigint) returns boolean language plpgsql stable as $$
begin
    -- Of what reached whom nobody sees more than that.
    return exists (select from views.activity_reach r where r.position = at);
end
$$;

-- the line above is named
alter table activity_resellers enable row level security, force row level security;
create policy scope on activity_resellers using (views.line_is_in_scope(path) or starts_with(current_setting('tallytree.line', true), encode(path, 'hex')));
alter table activity_prices enable row level security, force row level security;
create policy scope on activity_prices using (views.number_is_in_scope(number));
alter table activity_subjects enable row level security, force row level security;
create policy scope on activity_subjects using (views.number_is_in_scope(number));
-- a freeze is told to all below it, a price change to whom it reaches
alter table activity enable row level security, force row level security;
create policy scope on activity using (views.line_is_in_scope(path)
    or (audience = 2 and starts_with(current_setting('tallytree.line', true), encode(path, 'hex')))
    or views.event_reaches_scope(position));
alter table activity_reach enable row level security, force row level security;
create policy scope on activity_reach using (views.number_is_in_scope(number));
