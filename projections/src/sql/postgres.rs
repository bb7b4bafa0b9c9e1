//! PostgreSQL: where it is, how it is spoken to, and its parameters.
//!
//! Every statement runs within an explicit transaction that begins by saying, for itself alone, which schemas are meant; nothing
//! is set for a session, and behind a pooler nothing is prepared by name. So a connection may be another one in each transaction.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::migrate::Migrator;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnectOptions, PgTypeInfo};
use sqlx::{Arguments, ConnectOptions, Encode, Executor as _, PgConnection, Postgres, Row as _, Type};

use super::{Value, ViewError};

/// The read models' tables. Whoever runs them says by the `search_path` in which schema.
pub static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres/views");

/// A PostgreSQL database, as its address was read.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its hosts, in the order in which they are tried.
    pub hosts: Arc<[PgConnectOptions]>,
    /// Whether of several hosts only one will do that can be written to.
    pub read_write: bool,
    /// Whether a pooler in transaction mode is in between: then nothing is prepared by name.
    pub pooled: bool,
}

impl Server {
    /// Whether there is more than one host, so that another one may be in charge the next moment.
    pub(super) fn has_several_hosts(&self) -> bool {
        self.hosts.len() > 1
    }

    /// Connects to the first host that answers and will do; says also how it was reached.
    ///
    /// # Errors
    /// What the last one said.
    pub fn connect(&self) -> BoxFuture<'_, Result<(PgConnection, PgConnectOptions), sqlx::Error>> {
        Box::pin(async move {
            let mut last = sqlx::Error::Configuration("a database without a host".into());
            for options in &*self.hosts {
                let tried = tokio::time::timeout(CONNECT_TIME, self.try_host(options)).await;
                match tried.unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into()))) {
                    Ok(connection) => return Ok((connection, options.clone())),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    /// Connects, and begins a transaction that reads all of the store as it is at one moment; its end is the connection's.
    ///
    /// # Errors
    /// What the database says.
    pub async fn snapshot(&self) -> Result<PgConnection, sqlx::Error> {
        let (mut connection, _) = self.connect().await?;
        connection.execute(sqlx::raw_sql(BEGIN_READ)).await?;
        Ok(connection)
    }

    async fn try_host(&self, options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
        let mut connection = options.connect().await?;
        if self.has_several_hosts() && self.read_write {
            // A text without parameters is one message, whatever is in between.
            let row = (&mut connection).fetch_one("show transaction_read_only").await?;
            if row.try_get_unchecked::<String, _>(0)? != "off" {
                return Err(sqlx::Error::Io(ErrorKind::ReadOnlyFilesystem.into()));
            }
        }
        Ok(connection)
    }
}

/// Whether an error means that the connection is gone, rather than that a statement failed.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => true,
        // The server is ending, or was ended, or the connection was.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        _ => false,
    }
}

/// Whether an error means that a lock was not to be had in time, or only at the price of another's.
pub(crate) fn is_refused_lock(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if matches!(error.code().as_deref(), Some("55P03" | "40P01")))
}

/// How long a host may take to answer.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Begins what folds: rows and checkpoints can be folded again, so their commits need not wait for the disk. What a fold loads it
/// finds by key, whatever the statistics say: a plan is made once, and not anew for each list of a thousand keys. Read committed,
/// whatever the server's default: the checkpoints are read after the lock was waited for, and must be those of whoever held it.
pub(super) const BEGIN_FOLD: &str = "begin isolation level read committed; \
                                     set local search_path = views, ledger; set local synchronous_commit = off; \
                                     set local tallytree.scope = 'all'; set local jit = off; \
                                     set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; \
                                     set local enable_hashjoin = off; set local enable_mergejoin = off";
/// Begins what reads: one snapshot for all of it. The lock is that of any query; asked for before there is a snapshot, it makes
/// whoever comes while a rebuild exchanges tables wait and then see all that it has done.
pub(super) const BEGIN_READ: &str = "begin isolation level repeatable read read only; \
                                     set local search_path = views, ledger; set local tallytree.scope = 'all'; \
                                     lock table checkpoints in access share mode";
/// Has the policies of all tenants' tables hold every query to a range of paths, to the end of the transaction. The two lines of
/// numbers are what the activity feed and analytics call the reseller.
pub(super) const NARROW: &str = "select set_config('tallytree.path_from', $1, true), set_config('tallytree.path_until', $2, true), \
     set_config('tallytree.line', coalesce((select encode(path, 'hex') from activity_resellers where reseller_id = $3), '-'), \
     true), \
     set_config('tallytree.members', coalesce((select encode(line, 'hex') from analytics_members where reseller_id = $3), '-'), \
     true), set_config('tallytree.scope', 'subtree', true)";
/// Opens ('open') or closes the tables whose rows are nobody's because everybody is in them.
pub(super) const PACKED: &str = "select set_config('tallytree.packed', $1, true)";
/// One fold at a time, in whatever process: held until the transaction ends. The number is nobody else's in this database.
pub(super) const LOCK_FOLD: &str = "select pg_advisory_xact_lock(7373001)";
/// Which transaction wrote the checkpoints last, and which one this is.
pub(super) const WRITERS: &str = "select coalesce(max(cast(cast(xmin as text) as bigint)), 0), \
                                  cast(cast(cast(pg_current_xact_id() as xid) as text) as bigint) from checkpoints";

/// A null whose type the database finds by itself.
struct Untyped;

impl Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

/// The parameters of a statement.
pub(super) fn arguments(sql: &str, values: Vec<Value>) -> Result<PgArguments, ViewError> {
    let mut arguments = PgArguments::default();
    arguments.reserve(values.len(), 0);
    for (index, value) in values.into_iter().enumerate() {
        match value {
            // The type of what is not in the text cannot be found there.
            Value::Null if names(sql, index + 1) => arguments.add(Untyped),
            Value::Null => arguments.add(None::<String>),
            Value::Integer(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
            Value::Integers(list) => arguments.add(list),
            Value::Texts(list) => arguments.add(list),
            Value::Blobs(list) => arguments.add(list),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Whether a text names this parameter.
fn names(sql: &str, number: usize) -> bool {
    let name = format!("${number}");
    sql.match_indices(&name).any(|(at, _)| !sql[at + name.len()..].starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn a_parameter_is_found_in_a_text_by_its_whole_number() {
        assert!(names("select $1, $12", 12) && names("select $1, $12", 1));
        assert!(!names("select $12", 1));
    }
}
