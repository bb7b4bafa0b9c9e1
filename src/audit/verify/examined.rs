//! An event as the checkers see it: read from its row, or found damaged.

use aggregates::event::{AggregateKey, Event, EventMetadata};
use aggregates::primitives::CommandId;
use projections::batch::LogEvent;

use super::findings::{Check, Findings};
use super::reading::RawEvent;

/// An event that could be read.
#[derive(Debug)]
pub(super) struct Examined<'a> {
    pub(super) position: i64,
    pub(super) key: &'a AggregateKey,
    pub(super) sequence: i64,
    pub(super) event: &'a Event,
    pub(super) metadata: &'a EventMetadata,
}

/// Reads metadata; keeps the last, because the events of one command share its text.
#[derive(Debug, Default)]
pub(super) struct Reader {
    text: Vec<u8>,
    metadata: Option<(EventMetadata, CommandId)>,
}

impl Reader {
    /// By which command it came; metadata that cannot be read, or differs from the columns beside it, is a violation.
    pub(super) fn command(&mut self, raw: &RawEvent<'_>, findings: &mut Findings) -> Option<CommandId> {
        if self.metadata.is_none() || self.text != raw.metadata {
            self.metadata = serde_json::from_slice::<EventMetadata>(raw.metadata).ok().and_then(|metadata| {
                let command = metadata.command_id.parse().ok()?;
                Some((metadata, command))
            });
            self.text.clear();
            self.text.extend_from_slice(raw.metadata);
        }
        let agrees = self.metadata.as_ref().is_some_and(|(metadata, _)| {
            metadata.actor.as_bytes() == raw.actor && metadata.command_id.as_bytes() == raw.command_id
        });
        findings.holds(Check::Readable, raw.position, agrees, || {
            let columns = format!("actor {} and command {}", lossy(raw.actor), lossy(raw.command_id));
            ("its metadata".to_owned(), columns, lossy(raw.metadata))
        });
        self.metadata.as_ref().map(|(_, command)| *command)
    }

    /// The metadata of the event whose command was asked for last.
    pub(super) fn metadata(&self) -> Option<&EventMetadata> {
        self.metadata.as_ref().map(|(metadata, _)| metadata)
    }
}

/// Whose event it is, and what it says, as far as it can be read.
pub(super) fn decode(raw: &RawEvent<'_>) -> Result<LogEvent, String> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|error| format!("{} ({error})", lossy(bytes)));
    let number = |number: i64| u64::try_from(number).map_err(|_| format!("the number {number}"));
    let aggregate_type = text(raw.aggregate_type)?;
    let key = AggregateKey::parse(aggregate_type, text(raw.aggregate_id)?).map_err(|error| error.to_string())?;
    if key.aggregate_id().as_bytes() != raw.aggregate_id {
        return Err(format!("the id {:?}, which is written {}", lossy(raw.aggregate_id), key.aggregate_id()));
    }
    let event = Event::decode(aggregate_type, text(raw.event_type)?, text(raw.event_version)?, text(raw.payload)?)
        .map_err(|error| error.to_string())?;
    Ok(LogEvent {
        position: number(raw.position)?,
        key,
        sequence: number(raw.sequence)?,
        event,
        recorded_at: text(raw.recorded_at)?.to_owned(),
        hash: raw.hash.to_vec(),
        command_id: text(raw.command_id)?.to_owned(),
    })
}

/// Judges whether an event could be read.
pub(super) fn is_readable(raw: &RawEvent<'_>, error: Option<&str>, findings: &mut Findings) {
    findings.holds(Check::Readable, raw.position, error.is_none(), || {
        let what = format!("{} {}", lossy(raw.aggregate_type), lossy(raw.aggregate_id));
        (what, "an event that this version can read".to_owned(), error.unwrap_or_default().to_owned())
    });
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
