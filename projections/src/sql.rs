//! What differs between databases, and nothing else: connections, values, bulk reads and bulk upserts.
//!
//! The projections speak to a [`Connection`] in SQL that both databases understand (`$1` placeholders, `on conflict … do
//! update`); what they cannot share (many keys in one parameter, many rows in one statement) is written once, here.
//!
//! Cost: one statement is one hand-over to SQLite's own thread, so rows go many to a statement, with few different row counts,
//! so that every text is prepared once. Bulk statements use anonymous parameters: SQLite finds named ones by a linear search.

use std::fmt::Display;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{Arguments, ConnectOptions, Connection as _, Row as _, Sqlite, Transaction, TypeInfo as _, ValueRef as _};
use tokio::sync::{Notify, watch};

use aggregates::primitives::Timestamp;

use crate::checkpoint;

/// What can go wrong with a read model.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// What the database says.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("{0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A file beside the database.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A row or an event that this version cannot read.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// What has been folded is not in the log, or the log says something else there.
    #[error("history was cut: {0}")]
    HistoryCut(String),
    /// The read model did not come as far as was asked for in time.
    #[error("the read model has come as far as position {position} only")]
    ViewBehind {
        /// How far it has come.
        position: u64,
    },
    /// A cursor that this service did not give.
    #[error("the cursor is not one that an answer of this query carried")]
    InvalidCursor,
    /// A cost cannot be worked out.
    #[error(transparent)]
    Rejection(#[from] aggregates::rejection::Rejection),
}

impl ViewError {
    /// An error about something that this version cannot read.
    pub fn unreadable(what: impl Display) -> Self {
        Self::Unreadable(what.to_string())
    }
}

/// A value for a parameter or a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// The text of an id, a word, a time.
    pub fn text(value: impl Display) -> Self {
        Self::Text(value.to_string())
    }

    /// As [`Self::text`], or null.
    pub fn text_or_null(value: Option<impl Display>) -> Self {
        value.map_or(Self::Null, Self::text)
    }

    /// The JSON text of a value.
    ///
    /// # Errors
    /// What serde_json says.
    pub fn json(value: &impl serde::Serialize) -> Result<Self, ViewError> {
        serde_json::to_string(value).map(Self::Text).map_err(ViewError::unreadable)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value {
    /// Positions and sequences stay far below 2⁶³.
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

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
    /// Into the table of this name behind the prefix.
    fn upsert_sql(&self, prefix: &str, rows: usize) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
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
        let row = format!("({})", vec!["?"; names.len()].join(","));
        let action = if sets.is_empty() { "nothing".to_owned() } else { format!("update set {}", sets.join(", ")) };
        format!(
            "insert or rollback into {prefix}{} ({}) values {} on conflict ({}) do {action}",
            self.name,
            names.join(", "),
            vec![row; rows].join(","),
            keys.join(", "),
        )
    }
}

/// Rows to be written, by table; kept flat, column after column.
#[derive(Debug, Default)]
pub struct Changes {
    tables: Vec<(&'static Table, Vec<Value>)>,
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

    /// The bulk upserts that write these rows, each table with as few as its rows fit into.
    fn into_statements(self, prefix: &'static str) -> impl Iterator<Item = (Arc<str>, Vec<Value>)> {
        self.tables.into_iter().flat_map(move |(table, values)| {
            let width = table.columns.len();
            let mut values = values.into_iter();
            let mut text: Option<(usize, Arc<str>)> = None;
            std::iter::from_fn(move || {
                let left = values.len() / width;
                let rows = BULK_ROWS.into_iter().find(|rows| *rows <= left)?;
                let text = match &mut text {
                    Some((known, text)) if *known == rows => Arc::clone(text),
                    other => Arc::clone(&other.insert((rows, table.upsert_sql(prefix, rows).into())).1),
                };
                Some((text, values.by_ref().take(rows * width).collect()))
            })
        })
    }
}

/// A row of an answer.
pub struct Row(SqliteRow);

impl Row {
    /// Reads its columns from the first on, in order.
    #[must_use]
    pub fn columns(&self) -> Columns<'_> {
        Columns { row: &self.0, next: 0 }
    }

    /// Every column as it is there, whatever it is.
    ///
    /// # Errors
    /// On a kind of value that no read model holds.
    pub fn values(&self) -> Result<Vec<Value>, ViewError> {
        (0..self.0.len())
            .map(|index| {
                let raw = self.0.try_get_raw(index)?;
                if raw.is_null() {
                    return Ok(Value::Null);
                }
                Ok(match raw.type_info().name() {
                    "INTEGER" => Value::Integer(self.0.try_get_unchecked(index)?),
                    "TEXT" => Value::Text(self.0.try_get_unchecked(index)?),
                    "BLOB" => Value::Bytes(self.0.try_get_unchecked(index)?),
                    other => return Err(ViewError::unreadable(format!("a column with a value of type {other}"))),
                })
            })
            .collect()
    }
}

