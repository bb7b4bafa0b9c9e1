//! What each reseller held as of a position, in order of registration.

use aggregates::primitives::{Credits, ResellerId};

use super::{Named, Whose, balance_at, in_sight, named, whose_value};
use crate::ScopedRead;
use crate::sql::{Row, ViewError};
use crate::statement_lines::last_line;

/// What a reseller held. One that had no wallet, or whose wallet had not moved, held nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Who, as it was called then.
    pub reseller: Named,
    /// How many credits.
    pub balance: Credits,
    /// How far below zero provisioning might go; `None` where it had no wallet.
    pub credit_limit: Option<Credits>,
    /// The position of the last movement; `None` where there was none.
    pub last_position: Option<u64>,
}

impl Holding {
    fn read(row: &Row) -> Result<Self, ViewError> {
        let mut columns = row.columns();
        Ok(Self {
            reseller: Named::read(&mut columns)?,
            balance: columns.integer()?,
            credit_limit: columns.integer_or_null()?,
            last_position: columns.count_or_null()?,
        })
    }
}

/// What resellers held after the event at `position`: of those registered by then, and after the position `registered_after`,
/// the first `limit`.
///
/// What was reserved is no column of it: no event of this version reserves anything.
///
/// # Errors
/// What the database says.
pub async fn holdings(
    read: &mut ScopedRead,
    whose: Whose,
    position: u64,
    registered_after: u64,
    limit: u32,
) -> Result<Vec<Holding>, ViewError> {
    let balance = balance_at("$3");
    let limit_then = "(select w.credit_limit from wallet_terms w where w.reseller_id = r.reseller_id and w.position <= $3 \
                      order by w.position desc limit 1)";
    let last = last_line("position", "r.reseller_id", "$3");
    let sql = named(read, whose, &[&balance, limit_then, &last], "$6");
    let values = read.range_and([position.into(), registered_after.into(), limit.into(), whose_value(whose)]);
    let rows = read.connection().fetch(&sql, values).await?;
    rows.iter().map(Holding::read).collect()
}

/// What all in sight held together.
///
/// # Errors
/// What the database says.
pub async fn total(read: &mut ScopedRead, position: u64) -> Result<Credits, ViewError> {
    let sql = format!(
        "select cast(coalesce(sum(held.balance), 0) as bigint) from (select {balance} as balance from resellers r \
         where r.position <= $3{in_sight}) held",
        balance = balance_at("$3"),
        in_sight = in_sight(read, None, ""),
    );
    let values = read.range_and([position.into()]);
    let row = read.connection().fetch_one(&sql, values).await?;
    row.map_or(Ok(0), |row| row.columns().integer())
}

/// When a reseller was registered: its place in the order of all reports; `None` where it is not in sight.
///
/// # Errors
/// What the database says.
pub async fn registered(read: &mut ScopedRead, reseller: ResellerId) -> Result<Option<u64>, ViewError> {
    let values = read.range_and([crate::sql::Value::text(reseller)]);
    let row = read
        .connection()
        .fetch_one("select position from resellers where path >= $1 and path < $2 and reseller_id = $3", values)
        .await?;
    row.map(|row| row.columns().count()).transpose()
}
