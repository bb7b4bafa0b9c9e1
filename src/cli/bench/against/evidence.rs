//! What shows that the service did all of its work on PostgreSQL too: a receipt for every keyed command, and a hash chain that
//! holds from the first event to the head; and how fast the log is read, decoded and folded again.

use std::collections::HashMap;
use std::time::Instant;

use aggregates::event::Event;
use aggregates::wallet::Wallet;
use anyhow::{Context, bail};
use sqlx::{Executor, Row};

use super::place::Place;
use crate::store::postgres::PostgresStore;
use crate::store::{EventStore, chain};

/// How many events are read at once.
const PAGE: usize = 10_000;

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    /// Receipts, which are as many as keyed commands were answered.
    pub(super) receipts: u64,
    /// Events in the log, all of them in the chain.
    pub(super) events: u64,
    /// Events a second that were read, decoded and folded into their wallets.
    pub(super) replayed_per_second: f64,
}

/// The head's position.
///
/// # Errors
/// What the database says.
pub(super) async fn head_position(place: &Place) -> anyhow::Result<u64> {
    let row = place.pool(1).fetch_one("select position from ledger.head").await?;
    Ok(u64::try_from(row.try_get::<i64, _>(0)?)?)
}

/// Looks at the log.
///
/// # Errors
/// The chain is broken, or the receipts are not as many as the keyed commands.
pub(super) async fn gather(place: &Place, keyed_commands: u64) -> anyhow::Result<Evidence> {
    let row = place.pool(1).fetch_one("select count(*) from ledger.receipts").await?;
    let receipts = u64::try_from(row.try_get::<i64, _>(0)?)?;
    if receipts != keyed_commands {
        bail!("{keyed_commands} keyed commands were answered, but there are {receipts} receipts");
    }
    let mut store = PostgresStore::open(place.url().parse().map_err(anyhow::Error::msg)?).await?;
    let mut hash = [0; 32];
    let mut events = 0;
    loop {
        let page = store.read(events, PAGE).await?;
        let Some(last) = page.last() else { break };
        for event in &page {
            if chain::hash(&hash, event) != event.hash {
                bail!("the hash chain is broken at position {}", event.position);
            }
            hash = event.hash;
        }
        events = last.position;
    }
    let begun = Instant::now();
    replay(store).await?;
    Ok(Evidence { receipts, events, replayed_per_second: events as f64 / begun.elapsed().as_secs_f64() })
}

/// Every wallet as its events come to: the next page is read while the one before it is folded.
async fn replay(mut store: PostgresStore) -> anyhow::Result<HashMap<String, Wallet>> {
    let (pages, mut read) = tokio::sync::mpsc::channel(1);
    let reading = tokio::spawn(async move {
        let mut position = 0;
        loop {
            let page = store.read(position, PAGE).await?;
            let Some(last) = page.last() else { return anyhow::Ok(()) };
            position = last.position;
            // Whoever folds has met something that it cannot read, and says so.
            if pages.send(page).await.is_err() {
                return Ok(());
            }
        }
    });
    let mut wallets: HashMap<String, Wallet> = HashMap::new();
    while let Some(page) = read.recv().await {
        for event in page {
            let known = Event::decode(&event.aggregate_type, &event.event_type, &event.event_version, &event.payload);
            if let Event::Wallet(known) = known.context("an event that cannot be read")? {
                wallets.entry(event.aggregate_id).or_default().fold(&known);
            }
        }
    }
    reading.await??;
    Ok(wallets)
}
