//! What shows, after the load, that nothing was left out while it was measured: a receipt for every keyed command, a hash
//! chain that holds from the first event to the head, and projections that came along.
//!
//! Reads `ledger.db` from outside, as an auditor would. One pass over the log.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use aggregates::primitives::{CommandId, Timestamp};
use anyhow::{Context, bail};
use rusqlite::{Connection, OpenFlags, Row};
use serde::Serialize;
use uuid::Uuid;

use crate::store::{StoredEvent, chain};

/// How long the projections may take to catch up before the run is given up.
pub(super) const CATCH_UP_PATIENCE: Duration = Duration::from_secs(600);

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Evidence {
    /// Keyed commands (and keyed items) that were sent and answered.
    pub(super) keyed_commands: u64,
    /// Receipts in the ledger.
    pub(super) receipts: u64,
    /// Events in the log, all of them verified.
    pub(super) events: u64,
    /// How long verifying took, in seconds.
    pub(super) verify_seconds: f64,
    /// The head's hash, in hexadecimal.
    pub(super) head_hash: String,
    /// The size of the store, in bytes.
    pub(super) store_bytes: u64,
}

impl Evidence {
    /// Reads the ledger in `store` and checks it; before the run it held `receipts_before`.
    ///
    /// # Errors
    /// The chain is broken, the head is not the last event, or the new receipts are not as many as the keyed commands.
    pub(super) fn gather(store: &Path, keyed_commands: u64, receipts_before: u64) -> anyhow::Result<Self> {
        let mut ledger = open(store, "ledger.db")?;
        let ledger = ledger.transaction()?;
        let receipts = count_receipts(&ledger)? - receipts_before;
        let start = Instant::now();
        let (events, head_hash) = verify_chain(&ledger)?;
        let verify_seconds = start.elapsed().as_secs_f64();
        if receipts != keyed_commands {
            bail!("{keyed_commands} keyed commands were answered, but there are {receipts} receipts");
        }
        let mut store_bytes = 0;
        for file in std::fs::read_dir(store)? {
            store_bytes += file?.metadata()?.len();
        }
        Ok(Self { keyed_commands, receipts, events, verify_seconds, head_hash: hexadecimal(&head_hash), store_bytes })
    }
}

/// How many receipts a store holds.
pub(super) fn receipts(store: &Path) -> anyhow::Result<u64> {
    count_receipts(&open(store, "ledger.db")?)
}

fn count_receipts(ledger: &Connection) -> anyhow::Result<u64> {
    Ok(u64::try_from(ledger.query_row("select count(*) from receipts", [], |row| row.get::<_, i64>(0))?)?)
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Full features were on: {} keyed commands, {} receipts; {} events, hash chain verified to the head ({}…) in {:.1} s; \
             store {:.0} MB.",
            self.keyed_commands,
            self.receipts,
            self.events,
            self.head_hash.get(..16).unwrap_or_default(),
            self.verify_seconds,
            self.store_bytes as f64 / 1e6,
        )
    }
}

/// The position of the log's last event.
pub(super) fn head_position(store: &Path) -> anyhow::Result<u64> {
    let position = open(store, "ledger.db")?.query_row("select position from head", [], |row| row.get::<_, i64>(0))?;
    Ok(u64::try_from(position)?)
}

/// Opens one of a store's files for reading.
pub(super) fn open(store: &Path, file: &str) -> anyhow::Result<Connection> {
    let path = store.join(file);
    let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("opening {}", path.display()))?;
    database.busy_timeout(Duration::from_secs(10))?;
    Ok(database)
}

/// Hashes every event anew; tells how many there are, and the last hash, which is the head's.
fn verify_chain(ledger: &Connection) -> anyhow::Result<(u64, [u8; 32])> {
    let mut statement = ledger.prepare(
        "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
         recorded_at, hash from events order by position",
    )?;
    let mut rows = statement.query([])?;
    let mut position = 0;
    let mut previous = [0; 32];
    while let Some(row) = rows.next()? {
        let event = stored_event(row).with_context(|| format!("reading the event after position {position}"))?;
        position += 1;
        if event.position != position {
            bail!("the log has no event at position {position}");
        }
        if chain::hash(&previous, &event) != event.hash {
            bail!("the hash chain is broken at position {position}");
        }
        previous = event.hash;
    }
    let (head, hash) = ledger.query_row("select position, hash from head", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?))
    })?;
    if (u64::try_from(head)?, hash) != (position, previous) {
        bail!("the head is at position {head}, which is not the log's last event ({position})");
    }
    Ok((position, previous))
}

fn stored_event(row: &Row<'_>) -> anyhow::Result<StoredEvent> {
    Ok(StoredEvent {
        position: u64::try_from(row.get::<_, i64>(0)?)?,
        aggregate_type: row.get::<_, String>(1)?.into(),
        aggregate_id: row.get(2)?,
        sequence: u64::try_from(row.get::<_, i64>(3)?)?,
        event_type: row.get::<_, String>(4)?.into(),
        event_version: row.get::<_, String>(5)?.into(),
        payload: row.get(6)?,
        metadata: row.get(7)?,
        recorded_at: row.get_ref(8)?.as_str()?.parse::<Timestamp>()?,
        hash: row.get(9)?,
        // Not part of what is hashed.
        actor: String::new(),
        command_id: CommandId(Uuid::nil()),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
