//! Memory built anew from the store, and events of other writers taken in.
//!
//! History may not be cut: a ledger that is rebuilt must stand on the same log as the one before it, so the last head known to
//! be committed (the *anchor*) is looked for in what is found. [`EventStore::begin`] makes the same check at every
//! turn, and where a turn assumes its head the append does.

use aggregates::event::{AggregateKey, DecodeError, Event, LoggedEvent};
use aggregates::ledger::{Key, Ledger};

use super::turn::Failure;
use crate::store::{EventStore, Head, StoreError, StoredEvent, Turn};

/// How many events of the tail are read at once.
const TAIL_PAGE: usize = 1_000;

/// What the writer knows: a ledger, and the head it stands at.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) ledger: Ledger,
    pub(super) head: Head,
    /// Whether another node had written since our last turn, when ours came.
    pub(super) others_write: bool,
}

/// Why the tail could not be taken in. What was taken in before is whole, and the head says how far.
#[derive(Debug)]
pub(super) enum CatchUp {
    /// The store failed.
    Store(StoreError),
    /// The tail holds what this version cannot read, or has a gap.
    Unreadable(String),
}

/// Builds a ledger from the store: the network whole, the policy, and nothing else; the rest comes as it is needed.
pub(super) async fn rebuild<S: EventStore>(store: &mut S, anchor: Option<&Head>) -> Result<Memory, Failure> {
    let clean = |error| Failure::before_append(error, false);
    let mut ledger = Ledger::default();
    let head =
        store.resellers(&mut |id, sequence, reseller| ledger.enlist(id, sequence, &reseller)).await.map_err(clean)?;
    if let Some(anchor) = anchor {
        check_anchor(store, anchor, &head).await?;
    }
    ledger.start_at(head.position);
    let platform = [Key::Aggregate(AggregateKey::Platform)];
    for (key, loaded) in store.load(&platform).await.map_err(clean)? {
        if let Err(error) = ledger.load(key, loaded) {
            return Err(Failure::Stop(format!("the policy cannot be read: {error}")));
        }
    }
    Ok(Memory { ledger, head, others_write: false })
}

/// Whether the log that ends at `head` is the one that once ended at `anchor`.
async fn check_anchor<S: EventStore>(store: &mut S, anchor: &Head, head: &Head) -> Result<(), Failure> {
    if head.position < anchor.position {
        let cut = format!("history was cut: the head is at {}, but {} was committed", head.position, anchor.position);
        return Err(Failure::Stop(cut));
    }
    if anchor.position == 0 {
        return Ok(());
    }
    let found = store.read(anchor.position - 1, 1).await.map_err(|error| Failure::before_append(error, false))?;
    match found.first() {
        Some(event) if event.position == anchor.position && event.hash == anchor.hash => Ok(()),
        _ => Err(Failure::Stop(format!("history was cut: another event stands at {}", anchor.position))),
    }
}

/// Takes in what other writers have appended since `known`, up to the turn's head, page by page.
pub(super) async fn catch_up<T: Turn>(turn: &mut T, ledger: &mut Ledger, known: &mut Head) -> Result<(), CatchUp> {
    let target = turn.head().position;
    while known.position < target {
        let page = turn.read(known.position, TAIL_PAGE).await.map_err(CatchUp::Store)?;
        // Decoded whole before any of it is applied.
        let events: Vec<LoggedEvent> = page
            .iter()
            .map(logged)
            .collect::<Result<_, _>>()
            .map_err(|error| CatchUp::Unreadable(format!("after position {}: {error}", known.position)))?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            return Err(CatchUp::Unreadable(format!("the log ends at {} and the head says {target}", known.position)));
        };
        if first.position != known.position + 1 {
            let gap = format!("the log goes from {} to {}", known.position, first.position);
            return Err(CatchUp::Unreadable(gap));
        }
        for event in &events {
            ledger.apply(event);
        }
        known.position = last.position;
        known.hash = last.hash;
        known.recorded_at = last.recorded_at;
    }
    Ok(())
}

fn logged(stored: &StoredEvent) -> Result<LoggedEvent, DecodeError> {
    Ok(LoggedEvent {
        position: stored.position,
        key: AggregateKey::parse(&stored.aggregate_type, &stored.aggregate_id)?,
        sequence: stored.sequence,
        event: Event::decode(&stored.aggregate_type, &stored.event_type, &stored.event_version, &stored.payload)?,
        metadata: serde_json::from_str(&stored.metadata)
            .map_err(|error| DecodeError::Malformed(format!("metadata: {error}")))?,
        recorded_at: stored.recorded_at,
    })
}
