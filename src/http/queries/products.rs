//! Queries about products: `/products…`.

use aggregates::primitives::{ResellerId, Sku};
use axum::extract::State;
use axum::response::Response;
use projections::products;

use super::{QueryRequest, found};
use crate::http::Shared;
use crate::http::error::Problem;

/// GET `/products`: all of them; a reseller is told what each costs it, or a reseller below it.
pub(crate) async fn list(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    let page = request.page()?;
    let named: Option<ResellerId> = request.parameters.take("reseller_id")?;
    let mut read = request.begin(&service).await?;
    let catalog = products::list(&mut read, named.or(request.actor.tenant), &page).await?;
    found(read.position(), "reseller", catalog.as_ref())
}

/// GET `/products/{sku}`
pub(crate) async fn one(State(service): State<Shared>, mut request: QueryRequest<Sku>) -> Result<Response, Problem> {
    let mut read = request.begin(&service).await?;
    let product = products::find(&mut read.connection(), &request.path).await?;
    found(read.position(), "product", product.as_ref())
}
