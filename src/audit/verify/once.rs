//! I7: one command is one commit, one purchase reference is credited once ever, one key had one effect.
//!
//! Memory: 16 bytes per command, 24 per receipt, a bit per event. Purchases' references are [`super::facts`].

use aggregates::answer::{Answer, ItemOutcome, ProvisionAnswer};
use aggregates::event::Event;
use aggregates::facts::FactKey;
use aggregates::ledger::Remembered;
use aggregates::primitives::{CommandId, CreditSource};
use aggregates::wallet::WalletEvent;
use serde::{Deserialize, Serialize};

use super::VerifyError;
use super::examined::Examined;
use super::findings::{Check, Findings};
use super::map::Set;
use super::provisions::Provisions;
use super::reading::{Store, bytes, number, text};
use crate::audit::anchor::hexadecimal;

/// What has been done so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Once {
    commands: Set<CommandId>,
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

    /// Judges a purchase; `former` is where its reference was credited before.
    pub(super) fn follow(
        &self,
        examined: &Examined<'_>,
        former: impl FnOnce(&FactKey) -> Option<i64>,
        findings: &mut Findings,
    ) {
        let Event::Wallet(WalletEvent::CreditsAdded { source, reference, .. }) = examined.event else { return };
        let (CreditSource::Purchase, Some(reference)) = (source, reference) else { return };
        let former = former(&FactKey::PurchaseReference(reference.clone()));
        findings.holds(Check::Once, examined.position, former.is_none(), || {
            let what = format!("purchase reference {reference}");
            (what, "credited once".to_owned(), format!("credited before, at {}", former.unwrap_or_default()))
        });
    }

    /// Judges what is remembered under keys.
    pub(super) fn receipts(
        &self,
        store: &mut dyn Store,
        provisions: &Provisions,
        last: i64,
        findings: &mut Findings,
    ) -> Result<Receipts, VerifyError> {
        // A server numbers no receipts, and has each key once by its primary key.
        let is_numbered = store.is_indexed();
        let sql = if is_numbered {
            "select key, status, position, answer, id from ledger.receipts"
        } else {
            "select key, status, position, answer, cast(0 as bigint) from ledger.receipts"
        };
        let mut keys: Vec<([u8; 16], i64)> = Vec::new();
        let mut count = 0_u64;
        store.rows(sql, Vec::new(), &mut |row| {
            count += 1;
            let mut values = row.values()?.into_iter();
            let (key, status) = (bytes(values.next()), text(values.next()));
            let (position, answer, id) = (number(values.next())?, bytes(values.next()), number(values.next())?);
            let name = || format!("receipt {} at position {position}", hexadecimal(&key));
            let whole = <[u8; 16]>::try_from(key.as_slice());
            findings.holds(Check::Once, None, whole.is_ok(), || {
                (name(), "a key of 16 bytes".to_owned(), format!("one of {}", key.len()))
            });
            if is_numbered && let Ok(key) = whole {
                keys.push((key, id));
            }
            findings.holds(Check::Once, None, (0..=last).contains(&position), || {
                (name(), format!("a position up to {last}"), position.to_string())
            });
            let missing = match serde_json::from_slice::<Remembered>(&answer) {
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
            Ok(true)
        })?;
        keys.sort_unstable();
        let twice = keys.windows(2).find(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
        findings.holds(Check::Once, None, twice.is_none(), || {
            let key = twice.and_then(<[_]>::first).map(|(key, _)| hexadecimal(key)).unwrap_or_default();
            (format!("receipt {key}"), "a key that comes once".to_owned(), "another one".to_owned())
        });
        findings.note(Check::Once, format!("{} commands, {count} receipts", self.commands.len()));
        let receipts = Receipts(keys);
        if let Some(missing) = receipts.first_missing() {
            findings.holds(Check::Once, None, false, || {
                let expected = "there, since one with a lower number has not expired yet".to_owned();
                (format!("receipt number {missing}"), expected, "none".to_owned())
            });
        }
        Ok(receipts)
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

/// The number of each receipt, by its key, in order; none where they are not numbered.
#[derive(Debug)]
pub(super) struct Receipts(Vec<([u8; 16], i64)>);

impl Receipts {
    pub(super) fn number(&self, key: &[u8]) -> Option<i64> {
        let place = self.0.binary_search_by(|(known, _)| known.as_slice().cmp(key)).ok()?;
        self.0.get(place).map(|(_, number)| *number)
    }

    /// The number of the oldest one that there is. They are numbered without a gap, and go in the order of their numbers.
    pub(super) fn first(&self) -> Option<i64> {
        self.0.iter().map(|(_, number)| *number).min()
    }

    /// The first number after the oldest one's that is missing.
    fn first_missing(&self) -> Option<i64> {
        let mut numbers: Vec<i64> = self.0.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers
            .array_windows()
            .find(|[one, next]| one.checked_add(1) != Some(*next))
            .map(|[one, _]| one.saturating_add(1))
    }

    /// How many there are with a number up to this one.
    pub(super) fn up_to(&self, last: i64) -> usize {
        self.0.iter().filter(|(_, number)| *number <= last).count()
    }
}

/// A set of positions, a bit each.
#[derive(Debug, Default, Serialize, Deserialize)]
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
