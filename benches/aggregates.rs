//! What the write side costs in memory, per command and per event: deciding, folding, writing the payload, hashing.
//!
//! No store and no network: `tallytree bench` measures those. One thread.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;

use aggregates::command::{BulkItem, Command, CommandEnvelope, Idempotency, PriceBasis, ProvisionOrder, ReceiptKey};
use aggregates::event::{AggregateKey, EVENT_VERSION, Event, EventMetadata, NewEvent};
use aggregates::ledger::{Accepted, Decision, Key, Ledger, Loaded, Receipt, Receipts};
use aggregates::primitives::{
    Actor, Amount, ClientId, CommandId, CompanyName, CreditSource, Level, Percent, ProvisionId, Quantity, Refid,
    ResellerId, Role, Sku, Text, Tier, Timestamp, UserId,
};
use aggregates::product::ProductTerms;
use aggregates::wallet::Wallet;
use divan::Bencher;
use divan::counter::ItemsCount;
use serde_json::Map;
use tallytree::store::{StoredEvent, chain};
use uuid::Uuid;

fn main() {
    divan::main();
}

struct NoReceipts;

impl Receipts for NoReceipts {
    fn find(&self, _key: &ReceiptKey) -> Option<&Receipt> {
        None
    }
}

/// A ledger in memory: a platinum reseller over a gold one over a standard one, each with a funded wallet, and a product.
struct World {
    ledger: Ledger,
    now: Timestamp,
    /// Top first.
    line: [ResellerId; 3],
}

impl World {
    fn new() -> Self {
        let line = [1, 2, 3].map(|number| ResellerId(Uuid::from_u128(number)));
        let mut world = Self { ledger: Ledger::default(), now: Timestamp::from_micros(1_790_000_000_000_000), line };
        let mut parent = None;
        for (number, (reseller, tier)) in line.into_iter().zip([Tier::Platinum, Tier::Gold, Tier::Standard]).enumerate()
        {
            world.done(Command::Register {
                reseller,
                refid: Refid::new(format!("RS-{number}")).unwrap(),
                user_id: UserId::new(format!("user-{number}")).unwrap(),
                company_name: CompanyName::new(format!("Company {number}")).unwrap(),
                parent,
                referral_code: None,
                tier: Some(tier),
                metadata: Map::new(),
            });
            world.done(Command::AddCredits {
                wallet: reseller,
                amount: Amount::new(1_000_000_000_000).unwrap(),
                source: CreditSource::Bonus,
                reference: None,
                note: None,
            });
            parent = Some(reseller);
        }
        world.done(Command::PublishProduct {
            sku: sku(),
            terms: ProductTerms {
                name: Text::new("Hosting").unwrap(),
                base_cost: Level::new(1_000).unwrap(),
                minimum_tier: Tier::Standard,
                minimum_margin_percent: Percent::default(),
            },
        });
        world
    }

