//! The journal: the double entry behind each event, in the syntax of plain-text accounting.
//!
//! One transaction for each event that has a posting ([`aggregates::postings`]), in the order of the log, read from the log. An
//! account's amounts are its credits less its debits, so a wallet shows what it holds, and what the platform has issued is
//! negative. Where the journal does not begin with the log, opening balances stand first.
//!
//! Assertions stand beside the amounts: what a wallet's own event says that it holds then (hledger and ledger: with every
//! posting; beancount: for every account at the end of every day on which it moved), and what the platform's accounts come to in
//! the end. So a journal in which both legs of a transaction were altered balances, and is rejected all the same.
//!
//! Nothing that people wrote becomes syntax: names stand in comments and quoted strings, without line ends.

mod dialect;

use std::collections::BTreeMap;

use aggregates::event::{AggregateKey, Event};
use aggregates::postings::{self, Account};
use aggregates::primitives::{CreditSource, Credits, RemovalKind, ResellerId, Timestamp};
use aggregates::wallet::WalletEvent;
use chrono::NaiveDate;
use projections::batch::{self, LogEvent};
use projections::books::{Stretch, holdings};
use projections::sql::ViewError;
use projections::{ReadPool, ScopedRead, audit_log};

pub(super) use dialect::Dialect;
use dialect::{OPENING, Writing};

use super::totals::{closings, totals_at};

/// How many events a piece is made of.
const EVENTS_PAGE: u64 = 4_000;
/// How many resellers a piece is made of.
const RESELLERS_PAGE: u32 = 500;

/// Where it has come.
#[derive(Debug)]
enum Stage {
    /// Declares the wallets of those registered after this position.
    Accounts(u64),
    /// Opens the wallets of those registered after this position; so much is in them so far.
    Openings(u64, i128),
    /// Enters the events after this position.
    Entries(u64),
    Ended,
}

/// A journal in the making.
#[derive(Debug)]
pub(super) struct Journal {
    stretch: Stretch,
    writing: Writing,
    /// The day on which its accounts are opened.
    begins: NaiveDate,
    /// What the platform's accounts have come to, for which there is no bound.
    platform: BTreeMap<Account, i128>,
    /// What all wallets held before the stretch, by the log.
    opening: i128,
    stage: Stage,
    count: u64,
}

/// The platform's accounts, which are all declared, used or not.
fn platform_accounts() -> Vec<Account> {
    let issued = CreditSource::ALL.iter().map(|source| Account::Issued(*source));
    let removed = RemovalKind::ALL.iter().map(|kind| Account::Removed(*kind));
    let others = [Account::Revenue, Account::Commissions, Account::TransfersClearing];
    issued.chain(removed).chain(others).collect()
}

impl Journal {
    /// Begins it: adds up what the accounts came to before.
    pub(super) async fn open(
        views: &ReadPool,
        read: &mut ScopedRead,
        dialect: Dialect,
        stretch: Stretch,
        from: Option<Timestamp>,
        as_of: Timestamp,
    ) -> Result<Self, ViewError> {
        let first = audit_log::recorded_at(read.unscoped(), 1).await?;
        let begins = from.or(first).unwrap_or(as_of).date();
        let last = closings(read.unscoped(), stretch.after).await?;
        let last = last.iter().rfind(|closing| closing.last_position <= stretch.after);
        let totals = totals_at(views, stretch.after, last, &mut |_, _| {}).await?;
        let balance = |name: &str| totals.get(name).map_or(0, |total| total.balance);
        let platform =
            platform_accounts().into_iter().map(|account| (account.clone(), balance(&account.to_string()))).collect();
        let mut writing = Writing::new(dialect);
        writing.begin(stretch.until, as_of, begins);
        writing.open(begins, OPENING, None);
        for account in platform_accounts() {
            writing.open(begins, &account.to_string(), None);
        }
        Ok(Self {
            stretch,
            writing,
            begins,
            platform,
            opening: balance(aggregates::closing::WALLETS),
            stage: Stage::Accounts(0),
            count: 0,
        })
    }

    /// How many transactions there have been.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// In positions of the log.
    pub(super) fn progress(&self) -> (u64, u64) {
        let total = self.stretch.until - self.stretch.after;
        match self.stage {
            Stage::Accounts(_) | Stage::Openings(..) => (0, total),
            Stage::Entries(done) => (done - self.stretch.after, total),
            Stage::Ended => (total, total),
        }
    }

