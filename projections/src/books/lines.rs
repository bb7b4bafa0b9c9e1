//! Statement lines in bulk, in order of position.
//!
//! Cost: a value that the database hands over crosses to another thread, so lines come as few long texts ([`BLOCK`] positions to
//! a text, columns and lines apart by control characters), as the log does in [`crate::batch`]. What people wrote may hold such
//! characters itself; there they are escaped.

use std::borrow::Cow;

use aggregates::primitives::{Credits, ResellerId, Timestamp};

use super::{Stretch, Whose};
use crate::sql::{Dialect, Row, Value, ViewError};
use crate::statement_lines::{between, told};
use crate::{Scope, ScopedRead};

/// A statement line as a report has it. What is not there is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the columns of `transactions` say what each is
pub struct Line<'a> {
    pub position: u64,
    pub recorded_at: &'a str,
    pub transaction_id: &'a str,
    pub reseller_id: &'a str,
    pub sequence: u64,
    pub kind: &'a str,
    /// Signed.
    pub amount: Credits,
    /// The balance after it.
    pub balance: Credits,
    pub source: &'a str,
    pub reference: Cow<'a, str>,
    pub note: Cow<'a, str>,
    /// The other reseller, where it is in the viewer's sight.
    pub counterparty_id: &'a str,
    pub client_id: &'a str,
    pub provision_id: &'a str,
    pub transfer_id: &'a str,
    pub refund_id: &'a str,
}

/// Which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Commissions earned and reversed; the other reseller is then the seller, of both.
    Commissions,
}

/// Positions to a text.
const BLOCK: u64 = 256;
/// Lines to a text where they are one wallet's.
const BLOCK_OF_ONE: usize = 256;
/// Between lines, between columns, and what stands before an escaped one of the three.
const BETWEEN_LINES: char = '\u{1e}';
const BETWEEN_COLUMNS: char = '\u{1f}';
const ESCAPE: char = '\u{1b}';

