//! The table of tokens in `ledger.db`, and who belongs to which tenant.
//!
//! Blocking: run it where waiting is allowed. Each call opens its own connection, because calls are rare (a few a second at the
//! most, see [`super::REVALIDATE_AFTER`]) and another process may be writing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aggregates::primitives::{Invalid, ResellerId, Role, Text, Timestamp, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::token::FreshToken;
use crate::store::sqlite::ledger_path;

/// Why the table could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// What SQLite says.
    #[error("the table of tokens: {0}")]
    Database(#[from] rusqlite::Error),
    /// A row that no version of ours wrote.
    #[error("the table of tokens: {0}")]
    Unreadable(String),
}

impl From<Invalid> for DirectoryError {
    fn from(invalid: Invalid) -> Self {
        Self::Unreadable(invalid.to_string())
    }
}

/// A token as authentication needs it.
#[derive(Debug, Clone)]
pub struct KnownToken {
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// What its holder may do.
    pub role: Role,
    /// The user behind it, or `key:<key id>`.
    pub actor_id: UserId,
    /// The tenants it may act for: its own, else its user's.
    pub tenants: Vec<ResellerId>,
    /// Whether it may name a price itself.
    pub declared_cost: bool,
    /// From when on it is void.
    pub expires_at: Option<Timestamp>,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// What a new token is to be.
#[derive(Debug, Clone)]
pub struct TokenOrder {
    /// What its holder may do.
    pub role: Role,
    /// The tenant it acts for.
    pub tenant: Option<ResellerId>,
    /// The user behind it.
    pub user: Option<UserId>,
    /// Whether it may name a price itself.
    pub declared_cost: bool,
    /// What people call it.
    pub label: Option<Text>,
    /// From when on it is void.
    pub expires_at: Option<Timestamp>,
}

impl TokenOrder {
    /// A token of a role, and nothing else.
    #[must_use]
    pub fn of(role: Role) -> Self {
        Self { role, tenant: None, user: None, declared_cost: false, label: None, expires_at: None }
    }

    /// # Errors
    /// [`Invalid`] for a token that nobody could use.
    pub fn check(&self) -> Result<(), Invalid> {
        match self.role {
            Role::System => Err(Invalid("no token has the role system".into())),
            Role::Reseller if self.tenant.is_none() && self.user.is_none() => {
                Err(Invalid("a reseller's token needs a tenant or a user".into()))
            }
            Role::Reseller => Ok(()),
            _ if self.tenant.is_some() || self.declared_cost => {
                Err(Invalid(format!("a {} token has neither a tenant nor a declared cost", self.role)))
            }
            _ => Ok(()),
        }
    }
}

/// A token as it is listed: everything but its secret.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the order above says what each member is
pub struct ListedToken {
    pub key_id: String,
    pub role: String,
    pub tenant: Option<String>,
    pub user: Option<String>,
    pub declared_cost: bool,
    pub label: Option<String>,
    pub created_at: String,
    pub expires_at: Option<String>,
    pub revoked_at: Option<String>,
}

/// The table of tokens of one store.
#[derive(Debug, Clone)]
pub struct Directory {
    file: PathBuf,
}

impl Directory {
    /// The tokens of the store in this directory, which must have been migrated.
    #[must_use]
    pub fn of(store: &Path) -> Self {
        Self { file: ledger_path(store) }
    }

    /// Finds a token by its key id.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn find(&self, key_id: &str) -> Result<Option<KnownToken>, DirectoryError> {
        let connection = self.connect()?;
        let found = connection
            .query_row(
                "select secret_hash, role, tenant, user_id, declared_cost, expires_at, revoked_at from tokens where key_id = ?1",
                [key_id],
                StoredToken::read,
            )
            .optional()?;
        let Some(stored) = found else { return Ok(None) };
        let user = stored.user.map(UserId::new).transpose()?;
        let tenants = match (&stored.tenant, &user) {
            (Some(tenant), _) => vec![tenant.parse()?],
            (None, Some(user)) => tenants_of(&connection, user)?,
            (None, None) => Vec::new(),
        };
        Ok(Some(KnownToken {
            secret_hash: stored
                .secret_hash
                .try_into()
                .map_err(|_| DirectoryError::Unreadable(format!("token {key_id} has no SHA-256")))?,
            role: stored.role.parse()?,
            actor_id: match user {
                Some(user) => user,
                None => UserId::new(format!("key:{key_id}"))?,
            },
            tenants,
            declared_cost: stored.declared_cost,
            expires_at: stored.expires_at.as_deref().map(str::parse).transpose()?,
            revoked: stored.revoked_at.is_some(),
        }))
    }

