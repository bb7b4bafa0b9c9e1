//! A table as the log folds to it, against the one that is there.
//!
//! Where both are in reach of one SQLite connection, a join by primary key inside of the database counts first, so that a row
//! that is as it should be is handed to nobody. Otherwise, and where something is wrong, both are read in the order of their
//! keys, which is the same in both databases: numbers by size, texts and bytes by their bytes.

use std::cmp::Ordering;

use rusqlite::types::ValueRef;
use sqlx::PgConnection;
use tokio::runtime::Runtime;

use super::digest::{Digests, Sum};
use super::{Compared, Difference};
use crate::sql::{Connection, Table, Value, ViewError};

/// How many rows are fetched from a server at once.
const ROWS: usize = 2_048;

/// Where the read models are that are compared.
#[derive(Debug)]
pub(super) enum Live {
    /// Attached as `views` to the database that is folded into.
    Attached,
    /// In a transaction of a server.
    Server(Box<PgConnection>),
    /// In a server that has not been asked yet.
    NotYet,
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A table's name and columns, those of its key first and in the key's order; and how many those are.
struct Shape<'t> {
    table: &'t str,
    names: Vec<String>,
    keys: usize,
}

impl<'t> Shape<'t> {
    fn of(table: &'t str, folded: &rusqlite::Connection) -> Result<Self, ViewError> {
        let sql = "select name, pk from pragma_table_info(?1, 'main') order by pk = 0, pk, cid";
        let mut statement = folded.prepare_cached(sql)?;
        let mut rows = statement.query([table])?;
        let (mut names, mut keys) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            names.push(row.get(0)?);
            keys += usize::from(row.get::<_, i64>(1)? > 0);
        }
        Ok(Self { table, names, keys })
    }

    /// Reads all of it, in the order of its key.
    fn rows(&self, schema: &str) -> String {
        let (names, key) = (self.names.join(", "), self.names[..self.keys].join(", "));
        format!("select {names} from {schema}.{} order by {key}", self.table)
    }

    /// Tells of a row that is not on both sides, or not the same.
    fn difference(&self, expected: Option<&[Value]>, found: Option<&[Value]>) -> Difference {
        let named = |columns: &[usize], row: &[Value]| {
            let pairs =
                columns.iter().filter_map(|at| Some(format!("{} {}", self.names.get(*at)?, told(row.get(*at)?))));
            pairs.collect::<Vec<_>>().join(", ")
        };
        let key: Vec<usize> = (0..self.keys).collect();
        let all = 0..self.names.len();
        let unlike: Vec<usize> = match (expected, found) {
            (Some(expected), Some(found)) => all.filter(|at| expected.get(*at) != found.get(*at)).collect(),
            _ => (self.keys..self.names.len()).collect(),
        };
        let side = |row: Option<&[Value]>| row.map_or_else(|| "no such row".to_owned(), |row| named(&unlike, row));
        Difference {
            what: format!("{}, {}", self.table, named(&key, expected.or(found).unwrap_or_default())),
            expected: side(expected),
            found: side(found),
        }
    }
}

/// The order of what keys are made of.
fn order(left: &[Value], right: &[Value]) -> Ordering {
    let class = |value: &Value| match value {
        Value::Null => 0,
        Value::Integer(_) => 1,
        Value::Text(_) => 2,
        Value::Bytes(_) => 3,
        // No column holds a list.
        Value::Integers(_) | Value::Texts(_) | Value::Blobs(_) => 4,
    };
    left.iter()
        .zip(right)
        .map(|(left, right)| match (left, right) {
            (Value::Integer(left), Value::Integer(right)) => left.cmp(right),
            (Value::Text(left), Value::Text(right)) => left.cmp(right),
            (Value::Bytes(left), Value::Bytes(right)) => left.cmp(right),
            _ => class(left).cmp(&class(right)),
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn told(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => format!("'{text}'"),
        Value::Bytes(bytes) => format!("x'{}'", hexadecimal(bytes)),
        Value::Integers(_) | Value::Texts(_) | Value::Blobs(_) => format!("{value:?}"),
    }
}

/// The rows of one side, one after the other.
trait Rows {
    fn next(&mut self) -> Result<Option<Vec<Value>>, ViewError>;
}

/// Of SQLite's.
struct Direct<'s>(rusqlite::Rows<'s>, usize);

impl Rows for Direct<'_> {
    fn next(&mut self) -> Result<Option<Vec<Value>>, ViewError> {
        let Some(row) = self.0.next()? else { return Ok(None) };
        let mut values = Vec::with_capacity(self.1);
        for column in 0..self.1 {
            values.push(match row.get_ref(column)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => Value::Integer(number),
                // Bytes that are no text, and are said to be one, are like nothing that was folded.
                ValueRef::Text(text) => Value::Text(match std::str::from_utf8(text) {
                    Ok(text) => text.to_owned(),
                    Err(_) => format!("a text that is none: x'{}'", hexadecimal(text)),
                }),
                ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
                ValueRef::Real(number) => Value::Text(format!("the fraction {number}")),
            });
        }
        Ok(Some(values))
    }
}

/// Of a server's, some at a time.
struct Fetched<'s> {
    connection: Connection<'s>,
    runtime: &'s Runtime,
    waiting: std::vec::IntoIter<Vec<Value>>,
}

