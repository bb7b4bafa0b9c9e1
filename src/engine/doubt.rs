//! A commit failed: finding out whether it happened, before anything else is decided.
//!
//! The store's word is definite once it is given ([`EventStore::resolve`]). While it cannot be had the batch waits, for as long
//! as patience lasts; then its senders are told that the outcome is unknown, the store is asked on, and whoever comes in the
//! meantime is turned away.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::EngineError;
use super::inbox::{Inbox, Pending};
use super::turn::{Decided, Replies};
use crate::store::{EventStore, StoreError};

/// The pauses between tries start here and double.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// … up to here.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What became of a batch whose commit failed.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is in the log, whole.
    Written,
    /// It is not, and never will be.
    NotWritten,
    /// Nobody waits for it any more: they were told that it is not known.
    Told,
    /// This node can do nothing more.
    Stopped(String),
}

/// Finds out what became of a batch.
pub(super) async fn resolve<S: EventStore>(
    store: &mut S,
    decided: &Decided,
    batch: &mut Pending,
    inbox: &mut Inbox,
    patience: Duration,
) -> Fate {
    let before = decided.before.position;
    let told_at = Instant::now() + patience;
    let mut told = false;
    let mut round = 0;
    loop {
        let lost = match store.resolve(before, &decided.commands).await {
            Ok((head, _)) if head.position < before => {
                Some(format!("history was cut: the head is at {}, but {before} was committed", head.position))
            }
            Ok(_) if told => return Fate::Told,
            Ok((_, found)) => {
                // One transaction: any of its commands speaks for all. A batch of refusals only leaves no command to look for;
                // deciding it again finds its receipts, if it was committed.
                let written = decided.commands.first().is_some_and(|command| found.contains(command));
                return if written { Fate::Written } else { Fate::NotWritten };
            }
            Err(error @ (StoreError::HistoryCut(_) | StoreError::Schema(_) | StoreError::Unreadable(_))) => {
                Some(error.to_string())
            }
            Err(error) => {
                tracing::warn!(%error, "it is not known yet what became of a commit");
                None
            }
        };
        if let Some(lost) = lost {
            // The node stops while the batch is in doubt: nobody may be told that nothing was done.
            batch.tell_all(&EngineError::OutcomeUnknown);
            return Fate::Stopped(lost);
        }
        round += 1;
        if !told && Instant::now() >= told_at {
            batch.tell_all(&EngineError::OutcomeUnknown);
            told = true;
        }
        if !told {
            sleep(pause(round)).await;
        } else if !inbox.turn_away(pause(round)).await {
            return Fate::Told;
        }
    }
}

/// How long to wait before the next try.
pub(super) fn pause(round: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << round.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

/// Where a commit was in doubt and the batch was decided again, a receipt that the first try left is not a repetition by the
/// client: it is told what it was going to be told.
pub(super) fn keep_first_told(replies: &mut Replies, first: &Replies) {
    for (reply, first) in replies.iter_mut().zip(first) {
        if let (Ok(reply), Ok(first)) = (reply, first)
            && reply.replayed
            && reply.outcome == first.outcome
            && reply.position == first.position
        {
            reply.replayed = first.replayed;
        }
    }
}
