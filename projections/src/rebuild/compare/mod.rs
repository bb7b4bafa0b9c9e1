//! I9: the read models as they stand, row by row against what the log folds to from its first event.
//!
//! Nothing is written but databases of its own ([`folded`]), which SQLite keeps in memory as far as they are small and else in files
//! that have no name, or, for who wants to go on from them another time, in a directory. Whoever compares reads the log once, for
//! this and for whatever else it wants, and hands the events on in batches ([`Queue`]), up to where the least of the read models
//! stands. Only then are the read models' snapshots taken ([`Comparison::settle`]), so that they are not held for longer than the
//! comparing takes: the service goes on, and what it has written is not cleaned up while a snapshot is held. Then come the events
//! up to the log's end. The fold stops where each read model stands, and there its tables are compared ([`tables`]).
//!
//! Most rows are written once and never looked at by a fold. At first it is only found whether what they come to is the same on both
//! sides ([`digest`]); where it is not, another comparison tells which rows they are ([`Detail`]).
//!
//! Cost: the projections are folded in [`groups`] that run side by side, each in a thread of its own. Memory: a few batches of
//! events, and each group's cache.

mod digest;
mod folded;
mod group;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use super::{GROUPS, groups, read_on, runtime};
use crate::batch::LogEvent;
use crate::checkpoint::Checkpoint;
use crate::sql::{Connection, Database, ViewError, direct};
use crate::{DECLARED, NAMES};
use group::Group;

/// How many batches wait while another is folded: what is read ahead is in memory.
const BATCHES_AHEAD: usize = 0;

/// How closely tables are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Of rows that are written once and never read by a fold: whether all of them come to the same. Where they do not,
    /// [`Compared::first`] is not known.
    Digests,
    /// Row by row.
    Rows,
}

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
    /// The first of those, where it is known.
    pub first: Option<Difference>,
}

/// What a group is asked to do.
#[derive(Debug)]
enum Order {
    Fold(Arc<Vec<LogEvent>>),
    Settle(mpsc::Sender<()>),
    Keep(mpsc::Sender<()>),
}

/// A group at work.
#[derive(Debug)]
struct Worker {
    thread: JoinHandle<Result<Vec<Compared>, ViewError>>,
    position: Arc<AtomicU64>,
    /// Where it began: at what was kept of a former comparison, or at 0.
    began: Checkpoint,
}

/// A comparison under way.
#[derive(Debug)]
pub struct Comparison {
    workers: Vec<Worker>,
    orders: Vec<SyncSender<Order>>,
    least: u64,
}

/// Where the events are handed in, in order and without a gap, each batch once. The comparison ends only when this is gone.
#[derive(Debug)]
pub struct Queue(Vec<SyncSender<Order>>);

impl Queue {
    /// Has a batch folded. Waits where the folds are behind.
    pub fn fold(&self, events: &Arc<Vec<LogEvent>>) {
        for orders in &self.0 {
            // A group that has ended early says why when it is asked for.
            let _ = orders.send(Order::Fold(Arc::clone(events)));
        }
    }
}

impl Comparison {
    /// Begins; `None` where there are no read models. Blocks, now and whenever it is waited for.
    ///
    /// `kept` is a directory in which [`Self::keep`] keeps what is folded; what a former comparison has left there is gone on
    /// with, each group from where [`Self::began`] says.
    ///
    /// # Errors
    /// What the databases say.
    pub fn begin(database: &Database, detail: Detail, kept: Option<&Path>) -> Result<Option<Self>, ViewError> {
        let Some(checkpoints) = in_thread(|runtime| group::checkpoints(database, runtime))? else { return Ok(None) };
        let (mut workers, mut all_orders) = (Vec::new(), Vec::new());
        for (index, projections) in groups(DECLARED).into_iter().enumerate() {
            let (orders, given) = mpsc::sync_channel(BATCHES_AHEAD);
            let position = Arc::new(AtomicU64::new(0));
            let (database, reached) = (database.clone(), Arc::clone(&position));
            let file = kept.map(|dir| file(dir, index));
            let (beginning, begun) = mpsc::channel();
            let work = move || {
                let runtime = runtime()?;
                let mut group = Group::begin(&database, runtime, projections, detail, file.as_deref())?;
                let _ = beginning.send(group.reached().clone());
                while let Ok(order) = given.recv() {
                    match order {
                        Order::Fold(events) => group.fold(&events)?,
                        Order::Settle(done) => {
                            group.settle()?;
                            // Who asked may have given up.
                            let _ = done.send(());
                            // He goes on meanwhile, and so do the other groups.
                            group.compare_here()?;
                        }
                        Order::Keep(done) => {
                            group.keep()?;
                            let _ = done.send(());
                        }
                    }
                    reached.store(group.reached().position, Ordering::Relaxed);
                }
                group.end()
            };
            let thread = std::thread::Builder::new().name(format!("read models {index}")).spawn(work);
            let thread = thread.map_err(ViewError::unreadable)?;
            // One that could not begin says why in the end.
            let began = begun.recv().unwrap_or_default();
            workers.push(Worker { thread, position, began });
            all_orders.push(orders);
        }
        Ok(Some(Self { workers, orders: all_orders, least: checkpoints.least(NAMES).position }))
    }

