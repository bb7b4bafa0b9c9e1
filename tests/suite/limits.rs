//! How many requests each token may send, and what becomes of those who guess.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::app::{Person, TestApp};

/// Five at once, one more each second.
async fn app() -> TestApp {
    TestApp::start_with(|config| (config.requests_per_second, config.requests_burst) = (1, 5)).await
}

fn number(reply: &crate::common::app::Reply, name: &str) -> u64 {
    reply.header(name).unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

/// Lets a token be known: its first request is its peer's.
async fn known(app: &TestApp, person: Person) -> Person {
    let reply = person.get("/products").await;
    assert_eq!(reply.status, 200);
    assert!(app.stranger().get("/healthz").await.status == 200);
    person
}

#[tokio::test]
async fn each_token_has_a_bucket_of_its_own_and_is_told_what_is_left() {
    let app = app().await;
    let (admin, auditor) = (known(&app, app.admin()).await, known(&app, app.auditor()).await);
    let started = Instant::now();
    for left in (0..5).rev() {
        let reply = admin.get("/products").await;
        assert_eq!((reply.status, number(&reply, "x-ratelimit-limit")), (200, 5));
        // A slow machine may have been given one back meanwhile.
        let given_back = started.elapsed().as_secs();
        assert!((left..=left + given_back).contains(&number(&reply, "x-ratelimit-remaining")));
        assert!(number(&reply, "x-ratelimit-reset") <= 5);
    }
    // At once, but for what a slow machine is given back meanwhile.
    let refused = loop {
        let reply = admin.get("/products").await;
        if reply.status != 200 {
            break reply;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "never refused");
    };
    assert_eq!(number(&refused, "x-ratelimit-remaining"), 0);
    let seconds = number(&refused, "retry-after");
    assert!((1..=2).contains(&seconds), "{seconds}");
    refused.problem(429, "rate_limited");

    // Another connection is no other bucket, and a command that is turned away does nothing.
    let elsewhere = Person::at(app.address(), app.admin_token());
    let body = json!({"user_id": "ann", "company_name": "Ann Ltd"});
    let mut registered = 0;
    let turned_away = loop {
        let reply = elsewhere.post("/resellers", body.clone()).await;
        match reply.status {
            201 | 409 => registered = 1,
            _ => break reply,
        }
        assert!(started.elapsed() < Duration::from_secs(20), "never refused");
    };
    turned_away.problem(429, "rate_limited");
    assert_eq!(auditor.get("/resellers").await.ok()["data"].as_array().expect("a list").len(), registered);

    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(admin.get("/products").await.status, 200);
}

#[tokio::test]
async fn a_token_has_one_bucket_however_it_is_spelled() {
    let app = app().await;
    known(&app, app.admin()).await;
    let started = Instant::now();
    let mut served = 0;
    for blanks in 0..4 {
        let spelled = app.with_token(format!("{}{}", " ".repeat(blanks), app.admin_token()));
        for _ in 0..4 {
            served += u64::from(spelled.get("/products").await.status == 200);
        }
    }
    assert!((1..=5 + started.elapsed().as_secs()).contains(&served), "{served}");
}

#[tokio::test]
async fn guessing_tokens_is_bounded_and_holds_up_nobody_who_is_known() {
    let app = app().await;
    let admin = known(&app, app.admin()).await;
    let mut told = Vec::new();
    for guess in 0..12 {
        told.push(app.with_token(format!("tt_{guess:016x}_guessed")).get("/products").await.status);
    }
    assert_eq!(told[..3], [401, 401, 401]);
    assert!(told.iter().filter(|status| **status == 429).count() >= 5, "{told:?}");
    assert!(matches!(app.stranger().get("/openapi.json").await.status, 200 | 429));
    assert_eq!(admin.get("/products").await.status, 200);
    for _ in 0..10 {
        let health = app.stranger().get("/healthz").await;
        assert_eq!((health.status, health.header("x-ratelimit-limit")), (200, None));
    }
}

#[tokio::test]
async fn a_token_that_was_never_let_in_gets_no_bucket_of_its_own() {
    let app = app().await;
    let guesser = app.with_token("tt_0123456789abcdef_guessed");
    let mut told = Vec::new();
    for _ in 0..4 {
        // Paths that need no token make none known.
        told.push(guesser.get("/openapi.json").await.status);
        told.push(guesser.get("/products").await.status);
    }
    assert!(told.contains(&429), "{told:?}");
}

#[tokio::test]
async fn without_limits_nothing_is_told_of_them() {
    let app = TestApp::start().await;
    for _ in 0..30 {
        let reply = app.admin().get("/products").await;
        assert_eq!((reply.status, reply.header("x-ratelimit-limit")), (200, None));
    }
}
