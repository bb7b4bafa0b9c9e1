//! Checkpoints beside the writer: a thread with a connection of its own moves the WAL into the file, so that no commit has to.
//!
//! Always PASSIVE: it never makes a writer or a reader wait. Under load without a pause it never catches up with the last frame,
//! so the WAL would only grow; what little it leaves the writer moves itself between two turns ([`Checkpointer::is_nearly_done`]),
//! and the next commit starts the WAL anew. A WAL that stays short also stays in the system's cache: writing over it costs a
//! third of making it longer.
//!
//! Where several processes share a store, each has a thread, and SQLite lets one of them through at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::store::StoreError;

/// How often the thread looks whether anything was written.
const LOOK: Duration = Duration::from_millis(100);

/// After so many rows it does not wait any longer …
const ROWS: u64 = 12_000;

/// … and after so long it does not wait for that many.
const AGE: Duration = Duration::from_secs(2);

/// What a writer may be left to move: so many pages of 4 KiB take it about a millisecond, and the file's fsync another.
const LEFT_MAX: i64 = 1_000;

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    /// Whether nearly all of the WAL is in the file.
    nearly_done: AtomicBool,
    stop: AtomicBool,
}

/// The thread; dropping it ends it.
#[derive(Debug)]
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread.
    pub(super) fn start(path: PathBuf) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || run(&path, &seen))
            .map_err(|error| StoreError::Database(error.to_string()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that so many rows were committed.
    pub(super) fn written(&self, rows: usize) {
        self.shared.written.fetch_add(u64::try_from(rows).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Checkpointer {
    /// Whether so little is left that the writer should move it itself; says so once for each time.
    pub(super) fn is_nearly_done(&self) -> bool {
        self.shared.nearly_done.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has lost nothing: the next connection checkpoints what it left.
            let _ = thread.join();
        }
    }
}

fn run(path: &std::path::Path, shared: &Shared) {
    let mut connection: Option<Connection> = None;
    let mut done = 0;
    let mut last = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(LOOK);
        let written = shared.written.load(Ordering::Relaxed);
        let due = written.wrapping_sub(done) >= ROWS || (written != done && last.elapsed() >= AGE);
        if !due {
            continue;
        }
        match checkpoint(path, &mut connection) {
            Ok(left) => {
                done = written;
                shared.nearly_done.store(left > 0 && left <= LEFT_MAX, Ordering::Relaxed);
            }
            Err(error) => {
                // The writer's own checkpoint stands behind this one, so nothing is lost but speed.
                tracing::warn!(%error, "the checkpoint failed; trying again");
                connection = None;
            }
        }
        last = Instant::now();
    }
}

/// One checkpoint; says how many frames of the WAL it had to leave.
fn checkpoint(path: &std::path::Path, connection: &mut Option<Connection>) -> Result<i64, StoreError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(super::connection::open(path)?),
    };
    passive(connection)
}

/// Moves what can be moved without waiting for anybody; says how many frames of the WAL are left.
pub(super) fn passive(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .query_row("pragma wal_checkpoint(passive)", [], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
        .map_err(super::connection::error)
}
