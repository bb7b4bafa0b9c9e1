//! The rows of the API's table of commands, one after the other: each does what it says and answers what it promises.

use serde_json::{Value, json};

use crate::common::app::{TestApp, id_of};

#[tokio::test]
async fn a_reseller_is_registered_approved_and_changed() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let acme = app.top_level("user-1", "gold").await;
    let body = json!({"user_id": "user-2", "company_name": "Child", "parent_id": acme});
    let child = app.reseller(&acme).post("/resellers", body).await.created();
    assert_eq!((child["status"].as_str(), child["tier"].as_str()), (Some("pending"), Some("standard")));
    assert!(child["refid"].as_str().expect("a refid").starts_with("RS-"));
    let path = format!("/resellers/{}", id_of(&child));

    app.reseller(&acme).post(format!("{path}/approve"), json!({})).await.problem(403, "forbidden");
    assert_eq!(admin.post(format!("{path}/approve"), json!({})).await.ok()["status"], "active");
    admin.post(format!("{path}/approve"), json!({})).await.problem(409, "invalid_transition");
    assert_eq!(admin.put(format!("{path}/tier"), json!({"tier": "gold"})).await.ok()["tier"], "gold");
    assert_eq!(admin.patch(&path, json!({"company_name": "New"})).await.ok()["company_name"], "New");
    let patched = admin.patch(format!("{path}/metadata"), json!({"brand": {"color": "red"}, "x": null})).await.ok();
    assert_eq!(patched["metadata"], json!({"brand": {"color": "red"}}));
    assert_eq!(admin.post(format!("{path}/freeze"), json!({"reason": "late"})).await.ok()["frozen"], true);
    let frozen = app.reseller(&id_of(&child));
    let wallet = format!("/wallets/{}/provisions", id_of(&child));
    let refused = frozen.post(&wallet, json!({"sku": "x"})).await.problem(423, "reseller_frozen");
    assert_eq!(refused["frozen_by"], "platform");
    assert_eq!(admin.post(format!("{path}/unfreeze"), json!({})).await.ok()["frozen"], false);
    assert_eq!(admin.post(format!("{path}/deactivate"), json!({})).await.ok()["status"], "deactivated");
    assert_eq!(admin.post(format!("{path}/reactivate"), json!({})).await.ok()["status"], "active");

    let both = json!({"user_id": "u", "company_name": "c", "parent_id": acme, "referral_code": "X"});
    admin.post("/resellers", both).await.problem(422, "invalid");
}

#[tokio::test]
async fn a_wallet_is_limited_held_and_released() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let wallet = format!("/wallets/{acme}");
    let admin = app.admin();
    admin.post(&wallet, json!({})).await.problem(409, "already_exists");
    assert_eq!(admin.put(format!("{wallet}/credit-limit"), json!({"credit_limit": 50})).await.ok()["available"], 50);
    let threshold = admin.put(format!("{wallet}/threshold"), json!({"threshold": 700})).await.ok();
    assert_eq!(threshold["low_credit_threshold"], 700);
    let same = admin.put(format!("{wallet}/threshold"), json!({"threshold": 700})).await;
    assert_eq!(same.status, 200);
    assert_eq!(admin.put(format!("{wallet}/hold"), json!({"held": true})).await.ok()["held"], true);
    let held = app.application(&acme).post(format!("{wallet}/provisions"), json!({"cost": 1})).await;
    assert_eq!(held.problem(423, "provisioning_held")["by"], "platform");
    assert_eq!(admin.put(format!("{wallet}/hold"), json!({"held": false})).await.ok()["held"], false);
    app.application(&acme).post(format!("{wallet}/provisions"), json!({"cost": 1})).await.created();

    let removed = json!({"amount": 60, "kind": "chargeback", "reason": "card"});
    let removed = admin.post(format!("{wallet}/credits/remove"), removed).fresh_key().await.created();
    assert_eq!(removed["balance"], -61);
}

