//! Top resellers, for any stretch of time and any subtree.
//!
//! The movements of the stretch are read once and added up in an array of all resellers: that costs what happened in the
//! stretch, about ten nanoseconds a movement, and does not depend on how the sales are spread, as walking sorted lists would.

use std::collections::BTreeSet;

use aggregates::primitives::{Credits, Invalid, ResellerId, Tier, Timestamp};
use serde::Serialize;

use super::movements::{self, Kind, Members};
use super::trends::Reach;
use crate::ScopedRead;
use crate::sql::{Connection, Value, ViewError};
use crate::subject::Subject;

/// By which figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// What was provisioned, gross.
    #[default]
    Provisioned,
    /// Credits added.
    Added,
    /// Clients taken on.
    Acquisitions,
    /// Commissions, net of reversals.
    Commissions,
}

impl std::str::FromStr for Sort {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "provisioned" => Ok(Self::Provisioned),
            "added" => Ok(Self::Added),
            "acquisitions" => Ok(Self::Acquisitions),
            "commissions" => Ok(Self::Commissions),
            _ => Err(Invalid("must be one of: provisioned, added, acquisitions, commissions".into())),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankingRequest {
    /// How many, from the best.
    pub limit: u32,
    /// By which figure.
    pub sort: Sort,
    /// From the beginning where it is not named.
    pub from: Option<Timestamp>,
    /// Not included; up to the last event where it is not named.
    pub to: Option<Timestamp>,
}

/// One of the top resellers. Its figures are its own, not its downline's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // API's words
pub struct RankedReseller {
    pub reseller_id: ResellerId,
    pub company_name: String,
    pub tier: Tier,
    /// Gross.
    pub provisioned: Credits,
    pub added: Credits,
    /// Clients that it took on itself.
    pub acquisitions: i64,
    /// Net of reversals.
    pub commissions: Credits,
}

/// What one reseller did in the stretch, as far as rankings show it.
#[derive(Debug, Clone, Copy, Default)]
struct Score {
    provisioned: Credits,
    added: Credits,
    acquisitions: i64,
    commissions: Credits,
    seen: bool,
}

impl Score {
    fn count(&mut self, kind: Kind, amount: Credits) {
        match kind {
            Kind::Added => self.added += amount,
            Kind::Provisioned => self.provisioned += amount,
            Kind::CommissionEarned => self.commissions += amount,
            Kind::CommissionReversed => self.commissions -= amount,
            Kind::Onboarded => self.acquisitions += amount,
            // Shown by no column: who did nothing else is not ranked.
            Kind::Removed | Kind::Refunded | Kind::TransferredOut | Kind::TransferredIn => return,
        }
        self.seen = true;
    }

