//! The engine on a real store that fails where it is told to. What is shown: an acknowledged command is in the log exactly
//! once, a refused or failed one is not, and whoever asks again with the same key hears the first answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aggregates::answer::Answer;
use aggregates::command::{Command, CommandEnvelope, Idempotency, PriceBasis, ProvisionOrder};
use aggregates::event::{AggregateKey, Event};
use aggregates::facts::{self, Fact, FactKey};
use aggregates::ledger::{Key, Loaded};
use aggregates::platform::Policy;
use aggregates::primitives::{
    Actor, Amount, CommandId, CreditSource, Credits, Level, ProvisionId, Reference, ResellerId, Role, Tier, UserId,
};
use aggregates::rejection::Rejection;
use aggregates::wallet::{Wallet, WalletEvent};
use futures_util::future::join_all;
use tallytree::clock::Clock;
use tallytree::engine::{self, Engine, EngineError, EngineOptions, EngineStartError, Outcome, Reply};
use tallytree::store::{EventStore, Head, SnapshotRow, StoreError, StoredEvent, Turn};
use uuid::Uuid;

use crate::common::log::{assert_unbroken, batch, command, genesis, noon, reseller};
use crate::conformance::Backend;
use crate::conformance::postgres::{Pooled, Postgres};
use crate::conformance::sqlite::Sqlite;
use crate::faulty::{Faults, Faulty, Step};

macro_rules! on_every_store {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            use super::{Backend, Pooled, Postgres, Sqlite};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$test::<Sqlite>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                if Postgres::is_there() {
                    super::$test::<Postgres>().await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn behind_a_pooler() {
                if Pooled::is_there() {
                    super::$test::<Pooled>().await;
                }
            }
        })+
    };
}

on_every_store!(
    a_fault_at_any_step_never_makes_an_answer_wrong,
    a_fault_after_part_of_a_batch_was_absorbed_leaves_no_trace_of_it,
    while_the_store_does_not_say_nobody_is_told_that_nothing_was_done,
    a_commit_that_lost_its_answer_is_not_done_again,
    a_lost_answer_while_asking_is_asked_for_again,
    a_batch_whose_commit_keeps_failing_is_tried_command_by_command,
    what_the_store_refuses_is_tried_again_while_patience_lasts_and_not_at_the_end,
    a_key_twice_in_one_batch_is_done_once_and_answered_twice,
    refusals_whose_commit_lost_its_answer_are_not_taken_for_repetitions,
    what_is_denied_is_not_remembered,
    a_node_whose_history_was_cut_stops_for_good,
    an_event_that_a_newer_node_wrote_stops_this_one,
    what_was_prefetched_is_read_again_where_another_node_was_faster,
    a_node_that_has_been_alone_decides_on_what_another_one_has_just_written,
    a_refusal_alone_is_never_decided_on_an_old_head,
    what_is_missing_midway_is_read_under_the_lock,
    a_key_answered_before_is_known_to_a_node_that_is_alone,
    a_full_queue_says_so_and_nothing_is_done,
    a_command_is_carried_out_though_its_sender_has_gone,
    a_shutdown_answers_everyone_and_lets_go_of_the_store,
    ten_nodes_that_start_at_once_on_a_new_store_set_one_policy,
    two_nodes_on_one_store_lose_and_double_nothing,
    a_clock_that_was_set_back_does_not_turn_the_log_back,
    a_policy_out_of_bounds_is_not_put_in_force,
    the_committed_position_moves_with_each_commit,
    an_old_receipt_goes_however_busy_the_writer_is,
);

/// A node on a store with faults, with one funded reseller.
struct Node<B> {
    engine: Engine,
    faults: Faults,
    place: Arc<B>,
}

const ALICE: u128 = 1;

fn impatient() -> EngineOptions {
    EngineOptions { patience: Duration::from_millis(30), ..EngineOptions::default() }
}

async fn open<B: Backend>(place: &B, options: EngineOptions) -> (Engine, Faults) {
    let (store, faults) = Faulty::new(place.open().await.unwrap());
    let engine = engine::start(store, Clock::manual(noon()), Policy::default(), options).await.unwrap();
    (engine, faults)
}

impl<B: Backend> Node<B> {
    async fn start(options: EngineOptions) -> Self {
        let place = Arc::new(B::new());
        let (engine, faults) = open(&*place, options).await;
        let node = Self { engine, faults, place };
        node.must(register(reseller(ALICE), None)).await;
        node.must(add(reseller(ALICE), 1_000)).await;
        node
    }

    async fn must(&self, command: Command) -> Reply {
        let reply = self.engine.submit(envelope(command)).await.unwrap();
        assert!(matches!(reply.outcome, Outcome::Done { .. }), "{reply:?}");
        reply
    }

