//! The API's table "Analytics", and of "The network" the dashboard and what is asked about a downline, by HTTP as each role.

mod downline;
mod figures;
mod roles;
mod trends;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::common::app::{TestApp, id_of};

/// Moves the service's clock to an instant that lies ahead.
pub async fn go_to(app: &TestApp, instant: &str) {
    let reached = app.stranger().post("/dev/clock", json!({"advance_seconds": 0})).await.ok();
    let now: DateTime<Utc> = reached["now"].as_str().expect("a time").parse().expect("a time");
    let wanted: DateTime<Utc> = instant.parse().expect("a time");
    // The clock goes by whole seconds: it stops less than one second after that instant.
    let seconds = (wanted - now - TimeDelta::nanoseconds(1)).num_seconds() + 1;
    app.advance(u32::try_from(seconds).expect("an instant ahead")).await;
}

/// A network of four, and a stranger beside it; everybody active.
struct Network {
    app: TestApp,
    top: String,
    left: String,
    right: String,
    leaf: String,
    elsewhere: String,
}

impl Network {
    async fn start() -> Self {
        let app = TestApp::start().await;
        go_to(&app, "2032-12-20T10:00:00Z").await;
        let top = app.top_level("top", "platinum").await;
        let left = app.child_of(&top, "left", "gold").await;
        let right = app.child_of(&top, "right", "standard").await;
        let leaf = app.child_of(&left, "leaf", "standard").await;
        let elsewhere = app.top_level("elsewhere", "gold").await;
        Self { app, top, left, right, leaf, elsewhere }
    }

    /// Sells something for its base cost, which the tier and the line turn into a price and commissions.
    async fn sell(&self, reseller: &str, base_cost: i64) -> Value {
        let path = format!("/wallets/{reseller}/provisions");
        self.app.application(reseller).post(path, json!({"base_cost": base_cost})).await.created()
    }

    /// Takes a client on.
    async fn take_on(&self, reseller: &str, name: &str) -> String {
        id_of(&self.app.reseller(reseller).post("/clients", json!({"name": name})).await.created())
    }
}

/// One member of each row of a list.
fn each<'v>(list: &'v Value, member: &str) -> Vec<&'v Value> {
    list.as_array().expect("a list").iter().map(|row| &row[member]).collect()
}
