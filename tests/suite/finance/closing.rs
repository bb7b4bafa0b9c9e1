//! A month is closed once, in order, when it is over, with the figures of the log; nothing is ever recorded in it again.

use std::sync::Arc;

use aggregates::command::{Command, CommandEnvelope, PriceBasis, ProvisionOrder};
use aggregates::month::Month;
use aggregates::platform::Policy;
use aggregates::primitives::{
    Actor, Amount, CommandId, CreditSource, ProvisionId, RefundId, ResellerId, Role, Timestamp, UserId,
};
use projections::ReadPool;
use serde_json::{Value, json};
use tallytree::clock::Clock;
use tallytree::config::{ClockKind, Config, Database};
use tallytree::engine::{self, EngineOptions, Outcome};
use tallytree::finance::close::reckon;
use tallytree::node::Node;
use tallytree::projector;

use super::{Trade, exported, log, number, rows};
use crate::analytics::go_to;
use crate::common::app::{Place, TestApp, on_postgres};
use crate::common::process;

async fn close(app: &TestApp, month: &str) -> crate::common::app::Reply {
    app.finance().post("/platform/close", json!({"month": month})).await
}

/// The store of an app, for another node.
fn database_of(app: &TestApp) -> Database {
    if on_postgres() {
        return app.store().to_str().and_then(|address| address.parse().ok()).expect("an address");
    }
    Database::Sqlite(app.store().to_owned())
}

/// Position and hash of the last event recorded before a time.
async fn last_before(app: &TestApp, time: &str) -> (u64, String) {
    let log = log(app).await;
    let last = log.iter().rfind(|event| event["recorded_at"].as_str().expect("a time") < time).expect("an event");
    (last["position"].as_u64().expect("a position"), last["hash"].as_str().expect("a hash").to_owned())
}

#[tokio::test]
async fn a_closing_has_the_figures_of_the_log_up_to_the_last_event_of_the_month() {
    let mut trade = Trade::start(11).await;
    trade.days(70, 3).await;
    let app = &trade.app;
    let january = close(app, "2033-01").await;
    let closed = january.position();
    let january = january.created();
    let february = close(app, "2033-02").await.created();

    let mut before: Option<&Value> = None;
    for (closing, month, end) in [(&january, "2033-01", "2033-02-01"), (&february, "2033-02", "2033-03-01")] {
        let (position, hash) = last_before(app, end).await;
        assert_eq!((&closing["month"], &closing["last_position"]), (&json!(month), &json!(position)));
        assert_eq!(closing["head_hash"], json!(hash));
        let statements = rows(&exported(&app.finance(), &format!("/exports/statements?month={month}")).await);
        let sum = |column: &str| statements.iter().map(|row| number(row, column)).sum::<i64>();
        let total = |account: &str, side: &str| closing["totals"][account][side].as_i64().unwrap_or_default();
        assert_eq!(total("wallet", "balance"), sum("closing"), "{month}");
        assert_eq!(total("wallet", "credit") - total("wallet", "debit"), sum("closing") - sum("opening"));
        for source in ["purchase", "bonus", "adjustment"] {
            assert_eq!(
                total(&format!("platform:issued:{source}"), "debit"),
                sum(&format!("added_{source}")),
                "{month}"
            );
        }
        for kind in ["chargeback", "correction"] {
            assert_eq!(total(&format!("platform:removed:{kind}"), "credit"), -sum(&format!("removed_{kind}")));
        }
        assert_eq!(total("platform:revenue", "credit"), -sum("provisioned"));
        assert_eq!(total("platform:revenue", "debit"), sum("refunded"));
        assert_eq!(total("platform:commissions", "debit"), sum("commissions_earned"));
        assert_eq!(total("platform:commissions", "credit"), -sum("commissions_reversed"));
        assert_eq!(total("transfers:clearing", "balance"), 0);
        let accounts = closing["totals"].as_object().expect("accounts");
        for (account, figures) in accounts {
            let opening = before.map_or(0, |before| before["totals"][account]["balance"].as_i64().unwrap_or_default());
            let moved = total(account, "credit") - total(account, "debit");
            assert_eq!(figures["balance"], json!(opening + moved), "{account}");
        }
        assert_eq!(accounts.values().map(|total| total["balance"].as_i64().expect("a number")).sum::<i64>(), 0);
        before = Some(closing);
    }

    // It stands in the history as it was answered, and in the operator's feed.
    let event = app.auditor().get("/audit/events?event_type=PeriodClosed&limit=1").await.ok();
    assert_eq!(event["data"][0]["payload"]["PeriodClosed"], january);
    assert_eq!(event["data"][0]["position"], closed);
    let told = app.admin().get("/reseller-network/activity?kind=period_closed").await.ok();
    assert_eq!(told["data"][1]["summary"], "The books of 2033-01 were closed");
    let verified = process::run(app.store(), &["verify"]).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test]
