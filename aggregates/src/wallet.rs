//! The Wallet aggregate: the prepaid credits of one reseller.
//!
//! State is bounded: what is kept per provision or per reference are facts ([`crate::facts`]), not state. Every event carries
//! the balance and the reserved credits after it, so a reader of the raw log needs no replay, and a replay can be checked
//! against them. Folding sets what the event says and computes nothing.
//!
//! What one wallet can know is decided here (can it pay, is it low); who may do it and what else must happen in the same
//! commit is the ledger's.

use std::collections::BTreeSet;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::primitives::{
    Amount, Authority, ClientId, CommandId, CreditSource, Credits, Level, MAX_CREDITS, Percent, PriceSource,
    ProvisionId, Quantity, Reference, RefundId, RemovalKind, ResellerId, Sku, Text, TransferId,
};
use crate::rejection::Rejection;

/// What an upline earns from one provision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Commission {
    /// Who earns it.
    pub reseller: ResellerId,
    /// How much.
    pub amount: Credits,
}

/// Everything that was fixed when a service was provisioned: the only basis of its refunds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provision {
    /// Its identity.
    pub provision_id: ProvisionId,
    /// What it cost: unit cost × quantity.
    pub amount: Credits,
    /// What one unit cost.
    pub unit_cost: Credits,
    /// How the unit cost came about.
    pub price_source: PriceSource,
    /// How many units.
    pub quantity: Quantity,
    /// The unit's cost before any discount; `None` where the cost itself was declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_cost: Option<Credits>,
    /// The discount of the tier that the reseller had; `None` where the cost itself was declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount_percent: Option<Percent>,
    /// The product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<Sku>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Text>,
    /// What the caller wants to find again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// What each upline earned, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commissions: Vec<Commission>,
}

/// What can be asked of a wallet.
#[derive(Debug, Clone, PartialEq)]
pub enum WalletCommand {
    /// Open it.
    Open {
        /// Whose it is.
        reseller: ResellerId,
        /// The threshold it opens with.
        threshold: Level,
    },
    /// Add credits.
    AddCredits {
        /// The transaction's identity.
        transaction_id: CommandId,
        /// How many.
        amount: Amount,
        /// Where from.
        source: CreditSource,
        /// The payment's reference.
        reference: Option<Reference>,
        /// In words.
        note: Option<Text>,
    },
    /// Take credits out.
    RemoveCredits {
        /// How many.
        amount: Amount,
        /// On which ground.
        kind: RemovalKind,
        /// In words.
        reason: Option<Text>,
    },
    /// Spend credits on a service; the price is already worked out.
    Provision(Box<Provision>),
    /// Earn a commission.
    EarnCommission {
        /// From which provision.
        provision_id: ProvisionId,
        /// Whose provision it was.
        seller: ResellerId,
        /// How much.
        amount: Credits,
    },
    /// Give credits back for a provision.
    Refund {
        /// The refund's identity.
        refund_id: RefundId,
        /// Which provision.
        provision_id: ProvisionId,
        /// How much, this time.
        amount: Credits,
        /// How much in total, this time included.
        refunded_total: Credits,
        /// In words.
        reason: Option<Text>,
    },
    /// Give a commission back.
    ReverseCommission {
        /// The refund that reverses it.
        refund_id: RefundId,
        /// Which provision.
        provision_id: ProvisionId,
        /// How much.
        amount: Credits,
    },
    /// Send credits to another wallet.
    TransferOut {
        /// The transfer's identity.
        transfer_id: TransferId,
        /// To whom.
        to: ResellerId,
        /// How many.
        amount: Amount,
        /// In words.
        note: Option<Text>,
    },
    /// Receive credits from another wallet.
    TransferIn {
        /// The transfer's identity.
        transfer_id: TransferId,
        /// From whom.
        from: ResellerId,
        /// How many.
        amount: Amount,
        /// In words.
        note: Option<Text>,
    },
    /// Change the threshold below which credit is low.
    SetThreshold(Level),
    /// Change how far below zero provisioning may take the balance.
    SetCreditLimit(Level),
    /// Hold provisioning.
    Hold(Authority, Option<Text>),
    /// Lift the holds laid by these authorities.
    Resume(Vec<Authority>, Option<Text>),
}

