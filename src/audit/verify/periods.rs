//! I4 at the ends of months: a closing says what the log says.
//!
//! Adds up the postings along the way, and keeps what they came to at each end of a month until that month is closed; a closing
//! is then compared: position, hash, and every account. Months follow one another, and are closed when they are over. Memory: the
//! accounts (all wallets are one), once for each month that is over and not closed.

use std::collections::VecDeque;

use aggregates::closing::{self, Closing, Totals};
use aggregates::event::Event;
use aggregates::month::Month;
use aggregates::platform::PlatformEvent;
use aggregates::postings;
use aggregates::primitives::Timestamp;
use serde::{Deserialize, Serialize};

use super::examined::Examined;
use super::findings::{Check, Findings};
use super::reading::RawEvent;
use crate::audit::anchor::hexadecimal;

/// What the books had come to when a month was over.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    month: Month,
    position: i64,
    hash: Vec<u8>,
    totals: Totals,
}

/// The months so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Periods {
    /// Of the last event.
    month: Option<Month>,
    position: i64,
    hash: Vec<u8>,
    totals: Totals,
    ends: VecDeque<End>,
}

impl Periods {
    /// Takes in where an event stands; before [`Self::follow`].
    pub(super) fn at(&mut self, raw: &RawEvent<'_>) {
        // What is no time, or goes backwards, is told elsewhere.
        let time = std::str::from_utf8(raw.recorded_at).ok().and_then(|text| text.parse::<Timestamp>().ok());
        if let Some(month) = time.map(Month::of) {
            while let Some(over) = self.month.filter(|current| *current < month) {
                let totals = closing::carried_forward(&self.totals);
                let totals = std::mem::replace(&mut self.totals, totals);
                // Before credits first move there is nothing to close.
                if !totals.is_empty() {
                    let (position, hash) = (self.position, self.hash.clone());
                    self.ends.push_back(End { month: over, position, hash, totals });
                }
                self.month = over.next();
            }
            self.month = self.month.max(Some(month));
        }
        self.position = raw.position;
        self.hash.clear();
        self.hash.extend_from_slice(raw.hash);
    }

    /// Takes in an event, and judges it where it is a closing.
    pub(super) fn follow(&mut self, examined: &Examined<'_>, findings: &mut Findings) {
        if let Event::Platform(PlatformEvent::PeriodClosed(closing)) = examined.event {
            self.judge(examined.position, closing, findings);
        }
        if let Some(posting) = postings::of(examined.key, examined.event) {
            let posted = closing::post(&mut self.totals, &posting);
            findings.holds(Check::DoubleEntry, examined.position, posted.is_ok(), || {
                ("totals".to_owned(), "sums of 128 bits".to_owned(), "more".to_owned())
            });
        }
    }

    fn judge(&mut self, position: i64, closing: &Closing, findings: &mut Findings) {
        let what = |what: &str| format!("{what} in the closing of {}", closing.month);
        let due = self.ends.front().map_or_else(|| "no month: none is over".to_owned(), |end| end.month.to_string());
        let closed = closing.month.to_string();
        findings.equal(Check::DoubleEntry, position, &due, &closed, || "the month that is closed".to_owned());
        // After a break it goes on from the month that is there.
        while self.ends.front().is_some_and(|end| end.month < closing.month) {
            self.ends.pop_front();
        }
        let Some(end) = self.ends.pop_front_if(|end| end.month == closing.month) else { return };
        let last = i64::try_from(closing.last_position).unwrap_or(i64::MAX);
        findings.equal(Check::DoubleEntry, position, &end.position, &last, || what("last position"));
        let hash = hexadecimal(&end.hash);
        findings.equal(Check::DoubleEntry, position, &hash, &closing.head_hash, || what("hash"));
        for name in end.totals.keys().chain(closing.totals.keys().filter(|name| !end.totals.contains_key(*name))) {
            let shown = |totals: &Totals| match totals.get(name) {
                Some(total) => format!("debit {}, credit {}, balance {}", total.debit, total.credit, total.balance),
                None => "nothing".to_owned(),
            };
            findings.equal(Check::DoubleEntry, position, &shown(&end.totals), &shown(&closing.totals), || what(name));
        }
    }
}
