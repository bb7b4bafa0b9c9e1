//! `verify` on a real store: a history that the engine wrote passes, and each way of changing it afterwards is caught and named.
//!
//! Whoever cheats here has a shell and time: drops the triggers, changes what they like, and where it helps recomputes the
//! balances that later events carry and the whole hash chain, so that nothing but the invariant at hand can tell.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use aggregates::answer::Answer;
use aggregates::client::ClientDetails;
use aggregates::command::{ClientStep, Command, CommandEnvelope, Idempotency, PriceBasis, ProvisionOrder};
use aggregates::platform::Policy;
use aggregates::primitives::{
    Actor, Amount, CommandId, CreditSource, Level, Percent, ProvisionId, Quantity, RefundId, RemovalKind, RequestId,
    ResellerId, Role, Sku, Text, Tier, TransferId, UserId,
};
use aggregates::product::ProductTerms;
use aggregates::upline_request::Ask;
use projections::NAMES;
use projections::rebuild::Rebuild;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tallytree::audit::verify::{Report, Tally, verify};
use tallytree::clock::Clock;
use tallytree::engine::{self, Engine, EngineOptions, Outcome};
use tallytree::projector;
use tallytree::store::sqlite::{SqliteStore, index_path, ledger_path, views_path};
use tallytree::store::{StoredEvent, chain};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::common::log::{client, noon, reseller};

/// A top-level reseller, its child, its grandchild, and another child that ends up in debt and frozen.
const TOP: u128 = 1;
const MIDDLE: u128 = 2;
const BOTTOM: u128 = 3;
const DEBTOR: u128 = 4;

const PROVISION: u128 = 700;

/// What an idempotent command left behind.
const KEY: [u8; 16] = [7; 16];

struct Scribe {
    engine: Engine,
    clock: Clock,
    serial: u128,
}

impl Scribe {
    async fn send(&mut self, actor: Actor, idempotency: Option<Idempotency>, command: Command) -> Answer {
        self.serial += 1;
        assert!(self.clock.advance(60).is_some());
        let command_id = CommandId(Uuid::from_u128(self.serial));
        let reply = self.engine.submit(CommandEnvelope { command_id, actor, idempotency, command }).await.unwrap();
        match reply.outcome {
            Outcome::Done { answer, .. } => answer,
            other => panic!("{other:?}"),
        }
    }

    async fn platform(&mut self, command: Command) -> Answer {
        self.send(platform(), None, command).await
    }
}

fn platform() -> Actor {
    Actor { id: UserId::new("ops").unwrap(), role: Role::SuperAdmin, tenant: None, declared_cost: false }
}

fn member(tenant: u128) -> Actor {
    let id = UserId::new(format!("user-{tenant}")).unwrap();
    Actor { id, role: Role::Reseller, tenant: Some(reseller(tenant)), declared_cost: false }
}

