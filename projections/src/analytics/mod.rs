//! Analytics: what every reseller and every subtree did, by day, and exactly.
//!
//! Written per batch: one row for each wallet and day that it touches and one for each of those above (`own_days`,
//! `downline_days`: UTC days, added to what is there), a few bytes for each movement ([`movements`]), and a row for each time
//! that the number of active resellers of a tier changes. Everything is gathered in memory first, so an ancestor of a
//! thousand sellers is one row.
//!
//! Read: weeks, months and years are sums of days; what does not end on a UTC day is mended by the movements of that day, so
//! that any instant and any time zone gives exact figures. Nothing stored is relative to now.
//!
//! - [`calendar`]: periods and time zones; [`movements`]: the exact record.
//! - [`trends`]: figures by period; [`ranking`]: top resellers; [`standing`]: where things stand at an instant;
//!   [`performance`]: a downline, child by child.

pub mod calendar;
pub mod movements;
pub mod performance;
pub mod ranking;
pub mod standing;
pub mod trends;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Credits, ResellerId, ResellerStatus, Tier, Timestamp};
use aggregates::reseller::{Registration, ResellerEvent};
use chrono::NaiveDate;
use serde::Serialize;

use crate::Projection;
use crate::batch::LogEvent;
use crate::downline_tree::ids_on;
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use crate::subject::PLATFORM;
use movements::{Kind, Packed, movement_of, row_key};

/// What was done within some stretch of time. All but `commissions` and `net` only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Credits added from outside the wallets.
    pub added: Credits,
    /// Provisions, gross.
    pub provisioned: Credits,
    /// What came back of provisions.
    pub refunded: Credits,
    /// Credits received from other wallets.
    pub transferred_in: Credits,
    /// Credits sent to other wallets.
    pub transferred_out: Credits,
    /// Commissions earned, less those reversed.
    pub commissions: Credits,
    /// By how much balances changed, for whatever reason.
    pub net: Credits,
    /// Clients taken on.
    pub acquisitions: i64,
}

