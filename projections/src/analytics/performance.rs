//! How a downline does: all of it, and child by child. A child counts with everybody below it, so the children add up to the
//! whole.
//!
//! Cost: without a stretch of time, one row a child; with one, a look-up for each child shown and each of its days.

use aggregates::primitives::{Credits, ResellerId, ResellerStatus, Tier, Timestamp};
use serde::Serialize;

use super::Figures;
use super::standings::{self, Standing};
use super::trends::{self, Reach};
use crate::ScopedRead;
use crate::page::{Page, PageRequest};
use crate::sql::{Value, ViewError};
use crate::subject::Subject;

/// What some resellers did together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct PerformanceNumbers {
    /// Gross.
    pub provisioned: Credits,
    pub added: Credits,
    /// Net of reversals.
    pub commissions: Credits,
    /// Clients taken on.
    pub acquisitions: i64,
    /// How many of them are active now.
    pub active: i64,
}

impl PerformanceNumbers {
    fn with(self, figures: &Figures) -> Self {
        Self {
            provisioned: figures.provisioned,
            added: figures.added,
            commissions: figures.commissions,
            acquisitions: figures.acquisitions,
            active: self.active,
        }
    }

    fn of(figures: &Figures, active: i64) -> Self {
        Self { active, ..Self::default() }.with(figures)
    }
}

/// A child with everybody below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // API's words
pub struct ChildPerformance {
    pub reseller_id: ResellerId,
    pub company_name: String,
    pub tier: Tier,
    pub status: ResellerStatus,
    #[serde(flatten)]
    pub numbers: PerformanceNumbers,
}

/// How a downline does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Performance {
    /// The whole downline.
    pub totals: PerformanceNumbers,
    /// Its direct children, in the order in which they registered.
    pub children: Vec<ChildPerformance>,
    /// Where the next page of children begins; `None` on the last.
    pub next_cursor: Option<String>,
}

/// How the downline of a reseller, or the whole network, did from `from` up to, not including, `to`.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn performance(
    read: &mut ScopedRead,
    subject: &Subject,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    page: &PageRequest,
) -> Result<Performance, ViewError> {
    let mut totals = lifetime(read, subject).await?;
    let parent = if subject.reseller.is_some() {
        "r.parent_id = $1"
    } else {
        "r.parent_id is null and cast($1 as text) is null"
    };
    let sql = format!(
        "select r.position, r.reseller_id, r.path, r.company_name, r.tier, r.status, \
         d.downline_active + case d.status when 'active' then 1 else 0 end, s.figures from resellers r \
         join dashboards d on d.reseller_id = r.reseller_id \
         join analytics_members m on m.reseller_id = r.reseller_id \
         left join standings s on s.ordinal = m.ordinal where {parent} and r.position > $2 \
         order by r.position limit $3"
    );
    let values =
        vec![Value::text_or_null(subject.reseller), page.position()?.unwrap_or(0).into(), page.rows_and_one().into()];
    let mut children = Vec::new();
    for row in &read.connection().fetch(&sql, values).await? {
        let mut columns = row.columns();
        let position = columns.integer()?;
        let reseller_id: ResellerId = columns.parse()?;
        let path = columns.string()?;
        let (company_name, tier, status) = (columns.string()?, columns.parse()?, columns.parse()?);
        let active = columns.integer()?;
        // Who has not done anything yet has no standing.
        let standing = columns.slice_or_null()?.map_or_else(|| Ok(Standing::default()), Standing::unpack)?;
        let numbers = PerformanceNumbers::of(&standing.subtree_total(), active);
        let child = ChildPerformance { reseller_id, company_name, tier, status, numbers };
        children.push((position, (path, child)));
    }
    let page = Page::of(page, children);
    let mut children = page.data;
    if from.is_some() || to.is_some() {
        let (from, to) = (from.unwrap_or(Timestamp::MIN), to.unwrap_or(Timestamp::MAX));
        totals = totals.with(&trends::between(read, subject, Reach::Downline, from, to).await?);
        for (path, child) in &mut children {
            let id = child.reseller_id;
            let subject = Subject { reseller: Some(id), id: id.to_string(), path: std::mem::take(path) };
            let figures = trends::between(read, &subject, Reach::Subtree, from, to).await?;
            child.numbers = child.numbers.with(&figures);
        }
    }
    let children = children.into_iter().map(|(_, child)| child).collect();
    Ok(Performance { totals, children, next_cursor: page.next_cursor })
}

/// What a downline has done since the beginning.
async fn lifetime(read: &mut ScopedRead, subject: &Subject) -> Result<PerformanceNumbers, ViewError> {
    let mut connection = read.connection();
    let (_, standing) = standings::of(&mut connection, subject).await?;
    let sql = "select downline_active from dashboards where reseller_id = $1";
    let row = connection.fetch_one(sql, vec![subject.id.as_str().into()]).await?;
    let active = row.map_or(Ok(0), |row| row.columns().integer())?;
    Ok(PerformanceNumbers::of(&standing.below.total, active))
}
