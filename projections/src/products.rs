//! What can be provisioned, one row per product; and a reseller's catalog: what it may sell, and what one unit costs it.

use std::collections::BTreeMap;

use aggregates::answer::ProductView;
use aggregates::event::{AggregateKey, Event};
use aggregates::pricing::PricedItem;
use aggregates::primitives::{Credits, PriceSource, ResellerId, Sku};
use aggregates::product::{Product, ProductTerms};
use serde::Serialize;

use crate::batch::LogEvent;
use crate::page::{Page, PageRequest};
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use crate::{Projection, ScopedRead, prices};

static PRODUCTS: Table = Table {
    name: "products",
    columns: &[
        ("sku", Merge::Key),
        ("position", Merge::Keep),
        ("name", Merge::Replace),
        ("base_cost", Merge::Replace),
        ("minimum_tier", Merge::Replace),
        ("minimum_margin_percent", Merge::Replace),
        ("retired", Merge::Replace),
    ],
};

const COLUMNS: &str = "position, sku, name, base_cost, minimum_tier, minimum_margin_percent, retired";

/// The projection.
#[derive(Debug)]
pub struct Products;

/// A product after its last event.
#[derive(Debug, Default)]
pub struct ProductRow {
    position: u64,
    product: Product,
}

fn read(columns: &mut Columns<'_>) -> Result<(u64, ProductView), ViewError> {
    let position = columns.count()?;
    let sku = columns.parse()?;
    let terms = ProductTerms {
        name: columns.parse()?,
        base_cost: columns.level()?,
        minimum_tier: columns.parse()?,
        minimum_margin_percent: columns.parse()?,
    };
    Ok((position, ProductView { sku, terms, retired: columns.boolean()? }))
}

impl Projection for Products {
    const NAME: &'static str = "products";
    const TABLES: &'static [&'static Table] = &[&PRODUCTS];
    type Rows = BTreeMap<Sku, ProductRow>;
    type Memory = ();

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent], (): &mut ()) -> Result<Self::Rows, ViewError> {
        let touched: BTreeMap<&Sku, ()> = events
            .iter()
            .filter_map(|event| match &event.key {
                AggregateKey::Product(sku) => Some((sku, ())),
                _ => None,
            })
            .collect();
        let sql = format!("select {COLUMNS} from products where sku in");
        let mut rows = BTreeMap::new();
        for row in connection.fetch_by_keys(&sql, touched.into_keys()).await? {
            let (position, view) = read(&mut row.columns())?;
            let product = Product { terms: Some(view.terms), retired: view.retired };
            rows.insert(view.sku, ProductRow { position, product });
        }
        Ok(rows)
    }

    fn fold(rows: &mut Self::Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let (AggregateKey::Product(sku), Event::Product(event)) = (&logged.key, &logged.event) else { continue };
            let row = rows
                .entry(sku.clone())
                .or_insert_with(|| ProductRow { position: logged.position, product: Product::default() });
            row.product.fold(event);
        }
        Ok(())
    }

    fn write(rows: Self::Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        for (sku, row) in rows {
            let Some(terms) = row.product.terms else { continue };
            changes.put(
                &PRODUCTS,
                [
                    Value::text(sku),
                    row.position.into(),
                    Value::text(terms.name),
                    terms.base_cost.credits().into(),
                    terms.minimum_tier.word().into(),
                    Value::text(terms.minimum_margin_percent),
                    row.product.retired.into(),
                ],
            );
        }
        Ok(())
    }
}

/// A product as pricing must know it.
#[must_use]
pub fn priced(terms: &ProductTerms) -> PricedItem {
    PricedItem { base_cost: terms.base_cost, minimum_margin_percent: terms.minimum_margin_percent }
}

/// One product. Products are no tenant's: whoever may ask at all may see them.
///
/// # Errors
/// What the database says.
pub async fn find(connection: &mut Connection<'_>, sku: &Sku) -> Result<Option<ProductView>, ViewError> {
    let sql = format!("select {COLUMNS} from products where sku = $1");
    let row = connection.fetch_one(&sql, vec![Value::text(sku)]).await?;
    Ok(row.map(|row| read(&mut row.columns())).transpose()?.map(|(_, view)| view))
}

/// A product in a reseller's catalog.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CatalogEntry {
    /// The product.
    #[serde(flatten)]
    pub product: ProductView,
    /// Whether the reseller's tier may sell it; `None` where no reseller is asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entitled: Option<bool>,
    /// What one unit costs the reseller now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_cost: Option<Credits>,
    /// How that came about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_source: Option<PriceSource>,
}

async fn page_of(connection: &mut Connection<'_>, page: &PageRequest) -> Result<Vec<(i64, ProductView)>, ViewError> {
    let sql = format!("select {COLUMNS} from products where position > $1 order by position limit $2");
    let values = vec![page.position()?.unwrap_or(0).into(), page.rows_and_one().into()];
    let rows = connection.fetch(&sql, values).await?;
    rows.iter()
        .map(|row| {
            let (position, view) = read(&mut row.columns())?;
            Ok((i64::try_from(position).map_err(ViewError::unreadable)?, view))
        })
        .collect()
}

/// All products in the order in which they were published; with `reseller`, what each costs it. `None` where that reseller is
/// not in sight.
///
/// # Errors
/// What the database says, [`ViewError::InvalidCursor`], or `overflow`.
pub async fn list(
    read: &mut ScopedRead,
    reseller: Option<ResellerId>,
    page: &PageRequest,
) -> Result<Option<Page<CatalogEntry>>, ViewError> {
    let line = match reseller {
        None => None,
        Some(reseller) => match prices::price_line(read, reseller).await? {
            None => return Ok(None),
            line => line,
        },
    };
    let mut entries = Vec::new();
    for (position, product) in page_of(&mut read.connection(), page).await? {
        let mut entry = CatalogEntry { product, entitled: None, unit_cost: None, price_source: None };
        if let Some(line) = &line {
            let unit = line.unit_cost(Some(&entry.product.sku), priced(&entry.product.terms))?;
            let minimum = entry.product.terms.minimum_tier;
            entry.entitled = line.reseller().map(|member| member.tier >= minimum);
            entry.unit_cost = Some(unit.cost);
            entry.price_source = Some(unit.source);
        }
        entries.push((position, entry));
    }
    Ok(Some(Page::of(page, entries)))
}
