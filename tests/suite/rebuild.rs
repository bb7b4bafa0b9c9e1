//! Read models are what the log folds to (I9): after random histories in random batches, after kills in the middle of it, and
//! after rebuilds that were finished, killed, or went on under readers and writers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aggregates::event::EVENT_VERSION;
use projections::fold_batch;
use projections::rebuild::Rebuild;
use projections::rebuild::compare::compare_files;
use projections::sql::Folder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tallytree::store::sqlite::{SqliteStore, ledger_path, views_path};
use tokio::task::JoinSet;

use crate::common::app::{Person, TestApp};
use crate::common::process::{self, Process, token};
use crate::model::random_history;

/// What is not as the log folds to it, and how many rows there should be.
async fn differences(store: &Path) -> (Vec<String>, u64) {
    let store = store.to_owned();
    let compared = tokio::task::spawn_blocking(move || compare_files(&store)).await.expect("its end");
    let compared = compared.expect("a comparison").expect("read models");
    let rows = compared.iter().map(|compared| compared.rows).sum();
    let told = compared.into_iter().filter_map(|compared| {
        let first = compared.first?;
        Some(format!("{}: {} expected, {} found", first.what, first.expected, first.found))
    });
    (told.collect(), rows)
}

async fn assert_as_folded(store: &Path) {
    let (differences, rows) = differences(store).await;
    assert_eq!(differences, [""; 0]);
    assert!(rows > 20, "there is next to nothing to compare");
}

/// A store with a random history in its log and nothing else.
fn write_log(store: &Path, seed: u64) -> u64 {
    drop(SqliteStore::open(store).expect("a store"));
    let history = random_history(seed, 150);
    let mut ledger = Connection::open(ledger_path(store)).expect("the ledger");
    let transaction = ledger.transaction().expect("a transaction");
    for event in &history {
        transaction
            .execute(
                "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
                 metadata, recorded_at, hash, actor, command_id) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                params![
                    event.position,
                    event.key.aggregate_type(),
                    event.key.aggregate_id(),
                    event.sequence,
                    event.event.event_type(),
                    EVENT_VERSION,
                    event.event.payload().expect("json"),
                    serde_json::to_string(&event.metadata).expect("json"),
                    event.recorded_at.to_string(),
                    event.position.to_be_bytes().repeat(4),
                    event.metadata.actor.to_string(),
                    event.metadata.command_id.to_string(),
                ],
            )
            .expect("an event");
    }
    transaction.commit().expect("a commit");
    u64::try_from(history.len()).expect("few")
}

#[tokio::test]
async fn after_random_histories_in_random_batches_and_rebuilds_every_row_is_what_the_log_folds_to() {
    for seed in 1..=6 {
        let mut dice = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().expect("a directory");
        let end = write_log(dir.path(), seed);
        let mut folder = Folder::open(&dir.path().into()).await.expect("databases");
        let mut folded = 0;
        while folded < end {
            folded = fold_batch(&mut folder, dice.random_range(1..40)).await.expect("a batch").position;
            match dice.random_range(0..12) {
                // At whatever position it stands.
                0 => assert_as_folded_so_far(dir.path()).await,
                1 | 2 => {
                    let some: Vec<&str> =
                        projections::NAMES.iter().filter(|_| dice.random_range(0..3) == 0).copied().collect();
                    let rebuild = Rebuild::begin(&dir.path().into(), &some).await.expect("a rebuild");
                    rebuild.run(|_| true).await.expect("no error").expect("an end");
                }
                _ => {}
            }
        }
        assert_as_folded(dir.path()).await;
    }
}

async fn assert_as_folded_so_far(store: &Path) {
    assert_eq!(differences(store).await.0, [""; 0]);
}

/// Some months of a small network, with its read models.
async fn demo(store: &Path, events: &str) {
    let arguments = ["demo", "--no-serve", "--resellers", "60", "--events", events, "--seed", "3"];
    let filled = process::run(store, &arguments).await;
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
}

fn folded_up_to(store: &Path) -> u64 {
    let Ok(views) = Connection::open(views_path(store)) else { return 0 };
    let sql = "select coalesce(min(position), 0) from checkpoints";
    views.query_row(sql, [], |row| row.get(0)).unwrap_or_default()
}

