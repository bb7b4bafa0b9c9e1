//! A rebuild on PostgreSQL: a schema beside the live one, made by the same migrations, and the exchange of its tables.
//!
//! The rebuilding session finds the shadows by its `search_path`; a table that is not rebuilt is not there, so none can be read
//! unseen. Filling takes no lock that anybody else wants. The exchange locks `checkpoints`, which every read and every fold
//! touches first: it begins once those that are under way have ended, and who comes meanwhile waits for it, before it has taken
//! its snapshot. It gives up and tries again where it would have to wait for long.

use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{Progress, REST_EVENTS_MAX, RebuildError, Rebuilt, changes, end, read_on};
use crate::checkpoint::{Checkpoints, Reached};
use crate::sql::{Changes, Connection, POSTGRES_MIGRATIONS, Server, ViewError, postgres};
use crate::{DECLARED, Declared};

/// The right to rebuild, of one session: a number that is nobody else's in this database.
const LOCK: &str = "select pg_try_advisory_lock(7373002)";
/// The shadows, and what they have replaced.
const SCHEMAS: [&str; 2] = ["views_rebuild", "views_retired"];
/// How long it is until it tries again to exchange.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it tries, which is for some minutes.
const TRIES: u32 = 120;

/// A session that has the right to rebuild.
async fn session(server: &Server) -> Result<PgConnection, RebuildError> {
    if server.pooled {
        return Err(ViewError::Unreadable(
            "a rebuild needs a session of its own: name the database itself, not the pooler".to_owned(),
        )
        .into());
    }
    let (mut connection, _) = server.connect().await?;
    // Everything here is found in the schemas that are named, and nothing of it is a tenant's.
    let set = "set search_path = views_rebuild, ledger; set synchronous_commit = off; set tallytree.scope = 'all'";
    connection.execute(sqlx::raw_sql(set)).await?;
    Ok(connection)
}

async fn has_right(connection: &mut PgConnection) -> Result<bool, ViewError> {
    let row = Connection::postgres(connection, true).fetch_one(LOCK, Vec::new()).await?;
    row.map_or(Ok(false), |row| row.columns().boolean())
}

/// Drops what is left, and says how many tables and indexes there were.
async fn drop_leftovers(connection: &mut PgConnection) -> Result<usize, ViewError> {
    let count = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                 where c.relkind in ('r', 'i') and n.nspname in ('views_rebuild', 'views_retired')";
    let row = Connection::postgres(connection, true).fetch_one(count, Vec::new()).await?;
    let left = row.map_or(Ok(0), |row| row.columns().count())?;
    for schema in SCHEMAS {
        connection.execute(sqlx::raw_sql(&format!("drop schema if exists {schema} cascade"))).await?;
    }
    usize::try_from(left).map_err(ViewError::unreadable)
}

/// As [`super::clean`].
pub(super) async fn clean(server: &Server) -> Result<usize, RebuildError> {
    if server.pooled {
        return Ok(0);
    }
    let mut connection = session(server).await?;
    let dropped = if has_right(&mut connection).await? { drop_leftovers(&mut connection).await? } else { 0 };
    connection.close().await?;
    Ok(dropped)
}

/// A rebuild under way.
#[derive(Debug)]
pub(super) struct Rebuild {
    /// Has the right, and the shadows before it.
    connection: PgConnection,
    projections: Vec<&'static Declared>,
    names: Vec<&'static str>,
    reached: Reached,
    begun: Instant,
}

