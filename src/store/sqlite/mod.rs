//! The store in a directory: SQLite, nothing to install.
//!
//! Shape: one connection that writes ([`SqliteStore`]), a thread that checkpoints beside it, an index of the log that lags
//! behind it (`index`), and a thread that makes the WALs of what follows the log durable in small pieces (`writeback`). A turn is
//! one `BEGIN IMMEDIATE` transaction ([`SqliteTurn`]); SQLite's one write lock is the head's lock. Any number of processes may
//! write.
//!
//! Cost: a commit appends events and receipts at the end of their tables, and is one fsync of the WAL; a row by its key is a few
//! microseconds. Everything here blocks, although the trait waits: run it on a thread of its own.
//!
//! Fairness: whoever lets go of the write lock and takes it again at once always wins against one that sleeps. So a waiting
//! writer sleeps shortly, and one that has seen another at work leaves the lock alone for a millisecond after each commit.
//!
//! Layering: `schema` makes the files, `connection` opens them, `index` finds by key, `reading` and `turn` hold the ledger's SQL,
//! `state` folds.

mod checkpoint;
mod connection;
mod copy;
mod index;
mod priority;
mod reading;
mod schema;
mod state;
mod turn;
mod writeback;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aggregates::command::ReceiptKey;
use aggregates::ledger::{Key, Loaded};
use aggregates::primitives::{CommandId, ResellerId, Timestamp};
use aggregates::reseller::Reseller;
use rusqlite::{Connection, params};

pub use self::checkpoint::{Checkpointer, Measure};
pub use self::copy::copy;
pub use self::schema::{MigrateLock, index_path, ledger_path, migrate_lock, views_path};
pub use self::turn::SqliteTurn;
use crate::store::{EventStore, Head, StoreError, StoredEvent, recognise};
use connection::error;
use index::Index;
use writeback::Writeback;

/// How long a commit leaves the lock alone where others write too.
const COURTESY: Duration = Duration::from_millis(1);

/// For how long after another writer was last seen it is reckoned with.
const COMPANY: Duration = Duration::from_secs(1);

/// The store in a directory; one connection for writing.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    connection: Connection,
    // Ends before the index writes what is left.
    _writeback: Writeback,
    index: Index,
    checkpointer: Checkpointer,
    /// When another writer was last seen.
    company_at: Option<Instant>,
    /// When this one last committed.
    committed_at: Option<Instant>,
}

impl SqliteStore {
    /// Opens the store in a directory; creates and migrates it where needed. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Schema`] where a newer version wrote it, else what stands in the way of the file.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        schema::migrate(dir)?;
        let path = ledger_path(dir);
        let connection = connection::open(&path)?;
        let index = Index::open(dir, &connection)?;
        let checkpointer = Checkpointer::start(path.clone(), checkpoint::OF_THE_LOG)?;
        // The log's own WAL is made durable by each commit.
        let writeback = Writeback::start(&[index_path(dir), views_path(dir)]);
        Ok(Self { path, connection, index, checkpointer, _writeback: writeback, company_at: None, committed_at: None })
    }

    /// Rolls back whatever is open.
    fn abandon(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("rollback")
        {
            // Nothing of it can be committed any more: `begin` refuses to go on, and `resolve` takes a new connection.
            tracing::warn!(%error, "a rollback failed");
        }
    }

    /// Lets others have the lock for a moment, where there are others. It is done before a turn rather than after a commit, so
    /// that no answer waits for it.
    fn be_courteous(&self) {
        if let (Some(company), Some(committed)) = (self.company_at, self.committed_at)
            && company.elapsed() < COMPANY
        {
            let left = COURTESY.saturating_sub(committed.elapsed());
            if !left.is_zero() {
                std::thread::sleep(left);
            }
        }
    }

    /// Moves the WAL's last frames into the file where the thread beside has moved all others.
    fn finish_checkpoint(&self) {
        if self.checkpointer.is_nearly_done()
            && let Err(error) = checkpoint::passive(&self.connection)
        {
            // The thread comes again.
            tracing::warn!(%error, "a checkpoint was not finished");
        }
    }

    /// Takes the write lock, and notes whether it had to be waited for.
    fn lock(&mut self) -> Result<(), StoreError> {
        let waits = connection::waits();
        self.connection
            .prepare_cached("begin immediate")
            .and_then(|mut statement| statement.execute([]))
            .map_err(error)?;
        if connection::waits() != waits {
            self.company_at = Some(Instant::now());
        }
        Ok(())
    }
}

