//! The table of tokens beside the log, and who belongs to which tenant.
//!
//! One connection, kept while it holds: calls are rare (a few a second at the most for each token, see
//! [`super::REVALIDATE_AFTER`]), and one statement each. Another process may be writing.

use std::sync::Arc;
use std::time::Duration;

use aggregates::primitives::{Invalid, ResellerId, Role, Text, Timestamp, UserId};
use projections::sql::{Connection, Dialect, Row, Value, ViewError};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection as _};
use tokio::sync::Mutex;

use super::token::FreshToken;
use crate::store::sqlite::ledger_path;
use crate::store::{Database, StoreError};

/// Why the table could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// What the database says.
    #[error("the table of tokens: {0}")]
    Database(String),
    /// A row that no version of ours wrote.
    #[error("the table of tokens: {0}")]
    Unreadable(String),
}

impl From<ViewError> for DirectoryError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Unreadable(what) => Self::Unreadable(what),
            other => Self::Database(other.to_string()),
        }
    }
}

impl From<sqlx::Error> for DirectoryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<StoreError> for DirectoryError {
    fn from(error: StoreError) -> Self {
        Self::Database(error.to_string())
    }
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
    database: Database,
    /// Outside of any transaction; `None` after an error.
    idle: Arc<Mutex<Option<Held>>>,
}

#[derive(Debug)]
enum Held {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// For how long another process's write is waited for.
const BUSY_TIME: Duration = Duration::from_secs(10);
/// Tokens and facts are of the ledger; nothing is said for more than a transaction.
const BEGIN: &str = "begin; set local search_path = ledger";

impl Directory {
    /// The tokens of a store, which must have been migrated.
    #[must_use]
    pub fn of(database: &Database) -> Self {
        Self { database: database.clone(), idle: Arc::default() }
    }

    /// Finds a token by its key id.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub async fn find(&self, key_id: &str) -> Result<Option<KnownToken>, DirectoryError> {
        let sql = format!(
            "select secret_hash, role, tenant, user_id, declared_cost, {}, revoked_at is not null from tokens \
             where key_id = $1",
            self.dialect().time("expires_at")
        );
        let rows = self.fetch(&sql, &[key_id.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mut columns = row.columns();
        let secret_hash = columns.bytes()?;
        let role = columns.parse()?;
        let (tenant, user) = (columns.parse_or_null()?, columns.string_or_null()?);
        let (declared_cost, expires_at, revoked) = (columns.boolean()?, columns.parse_or_null()?, columns.boolean()?);
        let user = user.map(UserId::new).transpose()?;
        let tenants = match (tenant, &user) {
            (Some(tenant), _) => vec![tenant],
            (None, Some(user)) => self.tenants_of(user).await?,
            (None, None) => Vec::new(),
        };
        Ok(Some(KnownToken {
            secret_hash: secret_hash
                .try_into()
                .map_err(|_| DirectoryError::Unreadable(format!("token {key_id} has no SHA-256")))?,
            role,
            actor_id: match user {
                Some(user) => user,
                None => UserId::new(format!("key:{key_id}"))?,
            },
            tenants,
            declared_cost,
            expires_at,
            revoked,
        }))
    }

    /// The tenants that a user is a member of: the resellers that it is registered for.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub async fn tenants_of(&self, user: &UserId) -> Result<Vec<ResellerId>, DirectoryError> {
        use aggregates::facts::{Fact, FactKey};
        let key = FactKey::User(user.clone());
        let values = [key.kind().into(), key.key().to_string().into()];
        let rows = self.fetch("select value from facts where kind = $1 and key = $2", &values).await?;
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        let fact = key.decode(row.columns().str()?);
        match fact.map_err(|error| DirectoryError::Unreadable(error.to_string()))? {
            Fact::Reseller(owner) => Ok(vec![owner.reseller]),
            _ => Ok(Vec::new()),
        }
    }

