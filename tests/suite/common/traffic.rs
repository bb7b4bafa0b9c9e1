//! A small town of resellers, and clients who send it commands, each under a key, until they are answered.
//!
//! Every command carries a mark of its own into the log (a provision's description, a transfer's note, a refund's reason): its
//! idempotency key. So what a command has done can be found in the log without believing any answer; [`super::books`] does.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Method;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::app::{Call, Person, Reply, id_of};
use super::process::{Process, token};

const TOP_LEVEL: usize = 4;
const CHILDREN_OF_EACH: usize = 4;
/// More than anybody has.
const A_FORTUNE: u64 = 1 << 50;

/// Twenty wallets: four resellers, four children of each, a product to sell.
pub struct Town {
    pub store: PathBuf,
    pub wallets: Vec<Wallet>,
    admin: String,
}

/// A reseller's wallet.
pub struct Wallet {
    pub id: String,
    /// Its parent's place among the wallets.
    pub parent: Option<usize>,
    /// The token of its own application, which may name a cost.
    application: String,
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Deed {
    Provision { wallet: usize },
    Credit { wallet: usize },
    Transfer { from: usize, to: usize, amount: i64 },
    Refund { wallet: usize },
    Bulk { wallet: usize, items: Vec<Value> },
    Freeze { reseller: usize },
    Unfreeze { reseller: usize },
}

/// A command as it is sent, and sent again.
#[derive(Debug, Clone)]
pub struct Order {
    pub key: String,
    pub deed: Deed,
    /// The only answers that are true, where it was made to be refused.
    refused_with: Option<&'static [u16]>,
    token: String,
    path: String,
    body: Vec<u8>,
}

/// A command and its first answer.
#[derive(Debug)]
pub struct Told {
    pub order: Order,
    pub reply: Reply,
}

impl Order {
    /// The request, over somebody's connections.
    pub fn by(&self, person: &Person) -> Call {
        person.bearing(&self.token).call(Method::POST, &self.path, self.body.clone()).key(&self.key)
    }

    /// Whether this may be the ledger's word on it: a yes or a refusal by the rules.
    #[track_caller]
    pub fn assert_answered_by(&self, reply: &Reply) {
        let known = matches!(reply.status, 200 | 201 | 402 | 409 | 422 | 423);
        let meant = self.refused_with.is_none_or(|expected| expected.contains(&reply.status));
        assert!(known && meant, "{self:?} was answered {} {}", reply.status, reply.body);
        assert_ne!(reply.body["code"], "idempotency_key_reused", "{self:?}");
        assert_ne!(reply.body["code"], "invalid", "{self:?}: {}", reply.body);
    }
}

impl Told {
    /// Whether the ledger said yes.
    pub fn accepted(&self) -> bool {
        self.reply.status < 300
    }

    /// Asserts that an answer to the same command is the first one, given again.
    #[track_caller]
    pub fn assert_repeated_by(&self, again: &Reply) {
        let first = &self.reply;
        assert_eq!((again.status, &again.text), (first.status, &first.text), "another answer to {:?}", self.order);
        assert_eq!(again.position(), first.position(), "another position of {:?}", self.order);
        assert!(again.replayed(), "not marked as the first answer given again: {:?}", self.order);
    }
}

impl Town {
    /// Builds it on an empty store, through a node that serves it. The town has next to no money.
    pub async fn found(node: &Process, store: &Path) -> Self {
        let admin = token(store, &["--role", "super_admin"]).await;
        let operator = Person::at(node.address(), &admin);
        let product = json!({"sku": "seat", "name": "A seat", "base_cost": 10});
        operator.post("/products", product).await.created();
        let mut wallets: Vec<Wallet> = Vec::new();
        for number in 0..TOP_LEVEL * (1 + CHILDREN_OF_EACH) {
            let parent = (number >= TOP_LEVEL).then_some(number % TOP_LEVEL);
            let mut body = json!({"user_id": format!("user-{number}"), "company_name": format!("Company {number}")});
            match parent {
                Some(parent) => body["parent_id"] = json!(wallets[parent].id),
                // Cheaper for the upline than for its children: it earns commissions.
                None => body["tier"] = json!("platinum"),
            }
            let id = id_of(&operator.post("/resellers", body).await.created());
            let application = token(store, &["--role", "reseller", "--tenant", &id, "--declared-cost"]).await;
            wallets.push(Wallet { id, parent, application });
        }
        Self { store: store.to_owned(), wallets, admin }
    }

