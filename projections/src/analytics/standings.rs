//! What each reseller and all below it have done so far, and on the last day on which they did anything: one small row each,
//! the only thing that a movement changes for the line above it.
//!
//! A standing is packed (some forty bytes for one who only sells, twice that for one with a large downline) and keyed by the
//! number of the reseller, so that those which a batch touches lie close together. When the next thing happens on a later day,
//! the day that is over is written to `days`, once: `days` holds what is over, the standing the day in hand.

use std::collections::BTreeMap;

use aggregates::primitives::{Credits, Timestamp};
use chrono::NaiveDate;

use super::Figures;
use super::movements::{Kind, put_number, take_number};
use super::scores::is_shown;
use crate::sql::{Connection, Dialect, Value, ViewError};
use crate::subject::Subject;

/// The number under which the whole network stands; resellers are numbered from 0.
pub const PLATFORM_ORDINAL: i64 = -1;

const DAY_MICROS: i64 = 86_400_000_000;

/// Days since 1970 of an instant, in UTC.
#[must_use]
pub fn day_number(time: Timestamp) -> i64 {
    time.micros().div_euclid(DAY_MICROS)
}

/// The day with a number.
#[must_use]
pub fn date_of(day: i64) -> NaiveDate {
    Timestamp::from_micros(day.saturating_mul(DAY_MICROS)).date()
}

/// What was done by a reseller itself, or by all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Side {
    /// Since the beginning.
    pub total: Figures,
    /// On the standing's day.
    pub today: Figures,
    /// How many movements of a kind that rankings show, since the beginning.
    pub shown: i64,
}

impl Side {
    fn count(&mut self, kind: Kind, amount: Credits) {
        self.total.count(kind, amount);
        self.today.count(kind, amount);
        self.shown += i64::from(is_shown(kind));
    }
}

/// What a reseller and all below it have done so far. Of the network as a whole everything is `below`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last day on which anything was done, in days since 1970.
    pub day: i64,
    /// By the reseller itself. What its wallet holds is the net of it.
    pub own: Side,
    /// By all below it, itself not included.
    pub below: Side,
    /// The sum of those balances below it that are above zero.
    pub positive_below: Credits,
    /// Below which balance its credit is low.
    pub low_credit_threshold: Credits,
    /// Whether the balance is below that.
    pub low_credit: bool,
}

impl Standing {
    /// What the reseller's own wallet holds.
    #[must_use]
    pub fn balance(&self) -> Credits {
        self.own.total.net
    }

    /// What was done since the beginning in its subtree, itself included.
    #[must_use]
    pub fn subtree_total(&self) -> Figures {
        let mut sum = self.own.total;
        sum.add(&self.below.total);
        sum
    }

    /// The sum of the balances of its subtree that are above zero.
    #[must_use]
    pub fn subtree_positive(&self) -> Credits {
        self.balance().max(0).saturating_add(self.positive_below)
    }

    /// Goes on to a day; hands out what was done on the one before, if that is over and anything was.
    pub fn turn_to(&mut self, day: i64) -> Option<Day> {
        if day <= self.day {
            return None;
        }
        let over = Day {
            day: self.day,
            own: std::mem::take(&mut self.own.today),
            below: std::mem::take(&mut self.below.today),
        };
        self.day = day;
        (over.own != Figures::default() || over.below != Figures::default()).then_some(over)
    }

    /// Counts what the reseller itself did, on its day.
    pub fn count_own(&mut self, kind: Kind, amount: Credits) {
        self.own.count(kind, amount);
    }

    /// Counts what one below did, on its day, and by how much the part of that one's balance above zero changed.
    pub fn count_below(&mut self, kind: Kind, amount: Credits, positive: Credits) {
        self.below.count(kind, amount);
        self.positive_below = self.positive_below.saturating_add(positive);
    }

