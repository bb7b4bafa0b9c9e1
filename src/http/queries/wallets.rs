//! Queries about wallets: `/wallets/{reseller_id}…`.

use aggregates::primitives::{Credits, Level, ProvisionId, Quantity, ResellerId, Sku, TransferId};
use axum::extract::State;
use axum::response::Response;
use projections::prices::{self, Quoted};
use projections::provisions;
use projections::statement_lines::{self, TransactionFilter};
use projections::wallets;

use super::{QueryRequest, found};
use crate::audit::as_of;
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::parameters::{Since, Until, wrong};

/// GET `/wallets/{reseller_id}`
pub(crate) async fn one(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    let Some(moment) = request.moment()? else {
        let mut read = request.begin(&service).await?;
        let wallet = wallets::find(&mut read, request.path).await?;
        return found(read.position(), "wallet", wallet.as_ref());
    };
    let (mut read, [then]) = request.begin_at(&service, [moment]).await?;
    let wallet = as_of::wallet(&mut read, request.path, then).await?;
    found(read.position(), "wallet", wallet.as_ref())
}

/// GET `/wallets/{reseller_id}/transactions`
pub(crate) async fn transactions(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    let page = request.page()?;
    let filter = TransactionFilter {
        kind: request.parameters.take("kind")?,
        from: request.parameters.take("from")?.map(|Since(time)| time),
        to: request.parameters.take("to")?.map(|Until(time)| time),
        client_id: request.parameters.take("client_id")?,
    };
    let mut read = request.begin(&service).await?;
    let statement = statement_lines::statement(&mut read, request.path, &filter, &page).await?;
    found(read.position(), "wallet", statement.as_ref())
}

/// GET `/wallets/{reseller_id}/provisions`
pub(crate) async fn provisions(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    let page = request.page()?;
    let mut read = request.begin(&service).await?;
    let provisions = provisions::provisions(&mut read, request.path, &page).await?;
    found(read.position(), "wallet", provisions.as_ref())
}

/// GET `/wallets/{reseller_id}/provisions/{provision_id}`
pub(crate) async fn provision(
    State(service): State<Shared>,
    mut request: QueryRequest<(ResellerId, ProvisionId)>,
) -> Result<Response, Problem> {
    let mut read = request.begin(&service).await?;
    let (wallet, provision) = request.path;
    let provision = provisions::provision(&mut read, wallet, provision).await?;
    found(read.position(), "provision", provision.as_ref())
}

/// GET `/wallets/{reseller_id}/transfers/{transfer_id}`
pub(crate) async fn transfer(
    State(service): State<Shared>,
    mut request: QueryRequest<(ResellerId, TransferId)>,
) -> Result<Response, Problem> {
    let mut read = request.begin(&service).await?;
    let (wallet, transfer) = request.path;
    let transfer = provisions::transfer(&mut read, wallet, transfer).await?;
    found(read.position(), "transfer", transfer.as_ref())
}

/// GET `/wallets/{reseller_id}/quote`
pub(crate) async fn quote(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    let sku: Option<Sku> = request.parameters.take("sku")?;
    let base_cost: Option<Credits> = request.parameters.take("base_cost")?;
    let quantity: Option<u32> = request.parameters.take("quantity")?;
    let quoted = match (sku, base_cost) {
        (Some(sku), None) => Quoted::Product(sku),
        (None, Some(base_cost)) => {
            let level = Level::new(base_cost).map_err(|error| wrong("base_cost", error.to_string()))?;
            Quoted::BaseCost(level)
        }
        _ => return Err(wrong("sku", "name a sku or a base_cost")),
    };
    let quantity = Quantity::new(quantity.unwrap_or(1)).map_err(|error| wrong("quantity", error.to_string()))?;
    let mut read = request.begin(&service).await?;
    let quote = prices::quote(&mut read, request.path, &quoted, quantity).await?;
    found(read.position(), "reseller or product", quote.as_ref())
}
