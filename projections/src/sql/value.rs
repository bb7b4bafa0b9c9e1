//! Values for parameters and columns.

use std::fmt::Display;

use super::ViewError;

/// A value for a parameter or a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A list of numbers, for a parameter only: see [`Connection::one_of`](super::Connection::one_of).
    Integers(Vec<Option<i64>>),
    /// A list of texts, likewise.
    Texts(Vec<Option<String>>),
    /// A list of raw bytes: only PostgreSQL's bulk upserts have them.
    Blobs(Vec<Option<Vec<u8>>>),
}

impl Value {
    /// The text of an id, a word, a time.
    pub fn text(value: impl Display) -> Self {
        Self::Text(value.to_string())
    }

    /// As [`Self::text`], or null.
    pub fn text_or_null(value: Option<impl Display>) -> Self {
        value.map_or(Self::Null, Self::text)
    }

    /// The JSON text of a value.
    ///
    /// # Errors
    /// What serde_json says.
    pub fn json(value: &impl serde::Serialize) -> Result<Self, ViewError> {
        serde_json::to_string(value).map(Self::Text).map_err(ViewError::unreadable)
    }
}

impl Value {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let beside = match self {
            Self::Null | Self::Integer(_) => 0,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Integers(list) => list.len() * size_of::<Option<i64>>(),
            Self::Texts(list) => list.iter().flatten().map(String::len).sum(),
            Self::Blobs(list) => list.iter().flatten().map(Vec::len).sum(),
        };
        size_of::<Self>() + beside
    }

    /// Puts it into a column of a bulk upsert as that column's value in this row, of so many; a column that is none yet holds
    /// nothing but nulls up to there.
    pub(super) fn add_to(self, column: &mut Option<Self>, row: usize, rows: usize) -> Result<(), ()> {
        fn begun<T>(row: usize, rows: usize) -> Vec<Option<T>> {
            let mut list = Vec::with_capacity(rows);
            list.resize_with(row, || None);
            list
        }
        match (self, &mut *column) {
            (Self::Null, None) => {}
            (Self::Null, Some(Self::Integers(list))) => list.push(None),
            (Self::Null, Some(Self::Texts(list))) => list.push(None),
            (Self::Null, Some(Self::Blobs(list))) => list.push(None),
            (Self::Integer(number), Some(Self::Integers(list))) => list.push(Some(number)),
            (Self::Text(text), Some(Self::Texts(list))) => list.push(Some(text)),
            (Self::Bytes(bytes), Some(Self::Blobs(list))) => list.push(Some(bytes)),
            (value, None) => {
                *column = Some(match value {
                    Self::Integer(_) => Self::Integers(begun(row, rows)),
                    Self::Text(_) => Self::Texts(begun(row, rows)),
                    Self::Bytes(_) => Self::Blobs(begun(row, rows)),
                    _ => return Err(()),
                });
                return value.add_to(column, row, rows);
            }
            _ => return Err(()),
        }
        Ok(())
    }

    /// A list of numbers.
    pub fn integers(numbers: impl IntoIterator<Item = impl Into<Self>>) -> Self {
        let number = |value: Self| if let Self::Integer(number) = value { Some(number) } else { None };
        Self::Integers(numbers.into_iter().map(|value| number(value.into())).collect())
    }

    /// A list of texts.
    pub fn texts(texts: impl IntoIterator<Item = impl Display>) -> Self {
        Self::Texts(texts.into_iter().map(|text| Some(text.to_string())).collect())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value {
    /// Positions and sequences stay far below 2⁶³.
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
