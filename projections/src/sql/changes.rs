//! Rows to be written, table by table, as bulk upserts.
//!
//! The projector hands SQLite row after row by one statement: of a statement with many rows that may update SQLite first copies
//! every page that it changes, to be able to take the statement back, which was an eighth of the projector's time. A rebuild, whose
//! rows are all new, and another thread take them as `values (…), (…)`, with few different row counts, so that each text is
//! prepared once. PostgreSQL takes
//! columns as arrays, any number of rows by one text: a column that holds nothing but nulls stands in the text as `null`, since
//! an array of nothing has no type.

use std::sync::Arc;

use super::{Value, ViewError};

/// What an upsert does to a column of a row that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Part of the primary key.
    Key,
    /// The new value takes the old one's place.
    Replace,
    /// The new value is added to the old one.
    Add,
    /// The old value stays.
    Keep,
}

/// A table as a bulk upsert must know it.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, and what becomes of each.
    pub columns: &'static [(&'static str, Merge)],
}

impl Table {
    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// What becomes of a row that is already there.
    fn on_conflict(&self, prefix: &str) -> String {
        let keys: Vec<&str> =
            self.columns.iter().filter(|(_, merge)| *merge == Merge::Key).map(|(name, _)| *name).collect();
        let sets: Vec<String> = self
            .columns
            .iter()
            .filter_map(|(name, merge)| match merge {
                Merge::Key | Merge::Keep => None,
                Merge::Replace => Some(format!("{name} = excluded.{name}")),
                Merge::Add => Some(format!("{name} = {prefix}{table}.{name} + excluded.{name}", table = self.name)),
            })
            .collect();
        let action = if sets.is_empty() { "nothing".to_owned() } else { format!("update set {}", sets.join(", ")) };
        format!("on conflict ({}) do {action}", keys.join(", "))
    }

    /// Into the table of this name behind the prefix, as SQLite takes it: anonymous parameters, since it finds named ones by a
    /// linear search.
    fn sqlite_upsert(&self, prefix: &str, rows: usize) -> String {
        format!(
            "insert or rollback into {prefix}{} ({}) values {} {}",
            self.name,
            self.names(),
            sqlite_rows(self.columns.len(), rows),
            self.on_conflict(prefix),
        )
    }

    /// As PostgreSQL takes it: a parameter for each column that holds something.
    fn postgres_upsert(&self, columns: &[Option<Value>]) -> String {
        let mut parameters = 0;
        let mut selected = Vec::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            selected.push(if column.is_some() { format!("c{index}") } else { "null".to_owned() });
            parameters += usize::from(column.is_some());
        }
        let arrays: Vec<String> = (1..=parameters).map(|number| format!("${number}")).collect();
        let given: Vec<&str> = selected.iter().map(String::as_str).filter(|column| *column != "null").collect();
        format!(
            "insert into {} ({}) select {} from unnest({}) as given({}) {}",
            self.name,
            self.names(),
            selected.join(", "),
            arrays.join(", "),
            given.join(", "),
            self.on_conflict(""),
        )
    }
}

