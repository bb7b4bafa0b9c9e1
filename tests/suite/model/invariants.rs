//! The invariants of DOMAIN, each by a small checker that reads committed events and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use aggregates::event::{AggregateKey, Event, LoggedEvent};
use aggregates::postings::{self, Account};
use aggregates::primitives::{Authority, CreditSource, ProvisionId, Reference, ResellerId, Timestamp, TransferId};
use aggregates::reseller::ResellerEvent;
use aggregates::wallet::WalletEvent;

/// What the checkers have seen so far.
#[derive(Debug, Default)]
pub struct Invariants {
    position: u64,
    recorded_at: Timestamp,
    sequences: BTreeMap<AggregateKey, u64>,
    /// Accounts by their credits minus their debits.
    accounts: BTreeMap<Account, i128>,
    limits: BTreeMap<ResellerId, i64>,
    parents: BTreeMap<ResellerId, Option<ResellerId>>,
    freezes: BTreeSet<(ResellerId, Authority)>,
    references: BTreeSet<Reference>,
}

impl Invariants {
    /// Checks one commit.
    pub fn check(&mut self, commit: &[LoggedEvent]) {
        for event in commit {
            self.check_order(event);
            self.check_postings(event);
            if let (AggregateKey::Wallet(wallet), Event::Wallet(of_wallet)) = (&event.key, &event.event) {
                self.check_balance(*wallet, of_wallet);
                self.check_not_overdrawn(*wallet, of_wallet, &event.metadata.role);
                self.check_not_frozen(*wallet, of_wallet);
                self.check_reference(of_wallet);
            }
            self.remember(event);
        }
        self.check_double_entry();
        check_pairs(commit);
    }

    /// I1: positions and sequences without a gap, time never backwards.
    fn check_order(&mut self, event: &LoggedEvent) {
        assert_eq!(event.position, self.position + 1, "I1: a gap in positions");
        self.position = event.position;
        let sequence = self.sequences.entry(event.key.clone()).or_default();
        assert_eq!(event.sequence, *sequence + 1, "I1: a gap in the sequence of {}", event.key);
        *sequence = event.sequence;
        assert!(event.recorded_at >= self.recorded_at, "I1: time went back");
        self.recorded_at = event.recorded_at;
    }

    fn check_postings(&mut self, event: &LoggedEvent) {
        if let Some(posting) = postings::of(&event.key, &event.event) {
            assert!(posting.amount >= 0, "I4: a negative posting");
            *self.accounts.entry(posting.debit).or_default() -= i128::from(posting.amount);
            *self.accounts.entry(posting.credit).or_default() += i128::from(posting.amount);
        }
    }

    fn account(&self, account: &Account) -> i128 {
        self.accounts.get(account).copied().unwrap_or_default()
    }

    /// I2: the balance that an event carries is the sum of all so far.
    fn check_balance(&self, wallet: ResellerId, event: &WalletEvent) {
        let (balance, reserved) = event.after();
        assert_eq!(i128::from(balance), self.account(&Account::Wallet(wallet)), "I2: {wallet} {event:?}");
        assert_eq!(reserved, 0, "I2: nothing reserves yet");
    }

    /// I3: who may spend what is not there.
    fn check_not_overdrawn(&self, wallet: ResellerId, event: &WalletEvent, role: &str) {
        let (balance, reserved) = event.after();
        match event {
            WalletEvent::Provisioned { .. } => {
                let limit = self.limits.get(&wallet).copied().unwrap_or_default();
                assert!(balance - reserved + limit >= 0, "I3: {wallet} {event:?}");
            }
            WalletEvent::CreditsTransferredOut { .. } => assert!(balance - reserved >= 0, "I3: {wallet} {event:?}"),
            _ if event.balance_change() < 0 && balance < 0 => {
                assert_eq!(role, "super_admin", "I3: {wallet} {event:?}");
            }
            _ => {}
        }
    }