/// A command with the one setting of the reseller that its wallet must know: whether low credit holds provisioning.
#[derive(Debug, Clone, PartialEq)]
pub struct WalletDirective {
    /// What is asked.
    pub command: WalletCommand,
    /// The reseller's setting.
    pub hold_on_low_credit: bool,
}

/// What has happened to a wallet. `balance` and `reserved` are those after the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the commands above say what each member is
pub enum WalletEvent {
    /// It was opened.
    WalletOpened { reseller: ResellerId, low_credit_threshold: Level, balance: Credits, reserved: Credits },
    /// Credits came in from outside the wallets.
    CreditsAdded {
        transaction_id: CommandId,
        amount: Credits,
        source: CreditSource,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<Reference>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Text>,
        balance: Credits,
        reserved: Credits,
    },
    /// The platform took credits out.
    CreditsRemoved {
        amount: Credits,
        kind: RemovalKind,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Text>,
        balance: Credits,
        reserved: Credits,
    },
    /// Credits were spent on a service.
    Provisioned { provision: Box<Provision>, balance: Credits, reserved: Credits },
    /// A downline's provision earned a commission.
    CommissionEarned {
        provision_id: ProvisionId,
        seller: ResellerId,
        amount: Credits,
        balance: Credits,
        reserved: Credits,
    },
    /// Credits came back for a provision.
    ProvisionRefunded {
        refund_id: RefundId,
        provision_id: ProvisionId,
        amount: Credits,
        refunded_total: Credits,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Text>,
        balance: Credits,
        reserved: Credits,
    },
    /// A commission went back with a refund.
    CommissionReversed {
        refund_id: RefundId,
        provision_id: ProvisionId,
        amount: Credits,
        balance: Credits,
        reserved: Credits,
    },
    /// Credits went to another wallet.
    CreditsTransferredOut {
        transfer_id: TransferId,
        to: ResellerId,
        amount: Credits,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Text>,
        balance: Credits,
        reserved: Credits,
    },
    /// Credits came from another wallet.
    CreditsTransferredIn {
        transfer_id: TransferId,
        from: ResellerId,
        amount: Credits,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Text>,
        balance: Credits,
        reserved: Credits,
    },
    /// The threshold changed.
    LowCreditThresholdSet { threshold: Level, balance: Credits, reserved: Credits },
    /// The credit limit changed.
    CreditLimitSet { former_limit: Level, credit_limit: Level, balance: Credits, reserved: Credits },
    /// Provisioning is held.
    ProvisioningHeld {
        authority: Authority,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Text>,
        balance: Credits,
        reserved: Credits,
    },
    /// One hold was lifted.
    ProvisioningResumed {
        authority: Authority,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Text>,
        balance: Credits,
        reserved: Credits,
    },
    /// The balance fell below the threshold. Said once, and not again until it has recovered.
    LowCredit { threshold: Level, balance: Credits, reserved: Credits },
}

crate::event::domain_event!(WalletEvent {
    WalletOpened,
    CreditsAdded,
    CreditsRemoved,
    Provisioned,
    CommissionEarned,
    ProvisionRefunded,
    CommissionReversed,
    CreditsTransferredOut,
    CreditsTransferredIn,
    LowCreditThresholdSet,
    CreditLimitSet,
    ProvisioningHeld,
    ProvisioningResumed,
    LowCredit
});

impl WalletEvent {
    /// Balance and reserved credits after the event.
    #[must_use]
    pub fn after(&self) -> (Credits, Credits) {
        match self {
            Self::WalletOpened { balance, reserved, .. }
            | Self::CreditsAdded { balance, reserved, .. }
            | Self::CreditsRemoved { balance, reserved, .. }
            | Self::Provisioned { balance, reserved, .. }
            | Self::CommissionEarned { balance, reserved, .. }
            | Self::ProvisionRefunded { balance, reserved, .. }
            | Self::CommissionReversed { balance, reserved, .. }
            | Self::CreditsTransferredOut { balance, reserved, .. }
            | Self::CreditsTransferredIn { balance, reserved, .. }
            | Self::LowCreditThresholdSet { balance, reserved, .. }
            | Self::CreditLimitSet { balance, reserved, .. }
            | Self::ProvisioningHeld { balance, reserved, .. }
            | Self::ProvisioningResumed { balance, reserved, .. }
            | Self::LowCredit { balance, reserved, .. } => (*balance, *reserved),
        }
    }