/// Rows to be written, by table; kept flat, column after column.
#[derive(Debug, Default)]
pub struct Changes {
    tables: Vec<(&'static Table, Vec<Value>)>,
    /// Whole rows for tables of SQLite's that have none with their keys: by name, with how many columns there are.
    whole: Vec<(&'static str, usize, Vec<Value>)>,
}

impl Changes {
    /// Adds one row, with a value for each column of the table in order. No key may come twice.
    pub fn put<const COLUMNS: usize>(&mut self, table: &'static Table, row: [Value; COLUMNS]) {
        debug_assert_eq!(COLUMNS, table.columns.len(), "{}", table.name);
        match self.tables.iter_mut().find(|(known, _)| std::ptr::eq(*known, table)) {
            Some((_, values)) => values.extend(row),
            None => self.tables.push((table, row.into())),
        }
    }

    /// Whole rows for a table of SQLite's that has none with their keys: every column that there is, in the table's own order. A
    /// [`Table`] may know only some of them.
    pub(crate) fn whole(table: &'static str, width: usize, rows: Vec<Value>) -> Self {
        Self { whole: vec![(table, width, rows)], ..Self::default() }
    }

    /// Takes out all rows of these tables.
    pub(crate) fn take(&mut self, tables: &[&'static Table]) -> Self {
        let is_one = |table: &&'static Table| tables.iter().any(|one| std::ptr::eq(*one, *table));
        let (taken, left) = std::mem::take(&mut self.tables).into_iter().partition(|(table, _)| is_one(table));
        self.tables = left;
        Self { tables: taken, ..Self::default() }
    }

    /// Each table with its rows, column after column.
    pub(crate) fn into_tables(self) -> Vec<(&'static Table, Vec<Value>)> {
        debug_assert!(self.whole.is_empty(), "whole rows are SQLite's alone");
        self.tables
    }

    /// For each table the statement that writes one row, how many columns that has, and all rows, column after column.
    pub(super) fn into_sqlite_rows(self, prefix: &str) -> impl Iterator<Item = (String, usize, Vec<Value>)> {
        let upserts = self
            .tables
            .into_iter()
            .map(move |(table, values)| (table.sqlite_upsert(prefix, 1), table.columns.len(), values));
        let inserts = self.whole.into_iter().map(move |(table, width, values)| {
            (format!("insert or rollback into {prefix}{table} values {}", sqlite_rows(width, 1)), width, values)
        });
        upserts.chain(inserts)
    }

    /// The bulk upserts that write these rows, each table with as few as its rows fit into.
    pub(super) fn into_sqlite_statements(self, prefix: &'static str) -> impl Iterator<Item = (Arc<str>, Vec<Value>)> {
        let upserts = self.tables.into_iter().flat_map(move |(table, values)| {
            sqlite_statements(table.columns.len(), values, move |rows| table.sqlite_upsert(prefix, rows))
        });
        let inserts = self.whole.into_iter().flat_map(move |(table, width, values)| {
            let insert = format!("insert or rollback into {prefix}{table} values ");
            sqlite_statements(width, values, move |rows| format!("{insert}{}", sqlite_rows(width, rows)))
        });
        upserts.chain(inserts)
    }

    /// The same for PostgreSQL: the text, and a list for each of its parameters.
    ///
    /// # Errors
    /// Where a column holds values of several kinds.
    pub(super) fn into_postgres_statements(self) -> Result<Vec<(String, Vec<Value>)>, ViewError> {
        debug_assert!(self.whole.is_empty(), "whole rows are SQLite's alone");
        let mut statements = Vec::new();
        for (table, values) in self.tables {
            let width = table.columns.len();
            let mut values = values.into_iter();
            while values.len() > 0 {
                let rows = (values.len() / width).min(POSTGRES_ROWS);
                let mut columns: Vec<Option<Value>> = vec![None; width];
                for row in 0..rows {
                    for column in &mut columns {
                        if let Some(value) = values.next() {
                            value.add_to(column, row, rows).map_err(|()| mixed(table))?;
                        }
                    }
                }
                let text = table.postgres_upsert(&columns);
                statements.push((text, columns.into_iter().flatten().collect()));
            }
        }
        Ok(statements)
    }
}

/// How many rows go into one of SQLite's bulk upserts, largest first; few sizes, so that each text is prepared once.
const SQLITE_ROWS: [usize; 4] = [128, 32, 8, 1];
/// How many rows go into one of PostgreSQL's at most: one message each.
const POSTGRES_ROWS: usize = 8_192;

/// The parameters of so many rows.
fn sqlite_rows(width: usize, rows: usize) -> String {
    vec![format!("({})", vec!["?"; width].join(",")); rows].join(",")
}

/// These values, column after column, with as few texts as they fit into.
fn sqlite_statements(
    width: usize,
    values: Vec<Value>,
    text_of: impl Fn(usize) -> String,
) -> impl Iterator<Item = (Arc<str>, Vec<Value>)> {
    let mut values = values.into_iter();
    let mut text: Option<(usize, Arc<str>)> = None;
    std::iter::from_fn(move || {
        let left = values.len() / width;
        let rows = SQLITE_ROWS.into_iter().find(|rows| *rows <= left)?;
        let text = match &mut text {
            Some((known, text)) if *known == rows => Arc::clone(text),
            other => Arc::clone(&other.insert((rows, text_of(rows).into())).1),
        };
        Some((text, values.by_ref().take(rows * width).collect()))
    })
}

fn mixed(table: &Table) -> ViewError {
    ViewError::unreadable(format!("a column of {} with values of several kinds", table.name))
}