    /// The next piece; `None` when there is no more.
    pub(super) async fn next(&mut self, read: &mut ScopedRead) -> Result<Option<Vec<u8>>, ViewError> {
        match self.stage {
            Stage::Accounts(registered) => {
                let page = holdings::holdings(read, None, self.stretch.until, registered, RESELLERS_PAGE).await?;
                for holding in &page {
                    let account = Account::Wallet(holding.reseller.reseller_id).to_string();
                    self.writing.open(
                        self.begins,
                        &account,
                        Some((&holding.reseller.refid, &holding.reseller.company_name)),
                    );
                }
                self.stage = match page.last() {
                    Some(last) => Stage::Accounts(last.reseller.registered),
                    None if self.stretch.after > 0 => Stage::Openings(0, 0),
                    None => Stage::Entries(self.stretch.after),
                };
            }
            Stage::Openings(registered, sum) => {
                let page = holdings::holdings(read, None, self.stretch.after, registered, RESELLERS_PAGE).await?;
                for holding in page.iter().filter(|holding| holding.balance != 0) {
                    let account = Account::Wallet(holding.reseller.reseller_id).to_string();
                    self.writing.opening(self.begins, &account, holding.balance.into());
                }
                let sum = sum + page.iter().map(|holding| i128::from(holding.balance)).sum::<i128>();
                self.stage = match page.last() {
                    Some(last) => Stage::Openings(last.reseller.registered, sum),
                    None => self.open_platform(sum)?,
                };
            }
            Stage::Entries(done) => {
                let limit = usize::try_from((self.stretch.until - done).min(EVENTS_PAGE)).unwrap_or(usize::MAX);
                let (mut events, _) = batch::read(&mut read.connection(), done + 1, limit).await?;
                events.retain(|logged| logged.position <= self.stretch.until);
                let last = events.last().map(|last| last.position);
                for logged in events {
                    self.enter(&logged)?;
                }
                let done = last.unwrap_or(self.stretch.until);
                self.stage = if done < self.stretch.until {
                    Stage::Entries(done)
                } else {
                    self.writing.end(self.begins, &self.platform);
                    Stage::Ended
                };
            }
            Stage::Ended => return Ok(None),
        }
        Ok(Some(self.writing.take()))
    }

    /// The opening balances of the platform's accounts, after those of the wallets, which came to `sum`.
    fn open_platform(&mut self, sum: i128) -> Result<Stage, ViewError> {
        if sum != self.opening {
            return Err(ViewError::unreadable(format!(
                "the books do not agree: up to position {} wallets were posted {} credits, and held {sum}",
                self.stretch.after, self.opening
            )));
        }
        for (account, balance) in self.platform.iter().filter(|(_, balance)| **balance != 0) {
            self.writing.opening(self.begins, &account.to_string(), *balance);
        }
        self.writing.opened(self.begins);
        Ok(Stage::Entries(self.stretch.after))
    }

    fn enter(&mut self, logged: &LogEvent) -> Result<(), ViewError> {
        let Some(posting) = postings::of(&logged.key, &logged.event) else { return Ok(()) };
        let (AggregateKey::Wallet(wallet), Event::Wallet(event)) = (&logged.key, &logged.event) else {
            return Err(ViewError::unreadable(format!("position {} is posted by no wallet", logged.position)));
        };
        let (own, other, sign) = match (&posting.debit, &posting.credit) {
            (own @ Account::Wallet(_), other) => (own, other, -1),
            (other, own) => (own, other, 1),
        };
        let beyond = || ViewError::unreadable("a sum beyond 128 bits");
        let moved = posting.amount.checked_mul(sign).ok_or_else(beyond)?;
        let balance = self.platform.entry(other.clone()).or_default();
        *balance = balance.checked_sub(moved.into()).ok_or_else(beyond)?;
        let day = logged.day().parse::<NaiveDate>().map_err(ViewError::unreadable)?;
        debug_assert_eq!(own, &Account::Wallet(*wallet));
        self.writing.enter(&Entry {
            day,
            position: logged.position,
            words: &words(event),
            wallet: *wallet,
            moved,
            holds: event.after().0,
            other,
            other_balance: *balance,
        });
        self.count += 1;
        Ok(())
    }
}

/// One event's transaction.
struct Entry<'a> {
    day: NaiveDate,
    position: u64,
    words: &'a str,
    wallet: ResellerId,
    /// What the wallet gets, or (negative) what it gives.
    moved: Credits,
    /// What the wallet holds after it, as its event says.
    holds: Credits,
    other: &'a Account,
    /// What the other account has come to with it.
    other_balance: i128,
}

/// What happened, by ids and words of our own.
fn words(event: &WalletEvent) -> String {
    match event {
        WalletEvent::CreditsAdded { source, .. } => format!("credits added, {source}"),
        WalletEvent::CreditsRemoved { kind, .. } => format!("credits removed, {kind}"),
        WalletEvent::Provisioned { provision, .. } => format!("provision {}", provision.provision_id),
        WalletEvent::CommissionEarned { provision_id, .. } => format!("commission on provision {provision_id}"),
        WalletEvent::ProvisionRefunded { provision_id, .. } => format!("refund of provision {provision_id}"),
        WalletEvent::CommissionReversed { provision_id, .. } => {
            format!("commission on provision {provision_id} reversed")
        }
        WalletEvent::CreditsTransferredOut { transfer_id, .. } => format!("transfer {transfer_id} sent"),
        WalletEvent::CreditsTransferredIn { transfer_id, .. } => format!("transfer {transfer_id} received"),
        other => other.kind().to_owned(),
    }
}
