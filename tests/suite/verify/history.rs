//! The history that the tests of `verify` tamper with: something for every invariant, as the engine writes it.

use std::time::Duration;

use aggregates::answer::Answer;
use aggregates::client::ClientDetails;
use aggregates::command::{ClientStep, Command, CommandEnvelope, Idempotency, PriceBasis, ProvisionOrder};
use aggregates::platform::Policy;
use aggregates::primitives::{
    Actor, Amount, CommandId, CreditSource, Level, Percent, ProvisionId, Quantity, RefundId, RemovalKind, RequestId,
    Role, Sku, Text, Tier, Timestamp, TransferId, UserId,
};
use aggregates::product::ProductTerms;
use aggregates::upline_request::Ask;
use serde_json::json;
use tallytree::audit::anchor::Anchor;
use tallytree::audit::verify::head;
use tallytree::clock::Clock;
use tallytree::engine::{self, Engine, EngineOptions, Outcome};
use tallytree::projector;
use tallytree::store::Database;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::tampered::{resume, violated};
use crate::common::app::Place;
use crate::common::log::{client, noon, reseller};

/// A top-level reseller, its child, its grandchild, and another child that ends up in debt and frozen.
pub const TOP: u128 = 1;
pub const MIDDLE: u128 = 2;
pub const BOTTOM: u128 = 3;
pub const DEBTOR: u128 = 4;

pub const PROVISION: u128 = 700;

/// What an idempotent command left behind.
pub const KEY: [u8; 16] = [7; 16];

pub struct Scribe {
    pub engine: Engine,
    pub clock: Clock,
    pub serial: u128,
}

impl Scribe {
    pub async fn send(&mut self, actor: Actor, idempotency: Option<Idempotency>, command: Command) -> Answer {
        self.serial += 1;
        assert!(self.clock.advance(60).is_some());
        let command_id = CommandId(Uuid::from_u128(self.serial));
        let reply = self.engine.submit(CommandEnvelope { command_id, actor, idempotency, command }).await.unwrap();
        match reply.outcome {
            Outcome::Done { answer, .. } => answer,
            other => panic!("{other:?}"),
        }
    }

    pub async fn platform(&mut self, command: Command) -> Answer {
        self.send(platform(), None, command).await
    }
}

pub fn platform() -> Actor {
    Actor { id: UserId::new("ops").unwrap(), role: Role::SuperAdmin, tenant: None, declared_cost: false }
}

pub fn member(tenant: u128) -> Actor {
    let id = UserId::new(format!("user-{tenant}")).unwrap();
    Actor { id, role: Role::Reseller, tenant: Some(reseller(tenant)), declared_cost: false }
}

pub fn register(id: u128, parent: Option<u128>, tier: Tier) -> Command {
    let metadata = json!({"theme": {"ratio": 0.1 + 0.2, "odd": 1.100_000_000_000_000_3e-7}});
    Command::Register {
        reseller: reseller(id),
        refid: format!("RS-{id}").parse().unwrap(),
        user_id: format!("user-{id}").parse().unwrap(),
        company_name: format!("Company {id}").parse().unwrap(),
        parent: parent.map(reseller),
        referral_code: None,
        tier: Some(tier),
        metadata: metadata.as_object().unwrap().clone(),
    }
}

pub fn add(wallet: u128, credits: i64, reference: Option<&str>) -> Command {
    let source = if reference.is_some() { CreditSource::Purchase } else { CreditSource::Bonus };
    Command::AddCredits {
        wallet: reseller(wallet),
        amount: amount(credits),
        source,
        reference: reference.map(|reference| reference.parse().unwrap()),
        note: None,
    }
}

pub fn provision(wallet: u128, id: u128, quantity: u32) -> Command {
    let basis = PriceBasis::Product { sku: sku(), quantity: Quantity::new(quantity).unwrap() };
    let provision_id = ProvisionId(Uuid::from_u128(id));
    let order = ProvisionOrder { provision_id, basis, client: None, description: None, metadata: None };
    Command::Provision { wallet: reseller(wallet), order: Box::new(order) }
}

pub fn refund(wallet: u128, provision: u128, id: u128, part: Option<i64>) -> Command {
    Command::Refund {
        wallet: reseller(wallet),
        provision_id: ProvisionId(Uuid::from_u128(provision)),
        refund_id: RefundId(Uuid::from_u128(id)),
        amount: part.map(amount),
        reason: None,
    }
}

pub fn onboard(id: u128, owner: u128) -> Command {
    let metadata = json!({"score": 1.100_000_000_000_000_3e-7});
    let details = ClientDetails {
        salt: format!("{id:032x}"),
        name: Text::new(format!("Client {id}")).unwrap(),
        email: Some(Text::new("someone@example.org").unwrap()),
        metadata: metadata.as_object().unwrap().clone(),
    };
    Command::OnboardClient { client: client(id), owner: Some(reseller(owner)), details }
}

