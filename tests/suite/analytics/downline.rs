//! The dashboard whole, and what is asked about a downline: a child, its performance, its health.

use serde_json::{Value, json};

use super::{Network, each, go_to};
use crate::common::app::id_of;

fn ids(list: &Value) -> Vec<String> {
    list.as_array().expect("a list").iter().map(id_of).collect()
}

#[tokio::test]
async fn the_dashboard_shows_all_of_a_tenant_and_of_the_network() {
    let network = Network::start().await;
    let Network { app, top, left, leaf, .. } = &network;
    let admin = app.admin();
    admin.post("/products", json!({"sku": "basic", "name": "Basic", "base_cost": 100})).await.created();
    let pro = json!({"sku": "pro", "name": "Pro", "base_cost": 500, "minimum_tier": "gold"});
    admin.post("/products", pro).await.created();
    app.fund(leaf, 3_000).await;
    network.sell(leaf, 1_000).await;
    go_to(app, "2033-01-18T10:00:00Z").await;
    network.sell(leaf, 1_000).await;
    network.take_on(left, "Ann").await;
    let ask = json!({"kind": "generic", "payload": {"subject": "hello", "body": "there"}});
    app.reseller(leaf).post("/reseller-network/upline/request", ask).await.expect_status(202);
    app.reseller(top).post(format!("/resellers/{leaf}/freeze"), json!({})).await.ok();

    let board = app.reseller(left).get("/reseller-network/dashboard").await.ok();
    assert_eq!(board["finance"]["commissions_total"], 300);
    assert_eq!((&board["finance"]["balance"], &board["finance"]["low_credit"]), (&json!(300), &json!(true)));
    assert_eq!(board["catalog"], json!({"products_available": 2}));
    let numbers = json!({"children": 1, "downline": 1, "active": 1, "frozen": 1, "pending": 0});
    assert_eq!(board["network"], numbers);
    assert_eq!(board["subtree"], json!({"balance": 1_300, "provisioned_total": 2_000, "provisioned_30d": 2_000}));
    assert_eq!(board["clients"], json!({"total": 1, "active": 0}));
    assert_eq!(board["upline_requests"], json!({"pending_out": 0, "pending_in": 1}));
    assert_eq!(board["orders"], Value::Null);
    assert_eq!(app.reseller(leaf).get("/reseller-network/dashboard").await.ok()["catalog"]["products_available"], 1);

    // The first sale was on December 20: the thirtieth day from it is January 18, and on the next one it is out.
    go_to(app, "2033-01-19T00:00:00Z").await;
    let board = app.auditor().get(format!("/reseller-network/dashboard?reseller_id={leaf}")).await.ok();
    assert_eq!(
        (&board["finance"]["provisioned_total"], &board["finance"]["provisioned_30d"]),
        (&json!(2_000), &json!(1_000))
    );
    let all = app.finance().get("/reseller-network/dashboard").await.ok();
    assert_eq!((&all["network"]["downline"], &all["finance"]["provisioned_30d"]), (&json!(5), &json!(1_000)));
}

#[tokio::test]
async fn a_child_is_summed_up_for_those_above_it() {
    let network = Network::start().await;
    let Network { app, top, left, leaf, .. } = &network;
    app.fund(leaf, 3_000).await;
    let summary = app.reseller(top).get(format!("/reseller-network/downline/{left}")).await.ok();
    assert_eq!(id_of(&summary["reseller"]), *left);
    assert_eq!(summary["wallet"]["balance"], 0);
    assert_eq!(summary["dashboard"]["subtree"]["balance"], 3_000);
    let person = app.reseller(top);
    assert_eq!(summary["wallet"], person.get(format!("/wallets/{left}")).await.ok());
    assert_eq!(
        summary["dashboard"]["network"],
        person.get(format!("/reseller-network/dashboard?reseller_id={left}")).await.ok()["network"]
    );
    app.reseller(top).get("/reseller-network/downline/nonsense").await.problem(404, "not_found");
}

