//! `tallytree bench --against`: the service over HTTP beside what a user would otherwise pick, in the same run on the same
//! PostgreSQL database.
//!
//! The service: durable, with tokens, receipts, hash chain, snapshots and all read models, asked by the usual load generator over
//! 32 connections. The others, in this process: the same wallet on cqrs-es with postgres-es (plain, with snapshots, with a row
//! to read), and one prepared SQL statement ([`peers`]). How postgres-es is used best, and how many clients suit each of them,
//! is found out first. Then rounds: everybody in turn, for as long as everybody else. Ratios are taken within each round,
//! medians over the rounds reported.
//!
//! Where the time goes is told for the service's measurements: processor time of its server, of the load generator and of
//! PostgreSQL, commands that share a commit, and bytes of WAL.

#[allow(dead_code, missing_docs, unreachable_pub)] // the tests' own
#[allow(clippy::expect_used, clippy::panic)] // a server of our own that does not start ends the run
#[path = "../../../../tests/suite/common/postgres.rs"]
mod cluster;
mod contest;
mod evidence;
mod peers;
mod place;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use super::child::Server;
use super::evidence::CATCH_UP_PATIENCE;
use super::figures::{Figure, Verdict, median};
use super::load::{Connection, KeySource, Load, Request};
use super::machine::{self, Machine};
use super::plan::{BULK_CONNECTIONS, BULK_ITEMS};
use super::progress::Progress;
use super::report::{RELEASE_WARNING, table, target_table};
use super::setup::{self, Network};
use super::{Arguments, refuse_refusals};
use contest::Result as Contested;
use peers::{EventStoreUse, OnEventStore, Peer, PlainSql};
use place::Place;

/// How often postgres-es might write snapshots.
const SNAPSHOTS: [usize; 3] = [1, 10, 100];

/// What is measured, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Contender {
    Service(Scenario),
    /// postgres-es without snapshots, one wallet.
    Plain,
    /// … with snapshots.
    Snapshots,
    /// … with its view row, many wallets.
    ViewRow,
    /// One statement, one wallet.
    Sql,
    /// … many wallets.
    SqlSpread,
}

/// What the service is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scenario {
    Hot,
    Spread,
    Single,
    Bulk,
}

const CONTENDERS: [Contender; 9] = [
    Contender::Service(Scenario::Hot),
    Contender::Plain,
    Contender::Snapshots,
    Contender::Sql,
    Contender::Service(Scenario::Spread),
    Contender::ViewRow,
    Contender::SqlSpread,
    Contender::Service(Scenario::Single),
    Contender::Service(Scenario::Bulk),
];

/// How everybody does best.
struct Choices {
    plain_clients: usize,
    snapshots: (EventStoreUse, usize),
    view_row: (EventStoreUse, usize),
    sql_clients: usize,
    sql_spread_clients: usize,
}

/// Where the time of one measurement went, for each command.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Spending {
    /// Processor time of PostgreSQL's processes, in microseconds; 0 where it runs elsewhere.
    database_cpu_us: f64,
    commands_per_commit: f64,
    wal_bytes: f64,
}

/// One measurement in one round.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Measured {
    #[serde(flatten)]
    figure: Figure,
    conflicts: f64,
    spending: Spending,
}

/// A line of the report.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    each_round: Vec<Measured>,
    median: Measured,
}

/// Everything that a run found out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    database: String,
    rounds: usize,
    seconds: f64,
    lines: Vec<Line>,
    targets: Vec<Verdict>,
    receipts: u64,
    events: u64,
    replayed_per_second: f64,
}

/// A run.
struct Bench<'run> {
    args: &'run Arguments,
    place: &'run Place,
    progress: &'run Progress,
    keys: Arc<KeySource>,
    server: Server,
    network: Network,
    choices: Choices,
    measured: HashMap<Contender, Vec<Measured>>,
}

/// Measures everybody on the database that is named, or on a throwaway one.
///
/// # Errors
/// No database, or one that is not empty; a refusal; evidence that does not hold.
pub(super) async fn run(args: &Arguments, url: &str, directory: &Path) -> anyhow::Result<Report> {
    let place = Place::find(url).await?;
    let done = measure(args, &place, directory).await;
    // Whatever became of it, nothing is left behind.
    let tidied = place.tidy().await;
    let report = done?;
    tidied?;
    Ok(report)
}

