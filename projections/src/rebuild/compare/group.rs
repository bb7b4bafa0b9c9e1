//! Some projections, folded into a database of their own, and the live ones beside it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::OpenFlags;
use tokio::runtime::Runtime;

use super::tables::{self, Live};
use super::{Compared, Difference};
use crate::batch::LogEvent;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::rebuild::hash_at;
use crate::sql::{Changes, Connection, Database, ViewError, sqlite};
use crate::{Declared, fold_into};

/// How much of a group's database is kept in memory, in KiB.
const CACHE_KIB: i64 = 16 * 1024;

/// Some projections.
#[derive(Debug)]
pub(super) struct Group {
    runtime: Runtime,
    /// What the log folds to; files have the live ones attached to it, as `views` and `ledger`.
    folded: rusqlite::Connection,
    database: Database,
    live: Live,
    /// Where the live ones stand; nobody knows yet before they are settled.
    checkpoints: Option<Checkpoints>,
    projections: Vec<&'static Declared>,
    /// Where the fold has come.
    position: u64,
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
    pub(super) fn begin(
        database: &Database,
        runtime: Runtime,
        projections: Vec<&'static Declared>,
    ) -> Result<Self, ViewError> {
        // No name: a database that nobody else sees and that is gone when it is closed. Nothing in it has to outlive anything.
        let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let folded = rusqlite::Connection::open_with_flags("", flags)?;
        folded.set_prepared_statement_cache_capacity(256);
        folded.pragma_update(None, "journal_mode", "off")?;
        folded.pragma_update(None, "synchronous", "off")?;
        folded.pragma_update(None, "cache_size", -CACHE_KIB)?;
        folded.busy_timeout(std::time::Duration::from_secs(5))?;
        sqlite::create_directly(&folded)?;
        let live = match database {
            Database::Sqlite(dir) => {
                attach(&folded, dir)?;
                Live::Attached
            }
            Database::Postgres(_) => Live::NotYet,
        };
        drop_indexes(&folded)?;
        folded.execute_batch("begin")?;
        Ok(Self {
            runtime,
            folded,
            database: database.clone(),
            live,
            checkpoints: None,
            projections,
            position: 0,
            compared: Vec::new(),
        })
    }

    /// Where the fold has come.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Takes the snapshot of the live ones, and compares what stands where the fold has come.
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
                let mut live = Connection::direct(&mut self.folded);
                let checkpoints = self.runtime.block_on(Checkpoints::load_from(&mut live, "views.checkpoints"))?;
                self.runtime.block_on(look_up(&checkpoints, &mut self.projections, &mut self.compared, &mut live))?;
                checkpoints
            }
        };
        let stands = |one: &&Declared| checkpoints.of(one.name).position;
        if let Some(back) = self.projections.iter().find(|one| stands(one) < self.position) {
            return Err(ViewError::HistoryCut(format!(
                "{} went back to {} while it was being compared: verify again",
                back.name,
                stands(back)
            )));
        }
        self.checkpoints = Some(checkpoints);
        self.compare_here()
    }

    /// Folds events, and compares each projection where it stands.
    pub(super) fn fold(&mut self, mut events: &[LogEvent]) -> Result<(), ViewError> {
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
            let names: Vec<&str> = self.projections.iter().map(|one| one.name).collect();
            let mut connection = Connection::direct(&mut self.folded);
            self.runtime.block_on(async {
                let mut changes = Changes::default();
                fold_into(&names, &mut connection, &Checkpoints::default(), now, &mut changes).await?;
                connection.apply(changes).await
            })?;
            self.position = last.position.min(stop);
            self.compare_here()?;
            events = later;
        }
        Ok(())
    }

    /// Compares the projections that stand where the fold has come.
    fn compare_here(&mut self) -> Result<(), ViewError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let is_here = |one: &&Declared| checkpoints.of(one.name).position == self.position;
        let (here, later) = std::mem::take(&mut self.projections).into_iter().partition(is_here);
        self.projections = later;
        for projection in here {
            let Declared { name, tables, .. } = projection;
            for table in *tables {
                let compared = tables::compare(table.name, &mut self.folded, &mut self.live, &self.runtime)?;
                self.compared.push(Compared { projection: name, position: self.position, ..compared });
            }
        }
        Ok(())
    }

    /// What came of it, where all were folded to where they stand.
    pub(super) fn end(self) -> Result<Vec<Compared>, ViewError> {
        match self.projections.first() {
            Some(left) => Err(ViewError::HistoryCut(format!(
                "the events end at {}, before where {} stands",
                self.position, left.name
            ))),
            None => Ok(self.compared),
        }
    }
}

/// What only queries need; the fold loads by primary keys and unique indexes.
fn drop_indexes(folded: &rusqlite::Connection) -> Result<(), ViewError> {
    let mut names: Vec<String> = Vec::new();
    let sql = "select name from main.sqlite_schema where type = 'index' and sql like 'create index %'";
    let mut statement = folded.prepare(sql)?;
    for name in statement.query_map([], |row| row.get(0))? {
        names.push(name?);
    }
    for name in names {
        folded.execute_batch(&format!("drop index main.{name}"))?;
    }
    Ok(())
}

/// Compares each checkpoint with the log. What stands on an event that the log does not hold cannot be folded up to it.
async fn look_up(
    checkpoints: &Checkpoints,
    projections: &mut Vec<&'static Declared>,
    compared: &mut Vec<Compared>,
    log: &mut Connection<'_>,
) -> Result<(), ViewError> {
    let mut known: BTreeMap<u64, Option<Vec<u8>>> = BTreeMap::new();
    let mut is_in_log = Vec::new();
    for projection in std::mem::take(projections) {
        let Checkpoint { position, hash } = checkpoints.of(projection.name);
        if position == 0 {
            continue;
        }
        let in_log = match known.get(&position) {
            Some(in_log) => in_log.clone(),
            None => known.entry(position).or_insert(hash_at(log, position).await?).clone(),
        };
        let is_there = in_log.as_ref() == Some(&hash);
        compared.push(Compared {
            projection: projection.name,
            position,
            rows: 1,
            differences: u64::from(!is_there),
            first: (!is_there).then(|| Difference {
                what: format!("event under the checkpoint of {} at {position}", projection.name),
                expected: in_log.as_deref().map_or_else(|| "none in the log".to_owned(), tables::hexadecimal),
                found: tables::hexadecimal(&hash),
            }),
        });
        if in_log.is_some() {
            is_in_log.push(projection);
        }
    }
    *projections = is_in_log;
    Ok(())
}
