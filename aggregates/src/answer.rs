//! What the ledger answers to a command that it accepts. The same shapes serve the queries, so a client reads one language.
//!
//! An [`Answer`] is remembered under its idempotency key, tagged by its kind and without personal data; what goes to the client is
//! [`Answer::body`].

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::client::ClientDetails;
use crate::closing::Closing;
use crate::platform::{Money, Policy};
use crate::primitives::{
    ClientId, ClientStatus, CommandId, CompanyName, CreditSource, Credits, Level, Percent, PriceSource, ProvisionId,
    Quantity, Reference, Refid, RefundId, RequestId, RequestStatus, ResellerId, ResellerStatus, Sku, Text, Tier,
    Timestamp, TransferId, UserId,
};
use crate::product::ProductTerms;
use crate::rejection::{Rejection, SeenAuthority};
use crate::reseller::Settings;
use crate::upline_request::{Ask, Outcome};
use crate::wallet::Commission;

/// An accepted command's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "snake_case")]
#[allow(missing_docs)] // each is the answer that its type describes
pub enum Answer {
    Reseller(Box<ResellerView>),
    Settings(SettingsView),
    Price(PriceView),
    Wallet(Box<WalletView>),
    Credits(CreditAnswer),
    Provision(Box<ProvisionAnswer>),
    Bulk(BulkAnswer),
    Refund(RefundAnswer),
    Transfer(TransferAnswer),
    Client(Box<ClientView>),
    Product(ProductView),
    Policy(Policy),
    Closing(Box<Closing>),
    Request(Box<RequestView>),
    Done(DoneAnswer),
}

impl Answer {
    /// The answer as a receipt keeps it: without personal data, which must be gone everywhere once a client is forgotten.
    /// [`Ledger::recall`](crate::ledger::Ledger::recall) puts back what is still there.
    #[must_use]
    pub fn without_personal_data(&self) -> Self {
        let mut answer = self.clone();
        if let Self::Client(view) = &mut answer {
            view.show(None);
        }
        answer
    }

    /// The answer as a client reads it: without the tag that only the ledger's own memory needs.
    #[must_use]
    pub fn body(&self) -> AnswerBody<'_> {
        AnswerBody(self)
    }
}

/// Serialises an answer without its tag.
#[derive(Debug, Clone, Copy)]
pub struct AnswerBody<'a>(&'a Answer);

impl Serialize for AnswerBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Answer::Reseller(body) => body.serialize(serializer),
            Answer::Settings(body) => body.serialize(serializer),
            Answer::Price(body) => body.serialize(serializer),
            Answer::Wallet(body) => body.serialize(serializer),
            Answer::Credits(body) => body.serialize(serializer),
            Answer::Provision(body) => body.serialize(serializer),
            Answer::Bulk(body) => body.serialize(serializer),
            Answer::Refund(body) => body.serialize(serializer),
            Answer::Transfer(body) => body.serialize(serializer),
            Answer::Client(body) => body.serialize(serializer),
            Answer::Product(body) => body.serialize(serializer),
            Answer::Policy(body) => body.serialize(serializer),
            Answer::Closing(body) => body.serialize(serializer),
            Answer::Request(body) => body.serialize(serializer),
            Answer::Done(body) => body.serialize(serializer),
        }
    }
}

/// A reseller as its viewer may see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct ResellerView {
    pub id: ResellerId,
    pub refid: Refid,
    pub user_id: UserId,
    pub company_name: CompanyName,
    pub tier: Tier,
    pub status: ResellerStatus,
    /// Whether it or an ancestor is frozen.
    pub frozen: bool,
    /// Whose freeze it is: the highest, as far as the viewer may know.
    pub frozen_by: Option<SeenAuthority>,
    /// `None` for a top-level reseller, and for the viewer itself: its upline lies outside its sight.
    pub parent_id: Option<ResellerId>,
    pub depth: u32,
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub metadata: Map<String, Value>,
    pub created_at: Timestamp,
}

/// A reseller's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SettingsView {
    /// What it has set for itself.
    #[serde(flatten)]
    pub settings: Settings,
    /// Its wallet's threshold; `None` without a wallet.
    pub low_credit_threshold: Option<Level>,
}