    /// Makes a token and answers its text, which is not kept.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub async fn create(&self, order: &TokenOrder, now: Timestamp) -> Result<String, DirectoryError> {
        order.check()?;
        let fresh = FreshToken::generate();
        let [created_at, expires_at] = [8, 9].map(|parameter| self.dialect().given_time(parameter));
        let sql = format!(
            "insert into tokens (key_id, secret_hash, role, tenant, user_id, declared_cost, label, created_at, expires_at) \
             values ($1, $2, $3, $4, $5, $6 <> 0, $7, {created_at}, {expires_at}) returning key_id"
        );
        let values = [
            fresh.key_id.into(),
            Value::Bytes(fresh.secret_hash.to_vec()),
            order.role.word().into(),
            Value::text_or_null(order.tenant),
            order.user.as_ref().map(UserId::as_str).into(),
            order.declared_cost.into(),
            order.label.as_ref().map(Text::as_str).into(),
            Value::text(now),
            Value::text_or_null(order.expires_at),
        ];
        self.fetch(&sql, &values).await?;
        Ok(fresh.text)
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub async fn list(&self) -> Result<Vec<ListedToken>, DirectoryError> {
        let [created, expires, revoked] =
            ["created_at", "expires_at", "revoked_at"].map(|column| self.dialect().time(column));
        let sql = format!(
            "select key_id, role, tenant, user_id, declared_cost, label, {created}, {expires}, {revoked} \
             from tokens order by created_at, key_id"
        );
        let rows = self.fetch(&sql, &[]).await?;
        let listed = |row: &Row| {
            let mut columns = row.columns();
            Ok(ListedToken {
                key_id: columns.string()?,
                role: columns.string()?,
                tenant: columns.string_or_null()?,
                user: columns.string_or_null()?,
                declared_cost: columns.boolean()?,
                label: columns.string_or_null()?,
                created_at: columns.string()?,
                expires_at: columns.string_or_null()?,
                revoked_at: columns.string_or_null()?,
            })
        };
        rows.iter().map(listed).collect()
    }

    /// Makes a token void; whether there was one that was not void yet.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub async fn revoke(&self, key_id: &str, now: Timestamp) -> Result<bool, DirectoryError> {
        let sql = format!(
            "update tokens set revoked_at = {} where key_id = $1 and revoked_at is null returning key_id",
            self.dialect().given_time(2)
        );
        Ok(!self.fetch(&sql, &[key_id.into(), Value::text(now)]).await?.is_empty())
    }

    fn dialect(&self) -> Dialect {
        match self.database {
            Database::Sqlite(_) => Dialect::Sqlite,
            Database::Postgres(_) => Dialect::Postgres,
        }
    }

    /// One statement, committed. A connection that was kept may have been lost meanwhile: then it is tried again with a new one.
    async fn fetch(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, DirectoryError> {
        let mut idle = self.idle.lock().await;
        if let Some(held) = idle.take()
            && let Ok((rows, held)) = self.ask(held, sql, values).await
        {
            *idle = Some(held);
            return Ok(rows);
        }
        let (rows, held) = self.ask(self.connect().await?, sql, values).await?;
        *idle = Some(held);
        Ok(rows)
    }

    async fn ask(&self, mut held: Held, sql: &str, values: &[Value]) -> Result<(Vec<Row>, Held), DirectoryError> {
        let rows = match &mut held {
            Held::Sqlite(connection) => Connection::sqlite(connection).fetch(sql, values.to_vec()).await?,
            Held::Postgres(connection) => {
                let is_named = matches!(&self.database, Database::Postgres(address) if !address.is_pooled());
                let mut transaction = connection.begin_with(BEGIN).await?;
                let rows = Connection::postgres(&mut transaction, is_named).fetch(sql, values.to_vec()).await?;
                transaction.commit().await?;
                rows
            }
        };
        Ok((rows, held))
    }

    async fn connect(&self) -> Result<Held, DirectoryError> {
        Ok(match &self.database {
            Database::Sqlite(dir) => {
                let options = SqliteConnectOptions::new()
                    .filename(ledger_path(dir))
                    .create_if_missing(false)
                    .busy_timeout(BUSY_TIME)
                    .disable_statement_logging();
                Held::Sqlite(options.connect().await?)
            }
            Database::Postgres(address) => Held::Postgres(address.connect().await?),
        })
    }
}
