//! Spending credits: one provision, or many in one request.

use std::collections::HashSet;

use aggregates::command::{BulkItem, Command, PriceBasis, ProvisionOrder};
use aggregates::primitives::{Amount, ClientId, Level, ProvisionId, Quantity, ResellerId, Sku, Text, Timestamp};
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::extract::{AtMost, CommandRequest, Object, check_key};
use crate::http::fresh;

/// The most provisions that one bulk may name.
const BULK_ITEMS_MAX: usize = 10_000;

/// One provision as it is asked for. It serialises without its key: that is what a repetition is recognised by.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProvisionBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sku: Option<Sku>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quantity: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost: Option<Amount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_cost: Option<Level>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Only for an item of a bulk; a whole request has its header.
    #[serde(default, skip_serializing)]
    idempotency_key: Option<String>,
}

impl ProvisionBody {
    fn order(self, now: Timestamp, pointer: &str) -> Result<ProvisionOrder, Problem> {
        let basis = match (self.sku, self.base_cost, self.cost) {
            (Some(sku), None, None) => PriceBasis::Product { sku, quantity: self.quantity.unwrap_or_default() },
            (None, Some(_), None) | (None, None, Some(_)) if self.quantity.is_some() => {
                return Err(Problem::invalid(format!("{pointer}/quantity"), "goes with a sku"));
            }
            (None, Some(base_cost), None) => PriceBasis::BaseCost(base_cost),
            (None, None, Some(cost)) => PriceBasis::Cost(cost),
            _ => return Err(Problem::invalid(pointer, "name exactly one of sku, cost and base_cost")),
        };
        Ok(ProvisionOrder {
            provision_id: ProvisionId(fresh::id(now)),
            basis,
            client: self.client_id,
            description: self.description,
            metadata: self.metadata,
        })
    }
}

/// An item of a bulk as it is described: a provision that may have a key of its own.
pub(crate) enum BulkItemBody {}

impl PartialSchema for BulkItemBody {
    fn schema() -> RefOr<Schema> {
        let key = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(255))
            .pattern(Some("^[ -~]+$"))
            .description(Some("Makes this item safe to send again, alone or in another bulk."));
        let mut schema = ProvisionBody::schema();
        if let RefOr::T(Schema::Object(item)) = &mut schema {
            item.properties.insert("idempotency_key".to_owned(), key.into());
        }
        schema
    }
}

impl ToSchema for BulkItemBody {}

/// POST `/wallets/{reseller_id}/provisions`
pub(crate) async fn provision(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let body: ProvisionBody = request.body()?;
    if body.idempotency_key.is_some() {
        return Err(Problem::invalid("/idempotency_key", "goes into the header Idempotency-Key"));
    }
    let order = Box::new(body.order(service.clock.now(), "")?);
    let wallet = request.path;
    request.submit(&service, Command::Provision { wallet, order }).await?.created()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkBody {
    atomic: bool,
    #[schema(value_type = Vec<BulkItemBody>, min_items = 1, max_items = 10_000)]
    items: AtMost<Object<ProvisionBody>, BULK_ITEMS_MAX>,
}

/// POST `/wallets/{reseller_id}/provisions/bulk`
pub(crate) async fn provision_bulk(
    State(service): State<Shared>,
    request: CommandRequest<ResellerId>,
) -> Result<Response, Problem> {
    let BulkBody { atomic, items: AtMost(items) } = request.body()?;
    if items.is_empty() {
        return Err(Problem::invalid("/items", format!("must be 1 to {BULK_ITEMS_MAX} items")));
    }
    let items = keyed_orders(&request, items, service.clock.now())?;
    let wallet = request.path;
    request.submit(&service, Command::ProvisionBulk { wallet, atomic, items }).await?.ok()
}

/// The items with their keys, of which none may stand twice in one request, its own included.
fn keyed_orders(
    request: &CommandRequest<ResellerId>,
    items: Vec<Object<ProvisionBody>>,
    now: Timestamp,
) -> Result<Vec<BulkItem>, Problem> {
    let mut keys: HashSet<String> = request.key().map(str::to_owned).into_iter().collect();
    let mut text = Vec::new();
    let mut orders = Vec::with_capacity(items.len());
    for (index, Object(mut item)) in items.into_iter().enumerate() {
        let idempotency = match item.idempotency_key.take() {
            None => None,
            Some(key) => {
                let wrong = |detail: &str| Problem::invalid(format!("/items/{index}/idempotency_key"), detail);
                check_key(&key).map_err(wrong)?;
                text.clear();
                serde_json::to_writer(&mut text, &item).map_err(|error| Problem::internal(&error))?;
                let idempotency = request.idempotency(&key, request.item_fingerprint(&text));
                if !keys.insert(key) {
                    return Err(wrong("stands twice in this request"));
                }
                Some(idempotency)
            }
        };
        orders.push(BulkItem { order: item.order(now, &format!("/items/{index}"))?, idempotency });
    }
    Ok(orders)
}
