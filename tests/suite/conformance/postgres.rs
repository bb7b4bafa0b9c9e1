//! The PostgreSQL store, in a database that goes with the test: spoken to directly, and as behind a pooler.

use std::time::{Duration, Instant};

use aggregates::event::{AggregateKey, Event};
use aggregates::ledger::{Key, Loaded};
use aggregates::wallet::Wallet;
use tallytree::store::postgres::{Address, PostgresStore};
use tallytree::store::{EventStore, SnapshotRow, StoreError, Turn};

use super::Backend;
use crate::common::log::{append, batch, command, credits_added, funded_wallet, genesis, noon, reseller};
use crate::common::postgres::{self, TestDatabase};
use crate::common::proxy::Proxy;

/// A database of a test's own.
pub struct Postgres(TestDatabase);

impl Postgres {
    pub fn if_there() -> Option<Self> {
        Self::is_there().then(Self::new)
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    pub fn sql_as_superuser(&self, statement: &str) {
        self.0.sql_as_superuser(statement).unwrap();
    }

    /// Runs SQL on a thread of its own.
    pub fn sql_meanwhile(&self, statement: &str) -> std::thread::JoinHandle<()> {
        let (url, statement) = (self.0.url().to_owned(), statement.to_owned());
        std::thread::spawn(move || {
            postgres::execute(&url, &statement).unwrap();
        })
    }

    fn address(&self) -> Address {
        self.0.url().parse().unwrap()
    }
}

const FORBIDDEN: &[&str] = &[
    "truncate events",
    "truncate head",
    "alter table events disable trigger all; update events set payload = '{}' where position = 2",
    "insert into events select position, aggregate_type, aggregate_id, sequence, event_type, event_version, '{}', metadata, \
     recorded_at, hash, actor, command_id from events where position = 2 \
     on conflict (position) do update set payload = excluded.payload",
    "insert into events select 4, aggregate_type, aggregate_id, 3, event_type, event_version, payload, metadata, \
     recorded_at, hash, actor, command_id from events where position = 2",
    "insert into events select p, aggregate_type, aggregate_id, p, event_type, event_version, payload, metadata, \
     recorded_at, hash, actor, command_id from events, unnest(array[3, 5]) p where position = 2",
    "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata) \
     select aggregate_type, aggregate_id, 3, event_type, event_version, payload, metadata from events where position = 2",
];

const DAMAGES: &[&str] = &[
    "update snapshots set payload = replace(payload::text, '\"balance\":100', '\"balance\":999')::json, state_version = 999",
    "update snapshots set payload = '{\"balance\":null}', state_version = 1",
    "update snapshots set payload = '[]', state_version = 1",
    "delete from snapshots",
];

impl Backend for Postgres {
    type Store = PostgresStore;
    const ASSUMES: bool = true;

    fn is_there() -> bool {
        postgres::shared().is_some()
    }

    fn new() -> Self {
        Self(postgres::database().unwrap())
    }

    async fn open(&self) -> Result<PostgresStore, StoreError> {
        PostgresStore::open(self.address()).await
    }

    fn sql(&self, statement: &str) -> Result<usize, String> {
        let done = self.0.sql(&format!("set search_path = ledger; {statement}"));
        done.map(|rows| usize::try_from(rows).unwrap()).map_err(|error| error.to_string())
    }

    fn forbidden() -> &'static [&'static str] {
        FORBIDDEN
    }

    fn damages() -> &'static [&'static str] {
        DAMAGES
    }

    fn visitor(&self) -> std::process::Command {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "conformance::visitor", "--ignored"]).env("TALLYTREE_TEST_STORE", self.0.url());
        process
    }

    fn migrate_beyond(&self) {
        self.sql(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             values (9999, 'from the future', true, '\\x00', 0)",
        )
        .unwrap();
    }
}

/// The same through an address that says that a pooler is in between. What the pooler cannot do is shown by
/// [`nothing_outlives_a_transaction`].
pub struct Pooled(Postgres);

impl Backend for Pooled {
    type Store = PostgresStore;
    const ASSUMES: bool = false;

    fn is_there() -> bool {
        Postgres::is_there()
    }

    fn new() -> Self {
        Self(Postgres::new())
    }

    async fn open(&self) -> Result<PostgresStore, StoreError> {
        // Migrated by the database's own address, as an operator would.
        drop(self.0.open().await?);
        PostgresStore::open(format!("{}&pgbouncer=true", self.0.0.url()).parse().unwrap()).await
    }

    fn sql(&self, statement: &str) -> Result<usize, String> {
        self.0.sql(statement)
    }

