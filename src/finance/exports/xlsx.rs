//! XLSX, for Excel and its like. Needs the whole table before the first byte can go out, so rows lie in a temporary file until
//! then; memory is that of one row.
//!
//! What the format cannot hold is told here, not lost:
//! - A sheet ends at 1 048 576 rows; the table goes on in another sheet.
//! - Its numbers are floats: a whole number beyond ±2⁵³ (no wallet can hold so much) is written as text, to the digit.
//! - Its times are floats too, exact to the millisecond; which event came first is said by `position`.
//!
//! Texts are cells of text: no formula runs, whatever they begin with.

use std::fs::File;
use std::io::{Seek, SeekFrom};

use aggregates::primitives::Timestamp;
use rust_decimal::prelude::ToPrimitive;
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};
use uuid::Uuid;

use super::SheetError;
use super::cells::{Cell, Column, ColumnKind};
use super::sheet::{Rest, Sheet};

/// The most rows of a sheet, its head included.
const ROWS_MAX: u32 = 1_048_576;
/// The largest whole number that a float holds exactly, with all below it.
const EXACT_MAX: i64 = 1 << 53;
/// The day that Excel counts as 25 569 is the first of 1970.
const EPOCH_DAY: f64 = 25_569.0;

/// A table as a workbook.
pub(super) struct Xlsx {
    workbook: Workbook,
    name: &'static str,
    columns: &'static [Column],
    rows_max: u32,
    /// How many sheets there are, and how many rows the last one has.
    sheets: usize,
    rows: u32,
    head: Format,
    time: Format,
    money: Format,
}

impl Xlsx {
    pub(super) fn begin(name: &'static str, columns: &'static [Column], as_of: Timestamp) -> Result<Self, SheetError> {
        Self::with_rows(name, columns, as_of, ROWS_MAX)
    }

    fn with_rows(
        name: &'static str,
        columns: &'static [Column],
        as_of: Timestamp,
        rows_max: u32,
    ) -> Result<Self, SheetError> {
        let mut workbook = Workbook::new();
        // The time of what is in it, not of its making: the same table has the same bytes.
        let created =
            ExcelDateTime::from_timestamp(as_of.micros().div_euclid(1_000_000).max(0)).map_err(SheetError::of)?;
        workbook.set_properties(&DocProperties::new().set_creation_datetime(&created));
        let mut xlsx = Self {
            workbook,
            name,
            columns,
            rows_max,
            sheets: 0,
            rows: 0,
            head: Format::new().set_bold(),
            time: Format::new().set_num_format("yyyy-mm-dd hh:mm:ss.000"),
            money: Format::new().set_num_format("0.00"),
        };
        xlsx.add_sheet().map_err(SheetError::of)?;
        Ok(xlsx)
    }

    fn add_sheet(&mut self) -> Result<(), XlsxError> {
        self.sheets += 1;
        let name = if self.sheets == 1 { self.name.to_owned() } else { format!("{} {}", self.name, self.sheets) };
        let sheet = self.workbook.add_worksheet_with_constant_memory()?;
        sheet.set_name(name)?.set_freeze_panes(1, 0)?;
        for (index, column) in (0..).zip(self.columns) {
            let width = match column.kind {
                ColumnKind::Time => 23.0,
                ColumnKind::Text => 38.0,
                ColumnKind::Integer | ColumnKind::Money => 14.0,
            };
            sheet.set_column_width(index, width)?;
            sheet.write_string_with_format(0, index, column.name, &self.head)?;
        }
        self.rows = 1;
        Ok(())
    }

