//! `verify`: the invariants I1–I9 on a real store, by a second path that shares no decision with the first.
//!
//! Shape: one pass over the log in order of position. Each checker is a file with its own small fold; [`findings`] counts and
//! keeps the first violation of each. After the pass what is kept beside the log is compared: receipts, the index, facts,
//! personal data; aggregates' snapshots and the read models' balances are compared on the way, where they stand. All else of the
//! read models is folded anew and compared beside the pass, on other threads ([`read_models`]).
//!
//! Nothing is written and nobody waits: all of it is read in one snapshot each of the store's files, up to the head
//! at the start, while the service may go on writing. An event that cannot be read is a violation with its position, and the
//! pass goes on without it.
//!
//! Cost: some microseconds an event, and some more to fold it again. Memory: a small record per wallet, reseller, client, request, provision, purchase and
//! command; events are streamed.
//!
//! Layering: `aggregates` for vocabulary and folds, never `Ledger`; of `store` the paths and the version of the state.

mod books;
mod chain;
mod examined;
mod expected;
mod facts;
mod findings;
mod freezes;
mod index;
mod log;
mod once;
mod order;
mod pairs;
mod periods;
mod personal_data;
mod read_models;
mod states;
mod views;
mod wallets;

use std::path::{Path, PathBuf};

use aggregates::primitives::CommandId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::anchor::{Anchor, hexadecimal};
use crate::store::sqlite::{index_path, ledger_path, views_path};
use books::Books;
use chain::Chain;
use examined::{Examined, Reader};
use expected::Expected;
use facts::Facts;
use findings::{Check, Findings};
pub use findings::{Tally, Violation};
use freezes::Freezes;
use index::Index;
use log::{RawEvent, Snapshot};
use once::Once;
use order::Order;
use pairs::Pairs;
use periods::Periods;
use read_models::ReadModels;
use states::States;
use views::Views;
use wallets::Wallets;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    /// The position of the last event that was read.
    pub position: i64,
    /// Its hash, hexadecimal: what an auditor writes down.
    pub hash: String,
    /// How many events were read.
    pub events: u64,
    /// One for each check.
    pub checks: Vec<Tally>,
}

impl Report {
    /// Whether nothing is violated.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.violations == 0)
    }
}

/// Why a store could not be verified. That is an accident, not a violation.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be opened.
    #[error("{path}: {error}", path = path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the database says.
        error: rusqlite::Error,
    },
    /// Reading failed on the way.
    #[error("the store could not be read: {0}")]
    Read(#[from] rusqlite::Error),
    /// The store is a server's database.
    #[error("only a store in SQLite files can be verified by this version")]
    NotFiles,
    /// There is no thread to be had for a part of it.
    #[error("the read models could not be compared: {0}")]
    Thread(std::io::Error),
}

/// The end of the log in a directory, as an auditor writes it down: position and hash of its last event, zeros for an empty
/// log. Reads and writes nothing else, and needs no server. Blocks.
///
/// # Errors
/// [`VerifyError`] where the store cannot be read.
pub fn head(dir: &Path) -> Result<Anchor, VerifyError> {
    let mut last = Anchor { position: 0, hash: [0; 32] };
    Snapshot::open(&ledger_path(dir))?.rows(
        "select position, hash from events order by position desc limit 1",
        |row| {
            last = Anchor { position: row.get(0)?, hash: row.get(1)? };
            Ok(())
        },
    )?;
    Ok(last)
}

