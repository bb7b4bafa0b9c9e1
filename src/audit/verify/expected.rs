//! What was written down of the log before: at each of those positions it must still have that hash.
//!
//! This is what a log that was rewritten and hashed anew, or cut and its head moved, cannot pass: in itself it is whole.

use super::chain::Chain;
use super::findings::{Check, Findings};
use crate::audit::anchor::{Anchor, hexadecimal};

/// The anchors that the pass has not come to, the next one last.
#[derive(Debug, Default)]
pub(super) struct Expected {
    left: Vec<Anchor>,
}

impl Expected {
    pub(super) fn of(anchors: &[Anchor]) -> Self {
        let mut left = anchors.to_vec();
        left.sort_unstable();
        left.dedup();
        left.reverse();
        // Before the first event every log is the same one, so there is nothing that could differ.
        left.retain(|anchor| *anchor != Anchor { position: 0, hash: [0; 32] });
        Self { left }
    }

    /// Judges the anchors of the event that the chain stands at.
    pub(super) fn at(&mut self, chain: &Chain, findings: &mut Findings) {
        let is_here = |anchor: &mut Anchor| i64::try_from(anchor.position) == Ok(chain.position);
        while let Some(anchor) = self.left.pop_if(is_here) {
            findings.holds(Check::Expected, chain.position, anchor.hash.as_slice() == chain.hash, || {
                let what = format!("hash at {}, which was written down", anchor.position);
                (what, hexadecimal(&anchor.hash), format!("{}: this is another history", hexadecimal(&chain.hash)))
            });
        }
    }

    /// What was not come to is no longer there.
    pub(super) fn end(mut self, chain: &Chain, findings: &mut Findings) {
        while let Some(anchor) = self.left.pop() {
            findings.holds(Check::Expected, i64::try_from(anchor.position).ok(), false, || {
                let what = format!("event {}, which was written down", anchor.position);
                (what, hexadecimal(&anchor.hash), format!("the history was cut: it ends at {}", chain.position))
            });
        }
    }
}
