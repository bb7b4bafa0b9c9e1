//! The pass over the log: one thread reads and decodes, one checks.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use aggregates::primitives::CommandId;
use projections::batch::LogEvent;
use projections::rebuild::compare::Comparison;

use super::VerifyError;
use super::books::Books;
use super::chain::Chain;
use super::examined::{Examined, Reader, decode, is_readable};
use super::expected::Expected;
use super::facts::Facts;
use super::findings::Findings;
use super::freezes::Freezes;
use super::index::Index;
use super::once::Once;
use super::order::Order;
use super::pairs::Pairs;
use super::periods::Periods;
use super::personal_data::PersonalData;
use super::reading::{self, Chunk, HeadRow, RawEvent, Store};
use super::snapshots::Snapshots;
use super::views::{self, Checkpoint, Views};
use super::wallets::Wallets;
use crate::audit::anchor::Anchor;

/// Some events, read and decoded.
pub(super) struct Events {
    chunk: Chunk,
    /// Those that could be decoded.
    decoded: Arc<Vec<LogEvent>>,
    /// Which of the chunk's could not, and why.
    undecodable: Vec<(usize, String)>,
}

/// What there is at the moment for which the store is verified.
pub(super) struct Settled {
    pub(super) head: Option<HeadRow>,
    /// Where the read models' wallets stand; `None` where there are no read models.
    pub(super) checkpoint: Option<Checkpoint>,
}

/// What was read.
pub(super) enum Read {
    Events(Events),
    /// All events so far were read before that moment.
    Settled(Settled),
}

/// Reads the log from its first event to its last, and hands it both to whoever checks and to the read models' comparison; gives
/// the store back, and says why the comparison did not get all. `until` is how far may be read before the read models are settled.
pub(super) fn read(
    mut store: Box<dyn Store>,
    comparison: Option<&Comparison>,
    until: i64,
    to: &SyncSender<Read>,
) -> Result<(Box<dyn Store>, Option<String>), VerifyError> {
    let queue = comparison.map(Comparison::queue);
    // A log that was tampered with may begin anywhere.
    let mut after = i64::MIN;
    let mut folded = 0;
    let mut unfoldable = None;
    for until in [Some(until), None] {
        loop {
            let mut chunk = Chunk::default();
            store.events(after, until, &mut chunk)?;
            let Some(last) = chunk.last() else { break };
            after = last;
            let events = decode_all(chunk);
            if let Some(queue) = &queue
                && unfoldable.is_none()
            {
                unfoldable = events.unfoldable(&mut folded);
                if unfoldable.is_none() {
                    queue.fold(&events.decoded);
                }
            }
            if to.send(Read::Events(events)).is_err() {
                // Whoever checks has given up, and says why.
                return Ok((store, unfoldable));
            }
        }
        if until.is_some() {
            // The read models first: whatever they hold is then in the log.
            if let Some(comparison) = comparison {
                comparison.settle();
            }
            store.settle()?;
            let checkpoint = if store.has_views() { Some(views::checkpoint(&mut *store)?) } else { None };
            let head = reading::head(&mut *store)?;
            if to.send(Read::Settled(Settled { head, checkpoint })).is_err() {
                return Ok((store, unfoldable));
            }
        }
    }
    Ok((store, unfoldable))
}

