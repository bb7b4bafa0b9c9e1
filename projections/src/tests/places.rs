//! Stores for these tests: a directory of SQLite files, or a database on a throwaway PostgreSQL server.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use aggregates::event::{AggregateKey, EVENT_VERSION};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use super::server::{self, TestDatabase};
use super::{History, fold_everything};
use crate::DECLARED;
use crate::sql::{Changes, Connection, Database, Folder, Merge, POSTGRES_MIGRATIONS, Row, Server, Table, Value};

/// Which of the two a test is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
}

thread_local! {
    // A test's runtime has one thread.
    static KIND: Cell<Kind> = const { Cell::new(Kind::Sqlite) };
}

/// Where the stores of the test on this thread are from here on; says whether they can be there.
pub(super) fn on(kind: Kind) -> bool {
    KIND.set(kind);
    kind == Kind::Sqlite || server::shared().is_some()
}

/// Makes two tests of each function: one on SQLite, one on PostgreSQL.
macro_rules! on_both_stores {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                $crate::tests::places::on($crate::tests::places::Kind::Sqlite);
                super::$test().await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                if $crate::tests::places::on($crate::tests::places::Kind::Postgres) {
                    super::$test().await;
                }
            })+
        }
    };
}
pub(super) use on_both_stores;

/// A store of one test's own.
pub(super) enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(TestDatabase),
}

impl Place {
    /// An empty one, of the kind that the test is on.
    pub(super) async fn new() -> Self {
        match KIND.get() {
            Kind::Sqlite => Self::Sqlite(tempfile::tempdir().unwrap()),
            Kind::Postgres => {
                let place = Self::Postgres(server::database().unwrap());
                let mut connection = place.server().connect().await.unwrap().0;
                sqlx::raw_sql("create schema views; set search_path = views").execute(&mut connection).await.unwrap();
                POSTGRES_MIGRATIONS.run(&mut connection).await.unwrap();
                connection.close().await.unwrap();
                place
            }
        }
    }

    fn server(&self) -> Server {
        let Self::Postgres(database) = self else { panic!("not on PostgreSQL") };
        let options = PgConnectOptions::from_str(database.url()).unwrap().disable_statement_logging();
        Server { hosts: [options].into(), read_write: true, pooled: false }
    }

    pub(super) fn database(&self) -> Database {
        match self {
            Self::Sqlite(dir) => Database::Sqlite(dir.path().to_owned()),
            Self::Postgres(_) => Database::Postgres(self.server()),
        }
    }

    /// Where the files are.
    pub(super) fn dir(&self) -> &Path {
        let Self::Sqlite(dir) = self else { panic!("not on SQLite") };
        dir.path()
    }

    /// A log with these events.
    pub(super) async fn write_log(&self, history: &History) {
        match self {
            Self::Sqlite(dir) => drop(write_log(dir.path(), history).await),
            Self::Postgres(_) => self.write_log_to_postgres(history).await,
        }
    }

