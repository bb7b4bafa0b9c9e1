//! Seven ways to cheat, each found closed.

use serde_json::{Value, json};

use crate::common::app::{TestApp, id_of};

async fn balance(app: &TestApp, reseller: &str) -> i64 {
    app.admin().get(format!("/wallets/{reseller}")).await.ok()["balance"].as_i64().expect("a balance")
}

async fn publish(app: &TestApp, sku: &str, base_cost: i64, minimum_margin_percent: &str) {
    let product = json!({"sku": sku, "name": sku, "base_cost": base_cost,
        "minimum_margin_percent": minimum_margin_percent});
    app.admin().post("/products", product).await.created();
}

async fn raise(app: &TestApp, reseller: &str, ask: Value) -> String {
    id_of(&app.reseller(reseller).post("/reseller-network/upline/request", ask).await.expect_status(202))
}

#[tokio::test]
async fn a_reseller_gives_no_tier_to_its_child_nor_to_itself_by_a_request_it_approves() {
    let app = TestApp::start().await;
    let parent = app.top_level("parent", "standard").await;
    let child = app.child_of(&parent, "child", "standard").await;
    let as_parent = app.reseller(&parent);
    let gift = json!({"user_id": "new", "company_name": "New", "tier": "platinum"});
    as_parent.post("/resellers", gift).await.problem(403, "forbidden");
    let platinum = json!({"tier": "platinum"});
    as_parent.put(format!("/resellers/{child}/tier"), platinum.clone()).await.problem(403, "forbidden");
    as_parent.put(format!("/resellers/{parent}/tier"), platinum.clone()).await.problem(403, "forbidden");
    for reseller in [&child, &parent] {
        let request = raise(&app, reseller, json!({"kind": "tier_upgrade", "payload": platinum})).await;
        let approve = format!("/reseller-network/upline/request/{request}/approve");
        as_parent.post(approve, json!({})).await.problem(403, "forbidden");
        assert_eq!(app.admin().get(format!("/resellers/{reseller}")).await.ok()["tier"], "standard");
    }
}

#[tokio::test]
async fn a_reseller_names_no_price_of_its_own_without_a_token_that_may() {
    let app = TestApp::start().await;
    let reseller = app.top_level("reseller", "standard").await;
    app.fund(&reseller, 1000).await;
    let path = format!("/wallets/{reseller}/provisions");
    for named in [json!({"cost": 1}), json!({"base_cost": 0}), json!({"base_cost": 1})] {
        app.reseller(&reseller).post(&path, named.clone()).await.problem(403, "declared_cost_not_allowed");
        let bulk = json!({"atomic": true, "items": [named]});
        let refused = app.reseller(&reseller).post(format!("{path}/bulk"), bulk).await;
        assert_eq!(refused.problem(403, "declared_cost_not_allowed")["index"], 0);
    }
    assert_eq!(balance(&app, &reseller).await, 1000);
    app.application(&reseller).post(&path, json!({"cost": 200})).await.created();
    assert_eq!(balance(&app, &reseller).await, 800);
}

#[tokio::test]
async fn a_child_price_so_high_that_commission_and_refund_would_make_credits_is_refused_and_none_makes_any() {
    let app = TestApp::start().await;
    publish(&app, "pro", 1000, "0").await;
    let parent = app.top_level("parent", "platinum").await;
    let child = app.child_of(&parent, "child", "standard").await;
    let price = format!("/resellers/{child}/prices/pro");
    let refused = app.reseller(&parent).put(&price, json!({"cost": 2001})).await.problem(422, "limit_exceeded");
    assert_eq!((refused["least"].as_i64(), refused["most"].as_i64()), (Some(700), Some(2000)));
    app.reseller(&parent).put(&price, json!({"cost": 2000})).await.ok();
    app.fund(&child, 2000).await;
    let sold = app.reseller(&child).post(format!("/wallets/{child}/provisions"), json!({"sku": "pro"})).await.created();
    // The parent earns the whole difference, the platform its price: nothing is left over and nothing is made.
    assert_eq!((balance(&app, &child).await, balance(&app, &parent).await), (0, 1300));
    let provision = sold["provision_id"].as_str().expect("an id");
    app.admin().post(format!("/wallets/{child}/provisions/{provision}/refunds"), json!({})).await.created();
    assert_eq!((balance(&app, &child).await, balance(&app, &parent).await), (2000, 0));
}