fn decode_all(chunk: Chunk) -> Events {
    let mut decoded = Vec::new();
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

/// The checkers.
#[derive(Debug, Default)]
pub(super) struct Pass {
    findings: Findings,
    pub(super) events: u64,
    /// The command whose commit is in hand.
    command: Option<CommandId>,
    reader: Reader,
    order: Order,
    chain: Chain,
    expected: Expected,
    wallets: Wallets,
    books: Books,
    pairs: Pairs,
    periods: Periods,
    freezes: Freezes,
    once: Once,
    facts: Facts,
    views: Views,
    snapshots: Snapshots,
    index: Option<Index>,
    personal_data: PersonalData,
}

impl Pass {
    pub(super) fn begin(findings: Findings, snapshots: Snapshots, index: Option<Index>, anchors: &[Anchor]) -> Self {
        Self { findings, snapshots, index, expected: Expected::of(anchors), ..Self::default() }
    }

    /// The read models' wallets stand there.
    pub(super) fn stop_views_at(&mut self, checkpoint: Checkpoint) -> Result<(), VerifyError> {
        let position = checkpoint.position;
        if position < self.chain.position {
            return Err(VerifyError::WentBack { position });
        }
        self.views.stop_at(checkpoint);
        Ok(())
    }

    /// Takes in the next events.
    pub(super) fn events(&mut self, events: &Events) {
        let mut decoded = events.decoded.iter();
        let mut undecodable = events.undecodable.iter().peekable();
        for (index, raw) in events.chunk.events().enumerate() {
            match undecodable.next_if(|(undecodable, _)| *undecodable == index) {
                Some((_, error)) => self.event(&raw, Err(error)),
                None => {
                    if let Some(event) = decoded.next() {
                        self.event(&raw, Ok(event));
                    }
                }
            }
        }
    }

    fn event(&mut self, raw: &RawEvent<'_>, read: Result<&LogEvent, &str>) {
        self.events += 1;
        self.order.follow(raw, &mut self.findings);
        is_readable(raw, read.err(), &mut self.findings);
        let command = self.reader.command(raw, &mut self.findings);
        // Before this event is taken in: the commit before it ends at the position that the chain still stands at.
        if command.is_some() && command != self.command {
            self.end_of_commit();
            self.command = command;
            if let Some(command) = command {
                self.once.begin_commit(command, raw.position, &mut self.findings);
            }
        }
        if let Some(index) = &mut self.index {
            index.follow(raw, &self.chain);
        }
        self.chain.follow(raw, &mut self.findings);
        self.periods.at(raw);
        self.expected.at(&self.chain, &mut self.findings);
        let Ok(LogEvent { key, event, .. }) = read else { return };
        self.order.sequence(raw.position, key, raw.sequence, &mut self.findings);
        let Some(metadata) = self.reader.metadata() else { return };
        let examined = Examined { position: raw.position, key, sequence: raw.sequence, event, metadata };
        self.wallets.follow(&examined, &mut self.findings);
        self.books.follow(&examined, &mut self.findings);
        self.pairs.follow(&examined, &mut self.findings);
        self.periods.follow(&examined, &mut self.findings);
        self.freezes.follow(&examined, &mut self.findings);
        self.once.follow(&examined, |key| self.facts.position(key), &mut self.findings);
        self.facts.follow(&examined);
        self.views.follow(&examined);
        self.snapshots.follow(&examined, &mut self.findings);
        self.personal_data.follow(&examined);
    }

    fn end_of_commit(&mut self) {
        if self.command.take().is_some() {
            self.books.end_of_commit(&mut self.findings);
            self.pairs.end_of_commit(&mut self.findings);
            self.once.end_of_commit(self.chain.position);
        }
    }

    /// Compares what is kept beside the log. Answers with where the log ends.
    pub(super) fn end(
        mut self,
        head: Option<&HeadRow>,
        store: &mut dyn Store,
    ) -> Result<(i64, Vec<u8>, Findings), VerifyError> {
        self.end_of_commit();
        let Self { mut findings, chain, order, expected, once, pairs, facts, views, snapshots, personal_data, .. } =
            self;
        chain.end(head, &mut findings);
        expected.end(&chain, &mut findings);
        views.compare(&chain, store, &mut findings)?;
        snapshots.end(store, |key| order.last(key), &mut findings)?;
        drop(order);
        facts.compare(&pairs.provisions, store, &mut findings)?;
        let receipts = once.receipts(store, &pairs.provisions, chain.position, &mut findings)?;
        drop((once, pairs));
        Index::compare(self.index.as_ref(), &chain, &receipts, store, &mut findings)?;
        personal_data.compare(store, &mut findings)?;
        Ok((chain.position, chain.hash, findings))
    }
}
