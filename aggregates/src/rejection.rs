//! Refusals: the ledger's sentences for "no", in one closed enum. A refusal is an answer, not a failure.
//!
//! [`Rejection`] is what the rules say; it is remembered under the command's idempotency key like a success. A
//! [`Denial`] is what is turned away before the rules are asked (not this actor's to do, or outside what it may see); it is
//! not remembered. Both serialise as `{"code": …, members…}`; the sentence is their `Display`.

use serde::{Deserialize, Serialize};

use crate::primitives::{Credits, ResellerId, Tier};

/// Whose word something is (a freeze, a hold, an answer that is waited for), as much of it as the one who asks may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", untagged)]
pub enum SeenAuthority {
    /// The operator, or an ancestor outside the viewer's own subtree.
    Elsewhere(Above),
    /// An ancestor inside the viewer's subtree.
    Reseller(ResellerId),
}

/// A power above the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Above {
    /// The operator.
    Platform,
    /// Somebody in the viewer's upline.
    Upline,
    /// The low-credit policy.
    LowCreditPolicy,
}

impl std::fmt::Display for SeenAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Elsewhere(Above::Platform) => f.write_str("the platform"),
            Self::Elsewhere(Above::Upline) => f.write_str("its upline"),
            Self::Elsewhere(Above::LowCreditPolicy) => f.write_str("the low-credit policy"),
            Self::Reseller(id) => write!(f, "reseller {id}"),
        }
    }
}

/// The rules' refusals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Rejection {
    /// The wallet cannot pay.
    #[error("{required} credits are needed and {available} are available")]
    InsufficientCredits {
        /// What the command needs.
        required: Credits,
        /// What may be spent now.
        available: Credits,
        /// What the wallet holds.
        balance: Credits,
        /// What is spoken for by reservations.
        reserved: Credits,
    },
    /// The reseller or an ancestor is frozen.
    #[error("the reseller is frozen by {frozen_by}")]
    ResellerFrozen {
        /// Whose freeze it is.
        frozen_by: SeenAuthority,
    },
    /// Provisioning is held on this wallet.
    #[error("provisioning is held by {by}")]
    ProvisioningHeld {
        /// Whose hold it is.
        by: SeenAuthority,
    },
    /// The reseller is pending or deactivated.
    #[error("reseller {reseller} is not active: it is {status}")]
    ResellerInactive {
        /// Which one.
        reseller: ResellerId,
        /// Where it stands.
        status: crate::primitives::ResellerStatus,
    },
    /// The client cannot be provisioned for.
    #[error("the client is {status}; only an active client can be provisioned for")]
    ClientInactive {
        /// Where it stands.
        status: crate::primitives::ClientStatus,
    },
    /// The product is no longer sold.
    #[error("product {sku} is retired")]
    ProductRetired {
        /// Which one.
        sku: String,
    },
    /// The command does not fit where the thing stands.
    #[error("{what} is {from}, and cannot be {to}")]
    InvalidTransition {
        /// What it is about.
        what: String,
        /// Where it stands.
        from: String,
        /// Where the command wanted it.
        to: String,
    },
    /// Something with this identity is there already.
    #[error("{what} already exists")]
    AlreadyExists {
        /// What.
        what: String,
    },
    /// A purchase with this reference has been credited before.
    #[error("a purchase with this reference was credited at position {position}")]
    DuplicateReference {
        /// The transaction that took the reference.
        transaction_id: String,
        /// How much it credited.
        amount: Credits,
        /// Where in the log it stands.
        position: u64,
    },
    /// The product wants a higher tier.
    #[error("this product is sold from tier {required_tier} on")]
    TierNotEntitled {
        /// The lowest tier that may sell it.
        required_tier: Tier,
    },
    /// The token may not name a price.
    #[error("this token may not name a cost or a base cost: name a sku")]
    DeclaredCostNotAllowed {},
    /// There is no such thing (for this actor).
    #[error("there is no such {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// A bound of the domain would be passed.
    #[error("{what} must be from {least} to {most}")]
    LimitExceeded {
        /// What is bounded.
        what: String,
        /// The smallest value allowed now.
        least: Credits,
        /// The largest value allowed now.
        most: Credits,
    },
    /// More than what is left of a provision was to be refunded.
    #[error("{refundable} credits of this provision can still be refunded")]
    NotRefundable {
        /// What is left.
        refundable: Credits,
    },
    /// Credits would pass what can be held exactly: a cost, what a wallet holds, all there are, or all that were ever removed.
    #[error("a cost, the credits of a wallet, or all in circulation would pass 9007199254740991")]
    Overflow {},
    /// The referral code cannot be used.
    #[error("the referral code cannot be used: {reason}")]
    ReferralInvalid {
        /// Why.
        reason: String,
    },
    /// What was added up is no longer all there is: add up again.
    #[error("the log has moved on since the figures were added up")]
    LogMovedOn {},
    /// One item of an atomic bulk was refused, and with it the whole.
    #[error("item {index} was refused: {refusal}")]
    ItemRefused {
        /// Which item, counted from 0.
        index: usize,
        /// Its own refusal.
        refusal: Box<Rejection>,
    },
    /// The key was used before for something else.
    #[error("this idempotency key was used for another request")]
    IdempotencyKeyReused {},
    /// A value is well formed but not acceptable here.
    #[error("{detail}")]
    Invalid {
        /// Where in the request, as a JSON pointer.
        pointer: String,
        /// What would be right.
        detail: String,
    },
}

impl Rejection {
    /// Whether it is remembered under the command's key. What the sender must mend first is not: the mended command may come
    /// under the same key.
    #[must_use]
    pub fn is_remembered(&self) -> bool {
        !matches!(self, Self::Invalid { .. } | Self::IdempotencyKeyReused {} | Self::LogMovedOn {})
    }

    /// A "no such …".
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// A transition that is not allowed.
    #[must_use]
    pub fn transition(what: &str, from: impl std::fmt::Display, to: &str) -> Self {
        Self::InvalidTransition { what: what.into(), from: from.to_string(), to: to.into() }
    }

    /// A well-formed value that is not acceptable here.
    #[must_use]
    pub fn invalid(pointer: &str, detail: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.into(), detail: detail.into() }
    }
}

/// What is turned away before the rules are asked, and not remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Denial {
    /// Within the actor's sight, but not its to do.
    #[error("{detail}")]
    Forbidden {
        /// Whose it would be to do.
        detail: String,
    },
    /// Outside what the actor may see, or not there at all: the two look the same.
    #[error("there is no such {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
}