    async fn log(&self) -> Vec<StoredEvent> {
        log(&*self.place).await
    }

    /// How many events of a command are in the log.
    async fn events_of(&self, command: CommandId) -> usize {
        self.log().await.iter().filter(|event| event.command_id == command).count()
    }

    /// Submits commands so that one batch takes them all: meanwhile the writer is kept busy by a refusal, which is not written.
    async fn together(&self, busy: ResellerId, envelopes: Vec<CommandEnvelope>) -> Vec<Result<Reply, EngineError>> {
        let before = self.faults.waiting();
        self.faults.fail_times(Step::Begin, 3);
        let engine = self.engine.clone();
        let occupied = tokio::spawn(async move { engine.submit(envelope(spend(busy, 1_000_000))).await });
        while self.faults.waiting() == before + 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let replies = join_all(envelopes.into_iter().map(|envelope| self.engine.submit(envelope))).await;
        assert!(matches!(occupied.await.unwrap().unwrap().outcome, Outcome::Refused(_)));
        replies
    }
}

async fn log<B: Backend>(place: &B) -> Vec<StoredEvent> {
    place.open().await.unwrap().read(0, 100_000).await.unwrap()
}

fn head_of(events: &[StoredEvent]) -> Head {
    events.last().map_or(genesis(), |last| Head {
        position: last.position,
        hash: last.hash,
        epoch: 0,
        recorded_at: last.recorded_at,
    })
}

fn envelope(command: Command) -> CommandEnvelope {
    CommandEnvelope {
        command_id: CommandId(Uuid::now_v7()),
        actor: Actor { id: UserId::new("ops").unwrap(), role: Role::SuperAdmin, tenant: None, declared_cost: false },
        idempotency: None,
        command,
    }
}

fn keyed(key: u8, command: Command) -> CommandEnvelope {
    let idempotency = Some(Idempotency { key: [key; 16], fingerprint: [key; 32] });
    CommandEnvelope { idempotency, ..envelope(command) }
}

fn register(id: ResellerId, parent: Option<ResellerId>) -> Command {
    let number = id.0.as_u128();
    Command::Register {
        reseller: id,
        refid: format!("RS-{number}").parse().unwrap(),
        user_id: format!("user-{number}").parse().unwrap(),
        company_name: format!("Company {number}").parse().unwrap(),
        parent,
        referral_code: None,
        tier: None,
        metadata: serde_json::Map::new(),
    }
}

fn add(wallet: ResellerId, amount: i64) -> Command {
    let amount = Amount::new(amount).unwrap();
    Command::AddCredits { wallet, amount, source: CreditSource::Bonus, reference: None, note: None }
}

/// A purchase reads the fact of its reference, so that the store is asked.
fn purchase(wallet: ResellerId, amount: i64, reference: &str) -> Command {
    let amount = Amount::new(amount).unwrap();
    let reference = Some(Reference::new(reference).unwrap());
    Command::AddCredits { wallet, amount, source: CreditSource::Purchase, reference, note: None }
}

fn provision(wallet: ResellerId, basis: PriceBasis) -> Command {
    let provision_id = ProvisionId(Uuid::now_v7());
    let order = ProvisionOrder { provision_id, basis, client: None, description: None, metadata: None };
    Command::Provision { wallet, order: Box::new(order) }
}

fn spend(wallet: ResellerId, amount: i64) -> Command {
    provision(wallet, PriceBasis::Cost(Amount::new(amount).unwrap()))
}

fn balance(reply: &Reply) -> Credits {
    match &reply.outcome {
        Outcome::Done { answer: Answer::Credits(answer), .. } => answer.balance.unwrap(),
        Outcome::Done { answer: Answer::Provision(answer), .. } => answer.balance,
        other => panic!("no balance in {other:?}"),
    }
}

