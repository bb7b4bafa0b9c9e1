//! The writer: collects what waits, serves it in one turn, answers, and knows what to do after each kind of failure.
//!
//! | what failed | what was done | what happens |
//! |---|---|---|
//! | before the append | nothing | a few more tries, then `TooBusy` |
//! | the append | not known | the ledger is dropped and the store asked, before anything else is decided |
//! | … and it is in the log | all of it | answered from what was decided |
//! | … and it is not | nothing | decided again on a fresh ledger; if that keeps failing, one command at a time, then `TooBusy` |
//! | … and the store does not say for a while | not known | `OutcomeUnknown`; asked on; meanwhile `TooBusy` to all others |
//! | history cut, an unknown event | nothing | the node stops for good |

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aggregates::command::{Command, CommandEnvelope};
use aggregates::platform::Policy;
use aggregates::primitives::{Actor, CommandId, Role, UserId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::recovery::{self, Memory};
use super::turn::{self, Decided, Failure, Replies};
use super::{EngineError, EngineOptions, EngineStartError, Outcome, Reply};
use crate::clock::Clock;
use crate::store::{EventStore, Head, StoreError};

/// How often a batch is tried where nothing was done.
const TRIES: u32 = 4;
/// The pauses between tries start here and double.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// … up to here.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// After so many commands in a row whose commit kept failing alone too, it is the store and not a command that is at fault.
const GIVE_UPS: u32 = 2;
/// How many expired receipts go in one idle step.
const EXPIRE_AT_ONCE: usize = 500;
/// How long it is until the writer looks for expired receipts again once it found none.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// What comes through the queue.
#[derive(Debug)]
pub(super) enum Message {
    /// Carry this out.
    Command(Box<Request>),
    /// Take no more, carry out what waits, and end.
    Shutdown,
}

/// A command, and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) envelope: CommandEnvelope,
    pub(super) answer: oneshot::Sender<Result<Reply, EngineError>>,
}

/// Commands that share a commit.
#[derive(Debug, Default)]
struct Pending {
    envelopes: Vec<CommandEnvelope>,
    answers: Vec<oneshot::Sender<Result<Reply, EngineError>>>,
    /// How many provisions they may come to.
    items: usize,
}

impl Pending {
    fn of(request: Request) -> Self {
        let mut pending = Self::default();
        pending.push(request);
        pending
    }

    fn push(&mut self, request: Request) {
        self.items += items(&request.envelope.command);
        self.envelopes.push(request.envelope);
        self.answers.push(request.answer);
    }

    fn len(&self) -> usize {
        self.envelopes.len()
    }

    /// Tells everyone. Whoever has gone is not missed; what was done stays done.
    fn tell(&mut self, replies: Replies) {
        for (answer, reply) in self.answers.drain(..).zip(replies) {
            let _ = answer.send(reply);
        }
    }

    fn tell_all(&mut self, error: &EngineError) {
        for answer in self.answers.drain(..) {
            let _ = answer.send(Err(error.clone()));
        }
    }

    /// The same commands, each alone.
    fn singly(self) -> impl Iterator<Item = Self> {
        let requests = self.envelopes.into_iter().zip(self.answers);
        requests.map(|(envelope, answer)| Self::of(Request { envelope, answer }))
    }
}

/// How many provisions a command may come to.
fn items(command: &Command) -> usize {
    match command {
        Command::ProvisionBulk { items, .. } => items.len().max(1),
        _ => 1,
    }
}

/// What became of a batch whose commit failed.
enum Fate {
    Written,
    NotWritten,
    /// Nobody waits for it any more: they were told that it is not known.
    Told,
    Stopped(String),
}

/// How the serving of a batch ended.
enum Served {
    /// Everyone was answered.
    Done,
    /// Everyone was told that nothing was done, because it could not be.
    GivenUp,
    /// Nothing was done and nobody told, because the commit keeps failing: one command may be at fault, and the others need
    /// not suffer for it.
    Apart(Pending),
}

/// The one task that owns the ledger.
pub(super) struct Writer<S> {
    store: S,
    clock: Clock,
    options: EngineOptions,
    queue: mpsc::Receiver<Message>,
    /// Received, and too large for the batch it came with.
    carried: Option<Request>,
    /// `None` until it is built, and after every failure that leaves it in doubt.
    memory: Option<Memory>,
    /// The last head that this node knows to be committed.
    anchor: Option<Head>,
    committed: watch::Sender<u64>,
    stopped: Arc<OnceLock<String>>,
    tidy_at: Instant,
}

