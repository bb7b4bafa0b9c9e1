//! Queries about upline requests: `/reseller-network/upline…`. A reseller sees its own inbox and outbox, the operator's staff
//! the platform's or, by name, any reseller's.

use aggregates::primitives::RequestId;
use axum::extract::State;
use axum::response::Response;
use projections::upline_requests::{self, RequestFilter};

use super::{QueryRequest, found, in_sight, shown};
use crate::http::Shared;
use crate::http::error::Problem;

/// GET `/reseller-network/upline/requests`
pub(crate) async fn list(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    let page = request.page()?;
    let filter = RequestFilter {
        direction: request.parameters.take("direction")?.unwrap_or_default(),
        reseller_id: request.named_reseller()?,
        status: request.parameters.take("status")?,
        kind: request.parameters.take("kind")?,
    };
    let mut read = request.begin(&service).await?;
    in_sight(&mut read, filter.reseller_id).await?;
    let requests = upline_requests::list(&mut read, &filter, &page).await?;
    shown(read.position(), &requests)
}

/// GET `/reseller-network/upline/request/{id}`
pub(crate) async fn one(
    State(service): State<Shared>,
    mut request: QueryRequest<RequestId>,
) -> Result<Response, Problem> {
    let mut read = request.begin(&service).await?;
    let record = upline_requests::find(&mut read, request.path).await?;
    found(read.position(), "upline request", record.as_ref())
}
