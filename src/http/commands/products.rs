//! Commands about products: `/products…`.

use aggregates::command::Command;
use aggregates::primitives::{Level, Percent, Sku, Text, Tier};
use aggregates::product::ProductTerms;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::EmptyBody;
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::extract::CommandRequest;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishBody {
    sku: Sku,
    name: Text,
    base_cost: Level,
    #[serde(default)]
    minimum_tier: Option<Tier>,
    #[serde(default)]
    minimum_margin_percent: Percent,
}

/// POST `/products`
pub(crate) async fn publish(State(service): State<Shared>, request: CommandRequest) -> Result<Response, Problem> {
    let PublishBody { sku, name, base_cost, minimum_tier, minimum_margin_percent } = request.body()?;
    let minimum_tier = minimum_tier.unwrap_or(Tier::Standard);
    let terms = ProductTerms { name, base_cost, minimum_tier, minimum_margin_percent };
    request.submit(&service, Command::PublishProduct { sku, terms }).await?.created()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviseBody {
    name: Text,
    base_cost: Level,
    #[serde(default)]
    minimum_tier: Option<Tier>,
    #[serde(default)]
    minimum_margin_percent: Percent,
}

/// PUT `/products/{sku}`
pub(crate) async fn revise(State(service): State<Shared>, request: CommandRequest<Sku>) -> Result<Response, Problem> {
    let ReviseBody { name, base_cost, minimum_tier, minimum_margin_percent } = request.body()?;
    let minimum_tier = minimum_tier.unwrap_or(Tier::Standard);
    let terms = ProductTerms { name, base_cost, minimum_tier, minimum_margin_percent };
    let sku = request.path.clone();
    request.submit(&service, Command::ReviseProduct { sku, terms }).await?.ok()
}

/// POST `/products/{sku}/retire`
pub(crate) async fn retire(State(service): State<Shared>, request: CommandRequest<Sku>) -> Result<Response, Problem> {
    let EmptyBody {} = request.body_or_default()?;
    let sku = request.path.clone();
    request.submit(&service, Command::RetireProduct { sku }).await?.ok()
}
