//! Some projections, folded into a database of their own, and the live ones beside it.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::runtime::Runtime;

use super::folded::Folded;
use super::tables::{self, Live};
use super::{Compared, Detail, Difference};
use crate::Declared;
use crate::batch::LogEvent;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::rebuild::changes;
use crate::sql::{Connection, Database, Table, ViewError};

/// Some projections.
#[derive(Debug)]
pub(super) struct Group {
    runtime: Runtime,
    /// What the log folds to, up to where the fold has come; files have the live ones attached to it, as `views` and `ledger`.
    folded: Folded,
    database: Database,
    live: Live,
    /// Where the live ones stand; nobody knows yet before they are settled.
    checkpoints: Option<Checkpoints>,
    projections: Vec<&'static Declared>,
    /// The tables of which it is only known what their rows come to.
    digested: Vec<&'static Table>,
    compared: Vec<Compared>,
}

/// Where the live read models stand now; `None` where there are none.
pub(super) fn checkpoints(database: &Database, runtime: &Runtime) -> Result<Option<Checkpoints>, ViewError> {
    match database {
        Database::Sqlite(dir) => {
            if !dir.join("views.db").exists() {
                return Ok(None);
            }
            let mut nothing = rusqlite::Connection::open_in_memory()?;
            attach(&nothing, dir)?;
            let sql = "select 1 from views.sqlite_schema where type = 'table' and name = 'checkpoints'";
            let mut connection = Connection::direct(&mut nothing);
            if runtime.block_on(connection.fetch_one(sql, Vec::new()))?.is_none() {
                return Ok(None);
            }
            runtime.block_on(Checkpoints::load_from(&mut connection, "views.checkpoints")).map(Some)
        }
        Database::Postgres(server) => runtime.block_on(async {
            let (mut connection, _) = server.connect().await?;
            let mut connection = Connection::postgres(&mut connection, false);
            let sql = "select 1 where to_regclass('views.checkpoints') is not null";
            if connection.fetch_one(sql, Vec::new()).await?.is_none() {
                return Ok(None);
            }
            Checkpoints::load_from(&mut connection, "views.checkpoints").await.map(Some)
        }),
    }
}

/// Attaches the live files, only to be read. Their snapshots are taken when they are first looked at in a transaction.
fn attach(connection: &rusqlite::Connection, dir: &Path) -> Result<(), ViewError> {
    for (file, name) in [("views.db", "views"), ("ledger.db", "ledger")] {
        let path = format!("file:{}?mode=ro", uri(&dir.join(file)));
        connection.execute(&format!("attach database ?1 as {name}"), [path])?;
    }
    Ok(())
}

/// A path as a URI has it.
fn uri(path: &Path) -> String {
    let text = path.display().to_string();
    text.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

impl Group {
    /// Begins; with a file it goes on from what is kept in it.
    pub(super) fn begin(
        database: &Database,
        runtime: Runtime,
        projections: Vec<&'static Declared>,
        detail: Detail,
        file: Option<&Path>,
    ) -> Result<Self, ViewError> {
        let names: Vec<&str> = projections.iter().map(|one| one.name).collect();
        let folded = match file {
            Some(file) => Folded::kept(file, &names)?,
            None => Folded::nameless()?,
        };
        let live = match database {
            Database::Sqlite(dir) => {
                attach(&folded.connection, dir)?;
                Live::Attached
            }
            Database::Postgres(_) => Live::NotYet,
        };
        folded.begin()?;
        debug_assert!(projections.iter().all(|one| one.reads.is_empty()), "each is written before the next is read");
        let written_once = || projections.iter().flat_map(|one| one.written_once).copied().collect();
        let digested = if detail == Detail::Digests { written_once() } else { Vec::new() };
        let (database, compared) = (database.clone(), Vec::new());
        Ok(Self { runtime, folded, database, live, checkpoints: None, projections, digested, compared })
    }

    /// Keeps what was folded so far, where there is a file for it.
    pub(super) fn keep(&mut self) -> Result<(), ViewError> {
        self.folded.keep()
    }

    /// Where the fold has come.
    pub(super) fn reached(&self) -> &Checkpoint {
        &self.folded.reached
    }

    /// Takes the snapshot of the live ones. [`Self::compare_here`] is to follow.
    pub(super) fn settle(&mut self) -> Result<(), ViewError> {
        if let Database::Postgres(server) = &self.database {
            self.live = Live::Server(Box::new(self.runtime.block_on(server.snapshot())?));
        }
        let checkpoints = match &mut self.live {
            Live::Server(live) => {
                let mut live = Connection::postgres(live, false);
                let checkpoints = self.runtime.block_on(Checkpoints::load_from(&mut live, "views.checkpoints"))?;
                self.runtime.block_on(look_up(&checkpoints, &mut self.projections, &mut self.compared, &mut live))?;
                checkpoints
            }
            Live::Attached | Live::NotYet => {
                let mut live = Connection::direct(&mut self.folded.connection);
                let checkpoints = self.runtime.block_on(Checkpoints::load_from(&mut live, "views.checkpoints"))?;
                self.runtime.block_on(look_up(&checkpoints, &mut self.projections, &mut self.compared, &mut live))?;
                checkpoints
            }
        };
        let stands = |one: &&Declared| checkpoints.of(one.name).position;
        if let Some(back) = self.projections.iter().find(|one| stands(one) < self.folded.reached.position) {
            return Err(ViewError::HistoryCut(format!(
                "{} went back to {} while it was being compared: verify again",
                back.name,
                stands(back)
            )));
        }
        self.checkpoints = Some(checkpoints);
        Ok(())
    }

    /// Folds events, and compares each projection where it stands.
    pub(super) fn fold(&mut self, mut events: &[LogEvent]) -> Result<(), ViewError> {
        // What is kept may have come further than whoever hands the events in.
        events = &events[events.partition_point(|event| event.position <= self.folded.reached.position)..];
        while let Some(last) = events.last() {
            let stop = match &self.checkpoints {
                None => last.position,
                Some(checkpoints) => {
                    let stops = self.projections.iter().map(|one| checkpoints.of(one.name).position);
                    let Some(stop) = stops.min() else { break };
                    stop
                }
            };
            let (now, later) = events.split_at(events.partition_point(|event| event.position <= stop));
            let Folded { connection, digests, .. } = &mut self.folded;
            let mut connection = Connection::direct(connection);
            // One after the other: what all of them change at once takes room. None reads what another writes.
            for projection in &self.projections {
                let mut changes = self.runtime.block_on(changes(&[projection.name], &mut connection, now))?;
                for (table, rows) in changes.take(&self.digested).into_tables() {
                    digests.fold(table.name, table.columns.len(), &rows);
                }
                self.runtime.block_on(connection.apply(changes))?;
            }
            if let Some(event) = now.last() {
                self.folded.reached = Checkpoint::at(event);
            }
            self.compare_here()?;
            events = later;
        }
        Ok(())
    }

    /// Compares the projections that stand where the fold has come.
    pub(super) fn compare_here(&mut self) -> Result<(), ViewError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let is_here = |one: &&Declared| checkpoints.of(one.name).position == self.folded.reached.position;
        let (here, later) = std::mem::take(&mut self.projections).into_iter().partition(is_here);
        self.projections = later;
        for projection in here {
            let Declared { name, tables, .. } = projection;
            for table in *tables {
                let Folded { connection, digests, .. } = &mut self.folded;
                let is_digested = self.digested.iter().any(|digested| std::ptr::eq(*digested, *table));
                let compared = if is_digested {
                    tables::compare_digests(table, digests, connection, &mut self.live, &self.runtime)?
                } else {
                    tables::compare(table.name, connection, &mut self.live, &self.runtime)?
                };
                self.compared.push(Compared { projection: name, position: self.folded.reached.position, ..compared });
            }
        }
        Ok(())
    }

    /// What came of it, where all were folded to where they stand.
    pub(super) fn end(self) -> Result<Vec<Compared>, ViewError> {
        match self.projections.first() {
            Some(left) => Err(ViewError::HistoryCut(format!(
                "the events end at {}, before where {} stands",
                self.folded.reached.position, left.name
            ))),
            None => Ok(self.compared),
        }
    }
}

