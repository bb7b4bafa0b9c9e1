//! The rows of an export, page by page.

use aggregates::month::Month;
use aggregates::platform::Policy;
use aggregates::primitives::{Credits, ResellerId, Timestamp};
use projections::books::holdings::{self, Holding};
use projections::books::lines::{self, Line, Which};
use projections::books::statements::{self, Statement};
use projections::books::{Stretch, Whose};
use projections::sql::ViewError;
use projections::{ScopedRead, audit_log, policy};

use super::cells::{Cell, Column};
use super::cursor::Key;
use super::sheet::Sheet;
use super::{ExportError, Kind, Order, SheetError};

/// How many positions of the log a page of lines covers.
const LINES_PAGE: u64 = 16_384;
/// How many resellers a page covers.
const RESELLERS_PAGE: u32 = 500;

const TRANSACTIONS: &[Column] = &[
    Column::integer("position"),
    Column::time("recorded_at"),
    Column::text("transaction_id"),
    Column::text("reseller_id"),
    Column::integer("sequence"),
    Column::text("kind"),
    Column::integer("amount"),
    Column::integer("balance"),
    Column::text("source"),
    Column::text("reference"),
    Column::text("note"),
    Column::text("counterparty_id"),
    Column::text("client_id"),
    Column::text("provision_id"),
    Column::text("transfer_id"),
    Column::text("refund_id"),
];

const COMMISSIONS: &[Column] = &[
    Column::integer("position"),
    Column::time("recorded_at"),
    Column::text("transaction_id"),
    Column::text("kind"),
    Column::text("reseller_id"),
    Column::text("seller_id"),
    Column::text("provision_id"),
    Column::text("refund_id"),
    Column::integer("amount"),
    Column::integer("balance"),
];

const BALANCES: &[Column] = &[
    Column::text("reseller_id"),
    Column::text("refid"),
    Column::text("company_name"),
    Column::integer("balance"),
    Column::integer("credit_limit"),
    Column::money("amount"),
    Column::text("currency"),
    Column::integer("last_position"),
    Column::integer("as_of_position"),
    Column::time("as_of"),
];

const STATEMENTS: &[Column] = &[
    Column::text("month"),
    Column::text("reseller_id"),
    Column::text("refid"),
    Column::text("company_name"),
    Column::integer("opening"),
    Column::integer("added_purchase"),
    Column::integer("added_bonus"),
    Column::integer("added_referral"),
    Column::integer("added_adjustment"),
    Column::integer("removed_chargeback"),
    Column::integer("removed_correction"),
    Column::integer("provisioned"),
    Column::integer("refunded"),
    Column::integer("commissions_earned"),
    Column::integer("commissions_reversed"),
    Column::integer("transferred_in"),
    Column::integer("transferred_out"),
    Column::integer("closing"),
    Column::integer("lines"),
    Column::money("closing_amount"),
    Column::text("currency"),
];

/// The beginning and the end of what is ordered, where they are.
type Range = (Option<Timestamp>, Option<Timestamp>);

/// A month of statements.
#[derive(Debug)]
struct Period {
    month: Month,
    stretch: Stretch,
    /// In force at its end.
    policy: Policy,
}

/// What is read, and how far.
#[derive(Debug)]
enum Source {
    Lines { which: Which, stretch: Stretch, done: u64, last: Option<u64> },
    Holdings { position: u64, as_of: String, policy: Policy, registered: u64, last: Option<ResellerId> },
    Statements { periods: Vec<Period>, current: usize, registered: u64, last: Option<(Month, ResellerId)> },
}

/// The rows of an export, from wherever it goes on.
#[derive(Debug)]
pub(super) struct Rows {
    whose: Whose,
    source: Source,
    count: u64,
}

impl Rows {
    pub(super) async fn open(
        read: &mut ScopedRead,
        order: &Order,
        range: Range,
        stretch: Stretch,
        as_of: Timestamp,
        resumed: Option<Key>,
    ) -> Result<Self, ExportError> {
        let source = match order.kind {
            Kind::Transactions | Kind::Commissions => {
                let which = if order.kind == Kind::Transactions { Which::All } else { Which::Commissions };
                let last = match resumed {
                    Some(Key::Line(line)) if !(stretch.after..=stretch.until).contains(&line) => {
                        return Err(ViewError::InvalidCursor.into());
                    }
                    Some(Key::Line(line)) => Some(line),
                    _ => None,
                };
                Source::Lines { which, stretch, done: last.unwrap_or(stretch.after), last }
            }
            Kind::Balances => {
                let last = match resumed {
                    Some(Key::Reseller(reseller)) => Some(reseller),
                    _ => None,
                };
                let registered = match last {
                    Some(reseller) => registered(read, reseller).await?,
                    None => 0,
                };
                let policy = policy::at(&mut read.connection(), stretch.until).await?;
                Source::Holdings { position: stretch.until, as_of: as_of.to_string(), policy, registered, last }
            }
            Kind::Statements | Kind::Journal => {
                let periods = periods(read, range, stretch.until, as_of).await?;
                let (mut current, mut first, mut last) = (0, 0, None);
                if let Some(Key::Statement(month, reseller)) = resumed {
                    current =
                        periods.iter().position(|period| period.month == month).ok_or(ViewError::InvalidCursor)?;
                    first = registered(read, reseller).await?;
                    last = Some((month, reseller));
                }
                Source::Statements { periods, current, registered: first, last }
            }
        };
        Ok(Self { whose: order.reseller, source, count: 0 })
    }

