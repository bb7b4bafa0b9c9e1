//! What differs between databases, and nothing else: connections, values, bulk reads and bulk upserts.
//!
//! The projections speak to a [`Connection`] in SQL that both databases understand (`$1` placeholders, `on conflict … do
//! update`); what they cannot share (many keys in one parameter, many rows in one statement, the log in bulk) is
//! written once, here.
//!
//! - [`Value`], [`Row`]: what goes in and what comes out; [`Table`], [`Changes`]: rows to be written in bulk.
//! - [`Database`]: which one; [`Folder`]: what the projector works with; [`ReadPool`], [`Read`]: one snapshot of everything.
//!
//! Cost: on PostgreSQL one statement is one message there and back, so rows go many to a statement. On SQLite those who fold
//! and those who read do so in their own thread ([`direct`]).

mod changes;
pub(crate) mod direct;
mod error;
mod folder;
mod log;
pub(crate) mod postgres;
mod reading;
mod row;
pub(crate) mod sqlite;
mod value;

use std::borrow::Borrow;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteConnection;
use sqlx::{PgConnection, query_with};

pub use changes::{Changes, Merge, Table};
pub use direct::aside;
pub use error::ViewError;
pub use folder::{Folder, Locked, Looking};
pub(crate) use log::{Logged, events};
pub use postgres::{POSTGRES_MIGRATIONS, Server};
pub use reading::{Read, ReadPool};
pub use row::{Columns, Row, exact_sum, saturated};
pub use value::Value;

/// Where a store is.
#[derive(Debug, Clone)]
pub enum Database {
    /// SQLite files in a directory.
    Sqlite(PathBuf),
    /// A PostgreSQL database. Its schema is whoever's who starts a node to bring up to date: see [`POSTGRES_MIGRATIONS`].
    Postgres(Server),
}

impl From<&Path> for Database {
    /// The files in a directory.
    fn from(dir: &Path) -> Self {
        Self::Sqlite(dir.to_owned())
    }
}

/// Brings the read models' files in a directory up to date, one process at a time.
///
/// # Errors
/// What SQLite says.
pub async fn migrate_files(dir: &Path) -> Result<(), ViewError> {
    sqlite::migrate(dir).await
}

/// A connection, in whatever transaction it is in.
#[derive(Debug)]
pub struct Connection<'c> {
    to: To<'c>,
    prefix: &'static str,
}

