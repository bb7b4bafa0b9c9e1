//! Analytics: what every reseller and every subtree did, by day, and exactly.
//!
//! Written per batch: one small row for each wallet that it touches and one for each of those above ([`standings`]: what was
//! done since the beginning and on the day in hand; a UTC day that is over becomes a row of its own), a few bytes for each
//! movement ([`movements`]), now and then a row with what everybody has done so far ([`ranking`]), and a row for each time that
//! the number of active resellers of a tier changes. Everything is gathered in memory first, so an ancestor of a thousand
//! sellers is one row. Resellers are numbered in the order of registration, and all that is written often goes by number.
//!
//! Read: weeks, months and years are sums of days; what does not end on a UTC day is mended by the movements of that day, so
//! that any instant and any time zone gives exact figures. Nothing stored is relative to now.
//!
//! - [`calendar`]: periods and time zones; [`movements`]: the exact record; [`standings`]: sums, by reseller and subtree.
//! - [`marks`]: where everybody's figures were written down; [`tallies`]: those that are kept in memory; [`balances`]: what
//!   everybody held, from the nearest of them; [`scores`]: what rankings show.
//! - [`members`]: who belongs to a subtree; [`lineage`]: who stands below whom, kept in memory; [`crate::origin`]: what it
//!   is that anything kept belongs to.
//! - [`trends`]: figures by period; [`ranking`]: top resellers; [`standing`]: where things stand at an instant;
//!   [`performance`]: a downline, child by child.

pub mod balances;
pub mod calendar;
pub(crate) mod lineage;
pub mod marks;
pub mod members;
pub mod movements;
pub mod performance;
pub mod ranking;
pub mod scores;
pub mod standing;
pub mod standings;
pub(crate) mod tallies;
pub mod trends;

use std::collections::BTreeMap;

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Credits, ResellerId, ResellerStatus, Tier, Timestamp};
use aggregates::reseller::{Registration, ResellerEvent};
use aggregates::wallet::WalletEvent;
use serde::Serialize;

use crate::Projection;
use crate::batch::LogEvent;
use crate::memory::{Kept, Known, Map, Set};
use crate::sql::{Changes, Connection, Merge, Table, Value, ViewError};
use balances::Balances;
use movements::{Kind, Packed, movement_of, row_key};
use scores::Scores;
use standings::{Day, PLATFORM_ORDINAL, Standing, day_number};

/// What was done within some stretch of time. All but `commissions` and `net` only grow.
///
/// What is held is bounded, what was turned over is not: the same credits may be spent and refunded for ever. A figure that
/// reaches the end of 64 bits stays there, rather than to begin again below zero or to stop the fold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
        let gross = match kind {
            Kind::Added => Some(&mut self.added),
            Kind::Removed => None,
            Kind::Provisioned => Some(&mut self.provisioned),
            Kind::Refunded => Some(&mut self.refunded),
            Kind::TransferredOut => Some(&mut self.transferred_out),
            Kind::TransferredIn => Some(&mut self.transferred_in),
            Kind::CommissionEarned | Kind::CommissionReversed => Some(&mut self.commissions),
            Kind::Onboarded => Some(&mut self.acquisitions),
        };
        let change = match kind {
            Kind::Added | Kind::Refunded | Kind::TransferredIn | Kind::CommissionEarned => amount,
            Kind::Removed | Kind::Provisioned | Kind::TransferredOut | Kind::CommissionReversed => -amount,
            Kind::Onboarded => 0,
        };
        if let Some(gross) = gross {
            *gross = gross.saturating_add(if kind == Kind::CommissionReversed { -amount } else { amount });
        }
        self.net = self.net.saturating_add(change);
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.apply(other, i64::saturating_add);
    }

    /// Takes others away.
    pub fn subtract(&mut self, other: &Self) {
        self.apply(other, i64::saturating_sub);
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

    /// In the order in which they are stored.
    fn to_array(self) -> [i64; 8] {
        [
            self.added,
            self.provisioned,
            self.refunded,
            self.transferred_in,
            self.transferred_out,
            self.commissions,
            self.net,
            self.acquisitions,
        ]
    }

    fn from_array(stored: [i64; 8]) -> Self {
        let [added, provisioned, refunded, transferred_in, transferred_out, commissions, net, acquisitions] = stored;
        Self { added, provisioned, refunded, transferred_in, transferred_out, commissions, net, acquisitions }
    }
}

