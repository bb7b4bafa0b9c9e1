//! What a run at size found out, as tables to read or as JSON.

use comfy_table::Table;
use serde::Serialize;

use super::lag::Lag;
use super::questions::{self, KINDS, Kind, Scope};
use crate::cli::bench::evidence::Evidence;
use crate::cli::bench::figures::{Verdict, median};
use crate::cli::bench::load::Sample;
use crate::cli::bench::machine::Machine;
use crate::cli::bench::report::{RELEASE_WARNING, table, target_table};

/// How far the read models may be behind while commands come as fast as they are answered, in milliseconds.
const LAG_BOUND_MS: f64 = 250.0;
/// What of the write rate must be left with all projections on.
const WRITE_RATE_BOUND: f64 = 0.75;
/// How many events a second a rebuild must fold.
const REBUILD_BOUND: f64 = 50_000.0;
/// What of the rate that was asked for counts as that rate.
const RATE_TOLERANCE: f64 = 0.99;

/// One kind of query about one scope.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cell {
    kind: Kind,
    scope: Scope,
    queries: u64,
    pub(super) p50_ms: f64,
    p90_ms: f64,
    pub(super) p99_ms: f64,
    max_ms: f64,
    /// Commands a second that were answered meanwhile, and how long 99 of 100 of them took.
    pub(super) commands_per_second: f64,
    commands_p99_ms: f64,
}

impl Cell {
    pub(super) fn of(kind: Kind, scope: Scope, asked: &Sample, written: &Sample) -> Self {
        let milliseconds = |sample: &Sample, quantile| sample.latencies.value_at_quantile(quantile) as f64 / 1e6;
        Self {
            kind,
            scope,
            queries: asked.requests,
            p50_ms: milliseconds(asked, 0.5),
            p90_ms: milliseconds(asked, 0.9),
            p99_ms: milliseconds(asked, 0.99),
            max_ms: milliseconds(asked, 1.0),
            commands_per_second: written.rate(),
            commands_p99_ms: milliseconds(written, 0.99),
        }
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        questions::name(self.kind, self.scope)
    }
}

/// Commands a second as fast as they are answered, in each round.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct WriteRates {
    pub(super) with: Vec<f64>,
    pub(super) without: Vec<f64>,
}

impl WriteRates {
    /// The median over the rounds of what is left with projections on.
    fn left(&self) -> Option<f64> {
        median(self.with.iter().zip(&self.without).map(|(with, without)| with / without).collect())
    }
}

/// Everything that a run found out.
#[derive(Debug)]
pub(in crate::cli::bench) struct Report {
    pub(super) machine: Machine,
    pub(super) seconds: f64,
    pub(super) resellers: usize,
    pub(super) levels: usize,
    pub(super) events: u64,
    /// `None` where the store was there before.
    pub(super) fill_seconds: Option<f64>,
    pub(super) wallets: usize,
    pub(super) query_rate: f64,
    pub(super) write_rate: f64,
    pub(super) cells: Vec<Cell>,
    pub(super) write_rates: WriteRates,
    pub(super) lag: Lag,
    /// Events a second; `None` where there is no rebuild.
    pub(super) rebuild_rate: Option<f64>,
    pub(super) evidence: Evidence,
}

impl Report {
    /// As text for people.
    pub(in crate::cli::bench) fn text(&self) -> String {
        let mut parts = vec![format!(
            "{} cores ({}), shared by server and load generator; {} resellers on {} levels, {} events at the end{}; each \
             figure from {} s",
            self.machine.cores,
            self.machine.processor.as_deref().unwrap_or("unknown processor"),
            self.resellers,
            self.levels,
            self.events,
            self.fill_seconds.map_or_else(String::new, |seconds| format!("; filled in {seconds:.0} s")),
            self.seconds,
        )];
        if !self.machine.release_build {
            parts.push(RELEASE_WARNING.to_owned());
        }
        if !self.cells.is_empty() {
            parts.push(self.query_table().to_string());
            parts.push(format!(
                "{} queries/s while {} commands/s provision from {} wallets, both at a fixed rate; a latency counts from when \
                 the request was due.",
                self.query_rate, self.write_rate, self.wallets
            ));
        }
        if !self.write_rates.with.is_empty() {
            parts.push(self.write_table().to_string());
        }
        if let [Some(half), Some(most), Some(all)] = [0.5, 0.99, 1.0].map(|quantile| self.lag.quantile_ms(quantile)) {
            parts.push(format!(
                "Commands/s as fast as they are answered. Read models behind the log meanwhile: p50 {half:.0} ms, p99 \
                 {most:.0} ms, at most {all:.0} ms."
            ));
        }
        parts.push(target_table(&self.verdicts()).to_string());
        parts.push(self.evidence.to_string());
        parts.join("\n\n")
    }

