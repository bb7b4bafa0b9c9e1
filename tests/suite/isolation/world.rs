//! A random network made by real commands, and a plain book of who is who in it: written down as it was told, not read back.
//!
//! Every text that anybody writes carries a mark that stands nowhere else, and the book says who may ever read it. Ids are
//! written down likewise. So an answer that holds something its reader may not know gives itself away.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::common::app::{Person, Reply, TestApp, id_of};

/// An id that nothing has.
pub const MISSING: &str = "01900000-0000-7000-8000-000000000000";
pub const SKUS: [&str; 3] = ["seat", "desk", "room"];

/// A reseller, by its place in the book.
pub type Place = usize;

/// Who may know of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    Everybody,
    /// These resellers, and the operator's staff.
    These(BTreeSet<Place>),
    /// These resellers, the operator and the auditors: what is personal is not for finance.
    Personal(BTreeSet<Place>),
}

#[derive(Debug)]
pub struct Reseller {
    pub id: String,
    pub refid: String,
    pub user: String,
    pub company: String,
    pub parent: Option<Place>,
    pub status: &'static str,
    pub allow_withdraw: bool,
    /// Whether it passes on at once what it is asked in words.
    forwards: bool,
    /// Who laid a freeze on it itself; `Some(None)` is the platform.
    pub frozen_by: Option<Option<Place>>,
    /// Whether it may not provision for now.
    pub held: bool,
    /// Whether its user is known to be its: not while it waits for the approval of what its parent has registered.
    pub is_claimed: bool,
}

/// Something that is one reseller's.
#[derive(Debug)]
pub struct Thing {
    pub id: String,
    pub owner: Place,
}

#[derive(Debug)]
pub struct Transfer {
    pub id: String,
    pub from: Place,
    pub to: Place,
}

#[derive(Debug)]
pub struct Request {
    pub id: String,
    pub requester: Place,
    /// Everybody it was ever addressed to, the present one last; the platform is `None`.
    pub put_to: Vec<Option<Place>>,
    pub kind: &'static str,
}

/// The network.
pub struct World {
    pub app: TestApp,
    pub resellers: Vec<Reseller>,
    pub clients: Vec<Thing>,
    pub provisions: Vec<Thing>,
    pub transfers: Vec<Transfer>,
    pub requests: Vec<Request>,
    pub codes: Vec<Thing>,
    /// Everything that tells something: ids, marks, refids, codes.
    pub secrets: BTreeMap<String, Readers>,
    /// Where the log is once all of it has happened.
    pub head: u64,
    dice: StdRng,
    marks: u32,
}

/// The line that every network has, from a top-level reseller down.
pub const LINE: [Place; 6] = [0, 3, 4, 5, 6, 7];
/// Top-level resellers come first.
pub const TOP_LEVEL: usize = 3;

impl World {
    /// Builds one; the same seed makes the same one.
    pub async fn build(seed: u64) -> Self {
        let mut world = Self {
            app: TestApp::start().await,
            resellers: Vec::new(),
            clients: Vec::new(),
            provisions: Vec::new(),
            transfers: Vec::new(),
            requests: Vec::new(),
            codes: Vec::new(),
            secrets: BTreeMap::new(),
            head: 0,
            dice: StdRng::seed_from_u64(seed),
            marks: 0,
        };
        world.publish().await;
        world.populate().await;
        world.set_up().await;
        world.trade().await;
        world.ask().await;
        world.refer().await;
        world.shut_some_down().await;
        // Long enough for a request to be one that waits for too long, and not for it to expire.
        world.app.advance(4 * 86_400).await;
        world.learn_ids_from_the_log().await;
        world
    }

    /// A word that stands nowhere else, and who may read it.
    pub fn mark(&mut self, readers: Readers) -> String {
        self.marks += 1;
        let mark = format!("zq{:05}", self.marks);
        self.secrets.insert(mark.clone(), readers);
        mark
    }

    /// A reseller and all above it.
    pub fn line(&self, place: Place) -> BTreeSet<Place> {
        std::iter::successors(Some(place), |below| self.resellers[*below].parent).collect()
    }

    /// Whether one is another, or stands somewhere above it.
    pub fn sees(&self, viewer: Place, other: Place) -> bool {
        self.line(other).contains(&viewer)
    }

    pub fn subtree(&self, root: Place) -> Vec<Place> {
        (0..self.resellers.len()).filter(|place| self.sees(root, *place)).collect()
    }

