//! Top resellers, for any stretch of time and any subtree.
//!
//! Now and then the fold writes down what everybody has done so far ([`super::marks`]). Any stretch of time is then the
//! difference of two such rows, mended by the movements between each end and the row that lies nearest. That costs two rows of
//! some ten bytes a reseller and some tens of nanoseconds for each of the movements, at most some
//! [`super::marks::movements_between`] at each end, however long the stretch is and however fast it went.

use std::collections::BTreeSet;

use aggregates::primitives::{Credits, Invalid, ResellerId, Tier, Timestamp};
use serde::Serialize;

use super::marks::Mark;
use super::movements::{self, Kind, Members};
use super::standings::{put_sparse, take_sparse};
use super::trends::{Reach, first_event};
use crate::ScopedRead;
use crate::sql::{Connection, Dialect, Value, ViewError};
use crate::subject::Subject;

/// By which figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = RankingSort, rename_all = "lowercase"))]
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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

/// Whether a column of a ranking shows it: who did nothing else is not ranked.
#[must_use]
pub fn is_shown(kind: Kind) -> bool {
    match kind {
        Kind::Added | Kind::Provisioned | Kind::CommissionEarned | Kind::CommissionReversed | Kind::Onboarded => true,
        Kind::Removed | Kind::Refunded | Kind::TransferredOut | Kind::TransferredIn => false,
    }
}

/// What one reseller did, as far as rankings show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    provisioned: Credits,
    added: Credits,
    acquisitions: i64,
    commissions: Credits,
    /// How many movements that is.
    movements: i64,
}

impl Score {
    /// Counts a movement, or (`sign` below zero) takes it back. A figure stays at the end of 64 bits, see [`super::Figures`].
    pub(super) fn count(&mut self, kind: Kind, amount: Credits, sign: i64) {
        let figure = match kind {
            Kind::Added => Some(&mut self.added),
            Kind::Provisioned => Some(&mut self.provisioned),
            Kind::CommissionEarned | Kind::CommissionReversed => Some(&mut self.commissions),
            Kind::Onboarded => Some(&mut self.acquisitions),
            Kind::Removed | Kind::Refunded | Kind::TransferredOut | Kind::TransferredIn => None,
        };
        let sign_of_kind = if kind == Kind::CommissionReversed { -1 } else { 1 };
        if let Some(figure) = figure {
            *figure = figure.saturating_add(sign * sign_of_kind * amount);
        }
        self.movements += sign * i64::from(is_shown(kind));
    }

