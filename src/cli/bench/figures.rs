//! What was measured, as numbers: one [`Figure`] per measurement and round, medians and ratios over them.

use std::collections::HashMap;

use serde::Serialize;

use super::load::Sample;
use super::plan::{MANY, Measurement, Workload};

/// One measurement in one round. Latencies in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Figure {
    /// Requests measured.
    pub(super) requests: f64,
    /// Requests per second.
    pub(super) requests_per_second: f64,
    /// Commands per second: a bulk counts its items.
    pub(super) commands_per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    /// Processor time of the server per request, projections included; 0 where the system does not tell.
    pub(super) server_cpu_us: f64,
    /// Processor time of the load generator per request.
    pub(super) generator_cpu_us: f64,
    /// How long the projections took to catch up after the load had ended, in milliseconds; 0 for the ceiling.
    pub(super) catch_up_ms: f64,
    /// How many events they were behind when it ended.
    pub(super) behind_events: f64,
}

impl Figure {
    /// The figure of a sample; what is not in the sample is left 0.
    pub(super) fn of(sample: &Sample, commands_per_request: usize) -> Self {
        let latency = |quantile| sample.latencies.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            requests: sample.requests as f64,
            requests_per_second: sample.rate(),
            commands_per_second: sample.rate() * commands_per_request as f64,
            p50_us: latency(0.5),
            p90_us: latency(0.9),
            p99_us: latency(0.99),
            p999_us: latency(0.999),
            max_us: sample.latencies.max() as f64 / 1e3,
            ..Self::default()
        }
    }

    /// The median of each figure by itself.
    fn median(figures: &[Self]) -> Self {
        let of = |part: fn(&Self) -> f64| median(figures.iter().map(part).collect()).unwrap_or_default();
        Self {
            requests: of(|it| it.requests),
            requests_per_second: of(|it| it.requests_per_second),
            commands_per_second: of(|it| it.commands_per_second),
            p50_us: of(|it| it.p50_us),
            p90_us: of(|it| it.p90_us),
            p99_us: of(|it| it.p99_us),
            p999_us: of(|it| it.p999_us),
            max_us: of(|it| it.max_us),
            server_cpu_us: of(|it| it.server_cpu_us),
            generator_cpu_us: of(|it| it.generator_cpu_us),
            catch_up_ms: of(|it| it.catch_up_ms),
            behind_events: of(|it| it.behind_events),
        }
    }
}

/// The middle one, or the mean of the two; `None` of nothing.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// Every figure of every round.
#[derive(Debug, Default)]
pub(super) struct Figures {
    rounds: HashMap<Measurement, Vec<Figure>>,
}

impl Figures {
    /// Adds the figure of the next round.
    pub(super) fn add(&mut self, measurement: Measurement, figure: Figure) {
        self.rounds.entry(measurement).or_default().push(figure);
    }

    /// The last round's.
    pub(super) fn last(&self, measurement: Measurement) -> Option<&Figure> {
        self.rounds.get(&measurement)?.last()
    }

    /// All rounds'.
    pub(super) fn all(&self, measurement: Measurement) -> &[Figure] {
        self.rounds.get(&measurement).map(Vec::as_slice).unwrap_or_default()
    }

    /// The median over the rounds; `None` where nothing was measured.
    pub(super) fn median(&self, measurement: Measurement) -> Option<Figure> {
        self.rounds.get(&measurement).map(|figures| Figure::median(figures))
    }

    /// The median over the rounds of commands/s of the one by commands/s of the other.
    pub(super) fn ratio(&self, of: Measurement, by: Measurement) -> Option<f64> {
        let pairs = self.all(of).iter().zip(self.all(by));
        median(pairs.map(|(of, by)| of.commands_per_second / by.commands_per_second).collect())
    }

    /// The ceiling that a measurement is compared with: that of as many connections; for bulk, that of single provisions.
    pub(super) fn ceiling_of(measurement: Measurement, connections: usize) -> Measurement {
        let connections = if measurement.workload == Workload::Bulk { connections } else { measurement.connections };
        Measurement::closed(Workload::Ceiling, connections)
    }
}

