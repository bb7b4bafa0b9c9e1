//! SQLite in the caller's own thread: nothing is handed over, so a statement costs what the database takes and no more.
//!
//! A query of some twenty small statements would otherwise wait forty times for another thread to be given a processor, which
//! on a busy machine is most of its time. The price: whoever polls is busy for as long as a statement takes. Reading never
//! waits for a lock; the one lock that writing needs is asked for again and again, asleep in between.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, DatabaseName, ErrorCode, OpenFlags, Statement, ToSql};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::{Changes, Row, Value, ViewError};

/// How many texts a connection keeps prepared.
const STATEMENTS: usize = 256;
/// How many reads there are at once; more wait for one to end.
const READS: usize = 8;
/// How much of a file is looked at where it lies instead of being read: after every commit of the projector SQLite forgets what
/// it had read.
const MAPPED_BYTES: i64 = 1 << 31;
/// How much of each file a connection keeps that reads all of it once: what it looks up on the way stays, and no more.
const STREAM_CACHE_KIBIBYTES: i64 = 16 << 10;
/// After how many of SQLite's instructions it is looked whether others wait: some tens of microseconds.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 500;
/// For how long the write lock is asked for, and how long is slept in between.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_INTERVAL: Duration = Duration::from_millis(1);

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let json = |text: serde_json::Result<String>| {
            text.map(ToSqlOutput::from).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
        };
        match self {
            Self::Null => Ok(ToSqlOutput::from(rusqlite::types::Null)),
            Self::Integer(number) => Ok(ToSqlOutput::from(*number)),
            Self::Text(text) => Ok(ToSqlOutput::from(text.as_str())),
            Self::Bytes(bytes) => Ok(ToSqlOutput::from(bytes.as_slice())),
            Self::Integers(list) => json(serde_json::to_string(list)),
            Self::Texts(list) => json(serde_json::to_string(list)),
            Self::Blobs(_) => Err(rusqlite::Error::ToSqlConversionFailure("SQLite takes no lists of bytes".into())),
        }
    }
}

/// Binds the parameters: `$7` is the seventh value wherever it stands, a `?` the next one.
fn bind(statement: &mut Statement<'_>, values: &[Value]) -> Result<(), ViewError> {
    for index in 1..=statement.parameter_count() {
        let named = statement.parameter_name(index).and_then(|name| name.strip_prefix('$'));
        let number = named.map_or(Ok(index), str::parse).map_err(ViewError::unreadable)?;
        let value = number.checked_sub(1).and_then(|at| values.get(at));
        statement
            .raw_bind_parameter(index, value.ok_or_else(|| ViewError::unreadable("a parameter without a value"))?)?;
    }
    Ok(())
}

/// Runs a statement; says how many rows it changed.
pub(super) fn execute(connection: &Connection, sql: &str, values: &[Value]) -> Result<u64, ViewError> {
    let mut statement = connection.prepare_cached(sql)?;
    bind(&mut statement, values)?;
    if statement.column_count() > 0 {
        // A pragma that answers.
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        return Ok(0);
    }
    Ok(u64::try_from(statement.raw_execute()?).unwrap_or(u64::MAX))
}

/// Runs a statement once for each row of so many values.
pub(super) fn execute_rows(
    connection: &Connection,
    sql: &str,
    width: usize,
    values: &[Value],
) -> Result<(), ViewError> {
    let mut statement = connection.prepare_cached(sql)?;
    for row in values.chunks_exact(width.max(1)) {
        for (index, value) in row.iter().enumerate() {
            statement.raw_bind_parameter(index + 1, value)?;
        }
        statement.raw_execute()?;
    }
    Ok(())
}

/// Hands each row of a query to `each` until it says stop.
pub(crate) fn for_each(
    connection: &Connection,
    sql: &str,
    values: &[Value],
    mut each: impl FnMut(Row) -> Result<bool, ViewError>,
) -> Result<(), ViewError> {
    for_each_in_place(connection, sql, values, |row| {
        let columns = row.as_ref().column_count();
        let mut values = Vec::with_capacity(columns);
        for column in 0..columns {
            values.push(match row.get_ref(column)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => Value::Integer(number),
                // Bytes that are no text are a value of another kind for who asks for a text.
                ValueRef::Text(text) => match std::str::from_utf8(text) {
                    Ok(text) => Value::Text(text.to_owned()),
                    Err(_) => Value::Bytes(text.to_vec()),
                },
                ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
                // Neither is a fraction what anybody asks for.
                ValueRef::Real(number) => Value::Text(format!("the fraction {number}")),
            });
        }
        each(Row::Direct(values))
    })
}

