//! What idempotency keys were answered before: by the store, and earlier in this very batch.
//!
//! Read under the head's lock in one call for all keys of a batch, so that what is not here has never been answered; or, at an
//! assumed head, said not to be there, and the append sees to that. A key belongs to whoever used it first; a later use in the
//! same batch gets the first one's answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use aggregates::command::{Command, CommandEnvelope, ReceiptKey};
use aggregates::ledger::{Receipt, Receipts};

/// Where a receipt is kept.
#[derive(Debug)]
enum Slot {
    /// It was in the store.
    Stored(Receipt),
    /// It is made in this batch: its place in `made`.
    Made(usize),
}

/// The receipts that one turn knows.
#[derive(Debug, Default)]
pub(super) struct KnownReceipts {
    slots: HashMap<ReceiptKey, Slot>,
    made: Vec<(ReceiptKey, Receipt)>,
}

impl KnownReceipts {
    /// What the store held.
    pub(super) fn stored(found: Vec<(ReceiptKey, Receipt)>) -> Self {
        let slots = found.into_iter().map(|(key, receipt)| (key, Slot::Stored(receipt))).collect();
        Self { slots, made: Vec::new() }
    }

    /// Remembers an answer. A key that has been answered keeps its first answer.
    pub(super) fn remember(&mut self, key: ReceiptKey, receipt: Receipt) {
        if let Entry::Vacant(entry) = self.slots.entry(key) {
            entry.insert(Slot::Made(self.made.len()));
            self.made.push((key, receipt));
        }
    }

    /// The receipts made in this batch, in the order in which they were made.
    pub(super) fn into_made(self) -> Vec<(ReceiptKey, Receipt)> {
        self.made
    }
}

impl Receipts for KnownReceipts {
    fn find(&self, key: &ReceiptKey) -> Option<&Receipt> {
        match self.slots.get(key)? {
            Slot::Stored(receipt) => Some(receipt),
            Slot::Made(index) => self.made.get(*index).map(|(_, receipt)| receipt),
        }
    }
}

/// Every key of a batch: those of whole commands and those of a bulk's items.
pub(super) fn keys(envelopes: &[CommandEnvelope]) -> Vec<ReceiptKey> {
    let mut keys = Vec::with_capacity(envelopes.len());
    for envelope in envelopes {
        keys.extend(envelope.idempotency.map(|idempotency| idempotency.key));
        if let Command::ProvisionBulk { items, .. } = &envelope.command {
            keys.extend(items.iter().filter_map(|item| item.idempotency).map(|idempotency| idempotency.key));
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;
    use aggregates::ledger::Remembered;
    use aggregates::rejection::Rejection;

    fn receipt(position: u64) -> Receipt {
        Receipt { fingerprint: [1; 32], outcome: Remembered::Refused(Rejection::Overflow {}), position }
    }

    #[test]
    fn a_key_twice_in_one_batch_keeps_the_first_answer() {
        let mut receipts = KnownReceipts::default();
        receipts.remember([1; 16], receipt(5));
        receipts.remember([1; 16], receipt(6));
        assert_eq!(receipts.find(&[1; 16]).expect("receipt").position, 5);
        assert_eq!(receipts.into_made(), vec![([1; 16], receipt(5))]);
    }

    #[test]
    fn a_stored_answer_is_found_and_not_written_again() {
        let mut receipts = KnownReceipts::stored(vec![([2; 16], receipt(3))]);
        receipts.remember([2; 16], receipt(9));
        assert_eq!(receipts.find(&[2; 16]).expect("receipt").position, 3);
        assert!(receipts.find(&[3; 16]).is_none());
        assert!(receipts.into_made().is_empty());
    }
}
