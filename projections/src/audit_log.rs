//! The log itself, as auditors read it: exactly what is stored, with its hash.

use std::fmt::Display;

use aggregates::primitives::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::page::{Page, PageRequest};
use crate::sql::{Columns, Connection, Dialect, Read, Row, Value, ViewError};

/// An event as it stands in the log.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // the log's columns
pub struct EventView {
    pub position: u64,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub sequence: u64,
    pub event_type: String,
    pub event_version: String,
    /// The exact text that was hashed.
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub payload: Box<RawValue>,
    /// The exact text that was hashed.
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub metadata: Box<RawValue>,
    /// The exact text that was hashed.
    pub recorded_at: String,
    /// Hexadecimal.
    pub hash: String,
}

/// The end of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // the log's columns
pub struct HeadView {
    pub position: u64,
    /// Hexadecimal; zeros for an empty log.
    pub hash: String,
    /// `None` for an empty log.
    pub recorded_at: Option<Timestamp>,
}

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // the log's columns
pub struct EventFilter {
    pub aggregate_type: Option<String>,
    pub aggregate_id: Option<String>,
    pub event_type: Option<String>,
    pub actor: Option<String>,
    /// Recorded at this time or later.
    pub from: Option<Timestamp>,
    /// Recorded before this time.
    pub to: Option<Timestamp>,
    /// After this position.
    pub after: Option<u64>,
}

const COLUMNS: &str = "e.position, e.aggregate_type, e.aggregate_id, e.sequence, e.event_type, e.event_version, \
                       cast(e.payload as text), cast(e.metadata as text), e.hash";

/// Where an aggregate's events are found by its sequence; what the store's own index does not hold yet is [`TAIL`].
fn streams(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "log_index.streams",
        Dialect::Postgres => "ledger.events",
    }
}

/// Events that are not in [`streams`] yet: on SQLite, whose index is a moment behind.
const TAIL: &str = "e.position > (select position from log_index.progress)";

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_event(columns: &mut Columns<'_>) -> Result<EventView, ViewError> {
    let raw = |text: String| RawValue::from_string(text).map_err(ViewError::unreadable);
    Ok(EventView {
        position: columns.count()?,
        aggregate_type: columns.string()?,
        aggregate_id: columns.string()?,
        sequence: columns.count()?,
        event_type: columns.string()?,
        event_version: columns.string()?,
        payload: raw(columns.string()?)?,
        metadata: raw(columns.string()?)?,
        hash: hexadecimal(&columns.bytes()?),
        recorded_at: columns.string()?,
    })
}

