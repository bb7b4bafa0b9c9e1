//! The engine: a cloneable handle in front of one writer that owns the ledger.
//!
//! Shape: [`Engine::submit`] puts a command into a bounded queue and waits; the writer, alone on its own thread, drains the
//! queue, takes one turn at the head for the whole batch, and answers everyone once the commit is durable. Nothing is shared
//! but the queue, the committed position and the reason for which the node stopped, so the hot path takes no lock.
//!
//! - [`writer`]: the loop: collect, serve, answer; what happens after each kind of failure.
//! - [`inbox`]: the queue's end, gathered into batches.
//! - [`turn`]: one turn at the head: prefetch, catch up, decide in order, append.
//! - [`seal`]: accepted decisions turned into the batch that is committed, hashes included.
//! - [`receipts`]: what keys were answered before, in the store and earlier in the same batch.
//! - [`doubt`]: a commit that failed, until it is known whether it happened.
//! - [`recovery`]: memory built anew from the store, and events of other writers taken in.
//!
//! Layering: `aggregates`, `store` and `clock` below; nobody but `http`, `policies`, `node` and the command line above.

mod doubt;
mod inbox;
mod receipts;
mod recovery;
mod seal;
mod turn;
mod writer;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aggregates::answer::Answer;
use aggregates::command::CommandEnvelope;
use aggregates::platform::Policy;
use aggregates::rejection::{Denial, Rejection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::store::{EventStore, StoreError};
use inbox::{Inbox, Message, Request};
use writer::{Signs, Writer};

/// What became of a command. It is durable by the time it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// What the ledger said.
    pub outcome: Outcome,
    /// The position of its last event; for a refusal or a command that changed nothing, the head it was decided on.
    pub position: u64,
    /// Whether this is the first answer to the key, given again.
    pub replayed: bool,
}

/// What the ledger said to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Yes.
    Done {
        /// Whether any event came of it.
        changed: bool,
        /// The answer.
        answer: Answer,
    },
    /// No, by the rules.
    Refused(Rejection),
    /// Turned away before the rules were asked.
    Denied(Denial),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The queue is full, or the command could not be decided: nothing was done.
    #[error("too many commands are waiting; nothing was done, try again")]
    TooBusy,
    /// The store cannot be reached, or takes nothing: nothing was done.
    #[error("the store cannot be written to just now; nothing was done, try again")]
    StoreUnavailable,
    /// The commit failed and it is not known yet whether it happened.
    #[error("it is not known yet whether this was done; retry with the same key and learn it")]
    OutcomeUnknown,
    /// The node has stopped taking commands.
    #[error("this node takes no commands: {0}")]
    Stopped(String),
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineStartError {
    /// The store could not be read, or took no first policy.
    #[error("the ledger could not be read: {0}")]
    Store(#[from] StoreError),
    /// The store holds something that this version cannot work with.
    #[error("this node cannot take commands: {0}")]
    Stopped(String),
    /// The configured policy breaks the domain's bounds.
    #[error("the configured policy cannot be put in force: {0}")]
    Policy(Rejection),
    /// The first policy could not be written.
    #[error("the first policy could not be written: {0}")]
    Seed(String),
    /// The machine gave no thread.
    #[error("the writer's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// How the engine spends memory and time.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// How many commands may wait; one more is told [`EngineError::TooBusy`]. Default 4 096.
    pub queue: usize,
    /// How many commands share one commit at most. Default 512: beyond that the commit's own cost no longer shows.
    pub batch_max: usize,
    /// How many provisions share one commit at most, where bulks are among the commands (a single bulk may be larger).
    /// Default 5 000: with commissions that stays below some 20 000 events.
    pub batch_items_max: usize,
    /// How many aggregates and facts the ledger keeps loaded between turns. Default 100 000.
    pub cache_max: usize,
    /// How long the answer to an idempotency key is remembered. Default 30 days.
    pub receipts_kept: Duration,
    /// How long after it was sent a batch is tried again where nothing was done, before it is told
    /// [`EngineError::StoreUnavailable`]; and how long one whose commit failed waits to learn its fate, before it is told
    /// [`EngineError::OutcomeUnknown`]. Default 3 s.
    pub patience: Duration,
    /// How long it is until the writer looks for expired receipts again once it found few. Default 60 s.
    pub expire_every: Duration,
    /// What happens when the writer panics. The default ends the process, because a node without a writer that still answers
    /// queries looks alive; a test may look on.
    pub on_panic: fn(),
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            queue: 4_096,
            batch_max: 512,
            batch_items_max: 5_000,
            cache_max: 100_000,
            receipts_kept: Duration::from_secs(30 * 24 * 60 * 60),
            patience: Duration::from_secs(3),
            expire_every: Duration::from_secs(60),
            on_panic: || std::process::abort(),
        }
    }
}

