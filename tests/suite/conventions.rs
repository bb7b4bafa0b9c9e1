//! The conventions that every path keeps: who is let in, what a body may be, which key was used before.

use aggregates::primitives::Role;
use hyper::Method;
use serde_json::json;
use tallytree::access::directory::TokenOrder;
use tallytree::clock::Clock;

use crate::common::app::TestApp;

#[tokio::test]
async fn nobody_comes_in_without_a_valid_token() {
    let app = TestApp::start().await;
    let genuine = app.token(&TokenOrder::of(Role::SuperAdmin));
    let mut forged = genuine.clone();
    let last = if forged.ends_with('A') { 'B' } else { 'A' };
    forged.pop();
    forged.push(last);
    for token in ["", "nonsense", "tt_0000000000000000_AAAA", &forged] {
        let reply = app.with_token(token).post("/resellers", json!({})).await;
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"tallytree\""));
        reply.problem(401, "unauthenticated");
    }
    app.stranger().post("/resellers", json!({})).await.problem(401, "unauthenticated");
    app.with_token(&genuine).post("/resellers", json!({})).await.problem(422, "invalid");
}

#[tokio::test]
async fn a_revoked_or_expired_token_is_void_within_seconds() {
    let app = TestApp::start().await;
    let token = app.token(&TokenOrder::of(Role::SuperAdmin));
    let expiring =
        TokenOrder { expires_at: Some(Clock::System.now().plus_seconds(3600)), ..TokenOrder::of(Role::SuperAdmin) };
    let expiring = app.person(&expiring);
    app.with_token(&token).post("/resellers", json!({})).await.problem(422, "invalid");
    expiring.post("/resellers", json!({})).await.problem(422, "invalid");

    let key_id = token.split('_').nth(1).expect("a key id");
    assert!(app.directory().revoke(key_id, Clock::System.now()).await.expect("revoked"));
    app.advance(3601).await;
    expiring.post("/resellers", json!({})).await.problem(401, "unauthenticated");
    tokio::time::sleep(tallytree::access::REVALIDATE_AFTER + std::time::Duration::from_millis(100)).await;
    app.with_token(&token).post("/resellers", json!({})).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn each_role_commands_what_is_its_own_and_no_more() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let credits = format!("/wallets/{acme}/credits");
    for person in [app.auditor(), app.finance()] {
        person.post(&credits, json!({"amount": 5})).fresh_key().await.problem(403, "forbidden");
        person.put("/platform/policy", json!({})).await.problem(403, "forbidden");
    }
    app.reseller(&acme).post(&credits, json!({"amount": 5})).fresh_key().await.problem(403, "forbidden");

    let payments = app.payments();
    payments.post("/resellers", json!({})).await.problem(403, "forbidden");
    payments.post(format!("{credits}/remove"), json!({})).await.problem(403, "forbidden");
    let missing = payments.post(&credits, json!({"amount": 5})).await.problem(422, "invalid");
    assert_eq!(missing["errors"][0]["pointer"], "/reference");

    let paid = payments.post(&credits, json!({"amount": 5, "reference": "pay-1"})).await.created();
    assert_eq!(paid["source"], "purchase");
    assert!(paid.get("balance").is_none() && paid.get("available").is_none(), "{paid}");
    let again = payments.post(&credits, json!({"amount": 5, "reference": "pay-1"})).await.ok();
    assert_eq!(again["transaction_id"], paid["transaction_id"]);
    let other = payments.post(&credits, json!({"amount": 6, "reference": "pay-1"})).await;
    other.problem(409, "duplicate_reference");
}

#[tokio::test]
async fn a_tenant_is_the_tokens_own_or_its_users() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let other = app.top_level("user-2", "gold").await;
    let rename = json!({"company_name": "New name"});
    let path = format!("/resellers/{acme}");

    app.user("user-1").patch(&path, rename.clone()).await.ok();
    app.user("user-1").patch(&path, rename.clone()).header("x-tenant-id", &acme).await.ok();
    app.user("nobody").patch(&path, rename.clone()).await.problem(400, "tenant_required");

    let not_a_member = app.user("user-1").patch(&path, rename.clone()).header("x-tenant-id", &other).await;
    let unknown = app.user("user-1").patch(&path, rename.clone()).header("x-tenant-id", &"0".repeat(32)).await;
    assert_eq!(not_a_member.problem(404, "not_found"), unknown.problem(404, "not_found"));
    app.reseller(&acme).patch(&path, rename).header("x-tenant-id", &other).await.problem(404, "not_found");
}

