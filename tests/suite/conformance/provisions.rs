//! What was paid for a provision and what of it has been refunded: what a refund rests on, wherever a store keeps it.

use std::collections::BTreeMap;

use aggregates::event::{AggregateKey, Event};
use aggregates::facts::{Fact, FactKey, ProvisionFact};
use aggregates::ledger::{Key, Loaded};
use aggregates::primitives::Credits;
use aggregates::wallet::Commission;
use tallytree::store::{Batch, EventStore, Head, StoreError, Turn};

use super::Backend;
use crate::common::log::{
    append, batch, command, genesis, provision, provisioned, receipts_only, refunded, reseller, with_facts,
};
use crate::faulty::{Faulty, Step};

/// A wallet that buys and is refunded, as the engine would write it.
pub struct Buyer {
    pub head: Head,
    sequence: u64,
    facts: BTreeMap<FactKey, (Fact, u64)>,
}

impl Buyer {
    pub fn new() -> Self {
        Self { head: genesis(), sequence: 0, facts: BTreeMap::new() }
    }

    /// The next batch, of these events.
    pub fn batch(&self, events: &[Event]) -> Batch {
        let sequences = self.sequence + 1..;
        let numbered = sequences.zip(events.iter().cloned());
        let key = AggregateKey::Wallet(reseller(1));
        let numbered = numbered.map(|(sequence, event)| (key.clone(), sequence, event)).collect();
        let batch = batch(&self.head, command(u128::from(self.head.position) + 1), numbered);
        with_facts(batch, reseller(1), events, &mut self.facts.clone())
    }

    /// A batch was committed.
    pub fn is_committed(&mut self, batch: &Batch, head: Head) {
        self.head = head;
        self.sequence += u64::try_from(batch.events.len()).unwrap();
        self.facts.extend(batch.facts.clone());
    }

    pub async fn commit<S: EventStore>(&mut self, store: &mut S, events: &[Event]) {
        let batch = self.batch(events);
        let head = append(store, &self.head, &batch).await.unwrap();
        self.is_committed(&batch, head);
    }
}

/// What a fact should be, of so much paid.
fn paid(paid: Credits, refunded: Credits) -> Option<Fact> {
    let commissions = vec![Commission { reseller: reseller(2), amount: 15 }];
    Some(Fact::Provision(ProvisionFact { wallet: reseller(1), paid, refunded, commissions }))
}

fn keys(numbers: &[u128]) -> Vec<Key> {
    numbers.iter().map(|number| Key::Fact(FactKey::Provision(provision(*number)))).collect()
}

/// The facts that a handle finds, outside of a turn and in one.
pub async fn facts<S: EventStore>(store: &mut S, head: &Head, numbers: &[u128]) -> Vec<Option<Fact>> {
    let keys = keys(numbers);
    let inside = store.begin(head, &[]).await.unwrap().load(&keys).await.unwrap();
    assert_eq!(store.load(&keys).await.unwrap(), inside, "a turn loads what is loaded outside of one");
    let fact = |(_, loaded)| match loaded {
        Loaded::Fact(fact) => fact,
        other => panic!("unexpected {other:?}"),
    };
    inside.into_iter().map(fact).collect()
}

/// Asserts what 1, 2, 3 and 4 are after [`write`].
pub async fn assert_written<S: EventStore>(store: &mut S, head: &Head) {
    let found = facts(store, head, &[1, 2, 3, 4]).await;
    assert_eq!(found, [paid(100, 40), paid(200, 0), paid(300, 300), None]);
}

/// Provisions 1 (refunded by 30, then by 10), 2 and 3 (refunded whole, in the commit that made it).
pub async fn write<S: EventStore>(buyer: &mut Buyer, store: &mut S) {
    buyer.commit(store, &[provisioned(provision(1), 100), provisioned(provision(2), 200)]).await;
    assert_eq!(facts(store, &buyer.head, &[1, 2, 3]).await, [paid(100, 0), paid(200, 0), None]);
    buyer.commit(store, &[refunded(provision(1), 30, 30)]).await;
    assert_eq!(facts(store, &buyer.head, &[1, 2]).await, [paid(100, 30), paid(200, 0)]);
    let third = [
        provisioned(provision(3), 300),
        refunded(provision(1), 10, 40),
        refunded(provision(3), 100, 100),
        refunded(provision(3), 200, 300),
    ];
    buyer.commit(store, &third).await;
}

