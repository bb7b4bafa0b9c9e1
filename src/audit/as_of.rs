//! The past: which position a moment stands for, and a wallet as it was there.
//!
//! What is exact: positions have no gaps and times never decrease with them, so a time is a position. What is fast: a wallet's
//! last event up to a position carries what it held, and its terms are kept by the read models ([`wallet_terms`]), so no history
//! is folded, however long it is. A read that is to show a position must have come to it: [`AsOf::of`] says to which.

use aggregates::answer::WalletView;
use aggregates::primitives::{ResellerId, Timestamp};
use projections::sql::{Read, ViewError};
use projections::{ScopedRead, audit_log, policy, wallet_terms};

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

/// A moment of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The position of the last event that had happened; 0 before the first.
    pub position: u64,
    /// The time that was asked for, or that event's own.
    pub time: Timestamp,
}

impl AsOf {
    /// Finds a moment in the log. `now` tells a time in the future: where the log is ahead of that clock, its last event does.
    ///
    /// # Errors
    /// [`AsOfError::Future`], or what the database says.
    pub async fn of(read: &mut Read, moment: Moment, now: Timestamp) -> Result<Self, AsOfError> {
        let audit_log::HeadView { position: head, recorded_at: last, .. } = audit_log::head(read).await?;
        let now = last.map_or(now, |last| last.max(now));
        match moment {
            Moment::Position(position) if position > head => Err(AsOfError::Future { head }),
            Moment::Position(position) => {
                let time = audit_log::recorded_at(read, position).await?.unwrap_or(Timestamp::MIN);
                Ok(Self { position, time })
            }
            Moment::Time(time) if time > now => Err(AsOfError::Future { head }),
            Moment::Time(time) => Ok(Self { position: audit_log::position_at(read, time).await?, time }),
        }
    }
}

