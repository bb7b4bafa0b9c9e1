//! A store that fails where a test tells it to.
//!
//! [`Faulty`] wraps any store; [`Faults`] is the handle that the test keeps. A fault is taken by the next call of its step and
//! is then gone, so "fail twice, then work" is two faults.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aggregates::command::ReceiptKey;
use aggregates::ledger::{Key, Loaded, Receipt};
use aggregates::primitives::{CommandId, ResellerId, Timestamp};
use aggregates::reseller::Reseller;
use tallytree::store::{Batch, EventStore, Head, StoreError, StoredEvent, Turn};

/// Where a fault can be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // not every test puts one everywhere
pub enum Step {
    /// `begin`: the lock is not had, nothing was done.
    Begin,
    /// `load`, in a turn or outside.
    Load,
    /// `receipts`, in a turn.
    Receipts,
    /// `read`, in a turn or outside.
    Read,
    /// `append`, before anything was written.
    BeforeAppend,
    /// `append`, after the commit: the answer is lost.
    AfterCommit,
    /// `resolve`, before anything was done.
    Resolve,
    /// `resolve`, after the new epoch was committed: the answer is lost.
    AfterResolve,
}

/// The handle on a store's faults; clones put them into the same store.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    waiting: Arc<Mutex<VecDeque<Fault>>>,
    assumed: Arc<AtomicUsize>,
    overtaken: Arc<AtomicUsize>,
}

/// Where, and what it says.
type Fault = (Step, fn() -> StoreError);

#[allow(dead_code)] // a toolbox
impl Faults {
    /// The next call of `step` fails: with `Busy` at `begin`, else with `Database`.
    pub fn fail(&self, step: Step) {
        let error: fn() -> StoreError = match step {
            Step::Begin => || StoreError::Busy("injected".to_owned()),
            _ => || StoreError::Database("injected".to_owned()),
        };
        self.fail_with(step, error);
    }

    /// The next call of `step` fails with this error.
    pub fn fail_with(&self, step: Step, error: fn() -> StoreError) {
        self.waiting.lock().unwrap().push_back((step, error));
    }

    /// The next `times` calls of `step` fail.
    pub fn fail_times(&self, step: Step, times: usize) {
        for _ in 0..times {
            self.fail(step);
        }
    }

    /// Takes back all faults that have not happened yet.
    pub fn heal(&self) {
        self.waiting.lock().unwrap().clear();
    }

    /// How many faults have not happened yet.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }

    /// How many turns without the lock have appended.
    pub fn assumed(&self) -> usize {
        self.assumed.load(Ordering::SeqCst)
    }

    /// How many have been overtaken, or needed what they may not read.
    pub fn overtaken(&self) -> usize {
        self.overtaken.load(Ordering::SeqCst)
    }

    fn count<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        let is_overtaken = matches!(outcome, Err(StoreError::Overtaken(_)));
        self.overtaken.fetch_add(usize::from(is_overtaken), Ordering::SeqCst);
        outcome
    }

    fn waits_at(&self, step: Step) -> bool {
        self.waiting.lock().unwrap().iter().any(|(at, _)| *at == step)
    }

    fn at(&self, step: Step) -> Result<(), StoreError> {
        let mut faults = self.waiting.lock().unwrap();
        match faults.iter().position(|(at, _)| *at == step).and_then(|index| faults.remove(index)) {
            Some((_, error)) => Err(error()),
            None => Ok(()),
        }
    }
}

/// A store with faults.
#[derive(Debug)]
pub struct Faulty<S> {
    store: S,
    faults: Faults,
}

impl<S> Faulty<S> {
    /// Wraps a store; it works like the store itself until the handle says otherwise.
    pub fn new(store: S) -> (Self, Faults) {
        let faults = Faults::default();
        (Self { store, faults: faults.clone() }, faults)
    }
}

impl<S: EventStore> EventStore for Faulty<S> {
    type Turn<'store> = FaultyTurn<S::Turn<'store>>;

    async fn load(&mut self, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
        self.faults.at(Step::Load)?;
        self.store.load(keys).await
    }

    async fn resellers(
        &mut self,
        each: &mut (dyn FnMut(ResellerId, u64, Reseller) + Send),
    ) -> Result<Head, StoreError> {
        self.store.resellers(each).await
    }

    async fn begin(&mut self, expected: &Head, receipts: &[ReceiptKey]) -> Result<Self::Turn<'_>, StoreError> {
        self.faults.at(Step::Begin)?;
        let turn = self.store.begin(expected, receipts).await?;
        Ok(FaultyTurn { turn, faults: self.faults.clone() })
    }

    fn assume(&mut self, expected: &Head) -> Option<Self::Turn<'_>> {
        // Where the lock cannot be had, nothing goes on without it either.
        if self.faults.waits_at(Step::Begin) {
            return None;
        }
        let turn = self.store.assume(expected)?;
        Some(FaultyTurn { turn, faults: self.faults.clone() })
    }

    async fn resolve(&mut self, after: u64, commands: &[CommandId]) -> Result<(Head, HashSet<CommandId>), StoreError> {
        self.faults.at(Step::Resolve)?;
        let resolved = self.store.resolve(after, commands).await?;
        self.faults.at(Step::AfterResolve)?;
        Ok(resolved)
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.faults.at(Step::Read)?;
        self.store.read(after, limit).await
    }

    async fn expire_receipts(&mut self, older_than: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.store.expire_receipts(older_than, limit).await
    }
}

/// A turn with faults.
#[derive(Debug)]
pub struct FaultyTurn<T> {
    turn: T,
    faults: Faults,
}

impl<T: Turn> Turn for FaultyTurn<T> {
    fn head(&self) -> &Head {
        self.turn.head()
    }

    fn is_assumed(&self) -> bool {
        self.turn.is_assumed()
    }

    fn now(&self) -> Option<Timestamp> {
        self.turn.now()
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.faults.at(Step::Read)?;
        self.turn.read(after, limit).await
    }

    async fn load(&mut self, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
        self.faults.at(Step::Load)?;
        self.faults.count(self.turn.load(keys).await)
    }

    async fn receipts(&mut self, keys: &[ReceiptKey]) -> Result<Vec<(ReceiptKey, Receipt)>, StoreError> {
        self.faults.at(Step::Receipts)?;
        self.turn.receipts(keys).await
    }

    async fn append(self, batch: &Batch) -> Result<(), StoreError> {
        self.faults.at(Step::BeforeAppend)?;
        let is_assumed = self.turn.is_assumed();
        self.faults.count(self.turn.append(batch).await)?;
        self.faults.assumed.fetch_add(usize::from(is_assumed), Ordering::SeqCst);
        self.faults.at(Step::AfterCommit)
    }
}
