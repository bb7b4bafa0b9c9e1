//! The store in a directory: SQLite, nothing to install.
//!
//! Shape: one connection that writes ([`SqliteStore`]), a thread that checkpoints beside it. A turn is one `BEGIN IMMEDIATE`
//! transaction ([`SqliteTurn`]); SQLite's one write lock is the head's lock. Any number of processes may write.
//!
//! Cost: a row by its key is a few microseconds, a commit is one fsync of the WAL. Everything here blocks, although the trait
//! waits: run it on a thread of its own.
//!
//! Fairness: whoever lets go of the write lock and takes it again at once always wins against one that sleeps. So a waiting
//! writer sleeps shortly, and one that has seen another at work leaves the lock alone for a millisecond after each commit.
//!
//! Layering: `schema` makes the files, `connection` opens them, `reading` and `turn` hold the SQL, `state` replays.

mod checkpoint;
mod connection;
mod reading;
mod schema;
mod state;
mod turn;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aggregates::ledger::{Key, Loaded};
use aggregates::primitives::{CommandId, ResellerId, Timestamp};
use aggregates::reseller::Reseller;
use rusqlite::{Connection, params};

pub use self::schema::{MigrateLock, ledger_path, migrate_lock, views_path};
pub use self::turn::SqliteTurn;
use crate::store::{EventStore, Head, StoreError, StoredEvent};
use checkpoint::Checkpointer;
use connection::error;

/// How long a commit leaves the lock alone where others write too.
const COURTESY: Duration = Duration::from_millis(1);

/// For how long after another writer was last seen it is reckoned with.
const COMPANY: Duration = Duration::from_secs(1);

/// The store in a directory; one connection for writing.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    connection: Connection,
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
        let checkpointer = Checkpointer::start(path.clone())?;
        Ok(Self { path, connection, checkpointer, company_at: None, committed_at: None })
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

    /// Whether the history up to `expected` is in the store as we know it.
    fn recognise(&self, head: &Head, expected: &Head) -> Result<(), StoreError> {
        if head.position < expected.position {
            return Err(StoreError::HistoryCut(format!(
                "the log ends at {}, and {} has been seen",
                head.position, expected.position
            )));
        }
        let hash = if head.position == expected.position {
            head.hash
        } else if expected.position == 0 {
            [0; 32]
        } else {
            reading::hash_at(&self.connection, expected.position)?
                .ok_or_else(|| StoreError::HistoryCut(format!("event {} is no longer in the log", expected.position)))?
        };
        if hash == expected.hash {
            Ok(())
        } else {
            Err(StoreError::HistoryCut(format!("event {} has another hash than was seen", expected.position)))
        }
    }
}

impl EventStore for SqliteStore {
    type Turn<'store> = SqliteTurn<'store>;

    async fn load(&mut self, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
        reading::in_one_snapshot(&mut self.connection, |connection| reading::load(connection, keys))
    }

    async fn resellers(
        &mut self,
        each: &mut (dyn FnMut(ResellerId, u64, Reseller) + Send),
    ) -> Result<Head, StoreError> {
        reading::in_one_snapshot(&mut self.connection, |connection| {
            let head = reading::head(connection)?;
            reading::resellers(connection, each)?;
            Ok(head)
        })
    }

    async fn begin(&mut self, expected: &Head) -> Result<SqliteTurn<'_>, StoreError> {
        self.abandon();
        self.be_courteous();
        self.lock()?;
        let seen = reading::head(&self.connection).and_then(|head| {
            self.recognise(&head, expected)?;
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
        reading::in_one_snapshot(&mut self.connection, |connection| {
            Ok((reading::head(connection)?, reading::commands_after(connection, after, commands)?))
        })
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        reading::events(&self.connection, after, limit)
    }

    async fn expire_receipts(&mut self, older_than: Timestamp, limit: usize) -> Result<usize, StoreError> {
        // Rows are in order of time, so the oldest are the first: no index, and no more work than `limit` rows.
        self.connection
            .prepare_cached(
                "delete from receipts where created_at < ?1 \
                 and rowid in (select rowid from receipts order by rowid limit ?2)",
            )
            .and_then(|mut statement| {
                statement.execute(params![older_than.to_string(), i64::try_from(limit).unwrap_or(i64::MAX)])
            })
            .map_err(error)
    }
}
