//! Running totals of every reseller and of its subtree, and the dashboard that they make. What happened on which day is
//! [`crate::analytics`]'s.
//!
//! Each change is added to every ancestor when it is folded: O(depth) to write, O(1) to read. A row is a *change*: the tables
//! add it to what they hold, so ancestors need not be loaded. The reseller `platform` with the path `/` stands above all; its
//! own figures are everybody's.
//!
//! `provisioned` is gross: what came back is `refunded_total`, a figure of its own, as in the credit trends. Commissions are net
//! of reversals. A subtree includes its root.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aggregates::client::ClientEvent;
use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Credits, ResellerId, ResellerStatus, Tier, Timestamp};
use aggregates::reseller::ResellerEvent;
use aggregates::wallet::WalletEvent;
use chrono::NaiveDate;
use serde::Serialize;

use crate::analytics::trends;
use crate::batch::LogEvent;
use crate::clients::{self, ClientNumbers};
use crate::downline_tree::ids_on;
use crate::scope::subtree_range;
use crate::sql::{Changes, Connection, Merge, Table, Value, ViewError};
use crate::subject::Subject;
use crate::upline_requests::{self, PendingNumbers};
use crate::{Projection, ScopedRead};

pub use crate::subject::PLATFORM;

// One table, written in parts: most batches move credits and nothing else, and a column that is not written costs nothing. A
// reseller is registered before anything else happens to it, so what one part leaves out another has set.

/// What movements change.
static TOTALS: Table = Table {
    name: "dashboards",
    columns: &[
        ("reseller_id", Merge::Key),
        ("balance", Merge::Add),
        ("reserved", Merge::Add),
        ("credit_limit", Merge::Add),
        ("added_total", Merge::Add),
        ("provisioned_total", Merge::Add),
        ("refunded_total", Merge::Add),
        ("commissions_total", Merge::Add),
        ("acquisitions_total", Merge::Add),
        ("subtree_balance", Merge::Add),
        ("subtree_positive", Merge::Add),
        ("subtree_added_total", Merge::Add),
        ("subtree_provisioned_total", Merge::Add),
        ("subtree_commissions_total", Merge::Add),
        ("subtree_acquisitions_total", Merge::Add),
    ],
};

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

/// What is to be looked after in its wallet.
static CONCERNS: Table = Table {
    name: "dashboards",
    columns: &[
        ("reseller_id", Merge::Key),
        ("low_credit_threshold", Merge::Replace),
        ("low_credit", Merge::Replace),
        ("holds", Merge::Replace),
    ],
};

/// The projection.
#[derive(Debug)]
pub struct Dashboards;

/// What is known of the resellers that a batch touches, and the changes it makes.
#[derive(Debug, Default)]
pub struct Rows {
    known: HashMap<ResellerId, Known>,
    /// What each wallet did; its ancestors get their part when it is written.
    totals: BTreeMap<ResellerId, Totals>,
    counts: BTreeMap<String, Counts>,
}

#[derive(Debug, Clone)]
struct Known {
    path: String,
    status: ResellerStatus,
    status_changed: bool,
    concerns: Concerns,
    concerns_before: Concerns,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Concerns {
    low_credit_threshold: Credits,
    low_credit: bool,
    holds: i64,
}

/// What is added to a row of totals; for one above, `own` stays zero.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    own: Moved,
    reserved: Credits,
    credit_limit: Credits,
    refunded: Credits,
    subtree: Moved,
    subtree_positive: Credits,
}

#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    balance: Credits,
    added: Credits,
    provisioned: Credits,
    commissions: Credits,
    acquisitions: i64,
}

impl Moved {
    fn add(&mut self, other: &Self) {
        self.balance += other.balance;
        self.added += other.added;
        self.provisioned += other.provisioned;
        self.commissions += other.commissions;
        self.acquisitions += other.acquisitions;
    }
}

