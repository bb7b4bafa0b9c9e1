//! The store in SQLite files, each attached to one connection that can only read.

use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use projections::sql::{Connection, Value, ViewError};
use rusqlite::{Connection as Sqlite, OpenFlags};

use super::{CHUNK_EVENTS, Chunk, Each, Store, unreadable};
use crate::audit::verify::VerifyError;
use crate::store::sqlite::{index_path, ledger_path, views_path};

/// How much of each file is kept in memory, in KiB: little, because each page is looked at once or twice.
const CACHE_KIB: i64 = 1024;

/// Columns in the order of [`super::RawEvent`].
const EVENTS: &str = "select position, sequence, aggregate_type, aggregate_id, event_type, event_version, payload, metadata, \
                      recorded_at, hash, actor, command_id from ledger.events where position > ?1 and position <= ?2 \
                      order by position limit ?3";

#[derive(Debug)]
pub(super) struct Files {
    connection: Sqlite,
    has_views: bool,
    has_index: bool,
}

impl Files {
    pub(super) fn open(dir: &Path) -> Result<Self, VerifyError> {
        let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Sqlite::open_with_flags(":memory:", flags).map_err(ViewError::from)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(ViewError::from)?;
        let ledger = ledger_path(dir);
        attach(&connection, &ledger, "ledger").map_err(|error| unreadable(ledger, error))?;
        let mut store = Self { connection, has_views: false, has_index: false };
        store.has_views = store.attach_if_there(&views_path(dir), "views", &["checkpoints", "wallets"])?;
        store.has_index = store.attach_if_there(&index_path(dir), "log_index", &["progress", "provision_events"])?;
        store.connection.pragma_update(None, "query_only", true).map_err(ViewError::from)?;
        Ok(store)
    }

    /// Attaches a file, where it is there and has been made; then it must have these tables.
    fn attach_if_there(&self, path: &Path, name: &str, tables: &[&str]) -> Result<bool, VerifyError> {
        if !path.exists() {
            return Ok(false);
        }
        let unread = |error| unreadable(path.to_owned(), error);
        attach(&self.connection, path, name).map_err(unread)?;
        let count = |condition: &str| -> Result<i64, VerifyError> {
            let sql = format!("select count(*) from {name}.sqlite_schema where type = 'table' {condition}");
            self.connection.query_row(&sql, [], |row| row.get(0)).map_err(unread)
        };
        // One that is just being made has nothing in it yet.
        if count("")? == 0 {
            return Ok(false);
        }
        for table in tables {
            if count(&format!("and name = '{table}'"))? == 0 {
                return Err(VerifyError::Incomplete { path: path.to_owned(), table: (*table).to_owned() });
            }
        }
        Ok(true)
    }
}

fn attach(connection: &Sqlite, path: &Path, name: &str) -> rusqlite::Result<()> {
    let text = path.display().to_string();
    let uri = format!("file:{}?mode=ro", text.replace('%', "%25").replace('?', "%3f").replace('#', "%23"));
    connection.execute(&format!("attach database ?1 as {name}"), [uri])?;
    connection.execute_batch(&format!("pragma {name}.cache_size = -{CACHE_KIB}"))?;
    // Whether it is a database shows only when it is looked at.
    connection.query_row(&format!("select count(*) from {name}.sqlite_schema"), [], |row| row.get::<_, i64>(0))?;
    Ok(())
}

impl Store for Files {
    fn rows(&mut self, sql: &str, values: Vec<Value>, each: &mut Each<'_>) -> Result<(), VerifyError> {
        let mut connection = Connection::direct(&mut self.connection);
        let read = connection.for_each(sql, values, each).now_or_never();
        Ok(read.unwrap_or_else(|| Err(ViewError::unreadable("SQLite had something to wait for")))?)
    }

    fn events(&mut self, after: i64, until: Option<i64>, chunk: &mut Chunk) -> Result<(), VerifyError> {
        chunk.clear();
        let mut read = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare_cached(EVENTS)?;
            let limit = i64::try_from(CHUNK_EVENTS).unwrap_or(i64::MAX);
            let mut rows = statement.query([after, until.unwrap_or(i64::MAX), limit])?;
            while let Some(row) = rows.next()? {
                chunk.push(row.get(0)?, row.get(1)?, |column, bytes| {
                    let value = row.get_ref(column + 2)?;
                    bytes.extend_from_slice(value.as_bytes_or_null()?.unwrap_or_default());
                    Ok::<_, rusqlite::Error>(())
                })?;
                if chunk.is_full() {
                    break;
                }
            }
            Ok(())
        };
        Ok(read().map_err(ViewError::from)?)
    }

    fn settle(&mut self) -> Result<(), VerifyError> {
        self.connection.execute_batch("begin").map_err(ViewError::from)?;
        // A file's snapshot is taken when it is first looked at: what follows from the log before the log.
        for (name, is_there) in [("views", self.has_views), ("log_index", self.has_index), ("ledger", true)] {
            if is_there {
                let look = format!("select count(*) from {name}.sqlite_schema");
                self.connection.query_row(&look, [], |row| row.get::<_, i64>(0)).map_err(ViewError::from)?;
            }
        }
        Ok(())
    }

    fn has_views(&self) -> bool {
        self.has_views
    }

    fn snapshots(&self) -> Option<&'static str> {
        self.has_index.then_some("log_index")
    }

    fn is_indexed(&self) -> bool {
        true
    }
}