async fn measure(args: &Arguments, place: &Place, directory: &Path) -> anyhow::Result<Report> {
    let machine = Machine::look(directory)?;
    let database = place.settings().await?;
    let progress = Progress::new(CONTENDERS.len() * usize::from(args.rounds));
    let wallets = usize::from(args.wallets);
    peers::make_tables(&place.pool(1)).await?;
    let choices = Choices::find(args, place, &progress).await?;
    let keys = Arc::new(KeySource::new(rand::random()));
    let arguments = ["serve", "--database", place.url(), "--listen", "127.0.0.1:0"];
    let server = Server::start("serve", &arguments, directory).await?;
    let network = setup::network(server.address, place.url(), directory, wallets, &keys, &progress).await?;
    let measured = HashMap::new();
    let mut bench = Bench { args, place, progress: &progress, keys, server, network, choices, measured };
    bench.catch_up().await?;
    for round in 1..=args.rounds {
        for contender in CONTENDERS {
            bench.measure(round, contender).await?;
        }
    }
    progress.say("verifying the hash chain, counting receipts, and replaying the log");
    let evidence = evidence::gather(place, bench.keys.taken()).await?;
    progress.end();
    let lines: Vec<Line> = CONTENDERS.iter().map(|contender| bench.line(*contender)).collect();
    let targets = bench.targets(evidence.replayed_per_second);
    let rounds = usize::from(args.rounds);
    bench.server.end().await;
    Ok(Report {
        machine,
        database,
        rounds,
        seconds: args.seconds,
        lines,
        targets,
        receipts: evidence.receipts,
        events: evidence.events,
        replayed_per_second: evidence.replayed_per_second,
    })
}

impl Choices {
    /// Tries out how postgres-es is used best, and how many clients suit everybody.
    async fn find(args: &Arguments, place: &Place, progress: &Progress) -> anyhow::Result<Self> {
        let each = Duration::from_secs_f64(args.seconds / 4.0).min(Duration::from_secs(1));
        let wallets = usize::from(args.wallets);
        let pool = place.pool(contest::CLIENTS.into_iter().max().unwrap_or(1));
        let uses = |with_view| {
            let with_snapshots = SNAPSHOTS.map(Some);
            with_snapshots
                .into_iter()
                .chain([None])
                .map(move |snapshot_every| EventStoreUse { snapshot_every, with_view })
        };
        let mut best: HashMap<bool, (EventStoreUse, usize, f64)> = HashMap::new();
        let mut plain_clients = 1;
        for how in uses(false).chain(uses(true)) {
            let many = if how.with_view { wallets } else { 1 };
            let peer = Arc::new(OnEventStore::make(&pool, how, many).await?);
            let (clients, rate) = contest::best_clients(&peer, many, each).await?;
            progress.say(&format!(
                "trying out postgres-es, {}, {many} wallets: {rate:.0}/s with {clients} clients",
                how.name()
            ));
            if !how.with_view && how.snapshot_every.is_none() {
                plain_clients = clients;
            } else if best.get(&how.with_view).is_none_or(|(.., most)| rate > *most) {
                best.insert(how.with_view, (how, clients, rate));
            }
        }
        let chosen =
            |with_view| best.get(&with_view).map(|(how, clients, _)| (*how, *clients)).context("nothing was tried");
        let mut sql_clients = [0; 2];
        for (clients, many) in sql_clients.iter_mut().zip([1, wallets]) {
            let peer = Arc::new(PlainSql::make(&pool, many).await?);
            let (best, rate) = contest::best_clients(&peer, many, each).await?;
            progress.say(&format!("trying out one SQL statement, {many} wallets: {rate:.0}/s with {best} clients"));
            *clients = best;
        }
        let [sql_clients, sql_spread_clients] = sql_clients;
        Ok(Self { plain_clients, snapshots: chosen(false)?, view_row: chosen(true)?, sql_clients, sql_spread_clients })
    }
}

