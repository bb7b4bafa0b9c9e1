//! Every movement of credits and every client taken on, packed into a few bytes: exact where a day is too coarse.
//!
//! Reading costs about ten nanoseconds a movement and one look-up an hour of history; nothing is read that lies more than an
//! hour outside of what is asked for.

use std::collections::BTreeMap;

use aggregates::client::ClientEvent;
use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Credits, ResellerId, Timestamp};
use aggregates::wallet::WalletEvent;

use super::Figures;
use super::members::Members;
use crate::batch::LogEvent;
use crate::sql::{Connection, Value, ViewError};

/// Microseconds in an hour.
const HOUR_MICROS: i64 = 3_600_000_000;
/// How many positions of the log a row covers at most.
const BLOCK_POSITIONS: u64 = 4_096;

/// What moved. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the wallet's events say what each is
pub enum Kind {
    Added = 1,
    Removed = 2,
    Provisioned = 3,
    Refunded = 4,
    TransferredOut = 5,
    TransferredIn = 6,
    CommissionEarned = 7,
    CommissionReversed = 8,
    Onboarded = 9,
}

impl Kind {
    #[inline]
    fn of_code(code: u8) -> Result<Self, ViewError> {
        const ALL: [Kind; 9] = [
            Kind::Added,
            Kind::Removed,
            Kind::Provisioned,
            Kind::Refunded,
            Kind::TransferredOut,
            Kind::TransferredIn,
            Kind::CommissionEarned,
            Kind::CommissionReversed,
            Kind::Onboarded,
        ];
        let index = usize::from(code).wrapping_sub(1);
        ALL.get(index).copied().ok_or_else(|| ViewError::unreadable("a movement of an unknown kind"))
    }
}

/// What an event moves, and whose it is; `None` where it moves nothing. The one place that says which event counts as what.
#[must_use]
pub fn movement_of(logged: &LogEvent) -> Option<(ResellerId, Kind, Credits)> {
    match (&logged.key, &logged.event) {
        (AggregateKey::Wallet(reseller), Event::Wallet(event)) => {
            let (kind, amount) = match event {
                WalletEvent::CreditsAdded { amount, .. } => (Kind::Added, *amount),
                WalletEvent::CreditsRemoved { amount, .. } => (Kind::Removed, *amount),
                WalletEvent::Provisioned { provision, .. } => (Kind::Provisioned, provision.amount),
                WalletEvent::ProvisionRefunded { amount, .. } => (Kind::Refunded, *amount),
                WalletEvent::CreditsTransferredOut { amount, .. } => (Kind::TransferredOut, *amount),
                WalletEvent::CreditsTransferredIn { amount, .. } => (Kind::TransferredIn, *amount),
                WalletEvent::CommissionEarned { amount, .. } => (Kind::CommissionEarned, *amount),
                WalletEvent::CommissionReversed { amount, .. } => (Kind::CommissionReversed, *amount),
                WalletEvent::WalletOpened { .. }
                | WalletEvent::LowCreditThresholdSet { .. }
                | WalletEvent::CreditLimitSet { .. }
                | WalletEvent::ProvisioningHeld { .. }
                | WalletEvent::ProvisioningResumed { .. }
                | WalletEvent::LowCredit { .. } => return None,
            };
            Some((*reseller, kind, amount))
        }
        (_, Event::Client(ClientEvent::ClientOnboarded { owner, .. })) => Some((*owner, Kind::Onboarded, 1)),
        _ => None,
    }
}

/// Which row of movements: the hour, and the stretch of the log. They are in the order of both.
pub type RowKey = (i64, i64);

/// The row that an event belongs to.
#[must_use]
pub fn row_key(position: u64, time: Timestamp) -> RowKey {
    (time.micros().div_euclid(HOUR_MICROS), i64::try_from(position / BLOCK_POSITIONS).unwrap_or(i64::MAX))
}

/// When the hour of a row begins.
#[must_use]
pub(super) fn begins((hour, _): RowKey) -> Timestamp {
    Timestamp::from_micros(hour.saturating_mul(HOUR_MICROS))
}

/// One row of movements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Microseconds into the hour of the last one.
    pub ends_micros: i64,
    /// The bytes.
    pub entries: Vec<u8>,
}

impl Packed {
    /// Appends one; times never go back.
    pub fn push(&mut self, time: Timestamp, ordinal: u64, kind: Kind, amount: Credits) {
        let micros = time.micros().rem_euclid(HOUR_MICROS);
        put_number(&mut self.entries, u64::try_from(micros - self.ends_micros).unwrap_or(0));
        self.ends_micros = micros.max(self.ends_micros);
        put_number(&mut self.entries, ordinal);
        self.entries.push(kind as u8);
        // Amounts of events are never below zero.
        put_number(&mut self.entries, u64::try_from(amount).unwrap_or(0));
    }
}

pub(super) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Called four times for each movement, from loops in which all but it is a few instructions.
#[inline(always)]
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    if *first < 0x80 {
        return Some(u64::from(*first));
    }
    let (mut number, mut shift) = (u64::from(first & 0x7f), 7);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}

/// Reads all entries of a row that begin in the hour `hour`.
///
/// # Errors
/// Bytes that are no movements.
pub fn unpack(hour: i64, mut entries: &[u8], mut each: impl FnMut(i64, usize, Kind, Credits)) -> Result<(), ViewError> {
    let cut = || ViewError::unreadable("movements that end in the middle of one");
    let mut micros = hour.saturating_mul(HOUR_MICROS);
    while !entries.is_empty() {
        let passed = take_number(&mut entries).ok_or_else(cut)?;
        let ordinal = take_number(&mut entries).ok_or_else(cut)?;
        let (code, rest) = entries.split_first().ok_or_else(cut)?;
        entries = rest;
        let amount = take_number(&mut entries).ok_or_else(cut)?;
        micros = micros.saturating_add_unsigned(passed);
        let ordinal = usize::try_from(ordinal).map_err(ViewError::unreadable)?;
        each(micros, ordinal, Kind::of_code(*code)?, i64::try_from(amount).map_err(ViewError::unreadable)?);
    }
    Ok(())
}

