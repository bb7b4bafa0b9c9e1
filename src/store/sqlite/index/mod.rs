//! The index: where things stand in `ledger.db`, by key. It lags behind the log and never makes it wait.
//!
//! Shape: `index.db` (an aggregate's events, a key's receipt, a provision's events, aggregates' snapshots) and a [`Tail`] in
//! memory: what was committed since. What is asked for is looked up in the tail, then in the file. A [`Keeper`] on a thread of its
//! own moves the tail into the file, thousands of keys at once and in their order; once it has, the tail forgets them.
//!
//! Why: keys are random. An insert by key dirties a page of its own, and in `ledger.db` each such page went through the log's
//! commit: three of four pages of a commit were index pages. Provisions' facts were a third of those that were left.
//!
//! Truth: everything here follows from `ledger.db`. The file says which history it belongs to; where that is not the one at
//! hand (an older copy was put back) the store is not opened until somebody has decided which of the two is to stand. Each
//! process that shares the store keeps its own tail, and takes in what others have committed when it holds the head's lock;
//! whichever keeper comes first moves the file on.

mod keeper;
mod provisions;
mod tail;

use std::path::Path;

use aggregates::command::ReceiptKey;
use aggregates::event::AggregateKey;
use aggregates::primitives::ProvisionId;
use rusqlite::{Connection, OptionalExtension, params};

use super::connection::error;
use super::{reading, schema};
use crate::store::{Batch, STATE_VERSION, StoreError, StoredEvent};
use keeper::{Keeper, Progress};
pub(super) use provisions::Change;
use tail::Tail;

/// If the keeper cannot work, so much may wait in memory; beyond it no turn is given.
const WAITING_MAX: usize = 1_000_000;

/// A snapshot as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) payload: String,
    pub(super) sequence: u64,
    /// The head it was committed with.
    pub(super) position: u64,
}

/// The index of one store, as one writer uses it.
#[derive(Debug)]
pub(super) struct Index {
    connection: Connection,
    tail: Tail,
    keeper: Keeper,
}

impl Index {
    /// Opens the index and brings it up to the log's end. Blocks.
    ///
    /// # Errors
    /// [`StoreError::HistoryCut`] where it belongs to another history than the ledger's.
    pub(super) fn open(dir: &Path, ledger: &Connection) -> Result<Self, StoreError> {
        let connection = keeper::open(&schema::index_path(dir))?;
        let progress = keeper::bring_up(ledger, &connection)?;
        let keeper = Keeper::start(dir.to_owned(), &progress)?;
        let mut index = Self { connection, tail: Tail::after(&progress), keeper };
        index.sync(ledger)?;
        Ok(index)
    }

    /// Takes in what is in the ledger and not yet here: after this, and until the lock is let go, the index is complete.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where the keeper has been unable to work for very long; else what the database says.
    pub(super) fn sync(&mut self, ledger: &Connection) -> Result<(), StoreError> {
        // The keeper of another process, or an idle moment, may have brought the file further than our keeper knows.
        self.tail.forget(self.keeper.position(), self.keeper.receipt());
        if self.tail.len() > WAITING_MAX {
            return Err(StoreError::Busy("the index has fallen too far behind".to_owned()));
        }
        self.tail.take_in(ledger)
    }

    /// Drops what is in memory and begins again from what the keeper has done: after a commit whose fate was not known.
    pub(super) fn reset(&mut self, ledger: &Connection) -> Result<(), StoreError> {
        self.tail = Tail::after(&progress(&self.connection)?);
        self.tail.take_in(ledger)
    }

    /// The number that the next receipt gets, for whoever holds the head's lock. Receipts that another process wrote and that have
    /// expired since are in no ledger and no tail any more, but the file has counted them: it knows every one that was dropped.
    pub(super) fn next_receipt(&self) -> Result<u64, StoreError> {
        Ok(self.tail.receipt().max(progress(&self.connection)?.receipt) + 1)
    }

