//! Turns without the lock, where a store has them: everything is checked in the commit, or nothing is written.

use std::time::{Duration, Instant};

use aggregates::event::AggregateKey;
use aggregates::ledger::{Key, Loaded, Receipt, Remembered};
use aggregates::rejection::Rejection;
use tallytree::store::postgres::PostgresStore;
use tallytree::store::{Batch, EventStore, Head, SnapshotRow, StoreError, Turn};

use super::postgres::{Pooled, Postgres};
use super::sqlite::Sqlite;
use super::{Backend, on_a_thread};
use crate::common::log::{
    append, assert_unbroken, batch, client, command, credits_added, details, funded_wallet, genesis, head_at,
    receipts_only, reseller,
};

fn refusal() -> Receipt {
    let outcome = Remembered::Refused(Rejection::not_found("wallet"));
    Receipt { fingerprint: [1; 32], outcome, position: 2 }
}

/// A store on which one wallet has been funded under the lock, and where the log ends.
async fn alone(backend: &Postgres) -> (PostgresStore, Head) {
    let mut store = backend.open().await.unwrap();
    let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    let head = append(&mut store, &genesis(), &first).await.unwrap();
    (store, head)
}

/// Changes the snapshots of [`credits`], where there are any.
const SNAPSHOTS: &str = "update snapshots set position = position where payload::text like '%no use%'";

/// Credits for that wallet, with all that may come with them.
fn credits(head: &Head, by: u128, sequence: u64) -> Batch {
    let wallet = AggregateKey::Wallet(reseller(1));
    let mut batch = batch(head, command(by), vec![(wallet, sequence, credits_added(command(by), 5, 105))]);
    batch.receipts = vec![([7; 16], refusal())];
    let upline = AggregateKey::Reseller(reseller(1));
    batch.snapshots = vec![SnapshotRow { key: upline, sequence: 1, payload: r#"{"of":"no use"}"#.to_owned() }];
    batch.personal_data = vec![(client(1), Some(details("Ada")))];
    batch
}

/// Appends in a turn that assumes its head and that there is no receipt under these keys.
async fn append_assumed(
    store: &mut PostgresStore,
    head: &Head,
    absent: &[[u8; 16]],
    batch: &Batch,
) -> Result<(), StoreError> {
    let mut turn = store.assume(head).expect("a turn without the lock");
    assert!(turn.is_assumed());
    assert_eq!(turn.head(), head);
    assert!(turn.receipts(absent).await.unwrap().is_empty(), "it looks for none");
    turn.append(batch).await
}

/// Asserts that an append was overtaken, and that only these commands are in the log and nothing of [`credits`] is anywhere.
async fn assert_overtaken(backend: &Postgres, appended: Result<(), StoreError>, log: &[u128]) {
    assert!(matches!(appended, Err(StoreError::Overtaken(_))), "{appended:?}");
    let mut other = backend.open().await.unwrap();
    let events = other.read(0, 100).await.unwrap();
    assert_unbroken(&events);
    let mut commands: Vec<_> = events.iter().map(|event| event.command_id).collect();
    commands.dedup();
    assert_eq!(commands, log.iter().copied().map(command).collect::<Vec<_>>());
    assert_eq!(backend.sql(SNAPSHOTS).unwrap(), 0);
    let found = other.load(&[Key::PersonalData(client(1))]).await.unwrap();
    assert_eq!(found[0].1, Loaded::PersonalData(None));
    let (head, _) = other.resolve(0, &[]).await.unwrap();
    assert!(other.begin(&head, &[]).await.unwrap().receipts(&[[7; 16]]).await.unwrap().is_empty());
}

#[tokio::test]
async fn where_the_lock_is_near_or_a_session_is_not_ones_own_no_turn_is_assumed() {
    async fn never<B: Backend>() {
        let backend = B::new();
        let mut store = backend.open().await.unwrap();
        let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
        let head = append(&mut store, &genesis(), &first).await.unwrap();
        assert!(store.assume(&head).is_none());
    }
    never::<Sqlite>().await;
    if Pooled::is_there() {
        never::<Pooled>().await;
    }
}

#[tokio::test]
async fn a_turn_is_assumed_only_shortly_after_the_lock_was_had() {
    let Some(backend) = Postgres::if_there() else { return };
    let mut store = backend.open().await.unwrap();
    let turn = store.begin(&genesis(), &[]).await.unwrap();
    let seen = turn.now().unwrap();
    let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    turn.append(&first).await.unwrap();

    let head = head_at(&first.events[1], 0);
    let now = store.assume(&head).unwrap().now().unwrap();
    assert!(now >= seen && now <= seen.plus_seconds(1), "the database's clock: {now} after {seen}");
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    assert!(store.assume(&head).is_none());
    let (head, _) = store.resolve(2, &[]).await.unwrap();
    assert!(store.assume(&head).is_none(), "it was in doubt");
}

#[tokio::test]
async fn what_is_appended_at_an_assumed_head_is_there_whole() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    let wallet = Key::Aggregate(AggregateKey::Wallet(reseller(1)));
    let mut turn = store.assume(&head).unwrap();
    let found = turn.load(std::slice::from_ref(&wallet)).await;
    assert!(matches!(found, Err(StoreError::Overtaken(_))), "what is read may be newer than the head: {found:?}");
    drop(turn);

    let added = credits(&head, 2, 3);
    append_assumed(&mut store, &head, &[[7; 16], [8; 16]], &added).await.unwrap();
    let head = head_at(&added.events[0], 0);
    let another =
        batch(&head, command(3), vec![(AggregateKey::Wallet(reseller(1)), 4, credits_added(command(3), 5, 110))]);
    append_assumed(&mut store, &head, &[], &another).await.unwrap();

    let mut other = backend.open().await.unwrap();
    assert_eq!(assert_unbroken(&other.read(0, 10).await.unwrap()).position, 4);
    let head = head_at(&another.events[0], 0);
    let mut turn = other.begin(&head, &[]).await.unwrap();
    assert_eq!(turn.receipts(&[[7; 16]]).await.unwrap(), [([7; 16], refusal())]);
    let found = turn.load(&[Key::PersonalData(client(1))]).await.unwrap();
    assert_eq!(found[0].1, Loaded::PersonalData(Some(details("Ada"))));
    drop(turn);
    assert_eq!(backend.sql(SNAPSHOTS).unwrap(), 1);
}

#[tokio::test]
async fn a_head_that_another_node_has_moved_overtakes_it() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    let mut other = backend.open().await.unwrap();
    append(&mut other, &head, &funded_wallet(&head, command(9), reseller(9), 100)).await.unwrap();
    let appended = append_assumed(&mut store, &head, &[], &credits(&head, 2, 3)).await;
    assert_overtaken(&backend, appended, &[1, 9]).await;
}

