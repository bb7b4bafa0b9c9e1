//! The store on PostgreSQL: one database, any number of nodes.
//!
//! Shape: one connection that writes ([`PostgresStore`]), made anew after every error. A turn is one transaction
//! ([`PostgresTurn`]); the head's row lock is the head's lock, and a queue before it makes it first come, first served. Events,
//! receipts, facts, snapshots and the head are one statement and one commit, and the commit tells the other nodes (`NOTIFY`).
//!
//! Cost: a node that writes alone has one round trip a turn: it assumes the head that it left, and the append insists on it
//! ([`solitude`]). Else three, one more where commands came while it waited or where something was not in memory; one wait
//! for the disk (and for the standby that answers first, where replication is synchronous), shared by the whole batch.
//!
//! Never a guess: after an error in `append` [`PostgresStore::resolve`] takes the head's lock with a new connection, which waits
//! for the transaction in doubt, and commits a new epoch before it reads.
//!
//! Layering: `schema` makes the tables, `address` finds the database, `connection` sets up sessions, `reading`, `turn` and
//! `append` hold the SQL, `moment` has times in their binary form, `solitude` says when a head may be assumed;
//! `table` reads what postgres-es wrote.

mod address;
mod append;
mod connection;
mod moment;
mod reading;
mod schema;
mod solitude;
mod table;
mod turn;

use std::collections::HashSet;
use std::time::Instant;

use aggregates::command::ReceiptKey;
use aggregates::ledger::{Key, Loaded};
use aggregates::primitives::{CommandId, ResellerId, Timestamp};
use aggregates::reseller::Reseller;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Executor, Row};
use tokio::sync::oneshot;

pub use self::address::{Address, Target, takes_writes};
pub use self::append::CHANNEL;
pub use self::schema::migrate_schema;
pub use self::table::{Source, SourceEvent, Table};
pub use self::turn::PostgresTurn;
use crate::store::{EventStore, Head, StoreError, StoredEvent, recognise};
use connection::{answered, error};
use moment::Moment;
use solitude::Solitude;

/// The store in a database; one connection for writing.
#[derive(Debug)]
pub struct PostgresStore {
    address: Address,
    /// Outside of any transaction; `None` after an error, and while it comes back.
    connection: Option<PgConnection>,
    /// A connection whose transaction is being rolled back.
    returning: Option<oneshot::Receiver<PgConnection>>,
    /// Whether others write.
    solitude: Solitude,
}

impl PostgresStore {
    /// Opens the store in a database; creates and migrates its schema where needed.
    ///
    /// # Errors
    /// [`StoreError::Schema`] where a newer version wrote it, else what stands in the way.
    pub async fn open(address: Address) -> Result<Self, StoreError> {
        schema::migrate(&address).await?;
        let mut connection = turn::connect(&address).await?;
        warn_if_volatile(&mut connection).await?;
        // Not kept: a connection lives on the runtime that made it, and the writer has one of its own.
        connection.close().await.map_err(error)?;
        Ok(Self { address, connection: None, returning: None, solitude: Solitude::default() })
    }

    /// A connection outside of any transaction; a new one where there is none. Whoever is done with it and had no error gives it
    /// back.
    async fn connect(&mut self) -> Result<PgConnection, StoreError> {
        if let Some(returning) = self.returning.take() {
            // An error means that the rollback failed, and the connection has gone.
            self.connection = answered(returning).await.ok().and_then(Result::ok);
        }
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => turn::connect(&self.address).await,
        }
    }

    /// Ends the transaction of a turn that is given up, without anybody waiting for it: the lock is free a moment later.
    fn abandon(&mut self, mut connection: PgConnection) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Closing it ends the transaction as well.
            return;
        };
        let (give_back, returning) = oneshot::channel();
        self.returning = Some(returning);
        runtime.spawn(async move {
            if let Ok(Ok(_)) = answered(connection.execute(sqlx::raw_sql("rollback"))).await {
                // Nobody waits for it where the store has gone.
                let _ = give_back.send(connection);
            }
        });
    }

    /// Reads in one snapshot, in a transaction of its own.
    async fn begin_reading(&mut self) -> Result<PgConnection, StoreError> {
        let pooled = self.address.is_pooled();
        let mut connection = self.connect().await?;
        answered(connection.execute(sqlx::raw_sql(connection::begin_reading(pooled)))).await?.map_err(error)?;
        Ok(connection)
    }

    /// Ends such a transaction.
    async fn end_reading(&mut self, mut connection: PgConnection) -> Result<(), StoreError> {
        answered(connection.execute(sqlx::raw_sql("commit"))).await?.map_err(error)?;
        self.connection = Some(connection);
        Ok(())
    }
}

impl EventStore for PostgresStore {
    type Turn<'store> = PostgresTurn<'store>;

    async fn load(&mut self, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
        // One statement is one snapshot; only a pooler needs to be told that more messages than one belong together. (A snapshot
        // of an aggregate that cannot be read is rare enough to be read again.)
        if self.address.is_pooled() {
            let mut connection = self.begin_reading().await?;
            let loaded = reading::load(&mut connection, true, keys).await?;
            self.end_reading(connection).await?;
            return Ok(loaded);
        }
        let mut connection = self.connect().await?;
        let loaded = reading::load(&mut connection, false, keys).await?;
        self.connection = Some(connection);
        Ok(loaded)
    }

