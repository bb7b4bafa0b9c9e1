//! What every store must do, whatever it stands on.
//!
//! Each test is a function over a [`Backend`]: a store that can be opened more than once and spoken to past our code, in SQL.
//! `conformance!` runs all of them for one backend; a test that it forgets is dead code, and the compiler says so.

mod assumed;
mod doubt;
mod history;
mod memory;
pub mod postgres;
mod provisions;
pub mod sqlite;
mod turns;

use tallytree::store::postgres::PostgresStore;
use tallytree::store::sqlite::SqliteStore;
use tallytree::store::{EventStore, StoreError};

/// A store of one test's own.
pub trait Backend: Send + Sync + 'static {
    /// What is tested.
    type Store: EventStore;

    /// Whether it gives turns without the lock.
    const ASSUMES: bool;

    /// Whether this machine has such a thing; where not, that has been said then.
    fn is_there() -> bool;

    /// A new, empty place; nothing is opened yet.
    fn new() -> Self;

    /// A handle on it, as a process of its own would have.
    fn open(&self) -> impl Future<Output = Result<Self::Store, StoreError>> + Send;

    /// Runs SQL as somebody with a shell would; says how many rows it changed.
    fn sql(&self, statement: &str) -> Result<usize, String>;

    /// What somebody with a shell may not do to the log, beside what SQL has in common.
    fn forbidden() -> &'static [&'static str];

    /// What makes a snapshot useless, in four ways.
    fn damages() -> &'static [&'static str];

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
    ($($name:ident: $backend:ty),+ ) => {
        $(conformance!(@tests $name: $backend;
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
                a_receipt_is_found_though_another_handles_have_come_and_gone_before_it,
                a_state_is_loaded_as_it_was_written,
                a_snapshot_that_is_of_no_use_is_replayed_from_the_events,
                resellers_are_read_with_the_head_they_stand_at,
                facts_are_put_and_replaced,
                personal_data_is_put_replaced_and_erased;
            provisions:
                a_provisions_fact_follows_its_events,
                a_provisions_fact_is_whole_for_whoever_holds_the_lock,
                a_provision_that_was_not_committed_has_no_fact,
                a_refund_whose_answer_was_lost_is_in_the_fact;
            doubt:
                after_a_lost_answer_the_log_says_what_was_done,
                what_was_never_written_is_not_in_the_log,
                a_statement_that_fails_leaves_nothing_behind,
                resolving_waits_for_a_transaction_in_doubt;
        );)+
    };
    (@tests $name:ident: $backend:ty; $($module:ident: $($test:ident),+;)+) => {
        mod $name {
            $(mod $module {
                // More threads than one, because a connection may be used on another thread than the one that waits for it.
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if <$backend as crate::conformance::Backend>::is_there() {
                        crate::conformance::$module::$test(<$backend as crate::conformance::Backend>::new()).await;
                    }
                })+
            })+
        }
    };
}

conformance!(
    on_sqlite: crate::conformance::sqlite::Sqlite,
    on_postgres: crate::conformance::postgres::Postgres,
    behind_a_pooler: crate::conformance::postgres::Pooled
);

/// Not a test: what a process of [`Backend::visitor`] does.
#[tokio::test]
#[ignore = "run by other tests as a process of its own"]
async fn visitor() {
    if let Some(dir) = std::env::var_os("TALLYTREE_TEST_STORE") {
        match dir.to_str().unwrap().parse() {
            Ok(address) => turns::visit(PostgresStore::open(address).await.unwrap()).await,
            Err(_) => turns::visit(SqliteStore::open(dir.as_ref()).unwrap()).await,
        }
    }
}
