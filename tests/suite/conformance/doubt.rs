//! After a commit whose answer was lost: never a guess.

use std::collections::HashSet;
use std::time::Duration;

use aggregates::event::AggregateKey;
use tallytree::store::{EventStore, Turn};

use super::{Backend, on_a_thread};
use crate::common::log::{append, batch, command, credits_added, funded_wallet, genesis, receipts_only, reseller};
use crate::faulty::{Faulty, Step};

pub async fn after_a_lost_answer_the_log_says_what_was_done<B: Backend>(backend: B) {
    let (mut store, faults) = Faulty::new(backend.open().await.unwrap());
    let head = append(&mut store, &genesis(), &funded_wallet(&genesis(), command(1), reseller(1), 100)).await.unwrap();
    let wallet = AggregateKey::Wallet(reseller(1));
    let doubtful = batch(&head, command(2), vec![(wallet, 3, credits_added(command(2), 5, 105))]);
    faults.fail(Step::AfterCommit);
    append(&mut store, &head, &doubtful).await.unwrap_err();

    let (now, done) = store.resolve(head.position, &[command(1), command(2), command(3)]).await.unwrap();
    assert_eq!(done, HashSet::from([command(2)]), "command 1 stands before the doubt, command 3 was never sent");
    assert_eq!((now.position, now.epoch), (3, head.epoch + 1));
    assert_eq!(now.hash, doubtful.events[0].hash);
    assert_eq!(*store.begin(&now, &[]).await.unwrap().head(), now);
}

pub async fn what_was_never_written_is_not_in_the_log<B: Backend>(backend: B) {
    let (mut store, faults) = Faulty::new(backend.open().await.unwrap());
    let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    faults.fail(Step::BeforeAppend);
    append(&mut store, &genesis(), &first).await.unwrap_err();
    faults.fail(Step::Resolve);
    store.resolve(0, &[command(1)]).await.unwrap_err();

    let (head, done) = store.resolve(0, &[command(1)]).await.unwrap();
    assert_eq!(done, HashSet::new());
    assert_eq!((head.position, head.epoch), (0, 1), "a resolve that failed before the store did nothing");
    let (head, _) = store.resolve(0, &[]).await.unwrap();
    assert_eq!(head.epoch, 2);
    assert_eq!(append(&mut store, &head, &first).await.unwrap().position, 2, "and it can be written now");
    assert_eq!(faults.waiting(), 0);
}

pub async fn a_statement_that_fails_leaves_nothing_behind<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let refusal = aggregates::ledger::Receipt {
        fingerprint: [1; 32],
        outcome: aggregates::ledger::Remembered::Refused(aggregates::rejection::Rejection::not_found("wallet")),
        position: 0,
    };
    let known = receipts_only(vec![([1; 16], refusal.clone())]);
    append(&mut store, &genesis(), &known).await.unwrap();

    // Its events are written before its receipt fails.
    let mut doomed = funded_wallet(&genesis(), command(1), reseller(1), 100);
    doomed.receipts = vec![([1; 16], refusal)];
    append(&mut store, &genesis(), &doomed).await.unwrap_err();
    let mut other = backend.open().await.unwrap();
    assert_eq!(
        *other.begin(&genesis(), &[]).await.unwrap().head(),
        genesis(),
        "the lock is free, the head where it was"
    );
    let (head, done) = store.resolve(0, &[command(1)]).await.unwrap();
    assert_eq!((head.position, done), (0, HashSet::new()));
}

pub async fn resolving_waits_for_a_transaction_in_doubt<B: Backend>(backend: B) {
    let mut writer = backend.open().await.unwrap();
    let mut asker = backend.open().await.unwrap();
    let turn = writer.begin(&genesis(), &[]).await.unwrap();
    let asked = on_a_thread(async move { asker.resolve(0, &[command(1)]).await.unwrap() });
    std::thread::sleep(Duration::from_millis(100));
    assert!(!asked.is_finished(), "it answered while the commit was still to come");
    turn.append(&funded_wallet(&genesis(), command(1), reseller(1), 100)).await.unwrap();
    let (head, done) = asked.join().unwrap();
    assert_eq!(done, HashSet::from([command(1)]));
    assert_eq!((head.position, head.epoch), (2, 1));
}
