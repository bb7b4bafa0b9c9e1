//! What comes through the queue, gathered into batches that share a commit.
//!
//! Bounds: a batch holds at most `batch_max` commands and some `batch_items_max` provisions; a command that would pass that
//! waits for the next batch, and one that passes it alone goes alone. Order is the queue's.

use std::time::Duration;

use aggregates::command::{Command, CommandEnvelope};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::turn::Replies;
use super::{EngineError, EngineOptions, Reply};

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
    /// When it was sent: its patience counts from there, in the queue too.
    pub(super) since: Instant,
}

/// Commands that share a commit.
#[derive(Debug)]
pub(super) struct Pending {
    /// The commands, in order.
    pub(super) envelopes: Vec<CommandEnvelope>,
    /// Where each one's answer goes; empty once everyone has been told.
    answers: Vec<oneshot::Sender<Result<Reply, EngineError>>>,
    /// How many provisions they may come to.
    items: usize,
    /// When the first of them was sent.
    pub(super) since: Instant,
}

impl Pending {
    pub(super) fn of(request: Request) -> Self {
        let mut pending = Self { envelopes: Vec::new(), answers: Vec::new(), items: 0, since: request.since };
        pending.push(request);
        pending
    }

    fn push(&mut self, request: Request) {
        self.items += items(&request.envelope.command);
        self.envelopes.push(request.envelope);
        self.answers.push(request.answer);
    }

    pub(super) fn len(&self) -> usize {
        self.envelopes.len()
    }

    /// Tells everyone. Whoever has gone is not missed; what was done stays done.
    pub(super) fn tell(&mut self, replies: Replies) {
        for (answer, reply) in self.answers.drain(..).zip(replies) {
            let _ = answer.send(reply);
        }
    }

    pub(super) fn tell_all(&mut self, error: &EngineError) {
        for answer in self.answers.drain(..) {
            let _ = answer.send(Err(error.clone()));
        }
    }

    /// The same commands, each alone.
    pub(super) fn singly(self) -> impl Iterator<Item = Self> {
        let since = self.since;
        let requests = self.envelopes.into_iter().zip(self.answers);
        requests.map(move |(envelope, answer)| Self::of(Request { envelope, answer, since }))
    }
}

/// How many provisions a command may come to.
fn items(command: &Command) -> usize {
    match command {
        Command::ProvisionBulk { items, .. } => items.len().max(1),
        _ => 1,
    }
}

/// What the inbox came up with.
#[derive(Debug)]
pub(super) enum Collected {
    /// Commands to carry out.
    Batch(Pending),
    /// Nothing came for as long as was allowed.
    Idle,
    /// Nothing will come any more.
    Ended,
}

/// The receiving end of the queue.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: mpsc::Receiver<Message>,
    /// Received, and too large for the batch it came with.
    carried: Option<Request>,
    batch_max: usize,
    batch_items_max: usize,
}

impl Inbox {
    pub(super) fn new(queue: mpsc::Receiver<Message>, options: &EngineOptions) -> Self {
        Self { queue, carried: None, batch_max: options.batch_max, batch_items_max: options.batch_items_max }
    }

    /// Waits for a command, if given only until then, and takes along what else waits, up to the limits.
    pub(super) async fn collect(&mut self, until: Option<Instant>) -> Collected {
        let first = match self.carried.take() {
            Some(request) => request,
            None => match self.next(until).await {
                Ok(Some(request)) => request,
                Ok(None) => return Collected::Ended,
                Err(Idle) => return Collected::Idle,
            },
        };
        let mut batch = Pending::of(first);
        self.top_up(&mut batch);
        Collected::Batch(batch)
    }

    /// How many commands wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes along what waits by now, up to the limits.
    pub(super) fn top_up(&mut self, batch: &mut Pending) {
        while batch.len() < self.batch_max && self.carried.is_none() {
            match self.queue.try_recv() {
                Ok(Message::Command(request)) => {
                    if batch.items + items(&request.envelope.command) > self.batch_items_max {
                        self.carried = Some(*request);
                        break;
                    }
                    batch.push(*request);
                }
                Ok(Message::Shutdown) => self.queue.close(),
                Err(_) => break,
            }
        }
    }

    async fn next(&mut self, until: Option<Instant>) -> Result<Option<Request>, Idle> {
        loop {
            let message = match (self.queue.try_recv(), until) {
                // Under load there is always one, and no timer is set.
                (Ok(message), _) => Some(message),
                (Err(_), Some(until)) => timeout_at(until, self.queue.recv()).await.map_err(|_| Idle)?,
                (Err(_), None) => self.queue.recv().await,
            };
            match message {
                Some(Message::Command(request)) => return Ok(Some(*request)),
                Some(Message::Shutdown) => self.queue.close(),
                None => return Ok(None),
            }
        }
    }

