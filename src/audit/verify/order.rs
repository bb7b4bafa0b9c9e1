//! I1: positions are 1, 2, 3 … without a gap; per aggregate the sequences are too; `recorded_at` never decreases.
//!
//! Memory: one number per aggregate.

use aggregates::event::AggregateKey;
use aggregates::primitives::Timestamp;
use serde::{Deserialize, Serialize};

use super::findings::{Check, Findings};
use super::map::{Map, by_aggregate};
use super::reading::RawEvent;

/// What came last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Order {
    position: i64,
    #[serde(with = "by_aggregate")]
    sequences: Map<AggregateKey, i64>,
    time: Option<Timestamp>,
    /// The text of `time`: the events of one batch share it.
    time_text: Vec<u8>,
}

impl Order {
    /// Judges an event's place in the log. After a break it goes on from what is there, so one break is told once.
    pub(super) fn follow(&mut self, raw: &RawEvent<'_>, findings: &mut Findings) {
        findings.equal(Check::Order, raw.position, &(self.position + 1), &raw.position, || "position".to_owned());
        self.position = raw.position;
        if self.time_text == raw.recorded_at {
            return;
        }
        let text = String::from_utf8_lossy(raw.recorded_at);
        let time: Option<Timestamp> = text.parse().ok().filter(|time: &Timestamp| time.to_string() == text);
        findings.holds(Check::Order, raw.position, time.is_some() && time >= self.time, || {
            let least = self
                .time
                .map_or_else(|| "a time with six decimals and Z".to_owned(), |time| format!("{time} or later"));
            ("recorded_at".to_owned(), least, text.clone().into_owned())
        });
        self.time_text.clear();
        self.time_text.extend_from_slice(raw.recorded_at);
        self.time = time.or(self.time);
    }

    /// The number of an aggregate's last event; 0 where it has none.
    pub(super) fn last(&self, key: &AggregateKey) -> i64 {
        self.sequences.get(key).copied().unwrap_or_default()
    }

    /// Judges its place among its aggregate's events.
    pub(super) fn sequence(&mut self, position: i64, key: &AggregateKey, sequence: i64, findings: &mut Findings) {
        let last = match self.sequences.get_mut(key) {
            Some(last) => last,
            None => self.sequences.entry(key.clone()).or_default(),
        };
        let expected = std::mem::replace(last, sequence) + 1;
        findings.equal(Check::Order, position, &expected, &sequence, || format!("sequence of {key}"));
    }
}
