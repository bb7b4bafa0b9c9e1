//! Finance: the books in the forms that others work with.
//!
//! - [`exports`]: statement lines, balances, commissions and monthly statements as tables.
//! - `journal`: the double entry behind each event, for hledger, ledger and beancount; an export as well.
//! - [`totals`]: what the books come to, account by account, from the log alone.
//! - [`close`]: the figures of a month, for the ledger to close it with.
//!
//! Everything is as of one position of the log, which is told with it, and rests on nothing that later events change: the same
//! report as of the same position has the same bytes, whenever it is made.
//!
//! Layering: reads the read models and the log. Nothing here knows HTTP.

pub mod close;
pub mod exports;
mod journal;
pub mod totals;

use std::time::Duration;

/// For how long read models are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
