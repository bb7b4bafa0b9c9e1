//! I9, the index: `index.db` says where in the ledger things are, and holds snapshots; all of it follows from the ledger.
//!
//! Its snapshot is taken before the log's, so whatever it holds lies within the log. It lags behind, so each aggregate's
//! snapshot is compared when the fold has come to the event that it stands at.
//!
//! Memory: a small record per snapshot, eight bytes an event, and what `once` keeps of each receipt.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use aggregates::event::AggregateKey;

use super::VerifyError;
use super::chain::Chain;
use super::examined::Examined;
use super::findings::{Check, Findings};
use super::log::{RawEvent, Snapshot, bytes, lossy};
use super::states::States;
use crate::audit::anchor::hexadecimal;
use crate::store::STATE_VERSION;

/// The index as it stands.
#[derive(Debug)]
pub(super) struct Index {
    file: Snapshot,
    /// The last event in it, its hash, and the last receipt.
    progress: (i64, Vec<u8>, i64),
    /// Whether the fold has come to that event, and found that hash there.
    is_of_this_log: bool,
    /// The snapshots that are still to be compared, with the sequence each stands at.
    snapshots: HashMap<AggregateKey, i64>,
    other_version: u64,
    /// What each event's row should say, by position from 1 on, as a hash.
    rows: Vec<u64>,
    hasher: RandomState,
}

impl Index {
    /// Takes the snapshot, where there is an index.
    pub(super) fn open(path: &Path, findings: &mut Findings) -> Result<Option<Self>, VerifyError> {
        if !path.exists() {
            return Ok(None);
        }
        let file = Snapshot::open(path)?;
        if !file.has_table("progress")? {
            return Ok(None);
        }
        let mut progress = (0, Vec::new(), 0);
        file.rows("select position, hash, receipt from progress", |row| {
            progress = (row.get(0)?, bytes(row, 1)?.to_vec(), row.get(2)?);
            Ok(())
        })?;
        let (mut snapshots, mut other_version) = (HashMap::new(), 0);
        file.rows("select aggregate_type, aggregate_id, last_sequence, state_version from snapshots", |row| {
            if row.get::<_, i64>(3)? != i64::from(STATE_VERSION) {
                other_version += 1;
                return Ok(());
            }
            let (aggregate_type, aggregate_id) = (lossy(row, 0)?, lossy(row, 1)?);
            match AggregateKey::parse(&aggregate_type, &aggregate_id) {
                Ok(key) => {
                    snapshots.insert(key, row.get(2)?);
                }
                Err(error) => findings.holds(Check::Snapshots, None, false, || {
                    let what = format!("snapshot of {aggregate_type} {aggregate_id}");
                    (what, "a known aggregate".to_owned(), error.to_string())
                }),
            }
            Ok(())
        })?;
        let (is_of_this_log, rows, hasher) = (progress.0 == 0, Vec::new(), RandomState::new());
        Ok(Some(Self { file, progress, is_of_this_log, snapshots, other_version, rows, hasher }))
    }

    /// Notes where an event stands.
    pub(super) fn follow(&mut self, raw: &RawEvent<'_>, chain: &Chain, findings: &mut Findings) {
        if raw.position > self.progress.0 {
            return;
        }
        self.rows.push(self.hasher.hash_one((raw.aggregate_type, raw.aggregate_id, raw.sequence)));
        if raw.position == self.progress.0 {
            self.is_of_this_log = chain.hash == *self.progress.1;
            findings.holds(Check::Index, raw.position, self.is_of_this_log, || {
                ("hash at the index's end".to_owned(), hexadecimal(&chain.hash), hexadecimal(&self.progress.1))
            });
        }
    }

