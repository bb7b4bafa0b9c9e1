//! The log event by event, for who reads much of it (see [`crate::batch`]).
//!
//! SQLite shows each column where it lies. From PostgreSQL a value is copied and crosses to another thread, and a row wakes that
//! thread, which together cost more than reading it: it sends few long texts, an event's columns with [`BETWEEN_COLUMNS`] between
//! them, the events of a block of positions with [`BETWEEN_EVENTS`]. Neither stands in any column: JSON escapes such characters, and
//! ids, names of types and times have none. A log that holds one all the same has been tampered with, and is unreadable.

use super::{Connection, Dialect, To, ViewError, direct};

/// Between an event's columns: U+001F.
const BETWEEN_COLUMNS: char = '\u{1f}';
/// Between events: U+001E.
const BETWEEN_EVENTS: char = '\u{1e}';

/// An event as the log holds it.
#[derive(Debug)]
pub(crate) struct Logged<'row> {
    pub(crate) position: u64,
    pub(crate) aggregate_type: &'row str,
    pub(crate) aggregate_id: &'row str,
    pub(crate) sequence: u64,
    pub(crate) event_type: &'row str,
    pub(crate) event_version: &'row str,
    pub(crate) recorded_at: &'row str,
    pub(crate) hash: Vec<u8>,
    pub(crate) command_id: &'row str,
    /// JSON.
    pub(crate) payload: &'row str,
}

impl<'row> Logged<'row> {
    const COLUMNS: &'static str = "position, aggregate_type, aggregate_id, sequence, event_type, event_version, recorded_at, hash, \
                                   command_id, payload";

    /// Reads the columns of SQLite's row.
    fn of(row: &'row rusqlite::Row<'_>) -> Result<Self, ViewError> {
        let value = |column| Ok::<_, ViewError>(row.get_ref(column)?);
        let text = |column| value(column)?.as_str().map_err(ViewError::unreadable);
        let number = |column| {
            let number = value(column)?.as_i64().map_err(ViewError::unreadable)?;
            u64::try_from(number).map_err(ViewError::unreadable)
        };
        Ok(Self {
            position: number(0)?,
            aggregate_type: text(1)?,
            aggregate_id: text(2)?,
            sequence: number(3)?,
            event_type: text(4)?,
            event_version: text(5)?,
            recorded_at: text(6)?,
            hash: value(7)?.as_blob().map_err(ViewError::unreadable)?.to_vec(),
            command_id: text(8)?,
            payload: text(9)?,
        })
    }

    /// Reads PostgreSQL's text.
    fn parse(text: &'row str) -> Result<Self, ViewError> {
        let mut columns = text.split(BETWEEN_COLUMNS);
        let mut next = || columns.next().ok_or_else(|| ViewError::unreadable("an event with too few columns"));
        let number = |text: &str| text.parse::<u64>().map_err(ViewError::unreadable);
        let logged = Self {
            position: number(next()?)?,
            aggregate_type: next()?,
            aggregate_id: next()?,
            sequence: number(next()?)?,
            event_type: next()?,
            event_version: next()?,
            recorded_at: next()?,
            hash: bytes(next()?).ok_or_else(|| ViewError::unreadable("a hash that is none"))?,
            command_id: next()?,
            payload: next()?,
        };
        if columns.next().is_some() {
            return Err(ViewError::Unreadable(format!("position {}: a column that is two", logged.position)));
        }
        Ok(logged)
    }
}

/// Bytes from hexadecimal.
fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// The events of the positions from one up to another, in order. `each` says whether to go on.
///
/// # Errors
/// What the database or `each` says.
pub(crate) async fn events(
    log: &mut Connection<'_>,
    from: u64,
    end: u64,
    mut each: impl FnMut(Logged<'_>) -> Result<bool, ViewError> + Send,
) -> Result<(), ViewError> {
    let values = vec![from.into(), end.into()];
    let columns = Logged::COLUMNS;
    match &mut log.to {
        To::Direct(connection) => {
            let sql = format!("select {columns} from events where position >= $1 and position < $2 order by position");
            direct::aside(|| direct::for_each_in_place(connection, &sql, &values, |row| each(Logged::of(row)?)))
        }
        To::Sqlite(_) => Err(ViewError::unreadable("who reads much of SQLite's log reads it in a thread of its own")),
        To::Postgres { .. } => {
            let recorded_at = Dialect::Postgres.time("recorded_at");
            let columns = columns
                .replace("recorded_at", &recorded_at)
                .replace("hash", "encode(hash, 'hex')")
                .replace("payload", "cast(payload as text)");
            let sql = format!(
                "select string_agg(concat_ws(chr(31), {columns}), chr(30) order by position) \
                 from ledger.events where position >= $1 and position < $2 group by (position - $1) / 64 \
                 order by (position - $1) / 64"
            );
            let each_text = |row: super::Row| {
                for text in row.columns().str()?.split(BETWEEN_EVENTS) {
                    if !each(Logged::parse(text)?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            };
            log.for_each(&sql, values, each_text).await
        }
    }
}
