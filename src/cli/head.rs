//! `tallytree head`: the end of the log, `POSITION:HASH`, for an auditor to write down where the operator cannot reach it.
//! `verify --expect` proves later that the history up to it is still the same.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use projections::{ReadPool, audit_log};

use super::Common;
use crate::audit::verify::head;
use crate::config::{Database, Flags};
use crate::projector;

/// What `head` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(common: &Common, Arguments {}: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    let Database::Sqlite(dir) = &config.database else {
        let end = super::runtime()?.block_on(async {
            let pool = ReadPool::open(&projector::views_of(&config.database)).await?;
            audit_log::head(&mut pool.begin(0, Duration::ZERO).await?).await
        })?;
        writeln!(std::io::stdout().lock(), "{}:{}", end.position, end.hash)?;
        return Ok(ExitCode::SUCCESS);
    };
    writeln!(std::io::stdout().lock(), "{}", head(dir)?)?;
    Ok(ExitCode::SUCCESS)
}