    async fn resellers(
        &mut self,
        each: &mut (dyn FnMut(ResellerId, u64, Reseller) + Send),
    ) -> Result<Head, StoreError> {
        let pooled = self.address.is_pooled();
        let mut connection = self.begin_reading().await?;
        let head = head(&mut connection).await?;
        reading::resellers(&mut connection, pooled, each).await?;
        self.end_reading(connection).await?;
        Ok(head)
    }

    async fn begin(&mut self, expected: &Head, receipts: &[ReceiptKey]) -> Result<PostgresTurn<'_>, StoreError> {
        let mut connection = self.connect().await?;
        let seen = match turn::lock(&mut connection, self.address.is_pooled(), expected, receipts).await {
            Ok(seen) => seen,
            Err(cause) => {
                if matches!(cause, StoreError::Busy(_)) {
                    self.abandon(connection);
                }
                return Err(cause);
            }
        };
        self.solitude.see(Instant::now(), seen.now, seen.head.position != expected.position);
        if let Err(cut) = recognise(&seen.head, expected, || Ok(seen.expected_hash)) {
            self.abandon(connection);
            return Err(cut);
        }
        Ok(PostgresTurn::new(self, connection, seen, expected.position, receipts))
    }

    fn assume(&mut self, expected: &Head) -> Option<PostgresTurn<'_>> {
        // Behind a pooler a statement needs a transaction around it, or its session is set for somebody else's.
        if self.address.is_pooled() {
            return None;
        }
        let now = self.solitude.clock(Instant::now())?;
        // Where there is none at hand, whatever the reason, the turn under the lock finds out.
        let connection = self.connection.take()?;
        Some(PostgresTurn::assumed(self, connection, expected.clone(), now))
    }

    async fn resolve(&mut self, after: u64, commands: &[CommandId]) -> Result<(Head, HashSet<CommandId>), StoreError> {
        // The old one goes first: its transaction would keep the lock from us.
        self.connection = None;
        self.returning = None;
        self.solitude = Solitude::default();
        let pooled = self.address.is_pooled();
        let mut connection = turn::connect(&self.address).await?;
        let sql =
            format!("{} update ledger.head set epoch = epoch + 1 where id = 1; commit;", connection::begin(pooled));
        answered(connection.execute(sqlx::raw_sql(&sql))).await?.map_err(error)?;
        self.connection = Some(connection);
        let mut connection = self.begin_reading().await?;
        let head = head(&mut connection).await?;
        let found = reading::commands_after(&mut connection, pooled, after, commands).await?;
        self.end_reading(connection).await?;
        Ok((head, found))
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        let pooled = self.address.is_pooled();
        let mut connection = self.begin_reading().await?;
        let events = reading::events(&mut connection, pooled, after, limit).await?;
        self.end_reading(connection).await?;
        Ok(events)
    }

    async fn expire_receipts(&mut self, older_than: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut connection = self.connect().await?;
        // What another node is about to delete is left to it, and nobody minds where a crash brings some back.
        let sql = format!(
            "{} set local synchronous_commit = off; delete from ledger.receipts where key in (select key from ledger.receipts \
             where created_at < '{older_than}'::timestamptz order by created_at limit {limit} for update skip locked) \
             returning 1 as gone; commit;",
            connection::begin(self.address.is_pooled())
        );
        let rows = answered(connection.fetch_all(sqlx::raw_sql(&sql))).await?.map_err(error)?;
        self.connection = Some(connection);
        Ok(rows.iter().filter(|row| row.try_column("gone").is_ok()).count())
    }
}

/// The head as it stands.
async fn head(connection: &mut PgConnection) -> Result<Head, StoreError> {
    let sql = "select head.position, head.hash, head.epoch, events.recorded_at \
               from ledger.head left join ledger.events on events.position = head.position where head.id = 1";
    let rows: Vec<PgRow> = answered(connection.fetch_all(sqlx::raw_sql(sql))).await?.map_err(error)?;
    let Some(row) = rows.first() else { return Err(StoreError::Unreadable("the log has no head".to_owned())) };
    let position = reading::number(row, 0)?;
    let recorded_at = reading::column::<Option<Moment>>(row, 3)?.map(|moment| moment.0);
    Ok(Head {
        position,
        hash: reading::bytes(row, 1)?,
        epoch: reading::number(row, 2)?,
        recorded_at: recorded_at_of(position, recorded_at)?,
    })
}

/// When the event at the head was recorded.
fn recorded_at_of(position: u64, found: Option<Timestamp>) -> Result<Timestamp, StoreError> {
    match found {
        Some(time) => Ok(time),
        None if position == 0 => Ok(Timestamp::default()),
        None => Err(StoreError::HistoryCut(format!("the head is at {position}, where there is no event"))),
    }
}

/// Says so where the server does not wait for the disk: then no answer is durable, whatever we do.
async fn warn_if_volatile(connection: &mut PgConnection) -> Result<(), StoreError> {
    for setting in ["fsync", "full_page_writes"] {
        let rows = connection.fetch_all(sqlx::raw_sql(&format!("show {setting}"))).await.map_err(error)?;
        let value: Option<String> = rows.first().map(|row| row.try_get(0)).transpose().map_err(error)?;
        if value.as_deref() == Some("off") {
            tracing::warn!("the server runs with {setting}=off: what is answered may be lost when it crashes");
        }
    }
    Ok(())
}
