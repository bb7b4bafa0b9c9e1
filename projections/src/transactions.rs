//! Statement lines, provisions with their refunds, and transfers: what happened to credits, one row for each event.
//!
//! Lines, refunds and transfers are only ever added; of a provision only the refunded total changes, so only provisions that a
//! batch refunds are loaded.

use std::collections::{BTreeMap, BTreeSet};

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{
    ClientId, Credits, Percent, PriceSource, ProvisionId, Quantity, RefundId, ResellerId, Sku, Timestamp, TransferId,
};
use aggregates::wallet::{Commission, Provision, WalletEvent};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::batch::LogEvent;
use crate::page::{Page, PageRequest};
use crate::sql::{Changes, Columns, Connection, Merge, Row, Table, Value, ViewError};
use crate::{Projection, Scope, ScopedRead};

static TRANSACTIONS: Table = Table {
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
    ],
};

static PROVISIONS: Table = Table {
    name: "provisions",
    columns: &[
        ("provision_id", Merge::Key),
        ("reseller_id", Merge::Keep),
        ("position", Merge::Keep),
        ("amount", Merge::Keep),
        ("unit_cost", Merge::Keep),
        ("price_source", Merge::Keep),
        ("quantity", Merge::Keep),
        ("base_cost", Merge::Keep),
        ("discount_percent", Merge::Keep),
        ("sku", Merge::Keep),
        ("client_id", Merge::Keep),
        ("description", Merge::Keep),
        ("metadata", Merge::Keep),
        ("commissions", Merge::Keep),
        ("refunded_total", Merge::Replace),
        ("recorded_at", Merge::Keep),
    ],
};

static REFUNDS: Table = Table {
    name: "refunds",
    columns: &[
        ("refund_id", Merge::Key),
        ("provision_id", Merge::Keep),
        ("reseller_id", Merge::Keep),
        ("amount", Merge::Keep),
        ("refunded_total", Merge::Keep),
        ("reason", Merge::Keep),
        ("position", Merge::Keep),
        ("recorded_at", Merge::Keep),
    ],
};

static TRANSFERS: Table = Table {
    name: "transfers",
    columns: &[
        ("transfer_id", Merge::Key),
        ("from_id", Merge::Keep),
        ("to_id", Merge::Keep),
        ("amount", Merge::Keep),
        ("note", Merge::Keep),
        ("position", Merge::Keep),
        ("recorded_at", Merge::Keep),
    ],
};

/// The projection.
#[derive(Debug)]
pub struct Transactions;

/// The rows that a batch adds, and the provisions that it adds or refunds.
#[derive(Debug, Default)]
pub struct Rows {
    lines: Vec<[Value; 16]>,
    provisions: BTreeMap<ProvisionId, ProvisionRow>,
    refunds: Vec<[Value; 8]>,
    transfers: Vec<[Value; 7]>,
}

#[derive(Debug)]
struct ProvisionRow {
    reseller: ResellerId,
    position: u64,
    provision: Provision,
    refunded_total: Credits,
    recorded_at: String,
}

const PROVISION_COLUMNS: &str = "p.provision_id, p.reseller_id, p.position, p.amount, p.unit_cost, p.price_source, \
                                 p.quantity, p.base_cost, p.discount_percent, p.sku, p.client_id, p.description, \
                                 p.metadata, p.commissions, p.refunded_total, p.recorded_at";