fn register(id: u128, parent: Option<u128>, tier: Tier) -> Command {
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

fn add(wallet: u128, credits: i64, reference: Option<&str>) -> Command {
    let source = if reference.is_some() { CreditSource::Purchase } else { CreditSource::Bonus };
    Command::AddCredits {
        wallet: reseller(wallet),
        amount: amount(credits),
        source,
        reference: reference.map(|reference| reference.parse().unwrap()),
        note: None,
    }
}

fn provision(wallet: u128, id: u128, quantity: u32) -> Command {
    let basis = PriceBasis::Product { sku: sku(), quantity: Quantity::new(quantity).unwrap() };
    let provision_id = ProvisionId(Uuid::from_u128(id));
    let order = ProvisionOrder { provision_id, basis, client: None, description: None, metadata: None };
    Command::Provision { wallet: reseller(wallet), order: Box::new(order) }
}

fn refund(wallet: u128, provision: u128, id: u128, part: Option<i64>) -> Command {
    Command::Refund {
        wallet: reseller(wallet),
        provision_id: ProvisionId(Uuid::from_u128(provision)),
        refund_id: RefundId(Uuid::from_u128(id)),
        amount: part.map(amount),
        reason: None,
    }
}

fn onboard(id: u128, owner: u128) -> Command {
    let metadata = json!({"score": 1.100_000_000_000_000_3e-7});
    let details = ClientDetails {
        salt: format!("{id:032x}"),
        name: Text::new(format!("Client {id}")).unwrap(),
        email: Some(Text::new("someone@example.org").unwrap()),
        metadata: metadata.as_object().unwrap().clone(),
    };
    Command::OnboardClient { client: client(id), owner: Some(reseller(owner)), details }
}

fn amount(credits: i64) -> Amount {
    Amount::new(credits).unwrap()
}

fn sku() -> Sku {
    "sms".parse().unwrap()
}

/// A history with something for every invariant, as the engine writes it, and its read models.
async fn write_history(dir: &Path) {
    let clock = Clock::manual(noon());
    let store = SqliteStore::open(dir).unwrap();
    let engine = engine::start(store, clock.clone(), Policy::default(), EngineOptions::default()).await.unwrap();
    let projector =
        projector::start(&tallytree::store::Database::Sqlite(dir.to_owned()), engine.committed()).await.unwrap();
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

/// The history, written once.
async fn original() -> &'static Path {
    static HISTORY: OnceCell<TempDir> = OnceCell::const_new();
    let dir = HISTORY
        .get_or_init(|| async {
            let dir = tempfile::tempdir().unwrap();
            write_history(dir.path()).await;
            dir
        })
        .await;
    dir.path()
}

/// A copy of the history, in the hands of somebody with a shell.
struct Tampered {
    dir: TempDir,
    ledger: Connection,
}

impl Tampered {
    async fn new() -> Self {
        let original = original().await;
        let dir = tempfile::tempdir().unwrap();
        for path in [ledger_path(original), index_path(original), views_path(original)] {
            // A copy that also holds what is still in the write-ahead log.
            let target: PathBuf = dir.path().join(path.file_name().unwrap());
            Connection::open(&path).unwrap().execute("vacuum into ?1", [target.to_str().unwrap()]).unwrap();
        }
        let ledger = Connection::open(ledger_path(dir.path())).unwrap();
        ledger.execute_batch("drop trigger events_are_never_changed; drop trigger events_are_never_deleted;").unwrap();
        Self { dir, ledger }
    }

    fn sql(&self, sql: &str) {
        assert!(self.ledger.execute(sql, []).unwrap() > 0, "changes nothing: {sql}");
    }

    fn index_sql(&self, sql: &str) {
        let index = Connection::open(index_path(self.dir.path())).unwrap();
        assert!(index.execute(sql, []).unwrap() > 0, "changes nothing: {sql}");
    }

    /// The position of the first event of a type, of a wallet or reseller where one is named.
    fn find(&self, event_type: &str, of: Option<u128>) -> i64 {
        let id = of.map(|of| reseller(of).to_string());
        let sql = "select min(position) from events where event_type = ?1 and (?2 is null or aggregate_id = ?2)";
        let found: Option<i64> = self.ledger.query_row(sql, params![event_type, id], |row| row.get(0)).unwrap();
        found.unwrap_or_else(|| panic!("no {event_type}"))
    }

    fn end(&self) -> i64 {
        self.ledger.query_row("select max(position) from events", [], |row| row.get(0)).unwrap()
    }

    /// Changes an event's payload, below its type's name.
    fn edit(&self, position: i64, change: impl FnOnce(&mut Value)) {
        let sql = "select event_type, payload from events where position = ?1";
        let (kind, payload): (String, String) =
            self.ledger.query_row(sql, [position], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut payload: Value = serde_json::from_str(&payload).unwrap();
        change(&mut payload[kind]);
        self.ledger
            .execute("update events set payload = ?2 where position = ?1", params![position, payload.to_string()])
            .unwrap();
    }

    /// Appends an event to an aggregate in a command of its own, a chain link included.
    fn append(&self, aggregate_type: &str, of: ResellerId, event_type: &str, payload: &Value, role: &str) -> i64 {
        let position = self.end() + 1;
        let command = Uuid::from_u128(5_000 + u128::try_from(position).unwrap());
        let metadata = json!({"actor": "mallory", "role": role, "command_id": command.to_string()}).to_string();
        self.ledger
            .execute(
                "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
                 metadata, recorded_at, hash, actor, command_id) select ?1, ?2, ?3, \
                 (select coalesce(max(sequence), 0) + 1 from events where aggregate_type = ?2 and aggregate_id = ?3), \
                 ?4, '1.0.0', ?5, ?6, (select recorded_at from events where position = ?1 - 1), zeroblob(32), 'mallory', ?7",
                params![
                    position,
                    aggregate_type,
                    of.to_string(),
                    event_type,
                    json!({event_type: payload}).to_string(),
                    metadata,
                    command.to_string()
                ],
            )
            .unwrap();
        position
    }

    /// The balance that the last event of a wallet carries.
    fn balance(&self, of: u128) -> i64 {
        let sql = "select event_type, payload from events where aggregate_type = 'Wallet' and aggregate_id = ?1 \
                   order by sequence desc limit 1";
        let (kind, payload): (String, String) =
            self.ledger.query_row(sql, [reseller(of).to_string()], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        serde_json::from_str::<Value>(&payload).unwrap()[kind]["balance"].as_i64().unwrap()
    }

    /// Makes every event of a wallet carry the balance that its amounts lead to.
    fn recompute_balances(&self, of: u128) {
        let sql = "select position, event_type from events where aggregate_type = 'Wallet' and aggregate_id = ?1 \
                   order by sequence";
        let mut statement = self.ledger.prepare(sql).unwrap();
        let events: Vec<(i64, String)> = statement
            .query_map([reseller(of).to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut balance = 0;
        for (position, kind) in events {
            self.edit(position, |event| {
                balance += match kind.as_str() {
                    "CreditsAdded" | "CommissionEarned" | "ProvisionRefunded" | "CreditsTransferredIn" => {
                        event["amount"].as_i64().unwrap()
                    }
                    "CreditsRemoved" | "CommissionReversed" | "CreditsTransferredOut" => {
                        -event["amount"].as_i64().unwrap()
                    }
                    "Provisioned" => -event["provision"]["amount"].as_i64().unwrap(),
                    _ => 0,
                };
                event["balance"] = balance.into();
            });
        }
    }

    /// Makes the hash chain and the head fit what the events are now.
    fn recompute_chain(&self) {
        let mut statement = self
            .ledger
            .prepare(
                "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
                 recorded_at, actor, command_id from events order by position",
            )
            .unwrap();
        let events: Vec<StoredEvent> = statement
            .query_map([], |row| {
                Ok(StoredEvent {
                    position: row.get(0)?,
                    aggregate_type: row.get::<_, String>(1)?.into(),
                    aggregate_id: row.get(2)?,
                    sequence: row.get(3)?,
                    event_type: row.get::<_, String>(4)?.into(),
                    event_version: row.get::<_, String>(5)?.into(),
                    payload: row.get(6)?,
                    metadata: row.get(7)?,
                    recorded_at: row.get::<_, String>(8)?.parse().unwrap(),
                    hash: [0; 32],
                    actor: row.get(9)?,
                    command_id: row.get::<_, String>(10)?.parse().unwrap(),
                })
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut hash = [0; 32];
        for event in &events {
            hash = chain::hash(&hash, event);
            self.ledger
                .execute("update events set hash = ?2 where position = ?1", params![event.position, hash])
                .unwrap();
        }
        let end = events.last().unwrap().position;
        self.ledger.execute("update head set position = ?1, hash = ?2", params![end, hash]).unwrap();
    }

    fn verify(&self) -> Report {
        verify(self.dir.path(), &mut |_, _| ()).unwrap()
    }

    async fn rebuild(&self) {
        let rebuild = Rebuild::begin(&self.dir.path().into(), NAMES).await.unwrap();
        rebuild.run(|_| true).await.unwrap().unwrap();
    }

    fn forget_read_models(&self) {
        std::fs::remove_file(views_path(self.dir.path())).unwrap();
    }
}

fn check<'a>(report: &'a Report, name: &str) -> &'a Tally {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}"))
}

/// The names of the checks that failed.
fn violated(report: &Report) -> Vec<&'static str> {
    report.checks.iter().filter(|check| check.violations > 0).map(|check| check.name).collect()
}

/// That a check failed, first at this position, about this.
#[track_caller]
fn assert_caught(report: &Report, name: &str, position: i64, what: &str) {
    assert!(!report.is_ok());
    let first = check(report, name).first.as_ref().unwrap_or_else(|| panic!("{name} holds; {:?}", violated(report)));
    assert_eq!(first.position, Some(position), "{name}: {first:?}");
    assert!(first.what.contains(what), "{name}: {first:?}");
    assert_ne!(first.expected, first.found);
}

#[tokio::test]
async fn a_history_that_the_engine_wrote_passes_and_everything_in_it_was_looked_at() {
    let copy = Tampered::new().await;
    let report = copy.verify();
    let failed: Vec<_> = report.checks.iter().filter_map(|check| check.first.as_ref()).collect();
    assert!(report.is_ok(), "{failed:#?}");
    assert_eq!(report.position, copy.end());
    for check in &report.checks {
        assert!(check.checked > 0, "{} has looked at nothing", check.name);
    }
    assert_eq!(check(&report, "I8").checked, u64::try_from(copy.end()).unwrap() + 1, "each event, and the head");
}

#[tokio::test]
async fn a_store_that_is_being_written_to_is_verified_as_it_stood_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    write_history(dir.path()).await;
    let store = SqliteStore::open(dir.path()).unwrap();
    let clock = Clock::manual(noon().plus_seconds(86_400));
    let engine = engine::start(store, clock.clone(), Policy::default(), EngineOptions::default()).await.unwrap();
    let mut scribe = Scribe { engine, clock, serial: 9_000 };
    let path = dir.path().to_owned();
    let (done, mut is_done) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let reports: Vec<_> = (0..20).map(|_| verify(&path, &mut |_, _| ()).unwrap()).collect();
        done.send(reports).unwrap();
    });
    let reports = loop {
        scribe.platform(add(TOP, 1, None)).await;
        if let Ok(reports) = is_done.try_recv() {
            break reports;
        }
    };
    assert!(reports.iter().all(Report::is_ok), "{:?}", reports.iter().map(violated).collect::<Vec<_>>());
    assert!(reports.last().unwrap().position > reports[0].position, "nothing was written meanwhile");
    scribe.engine.shutdown().await;
}

