//! Several nodes on one SQLite store: no leader, no partition of the wallets, and nobody can tell which node was asked.
//!
//! Two nodes are under load at once, on the same twenty wallets, which have little money: refusals compete with provisions, and
//! every one must rest on what the other node has just committed. Each customer sends some commands to one node and some, with
//! one key, to both. In the end the wallets hold what was issued less what was acknowledged, none is below its limit, both
//! nodes say the same, and `tallytree verify` has nothing to find.
//!
//! How long each node let its customers wait is printed. What it must not exceed is asserted only where speed means something:
//! `cargo test --release --test suite two_nodes_wait -- --ignored --nocapture`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::task::JoinSet;

use crate::common::app::{Person, Reply};
use crate::common::books::{self, Books};
use crate::common::process::Process;
use crate::common::traffic::{Order, Told, Town};

const CUSTOMERS_OF_EACH: usize = 16;
const CREDITS_OF_EACH: i64 = 300;
const LIMIT_OF_EACH: i64 = 40;
/// What neither node may let its customers wait longer, at the 99th percentile, in a release build.
const WAIT_MS_MAX: f64 = 200.0;

/// Two nodes on one store, and a town.
struct Pair {
    nodes: [Process; 2],
    town: Arc<Town>,
    /// The payments with which the town began.
    told: Vec<Arc<Told>>,
    _dir: tempfile::TempDir,
}

impl Pair {
    async fn start(credits: i64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = dir.path().join("store");
        let one = Process::serve(&store).await;
        let town = Arc::new(Town::found(&one, &store).await);
        let other = Process::serve(&store).await;
        let mut told = Vec::new();
        for (number, wallet) in town.wallets.iter().enumerate() {
            let operator = town.operator(one.address());
            let limit = json!({"credit_limit": LIMIT_OF_EACH});
            operator.put(format!("/wallets/{}/credit-limit", wallet.id), limit).await.ok();
            let order = town.credit(&format!("setup/{number}"), number, credits);
            let reply = order.by(&operator).await;
            told.push(Arc::new(Told { order, reply }));
        }
        Self { nodes: [one, other], town, told, _dir: dir }
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.nodes[0].address(), self.nodes[1].address()]
    }

    /// What both nodes say of a wallet once they have come so far.
    async fn balances(&self, wallet: &str, position: u64) -> [i64; 2] {
        let mut balances = [0; 2];
        for (balance, address) in balances.iter_mut().zip(self.addresses()) {
            let path = format!("/wallets/{wallet}?min_position={position}");
            let answer = self.town.operator(address).get(path).await.ok();
            *balance = answer["balance"].as_i64().expect("a balance");
        }
        balances
    }

    /// Stops both nodes in order.
    async fn stop(&mut self) {
        for node in &mut self.nodes {
            node.terminate().await;
            let status = node.ended(Duration::from_secs(12)).await;
            assert!(status.success(), "{status}:\n{}", node.log());
        }
    }
}

/// Somebody who asks at both nodes.
struct Client {
    name: String,
    town: Arc<Town>,
    people: [Person; 2],
    dice: StdRng,
    told: Vec<Arc<Told>>,
    waited_us: [Histogram<u64>; 2],
}

impl Client {
    fn new(name: String, pair: &Pair) -> Self {
        let people = pair.addresses().map(|address| pair.town.operator(address));
        let waited_us = [waits(), waits()];
        let (town, dice) = (Arc::clone(&pair.town), StdRng::from_os_rng());
        Self { name, town, people, dice, told: Vec::new(), waited_us }
    }

    fn order(&mut self, number: usize) -> Order {
        let key = format!("{}/{number}", self.name);
        let wallet = self.dice.random_range(0..self.town.wallets.len());
        match self.dice.random_range(0..100) {
            0..45 => self.town.spend(&key, wallet, self.dice.random_range(1..30)),
            45..75 => self.town.sell(&key, wallet, self.dice.random_range(1..3)),
            75..90 => {
                let child = self.dice.random_range(4..self.town.wallets.len());
                let parent = self.town.wallets[child].parent.expect("a child has a parent");
                self.town.transfer(&key, parent, child, self.dice.random_range(1..20))
            }
            _ => {
                let items = (0..3).map(|item| {
                    let mark = format!("{key}/{item}");
                    json!({"cost": 4, "description": mark, "idempotency_key": mark})
                });
                self.town.bulk(&key, wallet, true, items.collect())
            }
        }
    }

    async fn ask(&mut self, node: usize, order: &Order) -> Reply {
        let began = Instant::now();
        let reply = order.by(&self.people[node]).await;
        let waited = u64::try_from(began.elapsed().as_micros()).expect("no ages");
        self.waited_us[node].record(waited).expect("room for any wait");
        order.assert_answered_by(&reply);
        reply
    }

    /// Sends a command to one node.
    async fn ask_one(&mut self, node: usize, number: usize) {
        let order = self.order(number);
        let reply = self.ask(node, &order).await;
        assert!(!reply.replayed(), "{order:?} was new");
        self.told.push(Arc::new(Told { order, reply }));
    }

    /// Sends a command with one key to both nodes at once, and then once more to each.
    async fn ask_both(&mut self, number: usize) {
        let order = self.order(number);
        let (here, there) = tokio::join!(order.by(&self.people[0]), order.by(&self.people[1]));
        let (first, second) = if here.replayed() { (there, here) } else { (here, there) };
        order.assert_answered_by(&first);
        assert!(!first.replayed(), "both nodes say that the other was first: {order:?}");
        let told = Told { order, reply: first };
        told.assert_repeated_by(&second);
        for node in 0..2 {
            told.assert_repeated_by(&self.ask(node, &told.order).await);
        }
        self.told.push(Arc::new(told));
    }
}

