//! The closing of a period: what the books came to at its end, account by account, and what makes such figures believable.
//!
//! Adding up a month is reading, and reading waits, so it is not the ledger's to do. A command brings the figures along
//! ([`Reckoning`]), and deciding checks all that can be checked without reading: that the month is over and is the next one, that
//! debits and credits are equal, that nothing is under way between wallets, that each account goes on from where the last
//! closing left it, and that the log has not moved on since. That the figures are those of the log is judged a second time,
//! from the log alone, by `verify`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::month::Month;
use crate::postings::{Account, Posting};
use crate::primitives::Timestamp;
use crate::rejection::Rejection;

/// What was posted to an account in a period, and what it came to in the end.
///
/// What wallets hold is bounded, what passes through an account is not: the same credits may be spent and refunded for ever. So
/// these are wider than credits; as JSON a number, or its digits as a text where it lies beyond 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AccountTotal {
    /// The sum of its debits in the period.
    #[serde(with = "wide")]
    #[cfg_attr(feature = "schema", schema(schema_with = wide::schema))]
    pub debit: i128,
    /// The sum of its credits in the period.
    #[serde(with = "wide")]
    #[cfg_attr(feature = "schema", schema(schema_with = wide::schema))]
    pub credit: i128,
    /// Its credits less its debits of all time, at the end of the period.
    #[serde(with = "wide")]
    #[cfg_attr(feature = "schema", schema(schema_with = wide::schema))]
    pub balance: i128,
}

/// Sums in JSON, whose readers and writers know numbers of 64 bits.
mod wide {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(sum: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(*sum) {
            Ok(number) => serializer.serialize_i64(number),
            Err(_) => serializer.collect_str(sum),
        }
    }

    #[cfg(feature = "schema")]
    pub(super) fn schema() -> utoipa::openapi::schema::Object {
        use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
        ObjectBuilder::new()
            .schema_type(SchemaType::Array(vec![Type::Integer, Type::String]))
            .description(Some(
                "A sum of credits: a whole number, or its digits as a text where it lies beyond 64 bits.",
            ))
            .build()
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Digits(String),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(number.into()),
            Written::Digits(digits) => digits.parse().map_err(D::Error::custom),
        }
    }
}

/// Each account that was ever posted to. All wallets together are one, called `wallet`.
pub type Totals = BTreeMap<String, AccountTotal>;

/// The name under which totals hold an account: its own; of a wallet, that of all wallets.
#[must_use]
pub fn total_name(account: &Account) -> String {
    match account {
        Account::Wallet(_) => WALLETS.to_owned(),
        other => other.to_string(),
    }
}

/// The name of all wallets together.
pub const WALLETS: &str = "wallet";

/// Takes a posting into totals.
///
/// # Errors
/// [`Rejection::Overflow`] beyond 128 bits, which no log is long enough for.
pub fn post(totals: &mut Totals, posting: &Posting) -> Result<(), Rejection> {
    let amount = i128::from(posting.amount);
    let debited = totals.entry(total_name(&posting.debit)).or_default();
    debited.debit = debited.debit.checked_add(amount).ok_or(Rejection::Overflow {})?;
    debited.balance = debited.balance.checked_sub(amount).ok_or(Rejection::Overflow {})?;
    let credited = totals.entry(total_name(&posting.credit)).or_default();
    credited.credit = credited.credit.checked_add(amount).ok_or(Rejection::Overflow {})?;
    credited.balance = credited.balance.checked_add(amount).ok_or(Rejection::Overflow {})?;
    Ok(())
}

/// The same accounts at the beginning of the next period: the balances stay, nothing has been posted yet.
#[must_use]
pub fn carried_forward(totals: &Totals) -> Totals {
    let fresh = |total: &AccountTotal| AccountTotal { debit: 0, credit: 0, balance: total.balance };
    totals.iter().map(|(name, total)| (name.clone(), fresh(total))).collect()
}

/// A closed period: nothing is ever recorded in it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = Closing))]
pub struct Closing {
    /// Which month.
    pub month: Month,
    /// The position of the last event recorded before the month's end. The period goes from the one after the last closing's up
    /// to it.
    pub last_position: u64,
    /// The hash of that event, hexadecimal: with it the closing says of which history it speaks.
    pub head_hash: String,
    /// What the books came to.
    pub totals: Totals,
}

/// A closing as it is asked for, with what was seen in the log when it was added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reckoning {
    /// What would be closed, with which figures.
    pub closing: Closing,
    /// The month in which credits first moved: the first one that can be closed.
    pub first_month: Month,
    /// Whether an event stands behind `last_position`. One that does was recorded after the month's end, and time never runs
    /// backwards in the log, so then nothing can come between. Where there is none, nothing may have come in the meantime.
    pub followed: bool,
    /// The time by the clock of who added it up. The log's may be ahead of it: it never turns back, not even after a clock that
    /// was wrong by years.
    pub added_up_at: Timestamp,
}