    /// Compares an aggregate's snapshot where it stands at this event.
    pub(super) fn at(
        &mut self,
        examined: &Examined<'_>,
        states: &States,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        if self.snapshots.get(examined.key) != Some(&examined.sequence) {
            return Ok(());
        }
        self.snapshots.remove(examined.key);
        let key = examined.key;
        let (mut payload, mut position) = (Vec::new(), 0);
        self.file.row(
            "select payload, position from snapshots where aggregate_type = ?1 and aggregate_id = ?2",
            [key.aggregate_type(), &key.aggregate_id()],
            |row| {
                payload = bytes(row, 0)?.to_vec();
                position = row.get(1)?;
                Ok(())
            },
        )?;
        let difference = if position < examined.position {
            Some((format!("a position from {} on", examined.position), position.to_string()))
        } else {
            states.differs(key, &payload)
        };
        findings.holds(Check::Snapshots, position, difference.is_none(), || {
            let (expected, found) = difference.unwrap_or_default();
            (format!("snapshot of {key}"), expected, found)
        });
        Ok(())
    }

    /// Compares what the whole log is needed for: `receipts` says each key's number and position in the ledger.
    pub(super) fn end(
        &self,
        chain: &Chain,
        states: &States,
        receipts: &HashMap<[u8; 16], i64>,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        for (key, sequence) in &self.snapshots {
            findings.holds(Check::Snapshots, None, false, || {
                let last = states.sequence(key).unwrap_or_default();
                (
                    format!("snapshot of {key}"),
                    format!("one of sequence {last} at most"),
                    format!("sequence {sequence}"),
                )
            });
        }
        let missing = states.count().saturating_sub(self.file.count("snapshots")?);
        if missing > 0 || self.other_version > 0 {
            let other = self.other_version;
            let note = format!("{missing} missing and {other} of another version, which the store replays instead");
            findings.note(Check::Snapshots, note);
        }
        let (position, _, receipt) = self.progress;
        if !self.is_of_this_log && position > chain.position {
            findings.equal(Check::Index, None, &chain.position, &position, || {
                "end of the index, which the log does not hold".to_owned()
            });
        }
        self.streams(findings)?;
        self.receipt_keys(receipts, findings)?;
        findings.note(Check::Index, format!("compared up to event {position} and receipt {receipt}"));
        Ok(())
    }

    fn streams(&self, findings: &mut Findings) -> Result<(), VerifyError> {
        let mut found = 0_usize;
        self.file.rows("select aggregate_type, aggregate_id, sequence, position from streams", |row| {
            found += 1;
            let (sequence, position): (i64, i64) = (row.get(2)?, row.get(3)?);
            let hash = self.hasher.hash_one((bytes(row, 0)?, bytes(row, 1)?, sequence));
            let place = usize::try_from(position).ok().and_then(|position| position.checked_sub(1));
            let stands = place.and_then(|place| self.rows.get(place)) == Some(&hash);
            let name = (lossy(row, 0)?, lossy(row, 1)?);
            findings.holds(Check::Index, position, stands, || {
                let what = format!("event {sequence} of {} {} in the index", name.0, name.1);
                (what, "where the log has it".to_owned(), format!("at {position}"))
            });
            Ok(())
        })?;
        findings.equal(Check::Index, None, &self.rows.len(), &found, || "number of events in the index".to_owned());
        Ok(())
    }

    fn receipt_keys(&self, receipts: &HashMap<[u8; 16], i64>, findings: &mut Findings) -> Result<(), VerifyError> {
        let mut found = 0_usize;
        let last = self.progress.2;
        self.file.rows("select key, receipt from receipt_keys", |row| {
            let id: i64 = row.get(1)?;
            let key = bytes(row, 0)?;
            // A key whose receipt has expired may stay for a moment: it is looked for, and not there.
            match <[u8; 16]>::try_from(key).ok().and_then(|key| receipts.get(&key)) {
                Some(known) if *known == id => found += 1,
                Some(known) => findings.holds(Check::Index, None, false, || {
                    (format!("receipt key {}", hexadecimal(key)), known.to_string(), id.to_string())
                }),
                None => {}
            }
            Ok(())
        })?;
        let expected = receipts.values().filter(|id| **id <= last).count();
        findings.equal(Check::Index, None, &expected, &found, || "number of receipts in the index".to_owned());
        Ok(())
    }
}
