//! Queries about resellers: `/resellers…`.

use aggregates::primitives::ResellerId;
use axum::extract::State;
use axum::response::Response;
use projections::downline_tree::{self, ResellerFilter};
use projections::prices;

use super::{QueryRequest, found, shown};
use crate::http::Shared;
use crate::http::error::Problem;

/// GET `/resellers`
pub(crate) async fn list(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    let page = request.page()?;
    let filter = ResellerFilter {
        user_id: request.parameters.take("user_id")?,
        refid: request.parameters.take("refid")?,
        tier: request.parameters.take("tier")?,
        status: request.parameters.take("status")?,
        q: request.parameters.take("q")?,
    };
    let mut read = request.begin(&service).await?;
    let resellers = downline_tree::list(&mut read, &filter, &page).await?;
    shown(read.position(), &resellers)
}

/// GET `/resellers/{id}`
pub(crate) async fn one(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    let Some(moment) = request.moment()? else {
        let mut read = request.begin(&service).await?;
        let reseller = downline_tree::find(&mut read, request.path).await?;
        return found(read.position(), "reseller", reseller.as_ref());
    };
    let (mut read, [then]) = request.begin_at(&service, [moment]).await?;
    let reseller = downline_tree::find_at(&mut read, request.path, then.position).await?;
    found(read.position(), "reseller", reseller.as_ref())
}

/// GET `/resellers/{id}/prices`
pub(crate) async fn prices(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    let page = request.page()?;
    let mut read = request.begin(&service).await?;
    let prices = prices::list(&mut read, request.path, &page).await?;
    found(read.position(), "reseller", prices.as_ref())
}
