//! cqrs-es and postgres-es on our tables, unchanged: they load what we wrote and agree with us, and cannot write. And the other
//! way round: what they wrote is taken over.

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
use tallytree::import::{ImportError, import};
use tallytree::store::EventStore;
use tallytree::store::postgres::{PostgresStore, Table};
use uuid::Uuid;

use crate::common::log::{assert_unbroken, reseller};
use crate::common::postgres::{self, TestDatabase};
use crate::conformance::Backend;
use crate::conformance::postgres::Postgres;
use crate::conformance::sqlite::Sqlite;

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
    // More than lie between two snapshots of a wallet.
    for cost in (1..=25).map(|number| number * 20) {
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
    let behind = events.current_sequence - snapshot.current_sequence;
    assert!(behind < 20 && (behind == 0 || A::TYPE == Wallet::TYPE), "a snapshot is {behind} events behind");
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

/// The table as postgres-es makes it, with what our log says of resellers and wallets.
const THEIR_TABLE: &str = "create table public.events (aggregate_type text not null, aggregate_id text not null, \
    sequence bigint check (sequence >= 0) not null, event_type text not null, event_version text not null, \
    payload json not null, metadata json not null, primary key (aggregate_type, aggregate_id, sequence)); \
    insert into public.events select aggregate_type, aggregate_id, sequence, event_type, event_version, payload, '{}' \
    from ledger.events where aggregate_type <> 'Platform' order by position";

/// A database with such a table, and the engine's own store beside it.
async fn theirs_to_import() -> Option<TestDatabase> {
    let database = postgres::database()?;
    let store = PostgresStore::open(database.url().parse().unwrap()).await.unwrap();
    let engine = engine::start(store, Clock::System, Policy::default(), EngineOptions::default()).await.unwrap();
    live(&engine, [reseller(1), reseller(2)]).await;
    engine.shutdown().await;
    database.sql(THEIR_TABLE).unwrap();
    Some(database)
}

async fn a_table_is_taken_over<B: Backend>() {
    let Some(database) = theirs_to_import().await else { return };
    let address = database.url().parse().unwrap();
    let place = B::new();
    let (policy, now) = (Policy::default(), Clock::System.now());
    let table = Table::new("events", None, None).unwrap();
    let imported =
        import(&address, &table, place.open().await.unwrap(), policy.clone(), now, &mut |_, _| {}).await.unwrap();

    let mut original = PostgresStore::open(address.clone()).await.unwrap();
    let mut store = place.open().await.unwrap();
    let (theirs, ours) = (original.read(0, 1_000).await.unwrap(), store.read(0, 1_000).await.unwrap());
    assert_unbroken(&ours);
    let told = |events: &[tallytree::store::StoredEvent]| -> Vec<_> {
        events.iter().map(|event| (event.aggregate_id.clone(), event.sequence, event.payload.clone())).collect()
    };
    assert_eq!(told(&ours), told(&theirs), "the policy first, then their events in their order, to the letter");
    assert_eq!((imported.events, imported.position), (ours.len() as u64 - 1, ours.len() as u64));
    for id in [reseller(1), reseller(2)] {
        for key in [AggregateKey::Wallet(id), AggregateKey::Reseller(id)].map(Key::Aggregate) {
            let keys = std::slice::from_ref(&key);
            assert_eq!(store.load(keys).await.unwrap(), original.load(keys).await.unwrap());
        }
    }
    drop(store);

    // And life goes on.
    let store = place.open().await.unwrap();
    let engine = engine::start(store, Clock::System, policy.clone(), EngineOptions::default()).await.unwrap();
    let amount = Amount::new(5).unwrap();
    let more =
        |wallet| Command::AddCredits { wallet, amount, source: CreditSource::Bonus, reference: None, note: None };
    must(&engine, more(reseller(2))).await;
    engine.shutdown().await;
    let mut store = place.open().await.unwrap();
    assert_unbroken(&store.read(0, 1_000).await.unwrap());
    let again = import(&address, &table, store, policy, now, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(again, ImportError::NotEmpty(_)), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_postgres_es_is_taken_over_on_sqlite() {
    a_table_is_taken_over::<Sqlite>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_postgres_es_is_taken_over_on_postgres() {
    a_table_is_taken_over::<Postgres>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tables_own_times_are_taken_over_and_the_policy_stands_before_them() {
    let Some(database) = theirs_to_import().await else { return };
    let made = "create table public.timed as select position as place, aggregate_type, aggregate_id, sequence, event_type, \
                event_version, cast(payload as json) as payload, cast('{}' as json) as metadata, \
                timestamptz '2026-01-01 00:00:00Z' + position * interval '1 hour' as recorded_at \
                from ledger.events where aggregate_type <> 'Platform'";
    database.sql(made).unwrap();
    let address = database.url().parse().unwrap();
    let table = Table::new("public.timed", Some("place"), Some("recorded_at")).unwrap();
    let place = Sqlite::new();
    let (store, now) = (place.open().await.unwrap(), Clock::System.now());
    import(&address, &table, store, Policy::default(), now, &mut |_, _| {}).await.unwrap();

    let ours = place.open().await.unwrap().read(0, 1_000).await.unwrap();
    assert_unbroken(&ours);
    let began: aggregates::primitives::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(ours[0].recorded_at, began.plus_seconds(2 * 3_600), "in force when the first of theirs happened");
    for (event, hours) in ours[1..].iter().zip(2..) {
        assert_eq!(event.recorded_at, began.plus_seconds(hours * 3_600), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_one_moment_come_as_they_were_inserted_and_those_of_a_view_as_their_aggregates_count_them() {
    let Some(database) = theirs_to_import().await else { return };
    let made = "create table public.tied as select 1 as moment, events.* from public.events; \
                create view public.seen as select * from (select *, row_number() over () as place from public.tied \
                where aggregate_type = 'Wallet') t order by place desc";
    database.sql(made).unwrap();
    let address = database.url().parse().unwrap();
    for name in ["public.tied", "public.seen"] {
        let table = Table::new(name, Some("moment"), None).unwrap();
        let (place, now) = (Sqlite::new(), Clock::System.now());
        let store = place.open().await.unwrap();
        let imported = import(&address, &table, store, Policy::default(), now, &mut |_, _| {}).await;
        let imported = imported.unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert!(imported.events > 4, "{name}: {imported:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fold_is_refused_and_nothing_is_written() {
    let Some(database) = theirs_to_import().await else { return };
    let address = database.url().parse().unwrap();
    let wallet = format!("aggregate_type = 'Wallet' and aggregate_id = '{}'", reseller(2));
    for (damage, why) in [
        (format!("delete from t where sequence = 2 and {wallet}"), "event 2 was expected"),
        (format!("update t set sequence = 1 where sequence = 2 and {wallet}"), "event 2 was expected"),
        (format!("update t set event_type = 'CreditsStolen' where sequence = 2 and {wallet}"), "CreditsStolen"),
        (format!("update t set payload = '{{}}' where sequence = 2 and {wallet}"), "CreditsAdded"),
        (
            format!(
                "update t set payload = replace(payload::text, '\"balance\":10000', '\"balance\":10001')::json \
                 where sequence = 2 and {wallet}"
            ),
            "carries the balance 10001",
        ),
        (format!("update t set aggregate_id = replace(aggregate_id, '-', '') where {wallet}"), "has the id"),
        ("update t set aggregate_type = 'Platform' where place = 1".to_owned(), "has the id"),
        (format!("update t set place = -1 where aggregate_id = '{}'", reseller(2)), "is not registered yet"),
        ("update t set aggregate_type = 'Basket' where place = 5".to_owned(), "Basket"),
    ] {
        let table = "drop table if exists t; create table t as select row_number() over (order by ctid) as place, events.* \
                     from public.events";
        database.sql(&format!("{table}; {damage}")).unwrap();
        let place = Sqlite::new();
        let table = Table::new("public.t", Some("place"), None).unwrap();
        let store = place.open().await.unwrap();
        let refused = import(&address, &table, store, Policy::default(), Clock::System.now(), &mut |_, _| {}).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused, ImportError::Refused { .. }), "{damage}: {refused}");
        assert!(refused.to_string().contains(why), "{damage}: {refused}");
        assert!(place.open().await.unwrap().read(0, 1).await.unwrap().is_empty(), "{damage}");
    }
}
