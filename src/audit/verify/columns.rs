//! The columns of events that the hash chain does not hold: who it was, and by which command.
//!
//! In themselves they are judged beside the metadata. This is a digest of all of them so far, by which a former run's judgement
//! of them is found to be still of the same columns.

use serde::{Deserialize, Serialize};

use super::half::Half;
use super::reading::RawEvent;

/// What the columns of all events so far come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Columns(Half);

impl Columns {
    /// Takes in the next event.
    pub(super) fn follow(&mut self, raw: &RawEvent<'_>) {
        // Lengths tell where one ends: no other pair has the same bytes.
        let length = raw.actor.len().to_be_bytes();
        self.0 = self.0.then(&[&length, raw.actor, raw.command_id]);
    }
}
