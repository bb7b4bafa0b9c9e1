//! A scribe that writes small histories straight into a store, as the engine would: sequenced, hashed, with snapshots.

use std::collections::BTreeMap;

use aggregates::client::ClientDetails;
use aggregates::event::{AggregateKey, EVENT_VERSION, Event};
use aggregates::facts::{self, Fact, FactKey};
use aggregates::ledger::Receipt;
use aggregates::primitives::{
    ClientId, CommandId, CreditSource, Credits, Level, PriceSource, ProvisionId, Quantity, RefundId, ResellerId, Text,
    Timestamp,
};
use aggregates::reseller::{Registrar, Registration, ResellerEvent};
use aggregates::wallet::{Commission, Provision, Wallet, WalletEvent};
use tallytree::store::{Batch, EventStore, Head, SnapshotRow, StoreError, StoredEvent, Turn, chain};
use uuid::Uuid;

/// A reseller told apart by a number.
pub fn reseller(number: u128) -> ResellerId {
    ResellerId(Uuid::from_u128(number))
}

/// A command told apart by a number.
pub fn command(number: u128) -> CommandId {
    CommandId(Uuid::from_u128(number))
}

/// A client told apart by a number.
pub fn client(number: u128) -> ClientId {
    ClientId(Uuid::from_u128(number))
}

/// The head of an empty log.
pub fn genesis() -> Head {
    Head { position: 0, hash: [0; 32], epoch: 0, recorded_at: Timestamp::default() }
}

/// Some time on a day in autumn.
pub fn noon() -> Timestamp {
    "2026-11-21T12:00:00.000001Z".parse().unwrap()
}

/// The head after an event.
pub fn head_at(event: &StoredEvent, epoch: u64) -> Head {
    Head { position: event.position, hash: event.hash, epoch, recorded_at: event.recorded_at }
}

pub fn wallet_opened(owner: ResellerId) -> Event {
    let threshold = Level::new(500).unwrap();
    WalletEvent::WalletOpened { reseller: owner, low_credit_threshold: threshold, balance: 0, reserved: 0 }.into()
}

pub fn credits_added(by: CommandId, amount: Credits, balance: Credits) -> Event {
    WalletEvent::CreditsAdded {
        transaction_id: by,
        amount,
        source: CreditSource::Bonus,
        reference: None,
        note: Some(Text::new("for tests: 100 €, \"quoted\"").unwrap()),
        balance,
        reserved: 0,
    }
    .into()
}

/// A provision told apart by a number.
pub fn provision(number: u128) -> ProvisionId {
    ProvisionId(Uuid::from_u128(number))
}

/// A provision by which the upline that is told apart by 2 earns 15.
pub fn provisioned(id: ProvisionId, amount: Credits) -> Event {
    let provision = Provision {
        provision_id: id,
        amount,
        unit_cost: amount,
        price_source: PriceSource::Declared,
        quantity: Quantity::new(1).unwrap(),
        base_cost: None,
        discount_percent: None,
        sku: None,
        client: None,
        description: Some(Text::new("for tests: \"provision_id\":\"no\"").unwrap()),
        metadata: None,
        commissions: vec![Commission { reseller: reseller(2), amount: 15 }],
    };
    WalletEvent::Provisioned { provision: Box::new(provision), balance: 0, reserved: 0 }.into()
}

/// A refund after which so much of a provision has been refunded.
pub fn refunded(provision_id: ProvisionId, amount: Credits, refunded_total: Credits) -> Event {
    let refund_id = RefundId(Uuid::from_u128(0xeeee));
    WalletEvent::ProvisionRefunded {
        refund_id,
        provision_id,
        amount,
        refunded_total,
        reason: None,
        balance: 0,
        reserved: 0,
    }
    .into()
}

/// The batch with the facts that its events make, of the wallet of `owner`, on top of those that there are.
pub fn with_facts(
    mut batch: Batch,
    owner: ResellerId,
    events: &[Event],
    known: &mut BTreeMap<FactKey, (Fact, u64)>,
) -> Batch {
    for (stored, event) in batch.events.iter().zip(events) {
        for key in facts::keys(event) {
            let current = known.get(&key).map(|(fact, _)| fact);
            if let Some(fact) = facts::fold(&key, current, owner, event, stored.position) {
                known.insert(key.clone(), (fact.clone(), stored.position));
                batch.facts.insert(key, (fact, stored.position));
            }
        }
    }
    batch
}