async fn verified(store: &Path) {
    let verified = process::run(store, &["verify"]).await;
    assert!(verified.status.success(), "verify: {}", String::from_utf8_lossy(&verified.stdout));
}

/// The read models are lost; the node that folds them again is killed between any two of its batches, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_between_any_two_batches_leaves_nothing_out_and_nothing_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    demo(&store, "14000").await;
    let end = folded_up_to(&store);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", views_path(&store).display()));
    }
    let mut dice = StdRng::seed_from_u64(rand::random());
    let mut seen = vec![0];
    while seen.len() < 4 && *seen.last().expect("one") < end {
        Process::serve_and_kill(&store, Duration::from_millis(dice.random_range(100..700))).await;
        let folded = folded_up_to(&store);
        assert!(folded >= *seen.last().expect("one"), "what was folded is lost");
        if folded > *seen.last().expect("one") {
            assert_as_folded_so_far(&store).await;
            seen.push(folded);
        }
    }
    eprintln!("killed with {seen:?} of {end} events folded");
    let node = Process::serve(&store).await;
    let operator = Person::at(node.address(), &token(&store, &["--role", "super_admin"]).await);
    operator.get(format!("/reseller-network/dashboard?min_position={end}")).await.ok();
    node.kill().await;
    verified(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_is_killed_harms_nothing_and_the_next_one_succeeds() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    demo(&store, "6000").await;
    let left = |store: &Path| -> i64 {
        let views = Connection::open(views_path(store)).expect("the read models");
        let sql = "select count(*) from sqlite_master where name like 'rebuild%' or name like 'retired%'";
        views.query_row(sql, [], |row| row.get(0)).expect("a count")
    };
    let mut dice = StdRng::seed_from_u64(rand::random());
    let mut interrupted = 0;
    for _ in 0..12 {
        let after = Duration::from_millis(dice.random_range(60..900));
        Process::run_and_kill(&store, &["rebuild"], after).await;
        assert_as_folded(&store).await;
        interrupted += i64::from(left(&store) > 0);
        if interrupted >= 3 {
            break;
        }
    }
    assert!(interrupted > 0, "no rebuild was killed in the middle");

    // A node starts beside what is left, folds on, and takes it away.
    Process::run_and_kill(&store, &["rebuild"], Duration::from_millis(200)).await;
    let node = Process::serve(&store).await;
    let operator = Person::at(node.address(), &token(&store, &["--role", "super_admin"]).await);
    operator.post("/products", json!({"sku": "late", "name": "Late", "base_cost": 10})).await.created();
    operator.get("/products").await.ok();
    let begun = Instant::now();
    while left(&store) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "what was left is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rebuilt = process::run(&store, &["rebuild"]).await;
    let told = String::from_utf8_lossy(&rebuilt.stdout).into_owned();
    assert!(rebuilt.status.success() && told.starts_with("Rebuilt policy, wallets, "), "{rebuilt:?}");
    assert_eq!(left(&store), 0);
    node.kill().await;
    verified(&store).await;
}

#[tokio::test]
async fn what_is_not_a_projection_is_told_together_with_what_is_one() {
    let app = TestApp::start().await;
    let wrong = process::run(app.store(), &["rebuild", "wallet"]).await;
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(told.contains("'wallet'") && projections::NAMES.iter().all(|name| told.contains(name)), "{told}");
    let nowhere = tempfile::tempdir().expect("a directory");
    let missing = process::run(&nowhere.path().join("nothing"), &["rebuild"]).await;
    assert!(!missing.status.success() && !nowhere.path().join("nothing").exists(), "{missing:?}");
    let one = process::run(app.store(), &["rebuild", "prices"]).await;
    assert!(String::from_utf8_lossy(&one.stdout).starts_with("Rebuilt prices at position "), "{one:?}");
}

const CLIENTS: usize = 16;

/// A reseller's own application: sells, looks, and knows what it must see.
struct Seller {
    operator: Person,
    person: Person,
    id: String,
    sold: Vec<(String, i64)>,
    balance: i64,
    slowest: Duration,
}

