//! Queries of the network: `/reseller-network…`.

use aggregates::primitives::ResellerId;
use aggregates::reseller::DEPTH_MAX;
use axum::extract::State;
use axum::response::Response;
use projections::dashboard;
use projections::downline_tree::{self, TreeRequest};

use super::{QueryRequest, found};
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::parameters::wrong;

/// GET `/reseller-network/dashboard`
pub(crate) async fn dashboard(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    let named: Option<ResellerId> = request.parameters.take("reseller_id")?;
    let mut read = request.begin(&service).await?;
    let dashboard = dashboard::find(&mut read, named.or(request.actor.tenant), service.clock.now()).await?;
    request.found_or_unchanged(read.position(), "reseller", dashboard.as_ref())
}

/// GET `/reseller-network/downline/tree`
pub(crate) async fn tree(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    let depth = request.parameters.take("depth")?.unwrap_or(DEPTH_MAX);
    if !(1..=DEPTH_MAX).contains(&depth) {
        return Err(wrong("depth", format!("must be from 1 to {DEPTH_MAX}")));
    }
    let wanted = TreeRequest {
        root: request.parameters.take("root")?,
        depth,
        limit: request.limit()?,
        cursor: request.parameters.take("cursor")?,
    };
    let mut read = request.begin(&service).await?;
    let tree = downline_tree::tree(&mut read, &wanted).await?;
    request.found_or_unchanged(read.position(), "reseller", tree.as_ref())
}

/// GET `/reseller-network/settings`
pub(crate) async fn settings(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    // Settings are a reseller's own; an upline is told no more than a stranger.
    let Some(reseller) = request.named_reseller()? else {
        return Err(wrong("reseller_id", "name the reseller that is meant"));
    };
    let mut read = request.begin(&service).await?;
    let settings = downline_tree::settings(&mut read, reseller).await?;
    found(read.position(), "reseller", settings.as_ref())
}
