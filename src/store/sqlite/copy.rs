//! A copy of `ledger.db` as it stands at one moment, made while others write.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::connection::error;
use super::{ledger_path, reading};
use crate::store::{Head, StoreError};

/// Writes a copy into an empty file, makes it durable, and says where its history ends. Writers do not wait for it; the WAL
/// grows as long as it lasts. Blocks.
///
/// # Errors
/// What the database or the file says, or [`StoreError::Unreadable`] where the copy is not sound. The file is then worth
/// nothing.
pub fn copy(dir: &Path, file: &Path) -> Result<Head, StoreError> {
    let failed = |cause: std::io::Error| StoreError::Database(format!("{}: {cause}", file.display()));
    let Some(name) = file.to_str() else {
        return Err(StoreError::Database(format!("{}: the name is not UTF-8", file.display())));
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ledger = Connection::open_with_flags(ledger_path(dir), flags).map_err(error)?;
    ledger.execute("vacuum into ?1", [name]).map_err(error)?;
    File::open(file).and_then(|file| file.sync_all()).map_err(failed)?;
    let copied = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(error)?;
    let sound: String = copied.query_row("pragma quick_check(1)", [], |row| row.get(0)).map_err(error)?;
    if sound != "ok" {
        return Err(StoreError::Unreadable(format!("the copy is not sound: {sound}")));
    }
    reading::head(&copied)
}