    pub fn is_frozen(&self, place: Place) -> bool {
        self.line(place).iter().any(|above| self.resellers[*above].frozen_by.is_some())
    }

    pub fn is_active(&self, place: Place) -> bool {
        self.resellers[place].status == "active"
    }

    pub fn is_held(&self, place: Place) -> bool {
        self.resellers[place].held
    }

    /// Whether a request is one's to see: who raised it, and whom it was put to.
    pub fn sees_request(&self, viewer: Place, request: &Request) -> bool {
        viewer == request.requester || request.put_to.contains(&Some(viewer))
    }

    fn known_to_line(&self, place: Place) -> Readers {
        Readers::These(self.line(place))
    }

    fn known_to(place: Place) -> Readers {
        Readers::These(BTreeSet::from([place]))
    }

    /// Adds to who may know of something.
    fn tell(&mut self, secret: &str, readers: Readers) {
        match (self.secrets.get_mut(secret), readers) {
            (Some(Readers::These(known)), Readers::These(more)) => known.extend(more),
            (_, readers) => {
                self.secrets.insert(secret.to_owned(), readers);
            }
        }
    }

    fn one_in(&mut self, sides: u32) -> bool {
        self.dice.random_range(0..sides) == 0
    }

    fn staff(&self) -> Person {
        self.app.admin()
    }

    fn member(&self, place: Place) -> Person {
        self.app.reseller(&self.resellers[place].id)
    }

    async fn publish(&mut self) {
        for (sku, base_cost) in SKUS.into_iter().zip([1000, 250, 40]) {
            let name = self.mark(Readers::Everybody);
            let product = json!({"sku": sku, "name": name, "base_cost": base_cost, "minimum_margin_percent": "2"});
            self.staff().post("/products", product).await.created();
        }
    }

    /// A line of six, brothers beside it, two more trees, and whoever comes where the dice say; some by their parent.
    async fn populate(&mut self) {
        let many = self.dice.random_range(26..34);
        for place in 0..many {
            let parent = match place {
                0..TOP_LEVEL => None,
                3 => Some(0),
                4..8 => Some(place - 1),
                8 => Some(3),
                9 => Some(4),
                10 => Some(1),
                _ => Some(self.dice.random_range(0..place)),
            };
            let by_parent = parent.is_some() && place > 7 && self.one_in(4);
            self.register(parent, by_parent).await;
            if by_parent {
                let path = format!("/resellers/{}/approve", self.resellers[place].id);
                self.staff().post(path, json!({})).await.ok();
                self.resellers[place].status = "active";
            }
        }
    }

    async fn register(&mut self, parent: Option<Place>, by_parent: bool) {
        let place = self.resellers.len();
        let above = parent.map(|parent| self.line(parent)).unwrap_or_default();
        let line = Readers::These(above.into_iter().chain([place]).collect());
        let [user, company, remark] = [0; 3].map(|_| self.mark(line.clone()));
        let tier = ["standard", "gold", "platinum"][self.dice.random_range(0..3)];
        let mut body = json!({"user_id": user, "company_name": company, "metadata": {"remark": remark}});
        let registrar = match (parent, by_parent) {
            (Some(parent), true) => self.member(parent),
            (parent, _) => {
                body["tier"] = json!(tier);
                if let Some(parent) = parent {
                    body["parent_id"] = json!(self.resellers[parent].id);
                }
                self.staff()
            }
        };
        let answer = registrar.post("/resellers", body).await.created();
        self.enlist(&answer, parent, user, company, if by_parent { "pending" } else { "active" });
    }

    fn enlist(&mut self, answer: &Value, parent: Option<Place>, user: String, company: String, status: &'static str) {
        let place = self.resellers.len();
        assert_eq!(answer["status"], status);
        let id = id_of(answer);
        let refid = answer["refid"].as_str().expect("a refid").to_owned();
        let reseller = Reseller {
            id,
            refid,
            user,
            company,
            parent,
            status,
            allow_withdraw: false,
            forwards: false,
            frozen_by: None,
            held: false,
            is_claimed: true,
        };
        let (id, refid) = (reseller.id.clone(), reseller.refid.clone());
        self.resellers.push(reseller);
        for secret in [id, refid] {
            self.secrets.insert(secret, self.known_to_line(place));
        }
    }

