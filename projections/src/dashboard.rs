//! How many resellers stand below each one, in which status, and the dashboard: that, and what moved, which is
//! [`crate::analytics`]'s. What every sale changes is there, what changes rarely is here.
//!
//! Each change is added to every ancestor when it is folded: O(depth) to write, O(1) to read. A row is a *change*: the tables
//! add it to what they hold, so ancestors need not be loaded. The reseller `platform` with the path `/` stands above all; its
//! own figures are everybody's.
//!
//! `provisioned` is gross: what came back is `refunded_total`, a figure of its own, as in the credit trends. Commissions are net
//! of reversals. A subtree includes its root.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Credits, ResellerId, ResellerStatus, Tier, Timestamp};
use aggregates::reseller::ResellerEvent;
use aggregates::wallet::{WalletEvent, available};
use chrono::NaiveDate;
use serde::Serialize;

use crate::analytics::{standings, trends};
use crate::batch::LogEvent;
use crate::clients::{self, ClientNumbers};
use crate::downline_tree::ids_on;
use crate::scope::subtree_range;
use crate::sql::{Changes, Connection, Merge, Table, Value, ViewError};
use crate::subject::Subject;
use crate::upline_requests::{self, PendingNumbers};
use crate::{Projection, ScopedRead};

pub use crate::subject::PLATFORM;

// One table, written in parts: what one part leaves out another has set, for a reseller is registered before anything else
// happens to it.

/// What registrations and changes of status change above.
static COUNTS: Table = Table {
    name: "dashboards",
    columns: &[
        ("reseller_id", Merge::Key),
        ("children", Merge::Add),
        ("downline", Merge::Add),
        ("downline_active", Merge::Add),
        ("downline_pending", Merge::Add),
    ],
};

/// What they change in the reseller itself.
static STATUSES: Table = Table {
    name: "dashboards",
    columns: &[("reseller_id", Merge::Key), ("path", Merge::Replace), ("status", Merge::Replace)],
};

/// What its upline and the policy allow its wallet, and forbid it.
static LIMITS: Table = Table {
    name: "dashboards",
    columns: &[("reseller_id", Merge::Key), ("credit_limit", Merge::Add), ("holds", Merge::Add)],
};

/// The projection.
#[derive(Debug)]
pub struct Dashboards;

/// What is known of the resellers that a batch touches, and the changes it makes.
#[derive(Debug, Default)]
pub struct Rows {
    known: HashMap<ResellerId, Known>,
    counts: BTreeMap<String, Counts>,
    limits: BTreeMap<String, Limits>,
}

#[derive(Debug, Clone)]
struct Known {
    path: String,
    status: ResellerStatus,
    changed: bool,
}

/// What is added.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    credit_limit: Credits,
    holds: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    children: i64,
    downline: i64,
    active: i64,
    pending: i64,
}

fn unregistered(logged: &LogEvent) -> ViewError {
    ViewError::Unreadable(format!("position {} names a reseller that is not registered", logged.position))
}

impl Rows {
    fn known(&mut self, reseller: ResellerId, logged: &LogEvent) -> Result<&mut Known, ViewError> {
        self.known.get_mut(&reseller).ok_or_else(|| unregistered(logged))
    }

    /// Changes the counts of all who stand above the reseller with this path, and of the platform.
    fn count_above(&mut self, path: &str, mut count: impl FnMut(&mut Counts)) {
        let mut above = ids_on(path);
        above.next_back();
        for id in above.chain([PLATFORM]) {
            match self.counts.get_mut(id) {
                Some(counts) => count(counts),
                None => count(self.counts.entry(id.to_owned()).or_default()),
            }
        }
    }

    fn set_status(&mut self, reseller: ResellerId, logged: &LogEvent, to: ResellerStatus) -> Result<(), ViewError> {
        let known = self.known(reseller, logged)?;
        let from = std::mem::replace(&mut known.status, to);
        known.changed = true;
        let path = known.path.clone();
        let change = |status| i64::from(to == status) - i64::from(from == status);
        let (active, pending) = (change(ResellerStatus::Active), change(ResellerStatus::Pending));
        self.count_above(&path, |counts| {
            counts.active += active;
            counts.pending += pending;
        });
        Ok(())
    }

