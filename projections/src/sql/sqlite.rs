//! SQLite by sqlx: the schema of the read models, and parameters. Who folds or reads much has rusqlite: [`super::direct`].

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Arguments, ConnectOptions, Connection as _};

use super::{Value, ViewError};

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

fn write_options(dir: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(dir.join("views.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What a power failure takes is folded again.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}
