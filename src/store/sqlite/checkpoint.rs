//! Checkpoints beside the writer: a thread with a connection of its own moves the WAL into the file, so that no commit has to.
//!
//! Always PASSIVE: it never makes a writer or a reader wait. But it moves only what was there when it began, and under load the
//! writer has gone on since: by itself the WAL would never be empty, and only grow. So after the last pass the writer moves the few
//! frames that came meanwhile, between two turns ([`Checkpointer::is_nearly_done`]), and its next commit starts the WAL anew. A
//! WAL that is written over has its blocks already, and stays in the system's cache: a commit waits for its data and the disk's
//! flush, and not also for the file's inode and block map [four waits → two; hot wallet +12 to +30 %].
//!
//! Where several processes share a store, each has a thread, and SQLite lets one of them through at a time.
//!
//! The read models' file is moved in the same way, for the projector ([`Measure`] says what differs): a batch that had to copy some
//! ten thousand pages and make them durable kept the read models waiting for a quarter of a second.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::store::StoreError;

/// Without load it looks so often whether anything was written.
const AGE: Duration = Duration::from_secs(2);

/// When a file's WAL is moved.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// After so many rows the thread is woken.
    pub rows: u64,
    /// So many frames (pages of 4 KiB) a pass may leave because somebody reads an old state: the writer moves them later, some
    /// thousand in a few milliseconds, and the file's fsync takes as much again.
    pub left_max: i64,
    /// So many frames the last pass may have moved. What is written while a pass goes on is not among those that it leaves, but is
    /// left for the writer too: the less a pass has to move, the less is written meanwhile.
    pub moved_max: i64,
}

impl Measure {
    /// Whether a pass was the last one, before which so many frames stood in the file.
    fn is_met(self, before: i64, moved: Moved) -> bool {
        // Fewer than before: the writer has begun the WAL anew.
        let in_this_pass = if moved.in_the_file < before { moved.in_the_file } else { moved.in_the_file - before };
        moved.left <= self.left_max && in_this_pass <= self.moved_max
    }
}

/// The log's: some 8 MiB of WAL under load, which is moved in a few milliseconds.
pub(super) const OF_THE_LOG: Measure = Measure { rows: 4_000, left_max: 1_000, moved_max: i64::MAX };

/// How many passes there are at most each time. Each finds what was written during the one before, so they soon come down.
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
pub struct Checkpointer {
    shared: Arc<Shared>,
    rows: u64,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread for a database in WAL mode, which is there.
    ///
    /// # Errors
    /// [`StoreError::Database`] where the machine gives no thread.
    pub fn start(path: PathBuf, measure: Measure) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || run(&path, &seen, measure))
            .map_err(|error| StoreError::Database(error.to_string()))?;
        Ok(Self { shared, rows: measure.rows, thread: Some(thread) })
    }

    /// Says that so many rows were committed.
    pub fn written(&self, rows: u64) {
        let written = self.shared.written.fetch_add(rows, Ordering::Relaxed).wrapping_add(rows);
        if written.wrapping_sub(self.shared.seen.load(Ordering::Relaxed)) >= self.rows
            && !self.shared.woken.swap(true, Ordering::Relaxed)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }

    /// Whether so little is left that the writer should move it itself; says so once for each time.
    #[must_use]
    pub fn is_nearly_done(&self) -> bool {
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

fn run(path: &Path, shared: &Shared, measure: Measure) {
    super::priority::lower();
    let mut connection: Option<Connection> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(AGE);
        let written = shared.written.load(Ordering::Relaxed);
        if shared.seen.swap(written, Ordering::Relaxed) == written {
            continue;
        }
        shared.woken.store(false, Ordering::Relaxed);
        match checkpoint(path, &mut connection, measure) {
            Ok(left) => shared.nearly_done.store(left <= measure.left_max, Ordering::Relaxed),
            Err(error) => {
                // The writer's own checkpoint stands behind this one, so nothing is lost but speed.
                tracing::warn!(%error, "the checkpoint failed; trying again");
                connection = None;
                shared.seen.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Passes until the measure is met, at most [`PASSES_MAX`]; says how many frames of the WAL the last one had to leave. What was
/// moved before the first one counts as moved by it, where the writer has not begun the WAL anew since: one pass too many then.
fn checkpoint(path: &Path, connection: &mut Option<Connection>, measure: Measure) -> Result<i64, StoreError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(super::connection::open(path)?),
    };
    let mut before = 0;
    let mut left = 0;
    for _ in 0..PASSES_MAX {
        let moved = passive(connection)?;
        left = moved.left;
        if measure.is_met(before, moved) {
            break;
        }
        before = moved.in_the_file;
    }
    Ok(left)
}

/// How far the frames of a WAL have been moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    /// How many of them stand in the file.
    in_the_file: i64,
    /// How many of those that were there when it began do not.
    left: i64,
}

/// Moves what can be moved without waiting for anybody.
pub(super) fn passive(connection: &Connection) -> Result<Moved, StoreError> {
    let read = |row: &rusqlite::Row<'_>| {
        let (all, in_the_file): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Moved { in_the_file, left: all - in_the_file })
    };
    connection.query_row("pragma wal_checkpoint(passive)", [], read).map_err(super::connection::error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use super::*;

    #[test]
    fn passes_go_on_until_one_has_moved_little_and_left_little() {
        let measure = Measure { rows: 1, left_max: 10, moved_max: 100 };
        let moved = |in_the_file, left| Moved { in_the_file, left };
        assert!(measure.is_met(0, moved(100, 10)));
        assert!(!measure.is_met(0, moved(101, 0)), "as much has come meanwhile");
        assert!(!measure.is_met(0, moved(5, 11)), "somebody reads an old state");
        assert!(measure.is_met(5_000, moved(5_100, 0)), "what was moved before is not this pass's");
        assert!(measure.is_met(5_000, moved(100, 0)), "the WAL was begun anew");
        assert!(!measure.is_met(5_000, moved(101, 0)), "and is long again");
        let of_the_log = Measure { moved_max: i64::MAX, ..measure };
        assert!(of_the_log.is_met(0, moved(1_000_000, 10)));
    }

    #[test]
    fn a_wal_that_is_moved_beside_its_writer_is_begun_anew_and_stays_short() {
        const ROWS: u64 = 100;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("pragma journal_mode = wal; pragma wal_autocheckpoint = 0; create table t (b blob)")
            .unwrap();
        let checkpointer = Checkpointer::start(path, Measure { rows: ROWS, left_max: 1_000, moved_max: 0 }).unwrap();
        let length = |file| std::fs::metadata(dir.path().join(file)).unwrap().len();
        let mut longest = Vec::new();
        for round in 1..=10 {
            for _ in 0..ROWS {
                writer.execute("insert into t values (zeroblob(4000))", []).unwrap();
            }
            checkpointer.written(ROWS);
            let begun = Instant::now();
            while !checkpointer.is_nearly_done() {
                assert!(begun.elapsed() < Duration::from_secs(30), "nothing was moved");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(length("some.db") >= round * ROWS * 4_000, "the thread has moved what was written");
            assert_eq!(passive(&writer).unwrap().left, 0, "nobody reads an old state");
            longest.push(length("some.db-wal"));
        }
        // The file keeps its length: what counts is that later rows are written over earlier ones, and ten times as many are not
        // ten times as long.
        let (first, last) = (longest.first().unwrap(), longest.last().unwrap());
        assert!(*last < first + first / 2, "{longest:?}");
    }
}
