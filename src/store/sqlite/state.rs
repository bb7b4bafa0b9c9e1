//! Aggregates' states: the snapshot that there is, and the fold of what came after it.

use aggregates::client::Client;
use aggregates::event::AggregateKey;
use aggregates::platform::Platform;
use aggregates::primitives::ResellerId;
use aggregates::product::Product;
use aggregates::reseller::Reseller;
use aggregates::upline_request::UplineRequest;
use aggregates::wallet::Wallet;
use rusqlite::Connection;

use super::connection::error;
use super::index::Index;
use super::reading;
use crate::store::StoreError;
use crate::store::state::{EventText, Folded, Logged, for_aggregate};

/// The state after all of an aggregate's events, as JSON text, and the number of the last one; `None` where there is no event.
pub(super) fn load(
    connection: &Connection,
    index: &Index,
    key: &AggregateKey,
) -> Result<Option<(String, u64)>, StoreError> {
    for_aggregate!(key, A => text::<A>(connection, index, key))
}

/// A reseller after all of its events.
pub(super) fn reseller(
    connection: &Connection,
    index: &Index,
    id: ResellerId,
) -> Result<Option<(Reseller, u64)>, StoreError> {
    let key = AggregateKey::Reseller(id);
    let start = snapshot(index, &key)?.map(|(_, folded)| folded);
    Ok(fold(connection, index, &key, start)?.map(|folded| (folded.state, folded.sequence)))
}

/// The latest snapshot that can be read, as text and as state.
fn snapshot<A: Logged>(index: &Index, key: &AggregateKey) -> Result<Option<(String, Folded<A>)>, StoreError> {
    Ok(index.snapshot(key)?.and_then(|snapshot| {
        let folded = Folded::of_snapshot(&snapshot.payload, snapshot.sequence)?;
        Some((snapshot.payload, folded))
    }))
}

fn text<A: Logged>(
    connection: &Connection,
    index: &Index,
    key: &AggregateKey,
) -> Result<Option<(String, u64)>, StoreError> {
    let (known, start) = match snapshot::<A>(index, key)? {
        Some((text, folded)) => (Some((text, folded.sequence)), Some(folded)),
        None => (None, None),
    };
    let Some(folded) = fold(connection, index, key, start)? else { return Ok(None) };
    match known {
        Some((text, known)) if known == folded.sequence => Ok(Some((text, known))),
        _ => folded.into_text().map(Some),
    }
}

/// Folds the events after `start`, or all of them.
fn fold<A: Logged>(
    connection: &Connection,
    index: &Index,
    key: &AggregateKey,
    start: Option<Folded<A>>,
) -> Result<Option<Folded<A>>, StoreError> {
    let positions = index.positions(key, start.as_ref().map_or(0, |folded| folded.sequence))?;
    if positions.is_empty() {
        return Ok(start);
    }
    let mut folded = start.unwrap_or_default();
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
        if text(4)? != id {
            return Err(StoreError::Unreadable(format!("event {position} is none of {key}")));
        }
        let (event_type, event_version, payload) = (text(0)?, text(1)?, text(2)?);
        folded.take(key, EventText { sequence: row.get(3).map_err(error)?, event_type, event_version, payload })?;
    }
    Ok(Some(folded))
}