    /// As it counts, it stays at the end of 64 bits where turnover comes there.
    fn add(&mut self, other: [i64; 5], sign: i64) {
        let [provisioned, added, acquisitions, commissions, movements] = other;
        for (figure, other) in [
            (&mut self.provisioned, provisioned),
            (&mut self.added, added),
            (&mut self.acquisitions, acquisitions),
            (&mut self.commissions, commissions),
            (&mut self.movements, movements),
        ] {
            *figure = figure.saturating_add(other.saturating_mul(sign));
        }
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

/// Scores of so many resellers by ordinal, as they are stored; those that are not there are of who has done nothing.
#[must_use]
pub fn pack(scores: &[Score], resellers: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(resellers * 10);
    for index in 0..resellers {
        let Score { provisioned, added, acquisitions, commissions, movements } =
            scores.get(index).copied().unwrap_or_default();
        put_sparse(&mut bytes, &[provisioned, added, acquisitions, commissions, movements]);
    }
    bytes
}

/// Adds stored scores, or (`sign` below zero) takes them away.
fn add_packed(scores: &mut [Score], mut bytes: &[u8], sign: i64) -> Result<(), ViewError> {
    for score in scores {
        if bytes.is_empty() {
            break;
        }
        score.add(take_sparse(&mut bytes)?, sign);
    }
    Ok(())
}

/// Adds what everybody had done at a mark, or (`sign` below zero) takes it away.
async fn count_at(
    connection: &mut Connection<'_>,
    mark: Mark,
    scores: &mut [Score],
    sign: i64,
) -> Result<(), ViewError> {
    if mark.position == 0 {
        return Ok(());
    }
    let sql = "select entries from scores where position = $1";
    let row = connection.fetch_one(sql, vec![mark.position.into()]).await?;
    row.map_or(Ok(()), |row| add_packed(scores, row.columns().slice()?, sign))
}

/// What everybody has done so far, by ordinal.
///
/// # Errors
/// What the database says.
pub async fn tally(connection: &mut Connection<'_>) -> Result<Vec<Score>, ViewError> {
    let mut scores = nothing(connection).await?;
    let Some(first) = first_event(connection).await? else { return Ok(scores) };
    let marks = Mark::all(connection, first).await?;
    if let Some(last) = marks.last() {
        count_at(connection, *last, &mut scores, 1).await?;
        count_between(connection, &marks, &mut scores, (last.before, Timestamp::MAX), 1).await?;
    }
    Ok(scores)
}

/// Everybody's scores before anything was done.
async fn nothing(connection: &mut Connection<'_>) -> Result<Vec<Score>, ViewError> {
    Ok(vec![Score::default(); registered(connection).await?])
}

/// How many resellers are registered, in sight or not: what is packed by ordinal is as long as that.
pub(crate) async fn registered(connection: &mut Connection<'_>) -> Result<usize, ViewError> {
    let registered = match connection.dialect() {
        Dialect::Sqlite => super::members_count(connection).await?,
        // Of the members no more are shown than those in scope.
        Dialect::Postgres => {
            let row = connection.fetch_one("select registered from views.registrations()", Vec::new()).await?;
            let count = row.map_or(Ok(0), |row| row.columns().integer())?;
            u32::try_from(count).map_err(ViewError::unreadable)?
        }
    };
    usize::try_from(registered).map_err(ViewError::unreadable)
}

/// What everybody did from `from` up to, not including, `to`, by ordinal.
async fn scores(
    connection: &mut Connection<'_>,
    from: Timestamp,
    to: Timestamp,
    as_of: Timestamp,
) -> Result<Vec<Score>, ViewError> {
    let mut scores = nothing(connection).await?;
    // Before the first event and after the last there is nothing, so neither is far from any end.
    let Some(first) = first_event(connection).await? else { return Ok(scores) };
    let from = from.max(first);
    let to = to.min(Timestamp::from_micros(as_of.micros().saturating_add(1)));
    if from >= to {
        return Ok(scores);
    }
    let marks = Mark::all(connection, first).await?;
    let distance = |a: Timestamp, b: Timestamp| a.micros().abs_diff(b.micros());
    let nearest = |time: Timestamp| {
        let found = marks.iter().min_by_key(|mark| distance(mark.before, time));
        found.copied().unwrap_or(Mark { before: first, position: 0 })
    };
    let (near_from, near_to) = (nearest(from), nearest(to));
    if near_from.position == near_to.position {
        count_between(connection, &marks, &mut scores, (from, to), 1).await?;
        return Ok(scores);
    }
    for (time, near, sign) in [(from, near_from, -1), (to, near_to, 1)] {
        count_at(connection, near, &mut scores, sign).await?;
        if near.before < time {
            count_between(connection, &marks, &mut scores, (near.before, time), sign).await?;
        } else {
            count_between(connection, &marks, &mut scores, (time, near.before), -sign).await?;
        }
    }
    Ok(scores)
}

/// Counts the movements of a stretch of time, or takes them back.
async fn count_between(
    connection: &mut Connection<'_>,
    marks: &[Mark],
    scores: &mut [Score],
    (from, to): (Timestamp, Timestamp),
    sign: i64,
) -> Result<(), ViewError> {
    if from >= to {
        return Ok(());
    }
    // What was recorded before a mark stands before it in the log, and the rest after it.
    let first = marks.iter().rfind(|mark| mark.before <= from).map_or(0, |mark| mark.block());
    let last = marks.iter().find(|mark| mark.before >= to).map_or(i64::MAX, |mark| mark.block());
    movements::scan(connection, (from, to), (first, last), |ordinal, kind, amount| {
        if let Some(score) = scores.get_mut(ordinal) {
            score.count(kind, amount, sign);
        }
    })
    .await
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
    let as_of = read.as_of();
    let mut connection = read.connection();
    let members = Members::of(&mut connection, subject, Reach::Subtree).await?;
    let (from, to) = (request.from.unwrap_or(Timestamp::MIN), request.to.unwrap_or(Timestamp::MAX));
    // What was not done by one of the members is left out below.
    connection.show_packed(true).await?;
    let scores = scores(&mut connection, from, to, as_of).await?;
    connection.show_packed(false).await?;
    let limit = request.limit as usize;
    let mut ranked: Vec<(i64, usize)> = scores
        .iter()
        .enumerate()
        .filter(|(ordinal, score)| score.movements > 0 && members.contain(*ordinal))
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
        let of_these = connection.dialect().one_of("ordinal", 1);
        let rows = connection
            .fetch(
                &format!("select ordinal from analytics_members where {of_these} order by reseller_id limit $2"),
                vec![ordinals_of(&ordinals), u64::try_from(places).unwrap_or(u64::MAX).into()],
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

/// The ordinals as a parameter.
fn ordinals_of(ordinals: &[usize]) -> Value {
    Value::integers(ordinals.iter().map(|ordinal| u64::try_from(*ordinal).unwrap_or(u64::MAX)))
}

async fn name(
    connection: &mut Connection<'_>,
    ordinals: &[usize],
    scores: &[Score],
    sort: Sort,
) -> Result<Vec<RankedReseller>, ViewError> {
    let of_these = connection.dialect().one_of("m.ordinal", 1);
    let sql = format!(
        "select m.ordinal, r.reseller_id, r.company_name, r.tier from analytics_members m \
         join resellers r on r.reseller_id = m.reseller_id where {of_these} order by r.reseller_id"
    );
    let rows = connection.fetch(&sql, vec![ordinals_of(ordinals)]).await?;
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