/// The same, each row where it lies.
pub(super) fn for_each_in_place(
    connection: &Connection,
    sql: &str,
    values: &[Value],
    mut each: impl FnMut(&rusqlite::Row<'_>) -> Result<bool, ViewError>,
) -> Result<(), ViewError> {
    let mut statement = connection.prepare_cached(sql)?;
    bind(&mut statement, values)?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if !each(row)? {
            break;
        }
    }
    Ok(())
}

/// Does what may take milliseconds where others wait for this thread: they are given another one.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn open(file: &Path, flags: OpenFlags, pragmas: &[(&str, i64)]) -> Result<Connection, ViewError> {
    let connection = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    for (name, value) in pragmas {
        connection.pragma_update(None, name, value)?;
    }
    Ok(connection)
}

/// The log, only to read it.
pub(crate) fn open_log(dir: &Path) -> Result<Connection, ViewError> {
    let log = open(&dir.join("ledger.db"), OpenFlags::SQLITE_OPEN_READ_WRITE, &[("query_only", 1)])?;
    log.busy_timeout(LOCK_PATIENCE)?;
    Ok(log)
}

/// A database that nobody else sees: one that ends with its connection where the file has no name. How much of it is kept in
/// memory is given in KiB.
pub(crate) fn open_own(file: &Path, journal: &str, cache_kib: i64) -> Result<Connection, ViewError> {
    let connection = open(file, OpenFlags::default(), &[("cache_size", -cache_kib)])?;
    connection.pragma_update(None, "journal_mode", journal)?;
    connection.pragma_update(None, "synchronous", "off")?;
    connection.busy_timeout(LOCK_PATIENCE)?;
    Ok(connection)
}

/// One that has no name, and no journal: what fails in it has failed for good.
pub(crate) fn open_nameless(cache_kib: i64) -> Result<Connection, ViewError> {
    open_own(Path::new(""), "off", cache_kib)
}

/// After how many pages a commit itself copies the WAL into the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalCopied {
    /// So many that a page which is written often is copied once, and so few that the copying holds nobody up for long.
    InCommits,
    /// Only as a backstop: the WAL is moved beside whoever writes ([`Folder::move_wal`](super::Folder::move_wal)).
    Beside,
}

impl WalCopied {
    fn pages(self) -> i64 {
        match self {
            Self::InCommits => 16_000,
            Self::Beside => 100_000,
        }
    }
}

/// The read models, to write them; they are there already.
pub(crate) fn open_views(dir: &Path, wal_copied: WalCopied) -> Result<Connection, ViewError> {
    let pragmas = [
        // What a power failure takes is folded again: `normal`.
        ("synchronous", 1),
        ("wal_autocheckpoint", wal_copied.pages()),
        // A batch touches some thousands of pages; what does not fit is written to the WAL before its time, and read back.
        ("cache_size", -64_000),
    ];
    let views = open(&dir.join("views.db"), OpenFlags::SQLITE_OPEN_READ_WRITE, &pragmas)?;
    views.busy_timeout(Duration::ZERO)?;
    Ok(views)
}

/// A moment that is still to come, or has passed; all clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Deadline {
    from: Instant,
    micros: Arc<AtomicU64>,
}

impl Default for Deadline {
    fn default() -> Self {
        Self { from: Instant::now(), micros: Arc::default() }
    }
}

impl Deadline {
    pub(super) fn set(&self, deadline: Instant) {
        let micros = deadline.saturating_duration_since(self.from).as_micros();
        self.micros.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn has_passed(&self) -> bool {
        self.from.elapsed().as_micros() >= u128::from(self.micros.load(Ordering::Relaxed))
    }
}

/// Calls `each` again and again while a statement of this connection runs, in the thread that runs it, until the deadline.
pub(super) fn while_it_runs(connection: &Connection, until: Deadline, mut each: impl FnMut() + Send + 'static) {
    let look = move || {
        if !until.has_passed() {
            each();
        }
        // The statement goes on.
        false
    };
    connection.progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, Some(look));
}

/// Copies what is in the WAL, and what nobody still reads, into the database, without waiting for anybody.
pub(super) fn move_wal(connection: &Connection) -> Result<(), ViewError> {
    Ok(connection.query_row("pragma wal_checkpoint(passive)", [], |_| Ok(()))?)
}

/// A number that changes whenever anybody but this connection has written to its file.
pub(super) fn data_version(connection: &Connection) -> Result<i64, ViewError> {
    Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
}

/// How the files of a store are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Looked at where they lie: quickest for short reads between commits, and what was looked at counts as this process's
    /// memory for as long as nobody else needs it.
    Mapped,
    /// Read page by page into a small cache: for who reads much, once, and must not grow with what it reads.
    Streamed,
}

/// Connections that read: `views.db` with `ledger.db` attached as `ledger` and `index.db` as `log_index`.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    connections: Arc<[Arc<Mutex<Connection>>]>,
    /// As many as there are connections: who has one finds a connection that nobody uses.
    places: Arc<Semaphore>,
}

