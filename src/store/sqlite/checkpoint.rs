//! Checkpoints beside the writer: a thread with a connection of its own moves the WAL into the file, so that no commit has to.
//!
//! Always PASSIVE: it never makes a writer or a reader wait. Where several processes share a store, each has one, and SQLite
//! lets one of them through at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::store::StoreError;

/// How often the thread looks whether anything was written.
const LOOK: Duration = Duration::from_millis(100);

/// After so many rows it does not wait any longer: a page that is touched again and again is then moved once, not ten times
/// a second [4 000 → 50 000: 14 % more commands a second on one wallet, 25 % on a thousand, p99 there 19 → 10 ms] …
const EVENTS: u64 = 50_000;

/// … and after so long it does not wait for that many.
const AGE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
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
        let due = written.wrapping_sub(done) >= EVENTS || (written != done && last.elapsed() >= AGE);
        if !due {
            continue;
        }
        match checkpoint(path, &mut connection) {
            Ok(()) => done = written,
            Err(error) => {
                // The writer's own checkpoint stands behind this one, so nothing is lost but speed.
                tracing::warn!(%error, "the checkpoint failed; trying again");
                connection = None;
            }
        }
        last = Instant::now();
    }
}

fn checkpoint(path: &std::path::Path, connection: &mut Option<Connection>) -> Result<(), StoreError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(super::connection::open(path)?),
    };
    connection.query_row("pragma wal_checkpoint(passive)", [], |_| Ok(())).map_err(super::connection::error)
}
