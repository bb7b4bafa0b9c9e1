//! The keeper: a thread that follows `ledger.db` and moves `index.db` on.
//!
//! It reads what was committed, sorts it by key, and writes it in one transaction together with how far it has come: after a
//! crash it goes on from there. The bigger a step, the more keys share a page, so it waits a moment even where there is work.
//! Snapshots are handed to it by the writer, of each aggregate the latest one only; one that is lost with the process is no
//! loss, because loading an aggregate folds whatever came after the snapshot that there is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use aggregates::command::ReceiptKey;
use aggregates::event::AggregateKey;
use hashbrown::HashMap;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::Snapshot;
use super::provisions::{self, Change};
use crate::store::sqlite::connection::error;
use crate::store::sqlite::{priority, schema};
use crate::store::{STATE_VERSION, SnapshotRow, StoreError};

/// How long it gathers before it writes: the more keys there are, the more of them share a page.
const GATHER: Duration = Duration::from_secs(1);

/// So many events and receipts are not waited for any longer.
const ENOUGH: usize = 32_768;

/// How many events, and how many receipts, go into one step.
const STEP: u64 = 32_768;

/// How far the file has come, and with which history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) position: u64,
    pub(super) hash: [u8; 32],
    pub(super) receipt: u64,
    pub(super) receipt_key: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What the file is known to hold.
    position: AtomicU64,
    receipt: AtomicU64,
    /// Whether there may be something to do.
    dirty: AtomicBool,
    stop: AtomicBool,
    snapshots: Mutex<HashMap<AggregateKey, Snapshot>>,
    /// Receipts that have expired, whose keys the file need not find any more.
    expired: Mutex<Vec<(u64, ReceiptKey)>>,
}

impl Shared {
    fn snapshots(&self) -> MutexGuard<'_, HashMap<AggregateKey, Snapshot>> {
        // A panic elsewhere leaves at worst a snapshot out, and those may be missing.
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expired(&self) -> MutexGuard<'_, Vec<(u64, ReceiptKey)>> {
        // The same: a key that stays finds a receipt that is no more.
        self.expired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reached(&self, progress: &Progress) {
        self.position.store(progress.position, Ordering::Release);
        self.receipt.store(progress.receipt, Ordering::Release);
    }
}

/// The thread; dropping it lets it write what waits, and ends it.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(dir: PathBuf, progress: &Progress) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        shared.reached(progress);
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || run(&dir, &seen))
            .map_err(|error| StoreError::Database(error.to_string()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Every event up to here is in the file.
    pub(super) fn position(&self) -> u64 {
        self.shared.position.load(Ordering::Acquire)
    }

    /// Every receipt up to here is in the file.
    pub(super) fn receipt(&self) -> u64 {
        self.shared.receipt.load(Ordering::Acquire)
    }

    /// Says what was committed; `waiting` events and receipts are not in the file.
    pub(super) fn committed(&self, snapshots: &[SnapshotRow], position: u64, waiting: usize) {
        if !snapshots.is_empty() {
            let mut held = self.shared.snapshots();
            for row in snapshots {
                let snapshot = Snapshot { payload: row.payload.clone(), sequence: row.sequence, position };
                held.insert(row.key.clone(), snapshot);
            }
        }
        self.shared.dirty.store(true, Ordering::Release);
        if waiting >= ENOUGH
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }

    /// Hands over the keys of receipts that are gone. They are taken out of the file with what comes next: nobody waits for it,
    /// and whoever finds one meanwhile finds no receipt.
    pub(super) fn expired(&self, gone: Vec<(u64, ReceiptKey)>) {
        self.shared.expired().extend(gone);
        self.shared.dirty.store(true, Ordering::Release);
    }

    /// A snapshot that waits to be written.
    pub(super) fn waiting(&self, key: &AggregateKey) -> Option<Snapshot> {
        self.shared.snapshots().get(key).cloned()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has lost nothing: whoever opens the store next brings the file up.
            let _ = thread.join();
        }
    }
}

/// Opens `index.db`, which `super::schema` has made.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(error)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(error)?;
    connection.set_prepared_statement_cache_capacity(32);
    // What a power failure takes is written again.
    connection
        .execute_batch(
            "pragma synchronous = normal; pragma wal_autocheckpoint = 8000; pragma cache_size = -16000; \
             pragma mmap_size = 268435456; pragma temp_store = memory;",
        )
        .map_err(error)?;
    Ok(connection)
}

