//! `tallytree close`: closes a month, as POST `/platform/close` does, beside a running service or without one.

use std::process::ExitCode;

use aggregates::command::{Command, CommandEnvelope};
use aggregates::month::Month;
use aggregates::primitives::{Actor, CommandId, Role, UserId};
use aggregates::rejection::Rejection;
use clap::Args;
use comfy_table::Table;

use super::Common;
use super::export::folded_views;
use super::progress::Progress;
use crate::config::{Config, Flags};
use crate::engine::{Outcome, Reply};
use crate::finance::close::{RECKONINGS_MAX, reckon};
use crate::fresh;
use crate::node::Node;

/// What `close` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which month, such as 2026-10; months are closed in order
    month: Month,
    /// In whose name it is closed
    #[arg(long, value_name = "USER", default_value = "operator")]
    by: UserId,
    /// Prints what was closed as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    super::runtime()?.block_on(close(&config, &arguments))
}

async fn close(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // Also refuses a directory without a store, where a node would make one.
    let views = folded_views(config).await?;
    let node = Node::open(config).await?;
    let mut progress = Progress::new("adding up", "events");
    let mut closed = Err(Rejection::LogMovedOn {});
    for _ in 0..RECKONINGS_MAX {
        let now = node.clock().now();
        let reckoning = reckon(&views, arguments.month, now, &mut |done, total| progress.tell(done, total)).await?;
        let closing = reckoning.closing.clone();
        let envelope = CommandEnvelope {
            command_id: CommandId(fresh::id(node.clock().now())),
            actor: Actor { id: arguments.by.clone(), role: Role::SuperAdmin, tenant: None, declared_cost: false },
            idempotency: None,
            command: Command::ClosePeriod(Box::new(reckoning)),
        };
        closed = match node.engine().submit(envelope).await? {
            Reply { outcome: Outcome::Done { .. }, position, .. } => Ok((closing, position)),
            Reply { outcome: Outcome::Refused(refusal), .. } => Err(refusal),
            Reply { outcome: Outcome::Denied(denial), .. } => anyhow::bail!("{denial}"),
        };
        if !matches!(closed, Err(Rejection::LogMovedOn {})) {
            break;
        }
    }
    progress.end();
    node.shutdown().await;
    let (closing, position) = closed?;
    if arguments.json {
        super::say(serde_json::to_string_pretty(&closing)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["account", "debit", "credit", "balance"]);
    for (account, total) in &closing.totals {
        table.add_row([account.clone(), total.debit.to_string(), total.credit.to_string(), total.balance.to_string()]);
    }
    super::say(table);
    super::say(format_args!("{} is closed by event {position}.", closing.month));
    super::say(format_args!("It ends with event {}, hash {}.", closing.last_position, closing.head_hash));
    Ok(ExitCode::SUCCESS)
}
