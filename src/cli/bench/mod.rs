//! `tallytree bench`: what the ledger costs, measured over HTTP against a server that does nothing, in the same run.
//!
//! Starts its own server on a store of its own and, beside it, the ceiling ([`ceiling`]), both as processes of this program;
//! drives them in turns from here ([`load`]), on the same cores. Commands come with idempotency keys and tokens; answers are
//! durable; projections run along. Before each measurement the projections catch up, so that nothing measured pays for, or
//! is spared, what came before. Afterwards [`evidence`] shows from the ledger itself that nothing was switched off.
//!
//! The hot wallet is provisioned from by its own reseller's token, the many wallets by one `super_admin`'s token with the
//! wallet in the path; both name the same SKU, so the domain's work per command is the same.

mod against;
pub(super) mod ceiling;
mod child;
mod evidence;
mod figures;
mod finance;
mod load;
mod machine;
mod plan;
mod progress;
mod report;
mod setup;
mod size;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use super::Common;
use child::Server;
use evidence::{CATCH_UP_PATIENCE, Evidence};
use figures::{Figure, Figures};
use load::{Connection, KeySource, Load, Request, Sample};
use machine::Machine;
use plan::{BULK_ITEMS, Measurement, Workload};
use progress::Progress;
use report::{Line, Report};
use setup::Network;

use plan::Scenario;

/// What `bench` takes.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 3.0, value_parser = positive)]
    seconds: f64,
    /// How many rounds; medians over them are reported.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many connections ask at once where the scenario does not say.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// How many wallets `spread` provisions from.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    wallets: u16,
    /// The open loop's rate, as a part of what one wallet reached in the same round.
    #[arg(long, default_value_t = 0.7, value_parser = positive)]
    open_rate: f64,
    /// Gives every item of a bulk an idempotency key of its own.
    #[arg(long)]
    item_keys: bool,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Measures on PostgreSQL instead, beside cqrs-es with postgres-es and beside plain SQL on the same database: an empty one
    /// that is named, or a throwaway server of the installed programs.
    #[arg(long, value_name = "postgres://…", num_args = 0..=1, default_missing_value = "", conflicts_with = "only")]
    against: Option<String>,
    /// Measures only this; may be given several times.
    #[arg(long, value_enum, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    #[command(flatten)]
    common: OfBoth,
}

/// What both ways to measure take.
#[derive(Debug, Clone, clap::Args)]
struct OfBoth {
    /// Where to make the store, in a new directory; the system's temporary directory if not given.
    #[arg(long, value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    /// Keeps the store and the servers' logs.
    #[arg(long, global = true)]
    keep: bool,
    /// Prints the figures as JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// What else can be measured.
#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Queries and read models in a large network, while commands are written
    Size(size::Arguments),
    /// Exports, looks at the past, and verify while commands are written: speed and memory
    Finance(finance::Arguments),
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if number > 0.0 && number.is_finite() { Ok(number) } else { Err("must be above 0".to_owned()) }
}