    /// By how much the event changed the balance.
    #[must_use]
    pub fn balance_change(&self) -> Credits {
        match self {
            Self::CreditsAdded { amount, .. }
            | Self::CommissionEarned { amount, .. }
            | Self::ProvisionRefunded { amount, .. }
            | Self::CreditsTransferredIn { amount, .. } => *amount,
            Self::CreditsRemoved { amount, .. }
            | Self::CommissionReversed { amount, .. }
            | Self::CreditsTransferredOut { amount, .. } => -*amount,
            Self::Provisioned { provision, .. } => -provision.amount,
            Self::WalletOpened { .. }
            | Self::LowCreditThresholdSet { .. }
            | Self::CreditLimitSet { .. }
            | Self::ProvisioningHeld { .. }
            | Self::ProvisioningResumed { .. }
            | Self::LowCredit { .. } => 0,
        }
    }

    /// Whether credit is judged after it: a debit, or another threshold.
    fn may_lower_credit(&self) -> bool {
        self.balance_change() < 0 || matches!(self, Self::LowCreditThresholdSet { .. })
    }
}

/// A wallet. `reseller` is `None` before it is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wallet {
    /// Whose it is.
    pub reseller: Option<ResellerId>,
    /// Credits held; negative after a chargeback or a reversal, or within the credit limit.
    pub balance: Credits,
    /// Credits spoken for by reservations.
    pub reserved: Credits,
    /// How far below zero provisioning may take the balance.
    pub credit_limit: Level,
    /// Below which balance credit is low.
    pub low_credit_threshold: Level,
    /// Whether the next fall below the threshold is announced.
    pub armed: bool,
    /// Whose holds lie on provisioning.
    pub holds: BTreeSet<Authority>,
}

/// What provisioning may spend of such a wallet, or of many together: balance − reserved + credit limit. Cannot overflow: each is
/// at most 2⁵³ in size.
#[must_use]
pub fn available(balance: Credits, reserved: Credits, credit_limit: Credits) -> Credits {
    balance.saturating_sub(reserved).saturating_add(credit_limit)
}

impl Wallet {
    /// What provisioning may spend now; see [`available`].
    #[must_use]
    pub fn available(&self) -> Credits {
        available(self.balance, self.reserved, self.credit_limit.credits())
    }

    /// What a transfer may send now: the credit limit is for provisions only.
    #[must_use]
    pub fn transferable(&self) -> Credits {
        self.balance.saturating_sub(self.reserved)
    }

