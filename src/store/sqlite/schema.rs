//! Where the files of a store are, and how their tables come to be.
//!
//! Shape: a store is a directory: `ledger.db` and `index.db`, which are made here; `views.db`, which `projections` makes;
//! `refusals.db`, which `refusals` makes; and `migrate.lock`. Migrations are compiled in and run under a lock on that file,
//! because sqlx's own is a no-op on SQLite: of ten processes that start at once one migrates and nine find it done. A schema with
//! a migration that this version does not have is newer than this version, and is refused.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection};

use crate::store::StoreError;

static LEDGER: Migrator = sqlx::migrate!("migrations/sqlite/ledger");
static INDEX: Migrator = sqlx::migrate!("migrations/sqlite/index");

/// The log, tokens and personal data of the store in a directory.
#[must_use]
pub fn ledger_path(dir: &Path) -> PathBuf {
    dir.join("ledger.db")
}

/// Where to find what in the ledger, by key; rebuildable from it.
#[must_use]
pub fn index_path(dir: &Path) -> PathBuf {
    dir.join("index.db")
}

/// The read models of the store in a directory.
#[must_use]
pub fn views_path(dir: &Path) -> PathBuf {
    dir.join("views.db")
}

/// Held while the files of a store are created or migrated; dropping it lets the next one in.
#[derive(Debug)]
pub struct MigrateLock {
    _file: File,
}

/// Waits for the directory's migration lock. Creates the directory where there is none. Blocks.
///
/// # Errors
/// [`StoreError::Database`] with the path, where the directory or the file cannot be written.
pub fn migrate_lock(dir: &Path) -> Result<MigrateLock, StoreError> {
    let path = dir.join("migrate.lock");
    let failed = |error: std::io::Error| StoreError::Database(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(MigrateLock { _file: file })
}

/// Brings `ledger.db` and `index.db` to this version's schema. Blocks.
pub(super) fn migrate(dir: &Path) -> Result<(), StoreError> {
    let _lock = migrate_lock(dir)?;
    let (ledger, index) = (ledger_path(dir), index_path(dir));
    // The ledger is made first and is never taken away: what follows from it would be taken for the history of an empty one.
    if !ledger.exists()
        && let Some(follower) = [&index, &views_path(dir)].into_iter().find(|file| file.exists())
    {
        return Err(StoreError::Schema(format!(
            "{} is missing, but {}, which follows from it, is there: restore the ledger from the backup; nothing was made",
            ledger.display(),
            follower.display()
        )));
    }
    // A thread of its own, because the caller may stand inside of a runtime, and one runtime cannot be entered twice.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| StoreError::Database(error.to_string()))?
                    .block_on(async {
                        run(&ledger, &LEDGER).await?;
                        run(&index, &INDEX).await
                    })
            })
            .join()
            .unwrap_or_else(|_| Err(StoreError::Database("the migration panicked".to_owned())))
    })
}

async fn run(path: &Path, migrator: &Migrator) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| StoreError::Database(format!("{}: {error}", path.display()));
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .connect()
        .await
        .map_err(failed)?;
    let migrated = migrator.run_direct(&mut connection).await;
    connection.close().await.map_err(failed)?;
    migrated.map_err(|error| match error {
        MigrateError::VersionMissing(version) => StoreError::Schema(format!(
            "{} has migration {version}, which this version of Tallytree does not know: it was written by a newer one; \
             run that, or restore a copy from before",
            path.display()
        )),
        MigrateError::VersionMismatch(version) => StoreError::Schema(format!(
            "{} has another migration {version} than this version of Tallytree: it does not come from a released one",
            path.display()
        )),
        other => StoreError::Database(format!("{}: {other}", path.display())),
    })
}
