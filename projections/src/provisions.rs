//! Provisions with their refunds, and transfers: what statement lines refer to, one row each.
//!
//! Refunds and transfers are only ever added; of a provision only the refunded total changes, so only provisions that a batch
//! refunds are loaded. Which provisions are a wallet's, and in which order, its statement knows ([`crate::statement_lines`]).

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
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use crate::statement_lines::{provisions_before, wallet_in_sight};
use crate::{Projection, Scope, ScopedRead};

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
pub struct Provisions;

/// The rows that a batch adds, and the provisions that it adds or refunds.
#[derive(Debug, Default)]
pub struct Rows {
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

impl Projection for Provisions {
    const NAME: &'static str = "provisions";
    const TABLES: &'static [&'static Table] = &[&PROVISIONS, &REFUNDS, &TRANSFERS];
    const WRITTEN_ONCE: &'static [&'static Table] = &[&REFUNDS, &TRANSFERS];
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
        "select p.position, {PROVISION_COLUMNS} from {ids} i join provisions p on p.provision_id = i.provision_id \
         order by p.position desc",
        ids = provisions_before("$1", "$2", "$3"),
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
