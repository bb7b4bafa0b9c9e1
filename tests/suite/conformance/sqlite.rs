//! The SQLite store, in a directory that goes with the test.

use std::path::PathBuf;

use tallytree::store::StoreError;
use tallytree::store::sqlite::{SqliteStore, index_path, ledger_path};

use super::Backend;

/// The SQLite store, in a directory that goes with the test.
pub struct Sqlite {
    dir: tempfile::TempDir,
}

impl Sqlite {
    /// Where its files are.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }
}

impl Backend for Sqlite {
    type Store = SqliteStore;
    const ASSUMES: bool = false;

    fn is_there() -> bool {
        true
    }

    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    async fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.store())
    }

    fn sql(&self, statement: &str) -> Result<usize, String> {
        let store = self.store();
        let run = |path| rusqlite::Connection::open(path).unwrap().execute(statement, []);
        if !statement.contains("snapshots") {
            return run(ledger_path(&store)).map_err(|error| error.to_string());
        }
        // Snapshots follow a moment later.
        let begun = std::time::Instant::now();
        loop {
            match run(index_path(&store)) {
                Ok(0) if begun.elapsed().as_secs() < 10 => std::thread::sleep(std::time::Duration::from_millis(20)),
                done => return done.map_err(|error| error.to_string()),
            }
        }
    }

    fn forbidden() -> &'static [&'static str] {
        &[
            "insert or replace into events select position, aggregate_type, aggregate_id, sequence, event_type, \
             event_version, '{}', metadata, recorded_at, hash, actor, command_id from events where position = 2",
            "insert or replace into events select 4, aggregate_type, aggregate_id, sequence, event_type, \
             event_version, '{}', metadata, recorded_at, hash, actor, command_id from events where position = 2",
        ]
    }

    fn damages() -> &'static [&'static str] {
        &[
            "update snapshots set payload = replace(payload, '\"balance\":100', '\"balance\":999'), state_version = 999",
            "update snapshots set payload = '{\"balance\":', state_version = 1",
            "update snapshots set payload = '[]', state_version = 1",
            "delete from snapshots",
        ]
    }

    fn visitor(&self) -> std::process::Command {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "conformance::visitor", "--ignored"]).env("TALLYTREE_TEST_STORE", self.store());
        process
    }

    fn migrate_beyond(&self) {
        self.sql(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             values (9999, 'from the future', true, x'00', 0)",
        )
        .unwrap();
    }
}

#[tokio::test]
async fn a_forgotten_client_is_gone_from_the_files_of_a_sqlite_store() {
    use crate::common::log::{append, client, details, genesis, receipts_only};
    let backend = Sqlite::new();
    let mut store = backend.open().await.unwrap();
    // One that fits on a page, and one that does not.
    let mut long = details("Ottokar Unforgettable");
    long.metadata.insert("notes".into(), "Unforgettable ".repeat(2_000).into());
    for person in [Some(details("Ann Unforgettable")), Some(long), None] {
        let mut batch = receipts_only(vec![]);
        batch.personal_data = vec![(client(1), person)];
        append(&mut store, &genesis(), &batch).await.unwrap();
    }
    drop(store);
    for file in std::fs::read_dir(backend.store()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(13).any(|window| window == b"Unforgettable");
        assert!(!found, "{} remembers", path.display());
    }
}