    /// The operator, at a node.
    pub fn operator(&self, address: SocketAddr) -> Person {
        Person::at(address, &self.admin)
    }

    fn order(&self, key: &str, wallet: usize, action: &str, body: &Value, deed: Deed) -> Order {
        let path = format!("/wallets/{}/{action}", self.wallets[wallet].id);
        let body = body.to_string().into_bytes();
        Order { key: key.to_owned(), deed, refused_with: None, token: self.admin.clone(), path, body }
    }

    /// Credits from a payment of its own.
    pub fn credit(&self, key: &str, wallet: usize, amount: i64) -> Order {
        self.credit_for(key, wallet, amount, &format!("payment {key}"))
    }

    fn credit_for(&self, key: &str, wallet: usize, amount: i64, reference: &str) -> Order {
        let body = json!({"amount": amount, "reference": reference, "note": key});
        self.order(key, wallet, "credits", &body, Deed::Credit { wallet })
    }

    /// A provision of the product, by the operator.
    pub fn sell(&self, key: &str, wallet: usize, quantity: u32) -> Order {
        let body = json!({"sku": "seat", "quantity": quantity, "description": key});
        self.order(key, wallet, "provisions", &body, Deed::Provision { wallet })
    }

    /// A provision at a cost, by the reseller's own application.
    pub fn spend(&self, key: &str, wallet: usize, cost: u64) -> Order {
        let body = json!({"cost": cost, "description": key});
        let order = self.order(key, wallet, "provisions", &body, Deed::Provision { wallet });
        Order { token: self.wallets[wallet].application.clone(), ..order }
    }

    /// Credits from a parent to its child.
    pub fn transfer(&self, key: &str, from: usize, to: usize, amount: i64) -> Order {
        let body = json!({"to": self.wallets[to].id, "amount": amount, "note": key});
        self.order(key, from, "transfers", &body, Deed::Transfer { from, to, amount })
    }

    pub fn refund(&self, key: &str, wallet: usize, provision: &str, amount: i64) -> Order {
        let body = json!({"amount": amount, "reason": key});
        self.order(key, wallet, &format!("provisions/{provision}/refunds"), &body, Deed::Refund { wallet })
    }

    pub fn bulk(&self, key: &str, wallet: usize, atomic: bool, items: Vec<Value>) -> Order {
        let body = json!({"atomic": atomic, "items": items});
        self.order(key, wallet, "provisions/bulk", &body, Deed::Bulk { wallet, items })
    }

    pub fn freeze(&self, key: &str, reseller: usize) -> Order {
        let path = format!("/resellers/{}/freeze", self.wallets[reseller].id);
        Order { path, ..self.order(key, reseller, "", &json!({"reason": key}), Deed::Freeze { reseller }) }
    }

    pub fn unfreeze(&self, key: &str, reseller: usize) -> Order {
        let path = format!("/resellers/{}/unfreeze", self.wallets[reseller].id);
        Order { path, ..self.order(key, reseller, "", &json!({"reason": key}), Deed::Unfreeze { reseller }) }
    }

