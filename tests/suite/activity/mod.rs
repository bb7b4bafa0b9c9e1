//! The activity feed: who is told what, page by page and as it happens.

mod listener;
mod listening;
mod told;
