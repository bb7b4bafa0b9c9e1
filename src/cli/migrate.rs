//! `tallytree migrate`: brings the store to this version's schema and ends.

use std::process::ExitCode;

use clap::Args;

use super::Common;
use crate::config::Flags;
use crate::{projector, refusals};

/// What `migrate` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(common: &Common, _arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    super::runtime()?.block_on(async {
        drop(config.database.open().await?);
        projector::migrate(&config.database).await?;
        refusals::migrate(&config.database).await?;
        anyhow::Ok(())
    })?;
    tracing::info!(store = %config.database, "the store has this version's schema");
    Ok(ExitCode::SUCCESS)
}
