//! The audit: what proves that the history is whole and that what was folded from it is right.
//!
//! Layering: reads the store's files and the log's vocabulary; nothing here decides a command, and nothing here writes.

pub mod verify;
