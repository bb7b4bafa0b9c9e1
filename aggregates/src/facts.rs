//! Facts: what grows with history, kept by key beside the aggregates so that no aggregate's state does.
//!
//! A fact is a pure function of events: [`keys`] names the facts an event touches, [`fold`] gives each one's value after it.
//! They are prefetched by key, rebuildable from the log and compared by `verify`. A store writes them in the same commit as the
//! events; or, where a key leads to the events that made a fact, it may keep only where those stand, and fold them when the fact
//! is asked for. [`provision_step`] says of an event's text, cheaply, whether it is such a one for a provision.

use serde::{Deserialize, Serialize};

use crate::event::{AggregateKey, DecodeError, EVENT_VERSION, Event};
use crate::primitives::{
    CommandId, CreditSource, Credits, ProvisionId, Reference, ReferralCode, Refid, ResellerId, UserId,
};
use crate::reseller::{Registrar, ResellerEvent};
use crate::wallet::{Commission, WalletEvent};

/// How the payload of a `Provisioned` begins as this version writes it; the id follows.
const PROVISIONED: &str = r#"{"Provisioned":{"provision":{"provision_id":""#;

/// How long an id is as a text.
const ID_CHARACTERS: usize = 36;

/// What the one fact about the whole ledger is called within its kind.
const TOTALS_KEY: &str = "all";

/// The key of a fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKey {
    /// What was paid for a provision, and what of it has been refunded.
    Provision(ProvisionId),
    /// Which purchase took a reference.
    PurchaseReference(Reference),
    /// Whose public reference it is.
    Refid(Refid),
    /// Which reseller a user is.
    User(UserId),
    /// Whose referral code it is.
    ReferralCode(ReferralCode),
    /// What the whole ledger has issued.
    Totals,
}

impl FactKey {
    /// The kind, as the facts table names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Provision(_) => "provision",
            Self::PurchaseReference(_) => "purchase_reference",
            Self::Refid(_) => "refid",
            Self::User(_) => "user",
            Self::ReferralCode(_) => "referral_code",
            Self::Totals => "totals",
        }
    }

    /// The key within its kind, as the facts table has it.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Provision(id) => id.to_string(),
            Self::PurchaseReference(reference) => reference.to_string(),
            Self::Refid(refid) => refid.to_string(),
            Self::User(user) => user.to_string(),
            Self::ReferralCode(code) => code.to_string(),
            Self::Totals => TOTALS_KEY.to_owned(),
        }
    }

    /// Reads the two texts back.
    ///
    /// # Errors
    /// [`DecodeError`] for an unknown kind or a key of the wrong form.
    pub fn parse(kind: &str, key: &str) -> Result<Self, DecodeError> {
        let malformed = |_| DecodeError::Malformed(format!("the {kind} fact has the key {key:?}"));
        Ok(match kind {
            "provision" => Self::Provision(key.parse().map_err(malformed)?),
            "purchase_reference" => Self::PurchaseReference(key.parse().map_err(malformed)?),
            "refid" => Self::Refid(key.parse().map_err(malformed)?),
            "user" => Self::User(key.parse().map_err(malformed)?),
            "referral_code" => Self::ReferralCode(key.parse().map_err(malformed)?),
            "totals" if key == TOTALS_KEY => Self::Totals,
            "totals" => return Err(DecodeError::Malformed(format!("the totals fact has the key {key:?}"))),
            other => return Err(DecodeError::UnknownType(other.to_owned())),
        })
    }

    /// Reads a value of this key's kind from its JSON text.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] for damage.
    pub fn decode(&self, value: &str) -> Result<Fact, DecodeError> {
        let malformed = |error: serde_json::Error| DecodeError::Malformed(format!("{} fact: {error}", self.kind()));
        match self {
            Self::Provision(_) => serde_json::from_str(value).map(Fact::Provision).map_err(malformed),
            Self::PurchaseReference(_) => serde_json::from_str(value).map(Fact::Purchase).map_err(malformed),
            Self::Totals => serde_json::from_str(value).map(Fact::Totals).map_err(malformed),
            Self::Refid(_) | Self::User(_) | Self::ReferralCode(_) => {
                serde_json::from_str(value).map(Fact::Reseller).map_err(malformed)
            }
        }
    }
}

/// The value of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Fact {
    /// Of [`FactKey::Provision`].
    Provision(ProvisionFact),
    /// Of [`FactKey::PurchaseReference`].
    Purchase(PurchaseFact),
    /// Of [`FactKey::Totals`].
    Totals(Totals),
    /// Of [`FactKey::Refid`], [`FactKey::User`] and [`FactKey::ReferralCode`].
    Reseller(OwnerFact),
}

