//! `tallytree verify`: the invariants on a real store; figures, the first violation of each.
//!
//! Exit code 0 where every invariant holds, 1 where one is violated, 2 where it could not be found out, 130 where a run with
//! `--resume` was stopped and had found no violation.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::Common;
use super::progress::Progress;
use crate::audit::anchor::{Anchor, anchors};
use crate::audit::verify::{Keeping, Report, Resumed, VerifyError, verify, verify_resumably};
use crate::config::Flags;
use crate::node;

/// The exit code where nothing is known to be violated, and not all could be looked at.
const ACCIDENT: u8 = 2;

/// What `verify` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// What `tallytree head` printed once: the history up to that position must still be the same. May be given several times
    #[arg(long, value_name = "POSITION:HASH")]
    expect: Vec<Anchor>,
    /// A file with what `tallytree head` printed, one a line; `#` begins a remark
    #[arg(long, value_name = "FILE")]
    expect_file: Vec<PathBuf>,
    /// A directory of your own in which what was found is kept: where a run was broken off the next one goes on, and where it
    /// ended the next one checks what has been written since. The hash chain is computed from the first event each time
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// How often something is kept there on the way
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "resume")]
    keep_every: u64,
}

impl Arguments {
    fn anchors(&self) -> anyhow::Result<Vec<Anchor>> {
        let mut all = self.expect.clone();
        for path in &self.expect_file {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let read = anchors(&text).with_context(|| path.display().to_string())?;
            // A list that was emptied would let everything pass.
            anyhow::ensure!(!read.is_empty(), "{}: nothing is written down in it", path.display());
            all.extend(read);
        }
        Ok(all)
    }
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    carry_out(common, arguments).or_else(|error| {
        // What stands in the way of finding out is no finding.
        eprintln!("tallytree: {}", super::told(&error));
        Ok(ExitCode::from(ACCIDENT))
    })
}

fn carry_out(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    let mut progress = Progress::new("verifying", "events, checked and folded anew");
    let mut tell = |done, total| progress.tell(done, total);
    let verified = match &arguments.resume {
        None => verify(config.database, &arguments.anchors()?, &mut tell),
        Some(dir) => {
            let listening = Listening::begin()?;
            let interval = Duration::from_secs(arguments.keep_every);
            let keeping = Keeping { dir, interval, stop: &listening.stop };
            verify_resumably(config.database, &arguments.anchors()?, keeping, &mut tell)
        }
    };
    progress.end();
    let report = match verified {
        Err(VerifyError::Interrupted { position, is_violated: true }) => {
            eprintln!("Stopped at position {position}. INVARIANTS ARE VIOLATED: run it to its end to be told of them.");
            return Ok(ExitCode::FAILURE);
        }
        Err(VerifyError::Interrupted { position, is_violated: false }) => {
            eprintln!("Stopped at position {position}. What was found is kept: the same command goes on.");
            return Ok(ExitCode::from(130));
        }
        Err(error) => return Err(error.into()),
        Ok(report) => report,
    };
    if let Some(resumed) = &report.resumed {
        eprint!("{}", gone_on(resumed));
    }
    let text = if arguments.json { serde_json::to_string_pretty(&report)? + "\n" } else { told(&report) };
    if let Err(error) = std::io::stdout().lock().write_all(text.as_bytes()) {
        tracing::debug!(%error, "the report is read by nobody");
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Hears the operator's sign to stop, as long as it lives.
struct Listening {
    stop: Arc<AtomicBool>,
    _runtime: tokio::runtime::Runtime,
}

impl Listening {
    fn begin() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        // Heard from here on: what is spawned may begin later.
        let entered = runtime.enter();
        let signal = node::stop_signal();
        drop(entered);
        runtime.spawn(async move {
            signal.await;
            asked.store(true, Ordering::SeqCst);
        });
        Ok(Self { stop, _runtime: runtime })
    }
}

/// What a former run has judged, for people.
fn gone_on(resumed: &Resumed) -> String {
    match resumed {
        Resumed { set_aside: Some(why), .. } => format!("everything was checked from the first event: {why}\n"),
        Resumed { position: 0, .. } => String::new(),
        Resumed { position, .. } => {
            format!("up to {position} as a former run has found it; the chain was computed from the first event\n")
        }
    }
}

/// The report for people: a line for each check, a second one for its first violation.
fn told(report: &Report) -> String {
    let mut lines = vec![format!("{} events, head {} {}", report.events, report.position, report.hash)];
    for check in report.checks.iter().filter(|check| check.name != "expected" || check.checked > 0) {
        let verdict = match check.violations {
            0 => "ok".to_owned(),
            1 => "VIOLATED".to_owned(),
            many => format!("VIOLATED {many} times"),
        };
        let note = check.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        lines.push(format!("{:<13}  {}: {} checked{note}, {verdict}", check.name, check.says, check.checked));
        if let Some(first) = &check.first {
            let place = first.position.map_or_else(|| "first".to_owned(), |position| format!("first at {position}"));
            lines.push(format!("{:<13}  {place}: {}", "", first.what));
            lines.push(format!("{:<13}    expected {}", "", first.expected));
            lines.push(format!("{:<13}    found    {}", "", first.found));
        }
    }
    lines.push(if report.is_ok() { "every invariant holds" } else { "INVARIANTS ARE VIOLATED" }.to_owned());
    lines.join("\n") + "\n"
}
