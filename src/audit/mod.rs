//! The audit: what auditors ask of the log itself, and what proves that it is whole and that what was folded from it is right.
//!
//! - [`anchor`]: what an auditor writes down, and [`verify`]: what proves that all of it still stands.
//! - [`runs`]: runs of it that a running service is asked for.
//! - [`as_of`]: the past, and [`difference`]: what lies between two moments of it.
//! - [`replay`]: a wallet from its events alone, by two paths that must agree.
//!
//! Layering: reads the store's files, the log's vocabulary and the read models; nothing here decides a command, and nothing
//! here writes.

pub mod anchor;
pub mod as_of;
pub mod difference;
pub mod replay;
pub mod runs;
pub mod verify;
