//! Referrals from the asking for a code to the bonus, and what a registration neither reveals nor squats.

use serde_json::{Value, json};

use super::{Line, act, path, poll, raise};
use crate::common::app::{Person, TestApp, id_of};

const REFERRALS: &str = "/reseller-network/referrals";

/// Asks for a code with a tag and has it granted.
async fn code_for(app: &TestApp, reseller: &str, body: Value) -> String {
    let person = app.reseller(reseller);
    let raised = person.post(REFERRALS, body).await.expect_status(202);
    assert_eq!((&raised["kind"], &raised["addressed_to"]), (&json!("referral_code"), &json!("platform")));
    act(&app.admin(), "approve", raised["id"].as_str().expect("an id")).await.ok();
    let record = poll(&person, raised["id"].as_str().expect("an id")).await;
    record["result"]["referral_code"].as_str().expect("a code").to_owned()
}

fn application(user: &str, code: &str) -> Value {
    json!({"user_id": user, "company_name": format!("{user} Ltd"), "referral_code": code})
}

async fn codes(person: &Person, query: &str) -> Vec<Value> {
    person.get(format!("{REFERRALS}{query}")).await.ok()["data"].as_array().expect("a page").clone()
}

async fn balance(app: &TestApp, reseller: &str) -> i64 {
    app.admin().get(format!("/wallets/{reseller}")).await.ok()["balance"].as_i64().expect("a balance")
}

/// The first referral journey of the specification: a code, a registration, an approval, a bonus of 1 000.
#[tokio::test]
async fn a_referred_reseller_lands_pending_under_the_codes_owner_and_its_approval_pays_the_bonus() {
    let line = Line::start().await;
    let (app, admin) = (&line.app, line.app.admin());
    let code = code_for(app, &line.low, json!({})).await;
    let referred = admin.post("/resellers", application("newcomer", &code)).await.created();
    assert_eq!((&referred["status"], &referred["parent_id"]), (&json!("pending"), &json!(line.low)));
    assert_eq!(referred["tier"], "standard");
    let referred = id_of(&referred);
    let issued = codes(&line.as_low(), "").await;
    assert_eq!((&issued[0]["uses"], &issued[0]["tag"]), (&json!(1), &json!("become-partner")));
    // Nothing is earned by a registration, and nothing is sold by who is not approved.
    assert_eq!(balance(app, &line.low).await, 0);
    let sale = json!({"cost": 1});
    app.application(&referred)
        .post(format!("/wallets/{referred}/provisions"), sale)
        .await
        .problem(409, "reseller_inactive");

    let before = admin.get("/audit/head").await.ok()["position"].clone();
    line.as_low().post(format!("/resellers/{referred}/approve"), json!({})).await.problem(403, "forbidden");
    admin.post(format!("/resellers/{referred}/approve"), json!({})).await.ok();
    assert_eq!(balance(app, &line.low).await, 1000);
    let events = app.auditor().get(format!("/audit/events?after={before}")).await.ok();
    let events = events["data"].as_array().expect("events");
    let kinds: Vec<_> = events.iter().filter_map(|event| event["event_type"].as_str()).collect();
    assert_eq!(kinds, ["ResellerApproved", "CreditsAdded"]);
    assert_eq!(events[0]["metadata"]["command_id"], events[1]["metadata"]["command_id"]);
    let lines = line.as_low().get(format!("/wallets/{}/transactions", line.low)).await.ok();
    assert_eq!(lines["data"][0]["source"], "referral");
    assert_eq!(lines["data"][0]["reference"], format!("referral:{referred}"));
    admin.post(format!("/resellers/{referred}/approve"), json!({})).await.problem(409, "invalid_transition");
    assert_eq!(balance(app, &line.low).await, 1000);
}

#[tokio::test]
async fn the_bonus_is_the_policys_and_only_for_its_tag_and_only_while_the_owner_may_earn_it() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let mut policy = admin.get("/platform/policy").await.ok();
    policy["referral_bonus"] = json!(250);
    admin.put("/platform/policy", policy).await.ok();
    let owner = app.top_level("owner", "gold").await;
    let partner = code_for(&app, &owner, json!({"tag": "become-partner"})).await;
    let other = code_for(&app, &owner, json!({"tag": "summer-fair"})).await;
    let referred = async |user: &str, code: &str| {
        let id = id_of(&admin.post("/resellers", application(user, code)).await.created());
        format!("/resellers/{id}/approve")
    };
    let [plain, tagged, frozen, gone] = [
        referred("plain", &partner).await,
        referred("tagged", &other).await,
        referred("frozen", &partner).await,
        referred("gone", &partner).await,
    ];
    admin.post(plain, json!({})).await.ok();
    assert_eq!(balance(&app, &owner).await, 250);
    admin.post(tagged, json!({})).await.ok();
    assert_eq!(balance(&app, &owner).await, 250);
    admin.post(format!("/resellers/{owner}/freeze"), json!({})).await.ok();
    admin.post("/resellers", application("too-late", &partner)).await.problem(423, "reseller_frozen");
    admin.post(frozen, json!({})).await.ok();
    admin.post(format!("/resellers/{owner}/unfreeze"), json!({})).await.ok();
    admin.post(format!("/resellers/{owner}/deactivate"), json!({})).await.ok();
    admin.post("/resellers", application("too-late", &partner)).await.problem(409, "reseller_inactive");
    admin.post(gone, json!({})).await.ok();
    assert_eq!(balance(&app, &owner).await, 250);
}

