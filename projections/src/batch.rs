//! A stretch of the log, decoded once for all projections.

use aggregates::event::{AggregateKey, Event};

use crate::sql::{self, Connection, Logged, ViewError};

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

    /// Decodes what the log holds.
    fn decode(logged: Logged<'_>) -> Result<Self, ViewError> {
        let Logged { position, aggregate_type, aggregate_id, event_type, event_version, payload, .. } = logged;
        let at = |error: &dyn std::fmt::Display| ViewError::Unreadable(format!("position {position}: {error}"));
        Ok(Self {
            position,
            key: AggregateKey::parse(aggregate_type, aggregate_id).map_err(|error| at(&error))?,
            sequence: logged.sequence,
            event: Event::decode(aggregate_type, event_type, event_version, payload).map_err(|error| at(&error))?,
            recorded_at: logged.recorded_at.to_owned(),
            hash: logged.hash,
            command_id: logged.command_id.to_owned(),
        })
    }
}

/// What one batch may hold at most: it is all in memory at once.
const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// About how many bytes an event's columns take beside its payload.
const OTHER_COLUMNS_BYTES: usize = 256;

/// Events from a position on, that one included, at most `limit` of them and not many more bytes than 8 MiB; and whether it
/// ended at one of these bounds, so that there may be more.
///
/// # Errors
/// What the database says, an event that this version cannot read, or [`ViewError::HistoryCut`] for a gap.
pub async fn read(log: &mut Connection<'_>, from: u64, limit: usize) -> Result<(Vec<LogEvent>, bool), ViewError> {
    let mut events: Vec<LogEvent> = Vec::new();
    let mut bytes = 0;
    let end = from.saturating_add(u64::try_from(limit).unwrap_or(u64::MAX));
    sql::events(log, from, end, |logged| {
        bytes += OTHER_COLUMNS_BYTES + logged.payload.len();
        let event = LogEvent::decode(logged)?;
        if events.last().is_some_and(|last| last.position + 1 != event.position) {
            return Err(ViewError::HistoryCut(format!("the log has no event before position {}", event.position)));
        }
        events.push(event);
        Ok(bytes < PAYLOAD_BYTES_MAX)
    })
    .await?;
    let more = events.len() >= limit || bytes >= PAYLOAD_BYTES_MAX;
    Ok((events, more))
}
