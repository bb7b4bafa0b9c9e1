//! `tallytree completions SHELL`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CommandLine, Common};

/// What `completions` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which shell
    shell: Shell,
}

#[allow(clippy::unnecessary_wraps)] // as its siblings
pub(crate) fn run(_common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut command = CommandLine::command();
    clap_complete::generate(arguments.shell, &mut command, "tallytree", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