/// Brings the file up to the ledger's end. Blocks, with a line in the log now and then where it takes long.
///
/// # Errors
/// [`StoreError::HistoryCut`] where the file was made from a longer or another history than the ledger's. The file follows the
/// ledger's durable commits, so no crash makes it so; a ledger that was put back to an older state does, and what was answered
/// since must not be done a second time because nobody remembers it.
pub(super) fn bring_up(ledger: &Connection, index: &Connection) -> Result<Progress, StoreError> {
    let progress = super::progress(index)?;
    if !super::belongs(ledger, &progress)? {
        return Err(StoreError::HistoryCut(format!(
            "index.db knows a ledger whose events go up to {} at least, and that is not what stands in ledger.db: it was put \
             back to an older state, or comes from another store. Put the newer ledger.db back, together with its \
             ledger.db-wal. Only where the older one is to stand, and what it lacks is known to be lost, move index.db and \
             views.db away: they are then made anew",
            progress.position
        )));
    }
    let mut steps = 0_u32;
    loop {
        let (progress, more) = step(ledger, index, &mut HashMap::new(), &mut Vec::new())?;
        if !more {
            return Ok(progress);
        }
        steps += 1;
        if steps.is_multiple_of(10) {
            tracing::info!(position = progress.position, receipts = progress.receipt, "indexing the ledger");
        }
    }
}

fn run(dir: &Path, shared: &Shared) {
    priority::lower();
    let mut connections: Option<(Connection, Connection)> = None;
    loop {
        // Read first, so that what is handed over before a stop is written before the end.
        let stop = shared.stop.load(Ordering::Acquire);
        if !stop {
            std::thread::park_timeout(GATHER);
        }
        if shared.dirty.swap(false, Ordering::AcqRel)
            && let Err(error) = write(dir, shared, &mut connections)
        {
            // The tail holds what is not written; it is tried again.
            tracing::warn!(%error, "the index could not be written; trying again");
            connections = None;
            shared.dirty.store(true, Ordering::Release);
        }
        if stop {
            return;
        }
    }
}

fn write(dir: &Path, shared: &Shared, connections: &mut Option<(Connection, Connection)>) -> Result<(), StoreError> {
    let (ledger, index) = match connections {
        Some(connections) => connections,
        None => connections.insert((reader(&schema::ledger_path(dir))?, open(&schema::index_path(dir))?)),
    };
    let mut snapshots = std::mem::take(&mut *shared.snapshots());
    let mut expired = std::mem::take(&mut *shared.expired());
    loop {
        let (progress, more) = step(ledger, index, &mut snapshots, &mut expired)?;
        shared.reached(&progress);
        if !more {
            return Ok(());
        }
    }
}

fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(error)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(error)?;
    Ok(connection)
}

/// Moves the file on by one step; says how far it is then, and whether there is more.
fn step(
    ledger: &Connection,
    index: &Connection,
    snapshots: &mut HashMap<AggregateKey, Snapshot>,
    expired: &mut Vec<(u64, ReceiptKey)>,
) -> Result<(Progress, bool), StoreError> {
    let transaction = rusqlite::Transaction::new_unchecked(index, TransactionBehavior::Immediate).map_err(error)?;
    let mut progress = super::progress(&transaction)?;
    let events = index_events(ledger, &transaction, &mut progress)?;
    let receipts = index_receipts(ledger, &transaction, &mut progress)?;
    // None may run ahead of the events that are in the file: whether the file is of this history is told by those.
    let reached = progress.position;
    let due: HashMap<_, _> = snapshots.extract_if(|_, snapshot| snapshot.position <= reached).collect();
    if events == 0 && receipts == 0 && due.is_empty() && expired.is_empty() {
        return Ok((progress, false));
    }
    keep_snapshots(&transaction, due)?;
    forget_keys(&transaction, std::mem::take(expired))?;
    transaction
        .prepare_cached("update progress set position = ?1, hash = ?2, receipt = ?3, receipt_key = ?4 where id = 1")
        .and_then(|mut statement| {
            statement.execute(params![progress.position, progress.hash, progress.receipt, progress.receipt_key])
        })
        .map_err(error)?;
    transaction.commit().map_err(error)?;
    Ok((progress, events == STEP || receipts == STEP))
}

fn index_events(ledger: &Connection, index: &Connection, progress: &mut Progress) -> Result<u64, StoreError> {
    let mut found: Vec<(String, String, u64, u64)> = Vec::new();
    let mut changes: Vec<Change> = Vec::new();
    {
        let mut statement = ledger
            .prepare_cached(
                "select aggregate_type, aggregate_id, sequence, position, hash, event_type, event_version, payload \
                 from events where position > ?1 order by position limit ?2",
            )
            .map_err(error)?;
        let mut rows = statement.query([progress.position, STEP]).map_err(error)?;
        while let Some(row) = rows.next().map_err(error)? {
            let (aggregate_type, id): (String, String) = (row.get(0).map_err(error)?, row.get(1).map_err(error)?);
            let (sequence, position) = (row.get(2).map_err(error)?, row.get(3).map_err(error)?);
            progress.position = position;
            progress.hash = row.get(4).map_err(error)?;
            changes.extend(Change::of_row(row, 5, &aggregate_type, position)?);
            found.push((aggregate_type, id, sequence, position));
        }
    }
    found.sort_unstable();
    let mut statement = index
        .prepare_cached(
            "insert or rollback into streams (aggregate_type, aggregate_id, sequence, position) values (?1, ?2, ?3, ?4)",
        )
        .map_err(error)?;
    for (aggregate_type, id, sequence, position) in &found {
        statement.execute(params![aggregate_type, id, sequence, position]).map_err(error)?;
    }
    provisions::write(index, changes)?;
    Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
}

