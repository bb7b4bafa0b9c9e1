//! Write-back beside the writer: a thread that makes what others write to their WALs durable soon, in small pieces.
//!
//! Why: `views.db` and `index.db` are written without waiting for the disk, by some ten megabytes a second at 2 000 commands/s,
//! and made durable when their WAL is moved. All that had gathered until then went to the disk at once, and the log's commit,
//! which is asked for in between, waited behind it [commands at 2 000/s, pairs in turns: p99 78 to 134 ms without; with it 26 to 62
//! in five of six, 111 in one; on a disk that others kept busy no more than a third less; read models behind at the full rate: p99
//! 212 and 268 ms without, 148 and 151 with it].
//!
//! Truth: nothing depends on it. What is durable sooner than its writer asked for is no less right, and the writer asks for itself
//! when the WAL is moved; where the disk fails, its own file is told of it then. No lock of SQLite's lies on a WAL, so that closing
//! it here takes none away.
//!
//! Cost: a look at two files' times every [`INTERVAL`], and every [`IDLE_INTERVAL`] while nobody writes. Where several processes
//! share a store, each has a thread, and whoever is second finds nothing left to write.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::store::StoreError;

/// How often it looks while somebody writes.
const INTERVAL: Duration = Duration::from_millis(20);
/// How often it looks while nobody has written for [`QUIET`].
const IDLE_INTERVAL: Duration = Duration::from_millis(250);
/// After so long without a write nobody writes.
const QUIET: Duration = Duration::from_secs(1);

/// The thread; dropping it ends it.
#[derive(Debug)]
pub(super) struct Writeback {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writeback {
    /// Starts the thread for the WALs of these databases, which need not be there yet.
    ///
    /// # Errors
    /// [`StoreError::Database`] where the machine gives no thread.
    pub(super) fn start(databases: &[PathBuf]) -> Result<Self, StoreError> {
        let wals: Vec<Wal> = databases.iter().map(|database| Wal::of(database)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("writeback".to_owned())
            .spawn(move || run(wals, &stopped))
            .map_err(|error| StoreError::Database(error.to_string()))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has lost nothing: nothing depends on it.
            let _ = thread.join();
        }
    }
}

fn run(mut wals: Vec<Wal>, stop: &AtomicBool) {
    super::priority::lower();
    let mut written: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        for wal in &mut wals {
            match wal.write_back() {
                Ok(true) => written = Some(Instant::now()),
                Ok(false) => {}
                // Whoever wrote it will be told of it.
                Err(error) => {
                    tracing::debug!(%error, wal = %wal.path.display(), "a WAL is not made durable ahead of time")
                }
            }
        }
        let is_quiet = written.is_none_or(|written| written.elapsed() > QUIET);
        std::thread::park_timeout(if is_quiet { IDLE_INTERVAL } else { INTERVAL });
    }
}

/// A file that others write.
#[derive(Debug)]
struct Wal {
    path: PathBuf,
    /// When what is durable was written; `None` while there is no file.
    durable: Option<SystemTime>,
}

impl Wal {
    /// The WAL of a database, as SQLite names it.
    fn of(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        Self { path: path.into(), durable: None }
    }

    /// Makes durable what has been written since the last time; whether anything has.
    fn write_back(&mut self) -> io::Result<bool> {
        let written = match std::fs::metadata(&self.path).and_then(|file| file.modified()) {
            Ok(written) => written,
            // It comes with the first connection and goes with the last one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.durable = None;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if self.durable == Some(written) {
            return Ok(false);
        }
        // For writing, because some systems make nothing durable by a file that is open for reading.
        let file: File = OpenOptions::new().write(true).open(&self.path)?;
        file.sync_data()?;
        self.durable = Some(written);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_wal_is_written_back_once_after_each_write_and_may_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.db");
        let mut wal = Wal::of(&path);
        assert!(!wal.write_back().unwrap(), "there is none yet");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("pragma journal_mode = wal; create table t (n integer)").unwrap();
        assert!(wal.write_back().unwrap());
        assert!(!wal.write_back().unwrap(), "nobody has written since");
        // Times of files are as coarse as a tick of the system's clock.
        std::thread::sleep(INTERVAL);
        writer.execute("insert into t values (1)", []).unwrap();
        assert!(wal.write_back().unwrap());
        drop(writer);
        assert!(!wal.write_back().unwrap(), "it went with the last connection");
        assert!(!wal.path.exists(), "and was not made again");
    }

    #[test]
    fn it_takes_no_lock_away_from_who_writes_and_ends_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("pragma journal_mode = wal; create table t (n integer); begin immediate").unwrap();
        writer.execute("insert into t values (1)", []).unwrap();
        let writeback = Writeback::start(std::slice::from_ref(&path)).unwrap();
        let other = Connection::open(&path).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < 3 * IDLE_INTERVAL {
            other.execute_batch("begin immediate").unwrap_err();
            std::thread::sleep(INTERVAL);
        }
        writer.execute_batch("commit").unwrap();
        assert_eq!(other.query_row("select count(*) from t", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
        drop(writeback);
    }
}
