//! How the schema `ledger` comes to be.
//!
//! Migrations are compiled in and run over a direct connection, one process at a time by an advisory lock of the session: of ten
//! nodes that start at once one migrates and nine find it done. Behind a pooler nothing is migrated, only looked at. A schema
//! with a migration that this version does not have is newer than this version, and is refused.

use std::collections::BTreeMap;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::address::Address;
use super::connection::error;
use crate::store::StoreError;

static LEDGER: Migrator = sqlx::migrate!("migrations/postgres/ledger");

/// Held while a schema is made or migrated. Any number that is ours and is never another.
const LOCK: i64 = 0x7461_6c6c_7974_7265;

/// Brings the schema `ledger` to this version.
///
/// # Errors
/// [`StoreError::Schema`] where a newer version wrote it, or where it would have to be migrated through a pooler; else what the
/// database says.
pub(super) async fn migrate(address: &Address) -> Result<(), StoreError> {
    migrate_schema(address, "ledger", &LEDGER).await
}

/// Brings a schema of the database to what a set of migrations makes of it.
///
/// # Errors
/// As with any of ours: [`StoreError::Schema`] where a newer version wrote it, or where it would have to be migrated through a
/// pooler; else what the database says.
pub async fn migrate_schema(address: &Address, schema: &str, migrator: &Migrator) -> Result<(), StoreError> {
    let mut connection = address.connect().await?;
    let done = run(&mut connection, address, schema, migrator).await;
    // The session's lock goes with it, whatever happened.
    let closed = connection.close().await.map_err(error);
    done.and(closed)
}

async fn run(
    connection: &mut PgConnection,
    address: &Address,
    schema: &str,
    migrator: &Migrator,
) -> Result<(), StoreError> {
    // Looked at first, so that a role that may not create anything can start a node on a schema that is there.
    if stands(connection, address, schema, migrator).await? {
        return Ok(());
    }
    if address.is_pooled() {
        return Err(StoreError::Schema(format!(
            "the schema {schema} of {address} has to be migrated, and a pooler is in between: run `tallytree migrate` with the \
             address of the database itself"
        )));
    }
    let prepare =
        format!("select pg_advisory_lock({LOCK}); create schema if not exists {schema}; set search_path = {schema}");
    connection.execute(sqlx::raw_sql(&prepare)).await.map_err(error)?;
    migrator.run_direct(connection).await.map_err(|cause| refused(cause, address, schema))
}

/// Whether every migration has been applied as it is.
async fn stands(
    connection: &mut PgConnection,
    address: &Address,
    schema: &str,
    migrator: &Migrator,
) -> Result<bool, StoreError> {
    let query = format!("select version, checksum from {schema}._sqlx_migrations where success");
    // In one message: behind a pooler two would be two sessions'.
    let rows = match connection.fetch_all(sqlx::raw_sql(&query)).await {
        Ok(rows) => rows,
        Err(sqlx::Error::Database(said)) if matches!(said.code().as_deref(), Some("42P01" | "3F000")) => {
            return Ok(false);
        }
        Err(cause) => return Err(error(cause)),
    };
    let mut applied: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
    for row in rows {
        let get = |cause| error(cause);
        applied.insert(sqlx::Row::try_get(&row, 0).map_err(get)?, sqlx::Row::try_get(&row, 1).map_err(get)?);
    }
    if let Some(unknown) = applied.keys().find(|version| !migrator.version_exists(**version)) {
        return Err(refused(MigrateError::VersionMissing(*unknown), address, schema));
    }
    for migration in migrator.iter() {
        match applied.get(&migration.version) {
            Some(checksum) if checksum[..] == *migration.checksum => {}
            Some(_) => return Err(refused(MigrateError::VersionMismatch(migration.version), address, schema)),
            None => return Ok(false),
        }
    }
    Ok(true)
}

fn refused(cause: MigrateError, address: &Address, schema: &str) -> StoreError {
    match cause {
        MigrateError::VersionMissing(version) => StoreError::Schema(format!(
            "the schema {schema} of {address} has migration {version}, which this version of Tallytree does not know: it was \
             written by a newer one; run that"
        )),
        MigrateError::VersionMismatch(version) => StoreError::Schema(format!(
            "the schema {schema} of {address} has another migration {version} than this version of Tallytree: it does not come \
             from a released one"
        )),
        other => StoreError::Database(format!("the schema {schema} of {address}: {other}")),
    }
}
