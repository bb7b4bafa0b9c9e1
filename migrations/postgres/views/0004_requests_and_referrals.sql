-- Upline requests as inbox and outbox, referral codes, and clients by status.
--
-- The table of requests is made anew and its checkpoint taken back, so that it is folded again from the beginning: what it
-- lacks stands in the log.

drop table upline_requests;

create table upline_requests (
    request_id text collate "C" primary key not null,
    -- the position of its raising: the order of lists
    position bigint not null,
    requester_id text collate "C" not null,
    -- also in `ask`; here because lists are asked for by it
    kind text collate "C" not null,
    -- what is asked: {kind, payload} as JSON
    ask text collate "C" not null,
    status text collate "C" not null,
    -- who is to answer, or has answered: a reseller's id, or 'platform'
    addressed_to text collate "C" not null,
    expires_at text collate "C" not null,
    -- what came of it, JSON
    result text collate "C",
    -- why it was rejected or failed
    reason text collate "C",
    created_at text collate "C" not null,
    -- when it was decided; null while it is pending
    decided_at text collate "C"
);
-- the outbox, the inbox, and everything, newest first and for each status and kind: a list of several of them merges their
-- ranges.
create index upline_requests_out on upline_requests (requester_id, status, kind, position);
create index upline_requests_in on upline_requests (addressed_to, status, kind, position);
create index upline_requests_all on upline_requests (status, kind, position);
-- what is due to expire, soonest first
create index upline_requests_due on upline_requests (status, expires_at);

-- Whom of its line a request was put to, now or on its way up: they see it, the rest of the line does not.
create table upline_request_addressees (
    request_id text collate "C" not null,
    reseller_id text collate "C" not null,
    primary key (request_id, reseller_id)
);

delete from checkpoints where projection = 'upline_requests';

-- How many pending requests a reseller has raised and has to answer; for 'platform', all that anybody raised, and its own to
-- answer.
create table upline_request_counts (
    reseller_id text collate "C" primary key not null,
    pending_out bigint not null,
    pending_in bigint not null,
    -- 1 while the reseller is out of business
    deactivated bigint not null
);
-- those out of business with requests that nobody can answer any more
create index upline_request_counts_orphaned on upline_request_counts (deactivated, pending_out);

-- Referral codes, by whom they were issued to.
create table referral_codes (
    code text collate "C" primary key not null,
    -- the position of its issuing: the order of lists
    position bigint not null,
    -- whose code it is
    reseller_id text collate "C" not null,
    -- what it is for
    tag text collate "C" not null,
    -- how often it may be used, and has been
    max_uses bigint not null,
    uses bigint not null,
    -- from when on it is void; whether that has come is for the reader to say
    expires_at text collate "C" not null,
    -- 1 once it was revoked
    revoked bigint not null,
    -- the request that asked for it
    request_id text collate "C" not null,
    created_at text collate "C" not null
);
create unique index referral_codes_by_position on referral_codes (position);
create index referral_codes_by_reseller on referral_codes (reseller_id, position);

-- Clients of one status, without reading past the others.
create index clients_by_status on clients (status, position);
create index clients_by_reseller_and_status on clients (reseller_id, status, position);

-- What each tenant may see of these: what it or its downline asks, and what was put to either.
create or replace function views.request_is_in_scope(id text, requester text, addressee text) returns boolean
language plpgsql stable as $$
begin
    return views.reseller_is_in_scope(requester) or views.reseller_is_in_scope(addressee)
        or exists (select from views.upline_request_addressees a where a.request_id = id);
end
$$;
alter table upline_requests enable row level security, force row level security;
create policy scope on upline_requests using (views.request_is_in_scope(request_id, requester_id, addressed_to));
alter table upline_request_addressees enable row level security, force row level security;
create policy scope on upline_request_addressees using (views.reseller_is_in_scope(reseller_id));
alter table upline_request_counts enable row level security, force row level security;
create policy scope on upline_request_counts using (views.reseller_is_in_scope(reseller_id));
alter table referral_codes enable row level security, force row level security;
create policy scope on referral_codes using (views.reseller_is_in_scope(reseller_id));