    /// Tells whoever comes within this time that nothing was done. Says whether anyone may still come.
    pub(super) async fn turn_away(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        if let Some(request) = self.carried.take() {
            let _ = request.answer.send(Err(EngineError::StoreUnavailable));
        }
        loop {
            match self.next(Some(until)).await {
                Ok(Some(request)) => {
                    let _ = request.answer.send(Err(EngineError::StoreUnavailable));
                }
                Ok(None) => return false,
                Err(Idle) => return true,
            }
        }
    }
}

/// Nothing came in time.
struct Idle;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use aggregates::command::{BulkItem, PriceBasis, ProvisionOrder};
    use aggregates::primitives::{Actor, Amount, ClientId, CommandId, ProvisionId, ResellerId, Role, UserId};
    use uuid::Uuid;

    fn send(queue: &mpsc::Sender<Message>, number: u128, command: Command) {
        let id = UserId::new("ops").expect("id");
        let envelope = CommandEnvelope {
            command_id: CommandId(Uuid::from_u128(number)),
            actor: Actor { id, role: Role::SuperAdmin, tenant: None, declared_cost: false },
            idempotency: None,
            command,
        };
        let (answer, _) = oneshot::channel();
        let since = Instant::now();
        queue.try_send(Message::Command(Box::new(Request { envelope, answer, since }))).unwrap();
    }

    fn single() -> Command {
        Command::StepClient { client: ClientId(Uuid::from_u128(1)), step: aggregates::command::ClientStep::Activate }
    }

    fn bulk(items: usize) -> Command {
        let order = ProvisionOrder {
            provision_id: ProvisionId(Uuid::from_u128(2)),
            basis: PriceBasis::Cost(Amount::new(5).unwrap()),
            client: None,
            description: None,
            metadata: None,
        };
        let items = vec![BulkItem { order, idempotency: None }; items];
        Command::ProvisionBulk { wallet: ResellerId(Uuid::from_u128(3)), atomic: true, items }
    }

    async fn numbers(inbox: &mut Inbox) -> Vec<u128> {
        match inbox.collect(None).await {
            Collected::Batch(batch) => batch.envelopes.iter().map(|each| each.command_id.0.as_u128()).collect(),
            Collected::Idle | Collected::Ended => Vec::new(),
        }
    }

    fn inbox(batch_max: usize, batch_items_max: usize) -> (mpsc::Sender<Message>, Inbox) {
        let (queue, waiting) = mpsc::channel(100);
        (queue, Inbox::new(waiting, &EngineOptions { batch_max, batch_items_max, ..EngineOptions::default() }))
    }

    #[tokio::test]
    async fn what_waits_shares_a_batch_up_to_the_limit() {
        let (queue, mut inbox) = inbox(3, 100);
        (1..=5).for_each(|number| send(&queue, number, single()));
        assert_eq!(numbers(&mut inbox).await, [1, 2, 3]);
        assert_eq!(numbers(&mut inbox).await, [4, 5]);
    }

    #[tokio::test]
    async fn a_bulk_too_large_for_the_batch_waits_for_the_next_and_keeps_its_place() {
        let (queue, mut inbox) = inbox(10, 10);
        send(&queue, 1, single());
        send(&queue, 2, bulk(10));
        send(&queue, 3, single());
        assert_eq!(numbers(&mut inbox).await, [1]);
        assert_eq!(numbers(&mut inbox).await, [2]);
        assert_eq!(numbers(&mut inbox).await, [3]);
    }

    #[tokio::test]
    async fn a_bulk_beyond_the_limit_goes_alone() {
        let (queue, mut inbox) = inbox(10, 10);
        send(&queue, 1, bulk(50));
        send(&queue, 2, single());
        assert_eq!(numbers(&mut inbox).await, [1]);
        assert_eq!(numbers(&mut inbox).await, [2]);
    }

    #[tokio::test]
    async fn after_a_shutdown_what_waits_is_still_collected_and_then_it_ends() {
        let (queue, mut inbox) = inbox(1, 10);
        send(&queue, 1, single());
        queue.try_send(Message::Shutdown).unwrap();
        send(&queue, 2, single());
        assert_eq!(numbers(&mut inbox).await, [1]);
        assert_eq!(numbers(&mut inbox).await, [2]);
        assert!(matches!(inbox.collect(None).await, Collected::Ended));
        assert!(queue.is_closed());
    }

    #[tokio::test]
    async fn an_empty_queue_is_idle_after_a_while() {
        let (_queue, mut inbox) = inbox(1, 10);
        let until = Instant::now() + Duration::from_millis(1);
        assert!(matches!(inbox.collect(Some(until)).await, Collected::Idle));
    }
}
