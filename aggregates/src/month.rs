//! A calendar month in UTC: the period that books are closed by.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::primitives::{Invalid, Timestamp};

/// A month of the years 1 to 9999, written `2026-10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    /// 1 … 9999.
    year: i32,
    /// 1 … 12.
    month: u32,
}

impl Month {
    /// The month that an instant falls into.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        let day = time.date();
        Self { year: day.year(), month: day.month() }
    }

    /// Its first instant.
    #[must_use]
    pub fn start(self) -> Timestamp {
        Timestamp::start_of(self.first_day())
    }

    /// The first instant after it; the last one there is for the last month there is.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.next().map_or(Timestamp::MAX, Self::start)
    }

    /// Its first day.
    #[must_use]
    pub fn first_day(self) -> NaiveDate {
        NaiveDate::from_ymd_opt(self.year, self.month, 1).unwrap_or_default()
    }

    /// The one after it; `None` after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self.month {
            12 if self.year >= 9999 => None,
            12 => Some(Self { year: self.year + 1, month: 1 }),
            month => Some(Self { year: self.year, month: month + 1 }),
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
        text.split_once('-')
            .filter(|(year, month)| digits(year, 4) && digits(month, 2))
            .and_then(|(year, month)| Some(Self { year: year.parse().ok()?, month: month.parse().ok()? }))
            .filter(|month| month.year >= 1 && (1..=12).contains(&month.month))
            .ok_or_else(|| Invalid("must be a month such as 2026-10".into()))
    }
}

impl Serialize for Month {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Month {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_has_one_spelling_and_ends_where_the_next_begins() {
        let december: Month = "2026-12".parse().expect("a month");
        assert_eq!(december.start().to_string(), "2026-12-01T00:00:00.000000Z");
        assert_eq!(december.end().to_string(), "2027-01-01T00:00:00.000000Z");
        assert_eq!(december.next().expect("another").to_string(), "2027-01");
        assert_eq!(Month::of(december.end()), december.next().expect("another"));
        for other in ["2026-1", "2026-13", "2026-00", "26-01", "+026-01", "2026-01-01", "0000-01", ""] {
            assert!(other.parse::<Month>().is_err(), "{other}");
        }
        let last: Month = "9999-12".parse().expect("a month");
        assert_eq!((last.next(), last.end()), (None, Timestamp::MAX));
    }
}
