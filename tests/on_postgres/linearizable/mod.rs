//! Three nodes on one database, killed and started again at random, and nobody can tell from the answers that there is more
//! than one, or that any of them ever died.
//!
//! Sixty-four clients ask at whichever node they like: credits, charge-backs, provisions, transfers, limits, freezes, on twenty
//! wallets with little money. Who gets no answer asks again with the same key, at another node perhaps, until it has one; now
//! and then somebody gives up, and what it asked for may have happened or not. Every asking and every answer is recorded with
//! its time. In the end everybody is looked at, and the whole must be linearizable ([`checker`]) by a model of the rules
//! ([`model`]). Then the log is read: what was acknowledged is in it once, what was refused is not, what was given up is at most
//! once, and no provision or transfer left a wallet below its limit.
//!
//! `TALLYTREE_TEST_SECONDS=600` makes it ten minutes; a plain run takes some twenty seconds.

mod checker;
mod model;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use aggregates::event::Event;
use aggregates::reseller::ResellerEvent;
use aggregates::wallet::{Wallet, WalletEvent};
use hyper::Method;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tallytree::store::EventStore;
use tallytree::store::postgres::PostgresStore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::common::app::{Person, Place as Store, Reply};
use crate::common::log::assert_unbroken;
use crate::common::process::{self, Process};
use crate::common::traffic::Town;
use checker::{Impossible, NOWHERE, Operation};
use model::{Answer, Deed, FAMILY};

const NODES: usize = 3;
const CLIENTS: usize = 64;
const FAMILIES: usize = 4;
/// How long a client may go without an answer, whatever dies.
const PATIENCE: Duration = Duration::from_secs(120);

/// For how long: `TALLYTREE_TEST_SECONDS`.
fn duration() -> Duration {
    let asked = std::env::var("TALLYTREE_TEST_SECONDS").ok();
    Duration::from_secs(asked.map_or(20, |text| text.parse().expect("TALLYTREE_TEST_SECONDS must be a number")))
}

/// What everybody shares.
struct World {
    town: Town,
    /// Where each node listens; nowhere while it is dead.
    nodes: [RwLock<Option<SocketAddr>>; NODES],
    began: Instant,
    over: AtomicBool,
    kills: AtomicU64,
    lost: AtomicU64,
    replayed: AtomicU64,
}

/// What a client has asked for, with the key it used.
struct Record {
    family: usize,
    key: String,
    operation: Operation,
    /// The answer's position.
    position: Option<u64>,
}

impl World {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("no ages")
    }

    /// The wallet of a place in a family: parents come first in town, then the children in turns.
    fn wallet(&self, family: usize, place: usize) -> &str {
        &self.town.wallets[family + FAMILIES * place].id
    }

    fn request(&self, family: usize, deed: Deed, key: &str) -> (Method, String, Value) {
        let path = |place: usize, action: &str| format!("/wallets/{}{action}", self.wallet(family, place));
        let reseller = |place: usize, action: &str| format!("/resellers/{}/{action}", self.wallet(family, place));
        match deed {
            Deed::Add { to, amount } => {
                (Method::POST, path(to, "/credits"), json!({"amount": amount, "source": "bonus", "note": key}))
            }
            Deed::ChargeBack { from, amount } => {
                let body = json!({"amount": amount, "kind": "chargeback", "reason": key});
                (Method::POST, path(from, "/credits/remove"), body)
            }
            Deed::Spend { from, cost } => {
                (Method::POST, path(from, "/provisions"), json!({"cost": cost, "description": key}))
            }
            Deed::Transfer { to, amount } => {
                let body = json!({"to": self.wallet(family, to), "amount": amount, "note": key});
                (Method::POST, path(0, "/transfers"), body)
            }
            Deed::Limit { of, limit } => (Method::PUT, path(of, "/credit-limit"), json!({"credit_limit": limit})),
            Deed::Freeze { of } => (Method::POST, reseller(of, "freeze"), json!({"reason": key})),
            Deed::Unfreeze { of } => (Method::POST, reseller(of, "unfreeze"), json!({"reason": key})),
            Deed::Look { at } => (Method::GET, path(at, ""), Value::Null),
        }
    }
}

/// What an answer says, in the model's words.
fn answer_of(deed: Deed, reply: &Reply) -> Answer {
    let number = |name: &str| reply.body[name].as_i64().unwrap_or_else(|| panic!("no {name} in {}", reply.body));
    match (reply.status, reply.body["code"].as_str()) {
        (200, _) if matches!(deed, Deed::Freeze { .. } | Deed::Unfreeze { .. }) => Answer::Yes,
        (200 | 201, _) => Answer::Holds { balance: number("balance"), available: number("available") },
        (402, Some("insufficient_credits")) => {
            Answer::Insufficient { required: number("required"), available: number("available") }
        }
        (423, Some("reseller_frozen")) => Answer::Frozen,
        (409, _) if matches!(deed, Deed::Unfreeze { .. }) => Answer::NotFrozen,
        _ => panic!("{deed:?} was answered {} {}", reply.status, reply.body),
    }
}

