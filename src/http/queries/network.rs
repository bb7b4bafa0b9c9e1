//! Queries of the network: `/reseller-network…`.

use aggregates::answer::{ResellerView, WalletView};
use aggregates::primitives::ResellerId;
use aggregates::reseller::DEPTH_MAX;
use axum::extract::State;
use axum::response::Response;
use projections::activity_feed::{self, ActivityView};
use projections::analytics::calendar::Zone;
use projections::analytics::performance;
use projections::dashboard::{self, DashboardView};
use projections::downline_tree::{self, TreeRequest};
use projections::{downline_health, wallets};
use serde::Serialize;
use utoipa::ToSchema;

use super::{QueryRequest, analytics, found, shown};
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
    request.found_or_unchanged(read.position(), "reseller", board.as_ref())
}

/// A dashboard: its figures, and what happened last, of the same moment.
#[derive(Serialize, ToSchema)]
pub(crate) struct Board {
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
    let mut wanted = TreeRequest {
        root: request.parameters.take("root")?,
        depth,
        limit: request.limit()?,
        cursor: request.parameters.take("cursor")?,
        at: None,
    };
    let mut read = match request.moment()? {
        None => request.begin(&service).await?,
        Some(moment) => {
            let (read, [then]) = request.begin_at(&service, [moment]).await?;
            wanted.at = Some(then.position);
            read
        }
    };
    let tree = downline_tree::tree(&mut read, &wanted).await?;
    request.found_or_unchanged(read.position(), "reseller", tree.as_ref())
}

/// A reseller as its upline looks at it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChildSummary {
    reseller: ResellerView,
    /// `None` where the policy opens none.
    wallet: Option<WalletView>,
    dashboard: DashboardView,
}

/// GET `/reseller-network/downline/{id}`
pub(crate) async fn child(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    let mut read = request.begin(&service).await?;
    let reseller = downline_tree::find(&mut read, request.path).await?;
    let wallet = wallets::find(&mut read, request.path).await?;
    let dashboard = dashboard::find(&mut read, Some(request.path), service.clock.now()).await?;
    let summary = reseller.zip(dashboard).map(|(reseller, dashboard)| ChildSummary { reseller, wallet, dashboard });
    found(read.position(), "reseller", summary.as_ref())
}

/// GET `/reseller-network/downline/performance`
pub(crate) async fn performance(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    let (from, to) = analytics::stretch(&mut request, Zone::UTC)?;
    let page = request.page()?;
    let (mut read, subject) = analytics::begin(&service, &mut request).await?;
    let performance = performance::performance(&mut read, &subject, from, to, &page).await?;
    shown(read.position(), &performance)
}

/// GET `/reseller-network/downline/health`
pub(crate) async fn health(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    let limit = request.limit()?;
    let (mut read, subject) = analytics::begin(&service, &mut request).await?;
    let health = downline_health::health(&mut read, &subject, limit, service.clock.now()).await?;
    shown(read.position(), &health)
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
