-- What resellers were called, and from when on: a report of a month that is over names them as they were then, whatever they
-- call themselves later, so that the same report always has the same bytes.
create table company_names (
    reseller_id text collate "C" not null,
    -- the position of the event that gave the name: it holds from there on
    position bigint not null,
    company_name text collate "C" not null,
    primary key (reseller_id, position)
);

alter table company_names enable row level security, force row level security;
create policy scope on company_names using (views.reseller_is_in_scope(reseller_id));