/// Events in the order of the log. The whole log is the operator's staff's to read: whoever calls this has checked that.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn events(read: &mut Read, filter: &EventFilter, page: &PageRequest) -> Result<Page<EventView>, ViewError> {
    let after = match page.position()? {
        Some(cursor) => u64::try_from(cursor).map_err(ViewError::unreadable)?,
        None => filter.after.unwrap_or(0),
    };
    // Times never decrease with position, so a stretch of time is one of positions, and nothing else is read.
    let from = match filter.from {
        Some(from) => position_before(read, from).await?,
        None => 0,
    };
    let to = match filter.to {
        Some(to) => Some(position_before(read, to).await?),
        None => None,
    };
    let values = vec![
        after.into(),
        page.rows_and_one().into(),
        filter.aggregate_type.clone().into(),
        filter.aggregate_id.clone().into(),
        filter.event_type.clone().into(),
        filter.actor.clone().into(),
        from.into(),
        to.into(),
    ];
    let mut conditions = String::new();
    for (asked, condition) in [
        (filter.aggregate_type.is_some(), " and e.aggregate_type = $3"),
        (filter.aggregate_id.is_some(), " and e.aggregate_id = $4"),
        (filter.event_type.is_some(), " and e.event_type = $5"),
        (filter.actor.is_some(), " and e.actor = $6"),
        (filter.from.is_some(), " and e.position > $7"),
        (filter.to.is_some(), " and e.position <= $8"),
    ] {
        if asked {
            conditions.push_str(condition);
        }
    }
    let dialect = read.connection().dialect();
    let columns = format!("{COLUMNS}, {}", dialect.time("e.recorded_at"));
    let rows = match (&filter.aggregate_type, &filter.aggregate_id) {
        (Some(aggregate_type), Some(aggregate_id)) => {
            // The index knows where an aggregate's events are; what it does not hold yet is at the log's end.
            let after = sequence_at(read, aggregate_type, aggregate_id, after.max(from)).await?;
            let indexed = format!(
                "select {columns} from {} s join ledger.events e on e.position = s.position \
                 where s.aggregate_type = $3 and s.aggregate_id = $4 and s.sequence > $9 and e.position > $1{conditions} \
                 order by s.sequence limit $2",
                streams(dialect)
            );
            let values = [values.clone(), vec![after.into()]].concat();
            let mut rows = read.connection().fetch(&indexed, values.clone()).await?;
            if dialect == Dialect::Sqlite && rows.len() < page.rows() + 1 {
                let tail = format!(
                    "select {columns} from ledger.events e where {TAIL} and e.position > $1{conditions} \
                     order by e.position limit $2"
                );
                rows.extend(read.connection().fetch(&tail, values).await?);
            }
            rows
        }
        _ => {
            let sql = format!(
                "select {columns} from ledger.events e where e.position > $1{conditions} order by e.position limit $2"
            );
            read.connection().fetch(&sql, values).await?
        }
    };
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let event = read_event(&mut row.columns())?;
        events.push((i64::try_from(event.position).map_err(ViewError::unreadable)?, event));
    }
    Ok(Page::of(page, events))
}

