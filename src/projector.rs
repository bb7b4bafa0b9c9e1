//! The projector: one task that tails the log and folds it into the read models.
//!
//! It wakes on this node's commits, on PostgreSQL also on other nodes', and polls because another process may write too. After
//! each batch that was not full it pauses, in proportion to its work where that is little, so that one batch serves many commits
//! instead of competing with the writer, and the less the more there is to do; somebody who waits for a position ends the pause.
//! On SQLite whoever waits for the same processor goes first in the first part of a batch ([`Folder::giving_way`]), also where somebody
//! waits for the batch: it takes a few milliseconds while processors are idle now and then.
//!
//! An error is retried with backoff and told by [`Projector::health`]; a cut history is not retried into: it stays in force until
//! the log is the one that was folded. If the task panics the process exits: stale answers must not go unnoticed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use projections::sql::{self, Folder, POSTGRES_MIGRATIONS, Server, ViewError};
use projections::{Folded, check_history, fold_batch, rebuild};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Connection as _, Executor as _, Row as _};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use crate::store::postgres::{Address, CHANNEL, Target, migrate_schema};
use crate::store::sqlite::{Checkpointer, Measure, views_path};
use crate::store::{Database, StoreError};

/// How many events one batch folds at most: enough to spread its fixed cost, few enough to stay in memory and to let others
/// have the write lock.
pub const BATCH_EVENTS_MAX: usize = 4_000;
/// How long it waits for a wake-up before it looks by itself.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The pause after a batch that was not full, in times the batch itself took, as long as [`CYCLE_MAX`] allows it: one batch serves
/// many commits, and a lone command is folded and seen at once.
const PAUSE_TO_WORK: u32 = 4;
/// The shortest such pause.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// How long a batch and its pause take together at most, unless the batch alone takes as long: the more there is to do, the shorter
/// the pause, so that under full load the read models do not fall behind by more than the work takes.
const CYCLE_MAX: Duration = Duration::from_millis(70);
/// How long each batch lets others have the processor first. Longer than a batch takes while there is time enough for all; where there
/// is not, the batch takes its share after it.
const GIVES_WAY: Duration = Duration::from_millis(25);
/// When the WAL of `views.db` is moved: in a wide network tens of thousands of pages stand in it by then, of which most were written several
/// times and are copied once or twice. More, and its copying delays the log's own commits; less, and it takes more of the processor.
/// Passes go on until one has found little more than a batch, at most four: what was written during the last is the projector's.
const OF_THE_VIEWS: Measure = Measure { rows: 16_000, left_max: 6_000, moved_max: 4_000 };
/// The first pause after an error.
const RETRY_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The longest pause after repeated errors.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// How long it is until it tries to listen again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Why folding did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The read models.
    #[error("{0}")]
    Views(#[from] ViewError),
    /// Their schema.
    #[error("{0}")]
    Schema(#[from] StoreError),
}

/// How the projector is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How far the read models have come.
    pub position: u64,
    /// Whether they have come to the end of the log since this node started: before that, some of them may be far behind the others.
    pub has_caught_up: bool,
    /// Why they come no further, if so.
    pub error: Option<String>,
}

