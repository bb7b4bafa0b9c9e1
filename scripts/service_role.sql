-- Least privileges: the role that the service connects as, where the schema belongs to another one.
--
-- Migrate as the owner (`tallytree migrate`), run this as the owner with the role's name, and serve as that role:
--     psql "$OWNERS_ADDRESS" -v role=tallytree_service -f scripts/service_role.sql
-- It may be run again after every migration. Rebuilding read models (`tallytree rebuild`) and migrating stay the owner's.
--
-- What this role cannot do whatever the service is made to ask for: change, delete or truncate events; remove the head; drop,
-- alter or make any table; switch off a trigger or row-level security.

grant usage on schema ledger, views, refusals to :role;

-- History is added to and read.
grant select, insert on ledger.events to :role;
-- The head is moved, never made or removed.
grant select, update on ledger.head to :role;
-- What is committed with the log and may change.
grant select, insert, update, delete on ledger.receipts, ledger.facts, ledger.snapshots, ledger.personal_data, ledger.tokens to :role;
-- Whether the schema is this version's.
grant select on ledger._sqlx_migrations to :role;

-- What is folded from the log, and what was refused.
grant select, insert, update, delete on all tables in schema views, refusals to :role;
revoke insert, update, delete on views._sqlx_migrations, refusals._sqlx_migrations from :role;
