//! Lists, page by page: exactly what is in sight, nothing else, whoever's cursor is used.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::oracle::{Who, leaks};
use super::world::{MISSING, Place, World};
use crate::common::app::Person;

/// What is told only to whom it happened.
const OWN_AFFAIRS: [&str; 14] = [
    "settings_changed",
    "referral_code_issued",
    "referral_code_revoked",
    "upline_request_raised",
    "upline_request_forwarded",
    "upline_request_completed",
    "upline_request_rejected",
    "upline_request_cancelled",
    "upline_request_expired",
    "upline_request_failed",
    "client_details_changed",
    "client_forgotten",
    "policy_set",
    "product_repriced",
];
/// What is told to all below, too.
const CONCERNS_ALL_BELOW: [&str; 5] =
    ["subtree_frozen", "subtree_unfrozen", "product_published", "product_revised", "product_retired"];

/// One who walks through lists, and what it found wrong.
struct Walk<'w> {
    world: &'w World,
    name: &'static str,
    me: Place,
    person: Person,
    faults: Vec<String>,
}

/// What is wrong with the lists of a reseller.
pub async fn faults(world: &World, (name, me): (&'static str, Place)) -> Vec<String> {
    let person = world.app.reseller(&world.resellers[me].id);
    let mut walk = Walk { world, name, me, person, faults: Vec::new() };
    walk.resellers().await;
    walk.wallets().await;
    walk.own_affairs().await;
    walk.tree().await;
    walk.dashboard().await;
    walk.activity().await;
    walk.faults
}

/// All rows of a list, by pages of a few.
async fn rows(person: &Person, path: &str) -> Vec<Value> {
    let joint = if path.contains('?') { '&' } else { '?' };
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = person.get(format!("{path}{joint}limit=9{cursor}")).await.ok();
        rows.extend(page["data"].as_array().expect("rows").iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return rows };
        cursor = format!("&cursor={next}");
    }
}

fn column(rows: &[Value], name: &str) -> Vec<String> {
    rows.iter().map(|row| row[name].as_str().unwrap_or_else(|| panic!("{name} in {row}")).to_owned()).collect()
}