    pub(super) fn columns(&self) -> &'static [Column] {
        match &self.source {
            Source::Lines { which: Which::All, .. } => TRANSACTIONS,
            Source::Lines { which: Which::Commissions, .. } => COMMISSIONS,
            Source::Holdings { .. } => BALANCES,
            Source::Statements { .. } => STATEMENTS,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// In positions of the log; for statements as often as there are months.
    pub(super) fn progress(&self) -> (u64, u64) {
        match &self.source {
            Source::Lines { stretch, done, .. } => (done.saturating_sub(stretch.after), stretch.until - stretch.after),
            Source::Holdings { position, registered, .. } => (*registered, *position),
            Source::Statements { periods, current, registered, .. } => {
                let ends = periods.iter().map(|period| period.stretch.until);
                (ends.clone().take(*current).sum::<u64>() + registered, ends.sum())
            }
        }
    }

    /// The key of the last row.
    pub(super) fn key(&self) -> Option<Key> {
        match &self.source {
            Source::Lines { last, .. } => last.map(Key::Line),
            Source::Holdings { last, .. } => last.map(Key::Reseller),
            Source::Statements { last, .. } => last.map(|(month, reseller)| Key::Statement(month, reseller)),
        }
    }

    /// Writes the next page. Whether there may be more.
    pub(super) async fn next(&mut self, read: &mut ScopedRead, sheet: &mut dyn Sheet) -> Result<bool, ExportError> {
        let Self { whose, source, count } = self;
        match source {
            Source::Lines { which, stretch, done, last } => {
                let until = done.saturating_add(LINES_PAGE).min(stretch.until);
                let mut failed: Option<SheetError> = None;
                let read = lines::lines(read, *which, *whose, Stretch { after: *done, until }, |line| {
                    let written = match which {
                        Which::All => sheet.row(&transaction(line)),
                        Which::Commissions => sheet.row(&commission(line)),
                    };
                    *last = Some(line.position);
                    *count += 1;
                    written.map_err(|error| {
                        let told = ViewError::unreadable(&error);
                        failed = Some(error);
                        told
                    })
                })
                .await;
                if let Some(error) = failed {
                    return Err(error.into());
                }
                read?;
                *done = until;
                Ok(until < stretch.until)
            }
            Source::Holdings { position, as_of, policy, registered, last } => {
                let page = holdings::holdings(read, *whose, *position, *registered, RESELLERS_PAGE).await?;
                for holding in &page {
                    sheet.row(&balance(holding, policy, *position, as_of))?;
                    *registered = holding.reseller.registered;
                    *last = Some(holding.reseller.reseller_id);
                    *count += 1;
                }
                Ok(is_full(&page))
            }
            Source::Statements { periods, current, registered, last } => {
                let Some(period) = periods.get(*current) else { return Ok(false) };
                let page = statements::statements(read, *whose, period.stretch, *registered, RESELLERS_PAGE).await?;
                let month = period.month.to_string();
                for statement in &page {
                    sheet.row(&monthly(&month, statement, &period.policy))?;
                    *registered = statement.reseller.registered;
                    *last = Some((period.month, statement.reseller.reseller_id));
                    *count += 1;
                }
                if !is_full(&page) {
                    *current += 1;
                    *registered = 0;
                }
                Ok(*current < periods.len())
            }
        }
    }
}

fn is_full<T>(page: &[T]) -> bool {
    u32::try_from(page.len()).is_ok_and(|rows| rows >= RESELLERS_PAGE)
}

/// Where a reseller that a cursor names stands in the order of all.
async fn registered(read: &mut ScopedRead, reseller: ResellerId) -> Result<u64, ViewError> {
    holdings::registered(read, reseller).await?.ok_or(ViewError::InvalidCursor)
}

/// The months of an order of statements, as far as there is anything in the log.
async fn periods(
    read: &mut ScopedRead,
    (from, to): Range,
    position: u64,
    as_of: Timestamp,
) -> Result<Vec<Period>, ExportError> {
    let whole = |time: Timestamp| Month::of(time).start() == time;
    for (parameter, time) in [("from", from), ("to", to)] {
        if time.is_some_and(|time| !whole(time) && time != Timestamp::MAX) {
            return Err(ExportError::invalid(parameter, "statements are of whole months: from a first day to a last"));
        }
    }
    let Some(first) = audit_log::recorded_at(read.unscoped(), 1).await? else { return Ok(Vec::new()) };
    let from = from.unwrap_or(first).max(Month::of(first).start());
    // The month of the last event is shown as far as it has come, unless it is not asked for.
    let to = to.unwrap_or(Timestamp::MAX).min(Month::of(as_of).end());
    let mut periods = Vec::new();
    for month in months(from, to) {
        let after = audit_log::position_before(read.unscoped(), month.start()).await?.min(position);
        let until = audit_log::position_before(read.unscoped(), month.end()).await?.min(position);
        let policy = policy::at(&mut read.connection(), until).await?;
        periods.push(Period { month, stretch: Stretch { after, until }, policy });
    }
    Ok(periods)
}

/// The months from one instant up to another.
fn months(from: Timestamp, to: Timestamp) -> impl Iterator<Item = Month> {
    std::iter::successors(Some(Month::of(from)), |month| month.next()).take_while(move |month| month.start() < to)
}

fn transaction<'a>(line: &'a Line<'_>) -> [Cell<'a>; 16] {
    [
        Cell::count(line.position),
        Cell::Time(line.recorded_at),
        Cell::Text(line.transaction_id),
        Cell::Text(line.reseller_id),
        Cell::count(line.sequence),
        Cell::Text(line.kind),
        Cell::Integer(line.amount),
        Cell::Integer(line.balance),
        Cell::text(line.source),
        Cell::text(&line.reference),
        Cell::text(&line.note),
        Cell::text(line.counterparty_id),
        Cell::text(line.client_id),
        Cell::text(line.provision_id),
        Cell::text(line.transfer_id),
        Cell::text(line.refund_id),
    ]
}

