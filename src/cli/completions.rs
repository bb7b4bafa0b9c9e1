//! `tallytree completions SHELL`.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CommandLine, Common};

/// What `completions` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(_common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut command = CommandLine::command();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "tallytree", &mut script);
    match std::io::stdout().write_all(&script) {
        // Whoever listened has heard enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.map(|()| ExitCode::SUCCESS).context("writing the script"),
    }
}
