//! What is read from the schema `ledger`, in a turn and outside of one alike: everything that is asked for at once comes in one
//! round trip.

use std::collections::HashSet;
use std::fmt::Display;

use aggregates::client::ClientDetails;
use aggregates::command::ReceiptKey;
use aggregates::event::AggregateKey;
use aggregates::ledger::{Key, Loaded, Receipt, Remembered};
use aggregates::primitives::{CommandId, ResellerId, Text};
use aggregates::reseller::Reseller;
use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::{Arguments, Encode, Row, Type};

use super::connection::{answered, error};
use super::moment::Moment;
use crate::store::state::{self, EventText, Folded};
use crate::store::{STATE_VERSION, StoreError, StoredEvent};

/// The columns of [`stored_event`].
pub(super) const EVENT_COLUMNS: &str = "position, aggregate_type, aggregate_id, sequence, event_type, event_version, \
                                        cast(payload as text), cast(metadata as text), recorded_at, hash, actor, command_id";

/// The columns of [`receipt`].
pub(super) const RECEIPT_COLUMNS: &str = "key, fingerprint, position, answer";

pub(super) fn unreadable(what: &str, cause: impl Display) -> StoreError {
    StoreError::Unreadable(format!("{what}: {cause}"))
}

/// A column of a row.
pub(super) fn column<'row, T: sqlx::Decode<'row, Postgres> + Type<Postgres>>(
    row: &'row PgRow,
    index: usize,
) -> Result<T, StoreError> {
    row.try_get(index).map_err(error)
}

/// A number that is never negative.
pub(super) fn number(row: &PgRow, index: usize) -> Result<u64, StoreError> {
    u64::try_from(column::<i64>(row, index)?).map_err(|cause| unreadable("a number", cause))
}

/// Bytes of a length that is known.
pub(super) fn bytes<const N: usize>(row: &PgRow, index: usize) -> Result<[u8; N], StoreError> {
    let bytes: Vec<u8> = column(row, index)?;
    bytes.try_into().map_err(|bytes: Vec<u8>| unreadable("bytes", format!("{} and not {N}", bytes.len())))
}

/// A number as PostgreSQL has it. What is larger than its largest is after everything that it has.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A query and what is bound to it, put together piece by piece.
#[derive(Default)]
pub(super) struct Query {
    pub(super) sql: String,
    arguments: PgArguments,
}

impl Query {
    /// Binds a value; says by which number the text knows it.
    pub(super) fn bind<'value, T: Encode<'value, Postgres> + Type<Postgres> + 'value>(
        &mut self,
        value: T,
    ) -> Result<usize, StoreError> {
        self.arguments.add(value).map_err(|cause| StoreError::Database(cause.to_string()))?;
        Ok(self.arguments.len())
    }

    /// Runs it. Behind a pooler nothing is prepared by name.
    pub(super) async fn fetch(self, connection: &mut PgConnection, pooled: bool) -> Result<Vec<PgRow>, sqlx::Error> {
        sqlx::query_with(&self.sql, self.arguments).persistent(!pooled).fetch_all(connection).await
    }
}

/// An event with [`EVENT_COLUMNS`] from `first` on.
pub(super) fn stored_event(row: &PgRow, first: usize) -> Result<StoredEvent, StoreError> {
    let text = |index: usize| column::<String>(row, first + index);
    Ok(StoredEvent {
        position: number(row, first)?,
        aggregate_type: text(1)?.into(),
        aggregate_id: text(2)?,
        sequence: number(row, first + 3)?,
        event_type: text(4)?.into(),
        event_version: text(5)?.into(),
        payload: text(6)?,
        metadata: text(7)?,
        recorded_at: column::<Moment>(row, first + 8)?.0,
        hash: bytes(row, first + 9)?,
        actor: text(10)?,
        command_id: text(11)?.parse().map_err(|cause| unreadable("an event's command", cause))?,
    })
}