impl<'s> Fetched<'s> {
    fn begin(sql: &str, connection: &'s mut PgConnection, runtime: &'s Runtime) -> Result<Self, ViewError> {
        let mut connection = Connection::postgres(connection, false);
        let declare = format!("declare compared no scroll cursor for {sql}");
        runtime.block_on(connection.execute(&declare, Vec::new()))?;
        Ok(Self { connection, runtime, waiting: Vec::new().into_iter() })
    }

    fn end(mut self) -> Result<(), ViewError> {
        self.runtime.block_on(self.connection.execute("close compared", Vec::new())).map(|_| ())
    }
}

impl Rows for Fetched<'_> {
    fn next(&mut self) -> Result<Option<Vec<Value>>, ViewError> {
        if self.waiting.len() == 0 {
            let sql = format!("fetch forward {ROWS} from compared");
            let rows = self.runtime.block_on(self.connection.fetch(&sql, Vec::new()))?;
            let values: Result<Vec<_>, ViewError> = rows.iter().map(crate::sql::Row::values).collect();
            self.waiting = values?.into_iter();
        }
        Ok(self.waiting.next())
    }
}

/// Compares two tables row by row.
fn merge(shape: &Shape<'_>, folded: &mut dyn Rows, live: &mut dyn Rows) -> Result<Compared, ViewError> {
    let mut compared = Compared { projection: "", position: 0, rows: 0, differences: 0, first: None };
    let (mut expected, mut found) = (folded.next()?, live.next()?);
    loop {
        let side = match (&expected, &found) {
            (None, None) => return Ok(compared),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(expected), Some(found)) => order(&expected[..shape.keys], &found[..shape.keys]),
        };
        if side.is_ne() || expected != found {
            compared.differences += 1;
            if compared.first.is_none() {
                let (expected, found) = (expected.as_deref(), found.as_deref());
                compared.first =
                    Some(shape.difference(expected.filter(|_| side.is_le()), found.filter(|_| side.is_ge())));
            }
        }
        if side.is_le() {
            compared.rows += 1;
            expected = folded.next()?;
        }
        if side.is_ge() {
            found = live.next()?;
        }
    }
}

/// Compares what a table's rows come to with the live ones. Where that differs there is no telling which row it is.
pub(super) fn compare_digests(
    table: &Table,
    digests: &Digests,
    folded: &rusqlite::Connection,
    live: &mut Live,
    runtime: &Runtime,
) -> Result<Compared, ViewError> {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let sql = format!("select {} from views.{}", names.join(", "), table.name);
    let mut found = Sum::default();
    let mut add_all = |rows: &mut dyn Rows| {
        while let Some(row) = rows.next()? {
            found.add(&digests.key, &row);
        }
        Ok::<_, ViewError>(())
    };
    match live {
        Live::Attached => add_all(&mut Direct(folded.prepare(&sql)?.query([])?, names.len()))?,
        Live::Server(server) => {
            let mut rows = Fetched::begin(&sql, server, runtime)?;
            add_all(&mut rows)?;
            rows.end()?;
        }
        Live::NotYet => return Err(ViewError::unreadable("read models that were not settled")),
    }
    let expected = digests.of(table.name);
    let differences = u64::from(found != expected);
    Ok(Compared { projection: "", position: 0, rows: expected.rows, differences, first: None })
}

/// Compares a table with the live one of that name.
pub(super) fn compare(
    table: &str,
    folded: &mut rusqlite::Connection,
    live: &mut Live,
    runtime: &Runtime,
) -> Result<Compared, ViewError> {
    let shape = Shape::of(table, folded)?;
    match live {
        Live::Attached => {
            if let Some(rows) = equal(&shape, folded)? {
                return Ok(Compared { projection: "", position: 0, rows, differences: 0, first: None });
            }
            let (mut left, mut right) = (folded.prepare(&shape.rows("main"))?, folded.prepare(&shape.rows("views"))?);
            let width = shape.names.len();
            merge(&shape, &mut Direct(left.query([])?, width), &mut Direct(right.query([])?, width))
        }
        Live::Server(server) => {
            let mut left = folded.prepare(&shape.rows("main"))?;
            let mut right = Fetched::begin(&shape.rows("views"), server, runtime)?;
            let compared = merge(&shape, &mut Direct(left.query([])?, shape.names.len()), &mut right)?;
            right.end()?;
            Ok(compared)
        }
        Live::NotYet => Err(ViewError::unreadable("read models that were not settled")),
    }
}

/// How many rows both have, where all of them are equal.
fn equal(shape: &Shape<'_>, folded: &rusqlite::Connection) -> Result<Option<u64>, ViewError> {
    let Shape { table, names, keys } = shape;
    let (key, rest) = names.split_at(*keys);
    let same_key = key.iter().map(|name| format!("l.{name} = f.{name}")).collect::<Vec<_>>().join(" and ");
    // A live table may have been made anew without its key, or with other types: then a row may come twice, and '5' is 5.
    let same_type = names.iter().map(|name| format!(" and typeof(f.{name}) = typeof(l.{name})"));
    let alike: Vec<String> = rest.iter().map(|name| format!(" and f.{name} is l.{name}")).chain(same_type).collect();
    let sql = format!(
        "select count(*), coalesce(sum(l.{} is not null{}), 0), (select count(*) from main.{table}), \
         (select count(*) from views.{table}) from main.{table} f left join views.{table} l on {same_key}",
        names[0],
        alike.concat()
    );
    let read = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
    let [joined, alike, folded, live]: [u64; 4] = folded.query_row(&sql, [], read)?;
    Ok((joined == alike && joined == folded && folded == live).then_some(folded))
}
