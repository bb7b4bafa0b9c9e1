//! JSON, one object a line: numbers as integers, money as decimal strings, what is not there as null.

use std::io::Write;

use super::SheetError;
use super::cells::{Cell, Column};
use super::sheet::{Rest, Sheet};

/// A table as JSON lines.
#[derive(Debug)]
pub(super) struct JsonLines {
    /// What stands before each value.
    names: Vec<String>,
    bytes: Vec<u8>,
}

impl JsonLines {
    pub(super) fn begin(columns: &[Column]) -> Self {
        let names = columns.iter().enumerate().map(|(index, column)| {
            let before = if index == 0 { '{' } else { ',' };
            format!("{before}\"{}\":", column.name)
        });
        Self { names: names.collect(), bytes: Vec::with_capacity(1 << 16) }
    }
}

impl Sheet for JsonLines {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError> {
        for (name, cell) in self.names.iter().zip(cells) {
            self.bytes.extend_from_slice(name.as_bytes());
            match cell {
                Cell::Nothing => self.bytes.extend_from_slice(b"null"),
                Cell::Integer(number) => self.bytes.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
                Cell::Text(text) | Cell::Time(text) => {
                    serde_json::to_writer(&mut self.bytes, text).map_err(SheetError::of)?;
                }
                Cell::Id(id) => write!(self.bytes, "\"{}\"", id.as_hyphenated()).map_err(SheetError::of)?,
                Cell::Money(amount) => write!(self.bytes, "\"{amount}\"").map_err(SheetError::of)?,
            }
        }
        self.bytes.extend_from_slice(b"}\n");
        Ok(())
    }

    fn ready(&mut self) -> Result<Vec<u8>, SheetError> {
        Ok(std::mem::replace(&mut self.bytes, Vec::with_capacity(1 << 16)))
    }

    fn end(self: Box<Self>) -> Result<Rest, SheetError> {
        Ok(Rest::Bytes(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_object_with_every_column() {
        let columns = [Column::text("a"), Column::integer("b"), Column::money("c"), Column::time("d")];
        let mut lines = JsonLines::begin(&columns);
        let money = Cell::Money("12.50".parse().expect("a number"));
        lines.row(&[Cell::Text("\"=1\"\u{1}"), Cell::Integer(-7), money, Cell::Nothing]).expect("a row");
        let text = String::from_utf8(lines.ready().expect("bytes")).expect("a text");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value, serde_json::json!({"a": "\"=1\"\u{1}", "b": -7, "c": "12.50", "d": null}));
        assert!(text.ends_with("}\n"));
    }
}
