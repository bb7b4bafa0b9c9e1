//! The rows of the API's tables of queries, for the operator, for a reseller and for those outside.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::app::{TestApp, id_of};

/// A grandparent, a parent and a child, with some history.
struct Family {
    app: TestApp,
    top: String,
    middle: String,
    low: String,
}

impl Family {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let top = app.top_level("top", "platinum").await;
        let middle = app.child_of(&top, "middle", "gold").await;
        let low = app.child_of(&middle, "low", "standard").await;
        app.fund(&low, 5_000).await;
        app.application(&low).post(format!("/wallets/{low}/provisions"), json!({"base_cost": 1000})).await.created();
        Self { app, top, middle, low }
    }
}

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().expect("a page").iter().map(id_of).collect()
}

#[tokio::test]
async fn resellers_are_found_by_what_is_known_of_them_and_paged() {
    let Family { app, top, middle, low } = Family::start().await;
    let admin = app.admin();
    assert_eq!(ids(&admin.get("/resellers").await.ok()), [top.clone(), middle.clone(), low.clone()]);
    assert_eq!(ids(&admin.get("/resellers?tier=gold&status=active").await.ok()), [middle.as_str()]);
    assert_eq!(ids(&admin.get("/resellers?user_id=low").await.ok()), [low.as_str()]);
    assert_eq!(ids(&admin.get("/resellers?q=top").await.ok()), [top.as_str()]);
    let refid = admin.get(format!("/resellers/{low}")).await.ok()["refid"].as_str().expect("a refid").to_owned();
    assert_eq!(ids(&admin.get(format!("/resellers?refid={refid}")).await.ok()), [low.as_str()]);

    let first = admin.get("/resellers?limit=2").await.ok();
    assert_eq!(ids(&first), [top.clone(), middle.clone()]);
    let cursor = first["next_cursor"].as_str().expect("more");
    let last = admin.get(format!("/resellers?limit=2&cursor={cursor}")).await.ok();
    assert_eq!((ids(&last), &last["next_cursor"]), (vec![low.clone()], &Value::Null));

    for wrong in ["limit=0", "limit=501", "limit=x", "cursor=zz!", "tier=silver", "colour=red", "tier=gold&tier=gold"] {
        admin.get(format!("/resellers?{wrong}")).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn a_reseller_sees_itself_and_its_downline_and_nothing_else() {
    let Family { app, top, middle, low } = Family::start().await;
    let person = app.reseller(&middle);
    assert_eq!(ids(&person.get("/resellers").await.ok()), [middle.clone(), low.clone()]);
    person.get(format!("/wallets/{low}")).await.ok();
    assert_eq!(person.get(format!("/resellers/{middle}")).await.ok()["parent_id"], Value::Null);
    let nobody = "01900000-0000-7000-8000-000000000000";
    for path in [
        "/resellers/{}",
        "/wallets/{}",
        "/wallets/{}/transactions",
        "/wallets/{}/quote?base_cost=1",
        "/wallets/{}/provisions",
        "/resellers/{}/prices",
        "/reseller-network/dashboard?reseller_id={}",
        "/reseller-network/downline/tree?root={}",
        "/products?reseller_id={}",
    ] {
        let elsewhere = person.get(path.replace("{}", &top)).await;
        let nowhere = person.get(path.replace("{}", nobody)).await;
        assert_eq!(elsewhere.problem(404, "not_found"), nowhere.problem(404, "not_found"), "{path}");
    }
    for path in ["/audit/events", "/audit/head", "/platform/policy"] {
        person.get(path).await.problem(403, "forbidden");
    }
    app.payments().get(format!("/wallets/{low}")).await.problem(403, "forbidden");
    app.stranger().get(format!("/wallets/{low}")).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_wallet_shows_what_it_holds_and_held() {
    let Family { app, low, middle, .. } = Family::start().await;
    let admin = app.admin();
    let wallet = admin.get(format!("/wallets/{low}")).await.ok();
    assert_eq!((&wallet["balance"], &wallet["available"]), (&json!(4000), &json!(4000)));
    assert_eq!(wallet["money"], json!({"amount": "40.00", "currency": "USD"}));
    assert_eq!(admin.get(format!("/wallets/{middle}")).await.ok()["balance"], 150);

    let page = admin.get(format!("/wallets/{low}/transactions")).await.ok();
    let lines = page["data"].as_array().expect("lines");
    let funded = lines.iter().find(|line| line["balance"] == 5000).expect("the funding");
    let position = funded["position"].as_u64().expect("a position");
    let before = admin.get(format!("/wallets/{low}?position={position}")).await.ok();
    assert_eq!((&before["balance"], &before["position"]), (&json!(5000), &json!(position)));
    admin.get(format!("/wallets/{low}?position=1000000")).await.problem(422, "invalid");
    admin.get(format!("/wallets/{low}?at=2199-01-01T00:00:00Z")).await.problem(422, "invalid");

    let provisions = admin.get(format!("/wallets/{low}/provisions")).await.ok();
    let provision = provisions["data"][0]["provision_id"].as_str().expect("an id");
    let one = format!("/wallets/{low}/provisions/{provision}");
    assert_eq!(admin.get(&one).await.ok()["commissions"].as_array().map(Vec::len), Some(2));
    assert!(app.reseller(&low).get(&one).await.ok().get("commissions").is_none());
}

#[tokio::test]
async fn a_quote_is_what_the_tier_pays() {
    let Family { app, top, middle, low } = Family::start().await;
    for (reseller, cost) in [(&top, 700), (&middle, 850), (&low, 1000)] {
        let quote = app.reseller(reseller).get(format!("/wallets/{reseller}/quote?base_cost=1000")).await.ok();
        assert_eq!((&quote["cost"], &quote["unit_cost"]), (&json!(cost), &json!(cost)));
    }
    app.admin().get(format!("/wallets/{low}/quote")).await.problem(422, "invalid");
    app.admin().get(format!("/wallets/{low}/quote?sku=nothing")).await.problem(404, "not_found");
}

#[tokio::test]
async fn the_dashboard_and_the_tree_count_the_network() {
    let Family { app, top, middle, low } = Family::start().await;
    let board = app.reseller(&top).get("/reseller-network/dashboard").await.ok();
    assert_eq!((&board["network"]["children"], &board["network"]["downline"]), (&json!(1), &json!(2)));
    assert_eq!((&board["finance"]["balance"], &board["finance"]["commissions_total"]), (&json!(150), &json!(150)));
    assert_eq!(board["subtree"]["balance"], 4300);
    assert_eq!(board["orders"], Value::Null);
    let whole = app.admin().get("/reseller-network/dashboard").await.ok();
    assert_eq!(whole["network"]["downline"], 3);

    let tree = app.reseller(&top).get("/reseller-network/downline/tree").await.ok();
    assert_eq!(id_of(&tree), top);
    assert_eq!(id_of(&tree["children"][0]), middle);
    assert_eq!(id_of(&tree["children"][0]["children"][0]), low);
    assert_eq!(tree["children"][0]["children"][0]["balance"], 4000);
    app.admin().get("/reseller-network/downline/tree?depth=65").await.problem(422, "invalid");
}

#[tokio::test]
async fn the_log_is_read_as_it_is_by_auditors() {
    let Family { app, low, .. } = Family::start().await;
    let auditor = app.auditor();
    let head = auditor.get("/audit/head").await.ok();
    let position = head["position"].as_u64().expect("a position");
    let page = auditor.get("/audit/events?limit=500").await.ok();
    let events = page["data"].as_array().expect("events");
    assert_eq!(events.len() as u64, position);
    assert_eq!(events.last().expect("an event")["hash"], head["hash"]);
    let positions: Vec<_> = events.iter().filter_map(|event| event["position"].as_u64()).collect();
    assert_eq!(positions, (1..=position).collect::<Vec<_>>());
    let wallet = auditor.get(format!("/audit/events?aggregate_type=Wallet&aggregate_id={low}")).await.ok();
    assert!(wallet["data"].as_array().expect("events").iter().all(|event| event["aggregate_id"] == low.as_str()));
    assert_eq!(wallet["data"][0]["metadata"]["role"], "super_admin");

    let lines = auditor.get("/audit/events").header("accept", "application/x-ndjson").await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let text = lines.ok();
    assert_eq!(text.as_str().expect("lines").lines().count() as u64, position);
    app.finance().get("/audit/events").await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_query_waits_for_the_position_it_names_and_no_longer_than_five_seconds() {
    let Family { app, low, .. } = Family::start().await;
    let behind = app.admin().get(format!("/wallets/{low}?min_position=1000000")).await;
    assert_eq!(behind.header("retry-after"), Some("1"));
    behind.problem(503, "view_behind");
}

#[tokio::test]
async fn clients_are_their_owners_and_the_operators() {
    let Family { app, middle, low, .. } = Family::start().await;
    let client = id_of(&app.reseller(&low).post("/clients", json!({"name": "Jo"})).await.created());
    let path = format!("/clients/{client}");
    assert_eq!(app.reseller(&low).get(&path).await.ok()["name"], "Jo");
    assert_eq!(app.auditor().get(&path).await.ok()["name"], "Jo");
    app.reseller(&middle).get(&path).await.problem(404, "not_found");
    app.finance().get(&path).await.problem(403, "forbidden");
    assert_eq!(ids(&app.reseller(&low).get("/clients?status=onboarded").await.ok()), [client.as_str()]);
    assert!(ids(&app.reseller(&middle).get("/clients").await.ok()).is_empty());
    assert_eq!(ids(&app.admin().get(format!("/clients?reseller_id={low}")).await.ok()), [client.as_str()]);
}

#[tokio::test]
async fn settings_requests_and_products_are_shown_to_whom_they_concern() {
    let Family { app, middle, low, .. } = Family::start().await;
    app.reseller(&low).put("/reseller-network/settings", json!({"margin_percent": "5"})).await.ok();
    assert_eq!(app.reseller(&low).get("/reseller-network/settings").await.ok()["margin_percent"], "5");
    let ask = json!({"kind": "generic", "payload": {"subject": "hello", "body": "there"}});
    let raised = app.reseller(&low).post("/reseller-network/upline/request", ask).await;
    let location = raised.header("location").expect("where to poll").to_owned();
    for person in [app.reseller(&low), app.reseller(&middle), app.admin()] {
        assert_eq!(person.get(&location).await.ok()["status"], "pending");
    }
    app.admin().post("/products", json!({"sku": "pro", "name": "Pro", "base_cost": 100})).await.created();
    let catalog = app.reseller(&middle).get("/products").await.ok();
    assert_eq!((&catalog["data"][0]["sku"], &catalog["data"][0]["unit_cost"]), (&json!("pro"), &json!(85)));
    app.reseller(&low).get("/products/pro").await.ok();
    assert_eq!(app.finance().get("/platform/policy").await.ok()["credit_conversion_rate"], 100);
}

#[tokio::test]
async fn a_node_says_that_it_lives_and_that_it_is_ready() {
    let app = TestApp::start().await;
    assert_eq!(app.stranger().get("/healthz").await.ok()["status"], "ok");
    // Ready it is once its read models have come to the end of the log: a moment after it has begun to answer.
    let begun = Instant::now();
    let ready = loop {
        let reply = app.stranger().get("/readyz").await;
        if reply.status == 200 {
            break reply.ok();
        }
        reply.problem(503, "not_ready");
        assert!(begun.elapsed() < Duration::from_secs(20), "it never is");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((&ready["status"], &ready["views_position"]), (&json!("ready"), &ready["position"]));
}

#[tokio::test]
async fn a_reseller_is_not_told_who_its_upline_is_and_an_upline_not_whom_its_downline_serves() {
    let app = TestApp::start().await;
    let parent = app.top_level("parent", "gold").await;
    let child = app.child_of(&parent, "child", "standard").await;
    app.fund(&child, 100).await;
    let own = app.reseller(&child);
    let renamed = own.patch(format!("/resellers/{child}"), json!({"company_name": "New"})).await.ok();
    assert_eq!(renamed["parent_id"], Value::Null);
    let seen = app.reseller(&parent).get(format!("/resellers/{child}")).await.ok();
    assert_eq!(seen["parent_id"], parent.as_str());
    let ask = json!({"kind": "generic", "payload": {"subject": "Hello", "body": "?"}});
    let raised = own.post("/reseller-network/upline/request", ask).await.expect_status(202);
    assert_eq!(raised["addressed_to"], "upline");
    let path = format!("/reseller-network/upline/request/{}", raised["id"].as_str().expect("an id"));
    assert_eq!(own.get(&path).await.ok()["addressed_to"], "upline");
    assert_eq!(app.reseller(&parent).get(&path).await.ok()["addressed_to"], parent.as_str());

    let client = own.post("/clients", json!({"name": "Ann"})).await.created();
    let client = client["id"].as_str().expect("an id");
    own.post(format!("/clients/{client}/activate"), json!({})).await.ok();
    let sale = json!({"cost": 5, "client_id": client, "description": "for Ann", "metadata": {"name": "Ann"}});
    app.application(&child).post(format!("/wallets/{child}/provisions"), sale).await.created();
    for (person, named) in [(own, json!(client)), (app.reseller(&parent), Value::Null)] {
        let provisions = person.get(format!("/wallets/{child}/provisions")).await.ok();
        assert_eq!(provisions["data"][0]["client_id"], named);
        assert_eq!(provisions["data"][0]["description"].is_null(), named.is_null());
        assert_eq!(provisions["data"][0]["metadata"].is_null(), named.is_null());
        let lines = person.get(format!("/wallets/{child}/transactions?kind=provisioned")).await.ok();
        assert_eq!(lines["data"][0]["client_id"], named);
        assert_eq!(lines["data"][0]["amount"], -5);
        let unknown = person.get(format!("/wallets/{child}/transactions?kind=purchase")).await;
        let told = unknown.problem(422, "invalid")["detail"].to_string();
        assert!(told.contains("credits_added"), "it names those there are: {told}");
        let by_client = person.get(format!("/wallets/{child}/transactions?client_id={client}")).await.ok();
        assert_eq!(by_client["data"].as_array().expect("a page").is_empty(), named.is_null());
    }
}
