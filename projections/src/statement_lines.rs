//! Statement lines: one row for each event that moved credits, and how those of a wallet are found.
//!
//! The lines stand in the order of the log. An index by wallet would be written at a page of its own for nearly every line, since
//! neighbours in the log are hardly ever of one wallet: in a large network that was two thirds of all pages which the projector
//! wrote. Instead each line names the line before it in the same statement (`former`) and a provision the provision before it
//! (`former_provision`), the wallet's row names the last of both, and every [`STRIDE`]th line is marked by wallet
//! (`statement_marks`). So is a line before which the wallet's last event was of another month, since months are what is closed
//! and asked for. So a statement is a chain, read from its end or from a mark on towards its beginning.
//!
//! - [`Chain`], [`NewLines`]: what [`crate::wallets`] folds, whose rows the chains begin in.
//! - [`between`], [`between_and_before`], [`last_line`], [`provisions_before`]: the chains in SQL; nobody else follows them.
//! - [`statement`]: the query.
//!
//! Cost: one look-up by position for each line that is read; to get to a position in the middle, one by wallet, and at most
//! [`STRIDE`] lines that are passed over.

use aggregates::primitives::{ClientId, Credits, ProvisionId, RefundId, ResellerId, Timestamp, TransferId};
use aggregates::wallet::WalletEvent;
use serde::Serialize;

use crate::batch::LogEvent;
use crate::kinds::{Kind, Kinds};
use crate::page::{Page, PageRequest};
use crate::sql::{Changes, Columns, Dialect, Merge, Row, Table, Value, ViewError};
use crate::{ScopedRead, audit_log};

pub(crate) static TRANSACTIONS: Table = Table {
    name: "transactions",
    columns: &[
        ("position", Merge::Key),
        ("reseller_id", Merge::Keep),
        ("sequence", Merge::Keep),
        ("kind", Merge::Keep),
        ("amount", Merge::Keep),
        ("balance", Merge::Keep),
        ("source", Merge::Keep),
        ("reference", Merge::Keep),
        ("note", Merge::Keep),
        ("counterparty_id", Merge::Keep),
        ("client_id", Merge::Keep),
        ("provision_id", Merge::Keep),
        ("transfer_id", Merge::Keep),
        ("refund_id", Merge::Keep),
        ("transaction_id", Merge::Keep),
        ("recorded_at", Merge::Keep),
        ("former", Merge::Keep),
        ("former_provision", Merge::Keep),
    ],
};

pub(crate) static MARKS: Table =
    Table { name: "statement_marks", columns: &[("reseller_id", Merge::Key), ("position", Merge::Key)] };

/// Every how manieth line of a statement is marked: so many lines are passed over at most on the way to one in the middle.
pub const STRIDE: u64 = 16;

/// Where a wallet's statement ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// How many lines it has.
    lines: u64,
    /// The position of the last one.
    last: Option<u64>,
    /// The position of the last one that is a provision.
    last_provision: Option<u64>,
}

