//! What parents have set as their children's costs, and what one unit costs a reseller now.
//!
//! The rule itself is `aggregates::pricing`; here is only what feeds it: the line of ancestors, the prices set on it, and the
//! policy in force, all of one snapshot.

use std::collections::{BTreeMap, HashMap};

use aggregates::answer::{PriceView, QuoteView};
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::Policy;
use aggregates::pricing::{self, PricedItem, PricedReseller, UnitCost};
use aggregates::primitives::{Level, Percent, Quantity, ResellerId, Sku};
use aggregates::reseller::ResellerEvent;

use crate::batch::LogEvent;
use crate::downline_tree::{self, LineMember};
use crate::page::{Page, PageRequest};
use crate::sql::{Changes, Connection, Merge, Table, Value, ViewError};
use crate::{Projection, ScopedRead, policy, products};

static PRICES: Table = Table {
    name: "prices",
    columns: &[
        ("reseller_id", Merge::Key),
        ("sku", Merge::Key),
        ("cost", Merge::Replace),
        ("set_by", Merge::Replace),
        ("position", Merge::Replace),
        ("updated_at", Merge::Replace),
    ],
};

/// The projection.
#[derive(Debug)]
pub struct Prices;

/// A price after the last event about it.
#[derive(Debug)]
pub struct PriceRow {
    cost: Option<Level>,
    set_by: Value,
    position: u64,
    updated_at: String,
}

impl Projection for Prices {
    const NAME: &'static str = "prices";
    const TABLES: &'static [&'static Table] = &[&PRICES];
    type Rows = BTreeMap<(ResellerId, Sku), PriceRow>;
    type Memory = ();

    /// Every event says all there is to say: nothing to load.
    async fn load(_: &mut Connection<'_>, _: &[LogEvent], (): &mut ()) -> Result<Self::Rows, ViewError> {
        Ok(BTreeMap::new())
    }

    fn fold(rows: &mut Self::Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let AggregateKey::Reseller(reseller) = logged.key else { continue };
            let (sku, cost, set_by) = match &logged.event {
                Event::Reseller(ResellerEvent::PriceSet { by, sku, cost }) => (sku, Some(*cost), Value::json(by)?),
                Event::Reseller(ResellerEvent::PriceCleared { sku }) => (sku, None, Value::Null),
                _ => continue,
            };
            let (position, updated_at) = (logged.position, logged.recorded_at.clone());
            rows.insert((reseller, sku.clone()), PriceRow { cost, set_by, position, updated_at });
        }
        Ok(())
    }

    fn write(rows: Self::Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        for ((reseller, sku), row) in rows {
            changes.put(
                &PRICES,
                [
                    Value::text(reseller),
                    Value::text(sku),
                    row.cost.map(Level::credits).into(),
                    row.set_by,
                    row.position.into(),
                    row.updated_at.into(),
                ],
            );
        }
        Ok(())
    }
}

/// The prices that its parent has set for a reseller, by SKU. `None` where the reseller is not in sight.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn list(
    read: &mut ScopedRead,
    reseller: ResellerId,
    page: &PageRequest,
) -> Result<Option<Page<PriceView>>, ViewError> {
    if read.path_of(reseller).await?.is_none() {
        return Ok(None);
    }
    // By the position of the last change: unique, and as good an order as any.
    let rows = read
        .connection()
        .fetch(
            "select position, sku, cost from prices where reseller_id = $1 and cost is not null and position > $2 \
             order by position limit $3",
            vec![Value::text(reseller), page.position()?.unwrap_or(0).into(), page.rows_and_one().into()],
        )
        .await?;
    let mut prices = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = row.columns();
        let position = columns.integer()?;
        prices
            .push((position, PriceView { reseller_id: reseller, sku: columns.parse()?, cost: Some(columns.level()?) }));
    }
    Ok(Some(Page::of(page, prices)))
}

/// Everything that the costs of one reseller depend on, of one snapshot.
#[derive(Debug)]
pub struct PriceLine {
    line: Vec<LineMember>,
    prices: HashMap<(ResellerId, Sku), Level>,
    /// The policy in force.
    pub policy: Policy,
}

impl PriceLine {
    /// What one unit of a product costs the reseller at the end of the line.
    ///
    /// # Errors
    /// `overflow`.
    pub fn unit_cost(&self, sku: Option<&Sku>, item: PricedItem) -> Result<UnitCost, ViewError> {
        let line: Vec<PricedReseller> = self
            .line
            .iter()
            .map(|member| PricedReseller {
                id: member.id,
                tier: member.tier,
                status: member.status,
                price: sku.and_then(|sku| self.prices.get(&(member.id, sku.clone())).copied()),
                margin_percent: member.margin_percent,
            })
            .collect();
        let costs = pricing::unit_costs(&line, item, &self.policy)?;
        costs.last().copied().ok_or_else(|| ViewError::unreadable("a line without anybody"))
    }

    /// The reseller at the end of the line.
    #[must_use]
    pub fn reseller(&self) -> Option<&LineMember> {
        self.line.last()
    }
}

/// The line of a reseller with all the prices set on it. `None` where it is not in sight.
///
/// # Errors
/// What the database says.
pub async fn price_line(read: &mut ScopedRead, reseller: ResellerId) -> Result<Option<PriceLine>, ViewError> {
    let Some(line) = downline_tree::line(read, reseller).await? else { return Ok(None) };
    let rows = read
        .connection()
        .fetch_by_keys(
            "select reseller_id, sku, cost from prices where cost is not null and reseller_id in",
            line.iter().map(|member| member.id),
        )
        .await?;
    let mut prices = HashMap::with_capacity(rows.len());
    for row in &rows {
        let mut columns = row.columns();
        prices.insert((columns.parse()?, columns.parse()?), columns.level()?);
    }
    let policy = policy::in_force(&mut read.connection()).await?;
    Ok(Some(PriceLine { line, prices, policy }))
}

/// What a quote is asked for.
#[derive(Debug, Clone)]
pub enum Quoted {
    /// A base cost, priced by tier and margins.
    BaseCost(Level),
    /// A product.
    Product(Sku),
}

/// What something would cost a reseller now. `None` where the reseller is not in sight or there is no such product.
///
/// # Errors
/// What the database says, `product_retired`, or `overflow`.
pub async fn quote(
    read: &mut ScopedRead,
    reseller: ResellerId,
    quoted: &Quoted,
    quantity: Quantity,
) -> Result<Option<QuoteView>, ViewError> {
    let Some(line) = price_line(read, reseller).await? else { return Ok(None) };
    let Some(tier) = line.reseller().map(|member| member.tier) else { return Ok(None) };
    let (sku, item) = match quoted {
        Quoted::BaseCost(base_cost) => {
            (None, PricedItem { base_cost: *base_cost, minimum_margin_percent: Percent::default() })
        }
        Quoted::Product(sku) => {
            let Some(product) = products::find(&mut read.connection(), sku).await? else { return Ok(None) };
            (Some(sku), products::priced(&product.terms))
        }
    };
    let unit = line.unit_cost(sku, item)?;
    Ok(Some(QuoteView {
        base_cost: item.base_cost.credits(),
        discount_percent: line.policy.discount(tier),
        price_source: unit.source,
        unit_cost: unit.cost,
        quantity,
        cost: pricing::times(unit.cost, quantity.units())?,
    }))
}
