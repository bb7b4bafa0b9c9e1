//! What the projector works with: the log to read, the read models to write.
//!
//! A fold goes in two steps. [`Folder::look`]: checkpoints and events are read, nothing is locked. [`Looking::lock`]: every
//! checkpoint read from here on is the true one, until [`Locked::commit`]. On SQLite the lock is the file's write lock; on
//! PostgreSQL an advisory one, both steps are one transaction, and each statement sees what was committed before it.
//!
//! What the projections know from the last fold ([`Memory`]) stands as long as nobody else has written to the read models: SQLite
//! says so itself (`data_version`), on PostgreSQL the checkpoints must be those that this folder's last transaction wrote.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection, Postgres, Transaction};

use super::direct::Deadline;
use super::{Connection, Database, Server, ViewError, direct, postgres, sqlite};
use crate::memory::Memory;

/// The projector's connections, and what the projections know.
#[derive(Debug)]
pub struct Folder {
    connections: Connections,
    memory: Memory,
    /// Who has written last, as far as the memory goes.
    writer: i64,
    /// For how long each fold gives way, and until when this one does.
    gives_way_for: Duration,
    gives_way_until: Deadline,
}

#[derive(Debug)]
enum Connections {
    /// One that writes `views.db`, one that reads `ledger.db`.
    Sqlite { views: Box<rusqlite::Connection>, ledger: Box<rusqlite::Connection> },
    /// One for both; none after it was lost.
    Postgres { server: Server, connection: Option<PgConnection> },
}

impl Folder {
    /// Connects; the log must be there. SQLite's read models are brought up to date.
    ///
    /// # Errors
    /// What the databases say.
    pub async fn open(database: &Database) -> Result<Self, ViewError> {
        let connections = match database {
            Database::Sqlite(dir) => {
                sqlite::migrate(dir).await?;
                let views = direct::open_views(dir, direct::WalCopied::Beside)?;
                Connections::Sqlite { views: Box::new(views), ledger: Box::new(direct::open_log(dir)?) }
            }
            Database::Postgres(server) => {
                Connections::Postgres { server: server.clone(), connection: Some(server.connect().await?.0) }
            }
        };
        let (gives_way_for, gives_way_until) = (Duration::ZERO, Deadline::default());
        Ok(Self { connections, memory: Memory::lasting(), writer: 0, gives_way_for, gives_way_until })
    }

    /// In the first part of each fold, for so long, lets whoever waits for the processor that it runs on go first: who is to be
    /// answered need not wait for a time slice of some milliseconds. After that it takes its share, so that it does not fall
    /// behind where processors are never idle. SQLite only; a server's processes are others.
    #[must_use]
    pub fn giving_way(self, first: Duration) -> Self {
        if let Connections::Sqlite { views, ledger } = &self.connections {
            for connection in [views, ledger] {
                direct::while_it_runs(connection, self.gives_way_until.clone(), std::thread::yield_now);
            }
        }
        Self { gives_way_for: first, ..self }
    }

    /// Says that something failed: the next fold begins with a new connection, where this one may be lost.
    pub fn failed(&mut self) {
        if let Connections::Postgres { connection, .. } = &mut self.connections {
            *connection = None;
        }
        self.memory = Memory::lasting();
    }

    /// Moves what is left in SQLite's WAL into the read models' file; the next commit can begin it anew then. Does nothing on
    /// PostgreSQL.
    ///
    /// # Errors
    /// What the database says; nothing depends on it.
    pub fn move_wal(&self) -> Result<(), ViewError> {
        match &self.connections {
            Connections::Sqlite { views, .. } => direct::move_wal(views),
            Connections::Postgres { .. } => Ok(()),
        }
    }

