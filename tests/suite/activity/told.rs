//! Who is told what by the feed, as each role, and what lies outside of somebody's sight.

use serde_json::{Value, json};

use super::listener::FEED;
use crate::common::app::{Person, TestApp, id_of};

const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

/// A grandparent, a parent, a child, and the child's sibling.
struct Family {
    app: TestApp,
    top: String,
    middle: String,
    low: String,
    sibling: String,
}

impl Family {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let top = app.top_level("top", "platinum").await;
        let middle = app.child_of(&top, "middle", "gold").await;
        let low = app.child_of(&middle, "low", "standard").await;
        let sibling = app.child_of(&middle, "sibling", "standard").await;
        Self { app, top, middle, low, sibling }
    }

    fn everybody(&self) -> [Person; 4] {
        [&self.top, &self.middle, &self.low, &self.sibling].map(|id| self.app.reseller(id))
    }
}

async fn entries(person: &Person, query: &str) -> Vec<Value> {
    person.get(format!("{FEED}{query}")).await.ok()["data"].as_array().expect("a page").clone()
}

/// The newest entry of a kind, where there is one.
async fn newest(person: &Person, kind: &str) -> Option<Value> {
    entries(person, &format!("?kind={kind}&limit=1")).await.pop()
}

fn summaries(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["summary"].as_str().expect("a sentence")).collect()
}

