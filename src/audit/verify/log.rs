//! The thread that reads the log ahead of who checks it, and decodes it.
//!
//! Events are checked some at a time, so that few are in memory as bytes, and folded many at a time, so that what they touch is read
//! and written once. Each is decoded once: when it has been checked it is handed on.
//!
//! What a former run has judged is read again as bytes, and not decoded. Now and then, and as long as nothing is settled, it says
//! that what was found so far is to be kept: then the read models' folds and the checkers stand at one position.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use projections::batch::LogEvent;
use projections::rebuild::compare::{Comparison, Queue};

use super::VerifyError;
use super::examined::decode;
use super::index;
use super::reading::{self, Chunk, HeadRow, Store};
use super::views::{self, Checkpoint};

/// How many events are folded at once: fewer touch the same rows again and again, more take room.
const FOLD_EVENTS: usize = 4_096;

/// Some events, read and decoded.
pub(super) struct Events {
    pub(super) chunk: Chunk,
    /// Those that could be decoded.
    pub(super) decoded: Arc<Vec<LogEvent>>,
    /// Which of the chunk's could not, and why.
    pub(super) undecodable: Vec<(usize, String)>,
}

/// What there is at the moment for which the store is verified.
pub(super) struct Settled {
    pub(super) head: Option<HeadRow>,
    /// Where the read models' wallets stand; `None` where there are no read models.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Where the index ends; `None` where there is none.
    pub(super) index_end: Option<i64>,
}

/// What was read.
pub(super) enum Read {
    /// What a former run has judged.
    Again(Chunk),
    /// That was all of it.
    CaughtUp,
    Events(Events),
    /// The read models are kept as they stand after all events so far; so is to be what the checkers know.
    Keep,
    /// All events so far were read before that moment.
    Settled(Settled),
    /// Somebody asked to stop.
    Stop,
}

/// How far to read, and when to keep what was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'p> {
    /// How far a former run has come.
    pub(super) judged: Option<i64>,
    /// How far may be read before the read models and the index are settled.
    pub(super) until: i64,
    /// How often what was found is kept, and who may ask to stop; `None` where nothing is kept.
    pub(super) keep: Option<(Duration, &'p AtomicBool)>,
}

/// What reading has come to: the store to go on with, and why the comparison did not get all events, where it did not.
pub(super) type Ended = Result<(Box<dyn Store>, Option<String>), VerifyError>;

/// Reads the log from its first event to its last, and hands it both to whoever checks and to the read models' comparison.
pub(super) fn read(
    store: Box<dyn Store>,
    comparison: Option<&Comparison>,
    plan: Plan<'_>,
    to: &SyncSender<Read>,
) -> Ended {
    let (to_fold, checked) = (comparison.map(Comparison::queue), Arc::default());
    let mut log = Log { store, comparison, plan, to, unfoldable: None, to_fold, waiting: Vec::new(), checked };
    // Where whoever checks has given up he says why.
    let _ = log.read()?;
    Ok((log.store, log.unfoldable))
}

struct Log<'l> {
    store: Box<dyn Store>,
    comparison: Option<&'l Comparison>,
    plan: Plan<'l>,
    to: &'l SyncSender<Read>,
    /// Why the read models' comparison gets no more events.
    unfoldable: Option<String>,
    to_fold: Option<Queue>,
    /// What waits to be folded.
    waiting: Vec<LogEvent>,
    /// What is being checked, and is to be folded after that.
    checked: Arc<Vec<LogEvent>>,
}

/// Whether somebody still listens.
type Heard = bool;