/// Reads the columns of a row one after the other.
pub struct Columns<'r> {
    row: &'r SqliteRow,
    next: usize,
}

impl<'r> Columns<'r> {
    fn get<T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(&mut self) -> Result<T, ViewError> {
        let index = self.next;
        self.next += 1;
        Ok(self.row.try_get_unchecked(index)?)
    }

    /// A text.
    ///
    /// # Errors
    /// Each of these fails on a value of another kind.
    pub fn str(&mut self) -> Result<&'r str, ViewError> {
        self.get()
    }

    /// A text or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn str_or_null(&mut self) -> Result<Option<&'r str>, ViewError> {
        self.get()
    }

    /// An owned text.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn string(&mut self) -> Result<String, ViewError> {
        self.get()
    }

    /// A text or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn string_or_null(&mut self) -> Result<Option<String>, ViewError> {
        self.get()
    }

    /// A number.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn integer(&mut self) -> Result<i64, ViewError> {
        self.get()
    }

    /// A number or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn integer_or_null(&mut self) -> Result<Option<i64>, ViewError> {
        self.get()
    }

    /// A number that cannot be negative: a position, a count.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn count(&mut self) -> Result<u64, ViewError> {
        u64::try_from(self.integer()?).map_err(ViewError::unreadable)
    }

    /// 0 or 1.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn boolean(&mut self) -> Result<bool, ViewError> {
        Ok(self.integer()? != 0)
    }

    /// Raw bytes.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn bytes(&mut self) -> Result<Vec<u8>, ViewError> {
        self.get()
    }

    /// Raw bytes, not copied.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn slice(&mut self) -> Result<&'r [u8], ViewError> {
        self.get()
    }

    /// Raw bytes or null, not copied.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn slice_or_null(&mut self) -> Result<Option<&'r [u8]>, ViewError> {
        self.get()
    }

    /// An id, a word, a time.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn parse<T: FromStr<Err: Display>>(&mut self) -> Result<T, ViewError> {
        self.str()?.parse().map_err(ViewError::unreadable)
    }

    /// An id, a word, a time, or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn parse_or_null<T: FromStr<Err: Display>>(&mut self) -> Result<Option<T>, ViewError> {
        let text: Option<&str> = self.get()?;
        text.map(|text| text.parse().map_err(ViewError::unreadable)).transpose()
    }

    /// JSON text.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, ViewError> {
        serde_json::from_str(self.str()?).map_err(ViewError::unreadable)
    }

    /// JSON text or null.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn json_or_null<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ViewError> {
        let text: Option<&str> = self.get()?;
        text.map(|text| serde_json::from_str(text).map_err(ViewError::unreadable)).transpose()
    }

    /// A level: credits that cannot be negative.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn level(&mut self) -> Result<aggregates::primitives::Level, ViewError> {
        aggregates::primitives::Level::new(self.integer()?).map_err(ViewError::unreadable)
    }
}

fn arguments(values: Vec<Value>) -> Result<SqliteArguments<'static>, ViewError> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Integer(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// How many rows go into one bulk upsert, largest first; few sizes, so that each text is prepared once.
const BULK_ROWS: [usize; 4] = [128, 32, 8, 1];

/// A connection, in whatever transaction it is in.
#[derive(Debug)]
pub struct Connection<'c> {
    sqlite: &'c mut SqliteConnection,
    prefix: &'static str,
}

impl<'c> Connection<'c> {
    /// Speaks to SQLite.
    pub fn sqlite(connection: &'c mut SqliteConnection) -> Self {
        Self { sqlite: connection, prefix: "" }
    }

    /// Speaks to SQLite, and writes rows into the tables whose names have this prefix. What is read is the caller's to redirect.
    pub(crate) fn prefixed(connection: &'c mut SqliteConnection, prefix: &'static str) -> Self {
        Self { sqlite: connection, prefix }
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, ViewError> {
        let done = sqlx::query_with(sql, arguments(values)?).execute(&mut *self.sqlite).await?;
        Ok(done.rows_affected())
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, ViewError> {
        let rows = sqlx::query_with(sql, arguments(values)?).fetch_all(&mut *self.sqlite).await?;
        Ok(rows.into_iter().map(Row).collect())
    }

    /// The first row of a query.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_one(&mut self, sql: &str, values: Vec<Value>) -> Result<Option<Row>, ViewError> {
        Ok(sqlx::query_with(sql, arguments(values)?).fetch_optional(&mut *self.sqlite).await?.map(Row))
    }

    /// Hands each row to `each` until it says stop, so that no more than one row is held.
    ///
    /// # Errors
    /// What the database or `each` says.
    pub async fn for_each(
        &mut self,
        sql: &str,
        values: Vec<Value>,
        mut each: impl FnMut(Row) -> Result<bool, ViewError> + Send,
    ) -> Result<(), ViewError> {
        let mut rows = sqlx::query_with(sql, arguments(values)?).fetch(&mut *self.sqlite);
        while let Some(row) = rows.try_next().await? {
            if !each(Row(row))? {
                break;
            }
        }
        Ok(())
    }

    /// All values of a query whose one column is called `number`, where they are many: they come in one row, which costs a
    /// tenth of a row each.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_integers(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<i64>, ViewError> {
        let sql = format!("select json_group_array(number) from ({sql})");
        let row = self.fetch_one(&sql, values).await?;
        row.map_or_else(|| Ok(Vec::new()), |row| row.columns().json())
    }

