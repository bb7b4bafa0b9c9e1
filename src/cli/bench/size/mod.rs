//! `tallytree bench size`: what queries and read models cost in a large network, while commands are being written.
//!
//! The network is the demo's, filled by `tallytree demo` into a store of its own. Then, on one server after the other:
//! - every kind of query about the platform, large subtrees and small resellers ([`questions`]), at a fixed rate, while
//!   commands come at a fixed rate too; latencies count from when a request was due;
//! - the write rate with nothing but its answers to wait for, with the projections and without them in turns, and how far the
//!   read models are behind meanwhile ([`lag`]). The server without projections is started by an option of `serve` that is for
//!   this and nothing else;
//! - a rebuild of every read model.
//!
//! Before the queries stands one that takes no work, nor a token, a limit or a snapshot: what its answer costs is the machine's.
//!
//! Cost: for the defaults some ten minutes and 3 GB of disk.

mod lag;
pub(super) mod network;
mod questions;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::CommandFactory;

use super::child::{self, Server};
use super::evidence::{self, CATCH_UP_PATIENCE, Evidence};
use super::load::{KeySource, Load, Request, Sample};
use super::machine::Machine;
use super::positive;
use super::progress::Progress;
use crate::cli::CommandLine;
use lag::{Lag, Watch};
use network::Network;
use questions::{KINDS, Kind, Scope};
use report::{Cell, Report, WriteRates};

/// What `bench size` takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// How many resellers there are
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    resellers: u64,
    /// About how many events have led there
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    events: u64,
    /// How deep the network is, in levels
    #[arg(long, value_name = "N", default_value_t = 10)]
    levels: u32,
    /// Another seed, another network
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Measures on this store, which `tallytree demo --resellers N --events N --levels N --no-serve` has filled, and writes to
    /// it; a new one is filled if not given
    #[arg(long, value_name = "DIR", conflicts_with_all = ["resellers", "events", "levels", "seed"])]
    store: Option<PathBuf>,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    seconds: f64,
    /// How many rounds of the write rates with and without projections
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many commands a second are written while queries are measured
    #[arg(long, default_value_t = 2_000.0, value_parser = positive)]
    write_rate: f64,
    /// How many queries a second are asked meanwhile
    #[arg(long, default_value_t = 100.0, value_parser = positive)]
    query_rate: f64,
    /// How many wallets commands provision from
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    wallets: u32,
    /// Measures only this; may be given several times.
    #[arg(long, value_enum, value_name = "WHAT")]
    only: Vec<Measured>,
}

impl Arguments {
    fn wants(&self, what: Measured) -> bool {
        self.only.is_empty() || self.only.contains(&what)
    }

    /// Every kind of query that is wanted, about everybody.
    fn queries(&self) -> impl Iterator<Item = (Kind, Scope)> {
        let kinds = KINDS.into_iter().filter(|kind| self.wants(Measured::of(*kind)));
        kinds.flat_map(|kind| kind.scopes().iter().map(move |scope| (kind, *scope)))
    }

    /// How many rounds of the write rates are wanted.
    fn rounds(&self) -> u16 {
        if self.wants(Measured::Writes) { self.rounds } else { 0 }
    }
}

/// What can be asked for by `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Measured {
    /// `/healthz`, whose answer takes no work: for comparison.
    Healthz,
    /// The dashboard.
    Dashboard,
    /// Pages of the tree.
    Tree,
    /// Pages of the activity feed.
    Activity,
    /// Trends.
    Trends,
    /// The top resellers.
    TopResellers,
    /// The write rates with and without projections, and the lag.
    Writes,
    /// The rebuild.
    Rebuild,
}

impl Measured {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Healthz => Self::Healthz,
            Kind::Dashboard => Self::Dashboard,
            Kind::Tree => Self::Tree,
            Kind::Activity => Self::Activity,
            Kind::Trend => Self::Trends,
            Kind::TopResellers => Self::TopResellers,
        }
    }
}

/// How long after a server's start it is measured: it takes down what it keeps in memory first.
const SETTLED: Duration = Duration::from_secs(6);
/// How many connections write at once, and how many ask.
const WRITERS: usize = 32;
const READERS: usize = 8;

