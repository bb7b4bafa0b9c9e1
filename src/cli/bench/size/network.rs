//! Who is in the network, as its operator finds it by HTTP: who asks, about whom, and from which wallets commands provision.
//!
//! One pass over all pages of resellers, in memory afterwards: some 100 bytes a reseller, which goes once the choice is made.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom, SliceRandom};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::questions::Scope;
use crate::cli::bench::load::{Connection, KeySource, Request};
use crate::cli::bench::setup::{self, SKU};

/// What a unit of the product costs before discounts: enough that an upline earns by it.
const BASE_COST: i64 = 100;
/// What every wallet that provisions is given: enough for any run, and for 100 000 wallets still within what may be issued.
const FUNDS: i64 = 1_000_000_000;
const CONNECTIONS: usize = 16;
/// The largest subtrees, and as many small resellers, ask with a token of their own …
const CALLERS: usize = 12;
/// … and of so many large ones (but no more than a hundredth of all), and so many small ones, the operator asks.
const LARGE_MAX: usize = 100;
const SMALL_MAX: usize = 1_000;

/// What there is to ask about, and to write to.
#[derive(Debug)]
pub(in crate::cli::bench) struct Network {
    /// How many resellers there are.
    pub(in crate::cli::bench) resellers: usize,
    /// How many levels they have.
    pub(super) levels: usize,
    /// How many wallets commands provision from.
    pub(super) wallets: usize,
    /// The commands that are written.
    pub(in crate::cli::bench) provisions: Arc<Vec<Request>>,
    /// The operator's token.
    operator: String,
    large: Party,
    small: Party,
}

/// Those of a size.
#[derive(Debug, Default)]
struct Party {
    /// The tokens of those who ask.
    callers: Vec<String>,
    asked_about: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    parent_id: Option<String>,
    depth: usize,
    status: String,
    frozen: bool,
}

#[derive(Debug, Deserialize)]
struct Page {
    data: Vec<Listed>,
    next_cursor: Option<String>,
}

impl Network {
    /// Finds out who is there, chooses, makes tokens, and funds wallets.
    pub(in crate::cli::bench) async fn explore(
        address: SocketAddr,
        database: &str,
        directory: &Path,
        wallets: usize,
        keys: &Arc<KeySource>,
    ) -> anyhow::Result<Self> {
        let token = setup::token(&["--role", "super_admin", "--label", "bench"], database, directory).await?;
        let listed = everybody(address, &token).await?;
        let levels = listed.iter().map(|reseller| reseller.depth + 1).max().unwrap_or_default();
        let mut random = StdRng::seed_from_u64(1);

        let downline = downlines(&listed);
        let active: Vec<&Listed> = listed.iter().filter(|reseller| reseller.status == "active").collect();
        let size = |reseller: &Listed| downline.get(reseller.id.as_str()).copied().unwrap_or_default();
        let mut large: Vec<&Listed> = active.iter().copied().filter(|reseller| size(reseller) > 0).collect();
        large.sort_by_key(|reseller| std::cmp::Reverse(size(reseller)));
        large.truncate((listed.len() / 100).clamp(1, LARGE_MAX));
        let leaves = active.iter().copied().filter(|reseller| size(reseller) == 0);
        let mut small = leaves.choose_multiple(&mut random, SMALL_MAX);
        small.shuffle(&mut random);
        let large = Party::of(&large, database, directory).await?;
        let small = Party::of(&small, database, directory).await?;

        let free = active.iter().filter(|reseller| !reseller.frozen).map(|reseller| reseller.id.clone());
        let chosen = free.choose_multiple(&mut random, wallets);
        let product = json!({ "sku": SKU, "name": "What the benchmark sells", "base_cost": BASE_COST });
        let mut connection = Connection::open(address).await?;
        let publish = Request::command("/products", &token, &product)?;
        let published = connection.call(publish.sendable(keys)?).await?;
        // An earlier run on the same store may have published it.
        if published.status() != 409 {
            published.json::<serde_json::Value>().context("publishing the product")?;
        }
        let wallets = funded(address, chosen, &token, keys).await?;
        let provisions =
            wallets.iter().map(|wallet| setup::provision(wallet, &token)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            resellers: listed.len(),
            levels,
            wallets: wallets.len(),
            provisions: Arc::new(provisions),
            operator: token,
            large,
            small,
        })
    }

    /// The operator's token.
    pub(in crate::cli::bench) fn operator(&self) -> &str {
        &self.operator
    }

    /// Some large resellers, and many small ones.
    pub(in crate::cli::bench) fn asked_about(&self) -> impl Iterator<Item = &str> {
        self.large.asked_about.iter().chain(&self.small.asked_about).map(String::as_str)
    }

    /// The token of somebody who asks about a scope, and whom it asks about: itself, somebody, or everything.
    pub(super) fn somebody(&self, scope: Scope, random: &mut impl Rng) -> anyhow::Result<(&str, Option<&str>)> {
        let party = match scope {
            Scope::Platform => return Ok((&self.operator, None)),
            Scope::Large => &self.large,
            Scope::Small => &self.small,
        };
        if random.random_bool(0.5) {
            let caller = party.callers.iter().choose(random).context("the network has nobody of this size")?;
            return Ok((caller, None));
        }
        let about = party.asked_about.iter().choose(random).context("the network has nobody of this size")?;
        Ok((&self.operator, Some(about)))
    }
}

