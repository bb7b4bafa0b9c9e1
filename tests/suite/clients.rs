//! Lists of clients: whose they are, by which filters, page by page; an upline is told how many, and never who.

use aggregates::primitives::Role;
use serde_json::{Value, json};
use tallytree::access::directory::TokenOrder;

use crate::common::app::{Person, TestApp, id_of};

struct House {
    app: TestApp,
    parent: String,
    owner: String,
    other: String,
}

impl House {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let parent = app.top_level("parent", "gold").await;
        let owner = app.child_of(&parent, "owner", "standard").await;
        let other = app.child_of(&parent, "other", "standard").await;
        Self { app, parent, owner, other }
    }
}

async fn client(person: &Person, name: &str, email: &str, steps: &[&str]) -> String {
    let id = id_of(&person.post("/clients", json!({"name": name, "email": email})).await.created());
    for step in steps {
        person.post(format!("/clients/{id}/{step}"), json!({})).await.ok();
    }
    id
}

async fn names(person: &Person, query: &str) -> Vec<String> {
    let page = person.get(format!("/clients?{query}")).await.ok();
    page["data"].as_array().expect("a page").iter().map(|one| one["name"].as_str().unwrap_or("-").to_owned()).collect()
}

#[tokio::test]
async fn clients_are_listed_for_their_owner_by_status_and_by_words() {
    let House { app, owner, other, .. } = House::start().await;
    let person = app.reseller(&owner);
    client(&person, "Ann", "ann@example.com", &["activate"]).await;
    client(&person, "Bob", "bob@example.org", &["activate", "suspend"]).await;
    client(&person, "Cy 100%_", "cy@example.com", &[]).await;
    client(&app.reseller(&other), "Ann", "ann@elsewhere.net", &["activate"]).await;
    for (query, expected) in [
        ("", &["Ann", "Bob", "Cy 100%_"][..]),
        ("status=active", &["Ann"]),
        ("status=suspended", &["Bob"]),
        ("status=onboarded", &["Cy 100%_"]),
        ("status=deactivated", &[]),
        ("q=ann", &["Ann"]),
        ("q=EXAMPLE.com", &["Ann", "Cy 100%_"]),
        ("q=EXAMPLE.com&status=active", &["Ann"]),
        ("q=0%25_", &["Cy 100%_"]),
        ("q=%25", &["Cy 100%_"]),
        ("q=elsewhere", &[]),
    ] {
        assert_eq!(names(&person, query).await, expected, "{query}");
    }
    // A reseller names nobody else's.
    for wrong in ["reseller_id", "user_id"] {
        person.get(format!("/clients?{wrong}={other}")).await.problem(422, "invalid");
    }
    for wrong in ["status=gone", "limit=0", "cursor=zz", "name=Ann"] {
        person.get(format!("/clients?{wrong}")).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn the_operator_and_auditors_list_everybodys_or_one_resellers() {
    let House { app, parent, owner, other } = House::start().await;
    client(&app.reseller(&owner), "Ann", "ann@example.com", &["activate"]).await;
    client(&app.reseller(&other), "Bob", "bob@example.com", &["activate"]).await;
    client(&app.reseller(&parent), "Cy", "cy@example.com", &[]).await;
    for person in [app.admin(), app.auditor()] {
        assert_eq!(names(&person, "").await, ["Ann", "Bob", "Cy"]);
        assert_eq!(names(&person, "status=active").await, ["Ann", "Bob"]);
        assert_eq!(names(&person, &format!("reseller_id={other}")).await, ["Bob"]);
        assert_eq!(names(&person, "user_id=owner").await, ["Ann"]);
        assert_eq!(names(&person, "user_id=nobody").await, [""; 0]);
        assert_eq!(names(&person, &format!("user_id=owner&reseller_id={other}")).await, [""; 0]);
        assert_eq!(names(&person, &format!("reseller_id={owner}&q=ann&status=active")).await, ["Ann"]);
    }
    // Clients are persons: finance and payments see none, nobody without a token.
    app.finance().get("/clients").await.problem(403, "forbidden");
    app.payments().get("/clients").await.problem(403, "forbidden");
    app.stranger().get("/clients").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn an_upline_is_told_how_many_and_never_who() {
    let House { app, parent, owner, other } = House::start().await;
    let id = client(&app.reseller(&owner), "Ann", "ann@example.com", &["activate"]).await;
    client(&app.reseller(&owner), "Bob", "bob@example.com", &[]).await;
    let above = app.reseller(&parent);
    assert_eq!(names(&above, "").await, [""; 0]);
    assert_eq!(names(&above, "q=ann").await, [""; 0]);
    let board = above.get(format!("/reseller-network/dashboard?reseller_id={owner}")).await.ok();
    assert_eq!(board["clients"], json!({"total": 2, "active": 1}));
    let missing = above.get("/clients/01900000-0000-7000-8000-000000000000").await.problem(404, "not_found");
    for person in [above, app.reseller(&other)] {
        assert_eq!(person.get(format!("/clients/{id}")).await.problem(404, "not_found"), missing);
        for step in ["activate", "suspend", "deactivate", "forget"] {
            person.post(format!("/clients/{id}/{step}"), json!({})).await.problem(404, "not_found");
        }
    }
}

#[tokio::test]
async fn pages_of_clients_are_the_whole_in_pieces_and_who_is_forgotten_is_found_by_no_word() {
    let House { app, owner, other, .. } = House::start().await;
    let person = app.reseller(&owner);
    let mut all = Vec::new();
    for number in 0..11 {
        all.push(client(&person, &format!("Client {number}"), "a@example.com", &["activate"]).await);
    }
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = person.get(format!("/clients?status=active&limit=4{cursor}")).await.ok();
        paged.extend(page["data"].as_array().expect("a page").iter().map(id_of));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    person.post(format!("/clients/{}/forget", all[3]), json!({})).await.ok();
    assert_eq!(names(&person, "q=client").await.len(), 10);
    assert_eq!(names(&person, "status=forgotten").await, ["-"]);
    let forgotten = person.get(format!("/clients/{}", all[3])).await.ok();
    assert_eq!((&forgotten["name"], &forgotten["email"]), (&Value::Null, &Value::Null));
    app.admin().post(format!("/clients/{}/reassign", all[0]), json!({"reseller_id": other})).await.ok();
    assert_eq!(names(&app.reseller(&other), "").await, ["Client 0"]);
    person.get(format!("/clients/{}", all[0])).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_repeated_answer_tells_of_a_client_what_may_be_known_of_it_now() {
    let House { app, owner, other, .. } = House::start().await;
    let tenant = Some(owner.parse().expect("an id"));
    let token = app.token(&TokenOrder { tenant, ..TokenOrder::of(Role::Reseller) });
    let person = app.with_token(&token);
    let onboard = async || {
        let body = json!({"name": "Mallory", "email": "mallory@example.com", "metadata": {"vat": "Mallory 7"}});
        person.post("/clients", body).key("onboarding").await
    };
    let first = onboard().await;
    let again = onboard().await;
    assert!(again.replayed());
    assert_eq!(again.position(), first.position());
    let first = first.created();
    assert_eq!(again.created(), first);
    let id = id_of(&first);
    // Nor does it take a ledger that still knows the client.
    let app = app.restart().await;
    let person = app.with_token(&token);
    let onboard = async || {
        let body = json!({"name": "Mallory", "email": "mallory@example.com", "metadata": {"vat": "Mallory 7"}});
        person.post("/clients", body).key("onboarding").await
    };
    assert_eq!(onboard().await.created(), first);

    app.admin().post(format!("/clients/{id}/reassign"), json!({"reseller_id": other})).await.ok();
    let elsewhere = app.reseller(&other);
    elsewhere.patch(format!("/clients/{id}"), json!({"name": "Mallory Smith"})).key("renaming").await.ok();
    let others = onboard().await.created();
    assert_eq!((&others["id"], &others["name"], &others["metadata"]), (&json!(id), &Value::Null, &json!({})));

    app.admin().post(format!("/clients/{id}/reassign"), json!({"reseller_id": owner})).await.ok();
    let renamed = onboard().await.created();
    assert_eq!((&renamed["name"], &renamed["email"]), (&json!("Mallory Smith"), &json!("mallory@example.com")));
    person.post(format!("/clients/{id}/forget"), json!({})).key("forgetting").await.ok();
    let forgotten = onboard().await.created();
    assert_eq!(
        (&forgotten["status"], &forgotten["name"], &forgotten["email"]),
        (&first["status"], &Value::Null, &Value::Null)
    );
    let kept = app.tamper_with_log("update receipts set status = status where answer like '%allory%'");
    assert_eq!(kept, 0, "what is to be forgotten stands in no receipt");
}