/// Fills a store, measures, and reports.
///
/// # Errors
/// A server that cannot be started or stops answering, a request that is refused, evidence that does not hold.
pub(super) async fn run(args: &Arguments, place: &Path) -> anyhow::Result<Report> {
    let machine = Machine::look(place)?;
    let store = match &args.store {
        Some(directory) => Store::at(place, directory.canonicalize().context("finding the store")?)?,
        None => Store::at(place, place.join("store"))?,
    };
    let filled = if args.store.is_none() { Some(store.fill(args).await?) } else { None };
    let receipts_before = evidence::receipts(&store.directory)?;
    let steps = args.queries().count() + 2 * usize::from(args.rounds()) + usize::from(args.wants(Measured::Rebuild));
    let mut bench = Bench {
        args,
        store,
        progress: Progress::new(steps),
        keys: Arc::new(KeySource::new(rand::random())),
        measured: Duration::from_secs_f64(args.seconds),
    };
    let (network, cells) = bench.queries().await?;
    let (write_rates, lag) = bench.writes(&network).await?;
    let evidence = bench.evidence(receipts_before).await?;
    let rebuild_rate = if args.wants(Measured::Rebuild) { bench.rebuild(evidence.events).await? } else { None };
    bench.progress.end();
    Ok(Report {
        machine,
        seconds: args.seconds,
        resellers: network.resellers,
        levels: network.levels,
        events: evidence.events,
        fill_seconds: filled.map(|it| it.as_secs_f64()),
        wallets: network.wallets,
        query_rate: args.query_rate,
        write_rate: args.write_rate,
        cells,
        write_rates,
        lag,
        rebuild_rate,
        evidence,
    })
}

/// The store that is measured.
#[derive(Debug)]
struct Store {
    place: PathBuf,
    directory: PathBuf,
    database: String,
}

impl Store {
    fn at(place: &Path, directory: PathBuf) -> anyhow::Result<Self> {
        let database = format!("sqlite:{}", directory.to_str().context("the directory's name is not UTF-8")?);
        Ok(Self { place: place.to_owned(), directory, database })
    }

    /// Lets the demo write its history; tells how long that took. Its progress is shown as it shows it.
    async fn fill(&self, args: &Arguments) -> anyhow::Result<Duration> {
        let numbers = [args.resellers, args.events, args.seed].map(|number| number.to_string());
        let [resellers, events, seed] = numbers.each_ref().map(String::as_str);
        let levels = args.levels.to_string();
        let arguments = [
            "demo",
            "--no-serve",
            "--database",
            &self.database,
            "--resellers",
            resellers,
            "--events",
            events,
            "--seed",
            seed,
            "--levels",
            &levels,
            "--log",
            "warn",
        ];
        let start = Instant::now();
        child::run(&arguments, &self.place).await.context("filling the store")?;
        Ok(start.elapsed())
    }

    async fn serve(&self, projections: bool) -> anyhow::Result<Server> {
        let mut arguments = vec!["serve", "--database", &self.database, "--listen", "127.0.0.1:0"];
        if !projections {
            arguments.extend(["--dev", "--without-projections"]);
        }
        Server::start("serve", &arguments, &self.place).await
    }

