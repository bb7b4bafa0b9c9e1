//! Running totals of every reseller and of its subtree, and the dashboard that they make.
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
use aggregates::wallet::WalletEvent;
use serde::Serialize;

use crate::batch::LogEvent;
use crate::clients::{self, ClientNumbers};
use crate::downline_tree::ids_on;
use crate::scope::subtree_range;
use crate::sql::{Changes, Connection, Merge, Table, Value, ViewError};
use crate::upline_requests::{self, PendingNumbers};
use crate::{Projection, ScopedRead};

/// The id under which the totals of the whole network stand.
pub const PLATFORM: &str = "platform";

static DASHBOARDS: Table = Table {
    name: "dashboards",
    columns: &[
        ("reseller_id", Merge::Key),
        ("path", Merge::Keep),
        ("status", Merge::Replace),
        ("balance", Merge::Add),
        ("reserved", Merge::Add),
        ("credit_limit", Merge::Add),
        ("added_total", Merge::Add),
        ("provisioned_total", Merge::Add),
        ("refunded_total", Merge::Add),
        ("commissions_total", Merge::Add),
        ("subtree_balance", Merge::Add),
        ("subtree_provisioned_total", Merge::Add),
        ("children", Merge::Add),
        ("downline", Merge::Add),
        ("downline_active", Merge::Add),
        ("downline_pending", Merge::Add),
    ],
};

static DAILY_TOTALS: Table = Table {
    name: "daily_totals",
    columns: &[
        ("reseller_id", Merge::Key),
        ("day", Merge::Key),
        ("added", Merge::Add),
        ("provisioned", Merge::Add),
        ("refunded", Merge::Add),
        ("commissions", Merge::Add),
        ("subtree_provisioned", Merge::Add),
    ],
};

/// The projection.
#[derive(Debug)]
pub struct Dashboards;

/// What is known of the resellers that a batch touches, and the changes it makes.
#[derive(Debug, Default)]
pub struct Rows {
    known: HashMap<String, Known>,
    totals: BTreeMap<String, Totals>,
    days: BTreeMap<(String, String), DayTotals>,
}

