//! Write-back beside the writer: a thread that makes what others write to their WALs durable soon, in small pieces.
//!
//! Why: `views.db` and `index.db` are written without waiting for the disk, by some ten megabytes a second at 2 000 commands/s,
//! and made durable when their WAL is moved. All that had gathered until then went to the disk at once, and the log's commit,
//! which is asked for in between, waited behind it. What is copied from the WALs into the files still goes at once.
//!
//! Truth: nothing depends on it. What is durable sooner than its writer asked for is no less right. No lock of SQLite's lies on a
//! WAL, so that closing it here takes none away. An error of the disk is told to every file that was open when it came, but not to
//! one that is opened after somebody was told: so it is said aloud here, once, and nothing more is made durable by this thread.
//!
//! Cost: a look at two files' times every [`INTERVAL`], and every [`IDLE_INTERVAL`] while nobody writes; for each that has changed
//! an fdatasync, that is a flush of the disk. Where several processes share a store each has a thread: the second finds little left
//! to write, and flushes as well.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often it looks while somebody writes.
const INTERVAL: Duration = Duration::from_millis(20);
/// How often it looks while nobody has written for [`QUIET`].
const IDLE_INTERVAL: Duration = Duration::from_millis(250);
/// After so long without a write nobody writes; longer than the index gathers before it writes.
const QUIET: Duration = Duration::from_secs(3);

/// The thread; dropping it ends it.
#[derive(Debug)]
pub(super) struct Writeback {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writeback {
    /// Starts the thread for the WALs of these databases, which need not be there yet. Where the machine gives none it does
    /// without.
    pub(super) fn start(databases: &[PathBuf]) -> Self {
        let wals: Vec<Wal> = databases.iter().map(|database| Wal::of(database)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("writeback".to_owned())
            .spawn(move || run(wals, &stopped))
            .inspect_err(|error| tracing::warn!(%error, "WALs are not made durable ahead of time: there is no thread"));
        Self { stop, thread: thread.ok() }
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
                Err(error) => {
                    tracing::error!(
                        %error,
                        wal = %wal.path.display(),
                        "a WAL could not be made durable: look at the disk. Where it failed, stop all nodes, move this database \
                         and its WAL away, and let it be made anew from ledger.db"
                    );
                    return;
                }
            }
            if stop.load(Ordering::Relaxed) {
                return;
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
    /// The WAL of a database, as SQLite names it where the database is no symbolic link.
    fn of(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        Self { path: path.into(), durable: None }
    }

    /// Makes durable what has been written since the last time, as far as the file's time tells; whether anything has. A file that
    /// is not there, or cannot be opened now, is looked for again.
    ///
    /// # Errors
    /// What the disk says of what was written.
    fn write_back(&mut self) -> io::Result<bool> {
        let Some((file, written)) = self.open_if_changed().unwrap_or_else(|error| {
            // It comes with the first connection and goes with the last one.
            tracing::trace!(%error, wal = %self.path.display(), "there is no WAL, or none that can be opened");
            self.durable = None;
            None
        }) else {
            return Ok(false);
        };
        file.sync_data()?;
        self.durable = Some(written);
        Ok(true)
    }

    /// The file and its time, if that is another one than of what is durable.
    fn open_if_changed(&self) -> io::Result<Option<(File, SystemTime)>> {
        let written = std::fs::metadata(&self.path)?.modified()?;
        if self.durable == Some(written) {
            return Ok(None);
        }
        // For writing, because some systems make nothing durable by a file that is open for reading.
        Ok(Some((OpenOptions::new().write(true).open(&self.path)?, written)))
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
    fn it_disturbs_nobody_who_writes_and_ends_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("pragma journal_mode = wal; create table t (n integer); begin immediate").unwrap();
        writer.execute("insert into t values (1)", []).unwrap();
        let writeback = Writeback::start(std::slice::from_ref(&path));
        let other = Connection::open(&path).unwrap();
        other.busy_timeout(Duration::ZERO).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < 3 * IDLE_INTERVAL {
            other.execute_batch("begin immediate").unwrap_err();
            std::thread::sleep(INTERVAL);
        }
        writer.execute_batch("commit").unwrap();
        assert_eq!(other.query_row("select count(*) from t", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
        let stop = Arc::clone(&writeback.stop);
        drop(writeback);
        assert_eq!(Arc::strong_count(&stop), 1, "the thread has ended");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_ends_where_what_was_written_cannot_be_made_durable_and_not_where_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.db");
        let writeback = Writeback::start(std::slice::from_ref(&path));
        let has_ended = || writeback.thread.as_ref().unwrap().is_finished();
        std::thread::sleep(2 * IDLE_INTERVAL);
        assert!(!has_ended());
        // What can be written and not made durable.
        std::os::unix::fs::symlink("/dev/null", dir.path().join("some.db-wal")).unwrap();
        let begun = Instant::now();
        while !has_ended() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it goes on");
            std::thread::sleep(INTERVAL);
        }
    }
}
