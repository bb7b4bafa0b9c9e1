//! Closing a month: its figures are added up here, and decided upon by the ledger.
//!
//! The totals come from the log, posting by posting. Before they are handed on they are compared with what the read models say
//! that everybody held: two paths from the same events to the same sum. A store in which they part is not closed.

use aggregates::closing::{Closing, Reckoning, WALLETS};
use aggregates::month::Month;
use aggregates::primitives::Timestamp;
use projections::books::{holdings, lines};
use projections::sql::ViewError;
use projections::{ReadPool, Scope, audit_log};

use super::PATIENCE;
use super::totals::{closings, totals_at};

/// How often figures are added up anew because something was recorded meanwhile; that happens only where nothing had been
/// recorded since the month's end.
pub const RECKONINGS_MAX: usize = 5;

/// Why a month was not added up.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// What was posted and what everybody holds are not the same.
    #[error("the books do not agree: wallets were posted {posted} credits up to position {position}, and held {held}")]
    BooksDisagree {
        /// Up to where.
        position: u64,
        /// By the log's postings.
        posted: i128,
        /// By the read models.
        held: i64,
    },
    /// The log or the read models.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// Adds up the log to the end of a month. `now` is the time by this node's clock, by which, too, the month must be over.
/// `progress` is told how many events of how many are in.
///
/// # Errors
/// See [`CloseError`].
pub async fn reckon(
    views: &ReadPool,
    month: Month,
    now: Timestamp,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Reckoning, CloseError> {
    let mut scoped = Scope::All.begin(views, 0, PATIENCE).await?;
    let read = scoped.unscoped();
    let last_position = audit_log::position_before(read, month.end()).await?;
    let head = audit_log::head(read).await?;
    let head_hash = audit_log::hash_at(read, last_position).await?;
    // A month that is closed already is refused by the ledger, whatever its figures.
    let earlier = closings(read, head.position).await?.into_iter().rfind(|closing| closing.month < month);
    drop(scoped);

    let totals = totals_at(views, last_position, earlier.as_ref(), progress).await?;
    let mut scoped = Scope::All.begin(views, last_position, PATIENCE).await?;
    let held = holdings::total(&mut scoped, last_position).await?;
    let first = lines::first(&mut scoped).await?;
    let posted = totals.get(WALLETS).map_or(0, |wallets| wallets.balance);
    if i128::from(held) != posted {
        return Err(CloseError::BooksDisagree { position: last_position, posted, held });
    }
    Ok(Reckoning {
        closing: Closing { month, last_position, head_hash, totals },
        first_month: first.map_or(month, Month::of),
        followed: last_position < head.position,
        added_up_at: now,
    })
}
