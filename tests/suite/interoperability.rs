//! cqrs-es and postgres-es on our tables, unchanged: they load what we wrote and agree with us, and cannot write.

use std::collections::HashMap;
use std::fmt::Debug;

use aggregates::command::{Command, CommandEnvelope, PriceBasis, ProvisionOrder};
use aggregates::event::AggregateKey;
use aggregates::ledger::{Key, Loaded};
use aggregates::platform::Policy;
use aggregates::primitives::{
    Actor, Amount, CommandId, CreditSource, Level, ProvisionId, ResellerId, Role, Tier, UserId,
};
use aggregates::reseller::{Reseller, ResellerEvent};
use aggregates::wallet::{Wallet, WalletEvent};
use cqrs_es::persist::{PersistedEventRepository, PersistedEventStore};
use cqrs_es::{Aggregate, EventStore as _};
use postgres_es::PostgresEventRepository;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgPool;
use tallytree::clock::Clock;
use tallytree::engine::{self, Engine, EngineOptions, Outcome};
use tallytree::store::EventStore;
use tallytree::store::postgres::PostgresStore;
use uuid::Uuid;

use crate::common::log::reseller;
use crate::common::postgres;

async fn must(engine: &Engine, command: Command) {
    let envelope = CommandEnvelope {
        command_id: CommandId(Uuid::now_v7()),
        actor: Actor { id: UserId::new("ops").unwrap(), role: Role::SuperAdmin, tenant: None, declared_cost: false },
        idempotency: None,
        command,
    };
    let reply = engine.submit(envelope).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Done { .. }), "{reply:?}");
}

/// A small history: a line of two, credits, provisions with commission, another tier.
async fn live(engine: &Engine, [upline, seller]: [ResellerId; 2]) {
    for (id, parent) in [(upline, None), (seller, Some(upline))] {
        let number = id.0.as_u128();
        let register = Command::Register {
            reseller: id,
            refid: format!("RS-{number}").parse().unwrap(),
            user_id: format!("user-{number}").parse().unwrap(),
            company_name: format!("Société {number} \"& Söhne\"").parse().unwrap(),
            parent,
            referral_code: None,
            tier: None,
            metadata: serde_json::from_str(r#"{"nested":{"number":1.5,"text":"🌳"}}"#).unwrap(),
        };
        must(engine, register).await;
        let amount = Amount::new(10_000).unwrap();
        let note = Some("first".parse().unwrap());
        must(engine, Command::AddCredits { wallet: id, amount, source: CreditSource::Bonus, reference: None, note })
            .await;
    }
    must(engine, Command::ChangeTier { reseller: upline, tier: Tier::Platinum, reason: None }).await;
    for cost in [100, 250, 999] {
        let order = ProvisionOrder {
            provision_id: ProvisionId(Uuid::now_v7()),
            basis: PriceBasis::BaseCost(Level::new(cost).unwrap()),
            client: None,
            description: Some("a licence".parse().unwrap()),
            metadata: None,
        };
        must(engine, Command::Provision { wallet: seller, order: Box::new(order) }).await;
    }
}

/// What they make of an aggregate, from its events and from its snapshot.
async fn theirs<A: Aggregate + Send + Sync + Debug>(pool: &PgPool, id: &str) -> [(A, usize); 2] {
    let repository = || PostgresEventRepository::new(pool.clone()).with_tables("ledger.events", "ledger.snapshots");
    let events = PersistedEventStore::<_, A>::new_event_store(repository()).load_aggregate(id).await.unwrap();
    let snapshots = PersistedEventStore::<_, A>::new_snapshot_store(repository(), 10);
    let snapshot = repository().get_snapshot::<A>(id).await.unwrap().expect("a snapshot");
    assert_eq!(snapshot.current_sequence, events.current_sequence, "the snapshot is the last one");
    let snapshot = snapshots.load_aggregate(id).await.unwrap();
    [(events.aggregate, events.current_sequence), (snapshot.aggregate, snapshot.current_sequence)]
}

/// What we make of it.
async fn ours<A: DeserializeOwned>(store: &mut PostgresStore, key: AggregateKey) -> (A, usize) {
    let loaded = store.load(&[Key::Aggregate(key)]).await.unwrap();
    let [(_, Loaded::Aggregate(Some((text, sequence))))] = loaded.as_slice() else { panic!("{loaded:?}") };
    (serde_json::from_str(text).unwrap(), usize::try_from(*sequence).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_es_loads_our_wallets_and_resellers_and_agrees_with_us() {
    let Some(database) = postgres::database() else { return };
    let store = PostgresStore::open(database.url().parse().unwrap()).await.unwrap();
    let engine = engine::start(store, Clock::System, Policy::default(), EngineOptions::default()).await.unwrap();
    let line = [reseller(1), reseller(2)];
    live(&engine, line).await;
    engine.shutdown().await;

    let pool = PgPool::connect(database.url()).await.unwrap();
    let mut store = PostgresStore::open(database.url().parse().unwrap()).await.unwrap();
    for id in line {
        let wallet = ours::<Wallet>(&mut store, AggregateKey::Wallet(id)).await;
        assert!(wallet.1 >= 4, "too little has happened: {wallet:?}");
        assert_eq!(theirs::<Wallet>(&pool, &id.to_string()).await, [wallet.clone(), wallet]);
        let reseller = ours::<Reseller>(&mut store, AggregateKey::Reseller(id)).await;
        assert_eq!(theirs::<Reseller>(&pool, &id.to_string()).await, [reseller.clone(), reseller]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_es_cannot_write_to_our_log() {
    let Some(database) = postgres::database() else { return };
    let store = PostgresStore::open(database.url().parse().unwrap()).await.unwrap();
    let engine = engine::start(store, Clock::System, Policy::default(), EngineOptions::default()).await.unwrap();
    live(&engine, [reseller(1), reseller(2)]).await;
    engine.shutdown().await;
    let mut store = PostgresStore::open(database.url().parse().unwrap()).await.unwrap();
    let before = store.read(0, usize::MAX).await.unwrap();

    let pool = PgPool::connect(database.url()).await.unwrap();
    let repository = || PostgresEventRepository::new(pool.clone()).with_tables("ledger.events", "ledger.snapshots");
    let id = reseller(1).to_string();
    let event = WalletEvent::WalletOpened {
        reseller: reseller(1),
        low_credit_threshold: Level::new(500).unwrap(),
        balance: 0,
        reserved: 0,
    };
    let metadata = HashMap::from([("actor".to_owned(), "somebody".to_owned())]);
    for events in [
        PersistedEventStore::<_, Wallet>::new_event_store(repository()),
        PersistedEventStore::<_, Wallet>::new_snapshot_store(repository(), 1),
    ] {
        let context = events.load_aggregate(&id).await.unwrap();
        let refused = events.commit(vec![event.clone()], context, metadata.clone()).await.unwrap_err();
        assert!(refused.to_string().contains("position"), "{refused}");
    }
    let new = PersistedEventStore::<_, Reseller>::new_event_store(repository());
    let context = new.load_aggregate(&reseller(9).to_string()).await.unwrap();
    let approved = ResellerEvent::ResellerApproved { user_id: "somebody".parse().unwrap() };
    new.commit(vec![approved], context, metadata).await.unwrap_err();
    assert_eq!(store.read(0, usize::MAX).await.unwrap(), before);
}
