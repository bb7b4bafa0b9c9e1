//! What ends by itself: requests whose time is over expire, those whose requester has gone fail. Nobody asks for it, it happens
//! once whatever the number of nodes, and a restart forgets none.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Line, act, generic, path, poll, raise, top_up};
use crate::common::app::{Person, TestApp};
use crate::common::process::{self, Process};

const DAY: u32 = 86_400;

#[tokio::test]
async fn a_request_that_nobody_answers_expires_when_its_time_has_come_and_not_before() {
    let line = Line::start().await;
    let early = raise(&line.as_low(), generic("early")).await;
    line.app.advance(10 * DAY).await;
    let late = raise(&line.as_low(), generic("late")).await;
    line.app.advance(20 * DAY - 60).await;
    // It has time enough to expire too much.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(line.as_low().get(path(&early)).await.ok()["status"], "pending");
    line.app.advance(120).await;
    let expired = poll(&line.as_low(), &early).await;
    assert_eq!(expired["status"], "expired");
    assert!(expired["decided_at"].as_str() >= expired["expires_at"].as_str(), "{expired}");
    assert_eq!(line.as_low().get(path(&late)).await.ok()["status"], "pending");
    for (person, action) in [(line.as_middle(), "approve"), (line.as_middle(), "reject"), (line.as_low(), "cancel")] {
        act(&person, action, &early).await.problem(409, "invalid_transition");
    }
    line.app.advance(10 * DAY).await;
    assert_eq!(poll(&line.as_low(), &late).await["status"], "expired");
}

#[tokio::test]
async fn the_policy_that_is_in_force_says_how_long_a_request_waits() {
    let line = Line::start().await;
    let mut policy = line.app.admin().get("/platform/policy").await.ok();
    let long = raise(&line.as_low(), generic("long")).await;
    policy["request_expiry_days"] = json!(2);
    line.app.admin().put("/platform/policy", policy).await.ok();
    let short = raise(&line.as_low(), generic("short")).await;
    line.app.advance(2 * DAY).await;
    assert_eq!(poll(&line.as_low(), &short).await["status"], "expired");
    assert_eq!(line.as_low().get(path(&long)).await.ok()["status"], "pending");
}

#[tokio::test]
async fn what_fell_due_while_nobody_ran_expires_after_the_start() {
    let line = Line::start().await;
    let mut policy = line.app.admin().get("/platform/policy").await.ok();
    policy["request_expiry_days"] = json!(1);
    line.app.admin().put("/platform/policy", policy.clone()).await.ok();
    let due = raise(&line.as_low(), generic("due")).await;
    policy["request_expiry_days"] = json!(3);
    line.app.admin().put("/platform/policy", policy.clone()).await.ok();
    let not_due = raise(&line.as_low(), generic("not due")).await;
    line.app.advance(DAY).await;
    // The log has seen the later time, whatever the clock says after the start.
    policy["request_expiry_days"] = json!(4);
    line.app.admin().put("/platform/policy", policy).await.ok();
    let (low, middle) = (line.low.clone(), line.middle.clone());
    let app = line.app.restart().await;
    let person = app.reseller(&low);
    assert_eq!(poll(&person, &due).await["status"], "expired");
    assert_eq!(person.get(path(&not_due)).await.ok()["status"], "pending");
    app.advance(3 * DAY).await;
    assert_eq!(poll(&person, &not_due).await["status"], "expired");
    let inbox = app.reseller(&middle).get("/reseller-network/upline/requests?direction=in&status=expired").await.ok();
    assert_eq!(super::ids(&inbox), [not_due, due]);
}

