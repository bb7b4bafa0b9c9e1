//! Reading: one snapshot of checkpoints and rows.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection as _, Postgres, Transaction};
use tokio::sync::{Notify, watch};

use aggregates::primitives::{ResellerId, Timestamp};

use super::{Connection, Database, Dialect, Server, Value, ViewError, direct, postgres, sqlite};
use crate::activity_feed::presence::Presence;
use crate::analytics::lineage::Lineage;
use crate::analytics::tallies::Tallies;
use crate::checkpoint;

/// Connections that read.
#[derive(Debug, Clone)]
pub struct ReadPool {
    pool: Pool,
    /// How far this process's own projector has come, and how it is told that somebody waits for it.
    projector: Option<(watch::Receiver<u64>, Arc<Notify>)>,
    /// What rankings have decoded of this store.
    tallies: Arc<Tallies>,
    /// Who stands below whom in it.
    lineage: Arc<Lineage>,
    /// In which blocks of the feed who has entries.
    presence: Arc<Presence>,
}

#[derive(Debug, Clone)]
enum Pool {
    /// `views.db` with `ledger.db` attached as `ledger` and `index.db` as `log_index`.
    Sqlite(direct::Pool),
    Postgres {
        pool: PgPool,
        server: Server,
    },
}

/// How many connections of a pool to PostgreSQL read at once: a process of the server each, for the time of a query.
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a read waits for one of them.
const ACQUIRE_TIME: Duration = Duration::from_secs(5);
/// How often a read tries again that was given a connection which is lost: all of the pool may be, after a failover.
const LOST_CONNECTIONS_MAX: u32 = 2 * POSTGRES_CONNECTIONS;