impl Party {
    /// All of these are asked about, and the first of them ask.
    async fn of(resellers: &[&Listed], database: &str, directory: &Path) -> anyhow::Result<Self> {
        let mut party = Self::default();
        for reseller in resellers.iter().take(CALLERS) {
            let arguments = ["--role", "reseller", "--tenant", &reseller.id, "--label", "bench"];
            let token = setup::token(&arguments, database, directory).await?;
            party.callers.push(token);
        }
        party.asked_about = resellers.iter().map(|reseller| reseller.id.clone()).collect();
        Ok(party)
    }
}

/// Every reseller.
async fn everybody(address: SocketAddr, token: &str) -> anyhow::Result<Vec<Listed>> {
    let mut connection = Connection::open(address).await?;
    let mut listed = Vec::new();
    let mut cursor = String::new();
    loop {
        let query = Request::query(&format!("/resellers?limit=500{cursor}"), token)?;
        let page: Page = connection.ask(&query).await?.json().context("listing the resellers")?;
        listed.extend(page.data);
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(listed),
        }
    }
}

/// How many are below each who has anybody below.
fn downlines(listed: &[Listed]) -> HashMap<&str, usize> {
    let parents: HashMap<&str, &str> =
        listed.iter().filter_map(|reseller| Some((reseller.id.as_str(), reseller.parent_id.as_deref()?))).collect();
    let mut downlines = HashMap::new();
    for reseller in listed {
        let mut at = reseller.id.as_str();
        while let Some(parent) = parents.get(at) {
            *downlines.entry(*parent).or_default() += 1;
            at = parent;
        }
    }
    downlines
}

/// Funds wallets and provisions once from each; leaves out those that may not, because somebody holds them.
async fn funded(
    address: SocketAddr,
    chosen: Vec<String>,
    token: &str,
    keys: &Arc<KeySource>,
) -> anyhow::Result<Vec<String>> {
    let (run, mut tasks) = (rand::random::<u32>(), JoinSet::new());
    for share in chosen.chunks(chosen.len().div_ceil(CONNECTIONS).max(1)) {
        let (share, token, keys) = (share.to_vec(), token.to_owned(), Arc::clone(keys));
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut able = Vec::with_capacity(share.len());
            for wallet in share {
                let credits =
                    json!({ "amount": FUNDS, "source": "purchase", "reference": format!("bench-{run:08x}-{wallet}") });
                let fund = Request::command(&format!("/wallets/{wallet}/credits"), &token, &credits)?;
                setup::send(&mut connection, &fund, &keys).await.context("funding a wallet")?;
                let provision = setup::provision(&wallet, &token)?.sendable(&keys)?;
                if connection.call(provision).await?.status() == 201 {
                    able.push(wallet);
                }
            }
            anyhow::Ok(able)
        });
    }
    let mut able = Vec::with_capacity(chosen.len());
    while let Some(share) = tasks.join_next().await {
        able.extend(share??);
    }
    if able.len() * 2 < chosen.len() || able.is_empty() {
        bail!("only {} of {} wallets can provision", able.len(), chosen.len());
    }
    Ok(able)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn everybody_below_counts_for_everybody_above() {
        let listed = |id: &str, parent: Option<&str>, depth| Listed {
            id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            depth,
            status: "active".to_owned(),
            frozen: false,
        };
        let all =
            [listed("c", Some("b"), 2), listed("a", None, 0), listed("b", Some("a"), 1), listed("d", Some("a"), 1)];
        assert_eq!(downlines(&all), HashMap::from([("a", 3), ("b", 1)]));
    }
}