#[tokio::test]
async fn a_key_that_was_answered_overtakes_it_though_the_head_stands() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    let mut other = backend.open().await.unwrap();
    append(&mut other, &head, &receipts_only(vec![([8; 16], refusal())])).await.unwrap();
    let appended = append_assumed(&mut store, &head, &[[8; 16]], &credits(&head, 2, 3)).await;
    assert_overtaken(&backend, appended, &[1]).await;
}

/// Another node's refusal that the statement cannot see yet, because it was committed after the statement had begun.
#[tokio::test]
async fn a_key_that_is_answered_at_the_same_time_overtakes_it_too() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    let mut other = backend.open().await.unwrap();
    append(&mut other, &head, &receipts_only(vec![([7; 16], refusal())])).await.unwrap();
    let appended = append_assumed(&mut store, &head, &[], &credits(&head, 2, 3)).await;
    assert!(matches!(appended, Err(StoreError::Overtaken(_))), "{appended:?}");
    assert_eq!(other.read(0, 10).await.unwrap().len(), 2);
    assert_eq!(backend.sql(SNAPSHOTS).unwrap(), 0);
}

#[tokio::test]
async fn whoever_waits_too_long_for_the_lock_has_certainly_written_nothing() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    let queue = i64::from_be_bytes(*b"tallytrx");
    let holds = backend.sql_meanwhile(&format!("select pg_advisory_xact_lock({queue}), pg_sleep(6)"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let appended = append_assumed(&mut store, &head, &[], &credits(&head, 2, 3)).await;
    holds.join().unwrap();
    assert_overtaken(&backend, appended, &[1]).await;
}

/// A machine may sleep, or a process be stopped, between deciding and sending.
#[tokio::test]
async fn a_turn_that_was_silent_for_long_is_over() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    let turn = store.assume(&head).unwrap();
    tokio::time::sleep(Duration::from_millis(4_050)).await;
    let appended = turn.append(&credits(&head, 2, 3)).await;
    assert_overtaken(&backend, appended, &[1]).await;
}

