//! `tallytree rebuild`: folds read models anew from the log, beside the live ones and while the service goes on, and puts them in
//! their place at once. Interrupted, it leaves the live ones as they are.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use projections::NAMES;
use projections::rebuild::{self, Rebuild, Rebuilt};

use super::Common;
use super::progress::Progress;
use crate::config::{Database, Flags};
use crate::node;
use crate::projector;
use crate::store::sqlite::ledger_path;

/// What `rebuild` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which ones; all of them where none is named. Those that they read are rebuilt with them
    #[arg(value_name = "PROJECTION")]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    projections: Vec<String>,
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    if let Database::Sqlite(dir) = &config.database {
        anyhow::ensure!(ledger_path(dir).exists(), "there is no store in {}", dir.display());
    }
    super::runtime()?.block_on(async {
        let rebuild = Rebuild::begin(&projector::views_of(&config.database), &arguments.projections).await?;
        match carry_out(rebuild, &arguments.projections).await? {
            Some(rebuilt) => {
                super::say(told(&rebuilt));
                Ok(ExitCode::SUCCESS)
            }
            None => {
                super::say("Stopped. The read models are as they were.");
                Ok(ExitCode::from(130))
            }
        }
    })
}

async fn carry_out(rebuild: Rebuild, named: &[String]) -> Result<Option<Rebuilt>, rebuild::RebuildError> {
    let together: Vec<&str> = rebuild.projections().to_vec();
    let along = together.iter().filter(|name| !named.is_empty() && !named.iter().any(|named| named == *name));
    let along: Vec<&str> = along.copied().collect();
    if !along.is_empty() {
        eprintln!("{} are read by what was named, and rebuilt with it", along.join(", "));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let listening = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            node::stop_signal().await;
            stop.store(true, Ordering::SeqCst);
        }
    });
    let mut progress = Progress::new("rebuilding", "events");
    let rebuilt = rebuild
        .run(|now| {
            progress.tell(now.position, now.end);
            !stop.load(Ordering::SeqCst)
        })
        .await;
    listening.abort();
    progress.end();
    rebuilt
}

fn told(rebuilt: &Rebuilt) -> String {
    let seconds = rebuilt.took.as_secs_f64();
    let rate = rebuilt.position as f64 / seconds.max(0.001);
    format!(
        "Rebuilt {} at position {}: {seconds:.1} s, {rate:.0} events/s; exchanged in {:.0} ms.",
        rebuilt.projections.join(", "),
        rebuilt.position,
        rebuilt.exchange.as_secs_f64() * 1000.0,
    )
}
