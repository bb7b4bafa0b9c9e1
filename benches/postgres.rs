//! How fast the engine is on the PostgreSQL store, on a throwaway server that waits for the disk: commands in, durable answers
//! out, with receipts, facts, snapshots and the hash chain; no HTTP, no read models.
//!
//! `cargo bench --bench postgres [-- WHAT …]`, with `hot`, `spread`, `bulk`, `one`, `nodes` or `replay`; all of them unless some are
//! named. `TALLYTREE_BENCH_SECONDS` sets how long each takes (3).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, dead_code)]

#[path = "../tests/suite/common/postgres.rs"]
mod postgres;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aggregates::command::{BulkItem, Command, CommandEnvelope, Idempotency, PriceBasis, ProvisionOrder};
use aggregates::event::Event;
use aggregates::platform::Policy;
use aggregates::primitives::{Actor, Amount, CommandId, CreditSource, ProvisionId, ResellerId, Role, UserId};
use hdrhistogram::Histogram;
use tallytree::clock::Clock;
use tallytree::engine::{self, Engine, EngineOptions, Outcome};
use tallytree::store::EventStore;
use tallytree::store::postgres::PostgresStore;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WALLETS: u128 = 1_000;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    if postgres::installed().is_none() {
        return;
    }
    let cluster = postgres::Cluster::start(postgres::Durability::Full);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let database = cluster.database();
        let engine = start(database.url()).await;
        prepare(&engine).await;
        let one = std::slice::from_ref(&engine);
        if wants("hot") {
            measure("one wallet, 32 clients", one, 32, |_| spend(1)).await;
        }
        if wants("spread") {
            measure("1 000 wallets, 32 clients", one, 32, |n| spend(1 + u128::from(n) % WALLETS)).await;
        }
        if wants("bulk") {
            measure("bulk of 1 000, 4 clients", one, 4, |n| bulk(1 + u128::from(n) % WALLETS)).await;
        }
        if wants("one") {
            measure("one wallet, 1 client", one, 1, |_| spend(1)).await;
        }
        if wants("nodes") {
            // As many clients in all, and as many at each.
            let nodes = [engine.clone(), start(database.url()).await, start(database.url()).await];
            for clients in [32, 64, 128] {
                for count in [1, 2, 3] {
                    let name = format!("{count} nodes, one wallet, {clients} clients");
                    measure(&name, &nodes[..count], clients, |_| spend(1)).await;
                }
            }
            measure("2 nodes, 1 000 wallets, 128 clients", &nodes[..2], 128, |n| spend(1 + u128::from(n) % WALLETS))
                .await;
            for node in &nodes[1..] {
                node.shutdown().await;
            }
        }
        if wants("replay") {
            replay(database.url()).await;
        }
        engine.shutdown().await;
    });
}

async fn start(url: &str) -> Engine {
    let store = PostgresStore::open(url.parse().unwrap()).await.unwrap();
    engine::start(store, Clock::System, Policy::default(), EngineOptions::default()).await.unwrap()
}

fn wallet(number: u128) -> ResellerId {
    ResellerId(Uuid::from_u128(number << 64))
}

fn envelope(command: Command) -> CommandEnvelope {
    let id = Uuid::now_v7();
    let mut fingerprint = [0; 32];
    fingerprint[..16].copy_from_slice(id.as_bytes());
    // Spread, as hashes are: the last bytes of an id are random.
    let mut key = *id.as_bytes();
    key.reverse();
    CommandEnvelope {
        command_id: CommandId(id),
        actor: Actor { id: UserId::new("ops").unwrap(), role: Role::SuperAdmin, tenant: None, declared_cost: false },
        idempotency: Some(Idempotency { key, fingerprint }),
        command,
    }
}

fn order() -> ProvisionOrder {
    let basis = PriceBasis::Cost(Amount::new(1).unwrap());
    let description = Some("Issue Pro License".parse().unwrap());
    ProvisionOrder { provision_id: ProvisionId(Uuid::now_v7()), basis, client: None, description, metadata: None }
}

