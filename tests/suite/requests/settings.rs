//! Settings: a reseller's own; the operator's by name; nobody else's.

use serde_json::{Value, json};

use super::Line;

const SETTINGS: &str = "/reseller-network/settings";

#[tokio::test]
async fn settings_are_shown_and_changed_by_their_reseller_and_by_the_operator_by_name() {
    let line = Line::start().await;
    let low = line.as_low();
    let whole = json!({
        "auto_forward": {}, "notifications": {}, "margin_percent": null, "low_credit_threshold": 500,
        "allow_withdraw": false, "hold_on_low_credit": false,
    });
    let fresh = low.get(SETTINGS).await.ok();
    for name in whole.as_object().expect("an object").keys() {
        assert!(fresh.get(name).is_some(), "no {name} in {fresh}");
    }
    let change = json!({"auto_forward": {"generic": true, "credit_topup": false}, "notifications": {"email": true},
        "margin_percent": "7.5", "low_credit_threshold": 1200, "allow_withdraw": true, "hold_on_low_credit": true});
    let told = low.put(SETTINGS, change.clone()).await.ok();
    assert_eq!(told, change);
    assert_eq!(low.get(SETTINGS).await.ok(), change);
    // What is absent stays.
    let told = low.put(SETTINGS, json!({"auto_forward": {"generic": false}})).await.ok();
    assert_eq!(told["auto_forward"], json!({"generic": false, "credit_topup": false}));
    assert_eq!(told["margin_percent"], "7.5");
    let wallet = low.get(format!("/wallets/{}", line.low)).await.ok();
    assert_eq!(wallet["low_credit_threshold"], 1200);

    let named = format!("{SETTINGS}?reseller_id={}", line.low);
    for person in [&line.app.admin(), &line.app.auditor(), &line.app.finance(), &low] {
        assert_eq!(person.get(&named).await.ok(), low.get(SETTINGS).await.ok());
    }
    assert_eq!(low.put(&named, json!({"margin_percent": null})).await.ok()["margin_percent"], Value::Null);
    assert_eq!(line.app.admin().put(&named, json!({"margin_percent": 3})).await.ok()["margin_percent"], "3");
    // Only the reseller itself lets its parent take credits back.
    line.app.admin().put(&named, json!({"allow_withdraw": true})).await.problem(403, "forbidden");
}

#[tokio::test]
async fn settings_are_nobody_elses_not_even_the_uplines() {
    let line = Line::start().await;
    let missing = format!("{SETTINGS}?reseller_id=01900000-0000-7000-8000-000000000000");
    let named = format!("{SETTINGS}?reseller_id={}", line.low);
    let people = line.outsiders().into_iter().chain([("the parent", line.as_middle())]);
    for (name, person) in people {
        let foreign = person.get(&named).await.problem(404, "not_found");
        assert_eq!(foreign, person.get(&missing).await.problem(404, "not_found"), "{name}");
        let foreign = person.put(&named, json!({"allow_withdraw": true})).await.problem(404, "not_found");
        assert_eq!(
            foreign,
            person.put(&missing, json!({"allow_withdraw": true})).await.problem(404, "not_found"),
            "{name}"
        );
    }
    for person in [line.app.auditor(), line.app.finance(), line.app.payments()] {
        person.put(&named, json!({"hold_on_low_credit": true})).await.problem(403, "forbidden");
    }
    line.app.payments().get(&named).await.problem(403, "forbidden");
    line.app.stranger().get(SETTINGS).await.problem(401, "unauthenticated");
    for person in [line.app.admin(), line.app.auditor()] {
        person.get(SETTINGS).await.problem(422, "invalid");
        person.get(&missing).await.problem(404, "not_found");
    }
    line.app.admin().put(SETTINGS, json!({})).await.problem(422, "invalid");
    line.app.admin().put(&missing, json!({"hold_on_low_credit": true})).await.problem(404, "not_found");
    assert_eq!(line.as_low().get(SETTINGS).await.ok()["allow_withdraw"], false);
}

#[tokio::test]
async fn a_wrong_setting_is_pointed_at_and_changes_nothing() {
    let line = Line::start().await;
    let low = line.as_low();
    let before = low.get(SETTINGS).await.ok();
    for (body, pointer) in [
        (json!({"auto_forward": {"favour": true}}), "/auto_forward/favour"),
        (json!({"notifications": {"pigeon": true}}), "/notifications/pigeon"),
        (json!({"auto_forward": {"generic": "yes"}}), "/auto_forward/generic"),
        (json!({"margin_percent": "-1"}), "/margin_percent"),
        (json!({"low_credit_threshold": -1}), "/low_credit_threshold"),
        (json!({"colour": "red"}), "/colour"),
    ] {
        let problem = low.put(SETTINGS, body.clone()).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    // Its own threshold, never below the policy's: refused whole.
    let both = json!({"low_credit_threshold": 0, "hold_on_low_credit": true});
    assert!(low.put(SETTINGS, both).await.status >= 400);
    assert_eq!(low.get(SETTINGS).await.ok(), before);
}