async fn a_fault_at_any_step_never_makes_an_answer_wrong<B: Backend>() {
    let steps = [Step::Begin, Step::Load, Step::Receipts, Step::BeforeAppend, Step::AfterCommit];
    for step in steps {
        for times in 1..=6 {
            let node = Node::<B>::start(impatient()).await;
            node.faults.fail_times(step, times);
            let paid = keyed(1, purchase(reseller(ALICE), 50, "invoice"));
            let first = node.engine.submit(paid.clone()).await;
            let refused = keyed(2, spend(reseller(ALICE), 1_000_000));
            let refusal = node.engine.submit(refused.clone()).await;
            node.faults.heal();

            let told = format!("{step:?} failing {times} times: {first:?}, {refusal:?}");
            let events = node.events_of(paid.command_id).await;
            match &first {
                Ok(reply) => {
                    assert_eq!((events, balance(reply), reply.replayed), (1, 1_050, false), "{told}");
                }
                Err(EngineError::StoreUnavailable) => assert_eq!(events, 0, "{told}"),
                Err(_) => panic!("{told}"),
            }
            assert_eq!(node.events_of(refused.command_id).await, 0, "{told}");

            let again = node.engine.submit(CommandEnvelope { command_id: CommandId(Uuid::now_v7()), ..paid }).await;
            let again = again.unwrap();
            assert_eq!(balance(&again), 1_050, "{told}");
            if let Ok(first) = &first {
                assert_eq!(again, Reply { replayed: true, ..first.clone() }, "{told}");
            }
            let refused_again = node.engine.submit(refused).await.unwrap();
            assert!(matches!(
                refused_again.outcome,
                Outcome::Refused(Rejection::InsufficientCredits { required: 1_000_000, .. })
            ));
            if let Ok(refusal) = refusal {
                assert!(!refusal.replayed, "{told}");
                assert_eq!(refused_again, Reply { replayed: true, ..refusal }, "{told}");
            }
            let purchases = node.log().await.iter().filter(|event| event.payload.contains("invoice")).count();
            assert_eq!(purchases, 1, "{told}");
            assert_unbroken(&node.log().await);
            node.engine.shutdown().await;
        }
    }
}

async fn a_fault_after_part_of_a_batch_was_absorbed_leaves_no_trace_of_it<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let (parent, child) = (reseller(ALICE), reseller(2));
    node.must(Command::ChangeTier { reseller: parent, tier: Tier::Platinum, reason: None }).await;
    node.must(register(child, Some(parent))).await;
    node.must(add(child, 500)).await;
    node.engine.shutdown().await;

    let (engine, faults) = open(&*node.place, EngineOptions::default()).await;
    let node = Node { engine, faults, place: node.place };
    node.must(add(child, 1)).await;
    // The seller's wallet is loaded, its parent's is not: it is found missing only when the commission is reckoned.
    node.faults.fail(Step::Load);
    let base_cost = PriceBasis::BaseCost(Level::new(100).unwrap());
    let batch = vec![envelope(add(child, 10)), envelope(provision(child, base_cost))];
    for reply in node.together(child, batch).await {
        assert!(matches!(reply.unwrap().outcome, Outcome::Done { .. }));
    }
    assert_eq!(node.faults.waiting(), 0, "the fault was met");
    assert_eq!(balance(&node.must(add(child, 1)).await), 500 + 1 + 10 - 100 + 1);
    assert_unbroken(&node.log().await);
}

async fn while_the_store_does_not_say_nobody_is_told_that_nothing_was_done<B: Backend>() {
    for (step, written) in [(Step::AfterCommit, true), (Step::BeforeAppend, false)] {
        let node = Node::<B>::start(impatient()).await;
        node.faults.fail(step);
        node.faults.fail_times(Step::Resolve, 1_000);
        let doubtful = keyed(1, add(reseller(ALICE), 5));
        assert_eq!(node.engine.submit(doubtful.clone()).await, Err(EngineError::OutcomeUnknown));
        assert_eq!(node.engine.submit(envelope(add(reseller(ALICE), 7))).await, Err(EngineError::StoreUnavailable));
        assert_eq!(node.engine.stopped(), None);
        node.faults.heal();

        let settled = loop {
            match node.engine.submit(doubtful.clone()).await {
                Err(EngineError::StoreUnavailable) => tokio::time::sleep(Duration::from_millis(5)).await,
                settled => break settled.unwrap(),
            }
        };
        assert_eq!((balance(&settled), settled.replayed), (1_005, written), "{step:?}");
        assert_eq!(node.events_of(doubtful.command_id).await, 1, "{step:?}");
        assert_eq!(balance(&node.must(add(reseller(ALICE), 1)).await), 1_006);
    }
}

async fn a_commit_that_lost_its_answer_is_not_done_again<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    node.faults.fail(Step::AfterCommit);
    // Without keys nothing but the log itself says that they were done.
    let batch = (1..=3).map(|amount| envelope(add(reseller(ALICE), amount))).collect();
    let replies = node.together(reseller(ALICE), batch).await;
    let balances: Vec<_> = replies.iter().map(|reply| balance(reply.as_ref().unwrap())).collect();
    assert_eq!(balances, [1_001, 1_003, 1_006]);
    assert_eq!(balance(&node.must(add(reseller(ALICE), 1)).await), 1_007);
    assert_unbroken(&node.log().await);
}

async fn a_lost_answer_while_asking_is_asked_for_again<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    node.faults.fail(Step::AfterCommit);
    node.faults.fail_times(Step::AfterResolve, 3);
    let reply = node.engine.submit(keyed(1, add(reseller(ALICE), 5))).await.unwrap();
    assert_eq!((balance(&reply), reply.replayed), (1_005, false));
}

