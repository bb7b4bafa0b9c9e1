//! What is committed beside the events: receipts, snapshots, facts, personal data.

use aggregates::answer::{Answer, DoneAnswer};
use aggregates::client::ClientDetails;
use aggregates::event::AggregateKey;
use aggregates::facts::{Fact, FactKey, OwnerFact, Totals};
use aggregates::ledger::{Key, Loaded, Receipt, Remembered};
use aggregates::rejection::Rejection;
use aggregates::reseller::Reseller;
use serde_json::Value;
use tallytree::store::{Batch, EventStore, Head, SnapshotRow, Turn};

use super::Backend;
use crate::common::log::{
    append, batch, client, command, details, funded_wallet, genesis, noon, receipts_only, registered, reseller,
};

fn done(position: u64) -> Receipt {
    let answer = Answer::Done(DoneAnswer { done: "funded \u{1f4b8}".into() });
    Receipt { fingerprint: [9; 32], outcome: Remembered::Done { changed: true, answer }, position }
}

fn refused(position: u64) -> Receipt {
    let outcome =
        Remembered::Refused(Rejection::InsufficientCredits { required: 200, available: 3, balance: 3, reserved: 0 });
    Receipt { fingerprint: [8; 32], outcome, position }
}

async fn receipts<S: EventStore>(store: &mut S, head: &Head, keys: &[[u8; 16]]) -> Vec<([u8; 16], Receipt)> {
    // Asked for ahead, and not asked for ahead.
    let mut found = store.begin(head, keys).await.unwrap().receipts(keys).await.unwrap();
    let mut later = store.begin(head, &[]).await.unwrap().receipts(keys).await.unwrap();
    found.sort_by_key(|(key, _)| *key);
    later.sort_by_key(|(key, _)| *key);
    assert_eq!(found, later);
    found
}

pub async fn receipts_are_found_under_the_lock<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let mut first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    first.receipts = vec![([1; 16], done(2)), ([2; 16], refused(0))];
    let head = append(&mut store, &genesis(), &first).await.unwrap();
    let found = receipts(&mut backend.open().await.unwrap(), &head, &[[2; 16], [3; 16], [1; 16]]).await;
    assert_eq!(found, [([1; 16], done(2)), ([2; 16], refused(0))]);
}

pub async fn a_batch_of_refusals_leaves_the_head_where_it_is<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let refusals = receipts_only(vec![([1; 16], refused(0)), ([2; 16], refused(0))]);
    assert_eq!(append(&mut store, &genesis(), &refusals).await.unwrap(), genesis());
    assert_eq!(*store.begin(&genesis(), &[]).await.unwrap().head(), genesis());
    assert_eq!(receipts(&mut store, &genesis(), &[[1; 16], [2; 16]]).await.len(), 2);
}

pub async fn a_receipt_key_twice_refuses_the_batch_whole<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    append(&mut store, &genesis(), &receipts_only(vec![([1; 16], refused(0))])).await.unwrap();

    let mut known = funded_wallet(&genesis(), command(1), reseller(1), 100);
    known.receipts = vec![([2; 16], done(2)), ([1; 16], done(2))];
    append(&mut store, &genesis(), &known).await.unwrap_err();
    let mut twice = funded_wallet(&genesis(), command(1), reseller(1), 100);
    twice.receipts = vec![([3; 16], done(2)), ([3; 16], done(2))];
    append(&mut store, &genesis(), &twice).await.unwrap_err();

    assert_eq!(receipts(&mut store, &genesis(), &[[1; 16], [2; 16], [3; 16]]).await, [([1; 16], refused(0))]);
    assert_eq!(store.read(0, 10).await.unwrap(), []);
    let loaded = store.load(&[Key::Aggregate(AggregateKey::Wallet(reseller(1)))]).await.unwrap();
    assert_eq!(loaded[0].1, Loaded::Aggregate(None));
}