/// A provision, as far as refunds must know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionFact {
    /// Whose wallet paid.
    pub wallet: ResellerId,
    /// What was paid.
    pub paid: Credits,
    /// What of it has been refunded so far.
    pub refunded: Credits,
    /// What each upline earned.
    pub commissions: Vec<Commission>,
}

/// A purchase, as far as a repeated reference must know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurchaseFact {
    /// Its transaction.
    pub transaction_id: CommandId,
    /// Whose wallet was credited.
    pub wallet: ResellerId,
    /// How much.
    pub amount: Credits,
    /// Where in the log it stands.
    pub position: u64,
}

/// To whom something belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerFact {
    /// The reseller.
    pub reseller: ResellerId,
}

/// Running sums over the whole ledger, which bound what may still be issued.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// All credits ever added from outside.
    pub issued: Credits,
    /// All credit limits in force.
    pub credit_limits: Credits,
    /// All credits ever taken out by the platform.
    pub removed: Credits,
}

/// The facts that an event touches; `key` is the event's own aggregate.
#[must_use]
pub fn keys(event: &Event) -> Vec<FactKey> {
    match event {
        Event::Wallet(WalletEvent::Provisioned { provision, .. }) => vec![FactKey::Provision(provision.provision_id)],
        Event::Wallet(WalletEvent::ProvisionRefunded { provision_id, .. }) => vec![FactKey::Provision(*provision_id)],
        Event::Wallet(WalletEvent::CreditsAdded {
            source: CreditSource::Purchase, reference: Some(reference), ..
        }) => {
            vec![FactKey::PurchaseReference(reference.clone()), FactKey::Totals]
        }
        Event::Wallet(
            WalletEvent::CreditsAdded { .. } | WalletEvent::CreditsRemoved { .. } | WalletEvent::CreditLimitSet { .. },
        ) => vec![FactKey::Totals],
        Event::Reseller(ResellerEvent::ResellerRegistered(registration)) => {
            let mut keys = vec![FactKey::Refid(registration.refid.clone())];
            if registration.registrar == Registrar::Platform {
                keys.push(FactKey::User(registration.user_id.clone()));
            }
            keys
        }
        Event::Reseller(ResellerEvent::ResellerApproved { user_id }) => vec![FactKey::User(user_id.clone())],
        Event::Reseller(ResellerEvent::ReferralCodeIssued { code, .. }) => vec![FactKey::ReferralCode(code.clone())],
        _ => Vec::new(),
    }
}

/// The value of one fact after an event of the aggregate of `owner` (the reseller whose wallet or profile it is).
///
/// `None` where the event does not touch this key, or a value that it needs is missing.
#[must_use]
pub fn fold(key: &FactKey, current: Option<&Fact>, owner: ResellerId, event: &Event, position: u64) -> Option<Fact> {
    match (key, event) {
        (FactKey::Provision(_), Event::Wallet(WalletEvent::Provisioned { provision, .. })) => {
            Some(Fact::Provision(ProvisionFact {
                wallet: owner,
                paid: provision.amount,
                refunded: 0,
                commissions: provision.commissions.clone(),
            }))
        }
        (FactKey::Provision(_), Event::Wallet(WalletEvent::ProvisionRefunded { refunded_total, .. })) => {
            match current {
                Some(Fact::Provision(provision)) => {
                    Some(Fact::Provision(ProvisionFact { refunded: *refunded_total, ..provision.clone() }))
                }
                _ => None,
            }
        }
        (
            FactKey::PurchaseReference(_),
            Event::Wallet(WalletEvent::CreditsAdded { transaction_id, amount, source: CreditSource::Purchase, .. }),
        ) => Some(Fact::Purchase(PurchaseFact {
            transaction_id: *transaction_id,
            wallet: owner,
            amount: *amount,
            position,
        })),
        (FactKey::Totals, Event::Wallet(event)) => {
            let mut totals = match current {
                Some(Fact::Totals(totals)) => *totals,
                _ => Totals::default(),
            };
            match event {
                WalletEvent::CreditsAdded { amount, .. } => totals.issued = totals.issued.saturating_add(*amount),
                WalletEvent::CreditsRemoved { amount, .. } => totals.removed = totals.removed.saturating_add(*amount),
                WalletEvent::CreditLimitSet { former_limit, credit_limit, .. } => {
                    totals.credit_limits = totals
                        .credit_limits
                        .saturating_sub(former_limit.credits())
                        .saturating_add(credit_limit.credits());
                }
                _ => return None,
            }
            Some(Fact::Totals(totals))
        }
        (FactKey::Refid(_) | FactKey::User(_) | FactKey::ReferralCode(_), Event::Reseller(_)) => {
            Some(Fact::Reseller(OwnerFact { reseller: owner }))
        }
        _ => None,
    }
}

/// What an event does to the fact of a provision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionStep {
    /// It makes it: whatever there was before is no part of it.
    Provisioned(ProvisionId),
    /// It refunds of it, and says what has been refunded in total.
    Refunded(ProvisionId),
}