async fn months_are_closed_in_order_once_by_those_who_may_and_not_before_they_are_over() {
    let trade = Trade::start(12).await;
    let app = &trade.app;
    // The store is years older than its first trade: books begin when credits first move.
    let first = app.auditor().get("/audit/events?limit=1").await.ok();
    assert!(first["data"][0]["recorded_at"].as_str().expect("a time") < "2033");
    let problem = close(app, "2033-01").await.problem(409, "invalid_transition");
    assert_eq!(problem["from"], "not over before 2033-02-01T00:00:00.000000Z");
    go_to(app, "2033-03-15T00:00:00Z").await;
    let problem = close(app, "2033-02").await.problem(409, "invalid_transition");
    assert_eq!(problem["from"], "waiting for 2033-01 to be closed");
    close(app, "2032-12").await.problem(409, "invalid_transition");
    for (person, status) in [(app.reseller(&trade.resellers[0]), 403), (app.auditor(), 403), (app.payments(), 403)] {
        let told = person.post("/platform/close", json!({"month": "2033-01"})).await;
        assert_eq!((told.status, &told.body["code"]), (status, &json!("forbidden")));
    }
    let first = app.admin().post("/platform/close", json!({"month": "2033-01"})).key("january").await;
    let again = app.admin().post("/platform/close", json!({"month": "2033-01"})).key("january").await;
    assert!(again.replayed() && again.position() == first.position() && again.text == first.text);
    close(app, "2033-01").await.problem(409, "already_exists");
    let problem = close(app, "0001-01").await.problem(409, "invalid_transition");
    assert_eq!(problem["from"], "before credits first moved, in 2033-01");
    close(app, "2033-02").await.created();
    close(app, "2033-03").await.problem(409, "invalid_transition");
    for body in [json!({}), json!({"month": "2033"}), json!({"month": "2033-13"}), json!({"month": 7})] {
        app.admin().post("/platform/close", body).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn nothing_is_recorded_in_a_closed_month_and_its_reports_keep_their_bytes() {
    let mut trade = Trade::start(13).await;
    trade.days(32, 3).await;
    let finance = trade.app.finance();
    let closing = close(&trade.app, "2033-01").await.created();
    let paths: Vec<String> = ["transactions", "balances", "commissions", "statements"]
        .iter()
        .flat_map(|kind| ["csv", "jsonl"].map(|format| format!("/exports/{kind}?format={format}&month=2033-01")))
        .collect();
    let mut before = Vec::new();
    for path in &paths {
        let reply = finance.get(path).await;
        assert_eq!(json!(reply.position()), closing["last_position"], "{path}");
        before.push(reply.text);
    }
    trade.days(3, 10).await;
    // A node whose clock stands in the closed month writes into the same store.
    let late = process::run(trade.app.store(), &["close", "2033-02"]).await;
    assert!(!late.status.success(), "February is not over by any clock");
    let trade = Trade { app: trade.app.restart().await, ..trade };
    let now = trade.app.stranger().post("/dev/clock", json!({"advance_seconds": 0})).await.ok();
    assert!(now["now"].as_str().expect("a time") < "2033", "the clock of the new node is years behind: {now}");
    trade.app.fund(&trade.resellers[0], 777).await;
    let newest = trade.app.auditor().get("/audit/head").await.ok();
    assert!(newest["recorded_at"].as_str().expect("a time") > "2033-02-01", "{newest}");

    let (last, _) = last_before(&trade.app, "2033-02-01").await;
    assert_eq!(json!(last), closing["last_position"]);
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(trade.app.finance().get(path).await.text, before, "{path}");
    }
}

#[tokio::test]
async fn a_store_whose_read_models_hold_something_else_than_the_log_is_not_closed() {
    let mut trade = Trade::start(16).await;
    trade.days(32, 2).await;
    // Asked for first, so that all of it is folded before it is touched.
    exported(&trade.app.finance(), "/exports/balances").await;
    let last = "select max(position) from transactions where recorded_at < '2033-02-01'";
    let touched = format!("update transactions set balance = balance + 1 where position = ({last})");
    assert_eq!(trade.app.tamper_with_views(&touched), 1);
    close(&trade.app, "2033-01").await.problem(500, "internal");
    let told = process::run(trade.app.store(), &["close", "2033-01"]).await;
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && said.contains("the books do not agree"), "{said}");
    let events = trade.app.auditor().get("/audit/events?event_type=PeriodClosed").await.ok();
    assert_eq!(events["data"], json!([]));
}

