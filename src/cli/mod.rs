//! The command line. A subcommand is a file with its arguments and a `run`, and one line in [`subcommands!`].

mod backup;
mod bench;
mod close;
mod completions;
mod demo;
mod export;
mod head;
mod import;
mod migrate;
mod progress;
mod rebuild;
mod replay;
mod serve;
mod token;
mod verify;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Database, Flags, LogFormat};
use bench::ceiling;

/// An event-sourced ledger of prepaid credits for reseller networks.
#[derive(Debug, Parser)]
#[command(name = "tallytree", version, propagate_version = true)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    subcommand: What,
}

/// What every subcommand takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// A TOML file with the configuration
    #[arg(long, global = true, value_name = "FILE", env = "TALLYTREE_CONFIG")]
    config: Option<PathBuf>,
    /// Where the ledger lives: sqlite:DIR or postgres://USER:PASSWORD@HOST:PORT/NAME [default: sqlite:./tallytree-data]
    #[arg(long, global = true, value_name = "URL")]
    database: Option<Database>,
    /// Which log lines are written to stderr [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How they are written [default: human]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Common {
    /// The configuration with a subcommand's own flags, and logging by it.
    pub(crate) fn configure(&self, flags: Flags) -> anyhow::Result<Config> {
        let flags =
            Flags { database: self.database.clone(), log: self.log.clone(), log_format: self.log_format, ..flags };
        let config = Config::load(self.config.as_deref(), &flags)?;
        start_logging(&config)?;
        Ok(config)
    }
}

/// The subcommands: a name, its file, what it does.
macro_rules! subcommands {
    ($($(#[$doc:meta])* $name:ident($file:ident)),+ $(,)?) => {
        #[derive(Debug, Subcommand)]
        enum What {
            $($(#[$doc])* $name($file::Arguments)),+
        }

        fn run(common: &Common, what: What) -> anyhow::Result<ExitCode> {
            match what {
                $(What::$name(arguments) => $file::run(common, arguments)),+
            }
        }
    };
}

subcommands! {
    /// Serves the HTTP API
    Serve(serve),
    /// Fills an empty store with a plausible network and months of history, and serves it
    Demo(demo),
    /// Makes, lists and revokes tokens
    Token(token),
    /// Prints the end of the log, POSITION:HASH, to be written down elsewhere and given to `verify --expect` later
    Head(head),
    /// Checks the invariants on the store, read-only and without stopping it
    Verify(verify),
    /// Copies the ledger's file while the service goes on
    Backup(backup),
    /// Closes a month: its totals become part of the history, and nothing is ever recorded in it again
    Close(close),
    /// Writes what happened or what is held as a table, as of one position
    Export(export),
    /// Shows every step of a wallet from its events alone, beside what is recorded and what is shown
    Replay(replay),
    /// Folds read models anew from the log, beside the live ones, and puts them in their place
    Rebuild(rebuild),
    /// Brings the store to this version's schema
    Migrate(migrate),
    /// Takes over the events of a table that postgres-es wrote, into an empty store
    Import(import),
    /// Measures speed over HTTP on a store of its own, beside a server that does nothing
    Bench(bench),
    /// The server that does nothing
    #[command(hide = true)]
    BenchCeiling(ceiling),
    /// Writes shell completions to stdout
    Completions(completions),
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    match run(&line.common, line.subcommand) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tallytree: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// Says on the standard output what was done. That nobody reads it any more undoes nothing, and is no failure.
fn say(what: impl std::fmt::Display) {
    use std::io::Write;
    if let Err(error) = writeln!(std::io::stdout().lock(), "{what}") {
        tracing::debug!(%error, "what was done is told to nobody");
    }
}

/// An error with its causes, each said once: many of ours say their cause themselves.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| {
        if said.is_empty() {
            cause
        } else if said.contains(&cause) {
            said
        } else {
            format!("{said}: {cause}")
        }
    })
}

/// The runtime that waiting subcommands run on.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn start_logging(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| anyhow::anyhow!("log: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match config.log_format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging did not start: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn no_subcommand_gives_the_name_of_what_all_take_to_something_else() {
        fn look(command: &clap::Command, taken: &[&str]) {
            for subcommand in command.get_subcommands() {
                let own = subcommand.get_arguments().map(|argument| argument.get_id().as_str());
                let twice: Vec<&str> = own.filter(|id| taken.contains(id)).collect();
                assert!(twice.is_empty(), "{}: {twice:?}", subcommand.get_name());
                look(subcommand, taken);
            }
        }
        let command = CommandLine::command();
        let taken: Vec<&str> = command.get_arguments().map(|argument| argument.get_id().as_str()).collect();
        assert!(taken.contains(&"database"));
        look(&command, &taken);
    }

    #[test]
    fn what_an_error_says_of_its_cause_is_not_said_again() {
        let cause = anyhow::anyhow!("the disk is full");
        let says_it = cause.context("writing failed: the disk is full").context("closing 2026-10");
        assert_eq!(told(&says_it), "closing 2026-10: writing failed: the disk is full");
    }
}
