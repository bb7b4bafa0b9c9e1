//! `tallytree backup FILE`: the ledger as it stands at one moment, in a file of its own, while the service goes on.
//!
//! A plain copy of `ledger.db` lacks what stands in its WAL. What is written here is whole, and durable before its end is
//! printed; `index.db` and `views.db` are made anew from it. On PostgreSQL its own tools do this.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::Common;
use crate::config::Flags;
use crate::store::{Database, sqlite};

/// What `backup` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the copy goes; nothing may stand there yet
    file: PathBuf,
}

pub(crate) fn run(common: &Common, Arguments { file }: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    let Database::Sqlite(directory) = &config.database else {
        bail!("this copies the file of an embedded store; a PostgreSQL database is copied by pg_dump or pg_basebackup");
    };
    let shown = file.display();
    // Made here, so that two at once do not write into one, and readable by its owner alone: it holds personal data.
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&file).with_context(|| format!("making {shown}"))?;
    match sqlite::copy(directory, &file) {
        Ok(head) => {
            // The name is durable as well as what it names.
            let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.map_or_else(|| PathBuf::from("."), PathBuf::from);
            File::open(&parent).and_then(|parent| parent.sync_all()).with_context(|| format!("keeping {shown}"))?;
            writeln!(
                std::io::stdout().lock(),
                "{}",
                crate::audit::anchor::Anchor { position: head.position, hash: head.hash }
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            // It is not a copy of anything, and the error that is told is the one that matters.
            let _ = std::fs::remove_file(&file);
            Err(error).with_context(|| format!("copying the ledger to {shown}"))
        }
    }
}