impl Log<'_> {
    fn read(&mut self) -> Result<Heard, VerifyError> {
        // A log that was tampered with may begin anywhere.
        let mut after = i64::MIN;
        if let Some(judged) = self.plan.judged {
            while let Some(chunk) = self.next(&mut after, Some(judged))? {
                if self.is_stopped() || !self.send(Read::Again(chunk)) {
                    return Ok(self.send(Read::Stop));
                }
            }
            if !self.send(Read::CaughtUp) {
                return Ok(false);
            }
        }
        let mut folded = self.plan.judged.and_then(|judged| u64::try_from(judged).ok()).unwrap_or_default();
        let (mut kept_at, mut kept) = (Instant::now(), after);
        for until in [Some(self.plan.until), None] {
            while let Some(chunk) = self.next(&mut after, until)? {
                let events = decode_all(chunk);
                if self.to_fold.is_some() && self.unfoldable.is_none() {
                    self.unfoldable = events.unfoldable(&mut folded);
                }
                let checked = if self.unfoldable.is_none() { Arc::clone(&events.decoded) } else { Arc::default() };
                if !self.send(Read::Events(events)) {
                    return Ok(false);
                }
                // Whoever checks has taken these, so he has let go of those before.
                self.wait(checked);
                if self.waiting.len() >= FOLD_EVENTS {
                    self.fold();
                }
                let is_due = self.plan.keep.is_some_and(|(interval, _)| kept_at.elapsed() >= interval);
                if until.is_some() && (is_due || self.is_stopped()) {
                    (kept_at, kept) = (Instant::now(), after);
                    self.keep();
                }
                if self.is_stopped() {
                    return Ok(self.send(Read::Stop));
                }
            }
            self.fold_all();
            if until.is_some() {
                if kept != after {
                    self.keep();
                }
                if !self.settle()? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Has events folded when it is their turn.
    fn wait(&mut self, checked: Arc<Vec<LogEvent>>) {
        if self.to_fold.is_some() {
            let checked = std::mem::replace(&mut self.checked, checked);
            self.waiting.append(&mut Arc::unwrap_or_clone(checked));
        }
    }

    /// Has what waits folded.
    fn fold(&mut self) {
        if let Some(to_fold) = &self.to_fold
            && !self.waiting.is_empty()
        {
            let room = Vec::with_capacity(self.waiting.capacity());
            to_fold.fold(&Arc::new(std::mem::replace(&mut self.waiting, room)));
        }
    }

    /// Has all that was read so far folded.
    fn fold_all(&mut self) {
        self.wait(Arc::default());
        self.fold();
    }

    fn send(&self, read: Read) -> Heard {
        self.to.send(read).is_ok()
    }

    fn is_stopped(&self) -> bool {
        self.plan.keep.is_some_and(|(_, stop)| stop.load(Ordering::SeqCst))
    }

    /// The next events up to a position.
    fn next(&mut self, after: &mut i64, until: Option<i64>) -> Result<Option<Chunk>, VerifyError> {
        let mut chunk = Chunk::default();
        self.store.events(*after, until, &mut chunk)?;
        Ok(chunk.last().map(|last| {
            *after = last;
            chunk
        }))
    }

    /// Has everything kept. What cannot be folded cannot be kept either.
    fn keep(&mut self) {
        self.fold_all();
        if self.plan.keep.is_some() && self.unfoldable.is_none() && self.comparison.is_none_or(Comparison::keep) {
            self.send(Read::Keep);
        }
    }

    fn settle(&mut self) -> Result<Heard, VerifyError> {
        // The read models first: whatever they hold is then in the log.
        if let Some(comparison) = self.comparison {
            comparison.settle();
        }
        self.store.settle()?;
        let checkpoint = if self.store.has_views() { Some(views::checkpoint(&mut *self.store)?) } else { None };
        let index_end = index::end(&mut *self.store)?;
        let head = reading::head(&mut *self.store)?;
        Ok(self.send(Read::Settled(Settled { head, checkpoint, index_end })))
    }
}

fn decode_all(chunk: Chunk) -> Events {
    let mut decoded = Vec::with_capacity(chunk.len());
    let mut undecodable = Vec::new();
    for (index, raw) in chunk.events().enumerate() {
        match decode(&raw) {
            Ok(event) => decoded.push(event),
            Err(error) => undecodable.push((index, error)),
        }
    }
    Events { chunk, decoded: Arc::new(decoded), undecodable }
}

impl Events {
    /// Why these cannot be folded after those up to a position; otherwise that is moved on.
    fn unfoldable(&self, folded: &mut u64) -> Option<String> {
        if let Some((index, error)) = self.undecodable.first() {
            let position = self.chunk.events().nth(*index).map(|raw| raw.position).unwrap_or_default();
            return Some(format!("position {position}: {error}"));
        }
        for event in &*self.decoded {
            if event.position != *folded + 1 {
                return Some(format!("the log has no event at position {}", *folded + 1));
            }
            *folded = event.position;
        }
        None
    }
}
