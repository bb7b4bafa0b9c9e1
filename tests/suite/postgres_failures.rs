//! PostgreSQL fails under load: connections are cut at COMMIT, sessions are ended, the server is killed, a standby takes over.
//!
//! The story is always the same. Clients add credits, each time another amount, so that an amount names its command. A client
//! that hears that nothing was done, or that it is not known, asks again with the same key until it is told. In the end every
//! amount is in the log exactly once, where and with the balance that its client was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aggregates::answer::Answer;
use aggregates::command::{Command, CommandEnvelope, Idempotency};
use aggregates::event::Event;
use aggregates::platform::Policy;
use aggregates::primitives::{Actor, Amount, CommandId, CreditSource, Credits, ResellerId, Role, UserId};
use aggregates::wallet::WalletEvent;
use tallytree::clock::Clock;
use tallytree::engine::{self, Engine, EngineError, EngineOptions, Outcome};
use tallytree::store::EventStore;
use tallytree::store::postgres::PostgresStore;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::common::log::{assert_unbroken, reseller};
use crate::common::postgres::{self, Cluster, Durability, execute};
use crate::common::proxy::{Cut, Proxy};

const CLIENTS: u64 = 8;
const ALICE: u128 = 1;

async fn open(url: &str) -> Engine {
    let store = PostgresStore::open(url.parse().unwrap()).await.unwrap();
    engine::start(store, Clock::System, Policy::default(), EngineOptions::default()).await.unwrap()
}

fn keyed(number: u64, command: Command) -> CommandEnvelope {
    let mut fingerprint = [0; 32];
    fingerprint[..8].copy_from_slice(&number.to_be_bytes());
    CommandEnvelope {
        command_id: CommandId(Uuid::now_v7()),
        actor: Actor { id: UserId::new("ops").unwrap(), role: Role::SuperAdmin, tenant: None, declared_cost: false },
        idempotency: Some(Idempotency { key: u128::from(number).to_be_bytes(), fingerprint }),
        command,
    }
}

fn add(amount: u64) -> Command {
    let amount = Amount::new(i64::try_from(amount).unwrap()).unwrap();
    Command::AddCredits { wallet: reseller(ALICE), amount, source: CreditSource::Bonus, reference: None, note: None }
}

async fn register(engine: &Engine, id: ResellerId) {
    let command = Command::Register {
        reseller: id,
        refid: "RS-1".parse().unwrap(),
        user_id: "alice".parse().unwrap(),
        company_name: "Alice Ltd".parse().unwrap(),
        parent: None,
        referral_code: None,
        tier: None,
        metadata: serde_json::Map::new(),
    };
    let reply = engine.submit(keyed(u64::MAX, command)).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Done { .. }), "{reply:?}");
}

/// What a client was told: amount → position and balance.
type Told = BTreeMap<u64, (u64, Credits)>;

/// Clients at work.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Told>>,
}

impl Load {
    /// Each client adds credits through one of the engines, until it is told to stop.
    fn on(engines: &[Engine]) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let next = Arc::new(AtomicU64::new(1));
        let clients = (0..CLIENTS).map(|client| {
            let engine = engines[usize::try_from(client).unwrap() % engines.len()].clone();
            let (stop, acknowledged, next) = (Arc::clone(&stop), Arc::clone(&acknowledged), Arc::clone(&next));
            tokio::spawn(async move {
                let mut told = Told::new();
                while !stop.load(Ordering::SeqCst) {
                    let amount = next.fetch_add(1, Ordering::SeqCst);
                    told.insert(amount, until_told(&engine, amount).await);
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                told
            })
        });
        Self { clients: clients.collect(), stop, acknowledged }
    }