/// A target and what was reached.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdict {
    /// What is asked for.
    pub(super) target: String,
    /// What was measured; `None` where it was not.
    pub(super) measured: Option<f64>,
    /// The bound.
    pub(super) bound: f64,
    /// Whether the bound is the least (else the most) that will do.
    pub(super) at_least: bool,
    /// Whether it was reached.
    pub(super) met: Option<bool>,
}

impl Verdict {
    fn new(target: String, measured: Option<f64>, bound: f64, at_least: bool) -> Self {
        let met = measured.map(|value| if at_least { value >= bound } else { value <= bound });
        Self { target, measured, bound, at_least, met }
    }

    /// A target that what is measured must reach.
    pub(super) fn at_least(target: String, measured: Option<f64>, bound: f64) -> Self {
        Self::new(target, measured, bound, true)
    }

    /// A target that what is measured must not pass.
    pub(super) fn at_most(target: String, measured: Option<f64>, bound: f64) -> Self {
        Self::new(target, measured, bound, false)
    }
}

/// Every target, with what was reached.
pub(super) fn verdicts(figures: &Figures, connections: usize, wallets: usize) -> Vec<Verdict> {
    let hot = Measurement::closed(Workload::Hot, connections);
    let spread = Measurement::closed(Workload::Spread, connections);
    let bulk = Measurement::closed(Workload::Bulk, super::plan::BULK_CONNECTIONS);
    let ceiling = |connections| Measurement::closed(Workload::Ceiling, connections);
    let (least, most) = (Verdict::at_least, Verdict::at_most);
    let milliseconds = |measurement, part: fn(&Figure) -> f64| figures.median(measurement).map(|it| part(&it) / 1e3);
    let by_ceiling = |of: Measurement| figures.ratio(of, Figures::ceiling_of(of, connections));
    let mut verdicts = vec![
        least(
            format!("ceiling at {connections} conn, requests/s"),
            figures.median(ceiling(connections)).map(|it| it.requests_per_second),
            45_000.0,
        ),
        least(format!("one wallet at {connections} conn / ceiling"), by_ceiling(hot), 0.40),
        least(format!("{wallets} wallets at {connections} conn / ceiling"), by_ceiling(spread), 0.30),
        least(format!("one wallet / {wallets} wallets at {connections} conn"), figures.ratio(hot, spread), 0.95),
    ];
    for (name, workload) in [("one wallet".to_owned(), Workload::Hot), (format!("{wallets} wallets"), Workload::Spread)]
    {
        let many = Measurement::closed(workload, MANY);
        verdicts.push(least(format!("{name} at {MANY} conn / ceiling"), by_ceiling(many), 0.35));
    }
    verdicts.push(least("bulk / ceiling, commands/s".to_owned(), by_ceiling(bulk), 0.80));
    let single = Measurement::closed(Workload::Hot, 1);
    verdicts.push(most("1 conn p50, ms".to_owned(), milliseconds(single, |it| it.p50_us), 0.7));
    for measurement in [hot, spread, Measurement::open(Workload::Hot, connections)] {
        let name = format!("{} p99, ms", measurement.name(wallets));
        verdicts.push(most(name, milliseconds(measurement, |it| it.p99_us), 15.0));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn at(rate: f64) -> Figure {
        Figure { commands_per_second: rate, requests_per_second: rate, ..Figure::default() }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_the_middle_one_is_reported() {
        let (hot, ceiling) = (Measurement::closed(Workload::Hot, 32), Measurement::closed(Workload::Ceiling, 32));
        let mut figures = Figures::default();
        // The machine is four times slower in the second round: both sides are.
        for (own, top) in [(40.0, 100.0), (10.0, 25.0), (50.0, 100.0)] {
            figures.add(ceiling, at(top));
            figures.add(hot, at(own));
        }
        assert_eq!(figures.ratio(hot, ceiling), Some(0.4));
        let reached = verdicts(&figures, 32, 1000);
        let verdict = reached.iter().find(|it| it.target == "one wallet at 32 conn / ceiling").unwrap();
        assert_eq!(verdict.met, Some(true));
        assert!(reached.iter().any(|it| it.met.is_none()), "what was not measured is not judged");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