#[tokio::test]
async fn a_reseller_and_its_uplines_and_the_staff_are_told_of_a_sale_and_a_sibling_is_not() {
    let family = Family::start().await;
    let Family { app, top, middle, low, .. } = &family;
    app.fund(low, 5_000).await;
    let client = id_of(&app.reseller(low).post("/clients", json!({"name": "Ann"})).await.created());
    app.reseller(low).post(format!("/clients/{client}/activate"), json!({})).await.ok();
    let sale = json!({"base_cost": 1000, "client_id": client, "description": "for Ann", "metadata": {"name": "Ann"}});
    app.application(low).post(format!("/wallets/{low}/provisions"), sale).await.created();

    let own = newest(&app.reseller(low), "provisioned").await.expect("its own sale");
    assert_eq!(own["summary"], "low Ltd provisioned a service for 1000 credits");
    assert_eq!((&own["amount"], &own["balance"]), (&json!(-1000), &json!(4000)));
    assert_eq!((&own["client_id"], &own["note"]), (&json!(client), &json!("for Ann")));
    assert_eq!((&own["reseller_id"], &own["by"]), (&json!(low), &json!(low)));
    for person in [app.reseller(middle), app.reseller(top)] {
        let seen = newest(&person, "provisioned").await.expect("its downline's sale");
        assert_eq!((&seen["amount"], &seen["reseller_id"]), (&json!(-1000), &json!(low)));
        assert!(!seen.to_string().contains("Ann") && !seen.to_string().contains(&client), "{seen}");
        // That there is a client is a number; who it is is not.
        let onboarded = newest(&person, "client_onboarded").await.expect("a number");
        assert!(!onboarded.to_string().contains(&client), "{onboarded}");
    }
    for person in [app.admin(), app.auditor(), app.finance()] {
        assert_eq!(newest(&person, "provisioned").await.expect("any sale")["client_id"], json!(client));
    }
    assert!(newest(&app.reseller(&family.sibling), "provisioned").await.is_none());
    app.payments().get(FEED).await.problem(403, "forbidden");
    app.stranger().get(FEED).await.problem(401, "unauthenticated");

    // Who earns what is told to who earns and to those above.
    let earned = newest(&app.reseller(top), "commission_earned").await.expect("what top earned");
    assert_eq!(earned["counterparty_id"], json!(low));
    assert_eq!(entries(&app.reseller(middle), "?kind=commission_earned").await.len(), 1);
    assert!(newest(&app.reseller(low), "commission_earned").await.is_none());
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended_and_filters_hold() {
    let family = Family::start().await;
    let Family { app, middle, low, .. } = &family;
    for amount in 1..=25 {
        app.fund(if amount % 2 == 0 { low } else { middle }, amount).await;
    }
    let person = app.reseller(middle);
    let whole = entries(&person, "?limit=500").await;
    let positions: Vec<u64> = whole.iter().map(|entry| entry["position"].as_u64().expect("a position")).collect();
    assert!(positions.windows(2).all(|pair| pair[0] > pair[1]), "newest first: {positions:?}");
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = person.get(format!("{FEED}?limit=4{cursor}")).await.ok();
        paged.extend(page["data"].as_array().expect("a page").clone());
        match page["next_cursor"].as_str() {
            None => break,
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
    assert_eq!(paged, whole);
    assert_eq!(entries(&person, "?kind=credits_added&limit=500").await.len(), 25);
    assert_eq!(entries(&person, &format!("?kind=credits_added&reseller_id={low}&limit=500")).await.len(), 12);
    let about = entries(&app.admin(), &format!("?reseller_id={low}")).await;
    assert!(!about.is_empty() && about.iter().all(|entry| entry["reseller_id"] == low.as_str()));
    let elsewhere = person.get(format!("{FEED}?reseller_id={}", family.top)).await.problem(404, "not_found");
    assert_eq!(elsewhere, person.get(format!("{FEED}?reseller_id={NOBODY}")).await.problem(404, "not_found"));
    for wrong in ["kind=nonsense", "limit=0", "cursor=zz!", "from=x", "colour=red", "reseller_id=x"] {
        person.get(format!("{FEED}?{wrong}")).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn from_and_to_cut_a_stretch_of_time() {
    let app = TestApp::start().await;
    let reseller = app.top_level("someone", "gold").await;
    app.fund(&reseller, 1).await;
    app.advance(86_400 * 2).await;
    app.fund(&reseller, 2).await;
    let second = newest(&app.admin(), "credits_added").await.expect("the second");
    let time = second["recorded_at"].as_str().expect("a time");
    app.advance(3_600).await;
    app.fund(&reseller, 3).await;
    let person = app.reseller(&reseller);
    let amounts = async |query: &str| -> Vec<i64> {
        entries(&person, &format!("?kind=credits_added&{query}"))
            .await
            .iter()
            .filter_map(|e| e["amount"].as_i64())
            .collect()
    };
    assert_eq!(amounts("").await, [3, 2, 1]);
    assert_eq!(amounts(&format!("from={time}")).await, [3, 2]);
    assert_eq!(amounts(&format!("to={time}")).await, [1]);
    assert_eq!(amounts(&format!("from={time}&to={time}")).await, [0_i64; 0]);
    let day = &time[..10];
    assert_eq!(amounts(&format!("from={day}&to=2199-12-31")).await, [3, 2]);
    assert_eq!(amounts("from=2199-01-01").await, [0_i64; 0]);
}

#[tokio::test]
async fn a_freeze_is_told_below_without_a_name_and_above_with_it() {
    let family = Family::start().await;
    let Family { app, top, middle, low, sibling } = &family;
    let reason = json!({"reason": "unpaid"});
    app.reseller(top).post(format!("/resellers/{middle}/freeze"), reason).await.ok();
    let below = newest(&app.reseller(low), "subtree_frozen").await.expect("it is frozen");
    assert_eq!((&below["reseller_id"], &below["by"]), (&json!(low), &json!("upline")));
    assert_eq!(below["summary"], "low Ltd and all its downline were frozen by its upline");
    for (person, text) in [(app.reseller(low), &below), (app.reseller(sibling), &below)] {
        let seen = newest(&person, "subtree_frozen").await.expect("it is frozen").to_string();
        for name in [top, middle, "unpaid", "top", "middle"] {
            assert!(!seen.contains(name), "{seen} names {name}; {text}");
        }
    }
    let own = newest(&app.reseller(middle), "subtree_frozen").await.expect("its own");
    assert_eq!((&own["by"], &own["note"]), (&json!("upline"), &Value::Null));
    let above = newest(&app.reseller(top), "subtree_frozen").await.expect("its own deed");
    assert_eq!((&above["by"], &above["note"]), (&json!(top), &json!("unpaid")));
    assert_eq!(above["reseller_id"], json!(middle));
    // Who comes later is frozen, but was not there when it happened.
    app.reseller(top).post(format!("/resellers/{middle}/unfreeze"), json!({})).await.ok();
    let late = app.child_of(middle, "late", "standard").await;
    assert!(newest(&app.reseller(&late), "subtree_frozen").await.is_none());
    assert!(newest(&app.reseller(low), "subtree_unfrozen").await.is_some());
}

#[tokio::test]
async fn a_price_change_reaches_whoever_pays_another_price_and_nobody_else() {
    let family = Family::start().await;
    let Family { app, top, middle, low, sibling } = &family;
    let grandchild = app.child_of(low, "grandchild", "standard").await;
    let admin = app.admin();
    admin.post("/products", json!({"sku": "pro", "name": "Pro", "base_cost": 1000})).await.created();
    for person in family.everybody() {
        assert_eq!(newest(&person, "product_published").await.expect("news for all")["sku"], "pro");
    }
    // Low adds a margin to whatever it pays: what its child pays moves with it.
    app.reseller(low).put("/reseller-network/settings", json!({"margin_percent": "10"})).await.ok();
    let reached = newest(&app.reseller(&grandchild), "cost_changed").await.expect("from 1000 to 1100");
    assert_eq!(
        (&reached["summary"], &reached["by"]),
        (&json!("What products cost grandchild Ltd has changed"), &Value::Null)
    );
    assert!(!reached.to_string().contains("low") && !reached.to_string().contains(low.as_str()), "{reached}");
    assert!(newest(&app.reseller(middle), "settings_changed").await.is_none(), "settings are one's own");
    assert!(newest(&app.reseller(low), "settings_changed").await.is_some());

    app.reseller(middle).put(format!("/resellers/{low}/prices/pro"), json!({"cost": 1500})).await.ok();
    let set = newest(&app.reseller(low), "price_set").await.expect("its own price");
    assert_eq!((&set["unit_cost"], &set["sku"], &set["by"]), (&json!(1500), &json!("pro"), &json!("upline")));
    let below = newest(&app.reseller(&grandchild), "cost_changed").await.expect("it pays more");
    assert_eq!((&below["former_cost"], &below["unit_cost"]), (&json!(1100), &json!(1650)));
    assert_eq!(below["id"].as_str().expect("an id").split(':').nth(1), Some("1"));
    // The staff may read what anybody was told.
    let told = entries(&app.auditor(), &format!("?kind=cost_changed&limit=1&reseller_id={grandchild}")).await;
    assert_eq!((&told[0]["reseller_id"], &told[0]["summary"]), (&json!(grandchild), &below["summary"]));
    for person in [app.reseller(sibling), app.reseller(middle), app.reseller(top)] {
        assert!(newest(&person, "cost_changed").await.is_none(), "pays what it paid");
    }
    assert!(newest(&app.reseller(&grandchild), "price_set").await.is_none(), "what its upline pays is not its to know");

    let body = json!({"name": "Pro", "base_cost": 1200});
    admin.put("/products/pro", body).await.ok();
    for (id, cost) in [(top, 840), (middle, 1020), (sibling, 1200)] {
        let reached = newest(&app.reseller(id), "cost_changed").await.expect("it pays by the base cost");
        assert_eq!(reached["unit_cost"], cost);
    }
    assert!(newest(&app.reseller(low), "cost_changed").await.is_none(), "its price is set");
    assert_eq!(newest(&app.reseller(&grandchild), "cost_changed").await, Some(below));
    assert!(newest(&app.reseller(top), "product_repriced").await.is_none(), "before discounts it is the staff's");
    assert!(newest(&app.auditor(), "product_repriced").await.is_some());
}

#[tokio::test]
async fn a_request_is_told_to_who_asks_and_to_who_is_to_answer() {
    let family = Family::start().await;
    let Family { app, top, middle, low, sibling } = &family;
    app.fund(middle, 1_000).await;
    let ask = json!({"kind": "credit_topup", "payload": {"amount": 300}});
    let raised = app.reseller(low).post("/reseller-network/upline/request", ask).await.expect_status(202);
    let own = newest(&app.reseller(low), "upline_request_raised").await.expect("its own");
    assert_eq!(own["summary"], "low Ltd asked its upline for 300 credits");
    assert!(!own.to_string().contains(middle.as_str()), "{own}");
    let asked = newest(&app.reseller(middle), "upline_request_raised").await.expect("it is to answer");
    assert_eq!((&asked["request_id"], &asked["amount"]), (&raised["id"], &json!(300)));
    assert_eq!(asked["summary"], "low Ltd asked middle Ltd for 300 credits");
    for person in [app.reseller(top), app.reseller(sibling)] {
        assert!(newest(&person, "upline_request_raised").await.is_none());
    }
    assert_eq!(entries(&app.admin(), "?kind=upline_request_raised").await.len(), 1);

    let path = format!("/reseller-network/upline/request/{}", raised["id"].as_str().expect("an id"));
    app.reseller(middle).post(format!("{path}/forward"), json!({})).await.ok();
    for person in [app.reseller(top), app.reseller(middle), app.reseller(low)] {
        assert!(newest(&person, "upline_request_forwarded").await.is_some());
    }
    app.reseller(top).post(format!("{path}/reject"), json!({"reason": "no"})).await.ok();
    for person in [app.reseller(top), app.reseller(low)] {
        assert_eq!(newest(&person, "upline_request_rejected").await.expect("an answer")["note"], "no");
    }
    assert!(newest(&app.reseller(middle), "upline_request_rejected").await.is_none(), "no longer its own");
}

#[tokio::test]
async fn the_other_end_of_a_transfer_is_named_to_whom_it_is_in_sight() {
    let family = Family::start().await;
    let Family { app, middle, low, .. } = &family;
    app.fund(middle, 1_000).await;
    let body = json!({"to": low, "amount": 70, "note": "for the month"});
    app.reseller(middle).post(format!("/wallets/{middle}/transfers"), body).fresh_key().await.created();
    let received = newest(&app.reseller(low), "credits_transferred_in").await.expect("it received");
    assert_eq!(received["summary"], "low Ltd received 70 credits from its upline");
    assert_eq!((&received["counterparty_id"], &received["by"]), (&Value::Null, &json!("upline")));
    assert!(newest(&app.reseller(low), "credits_transferred_out").await.is_none());
    let sent = newest(&app.reseller(middle), "credits_transferred_out").await.expect("it sent");
    assert_eq!(sent["summary"], "middle Ltd sent 70 credits to low Ltd");
    assert_eq!(sent["counterparty_id"], json!(low));
    let joined = newest(&app.reseller(low), "reseller_registered").await.expect("its beginning");
    assert_eq!((&joined["summary"], &joined["counterparty_id"]), (&json!("low Ltd joined the network"), &Value::Null));
    assert_eq!(app.reseller(low).get(FEED).await.ok()["data"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn what_the_operator_does_to_the_platform_is_for_its_staff() {
    let family = Family::start().await;
    assert!(newest(&family.app.finance(), "policy_set").await.is_some());
    for person in family.everybody() {
        assert!(newest(&person, "policy_set").await.is_none());
    }
    let referred = family.app.reseller(&family.low);
    assert!(entries(&referred, "?kind=referral_code_issued").await.is_empty());
}

#[tokio::test]
async fn a_dashboard_shows_the_ten_newest_of_the_same_moment() {
    let family = Family::start().await;
    let Family { app, top, middle, low, .. } = &family;
    for amount in 1..=12 {
        app.fund(low, amount).await;
    }
    for (person, path) in [
        (app.admin(), "/reseller-network/dashboard".to_owned()),
        (app.reseller(top), "/reseller-network/dashboard".to_owned()),
        (app.reseller(top), format!("/reseller-network/dashboard?reseller_id={middle}")),
        (app.admin(), format!("/reseller-network/dashboard?reseller_id={low}")),
    ] {
        let board = person.get(path).await.ok();
        let recent = board["recent_activity"].as_array().expect("entries");
        let amounts: Vec<i64> = recent.iter().filter_map(|entry| entry["amount"].as_i64()).collect();
        assert_eq!(amounts, (3..=12).rev().collect::<Vec<_>>(), "{:?}", summaries(recent));
    }
    let own = app.reseller(low).get("/reseller-network/dashboard").await.ok();
    let page = app.reseller(low).get(format!("{FEED}?limit=10")).await.ok();
    assert_eq!(own["recent_activity"], page["data"]);
}
