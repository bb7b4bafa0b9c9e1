//! The live feed: one task reads each new event of the activity feed once, after the projector's commit, and hands it to
//! everybody who listens and may know of it.
//!
//! Shape: a listener has a bounded channel and is found by the number of the reseller it listens as (0 for the operator's
//! staff), so an event is offered only to those on its line. Whoever does not take what it is offered loses its channel, not
//! the others their time: it reads on from where it was and then listens again. Memory is bounded by the number of listeners
//! times [`QUEUED_MAX`] shared pointers. While nobody listens nothing is read.
//!
//! Ordering: a listener is told everything that is folded after it subscribed, in the order of the feed, until its channel ends.
//! Layering: knows the read models, not HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use projections::activity_feed::pages::Sought;
use projections::activity_feed::reading::{reaches, told};
use projections::activity_feed::words::{Reach, Told};
use projections::sql::ViewError;
use projections::{ReadPool, Scope};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How much may wait for one listener: more than is read at a time, so that nobody falls behind by that alone.
pub const QUEUED_MAX: usize = 1_024;
/// How many events are read at a time.
const PAGE_EVENTS: u64 = 500;
/// The first pause after a failed read.
const RETRY_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// The longest pause after repeated failures.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// How long a read may wait for its connection's snapshot; it asks for no position, so it never does.
const VIEW_TIME: Duration = Duration::ZERO;

/// An event on its way to listeners.
#[derive(Debug)]
pub struct Delivery {
    /// What happened.
    pub told: Told,
    /// What it means to one whom it reaches, for a delivery to that one.
    pub reach: Option<Reach>,
    /// Its text for each reader that had it made, by the reader's number: the same for all who listen as the same.
    texts: Mutex<HashMap<u64, Bytes>>,
}

impl Delivery {
    fn new(told: Told, reach: Option<Reach>) -> Arc<Self> {
        Arc::new(Self { told, reach, texts: Mutex::default() })
    }

    /// Its text for a reader, made once for all who read as the same.
    ///
    /// # Errors
    /// What `make` says.
    pub fn text<E>(&self, reader: u64, make: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = texts.get(&reader) {
            return Ok(text.clone());
        }
        let text = make()?;
        texts.insert(reader, text.clone());
        Ok(text)
    }
}

#[derive(Debug)]
struct Listener {
    id: u64,
    sought: Arc<Sought>,
    queue: mpsc::Sender<Arc<Delivery>>,
}

impl Listener {
    /// Offers a delivery; whether the listener is still there and keeps up.
    fn offer(&self, delivery: &Arc<Delivery>) -> bool {
        self.queue.try_send(Arc::clone(delivery)).is_ok()
    }
}

#[derive(Debug, Default)]
struct Registry {
    /// Everything up to here has been offered to all who listen.
    position: u64,
    /// By the number that they listen as.
    listeners: HashMap<u64, Vec<Listener>>,
    next_id: u64,
}

impl Registry {
    /// Offers what happened to those on its line, or to all whom it concerns.
    fn offer(&mut self, delivery: &Arc<Delivery>) {
        let told = &delivery.told;
        if told.concerns_all_below() {
            for listeners in self.listeners.values_mut() {
                listeners.retain(|listener| !listener.sought.takes(told) || listener.offer(delivery));
            }
        } else {
            for number in told.numbers().chain([0]) {
                if let Some(listeners) = self.listeners.get_mut(&number) {
                    listeners.retain(|listener| !listener.sought.takes(told) || listener.offer(delivery));
                }
            }
        }
    }

    /// Offers what an event means to one whom it reaches: to itself, and to the staff where they ask about it.
    fn offer_reach(&mut self, number: u64, told: &Told, reach: &Reach) {
        for key in [number, 0] {
            let Some(listeners) = self.listeners.get_mut(&key) else { continue };
            if !listeners.iter().any(|listener| listener.sought.takes_reach(number, reach)) {
                continue;
            }
            let delivery = Delivery::new(told.clone(), Some(reach.clone()));
            listeners.retain(|listener| !listener.sought.takes_reach(number, reach) || listener.offer(&delivery));
        }
    }

    fn is_heard(&self) -> bool {
        self.listeners.values().any(|listeners| !listeners.is_empty())
    }

    fn leave(&mut self, number: u64, id: u64) {
        if let Some(listeners) = self.listeners.get_mut(&number) {
            listeners.retain(|listener| listener.id != id);
            if listeners.is_empty() {
                self.listeners.remove(&number);
            }
        }
    }
}

