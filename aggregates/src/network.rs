//! The tree in memory, lean: parents, tiers, statuses, freezes and prices of every reseller; no metadata, no names.
//! Stub signatures land first; see below.
