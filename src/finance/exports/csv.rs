//! CSV (RFC 4180, UTF-8, a line feed after each row), safe to open in a spreadsheet.
//!
//! A spreadsheet takes a cell for a formula that begins with `=`, `+`, `-` or `@`, also behind blanks and control characters.
//! A *text* that begins so gets a `'` before it, which spreadsheets take for "this is text". Numbers are never touched: `-5`
//! in a column of numbers is minus five.

use ::csv::{Terminator, Writer, WriterBuilder};

use uuid::Uuid;

use super::SheetError;
use super::cells::{Cell, Column};
use super::sheet::{Rest, Sheet};

/// A table as CSV.
#[derive(Debug)]
pub(super) struct Csv {
    writer: Writer<Vec<u8>>,
    /// A cell that is changed on the way.
    text: String,
}

fn writer() -> Writer<Vec<u8>> {
    WriterBuilder::new().terminator(Terminator::Any(b'\n')).from_writer(Vec::with_capacity(1 << 16))
}

impl Csv {
    /// Begins with the names of the columns, unless a table goes on.
    pub(super) fn begin(columns: &[Column], goes_on: bool) -> Result<Self, SheetError> {
        let mut writer = writer();
        if !goes_on {
            writer.write_record(columns.iter().map(|column| column.name)).map_err(SheetError::of)?;
        }
        Ok(Self { writer, text: String::new() })
    }
}

/// Whether a spreadsheet might take a text for a formula.
fn is_risky(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    if first.is_ascii_alphanumeric() {
        return false;
    }
    matches!(first, '\t' | '\r' | '\n')
        || text.trim_start_matches(is_passed_over).starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
}

/// What is not seen and may be left out by who reads: blanks, control characters, marks without width.
fn is_passed_over(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

impl Sheet for Csv {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError> {
        for cell in cells {
            match cell {
                Cell::Nothing => self.writer.write_field(b""),
                Cell::Integer(number) => self.writer.write_field(itoa::Buffer::new().format(*number)),
                Cell::Time(text) => self.writer.write_field(text),
                Cell::Id(id) => self.writer.write_field(id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer())),
                Cell::Text(text) if is_risky(text) => {
                    self.text.clear();
                    self.text.push('\'');
                    self.text.push_str(text);
                    self.writer.write_field(&self.text)
                }
                Cell::Text(text) => self.writer.write_field(text),
                Cell::Money(amount) => self.writer.write_field(amount.to_string()),
            }
            .map_err(SheetError::of)?;
        }
        self.writer.write_record(None::<&[u8]>).map_err(SheetError::of)
    }

    fn ready(&mut self) -> Result<Vec<u8>, SheetError> {
        std::mem::replace(&mut self.writer, writer()).into_inner().map_err(SheetError::of)
    }

    fn end(mut self: Box<Self>) -> Result<Rest, SheetError> {
        Ok(Rest::Bytes(self.ready()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cells: &[Cell<'_>]) -> String {
        let mut csv = Csv::begin(&[Column::text("a"), Column::integer("b")], true).expect("a table");
        csv.row(cells).expect("a row");
        String::from_utf8(csv.ready().expect("bytes")).expect("a text")
    }

    #[test]
    fn what_would_run_in_a_spreadsheet_stays_text_and_numbers_stay_numbers() {
        for formula in [
            "=HYPERLINK(\"x\")",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            " =1",
            "\u{a0}=1",
            "\u{feff} =1",
            "＝1",
        ] {
            let text = written(&[Cell::Text(formula), Cell::Integer(-5)]);
            let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
            let record = reader.records().next().expect("a row").expect("a row");
            let guarded = record.get(0).expect("a cell");
            assert_eq!(guarded.strip_prefix('\''), Some(formula), "{text}");
            assert_eq!(record.get(1), Some("-5"));
        }
        assert_eq!(
            written(&[Cell::Text("Müller & Co"), Cell::Integer(i64::MIN)]),
            "Müller & Co,-9223372036854775808\n"
        );
        assert_eq!(written(&[Cell::Money("-3.00".parse().expect("a number")), Cell::Nothing]), "-3.00,\n");
    }

    #[test]
    fn what_holds_commas_quotes_and_lines_is_one_cell() {
        assert_eq!(written(&[Cell::Text("a,\"b\"\nc"), Cell::Nothing]), "\"a,\"\"b\"\"\nc\",\n");
    }
}
