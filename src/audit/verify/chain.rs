//! I8: the hash chain holds from the first event to the head.
//!
//! Hashes the bytes that stand in the rows, by its own few lines: what the writer hashed with plays no part.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::findings::{Check, Findings};
use super::reading::{HeadRow, RawEvent};
use crate::audit::anchor::{Anchor, hexadecimal};

/// The chain so far.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chain {
    pub(super) position: i64,
    pub(super) hash: Vec<u8>,
}

impl Default for Chain {
    fn default() -> Self {
        Self { position: 0, hash: vec![0; 32] }
    }
}

impl Chain {
    /// Judges an event's hash. After a break it goes on from the hash that is there, so one break is told once.
    pub(super) fn follow(&mut self, raw: &RawEvent<'_>, findings: &mut Findings) {
        let expected = link(&self.hash, raw);
        findings.holds(Check::Chain, raw.position, expected.as_slice() == raw.hash, || {
            ("hash".to_owned(), hexadecimal(&expected), hexadecimal(raw.hash))
        });
        self.position = raw.position;
        self.hash.clear();
        self.hash.extend_from_slice(raw.hash);
    }

    /// Where it stands, as it is written down; `None` before the first event, and where there is no hash.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        let position = u64::try_from(self.position).ok().filter(|position| *position > 0)?;
        Some(Anchor { position, hash: self.hash.as_slice().try_into().ok()? })
    }

    /// Judges the head's row against the last event.
    pub(super) fn end(&self, head: Option<&HeadRow>, findings: &mut Findings) {
        let found = match head {
            Some(head) => format!("{} {}", head.position, hexadecimal(&head.hash)),
            None => "no head".to_owned(),
        };
        let expected = format!("{} {}", self.position, hexadecimal(&self.hash));
        findings.equal(Check::Chain, self.position, &expected, &found, || {
            "the head's row, beside the last event".to_owned()
        });
    }
}

fn link(previous: &[u8], raw: &RawEvent<'_>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(raw.position.to_string());
    let sequence = raw.sequence.to_string();
    for field in [
        raw.aggregate_type,
        raw.aggregate_id,
        sequence.as_bytes(),
        raw.event_type,
        raw.event_version,
        raw.recorded_at,
        raw.payload,
        raw.metadata,
    ] {
        hasher.update(b"\n");
        hasher.update(field);
    }
    hasher.finalize().into()
}
