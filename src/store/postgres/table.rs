//! A table that postgres-es wrote, read from its beginning to its end, page by page, in one snapshot.

use aggregates::primitives::Timestamp;
use sqlx::Executor;
use sqlx::postgres::PgConnection;

use super::address::Address;
use super::connection::{answered, error};
use super::moment::Moment;
use super::reading::{column, number};
use crate::store::StoreError;

/// Which table, and what its columns say beyond postgres-es's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    name: String,
    order: String,
    time: Option<String>,
}

/// An event as such a table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEvent {
    /// The type of its aggregate.
    pub aggregate_type: String,
    /// The id of its aggregate.
    pub aggregate_id: String,
    /// Its number among its aggregate's events.
    pub sequence: u64,
    /// Its type.
    pub event_type: String,
    /// Its version.
    pub event_version: String,
    /// Its payload, JSON text.
    pub payload: String,
    /// Its metadata, JSON text.
    pub metadata: String,
    /// When it was recorded, where the table says so.
    pub recorded_at: Option<Timestamp>,
}

impl Table {
    /// A table or view by its name, with its schema where it is not on the path; a column that orders its rows (without one they come as
    /// they were inserted), and a `timestamptz` column that says when.
    ///
    /// # Errors
    /// A sentence, where one of them is no plain name.
    pub fn new(name: &str, order: Option<&str>, time: Option<&str>) -> Result<Self, String> {
        let is_plain = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && part.chars().all(|each| each.is_ascii_alphanumeric() || each == '_')
        };
        let plain = |name: &str| {
            let ok = name.split('.').count() <= 2 && name.split('.').all(is_plain);
            if ok { Ok(name.to_owned()) } else { Err(format!("{name:?} is no plain name of a table or column")) }
        };
        // Rows keep the place where they were inserted, as long as none is changed or removed.
        let order = order.map_or(Ok("ctid".to_owned()), plain)?;
        Ok(Self { name: plain(name)?, order, time: time.map(plain).transpose()? })
    }

    /// Whether a column says when each event was recorded.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.time.is_some()
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// What the database says, of a table or column that is not there too.
    pub async fn open(&self, address: &Address) -> Result<Source, StoreError> {
        let mut connection = address.connect().await?;
        // Rows that the column does not tell apart come as they were inserted; a view does not know how they were, but the order of
        // each aggregate's own events.
        let is_view = format!("select relkind in ('v', 'f') from pg_class where oid = to_regclass('{}')", self.name);
        let is_view = connection.fetch_optional(sqlx::raw_sql(&is_view)).await.map_err(error)?;
        let is_view = is_view.map(|row| column::<bool>(&row, 0)).transpose()?.unwrap_or(false);
        let then = if is_view { "sequence" } else { "ctid" };
        let time = self.time.as_deref().unwrap_or("null::timestamptz");
        let sql = format!(
            "begin isolation level repeatable read read only; declare source scroll cursor for \
             select aggregate_type, aggregate_id, sequence::int8, event_type, event_version, cast(payload as text), \
             cast(metadata as text), {time} from {} order by {}, {then}",
            self.name, self.order
        );
        connection.execute(sqlx::raw_sql(&sql)).await.map_err(error)?;
        let count = connection.fetch_one(sqlx::raw_sql(&format!("select count(*) from {}", self.name))).await;
        let events = number(&count.map_err(error)?, 0)?;
        Ok(Source { connection, events })
    }
}

/// A table that is being read.
#[derive(Debug)]
pub struct Source {
    connection: PgConnection,
    events: u64,
}

impl Source {
    /// How many events it has.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Goes back to the beginning.
    ///
    /// # Errors
    /// What the database says.
    pub async fn rewind(&mut self) -> Result<(), StoreError> {
        self.connection.execute(sqlx::raw_sql("move absolute 0 from source")).await.map_err(error)?;
        Ok(())
    }

    /// The next events, at most `limit`; `None` at the end.
    ///
    /// # Errors
    /// What the database says, or what cannot be read.
    pub async fn next(&mut self, limit: usize) -> Result<Option<Vec<SourceEvent>>, StoreError> {
        let sql = format!("fetch forward {limit} from source");
        let rows = answered(self.connection.fetch_all(sqlx::raw_sql(&sql))).await?.map_err(error)?;
        let event = |row| {
            Ok(SourceEvent {
                aggregate_type: column(row, 0)?,
                aggregate_id: column(row, 1)?,
                sequence: number(row, 2)?,
                event_type: column(row, 3)?,
                event_version: column(row, 4)?,
                payload: column(row, 5)?,
                metadata: column(row, 6)?,
                recorded_at: column::<Option<Moment>>(row, 7)?.map(|moment| moment.0),
            })
        };
        let events: Vec<SourceEvent> = rows.iter().map(event).collect::<Result<_, StoreError>>()?;
        Ok(if events.is_empty() { None } else { Some(events) })
    }

    /// Lets go of it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn close(self) -> Result<(), StoreError> {
        sqlx::Connection::close(self.connection).await.map_err(error)
    }
}
