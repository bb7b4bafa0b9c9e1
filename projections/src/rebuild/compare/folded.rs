//! The database that a group of projections is folded into, from the first event: one without a name, or a file in which it is
//! kept from one comparison to the next, up to the position that stands in it.
//!
//! A file is written in transactions, each from one [`Folded::keep`] to the next, with a journal: whoever is killed leaves what
//! was kept last. It does not wait for the disk; what a power failure damages shows, at the latest, as rows that are not equal,
//! and whoever finds such rows folds again from the first event.
//!
//! Of rows that are written once and never read by a fold there is only what they come to ([`Digests`]), unless the rows themselves
//! are wanted.
//!
//! A file that cannot be gone on with (of other projections, or of other tables, or damaged) is made anew, and stands at 0.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::digest::{Digests, Sum};

use crate::checkpoint::Checkpoint;
use crate::sql::{ViewError, direct, sqlite};

/// How much of the database is kept in memory, in KiB.
const CACHE_KIB: i64 = 4 * 1024;

/// The indexes that folds load by, beside primary keys. Without another one a fold would be slow, and right.
const NEEDED: [&str; 4] =
    ["activity_resellers_by_id", "activity_resellers_by_path", "analytics_members_by_id", "wallets_by_reseller"];

/// Where the fold has come, of which projections and with which tables.
const FOLDED_TO: &str = "create table main.folded_to (position bigint not null, hash blob not null, made_for text not null); \
                         create table main.digests (name text primary key, rows bigint not null, sum blob not null)";
/// The name under which their key stands among the digests.
const KEY: &str = "";

#[derive(Debug)]
pub(super) struct Folded {
    pub(super) connection: Connection,
    /// The last event that was folded.
    pub(super) reached: Checkpoint,
    /// What the rows come to that are not in it.
    pub(super) digests: Digests,
    /// For which projections and tables the file is; `None` where there is no file.
    made_for: Option<String>,
}

impl Folded {
    /// One that nobody else sees, and that is gone when it is closed.
    pub(super) fn nameless() -> Result<Self, ViewError> {
        let connection = direct::open_nameless(CACHE_KIB)?;
        create(&connection)?;
        Ok(Self { connection, reached: Checkpoint::default(), digests: Digests::begin(), made_for: None })
    }

    /// The one in a file, as it was kept, or a new one there.
    pub(super) fn kept(file: &Path, projections: &[&str]) -> Result<Self, ViewError> {
        let made_for = format!("{} {} 2", sqlite::fingerprint(), projections.join(" "));
        if file.exists()
            && let Ok(connection) = direct::open_own(file, "truncate", CACHE_KIB)
            && let Ok(Some((reached, digests))) = reached(&connection, &made_for)
        {
            return Ok(Self { connection, reached, digests, made_for: Some(made_for) });
        }
        remove(file)?;
        let connection = direct::open_own(file, "truncate", CACHE_KIB)?;
        connection.execute_batch("begin")?;
        create(&connection)?;
        connection.execute_batch(FOLDED_TO)?;
        connection.execute_batch("commit")?;
        let digests = Digests::begin();
        Ok(Self { connection, reached: Checkpoint::default(), digests, made_for: Some(made_for) })
    }

    /// Begins to fold on.
    pub(super) fn begin(&self) -> Result<(), ViewError> {
        Ok(self.connection.execute_batch("begin")?)
    }

    /// Keeps what was folded so far, where there is a file for it.
    pub(super) fn keep(&mut self) -> Result<(), ViewError> {
        let Some(made_for) = &self.made_for else { return Ok(()) };
        let Checkpoint { position, hash } = &self.reached;
        self.connection.execute("delete from main.folded_to", [])?;
        let sql = "insert into main.folded_to (position, hash, made_for) values (?1, ?2, ?3)";
        self.connection.execute(sql, (position, hash, made_for))?;
        self.connection.execute("delete from main.digests", [])?;
        let sql = "insert into main.digests (name, rows, sum) values (?1, ?2, ?3)";
        self.connection.execute(sql, (KEY, 0, self.digests.key))?;
        for (name, Sum { rows, sum }) in &self.digests.tables {
            self.connection.execute(sql, (name, rows, sum.to_be_bytes()))?;
        }
        self.connection.execute_batch("commit")?;
        self.begin()
    }
}

/// Removes a file, and what SQLite keeps beside it.
pub(super) fn remove(file: &Path) -> Result<(), ViewError> {
    let mut journal = file.as_os_str().to_owned();
    journal.push("-journal");
    // The journal last: without its database it is nothing.
    for path in [file, Path::new(&journal)] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ViewError::File { path: path.to_owned(), error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where a file has come, and what the rows come to that are not in it, if it was made for this.
fn reached(connection: &Connection, made_for: &str) -> Result<Option<(Checkpoint, Digests)>, ViewError> {
    let sql = "select position, hash from main.folded_to where made_for = ?1";
    let row = connection.query_row(sql, [made_for], |row| Ok(Checkpoint { position: row.get(0)?, hash: row.get(1)? }));
    let Some(reached) = row.optional()? else { return Ok(None) };
    let mut digests = Digests::begin();
    digests.key = connection.query_row("select sum from main.digests where name = ?1", [KEY], |row| row.get(0))?;
    let mut statement = connection.prepare("select name, rows, sum from main.digests where name <> ?1")?;
    let mut rows = statement.query([KEY])?;
    while let Some(row) = rows.next()? {
        let sum = Sum { rows: row.get(1)?, sum: u128::from_be_bytes(row.get(2)?) };
        digests.tables.insert(row.get(0)?, sum);
    }
    Ok(Some((reached, digests)))
}

/// Creates the tables, with what folds need and no more: what else only queries need, and what holds the live tables to be unique
/// holds the rows too that are equal to theirs.
fn create(connection: &Connection) -> Result<(), ViewError> {
    sqlite::create_directly(connection)?;
    let mut names: Vec<String> = Vec::new();
    let sql = "select name from main.sqlite_schema where type = 'index' and sql is not null";
    let mut statement = connection.prepare(sql)?;
    for name in statement.query_map([], |row| row.get(0))? {
        names.push(name?);
    }
    for name in names.iter().filter(|name| !NEEDED.contains(&name.as_str())) {
        connection.execute_batch(&format!("drop index main.{name}"))?;
    }
    Ok(())
}
