//! A wallet as it was: its events folded up to a position or a time, priced by the policy in force there. Nothing of the read
//! models is used but the scope, so the answer is the log's own.

use aggregates::answer::WalletView;
use aggregates::event::{Event, PLATFORM_ID};
use aggregates::platform::{PlatformEvent, Policy};
use aggregates::primitives::{ResellerId, Timestamp};
use projections::ScopedRead;
use projections::audit_log;
use projections::sql::{Read, Value, ViewError};
use projections::wallets::WalletRow;

/// Which moment is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After the event at this position.
    Position(u64),
    /// After the last event recorded at or before this time.
    Time(Timestamp),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AsOfError {
    /// It has not happened yet.
    #[error("lies in the future: the log ends at position {head}")]
    Future {
        /// The position of the last event.
        head: u64,
    },
    /// The database, or an event that cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// The wallet as it was at a moment. `None` where it is not in sight or was not open yet. `now` tells a time in the future.
///
/// # Errors
/// [`AsOfError::Future`], or what the database says.
pub async fn wallet(
    scoped: &mut ScopedRead,
    reseller: ResellerId,
    moment: Moment,
    now: Timestamp,
) -> Result<Option<WalletView>, AsOfError> {
    if scoped.path_of(reseller).await?.is_none() {
        return Ok(None);
    }
    let read = scoped.unscoped();
    let head = audit_log::head(read).await?.position;
    let (position, as_of) = match moment {
        Moment::Position(position) if position > head => return Err(AsOfError::Future { head }),
        Moment::Position(position) => {
            (position, audit_log::recorded_at(read, position).await?.unwrap_or(Timestamp::MIN))
        }
        Moment::Time(time) if time > now => return Err(AsOfError::Future { head }),
        Moment::Time(time) => (audit_log::position_at(read, time).await?, time),
    };
    let mut row = WalletRow::default();
    let mut folded = false;
    read.connection()
        .for_each(
            "select event_type, event_version, cast(payload as text), sequence, position from ledger.events \
             where aggregate_type = 'Wallet' and aggregate_id = $1 and position <= $2 order by sequence",
            vec![Value::text(reseller), position.into()],
            |found| {
                let mut columns = found.columns();
                let event = Event::decode("Wallet", columns.str()?, columns.str()?, columns.str()?)
                    .map_err(ViewError::unreadable)?;
                if let Event::Wallet(event) = &event {
                    row.wallet.fold(event);
                }
                row.sequence = columns.count()?;
                row.position = columns.count()?;
                folded = true;
                Ok(true)
            },
        )
        .await?;
    if !folded {
        return Ok(None);
    }
    let policy = policy_at(read, position).await?;
    Ok(Some(row.view(reseller, &policy, position, as_of)))
}

/// The policy in force after the event at a position; before the first one, the default.
async fn policy_at(read: &mut Read, position: u64) -> Result<Policy, ViewError> {
    let row = read
        .connection()
        .fetch_one(
            "select event_type, event_version, cast(payload as text) from ledger.events where aggregate_type = 'Platform' \
             and aggregate_id = $1 and event_type = 'PolicySet' and position <= $2 order by sequence desc limit 1",
            vec![PLATFORM_ID.into(), position.into()],
        )
        .await?;
    let Some(row) = row else { return Ok(Policy::default()) };
    let mut columns = row.columns();
    match Event::decode("Platform", columns.str()?, columns.str()?, columns.str()?).map_err(ViewError::unreadable)? {
        Event::Platform(PlatformEvent::PolicySet { policy }) => Ok(policy),
        other => Err(ViewError::unreadable(other.event_type())),
    }
}
