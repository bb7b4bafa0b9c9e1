//! A node is told to stop while sixty-four customers are sending.
//!
//! SIGTERM is no crash: whoever had sent something by then hears an answer, or a 503 that says nothing was done; nobody is hung
//! up on. Whoever comes later hears 503 until the door is closed, and nothing of that is in the log. The process ends within ten
//! seconds, and says by its exit code that all went well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::common::books::{self, Books};
use crate::common::connections::Lost;
use crate::common::process::Process;
use crate::common::traffic::{Customer, Order, Told, Town};

const CUSTOMERS: usize = 64;
const LOAD: Duration = Duration::from_millis(700);
const END_WITHIN: Duration = Duration::from_secs(10);

/// How it ended for one customer.
struct Farewell {
    told: Vec<Arc<Told>>,
    /// The command that was turned away, or not answered at all because the door was closed already.
    undone: Order,
}

/// Sends until it is turned away. `told_to_stop` says when the signal was sent.
async fn send_to_the_end(
    mut customer: Customer,
    node: std::net::SocketAddr,
    told_to_stop: watch::Receiver<bool>,
) -> Farewell {
    let person = customer.town.operator(node);
    let mut told = Vec::new();
    loop {
        let order = customer.next(false).expect("a wish");
        let before = !*told_to_stop.borrow();
        match order.by(&person).heard().await {
            Ok(reply) if reply.status == 503 => {
                assert_eq!(reply.body["code"], "too_busy", "only this promises that nothing was done");
                return Farewell { told, undone: order };
            }
            Ok(reply) => {
                order.assert_answered_by(&reply);
                let heard = Arc::new(Told { order, reply });
                customer.learn(&heard);
                told.push(heard);
            }
            Err(Lost(reason)) => {
                assert!(!before, "hung up on while waiting for an answer to {order:?}: {reason}");
                return Farewell { told, undone: order };
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_told_to_stop_under_load_answers_everyone_and_ends_in_time() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("store");
    let mut process = Process::serve(&store).await;
    let town = Arc::new(Town::found(&process, &store).await);
    let (stop, told_to_stop) = watch::channel(false);
    let mut customers = JoinSet::new();
    for number in 0..CUSTOMERS {
        let customer = Customer::new(format!("c{number}"), Arc::clone(&town), StdRng::from_os_rng());
        customers.spawn(send_to_the_end(customer, process.address(), told_to_stop.clone()));
    }
    sleep(LOAD).await;

    // From here on a command may come too late; what was sent before may not be lost.
    stop.send(true).expect("customers");
    process.terminate().await;
    let began = Instant::now();
    let status = process.ended(END_WITHIN).await;
    let took = began.elapsed();
    assert_eq!(status.code(), Some(0), "{status}:\n{}", process.log());

    let mut told = Vec::new();
    let mut undone = Vec::new();
    while let Some(farewell) = customers.join_next().await {
        let farewell = farewell.expect("a customer who is content");
        told.extend(farewell.told);
        undone.push(farewell.undone);
    }
    eprintln!("{} commands answered, {} turned away, ended after {took:?}", told.len(), undone.len());
    assert!(told.len() > CUSTOMERS, "hardly anything was under way");
    let mut books = Books::default();
    books.read(&store);
    books.assert_whole(&told, &town);
    for order in &undone {
        books.assert_untouched_by(order);
    }
    books::assert_sound(&store).await;
}