impl Pool {
    async fn postgres(server: &Server) -> Result<Self, ViewError> {
        let (connection, options) = server.connect().await?;
        connection.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIME)
            // A message there and back for each read; a lost connection is noticed at the first statement.
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Ok(Self::Postgres { pool, server: server.clone() })
    }

    /// Begins a snapshot: it is taken by the first statement.
    async fn begin(&self) -> Result<Snapshot, ViewError> {
        match self {
            Self::Sqlite(pool) => Ok(Snapshot::Sqlite(pool.begin().await?)),
            Self::Postgres { pool, server } => {
                let mut lost = 0;
                loop {
                    match pool.begin_with(postgres::BEGIN_READ).await {
                        Ok(transaction) => return Ok(Snapshot::Postgres { transaction, named: !server.pooled }),
                        Err(error) if lost < LOST_CONNECTIONS_MAX && postgres::is_lost(&error) => {
                            lost += 1;
                            if server.has_several_hosts() {
                                // Another one may be in charge now.
                                let (connection, options) = server.connect().await?;
                                connection.close().await?;
                                pool.set_connect_options(options);
                            }
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }
}

/// A transaction that reads.
#[derive(Debug)]
enum Snapshot {
    Sqlite(direct::Snapshot),
    Postgres { transaction: Transaction<'static, Postgres>, named: bool },
}

impl Snapshot {
    fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(snapshot) => Connection::direct(&mut snapshot.connection),
            Self::Postgres { transaction, named } => Connection::postgres(transaction, *named),
        }
    }

    async fn end(self) -> Result<(), ViewError> {
        match self {
            Self::Sqlite(snapshot) => drop(snapshot),
            Self::Postgres { transaction, .. } => transaction.rollback().await?,
        }
        Ok(())
    }
}

/// The first and the longest pause of a read that waits for a position: what this process's own projector folds it is told at
/// once, so this is for what another process folds.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(5);
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(100);

impl ReadPool {
    /// Opens the pool; the log must be there. SQLite's read models are brought up to date.
    ///
    /// # Errors
    /// What the databases say.
    pub async fn open(database: &Database) -> Result<Self, ViewError> {
        Self::open_as(database, direct::Reading::Mapped).await
    }

    /// The same for who reads most of a store once, from end to end: its memory stays the same however large the store is.
    ///
    /// # Errors
    /// What the databases say.
    pub async fn open_to_stream(database: &Database) -> Result<Self, ViewError> {
        Self::open_as(database, direct::Reading::Streamed).await
    }

    async fn open_as(database: &Database, reading: direct::Reading) -> Result<Self, ViewError> {
        let pool = match database {
            Database::Sqlite(dir) => {
                sqlite::migrate(dir).await?;
                Pool::Sqlite(direct::Pool::open(dir, reading)?)
            }
            Database::Postgres(server) => Pool::postgres(server).await?,
        };
        Ok(Self { pool, projector: None, tallies: Arc::default(), lineage: Arc::default(), presence: Arc::default() })
    }

    /// Lets reads that wait for a position be woken by whoever publishes how far the read models have come, after each commit;
    /// `wanted` tells it that somebody waits.
    #[must_use]
    pub fn woken_by(self, progress: watch::Receiver<u64>, wanted: Arc<Notify>) -> Self {
        Self { projector: Some((progress, wanted)), ..self }
    }

    /// Begins a read that has come at least as far as `min_position`, waiting for the projector at most `timeout`.
    ///
    /// # Errors
    /// [`ViewError::ViewBehind`] where it did not come that far in time.
    pub async fn begin(&self, min_position: u64, timeout: Duration) -> Result<Read, ViewError> {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut pause = POLL_INTERVAL_MIN;
        let mut projector = self.projector.clone().filter(|_| min_position > 0);
        loop {
            let mut transaction = self.pool.begin().await?;
            let (position, as_of) = checkpoint::reached(&mut transaction.connection()).await?;
            if position >= min_position {
                return Ok(Read {
                    transaction,
                    position,
                    as_of,
                    tallies: Arc::clone(&self.tallies),
                    lineage: Arc::clone(&self.lineage),
                    presence: Arc::clone(&self.presence),
                });
            }
            transaction.end().await?;
            if tokio::time::Instant::now() >= deadline {
                return Err(ViewError::ViewBehind { position });
            }
            let look_again = deadline.min(tokio::time::Instant::now() + pause);
            pause = (pause * 2).min(POLL_INTERVAL_MAX);
            let Some((published, wanted)) = projector.as_mut() else {
                tokio::time::sleep_until(look_again).await;
                continue;
            };
            wanted.notify_one();
            // What is published has been committed, so the next look sees it; it wakes once, and a publisher that has ended or
            // was wrong leaves polling.
            let reached = published.wait_for(|reached| *reached >= min_position);
            if tokio::time::timeout_at(look_again, reached).await.is_ok() {
                projector = None;
            }
        }
    }
}

/// One snapshot of all read models: checkpoint and rows are of the same moment. Dropping it ends it.
#[derive(Debug)]
pub struct Read {
    transaction: Snapshot,
    position: u64,
    as_of: Timestamp,
    tallies: Arc<Tallies>,
    lineage: Arc<Lineage>,
    presence: Arc<Presence>,
}

impl Read {
    /// How far the read models have come.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When the event at that position was recorded.
    #[must_use]
    pub fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// What is kept of everybody's figures at marks, from one read to the next.
    pub(crate) fn tallies(&self) -> Arc<Tallies> {
        Arc::clone(&self.tallies)
    }

    /// Who stands below whom, kept from one read to the next.
    pub(crate) fn lineage(&self) -> Arc<Lineage> {
        Arc::clone(&self.lineage)
    }

    /// In which blocks of the feed who has entries, kept from one read to the next.
    pub(crate) fn presence(&self) -> Arc<Presence> {
        Arc::clone(&self.presence)
    }

    /// Has the database itself show no more than one subtree from here on, whatever is asked: the rows whose paths are in this
    /// range, and what is told of the line above it. SQLite cannot.
    pub(crate) async fn narrow(&mut self, reseller: ResellerId, from: &str, until: &str) -> Result<(), ViewError> {
        let mut connection = self.transaction.connection();
        if connection.dialect() == Dialect::Postgres {
            let values = vec![from.into(), until.into(), Value::text(reseller)];
            connection.fetch_one(postgres::NARROW, values).await?;
        }
        Ok(())
    }

    /// The connection, within the snapshot.
    pub fn connection(&mut self) -> Connection<'_> {
        self.transaction.connection()
    }
}