static MEMBERS: Table = Table {
    name: "analytics_members",
    columns: &[
        ("ordinal", Merge::Key),
        ("reseller_id", Merge::Keep),
        ("line", Merge::Keep),
        ("path", Merge::Keep),
        ("tier", Merge::Replace),
        ("status", Merge::Replace),
        ("registered_at", Merge::Keep),
    ],
};

static STANDINGS: Table = Table { name: "standings", columns: &[("ordinal", Merge::Key), ("figures", Merge::Replace)] };

static DAYS: Table =
    Table { name: "days", columns: &[("day", Merge::Key), ("ordinal", Merge::Key), ("figures", Merge::Replace)] };

static SCORES: Table = Table {
    name: "scores",
    columns: &[
        ("position", Merge::Key),
        ("before_micros", Merge::Keep),
        ("movements", Merge::Keep),
        ("entries", Merge::Keep),
        ("balances", Merge::Keep),
    ],
};

static LOW_CREDITS: Table =
    Table { name: "low_credits", columns: &[("line", Merge::Key), ("ordinal", Merge::Keep), ("low", Merge::Replace)] };

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

/// How many lines are kept in memory, of some hundred bytes each, and how many standings, of some three hundred.
const LINES_KEPT: usize = 262_144;
const STANDINGS_KEPT: usize = 32_768;

/// The projection.
#[derive(Debug)]
pub struct Analytics;

/// What is known from one batch to the next: lines, which never change, and standings as they were written.
#[derive(Debug, Default)]
pub struct Memory {
    lines: Kept<ResellerId, Line, LINES_KEPT>,
    standings: Kept<i64, Standing, STANDINGS_KEPT>,
}

impl Known for Memory {
    fn begin(&mut self) {
        self.lines.begin();
        self.standings.begin();
    }
}

/// What is known of the resellers that a batch touches, and the changes it makes.
#[derive(Debug, Default)]
pub struct Rows {
    members: Map<ResellerId, Member>,
    /// How many resellers there are: the ordinal of the next one.
    registered: u32,
    /// By ordinal: of all members that may move credits here and of all above them; who is not here has done nothing.
    standings: Map<i64, Changing>,
    days: Vec<(i64, Day)>,
    /// How many movements that rankings show had been counted at the last mark, and where that is.
    scored: i64,
    scored_at: u64,
    /// When the last movement was recorded.
    moved_at: Option<Timestamp>,
    /// Only where a mark may become due.
    tally: Option<Tally>,
    marks: Vec<Marked>,
    packed: BTreeMap<(i64, i64), Packed>,
    tier_changes: Vec<[Value; 6]>,
    /// Whose credit became low, or was no longer: the lines, and the ordinals at their ends.
    low_credits: BTreeMap<Vec<u8>, i64>,
}

#[derive(Debug, Default)]
struct Changing {
    standing: Standing,
    changed: bool,
}

/// What everybody has done and holds so far, by ordinal.
#[derive(Debug)]
struct Tally {
    scores: Scores,
    balances: Balances,
}

/// What everybody had done and held before a movement.
#[derive(Debug)]
struct Marked {
    position: u64,
    before: Timestamp,
    movements: i64,
    entries: Vec<u8>,
    balances: Vec<u8>,
}

#[derive(Debug)]
struct Member {
    line: Line,
    /// Only where an event of the reseller itself, or of a child's registration, is in the batch.
    details: Option<Details>,
    changed: bool,
}

#[derive(Debug)]
struct Details {
    path: String,
    tier: Tier,
    status: ResellerStatus,
    registered_at: String,
}

