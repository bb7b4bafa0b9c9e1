//! What in a downline needs looking after: who cannot sell, who soon cannot, who waits for an answer.
//!
//! A network of 100 000 can have as many of anything, so each list is cut and each is counted whole. Lists are read from
//! indexes that hold nothing else, in the order of the tree; counting costs a read of the index, and of frozen resellers as
//! much as there are freezes.

use aggregates::primitives::{Credits, RequestId, ResellerId, Timestamp};
use serde::Serialize;

use crate::ScopedRead;
use crate::dashboard::{frozen_below, frozen_roots_below};
use crate::scope::subtree_range;
use crate::sql::{Connection, Value, ViewError};
use crate::subject::Subject;

/// After how many seconds without an answer a request is stale: three days.
pub const STALE_AFTER_SECONDS: i64 = 3 * 86_400;

/// How a downline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing needs looking after.
    Healthy,
    /// Credit is low, somebody is out of business, or a request waits for too long.
    Warning,
    /// Somebody is frozen or held, and cannot sell.
    Critical,
}

/// A reseller by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // API's words
pub struct Named {
    pub id: ResellerId,
    pub company_name: String,
}

/// A reseller whose credit is low.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // API's words
pub struct LowCredit {
    pub id: ResellerId,
    pub company_name: String,
    pub balance: Credits,
    pub threshold: Credits,
}

/// A request that has waited for too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // API's words
pub struct StaleRequest {
    pub id: RequestId,
    pub requester_id: ResellerId,
    pub kind: String,
    pub created_at: Timestamp,
}

/// How many there are of each, listed or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the lists' names
pub struct HealthCounts {
    pub frozen: u64,
    pub low_credit: u64,
    pub held: u64,
    pub inactive: u64,
    pub stale_requests: u64,
}

/// What in a downline needs looking after. The lists are cut at what was asked for; the counts are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// All in one word.
    pub status: HealthStatus,
    /// How many there are of each.
    pub counts: HealthCounts,
    /// Frozen, by a freeze of their own or of anybody above them.
    pub frozen: Vec<Named>,
    /// With a balance below their threshold.
    pub low_credit: Vec<LowCredit>,
    /// Whose provisioning is held.
    pub held: Vec<Named>,
    /// Deactivated.
    pub inactive: Vec<Named>,
    /// Addressed to whom this is about, and without an answer for three days; oldest first. For the network: all.
    pub stale_requests: Vec<StaleRequest>,
}

/// What in a downline needs looking after: at most `limit` of each.
///
/// # Errors
/// What the database says.
pub async fn health(read: &mut ScopedRead, subject: &Subject, limit: u32, now: Timestamp) -> Result<Health, ViewError> {
    let mut connection = read.connection();
    let (frozen_count, frozen) = frozen(&mut connection, subject, limit).await?;
    let (low_credit_count, low_credit) = low_credit(&mut connection, subject, limit).await?;
    let (held_count, held) = flagged(&mut connection, subject, "d.holds > 0", limit).await?;
    let (inactive_count, inactive) = flagged(&mut connection, subject, "d.status = 'deactivated'", limit).await?;
    let (stale_count, stale_requests) = stale_requests(&mut connection, subject, limit, now).await?;
    let counts = HealthCounts {
        frozen: frozen_count,
        low_credit: low_credit_count,
        held: held_count,
        inactive: inactive_count,
        stale_requests: stale_count,
    };
    let status = if counts.frozen + counts.held > 0 {
        HealthStatus::Critical
    } else if counts.low_credit + counts.inactive + counts.stale_requests > 0 {
        HealthStatus::Warning
    } else {
        HealthStatus::Healthy
    };
    Ok(Health { status, counts, frozen, low_credit, held, inactive, stale_requests })
}

async fn count(connection: &mut Connection<'_>, sql: &str, values: Vec<Value>) -> Result<u64, ViewError> {
    let row = connection.fetch_one(sql, values).await?;
    row.map_or(Ok(0), |row| row.columns().count())
}