impl Chain {
    /// The columns of a wallet's row that hold it, in order.
    pub(crate) const COLUMNS: [(&'static str, Merge); 3] =
        [("lines", Merge::Replace), ("last_line", Merge::Replace), ("last_provision", Merge::Replace)];

    pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Self, ViewError> {
        Ok(Self { lines: columns.count()?, last: columns.count_or_null()?, last_provision: columns.count_or_null()? })
    }

    pub(crate) fn values(self) -> [Value; 3] {
        [self.lines.into(), self.last.into(), self.last_provision.into()]
    }
}

/// The lines of a batch.
#[derive(Debug, Default)]
pub struct NewLines {
    lines: Vec<[Value; 18]>,
    marks: Vec<[Value; 2]>,
}

impl NewLines {
    /// Takes in an event of a wallet, and its line at the end of the wallet's chain if it moved credits. `former_event` is when the
    /// wallet's event before it was recorded.
    pub(crate) fn fold(
        &mut self,
        (reseller, chain): (ResellerId, &mut Chain),
        logged: &LogEvent,
        event: &WalletEvent,
        former_event: &str,
    ) {
        let Some(kind) = kind(event) else { return };
        let Details { source, reference, note, counterparty, client, provision, transfer, refund } = details(event);
        let former = chain.last.replace(logged.position).unwrap_or(0);
        let former_provision = match event {
            WalletEvent::Provisioned { .. } => Some(chain.last_provision.replace(logged.position).unwrap_or(0)),
            _ => None,
        };
        chain.lines += 1;
        // What looks at an end of a month comes in at the mark behind it. Where another event was the first of the new month, it has
        // a little farther to go.
        if chain.lines.is_multiple_of(STRIDE) || month(&logged.recorded_at) != month(former_event) {
            self.marks.push([Value::text(reseller), logged.position.into()]);
        }
        self.lines.push([
            logged.position.into(),
            Value::text(reseller),
            logged.sequence.into(),
            kind.into(),
            event.balance_change().into(),
            event.after().0.into(),
            source,
            reference,
            note,
            counterparty,
            client,
            provision,
            transfer,
            refund,
            logged.command_id.as_str().into(),
            logged.recorded_at.as_str().into(),
            former.into(),
            former_provision.into(),
        ]);
    }

    pub(crate) fn write(self, changes: &mut Changes) {
        self.lines.into_iter().for_each(|line| changes.put(&TRANSACTIONS, line));
        self.marks.into_iter().for_each(|mark| changes.put(&MARKS, mark));
    }
}

/// The month of a time as the log writes it: `YYYY-MM-DD…`.
fn month(time: &str) -> Option<&str> {
    time.get(..7)
}

/// The kind of a statement line; `None` for events that move no credits.
fn kind(event: &WalletEvent) -> Option<&'static str> {
    Some(match event {
        WalletEvent::CreditsAdded { .. } => "credits_added",
        WalletEvent::CreditsRemoved { .. } => "credits_removed",
        WalletEvent::Provisioned { .. } => "provisioned",
        WalletEvent::CommissionEarned { .. } => "commission_earned",
        WalletEvent::ProvisionRefunded { .. } => "provision_refunded",
        WalletEvent::CommissionReversed { .. } => "commission_reversed",
        WalletEvent::CreditsTransferredOut { .. } => "credits_transferred_out",
        WalletEvent::CreditsTransferredIn { .. } => "credits_transferred_in",
        WalletEvent::WalletOpened { .. }
        | WalletEvent::LowCreditThresholdSet { .. }
        | WalletEvent::CreditLimitSet { .. }
        | WalletEvent::ProvisioningHeld { .. }
        | WalletEvent::ProvisioningResumed { .. }
        | WalletEvent::LowCredit { .. } => return None,
    })
}

/// The kinds of statement lines.
#[derive(Debug)]
pub struct LineKinds;

impl Kinds for LineKinds {
    const NAME: &'static str = "TransactionKind";
    const ALL: &'static [&'static str] = &[
        "credits_added",
        "credits_removed",
        "provisioned",
        "commission_earned",
        "provision_refunded",
        "commission_reversed",
        "credits_transferred_out",
        "credits_transferred_in",
    ];
}

/// A kind of statement line.
pub type TransactionKind = Kind<LineKinds>;

/// What a statement line says beyond amounts.
struct Details {
    source: Value,
    reference: Value,
    note: Value,
    counterparty: Value,
    client: Value,
    provision: Value,
    transfer: Value,
    refund: Value,
}

