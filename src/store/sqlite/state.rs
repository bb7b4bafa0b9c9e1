//! Aggregates' states: the snapshot that there is, and the fold of what came after it.

use aggregates::client::Client;
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::Platform;
use aggregates::primitives::ResellerId;
use aggregates::product::Product;
use aggregates::reseller::Reseller;
use aggregates::upline_request::UplineRequest;
use aggregates::wallet::Wallet;
use cqrs_es::Aggregate;
use rusqlite::Connection;

use super::connection::error;
use super::index::Index;
use super::reading;
use crate::store::StoreError;

/// The state after all of an aggregate's events, as JSON text, and the number of the last one; `None` where there is no event.
pub(super) fn load(
    connection: &Connection,
    index: &Index,
    key: &AggregateKey,
) -> Result<Option<(String, u64)>, StoreError> {
    macro_rules! state_of {
        ($variant:ident, $aggregate:ty) => {
            text::<$aggregate>(connection, index, key, |event| match event {
                Event::$variant(event) => Some(event),
                _ => None,
            })
        };
    }
    match key {
        AggregateKey::Platform => state_of!(Platform, Platform),
        AggregateKey::Reseller(_) => state_of!(Reseller, Reseller),
        AggregateKey::Wallet(_) => state_of!(Wallet, Wallet),
        AggregateKey::UplineRequest(_) => state_of!(UplineRequest, UplineRequest),
        AggregateKey::Client(_) => state_of!(Client, Client),
        AggregateKey::Product(_) => state_of!(Product, Product),
    }
}

/// A reseller after all of its events.
pub(super) fn reseller(
    connection: &Connection,
    index: &Index,
    id: ResellerId,
) -> Result<Option<(Reseller, u64)>, StoreError> {
    let key = AggregateKey::Reseller(id);
    let own: Own<Reseller> = |event| match event {
        Event::Reseller(event) => Some(event),
        _ => None,
    };
    let start = snapshot(index, &key)?.map(|(_, state, sequence)| (state, sequence));
    fold(connection, index, &key, own, start)
}

/// An event as one of its aggregate's own.
type Own<A> = fn(Event) -> Option<<A as Aggregate>::Event>;

/// The latest snapshot that can be read, as text and as state.
fn snapshot<A: Aggregate>(index: &Index, key: &AggregateKey) -> Result<Option<(String, A, u64)>, StoreError> {
    Ok(index.snapshot(key)?.and_then(|snapshot| {
        let state = serde_json::from_str(&snapshot.payload).ok()?;
        Some((snapshot.payload, state, snapshot.sequence))
    }))
}

fn text<A: Aggregate>(
    connection: &Connection,
    index: &Index,
    key: &AggregateKey,
    own: Own<A>,
) -> Result<Option<(String, u64)>, StoreError> {
    let (known, start) = match snapshot::<A>(index, key)? {
        Some((text, state, sequence)) => (Some((text, sequence)), Some((state, sequence))),
        None => (None, None),
    };
    let Some((state, sequence)) = fold(connection, index, key, own, start)? else { return Ok(None) };
    match known {
        Some((text, known)) if known == sequence => Ok(Some((text, sequence))),
        _ => {
            let text = serde_json::to_string(&state).map_err(|cause| StoreError::Unreadable(cause.to_string()))?;
            Ok(Some((text, sequence)))
        }
    }
}

/// Folds the events after `start`, or all of them.
fn fold<A: Aggregate>(
    connection: &Connection,
    index: &Index,
    key: &AggregateKey,
    own: Own<A>,
    start: Option<(A, u64)>,
) -> Result<Option<(A, u64)>, StoreError> {
    let positions = index.positions(key, start.as_ref().map_or(0, |(_, sequence)| *sequence))?;
    if positions.is_empty() {
        return Ok(start);
    }
    let (mut state, mut last) = start.unwrap_or_default();
    let mut statement = connection
        .prepare_cached(
            "select event_type, event_version, payload, sequence, aggregate_id from events where position = ?1",
        )
        .map_err(error)?;
    let id = key.aggregate_id();
    for position in positions {
        let mut rows = statement.query([position]).map_err(error)?;
        let Some(row) = rows.next().map_err(error)? else {
            // Outside of a turn the index may be a moment ahead of what is read here.
            if position > reading::head(connection)?.position {
                break;
            }
            return Err(StoreError::Unreadable(format!("the log has no event {position} of {key}")));
        };
        let text = |index| row.get_ref(index).and_then(|value| Ok(value.as_str()?)).map_err(error);
        let sequence: u64 = row.get(3).map_err(error)?;
        if sequence != last + 1 || text(4)? != id {
            return Err(StoreError::Unreadable(format!("event {position} is not event {} of {key}", last + 1)));
        }
        let event = Event::decode(key.aggregate_type(), text(0)?, text(1)?, text(2)?)
            .map_err(|cause| StoreError::Unreadable(format!("event {sequence} of {key}: {cause}")))?;
        if let Some(event) = own(event) {
            state.apply(event);
        }
        last = sequence;
    }
    Ok(Some((state, last)))
}
