//! A small network with an eventful history, and what a naive reader of the raw log makes of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::common::app::{Person, TestApp, id_of};

/// A service, and the resellers in it, parents before their children.
pub struct World {
    pub app: TestApp,
    pub resellers: Vec<String>,
}

/// An event as `/audit/events` shows it.
#[derive(Debug, Clone)]
pub struct Raw {
    pub position: u64,
    pub recorded_at: String,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub event_type: String,
    pub event: Value,
}

/// A small generator of numbers: the same every time.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(end).unwrap()).unwrap()
    }
}

impl World {
    /// Some resellers, and so many random deeds, at different times.
    pub async fn with_deeds(deeds: usize) -> Self {
        let app = TestApp::start().await;
        let admin = app.admin();
        let mut resellers = vec![app.top_level("top", "platinum").await];
        let mut dice = Dice::new(7);
        for deed in 0..deeds {
            let who = resellers[dice.below(resellers.len())].clone();
            let wallet = format!("/wallets/{who}");
            app.advance(u32::try_from(1 + dice.below(4_000)).unwrap()).await;
            // What the rules refuse is refused: the history is whatever came of the rest.
            match dice.below(12) {
                0 if resellers.len() < 12 => {
                    let tier = ["standard", "gold"][dice.below(2)];
                    let name = format!("Company {deed}");
                    let body = json!({"user_id": format!("user-{deed}"), "company_name": name, "tier": tier, "parent_id": who});
                    let reply = admin.post("/resellers", body).await;
                    if reply.status == 201 {
                        resellers.push(id_of(&reply.body));
                    }
                }
                1 | 2 => app.fund(&who, 100 + i64::try_from(dice.below(5_000)).unwrap()).await,
                3 => deed_of(&admin, format!("{wallet}/credit-limit"), json!({"credit_limit": dice.below(900)})).await,
                4 => deed_of(&admin, format!("{wallet}/threshold"), json!({"threshold": dice.below(3_000)})).await,
                5 => deed_of(&admin, format!("{wallet}/hold"), json!({"held": dice.below(2) == 0})).await,
                6 => {
                    let frozen = ["freeze", "unfreeze"][dice.below(2)];
                    admin.post(format!("/resellers/{who}/{frozen}"), json!({})).await;
                }
                7 => {
                    let tier = ["gold", "standard", "platinum"][dice.below(3)];
                    deed_of(&admin, format!("/resellers/{who}/tier"), json!({"tier": tier})).await;
                }
                8 => {
                    admin.patch(format!("/resellers/{who}"), json!({"company_name": format!("Name {deed}")})).await;
                }
                9 => {
                    let body = json!({"amount": 1 + dice.below(300), "kind": "correction"});
                    admin.post(format!("{wallet}/credits/remove"), body).fresh_key().await;
                }
                _ => {
                    let body = json!({"base_cost": 1 + dice.below(400)});
                    admin.post(format!("{wallet}/provisions"), body).fresh_key().await;
                }
            }
        }
        Self { app, resellers }
    }

    /// The whole log.
    pub async fn log(&self) -> Vec<Raw> {
        let lines = self.app.auditor().get("/audit/events").header("accept", "application/x-ndjson").await;
        let text = String::from_utf8(lines.text.to_vec()).unwrap();
        text.lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).unwrap();
                let word = |name: &str| event[name].as_str().unwrap().to_owned();
                Raw {
                    position: event["position"].as_u64().unwrap(),
                    recorded_at: word("recorded_at"),
                    aggregate_type: word("aggregate_type"),
                    aggregate_id: word("aggregate_id"),
                    event_type: word("event_type"),
                    event: event["payload"][word("event_type")].clone(),
                }
            })
            .collect()
    }
}

async fn deed_of(person: &Person, path: String, body: Value) {
    person.put(path, body).await;
}

/// A wallet as a naive reader has it: whatever its events said last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NaiveWallet {
    pub balance: i64,
    pub limit: i64,
    pub threshold: i64,
    pub holds: std::collections::BTreeSet<String>,
    pub sequence: u64,
}

