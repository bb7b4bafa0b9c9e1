//! Queries of the network: `/reseller-network…`.

use aggregates::primitives::ResellerId;
use aggregates::reseller::DEPTH_MAX;
use axum::extract::State;
use axum::response::Response;
use projections::activity_feed::{self, ActivityView};
use projections::dashboard;
use projections::dashboard::DashboardView;
use projections::downline_tree::{self, TreeRequest};
use serde::Serialize;

use super::{QueryRequest, found};
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::parameters::wrong;

/// GET `/reseller-network/dashboard`
pub(crate) async fn dashboard(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    let named: Option<ResellerId> = request.parameters.take("reseller_id")?;
    let mut read = request.begin(&service).await?;
    let reseller = named.or(request.actor.tenant);
    let board = match dashboard::find(&mut read, reseller, service.clock.now()).await? {
        Some(figures) => Some(Board { figures, recent_activity: activity_feed::recent(&mut read, reseller).await? }),
        None => None,
    };
    found(read.position(), "reseller", board.as_ref())
}

/// A dashboard: its figures, and what happened last, of the same moment.
#[derive(Serialize)]
struct Board {
    #[serde(flatten)]
    figures: DashboardView,
    recent_activity: Vec<ActivityView>,
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
    found(read.position(), "reseller", tree.as_ref())
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