impl Totals {
    /// Adds what a wallet's event changes in its own wallet; the subtrees follow when all is gathered.
    fn count(&mut self, event: &WalletEvent) {
        let change = event.balance_change();
        let (after, _) = event.after();
        self.own.balance += change;
        self.subtree_positive += after.max(0) - (after - change).max(0);
        match event {
            WalletEvent::CreditsAdded { amount, .. } => self.own.added += amount,
            WalletEvent::Provisioned { provision, .. } => self.own.provisioned += provision.amount,
            WalletEvent::ProvisionRefunded { amount, .. } => self.refunded += amount,
            WalletEvent::CommissionEarned { amount, .. } => self.own.commissions += amount,
            WalletEvent::CommissionReversed { amount, .. } => self.own.commissions -= amount,
            WalletEvent::CreditLimitSet { former_limit, credit_limit, .. } => {
                self.credit_limit += credit_limit.credits() - former_limit.credits();
            }
            // None of these moves a total; `reserved` moves with the first event that reserves.
            WalletEvent::WalletOpened { .. }
            | WalletEvent::CreditsRemoved { .. }
            | WalletEvent::CreditsTransferredOut { .. }
            | WalletEvent::CreditsTransferredIn { .. }
            | WalletEvent::LowCreditThresholdSet { .. }
            | WalletEvent::ProvisioningHeld { .. }
            | WalletEvent::ProvisioningResumed { .. }
            | WalletEvent::LowCredit { .. } => {}
        }
    }

    /// Adds what another did, as part of this one's subtree; to the platform as its own as well.
    fn add_below(&mut self, other: &Self, is_platform: bool) {
        self.subtree.add(&other.own);
        self.subtree_positive += other.subtree_positive;
        if is_platform {
            self.own.add(&other.own);
            self.reserved += other.reserved;
            self.credit_limit += other.credit_limit;
            self.refunded += other.refunded;
        }
    }

    fn row(&self, id: Value) -> [Value; 15] {
        [
            id,
            self.own.balance.into(),
            self.reserved.into(),
            self.credit_limit.into(),
            self.own.added.into(),
            self.own.provisioned.into(),
            self.refunded.into(),
            self.own.commissions.into(),
            self.own.acquisitions.into(),
            self.subtree.balance.into(),
            self.subtree_positive.into(),
            self.subtree.added.into(),
            self.subtree.provisioned.into(),
            self.subtree.commissions.into(),
            self.subtree.acquisitions.into(),
        ]
    }
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
        known.status_changed = true;
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
        let concerns = Concerns::default();
        let known = Known { path, status, status_changed: true, concerns, concerns_before: concerns };
        self.known.insert(registration.reseller, known);
        Ok(())
    }

    fn wallet(&mut self, reseller: ResellerId, logged: &LogEvent, event: &WalletEvent) -> Result<(), ViewError> {
        let concerns = &mut self.known(reseller, logged)?.concerns;
        match event {
            WalletEvent::WalletOpened { low_credit_threshold: threshold, .. }
            | WalletEvent::LowCreditThresholdSet { threshold, .. } => {
                concerns.low_credit_threshold = threshold.credits();
            }
            WalletEvent::ProvisioningHeld { .. } => concerns.holds += 1,
            WalletEvent::ProvisioningResumed { .. } => concerns.holds -= 1,
            _ => {}
        }
        concerns.low_credit = event.after().0 < concerns.low_credit_threshold;
        self.totals.entry(reseller).or_default().count(event);
        Ok(())
    }
}