    fn register(
        &mut self,
        logged: &LogEvent,
        registration: &aggregates::reseller::Registration,
    ) -> Result<(), ViewError> {
        let above = match registration.parent {
            Some(parent) => self.known(parent, logged)?.path.clone(),
            None => "/".to_owned(),
        };
        let path = format!("{above}{}/", registration.reseller);
        let status = registration.status;
        self.count_above(&path, |counts| {
            counts.downline += 1;
            counts.active += i64::from(status == ResellerStatus::Active);
            counts.pending += i64::from(status == ResellerStatus::Pending);
        });
        let parent = registration.parent.map_or_else(|| PLATFORM.to_owned(), |parent| parent.to_string());
        self.counts.entry(parent).or_default().children += 1;
        self.known.insert(registration.reseller, Known { path, status, changed: true });
        Ok(())
    }

    fn wallet(&mut self, reseller: ResellerId, event: &WalletEvent) {
        match event {
            WalletEvent::CreditLimitSet { former_limit, credit_limit, .. } => {
                let change = credit_limit.credits() - former_limit.credits();
                for id in [reseller.to_string(), PLATFORM.to_owned()] {
                    self.limits.entry(id).or_default().credit_limit += change;
                }
            }
            WalletEvent::ProvisioningHeld { .. } => self.limits.entry(reseller.to_string()).or_default().holds += 1,
            WalletEvent::ProvisioningResumed { .. } => self.limits.entry(reseller.to_string()).or_default().holds -= 1,
            // `reserved` moves with the first event that reserves; what moves credits is counted by analytics.
            WalletEvent::WalletOpened { .. }
            | WalletEvent::CreditsAdded { .. }
            | WalletEvent::CreditsRemoved { .. }
            | WalletEvent::Provisioned { .. }
            | WalletEvent::ProvisionRefunded { .. }
            | WalletEvent::CreditsTransferredOut { .. }
            | WalletEvent::CreditsTransferredIn { .. }
            | WalletEvent::CommissionEarned { .. }
            | WalletEvent::CommissionReversed { .. }
            | WalletEvent::LowCreditThresholdSet { .. }
            | WalletEvent::LowCredit { .. } => {}
        }
    }
}

impl Projection for Dashboards {
    const NAME: &'static str = "dashboard";
    const TABLES: &'static [&'static Table] = &[&COUNTS];
    type Rows = Rows;
    type Memory = ();

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent], (): &mut ()) -> Result<Rows, ViewError> {
        let mut touched = BTreeSet::new();
        for logged in events {
            match (&logged.key, &logged.event) {
                (_, Event::Reseller(ResellerEvent::ResellerRegistered(registration))) => {
                    touched.extend(registration.parent);
                }
                (AggregateKey::Reseller(reseller), _) => {
                    touched.insert(*reseller);
                }
                _ => {}
            }
        }
        let sql = "select reseller_id, path, status from dashboards where reseller_id in";
        let rows = connection.fetch_by_keys(sql, touched).await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in &rows {
            let mut columns = row.columns();
            let reseller = columns.parse()?;
            known.insert(reseller, Known { path: columns.string()?, status: columns.parse()?, changed: false });
        }
        Ok(Rows { known, ..Rows::default() })
    }

    fn fold(rows: &mut Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            match (&logged.key, &logged.event) {
                (AggregateKey::Reseller(reseller), Event::Reseller(event)) => match event {
                    ResellerEvent::ResellerRegistered(registration) => rows.register(logged, registration)?,
                    ResellerEvent::ResellerApproved { .. } | ResellerEvent::ResellerReactivated { .. } => {
                        rows.set_status(*reseller, logged, ResellerStatus::Active)?;
                    }
                    ResellerEvent::ResellerDeactivated { .. } => {
                        rows.set_status(*reseller, logged, ResellerStatus::Deactivated)?;
                    }
                    _ => {}
                },
                (AggregateKey::Wallet(reseller), Event::Wallet(event)) => rows.wallet(*reseller, event),
                _ => {}
            }
        }
        Ok(())
    }

    fn write(rows: Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        if rows.counts.contains_key(PLATFORM) {
            changes.put(&STATUSES, [PLATFORM.into(), "/".into(), ResellerStatus::Active.word().into()]);
        }
        for (id, counts) in rows.counts {
            changes.put(
                &COUNTS,
                [
                    id.into(),
                    counts.children.into(),
                    counts.downline.into(),
                    counts.active.into(),
                    counts.pending.into(),
                ],
            );
        }
        for (reseller, known) in rows.known.into_iter().filter(|(_, known)| known.changed) {
            changes.put(&STATUSES, [Value::text(reseller), known.path.into(), known.status.word().into()]);
        }
        for (id, limits) in rows.limits {
            changes.put(&LIMITS, [id.into(), limits.credit_limit.into(), limits.holds.into()]);
        }
        Ok(())
    }
}

