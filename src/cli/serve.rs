//! `tallytree serve`: migrates if needed, serves, and says where on stdout.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

use super::Common;
use crate::config::{ClockKind, Config, Database, Flags, address_of};
use crate::node::{self, Node};

/// What `serve` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The address to serve on; port 0 takes a free one [default: 127.0.0.1:7373]
    #[arg(long, value_name = "HOST:PORT", value_parser = address_of)]
    listen: Option<SocketAddr>,
    /// A copy of the database (a standby) that queries are asked of instead: postgres://…
    #[arg(long, value_name = "URL")]
    read_database: Option<Database>,
    /// Allows what only tests want
    #[arg(long)]
    dev: bool,
    /// Where the time comes from; manual needs --dev [default: system]
    #[arg(long, value_name = "CLOCK")]
    clock: Option<ClockKind>,
    /// Folds nothing into the read models: `bench size` measures by it what they cost. Needs --dev
    #[arg(long, hide = true, requires = "dev")]
    without_projections: bool,
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let flags = Flags {
        listen: arguments.listen,
        read_database: arguments.read_database,
        dev: arguments.dev.then_some(true),
        clock: arguments.clock,
        ..Flags::default()
    };
    let config = Config { without_projections: arguments.without_projections, ..common.configure(flags)? };
    super::runtime()?.block_on(serve(&config))?;
    Ok(ExitCode::SUCCESS)
}

/// Listens, opens the node, says where it listens once it is ready, and serves until it is told to stop.
pub(crate) async fn serve(config: &Config) -> anyhow::Result<()> {
    serve_on(listen(config).await?, config, |_| Ok(())).await
}

/// Takes the configured address.
pub(crate) async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))
}

/// As [`serve`], on an address that is taken already; `announced` may add to what is said.
pub(crate) async fn serve_on(
    listener: TcpListener,
    config: &Config,
    announced: impl FnOnce(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let node = Node::open(config).await?;
    let stopped = node::stop_signal();
    let address = listener.local_addr()?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on http://{address}")?;
    stdout.flush()?;
    drop(stdout);
    announced(address)?;
    node::run(listener, node, stopped).await?;
    Ok(())
}
