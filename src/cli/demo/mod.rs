//! `tallytree demo`: fills an empty store with a plausible network and months of history, and serves it.
//!
//! What happens is planned (`plan`), sent to the engine as real commands by a clock that walks through the past months
//! (`write`), and shown with tokens and requests to try (`show`). A store that a demo has filled before is simply served again;
//! any other history is left alone.

mod plan;
mod show;
mod write;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use aggregates::platform::Policy;
use aggregates::reseller::DEPTH_MAX;
use clap::Args;

use super::{Common, serve};
use crate::clock::Clock;
use crate::config::{Config, Database, Flags, address_of};
use crate::engine::{self, EngineOptions};
use crate::projector::{self, Projector};
use crate::store::{EventStore, Store};
use plan::{OPERATOR, Plan, Size};
use show::Cast;

/// The most resellers of a demo.
const RESELLERS_MAX: u64 = 100_000;
/// The most events of a demo.
const EVENTS_MAX: u64 = 10_000_000;

/// How long the read models may stand still before they are no longer waited for.
const FOLDING_PAUSE_MAX: Duration = Duration::from_secs(10);

/// What `demo` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many resellers there are in the end
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=RESELLERS_MAX))]
    resellers: u64,
    /// About how many events lead there
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=EVENTS_MAX))]
    events: u64,
    /// How deep the network becomes, in levels
    #[arg(long, value_name = "N", hide = true, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=i64::from(DEPTH_MAX)))]
    levels: u32,
    /// Another seed, another history; the same one, the same figures
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Fills the store, says what is there, and ends
    #[arg(long)]
    no_serve: bool,
    /// The address to serve on; port 0 takes a free one [default: 127.0.0.1:7373]
    #[arg(long, value_name = "HOST:PORT", value_parser = address_of)]
    listen: Option<SocketAddr>,
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags { listen: arguments.listen, ..Flags::default() })?;
    super::runtime()?.block_on(demo(&config, &arguments))
}

async fn demo(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let database = &config.database;
    // Taken first: nobody wants to wait for a history and then learn that the address is in use.
    let listener = if arguments.no_serve { None } else { Some(serve::listen(config).await?) };

    let mut store = database.open().await?;
    let found = Found::look(&mut store, database).await?;
    if found == Found::Nothing {
        let size = Size {
            resellers: usize::try_from(arguments.resellers)?,
            events: arguments.events,
            levels: arguments.levels,
        };
        let policy = demo_policy(&config.policy);
        let plan = Plan::new(size, arguments.seed, policy.clone(), Clock::System.now());
        let written = fill(store, database, plan, policy, size.events).await?;
        println!("{written}");
        if written.interrupted {
            println!(
                "Stopped. What is there is a valid ledger: serve it with `tallytree demo --database {database}`, or remove it \
                 and begin anew."
            );
            return Ok(ExitCode::from(130));
        }
    } else {
        println!("A demo has filled {database} before: here it is again.");
        drop(store);
    }

    let cast = Cast::of(database).await?;
    match listener {
        Some(listener) => {
            let announced = |address| {
                cast.show(address)?;
                println!("Ctrl-C ends it; what you did stays.");
                Ok(())
            };
            serve::serve_on(listener, config, announced).await?;
        }
        None => {
            cast.show(config.listen)?;
            println!("Serve it with `tallytree serve --database {database}`.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The configured policy, with what the plan counts on: wallets that open by themselves, approvals that are given.
fn demo_policy(configured: &Policy) -> Policy {
    Policy { auto_open_wallet: true, auto_approve: false, ..configured.clone() }
}

/// Writes the planned history while the read models fold it, and lets go of the store.
async fn fill(
    store: Store,
    database: &Database,
    mut plan: Plan,
    policy: Policy,
    events: u64,
) -> anyhow::Result<write::Written> {
    let clock = write::Hand::at(plan.begins_at());
    let engine = engine::start(store, clock.clock(), policy, EngineOptions::default()).await?;
    let projector = projector::start(database, engine.committed()).await?;
    let written = write::write(&engine, &clock, &mut plan, events).await;
    if let Ok(written) = &written {
        folded(&projector, written.position).await;
    }
    engine.shutdown().await;
    projector.shutdown().await;
    written
}

/// Waits until the read models have come so far, for as long as they move at all: whoever serves them afterwards goes on.
async fn folded(projector: &Projector, position: u64) {
    let mut come = projector.position();
    while *come.borrow_and_update() < position {
        if !matches!(tokio::time::timeout(FOLDING_PAUSE_MAX, come.changed()).await, Ok(Ok(()))) {
            tracing::warn!("the read models lag behind; they catch up while the demo is served");
            return;
        }
    }
}

/// What stands in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Demo,
}

impl Found {
    /// Refuses a history that is not a demo's.
    async fn look(store: &mut Store, database: &Database) -> anyhow::Result<Self> {
        let first = store.read(0, 2).await?;
        let elsewhere = match database {
            Database::Sqlite(_) => "take an empty directory instead, such as --database sqlite:./tallytree-demo",
            Database::Postgres(_) => "take an empty database instead",
        };
        match first.as_slice() {
            [] => Ok(Self::Nothing),
            [_, second] if second.actor == OPERATOR => Ok(Self::Demo),
            [only] if only.event_type == "PolicySet" => anyhow::bail!(
                "the store in {database} has been started before, and a demo's months cannot come before that: {elsewhere}"
            ),
            _ => anyhow::bail!(
                "the store in {database} holds a history that no demo wrote, and is left alone: {elsewhere}"
            ),
        }
    }
}