fn spend(number: u128) -> Command {
    Command::Provision { wallet: wallet(number), order: Box::new(order()) }
}

fn bulk(number: u128) -> Command {
    let items = (0..1_000).map(|_| BulkItem { order: order(), idempotency: None }).collect();
    Command::ProvisionBulk { wallet: wallet(number), atomic: true, items }
}

async fn prepare(engine: &Engine) {
    let steps: [fn(u128) -> Command; 2] = [
        |number| Command::Register {
            reseller: wallet(number),
            refid: format!("RS-{number}").parse().unwrap(),
            user_id: format!("user-{number}").parse().unwrap(),
            company_name: format!("Company {number}").parse().unwrap(),
            parent: None,
            referral_code: None,
            tier: None,
            metadata: serde_json::Map::new(),
        },
        |number| Command::AddCredits {
            wallet: wallet(number),
            amount: Amount::new(1_000_000_000).unwrap(),
            source: CreditSource::Bonus,
            reference: None,
            note: None,
        },
    ];
    for step in steps {
        let replies = (1..=WALLETS).map(|number| engine.submit(envelope(step(number))));
        for reply in futures_util::future::join_all(replies).await {
            assert!(matches!(reply.unwrap().outcome, Outcome::Done { .. }));
        }
    }
}

async fn measure(name: &str, engines: &[Engine], clients: usize, command: fn(u64) -> Command) {
    let seconds = std::env::var("TALLYTREE_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let stop = Arc::new(AtomicBool::new(false));
    let number = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let engine = engines[client % engines.len()].clone();
            let (stop, number) = (Arc::clone(&stop), Arc::clone(&number));
            tokio::spawn(async move {
                let mut times = Histogram::<u64>::new(3).unwrap();
                let mut items = 0;
                while !stop.load(Ordering::Relaxed) {
                    let command = command(number.fetch_add(1, Ordering::Relaxed));
                    let weight = if let Command::ProvisionBulk { items, .. } = &command { items.len() } else { 1 };
                    let envelope = envelope(command);
                    let sent = Instant::now();
                    let reply = engine.submit(envelope).await.unwrap();
                    times.record(u64::try_from(sent.elapsed().as_micros()).unwrap()).unwrap();
                    assert!(matches!(reply.outcome, Outcome::Done { .. }), "{reply:?}");
                    items += weight;
                }
                (times, items)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut all, mut items) = (Histogram::<u64>::new(3).unwrap(), 0);
    for task in tasks {
        let (times, done) = task.await.unwrap();
        all.add(&times).unwrap();
        items += done;
    }
    let a_second = u128::try_from(items).unwrap() * 1_000 / begun.elapsed().as_millis();
    let [p50, p99, max] = [all.value_at_quantile(0.5), all.value_at_quantile(0.99), all.max()];
    println!("{name:40} {a_second:>8}/s   p50 {p50:>7} µs   p99 {p99:>7} µs   max {max:>7} µs");
}

/// Reads, decodes and folds the whole log.
async fn replay(url: &str) {
    let mut store = PostgresStore::open(url.parse().unwrap()).await.unwrap();
    let begun = Instant::now();
    let (mut position, mut decoded) = (0, 0_u64);
    let mut wallets = std::collections::HashMap::<String, aggregates::wallet::Wallet>::new();
    loop {
        let events = store.read(position, 10_000).await.unwrap();
        let Some(last) = events.last() else { break };
        position = last.position;
        for event in &events {
            let known = Event::decode(&event.aggregate_type, &event.event_type, &event.event_version, &event.payload);
            if let Event::Wallet(known) = known.unwrap() {
                wallets.entry(event.aggregate_id.clone()).or_default().fold(&known);
            }
            decoded += 1;
        }
    }
    let a_second = u128::from(decoded) * 1_000 / begun.elapsed().as_millis();
    println!("{:40} {a_second:>8}/s   {decoded} events", "replay: read, decode, fold");
}