    async fn write_log_to_postgres(&self, history: &History) {
        let mut connection: PgConnection = self.server().connect().await.unwrap().0;
        sqlx::raw_sql(
            "create schema ledger; create table ledger.events(position bigint primary key, aggregate_type text, \
             aggregate_id text, sequence bigint, event_type text, event_version text, payload json, metadata json, \
             recorded_at timestamptz, hash bytea, actor text, command_id text, \
             unique(aggregate_type, aggregate_id, sequence)); \
             create table ledger.personal_data (client_id text primary key, salt text, name text, email text, metadata text); \
             create temp table events(position bigint primary key, aggregate_type text, aggregate_id text, sequence bigint, \
             event_type text, event_version text, payload text, metadata text, recorded_at text, hash bytea, actor text, \
             command_id text)",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        Connection::postgres(&mut connection, true).apply(rows(history)).await.unwrap();
        sqlx::raw_sql(
            "insert into ledger.events select position, aggregate_type, aggregate_id, sequence, event_type, event_version, \
             payload::json, metadata::json, recorded_at::timestamptz, hash, actor, command_id from events",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
    }

    /// Changes the log by hand.
    pub(super) async fn tamper(&self, sql: &str) {
        match self {
            Self::Sqlite(dir) => {
                let options = SqliteConnectOptions::new().filename(dir.path().join("ledger.db"));
                sqlx::raw_sql(sql).execute(&mut options.connect().await.unwrap()).await.unwrap();
            }
            Self::Postgres(database) => {
                database.sql(&format!("set search_path = ledger; {sql}")).unwrap();
            }
        }
    }

    /// Has the log be that of another history, in which the same happened: only the hashes say so. The read models are folded
    /// from it, so many events at a time, in the same tables.
    pub(super) async fn become_another_history(&self, limit: usize) {
        self.tamper("update events set hash = substr(hash, 2)").await;
        for table in DECLARED.iter().flat_map(|one| one.tables).map(|table| table.name).chain(["checkpoints"]) {
            self.spoil(&format!("delete from {table}")).await;
        }
        self.fold(limit).await;
    }

    /// What somebody with a shell does to a database as the service's role; how many rows it changed, or why not.
    pub(super) fn try_sql(&self, sql: &str) -> Result<u64, String> {
        let Self::Postgres(database) = self else { panic!("not on PostgreSQL") };
        database.sql(sql).map_err(|error| error.to_string())
    }

    /// The same where it must work.
    pub(super) fn sql(&self, sql: &str) -> u64 {
        self.try_sql(sql).unwrap()
    }

    /// Changes the read models by hand, as the projector could; or why not.
    pub(super) async fn try_spoil(&self, sql: &str) -> Result<(), String> {
        match self {
            Self::Sqlite(_) => {
                let mut folder = Folder::open(&self.database()).await.unwrap();
                let mut look = folder.look().await.unwrap();
                look.views().fetch(sql, vec![]).await.map(drop).map_err(|error| error.to_string())
            }
            Self::Postgres(_) => {
                self.try_sql(&format!("set search_path = views; set tallytree.scope = 'all'; {sql}")).map(drop)
            }
        }
    }

    /// The same where it must work.
    pub(super) async fn spoil(&self, sql: &str) {
        self.try_spoil(sql).await.unwrap();
    }

    /// Indexes and policies, as PostgreSQL has them.
    pub(super) async fn schema(&self) -> Vec<String> {
        match self {
            Self::Sqlite(_) => Vec::new(),
            Self::Postgres(_) => {
                let sql = "select indexdef from pg_indexes where schemaname like 'views%' union all \
                           select concat_ws(' ', schemaname, tablename, policyname, cmd, qual) from pg_policies \
                           where schemaname like 'views%' order by 1";
                self.fetch(sql).await.iter().map(|row| row.columns().string().unwrap()).collect()
            }
        }
    }

    /// Folds all there is, so many events at a time.
    pub(super) async fn fold(&self, limit: usize) {
        fold_everything(&self.database(), limit).await;
    }

    /// What a query of the read models answers.
    pub(super) async fn fetch(&self, sql: &str) -> Vec<Row> {
        let mut folder = Folder::open(&self.database()).await.unwrap();
        let mut look = folder.look().await.unwrap();
        look.views().fetch(sql, vec![]).await.unwrap()
    }

    /// Every row of every table, as text.
    pub(super) async fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        let declared = DECLARED.iter().flat_map(|one| one.tables).map(|table| table.name);
        for table in declared.chain(["checkpoints"]) {
            for row in self.fetch(&format!("select * from {table}")).await {
                all.push(format!("{table}: {:?}", row.values().unwrap()));
            }
        }
        all.sort();
        all
    }

    /// The names of all tables of the read models.
    pub(super) async fn tables(&self) -> Vec<String> {
        let sql = match self {
            Self::Sqlite(_) => "select name from sqlite_master where type = 'table'",
            Self::Postgres(_) => "select cast(tablename as text) from pg_tables where schemaname = 'views'",
        };
        let tables = self.fetch(sql).await;
        tables.iter().map(|row| row.columns().string().unwrap()).filter(|name| !name.starts_with("_sqlx")).collect()
    }
}

static EVENTS: Table = Table {
    name: "events",
    columns: &[
        ("position", Merge::Key),
        ("aggregate_type", Merge::Keep),
        ("aggregate_id", Merge::Keep),
        ("sequence", Merge::Keep),
        ("event_type", Merge::Keep),
        ("event_version", Merge::Keep),
        ("payload", Merge::Keep),
        ("metadata", Merge::Keep),
        ("recorded_at", Merge::Keep),
        ("hash", Merge::Keep),
        ("actor", Merge::Keep),
        ("command_id", Merge::Keep),
    ],
};

/// A history as rows of a log.
fn rows(history: &History) -> Changes {
    let mut sequences: BTreeMap<AggregateKey, u64> = BTreeMap::new();
    let mut changes = Changes::default();
    for (index, (key, event, recorded_at)) in history.events.iter().enumerate() {
        let sequence = sequences.entry(key.clone()).or_default();
        *sequence += 1;
        let position = index as u64 + 1;
        changes.put(
            &EVENTS,
            [
                position.into(),
                key.aggregate_type().into(),
                key.aggregate_id().into(),
                (*sequence).into(),
                event.event_type().into(),
                EVENT_VERSION.into(),
                event.payload().unwrap().into(),
                r#"{"actor":"user","role":"super_admin","command_id":"-"}"#.into(),
                recorded_at.as_str().into(),
                Value::Bytes(position.to_be_bytes().repeat(4)),
                "user".into(),
                Value::text(Uuid::from_u128(position.into())),
            ],
        );
    }
    changes
}

/// A `ledger.db` as the store makes it, as far as the read side looks at it.
pub(super) async fn write_log(dir: &Path, history: &History) -> SqliteConnection {
    // An index that has come nowhere yet: what is not in it is looked for in the log.
    let mut index =
        SqliteConnectOptions::new().filename(dir.join("index.db")).create_if_missing(true).connect().await.unwrap();
    let sql = "create table if not exists progress (position integer); insert into progress values (0); \
               create table if not exists streams (aggregate_type text, aggregate_id text, sequence integer, position integer)";
    sqlx::raw_sql(sql).execute(&mut index).await.unwrap();
    let mut connection =
        SqliteConnectOptions::new().filename(dir.join("ledger.db")).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(
        "pragma journal_mode = wal; create table events(position integer primary key, aggregate_type text, \
         aggregate_id text, sequence integer, event_type text, event_version text, payload text, metadata text, \
         recorded_at text, hash blob, actor text, command_id text, unique(aggregate_type, aggregate_id, sequence)); \
         create table personal_data (client_id text primary key, salt text, name text, email text, metadata text);",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    sqlx::raw_sql("begin").execute(&mut connection).await.unwrap();
    Connection::sqlite(&mut connection).apply(rows(history)).await.unwrap();
    sqlx::raw_sql("commit").execute(&mut connection).await.unwrap();
    connection
}
