//! What a reseller registers neither reveals whether a user is known, nor keeps that user from being registered.

use serde_json::{Value, json};

use crate::common::app::{Person, Reply, TestApp, id_of};

const TREE: &str = "/reseller-network/downline/tree";

/// Two trees, whose top-level resellers know nothing of each other, and users of every standing in the second.
struct Town {
    app: TestApp,
    /// Who tries to find out.
    nosy: String,
    child: String,
    /// Users, each somebody's elsewhere: in business and not.
    known: Vec<&'static str>,
}

impl Town {
    async fn start(auto_approve: bool) -> Self {
        let app = TestApp::start_with(|config| config.policy.auto_approve = auto_approve).await;
        let nosy = app.top_level("nosy", "gold").await;
        let child = app.child_of(&nosy, "nosy-child", "standard").await;
        let other = app.top_level("other", "gold").await;
        app.child_of(&other, "active", "standard").await;
        let gone = app.child_of(&other, "gone", "standard").await;
        app.admin().post(format!("/resellers/{gone}/deactivate"), json!({})).await.ok();
        let frozen = app.child_of(&other, "frozen", "standard").await;
        app.admin().post(format!("/resellers/{frozen}/freeze"), json!({})).await.ok();
        app.reseller(&other).post("/resellers", registration("registered-elsewhere", "Elsewhere")).await.created();
        let known = vec!["other", "active", "gone", "frozen", "registered-elsewhere"];
        Self { app, nosy, child, known }
    }

    fn nosy(&self) -> Person {
        self.app.reseller(&self.nosy)
    }
}

fn registration(user: &str, company: &str) -> Value {
    json!({"user_id": user, "company_name": company})
}

/// An answer without what is random, or was said by whoever asked.
fn told(reply: &Reply, hidden: &[&str]) -> (u16, Vec<String>, String) {
    let mut body = reply.text.to_vec();
    if let Value::Object(members) = &reply.body {
        for name in hidden {
            if let Some(value) = members.get(*name) {
                let shown = String::from_utf8(body).expect("text");
                body = shown.replace(&format!("\"{name}\":{value}"), &format!("\"{name}\"")).into_bytes();
            }
        }
    }
    let mut headers: Vec<String> = Vec::new();
    for (name, value) in &reply.headers {
        match name.as_str() {
            // A longer name makes a longer answer.
            "date" | "tallytree-position" | "content-length" | "x-request-id" => headers.push(name.to_string()),
            name if name.contains("ratelimit") => headers.push(name.to_owned()),
            name => headers.push(format!("{name}: {value:?}")),
        }
    }
    headers.sort();
    (reply.status, headers, String::from_utf8(body).expect("text"))
}

const RANDOM: &[&str] = &["id", "refid", "user_id", "created_at"];

/// Everything that a reseller can do about a user, done once with a name that somebody has and once with one that nobody has: it
/// cannot tell the two apart, unless the platform tells it by what it approves.
#[tokio::test]
async fn a_registration_of_a_known_user_answers_as_one_of_an_unknown_user() {
    for auto_approve in [false, true] {
        let town = Town::start(auto_approve).await;
        let nosy = town.nosy();
        let mut answers = Vec::new();
        let unknown = ["unheard-of", "never-seen"];
        for user in town.known.iter().copied().chain(unknown) {
            // Not found before, whoever has it.
            let search = nosy.get(format!("/resellers?user_id={user}")).await.ok();
            assert_eq!(search, json!({"data": [], "next_cursor": null}), "{user}");
            let reply = nosy.post("/resellers", registration(user, "Same Ltd")).fresh_key().await;
            let id = id_of(&reply.body);
            let seen = nosy.get(format!("/resellers/{id}")).await;
            let wallet = nosy.get(format!("/wallets/{id}")).await.ok();
            let again = nosy.post("/resellers", registration(user, "Same Ltd")).fresh_key().await;
            let found = nosy.get(format!("/resellers?user_id={user}")).await.ok();
            let rows = found["data"].as_array().expect("rows").len();
            let approval = nosy.post(format!("/resellers/{id}/approve"), json!({})).await;
            answers.push((
                user,
                [told(&reply, RANDOM), told(&seen, RANDOM), told(&again, RANDOM), told(&approval, RANDOM)],
                (rows, wallet["balance"].clone()),
            ));
        }
        for (user, replies, rest) in &answers {
            // A policy that approves by itself approves whom nobody has, and cannot approve whom somebody has: an operator that
            // chooses it lets its resellers tell the two apart. What that user is elsewhere they are not told.
            let is_known = auto_approve && town.known.contains(user);
            let like = if is_known { answers.first() } else { answers.last() };
            let (_, like_replies, like_rest) = like.expect("somebody");
            assert_eq!((replies, rest), (like_replies, like_rest), "{user} (auto_approve: {auto_approve})");
        }
    }
}

