//! A node is killed under load, again and again, and nobody can tell from what was promised.
//!
//! Sixty-four customers send commands to a small town's wallets, one after another, each under a key of its own: provisions,
//! payments, transfers, refunds, bulks with keyed items, freezes, and some that must be refused. At a random moment the node
//! gets SIGKILL; some do not live to come up, from the first one on, which finds no store. While it is down an auditor reads a
//! copy of its files: whatever anybody had been told by then is in the log, once; what was refused is not. Then a new node
//! starts on the same files, every customer sends the one command it had no answer to again, with the same key, and learns what
//! became of it; and asks again about a few that had been answered, which must be answered with the same bytes. In the end the
//! log holds what the customers were told and nothing else, and the balances are the sums of it.
//!
//! `TALLYTREE_CRASH_ROUNDS=50` kills it fifty times; a plain test run, a few. `TALLYTREE_CRASH_SEED` repeats the customers' wishes
//! (not the moments at which they come).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::common::app::{Person, Reply};
use crate::common::books::{self, Books};
use crate::common::process::Process;
use crate::common::traffic::{Customer, Order, Told, Town};

const CUSTOMERS: usize = 64;
const ROUNDS_IN_A_PLAIN_RUN: u64 = 30;
/// How long a node may live after it has come up.
const LIFE_MS_MAX: u64 = 900;
/// About how long it takes to come up.
const BIRTH_MS: u64 = 80;
/// How long a customer may wait for an answer, restarts of the node included.
const PATIENCE: Duration = Duration::from_secs(60);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// What all customers share.
#[derive(Default)]
struct Records {
    /// Every command with its first answer.
    told: Mutex<Vec<Arc<Told>>>,
    /// How often a connection broke before the answer.
    lost: AtomicU64,
    /// How often a command without an answer turned out to have been carried out.
    found_done: AtomicU64,
    /// How often somebody asked again about what had been answered.
    asked_again: AtomicU64,
    /// How often a node said that it could not now.
    put_off: AtomicU64,
}

impl Records {
    fn told(&self) -> Vec<Arc<Told>> {
        self.told.lock().expect("nobody panicked").clone()
    }
}

/// A customer at a counter that may close at any moment.
struct Client {
    customer: Customer,
    records: Arc<Records>,
    /// Where the present node listens.
    node: watch::Receiver<SocketAddr>,
    person: Option<(SocketAddr, Person)>,
    mine: Vec<Arc<Told>>,
    closing: watch::Receiver<bool>,
}

impl Client {
    async fn work(mut self) {
        loop {
            let closing = *self.closing.borrow();
            let Some(order) = self.customer.next(closing) else { return };
            let met = self.person.as_ref().map(|(address, _)| *address);
            let (reply, tries) = self.insist(&order).await;
            order.assert_answered_by(&reply);
            assert!(tries > 1 || !reply.replayed(), "the first sending was answered as a repetition: {order:?}");
            if reply.replayed() {
                self.records.found_done.fetch_add(1, Ordering::Relaxed);
            }
            let told = Arc::new(Told { order, reply });
            self.records.told.lock().expect("nobody panicked").push(Arc::clone(&told));
            self.customer.learn(&told);
            let moved = met.is_some() && self.person.as_ref().map(|(address, _)| *address) != met;
            // Not all of them each time: that would leave a node's short life little else to do.
            if moved && self.customer.dice().random_range(0..3) == 0 {
                self.ask_again().await;
            }
            self.mine.push(told);
        }
    }

