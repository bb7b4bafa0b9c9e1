//! What was committed and is not in the file yet, by key.
//!
//! Cost: two hash look-ups an event, one a receipt, one a provision or refund. Memory: some hundred bytes for each; the keeper runs
//! once a second, or when 32 768 of them wait, so it is some tens of thousands under full load.

use std::borrow::Cow;

use aggregates::command::ReceiptKey;
use aggregates::primitives::ProvisionId;
use hashbrown::{Equivalent, HashMap};
use rusqlite::Connection;

use super::keeper::Progress;
use super::provisions::{Change, Places};
use crate::store::StoreError;
use crate::store::sqlite::connection::error;

/// An aggregate, as the log names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stream {
    aggregate_type: Cow<'static, str>,
    aggregate_id: String,
}

/// The same by reference. Hashes as [`Stream`] does: both hash their texts in this order.
#[derive(Debug, PartialEq, Eq, Hash)]
struct StreamRef<'key> {
    aggregate_type: &'key str,
    aggregate_id: &'key str,
}

impl Equivalent<Stream> for StreamRef<'_> {
    fn equivalent(&self, stream: &Stream) -> bool {
        self.aggregate_type == stream.aggregate_type && self.aggregate_id == stream.aggregate_id
    }
}

/// An event of an aggregate.
#[derive(Debug, Clone, Copy)]
struct Entry {
    sequence: u64,
    position: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The last event that was taken in.
    position: u64,
    /// The last receipt that was taken in.
    receipt: u64,
    streams: HashMap<Stream, Vec<Entry>>,
    receipts: HashMap<ReceiptKey, u64>,
    provisions: HashMap<ProvisionId, Places>,
    /// What is known to be in the file, and no longer here.
    forgotten: (u64, u64),
}

impl Tail {
    /// An empty one that follows the file.
    pub(super) fn after(progress: &Progress) -> Self {
        Self {
            position: progress.position,
            receipt: progress.receipt,
            forgotten: (progress.position, progress.receipt),
            ..Self::default()
        }
    }

    /// The last event that was taken in.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The last receipt that was taken in.
    pub(super) fn receipt(&self) -> u64 {
        self.receipt
    }

    /// The last receipt that is known to be in the file.
    pub(super) fn indexed_receipt(&self) -> u64 {
        self.forgotten.1
    }

    /// How many events and receipts wait for the keeper.
    pub(super) fn len(&self) -> usize {
        let (position, receipt) = self.forgotten;
        let waiting = self.position.saturating_sub(position) + self.receipt.saturating_sub(receipt);
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    /// Takes in an event.
    pub(super) fn event(
        &mut self,
        aggregate_type: Cow<'static, str>,
        aggregate_id: String,
        sequence: u64,
        position: u64,
    ) {
        let entry = Entry { sequence, position };
        let key = StreamRef { aggregate_type: &aggregate_type, aggregate_id: &aggregate_id };
        match self.streams.get_mut(&key) {
            Some(entries) => entries.push(entry),
            None => {
                self.streams.insert(Stream { aggregate_type, aggregate_id }, vec![entry]);
            }
        }
        self.position = self.position.max(position);
    }

    /// Takes in what an event does to a provision.
    pub(super) fn provision(&mut self, change: &Change) {
        self.provisions.entry(change.id).or_default().take_in(change);
    }

    /// Takes in a receipt.
    pub(super) fn receipted(&mut self, key: ReceiptKey, id: u64) {
        self.receipts.insert(key, id);
        self.receipt = self.receipt.max(id);
    }

    /// Takes in everything in the ledger that it has not seen.
    pub(super) fn take_in(&mut self, ledger: &Connection) -> Result<(), StoreError> {
        {
            let mut statement = ledger
                .prepare_cached(
                    "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload \
                     from events where position > ?1 order by position",
                )
                .map_err(error)?;
            let mut rows = statement.query([self.position]).map_err(error)?;
            while let Some(row) = rows.next().map_err(error)? {
                let aggregate_type: String = row.get(1).map_err(error)?;
                let (position, sequence) = (row.get(0).map_err(error)?, row.get(3).map_err(error)?);
                // First: where it cannot be read, the event is not taken in, and read again the next time.
                if let Some(change) = Change::of_row(row, 4, &aggregate_type, position)? {
                    self.provision(&change);
                }
                self.event(aggregate_type.into(), row.get(2).map_err(error)?, sequence, position);
            }
        }
        let mut statement =
            ledger.prepare_cached("select id, key from receipts where id > ?1 order by id").map_err(error)?;
        let mut rows = statement.query([self.receipt]).map_err(error)?;
        while let Some(row) = rows.next().map_err(error)? {
            self.receipted(row.get(1).map_err(error)?, row.get(0).map_err(error)?);
        }
        Ok(())
    }

    /// Forgets what is in the file, up to this event and this receipt.
    pub(super) fn forget(&mut self, position: u64, receipt: u64) {
        let (position, receipt) = (position.max(self.forgotten.0), receipt.max(self.forgotten.1));
        if self.forgotten == (position, receipt) {
            return;
        }
        self.forgotten = (position, receipt);
        self.streams.retain(|_, entries| {
            entries.retain(|entry| entry.position > position);
            !entries.is_empty()
        });
        self.receipts.retain(|_, id| *id > receipt);
        self.provisions.retain(|_, places| places.forget(position));
        // Another process's keeper may be further than what was taken in here.
        self.position = self.position.max(position);
        self.receipt = self.receipt.max(receipt);
    }

    /// Forgets a receipt that is gone.
    pub(super) fn expired(&mut self, key: &ReceiptKey, id: u64) {
        if self.receipts.get(key) == Some(&id) {
            self.receipts.remove(key);
        }
    }

    /// The receipt of a key.
    pub(super) fn receipt_of(&self, key: &ReceiptKey) -> Option<u64> {
        self.receipts.get(key).copied()
    }

    /// Where a provision's events stand, as far as they are here.
    pub(super) fn places_of(&self, provision: ProvisionId) -> Places {
        self.provisions.get(&provision).copied().unwrap_or_default()
    }

    /// The number of an aggregate's last event, if that one is here.
    pub(super) fn last_sequence(&self, aggregate_type: &str, aggregate_id: &str) -> Option<u64> {
        let entries = self.streams.get(&StreamRef { aggregate_type, aggregate_id })?;
        entries.last().map(|entry| entry.sequence)
    }

    /// Where an aggregate's events after a sequence stand.
    pub(super) fn positions(&self, aggregate_type: &str, aggregate_id: &str, after: u64) -> impl Iterator<Item = u64> {
        let entries = self.streams.get(&StreamRef { aggregate_type, aggregate_id });
        entries.into_iter().flatten().filter(move |entry| entry.sequence > after).map(|entry| entry.position)
    }

    /// The aggregates of a type that have an event here, with the number of their last one.
    pub(super) fn aggregates(&self, aggregate_type: &str) -> impl Iterator<Item = (&str, u64)> {
        self.streams
            .iter()
            .filter(move |(stream, _)| stream.aggregate_type == aggregate_type)
            .filter_map(|(stream, entries)| Some((stream.aggregate_id.as_str(), entries.last()?.sequence)))
    }
}
