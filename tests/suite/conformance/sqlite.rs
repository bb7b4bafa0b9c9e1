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
