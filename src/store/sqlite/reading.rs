//! What is read from `ledger.db`, in a turn and outside of one alike. Each statement is compiled once and then found by its
//! text; in a file of one's own a row by its key is no round trip, so keys are read one by one.

use std::collections::{HashMap, HashSet};

use aggregates::client::ClientDetails;
use aggregates::command::ReceiptKey;
use aggregates::event::{AggregateKey, Event};
use aggregates::facts::{self, Fact, FactKey};
use aggregates::ledger::{Key, Loaded, Receipt, Remembered};
use aggregates::primitives::{ClientId, CommandId, ProvisionId, ResellerId, Text, Timestamp};
use aggregates::reseller::Reseller;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::connection::error;
use super::index::Index;
use super::state;
use crate::store::{Head, StoreError, StoredEvent};

fn unreadable(what: &str, cause: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(format!("{what}: {cause}"))
}

/// Runs `read` on one snapshot of the database.
pub(super) fn in_one_snapshot<T>(
    connection: &mut Connection,
    read: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction().map_err(error)?;
    read(&transaction)
}

/// The head as it stands.
pub(super) fn head(connection: &Connection) -> Result<Head, StoreError> {
    let (position, hash, epoch, recorded_at) = connection
        .prepare_cached(
            "select head.position, head.hash, head.epoch, events.recorded_at \
             from head left join events on events.position = head.position where head.id = 1",
        )
        .and_then(|mut statement| {
            statement.query_row([], |row| {
                let recorded_at: Option<String> = row.get(3)?;
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, recorded_at))
            })
        })
        .map_err(|cause| match cause {
            rusqlite::Error::QueryReturnedNoRows => StoreError::Unreadable("the log has no head".to_owned()),
            other => error(other),
        })?;
    let recorded_at = match recorded_at {
        Some(text) => text.parse().map_err(|cause| unreadable("the head's time", cause))?,
        None if position == 0 => Timestamp::default(),
        None => return Err(StoreError::HistoryCut(format!("the head is at {position}, where there is no event"))),
    };
    Ok(Head { position, hash, epoch, recorded_at })
}

/// The hash at a position, if there is an event.
pub(super) fn hash_at(connection: &Connection, position: u64) -> Result<Option<[u8; 32]>, StoreError> {
    connection
        .prepare_cached("select hash from events where position = ?1")
        .and_then(|mut statement| statement.query_row([position], |row| row.get(0)).optional())
        .map_err(error)
}

fn stored_event(row: &Row<'_>) -> Result<StoredEvent, StoreError> {
    let text = |index| row.get::<_, String>(index).map_err(error);
    Ok(StoredEvent {
        position: row.get(0).map_err(error)?,
        aggregate_type: text(1)?.into(),
        aggregate_id: text(2)?,
        sequence: row.get(3).map_err(error)?,
        event_type: text(4)?.into(),
        event_version: text(5)?.into(),
        payload: text(6)?,
        metadata: text(7)?,
        recorded_at: text(8)?.parse().map_err(|cause| unreadable("an event's time", cause))?,
        hash: row.get(9).map_err(error)?,
        actor: text(10)?,
        command_id: text(11)?.parse().map_err(|cause| unreadable("an event's command", cause))?,
    })
}

/// Events after a position, at most `limit`, in order.
pub(super) fn events(connection: &Connection, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
             recorded_at, hash, actor, command_id from events where position > ?1 order by position limit ?2",
        )
        .map_err(error)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![after, limit]).map_err(error)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next().map_err(error)? {
        events.push(stored_event(row)?);
    }
    Ok(events)
}

/// Which of these commands have an event after a position.
pub(super) fn commands_after(
    connection: &Connection,
    after: u64,
    commands: &[CommandId],
) -> Result<HashSet<CommandId>, StoreError> {
    let asked: HashSet<CommandId> = commands.iter().copied().collect();
    let mut found = HashSet::new();
    let mut statement =
        connection.prepare_cached("select command_id from events where position > ?1").map_err(error)?;
    let mut rows = statement.query([after]).map_err(error)?;
    while let Some(row) = rows.next().map_err(error)? {
        let text = row.get_ref(0).and_then(|value| Ok(value.as_str()?)).map_err(error)?;
        let command = text.parse().map_err(|cause| unreadable("an event's command", cause))?;
        if asked.contains(&command) {
            found.insert(command);
        }
    }
    Ok(found)
}

/// What each key holds.
pub(super) fn load(connection: &Connection, index: &Index, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
    keys.iter()
        .map(|key| {
            let loaded = match key {
                Key::Aggregate(key) => Loaded::Aggregate(state::load(connection, index, key)?),
                Key::Fact(key) => Loaded::Fact(match key {
                    FactKey::Provision(id) => provision(connection, index, key, *id)?,
                    _ => fact(connection, key)?,
                }),
                Key::PersonalData(client) => Loaded::PersonalData(personal_data(connection, *client)?),
            };
            Ok((key.clone(), loaded))
        })
        .collect()
}

