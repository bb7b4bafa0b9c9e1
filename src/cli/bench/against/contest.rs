//! Clients of one of the others at work: as many as suit it best, for as long as everybody has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::super::figures::Figure;
use super::peers::{Peer, Spent};

/// How many clients are tried out.
pub(super) const CLIENTS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// So often a command may lose to others before something is wrong.
const TRIES_MAX: u32 = 100_000;

/// What came of a stretch of load.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Result {
    pub(super) figure: Figure,
    /// Attempts that lost to another, for each command that was carried out.
    pub(super) conflicts: f64,
}

/// Spends from `wallets` wallets at random, by so many clients for so long. A latency includes all attempts.
pub(super) async fn spend<P: Peer>(
    peer: &Arc<P>,
    clients: usize,
    wallets: usize,
    measured: Duration,
) -> anyhow::Result<Result> {
    let warm_up = (measured / 5).min(Duration::from_secs(1));
    let measured_from = Instant::now() + warm_up;
    let end = measured_from + measured;
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let peer = Arc::clone(peer);
        tasks.spawn(async move {
            let mut latencies = Histogram::<u64>::new_with_bounds(1_000, 60_000_000_000, 3)?;
            let mut conflicts = 0_u64;
            let mut random = client;
            let mut sent = Instant::now();
            while sent < end {
                // As the load generator of the service chooses.
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let wallet = (random >> 33) % wallets;
                let mut tries = 0;
                while peer.spend(wallet).await? == Spent::Conflict {
                    tries += 1;
                    if tries == TRIES_MAX {
                        bail!("a command lost {TRIES_MAX} times to others");
                    }
                }
                let answered = Instant::now();
                if answered >= measured_from && answered < end {
                    conflicts += u64::from(tries);
                    latencies.saturating_record(u64::try_from(answered.duration_since(sent).as_nanos())?);
                }
                sent = answered;
            }
            Ok((latencies, conflicts))
        });
    }
    let mut all = Histogram::<u64>::new_with_bounds(1_000, 60_000_000_000, 3)?;
    let mut conflicts = 0;
    while let Some(done) = tasks.join_next().await {
        let (latencies, lost) = done??;
        all.add(&latencies)?;
        conflicts += lost;
    }
    let rate = all.len() as f64 / measured.as_secs_f64();
    let latency = |quantile| all.value_at_quantile(quantile) as f64 / 1e3;
    let figure = Figure {
        requests: all.len() as f64,
        requests_per_second: rate,
        commands_per_second: rate,
        p50_us: latency(0.5),
        p90_us: latency(0.9),
        p99_us: latency(0.99),
        p999_us: latency(0.999),
        max_us: all.max() as f64 / 1e3,
        ..Figure::default()
    };
    Ok(Result { figure, conflicts: conflicts as f64 / all.len().max(1) as f64 })
}

/// With how many clients it does most, and how much that is.
pub(super) async fn best_clients<P: Peer>(
    peer: &Arc<P>,
    wallets: usize,
    each: Duration,
) -> anyhow::Result<(usize, f64)> {
    let mut best = None;
    for clients in CLIENTS {
        let rate = spend(peer, clients, wallets, each).await?.figure.commands_per_second;
        if best.is_none_or(|(_, most)| rate > most) {
            best = Some((clients, rate));
        }
    }
    best.context("nobody was tried out")
}