impl Details {
    /// The tier it is counted in, where it is counted.
    fn standing(&self) -> Option<Tier> {
        (self.status == ResellerStatus::Active).then_some(self.tier)
    }
}

/// The ordinals from the top down to a reseller's own, four bytes each, the highest first: in the order of these bytes a
/// subtree is a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Line(Vec<u8>);

impl Line {
    fn ordinals(&self) -> impl DoubleEndedIterator<Item = i64> {
        self.0.as_chunks().0.iter().map(|bytes| u32::from_be_bytes(*bytes).into())
    }

    /// The last one's.
    fn ordinal(&self) -> i64 {
        self.ordinals().next_back().unwrap_or_default()
    }

    fn with(&self, ordinal: u32) -> Self {
        Self([self.0.as_slice(), &ordinal.to_be_bytes()].concat())
    }
}

/// The two ends, neither included, of the range of the lines below this one; below an empty line is everybody.
pub(crate) fn lines_below(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut until = line.to_vec();
    // The next number takes the place of the last, so all that begin alike lie before it; the highest there could be is never
    // given.
    while until.pop_if(|byte| *byte == u8::MAX).is_some() {}
    match until.last_mut() {
        Some(last) => *last += 1,
        None => until = vec![u8::MAX; 5],
    }
    (line.to_vec(), until)
}

fn unregistered(logged: &LogEvent) -> ViewError {
    ViewError::Unreadable(format!("position {} names a reseller that is not registered", logged.position))
}

fn time_of(logged: &LogEvent) -> Result<Timestamp, ViewError> {
    logged.recorded_at.parse().map_err(ViewError::unreadable)
}

/// Whose standing an event may change.
fn mover(logged: &LogEvent) -> Option<ResellerId> {
    match &logged.key {
        AggregateKey::Wallet(reseller) => Some(*reseller),
        _ => movement_of(logged).map(|(reseller, ..)| reseller),
    }
}

impl Rows {
    fn register(&mut self, logged: &LogEvent, registration: &Registration) -> Result<(), ViewError> {
        let (line, path) = match registration.parent {
            Some(parent) => {
                let parent = self.members.get(&parent).ok_or_else(|| unregistered(logged))?;
                let details = parent.details.as_ref().ok_or_else(|| unregistered(logged))?;
                (parent.line.clone(), details.path.as_str())
            }
            None => (Line::default(), "/"),
        };
        let details = Details {
            path: format!("{path}{}/", registration.reseller),
            tier: registration.tier,
            status: registration.status,
            registered_at: logged.recorded_at.clone(),
        };
        if let Some(tier) = details.standing() {
            self.tier_changes.push(tier_change(logged, &details, tier, 1));
        }
        let member = Member { line: line.with(self.registered), details: Some(details), changed: true };
        self.registered = self.registered.checked_add(1).ok_or_else(|| ViewError::unreadable("too many resellers"))?;
        self.members.insert(registration.reseller, member);
        Ok(())
    }

    fn change(
        &mut self,
        logged: &LogEvent,
        reseller: ResellerId,
        change: impl FnOnce(&mut Details),
    ) -> Result<(), ViewError> {
        let member = self.members.get_mut(&reseller).ok_or_else(|| unregistered(logged))?;
        let details = member.details.as_mut().ok_or_else(|| unregistered(logged))?;
        let before = details.standing();
        change(details);
        member.changed = true;
        let after = details.standing();
        if before != after {
            self.tier_changes.extend(before.map(|tier| tier_change(logged, details, tier, -1)));
            self.tier_changes.extend(after.map(|tier| tier_change(logged, details, tier, 1)));
        }
        Ok(())
    }

