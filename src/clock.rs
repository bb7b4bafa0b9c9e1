//! Where the time comes from: the system, or a hand that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aggregates::primitives::Timestamp;

/// A clock. Clones of a manual one show the same time.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's time.
    System,
    /// Microseconds since 1970, moved by hand (`serve --dev --clock manual`, `demo`, tests).
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `time` until it is advanced.
    #[must_use]
    pub fn manual(time: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(time.micros())))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => chrono::Utc::now().into(),
            Self::Manual(micros) => Timestamp::from_micros(micros.load(Ordering::SeqCst)),
        }
    }

    /// The time of a turn: a clock that all nodes share is asked before each one's own, and a manual one before both.
    #[must_use]
    pub fn at_turn(&self, shared: Option<Timestamp>) -> Timestamp {
        match (self, shared) {
            (Self::System, Some(shared)) => shared,
            _ => self.now(),
        }
    }

    /// Moves a manual clock forward; `None` for the system's.
    #[must_use]
    pub fn advance(&self, seconds: u32) -> Option<Timestamp> {
        match self {
            Self::System => None,
            Self::Manual(micros) => {
                let step = i64::from(seconds) * 1_000_000;
                Some(Timestamp::from_micros(micros.fetch_add(step, Ordering::SeqCst).saturating_add(step)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_takes_the_shared_clock_unless_a_hand_moves_ours() {
        let shared = Timestamp::from_micros(5);
        assert_eq!(Clock::System.at_turn(Some(shared)), shared);
        assert!(Clock::System.at_turn(None) > shared);
        let manual = Clock::manual(Timestamp::from_micros(7));
        assert_eq!(manual.at_turn(Some(shared)), Timestamp::from_micros(7));
    }
}
