//! What `bench finance` has found, as text for people and as JSON, beside what is asked for.

use serde::Serialize;

use super::past::{Looks, What};
use crate::cli::bench::figures::Verdict;
use crate::cli::bench::machine::Machine;
use crate::cli::bench::report::{RELEASE_WARNING, table, target_table};

/// What transactions as CSV should reach, in rows a second.
const ROWS_A_SECOND: f64 = 150_000.0;
/// What the memory of an export, or of `verify`, should not pass, in megabytes.
const MEMORY_MEGABYTES: f64 = 300.0;
/// How long `verify` may take, in seconds.
const VERIFY_SECONDS: f64 = 20.0;
const VERIFY_SECONDS_ON_A_SERVER: f64 = 40.0;
/// The slowest of a hundred looks at a wallet as of a moment, in milliseconds.
const LOOK_MILLISECONDS: f64 = 20.0;

/// One export.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) kind: &'static str,
    pub(super) format: &'static str,
    pub(super) rows: u64,
    pub(super) seconds: f64,
    pub(super) rows_a_second: f64,
    pub(super) bytes: u64,
    /// `None` where the system does not tell.
    pub(super) memory_bytes: Option<u64>,
}

/// A run of `verify` beside a service that takes commands.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    pub(super) seconds: f64,
    /// `None` where the system does not tell.
    pub(super) memory_bytes: Option<u64>,
    /// How many commands were written a second meanwhile.
    pub(super) commands_a_second: f64,
    /// The slowest of a hundred of them, in milliseconds.
    pub(super) commands_p99_ms: f64,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(in crate::cli::bench) struct Report {
    pub(super) machine: Machine,
    pub(super) on_a_server: bool,
    pub(super) resellers: usize,
    pub(super) events: u64,
    pub(super) exports: Vec<Line>,
    pub(super) past: Vec<Looks>,
    /// Or why it could not be run.
    pub(super) verify: Result<Verified, String>,
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Report {
    /// What is asked for, and what was reached.
    fn verdicts(&self) -> Vec<Verdict> {
        let (least, most) = (Verdict::at_least, Verdict::at_most);
        let export =
            |kind: &str, format: &str| self.exports.iter().find(|line| (line.kind, line.format) == (kind, format));
        let csv = export("transactions", "csv");
        let mut verdicts =
            vec![least("transactions as CSV, rows/s".to_owned(), csv.map(|line| line.rows_a_second), ROWS_A_SECOND)];
        for (kind, format) in [("transactions", "csv"), ("journal", "hledger"), ("journal", "beancount")] {
            let peak = export(kind, format).and_then(|line| line.memory_bytes).map(megabytes);
            verdicts.push(most(format!("memory of {kind} as {format}, MB"), peak, MEMORY_MEGABYTES));
        }
        let peak = self.exports.iter().filter_map(|line| line.memory_bytes).max().map(megabytes);
        verdicts.push(most("memory of any export, MB".to_owned(), peak, MEMORY_MEGABYTES));
        let verified = self.verify.as_ref().ok();
        let seconds = if self.on_a_server { VERIFY_SECONDS_ON_A_SERVER } else { VERIFY_SECONDS };
        let rate = verified.map_or(0.0, |verified| verified.commands_a_second);
        verdicts.push(most(
            format!("verify while {rate:.0} commands/s are written, s"),
            verified.map(|verified| verified.seconds),
            seconds,
        ));
        let peak = verified.and_then(|verified| verified.memory_bytes).map(megabytes);
        verdicts.push(most("memory of verify, MB".to_owned(), peak, MEMORY_MEGABYTES));
        for looks in self.past.iter().filter(|looks| looks.what == What::Wallet) {
            let meanwhile = if looks.while_writing { ", while commands are written" } else { "" };
            let target = format!("{}{meanwhile}: p99, ms", looks.what.name());
            verdicts.push(most(target, Some(looks.p99_ms), LOOK_MILLISECONDS));
        }
        verdicts
    }

    /// As text for people.
    pub(in crate::cli::bench) fn text(&self) -> String {
        let store = if self.on_a_server { "on a PostgreSQL server" } else { "in files" };
        let mut parts = vec![format!(
            "{} cores; {} resellers and {} events {store}",
            self.machine.cores, self.resellers, self.events
        )];
        if !self.machine.release_build {
            parts.push(RELEASE_WARNING.to_owned());
        }
        let exports = self.exports.iter().map(|line| {
            vec![
                format!("{} as {}", line.kind, line.format),
                line.rows.to_string(),
                format!("{:.2}", line.seconds),
                format!("{:.0}", line.rows_a_second),
                format!("{:.1}", megabytes(line.bytes)),
                line.memory_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.1}", megabytes(bytes))),
            ]
        });
        parts.push(table(&["export", "rows", "seconds", "rows/s", "MB", "memory MB"], exports).to_string());
        let past = self.past.iter().map(|looks| {
            let meanwhile = if looks.while_writing { ", while commands are written" } else { "" };
            vec![
                format!("{}{meanwhile}", looks.what.name()),
                looks.found.to_string(),
                format!("{:.2}", looks.p50_ms),
                format!("{:.2}", looks.p99_ms),
                format!("{:.2}", looks.max_ms),
            ]
        });
        parts.push(table(&["", "found", "p50 ms", "p99", "max"], past).to_string());
        parts.push(match &self.verify {
            Ok(verified) => format!(
                "verify: {:.1} s beside {:.0} commands/s with a p99 of {:.1} ms",
                verified.seconds, verified.commands_a_second, verified.commands_p99_ms
            ),
            Err(why) => format!("verify: {why}"),
        });
        parts.push(target_table(&self.verdicts()).to_string());
        parts.join("\n\n")
    }
}