#[tokio::test]
async fn one_changed_byte_is_caught_by_the_chain() {
    let copy = Tampered::new().await;
    let at = copy.find("PolicySet", None);
    copy.sql(&format!("update events set payload = replace(payload, 'USD', 'USE') where position = {at}"));
    let report = copy.verify();
    assert_caught(&report, "I8", at, "hash");
    assert_eq!(check(&report, "I8").violations, 1, "told once");
}

#[tokio::test]
async fn damage_is_a_violation_with_its_position_and_no_crash() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsAdded", Some(BOTTOM));
    copy.sql(&format!("update events set payload = substr(payload, 2) where position = {at}"));
    assert_caught(&copy.verify(), "log", at, "Wallet");
    copy.sql(&format!("update events set payload = cast(x'7bff7d' as text) where position = {at}"));
    assert_caught(&copy.verify(), "log", at, "Wallet");
    copy.sql(&format!("update events set event_type = 'CreditsConjured' where position = {at}"));
    assert_caught(&copy.verify(), "log", at, "Wallet");
    copy.sql(&format!("update events set metadata = 'nonsense' where position = {at}"));
    copy.sql(&format!("update events set aggregate_id = 'nobody', recorded_at = 'never' where position = {at}"));
    assert_caught(&copy.verify(), "log", at, "nobody");
    assert_caught(&copy.verify(), "I1", at, "recorded_at");
}