/// Verifies the store in a directory. Blocks. `progress` is told, now and then, how many events of how many have been read;
/// each is read twice, the second time to fold it again.
///
/// `anchors` are what was written down of this log before: each must still stand in it.
///
/// # Errors
/// [`VerifyError`] where the store cannot be read; whatever is wrong in it is in the report.
pub fn verify(dir: &Path, anchors: &[Anchor], progress: &mut dyn FnMut(u64, u64)) -> Result<Report, VerifyError> {
    // Read models and index first: whatever they hold is then in the log's snapshot.
    let mut read_models = ReadModels::begin(dir)?;
    let mut views = Views::open(&views_path(dir))?;
    let mut pass = Pass { expected: Expected::of(anchors), ..Pass::default() };
    pass.index = Index::open(&index_path(dir), &mut pass.findings)?;
    let store = Snapshot::open(&ledger_path(dir))?;
    let head = store.head()?;
    let total = head.as_ref().and_then(|head| u64::try_from(head.position).ok()).unwrap_or_default() * 2;

    if pass.index.is_none() {
        pass.findings.note(Check::Index, "there is no index; opening the store makes it".to_owned());
    }
    if let Some(views) = &mut views {
        views.at(&pass.chain, &pass.states, &mut pass.findings)?;
    } else {
        pass.findings.note(Check::Views, "there are no read models".to_owned());
    }
    store.events(|raw| {
        pass.event(raw)?;
        if let Some(views) = &mut views {
            views.at(&pass.chain, &pass.states, &mut pass.findings)?;
        }
        if pass.events.is_multiple_of(4096) {
            progress(pass.events.saturating_add(read_models.folded()).min(total), total);
        }
        Ok(())
    })?;
    pass.end_of_commit();

    let Pass { mut findings, chain, expected, events, once, pairs, states, facts, index, .. } = pass;
    chain.end(head.as_ref(), &mut findings);
    expected.end(&chain, &mut findings);
    if let Some(views) = &views {
        views.end(&chain, &mut findings);
    }
    let receipts = once.receipts(&store, &pairs.provisions, chain.position, &mut findings)?;
    if let Some(index) = &index {
        index.end(&chain, &states, &receipts, &mut findings)?;
    }
    personal_data::compare(&states, &store, &mut findings)?;
    facts.compare(pairs.provisions, &store, &mut findings)?;
    read_models.end(&mut findings, &mut |folded| progress(events.saturating_add(folded).min(total), total))?;
    Ok(Report { position: chain.position, hash: hexadecimal(&chain.hash), events, checks: findings.into_tallies() })
}

/// The pass over the log.
#[derive(Debug, Default)]
struct Pass {
    findings: Findings,
    events: u64,
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
    states: States,
    facts: Facts,
    index: Option<Index>,
}

impl Pass {
    fn event(&mut self, raw: &RawEvent<'_>) -> Result<(), VerifyError> {
        self.events += 1;
        self.order.follow(raw, &mut self.findings);
        let read = self.reader.read(raw, &mut self.findings);
        let command = self.reader.command(raw, &mut self.findings);
        // Before this event is taken in: the commit before it ends at the position that the chain still stands at.
        if command.is_some() && command != self.command {
            self.end_of_commit();
            self.command = command;
            if let Some(command) = command {
                self.once.begin_commit(command, raw.position, &mut self.findings);
            }
        }
        self.chain.follow(raw, &mut self.findings);
        self.periods.at(raw);
        self.expected.at(&self.chain, &mut self.findings);
        if let Some(index) = &mut self.index {
            index.follow(raw, &self.chain, &mut self.findings);
        }
        let Some((key, event)) = read else { return Ok(()) };
        self.order.sequence(raw.position, &key, raw.sequence, &mut self.findings);
        let Some(metadata) = self.reader.metadata() else { return Ok(()) };
        let examined = Examined { position: raw.position, key: &key, sequence: raw.sequence, event: &event, metadata };
        self.wallets.follow(&examined, &mut self.findings);
        self.books.follow(&examined, &mut self.findings);
        self.pairs.follow(&examined, &mut self.findings);
        self.periods.follow(&examined, &mut self.findings);
        self.freezes.follow(&examined, &mut self.findings);
        self.once.follow(&examined, &mut self.findings);
        self.states.follow(&examined);
        self.facts.follow(&examined);
        if let Some(index) = &mut self.index {
            index.at(&examined, &self.states, &mut self.findings)?;
        }
        Ok(())
    }

    fn end_of_commit(&mut self) {
        if self.command.take().is_some() {
            self.books.end_of_commit(&mut self.findings);
            self.pairs.end_of_commit(&mut self.findings);
            self.once.end_of_commit(self.chain.position);
        }
    }
}