impl ProvisionRow {
    fn read(columns: &mut Columns<'_>) -> Result<Self, ViewError> {
        let provision_id = columns.parse()?;
        let (reseller, position) = (columns.parse()?, columns.count()?);
        let provision = Provision {
            provision_id,
            amount: columns.integer()?,
            unit_cost: columns.integer()?,
            price_source: columns.parse()?,
            quantity: u32::try_from(columns.integer()?)
                .ok()
                .and_then(|units| Quantity::new(units).ok())
                .ok_or_else(|| ViewError::unreadable("quantity"))?,
            base_cost: columns.integer_or_null()?,
            discount_percent: columns.parse_or_null()?,
            sku: columns.parse_or_null()?,
            client: columns.parse_or_null()?,
            description: columns.parse_or_null()?,
            metadata: columns.json_or_null()?,
            commissions: columns.json()?,
        };
        Ok(Self { reseller, position, provision, refunded_total: columns.integer()?, recorded_at: columns.string()? })
    }
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

/// Every kind of statement line.
pub const KINDS: &[&str] = &[
    "credits_added",
    "credits_removed",
    "provisioned",
    "commission_earned",
    "provision_refunded",
    "commission_reversed",
    "credits_transferred_out",
    "credits_transferred_in",
];

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

impl Projection for Transactions {
    const NAME: &'static str = "transactions";
    const TABLES: &'static [&'static Table] = &[&TRANSACTIONS, &PROVISIONS, &REFUNDS, &TRANSFERS];
    const WRITTEN_ONCE: &'static [&'static Table] = &[&TRANSACTIONS, &REFUNDS, &TRANSFERS];
    type Rows = Rows;
    type Memory = ();

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent], (): &mut ()) -> Result<Rows, ViewError> {
        let mut refunded = BTreeSet::new();
        for event in events {
            if let Event::Wallet(WalletEvent::ProvisionRefunded { provision_id, .. }) = &event.event {
                refunded.insert(*provision_id);
            }
        }
        let sql = format!("select {PROVISION_COLUMNS} from provisions p where p.provision_id in");
        let mut rows = Rows::default();
        for row in connection.fetch_by_keys(&sql, refunded).await? {
            let row = ProvisionRow::read(&mut row.columns())?;
            rows.provisions.insert(row.provision.provision_id, row);
        }
        Ok(rows)
    }

    fn fold(rows: &mut Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let (AggregateKey::Wallet(reseller), Event::Wallet(event)) = (&logged.key, &logged.event) else { continue };
            let Some(kind) = kind(event) else { continue };
            let Details { source, reference, note, counterparty, client, provision, transfer, refund } = details(event);
            rows.lines.push([
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
            ]);
            match event {
                WalletEvent::Provisioned { provision, .. } => {
                    rows.provisions.insert(
                        provision.provision_id,
                        ProvisionRow {
                            reseller: *reseller,
                            position: logged.position,
                            provision: (**provision).clone(),
                            refunded_total: 0,
                            recorded_at: logged.recorded_at.clone(),
                        },
                    );
                }
                WalletEvent::ProvisionRefunded { refund_id, provision_id, amount, refunded_total, reason, .. } => {
                    let provision = rows.provisions.get_mut(provision_id).ok_or_else(|| {
                        ViewError::Unreadable(format!("position {} refunds an unknown provision", logged.position))
                    })?;
                    provision.refunded_total = *refunded_total;
                    rows.refunds.push([
                        Value::text(refund_id),
                        Value::text(provision_id),
                        Value::text(reseller),
                        (*amount).into(),
                        (*refunded_total).into(),
                        Value::text_or_null(reason.as_ref()),
                        logged.position.into(),
                        logged.recorded_at.as_str().into(),
                    ]);
                }
                WalletEvent::CreditsTransferredOut { transfer_id, to, amount, note, .. } => rows.transfers.push([
                    Value::text(transfer_id),
                    Value::text(reseller),
                    Value::text(to),
                    (*amount).into(),
                    Value::text_or_null(note.as_ref()),
                    logged.position.into(),
                    logged.recorded_at.as_str().into(),
                ]),
                _ => {}
            }
        }
        Ok(())
    }

    fn write(rows: Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        rows.lines.into_iter().for_each(|line| changes.put(&TRANSACTIONS, line));
        rows.refunds.into_iter().for_each(|refund| changes.put(&REFUNDS, refund));
        rows.transfers.into_iter().for_each(|transfer| changes.put(&TRANSFERS, transfer));
        for (provision_id, row) in rows.provisions {
            let provision = row.provision;
            let metadata = provision.metadata.as_ref().map(Value::json).transpose()?.unwrap_or(Value::Null);
            let commissions =
                if provision.commissions.is_empty() { Value::from("[]") } else { Value::json(&provision.commissions)? };
            changes.put(
                &PROVISIONS,
                [
                    Value::text(provision_id),
                    Value::text(row.reseller),
                    row.position.into(),
                    provision.amount.into(),
                    provision.unit_cost.into(),
                    provision.price_source.word().into(),
                    provision.quantity.units().into(),
                    provision.base_cost.into(),
                    Value::text_or_null(provision.discount_percent),
                    Value::text_or_null(provision.sku),
                    Value::text_or_null(provision.client),
                    Value::text_or_null(provision.description),
                    metadata,
                    commissions,
                    row.refunded_total.into(),
                    row.recorded_at.into(),
                ],
            );
        }
        Ok(())
    }
}

