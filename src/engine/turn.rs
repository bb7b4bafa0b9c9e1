//! One turn at the head: prefetch → lock → catch up → receipts → who came meanwhile → decide in order → append.
//!
//! A node that writes alone leaves out what lies between, where all it needs is in memory: it decides at the head that it left,
//! and the append sees to it that the head is still there and that no key has been answered. Where it was overtaken nothing was
//! done, what was absorbed is forgotten, and the batch takes the lock.
//!
//! Order is the point. What was prefetched is believed only if the head has not moved since; receipts are read under the lock, or
//! their absence is checked by the append and, at the last moment, by their own key; every command is decided on a ledger that
//! holds the true head and the batch's earlier commands. Nothing is answered here: the caller answers once the append has
//! returned.

use aggregates::command::{CommandEnvelope, ReceiptKey};
use aggregates::ledger::{Decision, Key, Ledger, Loaded, Receipt, Receipts, Remembered};
use aggregates::primitives::CommandId;
use aggregates::rejection::Rejection;

use super::inbox::{Inbox, Pending};
use super::receipts::{self, KnownReceipts};
use super::recovery::{self, CatchUp, Memory};
use super::seal::Sealer;
use super::{EngineError, Outcome, Reply};
use crate::clock::Clock;
use crate::store::{EventStore, Head, StoreError, Turn};

/// How often a decision may ask for more: a request's approval knows its wallets only on the way, a refund its earners.
const MISSING_ROUNDS: usize = 4;

/// Who comes late joins a turn only where they are at least this part of it: looking up what they need is a round trip under
/// the lock, and all others wait for it.
const LATE_PART: usize = 8;

/// The answers of a batch, in its order.
pub(super) type Replies = Vec<Result<Reply, EngineError>>;

/// A batch that was decided, and whose commit failed.
#[derive(Debug)]
pub(super) struct Decided {
    /// What everyone is to be told if it is in the log.
    pub(super) replies: Replies,
    /// The commands that have events; all of them are in the log, or none.
    pub(super) commands: Vec<CommandId>,
    /// The head before.
    pub(super) before: Head,
    /// The head after.
    pub(super) after: Head,
}

/// Why a turn did not come to answers.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was done. `dirty` says that the ledger has absorbed what was not committed.
    Nothing {
        /// What the store said.
        error: StoreError,
        /// Whether the ledger must be dropped.
        dirty: bool,
    },
    /// It is not known whether the batch was committed. The ledger must be dropped.
    InDoubt {
        /// What the store said.
        error: StoreError,
        /// What was decided.
        decided: Box<Decided>,
    },
    /// Nothing was done, and this node must do nothing more.
    Stop(String),
}

impl Failure {
    /// Of an error before the append.
    pub(super) fn before_append(error: StoreError, dirty: bool) -> Self {
        match error {
            StoreError::HistoryCut(_) | StoreError::Unreadable(_) | StoreError::Schema(_) => {
                Self::Stop(error.to_string())
            }
            StoreError::Busy(_) | StoreError::Overtaken(_) | StoreError::Database(_) => Self::Nothing { error, dirty },
        }
    }
}

/// Takes one turn for a batch.
///
/// While the lock is waited for more commands come. Those of `late` join the batch once it is had: a node that had to wait does
/// the more in its turn, and so several nodes are as fast as one. What they need is read under the lock.
///
/// With `only_on_empty` nothing is decided, and no reply given, unless the log is empty under the lock: of ten processes that
/// start at once on a new store, one seeds it.
pub(super) async fn take<S: EventStore>(
    store: &mut S,
    memory: &mut Memory,
    clock: &Clock,
    batch: &mut Pending,
    late: Option<&mut Inbox>,
    only_on_empty: bool,
) -> Result<Replies, Failure> {
    let keys = receipts::keys(&batch.envelopes);
    let may_assume =
        !only_on_empty && !batch.envelopes.iter().any(|envelope| envelope.command.may_change_the_network());
    if may_assume && let Some(replies) = take_assumed(store, memory, clock, batch, &keys).await? {
        return Ok(replies);
    }
    let Memory { ledger, head, others_write } = memory;
    let before_append = |error| Failure::before_append(error, false);
    let mut found = prefetch(store, ledger, batch).await?;
    let mut turn = store.begin(head, &keys).await.map_err(before_append)?;
    *others_write = turn.head().position != head.position;
    if *others_write {
        recovery::catch_up(&mut turn, ledger, head).await.map_err(|error| match error {
            CatchUp::Store(error) => Failure::before_append(error, false),
            CatchUp::Unreadable(reason) => Failure::Stop(reason),
        })?;
        // What was prefetched may be older or newer than what was just taken in: read it again, now that nothing moves.
        let wanted = missing(ledger, &batch.envelopes);
        found = if wanted.is_empty() { Vec::new() } else { turn.load(&wanted).await.map_err(before_append)? };
    }
    head.clone_from(turn.head());
    if only_on_empty && head.position > 0 {
        return Ok(Vec::new());
    }
    take_in(ledger, found)?;

    let mut stored = if keys.is_empty() { Vec::new() } else { turn.receipts(&keys).await.map_err(before_append)? };
    let in_time = batch.len();
    if let Some(inbox) = late.filter(|inbox| inbox.waiting() * LATE_PART >= in_time) {
        inbox.top_up(batch);
        let late = batch.envelopes.get(in_time..).unwrap_or_default();
        let wanted = missing(ledger, late);
        if !wanted.is_empty() {
            take_in(ledger, turn.load(&wanted).await.map_err(before_append)?)?;
        }
        let keys = receipts::keys(late);
        if !keys.is_empty() {
            stored.extend(turn.receipts(&keys).await.map_err(before_append)?);
        }
    }
    match carry_out(turn, ledger, head, clock, &batch.envelopes, stored).await? {
        CarriedOut::Stands(replies) => Ok(replies),
        CarriedOut::Overtaken => {
            Err(Failure::Stop("the store says that a turn under the lock was overtaken".to_owned()))
        }
    }
}