/// Hands each event of an aggregate up to a position to `each`: type, version and payload as columns 0 to 2, then sequence and
/// position. On SQLite the store's index finds them; what it does not hold yet is looked for at the log's end.
///
/// The log must have been read in this snapshot before: the index then knows nothing that is missing from it up to `until`.
///
/// # Errors
/// What the database or `each` says.
pub async fn stream(
    read: &mut Read,
    aggregate_type: &str,
    aggregate_id: &str,
    until: u64,
    mut each: impl FnMut(&mut Columns<'_>) -> Result<(), ViewError> + Send,
) -> Result<(), ViewError> {
    let statements: &[&str] = match read.connection().dialect() {
        Dialect::Sqlite => &[
            "select e.event_type, e.event_version, cast(e.payload as text), e.sequence, e.position \
             from log_index.streams s join ledger.events e on e.position = s.position \
             where s.aggregate_type = $1 and s.aggregate_id = $2 and s.position <= $3 order by s.sequence",
            "select event_type, event_version, cast(payload as text), sequence, position from ledger.events \
             where position > (select position from log_index.progress) and position <= $3 \
             and aggregate_type = $1 and aggregate_id = $2 order by position",
        ],
        Dialect::Postgres => {
            &["select event_type, event_version, cast(payload as text), sequence, position from ledger.events \
             where aggregate_type = $1 and aggregate_id = $2 and position <= $3 order by sequence"]
        }
    };
    for sql in statements {
        let values = vec![aggregate_type.into(), aggregate_id.into(), until.into()];
        read.connection()
            .for_each(sql, values, |row| {
                each(&mut row.columns())?;
                Ok(true)
            })
            .await?;
    }
    Ok(())
}

/// The number of an aggregate's last event up to a position, as far as the index holds it; 0 where there is none. Sequences and
/// positions grow together, so a binary search finds it.
///
/// # Errors
/// What the database says.
async fn sequence_at(read: &mut Read, aggregate_type: &str, aggregate_id: &str, until: u64) -> Result<u64, ViewError> {
    let middle = "(low + high + 1) / 2";
    let streams = streams(read.connection().dialect());
    let at = format!(
        "(select position from {streams} where aggregate_type = $1 and aggregate_id = $2 and sequence = {middle})"
    );
    let sql = format!(
        "with recursive search(low, high) as ( \
         select cast(0 as bigint), coalesce(max(sequence), 0) from {streams} where aggregate_type = $1 and aggregate_id = $2 \
         union all \
         select case when {at} <= $3 then {middle} else low end, case when {at} <= $3 then high else {middle} - 1 end \
         from search where low < high) \
         select low from search where low = high"
    );
    let values = vec![aggregate_type.into(), aggregate_id.into(), until.into()];
    let row = read.connection().fetch_one(&sql, values).await?;
    row.map_or(Ok(0), |row| row.columns().count())
}

/// An event of one aggregate, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the log's columns
pub struct StreamEvent {
    pub position: u64,
    pub sequence: u64,
    pub event_type: String,
    pub event_version: String,
    pub payload: String,
    pub metadata: String,
    pub recorded_at: String,
}

/// The events of one aggregate after a sequence, up to a position, at most `limit` of them: for those that are many.
///
/// # Errors
/// What the database says.
pub async fn events_of(
    read: &mut Read,
    aggregate_type: &str,
    aggregate_id: &str,
    after: u64,
    until: u64,
    limit: u32,
) -> Result<Vec<StreamEvent>, ViewError> {
    let dialect = read.connection().dialect();
    let columns = format!(
        "e.position, e.sequence, e.event_type, e.event_version, cast(e.payload as text), cast(e.metadata as text), {}",
        dialect.time("e.recorded_at")
    );
    let mut events = Vec::new();
    let indexed = format!(
        "select {columns} from {} s join ledger.events e on e.position = s.position \
             where s.aggregate_type = $1 and s.aggregate_id = $2 and s.sequence > $3 and s.position <= $4 \
             order by s.sequence limit $5",
        streams(dialect)
    );
    let tail = format!(
        "select {columns} from ledger.events e where {TAIL} and e.aggregate_type = $1 and e.aggregate_id = $2 \
         and e.sequence > $3 and e.position <= $4 order by e.position limit $5"
    );
    for sql in [Some(indexed), (dialect == Dialect::Sqlite).then_some(tail)].into_iter().flatten() {
        let left = u64::from(limit).saturating_sub(u64::try_from(events.len()).unwrap_or(u64::MAX));
        if left == 0 {
            break;
        }
        let values = vec![aggregate_type.into(), aggregate_id.into(), after.into(), until.into(), left.into()];
        for row in &read.connection().fetch(&sql, values).await? {
            let mut columns = row.columns();
            events.push(StreamEvent {
                position: columns.count()?,
                sequence: columns.count()?,
                event_type: columns.string()?,
                event_version: columns.string()?,
                payload: columns.string()?,
                metadata: columns.string()?,
                recorded_at: columns.string()?,
            });
        }
    }
    Ok(events)
}

/// All events up to a position of several aggregates that have few, each aggregate's in order: its id, type, version and
/// payload.
///
/// # Errors
/// What the database says.
pub async fn histories<K: Display>(
    connection: &mut Connection<'_>,
    aggregate_type: &'static str,
    ids: impl IntoIterator<Item = K>,
    until: u64,
) -> Result<Vec<Row>, ViewError> {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    let dialect = connection.dialect();
    let columns = "e.aggregate_id, e.event_type, e.event_version, cast(e.payload as text), e.position";
    let indexed = format!(
        "select {columns} from {} s join ledger.events e on e.position = s.position \
         where s.aggregate_type = '{aggregate_type}' and s.position <= {until} and s.aggregate_id in",
        streams(dialect)
    );
    let tail = format!(
        "select {columns} from ledger.events e where {TAIL} and e.position <= {until} \
         and e.aggregate_type = '{aggregate_type}' and e.aggregate_id in"
    );
    let mut rows = Vec::new();
    for sql in [Some(indexed), (dialect == Dialect::Sqlite).then_some(tail)].into_iter().flatten() {
        let mut found: Vec<(u64, Row)> = Vec::new();
        for row in connection.fetch_by_keys(&sql, &ids).await? {
            let position = {
                let mut columns = row.columns();
                for _ in 0..4 {
                    columns.str()?;
                }
                columns.count()?
            };
            found.push((position, row));
        }
        found.sort_by_key(|(position, _)| *position);
        rows.extend(found.into_iter().map(|(_, row)| row));
    }
    Ok(rows)
}

/// The end of the log.
///
/// # Errors
/// What the database says.
pub async fn head(read: &mut Read) -> Result<HeadView, ViewError> {
    let recorded_at = read.connection().dialect().time("recorded_at");
    let row = read
        .connection()
        .fetch_one(
            &format!("select position, hash, {recorded_at} from ledger.events order by position desc limit 1"),
            Vec::new(),
        )
        .await?;
    let Some(row) = row else {
        return Ok(HeadView { position: 0, hash: hexadecimal(&[0; 32]), recorded_at: None });
    };
    let mut columns = row.columns();
    Ok(HeadView {
        position: columns.count()?,
        hash: hexadecimal(&columns.bytes()?),
        recorded_at: Some(columns.parse()?),
    })
}

/// The hash of the event at a position, hexadecimal; zeros before the first one.
///
/// # Errors
/// What the database says.
pub async fn hash_at(read: &mut Read, position: u64) -> Result<String, ViewError> {
    if position == 0 {
        return Ok(hexadecimal(&[0; 32]));
    }
    let row = read
        .connection()
        .fetch_one("select hash from ledger.events where position = $1", vec![position.into()])
        .await?
        .ok_or_else(|| ViewError::HistoryCut(format!("the log has no event at position {position}")))?;
    Ok(hexadecimal(&row.columns().bytes()?))
}

/// The position of the last event recorded at or before a time; 0 where there is none. Times never decrease with position, so
/// a binary search over positions finds it without an index.
///
/// # Errors
/// What the database says.
pub async fn position_at(read: &mut Read, time: Timestamp) -> Result<u64, ViewError> {
    // Halves the stretch in which the position lies until nothing is left of it, all in one statement.
    let dialect = read.connection().dialect();
    let is_past = format!("m.recorded_at <= {}", dialect.given_time(2));
    let searched =
        dialect.one_after_the_other("search s", "ledger.events m", "m.position = s.low + (s.high - s.low + 1) / 2");
    let sql = format!(
        "with recursive search (low, high) as (select cast(0 as bigint), cast($1 as bigint) union all \
         select case when {is_past} then m.position else s.low end, case when {is_past} then s.high else m.position - 1 end \
         from {searched} where s.low < s.high) select low from search where low = high"
    );
    let head = head(read).await?.position;
    let row = read.connection().fetch_one(&sql, vec![head.into(), Value::text(time)]).await?;
    row.ok_or_else(|| ViewError::unreadable("a search without an end"))?.columns().count()
}

/// The position of the last event recorded before a time; 0 where there is none.
///
/// # Errors
/// What the database says.
pub async fn position_before(read: &mut Read, time: Timestamp) -> Result<u64, ViewError> {
    if time == Timestamp::MIN {
        return Ok(0);
    }
    position_at(read, Timestamp::from_micros(time.micros() - 1)).await
}

/// When the event at a position was recorded.
///
/// # Errors
/// What the database says.
pub async fn recorded_at(read: &mut Read, position: u64) -> Result<Option<Timestamp>, ViewError> {
    let recorded_at = read.connection().dialect().time("recorded_at");
    let sql = format!("select {recorded_at} from ledger.events where position = $1");
    let row = read.connection().fetch_one(&sql, vec![position.into()]).await?;
    row.map(|row| row.columns().parse()).transpose()
}
