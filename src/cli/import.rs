//! `tallytree import`: the events of a table that postgres-es wrote, taken over into an empty store.

use std::process::ExitCode;

use clap::Args;

use super::Common;
use super::progress::Progress;
use crate::clock::Clock;
use crate::config::Flags;
use crate::import::{Imported, import};
use crate::store::postgres::{Address, Table};

/// What `import` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database with the table: postgres://…
    #[arg(value_name = "URL")]
    from: Address,
    /// The table's name, with its schema where that is not on the path
    #[arg(long, value_name = "NAME", default_value = "events")]
    table: String,
    /// The column that orders its rows [default: as they were inserted]
    #[arg(long, value_name = "COLUMN")]
    order_by: Option<String>,
    /// The column that says when each event was recorded, a timestamptz that goes back by a minute at most and says no time that is
    /// still to come [default: the time of the import]
    #[arg(long, value_name = "COLUMN")]
    recorded_at: Option<String>,
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    let table = Table::new(&arguments.table, arguments.order_by.as_deref(), arguments.recorded_at.as_deref())
        .map_err(anyhow::Error::msg)?;
    let mut progress = Progress::new("importing", "readings of events");
    let mut tell = |done, total| progress.tell(done, total);
    let imported = super::runtime()?.block_on(async {
        let store = config.database.open().await?;
        let now = Clock::System.now();
        anyhow::Ok(import(&arguments.from, &table, store, config.policy.clone(), now, &mut tell).await?)
    })?;
    progress.end();
    let Imported { events, aggregates, position } = imported;
    super::say(format_args!("{events} events of {aggregates} aggregates; the log ends at {position}"));
    Ok(ExitCode::SUCCESS)
}
