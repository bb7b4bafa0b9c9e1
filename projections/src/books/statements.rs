//! How what resellers held came about between two positions: opening, movements by kind, closing.
//!
//! Opening and closing are what the last event up to either position carries; the movements are summed on their own. Where the
//! three do not agree there is no statement but an error: a report that does not add up is not handed out. Sums are exact; what
//! of a kind lies beyond 64 bits (turnover has no bound) is shown as the end of them.

use std::collections::{BTreeMap, BTreeSet};

use aggregates::primitives::Credits;

use super::{Named, Stretch, Whose, in_sight, named, whose_value};
use crate::ScopedRead;
use crate::sql::{Row, ViewError, exact_sum, saturated};
use crate::statement_lines::between_and_before;

/// What moved a wallet, by kind; signed, so that opening and movements add up to closing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // DOMAIN's words
pub struct Movements {
    pub added_purchase: Credits,
    pub added_bonus: Credits,
    pub added_referral: Credits,
    pub added_adjustment: Credits,
    pub removed_chargeback: Credits,
    pub removed_correction: Credits,
    pub provisioned: Credits,
    pub refunded: Credits,
    pub commissions_earned: Credits,
    pub commissions_reversed: Credits,
    pub transferred_in: Credits,
    pub transferred_out: Credits,
    /// How many lines.
    pub lines: u64,
    /// All of them together, exactly.
    sum: i128,
}

impl Movements {
    /// Each kind with its name, in the order in which statements show them.
    #[must_use]
    pub fn by_kind(&self) -> [(&'static str, Credits); 12] {
        [
            ("added_purchase", self.added_purchase),
            ("added_bonus", self.added_bonus),
            ("added_referral", self.added_referral),
            ("added_adjustment", self.added_adjustment),
            ("removed_chargeback", self.removed_chargeback),
            ("removed_correction", self.removed_correction),
            ("provisioned", self.provisioned),
            ("refunded", self.refunded),
            ("commissions_earned", self.commissions_earned),
            ("commissions_reversed", self.commissions_reversed),
            ("transferred_in", self.transferred_in),
            ("transferred_out", self.transferred_out),
        ]
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> i128 {
        self.sum
    }

    /// Takes in the sum of a kind of lines.
    fn take(&mut self, kind: &str, source: Option<&str>, sum: i128, lines: u64) -> Result<(), ViewError> {
        let place = match (kind, source) {
            ("credits_added", Some("purchase")) => &mut self.added_purchase,
            ("credits_added", Some("bonus")) => &mut self.added_bonus,
            ("credits_added", Some("referral")) => &mut self.added_referral,
            ("credits_added", Some("adjustment")) => &mut self.added_adjustment,
            ("credits_removed", Some("chargeback")) => &mut self.removed_chargeback,
            ("credits_removed", Some("correction")) => &mut self.removed_correction,
            ("provisioned", _) => &mut self.provisioned,
            ("provision_refunded", _) => &mut self.refunded,
            ("commission_earned", _) => &mut self.commissions_earned,
            ("commission_reversed", _) => &mut self.commissions_reversed,
            ("credits_transferred_in", _) => &mut self.transferred_in,
            ("credits_transferred_out", _) => &mut self.transferred_out,
            (kind, source) => {
                return Err(ViewError::unreadable(format!(
                    "a line of kind {kind} ({source:?}) has no place in a statement"
                )));
            }
        };
        *place = place.saturating_add(saturated(sum));
        self.sum += sum;
        self.lines += lines;
        Ok(())
    }
}

/// One reseller's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Whose, as it was called at the end.
    pub reseller: Named,
    /// What it held before.
    pub opening: Credits,
    /// What moved it.
    pub movements: Movements,
    /// What it held in the end.
    pub closing: Credits,
}

impl Statement {
    /// Of whom; what it held and what moved it is read afterwards.
    fn read(row: &Row) -> Result<Self, ViewError> {
        let mut columns = row.columns();
        Ok(Self { reseller: Named::read(&mut columns)?, opening: 0, closing: 0, movements: Movements::default() })
    }

