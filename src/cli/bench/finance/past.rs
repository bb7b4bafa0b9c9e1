//! How long looks at the past take: of one after the other, over HTTP, at moments and of wallets drawn at random.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde::Serialize;

use crate::cli::bench::load::{Connection, Request};

/// How many looks of a kind there are: at a wallet, and at what costs more.
const LOOKS: usize = 2_000;
const LARGE_LOOKS: usize = 100;

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Wallet,
    Outstanding,
    Tree,
}

impl What {
    /// Every kind.
    pub(super) const ALL: [Self; 3] = [Self::Wallet, Self::Outstanding, Self::Tree];

    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Wallet => "a wallet as of a moment",
            Self::Outstanding => "all credits outstanding as of a moment",
            Self::Tree => "a page of the tree as of a moment",
        }
    }

    fn looks(self) -> usize {
        if self == Self::Wallet { LOOKS } else { LARGE_LOOKS }
    }

    fn path(self, wallet: &str, position: u64) -> String {
        match self {
            Self::Wallet => format!("/wallets/{wallet}?position={position}"),
            Self::Outstanding => format!("/analytics/credits-outstanding?position={position}"),
            Self::Tree => format!("/reseller-network/downline/tree?limit=50&position={position}"),
        }
    }
}

/// Latencies of the looks that found something.
#[derive(Debug, Serialize)]
pub(super) struct Looks {
    pub(super) what: What,
    /// Whether commands were written meanwhile.
    pub(super) while_writing: bool,
    /// How many found something.
    pub(super) found: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

/// Who looks, and at what.
#[derive(Debug)]
pub(super) struct Viewer<'v> {
    pub(super) address: SocketAddr,
    pub(super) token: &'v str,
    pub(super) wallets: &'v [&'v str],
    /// The last position there is.
    pub(super) head: u64,
}

impl Viewer<'_> {
    /// Looks. A wallet that was not open yet is no find, and is not counted.
    pub(super) async fn look(&self, what: What, while_writing: bool) -> anyhow::Result<Looks> {
        let mut connection = Connection::open(self.address).await?;
        let mut random = StdRng::seed_from_u64(7);
        // 1 µs … 60 s with three digits.
        let mut latencies: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        for _ in 0..what.looks() {
            let wallet = self.wallets.choose(&mut random).context("the network has no wallets")?;
            let query = Request::query(&what.path(wallet, random.random_range(1..=self.head)), self.token)?;
            let begun = Instant::now();
            let answer = connection.ask(&query).await?;
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            match (answer.status(), what) {
                (200, _) => latencies.saturating_record(micros),
                (404, What::Wallet) => {}
                (status, _) => bail!("a look at {} was answered {status}", what.name()),
            }
        }
        let milliseconds = |micros: u64| micros as f64 / 1e3;
        Ok(Looks {
            what,
            while_writing,
            found: latencies.len(),
            p50_ms: milliseconds(latencies.value_at_quantile(0.5)),
            p99_ms: milliseconds(latencies.value_at_quantile(0.99)),
            max_ms: milliseconds(latencies.max()),
        })
    }
}
