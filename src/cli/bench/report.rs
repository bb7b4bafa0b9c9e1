//! The report: tables to read (and to paste, they are Markdown), or the same as JSON.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::evidence::Evidence;
use super::figures::{Figure, Figures, Verdict};
use super::machine::Machine;
use super::plan::Measurement;

/// Said where the figures are not worth reading.
pub(super) const RELEASE_WARNING: &str = "This is not a release build: the figures say nothing.";

/// Everything that a run found out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    pub(super) measurements: Vec<Line>,
    pub(super) targets: Vec<Verdict>,
    /// What shows that full features were on; `None` where only the ceiling ran.
    pub(super) evidence: Option<Evidence>,
}

/// One measurement, over all rounds.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) measurement: Measurement,
    pub(super) median: Figure,
    pub(super) by_ceiling: Option<f64>,
    pub(super) each_round: Vec<Figure>,
}

impl Line {
    /// The lines of a plan.
    pub(super) fn all(plan: &[Measurement], figures: &Figures, connections: usize, wallets: usize) -> Vec<Self> {
        let line = |measurement: &Measurement| {
            Some(Self {
                name: measurement.name(wallets),
                measurement: *measurement,
                median: figures.median(*measurement)?,
                by_ceiling: figures.ratio(*measurement, Figures::ceiling_of(*measurement, connections)),
                each_round: figures.all(*measurement).to_vec(),
            })
        };
        plan.iter().filter_map(line).collect()
    }
}

impl Report {
    /// As text for people.
    pub(super) fn text(&self) -> String {
        let mut parts = vec![self.machine_line()];
        if !self.machine.release_build {
            parts.push(RELEASE_WARNING.to_owned());
        }
        parts.push(self.measurement_table().to_string());
        parts.push(
            "Medians over the rounds; ratios within each round. Latency counts from sending, in an open loop from when the \
             request was due. cpu: microseconds of processor time per request, of the server (with its projections) and of \
             the load generator. behind, catch-up: the projections when the load ended."
                .to_owned(),
        );
        parts.push(target_table(&self.targets).to_string());
        parts.extend(self.evidence.as_ref().map(ToString::to_string));
        parts.join("\n\n")
    }

    fn machine_line(&self) -> String {
        let machine = &self.machine;
        format!(
            "{} cores ({}), shared by server and load generator; store on {}, {:.0} µs to make 4 KiB durable; {} rounds of {} s",
            machine.cores,
            machine.processor.as_deref().unwrap_or("unknown processor"),
            machine.file_system.as_deref().unwrap_or("an unknown file system"),
            machine.sync_us,
            self.rounds,
            self.seconds,
        )
    }

    fn measurement_table(&self) -> Table {
        let header = [
            "",
            "requests/s",
            "commands/s",
            "× ceiling",
            "p50 ms",
            "p90",
            "p99",
            "p99.9",
            "max",
            "cpu server",
            "cpu load",
            "behind",
            "catch-up ms",
        ];
        let rows = self.measurements.iter().map(|line| {
            let median = &line.median;
            let milliseconds = |microseconds: f64| format!("{:.2}", microseconds / 1e3);
            vec![
                line.name.clone(),
                format!("{:.0}", median.requests_per_second),
                format!("{:.0}", median.commands_per_second),
                line.by_ceiling.map_or_else(String::new, |ratio| format!("{ratio:.3}")),
                milliseconds(median.p50_us),
                milliseconds(median.p90_us),
                milliseconds(median.p99_us),
                milliseconds(median.p999_us),
                milliseconds(median.max_us),
                format!("{:.1}", median.server_cpu_us),
                format!("{:.1}", median.generator_cpu_us),
                format!("{:.0}", median.behind_events),
                format!("{:.0}", median.catch_up_ms),
            ]
        });
        table(&header, rows)
    }
}

/// Targets, with what was reached.
pub(super) fn target_table(targets: &[Verdict]) -> Table {
    let rows = targets.iter().map(|verdict| {
        let number = |value: f64| if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") };
        vec![
            verdict.target.clone(),
            verdict.measured.map_or_else(|| "not measured".to_owned(), number),
            format!("{} {}", if verdict.at_least { "≥" } else { "≤" }, number(verdict.bound)),
            verdict.met.map_or("", |met| if met { "met" } else { "MISSED" }).to_owned(),
        ]
    });
    table(&["target", "measured", "bound", ""], rows)
}

/// A table whose first column says what its row is about, and whose others are figures.
pub(super) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header.to_vec()).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
