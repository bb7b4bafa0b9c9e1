//! The hash chain over the log: `hash = SHA-256(previous hash ‖ canonical line)`.
//!
//! The line is `position, aggregate_type, aggregate_id, sequence, event_type, event_version, recorded_at, payload, metadata`
//! joined by `\n`, payload and metadata as the exact text stored, `recorded_at` as RFC 3339 UTC with six decimals and `Z`. The
//! first previous hash is 32 zero bytes. Anyone can check it with SQL or twenty lines of Python.

use sha2::{Digest, Sha256};

use super::StoredEvent;

/// The hash of an event that follows `previous`.
#[must_use]
pub fn hash(previous: &[u8; 32], event: &StoredEvent) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(event.position.to_string());
    for text in [
        event.aggregate_type.as_str(),
        &event.aggregate_id,
        &event.sequence.to_string(),
        &event.event_type,
        &event.event_version,
        &event.recorded_at.to_string(),
        &event.payload,
        &event.metadata,
    ] {
        hasher.update(b"\n");
        hasher.update(text);
    }
    hasher.finalize().into()
}