#[tokio::test]
async fn what_lies_elsewhere_looks_like_what_does_not_exist() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let other = app.top_level("user-2", "gold").await;
    let nobody = "01900000-0000-7000-8000-000000000000";
    let acme = app.reseller(&acme);
    for (path, body) in [
        ("/wallets/{}/provisions", json!({"sku": "x"})),
        ("/wallets/{}/transfers", json!({"to": other, "amount": 1})),
        ("/resellers/{}/freeze", json!({})),
        ("/resellers/{}/approve", json!({})),
    ] {
        let elsewhere = acme.post(path.replace("{}", &other), body.clone()).fresh_key().await;
        let nowhere = acme.post(path.replace("{}", nobody), body).fresh_key().await;
        assert_eq!(elsewhere.problem(404, "not_found"), nowhere.problem(404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn a_wrong_body_is_told_where_it_is_wrong_and_changes_nothing() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let admin = app.admin();
    let credits = format!("/wallets/{acme}/credits");
    let before = admin.post(&credits, json!({"amount": 5})).key("before").await.position();

    for malformed in ["", "{", "{\"amount\": 1,}", "\u{0}"] {
        admin.call(Method::POST, &credits, malformed).fresh_key().await.problem(400, "malformed");
    }
    for (body, pointer) in [
        (json!({"amount": 0}), "/amount"),
        (json!({"amount": -5}), "/amount"),
        (json!({"amount": 1.5}), "/amount"),
        (json!({"amount": "5"}), "/amount"),
        (json!({"amount": 9_007_199_254_740_992_u64}), "/amount"),
        (json!({"amount": null}), "/amount"),
        (json!({}), "/amount"),
        (json!({"amount": 5, "expires_at": "2030-01-01T00:00:00Z"}), "/expires_at"),
        (json!({"amount": 5, "source": "gift"}), "/source"),
        (json!({"amount": 5, "note": "a\0b"}), "/note"),
        (json!([5]), ""),
    ] {
        let problem = admin.post(&credits, body.clone()).fresh_key().await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    let zero = json!({"user_id": "u", "company_name": "c", "metadata": {"a": [{"b": "x\0"}]}});
    let problem = admin.post("/resellers", zero).await.problem(422, "invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/metadata/a/0/b");

    let items = json!({"atomic": true, "items": [["pro"]]});
    admin.post(format!("/wallets/{acme}/provisions/bulk"), items).await.problem(422, "invalid");

    // The 10 001st item ends the reading, whatever stands after it; a wrong one before it is told by its place.
    let many = |odd: &str| format!(r#"{{"atomic": true, "items": [{{}},{odd}{}{{"odd": 1}}]}}"#, "{},".repeat(10_000));
    for (body, pointer) in [(many(""), "/items"), (many(r#"{"odd": 1},"#), "/items/1/odd")] {
        let many = admin.call(Method::POST, format!("/wallets/{acme}/provisions/bulk"), body).await;
        assert_eq!(many.problem(422, "invalid")["errors"][0]["pointer"], pointer);
    }
    let none = json!({"atomic": true, "items": []});
    let none = admin.post(format!("/wallets/{acme}/provisions/bulk"), none).await.problem(422, "invalid");
    assert_eq!(none["errors"][0], json!({"pointer": "/items", "detail": "must be 1 to 10000 items"}));

    let large = json!({"amount": 5, "note": "x".repeat(1 << 20)});
    admin.post(&credits, large).fresh_key().await.problem(413, "body_too_large");
    let large = json!({"atomic": true, "items": [{"cost": 5, "description": "x".repeat(2 << 20)}]});
    admin.post(format!("/wallets/{acme}/provisions/bulk"), large).await.problem(422, "invalid");

    let after = admin.post(&credits, json!({"amount": 5})).key("after").await.position();
    assert_eq!(after, before + 1);
}

#[tokio::test]
async fn a_path_or_method_that_does_not_exist_is_a_problem_too() {
    let app = TestApp::start().await;
    app.admin().get("/nowhere").await.problem(404, "not_found");
    let wrong = app.admin().delete("/resellers").await;
    assert!(wrong.header("allow").expect("what is allowed").contains("POST"));
    wrong.problem(405, "method_not_allowed");
    for id in ["7", "%00", "x%ff", "01900000-0000-7000-8000-00000000000"] {
        app.admin().post(format!("/wallets/{id}/provisions"), json!({"cost": 1})).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_key_gives_its_first_answer_again_even_after_a_restart() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let path = format!("/wallets/{acme}/provisions");
    let refused = app.admin().post(&path, json!({"cost": 100})).key("late").await;
    let refused_at = refused.position();
    refused.problem(402, "insufficient_credits");
    app.fund(&acme, 1_000).await;

    let late = app.admin().post(&path, json!({"cost": 100})).key("late").await;
    assert!(late.replayed());
    assert_eq!(late.position(), refused_at);
    late.problem(402, "insufficient_credits");
    app.admin().post(&path, json!({"cost": 101})).key("late").await.problem(422, "idempotency_key_reused");

    let first = app.admin().post(&path, json!({"cost": 7})).key("good").await;
    let position = first.position();
    let first = first.created();
    let app = app.restart().await;
    let again = app.admin().post(&path, json!({"cost": 7})).key("good").await;
    assert!(again.replayed());
    assert_eq!(again.position(), position);
    assert_eq!(again.created(), first);

    // The same key of another actor is another key.
    let other = app.application(&acme).post(&path, json!({"cost": 7})).key("good").await;
    assert!(!other.replayed());
    other.created();
    for bad in ["", &"x".repeat(256)] {
        app.admin().post(&path, json!({"cost": 7})).header("idempotency-key", bad).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn where_credits_enter_or_move_a_key_is_required() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let child = app.child_of(&acme, "user-2", "standard").await;
    let wallet = format!("/wallets/{acme}");
    let admin = app.admin();
    for (path, body) in [
        ("credits", json!({"amount": 5})),
        ("credits", json!({"amount": 5, "source": "bonus", "reference": "b-1"})),
        ("credits/remove", json!({"amount": 5, "kind": "correction", "reason": "x"})),
        ("transfers", json!({"to": child, "amount": 5})),
    ] {
        admin.post(format!("{wallet}/{path}"), body).await.problem(422, "idempotency_required");
    }
    admin.post(format!("{wallet}/credits"), json!({"amount": 5, "reference": "p-1"})).await.created();
}

#[tokio::test]
async fn a_key_twice_in_one_bulk_is_invalid() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let path = format!("/wallets/{acme}/provisions/bulk");
    let items = json!({"atomic": false, "items": [
        {"cost": 1, "idempotency_key": "a"}, {"cost": 1, "idempotency_key": "a"}]});
    let problem = app.admin().post(&path, items).await.problem(422, "invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/items/1/idempotency_key");
    let own = json!({"atomic": false, "items": [{"cost": 1, "idempotency_key": "a"}]});
    app.admin().post(&path, own).key("a").await.problem(422, "invalid");
    app.admin().post(&path, json!({"atomic": true, "items": []})).await.problem(422, "invalid");
}

/// What is committed must be readable for ever: metadata nested deeper than its readers go is turned away, wherever it comes in.
#[tokio::test]
async fn metadata_nested_too_deeply_is_refused_and_what_is_accepted_is_served_after_a_restart() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    app.fund(&acme, 100).await;
    let nested = |levels: usize| {
        let mut value = json!("x");
        for _ in 0..levels {
            value = json!({ "a": value });
        }
        value
    };
    let client = app.reseller(&acme).post("/clients", json!({"name": "Ann"})).await.created();
    let client = format!("/clients/{}", client["id"].as_str().expect("an id"));
    for (levels, status) in [(33, 422), (100, 422), (126, 422), (32, 200)] {
        let patch = app.reseller(&acme).patch(format!("/resellers/{acme}/metadata"), nested(levels)).await;
        assert_eq!(patch.status, status, "{levels} levels: {}", patch.body);
        let change = app.admin().patch(&client, json!({"metadata": nested(levels)})).key(&levels.to_string()).await;
        assert_eq!(change.status, status, "{levels} levels: {}", change.body);
        let provision = json!({"cost": 1, "metadata": nested(levels)});
        let provision = app.application(&acme).post(format!("/wallets/{acme}/provisions"), provision).await;
        assert_eq!(provision.status == 201, status == 200, "{levels} levels: {}", provision.body);
    }
    let app = app.restart().await;
    let again = app.admin().patch(&client, json!({"metadata": nested(32)})).key("32").await;
    assert!(again.replayed());
    let shown = app.reseller(&acme).get(format!("/resellers/{acme}")).await.ok();
    assert_eq!(shown["metadata"], nested(32));
}

#[tokio::test]
async fn more_credits_than_can_be_held_are_neither_issued_nor_taken_out() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    let most = 9_007_199_254_740_991_i64;
    let remove = json!({"amount": most, "kind": "correction"});
    let path = format!("/wallets/{acme}/credits/remove");
    assert_eq!(app.admin().post(&path, remove.clone()).fresh_key().await.created()["balance"], -most);
    app.admin().post(&path, remove).fresh_key().await.problem(422, "overflow");
    app.fund(&acme, most).await;
    let more = json!({"amount": 1, "source": "bonus"});
    app.admin().post(format!("/wallets/{acme}/credits"), more).fresh_key().await.problem(422, "overflow");
}

#[tokio::test]
async fn what_was_invalid_may_be_mended_and_sent_under_the_same_key() {
    let app = TestApp::start().await;
    let acme = app.top_level("user-1", "gold").await;
    app.admin().post("/clients", json!({"name": "Ann"})).key("one").await.problem(422, "invalid");
    let mended = app.admin().post("/clients", json!({"name": "Ann", "reseller_id": acme})).key("one").await;
    assert!(!mended.replayed());
    mended.created();
}
