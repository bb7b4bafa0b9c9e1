//! The pass over the log: the checkers, and what they have come to.

use aggregates::primitives::CommandId;
use projections::batch::LogEvent;
use serde::{Deserialize, Serialize};

use super::VerifyError;
use super::books::Books;
use super::chain::Chain;
use super::columns::Columns;
use super::examined::{Examined, Reader, is_readable};
use super::expected::Expected;
use super::facts::Facts;
use super::findings::Findings;
use super::freezes::Freezes;
use super::index::Index;
use super::log::Events;
use super::once::Once;
use super::order::Order;
use super::pairs::Pairs;
use super::periods::Periods;
use super::personal_data::PersonalData;
use super::reading::{Chunk, HeadRow, RawEvent, Store};
use super::snapshots::{Judged, Snapshots};
use super::views::{Checkpoint, Views};
use super::wallets::Wallets;
use crate::audit::anchor::Anchor;

/// What the checkers know after the last event: all of it follows from the log, and it is what a later run goes on from.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Checkers {
    events: u64,
    /// The command whose commit is in hand.
    command: Option<CommandId>,
    chain: Chain,
    columns: Columns,
    order: Order,
    wallets: Wallets,
    books: Books,
    pairs: Pairs,
    periods: Periods,
    freezes: Freezes,
    once: Once,
    facts: Facts,
    views: Views,
    personal_data: PersonalData,
}

/// The pass.
#[derive(Debug, Default)]
pub(super) struct Pass {
    findings: Findings,
    reader: Reader,
    expected: Expected,
    snapshots: Snapshots,
    index: Option<Index>,
    checkers: Checkers,
    /// What a former run has come to, as long as the pass has not.
    former: Option<(Chain, Columns)>,
}

impl Pass {
    pub(super) fn begin(findings: Findings, snapshots: Snapshots, index: Option<Index>, anchors: &[Anchor]) -> Self {
        Self { findings, snapshots, index, expected: Expected::of(anchors), ..Self::default() }
    }

    /// Goes on from where a former run has come to. Its events are to be handed in again first, to [`Self::again`].
    pub(super) fn go_on(&mut self, checked: &[u64], checkers: Checkers, judged: Judged) {
        self.findings.take_over(checked);
        self.snapshots.take_over(judged, &mut self.findings);
        self.checkers = checkers;
        let chain = std::mem::take(&mut self.checkers.chain);
        self.former = Some((chain, std::mem::take(&mut self.checkers.columns)));
    }

    /// Takes in events that a former run has judged: whether they are the same is found by the chain alone.
    pub(super) fn again(&mut self, chunk: &Chunk) -> Result<(), VerifyError> {
        // What they were found to be is counted already.
        let mut broken = Findings::default();
        for raw in chunk.events() {
            self.checkers.place(&raw, self.index.as_mut(), &mut broken);
            self.expected.at(&self.checkers.chain, &mut self.findings);
            self.snapshots.again(&raw, &mut self.findings);
        }
        if broken.are_fine() { Ok(()) } else { Err(changed()) }
    }

    /// All events that a former run has judged are in.
    pub(super) fn caught_up(&mut self) -> Result<(), VerifyError> {
        let Some((chain, columns)) = self.former.take() else { return Ok(()) };
        let Checkers { chain: now, columns: columns_now, .. } = &self.checkers;
        let is_same = (now, *columns_now) == (&chain, columns);
        if is_same { Ok(()) } else { Err(changed()) }
    }

    /// What a later run can go on from; `None` where something is violated: then there is nothing to go on from.
    pub(super) fn to_keep(&self) -> Option<(&Checkers, &Snapshots, &Findings)> {
        self.findings.are_fine().then_some((&self.checkers, &self.snapshots, &self.findings))
    }

    /// Up to where the log has been taken in.
    pub(super) fn position(&self) -> i64 {
        self.checkers.chain.position
    }

    /// Whether nothing is violated so far.
    pub(super) fn is_fine(&self) -> bool {
        self.findings.are_fine()
    }

    /// How many events were taken in, now or by a former run.
    pub(super) fn events(&self) -> u64 {
        self.checkers.events()
    }