impl Seller {
    async fn work(mut self, stop: Arc<AtomicBool>, asked: Arc<AtomicU64>) -> Self {
        while !stop.load(Ordering::SeqCst) {
            let cost = 1 + i64::try_from(self.sold.len() % 9).expect("few");
            let path = format!("/wallets/{}/provisions", self.id);
            let sold = self.operator.post(path, json!({"cost": cost})).fresh_key().await.created();
            self.balance -= cost;
            self.sold.push((sold["provision_id"].as_str().expect("an id").to_owned(), cost));
            self.look().await;
            asked.fetch_add(1, Ordering::SeqCst);
        }
        self
    }

    /// Everything that it has just been told is there, and the tables agree with each other.
    async fn look(&mut self) {
        let begun = Instant::now();
        let board = self.person.get("/reseller-network/dashboard").await.ok();
        self.slowest = self.slowest.max(begun.elapsed());
        let sold: i64 = self.sold.iter().map(|(_, cost)| cost).sum();
        let figures = (&board["finance"]["balance"], &board["finance"]["provisioned_total"]);
        assert_eq!(figures, (&json!(self.balance), &json!(sold)), "its dashboard");
        assert_eq!(self.person.get(format!("/wallets/{}", self.id)).await.ok()["balance"], self.balance, "its wallet");
    }

    /// Pages its statement through, a few lines at a time, and compares it with what it did.
    async fn read_statement(&self) {
        let mut expected: Vec<Value> = self.sold.iter().rev().map(|(id, _)| json!(id)).collect();
        expected.push(Value::Null);
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.person.get(format!("/wallets/{}/transactions?limit=7{cursor}", self.id)).await.ok();
            found.extend(page["data"].as_array().expect("lines").iter().map(|line| line["provision_id"].clone()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(found, expected, "its statement, newest first");
    }
}

/// The rebuilds come from another process; their lock and the exchange are all that the server notices of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_of_a_live_server_are_not_disturbed_by_rebuilds() {
    let app = TestApp::start().await;
    let mut sellers = Vec::new();
    for number in 0..CLIENTS {
        let id = app.top_level(&format!("seller-{number}"), "standard").await;
        app.fund(&id, 1_000_000).await;
        // Each with a position of its own to wait for.
        let (operator, person) = (app.application(&id), app.reseller(&id));
        sellers.push(Seller { operator, person, id, sold: Vec::new(), balance: 1_000_000, slowest: Duration::ZERO });
    }
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut working = JoinSet::new();
    for seller in sellers {
        working.spawn(seller.work(Arc::clone(&stop), Arc::clone(&asked)));
    }
    for round in 0..6 {
        let before = asked.load(Ordering::SeqCst);
        let names: &[&str] = match round % 3 {
            0 => &["rebuild"],
            1 => &["rebuild", "provisions", "dashboard"],
            _ => &["rebuild", "wallets"],
        };
        let rebuilt = process::run(app.store(), names).await;
        assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
        eprintln!("{}", String::from_utf8_lossy(&rebuilt.stdout).trim());
        assert!(asked.load(Ordering::SeqCst) > before, "nobody worked meanwhile");
    }
    // One more while statements are paged through.
    stop.store(true, Ordering::SeqCst);
    let mut sellers = Vec::new();
    while let Some(seller) = working.join_next().await {
        sellers.push(seller.expect("a content seller"));
    }
    let store = app.store().to_owned();
    let rebuilding = tokio::spawn(async move { process::run(&store, &["rebuild"]).await });
    while !rebuilding.is_finished() {
        for seller in &sellers {
            seller.read_statement().await;
        }
    }
    assert!(rebuilding.await.expect("no panic").status.success());
    let slowest = sellers.iter().map(|seller| seller.slowest).max().expect("sellers");
    let sold: usize = sellers.iter().map(|seller| seller.sold.len()).sum();
    eprintln!("{sold} sold and looked at; the slowest dashboard took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "a look took {slowest:?}");
    for seller in &mut sellers {
        seller.look().await;
    }
    assert_as_folded(app.store()).await;
}