async fn a_batch_whose_commit_keeps_failing_is_tried_command_by_command<B: Backend>() {
    let patience = Duration::from_secs(1);
    let node = Node::<B>::start(EngineOptions { patience, ..EngineOptions::default() }).await;
    node.faults.fail_times(Step::BeforeAppend, 2);
    let batch = (1..=3).map(|amount| envelope(add(reseller(ALICE), amount))).collect();
    let replies = node.together(reseller(ALICE), batch).await;
    let balances: Vec<_> = replies.iter().map(|reply| balance(reply.as_ref().unwrap())).collect();
    assert_eq!(balances, [1_001, 1_003, 1_006]);

    node.faults.fail_times(Step::BeforeAppend, 1_000);
    let batch = (1..=5).map(|amount| envelope(add(reseller(ALICE), amount))).collect();
    for reply in node.together(reseller(ALICE), batch).await {
        assert_eq!(reply, Err(EngineError::StoreUnavailable));
    }
    node.faults.heal();
    assert_eq!(balance(&node.must(add(reseller(ALICE), 1)).await), 1_007);
    assert_unbroken(&node.log().await);
}

async fn what_the_store_refuses_is_tried_again_while_patience_lasts_and_not_at_the_end<B: Backend>() {
    let patience = Duration::from_secs(20);
    let node = Node::<B>::start(EngineOptions { patience, ..EngineOptions::default() }).await;
    for step in [Step::Begin, Step::BeforeAppend] {
        // More often than a moment's trouble would be tried through.
        node.faults.fail_times(step, 7);
        let began = Instant::now();
        node.must(add(reseller(ALICE), 1)).await;
        assert_eq!(node.faults.waiting(), 0);
        assert!(began.elapsed() >= Duration::from_millis(5 + 10 + 20 + 40 + 80 + 160 + 320), "without pauses");
    }
    node.faults.fail_times(Step::Begin, 1_000);
    let engine = node.engine.clone();
    let waiting = tokio::spawn(async move { engine.submit(envelope(add(reseller(ALICE), 1))).await });
    while node.faults.waiting() > 995 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    node.engine.shutdown().await;
    assert_eq!(waiting.await.unwrap(), Err(EngineError::StoreUnavailable));
    assert!(began.elapsed() < patience / 2, "nobody has that time at the end");
}

async fn a_key_twice_in_one_batch_is_done_once_and_answered_twice<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let other = CommandEnvelope {
        idempotency: Some(Idempotency { key: [1; 16], fingerprint: [9; 32] }),
        ..envelope(add(reseller(ALICE), 70))
    };
    let batch = vec![
        keyed(1, add(reseller(ALICE), 7)),
        keyed(1, add(reseller(ALICE), 7)),
        other.clone(),
        keyed(2, spend(reseller(ALICE), 1_000_000)),
        keyed(2, spend(reseller(ALICE), 1_000_000)),
    ];
    let replies: Vec<Reply> = node.together(reseller(ALICE), batch).await.into_iter().map(Result::unwrap).collect();
    assert_eq!((balance(&replies[0]), replies[0].replayed), (1_007, false));
    assert_eq!(replies[1], Reply { replayed: true, ..replies[0].clone() });
    assert_eq!(replies[2].outcome, Outcome::Refused(Rejection::IdempotencyKeyReused {}));
    assert!(matches!(replies[3].outcome, Outcome::Refused(Rejection::InsufficientCredits { available: 1_007, .. })));
    assert_eq!(replies[4], Reply { replayed: true, ..replies[3].clone() });

    // The misuse was not remembered: the key still stands for the first command.
    let again = node.engine.submit(keyed(1, add(reseller(ALICE), 7))).await.unwrap();
    assert_eq!(again, Reply { replayed: true, ..replies[0].clone() });
    assert_eq!(node.engine.submit(other).await.unwrap().outcome, replies[2].outcome);
}

async fn refusals_whose_commit_lost_its_answer_are_not_taken_for_repetitions<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    node.faults.fail(Step::AfterCommit);
    let refused = keyed(1, spend(reseller(ALICE), 1_000_000));
    let first = node.engine.submit(refused.clone()).await.unwrap();
    assert!(!first.replayed);
    assert_eq!(node.engine.submit(refused).await.unwrap(), Reply { replayed: true, ..first });
}

async fn what_is_denied_is_not_remembered<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let mut denied = keyed(1, add(reseller(ALICE), 7));
    denied.actor.role = Role::Auditor;
    let reply = node.engine.submit(denied.clone()).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Denied(_)));
    denied.actor.role = Role::SuperAdmin;
    assert_eq!(balance(&node.engine.submit(denied).await.unwrap()), 1_007);
}

