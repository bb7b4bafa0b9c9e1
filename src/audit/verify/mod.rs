//! `verify`: the invariants I1–I9 on a real store, of either kind, by a second path that shares no decision with the first.
//!
//! Shape: one pass over the log in order of position. One thread reads and decodes ([`pass::read`]), one checks ([`pass::Pass`]):
//! each checker is a file with its own small fold; [`findings`] counts and keeps the first violation of each. The read models are
//! folded anew from the same events beside the pass, on other threads ([`read_models`]). Aggregates' snapshots are compared on the
//! way; after the pass what else is kept beside the log: receipts, the index, facts, personal data, the read models' rows.
//!
//! Nothing is written and nobody waits: the service may go on writing. What is looked at is what there is at one moment,
//! towards the end ([`reading`]): a snapshot is held for as long as comparing takes, and most of the log is read without. An
//! event that cannot be read is a violation with its position, and the pass goes on without it.
//!
//! Cost: some microseconds an event, and some more to fold it again. Memory: a small record per wallet, reseller, client,
//! provision, fact, receipt and command, and the state of each aggregate whose snapshot is still to come; events are streamed.
//!
//! Layering: `aggregates` for vocabulary and folds, never `Ledger`; of `store` the paths and the version of the state,
//! of the projector where a ledger's read models are.

mod books;
mod chain;
mod examined;
mod expected;
mod facts;
mod findings;
mod freezes;
mod index;
mod once;
mod order;
mod pairs;
mod pass;
mod periods;
mod personal_data;
mod provisions;
mod read_models;
mod reading;
mod snapshots;
mod views;
mod wallets;

use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use projections::rebuild::compare::Comparison;
use projections::sql::ViewError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::anchor::{Anchor, hexadecimal};
use crate::projector::views_of;
use crate::store::Database;
use findings::Findings;
pub use findings::{Tally, Violation};
use index::Index;
use pass::{Pass, Read};
use snapshots::Snapshots;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    /// The position of the last event that was read.
    pub position: i64,
    /// Its hash, hexadecimal: what an auditor writes down.
    pub hash: String,
    /// How many events were read.
    pub events: u64,
    /// One for each check.
    pub checks: Vec<Tally>,
}

impl Report {
    /// Whether nothing is violated.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.violations == 0)
    }
}

/// Why a store could not be verified. That is an accident, not a violation.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be opened.
    #[error("{path}: {error}", path = path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the database says.
        error: rusqlite::Error,
    },
    /// Reading failed on the way.
    #[error("the store could not be read: {0}")]
    Read(#[from] ViewError),
    /// Something was put back while it was looked at.
    #[error(
        "the read models went back to position {position} while they were verified, as a rebuild may do; verify again"
    )]
    WentBack {
        /// Where they stand now.
        position: i64,
    },
    /// There is no thread to be had for a part of it.
    #[error("the store could not be verified: {0}")]
    Thread(std::io::Error),
}

/// Does what waits for a database where the caller may stand inside of a runtime: there nobody may wait so.
fn aside<T: Send>(work: impl FnOnce() -> Result<T, VerifyError> + Send) -> Result<T, VerifyError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("verify".to_owned()).spawn_scoped(scope, work);
        thread.map_err(VerifyError::Thread)?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The end of the log, as an auditor writes it down: position and hash of its last event, zeros for an empty log. Reads and
/// writes nothing else, and needs no service. Blocks.
///
/// # Errors
/// [`VerifyError`] where the store cannot be read.
pub fn head(database: impl Into<Database>) -> Result<Anchor, VerifyError> {
    let database = database.into();
    aside(move || {
        let mut last = Anchor { position: 0, hash: [0; 32] };
        let sql = "select position, hash from ledger.events order by position desc limit 1";
        reading::open(&database)?.rows(sql, Vec::new(), &mut |row| {
            let mut columns = row.columns();
            let (position, hash) = (columns.count()?, columns.bytes()?);
            let hash = hash.try_into().map_err(|_| ViewError::unreadable("a hash that is not of 32 bytes"))?;
            last = Anchor { position, hash };
            Ok(true)
        })?;
        Ok(last)
    })
}

/// Verifies a store. Blocks. `progress` is told, now and then, how many events of how many have been checked; each is folded again
/// for the read models, and counts as another one then.
///
/// `anchors` are what was written down of this log before: each must still stand in it.
///
/// # Errors
/// [`VerifyError`] where the store cannot be read; whatever is wrong in it is in the report.
pub fn verify(
    database: impl Into<Database>,
    anchors: &[Anchor],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    let database = database.into();
    let (told, heard) = mpsc::channel();
    std::thread::scope(|scope| {
        let work = || check(&database, anchors, told);
        let thread = std::thread::Builder::new().name("verify".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(VerifyError::Thread)?;
        heard.iter().for_each(|(done, total)| progress(done, total));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// How often it is told how far it is.
const TELL: Duration = Duration::from_millis(100);

fn check(database: &Database, anchors: &[Anchor], told: Sender<(u64, u64)>) -> Result<Report, VerifyError> {
    let mut store = reading::open(database)?;
    let mut comparison = if store.has_views() { Comparison::begin(&views_of(database))? } else { None };
    let mut findings = Findings::default();
    let snapshots = Snapshots::take(&mut *store, &mut findings)?;
    let head = reading::head(&mut *store)?.map_or(0, |head| head.position);
    let least = comparison.as_ref().map_or(u64::MAX, Comparison::least);
    let until = head.min(i64::try_from(least).unwrap_or(i64::MAX));

    let tell = |comparison: Option<&Comparison>, events: u64| {
        let (total, folded) = match comparison {
            Some(comparison) => (u64::try_from(head).unwrap_or_default() * 2, comparison.position()),
            None => (u64::try_from(head).unwrap_or_default(), 0),
        };
        // Who listens is told in the end as well.
        let _ = told.send((events.saturating_add(folded).min(total), total));
    };
    let index = (store.is_indexed() && store.snapshots().is_some()).then(Index::default);
    let mut pass = Pass::begin(findings, snapshots, index, anchors);
    let (mut store, settled, unfoldable) = std::thread::scope(|scope| {
        // One chunk waits while another is checked.
        let (sender, receiver) = mpsc::sync_channel(1);
        let comparison = comparison.as_ref();
        let reader = std::thread::Builder::new().name("verify: log".to_owned());
        let reader = reader.spawn_scoped(scope, move || pass::read(store, comparison, until, &sender));
        let reader = reader.map_err(VerifyError::Thread)?;
        let mut settled = None;
        for read in receiver {
            match read {
                Read::Events(events) => {
                    pass.events(&events);
                    tell(comparison, pass.events);
                }
                Read::Settled(now) => {
                    if let Some(checkpoint) = &now.checkpoint {
                        pass.stop_views_at(checkpoint.clone())?;
                    }
                    settled = Some(now);
                }
            }
        }
        let (store, unfoldable) = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, VerifyError>((store, settled, unfoldable))
    })?;
    if let Some(comparison) = &mut comparison {
        comparison.close();
    }
    let events = pass.events;
    let head = settled.and_then(|settled| settled.head);
    let (position, hash, mut findings) = pass.end(head.as_ref(), &mut *store)?;
    while unfoldable.is_none() && comparison.as_ref().is_some_and(|comparison| !comparison.has_ended()) {
        tell(comparison.as_ref(), events);
        std::thread::sleep(TELL);
    }
    read_models::end(comparison, unfoldable, &mut findings);
    Ok(Report { position, hash: hexadecimal(&hash), events, checks: findings.into_tallies() })
}
