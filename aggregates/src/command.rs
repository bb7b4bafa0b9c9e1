//! Commands: everything that can be asked of the ledger, with who asks and under which idempotency key.
//!
//! Identifiers, public references and salts are made by the sender, so that deciding is a pure function.

use serde_json::{Map, Value};

use crate::client::ClientDetails;
use crate::closing::Reckoning;
use crate::platform::Policy;
use crate::primitives::{
    Actor, Amount, ClientId, CommandId, CompanyName, CreditSource, Level, ProvisionId, Quantity, Reference,
    ReferralCode, Refid, RefundId, RemovalKind, RequestId, ResellerId, Sku, Text, Tier, TransferId, UserId,
};
use crate::product::ProductTerms;
use crate::reseller::SettingsPatch;
use crate::upline_request::Ask;

/// A command on its way to the ledger.
#[derive(Debug, Clone)]
pub struct CommandEnvelope {
    /// Its identity; every event that comes of it carries it.
    pub command_id: CommandId,
    /// Who sent it.
    pub actor: Actor,
    /// Under which key, if any.
    pub idempotency: Option<Idempotency>,
    /// What is asked.
    pub command: Command,
}

/// An idempotency key with what it was sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// First 16 bytes of SHA-256(tenant ‖ actor ‖ key).
    pub key: ReceiptKey,
    /// SHA-256 of what was sent: equal for a repetition, else not.
    pub fingerprint: [u8; 32],
}

/// The key of a receipt.
pub type ReceiptKey = [u8; 16];

/// What a reseller pays, before tiers and prices are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceBasis {
    /// A product of the catalog.
    Product {
        /// Which.
        sku: Sku,
        /// How many units.
        quantity: Quantity,
    },
    /// A base cost that the operator's own application names; priced by tier, with commission.
    BaseCost(Level),
    /// A cost that the operator's own application names; taken as given, without commission.
    Cost(Amount),
}

/// One provision as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvisionOrder {
    /// The identity it will have.
    pub provision_id: ProvisionId,
    /// What it should cost.
    pub basis: PriceBasis,
    /// For which client.
    pub client: Option<ClientId>,
    /// In words.
    pub description: Option<Text>,
    /// What the caller wants to find again.
    pub metadata: Option<Map<String, Value>>,
}

/// One item of a bulk.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkItem {
    /// The provision.
    pub order: ProvisionOrder,
    /// The item's own key, if any; it lives in the same space as those of whole requests.
    pub idempotency: Option<Idempotency>,
}

/// A plain step in a client's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientStep {
    /// Let it be provisioned for.
    Activate,
    /// Stop it for a while.
    Suspend,
    /// Stop it for good.
    Deactivate,
    /// Erase its personal data.
    Forget,
}

/// A change of a client's personal data: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientPatch {
    /// A new name.
    pub name: Option<Text>,
    /// A new e-mail address, or none.
    pub email: Option<Option<Text>>,
    /// A JSON merge patch (RFC 7386) for the metadata.
    pub metadata: Option<Map<String, Value>>,
    /// A fresh salt.
    pub salt: String,
}

/// Everything that can be asked of the ledger. Who may ask is in [`crate::ledger`].
#[derive(Debug, Clone)]
#[allow(missing_docs)] // members are named in DOMAIN's words; the aggregates' commands say what each is
pub enum Command {
    /// Puts another policy in force.
    SetPolicy(Policy),
    /// Closes a month, with figures that were added up for it.
    ClosePeriod(Box<Reckoning>),

    /// Takes a reseller into the network.
    Register {
        reseller: ResellerId,
        refid: Refid,
        user_id: UserId,
        company_name: CompanyName,
        /// For a reseller that registers without naming one, itself; for the platform, a top-level reseller.
        parent: Option<ResellerId>,
        referral_code: Option<ReferralCode>,
        tier: Option<Tier>,
        metadata: Map<String, Value>,
    },
    /// Puts a pending reseller in business.
    Approve { reseller: ResellerId },
    /// Puts a reseller out of business.
    Deactivate { reseller: ResellerId, reason: Option<Text> },
    /// Puts a deactivated reseller back in business.
    Reactivate { reseller: ResellerId, reason: Option<Text> },
    /// Freezes a reseller and its downline in the sender's authority.
    Freeze { reseller: ResellerId, reason: Option<Text> },
    /// Lifts the freezes on a reseller that the sender's authority reaches.
    Unfreeze { reseller: ResellerId, reason: Option<Text> },
    /// Gives a reseller another tier.
    ChangeTier { reseller: ResellerId, tier: Tier, reason: Option<Text> },
    /// Gives a reseller another company name.
    Rename { reseller: ResellerId, company_name: CompanyName },
    /// Merges a JSON patch into a reseller's metadata.
    UpdateMetadata { reseller: ResellerId, patch: Map<String, Value> },
    /// Changes a reseller's settings, and its wallet's threshold with them.
    ChangeSettings { reseller: ResellerId, patch: SettingsPatch, threshold: Option<Level> },
    /// Sets a child's price for a product.
    SetPrice { reseller: ResellerId, sku: Sku, cost: Level },
    /// Clears a child's price for a product.
    ClearPrice { reseller: ResellerId, sku: Sku },
    /// Makes one of a reseller's referral codes void.
    RevokeReferralCode { reseller: ResellerId, code: ReferralCode },

