//! What lies between two moments: a wallet, or all of a subtree's credits, before and after, and what made the difference.
//!
//! The figures before and after come from two looks at the past, the movements between them from the statement lines; that the
//! two agree is checked every time, and told. The events themselves are read by pages.

use std::collections::BTreeMap;

use aggregates::answer::WalletView;
use aggregates::primitives::{Credits, ResellerId};
use projections::ScopedRead;
use projections::analytics::standing::{self, CreditsOutstanding};
use projections::page::{Page, PageRequest};
use projections::sql::{Dialect, Value, ViewError, exact_sum, saturated};
use projections::statement_lines::{self, STRIDE};
use projections::subject::Subject;
use serde::Serialize;
use utoipa::ToSchema;

use super::as_of::{self, AsOf};

/// What one kind of statement line came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Movement {
    /// How many lines.
    pub lines: u64,
    /// By how much they changed balances; the end of 64 bits where that lies beyond.
    pub credits: Credits,
}

/// One event that made a difference to a balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Change {
    /// Its position.
    pub position: u64,
    /// Whose wallet.
    pub reseller_id: ResellerId,
    /// What happened, as in the wallet's statement.
    pub kind: String,
    /// By how much the balance changed.
    pub amount: Credits,
    /// The wallet's balance after it.
    pub balance: Credits,
    /// By which command.
    pub transaction_id: String,
    /// When.
    pub recorded_at: String,
}

/// A page of such events.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Changes {
    /// Oldest first.
    pub data: Vec<Change>,
    /// Where the next page begins; null on the last.
    pub next_cursor: Option<String>,
}

/// What happened between two moments.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Between {
    /// The position of the last event before.
    pub from_position: u64,
    /// The position of the last event within.
    pub to_position: u64,
    /// By how much the credits changed.
    pub change: Credits,
    /// Which kinds of statement lines came to that.
    pub movements: BTreeMap<String, Movement>,
    /// Whether those lines add up to the change.
    pub matches: bool,
    /// The lines, oldest first.
    pub events: Changes,
}

/// A wallet at two moments, and what happened in between.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WalletDifference {
    /// As of the first moment; null where it was not open yet.
    pub before: Option<WalletView>,
    /// As of the second moment.
    pub after: WalletView,
    /// What happened in between.
    #[serde(flatten)]
    pub between: Between,
}

/// The credits outstanding at two moments, and what happened in between.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OutstandingDifference {
    /// As of the first moment.
    pub before: CreditsOutstanding,
    /// As of the second moment.
    pub after: CreditsOutstanding,
    /// What happened in between.
    #[serde(flatten)]
    pub between: Between,
}

/// Between two moments of a wallet, to both of which the read must have come. `None` where it is not in sight, or was not open
/// yet.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn of_wallet(
    read: &mut ScopedRead,
    reseller: ResellerId,
    (from, to): (AsOf, AsOf),
    page: &PageRequest,
) -> Result<Option<WalletDifference>, ViewError> {
    let before = as_of::wallet(read, reseller, from).await?;
    let Some(after) = as_of::wallet(read, reseller, to).await? else { return Ok(None) };
    let change = after.balance - before.as_ref().map_or(0, |wallet| wallet.balance);
    let of =
        Of { lines: Lines::OfWallets("r.reseller_id = $1 and $2 = ''"), values: [Value::text(reseller), "".into()] };
    let between = of.between(read, (from, to), change, page).await?;
    Ok(Some(WalletDifference { before, after, between }))
}

/// Between two moments of a subtree's credits, or of the whole network's.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn of_outstanding(
    read: &mut ScopedRead,
    subject: &Subject,
    (from, to): (AsOf, AsOf),
    page: &PageRequest,
) -> Result<OutstandingDifference, ViewError> {
    let before = standing::outstanding_at(read, subject, from.position).await?;
    let after = standing::outstanding_at(read, subject, to.position).await?;
    let change = after.credits - before.credits;
    let [begin, end] = <[Value; 2]>::try_from(subject.range()).unwrap_or([Value::Null, Value::Null]);
    // Of the whole network every line counts, whoever's it is. Of a subtree either each line of the stretch is asked whose it is, or
    // each wallet for its lines, past [`STRIDE`] others at most, whichever are fewer.
    let lines = match subject.reseller {
        None => Lines::Everybodys,
        Some(_) => {
            let sql = "select downline from dashboards where reseller_id = $1";
            let row = read.connection().fetch_one(sql, vec![subject.id.as_str().into()]).await?;
            let wallets = 1 + row.map_or(Ok(0), |row| row.columns().count())?;
            if wallets.saturating_mul(STRIDE) < to.position.saturating_sub(from.position) {
                Lines::OfWallets("r.path >= $1 and r.path < $2")
            } else {
                Lines::OfStretch
            }
        }
    };
    let of = Of { lines, values: [begin, end] };
    let between = of.between(read, (from, to), change, page).await?;
    Ok(OutstandingDifference { before, after, between })
}

