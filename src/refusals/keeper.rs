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

/// How many are written in one transaction at most.
const BATCH_MAX: usize = 512;
/// How often what is old is looked for.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// How many of the old go at a time, so that nobody waits for it.
const TIDY_ROWS: u32 = 5_000;

const INSERT: &str = "insert into refusals (refused_at, actor, role, tenant, method, path, item, code, detail, members, \
                      position, replayed) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// Writes what comes until nobody can send any more.
pub(super) async fn run(
    place: Place,
    mut waiting: mpsc::Receiver<Message>,
    retention: Retention,
    dropped: Arc<AtomicU64>,
) {
    let mut connection: Option<Held> = None;
    let mut tidied_at: Option<Instant> = None;
    let mut newest = Timestamp::MIN;
    let mut messages = Vec::new();
    loop {
        let received = tokio::time::timeout(TIDY_INTERVAL, waiting.recv_many(&mut messages, BATCH_MAX)).await;
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
        let is_due = tidied_at.is_none_or(|at| at.elapsed() >= TIDY_INTERVAL) && newest > Timestamp::MIN;
        let done = async {
            let open = match &mut connection {
                Some(open) => open,
                None => connection.insert(place.connect().await?),
            };
            write(open, refusals).await?;
            if is_due && tidy(open, retention, newest).await? {
                tidied_at = Some(Instant::now());
            }
            Ok::<_, ViewError>(())
        };
        if let Err(error) = done.await {
            tracing::warn!(%error, lost, "refusals could not be written down");
            dropped.fetch_add(lost, Ordering::Relaxed);
            connection = None;
        }
        for done in settled {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }
}

async fn write(connection: &mut Held, refusals: Vec<Refusal>) -> Result<(), ViewError> {
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
    connection.execute(statements.collect()).await?;
    Ok(())
}

/// Lets go of some of what is old, or too much; whether that was all of it.
async fn tidy(connection: &mut Held, retention: Retention, now: Timestamp) -> Result<bool, ViewError> {
    let seconds = i64::try_from(retention.kept.as_secs()).unwrap_or(i64::MAX);
    let oldest = now.plus_seconds(seconds.saturating_neg());
    let sql = "delete from refusals where id in (select id from refusals where refused_at < $1 \
               or id <= (select max(id) from refusals) - $2 order by id limit $3)";
    let values = vec![Value::text(oldest), retention.most.into(), TIDY_ROWS.into()];
    let gone = connection.execute(vec![(sql, values)]).await?;
    Ok(gone < u64::from(TIDY_ROWS))
}
