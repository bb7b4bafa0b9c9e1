//! Tallytree's integration tests, one binary so that the service is linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod activity;
mod analytics;
mod audit;
mod backup;
mod cheats;
mod clients;
mod commands;
mod common;
mod conformance;
mod conventions;
mod crash;
mod demo;
mod description;
mod engine;
mod faulty;
mod finance;
mod interoperability;
mod isolation;
mod jwt;
mod known_bugs;
mod limits;
mod model;
mod postgres_failures;
mod queries;
mod rebuild;
mod refunds;
mod requests;
mod shutdown;
mod tokens;
mod two_processes;
mod unchanged;
mod verify;
mod walkthrough;