/// A statement line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // the table's columns say what each is
pub struct TransactionView {
    pub transaction_id: String,
    pub reseller_id: ResellerId,
    pub sequence: u64,
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
    pub kind: Option<String>,
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
    let values = read.range_and([
        Value::text(reseller),
        before.unwrap_or(i64::MAX).into(),
        page.rows_and_one().into(),
        filter.kind.clone().into(),
        Value::text_or_null(filter.from),
        Value::text_or_null(filter.to),
        Value::text_or_null(filter.client_id),
    ]);
    let rows = read
        .connection()
        .fetch(
            "select t.position, t.transaction_id, t.reseller_id, t.sequence, t.kind, t.amount, t.balance, t.source, \
             t.reference, t.note, c.reseller_id, t.client_id, t.provision_id, t.transfer_id, t.refund_id, t.recorded_at \
             from transactions t left join resellers c on c.reseller_id = t.counterparty_id and c.path >= $1 and \
             c.path < $2 where t.reseller_id = $3 and t.position < $4 and (cast($6 as text) is null or t.kind = $6) and \
             (cast($7 as text) is null or t.recorded_at >= $7) and (cast($8 as text) is null or t.recorded_at < $8) and \
             (cast($9 as text) is null or t.client_id = $9) order by t.position desc limit $5",
            values,
        )
        .await?;
    let lines = rows.iter().map(|row| read_line(row, own)).collect::<Result<_, _>>()?;
    Ok(Some(Page::of(page, lines)))
}

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

async fn wallet_in_sight(read: &mut ScopedRead, reseller: ResellerId) -> Result<bool, ViewError> {
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

/// A provision.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct ProvisionView {
    pub provision_id: ProvisionId,
    pub reseller_id: ResellerId,
    pub amount: Credits,
    pub unit_cost: Credits,
    pub price_source: PriceSource,
    pub quantity: Quantity,
    pub base_cost: Option<Credits>,
    pub discount_percent: Option<Percent>,
    pub sku: Option<Sku>,
    pub client_id: Option<ClientId>,
    pub description: Option<String>,
    #[cfg_attr(feature = "schema", schema(value_type = Option<Object>))]
    pub metadata: Option<Map<String, Json>>,
    /// Only for the operator's staff: a reseller is not told what its upline earns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commissions: Option<Vec<Commission>>,
    pub refunded_total: Credits,
    /// In order; only where one provision is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refunds: Option<Vec<RefundView>>,
    pub recorded_at: Timestamp,
    pub position: u64,
}

/// A refund of a provision.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct RefundView {
    pub refund_id: RefundId,
    pub amount: Credits,
    pub refunded_total: Credits,
    pub reason: Option<String>,
    pub recorded_at: Timestamp,
    pub position: u64,
}

impl ProvisionRow {
    fn view(self, scope: Scope) -> Result<ProvisionView, ViewError> {
        let provision = self.provision;
        let own = scope.owns(self.reseller);
        Ok(ProvisionView {
            provision_id: provision.provision_id,
            reseller_id: self.reseller,
            amount: provision.amount,
            unit_cost: provision.unit_cost,
            price_source: provision.price_source,
            quantity: provision.quantity,
            base_cost: provision.base_cost,
            discount_percent: provision.discount_percent,
            sku: provision.sku,
            // Whom a reseller serves is its own: an upline is told the sum, not the client.
            client_id: provision.client.filter(|_| own),
            description: provision.description.filter(|_| own).map(|text| text.to_string()),
            metadata: provision.metadata.filter(|_| own),
            commissions: (scope == Scope::All).then_some(provision.commissions),
            refunded_total: self.refunded_total,
            refunds: None,
            recorded_at: self.recorded_at.parse().map_err(ViewError::unreadable)?,
            position: self.position,
        })
    }
}