#[derive(Debug)]
enum To<'c> {
    /// By a thread of its own, which works while its user does something else.
    Sqlite(&'c mut SqliteConnection),
    /// SQLite as well, but in the user's own thread.
    Direct(&'c mut rusqlite::Connection),
    /// `named` where statements may be prepared by name, to be used again.
    Postgres { connection: &'c mut PgConnection, named: bool },
}

/// What a statement says where the databases' languages differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
}

impl Dialect {
    /// The condition that a column holds one of the values in a parameter, a list.
    #[must_use]
    pub fn one_of(self, column: &str, parameter: u8) -> String {
        match self {
            Self::Sqlite => format!("{column} in (select value from json_each(${parameter}))"),
            Self::Postgres => format!("{column} = any(${parameter})"),
        }
    }

    /// The numbers in a parameter, a list, one after the other: a table of this name with the column `number`.
    #[must_use]
    pub fn numbers(self, name: &str, parameter: u8) -> String {
        match self {
            Self::Sqlite => format!("(select value as number from json_each(${parameter})) {name}"),
            Self::Postgres => format!("unnest(${parameter}) {name} (number)"),
        }
    }

    /// A time in the log, as the text that every store has.
    #[must_use]
    pub fn time(self, column: &str) -> String {
        match self {
            Self::Sqlite => column.to_owned(),
            Self::Postgres => format!("to_char({column} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"),
        }
    }

    /// A parameter, given as a text, as a time to compare with one of the log.
    #[must_use]
    pub fn given_time(self, parameter: u8) -> String {
        match self {
            Self::Sqlite => format!("${parameter}"),
            Self::Postgres => format!("cast(cast(${parameter} as text) as timestamptz)"),
        }
    }

    /// For each row of the first, in its order, the rows of the second that fit it: `from` this. The condition may name both.
    #[must_use]
    pub fn one_after_the_other(self, first: &str, second: &str, condition: &str) -> String {
        match self {
            Self::Sqlite => format!("{first} cross join {second} on {condition}"),
            Self::Postgres => {
                let name = second.rsplit(' ').next().unwrap_or(second);
                format!("{first} cross join lateral (select * from {second} where {condition} offset 0) {name}")
            }
        }
    }
}

impl<'c> Connection<'c> {
    /// Speaks to SQLite.
    pub fn sqlite(connection: &'c mut SqliteConnection) -> Self {
        Self { to: To::Sqlite(connection), prefix: "" }
    }

    /// Speaks to SQLite in the caller's own thread.
    pub fn direct(connection: &'c mut rusqlite::Connection) -> Self {
        Self { to: To::Direct(connection), prefix: "" }
    }

    /// The same, and writes rows into the tables whose names have this prefix. What is read is the caller's to redirect.
    pub(crate) fn prefixed(connection: &'c mut rusqlite::Connection, prefix: &'static str) -> Self {
        Self { to: To::Direct(connection), prefix }
    }

    /// Speaks to PostgreSQL, within a transaction that knows which schemas are meant; `named` where statements may be prepared
    /// by name.
    pub fn postgres(connection: &'c mut PgConnection, named: bool) -> Self {
        Self { to: To::Postgres { connection, named }, prefix: "" }
    }

    /// Whose language it understands, where it matters.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.to {
            To::Sqlite(_) | To::Direct(_) => Dialect::Sqlite,
            To::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// Opens or closes, for the rest of the transaction, the tables in whose rows everybody is (`movements`, `scores`). Row-level
    /// security can only show such a row whole, so within a subtree's scope it shows none, unless whoever reads says that it
    /// sorts what it finds by numbers that are in scope. SQLite has nothing to open.
    ///
    /// # Errors
    /// What the database says.
    pub async fn show_packed(&mut self, open: bool) -> Result<(), ViewError> {
        if self.dialect() == Dialect::Postgres {
            let value = if open { "open" } else { "closed" };
            self.fetch_one(postgres::PACKED, vec![value.into()]).await?;
        }
        Ok(())
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, ViewError> {
        Ok(match &mut self.to {
            To::Sqlite(connection) => {
                query_with(sql, sqlite::arguments(values)?).execute(&mut **connection).await?.rows_affected()
            }
            To::Direct(connection) => direct::execute(connection, sql, &values)?,
            To::Postgres { connection, named } => {
                let query = query_with(sql, postgres::arguments(sql, values)?).persistent(*named);
                query.execute(&mut **connection).await?.rows_affected()
            }
        })
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, ViewError> {
        Ok(match &mut self.to {
            To::Sqlite(connection) => {
                let rows = query_with(sql, sqlite::arguments(values)?).fetch_all(&mut **connection).await?;
                rows.into_iter().map(Row::from).collect()
            }
            To::Direct(connection) => {
                let mut rows = Vec::new();
                direct::for_each(connection, sql, &values, |row| {
                    rows.push(row);
                    Ok(true)
                })?;
                rows
            }
            To::Postgres { connection, named } => {
                let query = query_with(sql, postgres::arguments(sql, values)?).persistent(*named);
                query.fetch_all(&mut **connection).await?.into_iter().map(Row::from).collect()
            }
        })
    }

    /// The first row of a query.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_one(&mut self, sql: &str, values: Vec<Value>) -> Result<Option<Row>, ViewError> {
        Ok(match &mut self.to {
            To::Sqlite(connection) => {
                query_with(sql, sqlite::arguments(values)?).fetch_optional(&mut **connection).await?.map(Row::from)
            }
            To::Direct(connection) => {
                let mut first = None;
                direct::for_each(connection, sql, &values, |row| {
                    first = Some(row);
                    Ok(false)
                })?;
                first
            }
            To::Postgres { connection, named } => {
                let query = query_with(sql, postgres::arguments(sql, values)?).persistent(*named);
                query.fetch_optional(&mut **connection).await?.map(Row::from)
            }
        })
    }

    /// Hands each row to `each` until it says stop, so that no more than one row is held.
    ///
    /// # Errors
    /// What the database or `each` says.
    pub async fn for_each(
        &mut self,
        sql: &str,
        values: Vec<Value>,
        mut each: impl FnMut(Row) -> Result<bool, ViewError> + Send,
    ) -> Result<(), ViewError> {
        match &mut self.to {
            To::Sqlite(connection) => {
                let mut rows = query_with(sql, sqlite::arguments(values)?).fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    if !each(row.into())? {
                        break;
                    }
                }
            }
            To::Direct(connection) => aside(|| direct::for_each(connection, sql, &values, each))?,
            To::Postgres { connection, named } => {
                let query = query_with(sql, postgres::arguments(sql, values)?).persistent(*named);
                let mut rows = query.fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    if !each(row.into())? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// All values of a query whose one column is called `number`, where they are many. SQLite hands them over in one row, which
    /// costs a tenth of a row each.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_integers(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<i64>, ViewError> {
        match self.dialect() {
            Dialect::Sqlite => {
                let sql = format!("select json_group_array(number) from ({sql})");
                let row = self.fetch_one(&sql, values).await?;
                row.map_or_else(|| Ok(Vec::new()), |row| row.columns().json())
            }
            Dialect::Postgres => {
                let mut numbers = Vec::new();
                let each = |row: Row| {
                    numbers.push(row.columns().integer()?);
                    Ok(true)
                };
                self.for_each(sql, values, each).await?;
                Ok(numbers)
            }
        }
    }

    /// All rows whose key, a text, is one of many: the query ends with `… where key in`. No keys, no statement.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_by_keys<K: Display>(
        &mut self,
        sql_up_to_in: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Row>, ViewError> {
        self.fetch_by_list(sql_up_to_in, Value::texts(keys)).await
    }

    /// The same where the key is a number.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_by_numbers(
        &mut self,
        sql_up_to_in: &str,
        numbers: impl IntoIterator<Item = impl Borrow<u64>>,
    ) -> Result<Vec<Row>, ViewError> {
        self.fetch_by_list(sql_up_to_in, Value::integers(numbers.into_iter().map(|number| *number.borrow()))).await
    }

    async fn fetch_by_list(&mut self, sql_up_to_in: &str, list: Value) -> Result<Vec<Row>, ViewError> {
        let is_empty = match &list {
            Value::Integers(list) => list.is_empty(),
            Value::Texts(list) => list.is_empty(),
            _ => false,
        };
        if is_empty {
            return Ok(Vec::new());
        }
        let up_to_column = sql_up_to_in.strip_suffix(" in").unwrap_or(sql_up_to_in);
        self.fetch(&self.dialect().one_of(up_to_column, 1), vec![list]).await
    }

    /// Writes rows in bulk.
    ///
    /// # Errors
    /// What the database says.
    pub async fn apply(&mut self, changes: Changes) -> Result<(), ViewError> {
        match &mut self.to {
            To::Sqlite(_) => {
                for (sql, values) in changes.into_sqlite_statements(self.prefix) {
                    self.execute(&sql, values).await?;
                }
            }
            To::Direct(connection) => {
                for (sql, width, values) in changes.into_sqlite_rows(self.prefix) {
                    direct::execute_rows(connection, &sql, width, &values)?;
                }
            }
            To::Postgres { .. } => {
                for (sql, values) in changes.into_postgres_statements()? {
                    self.execute(&sql, values).await?;
                }
            }
        }
        Ok(())
    }
}
