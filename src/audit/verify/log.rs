//! What verification reads: the store's files, read-only, each in one snapshot.
//!
//! Nothing is trusted on the way: texts come as the bytes that are there, numbers as SQLite has them. The service may go on
//! writing meanwhile; it is not waited for and does not wait (WAL). Rows are streamed, never gathered.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row};

use super::VerifyError;

/// One snapshot of a database file; it ends with this value.
#[derive(Debug)]
pub(super) struct Snapshot {
    connection: Connection,
}

/// The head's row.
#[derive(Debug)]
pub(super) struct HeadRow {
    pub(super) position: i64,
    pub(super) hash: Vec<u8>,
}

/// An event's row as it is there.
#[derive(Debug)]
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

const EVENTS: &str = "select position, sequence, aggregate_type, aggregate_id, event_type, event_version, payload, metadata, \
                      recorded_at, hash, actor, command_id from events order by position";

impl Snapshot {
    /// Opens a file and begins its snapshot.
    pub(super) fn open(path: &Path) -> Result<Self, VerifyError> {
        let unreadable = |error| VerifyError::Open { path: path.to_owned(), error };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(unreadable)?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(unreadable)?;
        connection
            // Small: the log is read from one end to the other, and the other tables once.
            .execute_batch("pragma query_only = on; pragma cache_size = -8192; begin")
            .map_err(unreadable)?;
        // A deferred transaction takes its snapshot with its first read.
        connection
            .query_row("select count(*) from sqlite_schema", [], |row| row.get::<_, i64>(0))
            .map_err(unreadable)?;
        Ok(Self { connection })
    }

    /// Whether there is a table of this name.
    pub(super) fn has_table(&self, name: &str) -> Result<bool, VerifyError> {
        let count: i64 = self.connection.query_row(
            "select count(*) from sqlite_schema where type = 'table' and name = ?1",
            [name],
            |row| row.get(0),
        )?;
        Ok(count > 0)
    }

    /// The head's row, if it is there.
    pub(super) fn head(&self) -> Result<Option<HeadRow>, VerifyError> {
        let mut head = None;
        self.rows("select position, hash from head where id = 1", |row| {
            head = Some(HeadRow { position: row.get(0)?, hash: bytes(row, 1)?.to_vec() });
            Ok(())
        })?;
        Ok(head)
    }

    /// Every event there is, in order of position.
    pub(super) fn events(
        &self,
        mut each: impl FnMut(&RawEvent<'_>) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let mut statement = self.connection.prepare(EVENTS)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(&RawEvent {
                position: row.get(0)?,
                sequence: row.get(1)?,
                aggregate_type: bytes(row, 2)?,
                aggregate_id: bytes(row, 3)?,
                event_type: bytes(row, 4)?,
                event_version: bytes(row, 5)?,
                payload: bytes(row, 6)?,
                metadata: bytes(row, 7)?,
                recorded_at: bytes(row, 8)?,
                hash: bytes(row, 9)?,
                actor: bytes(row, 10)?,
                command_id: bytes(row, 11)?,
            })?;
        }
        Ok(())
    }

    /// The one row that a statement finds by a key.
    pub(super) fn row(
        &self,
        sql: &str,
        key: impl rusqlite::Params,
        mut read: impl FnMut(&Row<'_>) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(key)?;
        rows.next()?.map_or(Ok(()), &mut read)
    }

    /// How many rows a table has.
    pub(super) fn count(&self, table: &'static str) -> Result<usize, VerifyError> {
        let count: i64 = self.connection.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// Every row of a statement.
    pub(super) fn rows(
        &self,
        sql: &str,
        mut each: impl FnMut(&Row<'_>) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(row)?;
        }
        Ok(())
    }
}

/// A text or blob column as the bytes that are there; NULL is no bytes.
pub(super) fn bytes<'row>(row: &'row Row<'_>, column: usize) -> Result<&'row [u8], VerifyError> {
    Ok(row.get_ref(column)?.as_bytes_or_null().map_err(rusqlite::Error::from)?.unwrap_or_default())
}

/// A text column as far as it is text: damage shows as replacement characters and then fails to parse or compare.
pub(super) fn lossy(row: &Row<'_>, column: usize) -> Result<String, VerifyError> {
    Ok(String::from_utf8_lossy(bytes(row, column)?).into_owned())
}