    /// Counts a movement for the reseller and all above it.
    fn move_credits(&mut self, logged: &LogEvent) -> Result<(), ViewError> {
        let Some((reseller, kind, amount)) = movement_of(logged) else { return Ok(()) };
        let time = time_of(logged)?;
        let day = day_number(time);
        self.score_before(logged.position, time);
        let line = &self.members.get(&reseller).ok_or_else(|| unregistered(logged))?.line;
        let mut above = line.ordinals();
        let ordinal = above.next_back().unwrap_or_default();
        let own = on_day(&mut self.standings, &mut self.days, ordinal, day);
        let before = own.balance();
        own.count_own(kind, amount);
        let positive = own.balance().max(0) - before.max(0);
        for above in above.chain([PLATFORM_ORDINAL]) {
            on_day(&mut self.standings, &mut self.days, above, day).count_below(kind, amount, positive);
        }
        let ordinal = ordinal.cast_unsigned();
        self.packed.entry(row_key(logged.position, time)).or_default().push(time, ordinal, kind, amount);
        self.moved_at = Some(time);
        if let Some(tally) = &mut self.tally {
            let index = usize::try_from(ordinal).map_err(ViewError::unreadable)?;
            tally.balances.move_credits(index, kind, amount);
            tally.scores.reach(index + 1);
            tally.scores.count(index, kind, amount, 1);
        }
        Ok(())
    }

    /// Sees whether a wallet's credit is low after an event.
    fn watch_credit(&mut self, logged: &LogEvent, reseller: ResellerId, event: &WalletEvent) -> Result<(), ViewError> {
        let line = &self.members.get(&reseller).ok_or_else(|| unregistered(logged))?.line;
        let ordinal = line.ordinal();
        let changing = self.standings.entry(ordinal).or_default();
        let standing = &mut changing.standing;
        if let WalletEvent::WalletOpened { low_credit_threshold: threshold, .. }
        | WalletEvent::LowCreditThresholdSet { threshold, .. } = event
        {
            standing.low_credit_threshold = threshold.credits();
            changing.changed = true;
        }
        let low = standing.balance() < standing.low_credit_threshold;
        if low != standing.low_credit {
            standing.low_credit = low;
            changing.changed = true;
            self.low_credits.insert(line.0.clone(), ordinal);
        }
        Ok(())
    }

    /// Before a movement that is later than all others: what everybody has done so far, if enough was done since the last mark.
    fn score_before(&mut self, position: u64, time: Timestamp) {
        let (Some(network), Some(tally)) = (self.standings.get(&PLATFORM_ORDINAL), &self.tally) else { return };
        let movements = network.standing.below.shown;
        let later = self.moved_at.is_some_and(|moved_at| moved_at < time);
        if !later || !self.is_due(movements, position) {
            return;
        }
        let resellers = usize::try_from(self.registered).unwrap_or_default();
        let (entries, balances) = (tally.scores.pack(resellers), tally.balances.pack(resellers));
        self.marks.push(Marked { position, before: time, movements, entries, balances });
        (self.scored, self.scored_at) = (movements, position);
    }

    /// Whether enough lies between the last mark and a movement at a position with so many before it.
    fn is_due(&self, movements: i64, position: u64) -> bool {
        let positions = i64::try_from(position - self.scored_at.min(position)).unwrap_or(i64::MAX);
        movements - self.scored >= marks::movements_between(self.registered)
            || positions >= marks::positions_between(self.registered)
    }
}

/// A standing on a day; the day that is over for it is put away.
fn on_day<'s>(
    standings: &'s mut Map<i64, Changing>,
    days: &mut Vec<(i64, Day)>,
    ordinal: i64,
    day: i64,
) -> &'s mut Standing {
    let changing = standings.entry(ordinal).or_default();
    changing.changed = true;
    days.extend(changing.standing.turn_to(day).map(|over| (ordinal, over)));
    &mut changing.standing
}