    /// Whether the balance is below the threshold.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.balance < self.low_credit_threshold.credits()
    }

    /// # Errors
    /// `insufficient_credits` where provisioning cannot pay this much.
    pub fn check_affordable(&self, required: Credits) -> Result<(), Rejection> {
        if self.available() < required { Err(self.insufficient(required)) } else { Ok(()) }
    }

    fn insufficient(&self, required: Credits) -> Rejection {
        Rejection::InsufficientCredits {
            required,
            available: self.available(),
            balance: self.balance,
            reserved: self.reserved,
        }
    }

    /// The events of a command: the one it asked for, then what follows from it (low credit, a policy's hold or its end).
    ///
    /// # Errors
    /// `not_found` before it is opened, `already_exists`, `insufficient_credits` or `overflow`.
    pub fn decide(&self, directive: &WalletDirective) -> Result<Vec<WalletEvent>, Rejection> {
        let Some(event) = self.primary_event(&directive.command)? else { return Ok(Vec::new()) };
        let may_lower_credit = event.may_lower_credit();
        let mut after = self.clone();
        after.fold(&event);
        let mut events = vec![event];
        if matches!(directive.command, WalletCommand::Resume(..)) {
            // One event for each further hold that is lifted.
            while let Some(event) = after.primary_event(&directive.command)? {
                after.fold(&event);
                events.push(event);
            }
        }
        after.follow_up(may_lower_credit, directive.hold_on_low_credit, &mut events);
        Ok(events)
    }

    /// What follows from where the wallet now stands; judged after each event.
    fn follow_up(&self, may_lower_credit: bool, hold_on_low_credit: bool, events: &mut Vec<WalletEvent>) {
        let (balance, reserved) = (self.balance, self.reserved);
        let held_by_policy = self.holds.contains(&Authority::LowCreditPolicy);
        if may_lower_credit && self.is_low() && self.armed {
            events.push(WalletEvent::LowCredit { threshold: self.low_credit_threshold, balance, reserved });
            if hold_on_low_credit && !held_by_policy {
                let authority = Authority::LowCreditPolicy;
                events.push(WalletEvent::ProvisioningHeld { authority, reason: None, balance, reserved });
            }
        }
        if held_by_policy && !self.is_low() {
            let authority = Authority::LowCreditPolicy;
            events.push(WalletEvent::ProvisioningResumed { authority, reason: None, balance, reserved });
        }
    }

    fn primary_event(&self, command: &WalletCommand) -> Result<Option<WalletEvent>, Rejection> {
        if let WalletCommand::Open { reseller, threshold } = command {
            return match self.reseller {
                Some(_) => Err(Rejection::AlreadyExists { what: "the wallet".into() }),
                None => Ok(Some(WalletEvent::WalletOpened {
                    reseller: *reseller,
                    low_credit_threshold: *threshold,
                    balance: 0,
                    reserved: 0,
                })),
            };
        }
        if self.reseller.is_none() {
            return Err(Rejection::not_found("wallet"));
        }
        let reserved = self.reserved;
        // That what is issued is bounded does not bound one wallet: what it paid may have been passed on, come to it again, and
        // then be refunded. Each bound stops only who moves towards it.
        let bounds = -MAX_CREDITS..=MAX_CREDITS;
        let plus = |amount: Credits| {
            let balance = self.balance.checked_add(amount).filter(|balance| balance <= bounds.end());
            balance.ok_or(Rejection::Overflow {})
        };
        let minus = |amount: Credits| {
            let balance = self.balance.checked_sub(amount).filter(|balance| balance >= bounds.start());
            balance.ok_or(Rejection::Overflow {})
        };
        Ok(Some(match command {
            WalletCommand::Open { .. } => return Ok(None),
            WalletCommand::AddCredits { transaction_id, amount, source, reference, note } => {
                WalletEvent::CreditsAdded {
                    transaction_id: *transaction_id,
                    amount: amount.credits(),
                    source: *source,
                    reference: reference.clone(),
                    note: note.clone(),
                    balance: plus(amount.credits())?,
                    reserved,
                }
            }
            WalletCommand::RemoveCredits { amount, kind, reason } => WalletEvent::CreditsRemoved {
                amount: amount.credits(),
                kind: *kind,
                reason: reason.clone(),
                balance: minus(amount.credits())?,
                reserved,
            },
            WalletCommand::Provision(provision) => {
                self.check_affordable(provision.amount)?;
                let balance = minus(provision.amount)?;
                WalletEvent::Provisioned { provision: provision.clone(), balance, reserved }
            }
            WalletCommand::EarnCommission { provision_id, seller, amount } => WalletEvent::CommissionEarned {
                provision_id: *provision_id,
                seller: *seller,
                amount: *amount,
                balance: plus(*amount)?,
                reserved,
            },
            WalletCommand::Refund { refund_id, provision_id, amount, refunded_total, reason } => {
                WalletEvent::ProvisionRefunded {
                    refund_id: *refund_id,
                    provision_id: *provision_id,
                    amount: *amount,
                    refunded_total: *refunded_total,
                    reason: reason.clone(),
                    balance: plus(*amount)?,
                    reserved,
                }
            }
            WalletCommand::ReverseCommission { refund_id, provision_id, amount } => WalletEvent::CommissionReversed {
                refund_id: *refund_id,
                provision_id: *provision_id,
                amount: *amount,
                balance: minus(*amount)?,
                reserved,
            },
            WalletCommand::TransferOut { transfer_id, to, amount, note } => {
                if self.transferable() < amount.credits() {
                    return Err(Rejection::InsufficientCredits {
                        required: amount.credits(),
                        available: self.transferable(),
                        balance: self.balance,
                        reserved,
                    });
                }
                WalletEvent::CreditsTransferredOut {
                    transfer_id: *transfer_id,
                    to: *to,
                    amount: amount.credits(),
                    note: note.clone(),
                    balance: minus(amount.credits())?,
                    reserved,
                }
            }
            WalletCommand::TransferIn { transfer_id, from, amount, note } => WalletEvent::CreditsTransferredIn {
                transfer_id: *transfer_id,
                from: *from,
                amount: amount.credits(),
                note: note.clone(),
                balance: plus(amount.credits())?,
                reserved,
            },
            WalletCommand::SetThreshold(threshold) if *threshold == self.low_credit_threshold => return Ok(None),
            WalletCommand::SetThreshold(threshold) => {
                WalletEvent::LowCreditThresholdSet { threshold: *threshold, balance: self.balance, reserved }
            }
            WalletCommand::SetCreditLimit(limit) if *limit == self.credit_limit => return Ok(None),
            WalletCommand::SetCreditLimit(limit) => WalletEvent::CreditLimitSet {
                former_limit: self.credit_limit,
                credit_limit: *limit,
                balance: self.balance,
                reserved,
            },
            WalletCommand::Hold(authority, _) if self.holds.contains(authority) => return Ok(None),
            WalletCommand::Hold(authority, reason) => WalletEvent::ProvisioningHeld {
                authority: *authority,
                reason: reason.clone(),
                balance: self.balance,
                reserved,
            },
            WalletCommand::Resume(authorities, reason) => {
                let Some(authority) = authorities.iter().find(|authority| self.holds.contains(authority)) else {
                    return Ok(None);
                };
                WalletEvent::ProvisioningResumed {
                    authority: *authority,
                    reason: reason.clone(),
                    balance: self.balance,
                    reserved,
                }
            }
        }))
    }

    /// Folds one event.
    pub fn fold(&mut self, event: &WalletEvent) {
        (self.balance, self.reserved) = event.after();
        match event {
            WalletEvent::WalletOpened { reseller, low_credit_threshold, .. } => {
                self.reseller = Some(*reseller);
                self.low_credit_threshold = *low_credit_threshold;
                self.armed = true;
            }
            WalletEvent::LowCreditThresholdSet { threshold, .. } => self.low_credit_threshold = *threshold,
            WalletEvent::CreditLimitSet { credit_limit, .. } => self.credit_limit = *credit_limit,
            WalletEvent::ProvisioningHeld { authority, .. } => {
                self.holds.insert(*authority);
            }
            WalletEvent::ProvisioningResumed { authority, .. } => {
                self.holds.remove(authority);
            }
            WalletEvent::LowCredit { .. } => self.armed = false,
            _ => {}
        }
        if !self.is_low() {
            self.armed = true;
        }
    }
}