    /// Money, settings, prices, clients.
    async fn set_up(&mut self) {
        for place in 0..self.resellers.len() {
            let id = self.resellers[place].id.clone();
            let note = self.mark(self.known_to_line(place));
            let mut body = json!({"amount": 100_000, "source": "bonus", "note": note});
            if self.one_in(2) {
                let reference = self.mark(self.known_to_line(place));
                body = json!({"amount": 100_000, "note": note, "reference": reference});
            }
            self.staff().post(format!("/wallets/{id}/credits"), body).fresh_key().await.created();
            let allow_withdraw = self.one_in(2);
            let mut settings = json!({"allow_withdraw": allow_withdraw, "low_credit_threshold": 700});
            if self.one_in(4) {
                settings["margin_percent"] = json!("5");
            }
            if self.one_in(3) {
                settings["auto_forward"] = json!({"generic": true});
            }
            let forwards = settings["auto_forward"]["generic"] == true;
            self.member(place).put("/reseller-network/settings", settings).await.ok();
            self.resellers[place].allow_withdraw = allow_withdraw;
            self.resellers[place].forwards = forwards;
            if self.resellers[place].parent.is_some() && self.one_in(2) {
                let sku = SKUS[self.dice.random_range(0..3)];
                let cost = [1990, 495, 79][SKUS.iter().position(|one| *one == sku).expect("one of them")];
                let parent = self.resellers[place].parent.expect("a parent");
                let path = format!("/resellers/{id}/prices/{sku}");
                let status = self.member(parent).put(path, json!({"cost": cost})).await.status;
                assert!(matches!(status, 200 | 422), "a price too low at the most");
            }
            let clients = if LINE.contains(&place) { 2 } else { self.dice.random_range(0..3) };
            for _ in 0..clients {
                self.onboard(place).await;
            }
        }
    }

    async fn onboard(&mut self, owner: Place) {
        let readers = Readers::Personal(BTreeSet::from([owner]));
        let [name, email, remark] = [0; 3].map(|_| self.mark(readers.clone()));
        let body = json!({"name": name, "email": email, "metadata": {"remark": remark}});
        let id = id_of(&self.member(owner).post("/clients", body).await.created());
        self.member(owner).post(format!("/clients/{id}/activate"), json!({})).await.ok();
        self.secrets.insert(id.clone(), Self::known_to(owner));
        self.clients.push(Thing { id, owner });
    }

    /// Provisions for clients, refunds, credits up and down.
    async fn trade(&mut self) {
        for place in 0..self.resellers.len() {
            let (id, member) = (self.resellers[place].id.clone(), self.member(place));
            let many = if LINE.contains(&place) { 2 } else { self.dice.random_range(0..3) };
            for _ in 0..many {
                let client = self.clients.iter().find(|client| client.owner == place).map(|client| client.id.clone());
                let [description, remark] = [0; 2].map(|_| self.mark(Self::known_to(place)));
                let sku = SKUS[self.dice.random_range(0..3)];
                let order = json!({"sku": sku, "client_id": client, "description": description, "metadata": {"remark": remark}});
                let made = member.post(format!("/wallets/{id}/provisions"), order).await.created();
                let provision = made["provision_id"].as_str().expect("a provision").to_owned();
                if self.one_in(3) {
                    let reason = self.mark(Self::known_to(place));
                    let path = format!("/wallets/{id}/provisions/{provision}/refunds");
                    self.staff().post(path, json!({"amount": 7, "reason": reason})).await.created();
                }
                self.provisions.push(Thing { id: provision, owner: place });
            }
            let Some(parent) = self.resellers[place].parent else { continue };
            if LINE.contains(&place) || self.one_in(2) {
                self.transfer(parent, parent, place).await;
            }
            if self.resellers[place].allow_withdraw && self.one_in(2) {
                self.transfer(parent, place, parent).await;
            }
        }
    }

    async fn transfer(&mut self, by: Place, from: Place, to: Place) {
        let readers = Readers::These(self.line(from).into_iter().chain(self.line(to)).collect());
        let note = self.mark(readers);
        let body = json!({"to": self.resellers[to].id, "amount": 900, "note": note});
        let path = format!("/wallets/{}/transfers", self.resellers[from].id);
        let made = self.member(by).post(path, body).fresh_key().await.created();
        let id = made["transfer_id"].as_str().expect("a transfer").to_owned();
        self.transfers.push(Transfer { id, from, to });
    }