/// Somebody who asks for one thing after another.
struct Client {
    number: usize,
    world: Arc<World>,
    dice: StdRng,
    people: [Option<(SocketAddr, Person)>; NODES],
    records: Vec<Record>,
}

impl Client {
    fn wish(&mut self) -> Deed {
        let place = self.dice.random_range(0..FAMILY);
        let child = self.dice.random_range(1..FAMILY);
        match self.dice.random_range(0..100) {
            0..24 => Deed::Add { to: place, amount: self.dice.random_range(1..400) },
            24..30 => Deed::ChargeBack { from: place, amount: self.dice.random_range(1..100) },
            30..72 => Deed::Spend { from: place, cost: self.dice.random_range(1..300) },
            72..88 => Deed::Transfer { to: child, amount: self.dice.random_range(1..200) },
            88..93 => Deed::Limit { of: place, limit: self.dice.random_range(0..200) },
            93..94 => Deed::Freeze { of: if self.dice.random_range(0..4) == 0 { 0 } else { child } },
            // Who is frozen does not stay so for long.
            _ => Deed::Unfreeze { of: place },
        }
    }

    /// Whom it asks now; none while nobody is there.
    fn person(&mut self) -> Option<Person> {
        let node = self.dice.random_range(0..NODES);
        let address = (*self.world.nodes[node].read().expect("nobody panicked"))?;
        let known = self.people[node].as_ref().filter(|(known, _)| *known == address);
        let person = known.map_or_else(|| self.world.town.operator(address), |(_, person)| person.clone());
        self.people[node] = Some((address, person.clone()));
        Some(person)
    }

    async fn work(mut self) -> Vec<Record> {
        while !self.world.over.load(Ordering::Relaxed) {
            let (family, deed) = (self.dice.random_range(0..FAMILIES), self.wish());
            self.ask(family, deed).await;
        }
        self.records
    }

    async fn ask(&mut self, family: usize, deed: Deed) {
        let world = Arc::clone(&self.world);
        let key = format!("{}/{}", self.number, self.records.len());
        let (method, path, body) = world.request(family, deed, &key);
        let (asked_at, began) = (world.now(), Instant::now());
        let mut sent = 0;
        let mut lost = false;
        let answered = loop {
            assert!(began.elapsed() < PATIENCE, "no answer to {deed:?} of {key}");
            let Some(person) = self.person() else {
                sleep(Duration::from_millis(5)).await;
                continue;
            };
            sent += 1;
            match person.call(method.clone(), path.clone(), body.to_string()).key(&key).heard().await {
                Ok(reply) if reply.status == 503 => {
                    lost |= reply.body["code"] == "outcome_unknown";
                    sleep(Duration::from_millis(10)).await;
                }
                Ok(reply) => {
                    assert!(sent > 1 || !reply.replayed(), "the first sending of {key} was taken for another");
                    world.replayed.fetch_add(u64::from(reply.replayed()), Ordering::Relaxed);
                    break Some(reply);
                }
                Err(_) => {
                    world.lost.fetch_add(1, Ordering::Relaxed);
                    lost = true;
                    sleep(Duration::from_millis(10)).await;
                }
            }
            if lost && self.dice.random_range(0..24) == 0 {
                break None;
            }
        };
        let at = world.now();
        let position = answered.as_ref().map(Reply::position);
        // An asker that has given up is somebody else from then on, for whom it may still happen.
        let operation = Operation {
            asker: self.number,
            deed,
            asked_at,
            answered: answered.map(|reply| (at, answer_of(deed, &reply))),
            hint: u64::MAX,
        };
        self.records.push(Record { family, key, operation, position });
    }
}

/// Lets a node live, kills it, and starts another one in its place, until it is over; the last one is left alive.
async fn mortal(world: Arc<World>, node: usize, store: PathBuf, mut process: Process, mut dice: StdRng) -> Process {
    loop {
        let life = Instant::now() + Duration::from_millis(dice.random_range(300..4_000));
        while Instant::now() < life {
            if world.over.load(Ordering::Relaxed) {
                return process;
            }
            sleep(Duration::from_millis(20)).await;
        }
        // It dies with its clients' requests in hand; they learn of the next one when it is there.
        process.kill().await;
        *world.nodes[node].write().expect("nobody panicked") = None;
        world.kills.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(dice.random_range(0..500))).await;
        process = Process::serve(&store).await;
        *world.nodes[node].write().expect("nobody panicked") = Some(process.address());
    }
}