async fn a_node_whose_history_was_cut_stops_for_good<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let before = node.log().await;
    node.faults.fail_with(Step::Begin, || StoreError::HistoryCut("the log ends at 1".to_owned()));
    let cut = node.engine.submit(envelope(add(reseller(ALICE), 1))).await;
    assert!(matches!(&cut, Err(EngineError::Stopped(reason)) if reason.contains("history was cut")), "{cut:?}");
    assert_eq!(node.engine.submit(envelope(add(reseller(ALICE), 1))).await, cut);
    assert!(node.engine.stopped().unwrap().contains("the log ends at 1"));
    assert_eq!(node.log().await, before);
    node.engine.shutdown().await;
}

#[tokio::test]
async fn a_node_that_lost_its_memory_knows_a_cut_log_from_its_own() {
    let node = Node::<Sqlite>::start(EngineOptions::default()).await;
    // The commit fails, and before the ledger is built anew the store is replaced by an older one.
    let older = Sqlite::new();
    let (engine, _) = open(&older, EngineOptions::default()).await;
    engine.shutdown().await;
    node.faults.fail(Step::BeforeAppend);
    node.faults.fail_times(Step::Resolve, 2);
    let command = keyed(1, add(reseller(ALICE), 5));
    let submitted = tokio::spawn({
        let (engine, command) = (node.engine.clone(), command.clone());
        async move { engine.submit(command).await }
    });
    while node.faults.waiting() > 1 {
        tokio::task::yield_now().await;
    }
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(node.place.store().join(file));
    }
    std::fs::copy(older.store().join("ledger.db"), node.place.store().join("ledger.db")).unwrap();
    assert_eq!(submitted.await.unwrap(), Err(EngineError::OutcomeUnknown));
    let stopped = node.engine.submit(command).await;
    assert!(matches!(&stopped, Err(EngineError::Stopped(reason)) if reason.contains("history was cut")), "{stopped:?}");
}

async fn an_event_that_a_newer_node_wrote_stops_this_one<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let known = node.log().await;
    let head = head_of(&known);
    let key = AggregateKey::Product("SKU-1".parse().unwrap());
    let event = Event::Product(aggregates::product::ProductEvent::ProductRetired {});
    let mut batch = batch(&head, command(9), vec![(key, 1, event)]);
    batch.events[0].event_type = "ProductTeleported".into();
    batch.events[0].hash = tallytree::store::chain::hash(&head.hash, &batch.events[0]);
    let mut newer = node.place.open().await.unwrap();
    newer.begin(&head, &[]).await.unwrap().append(&batch).await.unwrap();

    let told = node.engine.submit(envelope(add(reseller(ALICE), 1))).await;
    assert!(matches!(&told, Err(EngineError::Stopped(reason)) if reason.contains("ProductTeleported")), "{told:?}");
    assert_eq!(node.log().await.len(), known.len() + 1);
}

async fn what_was_prefetched_is_read_again_where_another_node_was_faster<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let wallet = AggregateKey::Wallet(reseller(ALICE));
    let head = head_of(&node.log().await);
    let mut other = node.place.open().await.unwrap();
    let mut turn = other.begin(&head, &[]).await.unwrap();
    let waiting = tokio::spawn({
        let engine = node.engine.clone();
        async move { engine.submit(envelope(purchase(reseller(ALICE), 50, "invoice"))).await }
    });
    // By now it has found the reference free, and waits for the head.
    tokio::time::sleep(Duration::from_millis(50)).await;

    let found = turn.load(&[Key::Aggregate(wallet.clone())]).await.unwrap();
    let [(_, Loaded::Aggregate(Some((state, sequence))))] = found.as_slice() else { panic!("{found:?}") };
    let mut state: Wallet = serde_json::from_str(state).unwrap();
    let event = WalletEvent::CreditsAdded {
        transaction_id: command(9),
        amount: 50,
        source: CreditSource::Purchase,
        reference: Some(Reference::new("invoice").unwrap()),
        note: None,
        balance: 1_050,
        reserved: 0,
    };
    state.fold(&event);
    let event = Event::Wallet(event);
    let mut batch = batch(&head, command(9), vec![(wallet.clone(), sequence + 1, event.clone())]);
    let position = head.position + 1;
    for key in facts::keys(&event) {
        let fact = facts::fold(&key, None, reseller(ALICE), &event, position).unwrap();
        batch.facts.insert(key, (fact, position));
    }
    let payload = serde_json::to_string(&state).unwrap();
    batch.snapshots = vec![SnapshotRow { key: wallet, sequence: sequence + 1, payload }];
    turn.append(&batch).await.unwrap();

    let told = waiting.await.unwrap().unwrap();
    let expected = Outcome::Refused(Rejection::DuplicateReference {
        transaction_id: command(9).to_string(),
        amount: 50,
        position,
    });
    assert_eq!(told.outcome, expected);
    assert_eq!(balance(&node.must(add(reseller(ALICE), 1)).await), 1_051);
}

