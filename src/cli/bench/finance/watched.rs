//! A command of this program as an operator runs it, in a process of its own, with how long it took and the most memory that
//! the system has seen of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cli::bench::child;
use crate::cli::bench::machine::memory_peak;

/// How often the process's memory is looked at; what is looked at is a peak, so only what it takes in the very end is missed.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long a command may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(240);

/// What was seen of it.
#[derive(Debug)]
pub(super) struct Watched {
    /// From its start to its end.
    pub(super) seconds: f64,
    /// `None` where the system does not tell.
    pub(super) memory_bytes: Option<u64>,
    /// What it said on standard error.
    pub(super) said: String,
}

/// Runs it to its end.
///
/// # Errors
/// It fails, or is not done in time; what it said is in the error.
pub(super) async fn run(arguments: &[&str], place: &Path) -> anyhow::Result<Watched> {
    let begun = Instant::now();
    let running = child::start(arguments, place)?;
    let process = running.id().context("it ended at once")?;
    let mut memory_bytes = None;
    let watch = async {
        while begun.elapsed() < PATIENCE {
            memory_bytes = memory_bytes.max(memory_peak(process));
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let named = || arguments.iter().take_while(|argument| !argument.starts_with("--")).copied().collect::<Vec<_>>();
    let ended = tokio::select! {
        ended = running.wait_with_output() => ended?,
        // Dropped, it is killed.
        () = watch => bail!("{} was not done after {PATIENCE:?}", named().join(" ")),
    };
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    if !ended.status.success() {
        bail!("{} failed: {said}{}", named().join(" "), String::from_utf8_lossy(&ended.stdout));
    }
    Ok(Watched { seconds: begun.elapsed().as_secs_f64(), memory_bytes, said })
}
