//! What is measured, in which order, and against which targets.
//!
//! A round measures everything once, the ceiling next to what is compared with it; ratios are taken within a round, so that
//! whatever else the machine does meanwhile falls on both sides. What is reported is the median over the rounds.

use clap::ValueEnum;
use serde::Serialize;

/// What can be asked for by `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The ceiling alone.
    Ceiling,
    /// One wallet.
    Hot,
    /// Many wallets.
    Spread,
    /// One wallet and many connections.
    HotMany,
    /// Many wallets and many connections.
    SpreadMany,
    /// One wallet, 1 000 provisions a request.
    Bulk,
    /// One connection.
    Single,
    /// One wallet at a fixed rate, which is a part of what it can do.
    Open,
}

/// How many connections `hot-many` and `spread-many` have.
pub(super) const MANY: usize = 128;
/// How many connections send bulks.
pub(super) const BULK_CONNECTIONS: usize = 4;
/// How many provisions are in a bulk.
pub(super) const BULK_ITEMS: usize = 1_000;

/// Who is asked for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Workload {
    /// The server that does nothing.
    Ceiling,
    /// The hot wallet's reseller provisions by SKU.
    Hot,
    /// A `super_admin` provisions by SKU from wallets at random.
    Spread,
    /// The hot wallet's reseller provisions in bulk.
    Bulk,
}

/// One measurement of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub(super) struct Measurement {
    pub(super) workload: Workload,
    pub(super) connections: usize,
    /// Whether requests are due at a fixed rate.
    pub(super) open_loop: bool,
}

impl Measurement {
    pub(super) const fn closed(workload: Workload, connections: usize) -> Self {
        Self { workload, connections, open_loop: false }
    }

    pub(super) const fn open(workload: Workload, connections: usize) -> Self {
        Self { workload, connections, open_loop: true }
    }

    /// How many commands a request carries.
    pub(super) fn commands_per_request(self) -> usize {
        if self.workload == Workload::Bulk { BULK_ITEMS } else { 1 }
    }

    /// What people call it.
    pub(super) fn name(self, wallets: usize) -> String {
        let what = match self.workload {
            Workload::Ceiling => "ceiling".to_owned(),
            Workload::Hot => "one wallet".to_owned(),
            Workload::Spread => format!("{wallets} wallets"),
            Workload::Bulk => format!("bulk of {BULK_ITEMS}"),
        };
        let how = if self.open_loop { ", open loop" } else { "" };
        format!("{what}{how}, {} conn", self.connections)
    }
}

/// The measurements of one round, in order; all scenarios where none is named.
pub(super) fn round(only: &[Scenario], connections: usize) -> Vec<Measurement> {
    let wanted = |scenario| only.is_empty() || only.contains(&scenario);
    let mut round = Vec::new();
    let mut add = |measurement| {
        if !round.contains(&measurement) {
            round.push(measurement);
        }
    };
    if wanted(Scenario::Ceiling) || wanted(Scenario::Single) {
        add(Measurement::closed(Workload::Ceiling, 1));
    }
    if wanted(Scenario::Single) {
        add(Measurement::closed(Workload::Hot, 1));
    }
    let open = wanted(Scenario::Open);
    let (hot, spread, bulk) = (wanted(Scenario::Hot), wanted(Scenario::Spread), wanted(Scenario::Bulk));
    if hot || spread || bulk || wanted(Scenario::Ceiling) {
        add(Measurement::closed(Workload::Ceiling, connections));
    }
    if hot || open {
        add(Measurement::closed(Workload::Hot, connections));
    }
    if spread {
        add(Measurement::closed(Workload::Spread, connections));
    }
    if open {
        add(Measurement::open(Workload::Hot, connections));
    }
    if bulk {
        add(Measurement::closed(Workload::Bulk, BULK_CONNECTIONS));
    }
    let (hot, spread) = (wanted(Scenario::HotMany), wanted(Scenario::SpreadMany));
    if hot || spread || wanted(Scenario::Ceiling) {
        add(Measurement::closed(Workload::Ceiling, MANY));
    }
    if hot {
        add(Measurement::closed(Workload::Hot, MANY));
    }
    if spread {
        add(Measurement::closed(Workload::Spread, MANY));
    }
    round
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_is_made_once_a_round_with_its_ceiling_before_it() {
        let round = round(&[], 32);
        for (index, measurement) in round.iter().enumerate() {
            assert!(!round.iter().skip(index + 1).any(|later| later == measurement));
            if measurement.workload != Workload::Bulk {
                let ceiling = Measurement::closed(Workload::Ceiling, measurement.connections);
                assert!(round.iter().take(index + 1).any(|earlier| *earlier == ceiling), "{measurement:?}");
            }
        }
        assert_eq!(round.len(), 10);
    }

    #[test]
    fn an_open_loop_brings_along_the_closed_one_that_sets_its_rate() {
        let round = round(&[Scenario::Open], 32);
        assert_eq!(round, [Measurement::closed(Workload::Hot, 32), Measurement::open(Workload::Hot, 32)]);
    }
}
