//! I9: the read models as they stand, row by row against what the log folds to from its first event.
//!
//! Nothing is written but databases of its own, which SQLite keeps in memory as far as they are small and else in files that have
//! no name. The read models are read in snapshots, and the service may go on. The fold stops where they stand, at each position
//! at which one of them does, and there the tables are compared.
//!
//! Cost: the projections are folded in [`GROUPS`] that run side by side, from one reading of the log. Comparing is a join by
//! primary key inside of the database, so a row that is as it should be is handed to nobody; only of a table that is not what it
//! should be is the first such row looked for. Memory: a batch of events, and each group's cache.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::mpsc;

use super::{Progress, hash_at, read_on};
use crate::batch::LogEvent;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::sql::{Changes, Connection, Value, ViewError, sqlite};
use crate::{DECLARED, Declared, fold_into};

/// Which projections are folded by themselves, beside the rest: the ones that cost most, so that the groups cost alike.
const GROUPS: [&[&str]; 2] = [&["activity_feed", "transactions", "wallet_terms", "wallets"], &[]];

/// How many events are folded at once: up to four such batches are in memory.
const BATCH_EVENTS_MAX: u64 = 6_000;

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
    ledger: SqliteConnection,
    groups: Vec<Group>,
}

/// Some projections, folded into a database of their own with the live ones attached to it as `live`, in one transaction: so the
/// live ones are one snapshot.
#[derive(Debug)]
struct Group {
    folded: SqliteConnection,
    checkpoints: Checkpoints,
    projections: Vec<&'static Declared>,
    /// Where the fold has come.
    position: u64,
    compared: Vec<Compared>,
}

impl Comparison {
    /// Takes the snapshots of the read models; `None` where there are none.
    ///
    /// # Errors
    /// What the databases say.
    pub async fn begin(dir: &Path) -> Result<Option<Self>, ViewError> {
        if !dir.join("views.db").exists() {
            return Ok(None);
        }
        let mut groups = Vec::new();
        for names in GROUPS {
            let is_of_it = |one: &&Declared| {
                if names.is_empty() { !GROUPS.concat().contains(&one.name) } else { names.contains(&one.name) }
            };
            let Some(group) = Group::begin(dir, DECLARED.iter().filter(is_of_it).collect()).await? else {
                return Ok(None);
            };
            groups.push(group);
        }
        let ledger = sqlite::read_options(dir, "ledger.db").pragma("mmap_size", "0").connect().await?;
        Ok(Some(Self { ledger, groups }))
    }

    /// Folds the log and compares; `tell` is told how far it is after each batch. A projection that has not begun is left out.
    ///
    /// # Errors
    /// What the databases say, or an event that cannot be folded.
    pub async fn run(mut self, mut tell: impl FnMut(Progress) + Send) -> Result<Vec<Compared>, ViewError> {
        let mut all = Vec::new();
        let mut end = 0;
        for group in &mut self.groups {
            group.look_up_checkpoints(&mut self.ledger).await?;
            end = end.max(group.end());
        }
        let mut tasks = Vec::new();
        let mut queues = Vec::new();
        for group in self.groups {
            // One batch waits while another is folded: what is read ahead is in memory.
            let (queue, batches) = mpsc::channel(1);
            queues.push(queue);
            tasks.push(tokio::spawn(group.fold(batches)));
        }
        let mut position = 0;
        while position < end {
            let events =
                read_on(&mut Connection::sqlite(&mut self.ledger), position, end.min(position + BATCH_EVENTS_MAX))
                    .await?;
            let Some(last) = events.last() else { break };
            position = last.position;
            let events = Arc::new(events);
            for queue in &queues {
                // A group that has ended early says why when it is asked for.
                let _ = queue.send(Arc::clone(&events)).await;
            }
            tell(Progress { position, end });
        }
        drop(queues);
        for task in tasks {
            let compared = task.await.map_err(|error| ViewError::unreadable(format!("a fold ended badly: {error}")))?;
            all.extend(compared?);
        }
        Ok(all)
    }
}