/// The feed and the tree, too: what a registration of a known user leaves behind looks as that of an unknown one.
#[tokio::test]
async fn nothing_that_is_read_afterwards_tells_a_known_user_from_an_unknown_one() {
    let town = Town::start(false).await;
    let nosy = town.nosy();
    let mut left_behind = Vec::new();
    for user in ["active", "unheard-of"] {
        let id = id_of(&nosy.post("/resellers", registration(user, "Same Ltd")).await.created());
        let entries = nosy.get(format!("/reseller-network/activity?reseller_id={id}")).await.ok();
        let node = nosy.get(format!("{TREE}?root={id}")).await.ok();
        let own = town.app.reseller(&id).get("/reseller-network/dashboard").await.ok();
        let mut text = json!([entries, node, own["network"], own["finance"]]).to_string();
        for entry in entries["data"].as_array().expect("entries") {
            for random in ["id", "recorded_at"] {
                text = text.replace(&entry[random].to_string(), random);
            }
            text = text.replace(&format!("\"position\":{}", entry["position"]), "position");
        }
        text = text.replace(&id, "<id>").replace(&node["refid"].to_string(), "<refid>");
        left_behind.push(text);
    }
    assert_eq!(left_behind[0], left_behind[1]);
}

/// A user whom some reseller has registered, and nobody has approved, is free: it is registered by the operator, by another
/// reseller, and goes on being who it was; and it is a member of nothing that was only asked for in its name.
#[tokio::test]
async fn a_registration_keeps_no_user_from_being_registered_elsewhere() {
    let town = Town::start(false).await;
    let (app, nosy, admin) = (&town.app, town.nosy(), town.app.admin());
    let below = app.reseller(&town.child);
    let mut squatted = Vec::new();
    for person in [&nosy, &below] {
        squatted.push(id_of(&person.post("/resellers", registration("victim", "Squatter")).await.created()));
    }
    // In its name only: it is a member of nothing, and cannot act for what somebody registered.
    app.user("victim").get("/reseller-network/dashboard").await.problem(400, "tenant_required");
    let act_for = |id: &str| app.user("victim").get("/reseller-network/dashboard").header("x-tenant-id", id);
    for id in squatted.iter().map(String::as_str).chain([town.nosy.as_str(), super::world::MISSING]) {
        act_for(id).await.problem(404, "not_found");
    }
    // Another reseller registers it and is approved, as if the others had never been.
    let other = app.top_level("fair", "gold").await;
    let fair = app.reseller(&other).post("/resellers", registration("victim", "Victim Ltd")).await.created();
    admin.post(format!("/resellers/{}/approve", id_of(&fair)), json!({})).await.ok();
    let board = app.user("victim").get("/reseller-network/dashboard").await.ok();
    assert_eq!(board["reseller_id"], fair["id"]);
    // The others can no longer be approved, and stay as they were to who registered them.
    for (person, id) in [&nosy, &below].into_iter().zip(&squatted) {
        admin.post(format!("/resellers/{id}/approve"), json!({})).await.problem(409, "already_exists");
        assert_eq!(person.get(format!("/resellers/{id}")).await.ok()["status"], "pending");
        act_for(id).await.problem(404, "not_found");
    }
    // Nor the operator is kept from registering at once whom somebody has asked for.
    nosy.post("/resellers", registration("second", "Squatter")).await.created();
    let second = admin.post("/resellers", registration("second", "Second Ltd")).await.created();
    assert_eq!(second["status"], "active");
    // A user that is somebody already goes on being that one.
    nosy.post("/resellers", registration("active", "Squatter")).await.created();
    assert_eq!(app.user("active").get("/reseller-network/dashboard").await.status, 200);
}