/// When the last movement was recorded.
///
/// # Errors
/// What the database says.
pub async fn last(connection: &mut Connection<'_>) -> Result<Option<Timestamp>, ViewError> {
    let sql = "select hour, ends_micros from movements order by hour desc, block desc limit 1";
    let Some(row) = connection.fetch_one(sql, Vec::new()).await? else { return Ok(None) };
    let mut columns = row.columns();
    let (hour, micros) = (columns.integer()?, columns.integer()?);
    Ok(Some(Timestamp::from_micros(hour.saturating_mul(HOUR_MICROS).saturating_add(micros))))
}

/// The last row, and when the last movement was recorded that stands before it. All rows but the last are as they will be.
pub(super) async fn before_the_last_row(
    connection: &mut Connection<'_>,
) -> Result<Option<(RowKey, Timestamp)>, ViewError> {
    let sql = "select hour, block, ends_micros from movements order by hour desc, block desc limit 2";
    let rows = connection.fetch(sql, Vec::new()).await?;
    let [last, former] = rows.as_slice() else { return Ok(None) };
    let mut columns = last.columns();
    let last = (columns.integer()?, columns.integer()?);
    let mut columns = former.columns();
    let former = (columns.integer()?, columns.integer()?);
    let ends = begins(former).micros().saturating_add(columns.integer()?);
    Ok(Some((last, Timestamp::from_micros(ends))))
}

/// Hands on every movement from `from` up to, not including, `to`, in order. All of them are known to lie in these stretches
/// of the log ([`row_key`]), both included: nothing else of the hours is read.
///
/// # Errors
/// What the database says.
pub async fn scan(
    connection: &mut Connection<'_>,
    (from, to): (Timestamp, Timestamp),
    (first_block, last_block): (i64, i64),
    mut each: impl FnMut(usize, Kind, Credits) + Send,
) -> Result<(), ViewError> {
    let last = to.micros().saturating_sub(1).div_euclid(HOUR_MICROS);
    let (from, to) = (from.micros(), to.micros());
    connection
        .for_each(
            "select hour, entries from movements where (hour, block) >= ($1, $2) and (hour, block) <= ($3, $4) \
             order by hour, block",
            vec![from.div_euclid(HOUR_MICROS).into(), first_block.into(), last.into(), last_block.into()],
            |row| {
                let mut columns = row.columns();
                let hour = columns.integer()?;
                unpack(hour, columns.slice()?, |micros, ordinal, kind, amount| {
                    if micros >= from && micros < to {
                        each(ordinal, kind, amount);
                    }
                })?;
                Ok(true)
            },
        )
        .await
}

/// What the members did in each stretch of time, from its first instant up to, not including, its second. The stretches lie in
/// order and do not last longer than a day; all are read by one query.
///
/// # Errors
/// What the database says.
pub async fn figures(
    connection: &mut Connection<'_>,
    members: &Members,
    stretches: &[(Timestamp, Timestamp)],
) -> Result<Vec<Figures>, ViewError> {
    let mut by_hour: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (index, (from, to)) in stretches.iter().enumerate() {
        let last = to.micros().saturating_sub(1).div_euclid(HOUR_MICROS);
        for hour in from.micros().div_euclid(HOUR_MICROS)..=last {
            by_hour.entry(hour).or_default().push(index);
        }
    }
    let hours: Vec<i64> = by_hour.keys().copied().collect();
    let mut sums = vec![Figures::default(); stretches.len()];
    let of_hours = connection.dialect().one_of("hour", 1);
    connection
        .for_each(
            &format!("select hour, entries from movements where {of_hours}"),
            vec![Value::integers(hours)],
            |row| {
                let mut columns = row.columns();
                let hour = columns.integer()?;
                let within = by_hour.get(&hour).map_or(&[][..], Vec::as_slice);
                unpack(hour, columns.slice()?, |micros, ordinal, kind, amount| {
                    if !members.contain(ordinal) {
                        return;
                    }
                    for index in within {
                        let (from, to) = stretches[*index];
                        if micros >= from.micros() && micros < to.micros() {
                            sums[*index].count(kind, amount);
                        }
                    }
                })?;
                Ok(true)
            },
        )
        .await?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let mut packed = Packed::default();
        let hour = 497_376;
        let all = [
            (0, 0, Kind::Added, 0),
            (0, 127, Kind::Provisioned, 128),
            (5, 100_000, Kind::CommissionReversed, 9_007_199_254_740_991),
            (HOUR_MICROS - 1, 3, Kind::Onboarded, 1),
        ];
        for (micros, ordinal, kind, amount) in all {
            packed.push(Timestamp::from_micros(hour * HOUR_MICROS + micros), ordinal, kind, amount);
        }
        let mut seen = Vec::new();
        unpack(hour, &packed.entries, |micros, ordinal, kind, amount| {
            seen.push((micros - hour * HOUR_MICROS, ordinal as u64, kind, amount));
        })
        .expect("movements");
        assert_eq!(seen, all);
        assert!(unpack(hour, &packed.entries[..packed.entries.len() - 1], |_, _, _, _| ()).is_err());
        assert!(unpack(hour, &[0, 0, 99, 1], |_, _, _, _| ()).is_err());
        assert!(unpack(hour, &[0x80; 12], |_, _, _, _| ()).is_err());
    }
}