impl<S: EventStore> Writer<S> {
    pub(super) fn new(
        store: S,
        clock: Clock,
        options: EngineOptions,
        queue: mpsc::Receiver<Message>,
        committed: watch::Sender<u64>,
        stopped: Arc<OnceLock<String>>,
    ) -> Self {
        Self {
            store,
            clock,
            options,
            queue,
            carried: None,
            memory: None,
            anchor: None,
            committed,
            stopped,
            tidy_at: Instant::now(),
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
        self.serve(Pending::of(Request { envelope: seeding(seed)?, answer }), true).await;
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
        while let Some(mut batch) = self.collect().await {
            match self.stopped.get() {
                Some(reason) => batch.tell_all(&EngineError::Stopped(reason.clone())),
                None => self.serve(batch, false).await,
            }
        }
    }

    /// Waits for a command, and takes along what else waits, up to the limits.
    async fn collect(&mut self) -> Option<Pending> {
        let first = match self.carried.take() {
            Some(request) => request,
            None => loop {
                match self.next().await? {
                    Message::Command(request) => break *request,
                    Message::Shutdown => self.queue.close(),
                }
            },
        };
        let mut batch = Pending::of(first);
        while batch.len() < self.options.batch_max {
            match self.queue.try_recv() {
                Ok(Message::Command(request)) => {
                    if batch.items + items(&request.envelope.command) > self.options.batch_items_max {
                        self.carried = Some(*request);
                        break;
                    }
                    batch.push(*request);
                }
                Ok(Message::Shutdown) => self.queue.close(),
                Err(_) => break,
            }
        }
        Some(batch)
    }

    /// The next message; tidies up while there is none.
    async fn next(&mut self) -> Option<Message> {
        if let Ok(message) = self.queue.try_recv() {
            return Some(message);
        }
        while self.stopped.get().is_none() {
            let wake = (Instant::now() + self.options.idle_after).max(self.tidy_at);
            match timeout_at(wake, self.queue.recv()).await {
                Ok(message) => return message,
                Err(_) => self.tidy().await,
            }
        }
        self.queue.recv().await
    }

    /// Drops a few receipts that have had their time.
    async fn tidy(&mut self) {
        let kept = i64::try_from(self.options.receipts_kept.as_secs()).unwrap_or(i64::MAX);
        let older_than = self.clock.now().plus_seconds(kept.saturating_neg());
        let dropped = self.store.expire_receipts(older_than, EXPIRE_AT_ONCE).await;
        let more = match dropped {
            Ok(dropped) => dropped >= EXPIRE_AT_ONCE,
            Err(error) => {
                tracing::warn!(%error, "expired receipts could not be dropped");
                false
            }
        };
        self.tidy_at = Instant::now() + if more { Duration::ZERO } else { EXPIRE_EVERY };
    }

    /// Carries a batch out and answers everyone in it.
    async fn serve(&mut self, batch: Pending, only_on_empty: bool) {
        let mut work = VecDeque::from([batch]);
        let mut give_ups = 0;
        while let Some(mut batch) = work.pop_front() {
            if let Some(reason) = self.stopped.get() {
                batch.tell_all(&EngineError::Stopped(reason.clone()));
                continue;
            }
            if give_ups == GIVE_UPS {
                batch.tell_all(&EngineError::TooBusy);
                continue;
            }
            match self.serve_together(batch, only_on_empty).await {
                Served::Done => give_ups = 0,
                Served::GivenUp => give_ups += 1,
                Served::Apart(batch) => work.extend(batch.singly()),
            }
        }
    }

    /// Carries a batch out in one commit, or finds that it cannot be.
    async fn serve_together(&mut self, mut batch: Pending, only_on_empty: bool) -> Served {
        let mut tries = 0;
        let mut doubted: Option<Box<Decided>> = None;
        loop {
            let (error, fate) = match self.attempt(&batch.envelopes, only_on_empty).await {
                Ok(mut replies) => {
                    if let Some(doubted) = &doubted {
                        keep_first_told(&mut replies, &doubted.replies);
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
                    tracing::warn!(%error, "a commit failed; asking the store what became of it");
                    let fate = self.resolve(&decided, &mut batch).await;
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
                    if doubted.is_some() && tries >= 2 && batch.len() > 1 {
                        return Served::Apart(batch);
                    }
                    if tries == TRIES {
                        tracing::error!(%error, commands = batch.len(), "given up; nothing was done");
                        batch.tell_all(&EngineError::TooBusy);
                        return Served::GivenUp;
                    }
                    tracing::warn!(%error, tries, "nothing was done; trying again");
                    sleep(pause(tries)).await;
                }
            }
        }
    }

    async fn attempt(&mut self, envelopes: &[CommandEnvelope], only_on_empty: bool) -> Result<Replies, Failure> {
        self.remember().await?;
        match &mut self.memory {
            Some(memory) => turn::take(&mut self.store, memory, &self.clock, envelopes, only_on_empty).await,
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
        batch.tell(replies);
    }

    fn publish(&mut self, head: Head) {
        self.committed.send_if_modified(|position| {
            let newer = head.position > *position;
            *position = head.position.max(*position);
            newer
        });
        self.anchor = Some(head);
    }

    /// Finds out what became of a batch whose commit failed. Nothing else is decided before that is known.
    async fn resolve(&mut self, decided: &Decided, batch: &mut Pending) -> Fate {
        let told_at = Instant::now() + self.options.patience;
        let mut told = false;
        let mut round = 0;
        loop {
            match self.store.resolve(decided.before.position, &decided.commands).await {
                Ok((head, _)) if head.position < decided.before.position => {
                    let cut = format!(
                        "history was cut: the head is at {}, but {} was committed",
                        head.position, decided.before.position
                    );
                    return self.lost(cut, batch);
                }
                Ok(_) if told => return Fate::Told,
                Ok((_, found)) => {
                    // One transaction: any of its commands speaks for all. A batch of refusals only leaves no command to
                    // look for; deciding it again finds its receipts, if it was committed.
                    let written = decided.commands.first().is_some_and(|command| found.contains(command));
                    return if written { Fate::Written } else { Fate::NotWritten };
                }
                Err(error @ (StoreError::HistoryCut(_) | StoreError::Schema(_) | StoreError::Unreadable(_))) => {
                    return self.lost(error.to_string(), batch);
                }
                Err(error) => tracing::warn!(%error, "it is not known yet what became of a commit"),
            }
            round += 1;
            if !told && Instant::now() >= told_at {
                batch.tell_all(&EngineError::OutcomeUnknown);
                told = true;
            }
            if !told {
                sleep(pause(round)).await;
            } else if self.turn_away(pause(round)).await.is_none() {
                return Fate::Told;
            }
        }
    }

    /// The node stops while a batch is in doubt: nobody may be told that nothing was done.
    fn lost(&mut self, reason: String, batch: &mut Pending) -> Fate {
        batch.tell_all(&EngineError::OutcomeUnknown);
        Fate::Stopped(reason)
    }

    /// Tells whoever comes within this time that nothing was done; `None` once the queue is closed and empty.
    async fn turn_away(&mut self, time: Duration) -> Option<()> {
        let until = Instant::now() + time;
        if let Some(request) = self.carried.take() {
            let _ = request.answer.send(Err(EngineError::TooBusy));
        }
        loop {
            match timeout_at(until, self.queue.recv()).await {
                Ok(Some(Message::Command(request))) => {
                    let _ = request.answer.send(Err(EngineError::TooBusy));
                }
                Ok(Some(Message::Shutdown)) => self.queue.close(),
                Ok(None) => return None,
                Err(_) => return Some(()),
            }
        }
    }

    /// Never appends again.
    fn stop(&mut self, reason: &str) {
        tracing::error!(reason, "this node stops taking commands");
        let _ = self.stopped.set(reason.to_owned());
        self.memory = None;
    }
}

/// Where a commit was in doubt and the batch was decided again, a receipt that the first try left is not a repetition by the
/// client: it is told what it was going to be told.
fn keep_first_told(replies: &mut Replies, first: &Replies) {
    for (reply, first) in replies.iter_mut().zip(first) {
        if let (Ok(reply), Ok(first)) = (reply, first)
            && reply.replayed
            && reply.outcome == first.outcome
            && reply.position == first.position
        {
            reply.replayed = first.replayed;
        }
    }
}

fn pause(round: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << round.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
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
