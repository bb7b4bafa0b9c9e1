//! Upline requests, referrals and settings as the working process that the API promises, by HTTP.

mod boxes;
mod conventions;
mod kinds;
mod policy;
mod referrals;
mod settings;

use serde_json::{Value, json};

use crate::common::app::{Person, TestApp, id_of};

const RAISE: &str = "/reseller-network/upline/request";
const REQUESTS: &str = "/reseller-network/upline/requests";

/// A line of three with a sibling beside each of the lower two, and somebody who has nothing to do with them.
struct Line {
    app: TestApp,
    top: String,
    middle: String,
    low: String,
    /// Beside `low`, under `middle`.
    sibling: String,
    /// Beside `middle`, under `top`.
    aunt: String,
    /// Another top-level reseller.
    foreign: String,
}

impl Line {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let top = app.top_level("top", "platinum").await;
        let middle = app.child_of(&top, "middle", "gold").await;
        let low = app.child_of(&middle, "low", "standard").await;
        let sibling = app.child_of(&middle, "sibling", "standard").await;
        let aunt = app.child_of(&top, "aunt", "gold").await;
        let foreign = app.top_level("foreign", "gold").await;
        Self { app, top, middle, low, sibling, aunt, foreign }
    }

    fn as_top(&self) -> Person {
        self.app.reseller(&self.top)
    }

    fn as_middle(&self) -> Person {
        self.app.reseller(&self.middle)
    }

    fn as_low(&self) -> Person {
        self.app.reseller(&self.low)
    }

    async fn balance(&self, reseller: &str) -> i64 {
        self.app.admin().get(format!("/wallets/{reseller}")).await.ok()["balance"].as_i64().expect("a balance")
    }

    /// Who sees nothing of what `low` asks of `middle`, with a name.
    fn outsiders(&self) -> [(&'static str, Person); 4] {
        [
            ("the sibling", self.app.reseller(&self.sibling)),
            ("the aunt", self.app.reseller(&self.aunt)),
            ("a stranger", self.app.reseller(&self.foreign)),
            ("the grandparent", self.as_top()),
        ]
    }
}

async fn raise(person: &Person, ask: Value) -> String {
    id_of(&person.post(RAISE, ask).await.expect_status(202))
}

fn top_up(amount: i64) -> Value {
    json!({"kind": "credit_topup", "payload": {"amount": amount}})
}

fn generic(subject: &str) -> Value {
    json!({"kind": "generic", "payload": {"subject": subject, "body": "…"}})
}

fn path(request: &str) -> String {
    format!("{RAISE}/{request}")
}

async fn act(person: &Person, action: &str, request: &str) -> crate::common::app::Reply {
    person.post(format!("{RAISE}/{request}/{action}"), json!({})).await
}

/// Asks until the request is decided, as a client does that waits for its answer.
async fn poll(person: &Person, request: &str) -> Value {
    for _ in 0..1200 {
        let reply = person.get(path(request)).await;
        // After a restart the read models may still be on their way to it.
        if reply.status != 404 {
            let record = reply.ok();
            if record["status"] != "pending" {
                return record;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("request {request} is still pending");
}

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().expect("a page").iter().map(id_of).collect()
}
