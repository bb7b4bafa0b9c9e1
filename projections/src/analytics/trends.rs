//! Figures by period, of a subtree.
//!
//! Cost: a look-up for each UTC day of history that is asked for, and for each end of a period that does not fall on a UTC
//! midnight, the movements of the shorter part of that day, if anything happened on it at all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aggregates::primitives::{Credits, Timestamp};
use chrono::{Days, NaiveDate};
use serde::Serialize;

use super::Figures;
use super::calendar::{self, Interval, Period, Zone};
use super::members::Members;
use super::movements;
use super::standings::{self, Standing};
use crate::ScopedRead;
use crate::sql::{Connection, Dialect, ViewError};
use crate::subject::Subject;

/// Whose movements count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The subject's own, and those of all below it.
    Subtree,
    /// Those of all below it.
    Downline,
}

impl Reach {
    fn of(self, own: &Figures, below: &Figures) -> Figures {
        let mut sum = *below;
        if self == Self::Subtree {
            sum.add(own);
        }
        sum
    }
}

/// Which stretch of time is asked for, and how it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrendRequest {
    /// How long a period is.
    pub interval: Interval,
    /// Whose days.
    pub zone: Zone,
    /// `None`: from the period of the first event, at most 400 periods.
    pub from: Option<Timestamp>,
    /// Not included. `None`: up to now.
    pub to: Option<Timestamp>,
    /// The time now.
    pub now: Timestamp,
}

/// One period of the credit trends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct CreditTrend {
    pub period: String,
    /// Credits added.
    pub volume: Credits,
    /// Gross.
    pub provisioned: Credits,
    pub refunded: Credits,
    pub transferred_in: Credits,
    pub transferred_out: Credits,
    /// Net of reversals.
    pub commissions: Credits,
    /// By how much balances changed, for whatever reason.
    pub net: Credits,
}

/// One period of the clients' trend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct SignupTrend {
    pub period: String,
    /// Clients taken on.
    pub signups: i64,
}

/// What was held at the end of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct BalancePoint {
    pub period: String,
    pub balance: Credits,
    /// By how much it changed within the period.
    pub net: Credits,
}

/// Credit trends of a subtree. `None` where there are more periods than [`calendar::PERIODS_MAX`].
///
/// # Errors
/// What the database says.
pub async fn credits(
    read: &mut ScopedRead,
    subject: &Subject,
    request: &TrendRequest,
) -> Result<Option<Vec<CreditTrend>>, ViewError> {
    let Some(periods) = by_period(read, subject, request).await? else { return Ok(None) };
    let trends = periods.into_iter().map(|(period, figures)| CreditTrend {
        period: period.label,
        volume: figures.added,
        provisioned: figures.provisioned,
        refunded: figures.refunded,
        transferred_in: figures.transferred_in,
        transferred_out: figures.transferred_out,
        commissions: figures.commissions,
        net: figures.net,
    });
    Ok(Some(trends.collect()))
}

/// How many clients a subtree took on. `None` as in [`credits`].
///
/// # Errors
/// What the database says.
pub async fn signups(
    read: &mut ScopedRead,
    subject: &Subject,
    request: &TrendRequest,
) -> Result<Option<Vec<SignupTrend>>, ViewError> {
    let Some(periods) = by_period(read, subject, request).await? else { return Ok(None) };
    let trend =
        |(period, figures): (Period, Figures)| SignupTrend { period: period.label, signups: figures.acquisitions };
    Ok(Some(periods.into_iter().map(trend).collect()))
}

/// What a subtree held at the end of each period (the last one: at `to`). `None` as in [`credits`].
///
/// # Errors
/// What the database says.
pub async fn balances(
    read: &mut ScopedRead,
    subject: &Subject,
    request: &TrendRequest,
) -> Result<Option<Vec<BalancePoint>>, ViewError> {
    let Some(periods) = by_period(read, subject, request).await? else { return Ok(None) };
    let before = match periods.first() {
        Some((first, _)) => between(read, subject, Reach::Subtree, Timestamp::MIN, first.from).await?.net,
        None => 0,
    };
    let mut balance = before;
    let points = periods.into_iter().map(|(period, figures)| {
        balance += figures.net;
        BalancePoint { period: period.label, balance, net: figures.net }
    });
    Ok(Some(points.collect()))
}

/// What was done from `from` up to, not including, `to`.
///
/// # Errors
/// What the database says.
pub async fn between(
    read: &mut ScopedRead,
    subject: &Subject,
    reach: Reach,
    from: Timestamp,
    to: Timestamp,
) -> Result<Figures, ViewError> {
    if from >= to {
        return Ok(Figures::default());
    }
    let period = Period { label: String::new(), from, to };
    let sums = sums(read, subject, reach, vec![period]).await?;
    Ok(sums.into_iter().map(|(_, figures)| figures).next().unwrap_or_default())
}