/// Events after a position, at most `limit`, in order.
pub(super) async fn events(
    connection: &mut PgConnection,
    pooled: bool,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut query = Query::default();
    let after = query.bind(bigint(after))?;
    let limit = query.bind(i64::try_from(limit).unwrap_or(i64::MAX))?;
    query.sql =
        format!("select {EVENT_COLUMNS} from ledger.events where position > ${after} order by position limit ${limit}");
    let rows = answered(query.fetch(connection, pooled)).await?.map_err(error)?;
    rows.iter().map(|row| stored_event(row, 0)).collect()
}

/// Which of these commands have an event after a position.
pub(super) async fn commands_after(
    connection: &mut PgConnection,
    pooled: bool,
    after: u64,
    commands: &[CommandId],
) -> Result<HashSet<CommandId>, StoreError> {
    let mut query = Query::default();
    let after = query.bind(bigint(after))?;
    let asked = query.bind(commands.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    query.sql = format!(
        "select distinct command_id from ledger.events where position > ${after} and command_id = any(${asked})"
    );
    let rows = answered(query.fetch(connection, pooled)).await?.map_err(error)?;
    let command = |row| column::<String>(row, 0)?.parse().map_err(|cause| unreadable("an event's command", cause));
    rows.iter().map(command).collect()
}

/// A receipt with [`RECEIPT_COLUMNS`] from `first` on.
pub(super) fn receipt(row: &PgRow, first: usize) -> Result<(ReceiptKey, Receipt), StoreError> {
    let answer: String = column(row, first + 3)?;
    let outcome: Remembered = serde_json::from_str(&answer).map_err(|cause| unreadable("a receipt's answer", cause))?;
    Ok((
        bytes(row, first)?,
        Receipt { fingerprint: bytes(row, first + 1)?, outcome, position: number(row, first + 2)? },
    ))
}

/// The receipts under these keys.
pub(super) async fn receipts(
    connection: &mut PgConnection,
    pooled: bool,
    keys: &[ReceiptKey],
) -> Result<Vec<(ReceiptKey, Receipt)>, StoreError> {
    let mut query = Query::default();
    let keys = query.bind(keys)?;
    query.sql = format!("select {RECEIPT_COLUMNS} from ledger.receipts where key = any(${keys})");
    let rows = answered(query.fetch(connection, pooled)).await?.map_err(error)?;
    rows.iter().map(|row| receipt(row, 0)).collect()
}

/// What [`load`] has a part for.
mod part {
    /// An aggregate's snapshot.
    pub(super) const SNAPSHOT: i32 = 0;
    /// An event that is not in its aggregate's snapshot of this version.
    pub(super) const EVENT: i32 = 1;
    /// A fact.
    pub(super) const FACT: i32 = 2;
    /// A client's personal data.
    pub(super) const PERSON: i32 = 3;
}

/// What each key holds, in one round trip.
pub(super) async fn load(
    connection: &mut PgConnection,
    pooled: bool,
    keys: &[Key],
) -> Result<Vec<(Key, Loaded)>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = answered(question(keys)?.fetch(connection, pooled)).await?.map_err(error)?;
    let mut answers: Vec<Vec<&PgRow>> = vec![Vec::new(); keys.len()];
    for row in &rows {
        let place = usize::try_from(number(row, 1)?).ok().and_then(|place| answers.get_mut(place));
        place.ok_or_else(|| StoreError::Unreadable("an answer to no question".to_owned()))?.push(row);
    }
    let mut loaded = Vec::with_capacity(keys.len());
    for (key, rows) in keys.iter().zip(answers) {
        let found = match key {
            Key::Aggregate(key) => match aggregate(key, &rows)? {
                Found::State(state) => Loaded::Aggregate(state),
                Found::Unreadable => Loaded::Aggregate(replay(connection, pooled, key).await?),
            },
            Key::Fact(key) => {
                let value = rows.first().map(|row| column::<String>(row, 3)).transpose()?;
                let fact = value.map(|value| key.decode(&value).map_err(|cause| unreadable("a fact", cause)));
                Loaded::Fact(fact.transpose()?)
            }
            Key::PersonalData(_) => Loaded::PersonalData(rows.first().map(|row| personal_data(row)).transpose()?),
        };
        loaded.push((key.clone(), found));
    }
    Ok(loaded)
}

