//! What each reseller held as of a position, in order of registration.

use aggregates::primitives::{Credits, ResellerId};

use super::{NAME_THEN, Whose, balance_at, in_sight, whose_value};
use crate::ScopedRead;
use crate::sql::{Row, ViewError};

/// What a reseller held. One that had no wallet, or whose wallet had not moved, held nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The position of its registration.
    pub registered: u64,
    /// Who.
    pub reseller_id: ResellerId,
    /// Its public reference.
    pub refid: String,
    /// What it was called then.
    pub company_name: String,
    /// How many credits.
    pub balance: Credits,
    /// The position of the last movement; `None` where there was none.
    pub last_position: Option<u64>,
}

impl Holding {
    fn read(row: &Row) -> Result<Self, ViewError> {
        let mut columns = row.columns();
        Ok(Self {
            registered: columns.count()?,
            reseller_id: columns.parse()?,
            refid: columns.string()?,
            company_name: columns.string()?,
            balance: columns.integer()?,
            last_position: columns.integer_or_null()?.map(u64::try_from).transpose().map_err(ViewError::unreadable)?,
        })
    }
}

/// What resellers held after the event at `position`: of those registered by then, and after the position `registered_after`,
/// the first `limit`.
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
    let sql = format!(
        "select r.position, r.reseller_id, r.refid, {NAME_THEN}, {balance}, \
         (select max(t.position) from transactions t where t.reseller_id = r.reseller_id and t.position <= $3) \
         from resellers r where r.position > $4 and r.position <= $3{in_sight} order by r.position limit $5",
        balance = balance_at("$3"),
        in_sight = in_sight(read, whose, "$6"),
    );
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