impl Pool {
    /// Opens them all; the files are there.
    pub(super) fn open(dir: &Path, reading: Reading) -> Result<Self, ViewError> {
        let connect = || Ok(Arc::new(Mutex::new(connect(dir, reading)?)));
        let connections = std::iter::repeat_with(connect).take(READS).collect::<Result<_, ViewError>>()?;
        Ok(Self { connections, places: Arc::new(Semaphore::new(READS)) })
    }

    /// Begins a snapshot: it is taken by the first statement.
    pub(super) async fn begin(&self) -> Result<Snapshot, ViewError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(ViewError::unreadable)?;
        let free = self.connections.iter().find_map(|connection| Arc::clone(connection).try_lock_owned().ok());
        let connection = free.ok_or_else(|| ViewError::unreadable("a place to read without a connection"))?;
        if !connection.is_autocommit() {
            connection.execute_batch("rollback")?;
        }
        connection.execute_batch("begin")?;
        Ok(Snapshot { connection, _place: place })
    }
}

fn connect(dir: &Path, reading: Reading) -> Result<Connection, ViewError> {
    let connection = open(&dir.join("views.db"), OpenFlags::SQLITE_OPEN_READ_WRITE, &[])?;
    for (file, name) in [("ledger.db", "ledger"), ("index.db", "log_index")] {
        let path = dir.join(file).display().to_string();
        connection.execute(&format!("attach database ?1 as {name}"), [path])?;
    }
    match reading {
        Reading::Mapped => connection.pragma_update(None, "mmap_size", MAPPED_BYTES)?,
        Reading::Streamed => {
            connection.pragma_update(None, "mmap_size", 0)?;
            for file in [DatabaseName::Main, DatabaseName::Attached("ledger"), DatabaseName::Attached("log_index")] {
                connection.pragma_update(Some(file), "cache_size", -STREAM_CACHE_KIBIBYTES)?;
            }
        }
    }
    connection.pragma_update(None, "query_only", 1)?;
    connection.busy_timeout(LOCK_PATIENCE)?;
    Ok(connection)
}

/// A transaction that reads. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Snapshot {
    // Given back before its place is.
    pub(super) connection: OwnedMutexGuard<Connection>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // Where this fails the next user tries again.
        let _ = self.connection.execute_batch("rollback");
    }
}

/// A transaction that holds the write lock. Dropping it changes nothing.
#[derive(Debug)]
pub(crate) struct Writing<'c> {
    pub(crate) connection: &'c mut Connection,
}

impl<'c> Writing<'c> {
    /// Takes the lock.
    ///
    /// # Errors
    /// What the database says; that somebody else had the lock all the while.
    pub(crate) async fn begin(connection: &'c mut Connection) -> Result<Self, ViewError> {
        let begun = Instant::now();
        while let Err(error) = connection.execute_batch("begin immediate") {
            let busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
            if !busy || begun.elapsed() >= LOCK_PATIENCE {
                return Err(error.into());
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
        Ok(Self { connection })
    }

    /// Commits.
    ///
    /// # Errors
    /// What the database says: then nothing was changed.
    pub(crate) fn commit(self) -> Result<(), ViewError> {
        Ok(self.connection.execute_batch("commit")?)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // A statement that failed has ended the transaction already, and so has a commit.
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("rollback");
        }
    }
}

/// Writes rows that nobody reads yet, in as many transactions as it takes to hold the write lock for no longer than about
/// `hold` at a time; after each of them it is given up for a `pause`.
pub(crate) async fn apply_in_slices(
    connection: &mut Connection,
    prefix: &'static str,
    changes: Changes,
    hold: Duration,
    pause: Duration,
) -> Result<(), ViewError> {
    let mut statements = changes.into_sqlite_statements(prefix).peekable();
    while statements.peek().is_some() {
        let writing = Writing::begin(connection).await?;
        aside(|| {
            let begun = Instant::now();
            for (sql, values) in statements.by_ref() {
                execute(writing.connection, &sql, &values)?;
                if begun.elapsed() >= hold {
                    break;
                }
            }
            writing.commit()
        })?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_statement_gives_way_until_the_deadline_and_then_no_more() {
        let connection = Connection::open_in_memory().unwrap();
        let (until, times) = (Deadline::default(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&times);
        while_it_runs(&connection, until.clone(), move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let count = || {
            let sql = "with recursive n(n) as (select 1 union all select n + 1 from n where n < 10000) select count(*) from n";
            assert_eq!(connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 10_000);
            times.swap(0, Ordering::Relaxed)
        };
        assert_eq!(count(), 0, "before anybody said until when");
        until.set(Instant::now() + Duration::from_secs(3_600));
        assert!(count() > 10);
        until.set(Instant::now());
        assert_eq!(count(), 0, "after the deadline");
    }
}