#[tokio::test]
async fn a_closing_with_figures_that_are_not_those_of_the_log_is_named_by_verify() {
    for lie in ["totals", "position", "hash"] {
        let mut trade = Trade::start(17).await;
        trade.days(32, 2).await;
        let month: Month = "2033-01".parse().expect("a month");
        let database: Database = database_of(&trade.app);
        let views = ReadPool::open(&projector::views_of(&database)).await.expect("the read models");
        let mut reckoning = reckon(&views, month, Timestamp::MAX, &mut |_, _| {}).await.expect("figures");
        let closing = &mut reckoning.closing;
        match lie {
            "totals" => {
                // Still adds up: one credit more was sold.
                let wallet = closing.totals.get_mut("wallet").expect("wallets");
                (wallet.debit, wallet.balance) = (wallet.debit + 1, wallet.balance - 1);
                let revenue = closing.totals.get_mut("platform:revenue").expect("revenue");
                (revenue.credit, revenue.balance) = (revenue.credit + 1, revenue.balance + 1);
            }
            "position" => closing.last_position -= 1,
            _ => closing.head_hash = "00".repeat(32),
        }
        // A node of another make, on the same store.
        let config = Config { database, clock: ClockKind::Manual, dev: true, ..Config::default() };
        let node = Node::open(&config).await.expect("a node");
        let envelope = CommandEnvelope {
            command_id: CommandId(uuid::Uuid::now_v7()),
            actor: Actor {
                id: UserId::new("liar").expect("a user"),
                role: Role::SuperAdmin,
                tenant: None,
                declared_cost: false,
            },
            idempotency: None,
            command: Command::ClosePeriod(Box::new(reckoning)),
        };
        let reply = node.engine().submit(envelope).await.expect("an answer");
        assert!(matches!(reply.outcome, Outcome::Done { changed: true, .. }), "{reply:?}");
        node.shutdown().await;
        let verified = process::run(trade.app.store(), &["verify"]).await;
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(!verified.status.success() && said.contains("in the closing of 2033-01"), "{lie}: {said}");
        assert_eq!(said.matches("VIOLATED").count(), 2, "one check, and the sum of all: {said}");
    }
}

#[tokio::test]
async fn of_many_who_close_a_month_at_once_while_others_trade_one_does() {
    let mut trade = Trade::start(14).await;
    trade.days(32, 1).await;
    let app = Arc::new(trade.app);
    let closers = (0..8).map(|_| {
        let app = Arc::clone(&app);
        tokio::spawn(async move { close(&app, "2033-01").await.status })
    });
    let traders = (0..40).map(|index| {
        let (app, reseller) = (Arc::clone(&app), trade.resellers[index % trade.resellers.len()].clone());
        tokio::spawn(async move { app.fund(&reseller, 5).await })
    });
    let (closers, traders): (Vec<_>, Vec<_>) = (closers.collect(), traders.collect());
    let mut statuses = Vec::new();
    for closer in closers {
        statuses.push(closer.await.expect("an answer"));
    }
    for trader in traders {
        trader.await.expect("an answer");
    }
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 409, 503].contains(status)), "{statuses:?}");
    let events = app.auditor().get("/audit/events?event_type=PeriodClosed").await.ok();
    assert_eq!(events["data"].as_array().map(Vec::len), Some(1));
}

