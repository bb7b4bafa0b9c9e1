//! The audit: what auditors ask of the log itself, and what proves that it is whole and that what was folded from it is right.
//!
//! Layering: reads the store's files, the log's vocabulary and the read models; nothing here decides a command, and nothing
//! here writes.

pub mod as_of;
pub mod verify;