#[tokio::test]
async fn columns_that_are_not_hashed_must_say_what_the_metadata_says() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsRemoved", None);
    copy.sql(&format!("update events set actor = 'somebody else' where position = {at}"));
    let report = copy.verify();
    assert_caught(&report, "log", at, "metadata");
    assert_eq!(violated(&report), ["log"]);
}

#[tokio::test]
async fn a_deleted_event_leaves_a_gap_and_breaks_the_chain() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsAdded", Some(BOTTOM));
    copy.sql(&format!("delete from events where position = {at}"));
    let report = copy.verify();
    assert_caught(&report, "I1", at + 1, "position");
    assert_caught(&report, "I8", at + 1, "hash");
}

#[tokio::test]
async fn a_deleted_event_is_missed_even_when_the_rest_is_moved_up_and_hashed_anew() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsAdded", Some(BOTTOM));
    copy.sql(&format!("delete from events where position = {at}"));
    copy.sql(&format!("update events set position = -position where position > {at}"));
    copy.sql("update events set position = -position - 1 where position < 0");
    copy.recompute_chain();
    let report = copy.verify();
    assert!(check(&report, "I1").first.as_ref().unwrap().what.contains("sequence of Wallet"));
    assert!(check(&report, "I2").violations > 0);
    assert_eq!(check(&report, "I8").violations, 0);
}