#[derive(Debug, Clone)]
struct Known {
    path: String,
    status: ResellerStatus,
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    balance: Credits,
    reserved: Credits,
    credit_limit: Credits,
    day: DayTotals,
    subtree_balance: Credits,
    children: i64,
    downline: i64,
    downline_active: i64,
    downline_pending: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct DayTotals {
    added: Credits,
    provisioned: Credits,
    refunded: Credits,
    commissions: Credits,
    subtree_provisioned: Credits,
}

impl DayTotals {
    fn add(&mut self, other: &Self) {
        self.added += other.added;
        self.provisioned += other.provisioned;
        self.refunded += other.refunded;
        self.commissions += other.commissions;
    }
}

/// What a wallet's event adds to its own wallet's totals.
fn change_of(event: &WalletEvent) -> Totals {
    let mut change = Totals { balance: event.balance_change(), ..Totals::default() };
    match event {
        WalletEvent::CreditsAdded { amount, .. } => change.day.added = *amount,
        WalletEvent::Provisioned { provision, .. } => change.day.provisioned = provision.amount,
        WalletEvent::ProvisionRefunded { amount, .. } => change.day.refunded = *amount,
        WalletEvent::CommissionEarned { amount, .. } => change.day.commissions = *amount,
        WalletEvent::CommissionReversed { amount, .. } => change.day.commissions = -*amount,
        WalletEvent::CreditLimitSet { former_limit, credit_limit, .. } => {
            change.credit_limit = credit_limit.credits() - former_limit.credits();
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
    change
}

impl Rows {
    fn known(&self, reseller: ResellerId, logged: &LogEvent) -> Result<&Known, ViewError> {
        self.known.get(&reseller.to_string()).ok_or_else(|| {
            ViewError::Unreadable(format!("position {} names a reseller that is not registered", logged.position))
        })
    }

    /// Adds a change to all who stand above the reseller with this path, and to the platform.
    fn add_above(&mut self, path: &str, mut add: impl FnMut(&mut Totals)) {
        let mut above: Vec<&str> = ids_on(path).collect();
        above.pop();
        for id in above.into_iter().chain([PLATFORM]) {
            match self.totals.get_mut(id) {
                Some(totals) => add(totals),
                None => add(self.totals.entry(id.to_owned()).or_default()),
            }
        }
    }

    fn set_status(&mut self, reseller: ResellerId, logged: &LogEvent, to: ResellerStatus) -> Result<(), ViewError> {
        let known = self.known(reseller, logged)?.clone();
        let change = |status| i64::from(to == status) - i64::from(known.status == status);
        let (active, pending) = (change(ResellerStatus::Active), change(ResellerStatus::Pending));
        self.add_above(&known.path, |totals| {
            totals.downline_active += active;
            totals.downline_pending += pending;
        });
        let id = reseller.to_string();
        self.totals.entry(id.clone()).or_default();
        self.known.insert(id, Known { path: known.path, status: to });
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
        let id = registration.reseller.to_string();
        let path = format!("{above}{id}/");
        let (active, pending) =
            (registration.status == ResellerStatus::Active, registration.status == ResellerStatus::Pending);
        self.add_above(&path, |totals| {
            totals.downline += 1;
            totals.downline_active += i64::from(active);
            totals.downline_pending += i64::from(pending);
        });
        let parent = registration.parent.map_or_else(|| PLATFORM.to_owned(), |parent| parent.to_string());
        self.totals.entry(parent).or_default().children += 1;
        self.totals.entry(id.clone()).or_default();
        self.known.insert(id, Known { path, status: registration.status });
        Ok(())
    }

    /// Adds what a batch did to the wallets, gathered by wallet and day, to the wallets' own rows and to all above them.
    fn add_wallets(&mut self, wallets: BTreeMap<(ResellerId, &str), (Totals, &LogEvent)>) -> Result<(), ViewError> {
        for ((reseller, day), (change, logged)) in wallets {
            let path = self.known(reseller, logged)?.path.clone();
            let line = ids_on(&path).chain([PLATFORM]);
            let own = reseller.to_string();
            let moved_today = change.day.added != 0
                || change.day.provisioned != 0
                || change.day.refunded != 0
                || change.day.commissions != 0;
            for id in line {
                let totals = self.totals.entry(id.to_owned()).or_default();
                totals.subtree_balance += change.balance;
                totals.day.subtree_provisioned += change.day.provisioned;
                let is_own = id == own || id == PLATFORM;
                if is_own {
                    totals.balance += change.balance;
                    totals.reserved += change.reserved;
                    totals.credit_limit += change.credit_limit;
                    totals.day.add(&change.day);
                }
                if (is_own && moved_today) || change.day.provisioned != 0 {
                    let totals = self.days.entry((id.to_owned(), day.to_owned())).or_default();
                    totals.subtree_provisioned += change.day.provisioned;
                    if is_own {
                        totals.add(&change.day);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Projection for Dashboards {
    const NAME: &'static str = "dashboard";
    const TABLES: &'static [&'static Table] = &[&DASHBOARDS, &DAILY_TOTALS];
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
                _ => {}
            }
        }
        let rows = connection
            .fetch_by_keys("select reseller_id, path, status from dashboards where reseller_id in", touched)
            .await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in &rows {
            let mut columns = row.columns();
            known.insert(columns.string()?, Known { path: columns.string()?, status: columns.parse()? });
        }
        Ok(Rows { known, ..Rows::default() })
    }

    fn fold(rows: &mut Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        let mut wallets: BTreeMap<(ResellerId, &str), (Totals, &LogEvent)> = BTreeMap::new();
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
                (AggregateKey::Wallet(reseller), Event::Wallet(event)) => {
                    let change = change_of(event);
                    let entry = wallets.entry((*reseller, logged.day())).or_insert_with(|| (Totals::default(), logged));
                    entry.0.balance += change.balance;
                    entry.0.reserved += change.reserved;
                    entry.0.credit_limit += change.credit_limit;
                    entry.0.day.add(&change.day);
                }
                _ => {}
            }
        }
        rows.add_wallets(wallets)
    }

    fn write(mut rows: Rows, changes: &mut Changes) -> Result<(), ViewError> {
        // Ancestors were not loaded; their paths begin the paths of those that were, and their status must not be touched.
        let totals = std::mem::take(&mut rows.totals);
        let unloaded: Vec<&String> =
            totals.keys().filter(|id| *id != PLATFORM && !rows.known.contains_key(*id)).collect();
        let mut paths: HashMap<String, String> = HashMap::new();
        if !unloaded.is_empty() {
            for known in rows.known.values() {
                let mut path = String::from("/");
                for id in ids_on(&known.path) {
                    path.push_str(id);
                    path.push('/');
                    if !rows.known.contains_key(id) && !paths.contains_key(id) {
                        paths.insert(id.to_owned(), path.clone());
                    }
                }
            }
        }
        for (id, totals) in totals {
            let (path, status, table) = match rows.known.get(&id) {
                Some(known) => (known.path.clone(), known.status.word(), &DASHBOARDS),
                None if id == PLATFORM => ("/".to_owned(), "active", &DASHBOARDS),
                None => {
                    let path = paths.remove(&id).ok_or_else(|| ViewError::unreadable("an ancestor without a path"))?;
                    (path, "", &ANCESTORS)
                }
            };
            changes.put(
                table,
                [
                    id.into(),
                    path.into(),
                    status.into(),
                    totals.balance.into(),
                    totals.reserved.into(),
                    totals.credit_limit.into(),
                    totals.day.added.into(),
                    totals.day.provisioned.into(),
                    totals.day.refunded.into(),
                    totals.day.commissions.into(),
                    totals.subtree_balance.into(),
                    totals.day.subtree_provisioned.into(),
                    totals.children.into(),
                    totals.downline.into(),
                    totals.downline_active.into(),
                    totals.downline_pending.into(),
                ],
            );
        }
        for ((id, day), totals) in rows.days {
            changes.put(
                &DAILY_TOTALS,
                [
                    id.into(),
                    day.into(),
                    totals.added.into(),
                    totals.provisioned.into(),
                    totals.refunded.into(),
                    totals.commissions.into(),
                    totals.subtree_provisioned.into(),
                ],
            );
        }
        Ok(())
    }
}

/// As [`DASHBOARDS`], for rows that were not loaded and whose status is therefore left alone.
static ANCESTORS: Table = Table {
    name: "dashboards",
    columns: &[
        ("reseller_id", Merge::Key),
        ("path", Merge::Keep),
        ("status", Merge::Keep),
        ("balance", Merge::Add),
        ("reserved", Merge::Add),
        ("credit_limit", Merge::Add),
        ("added_total", Merge::Add),
        ("provisioned_total", Merge::Add),
        ("refunded_total", Merge::Add),
        ("commissions_total", Merge::Add),
        ("subtree_balance", Merge::Add),
        ("subtree_provisioned_total", Merge::Add),
        ("children", Merge::Add),
        ("downline", Merge::Add),
        ("downline_active", Merge::Add),
        ("downline_pending", Merge::Add),
    ],
};

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
fn first_of_30_days(now: Timestamp) -> String {
    now.plus_seconds(-29 * 86_400).date().to_string()
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
    let reseller = reseller.or(read.viewer());
    let (id, path) = match reseller {
        Some(reseller) => match read.path_of(reseller).await? {
            Some(path) => (reseller.to_string(), path),
            None => return Ok(None),
        },
        None => (PLATFORM.to_owned(), "/".to_owned()),
    };
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
    let days = connection
        .fetch_one(
            "select coalesce(cast(sum(provisioned) as bigint), 0), coalesce(cast(sum(subtree_provisioned) as bigint), 0) \
             from daily_totals where reseller_id = $1 and day >= $2 and day <= $3",
            vec![id.as_str().into(), first_of_30_days(now).into(), Value::text(now.date())],
        )
        .await?;
    let (own_30d, subtree_30d) = match &days {
        Some(row) => {
            let mut columns = row.columns();
            (columns.integer()?, columns.integer()?)
        }
        None => (0, 0),
    };
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
async fn frozen_below(connection: &mut Connection<'_>, path: &str, downline: u64) -> Result<u64, ViewError> {
    let line = connection
        .fetch_by_keys("select 1 from resellers where freezes <> '[]' and reseller_id in", ids_on(path))
        .await?;
    if !line.is_empty() {
        return Ok(downline);
    }
    let (from, until) = subtree_range(path);
    let rows = connection
        .fetch(
            "select r.path, d.downline from resellers r join dashboards d on d.reseller_id = r.reseller_id \
             where r.freezes <> '[]' and r.path >= $1 and r.path < $2 order by r.path",
            vec![from.into(), until.into()],
        )
        .await?;
    let (mut frozen, mut topmost) = (0, None::<String>);
    for row in &rows {
        let mut columns = row.columns();
        let path = columns.str()?;
        // In path order a subtree follows its root at once.
        if topmost.as_deref().is_some_and(|topmost| path.starts_with(topmost)) {
            continue;
        }
        frozen += 1 + columns.count()?;
        topmost = Some(path.to_owned());
    }
    Ok(frozen)
}

/// How many products a tier may sell; all that are published for the platform.
async fn products_available(connection: &mut Connection<'_>, tier: Option<Tier>) -> Result<u64, ViewError> {
    let tiers = Tier::ALL.iter().filter(|minimum| tier.is_none_or(|tier| tier >= **minimum));
    let rows = connection.fetch_by_keys("select 1 from products where retired = 0 and minimum_tier in", tiers).await?;
    u64::try_from(rows.len()).map_err(ViewError::unreadable)
}
