//! Commands about wallets: `/wallets/{reseller_id}…`. Provisions have their own file; for the routes they are named here too.

use aggregates::command::Command;
use aggregates::primitives::{
    Amount, CreditSource, Level, ProvisionId, Reference, RefundId, RemovalKind, ResellerId, Role, Text, TransferId,
};
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::EmptyBody;
pub(crate) use super::provisions::{provision, provision_bulk};
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::extract::CommandRequest;
use crate::http::fresh;

/// POST `/wallets/{reseller_id}`
pub(crate) async fn open(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let EmptyBody {} = request.body_or_default()?;
    let wallet = request.path;
    request.submit(&service, Command::OpenWallet { wallet }).await?.created()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreditsBody {
    amount: Amount,
    #[serde(default)]
    source: Option<CreditSource>,
    #[serde(default)]
    reference: Option<Reference>,
    #[serde(default)]
    note: Option<Text>,
}

/// POST `/wallets/{reseller_id}/credits`
pub(crate) async fn add_credits(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let CreditsBody { amount, source, reference, note } = request.body()?;
    let purchase = CreditSource::Purchase;
    // A payment system says what was paid, never where credits come from.
    let pays = request.actor.role == Role::Payments;
    let source = if pays { purchase } else { source.unwrap_or(purchase) };
    // A purchase's reference is taken once in the whole ledger, so it does for a key; the ledger refuses a payment without.
    if !pays && (source != purchase || reference.is_none()) {
        request.require_key()?;
    }
    let wallet = request.path;
    request.submit(&service, Command::AddCredits { wallet, amount, source, reference, note }).await?.created()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveBody {
    amount: Amount,
    kind: RemovalKind,
    #[serde(default)]
    reason: Option<Text>,
}

/// POST `/wallets/{reseller_id}/credits/remove`
pub(crate) async fn remove_credits(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let RemoveBody { amount, kind, reason } = request.body()?;
    request.require_key()?;
    let wallet = request.path;
    request.submit(&service, Command::RemoveCredits { wallet, amount, kind, reason }).await?.created()
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefundBody {
    #[serde(default)]
    amount: Option<Amount>,
    #[serde(default)]
    reason: Option<Text>,
}

/// POST `/wallets/{reseller_id}/provisions/{provision_id}/refunds`
pub(crate) async fn refund(
    State(service): State<Shared>,
    request: CommandRequest<(ResellerId, ProvisionId)>,
) -> Result<Response, Problem> {
    let RefundBody { amount, reason } = request.body_or_default()?;
    let (wallet, provision_id) = request.path;
    let refund_id = RefundId(fresh::id(service.clock.now()));
    let command = Command::Refund { wallet, provision_id, refund_id, amount, reason };
    request.submit(&service, command).await?.created()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransferBody {
    to: ResellerId,
    amount: Amount,
    #[serde(default)]
    note: Option<Text>,
}

/// POST `/wallets/{reseller_id}/transfers`
pub(crate) async fn transfer(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let TransferBody { to, amount, note } = request.body()?;
    request.require_key()?;
    let from = request.path;
    let transfer_id = TransferId(fresh::id(service.clock.now()));
    request.submit(&service, Command::Transfer { from, to, transfer_id, amount, note }).await?.created()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThresholdBody {
    threshold: Level,
}

/// PUT `/wallets/{reseller_id}/threshold`
pub(crate) async fn set_threshold(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let ThresholdBody { threshold } = request.body()?;
    let wallet = request.path;
    request.submit(&service, Command::SetThreshold { wallet, threshold }).await?.ok()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreditLimitBody {
    credit_limit: Level,
}

/// PUT `/wallets/{reseller_id}/credit-limit`
pub(crate) async fn set_credit_limit(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let CreditLimitBody { credit_limit } = request.body()?;
    let wallet = request.path;
    request.submit(&service, Command::SetCreditLimit { wallet, credit_limit }).await?.ok()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HoldBody {
    held: bool,
    #[serde(default)]
    reason: Option<Text>,
}

/// PUT `/wallets/{reseller_id}/hold`
pub(crate) async fn set_hold(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let HoldBody { held, reason } = request.body()?;
    let wallet = request.path;
    request.submit(&service, Command::SetHold { wallet, held, reason }).await?.ok()
}
