//! Aggregates' states where no snapshot serves: the fold of their events, as JSON text.

use aggregates::client::Client;
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::Platform;
use aggregates::primitives::ResellerId;
use aggregates::product::Product;
use aggregates::reseller::Reseller;
use aggregates::upline_request::UplineRequest;
use aggregates::wallet::Wallet;
use cqrs_es::Aggregate;
use rusqlite::{Connection, params};

use super::connection::error;
use crate::store::StoreError;

/// Whether a snapshot's text is a state of this version.
pub(super) fn is_readable(key: &AggregateKey, payload: &str) -> bool {
    match key {
        AggregateKey::Platform => serde_json::from_str::<Platform>(payload).is_ok(),
        AggregateKey::Reseller(_) => serde_json::from_str::<Reseller>(payload).is_ok(),
        AggregateKey::Wallet(_) => serde_json::from_str::<Wallet>(payload).is_ok(),
        AggregateKey::UplineRequest(_) => serde_json::from_str::<UplineRequest>(payload).is_ok(),
        AggregateKey::Client(_) => serde_json::from_str::<Client>(payload).is_ok(),
        AggregateKey::Product(_) => serde_json::from_str::<Product>(payload).is_ok(),
    }
}

/// The state after all of an aggregate's events, and the number of the last one; `None` where there is no event.
pub(super) fn replay(connection: &Connection, key: &AggregateKey) -> Result<Option<(String, u64)>, StoreError> {
    macro_rules! state_of {
        ($variant:ident, $aggregate:ty) => {
            text(fold::<$aggregate>(connection, key, |event| match event {
                Event::$variant(event) => Some(event),
                _ => None,
            })?)
        };
    }
    match key {
        AggregateKey::Platform => state_of!(Platform, Platform),
        AggregateKey::Reseller(id) => text(replay_reseller(connection, *id)?),
        AggregateKey::Wallet(_) => state_of!(Wallet, Wallet),
        AggregateKey::UplineRequest(_) => state_of!(UplineRequest, UplineRequest),
        AggregateKey::Client(_) => state_of!(Client, Client),
        AggregateKey::Product(_) => state_of!(Product, Product),
    }
}

/// A reseller after all of its events.
pub(super) fn replay_reseller(connection: &Connection, id: ResellerId) -> Result<Option<(Reseller, u64)>, StoreError> {
    fold(connection, &AggregateKey::Reseller(id), |event| match event {
        Event::Reseller(event) => Some(event),
        _ => None,
    })
}

fn text<A: Aggregate>(state: Option<(A, u64)>) -> Result<Option<(String, u64)>, StoreError> {
    state
        .map(|(state, sequence)| {
            let text = serde_json::to_string(&state).map_err(|cause| StoreError::Unreadable(cause.to_string()))?;
            Ok((text, sequence))
        })
        .transpose()
}

fn fold<A: Aggregate>(
    connection: &Connection,
    key: &AggregateKey,
    own: fn(Event) -> Option<A::Event>,
) -> Result<Option<(A, u64)>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "select event_type, event_version, payload, sequence from events \
             where aggregate_type = ?1 and aggregate_id = ?2 order by sequence",
        )
        .map_err(error)?;
    let mut rows = statement.query(params![key.aggregate_type(), key.aggregate_id()]).map_err(error)?;
    let mut state = None;
    while let Some(row) = rows.next().map_err(error)? {
        let text = |index| row.get_ref(index).and_then(|value| Ok(value.as_str()?)).map_err(error);
        let sequence: u64 = row.get(3).map_err(error)?;
        let event = Event::decode(key.aggregate_type(), text(0)?, text(1)?, text(2)?)
            .map_err(|cause| StoreError::Unreadable(format!("event {sequence} of {key}: {cause}")))?;
        let (state, last) = state.get_or_insert_with(|| (A::default(), 0));
        if let Some(event) = own(event) {
            state.apply(event);
        }
        *last = sequence;
    }
    Ok(state)
}
