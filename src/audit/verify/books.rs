//! I4: double entry. Postings sum to zero, `transfers:clearing` is zero after every commit, and
//! Σ wallets = issued − removed − (provisioned − refunded) + (commissions earned − reversed).
//!
//! The left side is what the wallets' events carry, the right side what was posted to the platform's accounts: two ways
//! that meet only where every event is right. Memory: what each wallet last carried.

use aggregates::event::{AggregateKey, Event};
use aggregates::postings::{self, Account};
use aggregates::primitives::ResellerId;
use serde::{Deserialize, Serialize};

use super::examined::Examined;
use super::findings::{Check, Findings};
use super::map::Map;

/// The books so far: credits less debits.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Books {
    issued: i128,
    removed: i128,
    revenue: i128,
    commissions: i128,
    clearing: i128,
    /// What each wallet's last event carries, and the sum of all.
    carried: Map<ResellerId, i64>,
    carried_total: i128,
    position: i64,
    moved: bool,
}

impl Books {
    pub(super) fn follow(&mut self, examined: &Examined<'_>, findings: &mut Findings) {
        let (AggregateKey::Wallet(id), Event::Wallet(event)) = (examined.key, examined.event) else { return };
        self.position = examined.position;
        let carries = event.after().0;
        let carried = self.carried.insert(*id, carries).unwrap_or_default();
        self.carried_total += i128::from(carries) - i128::from(carried);

        let Some(posting) = postings::of(examined.key, examined.event) else { return };
        self.moved = true;
        let amount = i128::from(posting.amount);
        let mut own = 0;
        for (account, change) in [(&posting.debit, -amount), (&posting.credit, amount)] {
            match account {
                Account::Wallet(wallet) if wallet == id => own += change,
                Account::Wallet(_) => {}
                Account::Issued(_) => self.issued += change,
                Account::Removed(_) => self.removed += change,
                Account::Revenue => self.revenue += change,
                Account::Commissions => self.commissions += change,
                Account::TransfersClearing => self.clearing += change,
            }
        }
        let change = i128::from(event.balance_change());
        findings.holds(Check::DoubleEntry, examined.position, amount >= 0 && own == change, || {
            let expected = format!("{change} credits to the wallet, of an amount of 0 or more");
            (format!("posting of a {}", event.kind()), expected, format!("{own} of {amount}"))
        });
    }

    /// Judges the books after a commit.
    pub(super) fn end_of_commit(&mut self, findings: &mut Findings) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        let position = self.position;
        findings.equal(Check::DoubleEntry, position, &0, &self.clearing, || {
            "transfers:clearing after the commit".to_owned()
        });
        // A break is told once: the books go on from here.
        self.clearing = 0;
        let posted = -(self.issued + self.removed + self.revenue + self.commissions);
        findings.equal(Check::DoubleEntry, position, &posted, &self.carried_total, || {
            "sum of all wallets after the commit, as the platform's accounts have it".to_owned()
        });
    }
}
