//! The ledger against a naive model of it, and the network against brute force.
//!
//! - [`naive`]: the model, written from DOMAIN alone; it shares no type and no rule with `aggregates`.
//! - [`translate`]: between the model's plain words and the ledger's commands, events and answers.
//! - [`driver`]: a store in memory around a [`Ledger`](aggregates::ledger::Ledger), with a second ledger that follows the log.
//! - [`invariants`]: I1 to I7 and I9 by small checkers that read events only.
//! - [`dice`]: random numbers into demands that are near the boundaries.
//! - [`scene`]: both side by side, compared after every demand.
//! - [`random_commands`], [`named`], [`network_brute_force`]: the tests.

mod dice;
mod driver;
mod invariants;
mod naive;
mod named;
mod network_brute_force;
mod random_commands;
mod scene;
mod translate;

pub use random_commands::random_history;