pub async fn a_provisions_fact_follows_its_events<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let mut buyer = Buyer::new();
    write(&mut buyer, &mut store).await;
    assert_written(&mut store, &buyer.head).await;
    // One that comes later, before the first has gone, and after.
    assert_written(&mut backend.open().await.unwrap(), &genesis()).await;
    drop(store);
    assert_written(&mut backend.open().await.unwrap(), &buyer.head).await;
}

pub async fn a_provisions_fact_is_whole_for_whoever_holds_the_lock<B: Backend>(backend: B) {
    let mut one = backend.open().await.unwrap();
    let mut other = backend.open().await.unwrap();
    let mut buyer = Buyer::new();
    // Each turn finds all that the other handle has committed, and nothing of what is older is mixed in.
    for round in 1..=20_u128 {
        let before = buyer.head.clone();
        buyer.commit(&mut one, &[provisioned(provision(round), 100)]).await;
        assert_eq!(facts(&mut other, &before, &[round]).await, [paid(100, 0)]);
        let before = buyer.head.clone();
        buyer.commit(&mut other, &[refunded(provision(round), 40, 40)]).await;
        assert_eq!(facts(&mut one, &before, &[round]).await, [paid(100, 40)]);
        let before = buyer.head.clone();
        let earlier = round.div_ceil(2);
        let total = Credits::try_from(round).unwrap() + 40;
        buyer.commit(&mut one, &[refunded(provision(earlier), 1, total)]).await;
        assert_eq!(facts(&mut other, &before, &[earlier]).await, [paid(100, total)]);
    }
    // One that comes late has read it all from files or tables; what it adds counts on top of that.
    let mut late = backend.open().await.unwrap();
    buyer.commit(&mut late, &[refunded(provision(1), 5, 90)]).await;
    buyer.commit(&mut late, &[refunded(provision(1), 5, 95)]).await;
    for handle in [&mut one, &mut other, &mut late] {
        assert_eq!(facts(handle, &genesis(), &[1, 20]).await, [paid(100, 95), paid(100, 40)]);
    }
}

async fn lose<S: EventStore>(store: &mut S, head: &Head, batch: &Batch) -> StoreError {
    append(store, head, batch).await.unwrap_err()
}

pub async fn a_provision_that_was_not_committed_has_no_fact<B: Backend>(backend: B) {
    let mut store = backend.open().await.unwrap();
    let mut buyer = Buyer::new();
    buyer.commit(&mut store, &[provisioned(provision(1), 100)]).await;
    let refusal = aggregates::ledger::Receipt {
        fingerprint: [1; 32],
        outcome: aggregates::ledger::Remembered::Refused(aggregates::rejection::Rejection::not_found("wallet")),
        position: 0,
    };
    append(&mut store, &buyer.head, &receipts_only(vec![([1; 16], refusal.clone())])).await.unwrap();

    // A batch whose receipt's key is taken is refused whole.
    let mut doomed = buyer.batch(&[provisioned(provision(2), 200), refunded(provision(1), 30, 30)]);
    doomed.receipts = vec![([1; 16], refusal)];
    lose(&mut store, &buyer.head, &doomed).await;
    let (head, _) = store.resolve(buyer.head.position, &[command(2)]).await.unwrap();
    assert_eq!(facts(&mut store, &head, &[1, 2]).await, [paid(100, 0), None]);

    // What comes in its place counts, at the same positions.
    buyer.head = head;
    buyer.commit(&mut store, &[refunded(provision(1), 50, 50), provisioned(provision(3), 300)]).await;
    assert_eq!(facts(&mut store, &buyer.head, &[1, 2, 3]).await, [paid(100, 50), None, paid(300, 0)]);
}

pub async fn a_refund_whose_answer_was_lost_is_in_the_fact<B: Backend>(backend: B) {
    let (mut store, faults) = Faulty::new(backend.open().await.unwrap());
    let mut buyer = Buyer::new();
    buyer.commit(&mut store, &[provisioned(provision(1), 100)]).await;
    let doubtful = buyer.batch(&[refunded(provision(1), 30, 30), provisioned(provision(2), 200)]);
    faults.fail(Step::AfterCommit);
    lose(&mut store, &buyer.head, &doubtful).await;
    let (head, done) = store.resolve(buyer.head.position, &[command(2)]).await.unwrap();
    assert!(done.contains(&command(2)));
    assert_eq!(facts(&mut store, &head, &[1, 2]).await, [paid(100, 30), paid(200, 0)]);
    buyer.is_committed(&doubtful, head);
    buyer.commit(&mut store, &[refunded(provision(1), 70, 100)]).await;
    assert_eq!(facts(&mut store, &buyer.head, &[1, 2]).await, [paid(100, 100), paid(200, 0)]);
}
