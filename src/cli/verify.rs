//! `tallytree verify`: the invariants on a real store; figures, the first violation of each, exit code 1 where there is one.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::Common;
use super::progress::Progress;
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
    let Database::Sqlite(dir) = &config.database else {
        anyhow::bail!("verify reads SQLite files at present, and {} is a server", config.database);
    };
    let mut progress = Progress::new("verifying", "readings of events");
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