pub async fn receipts_expire_a_few_at_a_time_oldest_first<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    for (day, key) in (0..).zip(1..=5_u8) {
        let mut batch = receipts_only(vec![([key; 16], refused(0))]);
        batch.now = noon().plus_seconds(day * 86_400);
        append(&mut store, &genesis(), &batch).await.unwrap();
    }
    let keys: Vec<[u8; 16]> = (1..=5).map(|key| [key; 16]).collect();
    let fourth_day = noon().plus_seconds(3 * 86_400);
    assert_eq!(store.expire_receipts(fourth_day, 2).await.unwrap(), 2);
    assert_eq!(receipts(&mut store, &genesis(), &keys).await.len(), 3);
    assert_eq!(store.expire_receipts(fourth_day, 100).await.unwrap(), 1);
    let left: Vec<_> = receipts(&mut store, &genesis(), &keys).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, [[4; 16], [5; 16]], "the one of that very moment has not expired");
    assert_eq!(store.expire_receipts(fourth_day, 100).await.unwrap(), 0);
}

pub async fn a_receipt_is_found_though_another_handles_have_come_and_gone_before_it<B: Backend>(backend: B) {
    let mut idle = backend.open().await.unwrap();
    append(&mut idle, &genesis(), &receipts_only(vec![([1; 16], refused(0))])).await.unwrap();
    let mut busy = backend.open().await.unwrap();
    let others = (2..=5).map(|key| ([key; 16], refused(0))).collect();
    append(&mut busy, &genesis(), &receipts_only(others)).await.unwrap();
    assert_eq!(busy.expire_receipts(noon().plus_seconds(86_400), 100).await.unwrap(), 5);

    append(&mut idle, &genesis(), &receipts_only(vec![([6; 16], refused(0))])).await.unwrap();
    // Whatever is kept beside the log is brought up to it here; the receipt itself has not expired.
    assert_eq!(idle.expire_receipts(noon(), 100).await.unwrap(), 0);
    for store in [&mut idle, &mut busy, &mut backend.open().await.unwrap()] {
        assert_eq!(receipts(store, &genesis(), &[[5; 16], [6; 16]]).await, [([6; 16], refused(0))]);
    }
}

async fn state<S: EventStore>(store: &mut S, key: AggregateKey) -> Option<(Value, u64)> {
    let outside = store.load(&[Key::Aggregate(key.clone())]).await.unwrap();
    let head = store.resellers(&mut |_, _, _| {}).await.unwrap();
    let inside = store.begin(&head, &[]).await.unwrap().load(&[Key::Aggregate(key)]).await.unwrap();
    assert_eq!(outside, inside, "a turn loads what is loaded outside of one");
    match &outside[0].1 {
        Loaded::Aggregate(state) => {
            state.as_ref().map(|(text, sequence)| (serde_json::from_str(text).unwrap(), *sequence))
        }
        other => panic!("unexpected {other:?}"),
    }
}

pub async fn a_state_is_loaded_as_it_was_written<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let key = AggregateKey::Wallet(reseller(1));
    assert_eq!(state(&mut store, key.clone()).await, None);
    let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    let head = append(&mut store, &genesis(), &first).await.unwrap();
    let expected: Value = serde_json::from_str(&first.snapshots[0].payload).unwrap();
    assert_eq!(state(&mut store, key.clone()).await, Some((expected.clone(), 2)));

    let mut second =
        batch(&head, command(2), vec![(key.clone(), 3, crate::common::log::credits_added(command(2), 5, 105))]);
    let mut later = expected;
    later["balance"] = 105.into();
    second.snapshots = vec![SnapshotRow { key: key.clone(), sequence: 3, payload: later.to_string() }];
    append(&mut store, &head, &second).await.unwrap();
    assert_eq!(state(&mut store, key).await, Some((later, 3)));
    // Which of the two it is, is the store's to say.
    assert_eq!(backend.sql("update snapshots set position = position where position = last_sequence"), Ok(1));
}

