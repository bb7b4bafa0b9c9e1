//! Books that close: exports, by HTTP as each role and by the command line, of a network that has traded for a while.

mod closed_months;
mod closing;
mod exports;
mod journal;
mod printed;
mod spreadsheet;
mod tables;

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::analytics::go_to;
use crate::common::app::{Person, TestApp};

/// Two trees of resellers that buy, sell, earn, give back and pass on, at random, from the first of January 2033 on.
struct Trade {
    app: TestApp,
    dice: StdRng,
    /// Each after its parent; none of the last two stands under another.
    resellers: Vec<String>,
    parents: Vec<Option<usize>>,
    /// Whose, which, what is left of it.
    provisions: Vec<(usize, String, i64)>,
}

/// The parent of each reseller, by its place.
const PARENTS: [Option<usize>; 7] = [None, Some(0), Some(1), Some(1), Some(0), None, Some(5)];

impl Trade {
    async fn start(seed: u64) -> Self {
        let app = TestApp::start().await;
        go_to(&app, "2033-01-01T06:00:00Z").await;
        let mut resellers: Vec<String> = Vec::new();
        for (place, parent) in PARENTS.iter().enumerate() {
            let user = format!("user-{place}");
            let tier = ["platinum", "gold", "standard"][place % 3];
            resellers.push(match parent {
                None => app.top_level(&user, tier).await,
                Some(parent) => app.child_of(&resellers[*parent], &user, tier).await,
            });
        }
        for reseller in &resellers {
            app.fund(reseller, 20_000).await;
            app.admin().put(format!("/wallets/{reseller}/credit-limit"), json!({"credit_limit": 500})).await.ok();
        }
        Self { app, dice: StdRng::seed_from_u64(seed), resellers, parents: PARENTS.to_vec(), provisions: Vec::new() }
    }

    /// Days on which so many things happen each.
    async fn days(&mut self, days: u32, deeds: u32) {
        for _ in 0..days {
            for _ in 0..deeds {
                self.deed().await;
            }
            self.app.advance(86_400).await;
        }
    }

    async fn deed(&mut self) {
        let place = self.dice.random_range(0..self.resellers.len());
        let reseller = self.resellers[place].clone();
        let admin = self.app.admin();
        match self.dice.random_range(0..10) {
            0 => {
                let source = ["purchase", "bonus", "adjustment"][self.dice.random_range(0..3)];
                let body = json!({"amount": self.dice.random_range(1..5_000), "source": source, "note": "=1+1\u{1f}\u{1e}\u{1b}"});
                admin.post(format!("/wallets/{reseller}/credits"), body).fresh_key().await.created();
            }
            1 => {
                let kind = ["chargeback", "correction"][self.dice.random_range(0..2)];
                let body = json!({"amount": self.dice.random_range(1..900), "kind": kind, "reason": "-2+3, \"quoted\"\nand more"});
                admin.post(format!("/wallets/{reseller}/credits/remove"), body).fresh_key().await.created();
            }
            2 if !self.provisions.is_empty() => {
                let chosen = self.dice.random_range(0..self.provisions.len());
                let (seller, provision, left) = self.provisions.swap_remove(chosen);
                let amount = self.dice.random_range(1..=left);
                let path = format!("/wallets/{}/provisions/{provision}/refunds", self.resellers[seller]);
                admin.post(path, json!({"amount": amount, "reason": "@cancelled"})).await.created();
                if amount < left {
                    self.provisions.push((seller, provision, left - amount));
                }
            }
            3 => {
                if let Some(parent) = self.parents[place] {
                    let body =
                        json!({"to": reseller, "amount": self.dice.random_range(1..300), "note": "+pocket money"});
                    let sender = self.app.reseller(&self.resellers[parent]);
                    let sent =
                        sender.post(format!("/wallets/{}/transfers", self.resellers[parent]), body).fresh_key().await;
                    assert!(matches!(sent.status, 201 | 402), "{}", sent.body);
                }
            }
            _ => {
                let body = json!({"base_cost": self.dice.random_range(10..2_000), "description": "Pro, for \"one\""});
                let sold = self.app.application(&reseller).post(format!("/wallets/{reseller}/provisions"), body).await;
                assert!(matches!(sold.status, 201 | 402), "{}", sold.body);
                if sold.status == 201 {
                    let provision = sold.body["provision_id"].as_str().expect("an id").to_owned();
                    self.provisions.push((place, provision, sold.body["amount"].as_i64().expect("an amount")));
                }
            }
        }
    }
}

/// What an export has, as text.
async fn exported(person: &Person, path: &str) -> String {
    let reply = person.get(path).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    String::from_utf8(reply.text.to_vec()).expect("a text")
}

/// Every event of the log, as auditors read it.
async fn log(app: &TestApp) -> Vec<Value> {
    let lines = app.auditor().get("/audit/events").header("accept", "application/x-ndjson").await;
    objects(std::str::from_utf8(&lines.text).expect("a text"))
}

/// The rows of a table in CSV, each by the names of its columns.
fn rows(csv: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    reader.deserialize().collect::<Result<_, _>>().expect("a table")
}

/// The rows of a table as JSON lines.
fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> i64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}
