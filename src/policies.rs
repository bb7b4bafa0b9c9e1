//! The service's own hand: what the policy in force wants done and nobody asks for. At present it ends upline requests: those
//! whose time is over expire, those whose requester is out of business fail.
//!
//! Shape: one task beside the projector. It finds what is overdue in the read models and sends a command for each through the
//! engine, as the actor `policy:upline_requests`. Whether it is overdue is the ledger's to decide, on the true head: what the
//! read models do not know yet, or another node has done already, is refused there and changes nothing. So any number of nodes
//! may run it, and nothing is lost with a process: what is overdue is found again.
//!
//! Cost: a glance at clock and projector every [`TICK`]. It looks into the read models (a few short ranges of indexes) only when
//! the next request has come due or the log has moved, and then at most once every [`LOOK_INTERVAL`]; it sends its commands one
//! after the other, at most [`COMMANDS_MAX`] of a sort in one go, so that those who wait for an answer come before it. An
//! error is retried with backoff. If the task panics the process exits: what should end by itself must not stay for ever.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aggregates::command::{Command, CommandEnvelope};
use aggregates::primitives::{Actor, CommandId, Role, Timestamp, UserId};
use projections::ReadPool;
use projections::sql::ViewError;
use projections::upline_requests;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::engine::{Engine, EngineError, Outcome};
use crate::fresh;

/// Who the log says it was.
const ACTOR: &str = "policy:upline_requests";
/// How often it glances at the clock, which may be moved by hand.
const TICK: Duration = Duration::from_millis(200);
/// How long it is at least between two looks into the read models while the log moves.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How many requests of a sort it ends in one go.
const COMMANDS_MAX: u32 = 100;
/// For how long it waits to see in the read models what it has just done.
const FOLD_TIME_MAX: Duration = Duration::from_secs(5);
/// The first pause where something could not be done, doubled up to the longest.
const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// The handle of the running task.
#[derive(Debug)]
pub struct Policies {
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the task works with.
struct Hand {
    engine: Engine,
    views: ReadPool,
    clock: Clock,
    /// How far the read models have come.
    folded: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
}

/// Why it could not go on.
#[derive(Debug, thiserror::Error)]
enum HandError {
    #[error("{0}")]
    Views(#[from] ViewError),
    #[error("{0}")]
    Engine(#[from] EngineError),
}

/// Starts the task.
#[must_use]
pub fn start(engine: Engine, views: ReadPool, clock: Clock, folded: watch::Receiver<u64>) -> Policies {
    let (stop, stopping) = watch::channel(false);
    let task = tokio::spawn(Hand { engine, views, clock, folded, stopping }.run());
    let task = tokio::spawn(async move {
        if let Err(failure) = task.await
            && failure.is_panic()
        {
            tracing::error!("the policies panicked; exiting");
            std::process::exit(70);
        }
    });
    Policies { stop, task: Mutex::new(Some(task)) }
}

impl Policies {
    /// Ends it after the command in hand.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It only waits for the task; a panic there has already ended the process.
            let _ = task.await;
        }
    }
}

/// What a look found and what came of it.
struct Looked {
    /// How far the read models had come.
    position: u64,
    /// When the next request is due, as far as they know.
    next: Option<Timestamp>,
    /// How many requests were ended, and how many the ledger did not let it end.
    done: usize,
    refused: usize,
}

impl Hand {
    async fn run(mut self) {
        let Ok(id) = UserId::new(ACTOR) else { return };
        let actor = Actor { id, role: Role::System, tenant: None, declared_cost: false };
        let mut known: Option<Looked> = None;
        let mut not_before = Instant::now();
        let mut retry = RETRY_INTERVAL_MIN;
        while !self.is_stopped_within(TICK).await {
            let position = *self.folded.borrow();
            let has_reason = known.as_ref().is_none_or(|known| {
                position != known.position || known.next.is_some_and(|next| next <= self.clock.now())
            });
            if !has_reason || Instant::now() < not_before {
                continue;
            }
            let looked = self.look(&actor).await;
            if let Err(error) = &looked
                && !matches!(error, HandError::Engine(EngineError::Stopped(_)))
            {
                tracing::warn!(%error, "the policies wait");
            }
            let pause = match &looked {
                // There may be more of what was found.
                Ok(Looked { refused: 0, done: 1.., .. }) => Duration::ZERO,
                Ok(Looked { refused: 0, .. }) => LOOK_INTERVAL,
                Ok(_) | Err(_) => retry,
            };
            let all_is_well = looked.as_ref().is_ok_and(|looked| looked.refused == 0);
            retry = if all_is_well { RETRY_INTERVAL_MIN } else { (retry * 2).min(RETRY_INTERVAL_MAX) };
            not_before = Instant::now() + pause;
            // Whatever was done or could not be done is looked at again, also where the log does not move.
            known = looked.ok().filter(|looked| looked.done + looked.refused == 0);
        }
    }

    /// Whether it is to stop, asked for a while.
    async fn is_stopped_within(&mut self, time: Duration) -> bool {
        // A handle that is gone means the same as one that speaks.
        *self.stopping.borrow() || tokio::time::timeout(time, self.stopping.changed()).await.is_ok()
    }

    /// Ends what is overdue, and waits until the read models have seen it.
    async fn look(&mut self, actor: &Actor) -> Result<Looked, HandError> {
        let mut read = self.views.begin(0, Duration::ZERO).await?;
        let position = read.position();
        // The ledger decides no earlier than its last event, whatever this node's clock says.
        let now = self.clock.now().max(read.as_of());
        let overdue = upline_requests::overdue(&mut read, now, COMMANDS_MAX).await?;
        drop(read);
        let expired = overdue.expired.into_iter().map(|request| Command::ExpireRequest { request });
        let orphaned = overdue.orphaned.into_iter().map(|request| Command::FailRequest { request });
        let mut looked = Looked { position, next: overdue.next, done: 0, refused: 0 };
        let mut reached = 0;
        for command in expired.chain(orphaned) {
            if *self.stopping.borrow() {
                break;
            }
            let command_id = CommandId(fresh::id(self.clock.now()));
            let envelope = CommandEnvelope { command_id, actor: actor.clone(), idempotency: None, command };
            let reply = self.engine.submit(envelope).await?;
            reached = reached.max(reply.position);
            match reply.outcome {
                Outcome::Done { .. } => looked.done += 1,
                Outcome::Refused(reason) => {
                    tracing::debug!(%reason, "a request needs no ending");
                    looked.refused += 1;
                }
                Outcome::Denied(reason) => {
                    tracing::error!(%reason, "the policies may not end a request");
                    looked.refused += 1;
                }
            }
        }
        // Else the next look would find the same again.
        let seen = self.folded.wait_for(|position| *position >= reached);
        tokio::select! {
            _ = tokio::time::timeout(FOLD_TIME_MAX, seen) => {}
            _ = self.stopping.changed() => {}
        }
        Ok(looked)
    }
}
