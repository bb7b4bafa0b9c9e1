//! The policies that came into force, one row each; money is converted and costs are quoted by the one in force.

use aggregates::event::Event;
use aggregates::platform::{PlatformEvent, Policy};

use crate::Projection;
use crate::batch::LogEvent;
use crate::sql::{Changes, Connection, Merge, Table, Value, ViewError};

static POLICIES: Table = Table {
    name: "policies",
    columns: &[("position", Merge::Key), ("policy", Merge::Keep), ("recorded_at", Merge::Keep)],
};

/// The projection.
#[derive(Debug)]
pub struct Policies;

/// A policy that came into force.
#[derive(Debug)]
pub struct PolicyRow {
    position: u64,
    policy: Policy,
    recorded_at: String,
}

impl Projection for Policies {
    const NAME: &'static str = "policy";
    const TABLES: &'static [&'static Table] = &[&POLICIES];
    type Rows = Vec<PolicyRow>;
    type Memory = ();

    async fn load(_: &mut Connection<'_>, _: &[LogEvent], (): &mut ()) -> Result<Self::Rows, ViewError> {
        Ok(Vec::new())
    }

    fn fold(rows: &mut Self::Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for event in events {
            if let Event::Platform(PlatformEvent::PolicySet { policy }) = &event.event {
                rows.push(PolicyRow {
                    position: event.position,
                    policy: policy.clone(),
                    recorded_at: event.recorded_at.clone(),
                });
            }
        }
        Ok(())
    }

    fn write(rows: Self::Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        for row in rows {
            changes.put(&POLICIES, [row.position.into(), Value::json(&row.policy)?, row.recorded_at.into()]);
        }
        Ok(())
    }
}

/// The policy in force; before the first one, the default.
///
/// # Errors
/// What the database says.
pub async fn in_force(connection: &mut Connection<'_>) -> Result<Policy, ViewError> {
    let row = connection.fetch_one("select policy from policies order by position desc limit 1", Vec::new()).await?;
    Ok(row.map(|row| row.columns().json()).transpose()?.unwrap_or_default())
}

/// The policy that was in force after a position; before the first one, the default.
///
/// # Errors
/// What the database says.
pub async fn at(connection: &mut Connection<'_>, position: u64) -> Result<Policy, ViewError> {
    let sql = "select policy from policies where position <= $1 order by position desc limit 1";
    let row = connection.fetch_one(sql, vec![position.into()]).await?;
    Ok(row.map(|row| row.columns().json()).transpose()?.unwrap_or_default())
}