crate::event::cqrs_aggregate!(Wallet, "Wallet", WalletDirective, WalletEvent);

#[cfg(test)]
mod tests {
    use super::*;
    use cqrs_es::test::TestFramework;
    use uuid::Uuid;

    fn opened(threshold: i64) -> Vec<WalletEvent> {
        vec![WalletEvent::WalletOpened {
            reseller: ResellerId(Uuid::from_u128(1)),
            low_credit_threshold: Level::new(threshold).expect("level"),
            balance: 0,
            reserved: 0,
        }]
    }

    fn directive(command: WalletCommand) -> WalletDirective {
        WalletDirective { command, hold_on_low_credit: false }
    }

    fn add(amount: i64) -> WalletCommand {
        WalletCommand::AddCredits {
            transaction_id: CommandId(Uuid::nil()),
            amount: Amount::new(amount).expect("amount"),
            source: CreditSource::Bonus,
            reference: None,
            note: None,
        }
    }

    fn provision(amount: i64) -> WalletCommand {
        WalletCommand::Provision(Box::new(Provision {
            provision_id: ProvisionId(Uuid::nil()),
            amount,
            unit_cost: amount,
            price_source: PriceSource::Declared,
            quantity: Quantity::ONE,
            base_cost: None,
            discount_percent: None,
            sku: None,
            client: None,
            description: None,
            metadata: None,
            commissions: Vec::new(),
        }))
    }