    /// Whether each event's sequence is its aggregate's next, and no receipt's key is taken, twice in the batch included. Answers
    /// with what the events do to provisions, for [`Self::committed`]: what cannot be read must not be written.
    ///
    /// # Errors
    /// Which one is not. Nothing has been written then.
    pub(super) fn check(&self, batch: &Batch, absent: &[ReceiptKey]) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::with_capacity(batch.events.len());
        let mut last: hashbrown::HashMap<(&str, &str), u64> = hashbrown::HashMap::new();
        for event in &batch.events {
            let stream = (event.aggregate_type.as_ref(), event.aggregate_id.as_str());
            let last = match last.entry(stream) {
                hashbrown::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                hashbrown::hash_map::Entry::Vacant(entry) => entry.insert(self.last_sequence(stream.0, stream.1)?),
            };
            if event.sequence != *last + 1 {
                return Err(StoreError::Database(format!(
                    "event {} of {} {} does not follow its event {last}",
                    event.sequence, stream.0, stream.1
                )));
            }
            *last = event.sequence;
            changes.extend(Change::of_event(event)?);
        }
        let mut keys = hashbrown::HashSet::with_capacity(batch.receipts.len());
        for (key, _) in &batch.receipts {
            let taken = !keys.insert(key) || (absent.binary_search(key).is_err() && self.receipt(key)?.is_some());
            if taken {
                return Err(StoreError::Database("a receipt's key is taken".to_owned()));
            }
        }
        Ok(changes)
    }

    /// Takes in what was just committed, its receipts numbered from `first_receipt` on, and what [`Self::check`] has answered.
    pub(super) fn committed(&mut self, batch: &Batch, first_receipt: u64, changes: &[Change]) {
        for event in &batch.events {
            self.tail.event(event.aggregate_type.clone(), event.aggregate_id.clone(), event.sequence, event.position);
        }
        for change in changes {
            self.tail.provision(change);
        }
        for ((key, _), id) in batch.receipts.iter().zip(first_receipt..) {
            self.tail.receipted(*key, id);
        }
        let position = batch.events.last().map_or(self.tail.position(), |event: &StoredEvent| event.position);
        self.keeper.committed(&batch.snapshots, position, self.tail.len());
    }

    /// Runs look-ups in one read transaction: each on its own would take and leave the file's lock.
    pub(super) fn at_once<T>(&self, look_up: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let run =
            |sql| self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([])).map_err(error);
        run("begin")?;
        let found = look_up();
        run("commit")?;
        found
    }

    /// The receipt that a key has, or had until it expired.
    pub(super) fn receipt(&self, key: &ReceiptKey) -> Result<Option<u64>, StoreError> {
        if let Some(id) = self.tail.receipt_of(key) {
            return Ok(Some(id));
        }
        self.connection
            .prepare_cached("select receipt from receipt_keys where key = ?1")
            .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
            .map_err(error)
    }

    /// Sees to it that the file holds this receipt. One that has expired the keeper, which is a second behind, has put there long
    /// ago; only where a clock skips days it has not, and the file is moved up here.
    ///
    /// # Errors
    /// What the database says.
    pub(super) fn hold_receipt(&mut self, ledger: &Connection, id: u64) -> Result<(), StoreError> {
        self.tail.forget(self.keeper.position(), self.keeper.receipt());
        if self.tail.indexed_receipt() < id {
            let progress = keeper::bring_up(ledger, &self.connection)?;
            self.tail.forget(progress.position, progress.receipt);
        }
        Ok(())
    }

    /// Forgets the keys of receipts that are gone.
    pub(super) fn expired(&mut self, gone: Vec<(u64, ReceiptKey)>) {
        for (id, key) in &gone {
            self.tail.expired(key, *id);
        }
        self.keeper.expired(gone);
    }

    /// Where the events stand that a provision's fact is the fold of, in order; none where there is no such provision.
    pub(super) fn provision(&self, id: ProvisionId) -> Result<impl Iterator<Item = u64>, StoreError> {
        let here = self.tail.places_of(id);
        let places = if here.is_whole() { here } else { here.after(provisions::read(&self.connection, id)?) };
        Ok(places.positions())
    }

    /// The number of an aggregate's last event; 0 for none.
    fn last_sequence(&self, aggregate_type: &str, aggregate_id: &str) -> Result<u64, StoreError> {
        if let Some(sequence) = self.tail.last_sequence(aggregate_type, aggregate_id) {
            return Ok(sequence);
        }
        self.connection
            .prepare_cached(
                "select coalesce(max(sequence), 0) from streams where aggregate_type = ?1 and aggregate_id = ?2",
            )
            .and_then(|mut statement| statement.query_row([aggregate_type, aggregate_id], |row| row.get(0)))
            .map_err(error)
    }

    /// Where an aggregate's events after a sequence stand, in order.
    pub(super) fn positions(&self, key: &AggregateKey, after: u64) -> Result<Vec<u64>, StoreError> {
        let id = key.aggregate_id();
        let mut statement = self
            .connection
            .prepare_cached(
                "select sequence, position from streams \
                 where aggregate_type = ?1 and aggregate_id = ?2 and sequence > ?3 order by sequence",
            )
            .map_err(error)?;
        let mut rows = statement.query(params![key.aggregate_type(), id, after]).map_err(error)?;
        let (mut last, mut positions) = (after, Vec::new());
        while let Some(row) = rows.next().map_err(error)? {
            last = row.get(0).map_err(error)?;
            positions.push(row.get(1).map_err(error)?);
        }
        // The keeper may have moved what the tail still holds.
        positions.extend(self.tail.positions(key.aggregate_type(), &id, last));
        Ok(positions)
    }

    /// The latest snapshot of an aggregate that there is, of this version.
    pub(super) fn snapshot(&self, key: &AggregateKey) -> Result<Option<Snapshot>, StoreError> {
        if let Some(snapshot) = self.keeper.waiting(key) {
            return Ok(Some(snapshot));
        }
        self.connection
            .prepare_cached(
                "select payload, last_sequence, position from snapshots \
                 where aggregate_type = ?1 and aggregate_id = ?2 and state_version = ?3",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![key.aggregate_type(), key.aggregate_id(), STATE_VERSION], |row| {
                        Ok(Snapshot { payload: row.get(0)?, sequence: row.get(1)?, position: row.get(2)? })
                    })
                    .optional()
            })
            .map_err(error)
    }

    /// Every aggregate of a type that has an event, with the number of its last one as far as the index knows.
    pub(super) fn aggregates(&self, aggregate_type: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let mut last: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
        let mut statement = self
            .connection
            .prepare("select aggregate_id, max(sequence) from streams where aggregate_type = ?1 group by aggregate_id")
            .map_err(error)?;
        let mut rows = statement.query([aggregate_type]).map_err(error)?;
        while let Some(row) = rows.next().map_err(error)? {
            last.insert(row.get(0).map_err(error)?, row.get(1).map_err(error)?);
        }
        for (id, sequence) in self.tail.aggregates(aggregate_type) {
            let held = last.entry(id.to_owned()).or_default();
            *held = sequence.max(*held);
        }
        Ok(last.into_iter().collect())
    }

    /// Every snapshot of a type: id, number of the last event in it, payload. Those of another version are left out.
    pub(super) fn snapshots(
        &self,
        aggregate_type: &str,
        each: &mut dyn FnMut(String, u64, &str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut statement = self
            .connection
            .prepare(
                "select aggregate_id, last_sequence, payload from snapshots \
                 where aggregate_type = ?1 and state_version = ?2",
            )
            .map_err(error)?;
        let mut rows = statement.query(params![aggregate_type, STATE_VERSION]).map_err(error)?;
        while let Some(row) = rows.next().map_err(error)? {
            let payload = row.get_ref(2).and_then(|value| Ok(value.as_str()?)).map_err(error)?;
            each(row.get(0).map_err(error)?, row.get(1).map_err(error)?, payload)?;
        }
        Ok(())
    }
}

/// How far the file has come.
fn progress(index: &Connection) -> Result<Progress, StoreError> {
    index
        .prepare_cached("select position, hash, receipt, receipt_key from progress where id = 1")
        .and_then(|mut statement| {
            statement.query_row([], |row| {
                Ok(Progress {
                    position: row.get(0)?,
                    hash: row.get(1)?,
                    receipt: row.get(2)?,
                    receipt_key: row.get(3)?,
                })
            })
        })
        .map_err(error)
}

/// Whether the file was made from this ledger.
fn belongs(ledger: &Connection, progress: &Progress) -> Result<bool, StoreError> {
    let same_events = match progress.position {
        0 => true,
        position => reading::hash_at(ledger, position)? == Some(progress.hash),
    };
    // Where that receipt is gone it has expired: numbers go on from here, so none is taken for another.
    let key: Option<Vec<u8>> = ledger
        .query_row("select key from receipts where id = ?1", [progress.receipt], |row| row.get(0))
        .optional()
        .map_err(error)?;
    let same_receipts = key.is_none_or(|key| key == progress.receipt_key);
    Ok(same_events && same_receipts)
}