/// Takes a file of a store away, with what belongs to it.
fn remove(path: &std::path::Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

#[tokio::test]
async fn provisions_are_found_where_the_index_is_lost_or_an_older_one_or_not_yet_written() {
    use super::provisions::{Buyer, assert_written, write};
    let backend = Sqlite::new();
    let index = index_path(&backend.store());
    let older = index.with_extension("older");
    let mut buyer = Buyer::new();
    drop(backend.open().await.unwrap());
    std::fs::copy(&index, &older).unwrap();
    let mut store = backend.open().await.unwrap();
    write(&mut buyer, &mut store).await;
    // Its keeper has written nothing yet, or not all; nor ever will, where the process is killed.
    let mut other = backend.open().await.unwrap();
    assert_written(&mut other, &buyer.head).await;
    drop((store, other));

    remove(&index);
    assert_written(&mut backend.open().await.unwrap(), &buyer.head).await;
    remove(&index);
    std::fs::copy(&older, &index).unwrap();
    assert_written(&mut backend.open().await.unwrap(), &buyer.head).await;
}

#[tokio::test]
async fn a_store_that_kept_the_facts_of_provisions_in_its_ledger_opens_and_is_right() {
    use super::provisions::{Buyer, assert_written, write};
    let backend = Sqlite::new();
    let mut buyer = Buyer::new();
    let mut store = backend.open().await.unwrap();
    write(&mut buyer, &mut store).await;
    drop(store);
    // As the version before left it: facts in the ledger, and an index that knows of none.
    let ledger = rusqlite::Connection::open(ledger_path(&backend.store())).unwrap();
    let index = rusqlite::Connection::open(index_path(&backend.store())).unwrap();
    let forget = "delete from _sqlx_migrations where version = 2";
    for number in 1..=3 {
        let id = crate::common::log::provision(number);
        let fact = r#"{"wallet":"00000000-0000-0000-0000-000000000001","paid":1,"refunded":0,"commissions":[]}"#;
        ledger.execute("insert into facts values ('provision', ?1, ?2, 1)", [&id.to_string(), fact]).unwrap();
    }
    ledger.execute(forget, []).unwrap();
    index.execute_batch(&format!("{forget}; drop table provision_events")).unwrap();
    drop(index);

    assert_written(&mut backend.open().await.unwrap(), &buyer.head).await;
    let left: i64 = ledger.query_row("select count(*) from facts", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "what nobody keeps up any more is gone");
}

#[tokio::test]
async fn a_provision_whose_commit_failed_while_it_was_written_is_not_remembered() {
    use super::provisions::{Buyer, facts};
    use crate::common::log::{append, command, provision, provisioned, refunded};
    use tallytree::store::EventStore;
    let backend = Sqlite::new();
    let mut buyer = Buyer::new();
    let mut store = backend.open().await.unwrap();
    buyer.commit(&mut store, &[provisioned(provision(1), 100)]).await;
    let before = facts(&mut store, &buyer.head, &[1]).await;
    backend.sql("create trigger full before update on head begin select raise(abort, 'no room'); end").unwrap();
    let doomed = buyer.batch(&[refunded(provision(1), 30, 30), provisioned(provision(2), 200)]);
    append(&mut store, &buyer.head, &doomed).await.unwrap_err();
    backend.sql("drop trigger full").unwrap();
    let (head, done) = store.resolve(buyer.head.position, &[command(2)]).await.unwrap();
    assert!(done.is_empty());
    assert_eq!(facts(&mut store, &head, &[1, 2]).await, [before[0].clone(), None]);
}

#[tokio::test]
async fn an_event_of_a_provision_that_cannot_be_read_is_no_event_about_nothing() {
    use super::provisions::Buyer;
    use crate::common::log::{append, provision, provisioned, refunded};
    let backend = Sqlite::new();
    let mut buyer = Buyer::new();
    let mut store = backend.open().await.unwrap();
    buyer.commit(&mut store, &[provisioned(provision(1), 100), refunded(provision(1), 30, 30)]).await;
    // Nobody writes one of these.
    let mut newer = buyer.batch(&[refunded(provision(1), 1, 31)]);
    newer.events[0].event_type = "ProvisionExtended".into();
    let refused = append(&mut store, &buyer.head, &newer).await.unwrap_err();
    assert!(refused.to_string().contains("ProvisionExtended"), "{refused}");
    drop(store);
    // Where the index is made of a log that was damaged, whoever passed over the refund would refund twice.
    let ledger = rusqlite::Connection::open(ledger_path(&backend.store())).unwrap();
    ledger
        .execute_batch("drop trigger events_are_never_changed; update events set payload = '{}' where position = 2")
        .unwrap();
    drop(ledger);
    remove(&index_path(&backend.store()));
    let refused = backend.open().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unreadable(why) if why.contains("event 2")), "{refused}");
}