impl Group {
    async fn begin(dir: &Path, projections: Vec<&'static Declared>) -> Result<Option<Self>, ViewError> {
        // Nothing is mapped into memory anywhere: each page is looked at once or twice, and would stay.
        // No name: a database that nobody else sees and that is gone when it is closed. Nothing in it has to outlive anything.
        let mut folded = SqliteConnectOptions::new()
            .filename("")
            .pragma("journal_mode", "off")
            .pragma("synchronous", "off")
            .pragma("cache_size", "-32768")
            .row_buffer_size(1024)
            .statement_cache_capacity(256)
            .disable_statement_logging()
            .connect()
            .await?;
        sqlite::create(&mut folded).await?;
        let mut connection = Connection::sqlite(&mut folded);
        // What only queries need; the fold loads by primary keys and unique indexes.
        let indexes = "select name from sqlite_schema where type = 'index' and sql like 'create index %'";
        for index in connection.fetch(indexes, Vec::new()).await? {
            connection.execute(&format!("drop index {}", index.columns().str()?), Vec::new()).await?;
        }
        let live = format!("file:{}?mode=ro", uri(&dir.join("views.db")));
        connection.execute("attach database $1 as live", vec![live.into()]).await?;
        connection.execute("begin", Vec::new()).await?;
        let sql = "select 1 from live.sqlite_schema where type = 'table' and name = 'checkpoints'";
        if connection.fetch_one(sql, Vec::new()).await?.is_none() {
            return Ok(None);
        }
        let checkpoints = Checkpoints::load_from(&mut connection, "live.checkpoints").await?;
        Ok(Some(Self { folded, checkpoints, projections, position: 0, compared: Vec::new() }))
    }

    /// Where its last projection stands.
    fn end(&self) -> u64 {
        self.projections.iter().map(|one| self.checkpoints.of(one.name).position).max().unwrap_or_default()
    }

    /// Compares each checkpoint with the log. What stands on an event that the log does not hold cannot be folded up to it.
    async fn look_up_checkpoints(&mut self, ledger: &mut SqliteConnection) -> Result<(), ViewError> {
        let mut known: BTreeMap<u64, Option<Vec<u8>>> = BTreeMap::new();
        let mut is_in_log = Vec::new();
        for projection in std::mem::take(&mut self.projections) {
            let Checkpoint { position, hash } = self.checkpoints.of(projection.name);
            if position == 0 {
                continue;
            }
            let in_log = match known.get(&position) {
                Some(in_log) => in_log.clone(),
                None => {
                    known.entry(position).or_insert(hash_at(&mut Connection::sqlite(ledger), position).await?).clone()
                }
            };
            let is_there = in_log.as_ref() == Some(&hash);
            self.compared.push(Compared {
                projection: projection.name,
                position,
                rows: 1,
                differences: u64::from(!is_there),
                first: (!is_there).then(|| Difference {
                    what: format!("event under the checkpoint of {} at {position}", projection.name),
                    expected: in_log.as_deref().map_or_else(|| "none in the log".to_owned(), hexadecimal),
                    found: hexadecimal(&hash),
                }),
            });
            if in_log.is_some() {
                is_in_log.push(projection);
            }
        }
        self.projections = is_in_log;
        Ok(())
    }

    /// Folds what comes, and compares each projection where it stands.
    async fn fold(mut self, mut batches: mpsc::Receiver<Arc<Vec<LogEvent>>>) -> Result<Vec<Compared>, ViewError> {
        while let Some(batch) = batches.recv().await {
            let mut events = batch.as_slice();
            while let Some(last) = events.last() {
                let stops = self.projections.iter().map(|one| self.checkpoints.of(one.name).position);
                let Some(stop) = stops.min() else { break };
                let (now, later) = events.split_at(events.partition_point(|event| event.position <= stop));
                self.fold_into(now).await?;
                self.position = last.position.min(stop);
                if self.position == stop {
                    self.compare_at(stop).await?;
                }
                events = later;
            }
        }
        Ok(self.compared)
    }

    async fn fold_into(&mut self, events: &[LogEvent]) -> Result<(), ViewError> {
        let names: Vec<&str> = self.projections.iter().map(|one| one.name).collect();
        let mut connection = Connection::sqlite(&mut self.folded);
        let mut changes = Changes::default();
        fold_into(&names, &mut connection, &Checkpoints::default(), events, &mut changes).await?;
        connection.apply(changes).await
    }

    /// Compares the projections that stand here.
    async fn compare_at(&mut self, stop: u64) -> Result<(), ViewError> {
        let (here, later) = std::mem::take(&mut self.projections)
            .into_iter()
            .partition(|one| self.checkpoints.of(one.name).position == stop);
        self.projections = later;
        for projection in here {
            let Declared { name, tables, .. } = projection;
            for table in *tables {
                let compared = compare(table.name, &mut self.folded).await?;
                self.compared.push(Compared { projection: name, position: stop, ..compared });
            }
        }
        Ok(())
    }
}

