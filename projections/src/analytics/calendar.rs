//! Periods: days, ISO weeks, months and years of a time zone, as stretches of UTC.
//!
//! A period begins where its first local day begins. Where clocks jump over midnight a day begins when they have jumped; where
//! midnight comes twice, at the first.

use std::fmt;
use std::str::FromStr;

use aggregates::primitives::{Invalid, Timestamp};
use chrono::{
    DateTime, Datelike, Days, FixedOffset, MappedLocalTime, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;

/// How many periods an answer may have at most: four years of days.
pub const PERIODS_MAX: usize = 1_500;
/// How many periods there are at most where no beginning was named.
pub const PERIODS_DEFAULT: usize = 400;

/// How long a period is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interval {
    /// `2026-11-21`
    #[default]
    Daily,
    /// ISO weeks, from Monday: `2026-W47`
    Weekly,
    /// `2026-11`
    Monthly,
    /// `2026`
    Yearly,
}

impl FromStr for Interval {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "daily" => Ok(Self::Daily),
            "weekly" => Ok(Self::Weekly),
            "monthly" => Ok(Self::Monthly),
            "yearly" => Ok(Self::Yearly),
            _ => Err(Invalid("must be one of: daily, weekly, monthly, yearly".into())),
        }
    }
}

impl Interval {
    /// The first day of the period that a day belongs to.
    fn first_day(self, day: NaiveDate) -> NaiveDate {
        let back = match self {
            Self::Daily => 0,
            Self::Weekly => day.weekday().num_days_from_monday(),
            Self::Monthly => day.day0(),
            Self::Yearly => day.ordinal0(),
        };
        day.checked_sub_days(Days::new(back.into())).unwrap_or(day)
    }

    /// The first day of the period after the one that begins on `first`; of the one before it, for `periods` below zero.
    fn shifted(self, first: NaiveDate, periods: i32) -> Option<NaiveDate> {
        let count = periods.unsigned_abs();
        let (days, months) = match self {
            Self::Daily => (Some(count), 0),
            Self::Weekly => (Some(count * 7), 0),
            Self::Monthly => (None, count),
            Self::Yearly => (None, count * 12),
        };
        match (days, periods < 0) {
            (Some(days), false) => first.checked_add_days(Days::new(days.into())),
            (Some(days), true) => first.checked_sub_days(Days::new(days.into())),
            (None, false) => first.checked_add_months(Months::new(months)),
            (None, true) => first.checked_sub_months(Months::new(months)),
        }
    }

    fn label(self, first: NaiveDate) -> String {
        match self {
            Self::Daily => first.to_string(),
            Self::Weekly => format!("{:04}-W{:02}", first.iso_week().year(), first.iso_week().week()),
            Self::Monthly => format!("{:04}-{:02}", first.year(), first.month()),
            Self::Yearly => format!("{:04}", first.year()),
        }
    }
}

/// A time zone: a fixed distance from UTC, or one with rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// `UTC`, `Z`, `+02:00`
    Fixed(FixedOffset),
    /// A name of the IANA's, such as `Europe/Berlin`.
    Named(Tz),
}

impl Zone {
    /// No distance.
    pub const UTC: Self = Self::Named(Tz::UTC);

    /// The local day that an instant falls on.
    #[must_use]
    pub fn day_of(self, time: Timestamp) -> NaiveDate {
        let utc = DateTime::<Utc>::from_timestamp_micros(time.micros()).unwrap_or_default();
        match self {
            Self::Fixed(offset) => utc.with_timezone(&offset).date_naive(),
            Self::Named(zone) => utc.with_timezone(&zone).date_naive(),
        }
    }

    /// The first instant of a local day.
    #[must_use]
    pub fn start_of(self, day: NaiveDate) -> Timestamp {
        match self {
            Self::Fixed(offset) => first_instant(&offset, day),
            Self::Named(zone) => first_instant(&zone, day),
        }
    }
}

fn first_instant<Z: TimeZone>(zone: &Z, day: NaiveDate) -> Timestamp {
    let midnight = day.and_time(NaiveTime::MIN);
    // No clock has ever jumped further than a day; quarters of an hour are the finest rules there are.
    (0..=96)
        .filter_map(|quarters| midnight.checked_add_signed(TimeDelta::minutes(15 * quarters)))
        .find_map(|local| match zone.from_local_datetime(&local) {
            MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => Some(Timestamp::from(time.to_utc())),
            MappedLocalTime::None => None,
        })
        .unwrap_or_else(|| Timestamp::start_of(day))
}

impl FromStr for Zone {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if matches!(text, "Z" | "UTC") {
            return Ok(Self::UTC);
        }
        // In a query string an unescaped plus sign is a space.
        let signed = text.strip_prefix(' ').map(|rest| format!("+{rest}"));
        let text = signed.as_deref().unwrap_or(text);
        if text.starts_with(['+', '-'])
            && text.len() == 6
            && let Ok(offset) = text.parse()
        {
            return Ok(Self::Fixed(offset));
        }
        text.parse()
            .map(Self::Named)
            .map_err(|_| Invalid("must be UTC, a distance such as +02:00, or a name such as Europe/Berlin".into()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(offset) => offset.fmt(f),
            Self::Named(zone) => f.write_str(zone.name()),
        }
    }
}

/// One period of an answer, cut to what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// What it is called.
    pub label: String,
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
}

