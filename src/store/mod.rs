//! The store: one gapless log and what is committed with it. Everything here is about text and bytes; what they mean is the
//! domain's.
//!
//! [`EventStore`] is the trait, with one conformance suite (`tests/suite/conformance/`) that every backend passes. A write is a
//! *turn*: [`EventStore::begin`] takes the head's lock, [`Turn::append`] writes and commits. No two such turns overlap, in any
//! process, so whatever is decided within one is decided on the true head. A turn that assumes its head ([`EventStore::assume`])
//! writes only if that was the true one.

pub mod chain;
mod database;
pub mod postgres;
pub mod sqlite;
mod state;

pub use database::{Database, EitherTurn, Store};

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::future::Future;

use aggregates::client::ClientDetails;
use aggregates::command::ReceiptKey;
use aggregates::event::AggregateKey;
use aggregates::facts::{Fact, FactKey};
use aggregates::ledger::{Key, Loaded, Receipt};
use aggregates::primitives::{ClientId, CommandId, ResellerId, Timestamp};
use aggregates::reseller::Reseller;

/// The version of the aggregates' state in snapshots; another one in the store means: replay.
pub const STATE_VERSION: u32 = 1;

/// The end of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The position of the last event; 0 for an empty log.
    pub position: u64,
    /// The last event's hash; 32 zero bytes for an empty log.
    pub hash: [u8; 32],
    /// How often a writer had to find out what became of a commit.
    pub epoch: u64,
    /// When the last event was recorded.
    pub recorded_at: Timestamp,
}

/// An event as it is stored: the exact texts that are hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its position in the log.
    pub position: u64,
    /// The type of its aggregate.
    pub aggregate_type: Cow<'static, str>,
    /// The id of its aggregate.
    pub aggregate_id: String,
    /// Its number among its aggregate's events.
    pub sequence: u64,
    /// Its type.
    pub event_type: Cow<'static, str>,
    /// Its version.
    pub event_version: Cow<'static, str>,
    /// Its payload, JSON text.
    pub payload: String,
    /// Its metadata, JSON text.
    pub metadata: String,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// The hash of everything up to and including it.
    pub hash: [u8; 32],
    /// Who caused it; also in the metadata, here to be searched for.
    pub actor: String,
    /// By which command; also in the metadata, here to be searched for.
    pub command_id: CommandId,
}

/// The state of an aggregate after its last event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Which aggregate.
    pub key: AggregateKey,
    /// The number of its last event.
    pub sequence: u64,
    /// Its state, JSON text.
    pub payload: String,
}

/// Everything that one turn commits together.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The events, gapless from the head on, hashed.
    pub events: Vec<StoredEvent>,
    /// What was answered under idempotency keys.
    pub receipts: Vec<(ReceiptKey, Receipt)>,
    /// The facts that changed, each with the position of the event that changed it. A store that finds a provision's events by
    /// its id folds that fact from them, and writes the others.
    pub facts: BTreeMap<FactKey, (Fact, u64)>,
    /// The aggregates that changed.
    pub snapshots: Vec<SnapshotRow>,
    /// Personal data put beside the log, or erased.
    pub personal_data: Vec<(ClientId, Option<ClientDetails>)>,
    /// The time of this turn; the receipts' `created_at`.
    pub now: Timestamp,
}

impl Batch {
    /// Whether the events follow a head, and one another.
    ///
    /// # Errors
    /// Which one does not. Nothing has been written then.
    fn follows(&self, head: &Head) -> Result<(), StoreError> {
        let mut position = head.position;
        let mut recorded_at = head.recorded_at;
        let mut sequences: hashbrown::HashMap<(&str, &str), u64> = hashbrown::HashMap::new();
        for event in &self.events {
            if event.position != position + 1 {
                return Err(StoreError::Database(format!("event {} does not follow event {position}", event.position)));
            }
            if event.recorded_at < recorded_at && position > 0 {
                return Err(StoreError::Database(format!("event {} is older than the one before it", event.position)));
            }
            let before = sequences.insert((&event.aggregate_type, &event.aggregate_id), event.sequence);
            if before.is_some_and(|before| event.sequence != before + 1) {
                return Err(StoreError::Database(format!("event {} is not its aggregate's next", event.position)));
            }
            position = event.position;
            recorded_at = event.recorded_at;
        }
        Ok(())
    }
}

/// Whether the history up to `expected` is the one we know, where the log ends at `head`.
fn recognise(
    head: &Head,
    expected: &Head,
    hash_at_expected: impl FnOnce() -> Result<Option<[u8; 32]>, StoreError>,
) -> Result<(), StoreError> {
    if head.position < expected.position {
        return Err(StoreError::HistoryCut(format!(
            "the log ends at {}, and {} has been seen",
            head.position, expected.position
        )));
    }
    let hash = if head.position == expected.position {
        head.hash
    } else if expected.position == 0 {
        [0; 32]
    } else {
        hash_at_expected()?
            .ok_or_else(|| StoreError::HistoryCut(format!("event {} is no longer in the log", expected.position)))?
    };
    if hash == expected.hash {
        Ok(())
    } else {
        Err(StoreError::HistoryCut(format!("event {} has another hash than was seen", expected.position)))
    }
}

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What a turn without the lock had assumed is not so; nothing was written. The same in a turn that holds it settles that.
    #[error("overtaken: {0}")]
    Overtaken(String),
    /// Another process held the head for too long; nothing was done.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// The head is behind ours, or another hash stands at our position: this history is not the one we know.
    #[error("history was cut: {0}")]
    HistoryCut(String),
    /// The store holds something that this version cannot read.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// The schema is newer than this version.
    #[error("{0}")]
    Schema(String),
    /// Anything else the database says. After one of these in `append` it is not known whether the commit happened.
    #[error("{0}")]
    Database(String),
}