fn details(event: &WalletEvent) -> Details {
    let mut details = Details {
        source: Value::Null,
        reference: Value::Null,
        note: Value::Null,
        counterparty: Value::Null,
        client: Value::Null,
        provision: Value::Null,
        transfer: Value::Null,
        refund: Value::Null,
    };
    match event {
        WalletEvent::CreditsAdded { source, reference, note, .. } => {
            details.source = source.word().into();
            details.reference = Value::text_or_null(reference.as_ref());
            details.note = Value::text_or_null(note.as_ref());
        }
        WalletEvent::CreditsRemoved { kind, reason, .. } => {
            details.source = kind.word().into();
            details.note = Value::text_or_null(reason.as_ref());
        }
        WalletEvent::Provisioned { provision, .. } => {
            details.note = Value::text_or_null(provision.description.as_ref());
            details.client = Value::text_or_null(provision.client);
            details.provision = Value::text(provision.provision_id);
        }
        WalletEvent::CommissionEarned { provision_id, seller, .. } => {
            details.counterparty = Value::text(seller);
            details.provision = Value::text(provision_id);
        }
        WalletEvent::ProvisionRefunded { refund_id, provision_id, reason, .. } => {
            details.note = Value::text_or_null(reason.as_ref());
            details.provision = Value::text(provision_id);
            details.refund = Value::text(refund_id);
        }
        WalletEvent::CommissionReversed { refund_id, provision_id, .. } => {
            details.provision = Value::text(provision_id);
            details.refund = Value::text(refund_id);
        }
        WalletEvent::CreditsTransferredOut { transfer_id, to: other, note, .. }
        | WalletEvent::CreditsTransferredIn { transfer_id, from: other, note, .. } => {
            details.counterparty = Value::text(other);
            details.note = Value::text_or_null(note.as_ref());
            details.transfer = Value::text(transfer_id);
        }
        _ => {}
    }
    details
}

/// Where to enter a wallet's chain on the way to its last line up to a position: the first mark from there on, or the end.
fn entry(wallet: &str, position: &str) -> String {
    format!(
        "coalesce((select m.position from statement_marks m where m.reseller_id = {wallet} and m.position >= {position} \
         order by m.position limit 1), (select w.last_line from wallets w where w.reseller_id = {wallet}))"
    )
}

/// A column of a wallet's last line up to a position, or null: an expression. Wallet and position are expressions too, of the
/// statement that this one stands in.
pub(crate) fn last_line(column: &str, wallet: &str, position: &str) -> String {
    format!(
        "(with recursive chain(position, former, shown) as (\
         select l.position, l.former, l.{column} from transactions l where l.position = {entry} union all \
         select l.position, l.former, l.{column} from chain c join transactions l on l.position = c.former \
         where c.position > {position} and c.former < c.position) select c.shown from chain c where c.position <= {position})",
        entry = entry(wallet, position),
    )
}

/// The lines of wallets after one position and up to another, as something to select from: each with the columns that are asked
/// for, its `position`, and as `registered` the position of its reseller's registration. `whose` is a condition on resellers `r`.
/// Those of one wallet come newest first, and no more of them are read than whoever selects takes. Every wallet costs the way to
/// its last line in the stretch, whether it has one there or not.
pub fn between(dialect: Dialect, whose: &str, columns: &[&str], (after, until): (&str, &str)) -> String {
    let lines = down_from(dialect, whose, columns, until, &format!("c.former > {after}"));
    format!("(select * from {lines} d where d.position > {after})")
}

/// The same, and of each wallet the last line up to `after` as well, which tells what it held before.
pub(crate) fn between_and_before(
    dialect: Dialect,
    whose: &str,
    columns: &[&str],
    (after, until): (&str, &str),
) -> String {
    down_from(dialect, whose, columns, until, &format!("c.position > {after}"))
}

/// The lines up to a position, down to where a condition on the line `c` lets nobody go on to the one before it.
fn down_from(dialect: Dialect, whose: &str, columns: &[&str], until: &str, go_on: &str) -> String {
    let names: String = columns.iter().map(|column| format!(", {column}")).collect();
    let of_line: String = columns.iter().map(|column| format!(", l.{column}")).collect();
    let ends = format!("l.position = {}", entry("r.reseller_id", until));
    let ends = dialect.one_after_the_other("resellers r", "transactions l", &ends);
    let next = dialect.one_after_the_other("chain c", "transactions l", "l.position = c.former");
    format!(
        "(with recursive chain(registered, position, former{names}) as (\
         select r.position, l.position, l.former{of_line} from {ends} where {whose} union all \
         select c.registered, l.position, l.former{of_line} from {next} where {go_on} and c.former < c.position) \
         select * from chain where position <= {until})"
    )
}