fn fact(connection: &Connection, key: &FactKey) -> Result<Option<Fact>, StoreError> {
    let value: Option<String> = connection
        .prepare_cached("select value from facts where kind = ?1 and key = ?2")
        .and_then(|mut statement| statement.query_row(params![key.kind(), key.key()], |row| row.get(0)).optional())
        .map_err(error)?;
    value.map(|value| key.decode(&value).map_err(|cause| unreadable("a fact", cause))).transpose()
}

/// The fact of a provision, folded from its events.
fn provision(
    connection: &Connection,
    index: &Index,
    key: &FactKey,
    id: ProvisionId,
) -> Result<Option<Fact>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "select aggregate_type, aggregate_id, event_type, event_version, payload from events where position = ?1",
        )
        .map_err(error)?;
    let mut fact = None;
    for position in index.provision(id)? {
        let mut rows = statement.query([position]).map_err(error)?;
        let Some(row) = rows.next().map_err(error)? else {
            // Outside of a turn the index may be a moment ahead of what is read here.
            if position > head(connection)?.position {
                break;
            }
            return Err(StoreError::Unreadable(format!("the log has no event {position} of provision {id}")));
        };
        let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?)).map_err(error);
        let of_event = |cause| unreadable(&format!("event {position}"), cause);
        let event = Event::decode(text(0)?, text(2)?, text(3)?, text(4)?).map_err(of_event)?;
        fact = match AggregateKey::parse(text(0)?, text(1)?).map_err(of_event)? {
            AggregateKey::Wallet(owner) if facts::keys(&event).contains(key) => {
                facts::fold(key, fact.as_ref(), owner, &event, position)
            }
            _ => None,
        };
        if fact.is_none() {
            return Err(StoreError::Unreadable(format!("event {position} is none of provision {id}")));
        }
    }
    Ok(fact)
}

fn personal_data(connection: &Connection, client: ClientId) -> Result<Option<ClientDetails>, StoreError> {
    let row: Option<(String, String, Option<String>, String)> = connection
        .prepare_cached("select salt, name, email, metadata from personal_data where client_id = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([client.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()
        })
        .map_err(error)?;
    let Some((salt, name, email, metadata)) = row else {
        return Ok(None);
    };
    let text = |text| Text::new(text).map_err(|cause| unreadable("a client's details", cause));
    Ok(Some(ClientDetails {
        salt,
        name: text(name)?,
        email: email.map(text).transpose()?,
        metadata: serde_json::from_str(&metadata).map_err(|cause| unreadable("a client's details", cause))?,
    }))
}

/// The receipts under these keys.
pub(super) fn receipts(
    connection: &Connection,
    index: &Index,
    keys: &[ReceiptKey],
) -> Result<Vec<(ReceiptKey, Receipt)>, StoreError> {
    let mut receipts = Vec::new();
    for key in keys {
        let Some(id) = index.receipt(key)? else { continue };
        let mut statement = connection
            .prepare_cached("select fingerprint, position, answer from receipts where id = ?1 and key = ?2")
            .map_err(error)?;
        let mut rows = statement.query(params![id, key]).map_err(error)?;
        // Where there is no row it has expired, and the index does not know yet.
        if let Some(row) = rows.next().map_err(error)? {
            let answer = row.get_ref(2).and_then(|value| Ok(value.as_str()?)).map_err(error)?;
            let outcome: Remembered =
                serde_json::from_str(answer).map_err(|cause| unreadable("a receipt's answer", cause))?;
            let receipt =
                Receipt { fingerprint: row.get(0).map_err(error)?, outcome, position: row.get(1).map_err(error)? };
            receipts.push((*key, receipt));
        }
    }
    Ok(receipts)
}

/// Every reseller, with the number of its last event.
pub(super) fn resellers(
    connection: &Connection,
    index: &Index,
    each: &mut (dyn FnMut(ResellerId, u64, Reseller) + Send),
) -> Result<(), StoreError> {
    // Who is not up to date by its snapshot alone; nearly nobody.
    let mut behind: HashMap<String, u64> = index.aggregates("Reseller")?.into_iter().collect();
    index.snapshots("Reseller", &mut |id, sequence, payload| {
        if behind.get(&id) == Some(&sequence)
            && let Ok(reseller) = serde_json::from_str(payload)
        {
            each(reseller_id(&id)?, sequence, reseller);
            behind.remove(&id);
        }
        Ok(())
    })?;
    for id in behind.into_keys() {
        let id = reseller_id(&id)?;
        if let Some((reseller, sequence)) = state::reseller(connection, index, id)? {
            each(id, sequence, reseller);
        }
    }
    Ok(())
}

fn reseller_id(text: &str) -> Result<ResellerId, StoreError> {
    text.parse().map_err(|cause| unreadable("a reseller's id", cause))
}