/// The handle: send a command, wait for its durable answer.
#[derive(Debug, Clone)]
pub struct Engine {
    queue: mpsc::Sender<Message>,
    committed: watch::Receiver<u64>,
    stopped: Arc<OnceLock<String>>,
    closing: Arc<AtomicBool>,
    /// Closed when the writer's thread has let go of the store.
    ended: watch::Receiver<()>,
}

/// Reads the network, seeds the first policy into an empty store, and starts the writer on its own thread (the store may
/// block).
///
/// # Errors
/// See [`EngineStartError`].
pub async fn start<S: EventStore>(
    store: S,
    clock: Clock,
    seed: Policy,
    options: EngineOptions,
) -> Result<Engine, EngineStartError> {
    seed.check().map_err(EngineStartError::Policy)?;
    let (queue, waiting) = mpsc::channel(options.queue.max(1));
    let (position, committed) = watch::channel(0);
    let (end, ended) = watch::channel(());
    let (ready, started) = oneshot::channel();
    let stopped = Arc::new(OnceLock::new());
    let closing = Arc::new(AtomicBool::new(false));
    let signs = Signs { committed: position, stopped: Arc::clone(&stopped), closing: Arc::clone(&closing) };

    std::thread::Builder::new().name("ledger writer".into()).spawn(move || {
        // Dropped last, also by a panic: whoever waits for the end learns it only when the store is closed.
        let _end = end;
        let work = move || -> Result<(), std::io::Error> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let mut writer = Writer::new(store, clock, options, Inbox::new(waiting, &options), signs);
                let outcome = writer.prepare(seed).await;
                let run = outcome.is_ok();
                if ready.send(outcome).is_ok() && run {
                    writer.run().await;
                }
            });
            Ok(())
        };
        match std::panic::catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the writer could not start"),
            Err(_) => {
                tracing::error!("the writer panicked; this process cannot go on");
                (options.on_panic)();
            }
        }
    })?;

    match started.await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(EngineStartError::Stopped("the writer ended before it had begun".into())),
    }
    Ok(Engine { queue, committed, stopped, closing, ended })
}

impl Engine {
    /// Sends a command and waits until its answer is durable. A command once sent is carried out, even if nobody waits any
    /// more.
    ///
    /// # Errors
    /// See [`EngineError`]; all but [`EngineError::OutcomeUnknown`] promise that nothing was done.
    pub async fn submit(&self, envelope: CommandEnvelope) -> Result<Reply, EngineError> {
        if let Some(reason) = self.stopped.get() {
            return Err(EngineError::Stopped(reason.clone()));
        }
        if self.closing.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        let (answer, reply) = oneshot::channel();
        match self.queue.try_send(Message::Command(Box::new(Request { envelope, answer, since: Instant::now() }))) {
            Ok(()) => reply.await.unwrap_or(Err(EngineError::OutcomeUnknown)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(EngineError::TooBusy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(shutting_down()),
        }
    }

    /// The position of the newest event this node knows to be committed; changes with every commit of this node.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// Why this node takes no commands, if so: for `/readyz`, which says that, and for the node's own log, which says why.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        match self.stopped.get() {
            Some(reason) => Some(reason.clone()),
            None if self.closing.load(Ordering::Acquire) => Some(SHUTTING_DOWN.to_owned()),
            None if self.queue.is_closed() => Some("the writer has ended".to_owned()),
            None => None,
        }
    }

    /// Refuses new commands, carries out and answers those that wait, and returns when the writer has let go of the store.
    pub async fn shutdown(&self) {
        self.closing.store(true, Ordering::Release);
        // An error means that the writer has ended already.
        let _ = self.queue.send(Message::Shutdown).await;
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

const SHUTTING_DOWN: &str = "it is shutting down";

fn shutting_down() -> EngineError {
    EngineError::Stopped(SHUTTING_DOWN.to_owned())
}