    /// The tenants that a user is a member of: the resellers that it is registered for.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn tenants_of(&self, user: &UserId) -> Result<Vec<ResellerId>, DirectoryError> {
        tenants_of(&self.connect()?, user)
    }

    /// Makes a token and answers its text, which is not kept.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn create(&self, order: &TokenOrder, now: Timestamp) -> Result<String, DirectoryError> {
        order.check()?;
        let fresh = FreshToken::generate();
        self.connect()?.execute(
            "insert into tokens (key_id, secret_hash, role, tenant, user_id, declared_cost, label, created_at, expires_at) \
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                fresh.key_id,
                fresh.secret_hash.as_slice(),
                order.role.word(),
                order.tenant.map(|tenant| tenant.to_string()),
                order.user.as_ref().map(UserId::as_str),
                order.declared_cost,
                order.label.as_ref().map(Text::as_str),
                now.to_string(),
                order.expires_at.map(|expiry| expiry.to_string()),
            ],
        )?;
        Ok(fresh.text)
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn list(&self) -> Result<Vec<ListedToken>, DirectoryError> {
        let connection = self.connect()?;
        let mut statement = connection.prepare(
            "select key_id, role, tenant, user_id, declared_cost, label, created_at, expires_at, revoked_at \
             from tokens order by created_at, key_id",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(ListedToken {
                key_id: row.get(0)?,
                role: row.get(1)?,
                tenant: row.get(2)?,
                user: row.get(3)?,
                declared_cost: row.get(4)?,
                label: row.get(5)?,
                created_at: row.get(6)?,
                expires_at: row.get(7)?,
                revoked_at: row.get(8)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Makes a token void; whether there was one that was not void yet.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn revoke(&self, key_id: &str, now: Timestamp) -> Result<bool, DirectoryError> {
        let changed = self.connect()?.execute(
            "update tokens set revoked_at = ?2 where key_id = ?1 and revoked_at is null",
            params![key_id, now.to_string()],
        )?;
        Ok(changed > 0)
    }

    fn connect(&self) -> Result<Connection, rusqlite::Error> {
        use rusqlite::OpenFlags;
        let connection = Connection::open_with_flags(
            &self.file,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(Duration::from_secs(10))?;
        Ok(connection)
    }
}

struct StoredToken {
    secret_hash: Vec<u8>,
    role: String,
    tenant: Option<String>,
    user: Option<String>,
    declared_cost: bool,
    expires_at: Option<String>,
    revoked_at: Option<String>,
}

impl StoredToken {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            secret_hash: row.get(0)?,
            role: row.get(1)?,
            tenant: row.get(2)?,
            user: row.get(3)?,
            declared_cost: row.get(4)?,
            expires_at: row.get(5)?,
            revoked_at: row.get(6)?,
        })
    }
}

/// The tenants a user is a member of: the resellers that it is registered for.
fn tenants_of(connection: &Connection, user: &UserId) -> Result<Vec<ResellerId>, DirectoryError> {
    use aggregates::facts::{Fact, FactKey};
    let key = FactKey::User(user.clone());
    let value: Option<String> = connection
        .query_row("select value from facts where kind = ?1 and key = ?2", [key.kind(), &key.key()], |row| row.get(0))
        .optional()?;
    let Some(value) = value else { return Ok(Vec::new()) };
    match key.decode(&value).map_err(|error| DirectoryError::Unreadable(error.to_string()))? {
        Fact::Reseller(owner) => Ok(vec![owner.reseller]),
        _ => Ok(Vec::new()),
    }
}
