//! I9, the index: `index.db` says where in the ledger things are; all of it follows from the ledger. A server keeps its indexes
//! itself, and has none of this.
//!
//! What it says of provisions is compared with the facts ([`super::provisions`]).
//!
//! Memory: eight bytes an event, and what `once` keeps of each receipt.

use std::hash::{BuildHasher, RandomState};

use super::VerifyError;
use super::chain::Chain;
use super::findings::{Check, Findings};
use super::once::Receipts;
use super::reading::{RawEvent, Store, bytes, hash_at, number};
use crate::audit::anchor::hexadecimal;

/// Up to which event there is an index; `None` where there is none.
pub(super) fn end(store: &mut dyn Store) -> Result<Option<i64>, VerifyError> {
    if !store.is_indexed() || store.snapshots().is_none() {
        return Ok(None);
    }
    let mut end = 0;
    store.rows("select position from log_index.progress", Vec::new(), &mut |row| {
        end = row.columns().integer()?;
        Ok(true)
    })?;
    Ok(Some(end))
}

/// What each event's row in the index should say.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// As a hash, in the order of the log.
    rows: Vec<u64>,
    /// Where a run of positions without a gap begins: the position, and its place in `rows`.
    runs: Vec<(i64, usize)>,
    hasher: RandomState,
}

impl Index {
    /// Notes where an event stands.
    pub(super) fn follow(&mut self, raw: &RawEvent<'_>, chain: &Chain) {
        if self.rows.is_empty() || raw.position != chain.position + 1 {
            self.runs.push((raw.position, self.rows.len()));
        }
        self.rows.push(self.hasher.hash_one((raw.aggregate_type, raw.aggregate_id, raw.sequence)));
    }

    /// How many events there are up to a position.
    fn up_to(&self, position: i64) -> usize {
        let run = self.runs.partition_point(|(first, _)| *first <= position);
        let end = self.runs.get(run).map_or(self.rows.len(), |(_, place)| *place);
        let Some((first, place)) = run.checked_sub(1).and_then(|run| self.runs.get(run)) else { return 0 };
        let length = usize::try_from(position - first + 1).unwrap_or(usize::MAX);
        place.saturating_add(length).min(end)
    }

    fn row(&self, position: i64) -> Option<u64> {
        let place = self.up_to(position);
        // There is one at this position only where it adds to those before.
        (place > self.up_to(position - 1)).then(|| self.rows.get(place - 1).copied()).flatten()
    }

    /// Compares, where there is one; `receipts` says each key's number in the ledger.
    pub(super) fn compare(
        index: Option<&Self>,
        chain: &Chain,
        receipts: &Receipts,
        store: &mut dyn Store,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        if !store.is_indexed() {
            findings.note(Check::Index, "the database keeps its own".to_owned());
            return Ok(());
        }
        let Some(index) = index else {
            findings.note(Check::Index, "there is no index; opening the store makes it".to_owned());
            return Ok(());
        };
        let mut progress = (0, Vec::new(), 0);
        store.rows("select position, hash, receipt from log_index.progress", Vec::new(), &mut |row| {
            let mut columns = row.columns();
            progress = (columns.integer()?, columns.bytes()?, columns.integer()?);
            Ok(true)
        })?;
        let (position, hash, receipt) = progress;
        if position > chain.position {
            findings.equal(Check::Index, None, &chain.position, &position, || {
                "end of the index, which the log does not hold".to_owned()
            });
        } else if position > 0 {
            let in_log = hash_at(store, position)?.unwrap_or_default();
            findings.holds(Check::Index, position, in_log == hash, || {
                ("hash at the index's end".to_owned(), hexadecimal(&in_log), hexadecimal(&hash))
            });
        }
        index.streams(position, store, findings)?;
        receipt_keys(receipts, receipt, store, findings)?;
        findings.note(Check::Index, format!("compared up to event {position} and receipt {receipt}"));
        Ok(())
    }

    fn streams(&self, end: i64, store: &mut dyn Store, findings: &mut Findings) -> Result<(), VerifyError> {
        let mut count = 0_usize;
        let sql = "select aggregate_type, aggregate_id, sequence, position from log_index.streams";
        store.rows(sql, Vec::new(), &mut |row| {
            count += 1;
            let mut values = row.values()?.into_iter();
            let name = (bytes(values.next()), bytes(values.next()));
            let (sequence, position) = (number(values.next())?, number(values.next())?);
            let hash = self.hasher.hash_one((name.0.as_slice(), name.1.as_slice(), sequence));
            findings.holds(Check::Index, position, self.row(position) == Some(hash), || {
                let [aggregate_type, aggregate_id] = [&name.0, &name.1].map(|name| String::from_utf8_lossy(name));
                let what = format!("event {sequence} of {aggregate_type} {aggregate_id} in the index");
                (what, "where the log has it".to_owned(), format!("at {position}"))
            });
            Ok(true)
        })?;
        findings.equal(Check::Index, None, &self.up_to(end), &count, || "number of events in the index".to_owned());
        Ok(())
    }
}

fn receipt_keys(
    receipts: &Receipts,
    last: i64,
    store: &mut dyn Store,
    findings: &mut Findings,
) -> Result<(), VerifyError> {
    let mut found = 0_usize;
    let first = receipts.first().unwrap_or(i64::MAX);
    store.rows("select key, receipt from log_index.receipt_keys", Vec::new(), &mut |row| {
        let mut values = row.values()?.into_iter();
        let (key, id) = (bytes(values.next()), number(values.next())?);
        // A key whose receipt has expired may stay for a moment: it is looked for, and not there.
        match receipts.number(&key) {
            Some(known) if known == id => found += 1,
            Some(known) => findings.holds(Check::Index, None, false, || {
                (format!("receipt key {}", hexadecimal(&key)), known.to_string(), id.to_string())
            }),
            None if id < first => {}
            None => findings.holds(Check::Index, None, false, || {
                let what = format!("receipt of key {}", hexadecimal(&key));
                (what, format!("number {id} in the ledger"), "none, though it cannot have expired".to_owned())
            }),
        }
        Ok(true)
    })?;
    let expected = receipts.up_to(last);
    findings.equal(Check::Index, None, &expected, &found, || "number of receipts in the index".to_owned());
    Ok(())
}