fn commission<'a>(line: &'a Line<'_>) -> [Cell<'a>; 10] {
    [
        Cell::count(line.position),
        Cell::Time(line.recorded_at),
        Cell::Text(line.transaction_id),
        Cell::Text(line.kind),
        Cell::Text(line.reseller_id),
        Cell::text(line.counterparty_id),
        Cell::text(line.provision_id),
        Cell::text(line.refund_id),
        Cell::Integer(line.amount),
        Cell::Integer(line.balance),
    ]
}

fn balance<'a>(holding: &'a Holding, policy: &'a Policy, position: u64, as_of: &'a str) -> [Cell<'a>; 10] {
    [
        Cell::Id(holding.reseller.reseller_id.0),
        Cell::Text(&holding.reseller.refid),
        Cell::Text(&holding.reseller.company_name),
        Cell::Integer(holding.balance),
        holding.credit_limit.map_or(Cell::Nothing, Cell::Integer),
        Cell::Money(policy.money(holding.balance).amount),
        Cell::Text(policy.currency.as_str()),
        holding.last_position.map_or(Cell::Nothing, Cell::count),
        Cell::count(position),
        Cell::Time(as_of),
    ]
}

fn monthly<'a>(month: &'a str, statement: &'a Statement, policy: &'a Policy) -> Vec<Cell<'a>> {
    let amount = |credits: Credits| Cell::Integer(credits);
    let mut cells = Vec::with_capacity(STATEMENTS.len());
    cells.extend([
        Cell::Text(month),
        Cell::Id(statement.reseller.reseller_id.0),
        Cell::Text(&statement.reseller.refid),
        Cell::Text(&statement.reseller.company_name),
        amount(statement.opening),
    ]);
    cells.extend(statement.movements.by_kind().map(|(_, credits)| amount(credits)));
    cells.extend([
        amount(statement.closing),
        Cell::count(statement.movements.lines),
        Cell::Money(policy.money(statement.closing).amount),
        Cell::Text(policy.currency.as_str()),
    ]);
    cells
}

#[cfg(test)]
mod tests {
    use projections::books::statements::Movements;

    use super::*;

    #[test]
    fn a_statement_has_a_column_for_each_kind_of_movement_in_their_order() {
        let names: Vec<&str> = STATEMENTS.iter().map(|column| column.name).skip(5).take(12).collect();
        let kinds: Vec<&str> = Movements::default().by_kind().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, kinds);
    }
}
