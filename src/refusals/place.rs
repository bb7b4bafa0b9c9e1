//! Where refusals are kept: a file beside the ledger's, or a schema of its database.

use std::time::Duration;

use projections::sql::{Connection, Row, Value, ViewError};
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _};

use super::{RefusalsError, refusals_path};
use crate::store::Database;
use crate::store::postgres::{Address, migrate_schema};
use crate::store::sqlite::migrate_lock;

static FILE: Migrator = sqlx::migrate!("migrations/sqlite/refusals");
static SCHEMA: Migrator = sqlx::migrate!("migrations/postgres/refusals");

/// What a power failure takes of the last moments is no part of the history: nobody waits for the disk.
const BEGIN: &str = "begin; set local search_path = refusals; set local synchronous_commit = off";

/// How to get there.
#[derive(Debug, Clone)]
pub(super) enum Place {
    File(Box<SqliteConnectOptions>),
    Schema(Address),
}

impl Place {
    /// Brings it up to date, one process at a time.
    pub(super) async fn migrated(database: &Database) -> Result<Self, RefusalsError> {
        let dir = match database {
            Database::Sqlite(dir) => dir.clone(),
            Database::Postgres(address) => {
                migrate_schema(address, "refusals", &SCHEMA).await?;
                return Ok(Self::Schema(address.clone()));
            }
        };
        let path = refusals_path(&dir);
        let lock = tokio::task::spawn_blocking(move || migrate_lock(&dir)).await;
        let _lock = lock.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))??;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // As with a schema: see above.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        FILE.run_direct(&mut connection).await?;
        connection.close().await?;
        Ok(Self::File(Box::new(options)))
    }

    pub(super) async fn connect(&self) -> Result<Held, ViewError> {
        match self {
            Self::File(options) => Ok(Held::File(options.connect().await?)),
            Self::Schema(address) => {
                let connected = address.connect().await;
                let connection = connected.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
                Ok(Held::Schema { connection, named: !address.is_pooled() })
            }
        }
    }
}

/// A connection, outside of any transaction.
#[derive(Debug)]
pub(super) enum Held {
    File(SqliteConnection),
    Schema { connection: PgConnection, named: bool },
}

impl Held {
    /// Statements in one transaction; how many rows they changed.
    pub(super) async fn execute(&mut self, statements: Vec<(&'static str, Vec<Value>)>) -> Result<u64, ViewError> {
        let mut changed = 0;
        match self {
            Self::File(connection) => {
                let mut transaction = connection.begin_with("begin immediate").await?;
                for (sql, values) in statements {
                    changed += Connection::sqlite(&mut transaction).execute(sql, values).await?;
                }
                transaction.commit().await?;
            }
            Self::Schema { connection, named } => {
                let mut transaction = connection.begin_with(BEGIN).await?;
                for (sql, values) in statements {
                    changed += Connection::postgres(&mut transaction, *named).execute(sql, values).await?;
                }
                transaction.commit().await?;
            }
        }
        Ok(changed)
    }

    /// The rows of a query.
    pub(super) async fn fetch(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, ViewError> {
        match self {
            Self::File(connection) => Connection::sqlite(connection).fetch(sql, values).await,
            Self::Schema { connection, named } => {
                let mut transaction = connection.begin_with(BEGIN).await?;
                let rows = Connection::postgres(&mut transaction, *named).fetch(sql, values).await?;
                transaction.commit().await?;
                Ok(rows)
            }
        }
    }
}
