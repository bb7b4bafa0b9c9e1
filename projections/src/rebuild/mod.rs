//! Read models folded anew from the first event: beside the live ones, to take their place, or to compare them.
//!
//! Shape of a rebuild ([`Rebuild`]): make a [`shadow`] of each table, fill the shadows with what the log folds to, fold on batch by
//! batch until they have almost come to where the live tables are, then, in one short transaction under the read models' write
//! lock, fold the rest and exchange the tables and their checkpoints. Readers see what was there before or what is there after,
//! in one piece; row keys are functions of the events, so cursors go on. The service may fold and answer all the while, in this
//! process or another: the lock is held for a moment at a time, and given up for a while between, longer where somebody wants it.
//!
//! Where it ends: a rebuild of all projections ends at the head of the log; a rebuild of some ends exactly where the others
//! stand, so that one snapshot never shows two positions. Which are rebuilt together: those named, and those whose tables they
//! read ([`Projection::READS`](crate::Projection::READS)); loading from any other table fails. So what a projection reads of
//! another is, in a rebuild, always of the same position as its own rows, and is never what may have been wrong before.
//!
//! Interrupted: nothing live was touched. Shadows carry no checkpoint: they would have to be trusted to come from the same
//! version of the fold, which is often just what a rebuild is to change. So the next rebuild starts afresh, and it, or the next
//! start of the service ([`clean`]), drops what is left. One rebuild at a time, by a lock on a file that ends with its process.
//!
//! Where the log is no longer the one that was folded (a restored copy), only a rebuild of all is possible, and is the remedy.
//!
//! That is SQLite's way ([`files`]): the projections are folded in two groups side by side ([`folding`]), beside the one file with
//! its one lock, and what is final goes into the shadows. On PostgreSQL ([`server`]) the shadows are a schema of their own, made by
//! the same migrations and found by the `search_path`; nobody waits for a lock but at the exchange, and a rebuild is one session's
//! right.
//!
//! Cost, on files: reading, both folds and writing go on at the same time, so it takes as long as half of all that on two
//! processors. Disk: the rebuilt tables twice, while it lasts, and beside them what is not final yet once more, in the system's
//! directory for temporary files; the space in `views.db` is used again, not given back.

pub mod compare;
mod files;
mod folding;
mod server;
mod shadow;

use std::time::Duration;

use crate::batch::{self, LogEvent};
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::memory::Memory;
use crate::sql::{Changes, Connection, Database, ViewError};
use crate::{DECLARED, Declared, NAMES, fold_into};

/// How many events are folded at once: many, so that what they touch is written once, and yet they are all in memory.
const BATCH_EVENTS_MAX: u64 = 16_000;
/// How many events may be left to be folded under the lock.
const REST_EVENTS_MAX: u64 = 1_000;

/// Which projections are folded by themselves, beside the rest: so that both groups cost alike.
const BESIDE_THE_REST: [&str; 2] = ["analytics", "downline_tree"];
/// How many groups there are at most.
const GROUPS: usize = 2;

/// Projections to be folded side by side, in groups none of which is empty.
fn groups(projections: impl IntoIterator<Item = &'static Declared>) -> Vec<Vec<&'static Declared>> {
    let is_beside = |one: &&'static Declared| BESIDE_THE_REST.contains(&one.name);
    let (beside, rest): (Vec<&'static Declared>, Vec<_>) = projections.into_iter().partition(is_beside);
    let of_another = |one: &&str| beside.iter().any(|beside| beside.name == *one);
    debug_assert!(
        rest.iter().all(|one| !one.reads.iter().any(of_another))
            && beside.iter().all(|one| one.reads.iter().all(of_another)),
        "what a projection reads is in another group"
    );
    [beside, rest].into_iter().filter(|group| !group.is_empty()).collect()
}

/// What a thread waits for its databases with.
fn runtime() -> Result<tokio::runtime::Runtime, ViewError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ViewError::unreadable)
}

/// Why a rebuild did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is no such projection.
    #[error("there is no projection {name:?}; there are {known}", known = NAMES.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// Another rebuild has not ended yet.
    #[error("another rebuild of this store is going on")]
    Running,
    /// Reading, folding or writing failed.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl From<sqlx::Error> for RebuildError {
    fn from(error: sqlx::Error) -> Self {
        Self::View(error.into())
    }
}

/// The named projections, all for none named, and those that they read, in the order in which they are folded.
fn together<N: AsRef<str>>(names: &[N]) -> Result<Vec<&'static Declared>, RebuildError> {
    let unknown = |name: &&N| !NAMES.contains(&name.as_ref());
    if let Some(name) = names.iter().find(unknown) {
        return Err(RebuildError::Unknown { name: name.as_ref().to_owned() });
    }
    let mut wanted: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let mut next = 0;
    while let Some(name) = wanted.get(next) {
        let reads = DECLARED.iter().filter(|one| one.name == *name).flat_map(|one| one.reads);
        let more: Vec<&str> = reads.filter(|read| !wanted.contains(read)).copied().collect();
        wanted.extend(more);
        next += 1;
    }
    Ok(DECLARED.iter().filter(|one| wanted.is_empty() || wanted.contains(&one.name)).collect())
}

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The position of the last event folded.
    pub position: u64,
    /// Where it ends, as far as is known now.
    pub end: u64,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Which projections.
    pub projections: Vec<&'static str>,
    /// The position they stand at now.
    pub position: u64,
    /// How long from the first event to the exchange.
    pub took: Duration,
    /// How long the write lock was held for the exchange.
    pub exchange: Duration,
}

