//! `tallytree bench finance`: how fast exports are, and how much memory they take, with a large history in the store.
//!
//! The history is that of `tallytree demo`, or a store that is there already. Each export is a process of its own, as an operator
//! would run it, into a file that is read back by nobody; what it says of its rows and its time is believed, its memory is the
//! largest that the system has seen of it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;

use super::child;
use super::machine::{Machine, memory_peak};

/// What is measured.
const EXPORTS: [(&str, &str); 8] = [
    ("transactions", "csv"),
    ("transactions", "jsonl"),
    ("transactions", "parquet"),
    ("transactions", "xlsx"),
    ("balances", "csv"),
    ("statements", "csv"),
    ("journal", "hledger"),
    ("journal", "beancount"),
];
/// What transactions as CSV should reach, in rows a second, and what no export's memory should.
const ROWS_A_SECOND: f64 = 150_000.0;
const MEMORY_BYTES: u64 = 300_000_000;
/// How often a process's memory is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What `bench finance` takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// How many resellers the history has.
    #[arg(long, default_value_t = 1_000)]
    resellers: u64,
    /// About how many events it has.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// A store to export from, instead of one that is made; nothing in it is changed.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

/// One export.
#[derive(Debug, Serialize)]
struct Line {
    kind: &'static str,
    format: &'static str,
    rows: u64,
    seconds: f64,
    rows_a_second: f64,
    bytes: u64,
    /// `None` where the system does not tell.
    memory_bytes: Option<u64>,
}

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    lines: Vec<Line>,
}

/// Fills a store, unless there is one, and exports from it.
pub(super) async fn run(arguments: &Arguments, place: &Path) -> anyhow::Result<Report> {
    let machine = Machine::look(place)?;
    let store = match &arguments.store {
        Some(store) => store.canonicalize().with_context(|| store.display().to_string())?,
        None => {
            let store = place.join("store");
            let (resellers, events) = (arguments.resellers.to_string(), arguments.events.to_string());
            let database = format!("sqlite:{}", store.display());
            let fill = ["demo", "--no-serve", "--resellers", &resellers, "--events", &events, "--database", &database];
            child::run(&fill, place).await?;
            store
        }
    };
    let mut lines = Vec::new();
    for (kind, format) in EXPORTS {
        eprintln!("exporting {kind} as {format}");
        lines.push(export(kind, format, &store, place).await?);
    }
    Ok(Report { machine, lines })
}

async fn export(kind: &'static str, format: &'static str, store: &Path, place: &Path) -> anyhow::Result<Line> {
    let output = place.join(format!("{kind}.{format}"));
    let database = format!("sqlite:{}", store.display());
    let arguments =
        ["export", kind, "--format", format, "--database", &database, "--output", &output.display().to_string()]
            .map(str::to_owned);
    let running = child::start(&arguments, place)?;
    let process = running.id().context("the export ended at once")?;
    let mut memory_bytes = None;
    let watch = async {
        loop {
            memory_bytes = memory_bytes.max(memory_peak(process));
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let ended = tokio::select! {
        ended = running.wait_with_output() => ended?,
        () = watch => bail!("nobody watches for ever"),
    };
    let said = String::from_utf8_lossy(&ended.stderr);
    if !ended.status.success() {
        bail!("exporting {kind} as {format} failed: {said}");
    }
    let (rows, seconds) = told(&said).with_context(|| format!("what an export said: {said}"))?;
    let bytes = std::fs::metadata(&output)?.len();
    std::fs::remove_file(&output)?;
    Ok(Line { kind, format, rows, seconds, rows_a_second: rate(rows, seconds), bytes, memory_bytes })
}

/// Rows and seconds in an export's last words: `<rows> rows as of position …: <seconds> s, …`.
fn told(said: &str) -> Option<(u64, f64)> {
    let words = said.lines().rfind(|line| line.contains(" rows as of position "))?;
    let rows = words.split(' ').next()?.parse().ok()?;
    let seconds = words.rsplit_once(": ")?.1.split(' ').next()?.parse().ok()?;
    Some((rows, seconds))
}

#[allow(clippy::cast_precision_loss)] // a rate of what was counted
fn rate(rows: u64, seconds: f64) -> f64 {
    rows as f64 / seconds.max(0.001)
}

impl Report {
    /// As text for people.
    pub(super) fn text(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_header(["export", "rows", "seconds", "rows/s", "MB", "memory MB"]);
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        for line in &self.lines {
            table.add_row([
                format!("{} {}", line.kind, line.format),
                line.rows.to_string(),
                format!("{:.2}", line.seconds),
                format!("{:.0}", line.rows_a_second),
                megabytes(line.bytes),
                line.memory_bytes.map_or_else(|| "unknown".to_owned(), megabytes),
            ]);
        }
        let mut text = format!("{} cores\n{table}\n", self.machine.cores);
        let told = |met: bool| if met { "met" } else { "MISSED" };
        if let Some(csv) = self.lines.iter().find(|line| (line.kind, line.format) == ("transactions", "csv")) {
            let met = csv.rows_a_second >= ROWS_A_SECOND;
            let _ = writeln!(text, "transactions as CSV, {ROWS_A_SECOND:.0} rows/s: {}", told(met));
        }
        let peak = self.lines.iter().filter_map(|line| line.memory_bytes).max();
        let met = peak.is_some_and(|peak| peak < MEMORY_BYTES);
        let _ = write!(text, "memory below {} MB: {}", MEMORY_BYTES / 1_000_000, told(met));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exports_last_words_are_understood() {
        let said =
            "exporting: 5 of 9 positions\n120 rows as of position 9 (2033-01-01T06:00:00.000000Z): 0.5 s, 240 rows/s\n";
        assert_eq!(told(said), Some((120, 0.5)));
        assert_eq!(told("nothing"), None);
    }
}
