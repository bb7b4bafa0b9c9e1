//! Commands about one wallet: opening it, credits in and out, threshold, limit, hold.

use crate::answer::{Answer, CreditAnswer};
use crate::command::Command;
use crate::facts::{Fact, FactKey, PurchaseFact, Totals};
use crate::primitives::{
    Amount, CreditSource, Credits, Level, MAX_CREDITS, Reference, RemovalKind, ResellerId, Role, Text,
};
use crate::rejection::Rejection;
use crate::wallet::{Wallet, WalletCommand};

use super::authority::{Standing, forbidden};
use super::draft::{Decided, Draft};

impl Draft<'_> {
    pub(super) fn decide_wallet(&mut self, command: &Command) -> Decided<Answer> {
        match command {
            Command::OpenWallet { wallet } => {
                self.platform_only_towards(*wallet, "wallet")?;
                self.open_wallet(*wallet)?;
                self.wallet_answer(*wallet)
            }
            Command::AddCredits { wallet, amount, source, reference, note } => {
                self.add_credits(*wallet, *amount, *source, reference.as_ref(), note.as_ref())
            }
            Command::RemoveCredits { wallet, amount, kind, reason } => {
                self.remove_credits(*wallet, *amount, *kind, reason.as_ref())
            }
            Command::SetThreshold { wallet, threshold } => {
                self.set_threshold(*wallet, *threshold)?;
                self.wallet_answer(*wallet)
            }
            Command::SetCreditLimit { wallet, credit_limit } => self.set_credit_limit(*wallet, *credit_limit),
            Command::SetHold { wallet, held, reason } => self.set_hold(*wallet, *held, reason.as_ref()),
            _ => Err(Rejection::not_found("command").into()),
        }
    }

    /// Opens a wallet with the policy's threshold.
    pub(super) fn open_wallet(&mut self, reseller: ResellerId) -> Decided<()> {
        let threshold = self.policy()?.low_credit_threshold;
        self.order_wallet(reseller, WalletCommand::Open { reseller, threshold })?;
        Ok(())
    }

    fn add_credits(
        &mut self,
        wallet: ResellerId,
        amount: Amount,
        source: CreditSource,
        reference: Option<&Reference>,
        note: Option<&Text>,
    ) -> Decided<Answer> {
        let payments = match self.standing(wallet, "wallet")? {
            Standing::Platform => false,
            Standing::Payments => true,
            _ => return Err(forbidden("credits are added by the platform or its payment system").into()),
        };
        if payments && source != CreditSource::Purchase {
            return Err(forbidden("a payment system adds purchases only").into());
        }
        self.check_opened(wallet)?;
        if payments && reference.is_none() {
            return Err(Rejection::invalid("/reference", "must name the payment").into());
        }
        if let (CreditSource::Purchase, Some(reference)) = (source, reference)
            && let Some(taken) = self.purchase(reference)?
        {
            if payments && taken.wallet == wallet && taken.amount == amount.credits() {
                return Ok(Answer::Credits(CreditAnswer {
                    transaction_id: taken.transaction_id,
                    amount: taken.amount,
                    source: Some(source),
                    reference: Some(reference.clone()),
                    balance: None,
                    available: None,
                }));
            }
            return Err(duplicate_reference(taken).into());
        }
        self.issue(wallet, amount, source, reference, note)?;
        let wallet = self.get::<Wallet>(&wallet)?;
        Ok(Answer::Credits(CreditAnswer {
            transaction_id: self.command_id(),
            amount: amount.credits(),
            source: Some(source),
            reference: reference.cloned(),
            balance: (!payments).then_some(wallet.balance),
            available: (!payments).then(|| wallet.available()),
        }))
    }

    /// The purchase that has taken a reference.
    pub(super) fn purchase(&self, reference: &Reference) -> Decided<Option<&PurchaseFact>> {
        match self.fact(&FactKey::PurchaseReference(reference.clone()))? {
            Some(Fact::Purchase(taken)) => Ok(Some(taken)),
            _ => Ok(None),
        }
    }

    /// Refuses where the reseller has no wallet: said before anything that a wallet is asked.
    pub(super) fn check_opened(&self, wallet: ResellerId) -> Decided<()> {
        match self.get::<Wallet>(&wallet)?.reseller {
            Some(_) => Ok(()),
            None => Err(Rejection::not_found("wallet").into()),
        }
    }

    /// Adds credits from outside the wallets, within what may ever be issued.
    pub(super) fn issue(
        &mut self,
        wallet: ResellerId,
        amount: Amount,
        source: CreditSource,
        reference: Option<&Reference>,
        note: Option<&Text>,
    ) -> Decided<()> {
        self.check_issuable(amount.credits())?;
        let command = WalletCommand::AddCredits {
            transaction_id: self.command_id(),
            amount,
            source,
            reference: reference.cloned(),
            note: note.cloned(),
        };
        self.order_wallet(wallet, command)?;
        Ok(())
    }

    fn totals(&self) -> Decided<Totals> {
        match self.fact(&FactKey::Totals)? {
            Some(Fact::Totals(totals)) => Ok(*totals),
            _ => Ok(Totals::default()),
        }
    }

    /// Refuses where all credits issued plus all credit limits would pass 2⁵³ − 1, so no sum of wallets can.
    fn check_issuable(&self, more: Credits) -> Decided<()> {
        let totals = self.totals()?;
        let sum = totals.issued.checked_add(totals.credit_limits).and_then(|sum| sum.checked_add(more));
        match sum {
            Some(sum) if sum <= MAX_CREDITS => Ok(()),
            _ => Err(Rejection::Overflow {}.into()),
        }
    }

    fn remove_credits(
        &mut self,
        wallet: ResellerId,
        amount: Amount,
        kind: RemovalKind,
        reason: Option<&Text>,
    ) -> Decided<Answer> {
        self.platform_only_towards(wallet, "wallet")?;
        self.check_opened(wallet)?;
        // As what is issued is bounded above, so is what is taken out: no sum of wallets passes −(2⁵³ − 1).
        if self.totals()?.removed.checked_add(amount.credits()).is_none_or(|removed| removed > MAX_CREDITS) {
            return Err(Rejection::Overflow {}.into());
        }
        self.order_wallet(wallet, WalletCommand::RemoveCredits { amount, kind, reason: reason.cloned() })?;
        let wallet = self.get::<Wallet>(&wallet)?;
        Ok(Answer::Credits(CreditAnswer {
            transaction_id: self.command_id(),
            amount: amount.credits(),
            source: None,
            reference: None,
            balance: Some(wallet.balance),
            available: Some(wallet.available()),
        }))
    }

    /// The platform sets any threshold; a reseller its own, never below the policy's.
    pub(super) fn set_threshold(&mut self, wallet: ResellerId, threshold: Level) -> Decided<()> {
        let least = match self.itself_or_platform(wallet, "wallet")? {
            Standing::Platform => Level::default(),
            _ => self.policy()?.low_credit_threshold,
        };
        self.check_opened(wallet)?;
        if threshold < least {
            let what = "a reseller's own low-credit threshold".into();
            return Err(Rejection::LimitExceeded { what, least: least.credits(), most: MAX_CREDITS }.into());
        }
        self.order_wallet(wallet, WalletCommand::SetThreshold(threshold))?;
        Ok(())
    }

    fn set_credit_limit(&mut self, wallet: ResellerId, limit: Level) -> Decided<Answer> {
        self.platform_only_towards(wallet, "wallet")?;
        self.check_opened(wallet)?;
        let current = self.get::<Wallet>(&wallet)?.credit_limit;
        self.check_issuable(limit.credits().saturating_sub(current.credits()).max(0))?;
        self.order_wallet(wallet, WalletCommand::SetCreditLimit(limit))?;
        self.wallet_answer(wallet)
    }

    fn set_hold(&mut self, wallet: ResellerId, held: bool, reason: Option<&Text>) -> Decided<Answer> {
        if self.actor().role == Role::Payments {
            return Err(forbidden("a payment system adds purchases only").into());
        }
        let authority = self.authority_over(wallet, "wallet")?;
        self.check_opened(wallet)?;
        if held {
            self.order_wallet(wallet, WalletCommand::Hold(authority, reason.cloned()))?;
        } else {
            let holds = self.get::<Wallet>(&wallet)?.holds.clone();
            let refusal = Rejection::transition("provisioning", "not held", "resumed");
            let lifted = self.liftable(authority, holds, refusal)?;
            self.order_wallet(wallet, WalletCommand::Resume(lifted, reason.cloned()))?;
        }
        self.wallet_answer(wallet)
    }
}

/// A purchase's reference is taken once in the whole ledger.
pub(super) fn duplicate_reference(taken: &PurchaseFact) -> Rejection {
    Rejection::DuplicateReference {
        transaction_id: taken.transaction_id.to_string(),
        amount: taken.amount,
        position: taken.position,
    }
}