/// What a child pays for a product by its parent's word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct PriceView {
    pub reseller_id: ResellerId,
    pub sku: Sku,
    /// `None` once cleared.
    pub cost: Option<Level>,
}

/// A wallet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct WalletView {
    pub reseller_id: ResellerId,
    pub balance: Credits,
    pub reserved: Credits,
    pub available: Credits,
    pub credit_limit: Level,
    pub low_credit_threshold: Level,
    /// Whether the balance is below the threshold.
    pub low_credit: bool,
    /// Whether provisioning is held.
    pub held: bool,
    /// The balance in money, at the rate in force at `position`.
    pub money: Money,
    /// The number of the wallet's last event.
    pub sequence: u64,
    /// How far in the log this view has come.
    pub position: u64,
    /// The time of that position.
    pub as_of: Timestamp,
}

/// Credits were added or removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct CreditAnswer {
    pub transaction_id: CommandId,
    pub amount: Credits,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<CreditSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Absent for a payment system, which is not told balances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Credits>,
    /// Absent for a payment system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<Credits>,
}

/// A service was provisioned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct ProvisionAnswer {
    pub provision_id: ProvisionId,
    pub amount: Credits,
    pub unit_cost: Credits,
    pub price_source: PriceSource,
    pub quantity: Quantity,
    pub base_cost: Option<Credits>,
    pub discount_percent: Option<Percent>,
    pub balance: Credits,
    pub available: Credits,
    /// Whether the balance is now below the threshold.
    pub low_credit: bool,
    /// Only for `super_admin`: a reseller is not told what its upline earns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commissions: Option<Vec<Commission>>,
}

/// Many services were provisioned, or some of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // DOMAIN's words
pub struct BulkAnswer {
    pub accepted: u64,
    pub refused: u64,
    pub replayed: u64,
    /// In the order in which they were asked for.
    pub items: Vec<BulkItemAnswer>,
}

/// What became of one item of a bulk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BulkItemAnswer {
    /// Its place in the request, from 0.
    pub index: usize,
    /// Whether this is the first answer to its key, given again.
    pub replayed: bool,
    /// What it was answered.
    pub outcome: ItemOutcome,
}

/// What one item of a bulk was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemOutcome {
    /// It was provisioned.
    Provisioned(Box<ProvisionAnswer>),
    /// It was refused.
    Refused(Rejection),
}

/// Credits came back for a provision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct RefundAnswer {
    pub refund_id: RefundId,
    pub provision_id: ProvisionId,
    pub amount: Credits,
    pub refunded_total: Credits,
    pub balance: Credits,
}

/// Credits went to another wallet; the balances are the sender's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct TransferAnswer {
    pub transfer_id: TransferId,
    pub balance: Credits,
    pub available: Credits,
}

/// A client, with its personal data where it has not been forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct ClientView {
    pub id: ClientId,
    pub reseller_id: ResellerId,
    pub status: ClientStatus,
    pub name: Option<Text>,
    pub email: Option<Text>,
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub metadata: Map<String, Value>,
    pub created_at: Timestamp,
}

impl ClientView {
    /// Shows these personal data; none where it has been forgotten.
    pub(crate) fn show(&mut self, details: Option<&ClientDetails>) {
        self.name = details.map(|details| details.name.clone());
        self.email = details.and_then(|details| details.email.clone());
        self.metadata = details.map(|details| details.metadata.clone()).unwrap_or_default();
    }
}

/// A product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct ProductView {
    pub sku: Sku,
    #[serde(flatten)]
    pub terms: ProductTerms,
    pub retired: bool,
}

/// An upline request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct RequestView {
    pub id: RequestId,
    pub requester: ResellerId,
    #[serde(flatten)]
    pub ask: Ask,
    pub status: RequestStatus,
    /// Who is to answer: `platform`, `upline`, or the id where it lies in the viewer's own subtree.
    pub addressed_to: SeenAuthority,
    pub expires_at: Timestamp,
    pub result: Option<Outcome>,
}

/// Something was done about which there is nothing to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DoneAnswer {
    /// What was done.
    pub done: String,
}

/// What something would cost a reseller now (`calculateTierCost`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct QuoteView {
    pub base_cost: Credits,
    pub discount_percent: Percent,
    pub price_source: PriceSource,
    pub unit_cost: Credits,
    pub quantity: Quantity,
    pub cost: Credits,
}