    /// Sends a command until it is answered; says how often.
    async fn insist(&mut self, order: &Order) -> (Reply, u32) {
        let began = Instant::now();
        let mut tries = 0;
        loop {
            assert!(began.elapsed() < PATIENCE, "no answer to {order:?}");
            tries += 1;
            let address = *self.node.borrow_and_update();
            let person = match &self.person {
                Some((known, person)) if *known == address => person.clone(),
                _ => self.customer.town.operator(address),
            };
            match order.by(&person).heard().await {
                Ok(reply) if reply.status == 503 => {
                    self.records.put_off.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(10)).await;
                }
                Ok(reply) => {
                    self.person = Some((address, person));
                    return (reply, tries);
                }
                Err(_) => {
                    self.records.lost.fetch_add(1, Ordering::Relaxed);
                    // The next node is announced here; not to miss one, look again after a while.
                    let _ = tokio::time::timeout(Duration::from_millis(100), self.node.changed()).await;
                }
            }
        }
    }

    /// Asks a new node about a few commands that an earlier one has answered.
    async fn ask_again(&mut self) {
        let mut again: Vec<Arc<Told>> = self.mine.iter().rev().take(2).cloned().collect();
        if !self.mine.is_empty() {
            let any = self.customer.dice().random_range(0..self.mine.len());
            again.push(Arc::clone(&self.mine[any]));
        }
        for told in again {
            let (reply, _) = self.insist(&told.order).await;
            told.assert_repeated_by(&reply);
            self.records.asked_again.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_outlives_a_kill_and_nothing_is_done_twice() {
    let rounds = setting("TALLYTREE_CRASH_ROUNDS").unwrap_or(ROUNDS_IN_A_PLAIN_RUN);
    let seed = setting("TALLYTREE_CRASH_SEED").unwrap_or_else(rand::random);
    eprintln!("TALLYTREE_CRASH_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("store");

    // The store itself is born under fire.
    for _ in 0..4 {
        Process::serve_and_kill(&store, Duration::from_millis(dice.random_range(0..BIRTH_MS))).await;
    }
    let mut process = Process::serve(&store).await;
    let town = Arc::new(Town::found(&process, &store).await);
    let records = Arc::new(Records::default());
    let (open, node) = watch::channel(process.address());
    let (close, closing) = watch::channel(false);
    let mut clients = JoinSet::new();
    for number in 0..CUSTOMERS {
        let luck = StdRng::seed_from_u64(dice.random());
        clients.spawn(
            Client {
                customer: Customer::new(format!("c{number}"), Arc::clone(&town), luck),
                records: Arc::clone(&records),
                node: node.clone(),
                person: None,
                mine: Vec::new(),
                closing: closing.clone(),
            }
            .work(),
        );
    }

    let mut books = Books::default();
    let mut checked = 0;
    for round in 1..=rounds {
        // Every fourth node hardly lives to see the repetitions.
        let life = if round % 4 == 0 { dice.random_range(0..40) } else { dice.random_range(0..LIFE_MS_MAX) };
        tokio::select! {
            () = sleep(Duration::from_millis(life)) => {}
            Some(ended) = clients.join_next() => panic!("a customer left: {ended:?}"),
        }
        process.kill().await;
        let told = records.told();
        books.read_copy(&store);
        for told in &told[checked..] {
            books.assert_true(told, &town);
        }
        checked = told.len();
        if round % 3 == 0 {
            Process::serve_and_kill(&store, Duration::from_millis(dice.random_range(0..BIRTH_MS))).await;
        }
        process = Process::serve(&store).await;
        open.send(process.address()).expect("customers");
    }

    close.send(true).expect("customers");
    while let Some(ended) = clients.join_next().await {
        ended.expect("a customer who is content");
    }
    let told = records.told();
    let operator = town.operator(process.address());
    let last = told.iter().map(|told| told.reply.position()).max().unwrap_or(0);
    for (wallet, expected) in town.wallets.iter().zip(town.balances(&told)) {
        let answer = operator.get(format!("/wallets/{}?min_position={last}", wallet.id)).await.ok();
        assert_eq!(answer["balance"], expected, "the balance of {}", wallet.id);
    }
    process.kill().await;
    books.read_copy(&store);
    books.assert_whole(&told, &town);
    books::assert_sound(&store).await;

    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let accepted = told.iter().filter(|told| told.accepted()).count();
    eprintln!(
        "{rounds} kills: {accepted} accepted, {} refused, {} effects; {} connections lost, {} commands found done, {} asked \
         again, {} put off",
        told.len() - accepted,
        books.effects(),
        count(&records.lost),
        count(&records.found_done),
        count(&records.asked_again),
        count(&records.put_off),
    );
    assert!(count(&records.asked_again) > 0, "nobody met a second node: nothing was shown");
}
