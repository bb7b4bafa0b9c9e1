//! A stretch of the log, decoded once for all projections.

use aggregates::event::{AggregateKey, Event};

use crate::sql::{Connection, Row, ViewError};

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

    fn read(row: &Row) -> Result<(Self, usize), ViewError> {
        let mut columns = row.columns();
        let position = columns.count()?;
        let (aggregate_type, aggregate_id) = (columns.str()?, columns.str()?);
        let sequence = columns.count()?;
        let (event_type, event_version, payload) = (columns.str()?, columns.str()?, columns.str()?);
        let at = |error: aggregates::event::DecodeError| ViewError::Unreadable(format!("position {position}: {error}"));
        let event = Self {
            position,
            key: AggregateKey::parse(aggregate_type, aggregate_id).map_err(at)?,
            sequence,
            event: Event::decode(aggregate_type, event_type, event_version, payload).map_err(at)?,
            recorded_at: columns.string()?,
            hash: columns.bytes()?,
            command_id: columns.string()?,
        };
        Ok((event, payload.len()))
    }
}

/// What one batch may hold at most: it is all in memory at once.
const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Events from a position on, that one included, at most `limit` of them and not many more bytes than 8 MiB; and whether it
/// ended at one of these bounds, so that there may be more.
///
/// # Errors
/// What the database says, or an event that this version cannot read.
pub async fn read(log: &mut Connection<'_>, from: u64, limit: usize) -> Result<(Vec<LogEvent>, bool), ViewError> {
    let mut events = Vec::new();
    let mut bytes = 0;
    log.for_each(
        "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, recorded_at, hash, \
         command_id from events where position >= $1 order by position limit $2",
        vec![from.into(), u64::try_from(limit).unwrap_or(u64::MAX).into()],
        |row| {
            let (event, size) = LogEvent::read(&row)?;
            events.push(event);
            bytes += size;
            Ok(bytes < PAYLOAD_BYTES_MAX)
        },
    )
    .await?;
    let more = events.len() >= limit || bytes >= PAYLOAD_BYTES_MAX;
    Ok((events, more))
}