/// The ids of a wallet's provisions before a position, newest first, as something to select from. It is entered at the provision
/// at that position, where there is one: a page goes on where the one before it has ended. From any other position it is found
/// from the end, past all provisions in between.
pub(crate) fn provisions_before(wallet: &str, position: &str, limit: &str) -> String {
    format!(
        "(with recursive chain(position, former, provision_id) as (\
         select l.position, l.former_provision, l.provision_id from transactions l where l.position = coalesce(\
         (select s.former_provision from transactions s where s.position = {position} and s.reseller_id = {wallet}), \
         (select w.last_provision from wallets w where w.reseller_id = {wallet})) union all \
         select l.position, l.former_provision, l.provision_id from chain c join transactions l on l.position = c.former \
         where c.former < c.position) select provision_id from chain where position < {position} limit {limit})"
    )
}

/// A statement line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // the table's columns say what each is
pub struct TransactionView {
    pub transaction_id: String,
    pub reseller_id: ResellerId,
    pub sequence: u64,
    #[cfg_attr(feature = "schema", schema(value_type = TransactionKind))]
    pub kind: String,
    /// Signed.
    pub amount: Credits,
    /// The balance after it.
    pub balance: Credits,
    /// Where added credits came from, or on which ground they were removed.
    pub source: Option<String>,
    pub reference: Option<String>,
    pub note: Option<String>,
    /// The other reseller, where it is in the viewer's sight.
    pub counterparty_id: Option<ResellerId>,
    pub client_id: Option<ClientId>,
    pub provision_id: Option<ProvisionId>,
    pub transfer_id: Option<TransferId>,
    pub refund_id: Option<RefundId>,
    pub recorded_at: Timestamp,
    pub position: i64,
}

/// Which statement lines are asked for.
#[derive(Debug, Clone, Default)]
pub struct TransactionFilter {
    /// Of this kind.
    pub kind: Option<TransactionKind>,
    /// Recorded at this time or later.
    pub from: Option<Timestamp>,
    /// Recorded before this time.
    pub to: Option<Timestamp>,
    /// For this client.
    pub client_id: Option<ClientId>,
}

/// A wallet's statement, newest first; `None` where there is no such wallet in sight.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn statement(
    read: &mut ScopedRead,
    reseller: ResellerId,
    filter: &TransactionFilter,
    page: &PageRequest,
) -> Result<Option<Page<TransactionView>>, ViewError> {
    let before = page.position()?;
    if !wallet_in_sight(read, reseller).await? {
        return Ok(None);
    }
    let own = read.scope().owns(reseller);
    if filter.client_id.is_some() && !own {
        return Ok(Some(Page::of(page, Vec::new())));
    }
    // Time never goes back in the log, so a stretch of time is a stretch of positions.
    let after = match filter.from {
        Some(from) => audit_log::position_before(read.unscoped(), from).await?,
        None => 0,
    };
    let mut until = before.map_or(i64::MAX, |before| before - 1);
    if let Some(to) = filter.to {
        let last = audit_log::position_before(read.unscoped(), to).await?;
        until = until.min(i64::try_from(last).map_err(ViewError::unreadable)?);
    }
    let lines = match filter.client_id {
        None => between(read.connection().dialect(), "r.reseller_id = $3", &SHOWN, ("$4", "$5")),
        // Few of a wallet's lines are for one client, and they have an index.
        Some(_) => format!(
            "(select position, {} from transactions where client_id = $8 and reseller_id = $3 and position > $4 and \
             position <= $5 order by position desc)",
            SHOWN.join(", "),
        ),
    };
    let sql = format!(
        "select t.position, t.transaction_id, t.reseller_id, t.sequence, t.kind, t.amount, t.balance, t.source, \
         t.reference, t.note, c.reseller_id, t.client_id, t.provision_id, t.transfer_id, t.refund_id, t.recorded_at \
         from (select * from {lines} s where cast($6 as text) is null or s.kind = $6 limit $7) t \
         left join resellers c on c.reseller_id = t.counterparty_id and c.path >= $1 and c.path < $2 \
         order by t.position desc"
    );
    let mut values = read.range_and([
        Value::text(reseller),
        after.into(),
        until.into(),
        filter.kind.map(Kind::word).into(),
        page.rows_and_one().into(),
    ]);
    values.extend(filter.client_id.map(Value::text));
    let rows = read.connection().fetch(&sql, values).await?;
    let lines = rows.iter().map(|row| read_line(row, own)).collect::<Result<_, _>>()?;
    Ok(Some(Page::of(page, lines)))
}

