//! Tallytree: an event-sourced ledger of prepaid credits for reseller networks.
//!
//! Commands are decided by a pure state machine on state in memory, committed in groups to one gapless log, and folded from
//! that log into tables that answer every query. The two sides touch only at the log.

pub mod access;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod feed;
pub mod finance;
mod fresh;
pub mod http;
pub mod node;
pub mod policies;
pub mod projector;
pub mod refusals;
pub mod store;