/// A statement that was on its way when its writer gave it up.
#[tokio::test]
async fn an_append_that_was_given_up_and_comes_late_writes_nothing() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    let mut other = backend.open().await.unwrap();
    let (now, found) = other.resolve(head.position, &[command(2)]).await.unwrap();
    assert!(found.is_empty());
    assert_eq!((now.position, now.epoch), (head.position, head.epoch + 1));
    let appended = append_assumed(&mut store, &head, &[], &credits(&head, 2, 3)).await;
    assert_overtaken(&backend, appended, &[1]).await;
}

#[tokio::test]
async fn another_history_of_the_same_length_overtakes_it_and_is_then_seen_to_be_cut() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    backend.sql("update head set hash = decode(repeat('ab', 32), 'hex')").unwrap();
    let appended = append_assumed(&mut store, &head, &[], &credits(&head, 2, 3)).await;
    assert_overtaken(&backend, appended, &[1]).await;
    assert!(matches!(store.begin(&head, &[]).await, Err(StoreError::HistoryCut(_))));
}

#[tokio::test]
async fn events_that_do_not_follow_their_aggregates_last_one_are_not_written() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    let appended = append_assumed(&mut store, &head, &[], &credits(&head, 2, 5)).await;
    assert_overtaken(&backend, appended, &[1]).await;
}

#[tokio::test]
async fn what_moves_no_head_is_not_written() {
    let Some(backend) = Postgres::if_there() else { return };
    let (mut store, head) = alone(&backend).await;
    let appended = append_assumed(&mut store, &head, &[], &receipts_only(vec![([7; 16], refusal())])).await;
    assert_overtaken(&backend, appended, &[1]).await;
}

/// Whatever the database's default is: with a stricter isolation it would fail and not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_append_queues_for_the_lock_as_everybody_does() {
    let Some(backend) = Postgres::if_there() else { return };
    let defaults = format!("alter database {} set default_transaction_isolation = 'serializable'", backend.name());
    backend.sql_as_superuser(&defaults);
    let (mut store, head) = alone(&backend).await;
    let mut other = backend.open().await.unwrap();

    // One that holds the lock, and lets go.
    let turn = other.begin(&head, &[]).await.unwrap();
    let added = credits(&head, 2, 3);
    let waiting = on_a_thread({
        let (head, added) = (head.clone(), added.clone());
        async move {
            let appended = append_assumed(&mut store, &head, &[], &added).await;
            (store, appended)
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(!waiting.is_finished(), "it did not wait");
    drop(turn);
    let (mut store, appended) = waiting.join().unwrap();
    appended.unwrap();

    // One that stands in the queue before it, and does not have the row yet.
    let head = head_at(&added.events[0], 0);
    let queue = i64::from_be_bytes(*b"tallytrx");
    let holds = backend.sql_meanwhile(&format!("select pg_advisory_xact_lock({queue}), pg_sleep(0.5)"));
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    let next =
        batch(&head, command(3), vec![(AggregateKey::Wallet(reseller(1)), 4, credits_added(command(3), 5, 110))]);
    append_assumed(&mut store, &head, &[], &next).await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(100), "it went past the queue");
    holds.join().unwrap();

    // One that holds it, and writes.
    let head = head_at(&next.events[0], 0);
    let turn = other.begin(&head, &[]).await.unwrap();
    let waiting = on_a_thread({
        let head = head.clone();
        async move {
            let late = batch(
                &head,
                command(4),
                vec![(AggregateKey::Wallet(reseller(1)), 5, credits_added(command(4), 5, 115))],
            );
            let appended = append_assumed(&mut store, &head, &[], &late).await;
            let again = store.assume(&head).is_some();
            (appended, again)
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    turn.append(&funded_wallet(&head, command(9), reseller(9), 100)).await.unwrap();
    let (appended, again) = waiting.join().unwrap();
    assert!(matches!(appended, Err(StoreError::Overtaken(_))), "{appended:?}");
    assert!(!again, "whoever was overtaken keeps to the lock for a while");
    let log = other.read(0, 10).await.unwrap();
    assert_eq!(assert_unbroken(&log).position, 6);
    assert_eq!(log[5].command_id, command(9));
}
