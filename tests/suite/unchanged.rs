//! Dashboard and tree are not sent again where the client has them: 304 exactly as long as the answer would be the same.

use serde_json::{Value, json};

use crate::common::app::{Person, Reply, TestApp};

/// What somebody is told who has nothing yet: the answer and its tag.
async fn fresh(person: &Person, path: &str) -> (Value, String) {
    let reply = person.get(path).await;
    let tag = reply.header("etag").expect("a tag").to_owned();
    assert_eq!(reply.header("cache-control"), Some("private, no-cache"));
    assert_eq!(reply.header("vary"), Some("Authorization, X-Tenant-ID"));
    (reply.ok(), tag)
}

/// What somebody is told who has an answer with this tag.
async fn again(person: &Person, path: &str, tag: &str) -> Reply {
    let reply = person.get(path).header("if-none-match", tag).await;
    assert!(reply.position() > 0);
    if reply.status == 304 {
        assert!(reply.text.is_empty());
        assert!(tag.contains(reply.header("etag").expect("a tag")));
    }
    reply
}

const PATHS: [&str; 2] = ["/reseller-network/dashboard", "/reseller-network/downline/tree"];

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let app = TestApp::start().await;
    let ann = app.top_level("ann", "gold").await;
    let bob = app.top_level("bob", "gold").await;
    app.fund(&ann, 1000).await;
    let person = app.reseller(&ann);
    for path in PATHS {
        let (_, tag) = fresh(&person, path).await;
        assert_eq!(again(&person, path, &tag).await.status, 304);
        assert_eq!(again(&person, path, &format!("\"other\", W/{tag}")).await.status, 304);
        assert_eq!(again(&person, path, "\"other\"").await.status, 200);
        // What happens elsewhere moves the log, and changes nothing here.
        let before = again(&person, path, &tag).await.position();
        app.fund(&bob, 5).await;
        let after = again(&person, path, &tag).await;
        assert!(after.status == 304 && after.position() > before);
    }
}

#[tokio::test]
async fn whatever_changes_the_answer_changes_its_tag() {
    let app = TestApp::start().await;
    let ann = app.top_level("ann", "gold").await;
    let child = app.child_of(&ann, "kim", "standard").await;
    app.fund(&ann, 1000).await;
    app.fund(&child, 1000).await;
    let (person, admin) = (app.reseller(&ann), app.admin());
    let changes: [(&str, Value); 4] = [
        ("credits", json!({"amount": 1, "source": "bonus"})),
        ("provisions", json!({"cost": 10})),
        ("freeze", json!({})),
        ("unfreeze", json!({})),
    ];
    for (what, body) in changes {
        let mut before = Vec::new();
        for path in PATHS {
            before.push(fresh(&person, path).await);
        }
        let target = if what.ends_with("freeze") {
            format!("/resellers/{child}/{what}")
        } else {
            format!("/wallets/{child}/{what}")
        };
        let status = admin.post(target, body).fresh_key().await.status;
        assert!(matches!(status, 200 | 201), "{what}: {status}");
        for (path, (body, tag)) in PATHS.into_iter().zip(before) {
            let reply = again(&person, path, &tag).await;
            assert_eq!(reply.status, 200, "{what}: {path}");
            assert_ne!(reply.body, body, "{what}: {path}");
        }
    }
}

#[tokio::test]
async fn a_day_that_passes_changes_the_tag_of_what_counts_days() {
    let app = TestApp::start().await;
    let ann = app.top_level("ann", "gold").await;
    app.fund(&ann, 1000).await;
    app.admin().post(format!("/wallets/{ann}/provisions"), json!({"cost": 10})).await.created();
    let person = app.reseller(&ann);
    let (before, tag) = fresh(&person, PATHS[0]).await;
    assert_eq!(before["finance"]["provisioned_30d"], 10);
    app.advance(31 * 86_400).await;
    let after = again(&person, PATHS[0], &tag).await.ok();
    assert_eq!(after["finance"]["provisioned_30d"], 0);
}

#[tokio::test]
async fn one_reseller_s_tag_is_no_other_s_and_what_is_not_there_has_none() {
    let app = TestApp::start().await;
    let ann = app.top_level("ann", "gold").await;
    let bob = app.top_level("bob", "gold").await;
    let (ann, eve) = (app.reseller(&ann), app.reseller(&bob));
    for path in PATHS {
        let (_, tag) = fresh(&ann, path).await;
        assert_eq!(again(&eve, path, &tag).await.status, 200);
    }
    let foreign = eve.get(format!("{}?root={}", PATHS[1], "019a0000-0000-7000-8000-000000000000"));
    let reply = foreign.header("if-none-match", "*").await;
    assert_eq!(reply.header("etag"), None);
    reply.problem(404, "not_found");
    ann.get(PATHS[0]).header("if-none-match", "*").await.expect_status(304);
}
