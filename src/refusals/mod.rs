//! Refused commands: who asked for what, why it was not done, and when, kept beside the ledger for a while.
//!
//! Shape: whoever refuses calls [`Refusals::note`], which puts a record into a bounded queue and never waits; a task writes what
//! is in the queue to tables of its own (a file beside the ledger, or the schema `refusals`), many in one transaction. Where the
//! queue is full the record is dropped and counted: a write is never held up by the record of another's refusal. What has been
//! kept long enough goes, whether anything new comes or not, and so do the oldest where there are too many.
//!
//! Cost: for who refuses, one allocation and one push; for who is not refused, nothing. Memory: [`QUEUE_MAX`] records.
//! Layering: `store` for where the files of a store are, `clock` for what is old; knows nothing of HTTP or of the engine.

mod keeper;
mod place;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aggregates::primitives::{ResellerId, Timestamp};
use projections::page::{Page, PageRequest};
use projections::sql::{Value, ViewError};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::store::{Database, StoreError};
use place::Place;

/// How many records may wait to be written.
const QUEUE_MAX: usize = 8_192;
/// How long a reader waits for what was refused before it asked to be written.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// For so long; zero writes nothing down.
    pub kept: Duration,
    /// And no more than so many.
    pub most: u64,
}

/// A command that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub refused_at: Timestamp,
    /// Who asked.
    pub actor: String,
    /// As what.
    pub role: &'static str,
    /// For which reseller.
    pub tenant: Option<ResellerId>,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// Which item of a bulk.
    pub item: Option<u64>,
    /// The code that it was answered with.
    pub code: String,
    /// The sentence that it was answered with.
    pub detail: String,
    /// The figures that it was answered with, a JSON object.
    pub members: String,
    /// The position of the log that it was decided on.
    pub position: Option<u64>,
    /// Whether it was a first answer given again.
    pub replayed: bool,
}

#[derive(Debug)]
enum Message {
    Note(Box<Refusal>),
    /// Answered when everything before it is written.
    Settle(oneshot::Sender<()>),
}

/// Takes what is refused, and answers who asks for it.
#[derive(Debug)]
pub struct Refusals {
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
    place: Place,
    is_kept: bool,
}

/// Why what is refused cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RefusalsError {
    /// The files of the store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The database.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// Its schema.
    #[error("{0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// The file in a store's directory.
#[must_use]
pub fn refusals_path(dir: &Path) -> PathBuf {
    dir.join("refusals.db")
}

/// Makes the tables that refusals are kept in, or brings them to this version.
///
/// # Errors
/// [`RefusalsError`].
pub async fn migrate(database: &Database) -> Result<(), RefusalsError> {
    Place::migrated(database).await.map(drop)
}

impl Refusals {
    /// Opens the database, brings it up to date, and starts writing; `clock` says what is old.
    ///
    /// # Errors
    /// [`RefusalsError`].
    pub async fn open(database: &Database, retention: Retention, clock: Clock) -> Result<Self, RefusalsError> {
        let place = Place::migrated(database).await?;
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(keeper::run(place.clone(), waiting, retention, clock, Arc::clone(&dropped)));
        Ok(Self { queue, dropped, place, is_kept: !retention.kept.is_zero() })
    }

    /// Notes a refusal, without waiting for anything: where too many wait to be written it is dropped and counted.
    pub fn note(&self, refusal: Refusal) {
        if self.is_kept && self.queue.try_send(Message::Note(Box::new(refusal))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were dropped since this node started.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits, not for long, until what was noted before is written.
    pub async fn settle(&self) {
        let (done, is_done) = oneshot::channel();
        let settled = async {
            if self.queue.send(Message::Settle(done)).await.is_ok() {
                // The task has ended: nothing more will be written.
                let _ = is_done.await;
            }
        };
        // Whoever reads without it sees a little less.
        let _ = tokio::time::timeout(SETTLE_TIME, settled).await;
    }

    /// What was refused, the last first.
    ///
    /// # Errors
    /// What the database says, or [`ViewError::InvalidCursor`].
    pub async fn list(&self, filter: &RefusalFilter, page: &PageRequest) -> Result<Page<RefusalView>, ViewError> {
        let before = page.position()?.unwrap_or(i64::MAX);
        let mut sql = "select id, refused_at, actor, role, tenant, method, path, item, code, detail, members, position, replayed \
                       from refusals where id < $1"
            .to_owned();
        for (asked, condition) in [
            (filter.actor.is_some(), " and actor = $3"),
            (filter.role.is_some(), " and role = $4"),
            (filter.tenant.is_some(), " and tenant = $5"),
            (filter.code.is_some(), " and code = $6"),
            (filter.from.is_some(), " and refused_at >= $7"),
            (filter.to.is_some(), " and refused_at < $8"),
        ] {
            if asked {
                sql.push_str(condition);
            }
        }
        sql.push_str(" order by id desc limit $2");
        let values = vec![
            before.into(),
            page.rows_and_one().into(),
            filter.actor.clone().into(),
            filter.role.clone().into(),
            Value::text_or_null(filter.tenant),
            filter.code.clone().into(),
            Value::text_or_null(filter.from),
            Value::text_or_null(filter.to),
        ];
        // Auditors ask now and then: a connection for each is as good as one that is kept.
        let rows = self.place.connect().await?.fetch(&sql, values).await?;
        let mut found = Vec::new();
        for row in rows {
            let mut columns = row.columns();
            let id = columns.integer()?;
            let view = RefusalView {
                id: u64::try_from(id).map_err(ViewError::unreadable)?,
                refused_at: columns.parse()?,
                actor: columns.string()?,
                role: columns.string()?,
                tenant: columns.parse_or_null()?,
                method: columns.string()?,
                path: columns.string()?,
                item: columns.integer_or_null()?.map(u64::try_from).transpose().map_err(ViewError::unreadable)?,
                code: columns.string()?,
                detail: columns.string()?,
                members: RawValue::from_string(columns.string()?).map_err(ViewError::unreadable)?,
                position: columns.integer_or_null()?.map(u64::try_from).transpose().map_err(ViewError::unreadable)?,
                replayed: columns.boolean()?,
            };
            found.push((id, view));
        }
        Ok(Page::of(page, found))
    }
}

/// Which refusals are asked for.
#[derive(Debug, Clone, Default)]
pub struct RefusalFilter {
    /// Of this actor.
    pub actor: Option<String>,
    /// In this role.
    pub role: Option<String>,
    /// For this reseller.
    pub tenant: Option<ResellerId>,
    /// For this reason.
    pub code: Option<String>,
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

/// A refusal as auditors read it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RefusalView {
    /// Its number, in the order in which they were written down.
    pub id: u64,
    /// When it was refused.
    pub refused_at: Timestamp,
    /// Who asked.
    pub actor: String,
    /// As what.
    pub role: String,
    /// For which reseller; null for the operator's staff.
    pub tenant: Option<ResellerId>,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// Which item of a bulk, from 0; null where all of the request was refused.
    pub item: Option<u64>,
    /// The code that it was answered with.
    pub code: String,
    /// The sentence that it was answered with.
    pub detail: String,
    /// The figures that it was answered with.
    #[schema(value_type = Object)]
    pub members: Box<RawValue>,
    /// The position of the log that it was decided on; null where the ledger was not asked.
    pub position: Option<u64>,
    /// Whether it was the first answer to an idempotency key, given again.
    pub replayed: bool,
}