    /// Waits until the read models stand at the head.
    async fn caught_up(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        let head = evidence::head_position(&self.directory)?;
        let mut watch = Watch::open(&self.directory)?;
        while watch.look()?.folded < head {
            if start.elapsed() > CATCH_UP_PATIENCE {
                bail!("the read models have not come to position {head} after {CATCH_UP_PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// A run.
struct Bench<'run> {
    args: &'run Arguments,
    store: Store,
    progress: Progress,
    keys: Arc<KeySource>,
    measured: Duration,
}

impl Bench<'_> {
    /// Every kind of query about every scope, while commands are written.
    async fn queries(&mut self) -> anyhow::Result<(Network, Vec<Cell>)> {
        let server = self.store.serve(true).await?;
        self.progress.say("choosing who asks, and funding wallets");
        tokio::time::sleep(SETTLED).await;
        let (store, wallets) = (&self.store, self.args.wallets);
        let network =
            Network::explore(server.address, &store.database, &store.place, usize::try_from(wallets)?, &self.keys)
                .await?;
        let mut cells = Vec::new();
        for (kind, scope) in self.args.queries() {
            self.store.caught_up().await?;
            let cell = self.cell(&server, &network, kind, scope).await?;
            self.progress.step(&format!(
                "{}: p50 {:.2} ms, p99 {:.2} ms, at {:.0} commands/s",
                cell.name(),
                cell.p50_ms,
                cell.p99_ms,
                cell.commands_per_second
            ));
            cells.push(cell);
        }
        server.end().await;
        Ok((network, cells))
    }

    async fn cell(&self, server: &Server, network: &Network, kind: Kind, scope: Scope) -> anyhow::Result<Cell> {
        self.progress.doing(&questions::name(kind, scope));
        let questions = questions::about(network, server.address, kind, scope).await?;
        let asking = self.load(server, Arc::new(questions), READERS, Some(self.args.query_rate));
        let writing = self.load(server, Arc::clone(&network.provisions), WRITERS, Some(self.args.write_rate));
        let (asked, written) = tokio::try_join!(asking.run(&self.keys), writing.run(&self.keys))?;
        granted(&asked)?;
        granted(&written)?;
        Ok(Cell::of(kind, scope, &asked, &written))
    }

    /// The write rates with and without projections in turns, and the lag with them.
    async fn writes(&mut self, network: &Network) -> anyhow::Result<(WriteRates, Lag)> {
        let mut rates = WriteRates::default();
        let mut lag = Lag::new()?;
        for round in 1..=self.args.rounds() {
            for projections in [false, true] {
                self.progress.doing(&format!("round {round}: writing {} projections", with(projections)));
                let server = self.store.serve(projections).await?;
                if projections {
                    self.store.caught_up().await?;
                }
                tokio::time::sleep(SETTLED).await;
                let load = self.load(&server, Arc::clone(&network.provisions), WRITERS, None);
                let watching = if projections { Some(lag::watch(&self.store.directory)?) } else { None };
                let sample = load.run(&self.keys).await?;
                granted(&sample)?;
                if let Some(watching) = watching {
                    lag.add(&watching.end().await?)?;
                }
                server.end().await;
                let rates = if projections { &mut rates.with } else { &mut rates.without };
                rates.push(sample.rate());
                self.progress.step(&format!(
                    "round {round}: {:.0} commands/s {} projections",
                    sample.rate(),
                    with(projections)
                ));
            }
        }
        Ok((rates, lag))
    }

    fn load(&self, server: &Server, requests: Arc<Vec<Request>>, connections: usize, rate: Option<f64>) -> Load {
        let warm_up = (self.measured / 5).min(Duration::from_secs(1));
        Load { address: server.address, requests, connections, threads: 1, rate, warm_up, measured: self.measured }
    }

    async fn evidence(&self, receipts_before: u64) -> anyhow::Result<Evidence> {
        self.progress.say("verifying the hash chain and counting receipts");
        let (store, keyed) = (self.store.directory.clone(), self.keys.taken());
        tokio::task::spawn_blocking(move || Evidence::gather(&store, keyed, receipts_before)).await?
    }

    /// Events per second of `tallytree rebuild`, from its start to its end; `None` where this version has no such command.
    async fn rebuild(&self, events: u64) -> anyhow::Result<Option<f64>> {
        if CommandLine::command().find_subcommand("rebuild").is_none() {
            self.progress.step("rebuild: this version has no such command");
            return Ok(None);
        }
        self.progress.doing("rebuilding every read model");
        let start = Instant::now();
        child::output_of(&["rebuild", "--database", &self.store.database], &self.store.place).await?;
        let rate = events as f64 / start.elapsed().as_secs_f64();
        self.progress.step(&format!("rebuild: {rate:.0} events/s"));
        Ok(Some(rate))
    }
}

fn with(projections: bool) -> &'static str {
    if projections { "with all" } else { "without" }
}

/// A refusal is an error, because nothing here gives a reason for one.
fn granted(sample: &Sample) -> anyhow::Result<()> {
    super::refuse_refusals(sample)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn only_what_is_asked_for_is_measured_and_everything_where_nothing_is() {
        let parse = |line: &str| Line::try_parse_from(line.split(' ')).unwrap().arguments;
        let all = parse("size --rounds 2");
        assert_eq!((all.queries().count(), all.rounds()), (16, 2));
        assert!(all.wants(Measured::Rebuild));
        let some = parse("size --rounds 2 --only dashboard --only healthz");
        let kinds: Vec<Kind> = some.queries().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [Kind::Healthz, Kind::Dashboard, Kind::Dashboard, Kind::Dashboard]);
        assert_eq!(some.rounds(), 0);
        assert!(!some.wants(Measured::Rebuild));
        assert_eq!(parse("size --rounds 2 --only writes").rounds(), 2);
    }
}
