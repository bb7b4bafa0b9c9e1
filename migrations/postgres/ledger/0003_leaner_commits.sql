-- A wallet's snapshot is written now and then, and no longer in every commit that has events of it: whoever loads a wallet folds the
-- events that came after it, as postgres-es does. All other aggregates have theirs after every event, as before.
--
-- Nodes of an older version must be stopped first: they would take an older snapshot for the latest. (What they would write then,
-- the key of the aggregates' sequences refuses; but they would refuse what the wallet can pay for.)
comment on table snapshots is 'An aggregate after its event last_sequence; what came later is in events.';

-- The same rule as before in one query instead of two: each costs a commit as much as putting in a few rows. (Of no rows all three
-- are unknown, and nothing is wrong.)
create or replace function events_follow_one_another() returns trigger language plpgsql as $$
-- Names are whole here: it runs with the path of whoever inserts.
begin
    if (
        select max(position) - min(position) + 1 <> count(*)
            or max(position) <> (select max(e.position) from ledger.events e)
            or (min(position) > 1
                and not exists (select from ledger.events e where e.position = min(added.position) - 1))
        from new_events added
    ) then
        raise exception 'an event must follow the last one of the log' using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end
$$;