/// Puts the load on: half of the customers ask at one node, half at the other. Every so many commands each of them asks at
/// both; never, if 0.
async fn load(pair: &Pair, name: &str, commands: usize, both_every: usize) -> (Vec<Arc<Told>>, [Histogram<u64>; 2]) {
    let mut customers = JoinSet::new();
    for number in 0..2 * CUSTOMERS_OF_EACH {
        let mut client = Client::new(format!("{name}/{number}"), pair);
        customers.spawn(async move {
            for command in 1..=commands {
                if both_every > 0 && command % both_every == 0 {
                    client.ask_both(command).await;
                } else {
                    client.ask_one(number % 2, command).await;
                }
            }
            client
        });
    }
    let mut told = Vec::new();
    let mut waited_us = [waits(), waits()];
    while let Some(client) = customers.join_next().await {
        let client = client.expect("a customer who is content");
        told.extend(client.told);
        for (all, own) in waited_us.iter_mut().zip(&client.waited_us) {
            all.add(own).expect("histograms of one shape");
        }
    }
    (told, waited_us)
}

/// Waits in microseconds, however long.
fn waits() -> Histogram<u64> {
    Histogram::new(3).expect("a histogram")
}

fn milliseconds(waited_us: &Histogram<u64>, quantile: f64) -> f64 {
    let micros = u32::try_from(waited_us.value_at_quantile(quantile)).expect("no ages");
    f64::from(micros) / 1e3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_one_store_lose_and_double_nothing() {
    let mut pair = Pair::start(CREDITS_OF_EACH).await;
    let (mut told, waited_us) = load(&pair, "rush", 40, 5).await;
    told.extend(pair.told.clone());

    let last = told.iter().map(|told| told.reply.position()).max().unwrap_or(0);
    for (wallet, expected) in pair.town.wallets.iter().zip(pair.town.balances(&told)) {
        assert_eq!(pair.balances(&wallet.id, last).await, [expected; 2], "the balance of {}", wallet.id);
        assert!(expected >= -LIMIT_OF_EACH, "{expected} is below the limit");
    }
    let refused = told.iter().filter(|told| !told.accepted()).count();
    assert!(refused > 50, "only {refused} of {} were refused: nothing competed", told.len());
    let [one, other] = waited_us.each_ref().map(|waited_us| milliseconds(waited_us, 0.99));
    eprintln!("{} commands, {refused} refused; p99 {one:.1} ms and {other:.1} ms", told.len());

    pair.stop().await;
    let mut books = Books::default();
    books.read(&pair.town.store);
    books.assert_whole(&told, &pair.town);
    books::assert_sound(&pair.town.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_through_one_node_is_obeyed_by_the_very_next_command_through_the_other() {
    let pair = Arc::new(Pair::start(1_000_000).await);
    let noise = {
        let pair = Arc::clone(&pair);
        tokio::spawn(async move { load(&pair, "noise", 30, 0).await })
    };
    let people = pair.addresses().map(|address| pair.town.operator(address));
    let town = &pair.town;
    for round in 0..20 {
        let (here, there) = (round % 2, (round + 1) % 2);
        // The parent is frozen, its child is told.
        let child = 4 + round % 16;
        let parent = town.wallets[child].parent.expect("a child has a parent");
        let key = |what| format!("freeze/{round}/{what}");
        assert_eq!(town.freeze(&key("freeze"), parent).by(&people[here]).await.status, 200);
        town.spend(&key("frozen"), child, 1).by(&people[there]).await.problem(423, "reseller_frozen");
        assert_eq!(town.unfreeze(&key("unfreeze"), parent).by(&people[there]).await.status, 200);
        town.spend(&key("free"), child, 1).by(&people[here]).await.created();
    }
    noise.await.expect("the others are content");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_processes_that_start_at_once_on_a_new_store_all_come_up_and_one_sets_the_policy() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("store");
    let mut starting = JoinSet::new();
    for _ in 0..10 {
        let store = store.clone();
        starting.spawn(async move { Process::serve(&store).await });
    }
    let nodes: Vec<Process> = starting.join_all().await;
    let admin = crate::common::process::token(&store, &["--role", "super_admin"]).await;
    for (number, node) in nodes.iter().enumerate() {
        let operator = Person::at(node.address(), &admin);
        let body = json!({"user_id": format!("user-{number}"), "company_name": "Company"});
        operator.post("/resellers", body).await.created();
    }
    for node in nodes {
        node.kill().await;
    }
    let log = books::log(&store).await;
    let policies: Vec<u64> =
        log.iter().filter(|event| event.event_type == "PolicySet").map(|event| event.position).collect();
    assert_eq!(policies, [1]);
    books::assert_sound(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it alone, in a release build"]
async fn two_nodes_wait_for_each_other_no_longer_than_they_may() {
    let mut pair = Pair::start(1_000_000).await;
    load(&pair, "warm-up", 100, 0).await;
    let began = Instant::now();
    let (told, waited_us) = load(&pair, "measured", 2_000, 0).await;
    println!("{} commands in {:.1} s by two nodes", told.len(), began.elapsed().as_secs_f64());
    for (node, waited_us) in waited_us.iter().enumerate() {
        let ms = |quantile| milliseconds(waited_us, quantile);
        println!("node {node}: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms", ms(0.5), ms(0.99), ms(1.0));
    }
    for waited_us in &waited_us {
        assert!(milliseconds(waited_us, 0.99) <= WAIT_MS_MAX);
    }
    pair.stop().await;
    books::assert_sound(&pair.town.store).await;
}