/// A store on whose clock it was January 2020 when somebody was given credits, and spent and got back all of them so often.
async fn traded_in_january_2020(place: &Place, credits: i64, cycles: usize) -> String {
    let store = place.database().open().await.expect("a store");
    let clock = Clock::manual("2020-01-10T00:00:00Z".parse().expect("a time"));
    let engine = engine::start(store, clock, Policy::default(), EngineOptions::default()).await.expect("an engine");
    let wallet = ResellerId(uuid::Uuid::now_v7());
    let register = Command::Register {
        reseller: wallet,
        refid: "RS-2020".parse().expect("a refid"),
        user_id: "user-2020".parse().expect("a user"),
        company_name: "Early bird".parse().expect("a name"),
        parent: None,
        referral_code: None,
        tier: None,
        metadata: serde_json::Map::new(),
    };
    let amount = Amount::new(credits).expect("an amount");
    let fund = Command::AddCredits { wallet, amount, source: CreditSource::Bonus, reference: None, note: None };
    let mut commands = vec![register, fund];
    for _ in 0..cycles {
        let provision_id = ProvisionId(uuid::Uuid::now_v7());
        let (basis, client, description, metadata) = (PriceBasis::Cost(amount), None, None, None);
        let order = Box::new(ProvisionOrder { provision_id, basis, client, description, metadata });
        let refund_id = RefundId(uuid::Uuid::now_v7());
        commands.push(Command::Provision { wallet, order });
        commands.push(Command::Refund { wallet, provision_id, refund_id, amount: None, reason: None });
    }
    for command in commands {
        let envelope = CommandEnvelope {
            command_id: CommandId(uuid::Uuid::now_v7()),
            actor: Actor {
                id: UserId::new("ops").expect("a user"),
                role: Role::SuperAdmin,
                tenant: None,
                declared_cost: false,
            },
            idempotency: None,
            command,
        };
        let reply = engine.submit(envelope).await.expect("an answer");
        assert!(matches!(reply.outcome, Outcome::Done { changed: true, .. }), "{reply:?}");
    }
    engine.shutdown().await;
    wallet.to_string()
}

#[tokio::test]
async fn turnover_beyond_64_bits_neither_wraps_nor_stops_anything() {
    let place = Place::new();
    let most = (1_i64 << 53) - 1;
    let wallet = traded_in_january_2020(&place, most, 1_100).await;
    let app = TestApp::start_at(place, |_| {}).await;
    let closing = close(&app, "2020-01").await.created();
    let turnover = (i128::from(most) * 1_100).to_string();
    assert_eq!(closing["totals"]["platform:revenue"], json!({"debit": turnover, "credit": turnover, "balance": 0}));
    assert_eq!(closing["totals"]["wallet"]["balance"], json!(most));

    let statements = rows(&exported(&app.finance(), "/exports/statements?month=2020-01").await);
    assert_eq!(statements.len(), 1);
    let figures = ["closing", "provisioned", "refunded"].map(|column| number(&statements[0], column));
    assert_eq!(figures, [most, i64::MIN, i64::MAX]);
    let dashboard = app.admin().get(format!("/reseller-network/dashboard?reseller_id={wallet}")).await.ok();
    assert_eq!(
        (&dashboard["finance"]["balance"], &dashboard["finance"]["provisioned_total"]),
        (&json!(most), &json!(i64::MAX))
    );
    let ranking = app.admin().get("/analytics/top-resellers").await.ok();
    assert_eq!(ranking[0]["provisioned"], json!(i64::MAX), "{ranking}");
    let verified = process::run(app.store(), &["verify"]).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test]
async fn a_month_that_is_over_by_the_log_alone_is_not_closed() {
    let mut trade = Trade::start(15).await;
    trade.days(33, 1).await;
    // The machine's clock is years behind the one that wrote the log.
    let early = process::run(trade.app.store(), &["close", "2033-01"]).await;
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(!early.status.success() && said.contains("not over before 2033-02-01"), "{said}");
    let trade = Trade { app: trade.app.restart().await, ..trade };
    let problem = close(&trade.app, "2033-01").await.problem(409, "invalid_transition");
    assert_eq!(problem["from"], "not over before 2033-02-01T00:00:00.000000Z");
    go_to(&trade.app, "2033-02-01T00:00:00Z").await;
    close(&trade.app, "2033-01").await.created();
}

#[tokio::test]
async fn the_command_line_closes_a_month_beside_the_running_service() {
    let place = Place::new();
    traded_in_january_2020(&place, 700, 0).await;
    let app = TestApp::start_at(place, |_| {}).await;
    let skipping = process::run(app.store(), &["close", "2020-02"]).await;
    let said = String::from_utf8_lossy(&skipping.stderr).into_owned();
    assert!(!skipping.status.success() && said.contains("waiting for 2020-01 to be closed"), "{said}");
    let told = process::run(app.store(), &["close", "2020-01", "--json", "--by", "sarah"]).await;
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let closing: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(closing["totals"]["wallet"], json!({"debit": 0, "credit": 700, "balance": 700}));
    // The service knows of it by its own next turn.
    close(&app, "2020-01").await.problem(409, "already_exists");
    let event = app.auditor().get("/audit/events?event_type=PeriodClosed").await.ok();
    assert_eq!(event["data"][0]["payload"]["PeriodClosed"], closing);
    assert_eq!(event["data"][0]["metadata"]["actor"], "sarah");
}