/// Puts on the load; everything that anybody asked for, the last looks included.
async fn history(world: &Arc<World>, store: &Path, seed: u64) -> Vec<Record> {
    let mut mortals = JoinSet::new();
    for node in 0..NODES {
        let process = Process::serve(store).await;
        *world.nodes[node].write().expect("nobody panicked") = Some(process.address());
        let dice = StdRng::seed_from_u64(seed.wrapping_add(1_000 + node as u64));
        mortals.spawn(mortal(Arc::clone(world), node, store.to_owned(), process, dice));
    }
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let dice = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
        let client =
            Client { number, world: Arc::clone(world), dice, people: [const { None }; NODES], records: Vec::new() };
        clients.spawn(client.work());
    }
    sleep(duration()).await;
    world.over.store(true, Ordering::Relaxed);
    let mut records: Vec<Record> = Vec::new();
    while let Some(of_one) = clients.join_next().await {
        records.extend(of_one.expect("a client who is content"));
    }
    let nodes: Vec<Process> = mortals.join_all().await;
    // Where nobody asks any more everybody is looked at, as of a position that has seen it all.
    let last = records.iter().filter_map(|record| record.position).max().unwrap_or_default();
    let head = process::run(store, &["head"]).await;
    let head = String::from_utf8(head.stdout).expect("a text");
    let head: u64 = head.split(':').next().and_then(|position| position.trim().parse().ok()).expect("a position");
    assert!(head >= last, "the log ends at {head}, and {last} was told");
    let person = world.town.operator(nodes[0].address());
    for family in 0..FAMILIES {
        for at in 0..FAMILY {
            let asked_at = world.now();
            let path = format!("/wallets/{}?min_position={head}", world.wallet(family, at));
            let reply = person.get(path).await;
            let deed = Deed::Look { at };
            let answered = Some((world.now(), answer_of(deed, &reply)));
            let operation = Operation { asker: CLIENTS, deed, asked_at, answered, hint: NOWHERE };
            records.push(Record { family, key: "look".to_owned(), operation, position: None });
        }
    }
    for mut node in nodes {
        node.terminate().await;
        let status = node.ended(Duration::from_secs(12)).await;
        assert!(status.success(), "{status}:\n{}", node.log());
    }
    records
}

/// What the log says was done.
#[derive(Default)]
struct Done {
    /// By the mark that a command leaves: how often, and where last.
    by_mark: HashMap<String, (usize, u64)>,
    /// Limits that were set leave no mark: by wallet and limit, where.
    limits: HashMap<(String, i64), Vec<u64>>,
}

/// Reads the log: it is whole, and no provision or transfer left a wallet with less than it may have.
async fn read_log(store: &str) -> Done {
    let mut store = PostgresStore::open(store.parse().expect("an address")).await.expect("the store");
    let log = store.read(0, usize::MAX).await.expect("the log");
    assert_unbroken(&log);
    let mut done = Done::default();
    let mut wallets: HashMap<&str, Wallet> = HashMap::new();
    for event in &log {
        let known = Event::decode(&event.aggregate_type, &event.event_type, &event.event_version, &event.payload);
        let known = known.expect("an event");
        let mark = match &known {
            Event::Wallet(WalletEvent::CreditsAdded { note, .. }) => note.as_ref(),
            Event::Wallet(WalletEvent::CreditsRemoved { reason, .. }) => reason.as_ref(),
            Event::Wallet(WalletEvent::CreditsTransferredOut { note, .. }) => note.as_ref(),
            Event::Wallet(WalletEvent::Provisioned { provision, .. }) => provision.description.as_ref(),
            Event::Reseller(ResellerEvent::SubtreeFrozen { reason, .. }) => reason.as_ref(),
            Event::Reseller(ResellerEvent::SubtreeUnfrozen { reason, .. }) => reason.as_ref(),
            _ => None,
        };
        if let Some(mark) = mark {
            let entry = done.by_mark.entry(mark.to_string()).or_default();
            *entry = (entry.0 + 1, event.position);
        }
        if let Event::Wallet(known) = known {
            let wallet = wallets.entry(&event.aggregate_id).or_default();
            wallet.fold(&known);
            match known {
                WalletEvent::Provisioned { .. } => {
                    assert!(wallet.available() >= 0, "at {}: {wallet:?}", event.position);
                }
                WalletEvent::CreditsTransferredOut { .. } => {
                    assert!(wallet.balance - wallet.reserved >= 0, "at {}: {wallet:?}", event.position);
                }
                WalletEvent::CreditLimitSet { .. } => {
                    let what = (event.aggregate_id.clone(), wallet.credit_limit.credits());
                    done.limits.entry(what).or_default().push(event.position);
                }
                _ => {}
            }
        }
    }
    done
}

