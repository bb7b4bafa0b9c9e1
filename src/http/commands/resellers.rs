//! Commands about resellers: `/resellers…`.

use aggregates::command::Command;
use aggregates::primitives::{CompanyName, Level, ReferralCode, ResellerId, Sku, Text, Tier, UserId};
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{EmptyBody, ReasonBody};
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::extract::CommandRequest;
use crate::http::fresh;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterBody {
    user_id: UserId,
    company_name: CompanyName,
    #[serde(default)]
    parent_id: Option<ResellerId>,
    #[serde(default)]
    referral_code: Option<ReferralCode>,
    #[serde(default)]
    tier: Option<Tier>,
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
}

/// POST `/resellers`
pub(crate) async fn register(State(service): State<Shared>, request: CommandRequest) -> Result<Response, Problem> {
    let body: RegisterBody = request.body()?;
    if body.parent_id.is_some() && body.referral_code.is_some() {
        return Err(Problem::invalid("/referral_code", "name a parent or a referral code, not both"));
    }
    let command = Command::Register {
        reseller: ResellerId(fresh::id(service.clock.now())),
        refid: fresh::refid().map_err(|error| Problem::internal(&error))?,
        user_id: body.user_id,
        company_name: body.company_name,
        parent: body.parent_id,
        referral_code: body.referral_code,
        tier: body.tier,
        metadata: body.metadata,
    };
    request.submit(&service, command).await?.created()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenameBody {
    company_name: CompanyName,
}

/// PATCH `/resellers/{id}`
pub(crate) async fn rename(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let RenameBody { company_name } = request.body()?;
    let reseller = request.path;
    request.submit(&service, Command::Rename { reseller, company_name }).await?.ok()
}

/// POST `/resellers/{id}/approve`
pub(crate) async fn approve(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    // A reason is taken, as for its siblings; an approval needs none, and none is kept.
    let _: ReasonBody = request.body_or_default()?;
    let reseller = request.path;
    request.submit(&service, Command::Approve { reseller }).await?.ok()
}

/// POST `/resellers/{id}/deactivate`
pub(crate) async fn deactivate(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let ReasonBody { reason } = request.body_or_default()?;
    let reseller = request.path;
    request.submit(&service, Command::Deactivate { reseller, reason }).await?.ok()
}

/// POST `/resellers/{id}/reactivate`
pub(crate) async fn reactivate(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let ReasonBody { reason } = request.body_or_default()?;
    let reseller = request.path;
    request.submit(&service, Command::Reactivate { reseller, reason }).await?.ok()
}

/// POST `/resellers/{id}/freeze`
pub(crate) async fn freeze(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let ReasonBody { reason } = request.body_or_default()?;
    let reseller = request.path;
    request.submit(&service, Command::Freeze { reseller, reason }).await?.ok()
}

/// POST `/resellers/{id}/unfreeze`
pub(crate) async fn unfreeze(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let ReasonBody { reason } = request.body_or_default()?;
    let reseller = request.path;
    request.submit(&service, Command::Unfreeze { reseller, reason }).await?.ok()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TierBody {
    tier: Tier,
    #[serde(default)]
    reason: Option<Text>,
}

/// PUT `/resellers/{id}/tier`
pub(crate) async fn change_tier(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let TierBody { tier, reason } = request.body()?;
    let reseller = request.path;
    request.submit(&service, Command::ChangeTier { reseller, tier, reason }).await?.ok()
}

/// PATCH `/resellers/{id}/metadata`
pub(crate) async fn update_metadata(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let patch: Map<String, Value> = request.body()?;
    let reseller = request.path;
    request.submit(&service, Command::UpdateMetadata { reseller, patch }).await?.ok()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceBody {
    cost: Level,
}

/// PUT `/resellers/{id}/prices/{sku}`
pub(crate) async fn set_price(
    State(service): State<Shared>,
    request: CommandRequest<(ResellerId, Sku)>,
) -> Result<Response, Problem> {
    let PriceBody { cost } = request.body()?;
    let (reseller, sku) = request.path.clone();
    request.submit(&service, Command::SetPrice { reseller, sku, cost }).await?.ok()
}

/// DELETE `/resellers/{id}/prices/{sku}`
pub(crate) async fn clear_price(
    State(service): State<Shared>,
    request: CommandRequest<(ResellerId, Sku)>,
) -> Result<Response, Problem> {
    let EmptyBody {} = request.body_or_default()?;
    let (reseller, sku) = request.path.clone();
    request.submit(&service, Command::ClearPrice { reseller, sku }).await?.ok()
}
