//! What every store must do, whatever it stands on.
//!
//! Each test is a function over a [`Backend`]: a store that can be opened more than once and spoken to past our code, in SQL.
//! `conformance!` runs all of them for one backend; a test that it forgets is dead code, and the compiler says so.

mod doubt;
mod history;
mod memory;
mod turns;

use tallytree::store::sqlite::{SqliteStore, index_path, ledger_path};
use tallytree::store::{EventStore, StoreError};

/// A store of one test's own.
pub trait Backend: Send + Sync + 'static {
    /// What is tested.
    type Store: EventStore;

    /// A new, empty place; nothing is opened yet.
    fn new() -> Self;

    /// A handle on it, as a process of its own would have.
    fn open(&self) -> Result<Self::Store, StoreError>;

    /// Runs SQL as somebody with a shell would; says how many rows it changed.
    fn sql(&self, statement: &str) -> Result<usize, String>;

    /// Another process that opens a handle and appends one event in a turn of its own: see [`turns::visit`].
    fn visitor(&self) -> std::process::Command;

    /// Makes the schema look as if a newer version had migrated it.
    fn migrate_beyond(&self);
}

/// Runs a future on a thread with a runtime of its own, as the engine does with its store.
pub fn on_a_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
}

macro_rules! conformance {
    ($name:ident: $backend:ty; $($module:ident: $($test:ident),+;)+) => {
        mod $name {
            $(mod $module {
                $(#[tokio::test]
                async fn $test() {
                    crate::conformance::$module::$test(<$backend as crate::conformance::Backend>::new()).await;
                })+
            })+
        }
    };
}

conformance!(sqlite: crate::conformance::Sqlite;
    history:
        batches_append_without_a_gap_and_chain,
        a_batch_that_does_not_follow_the_head_is_refused_whole,
        the_database_itself_refuses_to_change_or_delete_an_event,
        a_head_that_fell_behind_is_a_cut_history,
        another_hash_at_our_position_is_a_cut_history,
        a_schema_newer_than_ours_is_refused;
    turns:
        a_turn_that_is_dropped_changes_nothing,
        a_second_handle_waits_its_turn_and_sees_the_tail,
        a_handle_that_waits_too_long_is_told_that_the_store_is_busy,
        two_handles_that_hammer_never_overlap_and_leave_no_gap,
        ten_threads_that_open_a_new_store_at_once_all_come_up,
        ten_processes_that_open_a_new_store_at_once_all_come_up;
    memory:
        receipts_are_found_under_the_lock,
        a_batch_of_refusals_leaves_the_head_where_it_is,
        a_receipt_key_twice_refuses_the_batch_whole,
        receipts_expire_a_few_at_a_time_oldest_first,
        a_snapshot_is_loaded_as_it_was_written,
        a_snapshot_that_is_of_no_use_is_replayed_from_the_events,
        resellers_are_read_with_the_head_they_stand_at,
        facts_are_put_and_replaced,
        personal_data_is_put_replaced_and_erased;
    doubt:
        after_a_lost_answer_the_log_says_what_was_done,
        what_was_never_written_is_not_in_the_log,
        a_statement_that_fails_leaves_nothing_behind,
        resolving_waits_for_a_transaction_in_doubt;
);

/// The SQLite store, in a directory that goes with the test.
pub struct Sqlite {
    dir: tempfile::TempDir,
}

impl Backend for Sqlite {
    type Store = SqliteStore;

    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.dir.path().join("store"))
    }

    fn sql(&self, statement: &str) -> Result<usize, String> {
        let store = self.dir.path().join("store");
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

    fn visitor(&self) -> std::process::Command {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process
            .args(["--exact", "conformance::visitor", "--ignored"])
            .env("TALLYTREE_TEST_STORE", self.dir.path().join("store"));
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

/// Not a test: what a process of [`Backend::visitor`] does.
#[tokio::test]
#[ignore = "run by other tests as a process of its own"]
async fn visitor() {
    if let Some(dir) = std::env::var_os("TALLYTREE_TEST_STORE") {
        turns::visit(SqliteStore::open(dir.as_ref()).unwrap()).await;
    }
}

#[tokio::test]
async fn a_forgotten_client_is_gone_from_the_files_of_a_sqlite_store() {
    use crate::common::log::{append, client, details, genesis, receipts_only};
    let backend = Sqlite::new();
    let mut store = backend.open().unwrap();
    // One that fits on a page, and one that does not.
    let mut long = details("Ottokar Unforgettable");
    long.metadata.insert("notes".into(), "Unforgettable ".repeat(2_000).into());
    for person in [Some(details("Ann Unforgettable")), Some(long), None] {
        let mut batch = receipts_only(vec![]);
        batch.personal_data = vec![(client(1), person)];
        append(&mut store, &genesis(), &batch).await.unwrap();
    }
    drop(store);
    for file in std::fs::read_dir(backend.dir.path().join("store")).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(13).any(|window| window == b"Unforgettable");
        assert!(!found, "{} remembers", path.display());
    }
}
