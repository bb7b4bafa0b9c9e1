//! The writer's connection: how its sessions are set, how long it waits, and what the database's errors mean to us.

use std::future::Future;
use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::PgConnection;

use super::address::Address;
use crate::store::StoreError;

/// For how long an answer is waited for. A commit that waits for a standby may take longer; it is in doubt then.
const ANSWER_TIME: Duration = Duration::from_secs(12);

/// What a writer's transaction is set to.
///
/// - A turn is waited for as long as on SQLite; whoever holds it and falls silent (a machine that hangs, a cable that is cut)
///   loses it a little before.
/// - `enable_…`, `jit`: everything here is a few rows found by key, whatever the statistics of a new database say; so a plan is
///   made once and is good for ever. Statements that join see to it themselves that keys come first (`lateral … offset 0`): the
///   plan for tables with nothing in them yet may else be to read all of one, and stays that when it has millions of rows.
/// - Two are how what is not prepared is written and read.
/// - The last one is for row-level security: the ledger's own work sees all tenants.
const SETTINGS: [(&str, &str); 11] = [
    ("lock_timeout", "5s"),
    ("statement_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "4s"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "hex"),
    ("tallytree.scope", "all"),
];

/// Whatever the database's or the role's default says, a commit of the log is durable before it is answered; what waits for a
/// standby goes on doing so.
const DURABLE: &str = "set_config('synchronous_commit', case current_setting('synchronous_commit') when 'off' then 'on' \
                       else current_setting('synchronous_commit') end, ";

/// Connects for writing. `prepared` is SQL that prepares what the session will execute by name; not behind a pooler.
pub(super) async fn open(address: &Address, prepared: &str) -> Result<PgConnection, StoreError> {
    let mut connection = address.connect_as(|host| host.clone().options(SETTINGS)).await?;
    if !address.is_pooled() {
        let sql = format!("select {DURABLE}false); set session characteristics as transaction {KIND}; {prepared}");
        answered(connection.execute(sqlx::raw_sql(&sql))).await?.map_err(error)?;
    }
    Ok(connection)
}

/// Each statement sees what was committed when it began, whatever the database's default is; one that is a transaction of its own
/// too.
const KIND: &str = "isolation level read committed read write";

/// What begins a transaction: behind a pooler a session is somebody else's the next moment, so everything is set anew.
pub(super) fn begin(pooled: bool) -> String {
    if !pooled {
        return format!("begin {KIND};");
    }
    let settings: String = SETTINGS.iter().map(|(name, value)| format!(" set local {name} = '{value}';")).collect();
    format!("begin {KIND};{settings} select {DURABLE}true);")
}

/// What begins a transaction that reads in one snapshot.
pub(super) fn begin_reading(pooled: bool) -> &'static str {
    if pooled {
        "begin isolation level repeatable read read only; set local tallytree.scope = 'all'"
    } else {
        "begin isolation level repeatable read read only"
    }
}

/// Waits for the database, but not for ever.
pub(super) async fn answered<T>(work: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(ANSWER_TIME, work)
        .await
        .map_err(|_| StoreError::Database(format!("the database has not answered within {ANSWER_TIME:?}")))
}

/// What an error of the database means outside of a commit.
pub(super) fn error(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // lock_not_available, deadlock_detected, serialization_failure
            Some("55P03" | "40P01" | "40001") => StoreError::Busy(error.to_string()),
            // data_corrupted, index_corrupted
            Some("XX001" | "XX002") => StoreError::Unreadable(error.to_string()),
            _ => StoreError::Database(error.to_string()),
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
            StoreError::Unreadable(error.to_string())
        }
        _ => StoreError::Database(error.to_string()),
    }
}

/// What an error means while a batch is being written: never that nothing was done.
pub(super) fn doubtful(error: sqlx::Error) -> StoreError {
    StoreError::Database(error.to_string())
}
