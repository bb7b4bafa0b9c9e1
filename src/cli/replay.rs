//! `tallytree replay wallet ID`: every step of a wallet from its events alone, the running balance beside what each event
//! recorded and what its statement shows; exit code 1 where any two of them differ. Writes nothing, and needs no server.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use aggregates::primitives::{ResellerId, Timestamp};
use clap::{Args, Subcommand};
use projections::ReadPool;
use projections::sql::{Read, ViewError};

use super::Common;
use crate::audit::as_of::{AsOf, Moment};
use crate::audit::replay::{self, Replay, Step};
use crate::config::{Database, Flags};
use crate::projector;
use crate::store::sqlite::ledger_path;

/// What `replay` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A wallet
    Wallet(Wallet),
}

#[derive(Debug, Args)]
struct Wallet {
    /// Whose: the reseller's id
    reseller: ResellerId,
    /// Up to the last event up to this time, such as 2026-10-31T23:59:59Z [default: all]
    #[arg(long, value_name = "TIME", conflicts_with = "until_position")]
    until: Option<Timestamp>,
    /// Up to this position of the log
    #[arg(long, value_name = "N")]
    until_position: Option<u64>,
    /// Print the steps and the verdict as JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let What::Wallet(wanted) = arguments.what;
    let config = common.configure(Flags::default())?;
    if let Database::Sqlite(dir) = &config.database {
        anyhow::ensure!(ledger_path(dir).exists(), "there is no store in {}", dir.display());
    }
    super::runtime()?.block_on(async {
        let pool = ReadPool::open_to_stream(&projector::views_of(&config.database)).await?;
        let mut read = pool.begin(0, Duration::ZERO).await?;
        let then = wanted.moment(&mut read).await?;
        let mut out = BufWriter::new(std::io::stdout());
        if !wanted.json {
            writeln!(
                out,
                "{}",
                row(["position", "recorded at", "event", "change", "balance", "recorded", "shown", ""])
            )?;
        }
        let mut lines = Vec::new();
        let replayed = replay::wallet(&mut read, wanted.reseller, then, |step| {
            lines.clear();
            wanted.tell(&step, &mut lines).and_then(|()| out.write_all(&lines)).map_err(ViewError::unreadable)
        })
        .await?;
        let Some(replayed) = replayed else {
            anyhow::bail!("there was no wallet {} at {}", wanted.reseller, then.position)
        };
        wanted.end(&replayed, &mut out)?;
        out.flush()?;
        Ok(if replayed.matches { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// A line of the table.
fn row([position, at, event, change, balance, recorded, shown, mark]: [&str; 8]) -> String {
    let line = format!(
        "{position:>10}  {at:<27}  {event:<22}  {change:>12}  {balance:>14}  {recorded:>14}  {shown:>14}  {mark}"
    );
    line.trim_end().to_owned()
}

impl Wallet {
    async fn moment(&self, read: &mut Read) -> anyhow::Result<AsOf> {
        let moment = match (self.until, self.until_position) {
            (Some(time), _) => Moment::Time(time),
            (None, Some(position)) => Moment::Position(position),
            (None, None) => return Ok(AsOf { position: read.position(), time: read.as_of() }),
        };
        Ok(AsOf::of(read, moment, Timestamp::MAX).await?)
    }

    fn tell(&self, step: &Step, out: &mut Vec<u8>) -> std::io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *out, step)?;
            return writeln!(out);
        }
        let line = row([
            &step.position.to_string(),
            &step.recorded_at.to_string(),
            &step.event_type,
            &step.change.to_string(),
            &step.balance.to_string(),
            &step.recorded_balance.to_string(),
            &step.read_model_balance.map_or_else(|| "-".to_owned(), |balance| balance.to_string()),
            if step.matches { "" } else { "DIFFERS" },
        ]);
        writeln!(out, "{line}")
    }

    fn end(&self, replayed: &Replay, out: &mut impl Write) -> std::io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *out, replayed)?;
            return writeln!(out);
        }
        let (events, position) = (replayed.events, replayed.replayed.position);
        writeln!(out, "{events} events up to position {position}: balance {}", replayed.replayed.balance)?;
        let shown = replayed.read_model.as_ref();
        match &replayed.first_difference {
            None if shown.is_none() => {
                writeln!(out, "sums, fold, cqrs-es and what is recorded agree; the read models have not come that far")
            }
            None => writeln!(out, "sums, fold, cqrs-es, what is recorded and what is shown agree"),
            Some(first) => {
                let place = first.position.map_or_else(String::new, |position| format!(" at {position}"));
                writeln!(out, "THEY DIFFER{place}: {}: expected {}, found {}", first.what, first.expected, first.found)
            }
        }
    }
}