    fn forbidden() -> &'static [&'static str] {
        FORBIDDEN
    }

    fn damages() -> &'static [&'static str] {
        DAMAGES
    }

    fn visitor(&self) -> std::process::Command {
        self.0.visitor()
    }

    fn migrate_beyond(&self) {
        self.0.migrate_beyond();
    }
}

#[tokio::test]
async fn a_schema_is_not_migrated_through_a_pooler() {
    let Some(backend) = Postgres::if_there() else { return };
    let pooled = format!("{}&pgbouncer=true", backend.0.url()).parse().unwrap();
    let refused = PostgresStore::open(pooled).await.err().unwrap();
    assert!(matches!(refused, StoreError::Schema(_)), "{refused}");
    assert!(refused.to_string().contains("tallytree migrate"), "{refused}");
}

#[tokio::test]
async fn who_falls_silent_in_a_turn_loses_it_to_whoever_waits() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut silent, mut other) = (backend.open().await.unwrap(), backend.open().await.unwrap());
    let turn = silent.begin(&genesis(), &[]).await.unwrap();
    let begun = Instant::now();
    append(&mut other, &genesis(), &funded_wallet(&genesis(), command(1), reseller(1), 100)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let late = funded_wallet(&genesis(), command(2), reseller(2), 100);
    turn.append(&late).await.unwrap_err();
    let (head, done) = silent.resolve(0, &[command(1), command(2)]).await.unwrap();
    assert_eq!((head.position, done), (2, [command(1)].into()));
}