    /// As it is stored.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(u8::from(self.low_credit));
        put_signed(&mut bytes, self.day);
        put_signed(&mut bytes, self.low_credit_threshold);
        put_figures(&mut bytes, &self.own.total);
        put_figures(&mut bytes, &self.own.today);
        put_signed(&mut bytes, self.own.shown);
        // Most have nobody below them who did anything.
        if self.below != Side::default() || self.positive_below != 0 {
            put_figures(&mut bytes, &self.below.total);
            put_figures(&mut bytes, &self.below.today);
            put_signed(&mut bytes, self.below.shown);
            put_signed(&mut bytes, self.positive_below);
        }
        bytes
    }

    /// Reads what is stored; nothing is a standing of somebody who has done nothing.
    ///
    /// # Errors
    /// Bytes that are no standing.
    pub fn unpack(mut bytes: &[u8]) -> Result<Self, ViewError> {
        let Some((low_credit, rest)) = bytes.split_first() else { return Ok(Self::default()) };
        bytes = rest;
        let mut standing = Self {
            low_credit: *low_credit != 0,
            day: take_signed(&mut bytes)?,
            low_credit_threshold: take_signed(&mut bytes)?,
            ..Self::default()
        };
        let side = |bytes: &mut &[u8]| {
            Ok::<_, ViewError>(Side {
                total: take_figures(bytes)?,
                today: take_figures(bytes)?,
                shown: take_signed(bytes)?,
            })
        };
        standing.own = side(&mut bytes)?;
        if !bytes.is_empty() {
            standing.below = side(&mut bytes)?;
            standing.positive_below = take_signed(&mut bytes)?;
        }
        Ok(standing)
    }
}

/// What was done on a day that is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// In days since 1970.
    pub day: i64,
    /// By the reseller itself.
    pub own: Figures,
    /// By all below it.
    pub below: Figures,
}

impl Day {
    /// As it is stored, without the day.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        put_figures(&mut bytes, &self.own);
        put_figures(&mut bytes, &self.below);
        bytes
    }

    fn unpack(day: i64, mut bytes: &[u8]) -> Result<Self, ViewError> {
        Ok(Self { day, own: take_figures(&mut bytes)?, below: take_figures(&mut bytes)? })
    }
}

/// Which of the eight are not zero, a bit each, then those.
fn put_figures(bytes: &mut Vec<u8>, figures: &Figures) {
    put_sparse(bytes, &figures.to_array());
}

fn take_figures(bytes: &mut &[u8]) -> Result<Figures, ViewError> {
    take_sparse(bytes).map(Figures::from_array)
}

/// Writes up to eight numbers: a byte that says which are not zero, then those.
pub(super) fn put_sparse(bytes: &mut Vec<u8>, numbers: &[i64]) {
    debug_assert!(numbers.len() <= 8, "a bit each");
    let at = bytes.len();
    bytes.push(0);
    let mut present = 0_u8;
    for (index, number) in numbers.iter().enumerate() {
        if *number != 0 {
            present |= 1 << index;
            put_signed(bytes, *number);
        }
    }
    if let Some(mask) = bytes.get_mut(at) {
        *mask = present;
    }
}

/// Reads what [`put_sparse`] has written.
pub(super) fn take_sparse<const N: usize>(bytes: &mut &[u8]) -> Result<[i64; N], ViewError> {
    let (present, rest) = bytes.split_first().ok_or_else(cut)?;
    *bytes = rest;
    let mut numbers = [0; N];
    for (index, number) in numbers.iter_mut().enumerate() {
        if present >> index & 1 == 1 {
            *number = take_signed(bytes)?;
        }
    }
    Ok(numbers)
}

fn cut() -> ViewError {
    ViewError::unreadable("figures that end in the middle")
}

/// Small numbers of either sign in few bytes: the sign goes into the lowest bit.
pub(super) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put_number(bytes, (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned());
}