pub fn registered(id: ResellerId) -> Event {
    let short = id.0.as_u128();
    let registration = Registration {
        reseller: id,
        user_id: format!("user-{short}").parse().unwrap(),
        refid: format!("RS-{short}").parse().unwrap(),
        company_name: format!("Company {short}").parse().unwrap(),
        tier: aggregates::primitives::Tier::Gold,
        status: aggregates::primitives::ResellerStatus::Active,
        parent: None,
        depth: 0,
        metadata: serde_json::Map::new(),
        referral: None,
        registrar: Registrar::Platform,
        registered_at: noon(),
    };
    ResellerEvent::ResellerRegistered(Box::new(registration)).into()
}

pub fn details(name: &str) -> ClientDetails {
    let mut metadata = serde_json::Map::new();
    metadata.insert("vat".into(), "DE 123".into());
    ClientDetails { salt: "00ff".into(), name: name.parse().unwrap(), email: None, metadata }
}

/// A batch of events of one command after a head; each is the next of its aggregate from `sequence` on.
pub fn batch(head: &Head, by: CommandId, events: Vec<(AggregateKey, u64, Event)>) -> Batch {
    let mut batch = Batch { now: noon().max(head.recorded_at), ..Batch::default() };
    let mut previous = head.hash;
    for (position, (key, sequence, event)) in (head.position + 1..).zip(events) {
        let mut stored = StoredEvent {
            position,
            aggregate_type: key.aggregate_type().into(),
            aggregate_id: key.aggregate_id(),
            sequence,
            event_type: event.event_type().into(),
            event_version: EVENT_VERSION.into(),
            payload: event.payload().unwrap(),
            metadata: format!(r#"{{"actor":"ops","role":"super_admin","command_id":"{by}"}}"#),
            recorded_at: batch.now,
            hash: [0; 32],
            actor: "ops".to_owned(),
            command_id: by,
        };
        stored.hash = chain::hash(&previous, &stored);
        previous = stored.hash;
        batch.events.push(stored);
    }
    batch
}

/// Appends a batch in a turn of its own and says where the head is then.
pub async fn append<S: EventStore>(store: &mut S, head: &Head, batch: &Batch) -> Result<Head, StoreError> {
    let turn = store.begin(head, &[]).await?;
    let head = turn.head().clone();
    turn.append(batch).await?;
    Ok(batch.events.last().map_or(head.clone(), |event| head_at(event, head.epoch)))
}

/// Opens a wallet and adds credits to it: two events, with their snapshot.
pub fn funded_wallet(head: &Head, by: CommandId, owner: ResellerId, amount: Credits) -> Batch {
    let key = AggregateKey::Wallet(owner);
    let mut wallet = Wallet::default();
    let mut events = Vec::new();
    for (sequence, event) in (1..).zip([wallet_opened(owner), credits_added(by, amount, amount)]) {
        if let Event::Wallet(event) = &event {
            wallet.fold(event);
        }
        events.push((key.clone(), sequence, event));
    }
    let mut batch = batch(head, by, events);
    batch.snapshots = vec![SnapshotRow { key, sequence: 2, payload: serde_json::to_string(&wallet).unwrap() }];
    batch
}

/// A batch that only remembers answers.
pub fn receipts_only(receipts: Vec<([u8; 16], Receipt)>) -> Batch {
    Batch { receipts, now: noon(), facts: BTreeMap::new(), ..Batch::default() }
}

/// Asserts that events are numbered without a gap, chained, and in order of time; says where they end.
pub fn assert_unbroken(events: &[StoredEvent]) -> Head {
    let mut head = genesis();
    let mut sequences = BTreeMap::new();
    for event in events {
        assert_eq!(event.position, head.position + 1, "positions have a gap");
        assert_eq!(event.hash, chain::hash(&head.hash, event), "the chain breaks at {}", event.position);
        assert!(event.recorded_at >= head.recorded_at, "time runs backwards at {}", event.position);
        let sequence = sequences.entry((event.aggregate_type.clone(), event.aggregate_id.clone())).or_insert(0);
        *sequence += 1;
        assert_eq!(event.sequence, *sequence, "an aggregate's sequence has a gap at {}", event.position);
        head = head_at(event, 0);
    }
    head
}
