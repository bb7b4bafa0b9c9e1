//! A store in memory around a ledger: decide, load what is missing, absorb, and keep what a commit would keep.
//!
//! Two more ledgers are asked beside the one in charge and must decide alike: a peer that learns of everything by the log, as
//! another node would, and now and then a new one that starts from what was committed.

use std::collections::BTreeMap;

use aggregates::client::{Client, ClientDetails};
use aggregates::command::{CommandEnvelope, ReceiptKey};
use aggregates::event::{AggregateKey, EVENT_VERSION, Event, EventMetadata, LoggedEvent};
use aggregates::facts::{self, Fact, FactKey};
use aggregates::ledger::{Accepted, Decision, Key, Ledger, Loaded, Receipt, Receipts, Remembered};
use aggregates::primitives::{ClientId, ResellerId, Timestamp};
use aggregates::rejection::{Denial, Rejection};
use aggregates::reseller::Reseller;
use aggregates::upline_request::UplineRequest;
use aggregates::wallet::Wallet;

use super::invariants::Invariants;

/// What the ledger said, seen from outside.
#[derive(Debug, Clone)]
pub enum Said {
    /// Accepted, with its events.
    Accepted(Remembered, Vec<LoggedEvent>),
    /// Refused by the rules.
    Refused(Rejection),
    /// Turned away.
    Denied(Denial),
    /// The first answer to this key.
    Replayed(Remembered),
}

#[derive(Debug, Default)]
struct Book(BTreeMap<ReceiptKey, Receipt>);

impl Receipts for Book {
    fn find(&self, key: &ReceiptKey) -> Option<&Receipt> {
        self.0.get(key)
    }
}

/// What is committed, and the ledgers on it.
#[derive(Default)]
pub struct Driver {
    ledger: Ledger,
    peer: Ledger,
    snapshots: BTreeMap<AggregateKey, (String, u64)>,
    facts: BTreeMap<FactKey, (Fact, u64)>,
    personal_data: BTreeMap<ClientId, ClientDetails>,
    receipts: Book,
    invariants: Invariants,
    /// The facts as the log alone gives them.
    folded: BTreeMap<FactKey, (Fact, u64)>,
    position: u64,
    /// Every event that was committed.
    pub log: Vec<LoggedEvent>,
    /// States after the last commit, read back from their snapshots.
    pub wallets: BTreeMap<ResellerId, Wallet>,
    pub resellers: BTreeMap<ResellerId, Reseller>,
    pub requests: BTreeMap<aggregates::primitives::RequestId, UplineRequest>,
    pub clients: BTreeMap<ClientId, Client>,
}

impl Driver {
    /// Sends a command as the writer would: its own key first, then the ledger.
    pub fn send(&mut self, envelope: &CommandEnvelope, now: Timestamp) -> Said {
        if let Some(own) = envelope.idempotency
            && let Some(receipt) = self.receipts.find(&own.key)
        {
            return if receipt.fingerprint == own.fingerprint {
                Said::Replayed(receipt.outcome.clone())
            } else {
                Said::Refused(Rejection::IdempotencyKeyReused {})
            };
        }
        let mut ledger = std::mem::take(&mut self.ledger);
        let mut peer = std::mem::take(&mut self.peer);
        let decision = self.decide(&mut ledger, envelope, now);
        let as_peer = self.decide(&mut peer, envelope, now);
        assert_alike(&decision, &as_peer, "a node that follows the log");
        (self.ledger, self.peer) = (ledger, peer);
        let said = match decision {
            Decision::Accepted(accepted) => self.commit(envelope, *accepted, now),
            Decision::Refused(rejection) => Said::Refused(rejection),
            Decision::Denied(denial) => Said::Denied(denial),
            Decision::Missing(_) => unreachable!("decided"),
        };
        let outcome = match &said {
            Said::Accepted(remembered, _) => Some(remembered.clone()),
            Said::Refused(rejection) if !rejection.is_remembered() => None,
            Said::Refused(rejection) => Some(Remembered::Refused(rejection.clone())),
            Said::Denied(_) | Said::Replayed(_) => None,
        };
        if let (Some(own), Some(outcome)) = (envelope.idempotency, outcome) {
            let receipt = Receipt { fingerprint: own.fingerprint, outcome, position: self.position };
            self.receipts.0.insert(own.key, receipt);
        }
        said
    }

    fn decide(&self, ledger: &mut Ledger, envelope: &CommandEnvelope, now: Timestamp) -> Decision {
        self.provide(ledger, Ledger::footprint(&envelope.command));
        for _ in 0..=4 {
            match ledger.decide(envelope, now, &self.receipts) {
                Decision::Missing(keys) => {
                    assert!(keys.iter().any(|key| !ledger.has(key)), "asks for what it has: {keys:?}");
                    self.provide(ledger, keys);
                }
                decision => return decision,
            }
        }
        panic!("more than four rounds of loading for {:?}", envelope.command);
    }

    fn provide(&self, ledger: &mut Ledger, keys: Vec<Key>) {
        for key in keys.into_iter().filter(|key| !ledger.has(key)).collect::<Vec<_>>() {
            let loaded = match &key {
                Key::Aggregate(aggregate) => Loaded::Aggregate(self.snapshots.get(aggregate).cloned()),
                Key::Fact(fact) => Loaded::Fact(self.facts.get(fact).map(|(fact, _)| fact.clone())),
                Key::PersonalData(client) => Loaded::PersonalData(self.personal_data.get(client).cloned()),
            };
            ledger.load(key, loaded).expect("a snapshot that reads back");
        }
    }

