//! What is kept of snapshots from one run to the next: those that were found to be right.

use aggregates::event::AggregateKey;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::{Found, Snapshots};
use crate::audit::verify::examined::decode;
use crate::audit::verify::findings::{Check, Findings};
use crate::audit::verify::map::{Map, by_aggregate};
use crate::audit::verify::reading::RawEvent;

/// What a run has judged.
#[derive(Debug, Deserialize)]
pub(in crate::audit::verify) struct Judged {
    aggregates: usize,
    #[serde(with = "by_aggregate")]
    snapshots: Map<AggregateKey, Found>,
}

impl Found {
    /// Whether it is the same snapshot.
    fn is(&self, other: &Self) -> bool {
        (self.sequence, self.position, self.digest) == (other.sequence, other.position, other.digest)
    }
}

impl Snapshots {
    /// Takes over what a former run has judged.
    pub(in crate::audit::verify) fn take_over(&mut self, former: Judged, findings: &mut Findings) {
        self.aggregates = former.aggregates;
        let mut same = 0;
        for (key, judged) in former.snapshots {
            if let Some(found) = self.found.get_mut(&key).filter(|found| found.is(&judged)) {
                (found.is_judged, found.is_right, found.was_right) = (true, true, true);
                same += 1;
            }
        }
        findings.count(Check::Snapshots, same, 0, None);
        self.wanted = self.found.values().filter(|found| !found.was_right).count();
    }

    /// Takes in an event that a former run has judged, where the snapshot of its aggregate is another one since.
    pub(in crate::audit::verify) fn again(&mut self, raw: &RawEvent<'_>, findings: &mut Findings) {
        if self.wanted == 0 {
            return;
        }
        let texts = (std::str::from_utf8(raw.aggregate_type), std::str::from_utf8(raw.aggregate_id));
        let (Ok(aggregate_type), Ok(aggregate_id)) = texts else { return };
        let Ok(key) = AggregateKey::parse(aggregate_type, aggregate_id) else { return };
        if self.found.get(&key).is_some_and(|found| !found.was_right)
            && let Ok(event) = decode(raw)
        {
            self.fold(raw.position, &key, raw.sequence, &event.event, findings);
        }
    }

    /// Writes what was judged, as [`Judged`] reads it.
    pub(in crate::audit::verify) fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Those of the snapshots that were found to be right.
        struct Right<'s>(&'s Map<AggregateKey, Found>);
        impl Serialize for Right<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let right = self.0.iter().filter(|(_, found)| found.is_right);
                serializer.collect_map(right.map(|(key, found)| (key.to_string(), found)))
            }
        }
        let mut judged = serializer.serialize_struct("Judged", 2)?;
        judged.serialize_field("aggregates", &self.aggregates)?;
        judged.serialize_field("snapshots", &Right(&self.found))?;
        judged.end()
    }
}
