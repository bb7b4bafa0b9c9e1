//! The ceiling: what this machine, this HTTP stack and this load generator can do when there is nothing to do.
//!
//! An axum server on the same runtime and with the same settings as the real one. It reads the same JSON body into a struct
//! and answers with the same answer type, without storage, without authentication. Ratios against it say what the ledger
//! costs, and carry over from machine to machine where absolute figures do not.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use aggregates::answer::ProvisionAnswer;
use aggregates::primitives::{Percent, PriceSource, ProvisionId, Quantity, Sku};
use anyhow::Context;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::cli::Common;

/// What the ceiling takes; only `bench` starts it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvisionBody {
    sku: Sku,
    #[serde(default)]
    quantity: Quantity,
}

/// Serves until its standard input ends: it does not outlive the benchmark, however that one ends.
///
/// # Errors
/// The address is taken, or the server fails.
pub(crate) fn run(_common: &Common, arguments: Arguments) -> anyhow::Result<ExitCode> {
    crate::cli::runtime()?.block_on(serve(&arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &Arguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let address = listener.local_addr()?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{address}")?;
    stdout.flush()?;
    let listener = listener.tap_io(|stream| {
        // Without it the connection is merely slower.
        let _ = stream.set_nodelay(true);
    });
    let router = Router::new().route("/wallets/{reseller_id}/provisions", post(provision));
    let parent_is_gone = async {
        let mut stdin = tokio::io::stdin();
        let mut byte = [0_u8; 1];
        while stdin.read(&mut byte).await.is_ok_and(|count| count > 0) {}
    };
    tokio::select! {
        served = axum::serve(listener, router).into_future() => Ok(served?),
        () = parent_is_gone => Ok(()),
    }
}

async fn provision(Path(_wallet): Path<Uuid>, Json(body): Json<ProvisionBody>) -> (StatusCode, Json<ProvisionAnswer>) {
    let units = i64::from(body.quantity.units());
    // What the real one answers to the first of these; reading the name keeps the body from being optimised away.
    let unit_cost = i64::from(!body.sku.as_str().is_empty());
    let answer = ProvisionAnswer {
        provision_id: ProvisionId(Uuid::now_v7()),
        amount: unit_cost * units,
        unit_cost,
        price_source: PriceSource::Tier,
        quantity: body.quantity,
        base_cost: Some(unit_cost),
        discount_percent: Some(Percent::default()),
        balance: super::setup::FUNDS,
        available: super::setup::FUNDS,
        low_credit: false,
        commissions: None,
    };
    (StatusCode::CREATED, Json(answer))
}