#[tokio::test]
async fn two_swapped_events_are_out_of_sequence() {
    let copy = Tampered::new().await;
    let at = copy.find("ProvisionRefunded", Some(BOTTOM));
    let sql = "select position from events where event_type = 'ProvisionRefunded' and position > ?1";
    let other: i64 = copy.ledger.query_row(sql, [at], |row| row.get(0)).unwrap();
    copy.sql(&format!("update events set position = 0 where position = {at}"));
    copy.sql(&format!("update events set position = {at} where position = {other}"));
    copy.sql(&format!("update events set position = {other} where position = 0"));
    assert_caught(&copy.verify(), "I8", at, "hash");
    copy.recompute_chain();
    let report = copy.verify();
    assert_caught(&report, "I1", at, "sequence of Wallet");
    assert_caught(&report, "I2", at, "balance");
    assert_caught(&report, "I5", at, "refund");
    assert_eq!(check(&report, "I8").violations, 0);
}

#[tokio::test]
async fn an_inserted_event_is_caught() {
    let copy = Tampered::new().await;
    let balance = copy.balance(BOTTOM) + 1_000;
    let payload = json!({"transaction_id": Uuid::from_u128(1), "amount": 1_000, "source": "bonus", "balance": balance,
        "reserved": 0});
    let at = copy.append("Wallet", reseller(BOTTOM), "CreditsAdded", &payload, "super_admin");
    let report = copy.verify();
    assert_caught(&report, "I8", at, "hash");
    copy.recompute_chain();
    let report = copy.verify();
    // What was written with real events is not there: the sum of all that was issued.
    assert_eq!(violated(&report), ["I9 facts"]);
    assert!(check(&report, "I9 facts").first.as_ref().unwrap().what.contains("totals"));
}

#[tokio::test]
async fn a_changed_transfer_is_caught_although_balances_and_chain_are_recomputed() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsTransferredIn", Some(MIDDLE));
    copy.edit(at, |event| event["amount"] = 5_000.into());
    assert_caught(&copy.verify(), "I2", at, "balance");
    copy.recompute_balances(MIDDLE);
    copy.recompute_chain();
    let report = copy.verify();
    assert_caught(&report, "I4", at, "clearing");
    assert_caught(&report, "I5", at - 1, "CreditsTransferredIn");
    assert_eq!(check(&report, "I2").violations + check(&report, "I8").violations, 0);
}

