//! Writes down what is refused, and lets go of what has been kept long enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aggregates::primitives::Timestamp;
use projections::sql::{Value, ViewError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::place::{Held, Place};
use super::{Message, Refusal, Retention};
use crate::clock::Clock;

/// How many are written in one transaction at most.
const BATCH_MAX: usize = 512;
/// How often what is old is looked for.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// And how soon again where some of it is left.
const TIDY_PAUSE: Duration = Duration::from_secs(1);
/// How many of the old go at a time, so that nobody waits for it.
const TIDY_ROWS: u32 = 5_000;

const INSERT: &str = "insert into refusals (refused_at, actor, role, tenant, method, path, item, code, detail, members, \
                      position, replayed) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// Writes what comes until nobody can send any more.
pub(super) async fn run(
    place: Place,
    mut waiting: mpsc::Receiver<Message>,
    retention: Retention,
    clock: Clock,
    dropped: Arc<AtomicU64>,
) {
    let mut connection: Option<Held> = None;
    // What is old goes although nothing new comes, and what is old already goes at once.
    let mut tidy_at = Instant::now();
    let mut newest = Timestamp::MIN;
    let mut messages = Vec::new();
    loop {
        let received = tokio::time::timeout_at(tidy_at, waiting.recv_many(&mut messages, BATCH_MAX)).await;
        if received == Ok(0) {
            return;
        }
        let mut refusals = Vec::new();
        let mut settled = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Note(refusal) => {
                    newest = newest.max(refusal.refused_at);
                    refusals.push(*refusal);
                }
                Message::Settle(done) => settled.push(done),
            }
        }
        let lost = u64::try_from(refusals.len()).unwrap_or(u64::MAX);
        if let Err(error) = write(&place, &mut connection, refusals).await {
            tracing::warn!(%error, lost, "refusals could not be written down");
            dropped.fetch_add(lost, Ordering::Relaxed);
            connection = None;
        }
        if Instant::now() >= tidy_at {
            // A manual clock may stand behind what was recorded before it was set.
            let tidied = tidy(&place, &mut connection, retention, clock.now().max(newest)).await;
            let is_tidy = tidied.unwrap_or_else(|error| {
                tracing::warn!(%error, "refusals that are old could not be let go of");
                connection = None;
                true
            });
            tidy_at = Instant::now() + if is_tidy { TIDY_INTERVAL } else { TIDY_PAUSE };
        }
        for done in settled {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }
}

/// The connection, made where there is none.
async fn held<'c>(place: &Place, connection: &'c mut Option<Held>) -> Result<&'c mut Held, ViewError> {
    Ok(match connection {
        Some(open) => open,
        None => connection.insert(place.connect().await?),
    })
}

async fn write(place: &Place, connection: &mut Option<Held>, refusals: Vec<Refusal>) -> Result<(), ViewError> {
    if refusals.is_empty() {
        return Ok(());
    }
    let statements = refusals.into_iter().map(|refusal| {
        let values = vec![
            Value::text(refusal.refused_at),
            refusal.actor.into(),
            refusal.role.into(),
            Value::text_or_null(refusal.tenant),
            refusal.method.into(),
            refusal.path.into(),
            refusal.item.into(),
            refusal.code.into(),
            refusal.detail.into(),
            refusal.members.into(),
            refusal.position.into(),
            refusal.replayed.into(),
        ];
        (INSERT, values)
    });
    held(place, connection).await?.execute(statements.collect()).await?;
    Ok(())
}

/// Lets go of some of what is old, or too much; whether that was all of it.
async fn tidy(
    place: &Place,
    connection: &mut Option<Held>,
    retention: Retention,
    now: Timestamp,
) -> Result<bool, ViewError> {
    if retention.kept.is_zero() {
        // Nothing is written down, and what was is left as it is.
        return Ok(true);
    }
    let seconds = i64::try_from(retention.kept.as_secs()).unwrap_or(i64::MAX);
    let oldest = now.plus_seconds(seconds.saturating_neg());
    let sql = "delete from refusals where id in (select id from refusals where refused_at < $1 \
               or id <= (select max(id) from refusals) - $2 order by id limit $3)";
    let values = vec![Value::text(oldest), retention.most.into(), TIDY_ROWS.into()];
    let gone = held(place, connection).await?.execute(vec![(sql, values)]).await?;
    Ok(gone < u64::from(TIDY_ROWS))
}
