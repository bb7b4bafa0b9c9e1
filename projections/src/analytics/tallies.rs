//! What everybody had done at marks, decoded once and kept for the next question; and what everybody has done lately, moved on by
//! new movements only.
//!
//! A mark's row is never written again, and of the movements only the last row is, so what is kept stays right for as long as it
//! belongs to the same history, the same tables and the same store, and it stands under what it was read from
//! ([`crate::origin`]). Each [`ReadPool`](crate::ReadPool) keeps its own.
//!
//! Memory: bounded by [`KEPT_BYTES`]; what was not asked for longest is forgotten first. Cost: a look-up of an event's hash; a mark
//! that is not kept takes one row of some five bytes a reseller and some ten nanoseconds for each of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aggregates::primitives::Timestamp;

use super::Analytics;
use super::marks::Mark;
use super::members::Members;
use super::movements::{self, RowKey};
use super::ranking::registered;
use super::scores::{NarrowScores, Scores};
use crate::origin::{Origin, Seen};
use crate::sql::{Connection, ViewError};

/// How much is kept: of a hundred thousand resellers some ten marks.
const KEPT_BYTES: usize = 16 << 20;
/// About how much a reseller takes in each.
const RESELLER_BYTES: usize = 15;
/// How many movements are counted after the latest tally before it is moved on, which costs a few milliseconds.
pub(super) const LATEST_MOVEMENTS: usize = if cfg!(test) { 8 } else { 16_384 };

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// What was asked for last stands last.
    marks: Vec<(Origin, Arc<NarrowScores>)>,
    latest: Option<Latest>,
}

/// What everybody had done before a row of movements that comes after the last mark.
#[derive(Debug, Clone)]
pub(super) struct Latest {
    /// At the checkpoint of the snapshot that it was read in.
    origin: Origin,
    mark: Mark,
    /// The first row that is not counted.
    pub(super) row: RowKey,
    /// When the last movement was recorded that is.
    pub(super) ends: Timestamp,
    pub(super) tally: Arc<NarrowScores>,
}

impl Tallies {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What everybody had done at a mark.
    pub(super) async fn at(
        &self,
        connection: &mut Connection<'_>,
        tables: i64,
        mark: Mark,
    ) -> Result<Arc<NarrowScores>, ViewError> {
        let origin = Origin::at::<Analytics>(connection, tables, mark.position).await?;
        if let Some(known) = self.kept().mark(&origin) {
            return Ok(known);
        }
        let tally = Arc::new(NarrowScores::of(&written(connection, mark).await?));
        self.kept().keep(origin, &tally);
        Ok(tally)
    }

    /// What everybody had done some time after the last mark, if that is known and had happened in this snapshot too.
    pub(super) async fn latest(
        &self,
        connection: &mut Connection<'_>,
        tables: i64,
        last: Mark,
    ) -> Result<Option<Latest>, ViewError> {
        let Some(latest) = self.kept().latest.clone() else { return Ok(None) };
        let holds = latest.mark == last && latest.origin.seen(connection, tables).await? == Seen::Same;
        Ok(holds.then_some(latest))
    }

    /// Counts what has come since the latest tally, or since the last mark where there is none, up to the last row, which may
    /// still grow.
    pub(super) async fn move_on(
        &self,
        connection: &mut Connection<'_>,
        tables: i64,
        last: Mark,
        latest: Option<&Latest>,
    ) -> Result<(), ViewError> {
        let Some((row, ends)) = movements::before_the_last_row(connection).await? else { return Ok(()) };
        let after = latest.map_or(last.row(), |latest| latest.row);
        if row <= after {
            return Ok(());
        }
        let resellers = registered(connection).await?;
        if resellers.saturating_mul(RESELLER_BYTES) > KEPT_BYTES / 2 {
            // It would take the place of every mark, or not be kept at all, and be made again for the next question.
            return Ok(());
        }
        let mut scores = Scores::nothing(resellers);
        let beginning = match latest {
            Some(latest) => {
                scores.add(&latest.tally, &Members::All, 1);
                movements::begins(latest.row)
            }
            None => {
                if last.position > 0 {
                    scores.add(self.at(connection, tables, last).await?.as_ref(), &Members::All, 1);
                }
                last.before
            }
        };
        let (hour, block) = row;
        let end = movements::begins((hour.saturating_add(1), 0));
        movements::scan(connection, (beginning, end), (after.1, block.saturating_sub(1)), |ordinal, kind, amount| {
            scores.count(ordinal, kind, amount, 1);
        })
        .await?;
        let origin = Origin::here::<Analytics>(connection, tables).await?;
        let latest = Latest { origin, mark: last, row, ends, tally: Arc::new(NarrowScores::of(&scores)) };
        let mut kept = self.kept();
        kept.latest = Some(latest);
        kept.forget();
        Ok(())
    }
}

impl Kept {
    fn mark(&mut self, origin: &Origin) -> Option<Arc<NarrowScores>> {
        let at = self.marks.iter().position(|(known, _)| known == origin)?;
        let found = self.marks.remove(at);
        let tally = Arc::clone(&found.1);
        self.marks.push(found);
        Some(tally)
    }

    fn keep(&mut self, origin: Origin, tally: &Arc<NarrowScores>) {
        // Another question may have read the same meanwhile; and tables that were replaced are asked only by who began before.
        self.marks.retain(|(known, _)| known.tables == origin.tables && known.event.position != origin.event.position);
        self.marks.push((origin, Arc::clone(tally)));
        self.forget();
    }

    fn forget(&mut self) {
        let latest = self.latest.as_ref().map(|latest| latest.tally.bytes());
        let mut bytes: usize = self.marks.iter().map(|(_, tally)| tally.bytes()).chain(latest).sum();
        let mut forgotten = 0;
        while bytes > KEPT_BYTES
            && let Some((_, tally)) = self.marks.get(forgotten)
        {
            bytes = bytes.saturating_sub(tally.bytes());
            forgotten += 1;
        }
        self.marks.drain(..forgotten);
        if bytes > KEPT_BYTES {
            self.latest = None;
        }
    }
}

/// What everybody had done at a mark, as it is written there.
pub(super) async fn written(connection: &mut Connection<'_>, mark: Mark) -> Result<Scores, ViewError> {
    if mark.position == 0 {
        return Ok(Scores::default());
    }
    let row =
        connection.fetch_one("select entries from scores where position = $1", vec![mark.position.into()]).await?;
    let row = row.ok_or_else(|| ViewError::unreadable(format!("there is no mark at {}", mark.position)))?;
    Scores::unpack(row.columns().slice()?)
}
