//! I9, read models: every table compared, row by row, with what the same fold makes of the log from its first event.
//!
//! That the fold is right is not shown here: for balances [`views`](super::views) does, by another fold. This shows that batches,
//! crashes, restarts and rebuilds have left nothing out and nothing twice.
//!
//! The comparison waits on databases, so it runs on threads with a runtime of their own: the caller may stand inside of one, and
//! goes on with its own pass over the log meanwhile.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use projections::rebuild::Progress;
use projections::rebuild::compare::{Compared, Comparison};
use projections::sql::ViewError;

use super::VerifyError;
use super::findings::{Check, Findings};

/// How many threads fold: the groups of read models are folded side by side, beside the pass over the log.
const THREADS: usize = 2;

/// A comparison under way, beside the pass over the log.
#[derive(Debug)]
pub(super) struct ReadModels {
    thread: JoinHandle<std::io::Result<Result<Option<Vec<Compared>>, ViewError>>>,
    heard: mpsc::Receiver<Progress>,
    folded: u64,
}

impl ReadModels {
    /// Takes the snapshot and begins. Returns once the snapshot is taken.
    pub(super) fn begin(dir: &Path) -> Result<Self, VerifyError> {
        let (told, heard) = mpsc::channel::<Progress>();
        let (begun, has_begun) = mpsc::channel::<()>();
        let dir = dir.to_owned();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
            Ok(runtime.block_on(run(&dir, told, begun)))
        };
        let thread = std::thread::Builder::new().name("read models".to_owned()).spawn(work);
        let thread = thread.map_err(VerifyError::Thread)?;
        // Where it has ended before it began, its error is told in the end.
        let _ = has_begun.recv();
        Ok(Self { thread, heard, folded: 0 })
    }

    /// How many events have been folded.
    pub(super) fn folded(&mut self) -> u64 {
        if let Some(progress) = self.heard.try_iter().last() {
            self.folded = progress.position;
        }
        self.folded
    }

    /// Waits for the end, and notes what came of it. `tell` is told how many events have been folded.
    pub(super) fn end(self, findings: &mut Findings, tell: &mut dyn FnMut(u64)) -> Result<(), VerifyError> {
        self.heard.iter().for_each(|progress| tell(progress.position));
        let compared = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match compared.map_err(VerifyError::Thread)? {
            Ok(None) => findings.note(Check::ReadModels, "there are no read models".to_owned()),
            Ok(Some(compared)) => note(compared, findings),
            // An event that cannot be folded, or a table that cannot be read: whichever it is, they are not equal.
            Err(error) => findings.holds(Check::ReadModels, None, false, || {
                ("read models folded anew".to_owned(), "equal to those that are there".to_owned(), error.to_string())
            }),
        }
        Ok(())
    }
}

async fn run(
    dir: &Path,
    told: mpsc::Sender<Progress>,
    begun: mpsc::Sender<()>,
) -> Result<Option<Vec<Compared>>, ViewError> {
    let comparison = Comparison::begin(dir).await?;
    drop(begun);
    let Some(comparison) = comparison else { return Ok(None) };
    let tell = move |progress| {
        // Nobody listens any more only where the caller is gone.
        let _ = told.send(progress);
    };
    comparison.run(tell).await.map(Some)
}

fn note(all: Vec<Compared>, findings: &mut Findings) {
    let mut positions: Vec<u64> = all.iter().map(|compared| compared.position).collect();
    positions.sort_unstable();
    positions.dedup();
    let positions: Vec<String> = positions.iter().map(u64::to_string).collect();
    let note = if positions.is_empty() {
        "nothing has been folded yet".to_owned()
    } else {
        format!("compared at position {}", positions.join(", "))
    };
    findings.note(Check::ReadModels, note);
    for compared in all {
        let first = compared
            .first
            .map(|first| (format!("{}: {}", compared.projection, first.what), first.expected, first.found));
        findings.count(Check::ReadModels, compared.rows, compared.differences, first);
    }
}