    /// Decides, with whatever is missing found to be absent: nothing is outside of this memory.
    fn decide(&mut self, envelope: &CommandEnvelope) -> Box<Accepted> {
        loop {
            match self.ledger.decide(envelope, self.now, &NoReceipts) {
                Decision::Accepted(accepted) => return accepted,
                Decision::Missing(keys) => {
                    for key in keys {
                        let nothing = match &key {
                            Key::Aggregate(_) => Loaded::Aggregate(None),
                            Key::Fact(_) => Loaded::Fact(None),
                            Key::PersonalData(_) => Loaded::PersonalData(None),
                        };
                        self.ledger.load(key, nothing).unwrap();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn done(&mut self, command: Command) {
        let mut accepted = self.decide(&envelope(command));
        self.ledger.absorb(&mut accepted);
    }

    /// The events of one provision of the lowest reseller: its own, and two uplines' commissions.
    fn provision_events(&mut self) -> Vec<NewEvent> {
        let events = self.decide(&provision(self.line[2])).events;
        assert_eq!(events.len(), 3, "{events:?}");
        events
    }
}

fn sku() -> Sku {
    Sku::new("hosting").unwrap()
}

fn envelope(command: Command) -> CommandEnvelope {
    let id = UserId::new("operator").unwrap();
    CommandEnvelope {
        command_id: CommandId(Uuid::now_v7()),
        actor: Actor { id, role: Role::SuperAdmin, tenant: None, declared_cost: false },
        idempotency: Some(Idempotency { key: Uuid::now_v7().into_bytes(), fingerprint: [7; 32] }),
        command,
    }
}

fn order() -> ProvisionOrder {
    ProvisionOrder {
        provision_id: ProvisionId(Uuid::now_v7()),
        basis: PriceBasis::Product { sku: sku(), quantity: Quantity::ONE },
        client: None::<ClientId>,
        description: None,
        metadata: None,
    }
}

fn provision(wallet: ResellerId) -> CommandEnvelope {
    envelope(Command::Provision { wallet, order: Box::new(order()) })
}

/// Levels of the seller: 1 pays no commission, 3 pays two.
#[divan::bench(args = [1, 2, 3])]
fn decide_a_provision(bencher: Bencher<'_, '_>, level: usize) {
    let mut world = World::new();
    let wallet = world.line[level - 1];
    assert_eq!(world.decide(&provision(wallet)).events.len(), level);
    bencher.counter(ItemsCount::new(1_u32)).with_inputs(|| provision(wallet)).bench_local_refs(|envelope| {
        let decision = world.ledger.decide(envelope, world.now, &NoReceipts);
        assert!(matches!(decision, Decision::Accepted(_)));
        decision
    });
}

#[divan::bench(args = [1, 3])]
fn decide_and_absorb_a_provision(bencher: Bencher<'_, '_>, level: usize) {
    let mut world = World::new();
    let wallet = world.line[level - 1];
    bencher.counter(ItemsCount::new(1_u32)).with_inputs(|| provision(wallet)).bench_local_refs(|envelope| {
        let mut accepted = world.decide(envelope);
        world.ledger.absorb(&mut accepted);
        // As the writer does between commits: facts of this benchmark's many provisions are not to pile up.
        world.ledger.shrink(10_000);
        accepted
    });
}

#[divan::bench(args = [false, true])]
fn decide_a_bulk_of_1000(bencher: Bencher<'_, '_>, atomic: bool) {
    let mut world = World::new();
    let wallet = world.line[0];
    let bulk = || {
        let items = (0..1_000).map(|_| BulkItem { order: order(), idempotency: None }).collect();
        envelope(Command::ProvisionBulk { wallet, atomic, items })
    };
    bencher.counter(ItemsCount::new(1_000_u32)).with_inputs(bulk).bench_local_refs(|envelope| world.decide(envelope));
}

#[divan::bench]
fn fold_a_provision_into_a_wallet(bencher: Bencher<'_, '_>) {
    let mut world = World::new();
    let events = world.provision_events();
    let (text, _) = world.ledger.snapshot(&AggregateKey::Wallet(world.line[2])).unwrap().unwrap();
    let mut wallet: Wallet = serde_json::from_str(&text).unwrap();
    let Event::Wallet(event) = &events[0].event else { panic!("{events:?}") };
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| wallet.fold(black_box(event)));
}

#[divan::bench]
fn write_a_payload(bencher: Bencher<'_, '_>) {
    let events = World::new().provision_events();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| black_box(&events[0].event).payload().unwrap());
}

#[divan::bench]
fn write_the_metadata(bencher: Bencher<'_, '_>) {
    let envelope = provision(ResellerId(Uuid::from_u128(1)));
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        serde_json::to_string(&EventMetadata::of(black_box(&envelope.actor), envelope.command_id)).unwrap()
    });
}

#[divan::bench]
fn read_a_payload(bencher: Bencher<'_, '_>) {
    let events = World::new().provision_events();
    let payload = events[0].event.payload().unwrap();
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| Event::decode("Wallet", "Provisioned", EVENT_VERSION, black_box(&payload)).unwrap());
}

#[divan::bench]
fn write_a_wallets_snapshot(bencher: Bencher<'_, '_>) {
    let world = World::new();
    let key = AggregateKey::Wallet(world.line[0]);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| world.ledger.snapshot(black_box(&key)).unwrap());
}

#[divan::bench]
fn hash_an_event(bencher: Bencher<'_, '_>) {
    let mut world = World::new();
    let new = world.provision_events().swap_remove(0);
    let envelope = provision(world.line[2]);
    let metadata = EventMetadata::of(&envelope.actor, envelope.command_id);
    let event = StoredEvent {
        position: new.position,
        aggregate_type: new.key.aggregate_type().into(),
        aggregate_id: new.key.aggregate_id(),
        sequence: new.sequence,
        event_type: new.event.event_type().into(),
        event_version: EVENT_VERSION.into(),
        payload: new.event.payload().unwrap(),
        metadata: serde_json::to_string(&metadata).unwrap(),
        recorded_at: world.now,
        hash: [0; 32],
        actor: metadata.actor,
        command_id: envelope.command_id,
    };
    let previous = [7; 32];
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| chain::hash(black_box(&previous), black_box(&event)));
}
