//! The database that everybody is measured on: one that is named, or a throwaway server of the installed programs.
//!
//! A database that is named must be empty of what the run makes (the service's schemas, and `against` for the others), and is so
//! again afterwards: nothing of anybody else's is touched.

use anyhow::{Context, bail};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, Row};

use super::cluster::{self, Cluster, Durability, TestDatabase};

/// What the run makes, and removes.
const SCHEMAS: [&str; 4] = ["ledger", "views", "refusals", "against"];

/// Where the run takes place.
#[derive(Debug)]
pub(super) struct Place {
    url: String,
    options: PgConnectOptions,
    /// A throwaway server and the database on it, in the order in which they end.
    own: Option<(TestDatabase, Cluster)>,
}

/// What the server has promised, and what it has done so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    commits: f64,
    wal_bytes: f64,
}

impl Place {
    /// The database that is named, or one on a throwaway server where none is.
    ///
    /// # Errors
    /// No PostgreSQL is installed, the database does not answer, or holds what is not ours.
    pub(super) async fn find(url: &str) -> anyhow::Result<Self> {
        let own = if url.is_empty() {
            if cluster::find().is_none() {
                bail!("no PostgreSQL server is installed here: name a database with --against postgres://…");
            }
            let begun = tokio::task::spawn_blocking(|| {
                let cluster = Cluster::start(Durability::Full);
                (cluster.database(), cluster)
            });
            Some(begun.await?)
        } else {
            None
        };
        let url = own.as_ref().map_or(url, |(database, _)| database.url()).to_owned();
        let options: PgConnectOptions = url.parse().context("the database's address")?;
        let options = options.disable_statement_logging();
        let place = Self { url, options, own };
        let mut connection = place.options.connect().await.context("connecting to the database")?;
        for schema in SCHEMAS {
            let there = "select 1 from information_schema.schemata where schema_name = $1";
            if sqlx::query(there).bind(schema).fetch_optional(&mut connection).await?.is_some() {
                bail!("the database has a schema {schema} already: name an empty one");
            }
        }
        Ok(place)
    }

    /// Its address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Connections for somebody who is measured: as many as are asked for, and none of them tried out each time.
    pub(super) fn pool(&self, connections: usize) -> PgPool {
        let connections = u32::try_from(connections.max(1)).unwrap_or(u32::MAX);
        PgPoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false)
            .connect_lazy_with(self.options.clone())
    }

    /// The server's version, and whether it waits for the disk.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn settings(&self) -> anyhow::Result<String> {
        let mut connection = self.options.connect().await?;
        let sql = "select format('PostgreSQL %s, fsync=%s, synchronous_commit=%s, full_page_writes=%s, shared_buffers=%s', \
                   current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'), \
                   current_setting('full_page_writes'), current_setting('shared_buffers'))";
        Ok(connection.fetch_one(sql).await?.try_get(0)?)
    }

    /// How much the server has committed and written so far.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn done(&self) -> anyhow::Result<Done> {
        let mut connection = self.options.connect().await?;
        let sql = "select pg_stat_get_db_xact_commit(oid)::float8, (pg_current_wal_lsn() - '0/0')::float8 \
                   from pg_database where datname = current_database()";
        let row = connection.fetch_one(sql).await?;
        Ok(Done { commits: row.try_get(0)?, wal_bytes: row.try_get(1)? })
    }

    /// Removes what the run has made.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn tidy(self) -> anyhow::Result<()> {
        if self.own.is_none() {
            let mut connection = self.options.connect().await?;
            for schema in SCHEMAS {
                connection.execute(format!("drop schema if exists {schema} cascade").as_str()).await?;
            }
        }
        // A throwaway server stops by blocking.
        Ok(tokio::task::spawn_blocking(move || drop(self.own)).await?)
    }
}

impl Done {
    /// Commits and bytes of WAL since an earlier look.
    pub(super) fn since(self, earlier: Self) -> (f64, f64) {
        (self.commits - earlier.commits, self.wal_bytes - earlier.wal_bytes)
    }
}

/// How much processor time all of the machine's PostgreSQL processes have used, in seconds; 0 where the server is elsewhere.
/// Those that have ended meanwhile are missing: connections are kept open.
pub(super) fn server_seconds() -> f64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_server = |process: &u32| {
        std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "postgres")
    };
    numbers.filter(is_server).filter_map(super::machine::processor_seconds).sum()
}