    /// I6: nothing is spent or sent where the reseller or an ancestor is frozen.
    fn check_not_frozen(&self, wallet: ResellerId, event: &WalletEvent) {
        if matches!(event, WalletEvent::Provisioned { .. } | WalletEvent::CreditsTransferredOut { .. }) {
            let mut next = Some(wallet);
            while let Some(reseller) = next {
                assert!(self.freezes.iter().all(|(frozen, _)| *frozen != reseller), "I6: {wallet} under {reseller}");
                next = self.parents[&reseller];
            }
        }
    }

    /// I7: a purchase reference is credited once, ever.
    fn check_reference(&mut self, event: &WalletEvent) {
        if let WalletEvent::CreditsAdded { source: CreditSource::Purchase, reference: Some(reference), .. } = event {
            assert!(self.references.insert(reference.clone()), "I7: {reference} twice");
        }
    }

    fn remember(&mut self, event: &LoggedEvent) {
        match (&event.key, &event.event) {
            (AggregateKey::Wallet(wallet), Event::Wallet(WalletEvent::CreditLimitSet { credit_limit, .. })) => {
                self.limits.insert(*wallet, credit_limit.credits());
            }
            (AggregateKey::Reseller(id), Event::Reseller(of_reseller)) => match of_reseller {
                ResellerEvent::ResellerRegistered(registration) => {
                    self.parents.insert(*id, registration.parent);
                }
                ResellerEvent::SubtreeFrozen { authority, .. } => {
                    assert!(self.freezes.insert((*id, *authority)), "frozen twice by the same authority");
                }
                ResellerEvent::SubtreeUnfrozen { authority, .. } => {
                    assert!(self.freezes.remove(&(*id, *authority)), "a freeze lifted that was not there");
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// I4: everything sums to zero, nothing is left between two wallets, and the wallets hold what the other accounts say.
    fn check_double_entry(&self) {
        assert_eq!(self.accounts.values().sum::<i128>(), 0, "I4: the books do not balance");
        assert_eq!(self.account(&Account::TransfersClearing), 0, "I4: clearing is not zero after a commit");
        let sum = |of: fn(&Account) -> bool| -> i128 {
            self.accounts.iter().filter(|(account, _)| of(account)).map(|(_, amount)| *amount).sum()
        };
        let wallets = sum(|account| matches!(account, Account::Wallet(_)));
        let issued = -sum(|account| matches!(account, Account::Issued(_)));
        let removed = sum(|account| matches!(account, Account::Removed(_)));
        let revenue = self.account(&Account::Revenue);
        let commissions = -self.account(&Account::Commissions);
        assert_eq!(wallets, issued - removed - revenue + commissions, "I4: the sum of the wallets");
    }
}

/// I5: every half of a pair has its other half in the same commit.
fn check_pairs(commit: &[LoggedEvent]) {
    let mut transfers: BTreeMap<(TransferId, ResellerId, ResellerId), i64> = BTreeMap::new();
    let mut commissions: BTreeMap<(ProvisionId, ResellerId), i64> = BTreeMap::new();
    for event in commit {
        let (AggregateKey::Wallet(wallet), Event::Wallet(of_wallet)) = (&event.key, &event.event) else { continue };
        match of_wallet {
            WalletEvent::CreditsTransferredOut { transfer_id, to, amount, .. } => {
                *transfers.entry((*transfer_id, *wallet, *to)).or_default() += amount;
            }
            WalletEvent::CreditsTransferredIn { transfer_id, from, amount, .. } => {
                *transfers.entry((*transfer_id, *from, *wallet)).or_default() -= amount;
            }
            WalletEvent::Provisioned { provision, .. } => {
                for commission in &provision.commissions {
                    assert!(commission.amount > 0, "I5: an empty commission");
                    *commissions.entry((provision.provision_id, commission.reseller)).or_default() += commission.amount;
                }
            }
            WalletEvent::CommissionEarned { provision_id, amount, .. } => {
                *commissions.entry((*provision_id, *wallet)).or_default() -= amount;
            }
            _ => {}
        }
    }
    assert!(transfers.values().all(|left| *left == 0), "I5: half a transfer: {transfers:?}");
    assert!(commissions.values().all(|left| *left == 0), "I5: a commission without its provision: {commissions:?}");
}