/// Holds a table of a projection that has not begun to be empty.
async fn is_empty(projection: &'static str, table: &str, views: &mut Connection<'_>) -> Result<Compared, ViewError> {
    let sql = format!("select count(*) from views.{table}");
    let row = views.fetch_one(&sql, Vec::new()).await?;
    let rows = row.map_or(Ok(0), |row| row.columns().count())?;
    let first = (rows > 0).then(|| Difference {
        what: table.to_owned(),
        expected: "no row: by its checkpoint nothing has been folded into it".to_owned(),
        found: format!("rows: {rows}"),
    });
    Ok(Compared { projection, position: 0, rows, differences: rows, first })
}

/// What the log says of the event at a position, as a checkpoint does.
async fn hash_and_time_at(log: &mut Connection<'_>, position: u64) -> Result<Option<(Vec<u8>, String)>, ViewError> {
    let sql = format!("select hash, {} from events where position = $1", log.dialect().time("recorded_at"));
    let row = log.fetch_one(&sql, vec![position.into()]).await?;
    row.map(|row| {
        let mut columns = row.columns();
        Ok((columns.bytes()?, columns.string()?))
    })
    .transpose()
}

/// Compares each checkpoint with the log. What stands on an event that the log does not hold cannot be folded up to it.
async fn look_up(
    checkpoints: &Checkpoints,
    projections: &mut Vec<&'static Declared>,
    compared: &mut Vec<Compared>,
    log: &mut Connection<'_>,
) -> Result<(), ViewError> {
    let mut known: BTreeMap<u64, Option<(Vec<u8>, String)>> = BTreeMap::new();
    let mut times: BTreeMap<String, String> = BTreeMap::new();
    for row in log.fetch("select projection, recorded_at from views.checkpoints", Vec::new()).await? {
        let mut columns = row.columns();
        times.insert(columns.string()?, columns.string()?);
    }
    let mut is_in_log = Vec::new();
    for projection in std::mem::take(projections) {
        let Checkpoint { position, hash } = checkpoints.of(projection.name);
        if position == 0 {
            // Nothing has been folded, so there can be nothing.
            for table in projection.tables {
                compared.push(is_empty(projection.name, table.name, log).await?);
            }
            continue;
        }
        let in_log = match known.get(&position) {
            Some(in_log) => in_log.clone(),
            None => known.entry(position).or_insert(hash_and_time_at(log, position).await?).clone(),
        };
        let told = |(hash, time): &(Vec<u8>, String)| format!("{} of {time}", tables::hexadecimal(hash));
        let found = (hash, times.remove(projection.name).unwrap_or_default());
        let is_there = in_log.as_ref() == Some(&found);
        compared.push(Compared {
            projection: projection.name,
            position,
            rows: 1,
            differences: u64::from(!is_there),
            first: (!is_there).then(|| Difference {
                what: format!("event under the checkpoint of {} at {position}", projection.name),
                expected: in_log.as_ref().map_or_else(|| "none in the log".to_owned(), told),
                found: told(&found),
            }),
        });
        if in_log.is_some() {
            is_in_log.push(projection);
        }
    }
    *projections = is_in_log;
    Ok(())
}
