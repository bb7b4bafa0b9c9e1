//! The log itself, as auditors read it: exactly what is stored, with its hash.

use aggregates::primitives::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::page::{Page, PageRequest};
use crate::sql::{Columns, Dialect, Read, Value, ViewError};

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

const COLUMNS: &str = "position, aggregate_type, aggregate_id, sequence, event_type, event_version, \
                       cast(payload as text), cast(metadata as text), hash";

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
        Some(cursor) => cursor.into(),
        None => Value::from(filter.after.unwrap_or(0)),
    };
    let values = vec![
        after,
        page.rows_and_one().into(),
        filter.aggregate_type.clone().into(),
        filter.aggregate_id.clone().into(),
        filter.event_type.clone().into(),
        filter.actor.clone().into(),
        Value::text_or_null(filter.from),
        Value::text_or_null(filter.to),
    ];
    let dialect = read.connection().dialect();
    let (from, to) = (dialect.given_time(7), dialect.given_time(8));
    let (from, to) = (format!(" and recorded_at >= {from}"), format!(" and recorded_at < {to}"));
    let recorded_at = dialect.time("recorded_at");
    let mut sql = format!("select {COLUMNS}, {recorded_at} from ledger.events where position > $1");
    for (asked, condition) in [
        (filter.aggregate_type.is_some(), " and aggregate_type = $3"),
        (filter.aggregate_id.is_some(), " and aggregate_id = $4"),
        (filter.event_type.is_some(), " and event_type = $5"),
        (filter.actor.is_some(), " and actor = $6"),
        (filter.from.is_some(), from.as_str()),
        (filter.to.is_some(), to.as_str()),
    ] {
        if asked {
            sql.push_str(condition);
        }
    }
    sql.push_str(" order by position limit $2");
    let rows = read.connection().fetch(&sql, values).await?;
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

/// The position of the last event recorded at or before a time; 0 where there is none. Times never decrease with position, so
/// a binary search over positions finds it without an index.
///
/// # Errors
/// What the database says.
pub async fn position_at(read: &mut Read, time: Timestamp) -> Result<u64, ViewError> {
    let (mut low, mut high) = (0, head(read).await?.position);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if recorded_at(read, middle).await?.is_some_and(|recorded_at| recorded_at <= time) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
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
