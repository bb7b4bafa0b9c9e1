-- Keys of the ledger are compared byte by byte, whatever the database's language says: they are identifiers and words of our own,
-- nobody sorts them for people, and the rules of a language cost several times as much at each of the some twenty comparisons that
-- finding a place in an index takes.
--
-- No table is written anew, but the index of the aggregates' sequences is: nobody reads or writes events meanwhile. Nodes of an
-- older version that are connected must be started again: their prepared statements speak of the columns as they were.

alter table events
    alter column aggregate_type type text collate "C",
    alter column aggregate_id type text collate "C";

alter table facts
    alter column kind type text collate "C",
    alter column key type text collate "C";

alter table snapshots
    alter column aggregate_type type text collate "C",
    alter column aggregate_id type text collate "C";

alter table tokens
    alter column key_id type text collate "C";

-- A column of another type has no statistics, and a log that only grows gets new ones late.
analyze events, facts, snapshots, tokens;
