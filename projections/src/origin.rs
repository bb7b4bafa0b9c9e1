//! From what it was read that is kept in memory: which tables, and which history.
//!
//! An event's hash is that of all the history before it, so who finds the same hash at the same position reads the same history.

use crate::Projection;
use crate::checkpoint::Checkpoint;
use crate::sql::{Connection, Dialect, ViewError};

/// What something was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Whose tables.
    projection: &'static str,
    pub(crate) tables: i64,
    /// An event, and by its hash all of the history before it.
    pub(crate) event: Checkpoint,
}

/// How what is kept looks from a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It belongs to the snapshot's own tables and past.
    Same,
    /// It is of a later moment; the snapshot does not say whether of the same history.
    Later,
    /// It belongs to other tables or another history.
    Another,
}

impl Origin {
    /// All that a projection has folded in this snapshot.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn here<P: Projection>(connection: &mut Connection<'_>, tables: i64) -> Result<Self, ViewError> {
        Ok(Self { projection: P::NAME, tables, event: reached(connection, P::NAME).await? })
    }

    /// What it has folded up to an event, as the log tells it: where the log may be another one by now than that which was folded,
    /// the caller sees to that.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn at<P: Projection>(
        connection: &mut Connection<'_>,
        tables: i64,
        position: u64,
    ) -> Result<Self, ViewError> {
        let event = Checkpoint { position, hash: hash_at(connection, position).await? };
        Ok(Self { projection: P::NAME, tables, event })
    }

    /// How it looks from a snapshot with these tables.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn seen(&self, connection: &mut Connection<'_>, tables: i64) -> Result<Seen, ViewError> {
        if self.tables != tables {
            return Ok(Seen::Another);
        }
        if reached(connection, self.projection).await?.position < self.event.position {
            return Ok(Seen::Later);
        }
        let same = hash_at(connection, self.event.position).await? == self.event.hash;
        Ok(if same { Seen::Same } else { Seen::Another })
    }
}

/// A number that changes when other tables are put in the place of these, as the snapshot has them.
pub(crate) async fn tables(connection: &mut Connection<'_>) -> Result<i64, ViewError> {
    let sql = match connection.dialect() {
        // Of the file: it grows with every change of any definition.
        Dialect::Sqlite => "pragma main.schema_version",
        // Analytics': of the feed nothing is kept there.
        Dialect::Postgres => "select cast(tableoid as bigint) from movements limit 1",
    };
    connection.fetch_one(sql, Vec::new()).await?.map_or(Ok(0), |row| row.columns().integer())
}

/// The hash of an event; empty where the log has none there.
pub(crate) async fn hash_at(connection: &mut Connection<'_>, position: u64) -> Result<Vec<u8>, ViewError> {
    let sql = "select hash from ledger.events where position = $1";
    let row = connection.fetch_one(sql, vec![position.into()]).await?;
    row.map_or_else(|| Ok(Vec::new()), |row| row.columns().bytes())
}

/// How far a projection has come in this snapshot.
pub(crate) async fn reached(connection: &mut Connection<'_>, projection: &str) -> Result<Checkpoint, ViewError> {
    let sql = "select position, hash from checkpoints where projection = $1";
    let Some(row) = connection.fetch_one(sql, vec![projection.into()]).await? else {
        return Ok(Checkpoint::default());
    };
    let mut columns = row.columns();
    Ok(Checkpoint { position: columns.count()?, hash: columns.bytes()? })
}