#[tokio::test]
async fn the_log_is_append_only_for_its_owner_by_privilege_and_for_a_superuser_by_trigger() {
    let Some(backend) = Postgres::if_there() else { return };
    let mut store = backend.open().await.unwrap();
    append(&mut store, &genesis(), &funded_wallet(&genesis(), command(1), reseller(1), 100)).await.unwrap();
    for statement in ["update events set payload = '{}'", "delete from events", "truncate events", "truncate head"] {
        let refused = backend.sql(statement).unwrap_err();
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
        let everything = format!("set search_path = ledger; set session_replication_role = replica; {statement}");
        let refused = backend.0.sql_as_superuser(&everything).unwrap_err().to_string();
        assert!(refused.contains("never"), "{statement}: {refused}");
    }
    assert_eq!(store.read(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn behind_a_pooler_nothing_is_prepared_by_name_and_nothing_outlives_a_transaction() {
    let Some(backend) = Postgres::if_there() else { return };
    drop(backend.open().await.unwrap());
    let proxy = Proxy::start(&backend.0).await;
    for (pooled, parameter) in [(false, ""), (true, "&pgbouncer=true")] {
        proxy.forget();
        let mut store = PostgresStore::open(format!("{}{parameter}", proxy.url()).parse().unwrap()).await.unwrap();
        let (head, _) = store.resolve(0, &[command(1)]).await.unwrap();
        let id = reseller(1 + u128::from(pooled));
        let head = append(&mut store, &head, &funded_wallet(&head, command(1), id, 100)).await.unwrap();
        let key = Key::Aggregate(AggregateKey::Wallet(id));
        store.load(std::slice::from_ref(&key)).await.unwrap();
        store.read(0, 10).await.unwrap();
        store.resellers(&mut |_, _, _| {}).await.unwrap();
        store.expire_receipts(noon(), 10).await.unwrap();
        let mut turn = store.begin(&head, &[]).await.unwrap();
        turn.receipts(&[[1; 16]]).await.unwrap();
        turn.load(&[key]).await.unwrap();
        drop(turn);
        store.begin(&head, &[]).await.unwrap();

        let seen = proxy.seen();
        let named = seen.prepared.iter().filter(|name| !name.is_empty()).count();
        assert_eq!(named == 0, pooled, "{:?}", seen.prepared);
        assert!(!seen.prepared.is_empty());
        assert_eq!(seen.startup.contains("-c lock_timeout"), !pooled, "{}", seen.startup);
        let for_session = |text: &&String| text.contains("set ") && !text.contains("set local");
        let set: Vec<_> =
            seen.queries.iter().flat_map(|text| text.split(';')).map(str::trim).map(str::to_owned).collect();
        let set: Vec<_> = set.iter().filter(for_session).collect();
        assert!(!pooled || set.iter().all(|text| text.starts_with("update")), "{set:?}");
    }
    // What was prepared stands in a transaction: its message and the next one go to the same server.
    assert_eq!(proxy.seen().outside_of_transactions, 0);
}

/// How many events have been found by indexes, once so many sessions are left; what a session has counted is told when it ends.
fn events_found(backend: &Postgres, sessions: usize) -> u64 {
    let begun = Instant::now();
    let others = "select '' from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    while backend.0.rows(others).len() > sessions {
        assert!(begun.elapsed() < Duration::from_secs(10), "a session does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sql = "select idx_tup_fetch::text from pg_stat_user_tables where schemaname = 'ledger' and relname = 'events'";
    backend.0.rows(sql)[0][0].parse().unwrap()
}

/// A plan is made when a session asks for the first time, and that may be on the first day.
#[tokio::test]
async fn a_wallet_is_loaded_by_its_key_though_the_plan_was_made_when_the_log_was_empty() {
    let Some(backend) = Postgres::if_there() else { return };
    let wallet = AggregateKey::Wallet(reseller(1));
    let key = [Key::Aggregate(wallet.clone())];
    let mut early = backend.open().await.unwrap();
    assert!(matches!(early.load(&key).await.unwrap()[..], [(_, Loaded::Aggregate(None))]));

    let mut other = backend.open().await.unwrap();
    let mut head =
        append(&mut other, &genesis(), &funded_wallet(&genesis(), command(1), reseller(1), 5)).await.unwrap();
    for ten in 0..40 {
        let first = 3 + 10 * ten;
        let events = (first..first + 10).map(|sequence| (wallet.clone(), sequence, credits_added(command(1), 5, 5)));
        let mut batch = batch(&head, command(2 + u128::from(ten)), events.collect());
        let payload = serde_json::to_string(&Wallet::default()).unwrap();
        batch.snapshots = vec![SnapshotRow { key: wallet.clone(), sequence: first + 9, payload }];
        head = append(&mut other, &head, &batch).await.unwrap();
    }
    drop(other);
    let before = events_found(&backend, 1);
    let loaded = early.load(&key).await.unwrap();
    assert!(matches!(loaded[..], [(_, Loaded::Aggregate(Some((_, 402))))]), "{loaded:?}");
    drop(early);
    let found = events_found(&backend, 0) - before;
    assert!(found <= 20, "{found} of 402 events were looked at to load one wallet");
}

#[tokio::test]
async fn a_wallets_snapshot_is_written_now_and_then_and_what_came_later_is_folded() {
    let Some(backend) = Postgres::if_there() else { return };
    let mut store = backend.open().await.unwrap();
    let key = AggregateKey::Wallet(reseller(1));
    let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    let mut state: Wallet = serde_json::from_str(&first.snapshots[0].payload).unwrap();
    let mut head = append(&mut store, &genesis(), &first).await.unwrap();
    let mut kept = Vec::new();
    // Some alone, some together: what counts is where a batch ends.
    let mut sequence = 2;
    for (number, together) in (2_u128..).zip([1, 16, 1, 1, 30, 7, 3, 1]) {
        let mut events = Vec::new();
        for _ in 0..together {
            sequence += 1;
            let event = credits_added(command(number), 5, state.balance + 5);
            if let Event::Wallet(event) = &event {
                state.fold(event);
            }
            events.push((key.clone(), sequence, event));
        }
        let mut batch = batch(&head, command(number), events);
        let payload = serde_json::to_string(&state).unwrap();
        batch.snapshots = vec![SnapshotRow { key: key.clone(), sequence, payload }];
        head = append(&mut store, &head, &batch).await.unwrap();

        let last = backend.0.rows("select last_sequence, position from ledger.snapshots").concat();
        assert_eq!(last[0], last[1], "a wallet is all there is");
        kept.push((sequence, last[0].parse::<u64>().unwrap()));
        let found = backend.open().await.unwrap().load(&[Key::Aggregate(key.clone())]).await.unwrap();
        let Loaded::Aggregate(Some((text, at))) = &found[0].1 else { panic!("{found:?}") };
        assert_eq!((serde_json::from_str::<Wallet>(text).unwrap(), *at), (state.clone(), sequence));
    }
    assert_eq!(kept, [(3, 2), (19, 2), (20, 20), (21, 20), (51, 51), (58, 51), (61, 61), (62, 61)]);

    // One that cannot be read is none: everything is folded from the beginning.
    backend.sql("update snapshots set payload = '[]'").unwrap();
    let found = store.load(&[Key::Aggregate(key)]).await.unwrap();
    let Loaded::Aggregate(Some((text, 62))) = &found[0].1 else { panic!("{found:?}") };
    assert_eq!(serde_json::from_str::<Wallet>(text).unwrap(), state);
}