pub fn amount(credits: i64) -> Amount {
    Amount::new(credits).unwrap()
}

pub fn sku() -> Sku {
    "sms".parse().unwrap()
}

/// A history with something for every invariant, as the engine writes it, and its read models.
pub async fn write_history(database: &Database) {
    write_history_from(database, noon()).await;
}

/// The same, begun at another time.
pub async fn write_history_from(database: &Database, begin: Timestamp) {
    let clock = Clock::manual(begin);
    let store = database.open().await.unwrap();
    projector::migrate(database).await.unwrap();
    let engine = engine::start(store, clock.clone(), Policy::default(), EngineOptions::default()).await.unwrap();
    let projector = projector::start(database, engine.committed()).await.unwrap();
    let mut scribe = Scribe { engine, clock, serial: 1_000 };
    let terms = ProductTerms {
        name: Text::new("Messages").unwrap(),
        base_cost: Level::new(100).unwrap(),
        minimum_tier: Tier::Standard,
        minimum_margin_percent: Percent::default(),
    };
    for command in [
        register(TOP, None, Tier::Platinum),
        register(MIDDLE, Some(TOP), Tier::Gold),
        register(BOTTOM, Some(MIDDLE), Tier::Standard),
        register(DEBTOR, Some(TOP), Tier::Standard),
        add(TOP, 10_000, Some("INV-1")),
        add(BOTTOM, 5_000, None),
        add(DEBTOR, 100, Some("INV-2")),
        Command::PublishProduct { sku: sku(), terms },
        Command::SetCreditLimit { wallet: reseller(MIDDLE), credit_limit: Level::new(250).unwrap() },
        provision(BOTTOM, PROVISION, 10),
        refund(BOTTOM, PROVISION, 800, Some(333)),
        refund(BOTTOM, PROVISION, 801, Some(1)),
        onboard(1, BOTTOM),
        onboard(2, BOTTOM),
        Command::StepClient { client: client(2), step: ClientStep::Forget },
        provision(DEBTOR, PROVISION + 1, 1),
        Command::RemoveCredits {
            wallet: reseller(DEBTOR),
            amount: amount(60),
            kind: RemovalKind::Chargeback,
            reason: None,
        },
        Command::Freeze { reseller: reseller(DEBTOR), reason: None },
    ] {
        scribe.platform(command).await;
    }
    let key = Idempotency { key: KEY, fingerprint: [8; 32] };
    let transfer = Command::Transfer {
        from: reseller(TOP),
        to: reseller(MIDDLE),
        transfer_id: TransferId(Uuid::from_u128(900)),
        amount: amount(500),
        note: None,
    };
    scribe.send(member(TOP), None, transfer).await;
    scribe.send(member(BOTTOM), Some(key), provision(BOTTOM, PROVISION + 2, 3)).await;
    let request = RequestId(Uuid::from_u128(950));
    let ask = Ask::CreditTopup { amount: amount(50) };
    scribe.send(member(BOTTOM), None, Command::RaiseRequest { request, requester: reseller(BOTTOM), ask }).await;
    let approve = Command::ApproveRequest {
        request,
        transfer_id: TransferId(Uuid::from_u128(901)),
        code: "CODE-1".parse().unwrap(),
        note: None,
    };
    scribe.send(member(MIDDLE), None, approve).await;

    let end = *scribe.engine.committed().borrow();
    let mut position = projector.position();
    tokio::time::timeout(Duration::from_secs(20), position.wait_for(|position| *position >= end))
        .await
        .unwrap()
        .unwrap();
    projector.shutdown().await;
    scribe.engine.shutdown().await;
}

/// The history, what was written down of it and what a run of `verify` kept of it, before anybody had it in hand.
///
/// All is read while nobody copies: PostgreSQL copies a database that nobody is connected to, so whoever is, is sent away.
pub struct Original {
    pub place: Place,
    /// What an auditor wrote down.
    pub head: Anchor,
    /// What a run that can be gone on with left.
    pub kept: TempDir,
}

/// The history, written once, and left as it is.
pub async fn original() -> &'static Original {
    static ORIGINAL: OnceCell<Original> = OnceCell::const_new();
    ORIGINAL
        .get_or_init(|| async {
            let place = Place::new();
            let database = place.database();
            write_history(&database).await;
            let kept = tempfile::tempdir().unwrap();
            let report = resume(&database, kept.path());
            assert!(report.is_ok(), "{:?}", violated(&report));
            Original { head: head(database).unwrap(), kept, place }
        })
        .await
}