/// Those below for whom a condition of an index holds.
async fn flagged(
    connection: &mut Connection<'_>,
    subject: &Subject,
    condition: &str,
    limit: u32,
) -> Result<(u64, Vec<Named>), ViewError> {
    let sql = format!("select count(*) from dashboards d where {condition} and d.path >= $1 and d.path < $2");
    let count = count(connection, &sql, subject.range_below()).await?;
    let sql = format!(
        "select r.reseller_id, r.company_name from dashboards d join resellers r on r.reseller_id = d.reseller_id \
         where {condition} and d.path >= $1 and d.path < $2 order by d.path limit $3"
    );
    let mut values = subject.range_below();
    values.push(limit.into());
    Ok((count, named(connection, &sql, values).await?))
}

async fn named(connection: &mut Connection<'_>, sql: &str, values: Vec<Value>) -> Result<Vec<Named>, ViewError> {
    let rows = connection.fetch(sql, values).await?;
    rows.iter()
        .map(|row| {
            let mut columns = row.columns();
            Ok(Named { id: columns.parse()?, company_name: columns.string()? })
        })
        .collect()
}

async fn low_credit(
    connection: &mut Connection<'_>,
    subject: &Subject,
    limit: u32,
) -> Result<(u64, Vec<LowCredit>), ViewError> {
    let sql = "select count(*) from dashboards where low_credit = 1 and path >= $1 and path < $2";
    let count = count(connection, sql, subject.range_below()).await?;
    let sql = "select r.reseller_id, r.company_name, d.balance, d.low_credit_threshold from dashboards d \
               join resellers r on r.reseller_id = d.reseller_id \
               where d.low_credit = 1 and d.path >= $1 and d.path < $2 order by d.path limit $3";
    let mut values = subject.range_below();
    values.push(limit.into());
    let mut low = Vec::new();
    for row in &connection.fetch(sql, values).await? {
        let mut columns = row.columns();
        low.push(LowCredit {
            id: columns.parse()?,
            company_name: columns.string()?,
            balance: columns.integer()?,
            threshold: columns.integer()?,
        });
    }
    Ok((count, low))
}

/// All below where the line itself is frozen, else the subtrees of those that carry a freeze.
async fn frozen(
    connection: &mut Connection<'_>,
    subject: &Subject,
    limit: u32,
) -> Result<(u64, Vec<Named>), ViewError> {
    let downline =
        count(connection, "select downline from dashboards where reseller_id = $1", vec![subject.id.as_str().into()])
            .await?;
    let count = frozen_below(connection, &subject.path, downline).await?;
    let ranges = match frozen_roots_below(connection, &subject.path).await? {
        None => vec![subject.range_below()],
        Some(roots) => roots
            .into_iter()
            .map(|(path, _)| {
                let (from, until) = subtree_range(&path);
                vec![from.into(), until.into()]
            })
            .collect(),
    };
    let mut frozen = Vec::new();
    let sql = "select reseller_id, company_name from resellers where path >= $1 and path < $2 order by path limit $3";
    for mut values in ranges {
        let left = u64::from(limit).saturating_sub(u64::try_from(frozen.len()).unwrap_or(u64::MAX));
        if left == 0 {
            break;
        }
        values.push(left.into());
        frozen.extend(named(connection, sql, values).await?);
    }
    Ok((count, frozen))
}

async fn stale_requests(
    connection: &mut Connection<'_>,
    subject: &Subject,
    limit: u32,
    now: Timestamp,
) -> Result<(u64, Vec<StaleRequest>), ViewError> {
    let addressed = if subject.reseller.is_some() { " and addressed_to = $1" } else { "" };
    let condition = format!("status = 'pending' and created_at <= $2{addressed}");
    let mut values = vec![subject.id.as_str().into(), Value::text(now.plus_seconds(-STALE_AFTER_SECONDS))];
    let sql = format!("select count(*) from upline_requests where {condition}");
    let count = count(connection, &sql, values.clone()).await?;
    let sql = format!(
        "select request_id, requester_id, kind, created_at from upline_requests where {condition} \
         order by position limit $3"
    );
    values.push(limit.into());
    let mut stale = Vec::new();
    for row in &connection.fetch(&sql, values).await? {
        let mut columns = row.columns();
        let (id, requester_id) = (columns.parse()?, columns.parse()?);
        stale.push(StaleRequest { id, requester_id, kind: columns.string()?, created_at: columns.parse()? });
    }
    Ok((count, stale))
}