/// The query for what keys hold: rows of part, the key's place, sequence, and four texts.
fn question(keys: &[Key]) -> Result<Query, StoreError> {
    let (mut types, mut ids, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let (mut kinds, mut fact_keys, mut fact_places) = (Vec::new(), Vec::new(), Vec::new());
    let (mut clients, mut client_places) = (Vec::new(), Vec::new());
    for (place, key) in (0_i64..).zip(keys) {
        match key {
            Key::Aggregate(key) => {
                types.push(key.aggregate_type());
                ids.push(key.aggregate_id());
                places.push(place);
            }
            Key::Fact(key) => {
                kinds.push(key.kind());
                fact_keys.push(key.key());
                fact_places.push(place);
            }
            Key::PersonalData(client) => {
                clients.push(client.to_string());
                client_places.push(place);
            }
        }
    }
    let mut query = Query::default();
    let mut parts = Vec::new();
    if !places.is_empty() {
        let (types, ids, places) = (query.bind(types)?, query.bind(ids)?, query.bind(places)?);
        let version = query.bind(i64::from(STATE_VERSION))?;
        let asked = format!("unnest(${types}::text[], ${ids}::text[], ${places}::int8[]) as asked(type, id, place)");
        let snapshots = format!(
            "ledger.snapshots s where s.aggregate_type = asked.type and s.aggregate_id = asked.id and s.state_version = ${version}"
        );
        parts.push(format!(
            "select {SNAPSHOT}, asked.place, s.last_sequence, cast(s.payload as text), null, null, null from {asked} \
             cross join lateral (select s.last_sequence, s.payload from {snapshots} offset 0) s \
             union all \
             select {EVENT}, asked.place, e.sequence, cast(e.payload as text), e.event_type, e.event_version, null from {asked} \
             cross join lateral (select * from ledger.events e where e.aggregate_type = asked.type and e.aggregate_id = asked.id \
             and e.sequence > coalesce((select s.last_sequence from {snapshots}), 0) order by e.sequence offset 0) e",
            SNAPSHOT = part::SNAPSHOT,
            EVENT = part::EVENT,
        ));
    }
    if !fact_places.is_empty() {
        let (kinds, keys, places) = (query.bind(kinds)?, query.bind(fact_keys)?, query.bind(fact_places)?);
        parts.push(format!(
            "select {}, asked.place, 0, f.value, null, null, null \
             from unnest(${kinds}::text[], ${keys}::text[], ${places}::int8[]) as asked(kind, key, place) \
             cross join lateral (select f.value from ledger.facts f where f.kind = asked.kind and f.key = asked.key offset 0) f",
            part::FACT
        ));
    }
    if !client_places.is_empty() {
        let (clients, places) = (query.bind(clients)?, query.bind(client_places)?);
        parts.push(format!(
            "select {}, asked.place, 0, p.salt, p.name, p.email, p.metadata \
             from unnest(${clients}::text[], ${places}::int8[]) as asked(client_id, place) \
             cross join lateral (select * from ledger.personal_data p where p.client_id = asked.client_id offset 0) p",
            part::PERSON
        ));
    }
    query.sql = format!("{} order by 1, 2, 3", parts.join(" union all "));
    Ok(query)
}

/// What was found of an aggregate.
enum Found {
    /// Its state, if it has one.
    State(Option<(String, u64)>),
    /// A snapshot that is none.
    Unreadable,
}

fn aggregate(key: &AggregateKey, rows: &[&PgRow]) -> Result<Found, StoreError> {
    let is_snapshot = |row: &PgRow| column::<i32>(row, 0).is_ok_and(|part| part == part::SNAPSHOT);
    let Some((snapshot, later)) = rows.split_first().filter(|(first, _)| is_snapshot(first)) else {
        return folded(key, rows.iter().copied(), 2).map(Found::State);
    };
    let events = event_texts(later.iter().copied(), 2)?;
    let state = state::fold_on(key, (column(snapshot, 3)?, number(snapshot, 2)?), events.into_iter())?;
    Ok(state.map_or(Found::Unreadable, |state| Found::State(Some(state))))
}

/// Folds events with sequence, payload, type and version from the column `first` on.
fn folded<'row>(
    key: &AggregateKey,
    rows: impl Iterator<Item = &'row PgRow>,
    first: usize,
) -> Result<Option<(String, u64)>, StoreError> {
    state::replay(key, event_texts(rows, first)?.into_iter())
}