/// A reseller's wallet at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct FinanceNumbers {
    pub balance: Credits,
    pub reserved: Credits,
    pub available: Credits,
    /// `None` for the network as a whole, and without a wallet.
    pub low_credit: Option<bool>,
    pub added_total: Credits,
    /// Gross.
    pub provisioned_total: Credits,
    /// What came back of it.
    pub refunded_total: Credits,
    pub provisioned_30d: Credits,
    /// Net of reversals.
    pub commissions_total: Credits,
}

/// How many resellers stand below one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct NetworkNumbers {
    pub children: u64,
    pub downline: u64,
    pub active: u64,
    /// By a freeze of its own or of anybody above it.
    pub frozen: u64,
    pub pending: u64,
}

/// The reseller and all its downline together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct SubtreeNumbers {
    pub balance: Credits,
    pub provisioned_total: Credits,
    pub provisioned_30d: Credits,
}

/// What can be sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CatalogNumbers {
    /// Published, not retired, and open to the reseller's tier.
    pub products_available: u64,
}

/// A tenant's dashboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct DashboardView {
    /// `None` for the whole network.
    pub reseller_id: Option<ResellerId>,
    pub finance: FinanceNumbers,
    /// Null until there are orders.
    pub orders: Option<()>,
    pub catalog: CatalogNumbers,
    pub network: NetworkNumbers,
    pub subtree: SubtreeNumbers,
    pub clients: ClientNumbers,
    pub upline_requests: PendingNumbers,
}

/// The first day of the 30 UTC days up to today.
pub(crate) fn first_of_30_days(now: Timestamp) -> NaiveDate {
    now.plus_seconds(-29 * 86_400).date()
}

/// A reseller's dashboard, or (`None`, the operator's staff only) that of the whole network. `None` where it is not in sight.
///
/// # Errors
/// What the database says.
pub async fn find(
    read: &mut ScopedRead,
    reseller: Option<ResellerId>,
    now: Timestamp,
) -> Result<Option<DashboardView>, ViewError> {
    let Some(subject) = Subject::find(read, reseller).await? else { return Ok(None) };
    let mut connection = read.connection();
    let row = connection
        .fetch_one(
            "select d.reserved, d.credit_limit, w.low_credit_threshold, d.children, d.downline, d.downline_active, \
             d.downline_pending, r.tier from dashboards d left join wallets w on w.reseller_id = d.reseller_id \
             left join resellers r on r.reseller_id = d.reseller_id where d.reseller_id = $1",
            vec![subject.id.as_str().into()],
        )
        .await?;
    let Subject { reseller, id, path } = &subject;
    let Some(row) = row else {
        // Before the first registration the platform has no row: an empty network, which is what zeros say.
        return match reseller {
            Some(_) => Ok(None),
            None => empty_network(&mut connection).await.map(Some),
        };
    };
    let (ordinal, standing) = standings::of(&mut connection, &subject).await?;
    let (mut own_30d, below_30d) =
        trends::own_and_downline(&mut connection, (ordinal, &standing), first_of_30_days(now), now.date()).await?;
    let subtree_30d = own_30d.provisioned + below_30d.provisioned;
    let (mut own, subtree) = (standing.own.total, standing.subtree_total());
    if reseller.is_none() {
        // Of the network as a whole everything is its own.
        (own, own_30d) = (subtree, below_30d);
    }
    let mut columns = row.columns();
    let (balance, reserved, credit_limit) = (own.net, columns.integer()?, columns.integer()?);
    let finance = FinanceNumbers {
        balance,
        reserved,
        available: available(balance, reserved, credit_limit),
        low_credit: columns.integer_or_null()?.map(|threshold| balance < threshold),
        added_total: own.added,
        provisioned_total: own.provisioned,
        refunded_total: own.refunded,
        provisioned_30d: own_30d.provisioned,
        commissions_total: own.commissions,
    };
    let subtree =
        SubtreeNumbers { balance: subtree.net, provisioned_total: subtree.provisioned, provisioned_30d: subtree_30d };
    let mut network = NetworkNumbers {
        children: columns.count()?,
        downline: columns.count()?,
        active: columns.count()?,
        frozen: 0,
        pending: columns.count()?,
    };
    let tier: Option<Tier> = columns.parse_or_null()?;
    network.frozen = frozen_below(&mut connection, path, network.downline).await?;
    Ok(Some(DashboardView {
        reseller_id: *reseller,
        finance,
        orders: None,
        catalog: CatalogNumbers { products_available: products_available(&mut connection, tier).await? },
        network,
        subtree,
        clients: clients::numbers(&mut connection, id).await?,
        upline_requests: upline_requests::pending(&mut connection, *reseller).await?,
    }))
}

