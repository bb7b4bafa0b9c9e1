//! One connection to `ledger.db`, set up as a writer must be, and what its errors mean to us.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::StoreError;

/// How long a writer waits for its turn before it says that the store is busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it sleeps between two tries. SQLite's own handler backs off up to 100 ms, so that whoever comes late and asks
/// more often always wins.
const BREATH: Duration = Duration::from_micros(200);

/// More than there are statements, so that none is ever compiled twice.
const STATEMENTS: usize = 64;

thread_local! {
    /// When the wait in hand began. The handler is a plain function and is told only how often it was called for this wait.
    static WAITING_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    /// How many waits this thread has had.
    static WAITS: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread had to wait for another writer.
pub(super) fn waits() -> u64 {
    WAITS.get()
}

fn wait(calls: i32) -> bool {
    let now = Instant::now();
    let since = match WAITING_SINCE.get() {
        Some(since) if calls > 0 => since,
        _ => {
            WAITING_SINCE.set(Some(now));
            WAITS.set(WAITS.get() + 1);
            now
        }
    };
    if now.duration_since(since) >= PATIENCE {
        return false;
    }
    std::thread::sleep(BREATH);
    true
}

/// Opens a connection for writing. The file must be there: `super::schema` makes it.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(error)?;
    connection.busy_handler(Some(wait)).map_err(error)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // FULL, because an answer promises that it is durable. The checkpoint within a commit is only a backstop (it makes that
    // commit wait some 100 ms): `super::checkpoint` keeps the WAL at a fiftieth of it. Secure, because a client
    // that is forgotten must be gone from the file too, not only from its tables. The cache is small on purpose: after a page
    // split SQLite scans the whole of it at the next commit, and what it lacks the WAL gives back from the system's cache
    // [32 MiB → 2 MiB: 18 µs less a command on one wallet, 43 µs on a thousand].
    connection
        .execute_batch(
            "pragma synchronous = full; pragma wal_autocheckpoint = 100000; pragma cache_size = -2000; \
             pragma temp_store = memory; pragma secure_delete = on;",
        )
        .map_err(error)?;
    Ok(connection)
}

/// What an error of the database means outside of a commit.
pub(super) fn error(error: rusqlite::Error) -> StoreError {
    match &error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Busy(error.to_string()),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Unreadable(error.to_string()),
            _ => StoreError::Database(error.to_string()),
        },
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => StoreError::Unreadable(error.to_string()),
        _ => StoreError::Database(error.to_string()),
    }
}

/// What an error means while a batch is being written: never that nothing was done.
pub(super) fn doubtful(error: rusqlite::Error) -> StoreError {
    StoreError::Database(error.to_string())
}