/// The handle of the running task.
#[derive(Debug)]
pub struct Projector {
    position: watch::Receiver<u64>,
    wanted: Arc<Notify>,
    has_caught_up: Arc<AtomicBool>,
    error: Arc<Mutex<Option<String>>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Where the read models of a ledger are: beside it.
#[must_use]
pub fn views_of(database: &Database) -> sql::Database {
    match database {
        Database::Sqlite(dir) => sql::Database::Sqlite(dir.clone()),
        Database::Postgres(address) => sql::Database::Postgres(Server {
            hosts: address.hosts().into(),
            read_write: address.target() == Target::ReadWrite,
            pooled: address.is_pooled(),
        }),
    }
}

/// Where the read models of a copy of a ledger are: of several hosts any will do.
#[must_use]
pub fn copy_of(database: &Database) -> sql::Database {
    match views_of(database) {
        sql::Database::Postgres(server) => sql::Database::Postgres(Server { read_write: false, ..server }),
        files => files,
    }
}

/// Brings the read models' schema up to date.
///
/// # Errors
/// What the database says; [`StoreError::Schema`] where it was written by a newer version, or has to be migrated and a pooler
/// is in between.
pub async fn migrate(database: &Database) -> Result<(), ProjectorError> {
    match database {
        Database::Sqlite(dir) => sql::migrate_files(dir).await?,
        Database::Postgres(address) => {
            migrate_schema(address, "views", &POSTGRES_MIGRATIONS).await?;
            warn_if_above_policies(address).await?;
        }
    }
    Ok(())
}

/// Says so where the policies of row-level security do not bind whom we connect as.
async fn warn_if_above_policies(address: &Address) -> Result<(), ProjectorError> {
    let mut connection = address.connect().await?;
    let sql = "select rolsuper or rolbypassrls from pg_roles where rolname = current_user";
    // In one message, whatever is in between.
    let is_above = connection.fetch_optional(sqlx::raw_sql(sql)).await.map_err(ViewError::from)?;
    if is_above.is_some_and(|row| row.try_get_unchecked::<&str, _>(0).is_ok_and(|answer| answer == "t")) {
        tracing::warn!(
            "the database's role is a superuser or bypasses row-level security: the second wall between tenants does not stand"
        );
    }
    connection.close().await.map_err(ViewError::from)?;
    Ok(())
}

/// Brings the read models' schema up to date and starts folding.
///
/// # Errors
/// As [`migrate`], or what the databases say; [`ViewError::HistoryCut`] where the log does not hold what was folded: a node that
/// would show what never happened, and take commands beside it, does not start.
pub async fn start(database: &Database, committed: watch::Receiver<u64>) -> Result<Projector, ProjectorError> {
    migrate(database).await?;
    let mut folder = Folder::open(&views_of(database)).await?.giving_way(GIVES_WAY);
    check_history(&mut folder).await?;
    tokio::spawn(clean(views_of(database)));
    let heard = Arc::new(Notify::new());
    let listening = match database {
        Database::Postgres(address) if !address.is_pooled() => {
            Some(tokio::spawn(listen(views_of(database), Arc::clone(&heard))))
        }
        // Files tell nobody, and a pooler has no session to tell: the poll finds it.
        _ => None,
    };
    let (position_sender, position) = watch::channel(0);
    let (stop, stopping) = watch::channel(false);
    let error = Arc::new(Mutex::new(None));
    let has_caught_up = Arc::new(AtomicBool::new(false));
    let wanted = Arc::new(Notify::new());
    // Folding keeps its thread busy for milliseconds at a time: in one of its own, so that nobody who is to be answered waits
    // behind it.
    let failed = |error| ViewError::File { path: PathBuf::from("the projector's thread"), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let wal = match database {
        Database::Sqlite(dir) => Some(Checkpointer::start(views_path(dir), OF_THE_VIEWS)?),
        Database::Postgres(_) => None,
    };
    let signals = Signals { committed, heard, wanted: Arc::clone(&wanted), stopping };
    let said = Said { position: position_sender, has_caught_up: Arc::clone(&has_caught_up), error: Arc::clone(&error) };
    let folding = run((folder, wal), signals, said);
    let (ended, end) = oneshot::channel();
    let fold = move || {
        runtime.block_on(folding);
        // Where nobody waits for the end, nobody has to know.
        let _ = ended.send(());
    };
    std::thread::Builder::new().name("projector".into()).spawn(fold).map_err(failed)?;
    let task = tokio::spawn(async move {
        let ended = end.await;
        if let Some(listening) = listening {
            listening.abort();
        }
        if ended.is_err() {
            tracing::error!("the projector panicked; exiting");
            std::process::exit(70);
        }
    });
    Ok(Projector { position, wanted, has_caught_up, error, stop, task: Mutex::new(Some(task)) })
}

/// Brings the read models' schema up to date and folds nothing: what a node costs without read models can be measured so, and
/// nothing else should want it.
///
/// # Errors
/// As [`migrate`].
pub async fn idle(database: &Database) -> Result<Projector, ProjectorError> {
    migrate(database).await?;
    let (position_sender, position) = watch::channel(0);
    let (stop, mut stopping) = watch::channel(false);
    let task = tokio::spawn(async move {
        // An error means that nobody holds the handle any more.
        let _ = stopping.changed().await;
        drop(position_sender);
    });
    // Nobody is to wait for what nobody folds.
    let has_caught_up = Arc::new(AtomicBool::new(true));
    Ok(Projector {
        position,
        wanted: Arc::default(),
        has_caught_up,
        error: Arc::default(),
        stop,
        task: Mutex::new(Some(task)),
    })
}

/// Drops what a rebuild that was killed has left; the service does not wait for it.
async fn clean(views: sql::Database) {
    match rebuild::clean(&views).await {
        Ok(0) => {}
        Ok(dropped) => tracing::info!(dropped, "tables and indexes of an interrupted rebuild are gone"),
        Err(failure) => tracing::warn!(%failure, "what an interrupted rebuild has left is still there"),
    }
}

/// Hears of what other nodes commit, for as long as it runs. What is missed while it is not connected the poll finds.
async fn listen(views: sql::Database, heard: Arc<Notify>) {
    let sql::Database::Postgres(server) = views else { return };
    loop {
        match listener(&server).await {
            Ok(mut listener) => {
                while let Ok(said) = listener.try_recv().await {
                    // Nothing said means that it was gone for a moment.
                    tracing::trace!(is_back = said.is_none(), "another node has committed");
                    heard.notify_one();
                }
            }
            Err(error) => tracing::debug!(%error, "what other nodes commit is not heard of"),
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

async fn listener(server: &Server) -> Result<PgListener, sqlx::Error> {
    let (connection, options) = server.connect().await?;
    connection.close().await?;
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// What wakes the projector, and what ends it.
struct Signals {
    /// This node's commits.
    committed: watch::Receiver<u64>,
    /// Other nodes'.
    heard: Arc<Notify>,
    /// Somebody waits for what is committed.
    wanted: Arc<Notify>,
    stopping: watch::Receiver<bool>,
}

/// What the projector says of itself: see [`Health`].
struct Said {
    position: watch::Sender<u64>,
    has_caught_up: Arc<AtomicBool>,
    error: Arc<Mutex<Option<String>>>,
}

impl Projector {
    /// How far the read models have come; changes with every batch.
    #[must_use]
    pub fn position(&self) -> watch::Receiver<u64> {
        self.position.clone()
    }

    /// Tells it that somebody waits for what is committed.
    #[must_use]
    pub fn wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.wanted)
    }

    /// How it is doing; for `/readyz`.
    #[must_use]
    pub fn health(&self) -> Health {
        // Before the position: who has caught up is where it says it is.
        let has_caught_up = self.has_caught_up.load(Ordering::Acquire);
        Health {
            position: *self.position.borrow(),
            has_caught_up,
            error: self.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Ends it after the batch in hand.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It only waits for the task; a panic there has already ended the process.
            let _ = task.await;
        }
    }
}

/// The pause after a batch that took so long and was not full.
fn pause_after(work: Duration) -> Duration {
    (work * PAUSE_TO_WORK).min(CYCLE_MAX.saturating_sub(work)).max(PAUSE_MIN)
}

async fn run(
    (mut folder, wal): (Folder, Option<Checkpointer>),
    Signals { mut committed, heard, wanted, mut stopping }: Signals,
    Said { position, has_caught_up, error }: Said,
) {
    let mut writer_is_there = true;
    let mut retry = RETRY_INTERVAL_MIN;
    while !*stopping.borrow() {
        committed.borrow_and_update();
        let begun = Instant::now();
        let folded = fold_batch(&mut folder, BATCH_EVENTS_MAX).await;
        let before = *position.borrow();
        if let (Some(wal), Ok(Folded { position: reached, .. })) = (&wal, &folded) {
            wal.written(reached.saturating_sub(before));
            if wal.is_nearly_done()
                && let Err(failure) = folder.move_wal()
            {
                // The thread comes again, and behind it stands the commit's own.
                tracing::warn!(%failure, "the WAL of the read models was not moved whole");
            }
        }
        let message = folded.as_ref().err().map(ToString::to_string);
        error.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&message);
        let pause = match folded {
            Ok(Folded { position: reached, more }) => {
                retry = RETRY_INTERVAL_MIN;
                let moved = position.send_if_modified(|known| std::mem::replace(known, reached) != reached);
                if !more {
                    has_caught_up.store(true, Ordering::Release);
                }
                match (more, moved) {
                    (true, _) => continue,
                    (false, true) => pause_after(begun.elapsed()),
                    (false, false) => Duration::ZERO,
                }
            }
            Err(failure) => {
                tracing::warn!(%failure, retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX), "read models wait");
                retry = (retry * 2).min(RETRY_INTERVAL_MAX);
                retry
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = wanted.notified(), if message.is_none() => {}
            _ = stopping.changed() => break,
        }
        tokio::select! {
            woken = committed.changed(), if writer_is_there => writer_is_there = woken.is_ok(),
            () = heard.notified() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            _ = stopping.changed() => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_command_is_seen_at_once_and_much_work_leaves_less_time_to_rest() {
        let pause = |milliseconds| pause_after(Duration::from_millis(milliseconds)).as_millis();
        assert_eq!(pause(0), 2);
        assert_eq!(pause(1), 4);
        assert_eq!(pause(10), 40);
        assert_eq!(pause(40), 30, "batch and pause are a cycle");
        assert_eq!(pause(69), 2);
        assert_eq!(pause(5_000), 2);
    }
}