#[tokio::test]
async fn performance_is_the_downlines_and_each_childs_with_all_below_it() {
    let network = Network::start().await;
    let Network { app, top, left, right, leaf, .. } = &network;
    for reseller in [top, leaf, right] {
        app.fund(reseller, 10_000).await;
    }
    go_to(app, "2033-01-10T12:00:00Z").await;
    network.sell(leaf, 1_000).await;
    network.sell(top, 1_000).await;
    network.take_on(leaf, "Ann").await;
    go_to(app, "2033-01-12T12:00:00Z").await;
    network.sell(right, 2_000).await;

    let person = app.reseller(top);
    let whole = person.get("/reseller-network/downline/performance").await.ok();
    // What top itself sold and was given is no part of its downline.
    let totals = json!({"provisioned": 3_000, "added": 20_000, "commissions": 150, "acquisitions": 1, "active": 3});
    assert_eq!(whole["totals"], totals);
    assert_eq!(
        whole["children"][0],
        json!({"reseller_id": left, "company_name": "left Ltd", "tier": "gold", "status": "active",
               "provisioned": 1_000, "added": 10_000, "commissions": 150, "acquisitions": 1, "active": 2})
    );
    assert_eq!(each(&whole["children"], "provisioned"), [&json!(1_000), &json!(2_000)]);
    let later = person.get("/reseller-network/downline/performance?from=2033-01-11").await.ok();
    assert_eq!((&later["totals"]["provisioned"], &later["totals"]["added"]), (&json!(2_000), &json!(0)));
    assert_eq!(each(&later["children"], "provisioned"), [&json!(0), &json!(2_000)]);
    let noon = "from=2033-01-10T11:59:59Z&to=2033-01-10T12:30:00Z";
    let at_noon = person.get(format!("/reseller-network/downline/performance?{noon}")).await.ok();
    assert_eq!(each(&at_noon["children"], "provisioned"), [&json!(1_000), &json!(0)]);
    assert_eq!(at_noon["totals"]["acquisitions"], 1);

    let first = person.get("/reseller-network/downline/performance?limit=1").await.ok();
    assert_eq!(each(&first["children"], "reseller_id"), [left.as_str()]);
    assert_eq!(first["totals"], totals, "a page of children, the totals of all");
    let cursor = first["next_cursor"].as_str().expect("more");
    let last = person.get(format!("/reseller-network/downline/performance?limit=1&cursor={cursor}")).await.ok();
    assert_eq!(each(&last["children"], "reseller_id"), [right.as_str()]);
    assert_eq!(last["next_cursor"], Value::Null);
    let all = app.admin().get("/reseller-network/downline/performance").await.ok();
    assert_eq!((&all["totals"]["active"], &all["totals"]["provisioned"]), (&json!(5), &json!(3_700)));
}

#[tokio::test]
async fn health_names_who_needs_looking_after_and_how_badly() {
    let network = Network::start().await;
    let Network { app, top, left, right, leaf, elsewhere } = &network;
    let admin = app.admin();
    for reseller in [top, left, right, leaf, elsewhere] {
        app.fund(reseller, 1_000).await;
    }
    let health = |reseller: &String| app.reseller(reseller).get("/reseller-network/downline/health");
    let well = json!({
        "status": "healthy",
        "counts": {"frozen": 0, "low_credit": 0, "held": 0, "inactive": 0, "stale_requests": 0},
        "frozen": [], "low_credit": [], "held": [], "inactive": [], "stale_requests": [],
    });
    assert_eq!(health(top).await.ok(), well);

    let ask = json!({"kind": "generic", "payload": {"subject": "hello", "body": "there"}});
    let raised = app.reseller(left).post("/reseller-network/upline/request", ask).await.expect_status(202);
    go_to(app, "2032-12-23T09:59:00Z").await;
    assert_eq!(health(top).await.ok(), well, "not three days yet");
    go_to(app, "2032-12-23T10:00:30Z").await;
    let seen = health(top).await.ok();
    assert_eq!((&seen["status"], ids(&seen["stale_requests"])), (&json!("warning"), vec![id_of(&raised)]));
    assert_eq!(seen["stale_requests"][0]["requester_id"], left.as_str());
    assert_eq!(health(left).await.ok(), well, "it is not the one who lets it wait");

    network.sell(leaf, 600).await;
    admin.post(format!("/resellers/{right}/deactivate"), json!({})).await.ok();
    let seen = health(top).await.ok();
    assert_eq!(seen["low_credit"], json!([{"id": leaf, "company_name": "leaf Ltd", "balance": 400, "threshold": 500}]));
    assert_eq!((&seen["status"], ids(&seen["inactive"])), (&json!("warning"), vec![right.clone()]));

    admin.put(format!("/wallets/{leaf}/hold"), json!({"held": true, "reason": "a check"})).await.ok();
    let seen = health(top).await.ok();
    assert_eq!((&seen["status"], ids(&seen["held"])), (&json!("critical"), vec![leaf.clone()]));
    admin.put(format!("/wallets/{leaf}/hold"), json!({"held": false})).await.ok();
    assert_eq!(health(top).await.ok()["held"], json!([]));

    app.reseller(top).post(format!("/resellers/{left}/freeze"), json!({})).await.ok();
    let seen = health(top).await.ok();
    assert_eq!(ids(&seen["frozen"]), [left.clone(), leaf.clone()]);
    let cut = app.reseller(top).get("/reseller-network/downline/health?limit=1").await.ok();
    assert_eq!((ids(&cut["frozen"]), &cut["counts"]["frozen"]), (vec![left.clone()], &json!(2)));
    assert_eq!(ids(&health(left).await.ok()["frozen"]), [leaf.as_str()], "frozen from above");
    assert_eq!(health(elsewhere).await.ok(), well);
    assert_eq!(admin.get("/reseller-network/downline/health").await.ok()["counts"]["frozen"], 2);
}
