//! Parquet, typed: whole numbers as int64, times as microseconds UTC, money as decimals, texts as UTF-8; Snappy-compressed.
//! Memory: the rows of one group, column by column.

use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use aggregates::primitives::Timestamp;
use bytes::Bytes;
use rust_decimal::prelude::ToPrimitive;
use uuid::Uuid;

use super::SheetError;
use super::cells::{Cell, Column, ColumnKind};
use super::sheet::{Rest, Sheet};

/// How many rows a group has.
const GROUP_ROWS: usize = 50_000;

/// One column of the group in hand. What is there is in `present` as 1, what is not as 0.
#[derive(Debug)]
enum Values {
    Integers(Vec<i64>),
    /// All texts, and where each ends.
    Texts(Vec<u8>, Vec<usize>),
}

#[derive(Debug)]
struct Held {
    values: Values,
    present: Vec<i16>,
}

/// A table as Parquet.
pub(super) struct Parquet {
    writer: SerializedFileWriter<Vec<u8>>,
    columns: Vec<Held>,
    rows: usize,
}

impl Parquet {
    pub(super) fn begin(name: &str, columns: &[Column]) -> Result<Self, SheetError> {
        let fields: Vec<String> = columns
            .iter()
            .map(|column| {
                let name = column.name;
                match column.kind {
                    ColumnKind::Integer => format!("optional int64 {name};"),
                    ColumnKind::Time => format!("optional int64 {name} (TIMESTAMP(MICROS,true));"),
                    ColumnKind::Money => format!("optional int64 {name} (DECIMAL(18,2));"),
                    ColumnKind::Text => format!("optional byte_array {name} (UTF8);"),
                }
            })
            .collect();
        let schema =
            parse_message_type(&format!("message {name} {{ {} }}", fields.join(" "))).map_err(SheetError::of)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer =
            SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).map_err(SheetError::of)?;
        let columns = columns.iter().map(|column| Held {
            values: match column.kind {
                ColumnKind::Text => Values::Texts(Vec::new(), Vec::new()),
                _ => Values::Integers(Vec::new()),
            },
            present: Vec::with_capacity(GROUP_ROWS),
        });
        Ok(Self { writer, columns: columns.collect(), rows: 0 })
    }

    /// Writes the group in hand.
    fn group(&mut self) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        let mut columns = self.columns.iter_mut();
        while let Some(mut written) = group.next_column()? {
            let Some(held) = columns.next() else { break };
            match &mut held.values {
                Values::Integers(values) => {
                    written.typed::<Int64Type>().write_batch(values, Some(&held.present), None)?;
                    values.clear();
                }
                Values::Texts(text, ends) => {
                    let text = Bytes::from(std::mem::take(text));
                    let mut start = 0;
                    let values: Vec<ByteArray> = ends
                        .drain(..)
                        .map(|end| ByteArray::from(text.slice(std::mem::replace(&mut start, end)..end)))
                        .collect();
                    written.typed::<ByteArrayType>().write_batch(&values, Some(&held.present), None)?;
                }
            }
            held.present.clear();
            written.close()?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl Held {
    fn take(&mut self, cell: &Cell<'_>) -> Result<(), SheetError> {
        let mut buffer = Uuid::encode_buffer();
        let text: Option<&str> = match cell {
            Cell::Text(text) => Some(text),
            Cell::Id(id) => Some(id.as_hyphenated().encode_lower(&mut buffer)),
            _ => None,
        };
        let number = match cell {
            Cell::Integer(number) => Some(*number),
            Cell::Time(text) => Some(text.parse::<Timestamp>().map_err(SheetError::of)?.micros()),
            Cell::Money(amount) => {
                let mut cents = *amount;
                cents.rescale(2);
                Some(cents.mantissa().to_i64().ok_or_else(|| SheetError::of(format!("{amount} has too many digits")))?)
            }
            _ => None,
        };
        match (&mut self.values, text, number) {
            (_, None, None) => {
                self.present.push(0);
                return Ok(());
            }
            (Values::Texts(texts, ends), Some(text), _) => {
                texts.extend_from_slice(text.as_bytes());
                ends.push(texts.len());
            }
            (Values::Integers(values), _, Some(number)) => values.push(number),
            _ => return Err(SheetError::of("a value of another kind than its column")),
        }
        self.present.push(1);
        Ok(())
    }
}

impl Sheet for Parquet {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.take(cell)?;
        }
        self.rows += 1;
        if self.rows >= GROUP_ROWS {
            self.group().map_err(SheetError::of)?;
        }
        Ok(())
    }

    fn ready(&mut self) -> Result<Vec<u8>, SheetError> {
        self.writer.flush().map_err(SheetError::of)?;
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    fn end(mut self: Box<Self>) -> Result<Rest, SheetError> {
        self.group().map_err(SheetError::of)?;
        Ok(Rest::Bytes(self.writer.into_inner().map_err(SheetError::of)?))
    }
}
