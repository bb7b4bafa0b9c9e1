//! The log: gapless, chained, never changed, never cut.

use aggregates::event::AggregateKey;
use tallytree::store::{EventStore, Head, StoreError, Turn};

use super::Backend;
use crate::common::log::{
    append, assert_unbroken, batch, command, credits_added, funded_wallet, genesis, noon, registered, reseller,
};

pub async fn batches_append_without_a_gap_and_chain<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let head = append(&mut store, &genesis(), &funded_wallet(&genesis(), command(1), reseller(1), 100)).await.unwrap();
    let second = batch(
        &head,
        command(2),
        vec![
            (AggregateKey::Reseller(reseller(1)), 1, registered(reseller(1))),
            (AggregateKey::Wallet(reseller(1)), 3, credits_added(command(2), 5, 105)),
        ],
    );
    let head = append(&mut store, &head, &second).await.unwrap();

    let events = store.read(0, 100).await.unwrap();
    assert_eq!(events.len(), 4);
    assert_eq!(events[2..], second.events, "an event is read as it was written, to the letter");
    let end = assert_unbroken(&events);
    assert_eq!((end.position, end.hash), (head.position, head.hash));
    assert_eq!(store.read(1, 2).await.unwrap(), events[1..3]);
    assert_eq!(store.read(4, 10).await.unwrap(), []);

    let mut turn = store.begin(&head, &[]).await.unwrap();
    assert_eq!(*turn.head(), head);
    assert_eq!(turn.read(3, 10).await.unwrap(), events[3..]);
}

pub async fn a_batch_that_does_not_follow_the_head_is_refused_whole<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let head = append(&mut store, &genesis(), &funded_wallet(&genesis(), command(1), reseller(1), 100)).await.unwrap();
    let wallet = || AggregateKey::Wallet(reseller(1));

    let gap = Head { position: 7, ..head.clone() };
    let with_gap = batch(&gap, command(2), vec![(wallet(), 3, credits_added(command(2), 5, 105))]);
    append(&mut store, &head, &with_gap).await.unwrap_err();

    let again = batch(&genesis(), command(3), vec![(wallet(), 3, credits_added(command(3), 5, 105))]);
    append(&mut store, &head, &again).await.unwrap_err();

    let taken_sequence = batch(
        &head,
        command(4),
        vec![(wallet(), 3, credits_added(command(4), 5, 105)), (wallet(), 2, credits_added(command(4), 5, 110))],
    );
    append(&mut store, &head, &taken_sequence).await.unwrap_err();

    let sequence_with_gap = batch(&head, command(6), vec![(wallet(), 4, credits_added(command(6), 5, 105))]);
    append(&mut store, &head, &sequence_with_gap).await.unwrap_err();

    let mut backwards = batch(&head, command(5), vec![(wallet(), 3, credits_added(command(5), 5, 105))]);
    backwards.events[0].recorded_at = noon().plus_seconds(-1);
    append(&mut store, &head, &backwards).await.unwrap_err();

    assert_eq!(store.read(0, 100).await.unwrap().len(), 2);
    assert_eq!(*store.begin(&head, &[]).await.unwrap().head(), head);
}

pub async fn the_database_itself_refuses_to_change_or_delete_an_event<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    append(&mut store, &genesis(), &funded_wallet(&genesis(), command(1), reseller(1), 100)).await.unwrap();
    let before = store.read(0, 100).await.unwrap();
    let common = [
        "update events set payload = '{}' where position = 2",
        "update events set position = 3 where position = 2",
        "update events set recorded_at = recorded_at",
        "delete from events where position = 2",
        "delete from events",
        "delete from head",
        "insert into head (id, position, hash, epoch) select 2, position, hash, epoch from head",
    ];
    for statement in common.iter().chain(B::forbidden()) {
        backend.sql(statement).expect_err(statement);
    }
    assert_eq!(store.read(0, 100).await.unwrap(), before);
}

pub async fn a_head_that_fell_behind_is_a_cut_history<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let head = append(&mut store, &genesis(), &funded_wallet(&genesis(), command(1), reseller(1), 100)).await.unwrap();
    let seen = Head { position: head.position + 1, hash: [7; 32], ..head.clone() };
    let refused = store.begin(&seen, &[]).await.err().unwrap();
    assert!(matches!(refused, StoreError::HistoryCut(_)), "{refused}");

    let mut other = backend.open().await.unwrap();
    assert_eq!(
        *other.begin(&head, &[]).await.unwrap().head(),
        head,
        "the lock is free again, and nothing was appended"
    );
}

pub async fn another_hash_at_our_position_is_a_cut_history<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    let head = append(&mut store, &genesis(), &first).await.unwrap();
    let at_the_head = Head { hash: [7; 32], ..head.clone() };
    let behind_the_head = Head { position: 1, hash: [7; 32], ..head.clone() };
    let at_genesis = Head { position: 0, hash: [7; 32], ..head.clone() };
    for seen in [at_the_head, behind_the_head, at_genesis] {
        let refused = store.begin(&seen, &[]).await.err().unwrap();
        assert!(matches!(refused, StoreError::HistoryCut(_)), "{refused}");
    }
    let honest = Head { position: 1, hash: first.events[0].hash, ..genesis() };
    assert_eq!(*store.begin(&honest, &[]).await.unwrap().head(), head);
}

pub async fn a_schema_newer_than_ours_is_refused<B: Backend>(backend: B) {
    drop(backend.open().await.unwrap());
    backend.migrate_beyond();
    let refused = backend.open().await.err().unwrap();
    assert!(matches!(refused, StoreError::Schema(_)), "{refused}");
    assert!(refused.to_string().contains("9999"), "{refused}");
}
