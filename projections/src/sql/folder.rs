//! What the projector works with: the log to read, the read models to write.
//!
//! A fold goes in two steps. [`Folder::look`]: checkpoints and events are read, nothing is locked. [`Looking::lock`]: every
//! checkpoint read from here on is the true one, until [`Locked::commit`]. On SQLite the lock is the file's write lock; on
//! PostgreSQL an advisory one, both steps are one transaction, and each statement sees what was committed before it.

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection as _, PgConnection, Postgres, Sqlite, Transaction};

use super::{Connection, Database, Server, ViewError, postgres, sqlite};

/// The projector's connections.
#[derive(Debug)]
pub struct Folder(Connections);

#[derive(Debug)]
enum Connections {
    /// One that writes `views.db`, one that reads `ledger.db`.
    Sqlite { views: SqliteConnection, ledger: SqliteConnection },
    /// One for both; none after it was lost.
    Postgres { server: Server, connection: Option<PgConnection> },
}

impl Folder {
    /// Connects; the log must be there. SQLite's read models are brought up to date.
    ///
    /// # Errors
    /// What the databases say.
    pub async fn open(database: &Database) -> Result<Self, ViewError> {
        Ok(Self(match database {
            Database::Sqlite(dir) => {
                sqlite::migrate(dir).await?;
                Connections::Sqlite {
                    views: sqlite::write_options(dir).connect().await?,
                    ledger: sqlite::log_options(dir).connect().await?,
                }
            }
            Database::Postgres(server) => {
                Connections::Postgres { server: server.clone(), connection: Some(server.connect().await?.0) }
            }
        }))
    }

    /// Says that something failed: the next fold begins with a new connection, where this one may be lost.
    pub fn failed(&mut self) {
        if let Connections::Postgres { connection, .. } = &mut self.0 {
            *connection = None;
        }
    }

    /// Begins a fold: to read, so far.
    ///
    /// # Errors
    /// What the database says.
    pub async fn look(&mut self) -> Result<Looking<'_>, ViewError> {
        match &mut self.0 {
            Connections::Sqlite { views, ledger } => Ok(Looking(Look::Sqlite { views, ledger })),
            Connections::Postgres { server, connection } => {
                let open = match connection {
                    Some(open) => open,
                    None => connection.insert(server.connect().await?.0),
                };
                let transaction = open.begin_with(postgres::BEGIN_FOLD).await?;
                Ok(Looking(Look::Postgres { transaction, named: !server.pooled }))
            }
        }
    }
}

/// A fold that reads.
#[derive(Debug)]
pub struct Looking<'f>(Look<'f>);

#[derive(Debug)]
enum Look<'f> {
    Sqlite { views: &'f mut SqliteConnection, ledger: &'f mut SqliteConnection },
    Postgres { transaction: Transaction<'f, Postgres>, named: bool },
}

impl<'f> Looking<'f> {
    /// The log.
    pub fn log(&mut self) -> Connection<'_> {
        match &mut self.0 {
            Look::Sqlite { ledger, .. } => Connection::sqlite(ledger),
            Look::Postgres { transaction, named } => Connection::postgres(transaction, *named),
        }
    }

    /// The read models.
    pub fn views(&mut self) -> Connection<'_> {
        match &mut self.0 {
            Look::Sqlite { views, .. } => Connection::sqlite(views),
            Look::Postgres { transaction, named } => Connection::postgres(transaction, *named),
        }
    }

    /// Takes the one lock of all who fold.
    ///
    /// # Errors
    /// What the database says.
    pub async fn lock(self) -> Result<Locked<'f>, ViewError> {
        Ok(Locked(match self.0 {
            Look::Sqlite { views, .. } => Lock::Sqlite(views.begin_with("begin immediate").await?),
            Look::Postgres { mut transaction, named } => {
                Connection::postgres(&mut transaction, named).execute(postgres::LOCK_FOLD, Vec::new()).await?;
                Lock::Postgres { transaction, named }
            }
        }))
    }
}

/// A fold that writes. Dropping it changes nothing.
#[derive(Debug)]
pub struct Locked<'f>(Lock<'f>);

#[derive(Debug)]
enum Lock<'f> {
    Sqlite(Transaction<'f, Sqlite>),
    Postgres { transaction: Transaction<'f, Postgres>, named: bool },
}

impl Locked<'_> {
    /// The read models, under the lock.
    pub fn connection(&mut self) -> Connection<'_> {
        match &mut self.0 {
            Lock::Sqlite(transaction) => Connection::sqlite(transaction),
            Lock::Postgres { transaction, named } => Connection::postgres(transaction, *named),
        }
    }

    /// Commits, and lets go of the lock.
    ///
    /// # Errors
    /// What the database says.
    pub async fn commit(self) -> Result<(), ViewError> {
        match self.0 {
            Lock::Sqlite(transaction) => transaction.commit().await?,
            Lock::Postgres { transaction, .. } => transaction.commit().await?,
        }
        Ok(())
    }
}