async fn by_period(
    read: &mut ScopedRead,
    subject: &Subject,
    request: &TrendRequest,
) -> Result<Option<Vec<(Period, Figures)>>, ViewError> {
    // The clock that stamps events never goes back, so it may be ahead of the one that asks.
    let now = Timestamp::from_micros(request.now.max(read.as_of()).micros().saturating_add(1));
    let to = request.to.unwrap_or(now);
    let from = match request.from {
        Some(from) => from,
        None => {
            let first = first_event(&mut read.connection()).await?;
            calendar::default_beginning(request.interval, request.zone, first, to)
        }
    };
    let Some(periods) = calendar::periods(request.interval, request.zone, from, to) else { return Ok(None) };
    sums(read, subject, Reach::Subtree, periods).await.map(Some)
}

/// When the first event was recorded that analytics knows of: a registration comes before everything else.
pub(super) async fn first_event(connection: &mut Connection<'_>) -> Result<Option<Timestamp>, ViewError> {
    let sql = match connection.dialect() {
        Dialect::Sqlite => "select registered_at from analytics_members where ordinal = 0",
        // Of the members no more are shown than those in scope.
        Dialect::Postgres => "select first_at from views.registrations()",
    };
    let row = connection.fetch_one(sql, Vec::new()).await?;
    Ok(row.map(|row| row.columns().parse_or_null()).transpose()?.flatten())
}

/// The figures of each period: the days from the one it begins on up to the one it ends on, plus the part of the latter that
/// belongs to it, less the part of the former that does not.
async fn sums(
    read: &mut ScopedRead,
    subject: &Subject,
    reach: Reach,
    periods: Vec<Period>,
) -> Result<Vec<(Period, Figures)>, ViewError> {
    let (Some(first), Some(last)) = (periods.first(), periods.last()) else { return Ok(Vec::new()) };
    let days = days(&mut read.connection(), subject, reach, first.from.date(), last.to.date()).await?;
    let times = periods.iter().flat_map(|period| [period.from, period.to]);
    let parts = parts(read, subject, reach, &days, times).await?;
    let before = |time: Timestamp| parts.get(&time).copied().unwrap_or_default();
    let mut sums = Vec::with_capacity(periods.len());
    for period in periods {
        let mut sum = Figures::default();
        for figures in days.range(period.from.date()..period.to.date()).map(|(_, figures)| figures) {
            sum.add(figures);
        }
        sum.add(&before(period.to));
        sum.subtract(&before(period.from));
        sums.push((period, sum));
    }
    Ok(sums)
}

/// What was done on each UTC day from one to another, both included; days without anything are left out.
async fn days(
    connection: &mut Connection<'_>,
    subject: &Subject,
    reach: Reach,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<BTreeMap<NaiveDate, Figures>, ViewError> {
    let (ordinal, standing) = standings::of(connection, subject).await?;
    let days = standings::days(connection, (ordinal, &standing), from, to).await?;
    Ok(days.into_iter().map(|(date, day)| (date, reach.of(&day.own, &day.below))).collect())
}

/// For each instant, what was done on its day before it. Of each day the shorter part is read, of all days in one query; the
/// other is what is left of the day.
async fn parts(
    read: &mut ScopedRead,
    subject: &Subject,
    reach: Reach,
    days: &BTreeMap<NaiveDate, Figures>,
    times: impl Iterator<Item = Timestamp>,
) -> Result<HashMap<Timestamp, Figures>, ViewError> {
    let as_of = read.as_of();
    let mut parts = HashMap::new();
    let mut stretches = Vec::new();
    for time in times.collect::<BTreeSet<_>>() {
        let day = time.date();
        let midnight = Timestamp::start_of(day);
        // Nothing on that day is nothing before that hour.
        let Some(whole) = days.get(&day).filter(|_| time > midnight) else { continue };
        let next = day.checked_add_days(Days::new(1)).map_or(Timestamp::MAX, Timestamp::start_of);
        if time > as_of {
            parts.insert(time, *whole);
        } else if time.micros() - midnight.micros() <= next.micros() - time.micros() {
            stretches.push((time, false, midnight, time));
        } else {
            parts.insert(time, *whole);
            stretches.push((time, true, time, next));
        }
    }
    if stretches.is_empty() {
        return Ok(parts);
    }
    let members = Members::of(read, subject, reach).await?;
    let mut connection = read.connection();
    let wanted: Vec<(Timestamp, Timestamp)> = stretches.iter().map(|(_, _, from, to)| (*from, *to)).collect();
    // Of what is read only the members' part is counted.
    connection.show_packed(true).await?;
    let figures = movements::figures(&mut connection, &members, &wanted).await?;
    connection.show_packed(false).await?;
    for ((time, rest, ..), figures) in stretches.into_iter().zip(figures) {
        let part: &mut Figures = parts.entry(time).or_default();
        if rest { part.subtract(&figures) } else { part.add(&figures) }
    }
    Ok(parts)
}

/// What a reseller itself (or, for the platform, nobody) and what all below it did from one UTC day to another, both
/// included.
///
/// # Errors
/// What the database says.
pub(crate) async fn own_and_downline(
    connection: &mut Connection<'_>,
    whose: (i64, &Standing),
    from: NaiveDate,
    to: NaiveDate,
) -> Result<(Figures, Figures), ViewError> {
    let mut sums = (Figures::default(), Figures::default());
    for day in standings::days(connection, whose, from, to).await?.values() {
        sums.0.add(&day.own);
        sums.1.add(&day.below);
    }
    Ok(sums)
}