    fn by(&self, sort: Sort) -> i64 {
        match sort {
            Sort::Provisioned => self.provisioned,
            Sort::Added => self.added,
            Sort::Acquisitions => self.acquisitions,
            Sort::Commissions => self.commissions,
        }
    }
}

/// The resellers of a subtree that did most in a stretch of time; only those that did anything that is shown. Equals are in the
/// order of their ids.
///
/// # Errors
/// What the database says.
pub async fn top(
    read: &mut ScopedRead,
    subject: &Subject,
    request: &RankingRequest,
) -> Result<Vec<RankedReseller>, ViewError> {
    let mut connection = read.connection();
    let count = usize::try_from(super::members_count(&mut connection).await?).map_err(ViewError::unreadable)?;
    let members = Members::of(&mut connection, subject, Reach::Subtree).await?;
    let mut scores = vec![Score::default(); count];
    let (from, to) = (request.from.unwrap_or(Timestamp::MIN), request.to.unwrap_or(Timestamp::MAX));
    movements::scan(&mut connection, from, to, |ordinal, kind, amount| {
        if let Some(score) = scores.get_mut(ordinal) {
            score.count(kind, amount);
        }
    })
    .await?;
    let limit = request.limit as usize;
    let mut ranked: Vec<(i64, usize)> = scores
        .iter()
        .enumerate()
        .filter(|(ordinal, score)| score.seen && members.contain(*ordinal))
        .map(|(ordinal, score)| (score.by(request.sort), ordinal))
        .collect();
    // Everybody who is better than the last one shown is shown; of its equals as many as fit, by their ids.
    let equals = if ranked.len() > limit && limit > 0 {
        let (_, (least, _), _) = ranked.select_nth_unstable_by_key(limit - 1, |(figure, _)| std::cmp::Reverse(*figure));
        let least = *least;
        let equals: Vec<usize> =
            ranked.iter().filter(|(figure, _)| *figure == least).map(|(_, ordinal)| *ordinal).collect();
        ranked.retain(|(figure, _)| *figure > least);
        equals
    } else {
        Vec::new()
    };
    let mut shown: Vec<usize> = ranked.into_iter().map(|(_, ordinal)| ordinal).collect();
    let places = limit.saturating_sub(shown.len());
    if equals.len() > places {
        shown.extend(first_by_id(&mut connection, equals, places).await?);
    } else {
        shown.extend(equals);
    }
    name(&mut connection, &shown, &scores, request.sort).await
}

/// How many ordinals are looked up one by one rather than by walking through the ids.
const LOOKED_UP_MAX: usize = 2_000;

/// The first few of these ordinals in the order of the resellers' ids. Few are looked up; where they are many, walking through
/// the ids meets one soon.
async fn first_by_id(
    connection: &mut Connection<'_>,
    ordinals: Vec<usize>,
    places: usize,
) -> Result<Vec<usize>, ViewError> {
    let mut found = Vec::with_capacity(places);
    if ordinals.len() <= LOOKED_UP_MAX {
        let rows = connection
            .fetch(
                "select ordinal from analytics_members where ordinal in (select value from json_each($1)) \
                 order by reseller_id limit $2",
                vec![Value::json(&ordinals)?, u64::try_from(places).unwrap_or(u64::MAX).into()],
            )
            .await?;
        for row in &rows {
            found.push(usize::try_from(row.columns().integer()?).map_err(ViewError::unreadable)?);
        }
        return Ok(found);
    }
    let wanted: BTreeSet<usize> = ordinals.into_iter().collect();
    let sql = "select ordinal from analytics_members order by reseller_id";
    connection
        .for_each(sql, Vec::new(), |row| {
            let ordinal = usize::try_from(row.columns().integer()?).map_err(ViewError::unreadable)?;
            if wanted.contains(&ordinal) {
                found.push(ordinal);
            }
            Ok(found.len() < places)
        })
        .await?;
    Ok(found)
}

async fn name(
    connection: &mut Connection<'_>,
    ordinals: &[usize],
    scores: &[Score],
    sort: Sort,
) -> Result<Vec<RankedReseller>, ViewError> {
    let rows = connection
        .fetch(
            "select m.ordinal, r.reseller_id, r.company_name, r.tier from analytics_members m \
             join resellers r on r.reseller_id = m.reseller_id \
             where m.ordinal in (select value from json_each($1)) order by r.reseller_id",
            vec![Value::json(&ordinals)?],
        )
        .await?;
    let mut top = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = row.columns();
        let ordinal = usize::try_from(columns.integer()?).map_err(ViewError::unreadable)?;
        let score = scores.get(ordinal).copied().unwrap_or_default();
        let reseller = RankedReseller {
            reseller_id: columns.parse()?,
            company_name: columns.string()?,
            tier: columns.parse()?,
            provisioned: score.provisioned,
            added: score.added,
            acquisitions: score.acquisitions,
            commissions: score.commissions,
        };
        top.push((score.by(sort), reseller));
    }
    // Stable: equals stay in the order of their ids.
    top.sort_by_key(|(figure, _)| std::cmp::Reverse(*figure));
    Ok(top.into_iter().map(|(_, reseller)| reseller).collect())
}