    /// All rows whose key is one of many: the query ends with `… where key in`. No keys, no statement.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fetch_by_keys<K: Display>(
        &mut self,
        sql_up_to_in: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Row>, ViewError> {
        let keys: Vec<String> = keys.into_iter().map(|key| key.to_string()).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!("{sql_up_to_in} (select value from json_each($1))");
        self.fetch(&sql, vec![Value::json(&keys)?]).await
    }

    /// Writes rows, each table with as few statements as its rows fit into.
    ///
    /// # Errors
    /// What the database says.
    pub async fn apply(&mut self, changes: Changes) -> Result<(), ViewError> {
        for (sql, values) in changes.into_statements(self.prefix) {
            self.execute(&sql, values).await?;
        }
        Ok(())
    }
}

/// Writes rows that nobody reads yet, in as many transactions as it takes to hold the write lock for no longer than about
/// `hold` at a time; after each, `give_way` is waited for.
pub(crate) async fn apply_in_slices(
    connection: &mut SqliteConnection,
    prefix: &'static str,
    changes: Changes,
    hold: Duration,
    mut give_way: impl AsyncFnMut(),
) -> Result<(), ViewError> {
    let mut statements = changes.into_statements(prefix).peekable();
    while statements.peek().is_some() {
        let mut transaction = connection.begin_with("begin immediate").await?;
        let begun = Instant::now();
        while let Some((sql, values)) = statements.next() {
            let mut connection = Connection::sqlite(&mut transaction);
            // The next statement is made ready while the database is busy with this one.
            let ready = async {
                let _ = statements.peek();
            };
            futures_util::future::join(connection.execute(&sql, values), ready).await.0?;
            if begun.elapsed() >= hold {
                break;
            }
        }
        transaction.commit().await?;
        give_way().await;
    }
    Ok(())
}

/// Brings `views.db` up to date, one process at a time: sqlx's own lock does nothing on SQLite.
pub(crate) async fn migrate(dir: &Path) -> Result<(), ViewError> {
    let path = dir.join("migrate.lock");
    let file_error = |error| ViewError::File { path: path.clone(), error };
    let lock_path = path.clone();
    let lock = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).truncate(false).write(true).open(lock_path)?;
        file.lock()?;
        Ok(file)
    })
    .await
    .map_err(|error| file_error(std::io::Error::other(error)))?
    .map_err(file_error)?;
    let mut connection = write_options(dir).connect().await?;
    create(&mut connection).await?;
    connection.close().await?;
    drop(lock);
    Ok(())
}

/// Creates the read models' tables, as far as they are not there.
pub(crate) async fn create(connection: &mut SqliteConnection) -> Result<(), ViewError> {
    sqlx::migrate!("../migrations/sqlite/views").run(connection).await?;
    Ok(())
}