/// Measures and reports. Whatever ends it, the servers are ended and, unless told otherwise, the store is removed.
///
/// # Errors
/// A server that cannot be started or stops answering, a command that is refused, evidence that does not hold, an interrupt.
/// A missed target is not an error.
pub(crate) fn run(_common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(measure_and_report(arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn measure_and_report(args: Arguments) -> anyhow::Result<()> {
    let place = Place::make(args.common.directory.as_deref(), args.common.keep)?;
    let json = args.common.json;
    let measured = async {
        let (text, figures) = match &args.what {
            None => match &args.against {
                Some(url) => {
                    let report = against::run(&args, url, &place.path).await?;
                    (report.text(), serde_json::to_value(&report)?)
                }
                None => {
                    let report = Bench::run(&args, &place.path).await?;
                    (report.text(), serde_json::to_value(&report)?)
                }
            },
            Some(What::Size(args)) => {
                let report = size::run(args, &place.path).await?;
                (report.text(), report.json())
            }
            Some(What::Finance(args)) => {
                let report = finance::run(args, &place.path).await?;
                (report.text(), serde_json::to_value(&report)?)
            }
        };
        anyhow::Ok(if json { serde_json::to_string_pretty(&figures)? } else { text })
    };
    let text = tokio::select! {
        text = measured => text?,
        () = interrupted() => bail!("interrupted"),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without a handler an interrupt ends the process by itself.
    let _ = tokio::signal::ctrl_c().await;
}

/// The run's own directory.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    keep: bool,
}

impl Place {
    fn make(parent: Option<&Path>, keep: bool) -> anyhow::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let path = parent.join(format!("tallytree-bench-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path: path.canonicalize()?, keep })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("the store and the logs are kept in {}", self.path.display());
            return;
        }
        // A server that has just been killed may still be making a file.
        for _ in 0..50 {
            match std::fs::remove_dir_all(&self.path) {
                Ok(()) => return,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        eprintln!("could not remove {}", self.path.display());
    }
}

/// A run.
struct Bench<'run> {
    args: &'run Arguments,
    progress: Progress,
    keys: Arc<KeySource>,
    ceiling: Server,
    /// `None` where only the ceiling is measured.
    ledger: Option<Ledger>,
    figures: Figures,
    /// Keys of requests to the ceiling, which keeps no receipts.
    ceiling_keys: Arc<KeySource>,
}

/// The server under test, with its store and what is in it.
struct Ledger {
    server: Server,
    store: PathBuf,
    network: Network,
}

impl Bench<'_> {
    async fn run(args: &Arguments, place: &Path) -> anyhow::Result<Report> {
        let connections = usize::from(args.connections);
        let plan = plan::round(&args.only, connections);
        let machine = Machine::look(place)?;
        let progress = Progress::new(plan.len() * usize::from(args.rounds));
        let keys = Arc::new(KeySource::new(rand::random()));
        let ceiling = Server::start("ceiling", &["bench-ceiling"], place).await?;
        let ledger = if plan.iter().any(|measurement| measurement.workload != Workload::Ceiling) {
            Some(Ledger::start(args, place, &keys, &progress).await?)
        } else {
            None
        };
        let ceiling_keys = Arc::new(KeySource::new(rand::random()));
        let mut bench = Bench { args, progress, keys, ceiling, ledger, figures: Figures::default(), ceiling_keys };
        for round in 1..=args.rounds {
            for measurement in &plan {
                bench.measure(round, *measurement).await?;
            }
        }
        let evidence = match &bench.ledger {
            Some(ledger) => Some(bench.evidence(ledger).await?),
            None => None,
        };
        bench.progress.end();
        let wallets = usize::from(args.wallets);
        let report = Report {
            machine,
            rounds: usize::from(args.rounds),
            seconds: args.seconds,
            measurements: Line::all(&plan, &bench.figures, connections, wallets),
            targets: figures::verdicts(&bench.figures, connections, wallets),
            evidence,
        };
        bench.ceiling.end().await;
        if let Some(ledger) = bench.ledger {
            ledger.server.end().await;
        }
        Ok(report)
    }

    async fn measure(&mut self, round: u16, measurement: Measurement) -> anyhow::Result<()> {
        let name = measurement.name(usize::from(self.args.wallets));
        self.progress.doing(&format!("round {round}: {name}"));
        let load = self.load(measurement)?;
        let figure = match &self.ledger {
            Some(ledger) if measurement.workload != Workload::Ceiling => {
                let mut figure = sampled(load, &self.keys, ledger.server.process, measurement).await?;
                ledger.catch_up(&mut figure).await?;
                figure
            }
            _ => sampled(load, &self.ceiling_keys, self.ceiling.process, measurement).await?,
        };
        self.progress.step(&format!(
            "round {round}: {name}: {:.0} commands/s, p50 {:.2} ms, p99 {:.2} ms",
            figure.commands_per_second,
            figure.p50_us / 1e3,
            figure.p99_us / 1e3
        ));
        self.figures.add(measurement, figure);
        Ok(())
    }

    fn load(&self, measurement: Measurement) -> anyhow::Result<Load> {
        let network = || self.ledger.as_ref().map(|ledger| &ledger.network).context("the ledger is not running");
        let requests = match measurement.workload {
            // The same bytes as the real thing, as long as a token.
            Workload::Ceiling => vec![setup::provision(&uuid::Uuid::nil().to_string(), &"t".repeat(80))?],
            Workload::Hot => network().and_then(|it| Ok(vec![setup::provision(&it.hot, &it.hot_token)?]))?,
            Workload::Spread => {
                let network = network()?;
                let provisions = network.wallets.iter().map(|wallet| setup::provision(wallet, &network.admin));
                provisions.collect::<Result<_, _>>()?
            }
            Workload::Bulk => {
                let network = network()?;
                vec![setup::bulk(&network.hot, &network.hot_token, BULK_ITEMS, self.args.item_keys)?]
            }
        };
        let closed = Measurement { open_loop: false, ..measurement };
        let rate = measurement
            .open_loop
            .then(|| self.figures.last(closed).map(|figure| figure.requests_per_second * self.args.open_rate))
            .map(|rate| rate.ok_or_else(|| anyhow!("an open loop needs the closed one before it")))
            .transpose()?;
        let address = match (&self.ledger, measurement.workload) {
            (Some(ledger), workload) if workload != Workload::Ceiling => ledger.server.address,
            _ => self.ceiling.address,
        };
        let measured = Duration::from_secs_f64(self.args.seconds);
        let threads = usize::from(self.args.threads);
        let warm_up = (measured / 5).min(Duration::from_secs(1));
        let (requests, connections) = (Arc::new(requests), measurement.connections);
        Ok(Load { address, requests, connections, threads, rate, warm_up, measured })
    }

    async fn evidence(&self, ledger: &Ledger) -> anyhow::Result<Evidence> {
        self.progress.say("verifying the hash chain and counting receipts");
        let (store, keyed) = (ledger.store.clone(), self.keys.taken());
        tokio::task::spawn_blocking(move || Evidence::gather(&store, keyed, 0)).await?
    }
}

/// Puts a load on; a refusal is an error, because nothing here gives a reason for one.
async fn sampled(load: Load, keys: &Arc<KeySource>, server: u32, measurement: Measurement) -> anyhow::Result<Figure> {
    let own = std::process::id();
    let before = (machine::processor_seconds(server), machine::processor_seconds(own));
    let sample = load.run(keys).await?;
    let after = (machine::processor_seconds(server), machine::processor_seconds(own));
    refuse_refusals(&sample)?;
    let per_request = |before: Option<f64>, after: Option<f64>| {
        after.zip(before).map_or(0.0, |(after, before)| (after - before) * 1e6 / sample.sent.max(1) as f64)
    };
    Ok(Figure {
        server_cpu_us: per_request(before.0, after.0),
        generator_cpu_us: per_request(before.1, after.1),
        ..Figure::of(&sample, measurement.commands_per_request())
    })
}

fn refuse_refusals(sample: &Sample) -> anyhow::Result<()> {
    match &sample.first_refusal {
        None => Ok(()),
        Some(first) => bail!("{} of {} requests were refused; the first: {first}", sample.refused, sample.sent),
    }
}

impl Ledger {
    async fn start(args: &Arguments, place: &Path, keys: &Arc<KeySource>, progress: &Progress) -> anyhow::Result<Self> {
        let store = place.join("store");
        let database = format!("sqlite:{}", store.to_str().context("the directory's name is not UTF-8")?);
        let arguments = ["serve", "--database", &database, "--listen", "127.0.0.1:0"];
        let server = Server::start("serve", &arguments, place).await?;
        let wallets = usize::from(args.wallets);
        let network = setup::network(server.address, &database, place, wallets, keys, progress).await?;
        let ledger = Self { server, store, network };
        ledger.catch_up(&mut Figure::default()).await?;
        Ok(ledger)
    }

    /// Waits until the projections stand at the head, and notes how far behind they were and how long it took.
    async fn catch_up(&self, figure: &mut Figure) -> anyhow::Result<()> {
        let start = Instant::now();
        let head = evidence::head_position(&self.store)?;
        let mut connection = Connection::open(self.server.address).await?;
        let query = Request::query(&format!("/wallets/{}", self.network.hot), &self.network.admin)?;
        let mut first = None;
        loop {
            let answer = connection.ask(&query).await?;
            answer.json::<serde_json::Value>().context("asking how far the projections have come")?;
            let position = answer.header("tallytree-position").and_then(|position| position.parse::<u64>().ok());
            let position = position.context("a query's answer has no Tallytree-Position")?;
            let first = *first.get_or_insert(position);
            if position >= head {
                figure.behind_events = head.saturating_sub(first) as f64;
                figure.catch_up_ms = start.elapsed().as_secs_f64() * 1e3;
                return Ok(());
            }
            if start.elapsed() > CATCH_UP_PATIENCE {
                bail!("the projections are at position {position} of {head} after {CATCH_UP_PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
