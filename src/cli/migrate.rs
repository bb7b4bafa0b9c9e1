//! `tallytree migrate`: brings the store to this version's schema and ends.

use std::process::ExitCode;

use clap::Args;

use super::Common;
use crate::config::{Database, Flags};
use crate::store::sqlite::SqliteStore;

/// What `migrate` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(common: &Common, _arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    let Database::Sqlite(dir) = &config.database;
    SqliteStore::open(dir)?;
    tracing::info!(store = %dir.display(), "the store has this version's schema");
    Ok(ExitCode::SUCCESS)
}
