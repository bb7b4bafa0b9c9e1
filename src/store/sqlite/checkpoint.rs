//! Checkpoints beside the writer: a thread with a connection of its own moves the WAL into the file, so that no commit has to.
//!
//! Always PASSIVE: it never makes a writer or a reader wait. But it moves only what was there when it began, and under load the
//! writer has gone on since: by itself the WAL would never be empty, and only grow. So after each pass the writer moves the few
//! frames that came meanwhile, between two turns ([`Checkpointer::is_nearly_done`]), and its next commit starts the WAL anew. A
//! WAL that is written over has its blocks already, and stays in the system's cache: a commit waits for its data and the disk's
//! flush, and not also for the file's inode and block map [four waits → two; hot wallet +12 to +30 %].
//!
//! Where several processes share a store, each has a thread, and SQLite lets one of them through at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::store::StoreError;

/// After so many rows the thread is woken: some 8 MiB of WAL under load, which it moves in a few milliseconds …
const ROWS: u64 = 4_000;

/// … and without load it looks so often whether anything was written.
const AGE: Duration = Duration::from_secs(2);

/// What a writer may be left to move: so many pages of 4 KiB take it about a millisecond, and the file's fsync another.
const LEFT_MAX: i64 = 1_000;

/// How often it tries again where more is left. Each pass leaves what was written during it, so it soon comes down.
const PASSES_MAX: usize = 4;

#[derive(Debug, Default)]
struct Shared {
    /// Rows committed so far.
    written: AtomicU64,
    /// How many of them there were when the last pass began.
    seen: AtomicU64,
    /// Whether the thread has been woken for those since.
    woken: AtomicBool,
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
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        let written = self.shared.written.fetch_add(rows, Ordering::Relaxed).wrapping_add(rows);
        if written.wrapping_sub(self.shared.seen.load(Ordering::Relaxed)) >= ROWS
            && !self.shared.woken.swap(true, Ordering::Relaxed)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }

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

fn run(path: &Path, shared: &Shared) {
    let mut connection: Option<Connection> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(AGE);
        let written = shared.written.load(Ordering::Relaxed);
        if shared.seen.swap(written, Ordering::Relaxed) == written {
            continue;
        }
        shared.woken.store(false, Ordering::Relaxed);
        match checkpoint(path, &mut connection) {
            Ok(left) => shared.nearly_done.store(left <= LEFT_MAX, Ordering::Relaxed),
            Err(error) => {
                // The writer's own checkpoint stands behind this one, so nothing is lost but speed.
                tracing::warn!(%error, "the checkpoint failed; trying again");
                connection = None;
                shared.seen.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Passes until little is left, or until somebody who reads an old state holds them up; says how many frames of the WAL the last
/// one had to leave.
fn checkpoint(path: &Path, connection: &mut Option<Connection>) -> Result<i64, StoreError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(super::connection::open(path)?),
    };
    let mut left = passive(connection)?;
    for _ in 1..PASSES_MAX {
        if left <= LEFT_MAX {
            break;
        }
        left = passive(connection)?;
    }
    Ok(left)
}

/// Moves what can be moved without waiting for anybody; says how many of the frames that were in the WAL when it began are left.
pub(super) fn passive(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .query_row("pragma wal_checkpoint(passive)", [], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
        .map_err(super::connection::error)
}