impl Figures {
    /// Counts one movement.
    pub fn count(&mut self, kind: Kind, amount: Credits) {
        match kind {
            Kind::Added => (self.added, self.net) = (self.added + amount, self.net + amount),
            Kind::Removed => self.net -= amount,
            Kind::Provisioned => (self.provisioned, self.net) = (self.provisioned + amount, self.net - amount),
            Kind::Refunded => (self.refunded, self.net) = (self.refunded + amount, self.net + amount),
            Kind::TransferredOut => {
                (self.transferred_out, self.net) = (self.transferred_out + amount, self.net - amount)
            }
            Kind::TransferredIn => (self.transferred_in, self.net) = (self.transferred_in + amount, self.net + amount),
            Kind::CommissionEarned => (self.commissions, self.net) = (self.commissions + amount, self.net + amount),
            Kind::CommissionReversed => (self.commissions, self.net) = (self.commissions - amount, self.net - amount),
            Kind::Onboarded => self.acquisitions += amount,
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.apply(other, |mine, others| mine + others);
    }

    /// Takes others away.
    pub fn subtract(&mut self, other: &Self) {
        self.apply(other, |mine, others| mine - others);
    }

    fn apply(&mut self, other: &Self, operate: impl Fn(i64, i64) -> i64) {
        self.added = operate(self.added, other.added);
        self.provisioned = operate(self.provisioned, other.provisioned);
        self.refunded = operate(self.refunded, other.refunded);
        self.transferred_in = operate(self.transferred_in, other.transferred_in);
        self.transferred_out = operate(self.transferred_out, other.transferred_out);
        self.commissions = operate(self.commissions, other.commissions);
        self.net = operate(self.net, other.net);
        self.acquisitions = operate(self.acquisitions, other.acquisitions);
    }

    fn read(columns: &mut Columns<'_>) -> Result<Self, ViewError> {
        Ok(Self {
            added: columns.integer()?,
            provisioned: columns.integer()?,
            refunded: columns.integer()?,
            transferred_in: columns.integer()?,
            transferred_out: columns.integer()?,
            commissions: columns.integer()?,
            net: columns.integer()?,
            acquisitions: columns.integer()?,
        })
    }

    fn row(&self, day: NaiveDate, reseller: Option<ResellerId>) -> [Value; 10] {
        [
            Value::text(day),
            reseller.map_or_else(|| PLATFORM.into(), Value::text),
            self.added.into(),
            self.provisioned.into(),
            self.refunded.into(),
            self.transferred_in.into(),
            self.transferred_out.into(),
            self.commissions.into(),
            self.net.into(),
            self.acquisitions.into(),
        ]
    }
}

/// The columns of [`Figures`], in its order.
const FIGURES: &str = "added, provisioned, refunded, transferred_in, transferred_out, commissions, net, acquisitions";

const DAY_COLUMNS: &[(&str, Merge)] = &[
    ("day", Merge::Key),
    ("reseller_id", Merge::Key),
    ("added", Merge::Add),
    ("provisioned", Merge::Add),
    ("refunded", Merge::Add),
    ("transferred_in", Merge::Add),
    ("transferred_out", Merge::Add),
    ("commissions", Merge::Add),
    ("net", Merge::Add),
    ("acquisitions", Merge::Add),
];
static OWN_DAYS: Table = Table { name: "own_days", columns: DAY_COLUMNS };
static DOWNLINE_DAYS: Table = Table { name: "downline_days", columns: DAY_COLUMNS };

static MEMBERS: Table = Table {
    name: "analytics_members",
    columns: &[
        ("reseller_id", Merge::Key),
        ("ordinal", Merge::Keep),
        ("path", Merge::Keep),
        ("tier", Merge::Replace),
        ("status", Merge::Replace),
        ("registered_at", Merge::Keep),
    ],
};

static MOVEMENTS: Table = Table {
    name: "movements",
    columns: &[
        ("hour", Merge::Key),
        ("block", Merge::Key),
        ("ends_micros", Merge::Replace),
        ("entries", Merge::Replace),
    ],
};

static TIER_CHANGES: Table = Table {
    name: "tier_changes",
    columns: &[
        ("path", Merge::Key),
        ("position", Merge::Key),
        ("tier", Merge::Key),
        ("change", Merge::Keep),
        ("recorded_at", Merge::Keep),
        ("registered_at", Merge::Keep),
    ],
};

/// The projection.
#[derive(Debug)]
pub struct Analytics;

/// What is known of the resellers that a batch touches, and the changes it makes.
#[derive(Debug, Default)]
pub struct Rows {
    members: HashMap<ResellerId, Member>,
    /// How many resellers there are: the ordinal of the next one.
    registered: u64,
    own: HashMap<(NaiveDate, ResellerId), Figures>,
    packed: BTreeMap<(i64, i64), Packed>,
    tier_changes: Vec<[Value; 6]>,
}

#[derive(Debug)]
struct Member {
    ordinal: u64,
    path: String,
    tier: Tier,
    status: ResellerStatus,
    registered_at: String,
    changed: bool,
}

impl Member {
    /// The tier it is counted in, where it is counted.
    fn standing(&self) -> Option<Tier> {
        (self.status == ResellerStatus::Active).then_some(self.tier)
    }
}

fn unregistered(logged: &LogEvent) -> ViewError {
    ViewError::Unreadable(format!("position {} names a reseller that is not registered", logged.position))
}

fn time_of(logged: &LogEvent) -> Result<Timestamp, ViewError> {
    logged.recorded_at.parse().map_err(ViewError::unreadable)
}

impl Rows {
    fn register(&mut self, logged: &LogEvent, registration: &Registration) -> Result<(), ViewError> {
        let above = match registration.parent {
            Some(parent) => self.members.get(&parent).ok_or_else(|| unregistered(logged))?.path.as_str(),
            None => "/",
        };
        let member = Member {
            ordinal: self.registered,
            path: format!("{above}{}/", registration.reseller),
            tier: registration.tier,
            status: registration.status,
            registered_at: logged.recorded_at.clone(),
            changed: true,
        };
        self.registered += 1;
        if let Some(tier) = member.standing() {
            self.tier_changes.push(tier_change(logged, &member, tier, 1));
        }
        self.members.insert(registration.reseller, member);
        Ok(())
    }

    fn change(
        &mut self,
        logged: &LogEvent,
        reseller: ResellerId,
        change: impl FnOnce(&mut Member),
    ) -> Result<(), ViewError> {
        let member = self.members.get_mut(&reseller).ok_or_else(|| unregistered(logged))?;
        let before = member.standing();
        change(member);
        member.changed = true;
        let after = member.standing();
        if before != after {
            self.tier_changes.extend(before.map(|tier| tier_change(logged, member, tier, -1)));
            self.tier_changes.extend(after.map(|tier| tier_change(logged, member, tier, 1)));
        }
        Ok(())
    }