impl Bench<'_> {
    async fn measure(&mut self, round: u16, contender: Contender) -> anyhow::Result<()> {
        let name = self.name(contender);
        self.progress.doing(&format!("round {round}: {name}"));
        let plain = EventStoreUse { snapshot_every: None, with_view: false };
        let wallets = usize::from(self.args.wallets);
        let Choices { plain_clients, snapshots, view_row, sql_clients, sql_spread_clients } = self.choices;
        let measured = match contender {
            Contender::Service(scenario) => self.watched(self.service(scenario)).await?,
            Contender::Plain => self.on_event_store(plain, plain_clients, 1).await?,
            Contender::Snapshots => self.on_event_store(snapshots.0, snapshots.1, 1).await?,
            Contender::ViewRow => self.on_event_store(view_row.0, view_row.1, wallets).await?,
            Contender::Sql => self.on_sql(sql_clients, 1).await?,
            Contender::SqlSpread => self.on_sql(sql_spread_clients, wallets).await?,
        };
        let figure = measured.figure;
        self.progress.step(&format!(
            "round {round}: {name}: {:.0} commands/s, p50 {:.2} ms, p99 {:.2} ms",
            figure.commands_per_second,
            figure.p50_us / 1e3,
            figure.p99_us / 1e3
        ));
        self.measured.entry(contender).or_default().push(measured);
        Ok(())
    }

    /// Watches what a stretch of load costs; what was set up for it is not counted.
    async fn watched(&self, load: impl Future<Output = anyhow::Result<Contested>>) -> anyhow::Result<Measured> {
        let processes = [self.server.process, std::process::id()];
        let seconds = || processes.map(|process| machine::processor_seconds(process).unwrap_or_default());
        let (before, own_before, database_before) = (self.place.done().await?, seconds(), place::server_seconds());
        let Contested { figure, conflicts } = load.await?;
        let (own_after, database_after) = (seconds(), place::server_seconds());
        // The database's counters come a moment late.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let (commits, wal_bytes) = self.place.done().await?.since(before);
        // Those of the warm-up too.
        let commands = figure.commands_per_second * (self.args.seconds + (self.args.seconds / 5.0).min(1.0));
        let of_each = |all: f64| if commands > 0.0 { all / commands } else { 0.0 };
        let [server_cpu_us, generator_cpu_us] = [0, 1].map(|place: usize| {
            of_each(own_after.get(place).zip(own_before.get(place)).map_or(0.0, |(after, before)| after - before) * 1e6)
        });
        let spending = Spending {
            database_cpu_us: of_each((database_after - database_before) * 1e6),
            commands_per_commit: if commits > 0.0 { commands / commits } else { 0.0 },
            wal_bytes: of_each(wal_bytes),
        };
        Ok(Measured { figure: Figure { server_cpu_us, generator_cpu_us, ..figure }, conflicts, spending })
    }

    async fn on_event_store(&self, how: EventStoreUse, clients: usize, wallets: usize) -> anyhow::Result<Measured> {
        // New wallets in each round: postgres-es would be slower with each event that they have.
        let peer = OnEventStore::make(&self.place.pool(clients), how, wallets).await?;
        self.contest(peer, clients, wallets).await
    }

    async fn on_sql(&self, clients: usize, wallets: usize) -> anyhow::Result<Measured> {
        self.contest(PlainSql::make(&self.place.pool(clients), wallets).await?, clients, wallets).await
    }

    async fn contest(&self, peer: impl Peer, clients: usize, wallets: usize) -> anyhow::Result<Measured> {
        let seconds = Duration::from_secs_f64(self.args.seconds);
        self.watched(contest::spend(&Arc::new(peer), clients, wallets, seconds)).await
    }

    fn connections(&self, scenario: Scenario) -> usize {
        match scenario {
            Scenario::Hot | Scenario::Spread => usize::from(self.args.connections),
            Scenario::Single => 1,
            Scenario::Bulk => BULK_CONNECTIONS,
        }
    }

    async fn service(&self, scenario: Scenario) -> anyhow::Result<Contested> {
        let Network { admin, hot_token, hot, wallets } = &self.network;
        let requests: Vec<Request> = match scenario {
            Scenario::Hot | Scenario::Single => vec![setup::provision(hot, hot_token)?],
            Scenario::Spread => {
                wallets.iter().map(|wallet| setup::provision(wallet, admin)).collect::<Result<_, _>>()?
            }
            Scenario::Bulk => vec![setup::bulk(hot, hot_token, BULK_ITEMS, false)?],
        };
        let measured = Duration::from_secs_f64(self.args.seconds);
        let load = Load {
            address: self.server.address,
            requests: Arc::new(requests),
            connections: self.connections(scenario),
            threads: usize::from(self.args.threads),
            rate: None,
            warm_up: (measured / 5).min(Duration::from_secs(1)),
            measured,
        };
        let sample = load.run(&self.keys).await?;
        refuse_refusals(&sample)?;
        let figure = Figure::of(&sample, if scenario == Scenario::Bulk { BULK_ITEMS } else { 1 });
        // Nobody who comes after pays for read models that are behind.
        let figure = Figure { catch_up_ms: self.catch_up().await?, ..figure };
        Ok(Contested { figure, conflicts: 0.0 })
    }

    /// Waits until the read models stand at the head; says how many milliseconds that took.
    async fn catch_up(&self) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let head = evidence::head_position(self.place).await?;
        let mut connection = Connection::open(self.server.address).await?;
        let query = Request::query(&format!("/wallets/{}", self.network.hot), &self.network.admin)?;
        loop {
            let answer = connection.ask(&query).await?;
            answer.json::<serde_json::Value>().context("asking how far the projections have come")?;
            let position = answer.header("tallytree-position").and_then(|position| position.parse::<u64>().ok());
            if position.context("a query's answer has no Tallytree-Position")? >= head {
                return Ok(begun.elapsed().as_secs_f64() * 1e3);
            }
            if begun.elapsed() > CATCH_UP_PATIENCE {
                bail!("the projections have not come to {head} after {CATCH_UP_PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn name(&self, contender: Contender) -> String {
        let many = self.args.wallets;
        let choices = &self.choices;
        match contender {
            Contender::Service(scenario) => {
                let what = match scenario {
                    Scenario::Hot | Scenario::Single => "one wallet".to_owned(),
                    Scenario::Spread => format!("{many} wallets"),
                    Scenario::Bulk => format!("bulk of {BULK_ITEMS}"),
                };
                format!("{what}: Tallytree over HTTP, {} conn", self.connections(scenario))
            }
            Contender::Plain => format!("one wallet: postgres-es, plain, {} clients", choices.plain_clients),
            Contender::Snapshots => {
                let (how, clients) = choices.snapshots;
                format!("one wallet: postgres-es, {}, {clients} clients", how.name())
            }
            Contender::ViewRow => {
                let (how, clients) = choices.view_row;
                format!("{many} wallets: postgres-es, {}, {clients} clients", how.name())
            }
            Contender::Sql => format!("one wallet: one SQL statement, {} clients", choices.sql_clients),
            Contender::SqlSpread => {
                format!("{many} wallets: one SQL statement, {} clients", choices.sql_spread_clients)
            }
        }
    }

    fn all(&self, contender: Contender) -> &[Measured] {
        self.measured.get(&contender).map(Vec::as_slice).unwrap_or_default()
    }

    fn median(&self, contender: Contender, part: fn(&Measured) -> f64) -> Option<f64> {
        median(self.all(contender).iter().map(part).collect())
    }

    /// The median over the rounds of the one's commands a second by the other's.
    fn ratio(&self, of: Contender, by: Contender) -> Option<f64> {
        let rates = |contender| self.all(contender).iter().map(|it| it.figure.commands_per_second);
        median(rates(of).zip(rates(by)).map(|(of, by)| of / by).collect())
    }

    fn line(&self, contender: Contender) -> Line {
        let of = |part: fn(&Measured) -> f64| self.median(contender, part).unwrap_or_default();
        let median = Measured {
            figure: Figure {
                requests_per_second: of(|it| it.figure.requests_per_second),
                commands_per_second: of(|it| it.figure.commands_per_second),
                p50_us: of(|it| it.figure.p50_us),
                p99_us: of(|it| it.figure.p99_us),
                max_us: of(|it| it.figure.max_us),
                server_cpu_us: of(|it| it.figure.server_cpu_us),
                generator_cpu_us: of(|it| it.figure.generator_cpu_us),
                catch_up_ms: of(|it| it.figure.catch_up_ms),
                ..Figure::default()
            },
            conflicts: of(|it| it.conflicts),
            spending: Spending {
                database_cpu_us: of(|it| it.spending.database_cpu_us),
                commands_per_commit: of(|it| it.spending.commands_per_commit),
                wal_bytes: of(|it| it.spending.wal_bytes),
            },
        };
        Line { name: self.name(contender), each_round: self.all(contender).to_vec(), median }
    }

    /// Every target, with what was reached.
    fn targets(&self, replayed_per_second: f64) -> Vec<Verdict> {
        let service = Contender::Service;
        let [hot, spread] = [Scenario::Hot, Scenario::Spread].map(service);
        let rate = |of: Contender| self.median(of, |it| it.figure.commands_per_second);
        let p99 = |of: Contender| self.median(of, |it| it.figure.p99_us / 1e3);
        let single = self.median(service(Scenario::Single), |it| it.figure.p50_us / 1e3);
        let (least, most) = (Verdict::at_least, Verdict::at_most);
        vec![
            least("one wallet / postgres-es with snapshots".to_owned(), self.ratio(hot, Contender::Snapshots), 20.0),
            least("one wallet / one SQL statement".to_owned(), self.ratio(hot, Contender::Sql), 3.0),
            least(
                "many wallets / postgres-es with its view row".to_owned(),
                self.ratio(spread, Contender::ViewRow),
                4.0,
            ),
            most("one wallet p99, ms".to_owned(), p99(hot), 15.0),
            most("many wallets p99, ms".to_owned(), p99(spread), 15.0),
            most("1 conn p50, ms".to_owned(), single, 1.2),
            least("bulk, commands/s".to_owned(), rate(service(Scenario::Bulk)), 30_000.0),
            least("replay, events/s".to_owned(), Some(replayed_per_second), 300_000.0),
        ]
    }
}

impl Report {
    /// As text for people.
    pub(super) fn text(&self) -> String {
        let machine = &self.machine;
        let mut parts = vec![format!(
            "{}\n{} cores ({}), shared by everybody; {:.0} µs to make 4 KiB durable; {} rounds of {} s",
            self.database,
            machine.cores,
            machine.processor.as_deref().unwrap_or("unknown processor"),
            machine.sync_us,
            self.rounds,
            self.seconds,
        )];
        if !machine.release_build {
            parts.push(RELEASE_WARNING.to_owned());
        }
        let header = [
            "",
            "commands/s",
            "p50 ms",
            "p99",
            "max",
            "lost to others",
            "cpu server",
            "cpu load",
            "cpu database",
            "commands/commit",
            "WAL bytes",
        ];
        let rows = self.lines.iter().map(|Line { name, median: Measured { figure, conflicts, spending }, .. }| {
            let milliseconds = |microseconds: f64| format!("{:.2}", microseconds / 1e3);
            let one = |number: f64| format!("{number:.1}");
            vec![
                name.clone(),
                format!("{:.0}", figure.commands_per_second),
                milliseconds(figure.p50_us),
                milliseconds(figure.p99_us),
                milliseconds(figure.max_us),
                format!("{conflicts:.2}"),
                one(figure.server_cpu_us),
                one(figure.generator_cpu_us),
                one(spending.database_cpu_us),
                one(spending.commands_per_commit),
                format!("{:.0}", spending.wal_bytes),
            ]
        });
        parts.push(table(&header, rows).to_string());
        parts.push(
            "Medians over the rounds. cpu: microseconds of processor time per command, of the service's process with its \
             projections, of the load generator's (in which the others work), and of PostgreSQL's processes, where they are on \
             this machine. commands/commit, WAL bytes: of everything that was committed meanwhile, read models \
             included."
                .to_owned(),
        );
        parts.push(target_table(&self.targets).to_string());
        parts.push(format!(
            "Full features were on: {} receipts, as many as keyed commands; {} events, hash chain verified to the head; replayed at \
             {:.0} events/s.",
            self.receipts, self.events, self.replayed_per_second
        ));
        parts.join("\n\n")
    }
}
