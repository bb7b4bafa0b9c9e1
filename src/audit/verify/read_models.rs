//! I9, read models: every table compared, row by row, with what the same fold makes of the log from its first event.
//!
//! That the fold is right is not shown here: for balances [`views`](super::views) does, by another fold. This shows that batches,
//! crashes, restarts and rebuilds have left nothing out and nothing twice.
//!
//! The comparison waits on databases, so it runs on a thread with a runtime of its own: the caller may stand inside of one.

use std::path::Path;
use std::sync::mpsc;

use projections::rebuild::Progress;
use projections::rebuild::compare::{Compared, Comparison};
use projections::sql::ViewError;

use super::VerifyError;
use super::findings::{Check, Findings};

/// Compares. `tell` is told how many events have been folded.
pub(super) fn compare(dir: &Path, findings: &mut Findings, tell: &mut dyn FnMut(u64)) -> Result<(), VerifyError> {
    let (told, heard) = mpsc::channel::<Progress>();
    let compared = std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok::<_, std::io::Error>(runtime.block_on(run(dir, told)))
        });
        heard.iter().for_each(|progress| tell(progress.position));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
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

async fn run(dir: &Path, told: mpsc::Sender<Progress>) -> Result<Option<Vec<Compared>>, ViewError> {
    let Some(comparison) = Comparison::begin(dir).await? else { return Ok(None) };
    let tell = |progress| {
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