/// Whose statement lines, and how they are found.
struct Of {
    lines: Lines,
    /// `$1` and `$2`.
    values: [Value; 2],
}

#[derive(Clone, Copy)]
enum Lines {
    /// Every line of the stretch.
    Everybodys,
    /// Every line of the stretch whose reseller's path is in the range.
    OfStretch,
    /// By a condition on resellers `r`: the statement of each.
    OfWallets(&'static str),
}

impl Of {
    /// The lines after `$3` and up to `$4`, to select from.
    fn lines(&self, dialect: Dialect, columns: &[&str]) -> String {
        let all = || columns.iter().map(|column| format!(", t.{column}")).collect::<String>();
        match self.lines {
            Lines::OfWallets(wallets) => statement_lines::between(dialect, wallets, columns, ("$3", "$4")),
            Lines::OfStretch => format!(
                "(select t.position{} from {} where r.path >= $1 and r.path < $2 and t.position > $3 and t.position <= $4)",
                all(),
                dialect.one_after_the_other("transactions t", "resellers r", "r.reseller_id = t.reseller_id"),
            ),
            Lines::Everybodys => format!(
                "(select t.position{} from transactions t where $1 < $2 and t.position > $3 and t.position <= $4)",
                all(),
            ),
        }
    }

    async fn between(
        &self,
        read: &mut ScopedRead,
        (from, to): (AsOf, AsOf),
        change: Credits,
        page: &PageRequest,
    ) -> Result<Between, ViewError> {
        let Self { values, .. } = self;
        let dialect = read.connection().dialect();
        let sums = format!(
            "select t.kind, count(*), {sum} from {lines} t group by t.kind",
            sum = exact_sum("t.amount"),
            lines = self.lines(dialect, &["kind", "amount"]),
        );
        let range = |after: u64| [values.to_vec(), vec![after.into(), to.position.into()]].concat();
        let mut movements: BTreeMap<String, Movement> = BTreeMap::new();
        let mut moved: i128 = 0;
        for row in &read.connection().fetch(&sums, range(from.position)).await? {
            let mut columns = row.columns();
            let (kind, lines, sum) = (columns.string()?, columns.count()?, columns.exact_sum()?);
            moved += sum;
            movements.insert(kind, Movement { lines, credits: saturated(sum) });
        }
        let shown = ["reseller_id", "kind", "amount", "balance", "transaction_id", "recorded_at"];
        let lines = format!(
            "select t.position, t.reseller_id, t.kind, t.amount, t.balance, t.transaction_id, t.recorded_at \
             from {lines} t order by t.position limit $5",
            lines = self.lines(dialect, &shown),
        );
        let after = page.position()?.map(u64::try_from).transpose().map_err(ViewError::unreadable)?;
        let mut asked = range(after.unwrap_or_default().max(from.position));
        asked.push(page.rows_and_one().into());
        let mut changes = Vec::new();
        for row in &read.connection().fetch(&lines, asked).await? {
            let mut columns = row.columns();
            let position = columns.integer()?;
            let change = Change {
                position: u64::try_from(position).map_err(ViewError::unreadable)?,
                reseller_id: columns.parse()?,
                kind: columns.string()?,
                amount: columns.integer()?,
                balance: columns.integer()?,
                transaction_id: columns.string()?,
                recorded_at: columns.string()?,
            };
            changes.push((position, change));
        }
        let Page { data, next_cursor } = Page::of(page, changes);
        Ok(Between {
            from_position: from.position,
            to_position: to.position,
            change,
            movements,
            matches: moved == i128::from(change),
            events: Changes { data, next_cursor },
        })
    }
}
