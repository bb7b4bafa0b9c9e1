//! `tallytree token create`, `list`, `revoke`. A token's text is printed once, alone, on stdout.

use std::process::ExitCode;

use aggregates::event::AggregateKey;
use aggregates::ledger::{Key, Loaded};
use aggregates::primitives::{ResellerId, Role, Text, Timestamp, UserId};
use clap::{Args, Subcommand};
use comfy_table::Table;

use super::Common;
use crate::access::directory::{Directory, ListedToken, TokenOrder};
use crate::clock::Clock;
use crate::config::{Database, Flags};
use crate::store::EventStore;

/// What `token` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Makes a token and prints it, once
    Create(CreateArguments),
    /// Lists all tokens, without their secrets
    List,
    /// Makes a token void, by its key id (the part between tt_ and the next _)
    Revoke {
        /// The key id
        key_id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// super_admin, reseller, payments, auditor or finance
    #[arg(long)]
    role: Role,
    /// The reseller that a reseller's token acts for
    #[arg(long, value_name = "ID")]
    tenant: Option<ResellerId>,
    /// The user behind it; a reseller's token without a tenant acts for its user's
    #[arg(long, value_name = "ID")]
    user: Option<UserId>,
    /// Lets a reseller's token name a cost itself: for the operator's own application
    #[arg(long)]
    declared_cost: bool,
    /// What people call it
    #[arg(long)]
    label: Option<Text>,
    /// From when on it is void: an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    expires: Option<Timestamp>,
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = common.configure(Flags::default())?;
    super::runtime()?.block_on(carry_out(&config.database, arguments))
}

async fn carry_out(database: &Database, arguments: Arguments) -> anyhow::Result<ExitCode> {
    // The first token is often made before the first start, and makes the store; the others have nothing to look for then.
    if !matches!(arguments.what, What::Create(_)) && !database.may_exist() {
        anyhow::bail!("there is no ledger at {database}; nothing was made");
    }
    let mut store = database.open().await?;
    if let What::Create(CreateArguments { tenant: Some(tenant), .. }) = &arguments.what {
        must_exist(&mut store, *tenant).await?;
    }
    drop(store);
    let directory = Directory::of(database);
    let now = Clock::System.now();
    match arguments.what {
        What::Create(create) => {
            let order = TokenOrder {
                role: create.role,
                tenant: create.tenant,
                user: create.user,
                declared_cost: create.declared_cost,
                label: create.label,
                expires_at: create.expires,
            };
            println!("{}", directory.create(&order, now).await?);
        }
        What::List => println!("{}", table(&directory.list().await?)),
        What::Revoke { key_id } => {
            if !directory.revoke(&key_id, now).await? {
                anyhow::bail!("there is no token {key_id} that is not void already");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A token for nobody is a slip of the pen, and its holder would be told only that there is no such tenant.
async fn must_exist(store: &mut impl EventStore, reseller: ResellerId) -> anyhow::Result<()> {
    let found = store.load(&[Key::Aggregate(AggregateKey::Reseller(reseller))]).await?;
    if !found.iter().any(|(_, loaded)| matches!(loaded, Loaded::Aggregate(Some(_)))) {
        anyhow::bail!("there is no reseller {reseller}; no token was made");
    }
    Ok(())
}

fn table(tokens: &[ListedToken]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["key id", "role", "tenant", "user", "declared cost", "label", "created", "expires", "revoked"]);
    for token in tokens {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        table.add_row([
            token.key_id.clone(),
            token.role.clone(),
            text(&token.tenant),
            text(&token.user),
            if token.declared_cost { "yes".to_owned() } else { String::new() },
            text(&token.label),
            token.created_at.clone(),
            text(&token.expires_at),
            text(&token.revoked_at),
        ]);
    }
    table
}
