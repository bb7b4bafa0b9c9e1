//! I7: one command is one commit, one purchase reference is credited once ever, one key had one effect.
//!
//! Memory: 16 bytes per command, 24 per receipt, a bit per event, and each purchase's reference.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use aggregates::answer::{Answer, ItemOutcome, ProvisionAnswer};
use aggregates::event::Event;
use aggregates::ledger::Remembered;
use aggregates::primitives::{CommandId, CreditSource, Reference};
use aggregates::wallet::WalletEvent;

use super::VerifyError;
use super::examined::Examined;
use super::findings::{Check, Findings};
use super::log::{Snapshot, bytes, lossy};
use super::pairs::Provisions;
use crate::audit::anchor::hexadecimal;

/// What has been done so far.
#[derive(Debug, Default)]
pub(super) struct Once {
    commands: HashSet<CommandId>,
    /// Where each purchase reference was credited.
    references: HashMap<Reference, i64>,
    ends: Positions,
}

impl Once {
    /// The first event of a commit: its command must be new.
    pub(super) fn begin_commit(&mut self, command: CommandId, position: i64, findings: &mut Findings) {
        let is_new = self.commands.insert(command);
        findings.holds(Check::Once, position, is_new, || {
            let what = format!("events of command {command}");
            (what, "in one commit, one after the other".to_owned(), "others of it stand further up".to_owned())
        });
    }

    /// The last event of a commit.
    pub(super) fn end_of_commit(&mut self, position: i64) {
        self.ends.insert(position);
    }

    pub(super) fn follow(&mut self, examined: &Examined<'_>, findings: &mut Findings) {
        let Event::Wallet(WalletEvent::CreditsAdded { source, reference, .. }) = examined.event else { return };
        let (CreditSource::Purchase, Some(reference)) = (source, reference) else { return };
        let position = examined.position;
        let former = match self.references.entry(reference.clone()) {
            Entry::Occupied(taken) => Some(*taken.get()),
            Entry::Vacant(free) => {
                free.insert(position);
                None
            }
        };
        findings.holds(Check::Once, position, former.is_none(), || {
            let what = format!("purchase reference {reference}");
            (what, "credited once".to_owned(), format!("credited before, at {}", former.unwrap_or_default()))
        });
    }

    /// Judges what is remembered under keys; says which number each key has.
    pub(super) fn receipts(
        &self,
        store: &Snapshot,
        provisions: &Provisions,
        last: i64,
        findings: &mut Findings,
    ) -> Result<HashMap<[u8; 16], i64>, VerifyError> {
        let mut keys: HashMap<[u8; 16], i64> = HashMap::new();
        let mut count = 0_u64;
        store.rows("select key, status, position, answer, id from receipts", |row| {
            count += 1;
            let key = bytes(row, 0)?;
            let (status, position): (String, i64) = (lossy(row, 1)?, row.get(2)?);
            let name = || format!("receipt {} at position {position}", hexadecimal(key));
            let id: i64 = row.get(4)?;
            let is_new = <[u8; 16]>::try_from(key).is_ok_and(|key| keys.insert(key, id).is_none());
            findings.holds(Check::Once, None, is_new, || {
                (name(), "a key of 16 bytes, once".to_owned(), "another one".to_owned())
            });
            findings.holds(Check::Once, None, (0..=last).contains(&position), || {
                (name(), format!("a position up to {last}"), position.to_string())
            });
            let missing = match serde_json::from_slice::<Remembered>(bytes(row, 3)?) {
                Ok(Remembered::Refused(_)) if status == "refused" => None,
                Ok(Remembered::Done { changed, answer }) if status == "done" => {
                    if changed && !self.ends.contains(position) {
                        Some("no command's last event there".to_owned())
                    } else {
                        self.missing_effect(&answer, provisions)
                    }
                }
                Ok(_) => Some(format!("another answer than the status {status:?} says")),
                Err(error) => Some(error.to_string()),
            };
            findings.holds(Check::Once, None, missing.is_none(), || {
                (name(), "an answer whose effect is in the log".to_owned(), missing.unwrap_or_default())
            });
            Ok(())
        })?;
        findings.note(Check::Once, format!("{} commands, {count} receipts", self.commands.len()));
        Ok(keys)
    }

    /// What an answer tells of and the log does not hold.
    fn missing_effect(&self, answer: &Answer, provisions: &Provisions) -> Option<String> {
        let unprovisioned = |answer: &ProvisionAnswer| {
            let there = provisions.get(&answer.provision_id).is_some_and(|known| known.paid == answer.amount);
            (!there).then(|| format!("no provision {} of {} in the log", answer.provision_id, answer.amount))
        };
        match answer {
            Answer::Credits(credits) if !self.commands.contains(&credits.transaction_id) => {
                Some(format!("no transaction {} in the log", credits.transaction_id))
            }
            Answer::Provision(provision) => unprovisioned(provision),
            Answer::Bulk(bulk) => bulk.items.iter().find_map(|item| match &item.outcome {
                ItemOutcome::Provisioned(provision) => unprovisioned(provision),
                ItemOutcome::Refused(_) => None,
            }),
            Answer::Refund(refund) => {
                let known = provisions.get(&refund.provision_id);
                let there = known.is_some_and(|known| known.refunded >= refund.refunded_total);
                (!there).then(|| format!("no refund of {} of provision {}", refund.amount, refund.provision_id))
            }
            _ => None,
        }
    }
}

/// A set of positions, a bit each.
#[derive(Debug, Default)]
struct Positions {
    words: Vec<u64>,
}

impl Positions {
    fn place(position: i64) -> Option<(usize, u64)> {
        let position = usize::try_from(position).ok()?;
        Some((position / 64, 1 << (position % 64)))
    }

    fn insert(&mut self, position: i64) {
        // A position far beyond the number of events is a gap, which is told elsewhere; it must not cost memory.
        let Some((word, bit)) = Self::place(position).filter(|(word, _)| *word <= self.words.len() + (1 << 20)) else {
            return;
        };
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= bit;
        }
    }

    fn contains(&self, position: i64) -> bool {
        Self::place(position).is_some_and(|(word, bit)| self.words.get(word).is_some_and(|word| word & bit != 0))
    }
}