#[tokio::test]
async fn partial_refunds_leave_no_commission_behind() {
    let app = TestApp::start().await;
    let grandparent = app.top_level("grandparent", "platinum").await;
    let parent = app.child_of(&grandparent, "parent", "gold").await;
    let seller = app.child_of(&parent, "seller", "standard").await;
    app.fund(&seller, 1000).await;
    let sold = app.admin().post(format!("/wallets/{seller}/provisions"), json!({"base_cost": 1000})).await.created();
    let refunds = format!("/wallets/{seller}/provisions/{}/refunds", sold["provision_id"].as_str().expect("an id"));
    for part in [7, 1, 1, 327, 331, 333] {
        app.admin().post(&refunds, json!({"amount": part})).await.created();
    }
    assert_eq!([balance(&app, &parent).await, balance(&app, &grandparent).await], [0, 0]);
    let nothing_left = app.admin().post(&refunds, json!({"amount": 1})).await.problem(422, "limit_exceeded");
    assert_eq!(nothing_left["refundable"], 0);
}

#[tokio::test]
async fn a_price_gone_stale_after_a_tier_change_or_a_repricing_never_makes_the_platform_pay() {
    let app = TestApp::start().await;
    publish(&app, "pro", 1000, "10").await;
    let parent = app.top_level("parent", "platinum").await;
    let child = app.child_of(&parent, "child", "standard").await;
    app.reseller(&parent).put(format!("/resellers/{child}/prices/pro"), json!({"cost": 770})).await.ok();
    app.fund(&child, 100_000).await;
    let cost = async || {
        let quote = app.reseller(&child).get(format!("/wallets/{child}/quote?sku=pro")).await.ok();
        let sold =
            app.reseller(&child).post(format!("/wallets/{child}/provisions"), json!({"sku": "pro"})).await.created();
        assert_eq!(quote["unit_cost"], sold["unit_cost"], "a quote is what is paid");
        sold["unit_cost"].as_i64().expect("a cost")
    };
    assert_eq!(cost().await, 770);
    app.admin().put(format!("/resellers/{parent}/tier"), json!({"tier": "standard"})).await.ok();
    assert_eq!(cost().await, 1100);
    let dearer = json!({"name": "pro", "base_cost": 3000, "minimum_margin_percent": "10"});
    app.admin().put("/products/pro", dearer).await.ok();
    assert_eq!(cost().await, 3300);
}

#[tokio::test]
async fn no_referral_bonus_is_paid_for_a_reseller_that_was_never_approved() {
    let app = TestApp::start().await;
    let referrer = app.top_level("ben", "gold").await;
    let request = raise(&app, &referrer, json!({"kind": "referral_code", "payload": {"tag": "become-partner"}})).await;
    let approve = format!("/reseller-network/upline/request/{request}/approve");
    let issued = app.admin().post(approve, json!({})).await.ok();
    let code = issued["result"]["referral_code"].as_str().expect("a code").to_owned();
    let mut referred = Vec::new();
    for user in ["anna", "carl", "dora"] {
        let body = json!({"user_id": user, "company_name": user, "referral_code": code});
        referred.push(id_of(&app.admin().post("/resellers", body).await.created()));
    }
    assert_eq!(balance(&app, &referrer).await, 0);
    let approve = format!("/resellers/{}/approve", referred[0]);
    app.admin().post(&approve, json!({})).await.ok();
    assert_eq!(balance(&app, &referrer).await, 1000);
    app.admin().post(&approve, json!({})).await.problem(409, "invalid_transition");
    let own = json!({"user_id": "ben", "company_name": "Ben again", "referral_code": code});
    assert!([409, 422].contains(&app.admin().post("/resellers", own).await.status));
    assert_eq!(balance(&app, &referrer).await, 1000);
}

#[tokio::test]
async fn a_credit_limit_does_not_move_to_another_wallet_by_transfer() {
    let app = TestApp::start().await;
    let parent = app.top_level("parent", "gold").await;
    let child = app.child_of(&parent, "child", "standard").await;
    app.admin().put(format!("/wallets/{parent}/credit-limit"), json!({"credit_limit": 1000})).await.ok();
    let transfer = json!({"to": child, "amount": 1});
    let transfer = app.reseller(&parent).post(format!("/wallets/{parent}/transfers"), transfer).fresh_key().await;
    assert_eq!(transfer.problem(402, "insufficient_credits")["available"], 0);
    let request = raise(&app, &child, json!({"kind": "credit_topup", "payload": {"amount": 1}})).await;
    let approve = format!("/reseller-network/upline/request/{request}/approve");
    app.reseller(&parent).post(approve, json!({})).await.problem(402, "insufficient_credits");
    let request = app.reseller(&child).get(format!("/reseller-network/upline/request/{request}")).await.ok();
    assert_eq!(request["status"], "pending");
    assert_eq!((balance(&app, &parent).await, balance(&app, &child).await), (0, 0));
}
