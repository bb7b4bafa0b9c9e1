//! The writer: collects what waits, serves it in one turn, answers, and knows what to do after each kind of failure.
//!
//! | what failed | what was done | what happens |
//! |---|---|---|
//! | before the append | nothing | tried again while patience lasts, then `StoreUnavailable` |
//! | the append | not known | the ledger is dropped and the store asked, before anything else is decided |
//! | … and it is in the log | all of it | answered from what was decided |
//! | … and it is not | nothing | decided again on a fresh ledger; if that keeps failing, one command at a time, then `StoreUnavailable` |
//! | … and the store does not say for a while | not known | `OutcomeUnknown`; asked on; meanwhile `StoreUnavailable` to all others |
//! | history cut, an unknown event | nothing | the node stops for good |
//!
//! Patience is a batch's own, from when its first command was sent: what has waited in the queue behind an outage does not wait
//! as long again. An outage is told to the log once where it begins, once where somebody suffers, once where it ends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aggregates::command::{Command, CommandEnvelope};
use aggregates::platform::Policy;
use aggregates::primitives::{Actor, CommandId, Role, Timestamp, UserId};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::doubt::{self, Fate, pause};
use super::inbox::{Collected, Inbox, Pending, Request};
use super::recovery::{self, Memory};
use super::turn::{self, Decided, Failure, Replies};
use super::{EngineError, EngineOptions, EngineStartError, Outcome, Reply};
use crate::clock::Clock;
use crate::store::{EventStore, Head, StoreError};

/// How often a batch is tried at least where nothing was done; and at the most where others need not wait for it, and when the
/// node is told to end.
const TRIES: u32 = 4;
/// After so many commands in a row whose commit kept failing alone too, it is the store and not a command that is at fault.
const GIVE_UPS: u32 = 2;
/// How long a node that shares the log waits for the clients it has just answered to ask again, before it queues for its turn: it
/// will wait there for the other node anyway, and what is in the batch by then is read along with the lock.
const GATHERING: Duration = Duration::from_micros(300);
/// A smaller batch is not worth it.
const GATHERED_MIN: usize = 8;
/// How many expired receipts go at once: a commit of some milliseconds, for which whoever sent meanwhile has to wait.
const EXPIRE_AT_ONCE: usize = 1_000;
/// The pause where more have expired than went: with it some 40 000 a second can go, more than a node writes, and a backlog of
/// millions is gone in minutes.
const EXPIRE_AGAIN: Duration = Duration::from_millis(20);

/// How the serving of a batch ended.
enum Served {
    /// Everyone was answered.
    Done,
    /// Nothing was done and nobody told, for as long as it was to be tried.
    GivenUp(Pending),
    /// Nothing was done and nobody told, because the commit keeps failing: one command may be at fault, and the others need
    /// not suffer for it.
    Apart(Pending),
}

/// What the writer and whoever holds its handle tell each other.
pub(super) struct Signs {
    /// The newest committed position.
    pub(super) committed: watch::Sender<u64>,
    /// Why this node takes no commands any more.
    pub(super) stopped: Arc<OnceLock<String>>,
    /// Whether the node is to end, and nobody has time.
    pub(super) closing: Arc<AtomicBool>,
}

/// While the store takes nothing.
struct Outage {
    since: Instant,
    /// Whether somebody was told.
    told: bool,
}

/// The one task that owns the ledger.
pub(super) struct Writer<S> {
    store: S,
    clock: Clock,
    options: EngineOptions,
    inbox: Inbox,
    /// `None` until it is built, and after every failure that leaves it in doubt.
    memory: Option<Memory>,
    /// The last head that this node knows to be committed.
    anchor: Option<Head>,
    signs: Signs,
    tidy_at: Instant,
    /// How many commands the last turn served.
    served: usize,
    outage: Option<Outage>,
}

impl<S: EventStore> Writer<S> {
    pub(super) fn new(store: S, clock: Clock, options: EngineOptions, inbox: Inbox, signs: Signs) -> Self {
        Self {
            store,
            clock,
            options,
            inbox,
            memory: None,
            anchor: None,
            signs,
            tidy_at: Instant::now(),
            served: 0,
            outage: None,
        }
    }

    /// Builds the ledger, and puts the first policy in force where there is no history yet.
    pub(super) async fn prepare(&mut self, seed: Policy) -> Result<(), EngineStartError> {
        let mut tries = 0;
        loop {
            match self.remember().await {
                Ok(()) => break,
                Err(Failure::Stop(reason)) => return Err(EngineStartError::Stopped(reason)),
                Err(Failure::Nothing { error, .. } | Failure::InDoubt { error, .. }) => {
                    tries += 1;
                    if tries == TRIES {
                        return Err(EngineStartError::Store(error));
                    }
                    sleep(pause(tries)).await;
                }
            }
        }
        if self.anchor.as_ref().is_some_and(|head| head.position > 0) {
            return Ok(());
        }
        let (answer, mut reply) = oneshot::channel();
        let request = Request { envelope: seeding(seed)?, answer, since: Instant::now() };
        self.serve(Pending::of(request), true).await;
        match reply.try_recv() {
            // No answer: another process was faster.
            Err(_) | Ok(Ok(Reply { outcome: Outcome::Done { .. }, .. })) => Ok(()),
            Ok(Ok(Reply { outcome: Outcome::Refused(rejection), .. })) => Err(EngineStartError::Policy(rejection)),
            Ok(Ok(Reply { outcome: Outcome::Denied(denial), .. })) => Err(EngineStartError::Seed(denial.to_string())),
            Ok(Err(EngineError::Stopped(reason))) => Err(EngineStartError::Stopped(reason)),
            Ok(Err(error)) => Err(EngineStartError::Seed(error.to_string())),
        }
    }