/// A path as a URI has it.
fn uri(path: &Path) -> String {
    let text = path.display().to_string();
    text.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A table's columns, those of its key first and in the key's order; and how many those are.
async fn columns(table: &str, connection: &mut Connection<'_>) -> Result<(Vec<String>, usize), ViewError> {
    let sql = "select name, pk from pragma_table_info($1) order by pk = 0, pk, cid";
    let rows = connection.fetch(sql, vec![table.into()]).await?;
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

async fn compare(table: &str, folded: &mut SqliteConnection) -> Result<Compared, ViewError> {
    let mut connection = Connection::sqlite(folded);
    let (names, keys) = columns(table, &mut connection).await?;
    let (key, rest) = names.split_at(keys);
    let same_key = key.iter().map(|name| format!("l.{name} = f.{name}")).collect::<Vec<_>>().join(" and ");
    let unlike: Vec<String> = rest.iter().map(|name| format!("f.{name} is not l.{name}")).collect();
    let unlike = if unlike.is_empty() { "0".to_owned() } else { unlike.join(" or ") };
    let is_there = format!("l.{} is not null", names[0]);
    let sql = format!(
        "select count(*), coalesce(sum({is_there}), 0), coalesce(sum({is_there} and ({unlike})), 0), \
         (select count(*) from live.{table}) from main.{table} f left join live.{table} l on {same_key}"
    );
    let mut compared = Compared { projection: "", position: 0, rows: 0, differences: 0, first: None };
    let Some(row) = connection.fetch_one(&sql, Vec::new()).await? else { return Ok(compared) };
    let mut counts = row.columns();
    let (rows, matched, differ, live) = (counts.count()?, counts.count()?, counts.count()?, counts.count()?);
    compared.rows = rows;
    compared.differences = (rows - matched) + differ + (live - matched);
    if compared.differences == 0 {
        return Ok(compared);
    }
    // The first row that is missing or unlike, and the first that is too many: the first of the two.
    let side = |side: &str| names.iter().map(|name| format!("{side}.{name}")).collect::<Vec<_>>().join(", ");
    let in_order = |side: &str| key.iter().map(|name| format!("{side}.{name}")).collect::<Vec<_>>().join(", ");
    let missing = format!(
        "select {}, {} from main.{table} f left join live.{table} l on {same_key} where not ({is_there}) or {unlike} \
         order by {} limit 1",
        side("f"),
        side("l"),
        in_order("f")
    );
    let too_many = format!(
        "select {} from live.{table} l left join main.{table} f on {same_key} where f.{} is null order by {} limit 1",
        side("l"),
        names[0],
        in_order("l")
    );
    let width = names.len();
    let missing = connection.fetch_one(&missing, Vec::new()).await?.map(|row| row.values()).transpose()?;
    let too_many = connection.fetch_one(&too_many, Vec::new()).await?.map(|row| row.values()).transpose()?;
    compared.first = match (missing, too_many) {
        (Some(both), Some(extra)) if order(&extra[..keys], &both[..keys]).is_lt() => {
            Some(difference(table, (&names, keys), None, Some(&extra)))
        }
        (Some(both), _) => {
            let (expected, found) = both.split_at(width);
            let found = (found[0] != Value::Null).then_some(found);
            Some(difference(table, (&names, keys), Some(expected), found))
        }
        (None, extra) => extra.map(|extra| difference(table, (&names, keys), None, Some(&extra))),
    };
    Ok(compared)
}

/// Tells of a row that is not on both sides, or not the same.
fn difference(
    table: &str,
    (names, keys): (&[String], usize),
    expected: Option<&[Value]>,
    found: Option<&[Value]>,
) -> Difference {
    let named = |columns: &[usize], row: &[Value]| {
        let pairs = columns.iter().filter_map(|at| Some(format!("{} {}", names.get(*at)?, told(row.get(*at)?))));
        pairs.collect::<Vec<_>>().join(", ")
    };
    let key: Vec<usize> = (0..keys).collect();
    let unlike: Vec<usize> = match (expected, found) {
        (Some(expected), Some(found)) => (0..names.len()).filter(|at| expected.get(*at) != found.get(*at)).collect(),
        _ => (keys..names.len()).collect(),
    };
    let side = |row: Option<&[Value]>| row.map_or_else(|| "no such row".to_owned(), |row| named(&unlike, row));
    Difference {
        what: format!("{table}, {}", named(&key, expected.or(found).unwrap_or_default())),
        expected: side(expected),
        found: side(found),
    }
}