    /// What every wallet must hold if all that was told is true, and nothing else happened.
    pub fn balances(&self, told: &[Arc<Told>]) -> Vec<i64> {
        let mut balances = vec![0; self.wallets.len()];
        let place: HashMap<&str, usize> =
            self.wallets.iter().zip(0..).map(|(each, at)| (each.id.as_str(), at)).collect();
        // By provision: what was paid, who earned what, how much of it was refunded.
        let mut provisions: HashMap<&str, (&Value, i64)> = HashMap::new();
        for told in told.iter().filter(|told| told.accepted()) {
            let body = &told.reply.body;
            let amount = body["amount"].as_i64().unwrap_or_default();
            match &told.order.deed {
                Deed::Credit { wallet } => balances[*wallet] += amount,
                Deed::Transfer { from, to, amount } => {
                    balances[*from] -= amount;
                    balances[*to] += amount;
                }
                Deed::Refund { wallet } => {
                    balances[*wallet] += amount;
                    let provision = body["provision_id"].as_str().expect("a provision");
                    let total = body["refunded_total"].as_i64().expect("a total");
                    let entry = provisions.entry(provision).or_insert((&Value::Null, 0));
                    entry.1 = entry.1.max(total);
                }
                Deed::Provision { wallet } | Deed::Bulk { wallet, .. } => {
                    for made in provisions_in(told) {
                        balances[*wallet] -= made["amount"].as_i64().expect("an amount");
                        let provision = made["provision_id"].as_str().expect("a provision");
                        provisions.entry(provision).or_insert((&Value::Null, 0)).0 = made;
                    }
                }
                Deed::Freeze { .. } | Deed::Unfreeze { .. } => {}
            }
        }
        for (made, refunded) in provisions.into_values() {
            let paid = made["amount"].as_i64().expect("a refund of a provision that was told");
            for earned in made["commissions"].as_array().into_iter().flatten() {
                let amount = earned["amount"].as_i64().expect("an amount");
                let reversed = amount * refunded / paid.max(1);
                balances[place[earned["reseller"].as_str().expect("who")]] += amount - reversed;
            }
        }
        balances
    }

    /// Every key under which an answer must be remembered.
    pub fn keys(told: &[Arc<Told>]) -> HashSet<&str> {
        let mut keys = HashSet::new();
        for told in told {
            keys.insert(told.order.key.as_str());
            if let (Deed::Bulk { items, .. }, true) = (&told.order.deed, told.accepted()) {
                keys.extend(items.iter().filter_map(|item| item["idempotency_key"].as_str()));
            }
        }
        keys
    }
}

/// The provisions that came of a command, those left out that came of an earlier one.
pub fn provisions_in(told: &Told) -> Vec<&Value> {
    let body = &told.reply.body;
    match &told.order.deed {
        Deed::Provision { .. } => vec![body],
        Deed::Bulk { .. } => {
            let items = body["items"].as_array().expect("items").iter();
            items.filter(|item| item["status"] == 201 && item["replayed"] != true).collect()
        }
        _ => Vec::new(),
    }
}

/// Somebody who thinks of one command after another.
pub struct Customer {
    pub name: String,
    pub town: Arc<Town>,
    dice: StdRng,
    thought_of: u64,
    /// Provisions of its own that may be refunded: wallet, provision, and what is left to refund.
    refundable: Vec<(usize, String, i64)>,
    /// Bulk items of its own that have been answered with a yes, to be sent again.
    items: Vec<(usize, Value)>,
    references: Vec<String>,
    frozen: Option<usize>,
}

impl Customer {
    pub fn new(name: String, town: Arc<Town>, dice: StdRng) -> Self {
        let (refundable, items, references) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, town, dice, thought_of: 0, refundable, items, references, frozen: None }
    }

    /// The customer's own luck.
    pub fn dice(&mut self) -> &mut StdRng {
        &mut self.dice
    }

    fn key(&mut self) -> String {
        self.thought_of += 1;
        format!("{}/{}", self.name, self.thought_of)
    }

