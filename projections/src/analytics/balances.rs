//! What every wallet held after any position, without a look-up a wallet.
//!
//! At each mark ([`super::marks`]) the fold also writes down what everybody holds, a few bytes a reseller. What was held after a
//! position is the mark that lies nearest, mended by the movements between (forwards or backwards) up to the instant of the
//! event at the position, and by the statement lines of that very instant, which say which of them came first.
//!
//! Cost: some ten nanoseconds a reseller and a movement; milliseconds for a hundred thousand resellers, whatever the position.

use aggregates::primitives::{Credits, Timestamp};

use super::Figures;
use super::marks::Mark;
use super::members::Members;
use super::movements::{self, Kind, row_key};
use super::ranking::registered;
use super::standings::{put_signed, take_signed};
use super::trends::first_event;
use crate::sql::{Connection, ViewError};
use crate::{ScopedRead, audit_log};

/// What everybody holds, by ordinal; who is not there holds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balances(Vec<Credits>);

impl Balances {
    fn nothing(resellers: usize) -> Self {
        Self(vec![0; resellers])
    }

    /// Counts a movement, or (`sign` below zero) takes it back.
    pub(super) fn count(&mut self, ordinal: usize, kind: Kind, amount: Credits, sign: i64) {
        let mut figures = Figures::default();
        figures.count(kind, amount);
        if let Some(balance) = self.0.get_mut(ordinal) {
            *balance += sign * figures.net;
        }
    }

    /// The same as it happens: of somebody who may be new.
    pub(super) fn move_credits(&mut self, ordinal: usize, kind: Kind, amount: Credits) {
        if self.0.len() <= ordinal {
            self.0.resize(ordinal + 1, 0);
        }
        self.count(ordinal, kind, amount, 1);
    }

    /// As they are stored, of so many resellers.
    #[must_use]
    pub fn pack(&self, resellers: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(resellers * 3);
        for index in 0..resellers {
            put_signed(&mut bytes, self.0.get(index).copied().unwrap_or_default());
        }
        bytes
    }

    /// Takes in what is stored, before anything else is counted.
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), ViewError> {
        for balance in &mut self.0 {
            if bytes.is_empty() {
                break;
            }
            *balance = take_signed(&mut bytes)?;
        }
        Ok(())
    }

    /// The sum of what these members hold, and of what those of them hold that hold more than nothing.
    ///
    /// # Errors
    /// [`ViewError::Unreadable`] for sums beyond 64 bits, which no ledger has.
    pub fn sums(&self, members: &Members) -> Result<(Credits, Credits), ViewError> {
        let (mut all, mut positive) = (0_i128, 0_i128);
        for (_, balance) in self.0.iter().enumerate().filter(|(ordinal, _)| members.contain(*ordinal)) {
            all += i128::from(*balance);
            positive += i128::from(*balance.max(&0));
        }
        let credits = |sum: i128| Credits::try_from(sum).map_err(ViewError::unreadable);
        Ok((credits(all)?, credits(positive)?))
    }
}

/// What was held at a mark.
async fn at_mark(connection: &mut Connection<'_>, mark: Mark, resellers: usize) -> Result<Balances, ViewError> {
    let mut balances = Balances::nothing(resellers);
    if mark.position > 0 {
        let sql = "select balances from scores where position = $1";
        let row = connection.fetch_one(sql, vec![mark.position.into()]).await?;
        let row = row.ok_or_else(|| ViewError::unreadable(format!("there is no mark at {}", mark.position)))?;
        balances.read(row.columns().slice()?)?;
    }
    Ok(balances)
}

/// What everybody holds after all that has been folded.
///
/// # Errors
/// What the database says.
pub(super) async fn latest(connection: &mut Connection<'_>) -> Result<Balances, ViewError> {
    let resellers = registered(connection).await?;
    let Some(first) = first_event(connection).await? else { return Ok(Balances::nothing(resellers)) };
    let last = Mark::all(connection, first).await?.pop().unwrap_or(Mark { before: first, position: 0 });
    let mut balances = at_mark(connection, last, resellers).await?;
    let (stretch, blocks) = ((last.before, Timestamp::MAX), (last.block(), i64::MAX));
    movements::scan(connection, stretch, blocks, |ordinal, kind, amount| balances.count(ordinal, kind, amount, 1))
        .await?;
    Ok(balances)
}

/// What everybody held after the event at a position, which must not lie beyond the read. Of a reseller that is not in sight it
/// says nothing that is right: sum up those who are.
///
/// # Errors
/// What the database says.
pub async fn at(read: &mut ScopedRead, position: u64) -> Result<Balances, ViewError> {
    let resellers = registered(&mut read.connection()).await?;
    let first = first_event(&mut read.connection()).await?;
    let time = audit_log::recorded_at(read.unscoped(), position).await?;
    // Before the first registration nobody is there to hold anything.
    let Some((first, time)) = first.zip(time).filter(|(first, time)| first <= time) else {
        return Ok(Balances::nothing(resellers));
    };
    let first_of_instant = audit_log::position_before(read.unscoped(), time).await? + 1;
    let mut connection = read.connection();
    // What those who are not in sight hold is counted too, and left out by whoever sums up.
    connection.show_packed(true).await?;
    let marks = Mark::all(&mut connection, first).await?;
    let near = marks.into_iter().min_by_key(|mark| mark.position.abs_diff(position));
    let near = near.unwrap_or(Mark { before: first, position: 0 });
    let mut balances = at_mark(&mut connection, near, resellers).await?;
    // All that was recorded before the instant, and nothing of it.
    let block = row_key(first_of_instant, time).1;
    let (stretch, blocks, sign) = if near.before <= time {
        ((near.before, time), (near.block(), block), 1)
    } else {
        ((time, near.before), (block, near.block()), -1)
    };
    movements::scan(&mut connection, stretch, blocks, |ordinal, kind, amount| {
        balances.count(ordinal, kind, amount, sign);
    })
    .await?;
    connection.show_packed(false).await?;
    // Of the instant itself, which may be that of many events, those up to the position.
    let sql = "select m.ordinal, t.amount from transactions t join analytics_members m on m.reseller_id = t.reseller_id \
               where t.position >= $1 and t.position <= $2";
    connection
        .for_each(sql, vec![first_of_instant.into(), position.into()], |row| {
            let mut columns = row.columns();
            let ordinal = usize::try_from(columns.integer()?).map_err(ViewError::unreadable)?;
            let amount = columns.integer()?;
            if let Some(balance) = balances.0.get_mut(ordinal) {
                *balance += amount;
            }
            Ok(true)
        })
        .await?;
    Ok(balances)
}