    /// Opens a wallet where the policy did not.
    OpenWallet { wallet: ResellerId },
    /// Adds credits.
    AddCredits {
        wallet: ResellerId,
        amount: Amount,
        source: CreditSource,
        reference: Option<Reference>,
        note: Option<Text>,
    },
    /// Takes credits out.
    RemoveCredits { wallet: ResellerId, amount: Amount, kind: RemovalKind, reason: Option<Text> },
    /// Spends credits on a service.
    Provision { wallet: ResellerId, order: Box<ProvisionOrder> },
    /// Spends credits on many services.
    ProvisionBulk { wallet: ResellerId, atomic: bool, items: Vec<BulkItem> },
    /// Gives credits back for a provision: what is named, or all that is left.
    Refund {
        wallet: ResellerId,
        provision_id: ProvisionId,
        refund_id: RefundId,
        amount: Option<Amount>,
        reason: Option<Text>,
    },
    /// Sends credits to another wallet.
    Transfer { from: ResellerId, to: ResellerId, transfer_id: TransferId, amount: Amount, note: Option<Text> },
    /// Changes a wallet's low-credit threshold.
    SetThreshold { wallet: ResellerId, threshold: Level },
    /// Changes a wallet's credit limit.
    SetCreditLimit { wallet: ResellerId, credit_limit: Level },
    /// Holds or resumes provisioning in the sender's authority.
    SetHold { wallet: ResellerId, held: bool, reason: Option<Text> },

    /// Takes a client on; for a reseller that names none, as its own.
    OnboardClient { client: ClientId, owner: Option<ResellerId>, details: ClientDetails },
    /// Changes a client's personal data.
    ChangeClient { client: ClientId, patch: ClientPatch },
    /// Takes a client a step on.
    StepClient { client: ClientId, step: ClientStep },
    /// Gives a client to another reseller.
    ReassignClient { client: ClientId, owner: ResellerId },

    /// Puts a product on sale.
    PublishProduct { sku: Sku, terms: ProductTerms },
    /// Changes a product's terms.
    ReviseProduct { sku: Sku, terms: ProductTerms },
    /// Takes a product off sale.
    RetireProduct { sku: Sku },

    /// Asks the upline for something.
    RaiseRequest { request: RequestId, requester: ResellerId, ask: Ask },
    /// Approves a request, with its effect.
    ApproveRequest {
        request: RequestId,
        /// The identity of the transfer, where one comes of it.
        transfer_id: TransferId,
        /// The code, where one is issued.
        code: ReferralCode,
        note: Option<Text>,
    },
    /// Refuses a request.
    RejectRequest { request: RequestId, reason: Option<Text> },
    /// Takes a request back.
    CancelRequest { request: RequestId },
    /// Passes a request on to the next one up.
    ForwardRequest { request: RequestId },
    /// Ends a request that nobody answered in time (a background policy's).
    ExpireRequest { request: RequestId },
    /// Ends a request that can no longer be answered, because its requester has gone (a background policy's).
    FailRequest { request: RequestId },
}

impl Command {
    /// Whether events of resellers may come of it: those are folded into the network, from which nothing can be taken back.
    #[must_use]
    pub fn may_change_the_network(&self) -> bool {
        match self {
            Self::Register { .. }
            | Self::Approve { .. }
            | Self::Deactivate { .. }
            | Self::Reactivate { .. }
            | Self::Freeze { .. }
            | Self::Unfreeze { .. }
            | Self::ChangeTier { .. }
            | Self::Rename { .. }
            | Self::UpdateMetadata { .. }
            | Self::ChangeSettings { .. }
            | Self::SetPrice { .. }
            | Self::ClearPrice { .. }
            | Self::RevokeReferralCode { .. }
            | Self::ApproveRequest { .. } => true,
            Self::SetPolicy(_)
            | Self::ClosePeriod(_)
            | Self::OpenWallet { .. }
            | Self::AddCredits { .. }
            | Self::RemoveCredits { .. }
            | Self::Provision { .. }
            | Self::ProvisionBulk { .. }
            | Self::Refund { .. }
            | Self::Transfer { .. }
            | Self::SetThreshold { .. }
            | Self::SetCreditLimit { .. }
            | Self::SetHold { .. }
            | Self::OnboardClient { .. }
            | Self::ChangeClient { .. }
            | Self::StepClient { .. }
            | Self::ReassignClient { .. }
            | Self::PublishProduct { .. }
            | Self::ReviseProduct { .. }
            | Self::RetireProduct { .. }
            | Self::RaiseRequest { .. }
            | Self::RejectRequest { .. }
            | Self::CancelRequest { .. }
            | Self::ForwardRequest { .. }
            | Self::ExpireRequest { .. }
            | Self::FailRequest { .. } => false,
        }
    }
}
