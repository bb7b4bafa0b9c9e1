//! `tallytree bench finance`: how fast exports are, looks at the past, and `verify` while commands are written, and how much
//! memory each takes, with a large history in the store.
//!
//! The history is that of `tallytree demo`, or a store that is there already. Each export and `verify` is a process of its own,
//! as an operator would run it; an export goes into a file that is read back by nobody, and what it says of its rows and its time
//! is believed.
//!
//! Cost: for the defaults some five minutes and 4 GB of disk.

mod past;
mod report;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use past::{Viewer, What};
pub(super) use report::Report;
use report::{Line, Verified};
use serde::Deserialize;

use super::child::{self, Server};
use super::load::{Connection, KeySource, Load, Request, Sample};
use super::machine::Machine;
use super::positive;
use super::progress::Progress;
use super::size::network::Network;
use crate::config::Database;

/// What is exported.
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
/// How many wallets are provisioned from while `verify` runs, and by how many connections.
const WALLETS: usize = 1_000;
const WRITERS: usize = 16;
/// How long a stretch of writing is: it goes on in stretches for as long as there is something to be measured beside it.
const STRETCH: Duration = Duration::from_secs(4);
/// How long the read models may take to come to the head.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `bench finance` takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// How many resellers the history has
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    resellers: u64,
    /// About how many events it has
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    events: u64,
    /// A store that `tallytree demo --no-serve` has filled, and that is written to, instead of one that is made
    #[arg(long, value_name = "DIR", conflicts_with_all = ["on", "resellers", "events"])]
    store: Option<PathBuf>,
    /// A database to fill and measure, `postgres://…`, instead of files; one that is filled already is measured as it is
    #[arg(long, value_name = "URL")]
    on: Option<String>,
    /// How many commands a second are written while `verify` runs
    #[arg(long, default_value_t = 1_000.0, value_parser = positive)]
    write_rate: f64,
}

/// Fills a store, unless there is one, and measures.
///
/// # Errors
/// A command of this program that fails or is not done in time, a request that is refused. A `verify` that cannot be run is
/// told in the report.
pub(super) async fn run(arguments: &Arguments, place: &Path) -> anyhow::Result<Report> {
    let machine = Machine::look(place)?;
    let database = match (&arguments.store, &arguments.on) {
        (Some(store), _) => {
            let store = store.canonicalize().with_context(|| store.display().to_string())?;
            format!("sqlite:{}", store.display())
        }
        (None, Some(database)) => database.clone(),
        (None, None) => format!("sqlite:{}", place.join("store").display()),
    };
    let on_a_server = matches!(database.parse(), Ok(Database::Postgres(_)));
    if arguments.store.is_none() && !(on_a_server && is_filled(&database, place).await) {
        let (resellers, events) = (arguments.resellers.to_string(), arguments.events.to_string());
        let fill = ["demo", "--no-serve", "--resellers", &resellers, "--events", &events, "--database", &database];
        child::run(&fill, place).await.context("filling the store")?;
    }
    let progress = Progress::new(EXPORTS.len() + What::ALL.len() + 2);
    let mut exports = Vec::new();
    for (kind, format) in EXPORTS {
        progress.doing(&format!("exporting {kind} as {format}"));
        let line = export(kind, format, &database, place).await?;
        progress.step(&format!("{kind} as {format}: {:.0} rows/s", line.rows_a_second));
        exports.push(line);
    }

    let server = Server::start("serve", &["serve", "--database", &database, "--listen", "127.0.0.1:0"], place).await?;
    progress.say("choosing whom to look at, and funding wallets");
    let keys = Arc::new(KeySource::new(rand::random()));
    let network = Network::explore(server.address, &database, place, WALLETS, &keys).await?;
    let events = caught_up(&server, network.operator()).await?;
    let wallets: Vec<&str> = network.asked_about().collect();
    let viewer = Viewer { address: server.address, token: network.operator(), wallets: &wallets, head: events };
    let mut past = Vec::new();
    for what in What::ALL {
        progress.doing(what.name());
        let looks = viewer.look(what, false).await?;
        progress.step(&format!("{}: p50 {:.2} ms, p99 {:.2} ms", what.name(), looks.p50_ms, looks.p99_ms));
        past.push(looks);
    }
    let writing = Writing {
        address: server.address,
        requests: Arc::clone(&network.provisions),
        rate: arguments.write_rate,
        keys: &keys,
    };
    progress.doing("looking at wallets while commands are written");
    let (looks, _) = writing.beside(viewer.look(What::Wallet, true)).await?;
    let looks = looks?;
    progress.step(&format!("the same while commands are written: p99 {:.2} ms", looks.p99_ms));
    past.push(looks);
    progress.doing("verifying while commands are written");
    let (watched, samples) = writing.beside(watched::run(&["verify", "--database", &database], place)).await?;
    let verify = watched.map_err(|error| format!("{error:#}")).map(|watched| verified(&watched, &samples));
    progress.step(&match &verify {
        Ok(verified) => format!("verify: {:.1} s", verified.seconds),
        Err(why) => format!("verify: {why}"),
    });
    progress.end();
    server.end().await;
    Ok(Report { machine, on_a_server, resellers: network.resellers, events, exports, past, verify })
}

