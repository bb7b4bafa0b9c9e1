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
    hash_at(previous, event, &event.recorded_at.to_string())
}

/// The same with the text of the event's time, which the events of a batch share and which is slow to write out.
pub(crate) fn hash_at(previous: &[u8; 32], event: &StoredEvent, recorded_at: &str) -> [u8; 32] {
    let (mut position, mut sequence) = (itoa::Buffer::new(), itoa::Buffer::new());
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(position.format(event.position));
    for text in [
        event.aggregate_type.as_bytes(),
        event.aggregate_id.as_bytes(),
        sequence.format(event.sequence).as_bytes(),
        event.event_type.as_bytes(),
        event.event_version.as_bytes(),
        recorded_at.as_bytes(),
        event.payload.as_bytes(),
        event.metadata.as_bytes(),
    ] {
        hasher.update(b"\n");
        hasher.update(text);
    }
    hasher.finalize().into()
}