/// What was acknowledged is in the log once; what was refused is not; what was given up is there at most once.
fn assert_done_once(done: &Done, records: &[Record]) {
    for Record { key, operation, .. } in records {
        let times = done.by_mark.get(key).map_or(0, |(times, _)| *times);
        match (operation.deed, operation.answered) {
            (Deed::Limit { .. } | Deed::Look { .. }, _) => {}
            // Who is frozen already is not frozen once more.
            (Deed::Freeze { .. }, Some(_)) | (_, None) => {
                assert!(times <= 1, "{key} was done {times} times: {operation:?}")
            }
            (_, Some((_, Answer::Holds { .. } | Answer::Yes))) => assert_eq!(times, 1, "{key}: {operation:?}"),
            (_, Some(_)) => assert_eq!(times, 0, "{key}: {operation:?}"),
        }
    }
}

/// Where to look for each of them first: what changed something stands at its own place in the log, what was only told something
/// behind the place it was told at.
fn hint(records: &mut [Record], done: &mut Done, world: &World) {
    let mut claimed: HashSet<((String, i64), u64)> = HashSet::new();
    for Record { family, operation, position, .. } in records.iter().filter(|record| record.position.is_some()) {
        let (Deed::Limit { of, limit }, Some(position)) = (operation.deed, position) else { continue };
        let limit = (world.wallet(*family, of).to_owned(), limit);
        if let Some(places) = done.limits.get_mut(&limit)
            && let Some(at) = places.iter().position(|place| place == position)
        {
            places.remove(at);
            claimed.insert((limit, *position));
        }
    }
    for Record { family, key, operation, position } in records {
        let own = match operation.deed {
            Deed::Limit { of, limit } => {
                let limit = (world.wallet(*family, of).to_owned(), limit);
                match position {
                    // A limit that is in force already is not set once more.
                    Some(position) => claimed.contains(&(limit, *position)).then_some(*position),
                    None => done.limits.get_mut(&limit).and_then(Vec::pop),
                }
            }
            _ => done.by_mark.get(key).map(|(_, place)| *place),
        };
        operation.hint = match (own, *position) {
            (Some(place), _) => 2 * place,
            (None, Some(told_at)) => 2 * told_at + 1,
            (None, None) => NOWHERE,
        };
    }
}

/// Says how it came to an end with one of the families; a panic where there is no order.
fn ordered(records: &[Record], family: usize) -> usize {
    let operations: Vec<Operation> =
        records.iter().filter(|record| record.family == family).map(|record| record.operation).collect();
    let order = checker::follow(&operations).or_else(|claimed| {
        eprintln!("the log's own order does not do; looking for another: {claimed:#?}");
        checker::linearize(&operations)
    });
    match order {
        Ok(order) => order.len(),
        Err(impossible) => {
            let Impossible { ordered, family, stuck } = *impossible;
            panic!(
                "no order of {} deeds: after {ordered} of them, with {family:?}, none of these could come: {stuck:#?}",
                operations.len()
            )
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_mortal_nodes_answer_like_one_that_never_dies() {
    let place = Store::new();
    let store = place.store();
    let founder = Process::serve(&store).await;
    let town = Town::found(&founder, &store).await;
    founder.kill().await;
    let seed = rand::random();
    eprintln!("seed {seed}");
    let world = Arc::new(World {
        town,
        nodes: [const { RwLock::new(None) }; NODES],
        began: Instant::now(),
        over: AtomicBool::new(false),
        kills: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        replayed: AtomicU64::new(0),
    });
    let mut records = history(&world, &store, seed).await;

    let given_up = records.iter().filter(|record| record.operation.answered.is_none()).count();
    let answers = records
        .iter()
        .filter_map(|record| record.operation.answered.as_ref().map(|(_, answer)| (&record.operation.deed, answer)));
    let tally: BTreeMap<String, usize> = model::tally(answers);
    let [kills, lost, replayed] =
        [&world.kills, &world.lost, &world.replayed].map(|count| count.load(Ordering::Relaxed));
    eprintln!(
        "{} askings, {kills} kills, {lost} answers lost, {replayed} learned by asking again, {given_up} given up; {tally:?}",
        records.len()
    );
    assert!(kills > 3 && lost > 0, "nobody died");

    let mut done = read_log(store.to_str().expect("an address")).await;
    assert_done_once(&done, &records);
    hint(&mut records, &mut done, &world);
    // Each family by itself: what is linearizable object by object is so altogether.
    let ordered: usize = std::thread::scope(|scope| {
        let records = &records;
        let families: Vec<_> = (0..FAMILIES).map(|family| scope.spawn(move || ordered(records, family))).collect();
        families.into_iter().map(|family| family.join().expect("an order")).sum()
    });
    eprintln!("an order was found: {ordered} of them happened");
}
