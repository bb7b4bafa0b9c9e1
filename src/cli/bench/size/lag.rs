//! How far the read models are behind the log, in time: for every look at the head, how long it took until a look found the
//! read models there.
//!
//! Looks from outside, by two small queries every few milliseconds, at `ledger.db` and `views.db`: asking the server would wake
//! the projector. What is told is too long by up to two [`PAUSE`]s, never too short.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use rusqlite::Connection;

use crate::cli::bench::evidence::{CATCH_UP_PATIENCE, open};

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What one look found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    at: Instant,
    /// The position of the log's last event.
    head: u64,
    /// How far all read models have come.
    pub(super) folded: u64,
}

/// Where looks are made.
#[derive(Debug)]
pub(super) struct Watch {
    ledger: Connection,
    views: Connection,
}

impl Watch {
    /// Opens the store for looking.
    pub(super) fn open(store: &Path) -> anyhow::Result<Self> {
        Ok(Self { ledger: open(store, "ledger.db")?, views: open(store, "views.db")? })
    }

    /// Looks.
    pub(super) fn look(&mut self) -> anyhow::Result<Look> {
        let number = |database: &Connection, sql| {
            let number: i64 = database.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            anyhow::Ok(u64::try_from(number)?)
        };
        let folded = number(&self.views, "select coalesce(min(position), 0) from checkpoints")?;
        // The time before the head's: a lag is never told too short.
        let at = Instant::now();
        Ok(Look { at, head: number(&self.ledger, "select position from head")?, folded })
    }
}

/// A thread that looks until it is ended.
#[derive(Debug)]
pub(super) struct Watching {
    over: Arc<AtomicBool>,
    thread: tokio::task::JoinHandle<anyhow::Result<Vec<Look>>>,
}

/// Begins looking.
pub(super) fn watch(store: &Path) -> anyhow::Result<Watching> {
    let mut watch = Watch::open(store)?;
    let over = Arc::new(AtomicBool::new(false));
    let thread = tokio::task::spawn_blocking({
        let over = Arc::clone(&over);
        move || {
            // Where the other end is gone, nobody wants to know any more.
            let wanted = || Arc::strong_count(&over) > 1;
            let mut looks = Vec::new();
            while !over.load(Ordering::Relaxed) && wanted() {
                looks.push(watch.look()?);
                std::thread::sleep(PAUSE);
            }
            let end = Instant::now();
            let last = looks.last().map_or(0, |look: &Look| look.head);
            while wanted() && looks.last().is_some_and(|look| look.folded < last) {
                if end.elapsed() > CATCH_UP_PATIENCE {
                    bail!("the read models have not come to position {last} after {CATCH_UP_PATIENCE:?}");
                }
                std::thread::sleep(PAUSE);
                looks.push(watch.look()?);
            }
            Ok(looks)
        }
    });
    Ok(Watching { over, thread })
}

impl Watching {
    /// Ends it when the read models have come to the head; tells what it saw.
    pub(super) async fn end(self) -> anyhow::Result<Vec<Look>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.await.context("the thread that looks at the read models ended")?
    }
}

/// Lags, in microseconds.
#[derive(Debug)]
pub(super) struct Lag(Histogram<u64>);

impl Lag {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 600_000_000, 3)?))
    }

    /// Adds what was seen under one load.
    pub(super) fn add(&mut self, looks: &[Look]) -> anyhow::Result<()> {
        if looks.is_empty() {
            bail!("nobody looked at the read models");
        }
        let mut there = looks.iter().peekable();
        for look in looks {
            while there.next_if(|there| there.folded < look.head).is_some() {}
            // Behind the last look's head nobody looked any more.
            let Some(there) = there.peek() else { break };
            self.0.saturating_record(u64::try_from(there.at.saturating_duration_since(look.at).as_micros())?);
        }
        Ok(())
    }

    /// A quantile, in milliseconds; `None` where nobody looked.
    pub(super) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64 / 1e3)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_lag_lasts_from_a_head_until_the_read_models_are_there() {
        let start = Instant::now();
        let look = |milliseconds, head, folded| Look { at: start + Duration::from_millis(milliseconds), head, folded };
        let mut lag = Lag::new().expect("a histogram");
        // 10 waits 40 ms, 20 waits 20 ms, 30 waits for 30 ms, and what comes after is there at once.
        lag.add(&[look(0, 10, 0), look(20, 20, 5), look(40, 30, 20), look(70, 30, 30)]).expect("lags");
        assert_eq!(lag.0.len(), 4);
        let near =
            |quantile: f64, expected: f64| lag.quantile_ms(quantile).is_some_and(|it| (it - expected).abs() < 0.1);
        assert!(near(1.0, 40.0) && near(0.75, 30.0) && near(0.5, 20.0) && near(0.25, 0.0));
    }
}