#[tokio::test]
async fn many_that_fall_due_at_once_all_expire_once_by_the_policys_name() {
    let line = Line::start().await;
    let low = line.as_low();
    for number in 0..130 {
        raise(&low, generic(&format!("number {number}"))).await;
    }
    line.app.advance(30 * DAY).await;
    let pending = async || {
        let board = low.get("/reseller-network/dashboard").await.ok();
        board["upline_requests"]["pending_out"].as_u64().expect("a number")
    };
    for _ in 0..600 {
        if pending().await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(pending().await, 0);
    let log = line.app.auditor().get("/audit/events?event_type=UplineRequestExpired&limit=500").await.ok();
    let events = log["data"].as_array().expect("events");
    assert_eq!(events.len(), 130);
    for event in events {
        assert_eq!(
            (&event["metadata"]["actor"], &event["metadata"]["role"]),
            (&json!("policy:upline_requests"), &json!("system"))
        );
    }
    // Nothing is left to do, so nothing is written.
    let before = line.app.auditor().get("/audit/head").await.ok()["position"].clone();
    line.app.advance(DAY).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(line.app.auditor().get("/audit/head").await.ok()["position"], before);
}

#[tokio::test]
async fn the_requests_of_whoever_has_gone_fail_and_say_why() {
    let line = Line::start().await;
    let gone = raise(&line.as_low(), top_up(10)).await;
    let stays = raise(&line.app.reseller(&line.sibling), top_up(10)).await;
    let above = raise(&line.as_middle(), generic("hello")).await;
    line.app.admin().post(format!("/resellers/{}/deactivate", line.low), json!({})).await.ok();
    let record = poll(&line.as_middle(), &gone).await;
    assert_eq!(record["status"], "failed");
    assert!(record["reason"].as_str().is_some_and(|reason| reason.contains("no longer in business")), "{record}");
    assert!(record["decided_at"].is_string(), "{record}");
    act(&line.as_middle(), "approve", &gone).await.problem(409, "invalid_transition");
    // Coming back revives nothing; one asks again.
    line.app.admin().post(format!("/resellers/{}/reactivate", line.low), json!({})).await.ok();
    assert_eq!(line.as_low().get(path(&gone)).await.ok()["status"], "failed");
    raise(&line.as_low(), top_up(10)).await;
    for (person, request) in [(line.app.reseller(&line.sibling), stays), (line.as_middle(), above)] {
        assert_eq!(person.get(path(&request)).await.ok()["status"], "pending");
    }
}

#[tokio::test]
async fn no_token_of_the_service_speaks_as_its_policies() {
    let app = TestApp::start().await;
    let made = process::run(app.store(), &["token", "create", "--role", "system"]).await;
    assert!(!made.status.success(), "a token of the policies was made");
}

/// Two nodes on one store, the same requests due on both: each ends once.
#[tokio::test]
async fn two_nodes_end_the_same_requests_once() {
    let place = crate::common::app::Place::new();
    let store = place.store();
    let mut nodes = [Process::serve(&store).await, Process::serve(&store).await];
    let admin = Person::at(nodes[0].address(), &process::token(&store, &["--role", "super_admin"]).await);
    let register = |user: &str, parent: Value| {
        let body = json!({"user_id": user, "company_name": user, "parent_id": parent});
        let admin = admin.clone();
        async move { crate::common::app::id_of(&admin.post("/resellers", body).await.created()) }
    };
    let parent = register("parent", Value::Null).await;
    let child = register("child", json!(parent)).await;
    let token = process::token(&store, &["--role", "reseller", "--tenant", &child]).await;
    let person = Person::at(nodes[0].address(), &token);
    let mut requests = Vec::new();
    for number in 0..40 {
        requests.push(raise(&person, generic(&format!("number {number}"))).await);
    }
    admin.post(format!("/resellers/{child}/deactivate"), json!({})).await.ok();
    let elsewhere = Person::at(nodes[1].address(), &process::token(&store, &["--role", "auditor"]).await);
    for request in &requests {
        assert_eq!(poll(&elsewhere, request).await["status"], "failed");
    }
    // Both have looked by now, and what one did the other left alone.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let log = elsewhere.get("/audit/events?event_type=UplineRequestFailed&limit=500").await.ok();
    assert_eq!(log["data"].as_array().map(Vec::len), Some(requests.len()));
    for node in &mut nodes {
        node.terminate().await;
        let status = node.ended(Duration::from_secs(12)).await;
        assert!(status.success(), "{status}:\n{}", node.log());
    }
}