    fn write(&mut self, cells: &[Cell<'_>]) -> Result<(), XlsxError> {
        if self.rows >= self.rows_max {
            self.add_sheet()?;
        }
        let sheet = self.workbook.worksheet_from_index(self.sheets - 1)?;
        for (column, cell) in (0..).zip(cells) {
            write_cell(sheet, self.rows, column, cell, &self.time, &self.money)?;
        }
        self.rows += 1;
        Ok(())
    }
}

fn write_cell(
    sheet: &mut Worksheet,
    row: u32,
    column: u16,
    cell: &Cell<'_>,
    time: &Format,
    money: &Format,
) -> Result<(), XlsxError> {
    match cell {
        Cell::Nothing => return Ok(()),
        Cell::Integer(number) if number.unsigned_abs() <= EXACT_MAX.unsigned_abs() => {
            #[allow(clippy::cast_precision_loss)] // exact, by the guard
            sheet.write_number(row, column, *number as f64)?
        }
        Cell::Integer(number) => sheet.write_string(row, column, number.to_string())?,
        Cell::Text(text) => sheet.write_string(row, column, *text)?,
        Cell::Id(id) => {
            sheet.write_string(row, column, &*id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()))?
        }
        Cell::Time(text) => match text.parse::<Timestamp>() {
            Ok(instant) => sheet.write_number_with_format(row, column, day_of(instant), time)?,
            Err(_) => sheet.write_string(row, column, *text)?,
        },
        Cell::Money(amount) => match amount.to_f64().filter(|_| amount.mantissa().unsigned_abs() <= 1 << 53) {
            Some(number) => sheet.write_number_with_format(row, column, number, money)?,
            None => sheet.write_string(row, column, amount.to_string())?,
        },
    };
    Ok(())
}

/// An instant as Excel counts: in days, rounded to the millisecond.
fn day_of(instant: Timestamp) -> f64 {
    #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 stay below 2⁵³
    let milliseconds = ((instant.micros() + 500).div_euclid(1000)) as f64;
    milliseconds / 86_400_000.0 + EPOCH_DAY
}

impl Sheet for Xlsx {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError> {
        self.write(cells).map_err(SheetError::of)
    }

    fn ready(&mut self) -> Result<Vec<u8>, SheetError> {
        Ok(Vec::new())
    }

    fn end(mut self: Box<Self>) -> Result<Rest, SheetError> {
        let mut file: File = tempfile::tempfile().map_err(SheetError::of)?;
        self.workbook.save_to_writer(&mut file).map_err(SheetError::of)?;
        file.seek(SeekFrom::Start(0)).map_err(SheetError::of)?;
        Ok(Rest::File(file))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const COLUMNS: &[Column] = &[Column::text("a"), Column::integer("b")];

    fn bytes(rows: i64, rows_max: u32) -> Vec<u8> {
        let as_of = "2033-01-01T06:00:00Z".parse().expect("a time");
        let mut xlsx = Box::new(Xlsx::with_rows("table", COLUMNS, as_of, rows_max).expect("a workbook"));
        for row in 0..rows {
            xlsx.row(&[Cell::Text("=1+1"), Cell::Integer(i64::MAX - row)]).expect("a row");
        }
        let Ok(Rest::File(mut file)) = xlsx.end() else { panic!("a file") };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("bytes");
        bytes
    }

    #[test]
    fn the_same_table_has_the_same_bytes() {
        assert_eq!(bytes(3, ROWS_MAX), bytes(3, ROWS_MAX));
        assert_ne!(bytes(3, ROWS_MAX), bytes(4, ROWS_MAX));
    }

    #[test]
    fn a_table_that_is_too_long_for_a_sheet_goes_on_in_another() {
        let names = |bytes: &[u8]| {
            (1..5)
                .filter(|sheet| {
                    let name = format!("xl/worksheets/sheet{sheet}.xml");
                    bytes.windows(name.len()).any(|window| window == name.as_bytes())
                })
                .count()
        };
        assert_eq!(names(&bytes(4, 5)), 1);
        assert_eq!(names(&bytes(5, 5)), 2);
        assert_eq!(names(&bytes(9, 5)), 3);
    }

    #[test]
    fn days_are_counted_as_excel_does() {
        let day = |text: &str| day_of(text.parse().expect("a time"));
        assert_eq!(day("1970-01-01T00:00:00Z"), 25_569.0);
        assert_eq!(day("2000-01-01T12:00:00Z"), 36_526.5);
    }
}