/// The columns of a line that a statement shows, beside its position.
const SHOWN: [&str; 15] = [
    "transaction_id",
    "reseller_id",
    "sequence",
    "kind",
    "amount",
    "balance",
    "source",
    "reference",
    "note",
    "counterparty_id",
    "client_id",
    "provision_id",
    "transfer_id",
    "refund_id",
    "recorded_at",
];

/// `own`: whether the viewer may know whom the wallet's reseller serves.
fn read_line(row: &Row, own: bool) -> Result<(i64, TransactionView), ViewError> {
    let mut columns = row.columns();
    let position = columns.integer()?;
    let mut line = TransactionView {
        transaction_id: columns.string()?,
        reseller_id: columns.parse()?,
        sequence: columns.count()?,
        kind: columns.string()?,
        amount: columns.integer()?,
        balance: columns.integer()?,
        source: columns.string_or_null()?,
        reference: columns.string_or_null()?,
        note: columns.string_or_null()?,
        counterparty_id: columns.parse_or_null()?,
        client_id: columns.parse_or_null()?,
        provision_id: columns.parse_or_null()?,
        transfer_id: columns.parse_or_null()?,
        refund_id: columns.parse_or_null()?,
        recorded_at: columns.parse()?,
        position,
    };
    let told = told(own, line.provision_id.is_some());
    if !told.client {
        line.client_id = None;
    }
    if !told.note {
        line.note = None;
    }
    Ok((position, line))
}

/// What a viewer is told of a line beyond the figures.
pub(crate) struct Told {
    pub(crate) client: bool,
    pub(crate) note: bool,
}

/// Whom a reseller serves, and in which words, is its own: an upline is told sums. What is said with credits that are added,
/// removed or transferred is for whoever sees them.
pub(crate) fn told(own: bool, of_a_provision: bool) -> Told {
    Told { client: own, note: own || !of_a_provision }
}

pub(crate) async fn wallet_in_sight(read: &mut ScopedRead, reseller: ResellerId) -> Result<bool, ViewError> {
    let values = read.range_and([Value::text(reseller)]);
    let row = read
        .connection()
        .fetch_one(
            "select 1 from wallets w join resellers r on r.reseller_id = w.reseller_id \
             where r.path >= $1 and r.path < $2 and w.reseller_id = $3",
            values,
        )
        .await?;
    Ok(row.is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use aggregates::event::{AggregateKey, Event};
    use aggregates::postings;

    /// Statements and wallets' terms are complements: between them they tell all that has happened to a wallet.
    #[test]
    fn an_event_is_a_line_where_it_is_posted_and_each_kind_of_line_is_that_of_an_event() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../aggregates/event_format.json");
        let samples: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let key = AggregateKey::Wallet(ResellerId(uuid::Uuid::nil()));
        let mut kinds = BTreeSet::new();
        for sample in samples.iter().filter(|sample| sample["aggregate_type"] == "Wallet") {
            let word = |name: &str| sample[name].as_str().unwrap();
            let payload = sample["payload"].to_string();
            let event = Event::decode("Wallet", word("event_type"), word("event_version"), &payload).unwrap();
            let Event::Wallet(of_wallet) = &event else { panic!("{event:?}") };
            let kind = kind(of_wallet);
            assert_eq!(kind.is_some(), postings::of(&key, &event).is_some(), "{event:?}");
            kinds.extend(kind);
        }
        assert_eq!(kinds, LineKinds::ALL.iter().copied().collect());
    }
}