impl Reckoning {
    /// Judges it, after the last closing, at a time and a head. The month must be over by that time, which is the log's, and by
    /// the clock of who added it up.
    ///
    /// # Errors
    /// In this order: the month is not over, is before the books began, is closed already, is not the next one; the log has
    /// moved on; the figures do not add up.
    pub fn check(&self, last: Option<&Closing>, now: Timestamp, head: u64) -> Result<(), Rejection> {
        let month = self.closing.month;
        let refused = |from: String| Rejection::transition(&format!("the period {month}"), from, "closed");
        if now.min(self.added_up_at) < month.end() {
            return Err(refused(format!("not over before {}", month.end())));
        }
        // Told before what is closed already: a month before the books began never was.
        if month < self.first_month {
            return Err(refused(format!("before credits first moved, in {}", self.first_month)));
        }
        if last.is_some_and(|last| month <= last.month) {
            return Err(Rejection::AlreadyExists { what: format!("the closing of {month}") });
        }
        let next = last.map_or(Some(self.first_month), |last| last.month.next());
        if let Some(next) = next.filter(|next| *next != month) {
            return Err(refused(format!("waiting for {next} to be closed")));
        }
        if !self.followed && head != self.closing.last_position {
            return Err(Rejection::LogMovedOn {});
        }
        let from = last.map_or(0, |last| last.last_position);
        if !(from..=head).contains(&self.closing.last_position) {
            return Err(Rejection::invalid("/last_position", format!("must be from {from} to {head}")));
        }
        self.check_totals(last)
    }

