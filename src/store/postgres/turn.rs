//! A turn at the head: one transaction from `begin` to `append`, or to nothing; or none at all until `append`.
//!
//! One round trip where the head is assumed: the batch, which is a transaction of its own. Three where the lock is taken: the
//! lock, with whatever is read right after it; the batch; the commit. One more for the receipts of commands that came while the
//! lock was waited for. The lock comes first and everything else in later statements of the same message, because each statement
//! sees what was committed when it began: one that waited for the lock would otherwise read what there was before it waited.

use std::fmt::Write;
use std::time::Instant;

use aggregates::command::ReceiptKey;
use aggregates::ledger::{Key, Loaded, Receipt};
use aggregates::primitives::Timestamp;
use sqlx::postgres::PgConnection;
use sqlx::{Column, Executor, Row};

use super::address::Address;
use super::connection::{self, answered, doubtful, error};
use super::moment::Moment;
use super::reading::{bytes, column, number, receipt, stored_event};
use super::{PostgresStore, append, reading};
use crate::store::{Batch, Head, StoreError, StoredEvent, Turn};

/// The head's lock, held by an open transaction; or a head that is taken for granted.
pub struct PostgresTurn<'store> {
    store: &'store mut PostgresStore,
    /// Gone once the turn is over.
    connection: Option<PgConnection>,
    /// Whether no transaction is open, and the lock is the append's to take.
    is_assumed: bool,
    seen: Seen,
    /// From where on the tail was read.
    after: u64,
    /// The keys whose receipts were read; in an assumed turn those that must have none.
    keys: Vec<ReceiptKey>,
}

/// What came with the lock.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) head: Head,
    /// The database's time, taken after the lock was had.
    pub(super) now: Timestamp,
    /// The hash at the position that was expected, if there is an event.
    pub(super) expected_hash: Option<[u8; 32]>,
    /// Handed out once.
    tail: Option<Vec<StoredEvent>>,
    receipts: Vec<(ReceiptKey, Receipt)>,
}

/// The queue comes before the lock: of those who wait for a row whoever is quickest gets it, and a node that has just committed
/// is quicker than one that must be woken, again and again. An advisory lock is handed on to whoever waits longest, and the
/// node that asks anew stands behind it. The row is locked all the same: it is what keeps out those who do not queue. (The
/// number is `tallytrx`, and nobody else's.)
pub(super) const QUEUE: &str = "select pg_advisory_xact_lock(8386103194290516600)";
const IN_TURN: Prepared = Prepared("tallytree_queue", "", QUEUE);
const LOCK: Prepared =
    Prepared("tallytree_lock", "", "select position as head, hash, epoch from ledger.head where id = 1 for update");
const CLOCK: Prepared = Prepared(
    "tallytree_clock",
    "bigint",
    "select clock_timestamp() as clock, \
     (select recorded_at from ledger.events where position = (select position from ledger.head where id = 1)), \
     (select hash from ledger.events where position = $1)",
);
const TAIL: Prepared = Prepared(
    "tallytree_tail",
    "bigint",
    "select 1 as event, position, aggregate_type, aggregate_id, sequence, event_type, event_version, \
     cast(payload as text), cast(metadata as text), recorded_at, hash, actor, command_id \
     from ledger.events where position > $1 order by position limit 1000",
);
const RECEIPTS: Prepared = Prepared(
    "tallytree_receipts",
    "bytea[]",
    "select 1 as receipt, key, fingerprint, position, answer from ledger.receipts where key = any($1)",
);