#[tokio::test]
async fn a_changed_commission_is_caught_although_balances_and_chain_are_recomputed() {
    let copy = Tampered::new().await;
    let at = copy.find("CommissionEarned", Some(TOP));
    copy.edit(at, |event| event["amount"] = 1_500.into());
    copy.recompute_balances(TOP);
    copy.recompute_chain();
    let report = copy.verify();
    let first = check(&report, "I5").first.as_ref().unwrap();
    assert!(first.what.contains("CommissionEarned"), "{first:?}");
    assert_eq!(check(&report, "I2").violations + check(&report, "I8").violations, 0);
}

#[tokio::test]
async fn a_reversal_that_leaves_a_credit_behind_is_caught() {
    let copy = Tampered::new().await;
    let at = copy.find("CommissionReversed", Some(MIDDLE));
    copy.edit(at, |event| event["amount"] = (event["amount"].as_i64().unwrap() - 1).into());
    copy.recompute_balances(MIDDLE);
    copy.recompute_chain();
    let report = copy.verify();
    assert!(check(&report, "I5").first.as_ref().unwrap().what.contains("CommissionReversed"));
}

#[tokio::test]
async fn a_refund_of_more_than_was_paid_is_caught() {
    let copy = Tampered::new().await;
    let payload = json!({"refund_id": Uuid::from_u128(802), "provision_id": Uuid::from_u128(PROVISION), "amount": 5_000,
        "refunded_total": 5_334, "balance": copy.balance(BOTTOM) + 5_000, "reserved": 0});
    let at = copy.append("Wallet", reseller(BOTTOM), "ProvisionRefunded", &payload, "super_admin");
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I5", at, "refund of provision");
}

#[tokio::test]
async fn a_reseller_that_took_another_below_zero_is_caught_and_the_platform_is_not() {
    let copy = Tampered::new().await;
    let payload = json!({"amount": 1, "kind": "correction", "balance": copy.balance(DEBTOR) - 1, "reserved": 0});
    copy.append("Wallet", reseller(DEBTOR), "CreditsRemoved", &payload, "super_admin");
    let payload = json!({"amount": 1, "kind": "correction", "balance": copy.balance(DEBTOR) - 1, "reserved": 0});
    let at = copy.append("Wallet", reseller(DEBTOR), "CreditsRemoved", &payload, "reseller");
    copy.recompute_chain();
    let report = copy.verify();
    assert_caught(&report, "I3", at, "CreditsRemoved");
    assert_eq!(check(&report, "I3").violations, 1);
}

/// A provision that nobody priced: what it costs is named in it.
fn forged_provision(id: u128, cost: i64, balance: i64) -> Value {
    json!({"provision": {"provision_id": Uuid::from_u128(id), "amount": cost, "unit_cost": cost, "price_source": "declared",
        "quantity": 1}, "balance": balance, "reserved": 0})
}

#[tokio::test]
async fn a_provision_beyond_the_credit_limit_is_caught() {
    let copy = Tampered::new().await;
    let (balance, limit) = (copy.balance(MIDDLE), 250);
    let all = forged_provision(1, balance + limit, -limit);
    copy.append("Wallet", reseller(MIDDLE), "Provisioned", &all, "reseller");
    let at = copy.append("Wallet", reseller(MIDDLE), "Provisioned", &forged_provision(2, 1, -limit - 1), "reseller");
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I3", at, "available");
}

#[tokio::test]
async fn a_provision_under_a_freeze_is_caught() {
    let copy = Tampered::new().await;
    let freeze = json!({"authority": "platform", "reason": null});
    copy.append("Reseller", reseller(TOP), "SubtreeFrozen", &freeze, "super_admin");
    let provision = forged_provision(1, 1, copy.balance(BOTTOM) - 1);
    let at = copy.append("Wallet", reseller(BOTTOM), "Provisioned", &provision, "reseller");
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I6", at, &format!("Provisioned of reseller {}", reseller(BOTTOM)));
}

