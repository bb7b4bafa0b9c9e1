//! Five bugs that reseller systems are known for, each shown not to be here.

use serde_json::{Value, json};

use crate::common::app::TestApp;

async fn balance(app: &TestApp, reseller: &str) -> i64 {
    app.admin().get(format!("/wallets/{reseller}")).await.ok()["balance"].as_i64().expect("a balance")
}

async fn head(app: &TestApp) -> u64 {
    app.admin().get("/audit/head").await.ok()["position"].as_u64().expect("a position")
}

#[tokio::test]
async fn a_child_does_not_spend_a_balance_that_its_parent_never_gave() {
    let app = TestApp::start().await;
    let parent = app.top_level("parent", "platinum").await;
    let child = app.child_of(&parent, "child", "standard").await;
    app.fund(&parent, 5000).await;
    let spent = app.application(&child).post(format!("/wallets/{child}/provisions"), json!({"cost": 1})).await;
    let refused = spent.problem(402, "insufficient_credits");
    assert_eq!((refused["required"].as_i64(), refused["available"].as_i64()), (Some(1), Some(0)));
    let passed_on =
        app.reseller(&child).post(format!("/wallets/{child}/transfers"), json!({"to": parent, "amount": 1}));
    assert_eq!(passed_on.fresh_key().await.status, 404);
    assert_eq!((balance(&app, &parent).await, balance(&app, &child).await), (5000, 0));
}

#[tokio::test]
async fn a_negative_or_zero_transfer_mints_nothing() {
    let app = TestApp::start().await;
    let parent = app.top_level("parent", "platinum").await;
    let child = app.child_of(&parent, "child", "standard").await;
    app.fund(&parent, 100).await;
    let before = head(&app).await;
    for amount in [json!(0), json!(-50), json!(-9_007_199_254_740_991_i64), json!("50"), json!(0.5), Value::Null] {
        let transfer = json!({"to": child, "amount": amount});
        let refused = app.reseller(&parent).post(format!("/wallets/{parent}/transfers"), transfer).fresh_key().await;
        assert_eq!(refused.problem(422, "invalid")["errors"][0]["pointer"], "/amount");
    }
    assert_eq!(head(&app).await, before);
    assert_eq!((balance(&app, &parent).await, balance(&app, &child).await), (100, 0));
}

#[tokio::test]
async fn a_grandparent_is_credited_what_it_earned_and_debited_what_is_refunded() {
    let app = TestApp::start().await;
    let grandparent = app.top_level("grandparent", "platinum").await;
    let parent = app.child_of(&grandparent, "parent", "gold").await;
    let seller = app.child_of(&parent, "seller", "standard").await;
    app.fund(&seller, 1000).await;
    let sold = app.admin().post(format!("/wallets/{seller}/provisions"), json!({"base_cost": 1000})).await.created();
    let all = [&seller, &parent, &grandparent];
    let mut balances = Vec::new();
    for reseller in all {
        balances.push(balance(&app, reseller).await);
    }
    assert_eq!(balances, [0, 150, 150]);
    let provision = sold["provision_id"].as_str().expect("an id");
    let refunds = format!("/wallets/{seller}/provisions/{provision}/refunds");
    app.admin().post(&refunds, json!({"amount": 333})).await.created();
    app.admin().post(&refunds, json!({})).await.created();
    for (reseller, left) in all.into_iter().zip([1000, 0, 0]) {
        assert_eq!(balance(&app, reseller).await, left);
    }
}

#[tokio::test]
async fn the_same_top_up_sent_twice_is_credited_once() {
    let app = TestApp::start().await;
    let reseller = app.top_level("reseller", "gold").await;
    let path = format!("/wallets/{reseller}/credits");
    let payments = app.payments();
    let top_up = json!({"amount": 500, "reference": "INV-1"});
    let first = payments.post(&path, top_up.clone()).key("same").await;
    let again = payments.post(&path, top_up.clone()).key("same").await;
    assert!(again.replayed() && !first.replayed());
    assert_eq!(first.created(), again.created());
    let other_key = payments.post(&path, top_up).key("other").await;
    assert_eq!(other_key.ok()["amount"], 500);
    let by_the_operator = json!({"amount": 500, "source": "purchase", "reference": "INV-1"});
    app.admin().post(&path, by_the_operator).fresh_key().await.problem(409, "duplicate_reference");
    assert_eq!(balance(&app, &reseller).await, 500);
}

#[tokio::test]
async fn of_two_concurrent_debits_on_one_balance_only_one_passes() {
    let app = TestApp::start().await;
    let reseller = app.top_level("reseller", "gold").await;
    for round in 1..=20 {
        app.fund(&reseller, 100).await;
        let application = app.application(&reseller);
        let debit = || application.post(format!("/wallets/{reseller}/provisions"), json!({"cost": 100}));
        let (first, second) = tokio::join!(debit().into_future(), debit().into_future());
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 402], "round {round}");
        assert_eq!(balance(&app, &reseller).await, 0);
    }
}