/// What a turn begins with: each a name, its parameters' types, and its text. The first column's name tells the rows apart.
///
/// They are executed by name in one message, since sqlx sends one prepared statement at a time; planning them anew each time
/// would cost more than all the rest. Behind a pooler that is what happens.
struct Prepared(&'static str, &'static str, &'static str);

impl Prepared {
    fn prepare(&self) -> String {
        let Self(name, parameters, text) = self;
        let parameters = if parameters.is_empty() { String::new() } else { format!("({parameters})") };
        format!("prepare {name}{parameters} as {text};")
    }

    /// Its execution with a parameter that is written out.
    fn execute(&self, pooled: bool, parameter: &str) -> String {
        let Self(name, parameters, text) = self;
        match (pooled, parameters.is_empty()) {
            (true, _) => format!("{};", text.replace("$1", &format!("{parameter}::{parameters}"))),
            (false, true) => format!("execute {name};"),
            (false, false) => format!("execute {name}({parameter});"),
        }
    }
}

/// A connection that knows the statements of a turn.
pub(super) async fn connect(address: &Address) -> Result<PgConnection, StoreError> {
    let prepared: String = [IN_TURN, LOCK, CLOCK, TAIL, RECEIPTS].iter().map(Prepared::prepare).collect();
    connection::open(address, &prepared).await
}

/// Keys as PostgreSQL writes an array of bytes.
fn array(keys: &[ReceiptKey]) -> Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(4 + keys.len() * 37);
    text.push_str("'{");
    for (number, key) in keys.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(text, "{comma}\\\\x{:032x}", u128::from_be_bytes(*key))?;
    }
    text.push_str("}'");
    Ok(text)
}

/// Takes the lock, and reads.
pub(super) async fn lock(
    connection: &mut PgConnection,
    pooled: bool,
    expected: &Head,
    keys: &[ReceiptKey],
) -> Result<Seen, StoreError> {
    // Nothing in here comes from outside but numbers and bytes.
    let mut sql = connection::begin(pooled);
    let after = expected.position.to_string();
    sql.push_str(&IN_TURN.execute(pooled, ""));
    sql.push_str(&LOCK.execute(pooled, ""));
    sql.push_str(&CLOCK.execute(pooled, &after));
    sql.push_str(&TAIL.execute(pooled, &after));
    if !keys.is_empty() {
        let keys = array(keys).map_err(|cause| StoreError::Database(cause.to_string()))?;
        sql.push_str(&RECEIPTS.execute(pooled, &keys));
    }
    let rows = answered(connection.fetch_all(sqlx::raw_sql(&sql))).await?.map_err(error)?;
    let (mut head, mut clock) = (None, None);
    let (mut tail, mut receipts) = (Vec::new(), Vec::new());
    for row in &rows {
        match row.columns().first().map(Column::name) {
            Some("head") => head = Some((number(row, 0)?, bytes(row, 1)?, number(row, 2)?)),
            Some("clock") => {
                let recorded_at = column::<Option<Moment>>(row, 1)?.map(|moment| moment.0);
                let expected_hash = column::<Option<Vec<u8>>>(row, 2)?.is_some().then(|| bytes(row, 2)).transpose()?;
                clock = Some((column::<Moment>(row, 0)?.0, recorded_at, expected_hash));
            }
            Some("event") => tail.push(stored_event(row, 1)?),
            Some("receipt") => receipts.push(receipt(row, 1)?),
            // What a setting was set to; that it is our turn.
            _ => {}
        }
    }
    let (Some((position, hash, epoch)), Some((now, recorded_at, expected_hash))) = (head, clock) else {
        return Err(StoreError::Unreadable("the log has no head".to_owned()));
    };
    let recorded_at = super::recorded_at_of(position, recorded_at)?;
    let tail = Some(tail);
    Ok(Seen { head: Head { position, hash, epoch, recorded_at }, now, expected_hash, tail, receipts })
}

impl<'store> PostgresTurn<'store> {
    /// On a connection whose transaction holds the lock.
    pub(super) fn new(
        store: &'store mut PostgresStore,
        connection: PgConnection,
        seen: Seen,
        after: u64,
        keys: &[ReceiptKey],
    ) -> Self {
        Self { store, connection: Some(connection), is_assumed: false, seen, after, keys: keys.to_vec() }
    }