/// The handle of the running task.
#[derive(Debug)]
pub struct Feed {
    registry: Arc<Mutex<Registry>>,
    closing: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Starts reading for whoever will listen. `folded` says how far the read models have come.
#[must_use]
pub fn start(views: ReadPool, folded: watch::Receiver<u64>) -> Feed {
    let registry = Arc::new(Mutex::new(Registry { position: *folded.borrow(), ..Registry::default() }));
    let (closing, closed) = watch::channel(false);
    let task = tokio::spawn(run(views, folded, Arc::clone(&registry), closed));
    let task = tokio::spawn(async move {
        if let Err(failure) = task.await
            && failure.is_panic()
        {
            // Whoever listens would wait for ever for what nobody reads.
            tracing::error!("the feed panicked; exiting");
            std::process::exit(70);
        }
    });
    Feed { registry, closing, task: Mutex::new(Some(task)) }
}

fn locked(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    /// Listens for what is sought from now on.
    #[must_use]
    pub fn subscribe(&self, sought: Arc<Sought>) -> Subscription {
        let (queue, deliveries) = mpsc::channel(QUEUED_MAX);
        let number = sought.sight().number;
        let mut registry = locked(&self.registry);
        let id = registry.next_id;
        registry.next_id += 1;
        registry.listeners.entry(number).or_default().push(Listener { id, sought, queue });
        Subscription { deliveries, number, id, registry: Arc::clone(&self.registry) }
    }

    /// Becomes true when everybody is to stop listening.
    #[must_use]
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Sends everybody away, and ends.
    pub async fn shutdown(&self) {
        self.closing.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It only waits for the end; nothing of the ledger hangs on it.
            let _ = task.await;
        }
    }
}

/// One who listens; leaves when dropped.
#[derive(Debug)]
pub struct Subscription {
    /// What is told; ends for one that did not keep up.
    pub deliveries: mpsc::Receiver<Arc<Delivery>>,
    number: u64,
    id: u64,
    registry: Arc<Mutex<Registry>>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        locked(&self.registry).leave(self.number, self.id);
    }
}

async fn run(
    views: ReadPool,
    mut folded: watch::Receiver<u64>,
    registry: Arc<Mutex<Registry>>,
    mut closing: watch::Receiver<bool>,
) {
    let mut retry = RETRY_INTERVAL_MIN;
    while !*closing.borrow() {
        let reached = *folded.borrow_and_update();
        match next(&views, &registry, reached).await {
            Ok(true) => {
                retry = RETRY_INTERVAL_MIN;
                continue;
            }
            Ok(false) => retry = RETRY_INTERVAL_MIN,
            Err(error) => {
                tracing::warn!(%error, "the feed waits");
                tokio::select! {
                    () = tokio::time::sleep(retry) => {}
                    _ = closing.changed() => {}
                }
                retry = (retry * 2).min(RETRY_INTERVAL_MAX);
                continue;
            }
        }
        tokio::select! {
            // Without a projector there is nothing to come.
            gone = folded.changed() => if gone.is_err() { break },
            _ = closing.changed() => break,
        }
    }
}

/// Reads and offers the next page; whether there may be more.
async fn next(views: &ReadPool, registry: &Mutex<Registry>, folded: u64) -> Result<bool, ViewError> {
    let from = {
        let mut registry = locked(registry);
        if !registry.is_heard() {
            // Whoever comes now reads what is there before it listens.
            registry.position = registry.position.max(folded);
            return Ok(false);
        }
        registry.position
    };
    if folded <= from {
        return Ok(false);
    }
    let mut read = Scope::All.begin(views, 0, VIEW_TIME).await?;
    let until = read.position().min(from + PAGE_EVENTS);
    let more = until < read.position();
    let mut reached: Vec<(u64, u64, Reach)> = Vec::new();
    let page = told(&mut read, &(from + 1..=until).collect()).await?;
    reaches(&mut read, from, until, |position, number, reach| {
        if locked(registry).listeners.contains_key(&number) || locked(registry).listeners.contains_key(&0) {
            reached.push((position, number, reach));
        }
    })
    .await?;
    drop(read);
    let mut reached = reached.into_iter().peekable();
    let mut registry = locked(registry);
    for (position, told) in page {
        let delivery = Delivery::new(told, None);
        registry.offer(&delivery);
        while let Some((_, number, reach)) = reached.next_if(|(at, ..)| *at == position) {
            registry.offer_reach(number, &delivery.told, &reach);
        }
    }
    registry.position = registry.position.max(until);
    Ok(more)
}
