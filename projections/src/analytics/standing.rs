//! Where things stand: resellers by tier, credits outstanding, clients by status, and one reseller's figures at a glance.

use aggregates::platform::Money;
use aggregates::primitives::{ClientStatus, Credits, ResellerId, ResellerStatus, Tier, Timestamp};
use aggregates::wallet::available;
use serde::Serialize;

use super::members::Members;
use super::trends::Reach;
use super::{Figures, balances, standings, trends};
use crate::ScopedRead;
use crate::dashboard::first_of_30_days;
use crate::policy;
use crate::sql::{Value, ViewError};
use crate::subject::Subject;

/// How many active resellers there are of each tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct TierSnapshot {
    pub platinum: i64,
    pub gold: i64,
    pub standard: i64,
}

/// The active resellers of a subtree (itself included) before `to`, by the tier that they had then; with `from`, only those that
/// registered from then on and before `to`. Costs a read of all changes of the subtree.
///
/// # Errors
/// What the database says.
pub async fn tiers(
    read: &mut ScopedRead,
    subject: &Subject,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<TierSnapshot, ViewError> {
    let mut sql =
        "select tier, cast(sum(change) as bigint) from tier_changes where path >= $1 and path < $2".to_owned();
    let mut values = subject.range();
    values.extend([Value::text_or_null(from), Value::text_or_null(to)]);
    if from.is_some() {
        sql.push_str(" and registered_at >= $3");
    }
    if to.is_some() {
        sql.push_str(" and recorded_at < $4");
    }
    sql.push_str(" group by tier");
    let mut snapshot = TierSnapshot::default();
    for row in &read.connection().fetch(&sql, values).await? {
        let mut columns = row.columns();
        match columns.parse()? {
            Tier::Platinum => snapshot.platinum = columns.integer()?,
            Tier::Gold => snapshot.gold = columns.integer()?,
            Tier::Standard => snapshot.standard = columns.integer()?,
        }
    }
    Ok(snapshot)
}

/// What the wallets of a subtree hold together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct CreditsOutstanding {
    /// The sum of all balances.
    pub credits: Credits,
    /// The sum of those above zero.
    pub positive: Credits,
    /// The sum of those below zero.
    pub negative: Credits,
    /// `credits` in money.
    pub money: Money,
}

/// What the wallets of a subtree hold together.
///
/// # Errors
/// What the database says.
pub async fn outstanding(read: &mut ScopedRead, subject: &Subject) -> Result<CreditsOutstanding, ViewError> {
    let policy = policy::in_force(&mut read.connection()).await?;
    let (_, standing) = standings::of(&mut read.connection(), subject).await?;
    let (credits, positive) = (standing.subtree_total().net, standing.subtree_positive());
    Ok(CreditsOutstanding { credits, positive, negative: credits - positive, money: policy.money(credits) })
}

/// What the wallets of a subtree held together after a position, which must not lie beyond the read. Costs what
/// [`balances::at`] does, and what the members of a subtree cost ([`super::members`]).
///
/// # Errors
/// What the database says.
pub async fn outstanding_at(
    read: &mut ScopedRead,
    subject: &Subject,
    position: u64,
) -> Result<CreditsOutstanding, ViewError> {
    let members = Members::of(read, subject, Reach::Subtree).await?;
    let (credits, positive) = balances::at(read, position).await?.sums(&members)?;
    let policy = policy::at(&mut read.connection(), position).await?;
    Ok(CreditsOutstanding { credits, positive, negative: credits - positive, money: policy.money(credits) })
}

/// How many clients a subtree has in each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct StatusBreakdown {
    pub onboarded: i64,
    pub active: i64,
    pub suspended: i64,
    pub deactivated: i64,
    pub forgotten: i64,
    /// All that have not been forgotten.
    pub total: i64,
}

