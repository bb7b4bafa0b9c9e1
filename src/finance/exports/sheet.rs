//! A sheet: a table that is written row by row in one form or another, and goes out piece by piece.

use std::fs::File;

use aggregates::primitives::Timestamp;

use super::cells::{Cell, Column};
use super::{Format, Order, SheetError, csv, jsonl, parquet, xlsx};

/// What a sheet has left when the last row is in it.
pub(super) enum Rest {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file, to be read from its beginning.
    File(File),
}

/// A table in one form or another.
pub(super) trait Sheet: Send {
    /// Adds a row, with a cell for each column.
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError>;
    /// Takes what can go out already.
    fn ready(&mut self) -> Result<Vec<u8>, SheetError>;
    /// Ends the table.
    fn end(self: Box<Self>) -> Result<Rest, SheetError>;
}

/// A table in the form that is ordered.
pub(super) fn sheet(
    order: &Order,
    form: Format,
    columns: &'static [Column],
    as_of: Timestamp,
) -> Result<Box<dyn Sheet>, SheetError> {
    Ok(match form {
        Format::JsonLines => Box::new(jsonl::JsonLines::begin(columns)),
        Format::Xlsx => Box::new(xlsx::Xlsx::begin(order.kind.word(), columns, as_of)?),
        Format::Parquet => Box::new(parquet::Parquet::begin(order.kind.word(), columns)?),
        // What is no table never comes here.
        Format::Csv | Format::Hledger | Format::Beancount | Format::Html => {
            Box::new(csv::Csv::begin(columns, order.cursor.is_some())?)
        }
    })
}
