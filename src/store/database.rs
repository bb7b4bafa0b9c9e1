//! Where a ledger lives, as an operator writes it, and the store that is there.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aggregates::command::ReceiptKey;
use aggregates::ledger::{Key, Loaded, Receipt};
use aggregates::primitives::{CommandId, ResellerId, Timestamp};
use aggregates::reseller::Reseller;
use serde::{Deserialize, Serialize};

use super::postgres::{Address, PostgresStore, PostgresTurn};
use super::sqlite::{SqliteStore, SqliteTurn, ledger_path};
use super::{Batch, EventStore, Head, StoreError, StoredEvent, Turn};

/// Where a ledger lives. Shown without its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Database {
    /// SQLite files in a directory: `sqlite:DIR`.
    Sqlite(PathBuf),
    /// A PostgreSQL database: `postgres://USER:PASSWORD@HOST:PORT/NAME`.
    Postgres(Address),
}

impl Database {
    /// Whether there is a store already, as far as can be said without asking a server.
    #[must_use]
    pub fn may_exist(&self) -> bool {
        match self {
            Self::Sqlite(dir) => ledger_path(dir).exists(),
            Self::Postgres(_) => true,
        }
    }

    /// Opens the store there; creates and migrates its schema where needed.
    ///
    /// # Errors
    /// As the stores' own.
    pub async fn open(&self) -> Result<Store, StoreError> {
        match self {
            Self::Sqlite(dir) => {
                let dir = dir.clone();
                let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&dir)).await;
                Ok(Store::Sqlite(Box::new(opened.map_err(|error| StoreError::Database(error.to_string()))??)))
            }
            Self::Postgres(address) => Ok(Store::Postgres(PostgresStore::open(address.clone()).await?)),
        }
    }
}

impl From<&Path> for Database {
    /// The files in a directory.
    fn from(dir: &Path) -> Self {
        Self::Sqlite(dir.to_owned())
    }
}

impl From<&Self> for Database {
    fn from(database: &Self) -> Self {
        database.clone()
    }
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return Ok(Self::Postgres(text.parse()?));
        }
        match text.strip_prefix("sqlite:") {
            Some(dir) if !dir.is_empty() => Ok(Self::Sqlite(PathBuf::from(dir.strip_prefix("//").unwrap_or(dir)))),
            // It is not repeated: whatever it is, there may be a password in it.
            _ => Err("it is no database that this version knows; write sqlite:DIRECTORY or \
                      postgres://USER:PASSWORD@HOST:PORT/NAME"
                .to_owned()),
        }
    }
}

impl TryFrom<String> for Database {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The whole text, password included: what is read again by another process or by this one.
impl From<Database> for String {
    fn from(database: Database) -> Self {
        match database {
            Database::Sqlite(dir) => format!("sqlite:{}", dir.display()),
            Database::Postgres(address) => address.expose().to_owned(),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(dir) => write!(f, "sqlite:{}", dir.display()),
            Self::Postgres(address) => write!(f, "{address}"),
        }
    }
}

/// The store of either database.
#[derive(Debug)]
pub enum Store {
    /// In files.
    Sqlite(Box<SqliteStore>),
    /// In a database.
    Postgres(PostgresStore),
}

/// Does `$work` with the one that is there.
macro_rules! either {
    ($self:expr, $type:ident, $one:ident => $work:expr) => {
        match $self {
            $type::Sqlite($one) => $work,
            $type::Postgres($one) => $work,
        }
    };
}

impl EventStore for Store {
    type Turn<'store> = EitherTurn<'store>;

    async fn load(&mut self, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
        either!(self, Self, store => store.load(keys).await)
    }

    async fn resellers(
        &mut self,
        each: &mut (dyn FnMut(ResellerId, u64, Reseller) + Send),
    ) -> Result<Head, StoreError> {
        either!(self, Self, store => store.resellers(each).await)
    }

    async fn begin(&mut self, expected: &Head, receipts: &[ReceiptKey]) -> Result<EitherTurn<'_>, StoreError> {
        Ok(match self {
            Self::Sqlite(store) => EitherTurn::Sqlite(store.begin(expected, receipts).await?),
            Self::Postgres(store) => EitherTurn::Postgres(store.begin(expected, receipts).await?),
        })
    }

    fn assume(&mut self, expected: &Head) -> Option<EitherTurn<'_>> {
        match self {
            Self::Sqlite(store) => store.assume(expected).map(EitherTurn::Sqlite),
            Self::Postgres(store) => store.assume(expected).map(EitherTurn::Postgres),
        }
    }

    async fn resolve(&mut self, after: u64, commands: &[CommandId]) -> Result<(Head, HashSet<CommandId>), StoreError> {
        either!(self, Self, store => store.resolve(after, commands).await)
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        either!(self, Self, store => store.read(after, limit).await)
    }

    async fn expire_receipts(&mut self, older_than: Timestamp, limit: usize) -> Result<usize, StoreError> {
        either!(self, Self, store => store.expire_receipts(older_than, limit).await)
    }
}

/// A turn at the head of either.
pub enum EitherTurn<'store> {
    /// In files.
    Sqlite(SqliteTurn<'store>),
    /// In a database.
    Postgres(PostgresTurn<'store>),
}

impl Turn for EitherTurn<'_> {
    fn head(&self) -> &Head {
        either!(self, Self, turn => turn.head())
    }

    fn is_assumed(&self) -> bool {
        either!(self, Self, turn => turn.is_assumed())
    }

    fn now(&self) -> Option<Timestamp> {
        either!(self, Self, turn => turn.now())
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        either!(self, Self, turn => turn.read(after, limit).await)
    }

    async fn load(&mut self, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
        either!(self, Self, turn => turn.load(keys).await)
    }

    async fn receipts(&mut self, keys: &[ReceiptKey]) -> Result<Vec<(ReceiptKey, Receipt)>, StoreError> {
        either!(self, Self, turn => turn.receipts(keys).await)
    }

    async fn append(self, batch: &Batch) -> Result<(), StoreError> {
        either!(self, Self, turn => turn.append(batch).await)
    }
}
