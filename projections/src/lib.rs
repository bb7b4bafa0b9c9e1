//! Tallytree's read models: how facts become tables, and tables answers.
//!
//! A projection is one file: its rows, a pure fold of a batch of events into them, and its queries. To add one, write the file
//! and add a line to [`projections!`] below. All of them fold the same batch and commit together with their checkpoints, so a
//! query that touches several sees them at one position.
//!
//! - [`sql`]: what differs between databases; [`checkpoint`]: how far each projection has come; [`batch`]: the log, decoded;
//!   [`memory`]: rows that need not be read again.
//! - [`scope`]: who may see what; [`subject`]: whose figures are asked for; [`page`]: pages and cursors;
//!   [`kinds`]: what filters name.
//! - [`policy`], [`wallets`], [`wallet_terms`], [`provisions`], [`downline_tree`], [`prices`], [`products`], [`clients`],
//!   [`upline_requests`], [`referrals`], [`dashboard`], [`activity_feed`], [`analytics`], [`names`]: the projections;
//!   [`downline_health`]: a query over several of them; [`statement_lines`]: what [`wallets`] folds beside its own row.
//! - [`books`]: statement lines, holdings and statements in bulk, as of a position.
//! - [`rebuild`]: read models folded anew, beside the live ones or to compare with them.
//! - [`audit_log`]: the log itself, as auditors read it; [`reseller_history`]: resellers as they were.

pub mod activity_feed;
pub mod analytics;
pub mod audit_log;
pub mod batch;
pub mod books;
pub mod checkpoint;
pub mod clients;
pub mod dashboard;
pub mod downline_health;
mod downline_then;
pub mod downline_tree;
pub mod kinds;
pub mod memory;
pub mod names;
mod origin;
pub mod page;
pub mod policy;
pub mod prices;
pub mod products;
pub mod provisions;
pub mod rebuild;
pub mod referrals;
pub mod reseller_history;
pub mod scope;
pub mod sql;
pub mod statement_lines;
pub mod subject;
pub mod upline_requests;
pub mod wallet_terms;
pub mod wallets;

use std::future::Future;

use batch::LogEvent;
use checkpoint::{Checkpoint, Checkpoints, Reached};
use memory::{Known, Memory};
use sql::{Changes, Connection, Folder, Table, ViewError};

pub use scope::{Scope, ScopedRead};
pub use sql::{Read, ReadPool};

/// How one read model is folded. The fold is pure: rows and events in, rows out, the same whatever the batches.
pub trait Projection {
    /// Its name in `checkpoints`; another name is another projection, folded from the beginning.
    const NAME: &'static str;
    /// Its tables, each named once; no other projection writes them.
    const TABLES: &'static [&'static Table];
    /// Those of them whose rows are written once, and which no `load` reads: of these a comparison needs no copy.
    const WRITTEN_ONCE: &'static [&'static Table] = &[];
    /// The names of other projections whose tables `load` reads. A rebuild of this one rebuilds those with it, so that what is
    /// read is never older or newer than the events; what is neither its own nor named here cannot be read in a rebuild. While
    /// the service folds on, a projection that is new to a store reads others that are ahead of it: read only what, once
    /// written, does not change.
    const READS: &'static [&'static str] = &[];
    /// The rows that a batch touches.
    type Rows: Send;
    /// What is known of rows from one batch to the next; `()` where each batch reads anew.
    type Memory: Known;

    /// Loads the rows that these events touch, in bulk, as far as they are not in memory.
    fn load(
        connection: &mut Connection<'_>,
        events: &[LogEvent],
        memory: &mut Self::Memory,
    ) -> impl Future<Output = Result<Self::Rows, ViewError>> + Send;

    /// Folds the events into the rows.
    ///
    /// # Errors
    /// An event that cannot follow on these rows.
    fn fold(rows: &mut Self::Rows, events: &[LogEvent]) -> Result<(), ViewError>;

    /// What is to be written for the rows; the memory takes it down as written.
    ///
    /// # Errors
    /// What serde_json says.
    fn write(rows: Self::Rows, changes: &mut Changes, memory: &mut Self::Memory) -> Result<(), ViewError>;
}

/// What a projection says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// Its name.
    pub name: &'static str,
    /// Its tables.
    pub tables: &'static [&'static Table],
    /// Those of them whose rows are written once, and never read by a fold.
    pub written_once: &'static [&'static Table],
    /// The projections whose tables it reads.
    pub reads: &'static [&'static str],
}

impl Declared {
    const fn of<P: Projection>() -> Self {
        Self { name: P::NAME, tables: P::TABLES, written_once: P::WRITTEN_ONCE, reads: P::READS }
    }
}

