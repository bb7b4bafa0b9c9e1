//! Resellers as they were: folded from their own events in the log by the aggregate's own fold. A reseller has few events, so
//! no read model keeps its past.

use std::collections::HashMap;
use std::fmt::Display;

use aggregates::event::Event;
use aggregates::primitives::ResellerId;
use aggregates::reseller::Reseller;

use crate::audit_log;
use crate::sql::{Connection, ViewError};

/// Resellers after their last events up to a position; those that were not registered yet are left out.
///
/// # Errors
/// What the database says, or an event that this version cannot read.
pub async fn at<K: Display>(
    connection: &mut Connection<'_>,
    resellers: impl IntoIterator<Item = K>,
    position: u64,
) -> Result<HashMap<ResellerId, Reseller>, ViewError> {
    let mut all: HashMap<ResellerId, Reseller> = HashMap::new();
    for row in audit_log::histories(connection, "Reseller", resellers, position).await? {
        let mut columns = row.columns();
        let reseller = columns.parse()?;
        let event =
            Event::decode("Reseller", columns.str()?, columns.str()?, columns.str()?).map_err(ViewError::unreadable)?;
        if let Event::Reseller(event) = event {
            all.entry(reseller).or_default().fold(&event);
        }
    }
    Ok(all)
}