    /// Upline requests of every kind, some passed on, some answered.
    async fn ask(&mut self) {
        let mut askers: Vec<Place> = LINE.to_vec();
        askers.extend((0..self.resellers.len()).filter(|place| !LINE.contains(place)));
        for (number, place) in askers.into_iter().enumerate() {
            for turn in 0..2 {
                let kind = ["generic", "credit_topup", "price_change", "tier_upgrade", "referral_code"];
                let kind = kind[(2 * number + turn + self.dice.random_range(0..2)) % 5];
                if number < LINE.len() || self.one_in(3) {
                    self.raise(place, kind).await;
                }
            }
        }
        for at in 0..self.requests.len() {
            match self.dice.random_range(0..6) {
                0 => self.forward(at).await,
                1 => {
                    self.answer(at, "approve", "note").await;
                }
                2 => {
                    self.answer(at, "reject", "reason").await;
                }
                3 => {
                    let path = format!("/reseller-network/upline/request/{}/cancel", self.requests[at].id);
                    self.member(self.requests[at].requester).post(path, json!({})).await.ok();
                }
                _ => {}
            }
        }
    }

    async fn raise(&mut self, requester: Place, kind: &'static str) {
        let parent = self.resellers[requester].parent;
        let mut put_to = vec![parent];
        if kind == "generic" {
            // Passed on by who has set it so.
            while let Some(Some(last)) = put_to.last().copied().filter(|last| last.is_some_and(|at| self.forwards(at)))
            {
                put_to.push(self.resellers[last].parent);
            }
        } else if matches!(kind, "tier_upgrade" | "referral_code") && parent.is_some() {
            put_to.push(None);
        }
        let readers = Readers::These(put_to.iter().flatten().copied().chain([requester]).collect());
        let marks = [0; 2].map(|_| self.mark(readers.clone()));
        let payload = match kind {
            "generic" => json!({"subject": marks[0], "body": marks[1]}),
            "credit_topup" => json!({"amount": 11}),
            "price_change" => json!({"sku": "desk", "cost": 499}),
            "tier_upgrade" => json!({"tier": "platinum"}),
            _ => json!({"tag": "fair"}),
        };
        let body = json!({"kind": kind, "payload": payload});
        let reply = self.member(requester).post("/reseller-network/upline/request", body).await;
        if kind == "tier_upgrade" && reply.status == 422 {
            return;
        }
        let id = id_of(&reply.expect_status(202));
        self.secrets.insert(id.clone(), readers);
        self.requests.push(Request { id, requester, put_to, kind });
    }

    async fn forward(&mut self, at: usize) {
        let Request { put_to, kind, .. } = &self.requests[at];
        let Some(Some(addressee)) = put_to.last().copied() else { return };
        if *kind == "price_change" {
            return;
        }
        let path = format!("/reseller-network/upline/request/{}/forward", self.requests[at].id);
        self.member(addressee).post(path, json!({})).await.ok();
        let mut next = self.resellers[addressee].parent;
        loop {
            self.requests[at].put_to.push(next);
            match next {
                Some(place) if self.requests[at].kind == "generic" && self.forwards(place) => {
                    next = self.resellers[place].parent;
                }
                _ => break,
            }
        }
        let Request { id, requester, put_to, .. } = &self.requests[at];
        let readers: BTreeSet<Place> = put_to.iter().flatten().copied().chain([*requester]).collect();
        // What was asked is for whoever is asked.
        let asked = self.staff().get(format!("/reseller-network/upline/request/{id}")).await.ok();
        let mut told = vec![id.clone()];
        told.extend(["subject", "body"].iter().filter_map(|name| asked["payload"][name].as_str().map(str::to_owned)));
        for secret in told {
            self.tell(&secret, Readers::These(readers.clone()));
        }
    }

    /// Answers a request as who it is addressed to, with a remark.
    async fn answer(&mut self, at: usize, action: &str, remark: &str) -> Reply {
        let Request { id, requester, put_to, kind } = &self.requests[at];
        let path = format!("/reseller-network/upline/request/{id}/{action}");
        let answerer = match put_to.last().copied().flatten() {
            None => self.staff(),
            Some(place) => self.member(place),
        };
        let readers = match (action, *kind) {
            // The note of a transfer or a purchase, which stands in wallets.
            ("approve", "credit_topup") => self.line(*requester),
            ("reject", _) | (_, "generic") => put_to.iter().flatten().copied().chain([*requester]).collect(),
            _ => BTreeSet::new(),
        };
        let mark = self.mark(Readers::These(readers));
        let reply = answerer.post(path, json!({remark: mark})).await;
        assert!(matches!(reply.status, 200 | 402 | 409 | 422), "{action}: {} {}", reply.status, reply.body);
        reply
    }

    fn forwards(&self, place: Place) -> bool {
        self.resellers[place].forwards
    }

