//! Queries about clients: `/clients…`. Their records are their owner's and the operator's; an upline sees numbers only.

use aggregates::primitives::{ClientId, Role};
use axum::extract::State;
use axum::response::Response;
use projections::clients::{self, ClientFilter};

use super::{QueryRequest, found, shown};
use crate::http::Shared;
use crate::http::error::Problem;

/// Who may see records of clients at all; finance sees none, for they are personal.
const READERS: &[Role] = &[Role::SuperAdmin, Role::Auditor, Role::Reseller];

/// GET `/clients`
pub(crate) async fn list(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    request.only(READERS)?;
    let page = request.page()?;
    let mut filter = ClientFilter {
        status: request.parameters.take("status")?,
        q: request.parameters.take("q")?,
        ..ClientFilter::default()
    };
    if request.actor.role != Role::Reseller {
        filter.reseller_id = request.parameters.take("reseller_id")?;
        filter.user_id = request.parameters.take("user_id")?;
    }
    let mut read = request.begin(&service).await?;
    let clients = clients::list(&mut read, &filter, &page).await?;
    shown(read.position(), &clients)
}

/// GET `/clients/{id}`
pub(crate) async fn one(
    State(service): State<Shared>,
    mut request: QueryRequest<ClientId>,
) -> Result<Response, Problem> {
    request.only(READERS)?;
    let mut read = request.begin(&service).await?;
    let client = clients::find(&mut read, request.path).await?;
    found(read.position(), "client", client.as_ref())
}