/// Hands each line of a stretch to `each`.
///
/// # Errors
/// What the database or `each` says; [`ViewError::Unreadable`] where lines are not what they should be.
pub async fn lines(
    read: &mut ScopedRead,
    which: Which,
    whose: Whose,
    stretch: Stretch,
    mut each: impl FnMut(&Line<'_>) -> Result<(), ViewError> + Send,
) -> Result<(), ViewError> {
    let sql = text_of(read.connection().dialect(), read.scope(), which, whose.is_some());
    let mut handed = Handed { viewer: read.viewer().map(|viewer| viewer.to_string()), last: stretch.after };
    let values = read.range_and([
        stretch.after.into(),
        stretch.until.into(),
        Value::from(BETWEEN_LINES.to_string()),
        Value::from(BETWEEN_COLUMNS.to_string()),
        Value::from(ESCAPE.to_string()),
    ]);
    let Some(reseller) = whose else {
        return read.connection().for_each(&sql, values, |row| handed.over(&row, &mut each)).await;
    };
    for positions in positions_of(read, reseller, stretch).await?.chunks(BLOCK_OF_ONE) {
        let mut values = values.clone();
        values.push(Value::integers(positions.iter().copied()));
        read.connection().for_each(&sql, values, |row| handed.over(&row, &mut each)).await?;
    }
    Ok(())
}

/// How far the lines have been handed over, and to whom.
struct Handed {
    viewer: Option<String>,
    last: u64,
}

impl Handed {
    /// Hands over the lines in a text.
    fn over(
        &mut self,
        row: &Row,
        each: &mut impl FnMut(&Line<'_>) -> Result<(), ViewError>,
    ) -> Result<bool, ViewError> {
        let Some(text) = row.columns().str_or_null()? else { return Ok(true) };
        for line in text.split(BETWEEN_LINES) {
            let mut line = Line::read(line)?;
            if line.position <= self.last {
                return Err(ViewError::unreadable(format!("line {} comes after {}", line.position, self.last)));
            }
            self.last = line.position;
            if let Some(viewer) = &self.viewer {
                let told = told(line.reseller_id == viewer, !line.provision_id.is_empty());
                if !told.client {
                    line.client_id = "";
                }
                if !told.note {
                    line.note = Cow::Borrowed("");
                }
            }
            each(&line)?;
        }
        Ok(true)
    }
}

/// The positions of one wallet's lines in a stretch, in order.
async fn positions_of(read: &mut ScopedRead, reseller: ResellerId, stretch: Stretch) -> Result<Vec<u64>, ViewError> {
    let mut connection = read.connection();
    let lines = between(connection.dialect(), "r.reseller_id = $1", &[], ("$2", "$3"));
    let sql = format!("select position as number from {lines} t");
    let values = vec![Value::text(reseller), stretch.after.into(), stretch.until.into()];
    let mut positions: Vec<u64> = Vec::new();
    for position in connection.fetch_integers(&sql, values).await? {
        positions.push(u64::try_from(position).map_err(ViewError::unreadable)?);
    }
    positions.sort_unstable();
    Ok(positions)
}

/// When the first line of all was recorded; `None` while no credits have moved.
///
/// # Errors
/// What the database says.
pub async fn first(read: &mut ScopedRead) -> Result<Option<Timestamp>, ViewError> {
    let sql = "select recorded_at from transactions order by position limit 1";
    let row = read.connection().fetch_one(sql, Vec::new()).await?;
    row.map(|row| row.columns().parse()).transpose()
}

/// `$1` and `$2` are the scope, `$3` and `$4` the stretch, `$5` to `$7` the three characters; `$8`, where they are given, the
/// positions of lines in that stretch.
fn text_of(dialect: Dialect, scope: Scope, which: Which, given: bool) -> String {
    let escaped = |column: &str| {
        format!("coalesce(replace(replace(replace({column}, $7, $7 || '0'), $6, $7 || '1'), $5, $7 || '2'), '')")
    };
    let or_nothing = |column: &str| format!("coalesce({column}, '')");
    let other = match (scope, which) {
        (Scope::Subtree(_), _) => "o.reseller_id",
        (Scope::All, Which::All) => "t.counterparty_id",
        (Scope::All, Which::Commissions) => SELLER,
    };
    let columns = [
        "t.position".to_owned(),
        "t.recorded_at".to_owned(),
        "t.transaction_id".to_owned(),
        "t.reseller_id".to_owned(),
        "t.sequence".to_owned(),
        "t.kind".to_owned(),
        "t.amount".to_owned(),
        "t.balance".to_owned(),
        or_nothing("t.source"),
        escaped("t.reference"),
        escaped("t.note"),
        or_nothing(other),
        or_nothing("t.client_id"),
        or_nothing("t.provision_id"),
        or_nothing("t.transfer_id"),
        or_nothing("t.refund_id"),
    ]
    // Not `concat_ws`: SQLite's leaves out what is empty.
    .join(" || $6 || ");
    let in_sight = match (scope, which) {
        (Scope::All, _) => String::new(),
        (Scope::Subtree(_), which) => {
            let other = if which == Which::All { "t.counterparty_id" } else { SELLER };
            format!(
                " join resellers r on r.reseller_id = t.reseller_id and r.path >= $1 and r.path < $2 \
                 left join resellers o on o.reseller_id = {other} and o.path >= $1 and o.path < $2"
            )
        }
    };
    let kinds = match which {
        Which::All => "",
        Which::Commissions => " and t.kind in ('commission_earned', 'commission_reversed')",
    };
    if given {
        return format!(
            "select string_agg(line, $5) from (select {columns} as line from transactions t{in_sight} \
             where t.position > $3 and t.position <= $4 and {given}{kinds} order by t.position) as lines",
            given = dialect.one_of("t.position", 8),
        );
    }
    format!(
        "with recursive blocks(first) as \
         (select $3 union all select first + {BLOCK} from blocks where first + {BLOCK} < $4) \
         select (select string_agg(line, $5) from (select {columns} as line from transactions t{in_sight} \
         where t.position > first and t.position <= first + {BLOCK} and t.position <= $4{kinds} order by t.position) \
         as lines) from blocks"
    )
}

/// Whose provision a commission came of: the event that reverses one does not say.
const SELLER: &str =
    "coalesce(t.counterparty_id, (select p.reseller_id from provisions p where p.provision_id = t.provision_id))";

impl<'a> Line<'a> {
    fn read(text: &'a str) -> Result<Self, ViewError> {
        let mut columns = text.split(BETWEEN_COLUMNS);
        let mut next = || columns.next().ok_or_else(|| ViewError::unreadable("a line with too few columns"));
        let count = |text: &str| text.parse::<u64>().map_err(ViewError::unreadable);
        let credits = |text: &str| text.parse::<Credits>().map_err(ViewError::unreadable);
        let line = Self {
            position: count(next()?)?,
            recorded_at: next()?,
            transaction_id: next()?,
            reseller_id: next()?,
            sequence: count(next()?)?,
            kind: next()?,
            amount: credits(next()?)?,
            balance: credits(next()?)?,
            source: next()?,
            reference: unescaped(next()?),
            note: unescaped(next()?),
            counterparty_id: next()?,
            client_id: next()?,
            provision_id: next()?,
            transfer_id: next()?,
            refund_id: next()?,
        };
        match columns.next() {
            None => Ok(line),
            Some(_) => Err(ViewError::unreadable("a line with too many columns")),
        }
    }

    /// Whose wallet.
    ///
    /// # Errors
    /// [`ViewError::Unreadable`] where it is no id.
    pub fn reseller(&self) -> Result<ResellerId, ViewError> {
        self.reseller_id.parse().map_err(ViewError::unreadable)
    }
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains(ESCAPE) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != ESCAPE {
            plain.push(character);
            continue;
        }
        plain.push(match characters.next() {
            Some('1') => BETWEEN_COLUMNS,
            Some('2') => BETWEEN_LINES,
            _ => ESCAPE,
        });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_comes_back_with_every_character() {
        assert_eq!(unescaped("plain"), "plain");
        assert_eq!(unescaped("\u{1b}0\u{1b}1\u{1b}2x"), "\u{1b}\u{1f}\u{1e}x");
    }
}