/// A reseller as a naive reader has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NaiveReseller {
    pub company_name: String,
    pub tier: String,
    pub status: String,
    pub parent: Option<String>,
    pub freezes: std::collections::BTreeSet<String>,
}

/// The whole network folded from the first event on, by names and amounts alone.
#[derive(Debug, Clone, Default)]
pub struct Naive {
    pub wallets: BTreeMap<String, NaiveWallet>,
    pub resellers: BTreeMap<String, NaiveReseller>,
}

impl Naive {
    /// Whether one stands in another's subtree, or is it.
    pub fn is_below(&self, one: &str, root: &str) -> bool {
        one == root
            || self
                .resellers
                .get(one)
                .and_then(|one| one.parent.as_deref())
                .is_some_and(|parent| self.is_below(parent, root))
    }

    pub fn of<'log>(events: impl Iterator<Item = &'log Raw>) -> Self {
        let mut naive = Self::default();
        for raw in events {
            naive.fold(raw);
        }
        naive
    }

    fn fold(&mut self, raw: &Raw) {
        let (event, id) = (&raw.event, raw.aggregate_id.clone());
        let number = |name: &str| event[name].as_i64().unwrap();
        let word = |name: &str| event[name].as_str().unwrap().to_owned();
        match raw.aggregate_type.as_str() {
            "Wallet" => {
                let wallet = self.wallets.entry(id).or_default();
                wallet.sequence += 1;
                match raw.event_type.as_str() {
                    "WalletOpened" => wallet.threshold = number("low_credit_threshold"),
                    "CreditsAdded" | "CommissionEarned" | "ProvisionRefunded" | "CreditsTransferredIn" => {
                        wallet.balance += number("amount");
                    }
                    "CreditsRemoved" | "CommissionReversed" | "CreditsTransferredOut" => {
                        wallet.balance -= number("amount")
                    }
                    "Provisioned" => wallet.balance -= event["provision"]["amount"].as_i64().unwrap(),
                    "LowCreditThresholdSet" => wallet.threshold = number("threshold"),
                    "CreditLimitSet" => wallet.limit = number("credit_limit"),
                    "ProvisioningHeld" => {
                        wallet.holds.insert(event["authority"].to_string());
                    }
                    "ProvisioningResumed" => {
                        wallet.holds.remove(&event["authority"].to_string());
                    }
                    "LowCredit" => {}
                    other => panic!("{other} is unknown to the naive reader"),
                }
            }
            "Reseller" => {
                let reseller = self.resellers.entry(id).or_default();
                match raw.event_type.as_str() {
                    "ResellerRegistered" => {
                        reseller.company_name = word("company_name");
                        reseller.tier = word("tier");
                        reseller.status = word("status");
                        reseller.parent = event["parent"].as_str().map(str::to_owned);
                    }
                    "ResellerRenamed" => reseller.company_name = word("company_name"),
                    "TierChanged" => reseller.tier = word("to"),
                    "SubtreeFrozen" => {
                        reseller.freezes.insert(event["authority"].to_string());
                    }
                    "SubtreeUnfrozen" => {
                        reseller.freezes.remove(&event["authority"].to_string());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Whether a reseller or one above it was frozen.
    pub fn is_frozen(&self, id: &str) -> bool {
        let mut next = Some(id);
        while let Some(at) = next {
            let reseller = &self.resellers[at];
            if !reseller.freezes.is_empty() {
                return true;
            }
            next = reseller.parent.as_deref();
        }
        false
    }

    /// Everybody below a reseller, and those directly below it.
    pub fn counts(&self, id: &str) -> (usize, usize) {
        let is_below = |other: &NaiveReseller| {
            let mut next = other.parent.as_deref();
            while let Some(at) = next {
                if at == id {
                    return true;
                }
                next = self.resellers[at].parent.as_deref();
            }
            false
        };
        let children = self.resellers.values().filter(|other| other.parent.as_deref() == Some(id)).count();
        (self.resellers.values().filter(|other| is_below(other)).count(), children)
    }
}