    /// Serves until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        loop {
            let stopped = self.signs.stopped.get().cloned();
            let closing = self.signs.closing.load(Ordering::Acquire);
            if stopped.is_none() && !closing && Instant::now() >= self.tidy_at {
                self.tidy().await;
            }
            match (self.inbox.collect(stopped.is_none().then_some(self.tidy_at)).await, stopped) {
                (Collected::Batch(mut batch), Some(reason)) => batch.tell_all(&EngineError::Stopped(reason)),
                (Collected::Batch(mut batch), None) => {
                    self.gather(&mut batch);
                    self.serve(batch, false).await;
                }
                // Time to tidy up.
                (Collected::Idle, _) => {}
                (Collected::Ended, _) => return,
            }
        }
    }

    /// Gives the clients of the last turn a moment where another node has the next one.
    fn gather(&mut self, batch: &mut Pending) {
        let shares = self.memory.as_ref().is_some_and(|memory| memory.others_write);
        if shares && self.served >= GATHERED_MIN && batch.len() < self.served {
            // This thread has nothing else to do, and a timer of the runtime counts in milliseconds.
            std::thread::sleep(GATHERING);
            self.inbox.top_up(batch);
        }
    }

    /// Drops a few receipts that have had their time. Done between two turns, however busy the node is: one that is never idle
    /// would keep them for ever.
    async fn tidy(&mut self) {
        let kept = i64::try_from(self.options.receipts_kept.as_secs()).unwrap_or(i64::MAX);
        // Of clock and log the earlier one: a clock that is ahead for a moment must not take receipts that are still due.
        let logged = self.anchor.as_ref().map_or(Timestamp::MIN, |head| head.recorded_at);
        let older_than = self.clock.now().min(logged).plus_seconds(kept.saturating_neg());
        let dropped = self.store.expire_receipts(older_than, EXPIRE_AT_ONCE).await;
        let more = match dropped {
            Ok(dropped) => dropped >= EXPIRE_AT_ONCE,
            Err(error) => {
                tracing::warn!(%error, "expired receipts could not be dropped");
                false
            }
        };
        self.tidy_at = Instant::now() + if more { EXPIRE_AGAIN } else { self.options.expire_every };
    }

    /// Carries a batch out and answers everyone in it.
    async fn serve(&mut self, batch: Pending, only_on_empty: bool) {
        let mut work = VecDeque::from([batch]);
        let (mut give_ups, mut alone, mut any_done) = (0, only_on_empty, false);
        while let Some(mut batch) = work.pop_front() {
            if let Some(reason) = self.signs.stopped.get() {
                batch.tell_all(&EngineError::Stopped(reason.clone()));
                continue;
            }
            if give_ups == GIVE_UPS {
                batch.tell_all(&EngineError::StoreUnavailable);
                continue;
            }
            let others_wait = any_done || !work.is_empty();
            match self.serve_together(batch, alone, others_wait, only_on_empty).await {
                Served::Done => (give_ups, any_done) = (0, true),
                // The store may be at fault as well as the command: the others are tried first.
                Served::GivenUp(batch) if !any_done && !self.hurries(&batch) => work.push_back(batch),
                Served::GivenUp(mut batch) => {
                    self.tell_of_outage(&mut batch);
                    give_ups += 1;
                }
                Served::Apart(batch) => {
                    alone = true;
                    work.extend(batch.singly());
                }
            }
        }
    }

    /// Carries a batch out in one commit, or finds that it cannot be. Nothing joins what is to be carried out `alone`; it is not
    /// tried for long while `others_wait`.
    async fn serve_together(
        &mut self,
        mut batch: Pending,
        alone: bool,
        others_wait: bool,
        only_on_empty: bool,
    ) -> Served {
        let began = Instant::now();
        let mut tries = 0;
        let mut doubted: Option<Box<Decided>> = None;
        loop {
            // Only the first try takes more along: what is tried again is what failed.
            let first = tries == 0 && doubted.is_none() && !alone;
            let (error, fate) = match self.attempt(&mut batch, first, only_on_empty).await {
                Ok(mut replies) => {
                    if let Some(doubted) = &doubted {
                        doubt::keep_first_told(&mut replies, &doubted.replies);
                    }
                    self.settle(&mut batch, replies);
                    return Served::Done;
                }
                Err(Failure::Nothing { error, dirty }) => {
                    if dirty {
                        self.memory = None;
                    }
                    (error, Fate::NotWritten)
                }
                Err(Failure::InDoubt { error, decided }) => {
                    self.memory = None;
                    if self.outage.is_none() {
                        tracing::warn!(%error, "a commit failed; asking the store what became of it");
                    }
                    let patience = self.options.patience;
                    let fate = doubt::resolve(&mut self.store, &decided, &mut batch, &mut self.inbox, patience).await;
                    if matches!(fate, Fate::Written) {
                        self.publish(decided.after);
                        batch.tell(decided.replies);
                        return Served::Done;
                    }
                    doubted = Some(decided);
                    (error, fate)
                }
                Err(Failure::Stop(reason)) => {
                    // Told only now: what an earlier try left in doubt was resolved before this one.
                    (StoreError::Unreadable(reason.clone()), Fate::Stopped(reason))
                }
            };
            match fate {
                Fate::Written | Fate::Told => return Served::Done,
                Fate::Stopped(reason) => {
                    self.stop(&reason);
                    batch.tell_all(&EngineError::Stopped(reason));
                    return Served::Done;
                }
                Fate::NotWritten => {
                    tries += 1;
                    self.note_outage(&error);
                    if doubted.is_some() && tries >= 2 && batch.len() > 1 {
                        return Served::Apart(batch);
                    }
                    let enough = self.hurries(&batch) || (doubted.is_some() && others_wait);
                    // A store that makes each try wait is not tried so often.
                    if (tries >= TRIES && enough) || began.elapsed() >= self.options.patience {
                        return Served::GivenUp(batch);
                    }
                    sleep(pause(tries)).await;
                }
            }
        }
    }

    /// Whether a batch has been waited for long enough, or nobody has time.
    fn hurries(&self, batch: &Pending) -> bool {
        batch.since.elapsed() >= self.options.patience || self.signs.closing.load(Ordering::Acquire)
    }

    /// The store took nothing.
    fn note_outage(&mut self, error: &StoreError) {
        if self.outage.is_none() {
            tracing::warn!(%error, "the store takes nothing; nothing was done, trying again");
            self.outage = Some(Outage { since: Instant::now(), told: false });
        } else {
            tracing::debug!(%error, "the store still takes nothing");
        }
    }

    /// Tells a batch that it was tried for long enough.
    fn tell_of_outage(&mut self, batch: &mut Pending) {
        if let Some(outage) = self.outage.as_mut().filter(|outage| !outage.told) {
            tracing::error!(
                commands = batch.len(),
                "given up; commands are turned away until the store can be written to"
            );
            outage.told = true;
        }
        batch.tell_all(&EngineError::StoreUnavailable);
    }

    async fn attempt(&mut self, batch: &mut Pending, with_late: bool, only_on_empty: bool) -> Result<Replies, Failure> {
        self.remember().await?;
        let late = with_late.then_some(&mut self.inbox);
        match &mut self.memory {
            Some(memory) => turn::take(&mut self.store, memory, &self.clock, batch, late, only_on_empty).await,
            None => Err(Failure::Stop("there is no ledger".into())),
        }
    }

    /// Builds the ledger where there is none.
    async fn remember(&mut self) -> Result<(), Failure> {
        if self.memory.is_none() {
            let memory = recovery::rebuild(&mut self.store, self.anchor.as_ref()).await?;
            self.publish(memory.head.clone());
            self.memory = Some(memory);
        }
        Ok(())
    }

    /// After a turn that came to answers: they are durable now.
    fn settle(&mut self, batch: &mut Pending, replies: Replies) {
        if let Some(memory) = &mut self.memory {
            memory.ledger.shrink(self.options.cache_max);
            let head = memory.head.clone();
            self.publish(head);
        }
        if let Some(outage) = self.outage.take() {
            tracing::info!(milliseconds = outage.since.elapsed().as_millis(), "the store can be written to again");
        }
        self.served = batch.len();
        batch.tell(replies);
    }

    fn publish(&mut self, head: Head) {
        self.signs.committed.send_if_modified(|position| {
            let newer = head.position > *position;
            *position = head.position.max(*position);
            newer
        });
        self.anchor = Some(head);
    }

    /// Never appends again.
    fn stop(&mut self, reason: &str) {
        tracing::error!(reason, "this node stops taking commands");
        let _ = self.signs.stopped.set(reason.to_owned());
        self.memory = None;
    }
}

/// The command that puts the first policy in force.
fn seeding(policy: Policy) -> Result<CommandEnvelope, EngineStartError> {
    let id = UserId::new("policy:configuration").map_err(|error| EngineStartError::Seed(error.0))?;
    Ok(CommandEnvelope {
        command_id: CommandId(Uuid::now_v7()),
        actor: Actor { id, role: Role::SuperAdmin, tenant: None, declared_cost: false },
        idempotency: None,
        command: Command::SetPolicy(policy),
    })
}
