//! What a wallet's terms were from when on: its credit limit, threshold and holds after each event that is no statement line.
//!
//! With the statement's lines these are all events of a wallet, so the last of both up to a position is the wallet's last event
//! there. A wallet of a million lines has a handful of these rows, so a wallet is seen as it was by a few look-ups ([`at`]).

use std::collections::{BTreeMap, BTreeSet};

use aggregates::event::{AggregateKey, Event};
use aggregates::postings;
use aggregates::primitives::ResellerId;
use aggregates::wallet::Wallet;

use crate::batch::LogEvent;
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use crate::statement_lines::last_line;
use crate::wallets::WalletRow;
use crate::{Projection, Read};

static TERMS: Table = Table {
    name: "wallet_terms",
    columns: &[
        ("reseller_id", Merge::Key),
        ("position", Merge::Key),
        ("sequence", Merge::Keep),
        ("credit_limit", Merge::Keep),
        ("low_credit_threshold", Merge::Keep),
        ("holds", Merge::Keep),
    ],
};

const COLUMNS: &str = "t.reseller_id, t.credit_limit, t.low_credit_threshold, t.holds, t.sequence, t.position";

/// The projection.
#[derive(Debug)]
pub struct WalletTerms;

/// The terms that wallets have last, and what is new.
#[derive(Debug, Default)]
pub struct Rows {
    last: BTreeMap<ResellerId, Wallet>,
    new: Vec<[Value; 6]>,
}

/// The terms in a row; what the wallet held is not in it.
fn read_terms(columns: &mut Columns<'_>) -> Result<(ResellerId, Wallet), ViewError> {
    let reseller = columns.parse()?;
    let (credit_limit, low_credit_threshold) = (columns.level()?, columns.level()?);
    let holds = columns.json()?;
    Ok((reseller, Wallet { reseller: Some(reseller), credit_limit, low_credit_threshold, holds, ..Wallet::default() }))
}

/// Whose wallet's terms an event may have changed.
fn touches(logged: &LogEvent) -> Option<ResellerId> {
    match logged.key {
        AggregateKey::Wallet(reseller) if postings::of(&logged.key, &logged.event).is_none() => Some(reseller),
        _ => None,
    }
}

impl Projection for WalletTerms {
    const NAME: &'static str = "wallet_terms";
    const TABLES: &'static [&'static Table] = &[&TERMS];
    type Rows = Rows;
    type Memory = ();

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent], (): &mut ()) -> Result<Rows, ViewError> {
        let touched: BTreeSet<ResellerId> = events.iter().filter_map(touches).collect();
        let sql = format!(
            "select {COLUMNS} from wallet_terms t \
             where t.position = (select max(l.position) from wallet_terms l where l.reseller_id = t.reseller_id) \
             and t.reseller_id in"
        );
        let rows = connection.fetch_by_keys(&sql, touched).await?;
        let last = rows.iter().map(|row| read_terms(&mut row.columns())).collect::<Result<_, _>>()?;
        Ok(Rows { last, new: Vec::new() })
    }

    fn fold(rows: &mut Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let (Some(reseller), Event::Wallet(event)) = (touches(logged), &logged.event) else { continue };
            let terms = rows.last.entry(reseller).or_default();
            terms.fold(event);
            rows.new.push([
                Value::text(reseller),
                logged.position.into(),
                logged.sequence.into(),
                terms.credit_limit.credits().into(),
                terms.low_credit_threshold.credits().into(),
                Value::json(&terms.holds)?,
            ]);
        }
        Ok(())
    }

    fn write(rows: Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        for row in rows.new {
            changes.put(&TERMS, row);
        }
        Ok(())
    }
}

/// A wallet after its last event up to a position, which must not lie beyond the read. `None` where it was not open yet.
///
/// Its terms and where that event stands come from the read models, what it held from that very event of the log. Whether the
/// next fall below the threshold is announced is not among what is known; nobody is shown it. Cost: a few look-ups.
///
/// # Errors
/// What the database says, or an event that this version cannot read.
pub async fn at(read: &mut Read, reseller: ResellerId, position: u64) -> Result<Option<WalletRow>, ViewError> {
    let values = || vec![Value::text(reseller), position.into()];
    let sql = format!(
        "select {COLUMNS} from wallet_terms t where t.reseller_id = $1 and t.position <= $2 order by t.position desc limit 1"
    );
    let Some(row) = read.connection().fetch_one(&sql, values()).await? else { return Ok(None) };
    let mut columns = row.columns();
    let (_, mut wallet) = read_terms(&mut columns)?;
    let mut last: (u64, u64) = (columns.count()?, columns.count()?);
    let sql =
        format!("select sequence, position from transactions where position = {}", last_line("position", "$1", "$2"),);
    if let Some(row) = read.connection().fetch_one(&sql, values()).await? {
        let mut columns = row.columns();
        last = last.max((columns.count()?, columns.count()?));
    }
    let (sequence, position) = last;
    let sql = format!(
        "select aggregate_id, event_type, event_version, cast(payload as text), {} from ledger.events where position = $1",
        read.connection().dialect().time("recorded_at")
    );
    let gone = || ViewError::HistoryCut(format!("event {position} was folded, and is not in the log"));
    let row = read.connection().fetch_one(&sql, vec![position.into()]).await?.ok_or_else(gone)?;
    let mut columns = row.columns();
    if columns.parse::<ResellerId>()? != reseller {
        return Err(ViewError::HistoryCut(format!("event {position} was folded as another wallet's")));
    }
    let event =
        Event::decode("Wallet", columns.str()?, columns.str()?, columns.str()?).map_err(ViewError::unreadable)?;
    let Event::Wallet(event) = event else { return Err(gone()) };
    (wallet.balance, wallet.reserved) = event.after();
    Ok(Some(WalletRow { wallet, sequence, position, updated_at: columns.string()? }))
}