#[tokio::test]
async fn a_second_credit_for_one_reference_is_caught() {
    let copy = Tampered::new().await;
    let payload = json!({"transaction_id": Uuid::from_u128(1), "amount": 10_000, "source": "purchase",
        "reference": "INV-1", "balance": copy.balance(MIDDLE) + 10_000, "reserved": 0});
    let at = copy.append("Wallet", reseller(MIDDLE), "CreditsAdded", &payload, "payments");
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I7", at, "INV-1");
}

#[tokio::test]
async fn a_command_in_two_commits_is_caught() {
    let copy = Tampered::new().await;
    let at =
        copy.append("Reseller", reseller(TOP), "ResellerRenamed", &json!({"company_name": "Other"}), "super_admin");
    let columns = "metadata = (select metadata from events where position = 2), actor = 'ops', \
                   command_id = (select command_id from events where position = 2)";
    copy.sql(&format!("update events set {columns} where position = {at}"));
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I7", at, "events of command");
}

#[tokio::test]
async fn a_receipt_for_something_that_never_happened_is_caught() {
    let copy = Tampered::new().await;
    copy.sql(&format!(
        "update receipts set answer = replace(answer, '{}', '{}')",
        Uuid::from_u128(PROVISION + 2),
        Uuid::nil()
    ));
    let report = copy.verify();
    assert_eq!(violated(&report), ["I7"]);
    assert!(check(&report, "I7").first.as_ref().unwrap().what.contains("receipt 0707"));
}

#[tokio::test]
async fn a_cut_tail_is_caught_by_the_head() {
    let copy = Tampered::new().await;
    let end = copy.end();
    copy.sql(&format!("delete from events where position > {}", end - 3));
    let report = copy.verify();
    assert_caught(&report, "I8", end - 3, "head");
    assert_caught(&report, "I9 balances", end, "checkpoint");
    copy.ledger
        .execute("update head set position = ?1, hash = (select hash from events where position = ?1)", [end - 3])
        .unwrap();
    copy.forget_read_models();
    let report = copy.verify();
    assert_eq!(check(&report, "I8").violations, 0, "a head that was moved as well");
    assert!(check(&report, "I9 snapshots").violations > 0, "what was written beside the cut events tells");
}

#[tokio::test]
async fn a_changed_snapshot_is_caught() {
    let copy = Tampered::new().await;
    copy.index_sql(
        "update snapshots set payload = replace(payload, '\"credit_limit\":250', '\"credit_limit\":251')
        where payload like '%\"credit_limit\":250%'",
    );
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 snapshots"]);
    let first = check(&report, "I9 snapshots").first.as_ref().unwrap();
    assert!(first.what.contains(&reseller(MIDDLE).to_string()), "{first:?}");
    assert!(first.expected.contains("250") && first.found.contains("251"), "{first:?}");
}

#[tokio::test]
async fn an_index_that_leads_elsewhere_is_caught() {
    for (damage, what) in [
        ("update streams set position = position + 1 where position = 3", "event 1 of"),
        ("delete from streams where position = 3", "number of events"),
        ("update receipt_keys set receipt = receipt + 1 where receipt = 1", "receipt key"),
        ("delete from receipt_keys where receipt = 1", "number of receipts"),
        ("update progress set hash = zeroblob(32)", "hash at the index's end"),
    ] {
        let copy = Tampered::new().await;
        copy.index_sql(damage);
        let report = copy.verify();
        assert_eq!(violated(&report), ["I9 index"], "{damage}");
        let first = check(&report, "I9 index").first.as_ref().unwrap();
        assert!(first.what.contains(what), "{damage}: {first:?}");
    }
}

#[tokio::test]
async fn a_changed_or_missing_fact_is_caught() {
    let copy = Tampered::new().await;
    copy.sql("update facts set value = replace(value, '\"refunded\":334', '\"refunded\":0') where kind = 'provision' and value like '%:334%'");
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 facts"]);
    assert!(check(&report, "I9 facts").first.as_ref().unwrap().what.contains(&Uuid::from_u128(PROVISION).to_string()));

    let copy = Tampered::new().await;
    copy.sql("delete from facts where kind = 'purchase_reference' and key = 'INV-1'");
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 facts"]);
    assert!(check(&report, "I9 facts").first.as_ref().unwrap().what.contains("INV-1"));
}

