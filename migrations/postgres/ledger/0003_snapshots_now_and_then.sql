-- A wallet's snapshot is written now and then, and no longer in every commit that has events of it: whoever loads a wallet folds the
-- events that came after it, as postgres-es does. All other aggregates have theirs after every event, as before.
--
-- Nodes of an older version that are connected must be stopped first: they would take an older snapshot for the latest. (What they
-- would write then, the key of the aggregates' sequences refuses.)

comment on table snapshots is 'An aggregate after its event last_sequence; what came later is in events.';
