//! What resellers were called at any position: one row for each name that one has ever had.
//!
//! Rows are only ever added, so what is read of them up to a position is the same for ever.

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::ResellerId;
use aggregates::reseller::ResellerEvent;

use crate::Projection;
use crate::batch::LogEvent;
use crate::sql::{Changes, Connection, Merge, Table, Value, ViewError};

static COMPANY_NAMES: Table = Table {
    name: "company_names",
    columns: &[("reseller_id", Merge::Key), ("position", Merge::Key), ("company_name", Merge::Keep)],
};

/// The projection.
#[derive(Debug)]
pub struct CompanyNames;

/// A name that a reseller took.
#[derive(Debug)]
pub struct NameRow {
    reseller: ResellerId,
    position: u64,
    company_name: String,
}

impl Projection for CompanyNames {
    const NAME: &'static str = "company_names";
    const TABLES: &'static [&'static Table] = &[&COMPANY_NAMES];
    const WRITTEN_ONCE: &'static [&'static Table] = Self::TABLES;
    type Rows = Vec<NameRow>;
    type Memory = ();

    async fn load(_: &mut Connection<'_>, _: &[LogEvent], (): &mut ()) -> Result<Self::Rows, ViewError> {
        Ok(Vec::new())
    }

    fn fold(rows: &mut Self::Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let (AggregateKey::Reseller(reseller), Event::Reseller(event)) = (&logged.key, &logged.event) else {
                continue;
            };
            let company_name = match event {
                ResellerEvent::ResellerRegistered(registration) => registration.company_name.to_string(),
                ResellerEvent::ResellerRenamed { company_name } => company_name.to_string(),
                _ => continue,
            };
            rows.push(NameRow { reseller: *reseller, position: logged.position, company_name });
        }
        Ok(())
    }

    fn write(rows: Self::Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        for row in rows {
            changes.put(&COMPANY_NAMES, [Value::text(row.reseller), row.position.into(), row.company_name.into()]);
        }
        Ok(())
    }
}