    /// What it wants next. `in_peace` means: no freeze is left behind.
    pub fn next(&mut self, in_peace: bool) -> Option<Order> {
        let key = self.key();
        let town = Arc::clone(&self.town);
        if let Some(reseller) = self.frozen.take() {
            return Some(town.unfreeze(&key, reseller));
        }
        if in_peace {
            return None;
        }
        let wallet = self.dice.random_range(0..town.wallets.len());
        Some(match self.dice.random_range(0..100) {
            0..30 => town.sell(&key, wallet, self.dice.random_range(1..4)),
            30..40 => town.spend(&key, wallet, self.dice.random_range(1..60)),
            40..55 => town.credit(&key, wallet, self.dice.random_range(20..120)),
            55..58 => self.pay_twice(&key, wallet),
            58..68 => {
                let to = self.dice.random_range(TOP_LEVEL..town.wallets.len());
                let from = town.wallets[to].parent.expect("a child has a parent");
                town.transfer(&key, from, to, self.dice.random_range(1..40))
            }
            68..78 => self.refund(&key, wallet),
            78..88 => self.bulk(&key, wallet),
            88..96 => Order { refused_with: Some(&[402, 423]), ..town.spend(&key, wallet, A_FORTUNE) },
            _ => {
                // Mostly a child: a frozen parent takes its children with it, and little would be sold.
                let reseller = if self.dice.random_range(0..8) == 0 { wallet } else { wallet.max(TOP_LEVEL) };
                self.frozen = Some(reseller);
                town.freeze(&key, reseller)
            }
        })
    }

    /// A payment that has been credited already, under a key of its own: it must not be credited again.
    fn pay_twice(&mut self, key: &str, wallet: usize) -> Order {
        let town = &self.town;
        match self.references.pop() {
            Some(reference) => Order { refused_with: Some(&[409]), ..town.credit_for(key, wallet, 50, &reference) },
            None => town.credit(key, wallet, 50),
        }
    }

    /// A part of what was paid, and at times more than is left.
    fn refund(&mut self, key: &str, wallet: usize) -> Order {
        let Some((wallet, provision, left)) = self.refundable.pop() else { return self.town.credit(key, wallet, 10) };
        let amount = self.dice.random_range(1..left + 3);
        let order = self.town.refund(key, wallet, &provision, amount);
        if amount > left {
            return Order { refused_with: Some(&[422]), ..order };
        }
        if amount < left {
            self.refundable.push((wallet, provision, left - amount));
        }
        order
    }

    fn bulk(&mut self, key: &str, mut wallet: usize) -> Order {
        let mut items = Vec::new();
        // One of an earlier bulk, whose answer is known: it must not be provisioned again.
        if self.dice.random_range(0..4) == 0
            && let Some((earlier, item)) = self.items.pop()
        {
            wallet = earlier;
            items.push(item);
        }
        for number in 0..self.dice.random_range(2..7) {
            let mark = format!("{key}/{number}");
            items.push(match self.dice.random_range(0..20) {
                0 => json!({"cost": A_FORTUNE, "description": mark, "idempotency_key": mark}),
                1..10 => json!({"cost": 3, "description": mark, "idempotency_key": mark}),
                _ => json!({"sku": "seat", "description": mark, "idempotency_key": mark}),
            });
        }
        let atomic = self.dice.random_range(0..2) == 0;
        self.town.bulk(key, wallet, atomic, items)
    }

    /// Remembers what it was told, for later wishes.
    pub fn learn(&mut self, told: &Told) {
        if !told.accepted() {
            return;
        }
        match &told.order.deed {
            Deed::Provision { wallet } => {
                let made = &told.reply.body;
                let provision = made["provision_id"].as_str().expect("a provision").to_owned();
                self.refundable.push((*wallet, provision, made["amount"].as_i64().expect("an amount")));
            }
            Deed::Credit { .. } => self.references.push(format!("payment {}", told.order.key)),
            Deed::Bulk { wallet, items } => {
                let answers = told.reply.body["items"].as_array().expect("items");
                let made = items.iter().zip(answers).find(|(_, answer)| answer["status"] == 201);
                self.items.extend(made.map(|(item, _)| (*wallet, item.clone())));
            }
            _ => {}
        }
    }
}