    /// Codes, one of which brings somebody who waits for approval; another waits whom its parent has registered.
    async fn refer(&mut self) {
        for owner in [4, 7, 1] {
            self.raise(owner, "referral_code").await;
            let at = self.requests.len() - 1;
            let answer = self.answer(at, "approve", "note").await.ok();
            assert_eq!(answer["status"], "completed");
        }
        for at in 0..self.requests.len() {
            let Request { id, requester, kind, .. } = &self.requests[at];
            let requester = *requester;
            if *kind != "referral_code" {
                continue;
            }
            let record = self.staff().get(format!("/reseller-network/upline/request/{id}")).await.ok();
            if let Some(code) = record["result"]["referral_code"].as_str() {
                self.secrets.insert(code.to_owned(), Self::known_to(requester));
                self.codes.push(Thing { id: code.to_owned(), owner: requester });
            }
        }
        let code = self.codes.iter().find(|code| code.owner == 4).expect("a code of the middle").id.clone();
        let place = self.resellers.len();
        let line = Readers::These(self.line(4).into_iter().chain([place]).collect());
        let [user, company] = [0; 2].map(|_| self.mark(line.clone()));
        let body = json!({"user_id": user, "company_name": company, "referral_code": code});
        let answer = self.staff().post("/resellers", body).await.created();
        self.enlist(&answer, Some(4), user, company, "pending");
        self.register(Some(5), true).await;
        self.resellers[place + 1].is_claimed = false;
    }

    /// Freezes, holds, and one that goes out of business.
    async fn shut_some_down(&mut self) {
        let below = self.resellers.len();
        for _ in 0..2 {
            self.register(Some(9), false).await;
            self.register(Some(2), false).await;
        }
        // By an ancestor that is not the parent, with a reason that is its own and its upline's.
        let by_upline = self.resellers[below].id.clone();
        let reason = self.mark(self.known_to_line(3));
        self.member(3).post(format!("/resellers/{by_upline}/freeze"), json!({"reason": reason})).await.ok();
        self.resellers[below].frozen_by = Some(Some(3));
        let reason = self.mark(Readers::These(BTreeSet::new()));
        let by_platform = self.resellers[2].id.clone();
        self.staff().post(format!("/resellers/{by_platform}/freeze"), json!({"reason": reason})).await.ok();
        self.resellers[2].frozen_by = Some(None);
        let reason = self.mark(self.known_to_line(4));
        let held = self.resellers[6].id.clone();
        self.member(4).put(format!("/wallets/{held}/hold"), json!({"held": true, "reason": reason})).await.ok();
        self.resellers[6].held = true;
        let reason = self.mark(Readers::These(BTreeSet::new()));
        let gone = self.resellers[below + 2].id.clone();
        self.staff().post(format!("/resellers/{gone}/deactivate"), json!({"reason": reason})).await.ok();
        self.resellers[below + 2].status = "deactivated";
    }

    /// What has no answer of its own, or not to whoever asked: ids of commissions, refunds, entries. Whoever sees a wallet, or a
    /// reseller, may know the ids of what happened to it.
    async fn learn_ids_from_the_log(&mut self) {
        let mut cursor = String::new();
        loop {
            let page = self.staff().get(format!("/audit/events?limit=500{cursor}")).await.ok();
            for event in page["data"].as_array().expect("events") {
                self.head = event["position"].as_u64().expect("a position");
                self.learn_ids_of(event);
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
    }

    fn learn_ids_of(&mut self, event: &Value) {
        let about = event["aggregate_id"].as_str().expect("an id");
        let Some(place) = self.resellers.iter().position(|one| one.id == about) else { return };
        let payload = match &event["payload"] {
            Value::String(text) => serde_json::from_str(text).expect("a payload"),
            payload => payload.clone(),
        };
        let mut ids = vec![event["metadata"]["command_id"].clone()];
        collect(&payload, &["provision_id", "transfer_id", "refund_id", "transaction_id"], &mut ids);
        for id in ids.iter().filter_map(Value::as_str) {
            self.tell(id, self.known_to_line(place));
        }
    }

    /// One of a list, by the dice.
    pub fn pick<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        among.choose(&mut self.dice).copied()
    }
}

/// The members of these names, wherever they stand.
fn collect(value: &Value, names: &[&str], found: &mut Vec<Value>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if names.contains(&name.as_str()) {
                    found.push(member.clone());
                }
                collect(member, names, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names, found)),
        _ => {}
    }
}
