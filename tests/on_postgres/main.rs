//! The black-box tests of `tests/suite` once more, on PostgreSQL: the same files, each test on a database of its own on one
//! throwaway server. Left out are those about files, and those that bring their stores themselves and run on both there. Where no
//! server is installed nothing runs, and that is said; with `TALLYTREE_TEST_POSTGRES=required` it is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "../suite/activity/mod.rs"]
mod activity;
#[path = "../suite/analytics/mod.rs"]
mod analytics;
#[path = "../suite/audit/mod.rs"]
mod audit;
#[path = "../suite/cheats.rs"]
mod cheats;
#[path = "../suite/clients.rs"]
mod clients;
#[path = "../suite/commands.rs"]
mod commands;
#[path = "../suite/common/mod.rs"]
#[allow(dead_code)] // some of it is about files
mod common;
#[path = "../suite/conventions.rs"]
mod conventions;
#[path = "../suite/finance/mod.rs"]
mod finance;
#[path = "../suite/isolation/mod.rs"]
mod isolation;
#[path = "../suite/known_bugs.rs"]
mod known_bugs;
mod least_privileges;
mod linearizable;
#[path = "../suite/queries.rs"]
mod queries;
#[path = "../suite/requests/mod.rs"]
mod requests;
mod several_nodes;
mod standby;
mod tls;
#[path = "../suite/unchanged.rs"]
mod unchanged;
#[path = "../suite/verify/mod.rs"]
mod verify;
#[path = "../suite/walkthrough.rs"]
mod walkthrough;
mod wall;