    /// Waits until so many more commands have been acknowledged.
    async fn goes_on(&self, more: u64) {
        let target = self.acknowledged.load(Ordering::SeqCst) + more;
        let reached = async {
            while self.acknowledged.load(Ordering::SeqCst) < target {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the load goes on");
    }

    /// Stops; what was told.
    async fn end(self) -> Told {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Told::new();
        for client in self.clients {
            all.extend(client.await.unwrap());
        }
        all
    }
}

/// One command, asked for with the same key until there is an answer.
async fn until_told(engine: &Engine, amount: u64) -> (u64, Credits) {
    loop {
        match engine.submit(keyed(amount, add(amount))).await {
            Ok(reply) => match reply.outcome {
                Outcome::Done { answer: Answer::Credits(answer), .. } => {
                    return (reply.position, answer.balance.expect("a balance"));
                }
                other => panic!("{other:?}"),
            },
            Err(EngineError::TooBusy | EngineError::StoreUnavailable | EngineError::OutcomeUnknown) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(stopped) => panic!("{stopped}"),
        }
    }
}

/// Every amount is in the log once, where its client was told, and nothing else is.
async fn assert_true(url: &str, told: &Told) {
    let mut store = PostgresStore::open(url.parse().unwrap()).await.unwrap();
    let log = store.read(0, usize::MAX).await.unwrap();
    assert_unbroken(&log);
    let mut found = Told::new();
    let mut sum = 0;
    for event in &log {
        let decoded = Event::decode(&event.aggregate_type, &event.event_type, &event.event_version, &event.payload);
        if let Event::Wallet(WalletEvent::CreditsAdded { amount, balance, .. }) = decoded.unwrap() {
            sum += amount;
            assert_eq!(balance, sum, "at {}", event.position);
            let doubled = found.insert(u64::try_from(amount).unwrap(), (event.position, balance));
            assert_eq!(doubled, None, "{amount} is in the log twice");
        }
    }
    assert!(!told.is_empty());
    assert_eq!(&found, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_at_commit_lose_and_double_nothing() {
    let Some(database) = postgres::database() else { return };
    let proxy = Proxy::start(&database).await;
    let engine = open(proxy.url()).await;
    register(&engine, reseller(ALICE)).await;
    proxy.forget();
    let cuts = [Cut::AfterCommit, Cut::Nothing, Cut::BeforeCommit, Cut::BeforeCommit, Cut::AfterCommit, Cut::Nothing];
    proxy.cut(cuts.into_iter().cycle().take(60));
    let load = Load::on(std::slice::from_ref(&engine));
    while proxy.seen().cut < 40 {
        load.goes_on(1).await;
    }
    load.goes_on(20).await;
    let told = load.end().await;
    engine.shutdown().await;
    assert_true(database.url(), &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_ended_by_an_operator_lose_and_double_nothing() {
    let Some(database) = postgres::database() else { return };
    let engines = [open(database.url()).await, open(database.url()).await];
    register(&engines[0], reseller(ALICE)).await;
    let load = Load::on(&engines);
    let end = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}' and application_name = 'tallytree'",
        database.name()
    );
    let mut ended = 0;
    for round in 0..40 {
        ended += database.sql_as_superuser(&end).unwrap();
        tokio::time::sleep(Duration::from_millis(5 + round % 7 * 3)).await;
    }
    assert!(ended > 20, "only {ended} sessions were ended");
    load.goes_on(50).await;
    let told = load.end().await;
    for engine in engines {
        engine.shutdown().await;
    }
    assert_true(database.url(), &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_and_doubles_nothing() {
    if postgres::installed().is_none() {
        return;
    }
    let mut cluster = Cluster::start(Durability::Full);
    let database = cluster.database();
    let engines = [open(database.url()).await, open(database.url()).await];
    register(&engines[0], reseller(ALICE)).await;
    let load = Load::on(&engines);
    for _ in 0..3 {
        load.goes_on(100).await;
        cluster.kill();
        cluster.go();
    }
    load.goes_on(100).await;
    let told = load.end().await;
    for engine in engines {
        engine.shutdown().await;
    }
    assert_true(database.url(), &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_that_takes_over_has_everything_that_was_answered() {
    if postgres::installed().is_none() {
        return;
    }
    let primary = Cluster::start(Durability::Full);
    let database = primary.database();
    let standby = primary.synchronous_standby();
    // The standby is named first: it is passed over until it takes writes.
    let both = database.url().replacen(
        &format!("127.0.0.1:{}", primary.port()),
        &format!("127.0.0.1:{},127.0.0.1:{}", standby.port(), primary.port()),
        1,
    );
    let engine = open(&both).await;
    register(&engine, reseller(ALICE)).await;
    let load = Load::on(std::slice::from_ref(&engine));
    load.goes_on(200).await;
    primary.kill();
    standby.promote();
    load.goes_on(200).await;
    let told = load.end().await;
    engine.shutdown().await;
    assert_true(&both, &told).await;
    let promoted = format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", standby.port(), database.name());
    execute(&promoted, "select 1 from ledger.head").unwrap();
}