    /// Where the least of the read models stands: up to here, and no further, events are to be folded before [`Self::settle`].
    #[must_use]
    pub fn least(&self) -> u64 {
        self.least
    }

    /// Where the events are handed in.
    #[must_use]
    pub fn queue(&self) -> Queue {
        Queue(self.orders.clone())
    }

    /// Where each group began: the last event that it does not want any more, of position 0 where it wants all.
    pub fn began(&self) -> impl Iterator<Item = &Checkpoint> {
        self.workers.iter().map(|worker| &worker.began)
    }

    /// Keeps what all events handed in so far have been folded to; whether that could be done.
    #[must_use]
    pub fn keep(&self) -> bool {
        let asked: Vec<_> = self
            .orders
            .iter()
            .map(|orders| {
                let (done, is_done) = mpsc::channel();
                // A group that has ended early says why when it is asked for.
                let _ = orders.send(Order::Keep(done));
                is_done
            })
            .collect();
        asked.iter().all(|is_done| is_done.recv().is_ok())
    }

    /// Takes the snapshots of the read models. What is in them lies within a log that is read from now on.
    pub fn settle(&self) {
        for orders in &self.orders {
            let (done, is_done) = mpsc::channel();
            // A group that has ended early says why when it is asked for.
            let _ = orders.send(Order::Settle(done));
            let _ = is_done.recv();
        }
    }

    /// How far all groups have folded.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.workers.iter().map(|worker| worker.position.load(Ordering::Relaxed)).min().unwrap_or_default()
    }

    /// Says that there are no more events.
    pub fn close(&mut self) {
        self.orders.clear();
    }

    /// Whether nothing is left to be waited for: not before [`Self::close`].
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.workers.iter().all(|worker| worker.thread.is_finished())
    }

    /// Waits for the end, when there are no more events and no [`Queue`]. A projection that has not begun is left out.
    ///
    /// # Errors
    /// What the databases say, or an event that cannot be folded.
    pub fn end(mut self) -> Result<Vec<Compared>, ViewError> {
        self.close();
        let mut all = Vec::new();
        for worker in std::mem::take(&mut self.workers) {
            let ended = worker.thread.join();
            all.extend(ended.map_err(|_| ViewError::unreadable("a fold of read models ended badly"))??);
        }
        Ok(all)
    }
}

impl Drop for Comparison {
    /// Waits until nobody works in what is kept any more: another comparison may go on with it.
    fn drop(&mut self) {
        self.close();
        for worker in std::mem::take(&mut self.workers) {
            let _ = worker.thread.join();
        }
    }
}

/// Where a group's database is kept.
fn file(dir: &Path, group: usize) -> PathBuf {
    dir.join(format!("read-models-{group}.db"))
}

/// Removes what [`Comparison::keep`] has kept in a directory.
///
/// # Errors
/// What the file system says.
pub fn forget(dir: &Path) -> Result<(), ViewError> {
    (0..GROUPS).try_for_each(|group| folded::remove(&file(dir, group)))
}

/// Does something that waits for a database where the caller may stand inside of a runtime: there nobody may wait so.
fn in_thread<T: Send>(
    work: impl FnOnce(&tokio::runtime::Runtime) -> Result<T, ViewError> + Send,
) -> Result<T, ViewError> {
    std::thread::scope(|scope| scope.spawn(|| work(&runtime()?)).join())
        .unwrap_or_else(|_| Err(ViewError::unreadable("a look at the read models ended badly")))
}

/// Compares the read models of files with their log, by reading it for nothing else; `None` where there are none. Blocks.
///
/// # Errors
/// As [`Comparison::end`].
pub fn compare_files(dir: &Path) -> Result<Option<Vec<Compared>>, ViewError> {
    let Some(comparison) = Comparison::begin(&dir.into(), Detail::Rows, None)? else { return Ok(None) };
    in_thread(|runtime| {
        comparison.settle();
        let queue = comparison.queue();
        let mut log = direct::open_log(dir)?;
        let mut position = 0;
        loop {
            let events = runtime.block_on(read_on(&mut Connection::direct(&mut log), position, u64::MAX));
            let events = match events {
                Ok(events) => events,
                // After the last one there is none.
                Err(ViewError::HistoryCut(_)) => break,
                Err(error) => return Err(error),
            };
            let Some(last) = events.last() else { break };
            position = last.position;
            queue.fold(&Arc::new(events));
        }
        drop(queue);
        comparison.end()
    })
    .map(Some)
}