    fn check_totals(&self, last: Option<&Closing>) -> Result<(), Rejection> {
        let wrong = |what: &str| Err(Rejection::invalid("/totals", what));
        let totals = &self.closing.totals;
        let sum = |of: fn(&AccountTotal) -> i128| totals.values().map(of).sum::<i128>();
        if sum(|total| total.debit) != sum(|total| total.credit) || sum(|total| total.balance) != 0 {
            return wrong("debits and credits must be equal");
        }
        if totals.get(&Account::TransfersClearing.to_string()).is_some_and(|total| total.balance != 0) {
            return wrong("no transfer may be under way at the end of a period");
        }
        let before = last.map(|last| &last.totals);
        if before.is_some_and(|before| before.keys().any(|name| !totals.contains_key(name))) {
            return wrong("an account that was there must be there still");
        }
        for (name, total) in totals {
            let opening = before.and_then(|before| before.get(name)).map_or(0, |total| total.balance);
            let negative = total.debit < 0 || total.credit < 0;
            if negative || opening + total.credit - total.debit != total.balance {
                return wrong("each account must go on from where the last closing left it");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::{CreditSource, ResellerId};
    use uuid::Uuid;

    fn month(text: &str) -> Month {
        text.parse().expect("a month")
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn sold(totals: &mut Totals) {
        let wallet = || Account::Wallet(ResellerId(Uuid::from_u128(1)));
        let issued = Account::Issued(CreditSource::Purchase);
        post(totals, &Posting { debit: issued, credit: wallet(), amount: 100 }).expect("a posting");
        post(totals, &Posting { debit: wallet(), credit: Account::Revenue, amount: 30 }).expect("a posting");
    }

    fn reckoning(text: &str, last_position: u64, totals: Totals) -> Reckoning {
        let closing = Closing { month: month(text), last_position, head_hash: "ab".repeat(32), totals };
        Reckoning { closing, first_month: month("2026-05"), followed: true, added_up_at: time(LATER) }
    }

    fn first() -> Reckoning {
        let mut totals = Totals::new();
        sold(&mut totals);
        reckoning("2026-05", 10, totals)
    }

    fn second(first: &Closing) -> Reckoning {
        let mut totals = carried_forward(&first.totals);
        sold(&mut totals);
        reckoning("2026-06", 20, totals)
    }

    const LATER: &str = "2026-08-01T00:00:00Z";

    #[test]
    fn totals_hold_all_wallets_as_one_account_and_add_up() {
        let totals = first().closing.totals;
        let names: Vec<&str> = totals.keys().map(String::as_str).collect();
        assert_eq!(names, ["platform:issued:purchase", "platform:revenue", "wallet"]);
        assert_eq!(totals["wallet"], AccountTotal { debit: 30, credit: 100, balance: 70 });
        assert_eq!(totals["platform:issued:purchase"], AccountTotal { debit: 100, credit: 0, balance: -100 });
    }

    #[test]
    fn turnover_beyond_64_bits_is_closed_and_read_again() {
        let mut reckoning = first();
        let wallet = || Account::Wallet(ResellerId(Uuid::from_u128(1)));
        let amount = crate::primitives::MAX_CREDITS;
        for _ in 0..1_100 {
            let totals = &mut reckoning.closing.totals;
            post(totals, &Posting { debit: wallet(), credit: Account::Revenue, amount }).expect("a posting");
            post(totals, &Posting { debit: Account::Revenue, credit: wallet(), amount }).expect("a posting");
        }
        assert_eq!(reckoning.check(None, time(LATER), 10), Ok(()));
        let turnover = 1_100 * i128::from(amount);
        assert_eq!(reckoning.closing.totals["wallet"].debit, turnover + 30);
        let text = serde_json::to_string(&reckoning.closing).expect("JSON");
        assert!(text.contains(&format!(
            r#""platform:revenue":{{"debit":"{turnover}","credit":"{}","balance":30}}"#,
            turnover + 30
        )));
        assert_eq!(serde_json::from_str::<Closing>(&text).expect("a closing"), reckoning.closing);
    }

    #[test]
    fn months_are_closed_in_order_once_and_when_they_are_over() {
        let first = first();
        assert_eq!(first.check(None, time("2026-06-01T00:00:00Z"), 10), Ok(()));
        let early = first.check(None, time("2026-05-31T23:59:59.999999Z"), 10).expect_err("too early");
        assert_eq!(
            early.to_string(),
            "the period 2026-05 is not over before 2026-06-01T00:00:00.000000Z, and cannot be closed"
        );
        let closed = Some(&first.closing);
        let twice = first.check(closed, time(LATER), 30).expect_err("twice");
        assert_eq!(twice, Rejection::AlreadyExists { what: "the closing of 2026-05".into() });
        let second = second(&first.closing);
        assert_eq!(second.check(closed, time(LATER), 30), Ok(()));
        let skipped = second.check(None, time(LATER), 30).expect_err("one is left out");
        assert!(skipped.to_string().contains("waiting for 2026-05 to be closed"), "{skipped}");
        let mut before = first.clone();
        before.closing.month = month("2026-04");
        for closed in [None, closed] {
            let refused = before.check(closed, time(LATER), 30).expect_err("before the books began");
            assert!(refused.to_string().contains("before credits first moved, in 2026-05"), "{refused}");
        }
    }

    #[test]
    fn a_month_must_be_over_by_the_log_and_by_the_clock_of_who_adds_it_up() {
        let early =
            |result: Result<(), Rejection>| result.is_err_and(|no| no.to_string().contains("is not over before"));
        // A clock that was once ten years ahead has left the log there.
        let mut ahead = first();
        ahead.added_up_at = time("2026-05-31T23:59:59.999999Z");
        assert!(early(ahead.check(None, time("2036-01-01T00:00:00Z"), 10)));
        ahead.added_up_at = time("2026-06-01T00:00:00Z");
        assert_eq!(ahead.check(None, time("2036-01-01T00:00:00Z"), 10), Ok(()));
        ahead.added_up_at = time("2036-01-01T00:00:00Z");
        assert!(early(ahead.check(None, time("2026-05-31T23:59:59.999999Z"), 10)));
    }

    #[test]
    fn where_nothing_stands_behind_the_month_nothing_may_have_come_since() {
        let mut quiet = first();
        quiet.followed = false;
        assert_eq!(quiet.check(None, time(LATER), 10), Ok(()));
        assert_eq!(quiet.check(None, time(LATER), 11), Err(Rejection::LogMovedOn {}));
        quiet.followed = true;
        assert_eq!(quiet.check(None, time(LATER), 11), Ok(()));
        assert!(matches!(quiet.check(None, time(LATER), 9), Err(Rejection::Invalid { .. })));
    }

    #[test]
    fn figures_that_do_not_add_up_or_do_not_go_on_are_refused() {
        let base = first().closing;
        let wrong = |change: fn(&mut Totals)| {
            let mut changed = second(&base);
            change(&mut changed.closing.totals);
            changed.check(Some(&base), time(LATER), 30)
        };
        assert_eq!(wrong(|_| {}), Ok(()));
        let refused = |result: Result<(), Rejection>| matches!(result, Err(Rejection::Invalid { .. }));
        assert!(refused(wrong(|totals| totals.get_mut("wallet").expect("wallets").balance += 1)));
        assert!(refused(wrong(|totals| {
            // Equal, but not from where the last closing left it.
            totals.get_mut("wallet").expect("wallets").balance += 1;
            totals.get_mut("platform:revenue").expect("revenue").balance -= 1;
        })));
        assert!(refused(wrong(|totals| {
            totals.get_mut("wallet").expect("wallets").debit += 1;
            totals.get_mut("platform:revenue").expect("revenue").credit += 2;
        })));
        assert!(refused(wrong(|totals| {
            let under_way = AccountTotal { debit: 0, credit: 5, balance: 5 };
            totals.insert("transfers:clearing".into(), under_way);
            let wallet = totals.get_mut("wallet").expect("wallets");
            wallet.debit += 5;
            wallet.balance -= 5;
        })));
        assert!(refused(wrong(|totals| {
            totals.remove("platform:revenue");
        })));
    }
}
