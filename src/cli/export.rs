//! `tallytree export`: what happened or what is held as a table, into a file or to stdout, as of one position.
//!
//! What the service would send, without a token: whoever has the store may read it. Interrupted, it says with which cursor the
//! rest is had.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aggregates::month::Month;
use aggregates::primitives::ResellerId;
use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;
use projections::sql::Folder;
use projections::{ReadPool, Scope, fold_batch};

use super::Common;
use super::progress::Progress;
use crate::config::{Config, Database, Flags};
use crate::finance::exports::{Export, Format, Kind, Order};
use crate::http::{Since, Until};
use crate::node;
use crate::projector::{self, BATCH_EVENTS_MAX};
use crate::store::sqlite::ledger_path;

/// For how long a piece waits for read models that somebody else exchanges meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `export` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What
    #[arg(value_name = "KIND", value_parser = PossibleValuesParser::new(Kind::WORDS))]
    kind: String,
    /// As what; tables as csv, the journal as hledger, unless said otherwise
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(Format::WORDS))]
    format: Option<String>,
    /// Of this month alone, such as 2026-10
    #[arg(long, value_name = "MONTH", conflicts_with_all = ["from", "to"])]
    month: Option<Month>,
    /// From this time on, or from the beginning of this day (UTC)
    #[arg(long, value_name = "TIME")]
    from: Option<Since>,
    /// Before this time, or up to the end of this day (UTC)
    #[arg(long, value_name = "TIME")]
    to: Option<Until>,
    /// Of this reseller alone
    #[arg(long, value_name = "ID")]
    reseller_id: Option<ResellerId>,
    /// Where to; stdout if not given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Goes on after this row of an export that was broken off; a file is then added to
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    super::runtime()?.block_on(export(&config, arguments))
}

async fn export(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let order = Order {
        kind: arguments.kind.parse()?,
        format: arguments.format.map(|format| format.parse()).transpose()?,
        from: arguments.from.map(|Since(time)| time),
        to: arguments.to.map(|Until(time)| time),
        month: arguments.month,
        reseller: arguments.reseller_id,
        cursor: arguments.cursor,
    };
    let views = folded_views(config).await?;
    let mut export = Export::open(&views, Scope::All, &order, 0, PATIENCE).await?;
    let mut output: Box<dyn Write> = match &arguments.output {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => {
            let goes_on = order.cursor.is_some();
            let file = File::options().create(true).write(true).append(goes_on).truncate(!goes_on).open(path);
            Box::new(BufWriter::new(file.with_context(|| path.display().to_string())?))
        }
    };
    let begun = Instant::now();
    let stop = stopped();
    let mut progress = Progress::new("exporting", "positions");
    while let Some(piece) = export.next().await? {
        output.write_all(&piece)?;
        let (done, total) = export.progress();
        progress.tell(done, total);
        if stop.load(Ordering::SeqCst) {
            output.flush()?;
            progress.end();
            match export.cursor() {
                Some(cursor) => eprintln!("Stopped. The rest is had with --cursor {cursor}"),
                None => eprintln!("Stopped."),
            }
            return Ok(ExitCode::from(130));
        }
    }
    output.flush()?;
    progress.end();
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "{} rows as of position {} ({}): {seconds:.2} s, {:.0} rows/s",
        export.count(),
        export.position(),
        export.as_of(),
        export.count() as f64 / seconds.max(0.001),
    );
    Ok(ExitCode::SUCCESS)
}

/// The read models of a store, folded up to the end of its log, whether a service does that meanwhile or not.
pub(super) async fn folded_views(config: &Config) -> anyhow::Result<ReadPool> {
    if let Database::Sqlite(dir) = &config.database {
        anyhow::ensure!(ledger_path(dir).exists(), "there is no store in {}", dir.display());
    }
    let database = projector::views_of(&config.database);
    let mut folder = Folder::open(&database).await?;
    while fold_batch(&mut folder, BATCH_EVENTS_MAX).await?.more {}
    Ok(ReadPool::open_to_stream(&database).await?)
}

/// Turns true when the operator asks to stop.
fn stopped() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        node::stop_signal().await;
        asked.store(true, Ordering::SeqCst);
    });
    stop
}
