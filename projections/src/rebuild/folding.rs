//! The log folded in two groups of projections side by side, each in a thread and a database of its own, while another thread
//! reads it on.
//!
//! Why: `views.db` has one write lock, and whoever writes to it takes the pages away that others had read. Most of what a fold
//! does to a table, though, is seen by that fold alone: a row is read again and changed again, batch by batch, until the log has
//! ended. So each group does that in a database without a name ([`direct::open_nameless`]), in which nothing is ever durable and
//! no lock is anybody else's. Only what is final comes out ([`Made`]): after each batch the rows that are written once and that no
//! fold reads ([`Projection::WRITTEN_ONCE`](crate::Projection::WRITTEN_ONCE)), and in the end all other rows, table by table in the
//! order in which they lie, which is also the one in which they are written quickest.
//!
//! Ordering: all groups fold the same batches, each once, in the order of the log. Memory: whoever is ahead waits, so there are
//! the batch that each group works at, the one that is read meanwhile, and the rows of [`BATCHES_AHEAD`] more than are being
//! written, and as many again that each group holds until there is room; beside them each group's cache.
//! Disk: the rows that are not final yet, in files of the system's directory for temporary ones, which end with the process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc as rows;

use super::shadow::Shadows;
use super::{changes, groups, read_on, runtime};
use crate::Declared;
use crate::batch::LogEvent;
use crate::checkpoint::Reached;
use crate::sql::{Changes, Connection, Table, Value, ViewError, direct};

/// The rows of how many batches wait to be written.
const BATCHES_AHEAD: usize = 1;
/// How much of each group's database is kept in memory, in KiB: what does not fit comes back from the system's cache.
const CACHE_KIB: i64 = 16 * 1024;
/// About how much is handed over at once when the log has ended.
const HANDED_BYTES: usize = if cfg!(test) { 256 } else { 4 << 20 };

/// Rows that are final.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) rows: Changes,
    group: usize,
    /// Up to where this group has folded.
    position: u64,
}

/// A group's thread.
#[derive(Debug)]
struct Group {
    thread: JoinHandle<Result<(), ViewError>>,
    position: u64,
}

/// The log being folded.
#[derive(Debug)]
pub(super) struct Folding {
    made: rows::Receiver<Made>,
    groups: Vec<Group>,
    reader: Option<JoinHandle<Result<Reached, ViewError>>>,
    end: Arc<AtomicU64>,
}

