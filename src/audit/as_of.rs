//! A wallet as it was: its events folded up to a position or a time, priced by the policy in force there. Nothing of the read
//! models is used but the scope, so the answer is the log's own.

use aggregates::answer::WalletView;
use aggregates::event::{Event, PLATFORM_ID};
use aggregates::platform::{PlatformEvent, Policy};
use aggregates::primitives::{ResellerId, Timestamp};
use projections::ScopedRead;
use projections::audit_log;
use projections::sql::{Read, ViewError};
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
    let id = reseller.to_string();
    audit_log::stream(read, "Wallet", &id, position, |columns| {
        let event =
            Event::decode("Wallet", columns.str()?, columns.str()?, columns.str()?).map_err(ViewError::unreadable)?;
        if let Event::Wallet(event) = &event {
            row.wallet.fold(event);
        }
        row.sequence = columns.count()?;
        row.position = columns.count()?;
        folded = true;
        Ok(())
    })
    .await?;
    if !folded {
        return Ok(None);
    }
    let policy = policy_at(read, position).await?;
    Ok(Some(row.view(reseller, &policy, position, as_of)))
}

/// The policy in force after the event at a position; before the first one, the default.
async fn policy_at(read: &mut Read, position: u64) -> Result<Policy, ViewError> {
    let mut in_force = Policy::default();
    audit_log::stream(read, "Platform", PLATFORM_ID, position, |columns| {
        let event =
            Event::decode("Platform", columns.str()?, columns.str()?, columns.str()?).map_err(ViewError::unreadable)?;
        if let Event::Platform(PlatformEvent::PolicySet { policy }) = event {
            in_force = policy;
        }
        Ok(())
    })
    .await?;
    Ok(in_force)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::path::Path;
    use std::time::Duration;

    use aggregates::event::{AggregateKey, EVENT_VERSION};
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
        let mut at = async |moment| wallet(&mut read, RESELLER, moment, now).await;
        assert_eq!(at(Moment::Position(2)).await.unwrap(), None, "it was not open yet");
        let then = at(Moment::Position(4)).await.unwrap().unwrap();
        assert_eq!((then.balance, then.sequence, then.money.amount.to_string().as_str()), (100, 2, "10.00"));
        let then = at(Moment::Time(minute(5))).await.unwrap().unwrap();
        assert_eq!((then.balance, then.position, then.money.amount.to_string().as_str()), (100, 5, "0.10"));
        let then = at(Moment::Time(now)).await.unwrap().unwrap();
        assert_eq!((then.balance, then.sequence), (200, 3));
        assert!(matches!(at(Moment::Position(7)).await, Err(AsOfError::Future { head: 6 })));
        assert!(matches!(at(Moment::Time(minute(8))).await, Err(AsOfError::Future { .. })));
        projector.shutdown().await;
        assert_eq!(*projector.position().borrow(), 6);
    }
}