    fn move_credits(&mut self, logged: &LogEvent) -> Result<(), ViewError> {
        let Some((reseller, kind, amount)) = movement_of(logged) else { return Ok(()) };
        let time = time_of(logged)?;
        let ordinal = self.members.get(&reseller).ok_or_else(|| unregistered(logged))?.ordinal;
        self.own.entry((time.date(), reseller)).or_default().count(kind, amount);
        self.packed.entry(row_key(logged.position, time)).or_default().push(time, ordinal, kind, amount);
        Ok(())
    }
}

fn tier_change(logged: &LogEvent, member: &Member, tier: Tier, change: i64) -> [Value; 6] {
    [
        member.path.as_str().into(),
        logged.position.into(),
        tier.word().into(),
        change.into(),
        logged.recorded_at.as_str().into(),
        member.registered_at.as_str().into(),
    ]
}

impl Projection for Analytics {
    const NAME: &'static str = "analytics";
    const TABLES: &'static [&'static Table] = &[&OWN_DAYS, &DOWNLINE_DAYS, &MEMBERS, &MOVEMENTS, &TIER_CHANGES];
    type Rows = Rows;

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent]) -> Result<Rows, ViewError> {
        let mut rows = Rows::default();
        let mut touched = BTreeSet::new();
        for logged in events {
            match (&logged.key, &logged.event) {
                (_, Event::Reseller(ResellerEvent::ResellerRegistered(registration))) => {
                    touched.extend(registration.parent);
                }
                (AggregateKey::Reseller(reseller), _) => {
                    touched.insert(*reseller);
                }
                _ => touched.extend(movement_of(logged).map(|(reseller, ..)| reseller)),
            }
        }
        let sql = "select reseller_id, ordinal, path, tier, status, registered_at from analytics_members \
                   where reseller_id in";
        for row in connection.fetch_by_keys(sql, touched).await? {
            let mut columns = row.columns();
            let reseller = columns.parse()?;
            let member = Member {
                ordinal: columns.count()?,
                path: columns.string()?,
                tier: columns.parse()?,
                status: columns.parse()?,
                registered_at: columns.string()?,
                changed: false,
            };
            rows.members.insert(reseller, member);
        }
        rows.registered = members_count(connection).await?;
        // Only the row that the last batch ended in can be appended to, and only if the first event belongs to it.
        if let Some(first) = events.first() {
            let (hour, block) = row_key(first.position, time_of(first)?);
            let sql = "select ends_micros, entries from movements where hour = $1 and block = $2";
            if let Some(row) = connection.fetch_one(sql, vec![hour.into(), block.into()]).await? {
                let mut columns = row.columns();
                let packed = Packed { ends_micros: columns.integer()?, entries: columns.bytes()? };
                rows.packed.insert((hour, block), packed);
            }
        }
        Ok(rows)
    }

    fn fold(rows: &mut Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            if let (AggregateKey::Reseller(reseller), Event::Reseller(event)) = (&logged.key, &logged.event) {
                match event {
                    ResellerEvent::ResellerRegistered(registration) => rows.register(logged, registration)?,
                    ResellerEvent::ResellerApproved { .. } | ResellerEvent::ResellerReactivated { .. } => {
                        rows.change(logged, *reseller, |member| member.status = ResellerStatus::Active)?;
                    }
                    ResellerEvent::ResellerDeactivated { .. } => {
                        rows.change(logged, *reseller, |member| member.status = ResellerStatus::Deactivated)?;
                    }
                    ResellerEvent::TierChanged { to, .. } => {
                        rows.change(logged, *reseller, |member| member.tier = *to)?;
                    }
                    _ => {}
                }
            } else {
                rows.move_credits(logged)?;
            }
        }
        Ok(())
    }

    fn write(rows: Rows, changes: &mut Changes) -> Result<(), ViewError> {
        let mut downline: BTreeMap<(NaiveDate, Option<ResellerId>), Figures> = BTreeMap::new();
        let mut own: Vec<_> = rows.own.into_iter().collect();
        // Neighbours in the table are written one after the other.
        own.sort_unstable_by_key(|(key, _)| *key);
        for ((day, reseller), figures) in &own {
            let path = rows.members.get(reseller).map_or("/", |member| member.path.as_str());
            let mut line = ids_on(path);
            line.next_back();
            downline.entry((*day, None)).or_default().add(figures);
            for above in line {
                let above = above.parse().map_err(ViewError::unreadable)?;
                downline.entry((*day, Some(above))).or_default().add(figures);
            }
        }
        for ((day, reseller), figures) in own {
            changes.put(&OWN_DAYS, figures.row(day, Some(reseller)));
        }
        for ((day, reseller), figures) in downline {
            changes.put(&DOWNLINE_DAYS, figures.row(day, reseller));
        }
        for ((hour, block), packed) in rows.packed {
            let row = [hour.into(), block.into(), packed.ends_micros.into(), Value::Bytes(packed.entries)];
            changes.put(&MOVEMENTS, row);
        }
        for row in rows.tier_changes {
            changes.put(&TIER_CHANGES, row);
        }
        for (reseller, member) in rows.members.into_iter().filter(|(_, member)| member.changed) {
            changes.put(
                &MEMBERS,
                [
                    Value::text(reseller),
                    member.ordinal.into(),
                    member.path.into(),
                    member.tier.word().into(),
                    member.status.word().into(),
                    member.registered_at.into(),
                ],
            );
        }
        Ok(())
    }
}

/// How many resellers have been registered.
async fn members_count(connection: &mut Connection<'_>) -> Result<u64, ViewError> {
    let row = connection.fetch_one("select coalesce(max(ordinal) + 1, 0) from analytics_members", Vec::new()).await?;
    row.map_or(Ok(0), |row| row.columns().count())
}