fn index_receipts(ledger: &Connection, index: &Connection, progress: &mut Progress) -> Result<u64, StoreError> {
    let mut found: Vec<(ReceiptKey, u64)> = Vec::new();
    {
        let mut statement =
            ledger.prepare_cached("select key, id from receipts where id > ?1 order by id limit ?2").map_err(error)?;
        let mut rows = statement.query([progress.receipt, STEP]).map_err(error)?;
        while let Some(row) = rows.next().map_err(error)? {
            found.push((row.get(0).map_err(error)?, row.get(1).map_err(error)?));
        }
    }
    if let Some((key, id)) = found.last() {
        progress.receipt = *id;
        progress.receipt_key = key.to_vec();
    }
    found.sort_unstable();
    // A key may come again once its first receipt has expired.
    let mut statement = index
        .prepare_cached(
            "insert or rollback into receipt_keys (key, receipt) values (?1, ?2) \
             on conflict (key) do update set receipt = excluded.receipt",
        )
        .map_err(error)?;
    for (key, id) in &found {
        statement.execute(params![key, id]).map_err(error)?;
    }
    Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
}

/// Of a key that has come again since, the later receipt stays.
fn forget_keys(index: &Connection, mut expired: Vec<(u64, ReceiptKey)>) -> Result<(), StoreError> {
    expired.sort_unstable_by_key(|(_, key)| *key);
    let mut statement =
        index.prepare_cached("delete from receipt_keys where key = ?1 and receipt = ?2").map_err(error)?;
    for (id, key) in &expired {
        statement.execute(params![key, id]).map_err(error)?;
    }
    Ok(())
}

fn keep_snapshots(index: &Connection, snapshots: HashMap<AggregateKey, Snapshot>) -> Result<(), StoreError> {
    let mut snapshots: Vec<_> =
        snapshots.into_iter().map(|(key, snapshot)| (key.aggregate_type(), key.aggregate_id(), snapshot)).collect();
    snapshots.sort_unstable_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
    let mut statement = index
        .prepare_cached(
            "insert or rollback into snapshots \
             (aggregate_type, aggregate_id, last_sequence, current_snapshot, payload, state_version, position) \
             values (?1, ?2, ?3, 1, ?4, ?5, ?6) \
             on conflict (aggregate_type, aggregate_id) do update set last_sequence = excluded.last_sequence, \
             current_snapshot = snapshots.current_snapshot + 1, payload = excluded.payload, \
             state_version = excluded.state_version, position = excluded.position \
             where excluded.last_sequence > snapshots.last_sequence \
             or excluded.state_version > snapshots.state_version",
        )
        .map_err(error)?;
    for (aggregate_type, id, snapshot) in &snapshots {
        statement
            .execute(params![aggregate_type, id, snapshot.sequence, snapshot.payload, STATE_VERSION, snapshot.position])
            .map_err(error)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_snapshot_waits_until_the_events_it_holds_are_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        schema::migrate(dir.path()).unwrap();
        let ledger = reader(&schema::ledger_path(dir.path())).unwrap();
        let index = open(&schema::index_path(dir.path())).unwrap();
        let snapshot = |position| Snapshot { payload: "{}".to_owned(), sequence: 1, position };
        let mut snapshots = HashMap::from_iter([(AggregateKey::Platform, snapshot(1))]);
        step(&ledger, &index, &mut snapshots, &mut Vec::new()).unwrap();
        let kept = || -> i64 { index.query_row("select count(*) from snapshots", [], |row| row.get(0)).unwrap() };
        assert_eq!((kept(), snapshots.len()), (0, 1));

        // An index whose events were taken from a later ledger than the one at hand.
        index.execute_batch("update progress set position = 1, hash = randomblob(32)").unwrap();
        step(&ledger, &index, &mut snapshots, &mut Vec::new()).unwrap();
        assert_eq!((kept(), snapshots.len()), (1, 0));
        let refused = bring_up(&ledger, &index).unwrap_err();
        assert!(matches!(refused, StoreError::HistoryCut(_)), "{refused}");
        assert_eq!(kept(), 1, "what tells of the longer history stays");
    }
}
