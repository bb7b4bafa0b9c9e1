//! When things happen: the moments of the past months, and how busy each of them was.
//!
//! Every day has [`MOMENTS_A_DAY`] moments; what happens in one of them shares a commit or a few (more moments would look
//! livelier, and each costs at least one wait for the disk). Weights are integers, so the
//! same seed gives the same history on every machine. The last day is today, its moments squeezed into what of it has passed.

use aggregates::primitives::Timestamp;
use chrono::{Datelike, Days, NaiveDate};

/// How far back the history goes.
pub(super) const DAYS: usize = 270;
/// How many times a day something happens.
pub(super) const MOMENTS_A_DAY: usize = 4;
/// All moments there are.
pub(super) const MOMENTS: usize = DAYS * MOMENTS_A_DAY;

const SECONDS_A_DAY: i64 = 86_400;
/// By how many seconds at most a moment comes later than its hour: less than the shortest way to the next one.
pub(super) const DELAY_SECONDS_MAX: i64 = 8_100;
/// The seconds of the day at which moments begin, and how much of a day's business each of them sees.
const SLOTS: [(i64, u64); MOMENTS_A_DAY] = [(27_000, 20), (36_000, 31), (46_800, 29), (57_600, 20)];
/// Monday to Sunday.
const WEEKDAYS: [u64; 7] = [100, 108, 110, 105, 92, 38, 27];
/// January to December.
const MONTHS: [u64; 12] = [94, 97, 100, 101, 102, 100, 95, 93, 103, 107, 110, 104];

/// The past months.
#[derive(Debug)]
pub(super) struct Calendar {
    first_day: NaiveDate,
    /// What has passed of the last day.
    elapsed_today: i64,
    /// For each moment, the weight of it and all after it.
    remaining: Vec<u64>,
}

impl Calendar {
    /// The calendar of a history that ends now.
    pub(super) fn until(now: Timestamp) -> Self {
        let today = now.date();
        let past = Days::new(u64::try_from(DAYS - 1).unwrap_or_default());
        let first_day = today.checked_sub_days(past).unwrap_or(today);
        let elapsed_today = (now.micros() - Timestamp::start_of(today).micros()) / 1_000_000;
        let mut calendar = Self { first_day, elapsed_today, remaining: vec![0; MOMENTS + 1] };
        for moment in (0..MOMENTS).rev() {
            calendar.remaining[moment] = calendar.remaining[moment + 1] + calendar.weight(moment);
        }
        calendar
    }

    /// Which day a moment belongs to.
    pub(super) fn day(&self, moment: usize) -> NaiveDate {
        let days = u64::try_from(moment / MOMENTS_A_DAY).unwrap_or_default();
        self.first_day.checked_add_days(Days::new(days)).unwrap_or(self.first_day)
    }

    /// The time of a moment that comes `delay` microseconds (at most [`DELAY_SECONDS_MAX`] seconds) after its hour.
    pub(super) fn time(&self, moment: usize, delay: i64) -> Timestamp {
        let micros = SLOTS[moment % MOMENTS_A_DAY].0 * 1_000_000 + delay;
        let today = moment / MOMENTS_A_DAY == DAYS - 1;
        let micros = if today { micros / SECONDS_A_DAY * self.elapsed_today } else { micros };
        Timestamp::from_micros(Timestamp::start_of(self.day(moment)).micros() + micros)
    }

    /// How much of what is left belongs to this moment.
    pub(super) fn share(&self, moment: usize, left: u64) -> u64 {
        left * self.weight(moment) / self.remaining[moment].max(1)
    }

    /// Weekends are quiet, and every month is busier than the one before.
    fn weight(&self, moment: usize) -> u64 {
        let day = self.day(moment);
        let weekday = WEEKDAYS[usize::try_from(day.weekday().num_days_from_monday()).unwrap_or_default()];
        let month = MONTHS[usize::try_from(day.month0()).unwrap_or_default()];
        let growth = 1_000 + 2_600 * u64::try_from(moment / MOMENTS_A_DAY).unwrap_or_default() / 270;
        weekday * month * growth * SLOTS[moment % MOMENTS_A_DAY].1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn moments_follow_one_another_and_none_lies_in_the_future() {
        for now in ["2026-11-21T12:00:00Z", "2026-03-01T00:00:01Z", "2024-02-29T23:59:59Z"] {
            let now: Timestamp = now.parse().expect("time");
            let calendar = Calendar::until(now);
            for moment in 1..MOMENTS {
                let before = calendar.time(moment - 1, DELAY_SECONDS_MAX * 1_000_000);
                assert!(before <= calendar.time(moment, 0), "{moment}");
            }
            assert!(calendar.time(MOMENTS - 1, DELAY_SECONDS_MAX * 1_000_000) <= now);
        }
    }
}