fn tier_change(logged: &LogEvent, member: &Details, tier: Tier, change: i64) -> [Value; 6] {
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
    const TABLES: &'static [&'static Table] =
        &[&MEMBERS, &STANDINGS, &DAYS, &SCORES, &LOW_CREDITS, &MOVEMENTS, &TIER_CHANGES];
    const WRITTEN_ONCE: &'static [&'static Table] = &[&DAYS, &TIER_CHANGES];
    type Rows = Rows;
    type Memory = Memory;

    async fn load(
        connection: &mut Connection<'_>,
        events: &[LogEvent],
        memory: &mut Memory,
    ) -> Result<Rows, ViewError> {
        let mut rows = Rows { registered: members_count(connection).await?, ..Rows::default() };
        let (mut in_detail, mut moving) = (Set::new(), Set::new());
        // Of these the batch says all: they begin in it, and are not named before.
        let mut begun = Set::new();
        for logged in events {
            match (&logged.key, &logged.event) {
                (_, Event::Reseller(ResellerEvent::ResellerRegistered(registration))) => {
                    if !in_detail.contains(&registration.reseller) && !moving.contains(&registration.reseller) {
                        begun.insert(registration.reseller);
                    }
                    in_detail.extend(registration.parent);
                }
                (AggregateKey::Reseller(reseller), _) => {
                    in_detail.insert(*reseller);
                }
                _ => moving.extend(mover(logged)),
            }
        }
        let sql = "select reseller_id, line, path, tier, status, registered_at from analytics_members \
                   where reseller_id in";
        for row in connection.fetch_by_keys(sql, in_detail.difference(&begun)).await? {
            let mut columns = row.columns();
            let (reseller, line) = (columns.parse()?, Line(columns.bytes()?));
            let details = Details {
                path: columns.string()?,
                tier: columns.parse()?,
                status: columns.parse()?,
                registered_at: columns.string()?,
            };
            rows.members.insert(reseller, Member { line, details: Some(details), changed: false });
        }
        let mut unknown = Vec::new();
        for reseller in moving.difference(&in_detail).filter(|reseller| !begun.contains(*reseller)) {
            match memory.lines.get(reseller) {
                Some(line) => {
                    let member = Member { line: line.clone(), details: None, changed: false };
                    rows.members.insert(*reseller, member);
                }
                None => unknown.push(*reseller),
            }
        }
        // Answered by an index that holds nothing else.
        let sql = "select reseller_id, line from analytics_members where reseller_id in";
        for row in connection.fetch_by_keys(sql, unknown).await? {
            let mut columns = row.columns();
            let (reseller, line) = (columns.parse()?, Line(columns.bytes()?));
            memory.lines.put(reseller, line.clone());
            rows.members.insert(reseller, Member { line, details: None, changed: false });
        }
        rows.load_standings(connection, events, &mut memory.standings).await?;
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
                if let (AggregateKey::Wallet(reseller), Event::Wallet(event)) = (&logged.key, &logged.event) {
                    rows.watch_credit(logged, *reseller, event)?;
                }
            }
        }
        Ok(())
    }

    fn write(rows: Rows, changes: &mut Changes, memory: &mut Memory) -> Result<(), ViewError> {
        for (line, ordinal) in rows.low_credits {
            let low = rows.standings.get(&ordinal).is_some_and(|changing| changing.standing.low_credit);
            changes.put(&LOW_CREDITS, [Value::Bytes(line), ordinal.into(), low.into()]);
        }
        // Neighbours in a table are written one after the other.
        let mut standings: Vec<_> = rows.standings.into_iter().filter(|(_, changing)| changing.changed).collect();
        standings.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        for (ordinal, changing) in standings {
            memory.standings.put(ordinal, changing.standing);
            changes.put(&STANDINGS, [ordinal.into(), Value::Bytes(changing.standing.pack())]);
        }
        let mut days = rows.days;
        days.sort_unstable_by_key(|(ordinal, over)| (over.day, *ordinal));
        for (ordinal, over) in days {
            changes.put(&DAYS, [over.day.into(), ordinal.into(), Value::Bytes(over.pack())]);
        }
        for Marked { position, before, movements, entries, balances } in rows.marks {
            let (entries, balances) = (Value::Bytes(entries), Value::Bytes(balances));
            let row = [position.into(), before.micros().into(), movements.into(), entries, balances];
            changes.put(&SCORES, row);
        }
        for ((hour, block), packed) in rows.packed {
            let row = [hour.into(), block.into(), packed.ends_micros.into(), Value::Bytes(packed.entries)];
            changes.put(&MOVEMENTS, row);
        }
        for row in rows.tier_changes {
            changes.put(&TIER_CHANGES, row);
        }
        for (reseller, member) in rows.members.into_iter().filter(|(_, member)| member.changed) {
            let Some(details) = member.details else { continue };
            memory.lines.put(reseller, member.line.clone());
            changes.put(
                &MEMBERS,
                [
                    member.line.ordinal().into(),
                    Value::text(reseller),
                    Value::Bytes(member.line.0),
                    details.path.into(),
                    details.tier.word().into(),
                    details.status.word().into(),
                    details.registered_at.into(),
                ],
            );
        }
        Ok(())
    }
}