/// Takes a turn at the head that was left, where the store allows it. `None` where it did not come to answers, and nothing was
/// done: the lock is needed.
async fn take_assumed<S: EventStore>(
    store: &mut S,
    memory: &mut Memory,
    clock: &Clock,
    batch: &Pending,
    keys: &[ReceiptKey],
) -> Result<Option<Replies>, Failure> {
    let Memory { ledger, head, others_write } = memory;
    if !missing(ledger, &batch.envelopes).is_empty() {
        return Ok(None);
    }
    let Some(mut turn) = store.assume(head) else { return Ok(None) };
    let stored = turn.receipts(keys).await.map_err(|error| Failure::before_append(error, false))?;
    match carry_out(turn, ledger, head, clock, &batch.envelopes, stored).await? {
        CarriedOut::Stands(replies) => {
            *others_write = false;
            Ok(Some(replies))
        }
        CarriedOut::Overtaken => Ok(None),
    }
}

/// What became of a batch in a turn.
enum CarriedOut {
    /// What was decided stands, and everyone may be told.
    Stands(Replies),
    /// Nothing was done, and the ledger knows nothing of it: a turn that assumed its head needs the lock.
    Overtaken,
}

/// Decides every command in order, and appends.
async fn carry_out<T: Turn>(
    mut turn: T,
    ledger: &mut Ledger,
    head: &mut Head,
    clock: &Clock,
    envelopes: &[CommandEnvelope],
    stored: Vec<(ReceiptKey, Receipt)>,
) -> Result<CarriedOut, Failure> {
    let now = clock.at_turn(turn.now());
    let mut decider = Decider {
        turn: &mut turn,
        ledger,
        receipts: KnownReceipts::stored(stored),
        sealer: Sealer::new(head.clone(), now),
    };
    let mut replies = Vec::with_capacity(envelopes.len());
    for envelope in envelopes {
        match decider.decide(envelope).await {
            Ok(reply) => replies.push(reply),
            Err(Failure::Nothing { error: error @ StoreError::Overtaken(_), .. }) => {
                let changed = decider.sealer.changed();
                return forget(ledger, head, &changed, error);
            }
            Err(failure) => return Err(failure),
        }
    }
    let Decider { receipts, sealer, .. } = decider;

    let mut sealed = sealer.close(ledger).map_err(Failure::Stop)?;
    sealed.batch.receipts = receipts.into_made();
    if turn.is_assumed() && sealed.batch.events.is_empty() {
        // It would not be seen whether what they were refused on still holds.
        let reason = StoreError::Overtaken("nothing moves the head".to_owned());
        return forget(ledger, head, &sealed.changed(), reason);
    }
    if sealed.is_empty() {
        return Ok(CarriedOut::Stands(replies));
    }
    match turn.append(&sealed.batch).await {
        Ok(()) => {
            *head = sealed.head;
            Ok(CarriedOut::Stands(replies))
        }
        Err(error @ StoreError::Overtaken(_)) => forget(ledger, head, &sealed.changed(), error),
        Err(error) => {
            let decided = Decided { replies, commands: sealed.commands, before: head.clone(), after: sealed.head };
            Err(Failure::InDoubt { error, decided: Box::new(decided) })
        }
    }
}

/// Takes back what an assumed turn has let the ledger absorb.
fn forget(ledger: &mut Ledger, head: &Head, changed: &[Key], error: StoreError) -> Result<CarriedOut, Failure> {
    if ledger.forget(head.position, changed) {
        Ok(CarriedOut::Overtaken)
    } else {
        Err(Failure::Nothing { error, dirty: true })
    }
}

/// Reads what the batch will surely need and the ledger does not hold, outside of any turn.
async fn prefetch<S: EventStore>(
    store: &mut S,
    ledger: &Ledger,
    batch: &Pending,
) -> Result<Vec<(Key, Loaded)>, Failure> {
    let wanted = missing(ledger, &batch.envelopes);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    store.load(&wanted).await.map_err(|error| Failure::before_append(error, false))
}

