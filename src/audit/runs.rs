//! Runs of `verify` that auditors ask a running service for: one at a time, on a thread of its own, told of while it goes on.
//!
//! The last [`KEPT_MAX`] are remembered for as long as the process lives; who wants a record keeps the report. Memory: a report is
//! some kilobytes.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aggregates::primitives::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use super::anchor::Anchor;
use super::verify::{Report, verify};
use crate::store::Database;

/// How many runs are remembered.
const KEPT_MAX: usize = 16;

/// Which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = "uuid", examples("0190d3a0-7c1e-7b60-8f00-3d0f6c8e2a11"))]
pub struct RunId(pub Uuid);

/// What was written is the id of no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID in lower case, with hyphens")]
pub struct NoRunId;

impl FromStr for RunId {
    type Err = NoRunId;
    fn from_str(text: &str) -> Result<Self, NoRunId> {
        // As all ids: one way to write each.
        text.parse().ok().filter(|id: &Uuid| id.to_string() == text).map(Self).ok_or(NoRunId)
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// What has become of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It goes on.
    Running,
    /// Every invariant holds.
    Holds,
    /// At least one is violated.
    Violated,
    /// The store could not be read to the end.
    Failed,
}

/// A run of `verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// What has become of it.
    pub status: RunStatus,
    /// How many events are done: each counts twice, once when it is checked and once when the read models are folded anew from it.
    pub done: u64,
    /// Of how many; 0 while that is not known.
    pub total: u64,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it ended; null while it goes on.
    pub ended_at: Option<Timestamp>,
    /// Each invariant, with how much was checked, how often it was broken, and the first place where it was.
    pub report: Option<Report>,
    /// Why the store could not be read.
    pub error: Option<String>,
}

/// All runs of this process.
#[derive(Debug, Clone)]
pub struct Runs {
    database: Database,
    kept: Arc<Mutex<VecDeque<Run>>>,
}

impl Runs {
    /// For a store.
    #[must_use]
    pub fn of(database: Database) -> Self {
        Self { database, kept: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Run>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a run, unless one is going on: then that one. `now` tells the time when it ends.
    ///
    /// # Errors
    /// Where the machine gives no thread.
    pub fn begin(
        &self,
        id: RunId,
        anchors: Vec<Anchor>,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> std::io::Result<Run> {
        let now = Arc::new(now);
        let run = Run {
            id,
            status: RunStatus::Running,
            done: 0,
            total: 0,
            begun_at: now(),
            ended_at: None,
            report: None,
            error: None,
        };
        {
            let mut kept = self.kept();
            if let Some(running) = kept.iter().find(|run| run.status == RunStatus::Running) {
                return Ok(running.clone());
            }
            kept.truncate(KEPT_MAX - 1);
            kept.push_front(run.clone());
        }
        let ended = Arc::clone(&now);
        let runs = self.clone();
        let work = move || {
            let verified = verify(&runs.database, &anchors, &mut |done, total| {
                runs.change(id, |run| (run.done, run.total) = (done, total));
            });
            runs.change(id, |run| {
                run.ended_at = Some(now());
                match verified {
                    Ok(report) => {
                        run.status = if report.is_ok() { RunStatus::Holds } else { RunStatus::Violated };
                        run.done = run.total;
                        run.report = Some(report);
                    }
                    Err(error) => {
                        run.status = RunStatus::Failed;
                        run.error = Some(error.to_string());
                    }
                }
            });
        };
        let broken_off = BrokenOff { runs: self.clone(), id, now: ended };
        let spawned = std::thread::Builder::new().name("verify".to_owned()).spawn(move || {
            let _if_it_panics = broken_off;
            work();
        });
        if let Err(error) = spawned {
            self.kept().retain(|run| run.id != id);
            return Err(error);
        }
        Ok(run)
    }

    fn change(&self, id: RunId, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.kept().iter_mut().find(|run| run.id == id) {
            change(run);
        }
    }

    /// A run, where it is remembered.
    #[must_use]
    pub fn find(&self, id: RunId) -> Option<Run> {
        self.kept().iter().find(|run| run.id == id).cloned()
    }
}

/// Says that a run has failed whose thread ends without having said anything: else it would go on for ever, and no other begin.
struct BrokenOff<Now: Fn() -> Timestamp> {
    runs: Runs,
    id: RunId,
    now: Arc<Now>,
}

impl<Now: Fn() -> Timestamp> Drop for BrokenOff<Now> {
    fn drop(&mut self) {
        let ended_at = (self.now)();
        self.runs.change(self.id, |run| {
            if run.status == RunStatus::Running {
                run.status = RunStatus::Failed;
                run.ended_at = Some(ended_at);
                run.error = Some("it broke off; the service's log says why".to_owned());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_run_that_breaks_off_has_failed_and_another_one_can_begin() {
        let runs = Runs::of(Database::Sqlite(std::path::PathBuf::new()));
        let id = RunId(Uuid::from_u128(1));
        let now = || Timestamp::from_micros(5);
        let run = Run {
            id,
            status: RunStatus::Running,
            done: 0,
            total: 0,
            begun_at: now(),
            ended_at: None,
            report: None,
            error: None,
        };
        runs.kept().push_front(run);
        let broken_off = BrokenOff { runs: runs.clone(), id, now: Arc::new(now) };
        let ended = std::thread::spawn(move || {
            let _if_it_panics = broken_off;
            panic!("as a bug would");
        });
        ended.join().expect_err("it panicked");
        let told = runs.find(id).expect("the run");
        assert_eq!((told.status, told.ended_at), (RunStatus::Failed, Some(now())));
        assert!(told.error.is_some());
    }
}