/// The wallet as it was then, priced by the policy in force there; the read must have come to that position. `None` where it is
/// not in sight or was not open yet.
///
/// # Errors
/// What the database says.
pub async fn wallet(
    scoped: &mut ScopedRead,
    reseller: ResellerId,
    then: AsOf,
) -> Result<Option<WalletView>, ViewError> {
    if scoped.path_of(reseller).await?.is_none() {
        return Ok(None);
    }
    let read = scoped.unscoped();
    let Some(row) = wallet_terms::at(read, reseller, then.position).await? else { return Ok(None) };
    let policy = policy::at(&mut read.connection(), then.position).await?;
    Ok(Some(row.view(reseller, &policy, then.position, then.time)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::path::Path;
    use std::time::Duration;

    use aggregates::event::{AggregateKey, EVENT_VERSION, Event};
    use aggregates::platform::{PlatformEvent, Policy};
    use aggregates::primitives::{CommandId, CompanyName, CreditSource, Level, Refid, ResellerStatus, Tier, UserId};
    use aggregates::reseller::{Registrar, Registration, ResellerEvent};
    use aggregates::wallet::WalletEvent;
    use projections::{ReadPool, Scope};
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, SqliteConnection};
    use tokio::sync::watch;
    use uuid::Uuid;

    use super::*;
    use crate::projector;
    use crate::store::sqlite::SqliteStore;

    const RESELLER: ResellerId = ResellerId(Uuid::from_u128(7));

    fn minute(position: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().plus_seconds(60 * position)
    }

    async fn ledger(dir: &Path) -> SqliteConnection {
        // Opened and closed: the files are there, and no index follows what is written by hand.
        drop(SqliteStore::open(dir).unwrap());
        SqliteConnectOptions::new().filename(dir.join("ledger.db")).connect().await.unwrap()
    }

    async fn record(log: &mut SqliteConnection, key: AggregateKey, position: i64, sequence: i64, event: Event) {
        sqlx::query("insert into events values ($1, $2, $3, $4, $5, $6, $7, '{}', $8, $9, 'user', 'command')")
            .bind(position)
            .bind(key.aggregate_type())
            .bind(key.aggregate_id())
            .bind(sequence)
            .bind(event.event_type())
            .bind(EVENT_VERSION)
            .bind(event.payload().unwrap())
            .bind(minute(position).to_string())
            .bind(position.to_be_bytes().repeat(4))
            .execute(log)
            .await
            .unwrap();
    }

    fn added(balance: i64) -> Event {
        Event::Wallet(WalletEvent::CreditsAdded {
            transaction_id: CommandId(Uuid::nil()),
            amount: 100,
            source: CreditSource::Bonus,
            reference: None,
            note: None,
            balance,
            reserved: 0,
        })
    }

    #[tokio::test]
    async fn a_wallet_is_shown_as_it_was_while_the_projector_follows_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = ledger(dir.path()).await;
        let registration = Registration {
            reseller: RESELLER,
            user_id: UserId::new("user").unwrap(),
            refid: Refid::new("RS-1").unwrap(),
            company_name: CompanyName::new("Acme").unwrap(),
            tier: Tier::Gold,
            status: ResellerStatus::Active,
            parent: None,
            depth: 0,
            metadata: serde_json::Map::new(),
            referral: None,
            registrar: Registrar::Platform,
            registered_at: Timestamp::default(),
        };
        let registered = ResellerEvent::ResellerRegistered(Box::new(registration)).into();
        record(&mut log, AggregateKey::Reseller(RESELLER), 1, 1, registered).await;
        let policy = Policy { credit_conversion_rate: 10, ..Policy::default() };
        record(&mut log, AggregateKey::Platform, 2, 1, PlatformEvent::PolicySet { policy }.into()).await;
        let low_credit_threshold = Level::default();
        let opened = WalletEvent::WalletOpened { reseller: RESELLER, low_credit_threshold, balance: 0, reserved: 0 };
        let wallet_key = AggregateKey::Wallet(RESELLER);
        record(&mut log, wallet_key.clone(), 3, 1, opened.into()).await;
        record(&mut log, wallet_key.clone(), 4, 2, added(100)).await;
        let policy = Policy { credit_conversion_rate: 1000, ..Policy::default() };
        record(&mut log, AggregateKey::Platform, 5, 2, PlatformEvent::PolicySet { policy }.into()).await;

        let (commits, committed) = watch::channel(5);
        let projector =
            projector::start(&crate::store::Database::Sqlite(dir.path().to_owned()), committed).await.unwrap();
        let pool = ReadPool::open(&dir.path().into()).await.unwrap();
        // What is written later is folded too.
        record(&mut log, wallet_key, 6, 3, added(200)).await;
        commits.send_replace(6);
        let mut read = Scope::All.begin(&pool, 6, Duration::from_secs(5)).await.unwrap();
        assert_eq!(projector.health().error, None);

        let now = minute(7);
        let mut at = async |moment| {
            let then = AsOf::of(read.unscoped(), moment, now).await?;
            Ok::<_, AsOfError>(wallet(&mut read, RESELLER, then).await?)
        };
        assert_eq!(at(Moment::Position(2)).await.unwrap(), None, "it was not open yet");
        let then = at(Moment::Position(4)).await.unwrap().unwrap();
        assert_eq!((then.balance, then.sequence, then.money.amount.to_string().as_str()), (100, 2, "10.00"));
        let then = at(Moment::Time(minute(5))).await.unwrap().unwrap();
        assert_eq!((then.balance, then.position, then.money.amount.to_string().as_str()), (100, 5, "0.10"));
        let then = at(Moment::Time(now)).await.unwrap().unwrap();
        assert_eq!((then.balance, then.sequence), (200, 3));
        assert!(matches!(at(Moment::Position(7)).await, Err(AsOfError::Future { head: 6 })));
        assert!(matches!(at(Moment::Time(minute(8))).await, Err(AsOfError::Future { .. })));
        // A clock that was set back does not take away what has happened.
        let then = AsOf::of(read.unscoped(), Moment::Time(minute(6)), minute(1)).await.unwrap();
        assert_eq!((then.position, then.time), (6, minute(6)));
        projector.shutdown().await;
        assert_eq!(*projector.position().borrow(), 6);
    }
}
