//! What the books come to at a position, account by account, added up from the log alone.
//!
//! Goes on from the last closing before the position, so a month costs what a month holds. Memory: one batch of events.

use aggregates::closing::{self, Closing, Totals};
use aggregates::event::{Event, PLATFORM_ID};
use aggregates::platform::PlatformEvent;
use aggregates::postings;
use projections::sql::{Read, ViewError};
use projections::{ReadPool, audit_log, batch};

use super::PATIENCE;

/// How many events are added up at a time.
const BATCH: u64 = 4_000;

/// Every closing up to a position, in order.
///
/// # Errors
/// What the database says, or a closing that cannot be read.
pub async fn closings(read: &mut Read, until: u64) -> Result<Vec<Closing>, ViewError> {
    let until = until.min(audit_log::head(read).await?.position);
    let mut closings = Vec::new();
    audit_log::stream(read, "Platform", PLATFORM_ID, until, |columns| {
        let event =
            Event::decode("Platform", columns.str()?, columns.str()?, columns.str()?).map_err(ViewError::unreadable)?;
        if let Event::Platform(PlatformEvent::PeriodClosed(closing)) = event {
            closings.push(*closing);
        }
        Ok(())
    })
    .await?;
    Ok(closings)
}

/// The totals at a position: turnover is counted from the closing that they go on from, or else from the beginning. `progress`
/// is told how many events of how many are in.
///
/// # Errors
/// What the database says, [`ViewError::HistoryCut`] where events are missing.
pub async fn totals_at(
    views: &ReadPool,
    position: u64,
    from: Option<&Closing>,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Totals, ViewError> {
    let (begin, mut totals) =
        from.map_or_else(Default::default, |last| (last.last_position, closing::carried_forward(&last.totals)));
    let mut done = begin;
    while done < position {
        let mut read = views.begin(0, PATIENCE).await?;
        let limit = usize::try_from((position - done).min(BATCH)).unwrap_or(usize::MAX);
        let (events, _) = batch::read(&mut read.connection(), done + 1, limit).await?;
        drop(read);
        for logged in events.iter().filter(|logged| logged.position <= position) {
            if let Some(posting) = postings::of(&logged.key, &logged.event) {
                closing::post(&mut totals, &posting)?;
            }
        }
        match events.last() {
            Some(last) if last.position > done => done = last.position,
            _ => return Err(ViewError::HistoryCut(format!("the log has no event after position {done}"))),
        }
        progress(done.min(position) - begin, position - begin);
    }
    Ok(totals)
}
