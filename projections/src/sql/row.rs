//! Rows of answers.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Postgres, Row as _, Sqlite, TypeInfo as _, ValueRef as _};

use super::{Value, ViewError};

/// A row of an answer.
pub enum Row {
    /// Of SQLite's.
    Sqlite(SqliteRow),
    /// Of PostgreSQL's.
    Postgres(PgRow),
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self::Postgres(row)
    }
}

impl Row {
    /// Reads its columns from the first on, in order.
    #[must_use]
    pub fn columns(&self) -> Columns<'_> {
        Columns { row: self, next: 0 }
    }

    /// Every column as it is there, whatever it is.
    ///
    /// # Errors
    /// On a kind of value that no read model holds.
    pub fn values(&self) -> Result<Vec<Value>, ViewError> {
        match self {
            Self::Sqlite(row) => (0..row.len()).map(|index| sqlite_value(row, index)).collect(),
            Self::Postgres(row) => (0..row.len()).map(|index| postgres_value(row, index)).collect(),
        }
    }
}

fn of_type(name: &str) -> ViewError {
    ViewError::unreadable(format!("a column with a value of type {name}"))
}

fn sqlite_value(row: &SqliteRow, index: usize) -> Result<Value, ViewError> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    Ok(match raw.type_info().name() {
        "INTEGER" => Value::Integer(row.try_get_unchecked(index)?),
        "TEXT" => Value::Text(row.try_get_unchecked(index)?),
        "BLOB" => Value::Bytes(row.try_get_unchecked(index)?),
        other => return Err(of_type(other)),
    })
}

fn postgres_value(row: &PgRow, index: usize) -> Result<Value, ViewError> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    Ok(match raw.type_info().name() {
        "INT8" | "INT4" | "INT2" | "BOOL" => Value::Integer(row.try_get_unchecked(index)?),
        "TEXT" | "VARCHAR" | "NAME" | "JSON" => Value::Text(row.try_get_unchecked(index)?),
        "BYTEA" => Value::Bytes(row.try_get_unchecked(index)?),
        other => return Err(of_type(other)),
    })
}

/// Reads the columns of a row one after the other.
pub struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

/// What both databases' values can be read as.
trait Readable<'r>:
    sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

impl<'r, T> Readable<'r> for T where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

impl<'r> Columns<'r> {
    fn get<T: Readable<'r>>(&mut self) -> Result<T, ViewError> {
        let index = self.next;
        self.next += 1;
        Ok(match self.row {
            Row::Sqlite(row) => row.try_get_unchecked(index)?,
            Row::Postgres(row) => row.try_get_unchecked(index)?,
        })
    }

    /// A text.
    ///
    /// # Errors
    /// Each of these fails on a value of another kind.
    pub fn str(&mut self) -> Result<&'r str, ViewError> {
        self.get()
    }

    /// A text or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn str_or_null(&mut self) -> Result<Option<&'r str>, ViewError> {
        self.get()
    }

    /// An owned text.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn string(&mut self) -> Result<String, ViewError> {
        self.get()
    }

    /// A text or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn string_or_null(&mut self) -> Result<Option<String>, ViewError> {
        self.get()
    }

    /// A number.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn integer(&mut self) -> Result<i64, ViewError> {
        self.get()
    }

    /// A number or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn integer_or_null(&mut self) -> Result<Option<i64>, ViewError> {
        self.get()
    }

    /// A number that cannot be negative: a position, a count.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn count(&mut self) -> Result<u64, ViewError> {
        u64::try_from(self.integer()?).map_err(ViewError::unreadable)
    }

    /// 0 or 1.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn boolean(&mut self) -> Result<bool, ViewError> {
        Ok(self.integer()? != 0)
    }

    /// Raw bytes.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn bytes(&mut self) -> Result<Vec<u8>, ViewError> {
        self.get()
    }

    /// Raw bytes, not copied.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn slice(&mut self) -> Result<&'r [u8], ViewError> {
        self.get()
    }

    /// Raw bytes or null, not copied.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn slice_or_null(&mut self) -> Result<Option<&'r [u8]>, ViewError> {
        self.get()
    }

    /// An id, a word, a time.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn parse<T: FromStr<Err: Display>>(&mut self) -> Result<T, ViewError> {
        self.str()?.parse().map_err(ViewError::unreadable)
    }

    /// An id, a word, a time, or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn parse_or_null<T: FromStr<Err: Display>>(&mut self) -> Result<Option<T>, ViewError> {
        let text: Option<&str> = self.get()?;
        text.map(|text| text.parse().map_err(ViewError::unreadable)).transpose()
    }

    /// JSON text.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, ViewError> {
        serde_json::from_str(self.str()?).map_err(ViewError::unreadable)
    }

    /// JSON text or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn json_or_null<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ViewError> {
        let text: Option<&str> = self.get()?;
        text.map(|text| serde_json::from_str(text).map_err(ViewError::unreadable)).transpose()
    }

    /// A level: credits that cannot be negative.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn level(&mut self) -> Result<aggregates::primitives::Level, ViewError> {
        aggregates::primitives::Level::new(self.integer()?).map_err(ViewError::unreadable)
    }
}