/// What the batch will surely need and the ledger does not hold, each once.
fn missing(ledger: &Ledger, envelopes: &[CommandEnvelope]) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for envelope in envelopes {
        keys.extend(Ledger::footprint(&envelope.command).into_iter().filter(|key| !ledger.has(key)));
    }
    if keys.len() > 1 {
        keys.sort_unstable();
        keys.dedup();
    }
    keys
}

fn take_in(ledger: &mut Ledger, found: Vec<(Key, Loaded)>) -> Result<(), Failure> {
    for (key, loaded) in found {
        if let Err(error) = ledger.load(key.clone(), loaded) {
            return Err(Failure::Stop(format!("{key:?} holds what this version cannot read: {error}")));
        }
    }
    Ok(())
}

/// What deciding a batch works on, command after command.
struct Decider<'turn, T> {
    turn: &'turn mut T,
    ledger: &'turn mut Ledger,
    receipts: KnownReceipts,
    sealer: Sealer,
}

impl<T: Turn> Decider<'_, T> {
    async fn decide(&mut self, envelope: &CommandEnvelope) -> Result<Result<Reply, EngineError>, Failure> {
        if let Some(reply) = self.known_answer(envelope).await? {
            return Ok(Ok(reply));
        }
        for _ in 0..=MISSING_ROUNDS {
            match self.ledger.decide(envelope, self.sealer.now(), &self.receipts) {
                Decision::Accepted(mut accepted) => {
                    self.sealer.seal(envelope, &accepted.events).map_err(Failure::Stop)?;
                    self.ledger.absorb(&mut accepted);
                    let accepted = *accepted;
                    self.sealer.keep(accepted.facts, accepted.personal_data);
                    let position = self.sealer.position();
                    let changed = !accepted.events.is_empty();
                    let answer = accepted.answer;
                    if let Some(idempotency) = envelope.idempotency {
                        let outcome = Remembered::Done { changed, answer: answer.without_personal_data() };
                        let receipt = Receipt { fingerprint: idempotency.fingerprint, outcome, position };
                        self.receipts.remember(idempotency.key, receipt);
                    }
                    for (idempotency, outcome) in accepted.item_receipts {
                        let receipt = Receipt { fingerprint: idempotency.fingerprint, outcome, position };
                        self.receipts.remember(idempotency.key, receipt);
                    }
                    return Ok(Ok(Reply { outcome: Outcome::Done { changed, answer }, position, replayed: false }));
                }
                Decision::Refused(rejection) => {
                    let position = self.sealer.position();
                    if let Some(idempotency) = envelope.idempotency.filter(|_| rejection.is_remembered()) {
                        let outcome = Remembered::Refused(rejection.clone());
                        let receipt = Receipt { fingerprint: idempotency.fingerprint, outcome, position };
                        self.receipts.remember(idempotency.key, receipt);
                    }
                    return Ok(Ok(Reply { outcome: Outcome::Refused(rejection), position, replayed: false }));
                }
                Decision::Denied(denial) => {
                    let position = self.sealer.position();
                    return Ok(Ok(Reply { outcome: Outcome::Denied(denial), position, replayed: false }));
                }
                Decision::Missing(mut keys) => {
                    keys.sort_unstable();
                    keys.dedup();
                    let dirty = self.sealer.has_changes();
                    let found = self.turn.load(&keys).await.map_err(|error| Failure::before_append(error, dirty))?;
                    take_in(self.ledger, found)?;
                }
            }
        }
        tracing::error!(command_id = %envelope.command_id, "undecided after {MISSING_ROUNDS} rounds of loading");
        Ok(Err(EngineError::TooBusy))
    }

    /// The first answer to the command's key, or that the key was used for something else; neither is remembered anew.
    async fn known_answer(&mut self, envelope: &CommandEnvelope) -> Result<Option<Reply>, Failure> {
        let Some(idempotency) = envelope.idempotency else { return Ok(None) };
        let Some(receipt) = self.receipts.find(&idempotency.key) else { return Ok(None) };
        if receipt.fingerprint != idempotency.fingerprint {
            let outcome = Outcome::Refused(Rejection::IdempotencyKeyReused {});
            return Ok(Some(Reply { outcome, position: self.sealer.position(), replayed: false }));
        }
        let position = receipt.position;
        let outcome = match &receipt.outcome {
            Remembered::Done { changed, answer } => {
                let answer = match self.ledger.recall(answer) {
                    Ok(answer) => answer,
                    Err(keys) => {
                        let dirty = self.sealer.has_changes();
                        let found =
                            self.turn.load(&keys).await.map_err(|error| Failure::before_append(error, dirty))?;
                        take_in(self.ledger, found)?;
                        let unloaded = |keys| Failure::Stop(format!("the store does not load {keys:?}"));
                        self.ledger.recall(answer).map_err(unloaded)?
                    }
                };
                Outcome::Done { changed: *changed, answer }
            }
            Remembered::Refused(rejection) => Outcome::Refused(rejection.clone()),
        };
        Ok(Some(Reply { outcome, position, replayed: true }))
    }
}