    /// The wallet after these commands, and the kinds of the events they led to.
    fn after(threshold: i64, commands: Vec<WalletDirective>) -> (Wallet, Vec<&'static str>) {
        let mut wallet = Wallet::default();
        opened(threshold).iter().for_each(|event| wallet.fold(event));
        let mut kinds = Vec::new();
        for command in commands {
            for event in wallet.decide(&command).expect("accepted") {
                kinds.push(event.kind());
                wallet.fold(&event);
            }
        }
        (wallet, kinds)
    }

    #[test]
    fn a_provision_beyond_what_is_available_is_refused_and_says_what_there_is() {
        let mut given = opened(0);
        given.push(WalletEvent::CreditLimitSet {
            former_limit: Level::default(),
            credit_limit: Level::new(50).expect("level"),
            balance: 0,
            reserved: 0,
        });
        TestFramework::<Wallet>::with(())
            .given(given)
            .when(directive(provision(51)))
            .then_expect_error(Rejection::InsufficientCredits { required: 51, available: 50, balance: 0, reserved: 0 });
    }

    #[test]
    fn a_credit_limit_is_not_for_transfers() {
        let (wallet, _) = after(0, vec![directive(WalletCommand::SetCreditLimit(Level::new(50).expect("level")))]);
        let transfer = WalletCommand::TransferOut {
            transfer_id: TransferId(Uuid::nil()),
            to: ResellerId(Uuid::from_u128(2)),
            amount: Amount::new(1).expect("amount"),
            note: None,
        };
        assert_eq!(
            wallet.decide(&directive(transfer)),
            Err(Rejection::InsufficientCredits { required: 1, available: 0, balance: 0, reserved: 0 })
        );
    }

    #[test]
    fn low_credit_is_said_once_and_again_only_after_it_has_recovered() {
        let (_, kinds) = after(
            500,
            [add(600), provision(101), provision(1), add(1), provision(1)].map(directive).into_iter().collect(),
        );
        assert_eq!(kinds, ["CreditsAdded", "Provisioned", "LowCredit", "Provisioned", "CreditsAdded", "Provisioned"]);
        let (_, kinds) =
            after(500, [add(600), provision(200), add(100), provision(1)].map(directive).into_iter().collect());
        assert_eq!(kinds, ["CreditsAdded", "Provisioned", "LowCredit", "CreditsAdded", "Provisioned", "LowCredit"]);
    }

    #[test]
    fn a_wallet_that_never_reached_its_threshold_is_low_after_its_first_debit() {
        let (_, kinds) = after(500, [add(100), provision(1), provision(1)].map(directive).into_iter().collect());
        assert_eq!(kinds, ["CreditsAdded", "Provisioned", "LowCredit", "Provisioned"]);
    }

    #[test]
    fn a_raised_threshold_is_judged_at_once() {
        let raise = WalletCommand::SetThreshold(Level::new(2000).expect("level"));
        let (_, kinds) = after(500, [add(1000), raise, provision(1)].map(directive).into_iter().collect());
        assert_eq!(kinds, ["CreditsAdded", "LowCreditThresholdSet", "LowCredit", "Provisioned"]);
    }

    #[test]
    fn the_low_credit_policy_holds_provisioning_and_lets_go_when_credit_has_recovered() {
        let holding = |command| WalletDirective { command, hold_on_low_credit: true };
        let (wallet, kinds) = after(500, vec![holding(add(600)), holding(provision(200)), holding(add(100))]);
        assert_eq!(
            kinds,
            ["CreditsAdded", "Provisioned", "LowCredit", "ProvisioningHeld", "CreditsAdded", "ProvisioningResumed"]
        );
        assert!(wallet.holds.is_empty());
    }

    #[test]
    fn every_event_carries_the_balance_that_its_amount_leads_to() {
        let mut wallet = Wallet::default();
        opened(0).iter().for_each(|event| wallet.fold(event));
        for command in [add(70), provision(30), add(2)] {
            for event in wallet.decide(&directive(command)).expect("accepted") {
                assert_eq!(event.after().0, wallet.balance + event.balance_change());
                wallet.fold(&event);
            }
        }
        assert_eq!(wallet.balance, 42);
    }
}
