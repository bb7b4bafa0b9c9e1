//! What a table is made of, whatever it is written as: columns with a kind, rows of cells.

use rust_decimal::Decimal;
use uuid::Uuid;

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    /// A whole number of 64 bits: credits, positions.
    Integer,
    /// Text: ids, words, what people wrote.
    Text,
    /// An instant in UTC with microseconds.
    Time,
    /// A decimal number with two decimals.
    Money,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name: the API's own word.
    pub(super) name: &'static str,
    /// What stands in it.
    pub(super) kind: ColumnKind,
}

impl Column {
    /// Of whole numbers.
    #[must_use]
    pub(super) const fn integer(name: &'static str) -> Self {
        Self { name, kind: ColumnKind::Integer }
    }

    /// Of texts.
    #[must_use]
    pub(super) const fn text(name: &'static str) -> Self {
        Self { name, kind: ColumnKind::Text }
    }

    /// Of instants.
    #[must_use]
    pub(super) const fn time(name: &'static str) -> Self {
        Self { name, kind: ColumnKind::Time }
    }

    /// Of money.
    #[must_use]
    pub(super) const fn money(name: &'static str) -> Self {
        Self { name, kind: ColumnKind::Money }
    }
}

/// What stands in one column of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'a> {
    /// Nothing.
    Nothing,
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(&'a str),
    /// An id, a text of 36 characters.
    Id(Uuid),
    /// An instant as the log writes it: RFC 3339 with six decimals and `Z`.
    Time(&'a str),
    /// Money, with two decimals.
    Money(Decimal),
}

impl<'a> Cell<'a> {
    /// A text, or nothing where it is empty.
    #[must_use]
    pub(super) fn text(text: &'a str) -> Self {
        if text.is_empty() { Self::Nothing } else { Self::Text(text) }
    }

    /// A position or a number; these stay far below 2⁶³.
    #[must_use]
    pub(super) fn count(count: u64) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }
}
