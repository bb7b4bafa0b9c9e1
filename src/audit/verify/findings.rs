//! What was found: for each invariant how much was checked, how often it was broken, and the first place where it was.

use std::fmt::Display;

use serde::Serialize;
use utoipa::ToSchema;

/// What is checked, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Events can be read.
    Readable,
    /// I1.
    Order,
    /// I2.
    Balances,
    /// I3.
    Limits,
    /// I4.
    DoubleEntry,
    /// I5.
    Pairs,
    /// I6.
    Freezes,
    /// I7.
    Once,
    /// I8.
    Chain,
    /// What was written down of the log before.
    Expected,
    /// I9, snapshots.
    Snapshots,
    /// I9, the index.
    Index,
    /// I9, facts.
    Facts,
    /// I9, the read models' balances.
    Views,
    /// I9, all read models.
    ReadModels,
    /// Personal data beside the log.
    PersonalData,
}

impl Check {
    /// Every check, its name, and what it says.
    const ALL: [(Self, &'static str, &'static str); 16] = [
        (
            Self::Readable,
            "log",
            "every event is of a known type and readable, and its columns say what its metadata says",
        ),
        (
            Self::Order,
            "I1",
            "positions and each aggregate's sequences are 1, 2, 3 … without a gap; time never runs backwards",
        ),
        (
            Self::Balances,
            "I2",
            "each wallet's balance and reserved credits are the sums of its events, as each event carries them",
        ),
        (
            Self::Limits,
            "I3",
            "no provision passed the credit limit, no transfer went below zero, and whatever else did names who may",
        ),
        (
            Self::DoubleEntry,
            "I4",
            "postings balance, clearing is zero after every commit, and the wallets hold what the books say",
        ),
        (Self::Pairs, "I5", "transfers, commissions and refunds have both their sides in one commit, to the credit"),
        (Self::Freezes, "I6", "nothing was provisioned or sent under a freeze"),
        (Self::Once, "I7", "each key, command and purchase reference had one effect"),
        (Self::Chain, "I8", "the hash chain holds from the first event to the head"),
        (Self::Expected, "expected", "the history up to each position that was written down is the one it was then"),
        (Self::Snapshots, "I9 snapshots", "every snapshot equals the state folded from the log up to its last event"),
        (
            Self::Index,
            "I9 index",
            "the index finds every event and every receipt where the ledger has it, and no other",
        ),
        (Self::Facts, "I9 facts", "every fact equals the one folded from the log, and none is missing"),
        (Self::Views, "I9 balances", "the read models' wallets equal those folded from the log at their checkpoint"),
        (
            Self::ReadModels,
            "I9 read models",
            "every row of every read model is what the log folds to from its first event up to their checkpoint",
        ),
        (
            Self::PersonalData,
            "personal data",
            "each client's details have the hash in its events; the forgotten have none",
        ),
    ];
}

/// One place where an invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Violation {
    /// The event's position; `None` where it is not about one event.
    pub position: Option<i64>,
    /// What it is about.
    pub what: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// What became of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Tally {
    /// Its name: `I1` … `I9 …`, `log`, `expected`, `personal data`.
    pub name: &'static str,
    /// What it says.
    pub says: &'static str,
    /// How many things were checked.
    pub checked: u64,
    /// How many of them were wrong.
    pub violations: u64,
    /// The first of those.
    pub first: Option<Violation>,
    /// What a reader should know about it.
    pub note: Option<String>,
}

/// All tallies, one for each check.
#[derive(Debug)]
pub(super) struct Findings {
    tallies: Vec<Tally>,
}

impl Default for Findings {
    fn default() -> Self {
        let tally = |(_, name, says)| Tally { name, says, checked: 0, violations: 0, first: None, note: None };
        Self { tallies: Check::ALL.map(tally).into() }
    }
}

impl Findings {
    fn tally(&mut self, check: Check) -> &mut Tally {
        // `ALL` is in the order of the variants; a test holds it to that.
        &mut self.tallies[check as usize]
    }

    /// Counts one thing checked; `violation` says (what, expected, found) where it does not hold.
    pub(super) fn holds(
        &mut self,
        check: Check,
        position: impl Into<Option<i64>>,
        holds: bool,
        violation: impl FnOnce() -> (String, String, String),
    ) {
        let tally = self.tally(check);
        tally.checked += 1;
        if !holds {
            tally.violations += 1;
            if tally.first.is_none() {
                let (what, expected, found) = violation();
                tally.first = Some(Violation { position: position.into(), what, expected, found });
            }
        }
    }

    /// Counts one thing checked that should be equal to what is expected.
    pub(super) fn equal<T: PartialEq + Display>(
        &mut self,
        check: Check,
        position: impl Into<Option<i64>>,
        expected: &T,
        found: &T,
        what: impl FnOnce() -> String,
    ) {
        self.holds(check, position, expected == found, || (what(), expected.to_string(), found.to_string()));
    }

    /// Counts things that were checked elsewhere, and those of them that do not hold; `first` is (what, expected, found) of the
    /// first of those.
    pub(super) fn count(
        &mut self,
        check: Check,
        checked: u64,
        violations: u64,
        first: Option<(String, String, String)>,
    ) {
        let tally = self.tally(check);
        tally.checked += checked;
        tally.violations += violations;
        if tally.first.is_none() {
            tally.first = first.map(|(what, expected, found)| Violation { position: None, what, expected, found });
        }
    }

    /// Says of the first violation, if it is this one, what should be there.
    pub(super) fn explain(&mut self, check: Check, what: &str, position: i64, expected: String) {
        if let Some(first) = &mut self.tally(check).first
            && first.what == what
            && first.position == Some(position)
        {
            first.expected = expected;
        }
    }

    /// Says something about a check that is no violation.
    pub(super) fn note(&mut self, check: Check, note: String) {
        self.tally(check).note = Some(note);
    }

    /// Whether nothing is violated so far.
    pub(super) fn are_fine(&self) -> bool {
        self.tallies.iter().all(|tally| tally.violations == 0)
    }

    /// How many things were checked, in the order in which they are told, to be kept where nothing is violated.
    pub(super) fn checked(&self) -> Vec<u64> {
        self.tallies.iter().map(|tally| tally.checked).collect()
    }

    /// Counts what a former run has checked. Snapshots, and what was written down, each run judges for itself.
    pub(super) fn take_over(&mut self, checked: &[u64]) {
        for (tally, checked) in self.tallies.iter_mut().zip(checked) {
            tally.checked += checked;
        }
        for check in [Check::Snapshots, Check::Expected] {
            self.tally(check).checked = 0;
        }
    }

    pub(super) fn into_tallies(self) -> Vec<Tally> {
        self.tallies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_finds_its_own_tally() {
        for (index, (check, ..)) in Check::ALL.iter().enumerate() {
            assert_eq!(*check as usize, index);
        }
    }
}
