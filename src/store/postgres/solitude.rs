//! Whether this node seems to be the only one that writes: then a turn may assume its head, which spares two round trips of
//! three.
//!
//! Nothing depends on it being so. Where it is not, an append is overtaken and writes nothing, the batch is decided again under
//! the lock, and the node keeps to the lock for a while.

use std::time::{Duration, Instant};

use aggregates::primitives::Timestamp;

/// For how long what was seen under the lock is good, the database's clock above all: from there on ours counts.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// For how long a node that was overtaken keeps to the lock: many keys may be on their way that have been answered before.
const KEEPS_TO_THE_LOCK: Duration = Duration::from_millis(100);

/// What the last turns have shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Solitude {
    /// When the lock was had last, and what the database's clock showed then; nothing where another writer had been there.
    seen: Option<(Instant, Timestamp)>,
    /// When an append was overtaken last.
    disturbed_at: Option<Instant>,
}

impl Solitude {
    /// The lock was had: the database's clock, and whether somebody else had written meanwhile.
    pub(super) fn see(&mut self, at: Instant, clock: Timestamp, others: bool) {
        self.seen = (!others).then_some((at, clock));
    }

    /// An append was overtaken, or failed.
    pub(super) fn disturb(&mut self, at: Instant) {
        self.disturbed_at = Some(at);
    }

    /// What the database's clock shows, where the next turn may assume its head.
    pub(super) fn clock(&self, at: Instant) -> Option<Timestamp> {
        let (seen_at, clock) = self.seen?;
        let since = at.saturating_duration_since(seen_at);
        let is_quiet = self.disturbed_at.is_none_or(|then| at.saturating_duration_since(then) >= KEEPS_TO_THE_LOCK);
        let micros = i64::try_from(since.as_micros()).ok()?;
        (is_quiet && since < GOOD_FOR).then(|| Timestamp::from_micros(clock.micros().saturating_add(micros)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Timestamp {
        Timestamp::from_micros(5_000_000)
    }

    #[test]
    fn the_databases_clock_goes_on_for_a_while_after_it_was_seen() {
        let (mut solitude, start) = (Solitude::default(), Instant::now());
        assert_eq!(solitude.clock(start), None, "it has not been seen yet");
        solitude.see(start, clock(), false);
        assert_eq!(solitude.clock(start), Some(clock()));
        assert_eq!(solitude.clock(start + Duration::from_millis(999)), Some(Timestamp::from_micros(5_999_000)));
        assert_eq!(solitude.clock(start + GOOD_FOR), None);
    }

    #[test]
    fn whoever_sees_another_writer_keeps_to_the_lock_until_it_sees_none() {
        let (mut solitude, start) = (Solitude::default(), Instant::now());
        solitude.see(start, clock(), false);
        solitude.see(start, clock(), true);
        assert_eq!(solitude.clock(start + Duration::from_millis(500)), None);
        solitude.see(start, clock(), false);
        assert_eq!(solitude.clock(start), Some(clock()));
    }

    #[test]
    fn whoever_was_overtaken_keeps_to_the_lock_for_a_while() {
        let (mut solitude, start) = (Solitude::default(), Instant::now());
        solitude.see(start, clock(), false);
        solitude.disturb(start);
        solitude.see(start, clock(), false);
        assert_eq!(solitude.clock(start + Duration::from_millis(99)), None);
        assert!(solitude.clock(start + KEEPS_TO_THE_LOCK).is_some());
    }
}
