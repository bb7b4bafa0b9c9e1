//! SQLite: files, their options, parameters, and writing that gives way to others.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Arguments, ConnectOptions, Connection as _};

use super::{Changes, Connection, Value, ViewError};

/// The parameters of a statement; lists are JSON texts.
pub(super) fn arguments(values: Vec<Value>) -> Result<SqliteArguments<'static>, ViewError> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Integer(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
            Value::Integers(list) => arguments.add(serde_json::to_string(&list).map_err(ViewError::unreadable)?),
            Value::Texts(list) => arguments.add(serde_json::to_string(&list).map_err(ViewError::unreadable)?),
            Value::Blobs(_) => return Err(ViewError::unreadable("SQLite takes no lists of bytes")),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Writes rows that nobody reads yet, in as many transactions as it takes to hold the write lock for no longer than about
/// `hold` at a time; after each, `give_way` is waited for.
pub(crate) async fn apply_in_slices(
    connection: &mut SqliteConnection,
    prefix: &'static str,
    changes: Changes,
    hold: Duration,
    mut give_way: impl AsyncFnMut(),
) -> Result<(), ViewError> {
    let mut statements = changes.into_sqlite_statements(prefix).peekable();
    while statements.peek().is_some() {
        let mut transaction = connection.begin_with("begin immediate").await?;
        let begun = Instant::now();
        while let Some((sql, values)) = statements.next() {
            let mut connection = Connection::sqlite(&mut transaction);
            // The next statement is made ready while the database is busy with this one.
            let ready = async {
                let _ = statements.peek();
            };
            futures_util::future::join(connection.execute(&sql, values), ready).await.0?;
            if begun.elapsed() >= hold {
                break;
            }
        }
        transaction.commit().await?;
        give_way().await;
    }
    Ok(())
}

/// Brings `views.db` up to date, one process at a time: sqlx's own lock does nothing on SQLite.
pub(crate) async fn migrate(dir: &Path) -> Result<(), ViewError> {
    let path = dir.join("migrate.lock");
    let file_error = |error| ViewError::File { path: path.clone(), error };
    let lock_path = path.clone();
    let lock = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).truncate(false).write(true).open(lock_path)?;
        file.lock()?;
        Ok(file)
    })
    .await
    .map_err(|error| file_error(std::io::Error::other(error)))?
    .map_err(file_error)?;
    let mut connection = write_options(dir).connect().await?;
    create(&mut connection).await?;
    connection.close().await?;
    drop(lock);
    Ok(())
}

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/sqlite/views");

/// Creates the read models' tables, as far as they are not there.
async fn create(connection: &mut SqliteConnection) -> Result<(), ViewError> {
    MIGRATIONS.run(connection).await?;
    Ok(())
}

/// Creates the read models' tables in a database that is empty, and keeps no account of it.
pub(crate) fn create_directly(connection: &rusqlite::Connection) -> Result<(), ViewError> {
    for migration in MIGRATIONS.iter() {
        connection.execute_batch(&migration.sql)?;
    }
    Ok(())
}

/// By which the read models' tables of this version are told from another's: the beginnings of the migrations' checksums.
pub(crate) fn fingerprint() -> String {
    let checksums = MIGRATIONS.iter().flat_map(|migration| migration.checksum.iter().take(4));
    checksums.map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn write_options(dir: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(dir.join("views.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What a power failure takes is folded again.
        .synchronous(SqliteSynchronous::Normal)
        .pragma("wal_autocheckpoint", "4000")
        // A batch touches some thousands of pages; what does not fit is written to the WAL before its time, and read back.
        .pragma("cache_size", "-64000")
        // Each batch loads thousands of rows: fewer hand-overs between threads.
        .row_buffer_size(1024)
        .statement_cache_capacity(256)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

/// A database of the store, only to read much of it: never written to, and its pages looked at where they lie.
pub(crate) fn read_options(dir: &Path, file: &str) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(dir.join(file))
        .read_only(true)
        .pragma("mmap_size", "1073741824")
        .row_buffer_size(1024)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}
