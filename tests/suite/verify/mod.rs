//! `verify` on a real store: a history that the engine wrote passes, and each way of changing it afterwards is caught and named.
//!
//! Whoever cheats here has a shell and time: drops the triggers, changes what they like, and where it helps recomputes the
//! balances that later events carry and the whole hash chain, so that nothing but the invariant at hand can tell.

mod command_line;
mod derived;
mod expected;
mod history;
mod log;
mod money;
mod outsider;
mod resumed;
mod tampered;
mod whole;
