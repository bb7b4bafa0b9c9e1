//! I9: the read models as they stand, row by row against what the log folds to from its first event.
//!
//! Nothing is written but a database of its own, which SQLite keeps in memory as far as it is small and else in a file that has
//! no name. The read models are read in one snapshot, and the service may go on. The fold stops where they stand, at each
//! position at which one of them does, and there the tables are compared: both sides in order of their keys, side by side, so
//! that no more than a row of each is held.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;

use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection as _, SqliteConnection};

use super::{Progress, hash_at, read_on};
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::sql::{Changes, Connection, Row, Value, ViewError, sqlite};
use crate::{DECLARED, Declared, NAMES, fold_into};

/// Where a table is not what the log folds to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table, and the key of the row.
    pub what: String,
    /// The row as the log folds to it, where it differs.
    pub expected: String,
    /// The row as it is there, where it differs.
    pub found: String,
}

/// What comparing one projection, or one of its tables, came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The projection.
    pub projection: &'static str,
    /// Where it stands.
    pub position: u64,
    /// How many rows there should be.
    pub rows: u64,
    /// How many rows are wrong, missing or too many.
    pub differences: u64,
    /// The first of those.
    pub first: Option<Difference>,
}

/// A store's read models.
#[derive(Debug)]
pub struct Comparison {
    live: SqliteConnection,
    ledger: SqliteConnection,
    folded: SqliteConnection,
    checkpoints: Checkpoints,
}

impl Comparison {
    /// Takes the snapshot of the read models; `None` where there are none.
    ///
    /// # Errors
    /// What the databases say.
    pub async fn begin(dir: &Path) -> Result<Option<Self>, ViewError> {
        if !dir.join("views.db").exists() {
            return Ok(None);
        }
        let mut live = sqlite::read_options(dir, "views.db").connect().await?;
        sqlx::query("begin").execute(&mut live).await?;
        let mut views = Connection::sqlite(&mut live);
        let sql = "select 1 from sqlite_schema where type = 'table' and name = 'checkpoints'";
        if views.fetch_one(sql, Vec::new()).await?.is_none() {
            return Ok(None);
        }
        let checkpoints = Checkpoints::load(&mut views).await?;
        let ledger = sqlite::read_options(dir, "ledger.db").connect().await?;
        // No name: a database that nobody else sees and that is gone when it is closed. Nothing in it has to outlive anything.
        let mut folded = SqliteConnectOptions::new()
            .filename("")
            .pragma("journal_mode", "off")
            .pragma("synchronous", "off")
            .pragma("cache_size", "-65536")
            .statement_cache_capacity(256)
            .disable_statement_logging()
            .connect()
            .await?;
        sqlite::create(&mut folded).await?;
        Ok(Some(Self { live, ledger, folded, checkpoints }))
    }

