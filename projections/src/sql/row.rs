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
    /// Of SQLite's, read in one's own thread.
    Direct(Vec<Value>),
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

    /// As [`Self::values`], where the row is needed for nothing else.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub(crate) fn into_values(self) -> Result<Vec<Value>, ViewError> {
        if let Self::Direct(values) = self { Ok(values) } else { self.values() }
    }

    /// Every column as it is there, whatever it is.
    ///
    /// # Errors
    /// On a kind of value that no read model holds.
    pub fn values(&self) -> Result<Vec<Value>, ViewError> {
        match self {
            Self::Sqlite(row) => (0..row.len()).map(|index| sqlite_value(row, index)).collect(),
            Self::Direct(values) => Ok(values.clone()),
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
    Held<'r> + sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

impl<'r, T> Readable<'r> for T where
    T: Held<'r> + sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

/// What a value that is held can be read as; `None` where it is of another kind.
trait Held<'r>: Sized {
    fn of(value: &'r Value) -> Option<Self>;
}

impl Held<'_> for i64 {
    fn of(value: &Value) -> Option<Self> {
        if let Value::Integer(number) = value { Some(*number) } else { None }
    }
}

impl<'r> Held<'r> for &'r str {
    fn of(value: &'r Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text) } else { None }
    }
}

impl<'r> Held<'r> for &'r [u8] {
    fn of(value: &'r Value) -> Option<Self> {
        if let Value::Bytes(bytes) = value { Some(bytes) } else { None }
    }
}

impl Held<'_> for String {
    fn of(value: &Value) -> Option<Self> {
        <&str>::of(value).map(str::to_owned)
    }
}

impl Held<'_> for Vec<u8> {
    fn of(value: &Value) -> Option<Self> {
        <&[u8]>::of(value).map(<[u8]>::to_vec)
    }
}

impl<'r, T: Held<'r>> Held<'r> for Option<T> {
    fn of(value: &'r Value) -> Option<Self> {
        if *value == Value::Null { Some(None) } else { T::of(value).map(Some) }
    }
}

impl<'r> Columns<'r> {
    fn get<T: Readable<'r>>(&mut self) -> Result<T, ViewError> {
        let index = self.next;
        self.next += 1;
        Ok(match self.row {
            Row::Sqlite(row) => row.try_get_unchecked(index)?,
            Row::Direct(values) => {
                let value = values.get(index).and_then(T::of);
                value.ok_or_else(|| ViewError::unreadable(format!("column {index} holds a value of another kind")))?
            }
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

    /// The same, or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn count_or_null(&mut self) -> Result<Option<u64>, ViewError> {
        self.integer_or_null()?.map(u64::try_from).transpose().map_err(ViewError::unreadable)
    }

    /// The two columns of [`exact_sum`].
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn exact_sum(&mut self) -> Result<i128, ViewError> {
        let (parts, rest) = (self.integer()?, self.integer()?);
        Ok(i128::from(parts) * i128::from(SUM_PART) + i128::from(rest))
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

/// What sums are divided by where they are taken in two parts.
const SUM_PART: i64 = 1 << 20;

/// Two columns for [`Columns::exact_sum`]: the sum of a column of credits, which may pass the 64 bits of a database's integer
/// (turnover has no bound). Neither part does before 2³⁰ lines.
#[must_use]
pub fn exact_sum(column: &str) -> String {
    format!("cast(sum({column} / {SUM_PART}) as bigint), cast(sum({column} % {SUM_PART}) as bigint)")
}

/// A sum as credits; at the end of 64 bits where it lies beyond.
#[must_use]
pub fn saturated(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}
