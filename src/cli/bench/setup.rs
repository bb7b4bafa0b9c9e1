//! What is measured needs something to work on: tokens, a product, resellers with funded wallets, all made as an operator
//! would make them, by the command line and by HTTP, each command with its idempotency key.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::child;
use super::load::{Connection, KEY_MARK, KeySource, Request};
use super::progress::Progress;

/// What every wallet is given: enough for any run, and for a thousand wallets still within what the ledger may issue.
pub(super) const FUNDS: i64 = 1_000_000_000_000;
/// The product that is provisioned; one unit costs one credit.
pub(super) const SKU: &str = "bench";

const CONNECTIONS: usize = 16;

/// What there is to provision from.
#[derive(Debug)]
pub(super) struct Network {
    /// A `super_admin`'s token; spreads over all wallets.
    pub(super) admin: String,
    /// The hot wallet's own reseller's token.
    pub(super) hot_token: String,
    /// The hot wallet.
    pub(super) hot: String,
    /// The other wallets.
    pub(super) wallets: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Registered {
    id: String,
}

/// Makes a token by the command line, as an operator does.
pub(super) async fn token(arguments: &[&str], database: &str, directory: &Path) -> anyhow::Result<String> {
    let arguments = [&["token", "create", "--database", database], arguments].concat();
    let token = child::output_of(&arguments, directory).await.context("making a token")?;
    if token.is_empty() || token.contains(char::is_whitespace) {
        bail!("`token create` is to print a token and nothing else, it printed {token:?}");
    }
    Ok(token)
}

/// The request that provisions one unit from a wallet.
pub(super) fn provision(wallet: &str, token: &str) -> anyhow::Result<Request> {
    Request::command(&format!("/wallets/{wallet}/provisions"), token, &json!({ "sku": SKU, "quantity": 1 }))
}

/// The request that provisions `count` units from a wallet, one by one, all or none; with `item_keys` each item has its own
/// idempotency key, and so its own receipt.
pub(super) fn bulk(wallet: &str, token: &str, count: usize, item_keys: bool) -> anyhow::Result<Request> {
    let item = if item_keys { json!({ "sku": SKU, "idempotency_key": KEY_MARK }) } else { json!({ "sku": SKU }) };
    let body = json!({ "atomic": true, "items": vec![item; count] });
    Request::command(&format!("/wallets/{wallet}/provisions/bulk"), token, &body)
}

/// Sends a command and reads its answer.
pub(super) async fn send(connection: &mut Connection, request: &Request, keys: &KeySource) -> anyhow::Result<Value> {
    connection.call(request.sendable(keys)?).await?.json()
}

/// Makes the product, `count` funded wallets and the hot one, and the tokens.
pub(super) async fn network(
    address: SocketAddr,
    database: &str,
    directory: &Path,
    count: usize,
    keys: &Arc<KeySource>,
    progress: &Progress,
) -> anyhow::Result<Network> {
    progress.say(&format!("setting up a product and {} funded wallets", count + 1));
    let admin = token(&["--role", "super_admin", "--label", "bench"], database, directory).await?;
    let mut connection = Connection::open(address).await?;
    let product = json!({ "sku": SKU, "name": "What the benchmark sells", "base_cost": 1 });
    let request = Request::command("/products", &admin, &product)?;
    send(&mut connection, &request, keys).await.context("publishing the product")?;

    let hot = funded_reseller(&mut connection, "hot", &admin, keys).await?;
    let mut tasks = JoinSet::new();
    for first in 0..CONNECTIONS {
        let (admin, keys) = (admin.clone(), Arc::clone(keys));
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut made = Vec::new();
            for index in (first..count).step_by(CONNECTIONS) {
                made.push(funded_reseller(&mut connection, &index.to_string(), &admin, &keys).await?);
            }
            anyhow::Ok(made)
        });
    }
    let mut wallets = Vec::with_capacity(count);
    while let Some(made) = tasks.join_next().await {
        wallets.extend(made??);
    }
    let hot_token =
        token(&["--role", "reseller", "--tenant", &hot, "--label", "bench-hot"], database, directory).await?;
    Ok(Network { admin, hot_token, hot, wallets })
}

async fn funded_reseller(
    connection: &mut Connection,
    name: &str,
    admin: &str,
    keys: &KeySource,
) -> anyhow::Result<String> {
    let body = json!({ "user_id": format!("bench-{name}"), "company_name": format!("Bench {name}") });
    let request = Request::command("/resellers", admin, &body)?;
    let answer = send(connection, &request, keys).await.context("registering a reseller")?;
    let Registered { id } = serde_json::from_value(answer)?;
    let body = json!({ "amount": FUNDS, "source": "purchase", "reference": format!("bench-{name}") });
    let request = Request::command(&format!("/wallets/{id}/credits"), admin, &body)?;
    send(connection, &request, keys).await.context("funding a wallet")?;
    Ok(id)
}
