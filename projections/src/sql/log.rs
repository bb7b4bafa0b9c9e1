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
    /// What is selected: the same columns in either, as texts on PostgreSQL.
    const SQLITE: &'static str = "position, aggregate_type, aggregate_id, sequence, event_type, event_version, recorded_at, hash, \
                                  command_id, payload";

    fn postgres() -> String {
        let recorded_at = Dialect::Postgres.time("recorded_at");
        format!(
            "position, aggregate_type, aggregate_id, sequence, event_type, event_version, {recorded_at}, encode(hash, 'hex'), \
             command_id, cast(payload as text)"
        )
    }

    /// Reads the columns of SQLite's row.
    fn of(row: &'row rusqlite::Row<'_>) -> Result<Self, ViewError> {
        let position: u64 = row.get(0)?;
        let at = |error: &dyn std::fmt::Display| ViewError::Unreadable(format!("position {position}: {error}"));
        let value = |column| row.get_ref(column).map_err(|error| at(&error));
        let text = |column| value(column)?.as_str().map_err(|error| at(&error));
        let number = |column| row.get(column).map_err(|error| at(&error));
        Ok(Self {
            position,
            aggregate_type: text(1)?,
            aggregate_id: text(2)?,
            sequence: number(3)?,
            event_type: text(4)?,
            event_version: text(5)?,
            recorded_at: text(6)?,
            hash: value(7)?.as_blob().map_err(|error| at(&error))?.to_vec(),
            command_id: text(8)?,
            payload: text(9)?,
        })
    }

    /// Reads PostgreSQL's text.
    fn parse(text: &'row str) -> Result<Self, ViewError> {
        let mut columns = text.split(BETWEEN_COLUMNS);
        let mut next = || columns.next().ok_or_else(|| ViewError::unreadable("an event with too few columns"));
        let position = next()?.parse().map_err(ViewError::unreadable)?;
        let at = |what: &dyn std::fmt::Display| ViewError::Unreadable(format!("position {position}: {what}"));
        let logged = Self {
            position,
            aggregate_type: next()?,
            aggregate_id: next()?,
            sequence: next()?.parse().map_err(|error| at(&error))?,
            event_type: next()?,
            event_version: next()?,
            recorded_at: next()?,
            hash: bytes(next()?).ok_or_else(|| at(&"the hash is none"))?,
            command_id: next()?,
            payload: next()?,
        };
        if columns.next().is_some() {
            return Err(at(&"a column that is two"));
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
    match &mut log.to {
        To::Direct(connection) => {
            let columns = Logged::SQLITE;
            let sql = format!("select {columns} from events where position >= $1 and position < $2 order by position");
            direct::aside(|| direct::for_each_in_place(connection, &sql, &values, |row| each(Logged::of(row)?)))
        }
        To::Sqlite(_) => Err(ViewError::unreadable("SQLite's log is read in the reader's own thread")),
        To::Postgres { .. } => {
            let columns = Logged::postgres();
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
