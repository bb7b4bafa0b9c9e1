//! How far each projection has come: the position of the last event it folded, and that event's hash.
//!
//! A checkpoint moves in the same transaction as the rows, so every event is folded exactly once, by any number of processes.
//! The hash ties the rows to one history: where the log ends before a checkpoint, or holds another event there, folding on
//! would mix two histories, and stops.

use std::collections::BTreeMap;

use aggregates::primitives::Timestamp;

use crate::batch::LogEvent;
use crate::sql::{Changes, Connection, Merge, Table, Value, ViewError};

/// How far one projection has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The position of the last event it folded; 0 for none.
    pub position: u64,
    /// That event's hash; empty for none.
    pub hash: Vec<u8>,
}

impl Checkpoint {
    /// At this event.
    #[must_use]
    pub fn at(event: &LogEvent) -> Self {
        Self { position: event.position, hash: event.hash.clone() }
    }

    /// # Errors
    /// [`ViewError::HistoryCut`] where the log does not hold the event that this checkpoint stands on.
    pub fn check(&self, in_log: Option<&LogEvent>) -> Result<(), ViewError> {
        match in_log {
            _ if self.position == 0 => Ok(()),
            Some(event) if event.position == self.position && event.hash == self.hash => Ok(()),
            Some(event) if event.position == self.position => Err(ViewError::HistoryCut(format!(
                "the event at position {} is not the one that was folded",
                self.position
            ))),
            _ => Err(ViewError::HistoryCut(format!("events up to {} were folded, the log ends before", self.position))),
        }
    }
}

/// The event that a fold has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// Its position and hash.
    pub checkpoint: Checkpoint,
    /// When it was recorded.
    pub recorded_at: String,
}

impl Reached {
    /// At this event.
    #[must_use]
    pub fn at(event: &LogEvent) -> Self {
        Self { checkpoint: Checkpoint::at(event), recorded_at: event.recorded_at.clone() }
    }
}

static CHECKPOINTS: Table = Table {
    name: "checkpoints",
    columns: &[
        ("projection", Merge::Key),
        ("position", Merge::Replace),
        ("hash", Merge::Replace),
        ("recorded_at", Merge::Replace),
    ],
};

/// All checkpoints, by projection.
#[derive(Debug, Default)]
pub struct Checkpoints(BTreeMap<String, Checkpoint>);

impl Checkpoints {
    /// Reads them.
    ///
    /// # Errors
    /// What the database says.
    pub async fn load(connection: &mut Connection<'_>) -> Result<Self, ViewError> {
        Self::load_from(connection, "checkpoints").await
    }

    /// Reads those of a database that is attached, or of another schema.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn load_from(connection: &mut Connection<'_>, table: &str) -> Result<Self, ViewError> {
        let rows = connection.fetch(&format!("select projection, position, hash from {table}"), Vec::new()).await?;
        let mut checkpoints = BTreeMap::new();
        for row in rows {
            let mut columns = row.columns();
            checkpoints.insert(columns.string()?, Checkpoint { position: columns.count()?, hash: columns.bytes()? });
        }
        Ok(Self(checkpoints))
    }

    /// Where a projection stands.
    #[must_use]
    pub fn of(&self, projection: &str) -> Checkpoint {
        self.0.get(projection).cloned().unwrap_or_default()
    }

    /// The least of the given projections' checkpoints: where folding goes on.
    #[must_use]
    pub fn least(&self, projections: &[&str]) -> Checkpoint {
        projections.iter().map(|name| self.of(name)).min_by_key(|checkpoint| checkpoint.position).unwrap_or_default()
    }

    /// Moves the given projections to this event, those already beyond it excepted.
    pub fn advance(&self, projections: &[&str], to: &Reached, changes: &mut Changes) {
        for name in projections.iter().filter(|name| self.of(name).position < to.checkpoint.position) {
            changes.put(
                &CHECKPOINTS,
                [
                    Value::from(*name),
                    to.checkpoint.position.into(),
                    Value::Bytes(to.checkpoint.hash.clone()),
                    to.recorded_at.as_str().into(),
                ],
            );
        }
    }
}

/// How far all of the projections have come, and when that event was recorded.
///
/// # Errors
/// What the database says.
pub async fn reached(connection: &mut Connection<'_>) -> Result<(u64, Timestamp), ViewError> {
    let mut reached: Option<(u64, Timestamp)> = None;
    let mut known = 0;
    for row in connection.fetch("select projection, position, recorded_at from checkpoints", Vec::new()).await? {
        let mut columns = row.columns();
        if !crate::NAMES.contains(&columns.str()?) {
            continue;
        }
        known += 1;
        let checkpoint = (columns.count()?, columns.parse()?);
        reached = Some(reached.map_or(checkpoint, |least| least.min(checkpoint)));
    }
    Ok(reached.filter(|_| known == crate::NAMES.len()).unwrap_or_default())
}
