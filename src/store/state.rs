//! Aggregates' states as a store keeps them: a snapshot's text, and the fold of events that came after it.

use aggregates::client::Client;
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::Platform;
use aggregates::product::Product;
use aggregates::reseller::Reseller;
use aggregates::upline_request::UplineRequest;
use aggregates::wallet::Wallet;
use cqrs_es::Aggregate;

use super::StoreError;

/// An aggregate that the log holds events of.
pub(super) trait Logged: Aggregate {
    /// An event as one of its own, where it is.
    fn own(event: Event) -> Option<Self::Event>;
}

macro_rules! logged {
    ($($aggregate:ident),+) => {
        $(impl Logged for $aggregate {
            fn own(event: Event) -> Option<Self::Event> {
                match event {
                    Event::$aggregate(event) => Some(event),
                    _ => None,
                }
            }
        })+
    };
}

logged!(Platform, Reseller, Wallet, UplineRequest, Client, Product);

/// Does `$work` with `$aggregate` standing for the type that a key names.
macro_rules! for_aggregate {
    ($key:expr, $aggregate:ident => $work:expr) => {
        match $key {
            AggregateKey::Platform => {
                type $aggregate = Platform;
                $work
            }
            AggregateKey::Reseller(_) => {
                type $aggregate = Reseller;
                $work
            }
            AggregateKey::Wallet(_) => {
                type $aggregate = Wallet;
                $work
            }
            AggregateKey::UplineRequest(_) => {
                type $aggregate = UplineRequest;
                $work
            }
            AggregateKey::Client(_) => {
                type $aggregate = Client;
                $work
            }
            AggregateKey::Product(_) => {
                type $aggregate = Product;
                $work
            }
        }
    };
}

/// What is needed of an event to fold it.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventText<'text> {
    pub(super) sequence: u64,
    pub(super) event_type: &'text str,
    pub(super) event_version: &'text str,
    pub(super) payload: &'text str,
}

/// A state, and the number of the last event in it.
#[derive(Debug, Default)]
pub(super) struct Folded<A> {
    pub(super) state: A,
    pub(super) sequence: u64,
}

impl<A: Logged> Folded<A> {
    /// From a snapshot, where its text is one.
    pub(super) fn of_snapshot(text: &str, sequence: u64) -> Option<Self> {
        // A state before the first event would be one that no event has made.
        (sequence > 0).then_some(Self { state: serde_json::from_str(text).ok()?, sequence })
    }

    /// Takes in the aggregate's next event.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] where it is not the next one, or none that this version knows.
    pub(super) fn take(&mut self, key: &AggregateKey, event: EventText<'_>) -> Result<(), StoreError> {
        if event.sequence != self.sequence + 1 {
            return Err(StoreError::Unreadable(format!("{key} has no event {}", self.sequence + 1)));
        }
        let decoded = Event::decode(key.aggregate_type(), event.event_type, event.event_version, event.payload)
            .map_err(|cause| StoreError::Unreadable(format!("event {} of {key}: {cause}", event.sequence)))?;
        if let Some(own) = A::own(decoded) {
            self.state.apply(own);
        }
        self.sequence = event.sequence;
        Ok(())
    }

    /// The state as a snapshot has it, and its sequence.
    pub(super) fn into_text(self) -> Result<(String, u64), StoreError> {
        let text = serde_json::to_string(&self.state).map_err(|cause| StoreError::Unreadable(cause.to_string()))?;
        Ok((text, self.sequence))
    }
}

/// The state after the events that follow a snapshot, given in order; `None` where its text is none.
///
/// # Errors
/// As [`Folded::take`].
pub(super) fn fold_on<'text>(
    key: &AggregateKey,
    (snapshot, sequence): (String, u64),
    events: impl Iterator<Item = EventText<'text>>,
) -> Result<Option<(String, u64)>, StoreError> {
    for_aggregate!(key, A => {
        let Some(mut folded) = Folded::<A>::of_snapshot(&snapshot, sequence) else { return Ok(None) };
        for event in events {
            folded.take(key, event)?;
        }
        if folded.sequence == sequence { Ok(Some((snapshot, sequence))) } else { folded.into_text().map(Some) }
    })
}

/// The state after all of an aggregate's events, given in order; `None` for none.
pub(super) fn replay<'text>(
    key: &AggregateKey,
    events: impl Iterator<Item = EventText<'text>>,
) -> Result<Option<(String, u64)>, StoreError> {
    for_aggregate!(key, A => {
        let mut folded = Folded::<A>::default();
        for event in events {
            folded.take(key, event)?;
        }
        if folded.sequence == 0 { Ok(None) } else { folded.into_text().map(Some) }
    })
}

pub(super) use for_aggregate;
