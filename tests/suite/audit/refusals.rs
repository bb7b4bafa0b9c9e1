//! What was refused leaves a record, outside of the ledger, for auditors alone.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tallytree::clock::Clock;
use tallytree::refusals::{Refusal, RefusalFilter, Refusals, Retention};

use crate::common::app::{Place, TestApp};
use crate::common::log::noon;

fn codes(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|refusal| refusal["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn who_was_refused_what_and_why_is_told_and_the_ledger_holds_nothing_of_it() {
    let app = TestApp::start().await;
    let (top, other) = (app.top_level("top", "gold").await, app.top_level("other", "gold").await);
    app.fund(&top, 100).await;
    let auditor = app.auditor();
    let head = auditor.get("/audit/head").await.ok();
    let seller = app.application(&top);
    let wallet = format!("/wallets/{top}/provisions");
    seller.post(&wallet, json!({"cost": 70})).await.created();
    seller.post(&wallet, json!({"cost": 70})).header("idempotency-key", "k").await.problem(402, "insufficient_credits");
    assert!(seller.post(&wallet, json!({"cost": 70})).header("idempotency-key", "k").await.replayed());
    seller.post(format!("/wallets/{other}/provisions"), json!({"cost": 1})).await.problem(404, "not_found");
    let items = json!({"atomic": false, "items": [{"cost": 10}, {"cost": 5_000}]});
    seller.post(format!("{wallet}/bulk"), items).await.ok();
    app.finance().post("/clients", json!({"name": "Jo"})).await.problem(403, "forbidden");
    app.admin().post(format!("/resellers/{top}/approve"), json!({})).await;

    let all = auditor.get("/audit/refusals").await.ok();
    assert_eq!(
        codes(&all)[..5],
        ["invalid_transition", "forbidden", "insufficient_credits", "not_found", "insufficient_credits"],
        "{all}"
    );
    let [_, forbidden, item, _, replayed] = &all["data"].as_array().unwrap()[..5] else { panic!("{all}") };
    assert_eq!(
        (&forbidden["role"], &forbidden["path"], &forbidden["position"]),
        (&json!("finance"), &json!("/clients"), &Value::Null)
    );
    assert_eq!((&item["item"], &item["members"]["required"]), (&json!(1), &json!(5_000)));
    assert_eq!(
        (&replayed["replayed"], &replayed["tenant"], &replayed["method"]),
        (&json!(true), &json!(top), &json!("POST"))
    );
    assert_eq!(replayed["members"]["available"], 30);
    assert_eq!(replayed["path"], format!("/wallets/{top}/provisions"));
    assert!(replayed["detail"].as_str().unwrap().len() > 10 && replayed["refused_at"].is_string());
    assert_eq!(all["dropped"], 0);
    assert!(!all.to_string().contains("\"Jo\""), "what was sent is not written down: it may be personal");
    let log = auditor.get(format!("/audit/events?after={}", head["position"])).await.ok();
    let types: Vec<&str> =
        log["data"].as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert!(types.iter().all(|kind| ["Provisioned", "LowCredit"].contains(kind)), "{types:?}");

    for (filter, count) in [
        ("code=insufficient_credits", 3),
        ("role=finance", 1),
        (&format!("tenant={top}&code=not_found"), 1),
        ("actor=nobody", 0),
        ("to=2001-01-01", 0),
        ("from=2001-01-01&role=super_admin", 1),
    ] {
        let page = auditor.get(format!("/audit/refusals?{filter}")).await.ok();
        assert_eq!(codes(&page).len(), count, "{filter}: {page}");
    }
    let first = auditor.get("/audit/refusals?limit=2").await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = auditor.get(format!("/audit/refusals?limit=500&cursor={cursor}")).await.ok();
    assert_eq!([codes(&first), codes(&second)].concat(), codes(&all));

    for person in [app.finance(), app.reseller(&top)] {
        person.get("/audit/refusals").await.problem(403, "forbidden");
    }
    let app = app.restart().await;
    assert_eq!(codes(&app.auditor().get("/audit/refusals").await.ok()), codes(&all), "they are kept");
}

fn refusal(number: u32) -> Refusal {
    Refusal {
        refused_at: noon().plus_seconds(i64::from(number)),
        actor: format!("actor-{number}"),
        role: "reseller",
        tenant: None,
        method: "POST".into(),
        path: "/".into(),
        item: None,
        code: "forbidden".into(),
        detail: "no".into(),
        members: "{}".into(),
        position: None,
        replayed: false,
    }
}

fn noon_clock() -> Clock {
    Clock::manual(noon())
}

async fn kept(refusals: &Refusals) -> Vec<String> {
    refusals.settle().await;
    let page =
        refusals.list(&RefusalFilter::default(), &projections::page::PageRequest { limit: 500, cursor: None }).await;
    page.unwrap().data.into_iter().map(|refusal| refusal.actor).collect()
}

#[tokio::test]
async fn no_more_is_kept_than_was_asked_for_and_none_where_none_was() {
    let place = Place::new();
    let store = place.database();
    let retention = Retention { kept: Duration::from_secs(100), most: 10 };
    let refusals = Refusals::open(&store, retention, noon_clock()).await.unwrap();
    for number in 0..30 {
        refusals.note(refusal(number));
    }
    assert_eq!(kept(&refusals).await.len(), 10);
    drop(refusals);
    let refusals = Refusals::open(&store, retention, noon_clock()).await.unwrap();
    refusals.note(refusal(31));
    let left = kept(&refusals).await;
    assert_eq!((left.len(), left[0].as_str(), left[9].as_str()), (10, "actor-31", "actor-21"), "{left:?}");
    drop(refusals);
    let refusals = Refusals::open(&store, retention, noon_clock()).await.unwrap();
    refusals.note(refusal(126));
    assert_eq!(kept(&refusals).await, ["actor-126", "actor-31", "actor-29", "actor-28", "actor-27", "actor-26"]);
    drop(refusals);
    let refusals = Refusals::open(&store, Retention { kept: Duration::ZERO, most: 10 }, noon_clock()).await.unwrap();
    refusals.note(refusal(127));
    assert_eq!(kept(&refusals).await.len(), 6);
    drop(refusals);
    // Nothing new has to come for what is old to go.
    let later = Clock::manual(noon().plus_seconds(200));
    let refusals = Refusals::open(&store, retention, later).await.unwrap();
    assert_eq!(kept(&refusals).await, ["actor-126"]);
}

/// Somebody who holds all that refusals could be written to.
enum Holder {
    File(rusqlite::Connection),
    Table(PgConnection),
}

impl Holder {
    async fn of(place: &Place) -> Self {
        match place {
            Place::Files(dir) => {
                let path = tallytree::refusals::refusals_path(&dir.path().join("store"));
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.execute_batch("begin immediate").unwrap();
                Self::File(connection)
            }
            Place::Database(database) => {
                let mut connection = PgConnection::connect(database.url()).await.unwrap();
                let lock = "begin; lock table refusals.refusals in access exclusive mode";
                sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
                Self::Table(connection)
            }
        }
    }

    async fn let_go(self) {
        match self {
            Self::File(connection) => connection.execute_batch("rollback").unwrap(),
            Self::Table(mut connection) => drop(sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap()),
        }
    }
}

#[tokio::test]
async fn a_database_that_is_held_by_somebody_else_never_blocks_who_refuses_and_what_is_lost_is_counted() {
    let place = Place::new();
    if let Place::Files(dir) = &place {
        std::fs::create_dir_all(dir.path().join("store")).unwrap();
    }
    let retention = Retention { kept: Duration::from_secs(100), most: 1_000_000 };
    let refusals = Refusals::open(&place.database(), retention, noon_clock()).await.unwrap();
    let holder = Holder::of(&place).await;
    let begun = std::time::Instant::now();
    for number in 0..20_000 {
        refusals.note(refusal(number));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(refusals.dropped() > 5_000, "{}", refusals.dropped());
    holder.let_go().await;
    let left = kept(&refusals).await.len();
    assert!(left > 0, "what waited is written once it can be");
}
