//! Turns: one at a time, in whichever process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::Credits;
use aggregates::wallet::WalletEvent;
use tallytree::store::{EventStore, Head, StoreError, StoredEvent, Turn};
use uuid::Uuid;

use super::{Backend, on_a_thread};
use crate::common::log::{
    append, assert_unbroken, batch, command, credits_added, funded_wallet, genesis, head_at, reseller, wallet_opened,
};

pub async fn a_turn_that_is_dropped_changes_nothing<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let mut other = backend.open().await.unwrap();
    let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    let head = append(&mut store, &genesis(), &first).await.unwrap();
    for _ in 0..3 {
        let mut turn = store.begin(&head, &[]).await.unwrap();
        turn.load(&[]).await.unwrap();
        drop(turn);
        assert_eq!(*other.begin(&head, &[]).await.unwrap().head(), head);
    }
    assert_eq!(other.read(0, 10).await.unwrap(), first.events);
}

pub async fn a_second_handle_waits_its_turn_and_sees_the_tail<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let mut other = backend.open().await.unwrap();
    let turn = store.begin(&genesis(), &[]).await.unwrap();

    let has_begun = Arc::new(AtomicBool::new(false));
    let began = Arc::clone(&has_begun);
    let waiting = on_a_thread(async move {
        let mut turn = other.begin(&genesis(), &[]).await.unwrap();
        began.store(true, Ordering::SeqCst);
        (turn.head().clone(), turn.read(0, 10).await.unwrap())
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(!has_begun.load(Ordering::SeqCst), "two turns at once");

    let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    turn.append(&first).await.unwrap();
    let (head, tail) = waiting.join().unwrap();
    assert_eq!(head.position, 2);
    assert_eq!(tail, first.events);
}

pub async fn a_handle_that_waits_too_long_is_told_that_the_store_is_busy<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let mut other = backend.open().await.unwrap();
    let mut turn = store.begin(&genesis(), &[]).await.unwrap();
    let waiting = on_a_thread(async move {
        let refused = other.begin(&genesis(), &[]).await.err();
        (other, refused)
    });
    // One that falls silent may lose its turn; this one is at work.
    while !waiting.is_finished() {
        turn.receipts(&[[9; 16]]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (mut other, refused) = waiting.join().unwrap();
    assert!(matches!(refused, Some(StoreError::Busy(_))), "{refused:?}");
    drop(turn);
    other.begin(&genesis(), &[]).await.unwrap();
}

/// Adds credits to one wallet, turn after turn, on what it knows of the balance: its own memory and the tail, nothing else.
async fn hammer<B: Backend>(backend: Arc<B>, turns: u64, tag: u128) -> u64 {
    let mut store = backend.open().await.unwrap();
    let key = AggregateKey::Wallet(reseller(1));
    let mut head = genesis();
    let mut balance: Credits = 0;
    let mut others_events = 0;
    for number in 0..turns {
        let mut turn = store.begin(&head, &[]).await.unwrap();
        let true_head = turn.head().clone();
        if true_head.position > head.position {
            let tail = turn.read(head.position, usize::MAX).await.unwrap();
            others_events += true_head.position - head.position;
            balance = balance_after(tail.last().unwrap());
        }
        let by = command(tag + u128::from(number));
        let events = (1..=1 + number % 3)
            .map(|step| {
                let added = i64::try_from(step).unwrap();
                (key.clone(), true_head.position + step, credits_added(by, 1, balance + added))
            })
            .collect();
        let batch = batch(&true_head, by, events);
        turn.append(&batch).await.unwrap();
        head = head_at(batch.events.last().unwrap(), true_head.epoch);
        balance = balance_after(batch.events.last().unwrap());
    }
    others_events
}

fn balance_after(event: &StoredEvent) -> Credits {
    match Event::decode(&event.aggregate_type, &event.event_type, &event.event_version, &event.payload).unwrap() {
        Event::Wallet(WalletEvent::CreditsAdded { balance, .. }) => balance,
        other => panic!("unexpected {other:?}"),
    }
}

pub async fn two_handles_that_hammer_never_overlap_and_leave_no_gap<B: Backend>(backend: B) {
    let backend = Arc::new(backend);
    let one = on_a_thread(hammer(Arc::clone(&backend), 120, 1_000_000));
    let two = on_a_thread(hammer(Arc::clone(&backend), 120, 2_000_000));
    let seen = one.join().unwrap() + two.join().unwrap();
    assert!(seen > 0, "they took turns");

    let events = backend.open().await.unwrap().read(0, usize::MAX).await.unwrap();
    assert_eq!(events.len(), 480, "40 × (1 + 2 + 3) each");
    assert_unbroken(&events);
    for (balance, event) in (1..).zip(&events) {
        assert_eq!(balance_after(event), balance, "a turn was decided on an old head");
    }
}

pub async fn ten_threads_that_open_a_new_store_at_once_all_come_up<B: Backend>(backend: B) {
    let backend = Arc::new(backend);
    let start = Arc::new(Barrier::new(10));
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let (backend, start) = (Arc::clone(&backend), Arc::clone(&start));
            on_a_thread(async move {
                start.wait();
                visit(backend.open().await.unwrap()).await;
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_unbroken_visits(backend.open().await.unwrap(), 10).await;
}

pub async fn ten_processes_that_open_a_new_store_at_once_all_come_up<B: Backend>(backend: B) {
    let processes: Vec<_> =
        (0..10).map(|_| backend.visitor().stdout(std::process::Stdio::null()).spawn().unwrap()).collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    assert_unbroken_visits(backend.open().await.unwrap(), 10).await;
}

/// Comes by for one event: a wallet of its own is opened.
pub async fn visit<S: EventStore>(mut store: S) {
    let turn = store.begin(&genesis(), &[]).await.unwrap();
    let head: Head = turn.head().clone();
    let id = aggregates::primitives::ResellerId(Uuid::now_v7());
    let events = vec![(AggregateKey::Wallet(id), 1, wallet_opened(id))];
    turn.append(&batch(&head, aggregates::primitives::CommandId(id.0), events)).await.unwrap();
}

async fn assert_unbroken_visits<S: EventStore>(mut store: S, visits: usize) {
    let events = store.read(0, 1000).await.unwrap();
    assert_eq!(events.len(), visits);
    assert_unbroken(&events);
}