    /// Folds the log and compares; `tell` is told how far it is after each batch. A projection that has not begun is left out.
    ///
    /// # Errors
    /// What the databases say, or an event that cannot be folded.
    pub async fn run(mut self, mut tell: impl FnMut(Progress) + Send) -> Result<Vec<Compared>, ViewError> {
        let mut stops: BTreeMap<u64, Vec<&Declared>> = BTreeMap::new();
        for projection in DECLARED {
            stops.entry(self.checkpoints.of(projection.name).position).or_default().push(projection);
        }
        stops.remove(&0);
        let end = stops.keys().next_back().copied().unwrap_or_default();
        let mut position = 0;
        let mut all = Vec::new();
        for (stop, projections) in stops {
            let in_log = hash_at(&mut Connection::sqlite(&mut self.ledger), stop).await?;
            let mut unlike_log = |projection: &Declared| {
                let Checkpoint { hash, .. } = self.checkpoints.of(projection.name);
                let is_there = in_log.as_ref() == Some(&hash);
                all.push(Compared {
                    projection: projection.name,
                    position: stop,
                    rows: 1,
                    differences: u64::from(!is_there),
                    first: (!is_there).then(|| Difference {
                        what: format!("event under the checkpoint of {} at {stop}", projection.name),
                        expected: in_log.as_deref().map_or_else(|| "none in the log".to_owned(), hexadecimal),
                        found: hexadecimal(&hash),
                    }),
                });
            };
            projections.iter().for_each(|projection| unlike_log(projection));
            if in_log.is_none() {
                continue;
            }
            while position < stop {
                let events = read_on(&mut Connection::sqlite(&mut self.ledger), position, stop).await?;
                let Some(last) = events.last() else { break };
                position = last.position;
                let mut changes = Changes::default();
                let mut transaction = self.folded.begin().await?;
                let mut connection = Connection::sqlite(&mut transaction);
                fold_into(NAMES, &mut connection, &Checkpoints::default(), &events, &mut changes).await?;
                connection.apply(changes).await?;
                transaction.commit().await?;
                tell(Progress { position, end });
            }
            for projection in projections {
                for table in projection.tables {
                    let compared = compare(table.name, &mut self.folded, &mut self.live).await?;
                    all.push(Compared { projection: projection.name, position, ..compared });
                }
            }
        }
        Ok(all)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A table's columns, those of its key first and in the key's order; and how many those are.
async fn columns(table: &str, connection: &mut SqliteConnection) -> Result<(Vec<String>, usize), ViewError> {
    let sql = "select name, pk from pragma_table_info($1) order by pk = 0, pk, cid";
    let rows = Connection::sqlite(connection).fetch(sql, vec![table.into()]).await?;
    let mut names = Vec::with_capacity(rows.len());
    let mut keys = 0;
    for row in &rows {
        let mut columns = row.columns();
        names.push(columns.string()?);
        keys += usize::from(columns.integer()? > 0);
    }
    Ok((names, keys))
}

/// SQLite's own order of what keys are made of: numbers before texts before bytes, texts by their bytes.
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

async fn compare(
    table: &str,
    folded: &mut SqliteConnection,
    live: &mut SqliteConnection,
) -> Result<Compared, ViewError> {
    let (names, keys) = columns(table, folded).await?;
    let order_by: Vec<String> = (1..=keys).map(|key| key.to_string()).collect();
    let sql = format!("select {} from main.{table} order by {}", names.join(", "), order_by.join(", "));
    let rows = |row| Row::from(row).values();
    let mut expected = pin!(sqlx::query(&sql).fetch(folded).map_err(ViewError::from).and_then(async |row| rows(row)));
    let mut found = pin!(sqlx::query(&sql).fetch(live).map_err(ViewError::from).and_then(async |row| rows(row)));
    let mut compared = Compared { projection: "", position: 0, rows: 0, differences: 0, first: None };
    let mut differ = |expected: Option<&[Value]>, found: Option<&[Value]>| {
        compared.differences += 1;
        if compared.first.is_some() {
            return;
        }
        let named = |columns: &[usize], row: &[Value]| {
            let pairs = columns.iter().filter_map(|at| Some(format!("{} {}", names.get(*at)?, told(row.get(*at)?))));
            pairs.collect::<Vec<_>>().join(", ")
        };
        let key: Vec<usize> = (0..keys).collect();
        let unlike: Vec<usize> = match (expected, found) {
            (Some(expected), Some(found)) => {
                (0..names.len()).filter(|at| expected.get(*at) != found.get(*at)).collect()
            }
            _ => (keys..names.len()).collect(),
        };
        let side = |row: Option<&[Value]>| row.map_or_else(|| "no such row".to_owned(), |row| named(&unlike, row));
        compared.first = Some(Difference {
            what: format!("{table}, {}", named(&key, expected.or(found).unwrap_or_default())),
            expected: side(expected),
            found: side(found),
        });
    };
    let mut rows = 0;
    let (mut left, mut right) = (expected.try_next().await?, found.try_next().await?);
    loop {
        let which = match (&left, &right) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => order(&left[..keys], &right[..keys]),
        };
        match which {
            Ordering::Less => differ(left.as_deref(), None),
            Ordering::Greater => differ(None, right.as_deref()),
            Ordering::Equal if left != right => differ(left.as_deref(), right.as_deref()),
            Ordering::Equal => {}
        }
        if which.is_le() {
            rows += 1;
            left = expected.try_next().await?;
        }
        if which.is_ge() {
            right = found.try_next().await?;
        }
    }
    compared.rows = rows;
    Ok(compared)
}