macro_rules! projections {
    ($($projection:ty),+ $(,)?) => {
        /// The names of all projections.
        pub const NAMES: &[&str] = &[$(<$projection>::NAME),+];

        /// All projections, in the order in which they are folded.
        pub const DECLARED: &[Declared] = &[$(Declared::of::<$projection>()),+];

        /// Folds the events into the named projections, as far as their checkpoints have not come yet.
        async fn fold_into(
            names: &[&str],
            connection: &mut Connection<'_>,
            checkpoints: &Checkpoints,
            events: &[LogEvent],
            (changes, memory): (&mut Changes, &mut Memory),
        ) -> Result<(), ViewError> {
            $(if names.contains(&<$projection>::NAME) {
                fold_one::<$projection>(connection, &checkpoints.of(<$projection>::NAME), events, (changes, memory)).await?;
            })+
            Ok(())
        }
    };
}

projections!(
    policy::Policies,
    wallets::Wallets,
    wallet_terms::WalletTerms,
    provisions::Provisions,
    downline_tree::DownlineTree,
    prices::Prices,
    products::Products,
    clients::Clients,
    upline_requests::UplineRequests,
    referrals::Referrals,
    dashboard::Dashboards,
    activity_feed::ActivityFeed,
    analytics::Analytics,
    names::CompanyNames,
);

#[cfg(test)]
mod tests;

async fn fold_one<P: Projection>(
    connection: &mut Connection<'_>,
    checkpoint: &Checkpoint,
    events: &[LogEvent],
    (changes, memory): (&mut Changes, &mut Memory),
) -> Result<(), ViewError> {
    let folded = events.partition_point(|event| event.position <= checkpoint.position);
    if let Some(event) = folded.checked_sub(1).and_then(|last| events.get(last))
        && event.position == checkpoint.position
    {
        checkpoint.check(Some(event))?;
    }
    let events = &events[folded..];
    let Some(last) = events.last() else { return Ok(()) };
    let mut known = memory.take::<P>(checkpoint);
    let mut rows = P::load(connection, events, &mut known).await?;
    P::fold(&mut rows, events)?;
    P::write(rows, changes, &mut known)?;
    memory.keep::<P>(Checkpoint::at(last), known);
    Ok(())
}

/// What one call of [`fold_batch`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// How far all projections have come.
    pub position: u64,
    /// Whether the batch was full: there is probably more.
    pub more: bool,
}

/// Whether the log still holds what was folded.
///
/// # Errors
/// [`ViewError::HistoryCut`] where it does not, or what the database says.
pub async fn check_history(folder: &mut Folder) -> Result<(), ViewError> {
    let mut fold = folder.look().await?;
    let least = Checkpoints::load(&mut fold.views()).await?.least(NAMES);
    let (events, _) = batch::read(&mut fold.log(), least.position.max(1), 1).await?;
    least.check(events.first())
}

/// Folds the next events, at most `limit`, into all projections, and commits rows and checkpoints together.
///
/// # Errors
/// [`ViewError::HistoryCut`] where the log is not the one that was folded so far; anything else may pass and can be retried:
/// nothing was written.
pub async fn fold_batch(folder: &mut Folder, limit: usize) -> Result<Folded, ViewError> {
    let folded = fold_next(folder, limit).await;
    if folded.is_err() {
        folder.failed();
    }
    folded
}

async fn fold_next(folder: &mut Folder, limit: usize) -> Result<Folded, ViewError> {
    let mut fold = folder.look().await?;
    let least = Checkpoints::load(&mut fold.views()).await?.least(NAMES);
    // From the checkpoint's own event on, to see that it is still there. Events never change, so they can be read and decoded
    // before the lock is taken.
    let (mut events, more) = batch::read(&mut fold.log(), least.position.max(1), limit.saturating_add(1)).await?;
    least.check(events.first())?;
    if events.first().is_some_and(|event| event.position == least.position) {
        events.remove(0);
    }
    if events.first().is_some_and(|event| event.position != least.position + 1) {
        return Err(ViewError::HistoryCut(format!("the log has no event at position {}", least.position + 1)));
    }
    let Some(last) = events.last() else { return Ok(Folded { position: least.position, more: false }) };
    let folded = Folded { position: last.position, more };

    let mut fold = fold.lock().await?;
    let (mut connection, memory) = fold.connection();
    let checkpoints = Checkpoints::load(&mut connection).await?;
    if checkpoints.least(NAMES).position < least.position {
        return Err(ViewError::HistoryCut("a checkpoint went back".into()));
    }
    let mut changes = Changes::default();
    fold_into(NAMES, &mut connection, &checkpoints, &events, (&mut changes, memory)).await?;
    checkpoints.advance(NAMES, &Reached::at(last), &mut changes);
    connection.apply(changes).await?;
    fold.commit().await?;
    Ok(folded)
}