/// Whether there is a log with anything in it.
async fn is_filled(database: &str, place: &Path) -> bool {
    // `POSITION:HASH`; where there is no store it fails.
    let head = child::output_of(&["head", "--database", database], place).await;
    head.is_ok_and(|head| head.lines().last().is_some_and(|line| !line.starts_with("0:")))
}

async fn export(kind: &'static str, format: &'static str, database: &str, place: &Path) -> anyhow::Result<Line> {
    let output = place.join(format!("{kind}.{format}"));
    let path = output.to_str().context("the directory's name is not UTF-8")?;
    let arguments = ["export", kind, "--format", format, "--database", database, "--output", path];
    let watched = watched::run(&arguments, place).await?;
    let said = &watched.said;
    let (rows, seconds) = told(said).with_context(|| format!("what an export said: {said}"))?;
    let bytes = std::fs::metadata(&output)?.len();
    std::fs::remove_file(&output)?;
    let rows_a_second = rows as f64 / seconds.max(0.001);
    Ok(Line { kind, format, rows, seconds, rows_a_second, bytes, memory_bytes: watched.memory_bytes })
}

/// Rows and seconds in an export's last words: `<rows> rows as of position …: <seconds> s, …`.
fn told(said: &str) -> Option<(u64, f64)> {
    let words = said.lines().rfind(|line| line.contains(" rows as of position "))?;
    let rows = words.split(' ').next()?.parse().ok()?;
    let seconds = words.rsplit_once(": ")?.1.split(' ').next()?.parse().ok()?;
    Some((rows, seconds))
}

/// Waits until the read models stand at the end of the log; tells where that is.
async fn caught_up(server: &Server, token: &str) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Head {
        position: u64,
    }
    let mut connection = Connection::open(server.address).await?;
    let head: Head = connection.ask(&Request::query("/audit/head", token)?).await?.json()?;
    let begun = tokio::time::Instant::now();
    let query = Request::query(&format!("/analytics/credits-outstanding?min_position={}", head.position), token)?;
    while connection.ask(&query).await?.status() != 200 {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the read models did not come to position {}", head.position);
    }
    Ok(head.position)
}

/// Commands at a fixed rate.
struct Writing<'w> {
    address: std::net::SocketAddr,
    requests: Arc<Vec<Request>>,
    rate: f64,
    keys: &'w Arc<KeySource>,
}

impl Writing<'_> {
    /// Writes for as long as something else takes, in stretches, the last of which ends later.
    async fn beside<T>(&self, other: impl Future<Output = T>) -> anyhow::Result<(T, Vec<Sample>)> {
        let is_over = std::cell::Cell::new(false);
        let other = async {
            let found = other.await;
            is_over.set(true);
            found
        };
        let write = async {
            let mut samples = Vec::new();
            while !is_over.get() {
                let load = Load {
                    address: self.address,
                    requests: Arc::clone(&self.requests),
                    connections: WRITERS,
                    threads: 1,
                    rate: Some(self.rate),
                    warm_up: Duration::ZERO,
                    measured: STRETCH,
                };
                let sample = load.run(self.keys).await?;
                super::refuse_refusals(&sample)?;
                samples.push(sample);
            }
            anyhow::Ok(samples)
        };
        let (found, samples) = tokio::join!(other, write);
        Ok((found, samples?))
    }
}

fn verified(watched: &watched::Watched, samples: &[Sample]) -> Verified {
    let requests: u64 = samples.iter().map(|sample| sample.requests).sum();
    let seconds: f64 = samples.iter().map(|sample| sample.seconds).sum();
    let slowest = samples.iter().map(|sample| sample.latencies.value_at_quantile(0.99)).max().unwrap_or_default();
    Verified {
        seconds: watched.seconds,
        memory_bytes: watched.memory_bytes,
        commands_a_second: requests as f64 / seconds.max(0.001),
        commands_p99_ms: slowest as f64 / 1e6,
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
