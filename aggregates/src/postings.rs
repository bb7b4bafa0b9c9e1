//! The double entry behind each event (commodity CREDITS): a wallet's balance is its credits minus its debits.

use crate::event::{AggregateKey, Event};
use crate::primitives::{Credits, ResellerId};
use crate::wallet::WalletEvent;

/// An account of the books.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// `wallet:<reseller>`.
    Wallet(ResellerId),
    /// `platform:issued:<source>`.
    Issued(crate::primitives::CreditSource),
    /// `platform:removed:<kind>`.
    Removed(crate::primitives::RemovalKind),
    /// `platform:revenue`.
    Revenue,
    /// `platform:commissions`.
    Commissions,
    /// `transfers:clearing`: zero after every commit.
    TransfersClearing,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wallet(reseller) => write!(f, "wallet:{reseller}"),
            Self::Issued(source) => write!(f, "platform:issued:{source}"),
            Self::Removed(kind) => write!(f, "platform:removed:{kind}"),
            Self::Revenue => f.write_str("platform:revenue"),
            Self::Commissions => f.write_str("platform:commissions"),
            Self::TransfersClearing => f.write_str("transfers:clearing"),
        }
    }
}

/// One movement between two accounts: `amount` is debited to one and credited to the other, so an event's postings sum to
/// zero by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// The account that is debited.
    pub debit: Account,
    /// The account that is credited.
    pub credit: Account,
    /// How many credits.
    pub amount: Credits,
}

/// The posting of an event of this aggregate; most events have none.
#[must_use]
pub fn of(key: &AggregateKey, event: &Event) -> Option<Posting> {
    let (AggregateKey::Wallet(reseller), Event::Wallet(event)) = (key, event) else { return None };
    let wallet = Account::Wallet(*reseller);
    let (debit, credit, amount) = match event {
        WalletEvent::CreditsAdded { source, amount, .. } => (Account::Issued(*source), wallet, *amount),
        WalletEvent::CreditsRemoved { kind, amount, .. } => (wallet, Account::Removed(*kind), *amount),
        WalletEvent::Provisioned { provision, .. } => (wallet, Account::Revenue, provision.amount),
        WalletEvent::CommissionEarned { amount, .. } => (Account::Commissions, wallet, *amount),
        WalletEvent::ProvisionRefunded { amount, .. } => (Account::Revenue, wallet, *amount),
        WalletEvent::CommissionReversed { amount, .. } => (wallet, Account::Commissions, *amount),
        WalletEvent::CreditsTransferredOut { amount, .. } => (wallet, Account::TransfersClearing, *amount),
        WalletEvent::CreditsTransferredIn { amount, .. } => (Account::TransfersClearing, wallet, *amount),
        WalletEvent::WalletOpened { .. }
        | WalletEvent::LowCreditThresholdSet { .. }
        | WalletEvent::CreditLimitSet { .. }
        | WalletEvent::ProvisioningHeld { .. }
        | WalletEvent::ProvisioningResumed { .. }
        | WalletEvent::LowCredit { .. } => return None,
    };
    Some(Posting { debit, credit, amount })
}