/// Funds the wallet of [`ALICE`] past the node, on top of what is in the log.
async fn fund_from_elsewhere<B: Backend>(node: &Node<B>, by: u128, amount: Credits) {
    let log = node.log().await;
    let head = head_of(&log);
    let wallet = AggregateKey::Wallet(reseller(ALICE));
    let mut other = node.place.open().await.unwrap();
    let mut turn = other.begin(&head, &[]).await.unwrap();
    let found = turn.load(&[Key::Aggregate(wallet.clone())]).await.unwrap();
    let [(_, Loaded::Aggregate(Some((state, sequence))))] = found.as_slice() else { panic!("{found:?}") };
    let mut state: Wallet = serde_json::from_str(state).unwrap();
    let event = WalletEvent::CreditsAdded {
        transaction_id: command(by),
        amount,
        source: CreditSource::Bonus,
        reference: None,
        note: None,
        balance: state.balance + amount,
        reserved: 0,
    };
    state.fold(&event);
    let mut batch = batch(&head, command(by), vec![(wallet.clone(), sequence + 1, Event::Wallet(event))]);
    let payload = serde_json::to_string(&state).unwrap();
    batch.snapshots = vec![SnapshotRow { key: wallet, sequence: sequence + 1, payload }];
    turn.append(&batch).await.unwrap();
}

async fn a_node_that_has_been_alone_decides_on_what_another_one_has_just_written<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let mut expected = 1_000;
    for round in 0..5 {
        // Each is one that it may decide without asking, where a store allows that.
        for _ in 0..3 {
            expected += 1;
            assert_eq!(balance(&node.must(add(reseller(ALICE), 1)).await), expected);
        }
        fund_from_elsewhere(&node, 100 + round, 50).await;
        expected += 57;
        // Decided twice, where it was overtaken.
        let added = node.must(add(reseller(ALICE), 7)).await;
        assert_eq!(balance(&added), expected);
        assert_eq!(added.position, head_of(&node.log().await).position);
        let replies = node
            .together(
                reseller(ALICE),
                vec![
                    envelope(spend(reseller(ALICE), expected + 1)),
                    envelope(purchase(reseller(ALICE), 7, &format!("invoice {round}"))),
                    envelope(spend(reseller(ALICE), 3)),
                ],
            )
            .await;
        let [Ok(refused), Ok(added), Ok(spent)] = replies.as_slice() else { panic!("{replies:?}") };
        let Outcome::Refused(Rejection::InsufficientCredits { balance: seen, .. }) = &refused.outcome else {
            panic!("{refused:?}")
        };
        assert_eq!((*seen, balance(added)), (expected, expected + 7));
        assert!(matches!(spent.outcome, Outcome::Done { .. }), "{spent:?}");
        expected += 4;
        // It keeps to the lock for a while now, and then it does not.
        tokio::time::sleep(Duration::from_millis(110)).await;
    }
    assert_unbroken(&node.log().await);
    // Not in every round, where the machine is too busy for that.
    assert_eq!(node.faults.overtaken() > 0, B::ASSUMES);
}

async fn a_refusal_alone_is_never_decided_on_an_old_head<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    node.must(add(reseller(ALICE), 1)).await;
    fund_from_elsewhere(&node, 100, 50).await;
    node.must(spend(reseller(ALICE), 1_040)).await;
    // It keeps to the lock for a while now, and then it does not.
    tokio::time::sleep(Duration::from_millis(110)).await;
    node.must(add(reseller(ALICE), 1)).await;
    fund_from_elsewhere(&node, 101, 50).await;
    let reply = node.engine.submit(keyed(1, spend(reseller(ALICE), 50))).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Done { .. }), "{reply:?}");
    assert!(B::ASSUMES || node.faults.assumed() == 0);
}

/// Its upline's wallet is missing in the middle of a batch that has changed something already.
async fn what_is_missing_midway_is_read_under_the_lock<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    node.must(register(reseller(2), Some(reseller(ALICE)))).await;
    node.must(add(reseller(2), 10_000)).await;
    node.must(Command::ChangeTier { reseller: reseller(ALICE), tier: Tier::Platinum, reason: None }).await;
    // A node that has just come up knows neither wallet; it takes the lock for the first command, and seems alone then.
    node.engine.shutdown().await;
    let (engine, faults) = open(&*node.place, EngineOptions::default()).await;
    let node = Node { engine, faults, place: node.place.clone() };
    node.must(add(reseller(2), 10)).await;
    // While the first is being committed the others come together.
    let base = PriceBasis::BaseCost(Level::new(1_000).unwrap());
    let commands = [add(reseller(2), 5), add(reseller(2), 5), provision(reseller(2), base), add(reseller(2), 5)];
    let replies = join_all(commands.map(|command| node.engine.submit(envelope(command)))).await;
    let [Ok(first), Ok(second), Ok(sold), Ok(last)] = replies.as_slice() else { panic!("{replies:?}") };
    assert!(matches!(sold.outcome, Outcome::Done { .. }), "{sold:?}");
    assert_eq!((balance(first), balance(second), balance(last)), (10_015, 10_020, 9_025));
    assert_eq!(balance(&node.must(add(reseller(ALICE), 1)).await), 1_000 + 300 + 1);
    assert_unbroken(&node.log().await);
    assert!(B::ASSUMES || node.faults.overtaken() == 0);
    let head = node.place.open().await.unwrap().resellers(&mut |_, _, _| {}).await.unwrap();
    assert_eq!(head.epoch, 0, "a commit failed: its memory was not what it was before");
}