pub async fn a_snapshot_that_is_of_no_use_is_replayed_from_the_events<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let key = AggregateKey::Wallet(reseller(1));
    let first = funded_wallet(&genesis(), command(1), reseller(1), 100);
    append(&mut store, &genesis(), &first).await.unwrap();
    let as_written = state(&mut store, key.clone()).await;
    assert!(as_written.is_some());
    for damage in B::damages() {
        assert_eq!(backend.sql(damage), Ok(1));
        assert_eq!(state(&mut store, key.clone()).await, as_written, "{damage}");
    }
}

pub async fn resellers_are_read_with_the_head_they_stand_at<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let ids = [reseller(1), reseller(2), reseller(3)];
    let mut batch =
        batch(&genesis(), command(1), ids.iter().map(|id| (AggregateKey::Reseller(*id), 1, registered(*id))).collect());
    let expected: Vec<Reseller> = ids
        .iter()
        .map(|id| {
            let mut state = Reseller::default();
            if let aggregates::event::Event::Reseller(event) = registered(*id) {
                state.fold(&event);
            }
            state
        })
        .collect();
    batch.snapshots = ids
        .iter()
        .zip(&expected)
        .map(|(id, state)| SnapshotRow {
            key: AggregateKey::Reseller(*id),
            sequence: 1,
            payload: serde_json::to_string(state).unwrap(),
        })
        .collect();
    let head = append(&mut store, &genesis(), &batch).await.unwrap();
    let of = |number: usize| format!("where aggregate_id = '{}'", ids[number]);
    assert_eq!(backend.sql(&format!("update snapshots set state_version = 999 {}", of(1))), Ok(1));
    assert_eq!(backend.sql(&format!("delete from snapshots {}", of(2))), Ok(1));

    let mut found = Vec::new();
    let at = store.resellers(&mut |id, sequence, reseller| found.push((id, sequence, reseller))).await.unwrap();
    assert_eq!(at, head);
    found.sort_by_key(|(id, ..)| *id);
    let expected: Vec<_> = ids.into_iter().zip(expected).map(|(id, state)| (id, 1, state)).collect();
    assert_eq!(found, expected);
}

pub async fn facts_are_put_and_replaced<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let user = FactKey::User("uma@example".parse().unwrap());
    let owner = Fact::Reseller(OwnerFact { reseller: reseller(1) });
    let totals = |issued| Fact::Totals(Totals { issued, credit_limits: 8, removed: 9 });
    let facts = [(user.clone(), (owner.clone(), 1)), (FactKey::Totals, (totals(6), 1))];
    append(&mut store, &genesis(), &Batch { facts: facts.into(), ..receipts_only(vec![]) }).await.unwrap();
    let facts = [(FactKey::Totals, (totals(7), 2))];
    append(&mut store, &genesis(), &Batch { facts: facts.into(), ..receipts_only(vec![]) }).await.unwrap();

    let other = FactKey::User("somebody@example".parse().unwrap());
    let keys = [user, FactKey::Totals, other].map(Key::Fact);
    let loaded: Vec<_> = store.load(&keys).await.unwrap().into_iter().map(|(_, loaded)| loaded).collect();
    assert_eq!(loaded, [Some(owner), Some(totals(7)), None].map(Loaded::Fact));
}

pub async fn personal_data_is_put_replaced_and_erased<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let with_mail = ClientDetails { email: Some("ann@example".parse().unwrap()), ..details("Ann \"A\" O'Neil") };
    let steps = [Some(details("Ann")), Some(with_mail), None];
    let key = Key::PersonalData(client(1));
    assert_eq!(store.load(std::slice::from_ref(&key)).await.unwrap()[0].1, Loaded::PersonalData(None));
    for step in steps {
        let personal_data = vec![(client(1), step.clone()), (client(2), Some(details("Bob")))];
        append(&mut store, &genesis(), &Batch { personal_data, ..receipts_only(vec![]) }).await.unwrap();
        let loaded = store.load(&[key.clone(), Key::PersonalData(client(2))]).await.unwrap();
        assert_eq!(loaded[0].1, Loaded::PersonalData(step));
        assert_eq!(loaded[1].1, Loaded::PersonalData(Some(details("Bob"))));
    }
}
