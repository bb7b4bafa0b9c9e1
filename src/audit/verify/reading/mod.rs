//! What verification reads, from either store: the log as the bytes that are there, and the tables beside it as rows.
//!
//! Nothing is trusted on the way, and nobody waits: the service may go on writing. Events never change, so most of the log is
//! read with no snapshot held, a chunk at a time. Then [`Store::settle`] takes one snapshot of all that is left to be read: the
//! last events, the head, and every table that follows from them. It is held for as long as comparing takes, because a
//! database cannot clean up behind a snapshot, and whoever writes pays for that.
//!
//! Layering: [`files`] and [`server`] are the two stores; nothing else in `verify` knows which one it is, but for the index,
//! which only files have.

mod files;
mod server;

use std::path::PathBuf;

use projections::sql::{Row, Value, ViewError};

use super::VerifyError;
use crate::store::Database;

/// How many events are read at once: some chunks are in hand at any time, and what each thread makes of one beside it.
const CHUNK_EVENTS: usize = 1_024;
/// How many bytes of them: a chunk ends with the event that passes this.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// How many bytes an event has, as a rule, or less.
const USUAL_BYTES: usize = 1_024;

/// What is told of each row; whether to go on.
pub(super) type Each<'e> = dyn FnMut(Row) -> Result<bool, ViewError> + Send + 'e;

/// A store that is read.
pub(super) trait Store: Send {
    /// The rows of a query, in SQL that both databases understand. The tables are in the schemas `ledger`, `views` and, where
    /// there is one, `log_index`.
    fn rows(&mut self, sql: &str, values: Vec<Value>, each: &mut Each<'_>) -> Result<(), VerifyError>;

    /// The next events after a position, in order of position, up to another where one is given: none at the end.
    fn events(&mut self, after: i64, until: Option<i64>, chunk: &mut Chunk) -> Result<(), VerifyError>;

    /// Takes one snapshot of everything, for all that is read from now on.
    fn settle(&mut self) -> Result<(), VerifyError>;

    /// Whether there are read models.
    fn has_views(&self) -> bool;

    /// The schema with the snapshots of aggregates; `None` where there is none.
    fn snapshots(&self) -> Option<&'static str>;

    /// Whether it is one that has a file `index.db`.
    fn is_indexed(&self) -> bool;
}

/// Opens the store of a database, only to be read.
pub(super) fn open(database: &Database) -> Result<Box<dyn Store>, VerifyError> {
    Ok(match database {
        Database::Sqlite(dir) => Box::new(files::Files::open(dir)?),
        Database::Postgres(address) => Box::new(server::Server::open(address)?),
    })
}

/// The head's row.
#[derive(Debug, Clone)]
pub(super) struct HeadRow {
    pub(super) position: i64,
    pub(super) hash: Vec<u8>,
}

/// Reads the head's row, if it is there.
pub(super) fn head(store: &mut dyn Store) -> Result<Option<HeadRow>, VerifyError> {
    let mut head = None;
    store.rows("select position, hash from ledger.head where id = 1", Vec::new(), &mut |row| {
        let mut columns = row.columns();
        head = Some(HeadRow { position: columns.integer()?, hash: columns.bytes()? });
        Ok(true)
    })?;
    Ok(head)
}

/// The hash of the event at a position, if there is one.
pub(super) fn hash_at(store: &mut dyn Store, position: i64) -> Result<Option<Vec<u8>>, VerifyError> {
    let mut hash = None;
    store.rows("select hash from ledger.events where position = $1", vec![position.into()], &mut |row| {
        hash = Some(row.columns().bytes()?);
        Ok(true)
    })?;
    Ok(hash)
}

/// An event's row as it is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawEvent<'row> {
    pub(super) position: i64,
    pub(super) sequence: i64,
    pub(super) aggregate_type: &'row [u8],
    pub(super) aggregate_id: &'row [u8],
    pub(super) event_type: &'row [u8],
    pub(super) event_version: &'row [u8],
    pub(super) payload: &'row [u8],
    pub(super) metadata: &'row [u8],
    pub(super) recorded_at: &'row [u8],
    pub(super) hash: &'row [u8],
    pub(super) actor: &'row [u8],
    pub(super) command_id: &'row [u8],
}

/// How many columns of an event are bytes.
const TEXTS: usize = 10;

/// Some events, all their bytes in one place.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    rows: Vec<(i64, i64, [usize; TEXTS])>,
}

impl Chunk {
    /// Empty, with room for as many as are read at once: growing step by step leaves behind what is given back late.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.reserve(CHUNK_EVENTS * USUAL_BYTES);
        self.rows.clear();
        self.rows.reserve(CHUNK_EVENTS);
    }

    /// How many events it holds.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The position of the last event.
    pub(super) fn last(&self) -> Option<i64> {
        self.rows.last().map(|(position, ..)| *position)
    }

    /// Whether no more fits into it.
    fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_EVENTS || self.bytes.len() >= CHUNK_BYTES
    }

    /// Takes in an event: its numbers, and its other columns in the order of [`RawEvent`], each put into the bytes by `put`.
    fn push<E>(
        &mut self,
        position: i64,
        sequence: i64,
        mut put: impl FnMut(usize, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut ends = [0; TEXTS];
        for (column, end) in ends.iter_mut().enumerate() {
            put(column, &mut self.bytes)?;
            *end = self.bytes.len();
        }
        self.rows.push((position, sequence, ends));
        Ok(())
    }

    pub(super) fn events(&self) -> impl Iterator<Item = RawEvent<'_>> {
        let mut begin = 0;
        self.rows.iter().map(move |(position, sequence, ends)| {
            let mut texts = [&[][..]; TEXTS];
            for (text, end) in texts.iter_mut().zip(ends) {
                *text = self.bytes.get(begin..*end).unwrap_or_default();
                begin = *end;
            }
            let [
                aggregate_type,
                aggregate_id,
                event_type,
                event_version,
                payload,
                metadata,
                recorded_at,
                hash,
                actor,
                command_id,
            ] = texts;
            RawEvent {
                position: *position,
                sequence: *sequence,
                aggregate_type,
                aggregate_id,
                event_type,
                event_version,
                payload,
                metadata,
                recorded_at,
                hash,
                actor,
                command_id,
            }
        })
    }
}

/// A column as the bytes that are there, whatever kind of value it is; null is none. Damage shows when they are read.
pub(super) fn bytes(value: Option<Value>) -> Vec<u8> {
    match value {
        Some(Value::Text(text)) => text.into_bytes(),
        Some(Value::Bytes(bytes)) => bytes,
        Some(Value::Integer(number)) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

/// A column as far as it is text: damage shows as replacement characters and then fails to parse or compare.
pub(super) fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::Text(text)) => text,
        other => String::from_utf8_lossy(&bytes(other)).into_owned(),
    }
}

/// A column that is a number.
pub(super) fn number(value: Option<Value>) -> Result<i64, ViewError> {
    match value {
        Some(Value::Integer(number)) => Ok(number),
        other => Err(ViewError::unreadable(format!("{} where a number should be", text(other)))),
    }
}

/// Where an event's file or table could not be opened.
fn unreadable(path: PathBuf, error: rusqlite::Error) -> VerifyError {
    VerifyError::Open { path, error }
}