/// The dashboard of a network without anybody in it yet.
async fn empty_network(connection: &mut Connection<'_>) -> Result<DashboardView, ViewError> {
    Ok(DashboardView {
        reseller_id: None,
        finance: FinanceNumbers {
            balance: 0,
            reserved: 0,
            available: 0,
            low_credit: None,
            added_total: 0,
            provisioned_total: 0,
            refunded_total: 0,
            provisioned_30d: 0,
            commissions_total: 0,
        },
        orders: None,
        catalog: CatalogNumbers { products_available: products_available(connection, None).await? },
        network: NetworkNumbers { children: 0, downline: 0, active: 0, frozen: 0, pending: 0 },
        subtree: SubtreeNumbers { balance: 0, provisioned_total: 0, provisioned_30d: 0 },
        clients: clients::numbers(connection, PLATFORM).await?,
        upline_requests: upline_requests::pending(connection, None).await?,
    })
}

/// How many resellers below this path are frozen: all of them where the freeze lies on the line itself, else the subtrees of
/// the topmost frozen ones. Costs as much as there are freezes.
pub(crate) async fn frozen_below(connection: &mut Connection<'_>, path: &str, downline: u64) -> Result<u64, ViewError> {
    let roots = frozen_roots_below(connection, path).await?;
    Ok(roots.map_or(downline, |roots| roots.iter().map(|(_, below)| 1 + below).sum()))
}

/// The topmost frozen resellers below this path, each with the number of its descendants, in the order of their paths; `None`
/// where the freeze lies on the line itself, and all below it are frozen.
pub(crate) async fn frozen_roots_below(
    connection: &mut Connection<'_>,
    path: &str,
) -> Result<Option<Vec<(String, u64)>>, ViewError> {
    let line = connection
        .fetch_by_keys("select 1 from resellers where freezes <> '[]' and reseller_id in", ids_on(path))
        .await?;
    if !line.is_empty() {
        return Ok(None);
    }
    let (from, until) = subtree_range(path);
    let rows = connection
        .fetch(
            "select r.path, d.downline from resellers r join dashboards d on d.reseller_id = r.reseller_id \
             where r.freezes <> '[]' and r.path >= $1 and r.path < $2 order by r.path",
            vec![from.into(), until.into()],
        )
        .await?;
    let mut roots: Vec<(String, u64)> = Vec::new();
    for row in &rows {
        let mut columns = row.columns();
        let path = columns.str()?;
        // In path order a subtree follows its root at once.
        if roots.last().is_none_or(|(topmost, _)| !path.starts_with(topmost)) {
            roots.push((path.to_owned(), columns.count()?));
        }
    }
    Ok(Some(roots))
}

/// How many products a tier may sell; all that are published for the platform.
async fn products_available(connection: &mut Connection<'_>, tier: Option<Tier>) -> Result<u64, ViewError> {
    let tiers = Tier::ALL.iter().filter(|minimum| tier.is_none_or(|tier| tier >= **minimum));
    let sql = "select count(*) from products where retired = 0 and minimum_tier in";
    let rows = connection.fetch_by_keys(sql, tiers).await?;
    rows.first().map_or(Ok(0), |row| row.columns().count())
}
