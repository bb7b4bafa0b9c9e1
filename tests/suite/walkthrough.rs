//! The first walk through the house: register, fund, provision, be refused, stop, start again, and find everything there.

use serde_json::json;

use crate::common::app::TestApp;

#[tokio::test]
async fn a_network_is_registered_funded_spent_from_refused_and_found_again() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "platinum").await;
    app.fund(&acme, 50_000).await;

    let spent =
        app.application(&acme).post(format!("/wallets/{acme}/provisions"), json!({"cost": 200})).await.created();
    assert_eq!((spent["amount"].as_i64(), spent["balance"].as_i64()), (Some(200), Some(49_800)));

    let refused = app
        .application(&acme)
        .post(format!("/wallets/{acme}/provisions"), json!({"cost": 49_801}))
        .await
        .problem(402, "insufficient_credits");
    assert_eq!((refused["required"].as_i64(), refused["available"].as_i64()), (Some(49_801), Some(49_800)));

    let app = app.restart().await;
    let spent =
        app.application(&acme).post(format!("/wallets/{acme}/provisions"), json!({"cost": 800})).await.created();
    assert_eq!(spent["balance"], 49_000);
    let wallet = app.reseller(&acme).get(format!("/wallets/{acme}")).await.ok();
    assert_eq!((wallet["balance"].as_i64(), wallet["money"]["amount"].as_str()), (Some(49_000), Some("490.00")));
}

#[tokio::test]
async fn prices_follow_the_tier() {
    let app = TestApp::start().await;
    for (tier, cost) in [("platinum", 700), ("gold", 850), ("standard", 1000)] {
        let reseller = app.top_level(tier, tier).await;
        app.fund(&reseller, 5_000).await;
        let body = json!({"base_cost": 1000});
        let spent = app.application(&reseller).post(format!("/wallets/{reseller}/provisions"), body).await.created();
        assert_eq!((spent["amount"].as_i64(), spent["unit_cost"].as_i64()), (Some(cost), Some(cost)), "{tier}");
    }
}

#[tokio::test]
async fn commission_goes_up_the_line() {
    let app = TestApp::start().await;
    let grandparent = app.top_level("grandparent", "platinum").await;
    let parent = app.child_of(&grandparent, "parent", "gold").await;
    let seller = app.child_of(&parent, "seller", "standard").await;
    app.fund(&seller, 1_000).await;

    let path = format!("/wallets/{seller}/provisions");
    let told = app.admin().post(&path, json!({"base_cost": 1000})).await.created();
    assert_eq!(told["amount"], 1000);
    assert_eq!(
        told["commissions"],
        json!([{"reseller": parent, "amount": 150}, {"reseller": grandparent, "amount": 150}])
    );

    let provision = told["provision_id"].as_str().expect("an id");
    let refund = app.admin().post(format!("{path}/{provision}/refunds"), json!({"amount": 334})).await.created();
    assert_eq!((refund["refunded_total"].as_i64(), refund["balance"].as_i64()), (Some(334), Some(334)));
    let rest = app.admin().post(format!("{path}/{provision}/refunds"), json!({})).await.created();
    assert_eq!((rest["amount"].as_i64(), rest["balance"].as_i64()), (Some(666), Some(1000)));
    let more = app.admin().post(format!("{path}/{provision}/refunds"), json!({"amount": 1})).await;
    assert_eq!(more.problem(422, "limit_exceeded")["refundable"], 0);
}

#[tokio::test]
async fn a_bulk_is_judged_as_a_whole_or_item_by_item() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "standard").await;
    app.fund(&acme, 1_000).await;
    let acme_app = app.application(&acme);
    let path = format!("/wallets/{acme}/provisions/bulk");

    let total = acme_app.post(&path, json!({"atomic": true, "items": [{"cost": 600}, {"cost": 600}]})).await;
    let total = total.problem(402, "insufficient_credits");
    assert_eq!(total["required"], 1_200);
    assert!(total.get("index").is_none());

    let unknown = json!({"atomic": true, "items": [{"cost": 1}, {"sku": "nothing"}]});
    assert_eq!(acme_app.post(&path, unknown).await.problem(404, "not_found")["index"], 1);

    let items = json!({"atomic": false, "items": [
        {"cost": 600, "idempotency_key": "a"}, {"cost": 600, "idempotency_key": "b"}, {"cost": 400}]});
    let told = acme_app.post(&path, items.clone()).await.ok();
    let counts =
        |told: &serde_json::Value| (told["accepted"].as_u64(), told["refused"].as_u64(), told["replayed"].as_u64());
    assert_eq!(counts(&told), (Some(2), Some(1), Some(0)));
    assert_eq!(told["items"][1]["status"], 402);
    assert_eq!(told["items"][1]["problem"]["code"], "insufficient_credits");
    assert_eq!(told["items"][2]["balance"], 0);

    app.fund(&acme, 400).await;
    let again = acme_app.post(&path, items).await.ok();
    assert_eq!(again["items"][0]["provision_id"], told["items"][0]["provision_id"]);
    assert_eq!(again["items"][0]["replayed"], true);
    assert_eq!(again["items"][1]["status"], 402, "the first answer to a key is its answer");
    assert_eq!(again["items"][2]["balance"], 0);
}
