//! Finance: the books in the forms that others work with.
//!
//! - [`exports`]: statement lines, balances, commissions and monthly statements as tables.
//!
//! Everything is as of one position of the log, which is told with it, and rests on nothing that later events change: the same
//! report as of the same position has the same bytes, whenever it is made.
//!
//! Layering: reads the read models and the log. Nothing here knows HTTP.

pub mod exports;