    /// Begins a fold: to read, so far.
    ///
    /// # Errors
    /// What the database says.
    pub async fn look(&mut self) -> Result<Looking<'_>, ViewError> {
        self.gives_way_until.set(Instant::now() + self.gives_way_for);
        let Self { connections, memory, writer, .. } = self;
        let look = match connections {
            Connections::Sqlite { views, ledger } => Look::Sqlite { views, ledger },
            Connections::Postgres { server, connection } => {
                let open = match connection {
                    Some(open) => open,
                    None => connection.insert(server.connect().await?.0),
                };
                let transaction = open.begin_with(postgres::BEGIN_FOLD).await?;
                Look::Postgres { transaction, named: !server.pooled }
            }
        };
        Ok(Looking { look, memory, writer })
    }
}

/// A fold that reads.
#[derive(Debug)]
pub struct Looking<'f> {
    look: Look<'f>,
    memory: &'f mut Memory,
    writer: &'f mut i64,
}

#[derive(Debug)]
enum Look<'f> {
    Sqlite { views: &'f mut rusqlite::Connection, ledger: &'f mut rusqlite::Connection },
    Postgres { transaction: Transaction<'f, Postgres>, named: bool },
}

impl<'f> Looking<'f> {
    /// The log.
    pub fn log(&mut self) -> Connection<'_> {
        match &mut self.look {
            Look::Sqlite { ledger, .. } => Connection::direct(ledger),
            Look::Postgres { transaction, named } => Connection::postgres(transaction, *named),
        }
    }

    /// The read models.
    pub fn views(&mut self) -> Connection<'_> {
        match &mut self.look {
            Look::Sqlite { views, .. } => Connection::direct(views),
            Look::Postgres { transaction, named } => Connection::postgres(transaction, *named),
        }
    }

    /// Takes the one lock of all who fold.
    ///
    /// # Errors
    /// What the database says.
    pub async fn lock(self) -> Result<Locked<'f>, ViewError> {
        let Self { look, memory, writer } = self;
        let (lock, last, own) = match look {
            Look::Sqlite { views, .. } => {
                let writing = direct::Writing::begin(views).await?;
                let version = direct::data_version(writing.connection)?;
                (Lock::Sqlite(writing), version, version)
            }
            Look::Postgres { mut transaction, named } => {
                let mut connection = Connection::postgres(&mut transaction, named);
                connection.execute(postgres::LOCK_FOLD, Vec::new()).await?;
                // Another statement: it sees what was committed before the lock was had.
                let row = connection.fetch_one(postgres::WRITERS, Vec::new()).await?;
                let (last, own) = row.map_or(Ok((0, 0)), |row| {
                    let mut columns = row.columns();
                    Ok::<_, ViewError>((columns.integer()?, columns.integer()?))
                })?;
                (Lock::Postgres { transaction, named }, last, own)
            }
        };
        if last != *writer {
            *memory = Memory::lasting();
        }
        *writer = own;
        Ok(Locked { lock, memory })
    }
}

/// A fold that writes. Dropping it changes nothing.
#[derive(Debug)]
pub struct Locked<'f> {
    lock: Lock<'f>,
    memory: &'f mut Memory,
}

#[derive(Debug)]
enum Lock<'f> {
    Sqlite(direct::Writing<'f>),
    Postgres { transaction: Transaction<'f, Postgres>, named: bool },
}

impl Locked<'_> {
    /// The read models, under the lock, and what is known of them.
    pub fn connection(&mut self) -> (Connection<'_>, &mut Memory) {
        let connection = match &mut self.lock {
            Lock::Sqlite(writing) => Connection::direct(writing.connection),
            Lock::Postgres { transaction, named } => Connection::postgres(transaction, *named),
        };
        (connection, self.memory)
    }

    /// Commits, and lets go of the lock.
    ///
    /// # Errors
    /// What the database says.
    pub async fn commit(self) -> Result<(), ViewError> {
        match self.lock {
            Lock::Sqlite(writing) => writing.commit()?,
            Lock::Postgres { transaction, .. } => transaction.commit().await?,
        }
        Ok(())
    }
}