/// All periods that `from` up to, not including, `to` touches, in order. `None` where they are more than [`PERIODS_MAX`].
#[must_use]
pub fn periods(interval: Interval, zone: Zone, from: Timestamp, to: Timestamp) -> Option<Vec<Period>> {
    let mut periods = Vec::new();
    let mut first = interval.first_day(zone.day_of(from));
    if from >= to {
        return Some(periods);
    }
    loop {
        let begin = zone.start_of(first);
        if begin >= to {
            break;
        }
        if periods.len() == PERIODS_MAX {
            return None;
        }
        let next = interval.shifted(first, 1);
        let end = next.map_or(Timestamp::MAX, |next| zone.start_of(next));
        periods.push(Period { label: interval.label(first), from: begin.max(from), to: end.min(to) });
        match next {
            Some(next) => first = next,
            None => break,
        }
    }
    Some(periods)
}

/// Where to begin when nobody says: with the period of the first event, at most [`PERIODS_DEFAULT`] periods before `to`.
#[must_use]
pub fn default_beginning(interval: Interval, zone: Zone, first_event: Option<Timestamp>, to: Timestamp) -> Timestamp {
    let last_instant = Timestamp::from_micros(to.micros().saturating_sub(1));
    let last = interval.first_day(zone.day_of(last_instant));
    let back = 1 - i32::try_from(PERIODS_DEFAULT).unwrap_or(i32::MAX);
    let least = interval.shifted(last, back).unwrap_or(NaiveDate::MIN);
    let first = first_event.map_or(last, |time| interval.first_day(zone.day_of(time)));
    zone.start_of(first.max(least).min(last))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn labels(interval: Interval, zone: &str, from: &str, to: &str) -> Vec<String> {
        let zone = zone.parse().expect("a zone");
        let periods = periods(interval, zone, time(from), time(to)).expect("not too many");
        periods.into_iter().map(|period| period.label).collect()
    }

    #[test]
    fn weeks_are_iso_weeks_and_belong_to_the_year_of_their_thursday() {
        let weeks = labels(Interval::Weekly, "UTC", "2026-12-27T00:00:00Z", "2027-01-12T00:00:00Z");
        assert_eq!(weeks, ["2026-W52", "2026-W53", "2027-W01", "2027-W02"]);
        let weeks = labels(Interval::Weekly, "UTC", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z");
        assert_eq!(weeks, ["2025-W01"]);
    }

    #[test]
    fn the_end_is_not_included_and_periods_are_cut_to_what_was_asked() {
        let months = periods(Interval::Monthly, Zone::UTC, time("2023-01-15T12:00:00Z"), time("2023-03-01T00:00:00Z"));
        let months = months.expect("two");
        assert_eq!(months.len(), 2);
        assert_eq!((months[0].label.as_str(), months[0].from), ("2023-01", time("2023-01-15T12:00:00Z")));
        assert_eq!((months[1].label.as_str(), months[1].to), ("2023-02", time("2023-03-01T00:00:00Z")));
        assert_eq!(labels(Interval::Yearly, "UTC", "2023-12-31T23:59:59Z", "2024-01-01T00:00:01Z"), ["2023", "2024"]);
        assert!(labels(Interval::Daily, "UTC", "2023-01-01T00:00:00Z", "2023-01-01T00:00:00Z").is_empty());
    }

    #[test]
    fn a_day_is_as_long_as_its_zone_makes_it() {
        let berlin: Zone = "Europe/Berlin".parse().expect("a zone");
        let days = periods(Interval::Daily, berlin, time("2026-03-28T23:00:00Z"), time("2026-03-30T22:00:00Z"));
        let days = days.expect("two");
        assert_eq!(days.iter().map(|day| day.label.as_str()).collect::<Vec<_>>(), ["2026-03-29", "2026-03-30"]);
        assert_eq!(days[0].to, time("2026-03-29T22:00:00Z"), "an hour was lost that night");
        let india = labels(Interval::Daily, "+05:30", "2026-01-01T18:29:59Z", "2026-01-01T18:30:01Z");
        assert_eq!(india, ["2026-01-01", "2026-01-02"]);
        // There midnight itself is jumped over: the day begins at one o'clock.
        let beirut: Zone = "Asia/Beirut".parse().expect("a zone");
        let day = NaiveDate::from_ymd_opt(2022, 3, 27).expect("a day");
        assert_eq!(beirut.start_of(day), time("2022-03-26T22:00:00Z"));
    }

    #[test]
    fn zones_are_read_as_they_are_written_and_nothing_else() {
        for (text, shown) in [("UTC", "UTC"), ("Z", "UTC"), (" 02:00", "+02:00"), ("-03:30", "-03:30")] {
            assert_eq!(text.parse::<Zone>().expect("a zone").to_string(), shown);
        }
        for wrong in ["", "Mars/Olympus", "+2", "02:00", "+25:00"] {
            assert!(wrong.parse::<Zone>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn too_many_periods_are_none_and_the_default_is_bounded() {
        let (from, to) = (time("2000-01-01T00:00:00Z"), time("2026-01-01T00:00:00Z"));
        assert_eq!(periods(Interval::Daily, Zone::UTC, from, to), None);
        let begin = default_beginning(Interval::Daily, Zone::UTC, Some(from), to);
        assert_eq!(periods(Interval::Daily, Zone::UTC, begin, to).map(|days| days.len()), Some(PERIODS_DEFAULT));
        assert_eq!(default_beginning(Interval::Monthly, Zone::UTC, None, to), time("2025-12-01T00:00:00Z"));
    }
}