async fn a_key_answered_before_is_known_to_a_node_that_is_alone<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let first = node.engine.submit(keyed(1, add(reseller(ALICE), 5))).await.unwrap();
    let refused = node.engine.submit(keyed(2, spend(reseller(ALICE), 9_999))).await.unwrap();
    node.must(add(reseller(ALICE), 1)).await;
    // While the first is being committed the others come together.
    let envelopes = [
        envelope(add(reseller(ALICE), 1)),
        keyed(3, add(reseller(ALICE), 10)),
        keyed(1, add(reseller(ALICE), 5)),
        keyed(2, spend(reseller(ALICE), 9_999)),
        envelope(add(reseller(ALICE), 20)),
    ];
    let replies = join_all(envelopes.map(|envelope| node.engine.submit(envelope))).await;
    let [Ok(_), Ok(third), Ok(again), Ok(refused_again), Ok(last)] = replies.as_slice() else { panic!("{replies:?}") };
    assert!(B::ASSUMES || node.faults.overtaken() == 0);
    assert_eq!((again.position, &again.outcome, again.replayed), (first.position, &first.outcome, true));
    assert_eq!((refused_again.position, &refused_again.outcome), (refused.position, &refused.outcome));
    assert_eq!((balance(third), balance(last)), (1_017, 1_037));
    // What was decided twice is counted once.
    let totals = node.place.open().await.unwrap().load(&[Key::Fact(FactKey::Totals)]).await.unwrap();
    let Loaded::Fact(Some(Fact::Totals(totals))) = &totals[0].1 else { panic!("{totals:?}") };
    assert_eq!(totals.issued, 1_037);
}

async fn a_full_queue_says_so_and_nothing_is_done<B: Backend>() {
    let node = Node::<B>::start(EngineOptions { queue: 2, ..EngineOptions::default() }).await;
    let head = head_of(&node.log().await);
    let mut other = node.place.open().await.unwrap();
    let turn = other.begin(&head, &[]).await.unwrap();
    let submit = |amount| {
        let engine = node.engine.clone();
        tokio::spawn(async move { engine.submit(envelope(add(reseller(ALICE), amount))).await })
    };
    let first = submit(1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (second, third) = (submit(2), submit(3));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(submit(4).await.unwrap(), Err(EngineError::TooBusy));
    drop(turn);
    for accepted in [first, second, third] {
        accepted.await.unwrap().unwrap();
    }
    assert_eq!(balance(&node.must(add(reseller(ALICE), 1)).await), 1_007);
}

async fn a_command_is_carried_out_though_its_sender_has_gone<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let gone = node.engine.clone();
    let _ = tokio::time::timeout(Duration::ZERO, gone.submit(envelope(add(reseller(ALICE), 5)))).await;
    assert_eq!(balance(&node.must(add(reseller(ALICE), 1)).await), 1_006);
}

async fn a_shutdown_answers_everyone_and_lets_go_of_the_store<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let waiting = join_all((0..50).map(|_| node.engine.submit(envelope(add(reseller(ALICE), 1)))));
    let (replies, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        node.engine.shutdown().await;
    });
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    let late = node.engine.submit(envelope(add(reseller(ALICE), 1))).await;
    assert!(matches!(late, Err(EngineError::Stopped(_))), "{late:?}");
    assert!(node.engine.stopped().is_some());
    node.engine.shutdown().await;

    let (engine, _) = open(&*node.place, EngineOptions::default()).await;
    let reply = engine.submit(envelope(add(reseller(ALICE), 1))).await.unwrap();
    assert_eq!(balance(&reply), 1_051);
}

async fn ten_nodes_that_start_at_once_on_a_new_store_set_one_policy<B: Backend>() {
    let place = Arc::new(B::new());
    let starts = (0..10).map(|_| {
        let place = Arc::clone(&place);
        tokio::spawn(async move { open(&*place, EngineOptions::default()).await })
    });
    let nodes: Vec<_> = join_all(starts).await.into_iter().map(Result::unwrap).collect();
    let log = log(&*place).await;
    assert_eq!(log.iter().map(|event| event.event_type.as_ref()).collect::<Vec<_>>(), ["PolicySet"]);
    assert_eq!(log[0].actor, "policy:configuration");
    drop(nodes);
}