impl Folding {
    /// Begins to fold the log from its first event to the one at `end`, which may be put off.
    ///
    /// # Errors
    /// What the databases say.
    pub(super) fn begin(
        dir: &Path,
        projections: &[&'static Declared],
        shadows: &Shadows,
        end: u64,
    ) -> Result<Self, ViewError> {
        let (making, made) = rows::channel(BATCHES_AHEAD);
        let (mut working, mut queues) = (Vec::new(), Vec::new());
        let is_read = Arc::new(AtomicBool::new(false));
        for projections in groups(projections.iter().copied()) {
            let tables = || projections.iter().flat_map(|one| one.tables).copied();
            let once: Vec<&'static Table> = projections.iter().flat_map(|one| one.written_once).copied().collect();
            let is_final = |table: &&'static Table| once.iter().any(|one| std::ptr::eq(*one, *table));
            let (_, own): (Vec<_>, Vec<_>) = tables().partition(is_final);
            let database = direct::open_nameless(CACHE_KIB)?;
            for definition in shadows.definitions(&own) {
                database.execute_batch(definition)?;
            }
            let (queue, batches) = mpsc::sync_channel(0);
            let is_read = Arc::clone(&is_read);
            let worker = Worker {
                group: working.len(),
                names: projections.iter().map(|one| one.name).collect(),
                once,
                own,
                database,
                batches,
                is_read,
                making: making.clone(),
            };
            working.push(Group { thread: spawn("fold", move || worker.work())?, position: 0 });
            queues.push(queue);
        }
        let log = direct::open_log(dir)?;
        let end = Arc::new(AtomicU64::new(end));
        let until = Arc::clone(&end);
        let reader = Some(spawn("read", move || read(log, (&until, &is_read), &queues))?);
        Ok(Self { made, groups: working, reader, end })
    }

    /// The next rows that are final; `None` when there are no more.
    pub(super) async fn next(&mut self) -> Option<Changes> {
        let Made { rows, group, position } = self.made.recv().await?;
        if let Some(group) = self.groups.get_mut(group) {
            group.position = position;
        }
        Some(rows)
    }

    /// Up to where all groups have folded.
    pub(super) fn position(&self) -> u64 {
        self.groups.iter().map(|group| group.position).min().unwrap_or_default()
    }

    /// Puts the end off, if it is not too late.
    pub(super) fn put_off(&self, end: u64) {
        self.end.store(end, Ordering::Relaxed);
    }

    /// Where it has ended, when there are no more rows.
    ///
    /// # Errors
    /// What the databases say, or an event that cannot be folded.
    pub(super) fn end(mut self) -> Result<Reached, ViewError> {
        for group in std::mem::take(&mut self.groups) {
            group.thread.join().map_err(|_| ended_badly())??;
        }
        self.reader.take().map_or(Err(ended_badly()), |reader| reader.join().map_err(|_| ended_badly())?)
    }
}

impl Drop for Folding {
    /// Waits until nobody works any more: for a batch at the most.
    fn drop(&mut self) {
        // Who wants to hand something over is refused, and ends; so does who waits for him.
        self.made.close();
        for group in std::mem::take(&mut self.groups) {
            let _ = group.thread.join();
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn ended_badly() -> ViewError {
    ViewError::unreadable("a thread of a rebuild ended badly")
}

fn spawn<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Result<JoinHandle<Result<T, ViewError>>, ViewError> {
    std::thread::Builder::new().name(format!("rebuild: {what}")).spawn(work).map_err(ViewError::unreadable)
}

/// Reads the log on, up to where its end is by then, and says when it is there.
fn read(
    mut log: rusqlite::Connection,
    (end, is_read): (&AtomicU64, &AtomicBool),
    queues: &[mpsc::SyncSender<Arc<Vec<LogEvent>>>],
) -> Result<Reached, ViewError> {
    let runtime = runtime()?;
    let mut reached = Reached::default();
    loop {
        let (position, end) = (reached.checkpoint.position, end.load(Ordering::Relaxed));
        let events = Arc::new(runtime.block_on(read_on(&mut Connection::direct(&mut log), position, end))?);
        let Some(last) = events.last().map(Reached::at) else {
            is_read.store(true, Ordering::Release);
            return Ok(reached);
        };
        // A group that has ended early says why when it is asked for.
        if queues.iter().any(|queue| queue.send(Arc::clone(&events)).is_err()) {
            return Ok(reached);
        }
        reached = last;
    }
}

/// What a group's thread works with.
struct Worker {
    group: usize,
    names: Vec<&'static str>,
    /// The tables whose rows are final at once.
    once: Vec<&'static Table>,
    /// Those that are in the group's own database.
    own: Vec<&'static Table>,
    database: rusqlite::Connection,
    batches: mpsc::Receiver<Arc<Vec<LogEvent>>>,
    /// Whether no batch comes because there is none; else somebody has failed, and nothing is worth writing.
    is_read: Arc<AtomicBool>,
    making: rows::Sender<Made>,
}

impl Worker {
    fn work(mut self) -> Result<(), ViewError> {
        let runtime = runtime()?;
        self.database.execute_batch("begin")?;
        let mut position = 0;
        while let Ok(events) = self.batches.recv() {
            let mut database = Connection::direct(&mut self.database);
            let mut changes = runtime.block_on(changes(&self.names, &mut database, &events))?;
            position = events.last().map_or(position, |event| event.position);
            let rows = changes.take(&self.once);
            drop(events);
            runtime.block_on(database.apply(changes))?;
            if !self.hand_over(rows, position) {
                return Ok(());
            }
        }
        if !self.is_read.load(Ordering::Acquire) {
            return Ok(());
        }
        for table in std::mem::take(&mut self.own) {
            self.hand_over_table(table.name, position)?;
        }
        Ok(())
    }

    /// Hands rows over, once there is room for them; whether anybody wants more.
    fn hand_over(&self, rows: Changes, position: u64) -> bool {
        self.making.blocking_send(Made { rows, group: self.group, position }).is_ok()
    }

    fn hand_over_table(&self, table: &'static str, position: u64) -> Result<(), ViewError> {
        let (mut width, mut bytes, mut values) = (0, 0, Vec::new());
        direct::for_each(&self.database, &format!("select * from {table}"), &[], |row| {
            let mut row = row.into_values()?;
            width = row.len();
            bytes += row.iter().map(Value::bytes).sum::<usize>();
            values.append(&mut row);
            if bytes < HANDED_BYTES {
                return Ok(true);
            }
            bytes = 0;
            Ok(self.hand_over(Changes::whole(table, width, std::mem::take(&mut values)), position))
        })?;
        if !values.is_empty() {
            self.hand_over(Changes::whole(table, width, values), position);
        }
        Ok(())
    }
}