/// The log and what is committed with it. One value is one connection for writing.
pub trait EventStore: Send + 'static {
    /// A turn at the head.
    type Turn<'store>: Turn
    where
        Self: 'store;

    /// What the keys hold, read in one snapshot outside of any turn.
    fn load(&mut self, keys: &[Key]) -> impl Future<Output = Result<Vec<(Key, Loaded)>, StoreError>> + Send;

    /// The head, and every reseller at exactly that head; for the network at start.
    fn resellers(
        &mut self,
        each: &mut (dyn FnMut(ResellerId, u64, Reseller) + Send),
    ) -> impl Future<Output = Result<Head, StoreError>> + Send;

    /// Takes the head's lock. `receipts` are the keys that [`Turn::receipts`] is going to be asked for: a store that is a round
    /// trip away reads them along with the lock, and the tail after `expected` too.
    ///
    /// # Errors
    /// [`StoreError::HistoryCut`] where the history up to `expected` is not the one we know; [`StoreError::Busy`] where the
    /// lock could not be had in time. Either way the lock is free again.
    fn begin(
        &mut self,
        expected: &Head,
        receipts: &[ReceiptKey],
    ) -> impl Future<Output = Result<Self::Turn<'_>, StoreError>> + Send;

    /// A turn without the lock, at a head that was seen just now, for a writer who seems to be alone: it takes for granted that
    /// the head is still `expected`, and that there is no receipt under any key it is asked for. All of that is asked for again
    /// in the commit itself, under the lock, and [`Turn::append`] writes nothing where it is not so.
    ///
    /// `None` where the lock is as near as anything else, where others write, and from time to time: what is seen under the
    /// lock must not be long ago. Never an error: whatever is wrong, a turn that takes the lock finds out.
    fn assume(&mut self, expected: &Head) -> Option<Self::Turn<'_>>;

    /// After an append that failed: with a new connection, takes the head's lock (which waits for the transaction in doubt),
    /// commits a new epoch, and only then reads which of these commands are in the log after the position that was held before
    /// the doubtful batch. What it says is definite.
    fn resolve(
        &mut self,
        after: u64,
        commands: &[CommandId],
    ) -> impl Future<Output = Result<(Head, HashSet<CommandId>), StoreError>> + Send;

    /// Events after a position, at most `limit`, in order; outside of any turn.
    fn read(&mut self, after: u64, limit: usize) -> impl Future<Output = Result<Vec<StoredEvent>, StoreError>> + Send;

    /// Deletes receipts created before a time, oldest first, looking at no more than `limit`; says how many went. Between
    /// two turns, a few at a time: a commit of its own, for which the next turn waits.
    fn expire_receipts(
        &mut self,
        older_than: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}

/// The head's lock, held, or to be taken by the append ([`EventStore::assume`]). Dropping it lets go and changes nothing.
pub trait Turn: Send {
    /// The true head; of an assumed turn the one that its append insists on.
    fn head(&self) -> &Head;

    /// Whether the lock is not held, and what is decided here is good for nothing until [`Turn::append`] has written it: not
    /// even a refusal. It writes only where there are events.
    fn is_assumed(&self) -> bool;

    /// The time by a clock that all nodes share, taken under the lock; `None` where there is none but each node's own.
    fn now(&self) -> Option<Timestamp>;

    /// Events after a position, at most `limit`, in order.
    ///
    /// # Errors
    /// As [`Turn::load`].
    fn read(&mut self, after: u64, limit: usize) -> impl Future<Output = Result<Vec<StoredEvent>, StoreError>> + Send;

    /// What the keys hold, read under the lock.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] of an assumed turn, always: what another node is about to write, and may yet lose, must not get
    /// into a memory that stands at an older head.
    fn load(&mut self, keys: &[Key]) -> impl Future<Output = Result<Vec<(Key, Loaded)>, StoreError>> + Send;

    /// The receipts under these keys, read under the lock; keys without one are left out. An assumed turn says that there are
    /// none, and its append sees to it.
    fn receipts(
        &mut self,
        keys: &[ReceiptKey],
    ) -> impl Future<Output = Result<Vec<(ReceiptKey, Receipt)>, StoreError>> + Send;

    /// Writes the batch, moves the head to its last event, and commits: all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`], of an assumed turn only: nothing was written. Any other error leaves it unknown whether the
    /// commit happened; see [`EventStore::resolve`].
    fn append(self, batch: &Batch) -> impl Future<Output = Result<(), StoreError>> + Send;
}