impl EventStore for SqliteStore {
    type Turn<'store> = SqliteTurn<'store>;

    async fn load(&mut self, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
        let index = &self.index;
        reading::in_one_snapshot(&mut self.connection, |connection| reading::load(connection, index, keys))
    }

    async fn resellers(
        &mut self,
        each: &mut (dyn FnMut(ResellerId, u64, Reseller) + Send),
    ) -> Result<Head, StoreError> {
        let index = &mut self.index;
        reading::in_one_snapshot(&mut self.connection, |connection| {
            let head = reading::head(connection)?;
            index.sync(connection)?;
            reading::resellers(connection, index, each)?;
            Ok(head)
        })
    }

    async fn begin(&mut self, expected: &Head, _receipts: &[ReceiptKey]) -> Result<SqliteTurn<'_>, StoreError> {
        self.abandon();
        self.finish_checkpoint();
        self.be_courteous();
        self.lock()?;
        let seen = reading::head(&self.connection).and_then(|head| {
            recognise(&head, expected, || reading::hash_at(&self.connection, expected.position))?;
            self.index.sync(&self.connection)?;
            Ok(head)
        });
        match seen {
            Ok(head) => {
                if head.position > expected.position {
                    self.company_at = Some(Instant::now());
                }
                Ok(SqliteTurn::new(self, head))
            }
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    fn assume(&mut self, _expected: &Head) -> Option<SqliteTurn<'_>> {
        // The lock is no further than the log.
        None
    }

    async fn resolve(&mut self, after: u64, commands: &[CommandId]) -> Result<(Head, HashSet<CommandId>), StoreError> {
        let fresh = connection::open(&self.path)?;
        // The old one goes first: closing it ends whatever it still has open, which would keep the lock from us for ever.
        drop(std::mem::replace(&mut self.connection, fresh));
        self.lock()?;
        let bumped = self.connection.execute_batch("update head set epoch = epoch + 1 where id = 1; commit");
        if let Err(cause) = bumped {
            self.abandon();
            return Err(error(cause));
        }
        let index = &mut self.index;
        reading::in_one_snapshot(&mut self.connection, |connection| {
            index.reset(connection)?;
            Ok((reading::head(connection)?, reading::commands_after(connection, after, commands)?))
        })
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        reading::events(&self.connection, after, limit)
    }

    async fn expire_receipts(&mut self, older_than: Timestamp, limit: usize) -> Result<usize, StoreError> {
        // Rows are in order of time, so the oldest are the first: no more work than `limit` rows.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let older_than = older_than.to_string();
        let last: Option<u64> = self
            .connection
            .prepare_cached(
                "select max(id) from (select id, created_at from receipts order by id limit ?2) where created_at < ?1",
            )
            .and_then(|mut statement| statement.query_row(params![older_than, limit], |row| row.get(0)))
            .map_err(error)?;
        let Some(last) = last else { return Ok(0) };
        // Only what is in the index may go, because the next number is one more than the last that the ledger or the index knows.
        self.index.hold_receipt(&self.connection, last)?;
        let gone: Vec<(u64, ReceiptKey)> = self
            .connection
            .prepare_cached("delete from receipts where created_at < ?1 and id <= ?2 returning id, key")
            .and_then(|mut statement| {
                statement.query_map(params![older_than, last], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .map_err(error)?;
        let number = gone.len();
        if number > 0 {
            self.index.expired(gone);
        }
        Ok(number)
    }
}