pub(super) fn take_signed(bytes: &mut &[u8]) -> Result<i64, ViewError> {
    let number = take_number(bytes).ok_or_else(cut)?;
    Ok((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
}

/// The standings with these numbers, in their order; who is not there has done nothing.
///
/// # Errors
/// What the database says.
pub async fn load(connection: &mut Connection<'_>, ordinals: &[i64]) -> Result<Vec<(i64, Standing)>, ViewError> {
    let mut standings = Vec::with_capacity(ordinals.len());
    if ordinals.is_empty() {
        return Ok(standings);
    }
    let of_these = connection.dialect().one_of("ordinal", 1);
    let sql = format!("select ordinal, figures from standings where {of_these} order by ordinal");
    connection
        .for_each(&sql, vec![Value::integers(ordinals.iter().copied())], |row| {
            let mut columns = row.columns();
            standings.push((columns.integer()?, Standing::unpack(columns.slice()?)?));
            Ok(true)
        })
        .await?;
    Ok(standings)
}

/// The number of a reseller.
///
/// # Errors
/// What the database says.
pub(super) async fn ordinal_of(connection: &mut Connection<'_>, id: &str) -> Result<Option<i64>, ViewError> {
    let sql = "select ordinal from analytics_members where reseller_id = $1";
    let row = connection.fetch_one(sql, vec![id.into()]).await?;
    row.map(|row| row.columns().integer()).transpose()
}

/// The number and the standing of whom figures are asked for. Costs two look-ups.
///
/// # Errors
/// What the database says.
pub async fn of(connection: &mut Connection<'_>, subject: &Subject) -> Result<(i64, Standing), ViewError> {
    let ordinal = match subject.reseller {
        None => PLATFORM_ORDINAL,
        Some(_) => {
            // A number that nobody has: nothing is found under it.
            ordinal_of(connection, &subject.id).await?.unwrap_or(i64::MIN)
        }
    };
    let sql = "select figures from standings where ordinal = $1";
    let row = connection.fetch_one(sql, vec![ordinal.into()]).await?;
    let standing = row.map_or_else(|| Ok(Standing::default()), |row| Standing::unpack(row.columns().slice()?))?;
    Ok((ordinal, standing))
}

/// What was done on each UTC day from one to another, both included; days without anything are left out. Costs a look-up for
/// each day of recorded history.
///
/// # Errors
/// What the database says.
pub async fn days(
    connection: &mut Connection<'_>,
    (ordinal, standing): (i64, &Standing),
    from: NaiveDate,
    to: NaiveDate,
) -> Result<BTreeMap<NaiveDate, Day>, ViewError> {
    let [from, to] = [from, to].map(|date| day_number(Timestamp::start_of(date)));
    let mut days = BTreeMap::new();
    // All but a day in hand are rows; nobody's is later than the last of them or one's own.
    let sql = match connection.dialect() {
        Dialect::Sqlite => "select (select min(day) from days), (select max(day) from days)",
        // Of the days no more are shown than those of whoever is in scope, and finding the first of them would take long.
        Dialect::Postgres => "select first, last from views.days_on_record()",
    };
    if let Some(row) = connection.fetch_one(sql, Vec::new()).await? {
        let mut columns = row.columns();
        if let Some((first, last)) = columns.integer_or_null()?.zip(columns.integer_or_null()?) {
            let wanted: Vec<i64> = (from.max(first)..=to.min(last).min(standing.day)).collect();
            let of_days = connection.dialect().one_of("day", 1);
            let sql = format!("select day, figures from days where {of_days} and ordinal = $2");
            for row in &connection.fetch(&sql, vec![Value::integers(wanted), ordinal.into()]).await? {
                let mut columns = row.columns();
                let day = columns.integer()?;
                days.insert(date_of(day), Day::unpack(day, columns.slice()?)?);
            }
        }
    }
    if (from..=to).contains(&standing.day) {
        let today = Day { day: standing.day, own: standing.own.today, below: standing.below.today };
        days.insert(date_of(standing.day), today);
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_a_cut_row_is_told() {
        let mut standing = Standing { low_credit_threshold: 500, low_credit: true, ..Standing::default() };
        assert_eq!(standing.turn_to(20_000), None, "nothing was done before");
        standing.count_own(Kind::Added, 9_007_199_254_740_991);
        assert_eq!(Standing::unpack(&standing.pack()).expect("a standing"), standing);
        standing.count_own(Kind::CommissionReversed, 1);
        standing.count_below(Kind::Provisioned, 70, -70);
        let over = standing.turn_to(20_001).expect("something was done");
        assert_eq!((over.day, over.own.commissions, over.below.provisioned), (20_000, -1, 70));
        assert_eq!(Day::unpack(20_000, &over.pack()).expect("a day"), over);
        standing.count_below(Kind::Removed, 3, -9_007_199_254_740_991);
        let packed = standing.pack();
        assert_eq!(Standing::unpack(&packed).expect("a standing"), standing);
        assert!(Standing::unpack(&packed[..packed.len() - 1]).is_err());
        assert_eq!(Standing::unpack(&[]).expect("nothing"), Standing::default());
        assert_eq!(date_of(20_000).to_string(), "2024-10-04");
    }
}
