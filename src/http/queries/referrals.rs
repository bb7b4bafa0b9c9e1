//! Queries about referral codes: `/reseller-network/referrals`. They are their owner's and the operator's to see.

use axum::extract::State;
use axum::response::Response;
use projections::referrals;

use super::{QueryRequest, in_sight, shown};
use crate::http::Shared;
use crate::http::error::Problem;

/// GET `/reseller-network/referrals`
pub(crate) async fn list(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    let page = request.page()?;
    let named = request.named_reseller()?;
    let mut read = request.begin(&service).await?;
    in_sight(&mut read, named).await?;
    // The ledger decides no earlier than its last event, whatever this node's clock says.
    let now = service.clock.now().max(read.as_of());
    let codes = referrals::list(&mut read, named, now, &page).await?;
    shown(read.position(), &codes)
}