#[tokio::test]
async fn a_changed_balance_in_the_read_models_is_caught() {
    let copy = Tampered::new().await;
    let views = Connection::open(views_path(copy.dir.path())).unwrap();
    views
        .execute("update wallets set balance = balance + 1 where reseller_id = ?1", [reseller(TOP).to_string()])
        .unwrap();
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 balances", "I9 read models"]);
    assert!(check(&report, "I9 balances").first.as_ref().unwrap().what.contains(&reseller(TOP).to_string()));
}

#[tokio::test]
async fn any_other_row_of_the_read_models_that_was_changed_lost_or_made_up_is_caught_and_named() {
    let copy = Tampered::new().await;
    let views = Connection::open(views_path(copy.dir.path())).unwrap();
    let reference = "update transactions set reference = 'INV-2' where reference = 'INV-1'";
    let lost = format!("delete from dashboards where reseller_id = '{}'", reseller(BOTTOM));
    let made_up = format!("insert into tier_changes values ('/{}/', 7, 'gold', 1, '2001-02-03', '')", reseller(TOP));
    for (projection, sql, what, expected, found) in [
        ("transactions", reference, "transactions, position ", "reference 'INV-1'", "reference 'INV-2'"),
        ("dashboard", &lost, "dashboards, reseller_id ", "path '/", "no such row"),
        ("analytics", &made_up, "position 7, tier 'gold'", "no such row", "recorded_at '2001-02-03'"),
    ] {
        assert_eq!(views.execute(sql, []).unwrap(), 1, "{sql}");
        let report = copy.verify();
        assert_eq!(violated(&report), ["I9 read models"]);
        let tally = check(&report, "I9 read models");
        let first = tally.first.as_ref().unwrap();
        assert_eq!(tally.violations, 1, "{first:?}");
        assert!(first.what.starts_with(projection) && first.what.contains(what), "{first:?}");
        assert!(first.expected.contains(expected) && first.found.contains(found), "{first:?}");
        copy.rebuild().await;
        assert!(copy.verify().is_ok(), "a rebuild mends it");
    }
}

#[tokio::test]
async fn personal_data_that_was_changed_or_outlived_its_client_is_caught() {
    let copy = Tampered::new().await;
    copy.sql("update personal_data set name = 'Somebody Else'");
    let report = copy.verify();
    assert_eq!(violated(&report), ["personal data"]);

    let copy = Tampered::new().await;
    let row = (client(2).to_string(), format!("{:032x}", 2));
    copy.ledger
        .execute("insert into personal_data values (?1, ?2, 'Client 2', null, '{}')", params![row.0, row.1])
        .unwrap();
    let first = check(&copy.verify(), "personal data").first.clone().unwrap();
    assert!(first.what.contains(&client(2).to_string()) && first.expected.contains("forgotten"), "{first:?}");

    let copy = Tampered::new().await;
    copy.sql("delete from personal_data");
    assert_eq!(violated(&copy.verify()), ["personal data"]);
}

#[tokio::test]
async fn the_command_line_says_it_and_ends_with_1() {
    let copy = Tampered::new().await;
    let run = |arguments: &[&str]| {
        let database = format!("sqlite:{}", copy.dir.path().display());
        let mut process = Process::new(env!("CARGO_BIN_EXE_tallytree"));
        process.args(["verify", "--database", &database]).args(arguments).output().unwrap()
    };
    let good = run(&[]);
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success() && text.contains("every invariant holds"), "{text}");
    copy.sql("update events set payload = replace(payload, 'USD', 'USE') where position = 1");
    let bad = run(&[]);
    let text = String::from_utf8(bad.stdout).unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert!(text.contains("first at 1: hash"), "{text}");
    let report: Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
    let chain = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "I8").unwrap();
    assert_eq!((&chain["violations"], &chain["first"]["position"]), (&json!(1), &json!(1)));
}
