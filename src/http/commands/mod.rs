//! The write side of the API, one file for each noun. A handler says which body it takes, which command it becomes and how the
//! answer is told; who may do it and whether it is possible are the ledger's.

pub(super) mod clients;
pub(super) mod platform;
pub(super) mod products;
pub(super) mod provisions;
pub(super) mod requests;
pub(super) mod resellers;
pub(super) mod wallets;

use aggregates::primitives::Text;
use serde::Deserialize;
use utoipa::ToSchema;

/// A body that gives a reason, or none; it may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReasonBody {
    #[serde(default)]
    reason: Option<Text>,
}

/// A body that says nothing; it may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmptyBody {}

/// Tells a field that is `null` from one that is absent.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}