impl Walk<'_> {
    fn compare(&mut self, path: &str, found: Vec<String>, expected: impl IntoIterator<Item = String>) {
        let once: BTreeSet<String> = found.iter().cloned().collect();
        let expected: BTreeSet<String> = expected.into_iter().collect();
        if once != expected || once.len() != found.len() {
            let (more, less): (Vec<_>, Vec<_>) =
                (once.difference(&expected).collect(), expected.difference(&once).collect());
            let twice = found.len() - once.len();
            let name = self.name;
            self.faults.push(format!("{name}: {path}: too many {more:?}, missing {less:?}, {twice} more than once"));
        }
    }

    fn check_for_leaks(&mut self, path: &str, rows: &[Value]) {
        let text = Value::from(rows.to_vec()).to_string();
        let leaked = leaks(self.world, Who::Member(self.me), path, &text);
        if !leaked.is_empty() {
            self.faults.push(format!("{}: {path} tells {leaked:?}", self.name));
        }
    }

    /// A list whose rows are known by a column; with anybody's cursor it shows nothing else either.
    async fn list(&mut self, path: &str, name: &str, expected: Vec<String>) {
        let rows = rows(&self.person, path).await;
        self.check_for_leaks(path, &rows);
        let found = column(&rows, name);
        self.compare(path, found, expected.iter().cloned());
        let joint = if path.contains('?') { '&' } else { '?' };
        for limit in [1, 5] {
            let page = self.world.app.admin().get(format!("{path}{joint}limit={limit}")).await;
            let Some(cursor) = page.body["next_cursor"].as_str() else { continue };
            let reply = self.person.get(format!("{path}{joint}cursor={cursor}&limit=500")).await;
            let rows = reply.body["data"].as_array().cloned().unwrap_or_default();
            self.check_for_leaks(path, &rows);
            if reply.status != 200 || column(&rows, name).iter().any(|row| !expected.contains(row)) {
                self.faults.push(format!("{}: {path} by the operator's cursor: {}", self.name, reply.body));
            }
        }
    }

    fn in_sight(&self) -> Vec<String> {
        self.world.subtree(self.me).iter().map(|place| self.world.resellers[*place].id.clone()).collect()
    }

    async fn resellers(&mut self) {
        let in_sight = self.in_sight();
        self.list("/resellers", "id", in_sight.clone()).await;
        // What is looked for elsewhere by name is not found, and looks like what nobody is called.
        let nobody = self.person.get("/resellers?user_id=nobody").await;
        // Another share of the network for each who looks.
        for other in self.world.resellers.iter().skip(self.me % 3).step_by(3) {
            let is_seen = in_sight.contains(&other.id);
            for filter in [("user_id", &other.user), ("refid", &other.refid), ("q", &other.company)] {
                let path = format!("/resellers?{}={}", filter.0, filter.1);
                let reply = self.person.get(&path).await;
                let found = column(reply.body["data"].as_array().expect("rows"), "id");
                let is_found = is_seen && (filter.0 != "user_id" || other.is_claimed);
                let expected = is_found.then(|| other.id.clone());
                if !is_found && reply.text != nobody.text {
                    self.faults.push(format!("{}: {path} is {} and not {}", self.name, reply.body, nobody.body));
                }
                self.compare(&path, found, expected);
            }
        }
    }

    async fn wallets(&mut self) {
        let admin = self.world.app.admin();
        for place in self.world.subtree(self.me).into_iter().take(4) {
            let id = &self.world.resellers[place].id;
            let statement = format!("/wallets/{id}/transactions");
            let whole = column(&rows(&admin, &statement).await, "transaction_id");
            let mine = rows(&self.person, &statement).await;
            self.check_for_leaks(&statement, &mine);
            self.compare(&statement, column(&mine, "transaction_id"), whole);
            let made = self.world.provisions.iter().filter(|made| made.owner == place).map(|made| made.id.clone());
            self.list(&format!("/wallets/{id}/provisions"), "provision_id", made.collect()).await;
            // Whom a reseller serves is not for its upline: its clients find nothing, as if there were none.
            for client in self.world.clients.iter().filter(|client| client.owner == place && place != self.me) {
                let [found, missing] = [client.id.as_str(), MISSING].map(|client| {
                    let path = format!("{statement}?client_id={client}");
                    self.person.get(path)
                });
                let (found, missing) = (found.await, missing.await);
                if found.text != missing.text || found.body["data"] != Value::Array(Vec::new()) {
                    self.faults.push(format!("{}: {statement} by client: {}", self.name, found.body));
                }
            }
        }
    }

    async fn own_affairs(&mut self) {
        let (world, me) = (self.world, self.me);
        let own = |things: &[super::world::Thing]| -> Vec<String> {
            things.iter().filter(|thing| thing.owner == me).map(|thing| thing.id.clone()).collect()
        };
        self.list("/clients", "id", own(&world.clients)).await;
        self.list("/reseller-network/referrals", "code", own(&world.codes)).await;
        let requests = world.requests.iter();
        let raised = requests.clone().filter(|request| request.requester == me).map(|request| request.id.clone());
        let put = requests.filter(|request| request.put_to.last() == Some(&Some(me))).map(|request| request.id.clone());
        self.list("/reseller-network/upline/requests?direction=out", "id", raised.collect()).await;
        self.list("/reseller-network/upline/requests?direction=in", "id", put.collect()).await;
    }

    /// The tree in small pieces, each child's list taken up where it was left.
    async fn tree(&mut self) {
        const TREE: &str = "/reseller-network/downline/tree";
        let mut found = BTreeMap::new();
        let mut left = vec![format!("{TREE}?limit=4")];
        while let Some(path) = left.pop() {
            let tree = self.person.get(&path).await.ok();
            self.check_for_leaks(&path, std::slice::from_ref(&tree));
            let mut nodes = vec![&tree];
            while let Some(node) = nodes.pop() {
                let id = node["id"].as_str().expect("an id").to_owned();
                nodes.extend(node["children"].as_array().into_iter().flatten());
                if let Some(cursor) = node["children_cursor"].as_str() {
                    left.push(format!("{TREE}?limit=4&root={id}&cursor={cursor}"));
                }
                found.insert(id, node["downline_count"].clone());
            }
        }
        let in_sight = self.in_sight();
        self.compare(TREE, found.keys().cloned().collect(), in_sight);
        for place in self.world.subtree(self.me) {
            let downline = self.world.subtree(place).len() - 1;
            let id = &self.world.resellers[place].id;
            if found.get(id).and_then(Value::as_u64) != Some(downline as u64) {
                self.faults.push(format!("{}: {TREE}: {id} has {downline} below it: {found:?}", self.name));
            }
        }
    }

    async fn dashboard(&mut self) {
        let board = self.person.get("/reseller-network/dashboard").await.ok();
        let below: Vec<Place> = self.world.subtree(self.me).into_iter().filter(|place| *place != self.me).collect();
        let children = below.iter().filter(|place| self.world.resellers[**place].parent == Some(self.me)).count();
        let clients = self.world.clients.iter().filter(|client| client.owner == self.me).count();
        let pending = below.iter().filter(|place| self.world.resellers[**place].status == "pending").count();
        let counted = [
            (&board["network"]["children"], children),
            (&board["network"]["downline"], below.len()),
            (&board["network"]["pending"], pending),
            (&board["clients"]["total"], clients),
        ];
        if counted.iter().any(|(figure, count)| figure.as_u64() != Some(*count as u64)) {
            self.faults.push(format!("{}: the dashboard counts {counted:?}", self.name));
        }
    }

    /// The feed, against the operator's: what happened to those in sight, without others' own affairs; what concerns all below
    /// from those above; and what reaches nobody but itself.
    async fn activity(&mut self) {
        const FEED: &str = "/reseller-network/activity";
        let in_sight: BTreeSet<String> = self.in_sight().into_iter().collect();
        let me = &self.world.resellers[self.me].id;
        let above: Vec<&String> =
            self.world.line(self.me).iter().map(|place| &self.world.resellers[*place].id).collect();
        let whole = rows(&self.world.app.admin(), FEED).await;
        let joined = whole.iter().find(|entry| entry["kind"] == "reseller_registered" && entry["reseller_id"] == **me);
        let joined = joined.and_then(|entry| entry["position"].as_u64()).expect("it joined");
        let expected: Vec<String> = whole
            .iter()
            .filter(|entry| {
                let kind = entry["kind"].as_str().expect("a kind");
                let whose = entry["reseller_id"].as_str();
                let later = entry["position"].as_u64().expect("a position") > joined;
                let from_above = whose.is_none_or(|whose| above.iter().any(|above| *above == whose)) && later;
                if OWN_AFFAIRS.contains(&kind) {
                    whose == Some(me)
                } else {
                    whose.is_some_and(|whose| in_sight.contains(whose))
                        || (CONCERNS_ALL_BELOW.contains(&kind) && from_above)
                }
            })
            .map(|entry| entry["id"].as_str().expect("an id").to_owned())
            .collect();
        let mine = rows(&self.person, FEED).await;
        self.check_for_leaks(FEED, &mine);
        let (reached, happened): (Vec<Value>, Vec<Value>) =
            mine.into_iter().partition(|entry| entry["id"].as_str().is_some_and(|id| id.ends_with(":1")));
        self.compare(FEED, column(&happened, "id"), expected);
        for entry in reached.iter().chain(&happened).filter(|entry| !entry["reseller_id"].is_null()) {
            let whose = entry["reseller_id"].as_str().expect("an id");
            if !in_sight.contains(whose) {
                self.faults.push(format!("{}: {FEED} is about another: {entry}", self.name));
            }
        }
        // What it is asked is about who asks; what else reaches it is about itself.
        let is_asked = |entry: &Value| entry["kind"].as_str().is_some_and(|kind| kind.starts_with("upline_request"));
        if let Some(entry) = reached.iter().find(|entry| !is_asked(entry) && entry["reseller_id"] != **me) {
            self.faults.push(format!("{}: {FEED}: what reached another: {entry}", self.name));
        }
    }
}