/// A wallet's provisions, newest first; `None` where there is no such wallet in sight.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn provisions(
    read: &mut ScopedRead,
    reseller: ResellerId,
    page: &PageRequest,
) -> Result<Option<Page<ProvisionView>>, ViewError> {
    let before = page.position()?.unwrap_or(i64::MAX);
    if !wallet_in_sight(read, reseller).await? {
        return Ok(None);
    }
    let sql = format!(
        "select p.position, {PROVISION_COLUMNS} from provisions p where p.reseller_id = $1 and p.position < $2 \
         order by p.position desc limit $3"
    );
    let values = vec![Value::text(reseller), before.into(), page.rows_and_one().into()];
    let rows = read.connection().fetch(&sql, values).await?;
    let mut provisions = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = row.columns();
        provisions.push((columns.integer()?, ProvisionRow::read(&mut columns)?.view(read.scope())?));
    }
    Ok(Some(Page::of(page, provisions)))
}

/// One provision of a wallet, with its refunds.
///
/// # Errors
/// What the database says.
pub async fn provision(
    read: &mut ScopedRead,
    reseller: ResellerId,
    provision: ProvisionId,
) -> Result<Option<ProvisionView>, ViewError> {
    if !wallet_in_sight(read, reseller).await? {
        return Ok(None);
    }
    let sql = format!("select {PROVISION_COLUMNS} from provisions p where p.provision_id = $1 and p.reseller_id = $2");
    let values = vec![Value::text(provision), Value::text(reseller)];
    let Some(row) = read.connection().fetch_one(&sql, values).await? else { return Ok(None) };
    let mut view = ProvisionRow::read(&mut row.columns())?.view(read.scope())?;
    // Why is said in words about the deal: they are for whose deal it was, as its description is.
    let own = read.scope().owns(reseller);
    let rows = read
        .connection()
        .fetch(
            "select refund_id, amount, refunded_total, reason, recorded_at, position from refunds where provision_id = $1 \
             order by position",
            vec![Value::text(provision)],
        )
        .await?;
    let mut refunds = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = row.columns();
        refunds.push(RefundView {
            refund_id: columns.parse()?,
            amount: columns.integer()?,
            refunded_total: columns.integer()?,
            reason: columns.string_or_null()?.filter(|_| own),
            recorded_at: columns.parse()?,
            position: columns.count()?,
        });
    }
    view.refunds = Some(refunds);
    Ok(Some(view))
}

/// A transfer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct TransferView {
    pub transfer_id: TransferId,
    /// Who sent; `None` where it is not in the viewer's sight.
    pub from: Option<ResellerId>,
    /// Who received; `None` where it is not in the viewer's sight.
    pub to: Option<ResellerId>,
    pub amount: Credits,
    pub note: Option<String>,
    pub recorded_at: Timestamp,
    pub position: u64,
}

/// One transfer that a wallet sent or received.
///
/// # Errors
/// What the database says.
pub async fn transfer(
    read: &mut ScopedRead,
    reseller: ResellerId,
    transfer: TransferId,
) -> Result<Option<TransferView>, ViewError> {
    if !wallet_in_sight(read, reseller).await? {
        return Ok(None);
    }
    let values = read.range_and([Value::text(transfer), Value::text(reseller)]);
    let row = read
        .connection()
        .fetch_one(
            "select t.transfer_id, f.reseller_id, o.reseller_id, t.amount, t.note, t.recorded_at, t.position from transfers t \
             left join resellers f on f.reseller_id = t.from_id and f.path >= $1 and f.path < $2 \
             left join resellers o on o.reseller_id = t.to_id and o.path >= $1 and o.path < $2 \
             where t.transfer_id = $3 and (t.from_id = $4 or t.to_id = $4)",
            values,
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut columns = row.columns();
    Ok(Some(TransferView {
        transfer_id: columns.parse()?,
        from: columns.parse_or_null()?,
        to: columns.parse_or_null()?,
        amount: columns.integer()?,
        note: columns.string_or_null()?,
        recorded_at: columns.parse()?,
        position: columns.count()?,
    }))
}