#[tokio::test]
async fn a_code_is_used_by_others_in_time_and_only_so_often() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let owner = app.top_level("owner", "gold").await;
    let code = code_for(&app, &owner, json!({})).await;
    let state = async |code: &str| {
        let all = codes(&app.reseller(&owner), "").await;
        all.iter().find(|issued| issued["code"] == code).expect("the code")["state"]
            .as_str()
            .expect("a state")
            .to_owned()
    };
    assert_eq!(state(&code).await, "active");
    let refused = admin.post("/resellers", application("owner", &code)).await;
    assert!([409, 422].contains(&refused.status), "{}", refused.body);
    let unknown = admin.post("/resellers", application("a", "NOSUCHCODE")).await.problem(422, "referral_invalid");
    assert_eq!(unknown["reason"], "unknown");
    let both = json!({"user_id": "a", "company_name": "a", "referral_code": code, "parent_id": owner});
    admin.post("/resellers", both).await.problem(422, "invalid");
    for number in 0..100 {
        admin.post("/resellers", application(&format!("user-{number}"), &code)).await.created();
    }
    let refused = admin.post("/resellers", application("one-too-many", &code)).await.problem(422, "referral_invalid");
    assert_eq!((&refused["reason"], state(&code).await.as_str()), (&json!("used_up"), "used_up"));

    let revoked = code_for(&app, &owner, json!({})).await;
    app.reseller(&owner).delete(format!("{REFERRALS}/{revoked}")).await.ok();
    app.reseller(&owner).delete(format!("{REFERRALS}/{revoked}")).await.problem(409, "invalid_transition");
    let refused = admin.post("/resellers", application("b", &revoked)).await.problem(422, "referral_invalid");
    assert_eq!((&refused["reason"], state(&revoked).await.as_str()), (&json!("revoked"), "revoked"));

    let expiring = code_for(&app, &owner, json!({})).await;
    app.advance(90 * 86_400).await;
    let refused = admin.post("/resellers", application("c", &expiring)).await.problem(422, "referral_invalid");
    assert_eq!((&refused["reason"], state(&expiring).await.as_str()), (&json!("expired"), "expired"));
    assert_eq!(balance(&app, &owner).await, 0);
}