fn event_texts<'row>(
    rows: impl Iterator<Item = &'row PgRow>,
    first: usize,
) -> Result<Vec<EventText<'row>>, StoreError> {
    let text = |row: &'row PgRow| {
        Ok(EventText {
            sequence: number(row, first)?,
            payload: column(row, first + 1)?,
            event_type: column(row, first + 2)?,
            event_version: column(row, first + 3)?,
        })
    };
    rows.map(text).collect()
}

/// The events of an aggregate: sequence, payload, type and version.
async fn events_of(connection: &mut PgConnection, pooled: bool, key: &AggregateKey) -> Result<Vec<PgRow>, StoreError> {
    let mut query = Query::default();
    let (kind, id) = (query.bind(key.aggregate_type())?, query.bind(key.aggregate_id())?);
    query.sql = format!(
        "select sequence, cast(payload as text), event_type, event_version from ledger.events \
         where aggregate_type = ${kind} and aggregate_id = ${id} order by sequence"
    );
    answered(query.fetch(connection, pooled)).await?.map_err(error)
}

/// An aggregate's state from all of its events.
async fn replay(
    connection: &mut PgConnection,
    pooled: bool,
    key: &AggregateKey,
) -> Result<Option<(String, u64)>, StoreError> {
    let rows = events_of(connection, pooled, key).await?;
    folded(key, rows.iter(), 0)
}

fn personal_data(row: &PgRow) -> Result<ClientDetails, StoreError> {
    let text = |text| Text::new(text).map_err(|cause| unreadable("a client's details", cause));
    Ok(ClientDetails {
        salt: column(row, 3)?,
        name: text(column(row, 4)?)?,
        email: column::<Option<String>>(row, 5)?.map(text).transpose()?,
        metadata: serde_json::from_str(column(row, 6)?).map_err(|cause| unreadable("a client's details", cause))?,
    })
}

/// Every reseller, with the number of its last event; in the transaction that is open.
pub(super) async fn resellers(
    connection: &mut PgConnection,
    pooled: bool,
    each: &mut (dyn FnMut(ResellerId, u64, Reseller) + Send),
) -> Result<(), StoreError> {
    // Who has no snapshot that can be read; nearly nobody.
    let mut without = Vec::new();
    let query = "select r.aggregate_id, s.last_sequence, cast(s.payload as text) from ledger.events r \
                 left join lateral (select * from ledger.snapshots s where s.aggregate_type = r.aggregate_type \
                 and s.aggregate_id = r.aggregate_id and s.state_version = $1 offset 0) s on true \
                 where r.aggregate_type = 'Reseller' and r.sequence = 1";
    {
        let mut rows = sqlx::query(query).bind(i64::from(STATE_VERSION)).persistent(!pooled).fetch(&mut *connection);
        while let Some(row) = answered(rows.try_next()).await?.map_err(error)? {
            let id = column::<String>(&row, 0)?.parse().map_err(|cause| unreadable("a reseller's id", cause))?;
            let state = column::<Option<String>>(&row, 2)?.and_then(|text| serde_json::from_str(&text).ok());
            match state {
                Some(reseller) => each(id, number(&row, 1)?, reseller),
                None => without.push(id),
            }
        }
    }
    for id in without {
        let key = AggregateKey::Reseller(id);
        let rows = events_of(connection, pooled, &key).await?;
        let mut reseller = Folded::<Reseller>::default();
        for row in &rows {
            let event_type = column(row, 2)?;
            let event = EventText {
                sequence: number(row, 0)?,
                payload: column(row, 1)?,
                event_type,
                event_version: column(row, 3)?,
            };
            reseller.take(&key, event)?;
        }
        each(id, reseller.sequence, reseller.state);
    }
    Ok(())
}