pub(crate) fn write_options(dir: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(dir.join("views.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What a power failure takes is folded again.
        .synchronous(SqliteSynchronous::Normal)
        .pragma("wal_autocheckpoint", "4000")
        // A batch touches some thousands of pages; what does not fit is written to the WAL before its time, and read back.
        .pragma("cache_size", "-64000")
        // Each batch loads thousands of rows: fewer hand-overs between threads.
        .row_buffer_size(1024)
        .statement_cache_capacity(256)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

/// The log, only to read it.
pub(crate) fn log_options(dir: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(dir.join("ledger.db"))
        .create_if_missing(false)
        .pragma("query_only", "on")
        .row_buffer_size(1024)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

/// A database of the store, only to read much of it: never written to, and its pages looked at where they lie.
pub(crate) fn read_options(dir: &Path, file: &str) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(dir.join(file))
        .read_only(true)
        .pragma("mmap_size", "1073741824")
        .row_buffer_size(1024)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

/// The projector's connections: one that writes `views.db`, one that reads `ledger.db`.
#[derive(Debug)]
pub struct Folder {
    views: SqliteConnection,
    ledger: SqliteConnection,
}

impl Folder {
    /// Opens both; `ledger.db` must be there.
    ///
    /// # Errors
    /// What the databases say.
    pub async fn open(dir: &Path) -> Result<Self, ViewError> {
        migrate(dir).await?;
        let views = write_options(dir).connect().await?;
        let ledger = log_options(dir).connect().await?;
        Ok(Self { views, ledger })
    }

    /// The log.
    pub fn log(&mut self) -> Connection<'_> {
        Connection::sqlite(&mut self.ledger)
    }

    /// The read models, outside of any transaction.
    pub fn views(&mut self) -> Connection<'_> {
        Connection::sqlite(&mut self.views)
    }

    /// Takes the read models' one write lock; every checkpoint read from here on is the true one.
    ///
    /// # Errors
    /// What the database says.
    pub async fn begin(&mut self) -> Result<Transaction<'_, Sqlite>, ViewError> {
        Ok(self.views.begin_with("begin immediate").await?)
    }
}

/// Connections that read: `views.db` with `ledger.db` attached as `ledger` and `index.db` as `log_index`.
#[derive(Debug, Clone)]
pub struct ReadPool {
    pool: SqlitePool,
    /// How far this process's own projector has come, and how it is told that somebody waits for it.
    projector: Option<(watch::Receiver<u64>, Arc<Notify>)>,
}

/// The first and the longest pause of a read that waits for a position: what this process's own projector folds it is told at
/// once, so this is for what another process folds.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(5);
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(100);

impl ReadPool {
    /// Opens the pool; `ledger.db` must be there.
    ///
    /// # Errors
    /// What the databases say.
    pub async fn open(dir: &Path) -> Result<Self, ViewError> {
        migrate(dir).await?;
        let attached = ["ledger.db", "index.db"].map(|file| dir.join(file).display().to_string());
        let options = SqliteConnectOptions::new()
            .filename(dir.join("views.db"))
            .create_if_missing(false)
            .statement_cache_capacity(256)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            // A file does not hang up.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let [ledger, index] = attached.clone();
                Box::pin(async move {
                    sqlx::query("attach database $1 as ledger").bind(ledger).execute(&mut *connection).await?;
                    sqlx::query("attach database $1 as log_index").bind(index).execute(&mut *connection).await?;
                    sqlx::query("pragma query_only = on").execute(&mut *connection).await?;
                    Ok(())
                })
            })
            .connect_with(options)
            .await?;
        Ok(Self { pool, projector: None })
    }

    /// Lets reads that wait for a position be woken by whoever publishes how far the read models have come, after each commit;
    /// `wanted` tells it that somebody waits.
    #[must_use]
    pub fn woken_by(self, progress: watch::Receiver<u64>, wanted: Arc<Notify>) -> Self {
        Self { projector: Some((progress, wanted)), ..self }
    }

    /// Begins a read that has come at least as far as `min_position`, waiting for the projector at most `timeout`.
    ///
    /// # Errors
    /// [`ViewError::ViewBehind`] where it did not come that far in time.
    pub async fn begin(&self, min_position: u64, timeout: Duration) -> Result<Read, ViewError> {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut pause = POLL_INTERVAL_MIN;
        let mut projector = self.projector.clone().filter(|_| min_position > 0);
        loop {
            let mut transaction = self.pool.begin().await?;
            let (position, as_of) = checkpoint::reached(&mut Connection::sqlite(&mut transaction)).await?;
            if position >= min_position {
                return Ok(Read { transaction, position, as_of });
            }
            transaction.rollback().await?;
            if tokio::time::Instant::now() >= deadline {
                return Err(ViewError::ViewBehind { position });
            }
            let look_again = deadline.min(tokio::time::Instant::now() + pause);
            pause = (pause * 2).min(POLL_INTERVAL_MAX);
            let Some((published, wanted)) = projector.as_mut() else {
                tokio::time::sleep_until(look_again).await;
                continue;
            };
            wanted.notify_one();
            // What is published has been committed, so the next look sees it; it wakes once, and a publisher that has ended or
            // was wrong leaves polling.
            let reached = published.wait_for(|reached| *reached >= min_position);
            if tokio::time::timeout_at(look_again, reached).await.is_ok() {
                projector = None;
            }
        }
    }
}

/// One snapshot of all read models: checkpoint and rows are of the same moment. Dropping it ends it.
#[derive(Debug)]
pub struct Read {
    transaction: Transaction<'static, Sqlite>,
    position: u64,
    as_of: Timestamp,
}

impl Read {
    /// How far the read models have come.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When the event at that position was recorded.
    #[must_use]
    pub fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// The connection, within the snapshot.
    pub fn connection(&mut self) -> Connection<'_> {
        Connection::sqlite(&mut self.transaction)
    }
}