    fn check(&self) -> Result<(), ViewError> {
        if i128::from(self.opening) + self.movements.sum() == i128::from(self.closing) {
            return Ok(());
        }
        Err(ViewError::unreadable(format!(
            "the books of reseller {} do not agree: {} and movements of {} are not {}",
            self.reseller.reseller_id,
            self.opening,
            self.movements.sum(),
            self.closing
        )))
    }
}

/// Where the last lines up to either end of a stretch stand.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    opening: Option<u64>,
    closing: Option<u64>,
}

/// The statements of a stretch: of resellers registered by its end, and after the position `registered_after`, the first
/// `limit`.
///
/// # Errors
/// What the database says, or that the books do not agree.
pub async fn statements(
    read: &mut ScopedRead,
    whose: Whose,
    stretch: Stretch,
    registered_after: u64,
    limit: u32,
) -> Result<Vec<Statement>, ViewError> {
    let sql = named(read, whose, &[], "$6");
    let values = read.range_and([stretch.until.into(), registered_after.into(), limit.into(), whose_value(whose)]);
    let rows = read.connection().fetch(&sql, values).await?;
    let mut statements: Vec<Statement> = rows.iter().map(Statement::read).collect::<Result<_, _>>()?;
    let Some(last) = statements.last().map(|statement| statement.reseller.registered) else { return Ok(statements) };

    let dialect = read.connection().dialect();
    let whose_page = format!("r.position > $4 and r.position <= $5{}", in_sight(read, whose, "$7"));
    let values = read.range_and([
        stretch.until.into(),
        registered_after.into(),
        last.into(),
        stretch.after.into(),
        whose_value(whose),
    ]);
    // The line before the stretch comes with those in it: what either end of it held stands in the last line up to there.
    let columns = ["kind", "source", "amount"];
    let sql = format!(
        "select t.registered, t.is_within, t.kind, t.source, {sum}, count(*), max(t.position) from \
         (select l.*, case when l.position > $6 then 1 else 0 end as is_within from {lines} l) t \
         group by t.registered, t.is_within, t.kind, t.source order by t.registered",
        sum = exact_sum("t.amount"),
        lines = between_and_before(dialect, &whose_page, &columns, ("$6", "$3")),
    );
    let mut ends = vec![Ends::default(); statements.len()];
    let mut next = 0;
    for row in read.connection().fetch(&sql, values).await? {
        let mut columns = row.columns();
        let registered = columns.count()?;
        while statements.get(next).is_some_and(|statement| statement.reseller.registered < registered) {
            next += 1;
        }
        let (statement, ends) = statements
            .get_mut(next)
            .zip(ends.get_mut(next))
            .filter(|(statement, _)| statement.reseller.registered == registered)
            .ok_or_else(|| ViewError::unreadable("movements of a reseller that is not there"))?;
        let is_within = columns.boolean()?;
        let (kind, source) = (columns.str()?, columns.str_or_null()?);
        let (sum, lines, last) = (columns.exact_sum()?, columns.count()?, columns.count()?);
        ends.closing = ends.closing.max(Some(last));
        if is_within {
            statement.movements.take(kind, source, sum, lines)?;
        } else {
            ends.opening = Some(last);
        }
    }
    let positions: BTreeSet<u64> = ends.iter().flat_map(|ends| [ends.opening, ends.closing]).flatten().collect();
    let sql = "select position, balance from transactions where position in";
    let mut balances = BTreeMap::new();
    for row in read.connection().fetch_by_numbers(sql, &positions).await? {
        let mut columns = row.columns();
        balances.insert(columns.count()?, columns.integer()?);
    }
    // A wallet without a line held nothing.
    let held = |position: Option<u64>| match position {
        None => Ok(0),
        Some(position) => balances.get(&position).copied().ok_or_else(|| ViewError::unreadable("a line that is gone")),
    };
    for (statement, Ends { opening, closing }) in statements.iter_mut().zip(ends) {
        (statement.opening, statement.closing) = (held(opening)?, held(closing)?);
    }
    for statement in &statements {
        statement.check()?;
    }
    Ok(statements)
}
