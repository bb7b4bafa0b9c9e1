//! A stretch of the log, decoded once for all projections.
//!
//! Cost: a value that SQLite hands over is copied and crosses to another thread, and a row wakes that thread, which together cost
//! more than reading it. So the log is read as few long texts: an event's columns with [`BETWEEN_COLUMNS`] between them, the
//! events of a block of positions with [`BETWEEN_EVENTS`]. Neither stands in any column: JSON escapes such characters, and ids,
//! names of types and times have none. A log that holds one all the same has been tampered with, and is unreadable.

use aggregates::event::{AggregateKey, Event};

use crate::sql::{self, Connection, ViewError};

/// An event as projections fold it. Times and ids that are only copied stay the texts that the log holds.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEvent {
    /// Its position in the log.
    pub position: u64,
    /// Whose event it is.
    pub key: AggregateKey,
    /// Its number among that aggregate's events.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
    /// When, as the log writes it.
    pub recorded_at: String,
    /// Its hash.
    pub hash: Vec<u8>,
    /// By which command.
    pub command_id: String,
}

impl LogEvent {
    /// The UTC day on which it was recorded.
    #[must_use]
    pub fn day(&self) -> &str {
        self.recorded_at.get(..10).unwrap_or(&self.recorded_at)
    }

    /// Reads the event in such a text.
    fn read(text: &str) -> Result<Self, ViewError> {
        let mut columns = text.split(BETWEEN_COLUMNS);
        let mut next = || columns.next().ok_or_else(|| ViewError::unreadable("an event with too few columns"));
        let number = |text: &str| text.parse::<u64>().map_err(ViewError::unreadable);
        let position = number(next()?)?;
        let (aggregate_type, aggregate_id) = (next()?, next()?);
        let sequence = number(next()?)?;
        let (event_type, event_version) = (next()?, next()?);
        let (recorded_at, hash, command_id, payload) = (next()?, next()?, next()?, next()?);
        let at = |error: &dyn std::fmt::Display| ViewError::Unreadable(format!("position {position}: {error}"));
        if columns.next().is_some() {
            return Err(at(&"a column that is two"));
        }
        Ok(Self {
            position,
            key: AggregateKey::parse(aggregate_type, aggregate_id).map_err(|error| at(&error))?,
            sequence,
            event: Event::decode(aggregate_type, event_type, event_version, payload).map_err(|error| at(&error))?,
            recorded_at: recorded_at.to_owned(),
            hash: bytes(hash).ok_or_else(|| at(&"the hash is none"))?,
            command_id: command_id.to_owned(),
        })
    }
}

/// Bytes from hexadecimal.
fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// Between an event's columns: U+001F.
const BETWEEN_COLUMNS: char = '\u{1f}';
/// Between events: U+001E.
const BETWEEN_EVENTS: char = '\u{1e}';

/// What one batch may hold at most: it is all in memory at once.
const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Events from a position on, that one included, at most `limit` of them and not many more bytes than 8 MiB; and whether it
/// ended at one of these bounds, so that there may be more.
///
/// # Errors
/// What the database says, an event that this version cannot read, or [`ViewError::HistoryCut`] for a gap.
pub async fn read(log: &mut Connection<'_>, from: u64, limit: usize) -> Result<(Vec<LogEvent>, bool), ViewError> {
    let mut events: Vec<LogEvent> = Vec::new();
    let mut bytes = 0;
    let end = from.saturating_add(u64::try_from(limit).unwrap_or(u64::MAX));
    sql::lines(log, from, end, |lines| {
        for line in lines.split(BETWEEN_EVENTS) {
            let event = LogEvent::read(line)?;
            if events.last().is_some_and(|last| last.position + 1 != event.position) {
                return Err(ViewError::HistoryCut(format!("the log has no event before position {}", event.position)));
            }
            events.push(event);
        }
        bytes += lines.len();
        Ok(bytes < PAYLOAD_BYTES_MAX)
    })
    .await?;
    let more = events.len() >= limit || bytes >= PAYLOAD_BYTES_MAX;
    Ok((events, more))
}