async fn two_nodes_on_one_store_lose_and_double_nothing<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let (other, _) = open(&*node.place, EngineOptions::default()).await;
    let clients = (0..8).map(|client| {
        let engine = if client % 2 == 0 { node.engine.clone() } else { other.clone() };
        tokio::spawn(async move {
            let mut done = 0;
            for round in 0..40 {
                let command = if round % 2 == 0 { add(reseller(ALICE), 10) } else { spend(reseller(ALICE), 25) };
                match engine.submit(envelope(command)).await.unwrap().outcome {
                    Outcome::Done { .. } => done += if round % 2 == 0 { 10 } else { -25 },
                    Outcome::Refused(Rejection::InsufficientCredits { .. }) => {}
                    unexpected => panic!("{unexpected:?}"),
                }
            }
            done
        })
    });
    let sum: i64 = join_all(clients).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(balance(&node.must(add(reseller(ALICE), 1)).await), 1_000 + sum + 1);
    assert_unbroken(&node.log().await);
}

async fn a_clock_that_was_set_back_does_not_turn_the_log_back<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    node.engine.shutdown().await;
    let early = Clock::manual(noon().plus_seconds(-3_600));
    let store = node.place.open().await.unwrap();
    let engine = engine::start(store, early, Policy::default(), EngineOptions::default()).await.unwrap();
    engine.submit(envelope(add(reseller(ALICE), 1))).await.unwrap();
    assert_unbroken(&node.log().await);
}

async fn a_policy_out_of_bounds_is_not_put_in_force<B: Backend>() {
    let place = B::new();
    let policy = Policy { credit_conversion_rate: 0, ..Policy::default() };
    let store = place.open().await.unwrap();
    let started = engine::start(store, Clock::manual(noon()), policy, EngineOptions::default()).await;
    assert!(matches!(started, Err(EngineStartError::Policy(Rejection::Invalid { .. }))), "{started:?}");
    assert!(log(&place).await.is_empty());
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn a_writer_that_panics_ends_the_process() {
    let on_panic: fn() = || {
        PANICS.fetch_add(1, Ordering::SeqCst);
    };
    let node = Node::<Sqlite>::start(EngineOptions { on_panic, ..EngineOptions::default() }).await;
    node.faults.fail_with(Step::Begin, || panic!("a defect"));
    let told = node.engine.submit(envelope(add(reseller(ALICE), 1))).await;
    assert_eq!(told, Err(EngineError::OutcomeUnknown));
    node.engine.shutdown().await;
    assert_eq!(PANICS.load(Ordering::SeqCst), 1);
    assert!(node.engine.stopped().is_some());
}

async fn the_committed_position_moves_with_each_commit<B: Backend>() {
    let node = Node::<B>::start(EngineOptions::default()).await;
    let mut committed = node.engine.committed();
    let before = *committed.borrow_and_update();
    assert_eq!(before, node.log().await.len() as u64);
    let reply = node.must(add(reseller(ALICE), 1)).await;
    assert!(committed.has_changed().unwrap());
    assert_eq!(*committed.borrow_and_update(), reply.position);
}

async fn an_old_receipt_goes_however_busy_the_writer_is<B: Backend>() {
    let options =
        EngineOptions { receipts_kept: Duration::from_secs(60), expire_every: Duration::from_millis(5), ..impatient() };
    let place = B::new();
    let clock = Clock::manual(noon());
    let start = async |clock| engine::start(place.open().await.unwrap(), clock, Policy::default(), options).await;
    let engine = start(clock.clone()).await.unwrap();
    engine.submit(envelope(register(reseller(ALICE), None))).await.unwrap();
    engine.submit(keyed(1, add(reseller(ALICE), 5))).await.unwrap();
    assert!(engine.submit(keyed(1, add(reseller(ALICE), 5))).await.unwrap().replayed);
    engine.shutdown().await;

    // Time goes by the log as well: a clock alone that is ahead takes no receipt.
    let _ = clock.advance(61);
    let engine = start(clock.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(engine.submit(keyed(1, add(reseller(ALICE), 5))).await.unwrap().replayed);

    // The log's time moves with the first of these, and the writer has no idle moment from then on.
    let busy = async || loop {
        engine.submit(envelope(add(reseller(ALICE), 1))).await.unwrap();
    };
    let gone = async {
        while engine.submit(keyed(1, add(reseller(ALICE), 5))).await.unwrap().replayed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! {
            never = join_all((0..16).map(|_| busy())) => drop::<Vec<()>>(never),
            () = gone => {}
        }
    });
    in_time.await.expect("it stays for as long as there is something to do");
}