impl Projection for Dashboards {
    const NAME: &'static str = "dashboard";
    const TABLES: &'static [&'static Table] = &[&TOTALS];
    type Rows = Rows;

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent]) -> Result<Rows, ViewError> {
        let mut touched = BTreeSet::new();
        for logged in events {
            match (&logged.key, &logged.event) {
                (_, Event::Reseller(ResellerEvent::ResellerRegistered(registration))) => {
                    touched.extend(registration.parent);
                }
                (AggregateKey::Reseller(reseller) | AggregateKey::Wallet(reseller), _) => {
                    touched.insert(*reseller);
                }
                (_, Event::Client(ClientEvent::ClientOnboarded { owner, .. })) => {
                    touched.insert(*owner);
                }
                _ => {}
            }
        }
        let sql = "select reseller_id, path, status, low_credit_threshold, low_credit, holds from dashboards \
                   where reseller_id in";
        let rows = connection.fetch_by_keys(sql, touched).await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in &rows {
            let mut columns = row.columns();
            let reseller = columns.parse()?;
            let (path, status) = (columns.string()?, columns.parse()?);
            let concerns = Concerns {
                low_credit_threshold: columns.integer()?,
                low_credit: columns.boolean()?,
                holds: columns.integer()?,
            };
            let row = Known { path, status, status_changed: false, concerns, concerns_before: concerns };
            known.insert(reseller, row);
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
                (AggregateKey::Wallet(reseller), Event::Wallet(event)) => rows.wallet(*reseller, logged, event)?,
                (_, Event::Client(ClientEvent::ClientOnboarded { owner, .. })) => {
                    rows.known(*owner, logged)?;
                    rows.totals.entry(*owner).or_default().own.acquisitions += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn write(rows: Rows, changes: &mut Changes) -> Result<(), ViewError> {
        // What each did is added to its own row and to all above it, gathered first: an ancestor of many is one row.
        let mut totals: BTreeMap<&str, Totals> = BTreeMap::new();
        for (reseller, moved) in &rows.totals {
            let path = rows.known.get(reseller).map_or("/", |known| known.path.as_str());
            let mut line = ids_on(path);
            let own = totals.entry(line.next_back().unwrap_or(PLATFORM)).or_default();
            own.add_below(moved, true);
            for above in line {
                totals.entry(above).or_default().add_below(moved, false);
            }
            totals.entry(PLATFORM).or_default().add_below(moved, true);
        }
        for (id, totals) in totals {
            changes.put(&TOTALS, totals.row(id.into()));
        }
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
        for (reseller, known) in rows.known {
            let (concerns, before) = (known.concerns, known.concerns_before);
            if known.status_changed {
                changes.put(&STATUSES, [Value::text(reseller), known.path.into(), known.status.word().into()]);
            }
            if concerns != before {
                changes.put(
                    &CONCERNS,
                    [
                        Value::text(reseller),
                        concerns.low_credit_threshold.into(),
                        concerns.low_credit.into(),
                        concerns.holds.into(),
                    ],
                );
            }
        }
        Ok(())
    }
}

/// A reseller's wallet at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[allow(missing_docs)] // API's words
pub struct SubtreeNumbers {
    pub balance: Credits,
    pub provisioned_total: Credits,
    pub provisioned_30d: Credits,
}

/// What can be sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatalogNumbers {
    /// Published, not retired, and open to the reseller's tier.
    pub products_available: u64,
}

/// A tenant's dashboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    let Some(Subject { reseller, id, path }) = Subject::find(read, reseller).await? else { return Ok(None) };
    let mut connection = read.connection();
    let row = connection
        .fetch_one(
            "select d.balance, d.reserved, d.credit_limit, d.balance < w.low_credit_threshold, d.added_total, \
             d.provisioned_total, d.refunded_total, d.commissions_total, d.subtree_balance, \
             d.subtree_provisioned_total, d.children, d.downline, d.downline_active, d.downline_pending, r.tier \
             from dashboards d left join wallets w on w.reseller_id = d.reseller_id \
             left join resellers r on r.reseller_id = d.reseller_id where d.reseller_id = $1",
            vec![id.as_str().into()],
        )
        .await?;
    let Some(row) = row else {
        // Before the first registration the platform has no row: an empty network, which is what zeros say.
        return match reseller {
            Some(_) => Ok(None),
            None => empty_network(&mut connection).await.map(Some),
        };
    };
    let (own, below) = trends::own_and_downline(&mut connection, &id, first_of_30_days(now), now.date()).await?;
    let subtree_30d = own.provisioned + below.provisioned;
    // Of the network as a whole everything is its own.
    let own_30d = if reseller.is_some() { own.provisioned } else { subtree_30d };
    let mut columns = row.columns();
    let (balance, reserved, credit_limit) = (columns.integer()?, columns.integer()?, columns.integer()?);
    let finance = FinanceNumbers {
        balance,
        reserved,
        available: balance.saturating_sub(reserved).saturating_add(credit_limit),
        low_credit: columns.integer_or_null()?.map(|low| low != 0),
        added_total: columns.integer()?,
        provisioned_total: columns.integer()?,
        refunded_total: columns.integer()?,
        provisioned_30d: own_30d,
        commissions_total: columns.integer()?,
    };
    let subtree = SubtreeNumbers {
        balance: columns.integer()?,
        provisioned_total: columns.integer()?,
        provisioned_30d: subtree_30d,
    };
    let mut network = NetworkNumbers {
        children: columns.count()?,
        downline: columns.count()?,
        active: columns.count()?,
        frozen: 0,
        pending: columns.count()?,
    };
    let tier: Option<Tier> = columns.parse_or_null()?;
    network.frozen = frozen_below(&mut connection, &path, network.downline).await?;
    Ok(Some(DashboardView {
        reseller_id: reseller,
        finance,
        orders: None,
        catalog: CatalogNumbers { products_available: products_available(&mut connection, tier).await? },
        network,
        subtree,
        clients: clients::numbers(&mut connection, &id).await?,
        upline_requests: upline_requests::pending(&mut connection, reseller).await?,
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