/// How many clients a subtree has in each status. Costs one look-up a reseller of the subtree; none for the whole network.
///
/// # Errors
/// What the database says.
pub async fn clients(read: &mut ScopedRead, subject: &Subject) -> Result<StatusBreakdown, ViewError> {
    let (sql, values) = match subject.reseller {
        None => {
            let sql = "select status, clients from client_counts where reseller_id = $1";
            (sql, vec![subject.id.as_str().into()])
        }
        Some(_) => {
            let sql = "select c.status, cast(sum(c.clients) as bigint) from resellers r \
                       join client_counts c on c.reseller_id = r.reseller_id \
                       where r.path >= $1 and r.path < $2 group by c.status";
            (sql, subject.range())
        }
    };
    let mut breakdown = StatusBreakdown::default();
    for row in &read.connection().fetch(sql, values).await? {
        let mut columns = row.columns();
        let (status, clients) = (columns.parse()?, columns.integer()?);
        match status {
            ClientStatus::Onboarded => breakdown.onboarded = clients,
            ClientStatus::Active => breakdown.active = clients,
            ClientStatus::Suspended => breakdown.suspended = clients,
            ClientStatus::Deactivated => breakdown.deactivated = clients,
            ClientStatus::Forgotten => breakdown.forgotten = clients,
        }
    }
    breakdown.total = breakdown.onboarded + breakdown.active + breakdown.suspended + breakdown.deactivated;
    Ok(breakdown)
}

/// One reseller at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct ResellerStats {
    pub reseller_id: ResellerId,
    pub company_name: String,
    pub tier: Tier,
    pub status: ResellerStatus,
    pub balance: Credits,
    pub reserved: Credits,
    pub available: Credits,
    /// `None` without a wallet.
    pub low_credit: Option<bool>,
    pub added_total: Credits,
    /// Gross.
    pub provisioned_total: Credits,
    pub refunded_total: Credits,
    /// Net of reversals.
    pub commissions_total: Credits,
    /// Clients that it took on itself.
    pub acquisitions_total: i64,
    /// Its own figures of the 30 UTC days up to today.
    pub last_30_days: Figures,
    pub subtree: SubtreeStats,
}

/// A reseller and all its downline together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct SubtreeStats {
    pub resellers: u64,
    pub balance: Credits,
    pub added_total: Credits,
    pub provisioned_total: Credits,
    pub commissions_total: Credits,
    pub acquisitions_total: i64,
    pub last_30_days: Figures,
}

/// One reseller at a glance.
///
/// # Errors
/// What the database says.
pub async fn stats(
    read: &mut ScopedRead,
    reseller: ResellerId,
    now: Timestamp,
) -> Result<Option<ResellerStats>, ViewError> {
    let Some(subject) = Subject::find(read, Some(reseller)).await? else { return Ok(None) };
    let mut connection = read.connection();
    let row = connection
        .fetch_one(
            "select r.company_name, r.tier, r.status, d.reserved, d.credit_limit, w.low_credit_threshold, d.downline \
             from resellers r join dashboards d on d.reseller_id = r.reseller_id \
             left join wallets w on w.reseller_id = r.reseller_id where r.reseller_id = $1",
            vec![subject.id.as_str().into()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (ordinal, standing) = standings::of(&mut connection, &subject).await?;
    let (own, downline) =
        trends::own_and_downline(&mut connection, (ordinal, &standing), first_of_30_days(now), now.date()).await?;
    let mut subtree = own;
    subtree.add(&downline);
    let (own_total, subtree_total) = (standing.own.total, standing.subtree_total());
    let mut columns = row.columns();
    let (company_name, tier, status) = (columns.string()?, columns.parse()?, columns.parse()?);
    let (balance, reserved, credit_limit) = (standing.balance(), columns.integer()?, columns.integer()?);
    Ok(Some(ResellerStats {
        reseller_id: reseller,
        company_name,
        tier,
        status,
        balance,
        reserved,
        available: available(balance, reserved, credit_limit),
        low_credit: columns.integer_or_null()?.map(|threshold| balance < threshold),
        added_total: own_total.added,
        provisioned_total: own_total.provisioned,
        refunded_total: own_total.refunded,
        commissions_total: own_total.commissions,
        acquisitions_total: own_total.acquisitions,
        last_30_days: own,
        subtree: SubtreeStats {
            resellers: columns.count()? + 1,
            balance: subtree_total.net,
            added_total: subtree_total.added,
            provisioned_total: subtree_total.provisioned,
            commissions_total: subtree_total.commissions,
            acquisitions_total: subtree_total.acquisitions,
            last_30_days: subtree,
        },
    }))
}