#[tokio::test]
async fn credits_move_from_parent_to_child_in_one_step() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let child = app.child_of(&acme, "user-2", "standard").await;
    app.fund(&acme, 100).await;
    let body = json!({"to": child, "amount": 30, "note": "start"});
    let sent = app.reseller(&acme).post(format!("/wallets/{acme}/transfers"), body).fresh_key().await.created();
    assert_eq!((sent["balance"].as_i64(), sent["available"].as_i64()), (Some(70), Some(70)));
    let too_much = json!({"to": child, "amount": 71});
    let refused = app.reseller(&acme).post(format!("/wallets/{acme}/transfers"), too_much).fresh_key().await;
    refused.problem(402, "insufficient_credits");
}

#[tokio::test]
async fn a_product_is_published_priced_sold_and_retired() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let acme = app.top_level("user-1", "gold").await;
    app.fund(&acme, 10_000).await;
    let product = json!({"sku": "pro", "name": "Pro", "base_cost": 1000});
    let published = admin.post("/products", product.clone()).await.created();
    assert_eq!((published["minimum_tier"].as_str(), published["retired"].as_bool()), (Some("standard"), Some(false)));
    admin.post("/products", product).await.problem(409, "already_exists");

    let provisions = format!("/wallets/{acme}/provisions");
    let seller = app.reseller(&acme);
    assert_eq!(seller.post(&provisions, json!({"sku": "pro", "quantity": 3})).await.created()["amount"], 2550);
    seller.post(&provisions, json!({"cost": 1})).await.problem(403, "declared_cost_not_allowed");
    seller.post(&provisions, json!({"sku": "pro", "cost": 1})).await.problem(422, "invalid");
    seller.post(&provisions, json!({"cost": 1, "quantity": 2})).await.problem(422, "invalid");
    seller.post(&provisions, json!({})).await.problem(422, "invalid");

    let price = format!("/resellers/{acme}/prices/pro");
    assert_eq!(admin.put(&price, json!({"cost": 1200})).await.ok()["cost"], 1200);
    assert_eq!(seller.post(&provisions, json!({"sku": "pro"})).await.created()["price_source"], "parent_price");
    assert_eq!(admin.delete(&price).await.ok()["cost"], Value::Null);
    let revised = json!({"name": "Pro", "base_cost": 2000, "minimum_tier": "platinum"});
    assert_eq!(admin.put("/products/pro", revised).await.ok()["base_cost"], 2000);
    let refused = seller.post(&provisions, json!({"sku": "pro"})).await.problem(409, "tier_not_entitled");
    assert_eq!(refused["required_tier"], "platinum");
    assert_eq!(admin.post("/products/pro/retire", json!({})).await.ok()["retired"], true);
    seller.post(&provisions, json!({"sku": "pro"})).await.problem(409, "product_retired");
}

#[tokio::test]
async fn a_client_lives_and_is_forgotten() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    app.fund(&acme, 100).await;
    let owner = app.reseller(&acme);
    let client = owner.post("/clients", json!({"name": "Jo", "email": "jo@example.com"})).await.created();
    assert_eq!((client["status"].as_str(), client["reseller_id"].as_str()), (Some("onboarded"), Some(acme.as_str())));
    let path = format!("/clients/{}", id_of(&client));
    let provision = json!({"cost": 1, "client_id": id_of(&client)});
    let provisions = format!("/wallets/{acme}/provisions");
    let inactive = app.application(&acme).post(&provisions, provision.clone()).await.problem(409, "client_inactive");
    assert_eq!(inactive["current_status"], "onboarded");
    assert_eq!(owner.post(format!("{path}/activate"), json!({})).await.ok()["status"], "active");
    app.application(&acme).post(&provisions, provision).await.created();
    let changed = owner.patch(&path, json!({"email": null, "metadata": {"a": 1}})).await.ok();
    assert_eq!((&changed["email"], &changed["name"]), (&Value::Null, &json!("Jo")));
    assert_eq!(owner.post(format!("{path}/suspend"), json!({})).await.ok()["status"], "suspended");
    let forgotten = owner.post(format!("{path}/forget"), json!({})).await.ok();
    assert_eq!((&forgotten["status"], &forgotten["name"]), (&json!("forgotten"), &Value::Null));
}

