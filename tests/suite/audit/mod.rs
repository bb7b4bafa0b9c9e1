//! What auditors ask: replays, the past, differences, the raw log, runs of `verify`, and what was refused.

mod events;
mod past;
mod refusals;
mod replay;
mod runs;
mod world;
