//! `tallytree verify`: the invariants on a real store; figures, the first violation of each, exit code 1 where there is one.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Common;
use crate::audit::verify::{Report, verify};
use crate::config::{Database, Flags};

/// What `verify` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    let Database::Sqlite(dir) = &config.database;
    let mut progress = Progress::new();
    let report = verify(dir, &mut |done, total| progress.tell(done, total))?;
    progress.end();
    let text = if arguments.json { serde_json::to_string_pretty(&report)? + "\n" } else { told(&report) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The report for people: a line for each check, a second one for its first violation.
fn told(report: &Report) -> String {
    let mut lines = vec![format!("{} events, head {} {}", report.events, report.position, report.hash)];
    for check in &report.checks {
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

/// How far it is: a bar on a terminal, a line every few seconds elsewhere. On stderr, so that stdout is the report.
struct Progress {
    bar: Option<ProgressBar>,
    told_at: Instant,
}

impl Progress {
    /// How often a line is written where there is no terminal.
    const PAUSE: Duration = Duration::from_secs(5);

    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("verifying {wide_bar} {human_pos}/{human_len} events, {eta} left");
            style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
        });
        Self { bar, told_at: Instant::now() }
    }

    fn tell(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if self.told_at.elapsed() >= Self::PAUSE {
            self.told_at = Instant::now();
            eprintln!("verified {done} of {total} events");
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