#[tokio::test]
async fn a_child_asks_its_upline_and_is_answered() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let child = app.child_of(&acme, "user-2", "standard").await;
    app.fund(&acme, 100).await;
    let ask = json!({"kind": "credit_topup", "payload": {"amount": 40}});
    let raised = app.reseller(&child).post("/reseller-network/upline/request", ask.clone()).await;
    let position = raised.position();
    let polled = raised.header("location").expect("where to poll").to_owned();
    let raised = raised.expect_status(202);
    let location = format!("/reseller-network/upline/request/{}", id_of(&raised));
    assert_eq!(polled, format!("{location}?min_position={position}"), "a read model may be behind the answer");
    assert_eq!(app.reseller(&child).get(&polled).await.ok()["status"], "pending");
    assert_eq!(raised["addressed_to"], "upline");
    app.reseller(&child).post(format!("{location}/approve"), json!({})).await.problem(403, "forbidden");
    let completed = app.reseller(&acme).post(format!("{location}/approve"), json!({"note": "ok"})).await.ok();
    assert_eq!(completed["status"], "completed");
    app.reseller(&acme).post(format!("{location}/reject"), json!({})).await.problem(409, "invalid_transition");

    let code = app.reseller(&child).post("/reseller-network/referrals", json!({})).await.expect_status(202);
    assert_eq!((&code["addressed_to"], &code["kind"]), (&json!("platform"), &json!("referral_code")));
    let path = format!("/reseller-network/upline/request/{}", id_of(&code));
    let issued = app.admin().post(format!("{path}/approve"), json!({})).await.ok();
    let code = issued["result"]["referral_code"].as_str().expect("a code");
    app.reseller(&child).delete(format!("/reseller-network/referrals/{code}")).await.ok();

    let unknown = json!({"kind": "credit_topup", "payload": {"amount": 40, "urgent": true}});
    app.reseller(&child).post("/reseller-network/upline/request", unknown).await.problem(422, "invalid");
    app.admin().post("/reseller-network/upline/request", ask).await.problem(403, "forbidden");
}

#[tokio::test]
async fn settings_and_policy_are_changed_by_those_they_belong_to() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let body = json!({"margin_percent": "12.5", "allow_withdraw": true, "low_credit_threshold": 900,
        "auto_forward": {"credit_topup": true}});
    let told = app.reseller(&acme).put("/reseller-network/settings", body).await.ok();
    assert_eq!((&told["margin_percent"], &told["low_credit_threshold"]), (&json!("12.5"), &json!(900)));
    let cleared = json!({"margin_percent": null});
    let path = format!("/reseller-network/settings?reseller_id={acme}");
    assert_eq!(app.admin().put(path, cleared.clone()).await.ok()["margin_percent"], Value::Null);
    app.admin().put("/reseller-network/settings", cleared).await.problem(422, "invalid");

    let mut policy = serde_json::to_value(aggregates::platform::Policy::default()).expect("a policy");
    policy["credit_conversion_rate"] = json!(50);
    assert_eq!(app.admin().put("/platform/policy", policy.clone()).await.ok()["credit_conversion_rate"], 50);
    app.reseller(&acme).put("/platform/policy", policy.clone()).await.problem(403, "forbidden");
    policy["tiers"]["gold"] = json!("101");
    let wrong = app.admin().put("/platform/policy", policy).await.problem(422, "invalid");
    assert_eq!(wrong["errors"][0]["pointer"], "/tiers/gold");
}