impl ProvisionStep {
    /// What a decoded event does.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Wallet(WalletEvent::Provisioned { provision, .. }) => {
                Some(Self::Provisioned(provision.provision_id))
            }
            Event::Wallet(WalletEvent::ProvisionRefunded { provision_id, .. }) => Some(Self::Refunded(*provision_id)),
            _ => None,
        }
    }
}

/// What of an event's payload says which provision it is about.
#[derive(Deserialize)]
enum Identified {
    Provisioned { provision: IdentifiedProvision },
    ProvisionRefunded { provision_id: ProvisionId },
}

#[derive(Deserialize)]
struct IdentifiedProvision {
    provision_id: ProvisionId,
}

/// What an event does to the fact of a provision, from its texts as the log has them; `None` where it does nothing to one.
///
/// Cost: some ten nanoseconds where this version wrote it, a few hundred for a refund. The rest of the payload is not judged: who
/// folds the fact decodes it.
///
/// # Errors
/// [`DecodeError::UnknownType`] for a wallet's event that a newer version may have written: it may change a provision.
/// [`DecodeError::Malformed`] for damage.
pub fn provision_step(
    aggregate_type: &str,
    event_type: &str,
    event_version: &str,
    payload: &str,
) -> Result<Option<ProvisionStep>, DecodeError> {
    if aggregate_type != AggregateKey::WALLET {
        return Ok(None);
    }
    if event_version != EVENT_VERSION {
        return Event::decode(aggregate_type, event_type, event_version, payload)
            .map(|event| ProvisionStep::of(&event));
    }
    if event_type == "Provisioned"
        && let Some(id) = payload.strip_prefix(PROVISIONED).and_then(|id| id.get(..ID_CHARACTERS)?.parse().ok())
    {
        return Ok(Some(ProvisionStep::Provisioned(id)));
    }
    if !matches!(event_type, "Provisioned" | "ProvisionRefunded") {
        let is_known = WalletEvent::KINDS.contains(&event_type);
        return if is_known { Ok(None) } else { Err(DecodeError::UnknownType(event_type.to_owned())) };
    }
    let malformed = |why: String| DecodeError::Malformed(format!("{event_type}: {why}"));
    match serde_json::from_str(payload).map_err(|error| malformed(error.to_string()))? {
        Identified::Provisioned { provision } if event_type == "Provisioned" => {
            Ok(Some(ProvisionStep::Provisioned(provision.provision_id)))
        }
        Identified::ProvisionRefunded { provision_id } if event_type == "ProvisionRefunded" => {
            Ok(Some(ProvisionStep::Refunded(provision_id)))
        }
        _ => Err(malformed("it holds another event".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    const ID: &str = "0190d3a5-7c1e-7b60-8f00-000000000001";

    fn step(event_type: &str, version: &str, payload: &str) -> Result<Option<ProvisionStep>, DecodeError> {
        provision_step("Wallet", event_type, version, payload)
    }

    #[test]
    fn damage_and_what_a_newer_version_wrote_are_no_event_about_nothing() {
        let id = ProvisionId(ID.parse().expect("an id"));
        let provisioned = format!(r#"{{"Provisioned":{{"provision":{{"provision_id":"{ID}","amount":1}}}}}}"#);
        let made = Ok(Some(ProvisionStep::Provisioned(id)));
        assert_eq!(step("Provisioned", EVENT_VERSION, &provisioned), made);
        assert_eq!(step("Provisioned", EVENT_VERSION, &format!(" {provisioned}")), made);
        assert_eq!(provision_step("Reseller", "Provisioned", EVENT_VERSION, &provisioned), Ok(None));

        let is_malformed = |read| matches!(read, Err(DecodeError::Malformed(_)));
        assert!(is_malformed(step("ProvisionRefunded", EVENT_VERSION, &provisioned)), "it holds another event");
        assert!(is_malformed(step("Provisioned", EVENT_VERSION, &provisioned.replace("-7b60-", "-7B60-"))));
        assert!(is_malformed(step("Provisioned", EVENT_VERSION, &provisioned[..60])));
        let is_unknown = |read| matches!(read, Err(DecodeError::UnknownType(_)));
        assert!(is_unknown(step("Provisioned", "9.0.0", &provisioned)));
        assert!(is_unknown(step("ProvisionExtended", EVENT_VERSION, "{}")));
        assert_eq!(step("CreditsRemoved", EVENT_VERSION, "not looked at"), Ok(None));
    }

    #[test]
    fn what_this_version_writes_is_read_without_parsing_it() {
        let written = crate::event_format::samples().into_iter().map(|(_, event)| event.payload().expect("json"));
        assert_eq!(written.filter(|payload| payload.starts_with(PROVISIONED)).count(), 1);
    }
}