    /// The read models' wallets stand there.
    pub(super) fn stop_views_at(&mut self, checkpoint: Checkpoint) -> Result<(), VerifyError> {
        let position = checkpoint.position;
        if position < self.checkers.chain.position {
            return Err(VerifyError::WentBack { position });
        }
        self.checkers.views.stop_at(checkpoint);
        Ok(())
    }

    /// The index ends there.
    pub(super) fn stop_index_at(&mut self, end: i64) {
        // It had come as far as the log was read before: where it now has not, it was tampered with, and what it says of
        // provisions is wrong whatever is expected of it.
        self.checkers.pairs.provisions.stop_index_at(end);
    }

    /// Takes in the next events.
    pub(super) fn follow(&mut self, events: &Events) {
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
        self.checkers.events += 1;
        self.checkers.order.follow(raw, &mut self.findings);
        is_readable(raw, read.err(), &mut self.findings);
        let command = self.reader.command(raw, &mut self.findings);
        // Before this event is taken in: the commit before it ends at the position that the chain still stands at.
        if command.is_some() && command != self.checkers.command {
            self.end_of_commit();
            self.checkers.command = command;
            if let Some(command) = command {
                self.checkers.once.begin_commit(command, raw.position, &mut self.findings);
            }
        }
        self.checkers.place(raw, self.index.as_mut(), &mut self.findings);
        self.expected.at(&self.checkers.chain, &mut self.findings);
        self.checkers.periods.at(raw);
        let Ok(LogEvent { key, event, .. }) = read else { return };
        self.checkers.order.sequence(raw.position, key, raw.sequence, &mut self.findings);
        let Some(metadata) = self.reader.metadata() else { return };
        let examined = Examined { position: raw.position, key, sequence: raw.sequence, event, metadata };
        self.checkers.follow(&examined, &mut self.findings);
        self.snapshots.follow(&examined, &mut self.findings);
    }

    fn end_of_commit(&mut self) {
        let Checkers { command, chain, books, pairs, once, .. } = &mut self.checkers;
        if command.take().is_some() {
            books.end_of_commit(&mut self.findings);
            pairs.end_of_commit(&mut self.findings);
            once.end_of_commit(chain.position);
        }
    }

    /// Compares what is kept beside the log. Answers with where the log ends.
    pub(super) fn end(
        mut self,
        head: Option<&HeadRow>,
        store: &mut dyn Store,
    ) -> Result<(i64, Vec<u8>, Findings), VerifyError> {
        self.end_of_commit();
        let Self { mut findings, expected, snapshots, index, checkers, .. } = self;
        let Checkers { chain, order, once, pairs, facts, views, personal_data, .. } = checkers;
        chain.end(head, &mut findings);
        expected.end(&chain, &mut findings);
        views.compare(&chain, store, &mut findings)?;
        snapshots.end(store, |key| order.last(key), &mut findings)?;
        drop(order);
        facts.compare(&pairs.provisions, store, &mut findings)?;
        let receipts = once.receipts(store, &pairs.provisions, chain.position, &mut findings)?;
        drop((once, pairs));
        Index::compare(index.as_ref(), &chain, &receipts, store, &mut findings)?;
        personal_data.compare(store, &mut findings)?;
        Ok((chain.position, chain.hash, findings))
    }
}

/// The events that a former run has judged are not those that are there.
fn changed() -> VerifyError {
    VerifyError::Changed("the events that a former run has judged are not those that are there".to_owned())
}

impl Checkers {
    /// Where the log has been judged up to.
    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// How many events that are.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Takes in where an event stands.
    fn place(&mut self, raw: &RawEvent<'_>, index: Option<&mut Index>, findings: &mut Findings) {
        if let Some(index) = index {
            index.follow(raw, &self.chain);
        }
        self.chain.follow(raw, findings);
        self.columns.follow(raw);
    }

    fn follow(&mut self, examined: &Examined<'_>, findings: &mut Findings) {
        self.wallets.follow(examined, findings);
        self.books.follow(examined, findings);
        self.pairs.follow(examined, findings);
        self.periods.follow(examined, findings);
        self.freezes.follow(examined, findings);
        self.once.follow(examined, |key| self.facts.position(key), findings);
        self.facts.follow(examined);
        self.views.follow(examined);
        self.personal_data.follow(examined);
    }
}
