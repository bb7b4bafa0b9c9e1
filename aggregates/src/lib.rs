//! Tallytree's domain: what may happen to prepaid credits in a tree of resellers, and what follows from it.
//!
//! Pure: no I/O, no clock, no randomness. Time and identifiers come in with a command; what is not in memory is asked for by
//! key ([`ledger::Decision::Missing`]) and loaded by whoever runs the ledger.
//!
//! - [`primitives`]: identifiers, amounts, percentages, instants, tiers, roles; [`month`]: the period that books are closed by.
//! - [`command`], [`answer`], [`rejection`]: what is asked of the ledger, and what it says.
//! - [`event`]: what has happened; the log's format and its upcasters.
//! - [`platform`], [`reseller`], [`wallet`], [`upline_request`], [`client`], [`product`]: the aggregates, one file each.
//! - [`network`]: the tree in memory: ancestors, freezes, unit costs.
//! - [`facts`]: what grows with history, by key.
//! - [`ledger`]: the state machine across aggregates: footprint, decide, apply.
//! - [`postings`]: the double entry behind each event; [`closing`]: what it comes to at the end of a month.

pub mod answer;
pub mod client;
pub mod closing;
pub mod command;
pub mod event;
#[cfg(test)]
mod event_format;
pub mod facts;
pub mod ledger;
pub mod month;
pub mod network;
pub mod platform;
pub mod postings;
pub mod pricing;
pub mod primitives;
pub mod product;
pub mod rejection;
pub mod reseller;
#[cfg(feature = "schema")]
mod schema;
pub mod upline_request;
pub mod wallet;