impl Rows {
    /// The standings of all that are known here and of all above them: a reseller that is registered in the batch may sell in
    /// it. Where scores may become due, also what everybody has done.
    async fn load_standings(
        &mut self,
        connection: &mut Connection<'_>,
        events: &[LogEvent],
        known: &mut Kept<i64, Standing, STANDINGS_KEPT>,
    ) -> Result<(), ViewError> {
        let mut ordinals: Set<i64> = self.members.values().flat_map(|member| member.line.ordinals()).collect();
        ordinals.insert(PLATFORM_ORDINAL);
        let mut unknown = Vec::new();
        for ordinal in ordinals {
            match known.get(&ordinal) {
                Some(standing) => {
                    self.standings.insert(ordinal, Changing { standing: *standing, changed: false });
                }
                None => unknown.push(ordinal),
            }
        }
        // In order: neighbours are read one after the other.
        unknown.sort_unstable();
        for (ordinal, standing) in standings::load(connection, &unknown).await? {
            self.standings.insert(ordinal, Changing { standing, changed: false });
        }
        let network = self.standings.get(&PLATFORM_ORDINAL).map(|network| network.standing).unwrap_or_default();
        let sql = "select movements, position from scores order by position desc limit 1";
        if let Some(row) = connection.fetch_one(sql, Vec::new()).await? {
            let mut columns = row.columns();
            (self.scored, self.scored_at) = (columns.integer()?, columns.count()?);
        }
        self.moved_at = movements::last(connection).await?;
        let at_most = i64::try_from(events.len()).unwrap_or(i64::MAX).saturating_add(network.below.shown);
        let last = events.last().map_or(0, |last| last.position);
        if self.is_due(at_most, last) {
            let scores = ranking::tally(connection).await?;
            self.tally = Some(Tally { scores, balances: balances::latest(connection).await? });
        }
        Ok(())
    }
}

/// How many resellers have been registered.
async fn members_count(connection: &mut Connection<'_>) -> Result<u32, ViewError> {
    let row = connection.fetch_one("select coalesce(max(ordinal) + 1, 0) from analytics_members", Vec::new()).await?;
    let count = row.map_or(Ok(0), |row| row.columns().integer())?;
    u32::try_from(count).map_err(ViewError::unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_below_one_are_a_range() {
        let line = |ordinals: &[u32]| ordinals.iter().fold(Line::default(), |line, ordinal| line.with(*ordinal)).0;
        for root in [vec![], vec![0], vec![255], vec![7, 65_535], vec![7, 65_536], vec![u32::MAX - 1]] {
            let (after, until) = lines_below(&line(&root));
            let within = |other: &[u32]| after < line(other) && line(other) < until;
            for below in [0, 1, 255, 256, u32::MAX - 1] {
                assert!(within(&[root.as_slice(), &[below]].concat()), "{root:?} {below}");
                assert!(within(&[root.as_slice(), &[below, 9]].concat()), "{root:?} {below} 9");
            }
            assert!(!within(&root), "{root:?} is not below itself");
            if let Some((last, above)) = root.split_last() {
                assert!(!within(&[above, &[last.wrapping_add(1)]].concat()), "{root:?}: its next sibling");
                assert!(!within(&[above, &[last.wrapping_sub(1)], &[3]].concat()), "{root:?}: a sibling's child");
            }
        }
    }
}