impl Rebuild {
    /// Makes the shadows.
    pub(super) async fn begin(server: &Server, projections: &[&'static Declared]) -> Result<Self, RebuildError> {
        let mut connection = session(server).await?;
        if !has_right(&mut connection).await? {
            return Err(RebuildError::Running);
        }
        drop_leftovers(&mut connection).await?;
        connection.execute(sqlx::raw_sql("create schema views_rebuild; create schema views_retired")).await?;
        let migrations =
            Migrator { migrations: POSTGRES_MIGRATIONS.migrations.clone(), locking: false, ..Migrator::DEFAULT };
        migrations.run(&mut connection).await.map_err(ViewError::from)?;
        for other in DECLARED.iter().filter(|one| projections.iter().all(|chosen| chosen.name != one.name)) {
            for table in other.tables {
                connection.execute(sqlx::raw_sql(&format!("drop table views_rebuild.{} cascade", table.name))).await?;
            }
        }
        Ok(Self {
            connection,
            projections: projections.to_vec(),
            names: projections.iter().map(|projection| projection.name).collect(),
            reached: Reached::default(),
            begun: Instant::now(),
        })
    }

    pub(super) fn projections(&self) -> &[&'static str] {
        &self.names
    }

    pub(super) async fn run(
        mut self,
        mut go_on: impl FnMut(Progress) -> bool + Send,
    ) -> Result<Option<Rebuilt>, RebuildError> {
        let exchanged = self.fill_and_exchange(&mut go_on).await;
        let took = self.begun.elapsed();
        let dropped = drop_leftovers(&mut self.connection).await;
        let exchanged = exchanged?;
        dropped?;
        self.connection.close().await?;
        let position = self.reached.checkpoint.position;
        Ok(exchanged.map(|exchange| Rebuilt { projections: self.names, position, took, exchange }))
    }

    async fn fill_and_exchange(
        &mut self,
        go_on: &mut (impl FnMut(Progress) -> bool + Send),
    ) -> Result<Option<Duration>, ViewError> {
        let mut tries = 0;
        loop {
            let end = self.end().await?;
            if !go_on(Progress { position: self.reached.checkpoint.position, end }) {
                return Ok(None);
            }
            if end.saturating_sub(self.reached.checkpoint.position) > REST_EVENTS_MAX {
                if !self.fill(end, go_on).await? {
                    return Ok(None);
                }
                continue;
            }
            match self.exchange().await {
                Ok(Some(took)) => {
                    let position = self.reached.checkpoint.position;
                    go_on(Progress { position, end: position });
                    return Ok(Some(took));
                }
                Ok(None) => {}
                Err(ViewError::Database(error)) if tries < TRIES && postgres::is_refused_lock(&error) => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn end(&mut self) -> Result<u64, ViewError> {
        let mut connection = Connection::postgres(&mut self.connection, true);
        let checkpoints = Checkpoints::load_from(&mut connection, "views.checkpoints").await?;
        Ok(end(&self.names, &checkpoints, &mut connection).await?.position)
    }

    /// Folds the events up to this position into the shadows; false where it was told to stop.
    async fn fill(&mut self, end: u64, go_on: &mut (impl FnMut(Progress) -> bool + Send)) -> Result<bool, ViewError> {
        while self.reached.checkpoint.position < end {
            let mut transaction = self.connection.begin().await?;
            let mut connection = Connection::postgres(&mut transaction, true);
            let events = read_on(&mut connection, self.reached.checkpoint.position, end).await?;
            let Some(last) = events.last().map(Reached::at) else { break };
            let changes = changes(&self.names, &mut connection, &events).await?;
            connection.apply(changes).await?;
            transaction.commit().await?;
            self.reached = last;
            if !go_on(Progress { position: self.reached.checkpoint.position, end }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Under the lock of all who read and fold: folds the rest and exchanges the tables. Says for how long the lock was held, or
    /// `None` where too much was left to be folded under it.
    async fn exchange(&mut self) -> Result<Option<Duration>, ViewError> {
        let mut transaction = self.connection.begin().await?;
        let lock = "set local lock_timeout = '1s'; lock table views.checkpoints in access exclusive mode";
        transaction.execute(sqlx::raw_sql(lock)).await?;
        let begun = Instant::now();
        let mut connection = Connection::postgres(&mut transaction, true);
        let checkpoints = Checkpoints::load_from(&mut connection, "views.checkpoints").await?;
        let end = end(&self.names, &checkpoints, &mut connection).await?;
        let mut reached = self.reached.clone();
        let Some(rest) = end.position.checked_sub(reached.checkpoint.position) else {
            return Err(ViewError::HistoryCut("a checkpoint went back".into()));
        };
        if rest > 2 * REST_EVENTS_MAX {
            transaction.rollback().await?;
            return Ok(None);
        }
        while reached.checkpoint.position < end.position {
            let events = read_on(&mut connection, reached.checkpoint.position, end.position).await?;
            let Some(last) = events.last().map(Reached::at) else { break };
            let changes = changes(&self.names, &mut connection, &events).await?;
            connection.apply(changes).await?;
            reached = last;
        }
        if reached.checkpoint != end {
            return Err(ViewError::HistoryCut(format!("the log's event at position {} has changed", end.position)));
        }
        for table in self.projections.iter().flat_map(|projection| projection.tables) {
            let name = table.name;
            connection.execute(&format!("alter table views.{name} set schema views_retired"), Vec::new()).await?;
            connection.execute(&format!("alter table views_rebuild.{name} set schema views"), Vec::new()).await?;
        }
        for name in &self.names {
            let delete = "delete from views.checkpoints where projection = $1";
            connection.execute(delete, vec![(*name).into()]).await?;
        }
        let mut moved = Changes::default();
        Checkpoints::default().advance(&self.names, &reached, &mut moved);
        // The live checkpoints, not the shadow's.
        connection.execute("drop table views_rebuild.checkpoints", Vec::new()).await?;
        connection.execute("set local search_path = views", Vec::new()).await?;
        connection.apply(moved).await?;
        transaction.commit().await?;
        self.reached = reached;
        Ok(Some(begun.elapsed()))
    }
}
