//! The servers under load, as processes of their own: started, found by what they print, watched, and ended.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const START_PATIENCE: Duration = Duration::from_secs(30);
const READY: &str = "listening on http://";

/// A server in a process of its own; killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its process id.
    pub(super) process: u32,
}

/// This program with these arguments, in `directory`, without configuration from outside: figures depend on what the run
/// says, and on nothing else.
fn this_program(directory: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TALLYTREE_")) {
        command.env_remove(name);
    }
    // All load comes by a few tokens: what is measured is the ledger, not how fast one of them may ask.
    command.env("TALLYTREE_REQUESTS_PER_SECOND", "0");
    command.current_dir(directory).kill_on_drop(true);
    Ok(command)
}

impl Server {
    /// Starts this program with these arguments and waits until it says where it listens.
    ///
    /// # Errors
    /// It ends, or says nothing in time; the end of its log is in the error.
    pub(super) async fn start<S: AsRef<OsStr>>(name: &str, arguments: &[S], directory: &Path) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let mut child = this_program(directory)?
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let process = child.id().context("the server ended at once")?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = tokio::time::timeout(START_PATIENCE, async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, address)) = line.split_once(READY) {
                    return Ok(address.trim().parse::<SocketAddr>()?);
                }
            }
            bail!("it ended before it was ready")
        })
        .await
        .unwrap_or_else(|_| bail!("it was not ready after {START_PATIENCE:?}"))
        .with_context(|| format!("starting {name}; its log ends:\n{}", log_end(&log)))?;
        // Nothing more is expected; what comes must not block the server, and must not break its pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, address, process })
    }

    /// Ends it and waits until it is gone.
    pub(super) async fn end(mut self) {
        // An error means that it has already gone.
        let _ = self.child.kill().await;
    }
}

/// Runs this program to its end and tells what it printed.
pub(super) async fn output_of<S: AsRef<OsStr>>(arguments: &[S], directory: &Path) -> anyhow::Result<String> {
    let output = this_program(directory)?.args(arguments).stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("a command of this program failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Starts this program with what it prints and says kept for when it has ended.
pub(super) fn start<S: AsRef<OsStr>>(arguments: &[S], directory: &Path) -> anyhow::Result<Child> {
    let mut command = this_program(directory)?;
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// Runs this program to its end; what it says of its progress is seen, what it prints is not.
pub(super) async fn run<S: AsRef<OsStr>>(arguments: &[S], directory: &Path) -> anyhow::Result<()> {
    let status = this_program(directory)?.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status().await?;
    if !status.success() {
        bail!("a command of this program failed ({status})");
    }
    Ok(())
}

fn log_end(log: &PathBuf) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
}