    /// On a connection outside of any transaction, at a head that was seen a moment ago.
    pub(super) fn assumed(
        store: &'store mut PostgresStore,
        connection: PgConnection,
        head: Head,
        now: Timestamp,
    ) -> Self {
        let after = head.position;
        let seen = Seen { head, now, expected_hash: None, tail: None, receipts: Vec::new() };
        Self { store, connection: Some(connection), is_assumed: true, seen, after, keys: Vec::new() }
    }

    fn parts(&mut self) -> Result<(&mut PgConnection, bool), StoreError> {
        let pooled = self.store.address.is_pooled();
        match &mut self.connection {
            Some(connection) => Ok((connection, pooled)),
            None => Err(StoreError::Database("the turn is over".to_owned())),
        }
    }

    /// Whether the lock is held.
    fn may_read(&self) -> Result<(), StoreError> {
        if self.is_assumed {
            return Err(StoreError::Overtaken("what is not in memory is read under the lock".to_owned()));
        }
        Ok(())
    }

    /// What was read with the lock, where it is all that is asked for.
    fn known_tail(&mut self, after: u64, limit: usize) -> Option<Vec<StoredEvent>> {
        let head = self.seen.head.position;
        let is_all = |tail: &mut Vec<StoredEvent>| {
            tail.len() <= limit && tail.last().map_or(head <= after, |last| last.position >= head)
        };
        if after == self.after { self.seen.tail.take_if(is_all) } else { None }
    }
}

impl std::fmt::Debug for PostgresTurn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresTurn").field("head", &self.seen.head).finish_non_exhaustive()
    }
}

impl Drop for PostgresTurn<'_> {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(connection) if self.is_assumed => self.store.connection = Some(connection),
            Some(connection) => self.store.abandon(connection),
            None => {}
        }
    }
}

impl Turn for PostgresTurn<'_> {
    fn head(&self) -> &Head {
        &self.seen.head
    }

    fn is_assumed(&self) -> bool {
        self.is_assumed
    }

    fn now(&self) -> Option<Timestamp> {
        Some(self.seen.now)
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.may_read()?;
        if let Some(known) = self.known_tail(after, limit) {
            return Ok(known);
        }
        let (connection, pooled) = self.parts()?;
        reading::events(connection, pooled, after, limit).await
    }

    async fn load(&mut self, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
        self.may_read()?;
        let (connection, pooled) = self.parts()?;
        reading::load(connection, pooled, keys).await
    }

    async fn receipts(&mut self, keys: &[ReceiptKey]) -> Result<Vec<(ReceiptKey, Receipt)>, StoreError> {
        if self.is_assumed {
            self.keys.extend(keys);
            return Ok(Vec::new());
        }
        if keys == self.keys {
            return Ok(self.seen.receipts.clone());
        }
        let (connection, pooled) = self.parts()?;
        reading::receipts(connection, pooled, keys).await
    }

    async fn append(mut self, batch: &Batch) -> Result<(), StoreError> {
        batch.follows(&self.seen.head)?;
        let pooled = self.store.address.is_pooled();
        let Some(mut connection) = self.connection.take() else {
            return Err(StoreError::Database("the turn is over".to_owned()));
        };
        if self.is_assumed {
            let written = append::write_assumed(&mut connection, &self.seen, batch, &self.keys).await;
            if let Ok(()) | Err(StoreError::Overtaken(_)) = written {
                self.store.connection = Some(connection);
            }
            if written.is_err() {
                self.store.solitude.disturb(Instant::now());
            }
            return written;
        }
        // After an error in here the connection is dropped, and its transaction with it: a COMMIT after a failed statement
        // would "succeed" as a rollback.
        append::write(&mut connection, pooled, &self.seen.head, batch).await?;
        answered(connection.execute(sqlx::raw_sql("commit"))).await?.map_err(doubtful)?;
        self.store.connection = Some(connection);
        Ok(())
    }
}