    /// As JSON.
    pub(in crate::cli::bench) fn json(&self) -> serde_json::Value {
        let lag = [0.5, 0.9, 0.99, 1.0].map(|quantile| self.lag.quantile_ms(quantile));
        serde_json::json!({
            "machine": self.machine,
            "seconds": self.seconds,
            "resellers": self.resellers,
            "levels": self.levels,
            "events": self.events,
            "fill_seconds": self.fill_seconds,
            "wallets": self.wallets,
            "query_rate": self.query_rate,
            "write_rate": self.write_rate,
            "queries": self.cells,
            "write_rates": self.write_rates,
            "lag_ms": { "p50": lag[0], "p90": lag[1], "p99": lag[2], "max": lag[3] },
            "rebuild_events_per_second": self.rebuild_rate,
            "targets": self.verdicts(),
            "evidence": self.evidence,
        })
    }

    fn query_table(&self) -> Table {
        let milliseconds = |value: f64| format!("{value:.2}");
        let rows = self.cells.iter().map(|cell| {
            vec![
                cell.name(),
                cell.queries.to_string(),
                milliseconds(cell.p50_ms),
                milliseconds(cell.p90_ms),
                milliseconds(cell.p99_ms),
                milliseconds(cell.max_ms),
                format!("{:.0}", cell.commands_per_second),
                milliseconds(cell.commands_p99_ms),
            ]
        });
        table(&["", "queries", "p50 ms", "p90", "p99", "max", "commands/s", "their p99 ms"], rows)
    }

    fn write_table(&self) -> Table {
        let rates = &self.write_rates;
        let rows = rates.with.iter().zip(&rates.without).enumerate().map(|(round, (with, without))| {
            vec![
                format!("round {}", round + 1),
                format!("{with:.0}"),
                format!("{without:.0}"),
                format!("{:.3}", with / without),
            ]
        });
        table(&["commands/s", "with all projections", "with none", "ratio"], rows)
    }

    /// Every target; a kind of query meets its own where it does so about every scope.
    fn verdicts(&self) -> Vec<Verdict> {
        let worst = |kind| {
            let cells = self.cells.iter().filter(|cell| cell.kind == kind);
            cells.map(|cell| cell.p99_ms).max_by(f64::total_cmp)
        };
        let slowest = self.cells.iter().map(|cell| cell.commands_per_second).min_by(f64::total_cmp);
        let mut verdicts: Vec<Verdict> = KINDS
            .iter()
            .filter_map(|kind| {
                Some(Verdict::at_most(format!("{} p99, ms", kind.name()), worst(*kind), kind.bound_ms()?))
            })
            .collect();
        let written = "commands/s written meanwhile, the least".to_owned();
        verdicts.push(Verdict::at_least(written, slowest, self.write_rate * RATE_TOLERANCE));
        let lag = self.lag.quantile_ms(0.99);
        verdicts.push(Verdict::at_most("projection lag at full write rate p99, ms".to_owned(), lag, LAG_BOUND_MS));
        let left = self.write_rates.left();
        verdicts.push(Verdict::at_least("write rate with all projections / none".to_owned(), left, WRITE_RATE_BOUND));
        verdicts.push(Verdict::at_least("rebuild, events/s".to_owned(), self.rebuild_rate, REBUILD_BOUND));
        verdicts
    }
}
