//! What auditors ask of the log itself.

pub mod as_of;