    fn commit(&mut self, envelope: &CommandEnvelope, mut accepted: Accepted, now: Timestamp) -> Said {
        let metadata = EventMetadata::of(&envelope.actor, envelope.command_id);
        let events: Vec<LoggedEvent> = accepted
            .events
            .iter()
            .map(|event| LoggedEvent {
                position: event.position,
                key: event.key.clone(),
                sequence: event.sequence,
                event: written_and_read(&event.key, &event.event),
                metadata: metadata.clone(),
                recorded_at: now,
            })
            .collect();
        let answer = accepted.answer.clone();
        let facts = accepted.facts.clone();
        let personal_data = accepted.personal_data.clone();
        let item_receipts = accepted.item_receipts.clone();
        self.ledger.absorb(&mut accepted);
        self.position += u64::try_from(events.len()).unwrap();
        assert_eq!(self.ledger.position(), self.position, "the position after absorbing");
        for event in &events {
            self.keep_snapshot(&event.key);
            self.fold_facts(event);
            self.peer.apply(event);
        }
        assert_eq!(self.peer.position(), self.position, "the peer's position");
        for (key, fact, position) in facts {
            self.facts.insert(key, (fact, position));
        }
        assert_eq!(self.facts, self.folded, "I9: the facts that were committed, and those that the log gives");
        for (client, details) in personal_data {
            match details {
                Some(details) => self.personal_data.insert(client, details),
                None => self.personal_data.remove(&client),
            };
        }
        for (idempotency, outcome) in item_receipts {
            let receipt = Receipt { fingerprint: idempotency.fingerprint, outcome, position: self.position };
            let former = self.receipts.0.insert(idempotency.key, receipt);
            assert!(former.is_none(), "an item's answer took the place of an earlier one");
        }
        self.invariants.check(&events);
        self.log.extend_from_slice(&events);
        Said::Accepted(Remembered::Done { changed: !events.is_empty(), answer }, events)
    }

    fn keep_snapshot(&mut self, key: &AggregateKey) {
        let snapshot = self.ledger.snapshot(key).expect("json").expect("a state for what has just changed");
        match key {
            AggregateKey::Wallet(id) => {
                self.wallets.insert(*id, serde_json::from_str(&snapshot.0).unwrap());
            }
            AggregateKey::Reseller(id) => {
                self.resellers.insert(*id, serde_json::from_str(&snapshot.0).unwrap());
            }
            AggregateKey::UplineRequest(id) => {
                self.requests.insert(*id, serde_json::from_str(&snapshot.0).unwrap());
            }
            AggregateKey::Client(id) => {
                self.clients.insert(*id, serde_json::from_str(&snapshot.0).unwrap());
            }
            AggregateKey::Platform | AggregateKey::Product(_) => {}
        }
        self.snapshots.insert(key.clone(), snapshot);
    }

    fn fold_facts(&mut self, event: &LoggedEvent) {
        let (AggregateKey::Wallet(owner) | AggregateKey::Reseller(owner)) = event.key else { return };
        for key in facts::keys(&event.event) {
            let current = self.folded.get(&key).map(|(fact, _)| fact);
            if let Some(fact) = facts::fold(&key, current, owner, &event.event, event.position) {
                self.folded.insert(key, (fact, event.position));
            }
        }
    }

    /// Throws the ledger in charge away and starts a new one from what was committed.
    pub fn restart(&mut self) {
        let mut ledger = Ledger::default();
        for (id, reseller) in &self.resellers {
            ledger.enlist(*id, self.snapshots[&AggregateKey::Reseller(*id)].1, reseller);
        }
        ledger.start_at(self.position);
        self.ledger = ledger;
    }

    /// Makes the ledger in charge forget all but a few of what it has loaded.
    pub fn shrink(&mut self) {
        self.ledger.shrink(1);
    }

    /// Lets the peer take charge, and the one in charge follow.
    pub fn change_over(&mut self) {
        std::mem::swap(&mut self.ledger, &mut self.peer);
    }
}

/// An event as another node reads it.
fn written_and_read(key: &AggregateKey, event: &Event) -> Event {
    let payload = event.payload().expect("json");
    let read = Event::decode(key.aggregate_type(), event.event_type(), EVENT_VERSION, &payload).expect("readable");
    assert_eq!(&read, event, "an event that does not read back as it was written");
    read
}

fn assert_alike(one: &Decision, other: &Decision, whose: &str) {
    match (one, other) {
        (Decision::Accepted(one), Decision::Accepted(other)) => {
            assert_eq!(one.events, other.events, "{whose} decides other events");
            assert_eq!(one.answer, other.answer, "{whose} answers otherwise");
            let sorted = |accepted: &Accepted| {
                let mut facts: Vec<_> =
                    accepted.facts.iter().map(|(key, fact, at)| (key.clone(), (fact.clone(), *at))).collect();
                facts.sort_by(|(one, _), (other, _)| one.cmp(other));
                facts
            };
            assert_eq!(sorted(one), sorted(other), "{whose} has other facts");
        }
        (Decision::Refused(one), Decision::Refused(other)) => assert_eq!(one, other, "{whose} refuses otherwise"),
        (Decision::Denied(one), Decision::Denied(other)) => assert_eq!(one, other, "{whose} denies otherwise"),
        _ => panic!("{whose} decides otherwise: {one:?} / {other:?}"),
    }
}