#[tokio::test]
async fn codes_are_their_owners_and_the_staffs_to_see_and_to_revoke() {
    let line = Line::start().await;
    let (app, admin) = (&line.app, line.app.admin());
    let first = code_for(app, &line.low, json!({})).await;
    let second = code_for(app, &line.low, json!({"tag": "fair"})).await;
    let other = code_for(app, &line.middle, json!({})).await;
    let shown =
        |codes: Vec<Value>| codes.iter().map(|code| code["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(shown(codes(&line.as_low(), "").await), [second.clone(), first.clone()]);
    assert_eq!(shown(codes(&line.as_middle(), "").await), [other.as_str()]);
    for (name, person) in line.outsiders() {
        assert!(codes(&person, "").await.is_empty(), "{name} sees codes");
        let missing = person.get(format!("{REFERRALS}?reseller_id=01900000-0000-7000-8000-000000000000")).await;
        let foreign = person.get(format!("{REFERRALS}?reseller_id={}", line.low)).await;
        assert_eq!(foreign.problem(404, "not_found"), missing.problem(404, "not_found"), "{name}");
        let missing = person.delete(format!("{REFERRALS}/NOSUCHCODE")).await.problem(404, "not_found");
        let foreign = person.delete(format!("{REFERRALS}/{first}")).await.problem(404, "not_found");
        assert_eq!(foreign, missing, "{name}");
    }
    for person in [&admin, &app.auditor(), &app.finance()] {
        assert_eq!(shown(codes(person, "").await), [other.clone(), second.clone(), first.clone()]);
        assert_eq!(shown(codes(person, &format!("?reseller_id={}", line.low)).await), [second.clone(), first.clone()]);
    }
    let page = line.as_low().get(format!("{REFERRALS}?limit=1")).await.ok();
    let cursor = page["next_cursor"].as_str().expect("more");
    assert_eq!(shown(codes(&line.as_low(), &format!("?limit=1&cursor={cursor}")).await), [first.as_str()]);
    assert_eq!(page["data"][0]["reseller_id"], line.low.as_str());
    assert_eq!((&page["data"][0]["max_uses"], &page["data"][0]["uses"]), (&json!(100), &json!(0)));
    let asked = page["data"][0]["request_id"].as_str().expect("the request that asked for it");
    assert_eq!(line.as_low().get(path(asked)).await.ok()["result"]["referral_code"], second.as_str());

    for person in [app.auditor(), app.finance(), app.payments()] {
        person.post(REFERRALS, json!({})).await.problem(403, "forbidden");
        person.delete(format!("{REFERRALS}/{first}")).await.problem(403, "forbidden");
    }
    app.payments().get(REFERRALS).await.problem(403, "forbidden");
    app.stranger().get(REFERRALS).await.problem(401, "unauthenticated");
    admin.post(REFERRALS, json!({})).await.problem(403, "forbidden");
    admin.delete(format!("{REFERRALS}/{first}")).await.problem(422, "invalid");
    admin.delete(format!("{REFERRALS}/{first}?reseller_id={}", line.low)).await.ok();
    assert_eq!(codes(&line.as_low(), "").await[1]["state"], "revoked");
    line.as_low().get(format!("{REFERRALS}?state=active")).await.problem(422, "invalid");
}

#[tokio::test]
async fn a_reseller_neither_uses_codes_nor_gives_tiers_when_it_registers() {
    let line = Line::start().await;
    let code = code_for(&line.app, &line.middle, json!({})).await;
    line.as_low().post("/resellers", application("new", &code)).await.problem(403, "forbidden");
    line.as_middle().post("/resellers", application("new", &code)).await.problem(403, "forbidden");
    let parent = json!({"user_id": "new", "company_name": "new", "parent_id": line.low});
    line.as_middle().post("/resellers", parent).await.problem(403, "forbidden");
    let child = line.as_low().post("/resellers", json!({"user_id": "new", "company_name": "new"})).await.created();
    assert_eq!((&child["status"], &child["parent_id"]), (&json!("pending"), &json!(line.low)));
}

/// What a reseller registers tells it nothing of who is whose user, and takes nobody's place.
#[tokio::test]
async fn what_a_reseller_registers_neither_reveals_nor_squats_a_user() {
    let line = Line::start().await;
    let admin = line.app.admin();
    let register = |user: &str| json!({"user_id": user, "company_name": "Same Ltd"});
    let person = line.as_low();
    // One that is another reseller's, one that nobody has: the answers differ in what is random and in nothing else.
    let mut answers = Vec::new();
    for user in ["foreign", "unheard-of"] {
        let mut answer = person.post("/resellers", register(user)).await.created();
        let seen = person.get(format!("/resellers/{}", id_of(&answer))).await.ok();
        for (name, value) in answer.as_object().expect("a reseller") {
            assert_eq!(*value, seen[name], "{name}");
        }
        for name in ["id", "refid", "user_id", "created_at"] {
            answer[name] = Value::Null;
        }
        answers.push((answer, id_of(&seen)));
    }
    assert_eq!(answers[0].0, answers[1].0);
    // Nor does the policy's approving by itself tell the two apart to who may only wait.
    let search = person.get("/resellers?user_id=foreign").await.ok();
    assert_eq!(search["data"].as_array().map(Vec::len), Some(0));
    // The user goes on being who it was, and can still be registered by the operator where it is nobody's yet.
    let foreign = line.app.user("foreign");
    assert_eq!(foreign.get("/reseller-network/dashboard").await.status, 200);
    line.app.user("unheard-of").get("/reseller-network/dashboard").await.problem(400, "tenant_required");
    admin.post("/resellers", register("unheard-of")).await.created();
    for (_, id) in &answers {
        admin.post(format!("/resellers/{id}/approve"), json!({})).await.problem(409, "already_exists");
        person.post(format!("/resellers/{id}/approve"), json!({})).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_request_for_a_code_is_taken_back_rejected_or_expires_like_any_other() {
    let line = Line::start().await;
    let ask = || json!({"kind": "referral_code", "payload": {"tag": "fair"}});
    let cancelled = raise(&line.as_low(), ask()).await;
    act(&line.as_low(), "cancel", &cancelled).await.ok();
    let rejected = raise(&line.as_low(), ask()).await;
    act(&line.app.admin(), "reject", &rejected).await.ok();
    let expired = raise(&line.as_low(), ask()).await;
    line.app.advance(31 * 86_400).await;
    assert_eq!(poll(&line.as_low(), &expired).await["status"], "expired");
    assert!(codes(&line.as_low(), "").await.is_empty());
}