/// Drops what an interrupted rebuild has left, unless one is going on. Says how many tables and indexes there were.
///
/// # Errors
/// What the database says.
pub async fn clean(database: &Database) -> Result<usize, RebuildError> {
    match database {
        Database::Sqlite(dir) => files::clean(dir).await,
        Database::Postgres(server) => server::clean(server).await,
    }
}

/// A rebuild under way.
#[derive(Debug)]
pub struct Rebuild(Way);

#[derive(Debug)]
enum Way {
    Files(Box<files::Rebuild>),
    Server(server::Rebuild),
}

impl Rebuild {
    /// Makes the shadows of the named projections' tables, of all for none named, and of those that they read; the log must be
    /// there.
    ///
    /// # Errors
    /// [`RebuildError::Unknown`], [`RebuildError::Running`], or what the databases say.
    pub async fn begin<N: AsRef<str>>(database: &Database, names: &[N]) -> Result<Self, RebuildError> {
        let projections = together(names)?;
        Ok(Self(match database {
            Database::Sqlite(dir) => Way::Files(Box::new(files::Rebuild::begin(dir, &projections).await?)),
            Database::Postgres(server) => Way::Server(server::Rebuild::begin(server, &projections).await?),
        }))
    }

    /// Which projections are rebuilt.
    #[must_use]
    pub fn projections(&self) -> &[&'static str] {
        match &self.0 {
            Way::Files(rebuild) => rebuild.projections(),
            Way::Server(rebuild) => rebuild.projections(),
        }
    }

    /// Fills the shadows and puts them in the live tables' place. `go_on` is told after each batch how far it is, and says whether
    /// to go on; `None` where it said no. Whatever the end, nothing is left behind; where the process or this future ends
    /// before, [`clean`] sees to it.
    ///
    /// # Errors
    /// [`ViewError::HistoryCut`] where some projections are to be rebuilt and the others are of another history than the log;
    /// otherwise what the databases say, or an event that cannot be folded.
    pub async fn run(self, go_on: impl FnMut(Progress) -> bool + Send) -> Result<Option<Rebuilt>, RebuildError> {
        match self.0 {
            Way::Files(rebuild) => rebuild.run(go_on).await,
            Way::Server(rebuild) => rebuild.run(go_on).await,
        }
    }
}

/// The events after a position up to another, as many as make a batch.
async fn read_on(log: &mut Connection<'_>, after: u64, end: u64) -> Result<Vec<LogEvent>, ViewError> {
    let limit = usize::try_from((end.saturating_sub(after)).min(BATCH_EVENTS_MAX)).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Vec::new());
    }
    let (events, _) = batch::read(log, after + 1, limit).await?;
    if events.first().is_none_or(|event| event.position != after + 1) {
        return Err(ViewError::HistoryCut(format!("the log has no event at position {}", after + 1)));
    }
    Ok(events)
}

/// What folding these events into the shadows changes: all of them are new to all of these projections.
async fn changes(names: &[&str], views: &mut Connection<'_>, events: &[LogEvent]) -> Result<Changes, ViewError> {
    let mut changes = Changes::default();
    // So many at once touch few rows twice: what is known of them is not worth its room.
    let mut memory = Memory::default();
    fold_into(names, views, &Checkpoints::default(), events, (&mut changes, &mut memory)).await?;
    Ok(changes)
}

async fn hash_at(log: &mut Connection<'_>, position: u64) -> Result<Option<Vec<u8>>, ViewError> {
    let sql = "select hash from events where position = $1";
    let row = log.fetch_one(sql, vec![position.into()]).await?;
    row.map(|row| row.columns().bytes()).transpose()
}

async fn head(log: &mut Connection<'_>) -> Result<Checkpoint, ViewError> {
    let sql = "select position, hash from events order by position desc limit 1";
    let Some(row) = log.fetch_one(sql, Vec::new()).await? else {
        return Ok(Checkpoint::default());
    };
    let mut columns = row.columns();
    Ok(Checkpoint { position: columns.count()?, hash: columns.bytes()? })
}

/// Where a rebuild of these projections ends, with the live ones where their checkpoints say.
async fn end(names: &[&str], checkpoints: &Checkpoints, log: &mut Connection<'_>) -> Result<Checkpoint, ViewError> {
    let others: Vec<&str> = NAMES.iter().filter(|name| !names.contains(name)).copied().collect();
    if others.is_empty() {
        return head(log).await;
    }
    // What is rebuilt does not go back, even where one of the others has not come as far.
    let own = names.iter().map(|name| checkpoints.of(name));
    let end = own.chain([checkpoints.least(&others)]).max_by_key(|checkpoint| checkpoint.position).unwrap_or_default();
    if end.position > 0 && hash_at(log, end.position).await?.as_ref() != Some(&end.hash) {
        return Err(ViewError::HistoryCut(format!(
            "what has been folded up to position {} is not what the log holds; rebuild all projections together",
            end.position
        )));
    }
    Ok(end)
}
