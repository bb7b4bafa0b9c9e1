//! A refund finds what was paid and what has come back already, to the credit: in a new process after `kill -9`, where the index
//! is gone, and through another node than the one that provisioned.

use std::path::Path;

use tallytree::store::sqlite::index_path;

use crate::common::app::{Person, Reply};
use crate::common::books;
use crate::common::process::Process;
use crate::common::traffic::Town;

/// A wallet with credits in a town on one store.
struct Shop {
    town: Town,
    wallet: usize,
    serial: u32,
    _dir: tempfile::TempDir,
}

impl Shop {
    async fn open() -> (Self, Process) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = dir.path().join("store");
        let node = Process::serve(&store).await;
        let town = Town::found(&node, &store).await;
        let mut shop = Self { town, wallet: 5, serial: 0, _dir: dir };
        let key = shop.key();
        let _ = shop.town.credit(&key, shop.wallet, 1_000).by(&shop.at(&node)).await.created();
        (shop, node)
    }

    fn store(&self) -> &Path {
        &self.town.store
    }

    fn at(&self, node: &Process) -> Person {
        self.town.operator(node.address())
    }

    fn key(&mut self) -> String {
        self.serial += 1;
        format!("shop/{}", self.serial)
    }

    /// Sells something; says which provision it is and what it cost.
    async fn sell(&mut self, node: &Process, quantity: u32) -> (String, i64) {
        let key = self.key();
        let made = self.town.sell(&key, self.wallet, quantity).by(&self.at(node)).await.created();
        let provision = made["provision_id"].as_str().expect("a provision").to_owned();
        (provision, made["amount"].as_i64().expect("an amount"))
    }

    async fn refund(&mut self, node: &Process, provision: &str, amount: i64) -> Reply {
        let key = self.key();
        self.town.refund(&key, self.wallet, provision, amount).by(&self.at(node)).await
    }

    /// Refunds, and says how much of the provision has come back by now.
    async fn refunded(&mut self, node: &Process, provision: &str, amount: i64) -> i64 {
        self.refund(node, provision, amount).await.created()["refunded_total"].as_i64().expect("a total")
    }

    async fn assert_too_much(&mut self, node: &Process, provision: &str, amount: i64) {
        self.refund(node, provision, amount).await.problem(422, "limit_exceeded");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_what_was_provisioned_a_moment_before_is_refunded_to_the_credit() {
    let (mut shop, mut node) = Shop::open().await;
    let (provision, paid) = shop.sell(&node, 9).await;
    let mut left = paid;
    // Each node has one refund to know about more than the one before it, and dies before it has written that down by key.
    for part in 1..=5 {
        node.kill().await;
        node = Process::serve(shop.store()).await;
        shop.assert_too_much(&node, &provision, left + 1).await;
        left -= part;
        assert_eq!(shop.refunded(&node, &provision, part).await, paid - left);
    }
    let (another, cost) = shop.sell(&node, 1).await;
    node.kill().await;
    node = Process::serve(shop.store()).await;
    assert_eq!(shop.refunded(&node, &another, cost).await, cost);
    assert_eq!(shop.refunded(&node, &provision, left).await, paid);
    for provision in [provision, another] {
        shop.assert_too_much(&node, &provision, 1).await;
    }
    node.kill().await;
    books::assert_sound(shop.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_index_is_gone_nothing_is_refunded_that_has_come_back_already() {
    let (mut shop, node) = Shop::open().await;
    let (provision, paid) = shop.sell(&node, 9).await;
    let (untouched, cost) = shop.sell(&node, 2).await;
    assert_eq!(shop.refunded(&node, &provision, 10).await, 10);
    assert_eq!(shop.refunded(&node, &provision, 5).await, 15);
    node.kill().await;
    for suffix in ["", "-wal", "-shm"] {
        let mut path = index_path(shop.store()).into_os_string();
        path.push(suffix);
        let gone = std::fs::remove_file(&path);
        assert!(gone.is_ok() || !suffix.is_empty(), "{gone:?}");
    }

    let node = Process::serve(shop.store()).await;
    shop.assert_too_much(&node, &provision, paid - 15 + 1).await;
    assert_eq!(shop.refunded(&node, &provision, paid - 15).await, paid);
    shop.assert_too_much(&node, &provision, 1).await;
    assert_eq!(shop.refunded(&node, &untouched, cost).await, cost);
    node.kill().await;
    books::assert_sound(shop.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_provisioned_through_one_node_is_refunded_through_another() {
    let (mut shop, one) = Shop::open().await;
    let other = Process::serve(shop.store()).await;
    for round in 0..10 {
        let (here, there) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let (provision, paid) = shop.sell(here, 2).await;
        assert_eq!(shop.refunded(there, &provision, 3).await, 3);
        shop.assert_too_much(here, &provision, paid - 2).await;
        assert_eq!(shop.refunded(here, &provision, paid - 3).await, paid);
        shop.assert_too_much(there, &provision, 1).await;
    }
    one.kill().await;
    let (provision, paid) = shop.sell(&other, 1).await;
    assert_eq!(shop.refunded(&other, &provision, paid).await, paid);
    other.kill().await;
    books::assert_sound(shop.store()).await;
}
