//! `tallytree head`: the end of the log, `POSITION:HASH`, for an auditor to write down where the operator cannot reach it.
//! `verify --expect` proves later that the history up to it is still the same.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::Common;
use crate::audit::verify::head;
use crate::config::Flags;

/// What `head` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(common: &Common, Arguments {}: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    writeln!(std::io::stdout().lock(), "{}", head(&config.database)?)?;
    Ok(ExitCode::SUCCESS)
}
