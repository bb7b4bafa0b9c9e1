//! `verify`: the invariants I1–I9 on a real store, of either kind, by a second path that shares no decision with the first.
//!
//! Shape: one pass over the log in order of position ([`run`]). One thread reads and decodes ([`log`]), one checks
//! ([`pass::Pass`]): each checker is a file with its own small fold; [`findings`] counts and keeps the first violation of each. The
//! read models are folded anew from the same events beside the pass, on other threads ([`read_models`]). Aggregates' snapshots are
//! compared on the way; after the pass what else is kept beside the log: receipts, the index, facts, personal data, the read
//! models' rows. What a run has found can be kept, and the next one goes on from there ([`kept`]).
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
mod columns;
mod examined;
mod expected;
mod facts;
mod findings;
mod freezes;
mod half;
mod index;
mod kept;
mod log;
mod map;
mod once;
mod order;
mod pairs;
mod pass;
mod periods;
mod personal_data;
mod provisions;
mod read_models;
mod reading;
mod run;
mod snapshots;
mod views;
mod wallets;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use projections::rebuild::compare::Detail;
use projections::sql::ViewError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::anchor::Anchor;
use crate::store::Database;
pub use findings::{Tally, Violation};
use kept::Kept;

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
    /// What of it a former run has judged; only where what is found is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Resumed>,
}

/// What of a report a former run has judged. All counts are of the whole log all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Resumed {
    /// Events up to here were judged by a former run, and hashed again by this one; 0 where this one has judged all.
    pub position: i64,
    /// Why what a former run has left was not gone on from, where it was there.
    pub set_aside: Option<String>,
}

/// Where what is found is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keeping<'k> {
    /// A directory for nothing else, which is made where there is none.
    pub dir: &'k Path,
    /// How often something is kept on the way.
    pub interval: Duration,
    /// Turns true when it is to stop, and to keep what was found so far.
    pub stop: &'k AtomicBool,
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
    /// A file of the store has tables, and not all of them.
    #[error("{path}: there is no table {table}, so it is not whole: with the ledger beside it, it is made anew where it is not there", path = path.display())]
    Incomplete {
        /// Which file.
        path: PathBuf,
        /// Which table it lacks.
        table: String,
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
    /// What is kept of a former run cannot be read or written, or is not of this store.
    #[error("{path}: {why}", path = path.display())]
    Kept {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What is the matter.
        why: String,
    },
    /// What a former run has judged is not what is there.
    #[error("{0}")]
    Changed(String),
    /// Some rows of the read models differ, and it is not known yet which.
    #[error(
        "some rows of the read models do not come to what they should, and which ones could not be found out; verify again, \
         and rebuild them where it stays so"
    )]
    Unequal,
    /// It was asked to stop.
    #[error("stopped at position {position}")]
    Interrupted {
        /// How far the log has been judged; some less of it is kept.
        position: i64,
        /// Whether something was found to be violated by then; nothing of that is kept.
        is_violated: bool,
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
    telling(progress, |told| {
        closely(|detail| run::check(&run::Task { database: &database, anchors, keeping: None, detail }, None, &told))
    })
}

/// The same, where what is found is kept in a directory, and gone on from by the next run that is given the same one.
///
/// The report is of the whole log, whichever run has judged what. Where what is kept does not stand any more, or anything is
/// violated beside it, all is checked once more from the first event, by this same call.
///
/// # Errors
/// [`VerifyError`] as above, [`VerifyError::Interrupted`] where it was asked to stop, and [`VerifyError::Kept`] where what is in the
/// directory is damaged, or of another store, or cannot be written.
pub fn verify_resumably(
    database: impl Into<Database>,
    anchors: &[Anchor],
    keeping: Keeping<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    let database = database.into();
    telling(progress, |told| {
        let (kept, former) = Kept::open(keeping.dir, &database)?;
        let (former, set_aside) = match former {
            Ok(former) => (former, None),
            Err(why) => (None, Some(why)),
        };
        let check = |anchors: &[Anchor], former, detail| {
            let task = run::Task { database: &database, anchors, keeping: Some((&kept, keeping)), detail };
            run::check(&task, former, &told)
        };
        let mut resumed = Resumed { position: 0, set_aside };
        if let Some(former) = former {
            let position = former.position;
            // What stands at that position is found by hashing up to it.
            let mut all = anchors.to_vec();
            all.extend(kept.anchors.iter().filter(|anchor| i64::try_from(anchor.position) != Ok(position)));
            match check(&all, Some(former), Detail::Digests) {
                Ok(report) if report.is_ok() => {
                    resumed.position = position;
                    return Ok(Report { resumed: Some(resumed), ..report });
                }
                Ok(_) | Err(VerifyError::Unequal) => resumed.set_aside = Some("something is violated".to_owned()),
                Err(VerifyError::Changed(why)) => resumed.set_aside = Some(why),
                Err(error) => return Err(error),
            }
        }
        let all = [anchors, &kept.anchors].concat();
        let report = closely(|detail| check(&all, None, detail))?;
        Ok(Report { resumed: Some(resumed), ..report })
    })
}

/// Looks at rows where what they come to is not what it should be.
fn closely(check: impl Fn(Detail) -> Result<Report, VerifyError>) -> Result<Report, VerifyError> {
    match check(Detail::Digests) {
        Err(VerifyError::Unequal) => match check(Detail::Rows) {
            // They were put right meanwhile; or they are not, and then nothing is proved.
            Ok(report) if report.is_ok() => check(Detail::Digests),
            ended => ended,
        },
        ended => ended,
    }
}

/// Does it in a thread of its own, and tells how far it is.
fn telling<T: Send>(
    progress: &mut dyn FnMut(u64, u64),
    work: impl FnOnce(Sender<(u64, u64)>) -> Result<T, VerifyError> + Send,
) -> Result<T, VerifyError> {
    let (told, heard) = mpsc::channel();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("verify".to_owned()).spawn_scoped(scope, || work(told));
        let thread = thread.map_err(VerifyError::Thread)?;
        heard.iter().for_each(|(done, total)| progress(done, total));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
