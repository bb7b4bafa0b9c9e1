//! Top resellers, for any stretch of time and any subtree.
//!
//! Now and then the fold writes down what everybody has done so far ([`super::marks`]). Any stretch of time is then the
//! difference of two such rows ([`super::tallies`]), mended by the movements between each end and the row that lies nearest.
//! That costs what the members do ([`super::members`]), a nanosecond or two for each of them and some ten for each of the movements, at most
//! some [`super::marks::movements_between`] at each end, however long the stretch is and however fast it went.

use std::cmp::Reverse;

use aggregates::primitives::{Credits, Invalid, ResellerId, Tier, Timestamp};
use serde::Serialize;

use super::marks::Mark;
use super::members::Members;
use super::movements;
use super::scores::{Figure, Scores};
use super::tallies::{LATEST_MOVEMENTS, Latest, Tallies, written};
use super::trends::{Reach, first_event};
use crate::ScopedRead;
use crate::origin::tables;
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

impl Sort {
    fn figure(self) -> Figure {
        match self {
            Self::Provisioned => Figure::Provisioned,
            Self::Added => Figure::Added,
            Self::Acquisitions => Figure::Acquisitions,
            Self::Commissions => Figure::Commissions,
        }
    }
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

/// What everybody has done so far, by ordinal.
///
/// # Errors
/// What the database says.
pub async fn tally(connection: &mut Connection<'_>) -> Result<Scores, ViewError> {
    let registered = registered(connection).await?;
    let Some(first) = first_event(connection).await? else { return Ok(Scores::nothing(registered)) };
    let marks = Mark::all(connection, first).await?;
    let Some(last) = marks.last() else { return Ok(Scores::nothing(registered)) };
    let mut scores = written(connection, *last).await?;
    scores.reach(registered);
    count_between(connection, &marks, (&mut scores, &Members::All), (last.before, Timestamp::MAX), 1).await?;
    Ok(scores)
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

/// What the members did from `from` up to, not including, `to`, by their places.
async fn scores(
    connection: &mut Connection<'_>,
    tallies: &Tallies,
    members: &Members,
    (from, to): (Timestamp, Timestamp),
    as_of: Timestamp,
) -> Result<Scores, ViewError> {
    let members_count = match members.ordinals() {
        None => registered(connection).await?,
        Some(ordinals) => ordinals.len(),
    };
    let mut scores = Scores::nothing(members_count);
    // Before the first event and after the last there is nothing, so neither is far from any end.
    let Some(first) = first_event(connection).await? else { return Ok(scores) };
    let from = from.max(first);
    let to = to.min(Timestamp::from_micros(as_of.micros().saturating_add(1)));
    if from >= to {
        return Ok(scores);
    }
    let marks = Mark::all(connection, first).await?;
    let last = marks.last().copied().unwrap_or(Mark { before: first, position: 0 });
    let tables = tables(connection).await?;
    let latest = tallies.latest(connection, tables, last).await?;
    let nearest = |time: Timestamp| {
        if let Some(latest) = latest.as_ref().filter(|latest| latest.ends < time) {
            return Near::Latest(latest);
        }
        let distance = |mark: &&Mark| mark.before.micros().abs_diff(time.micros());
        Near::Mark(marks.iter().min_by_key(distance).copied().unwrap_or(last))
    };
    let (near_from, near_to) = (nearest(from), nearest(to));
    if near_from.is(near_to) {
        let counted = count_between(connection, &marks, (&mut scores, members), (from, to), 1).await?;
        near_to.move_on(connection, tallies, (tables, last, latest.as_ref()), counted).await?;
        return Ok(scores);
    }
    for (time, near, sign) in [(from, near_from, -1), (to, near_to, 1)] {
        let into = (&mut scores, members);
        let counted = match near {
            Near::Latest(latest) => {
                into.0.add(&latest.tally, members, sign);
                let stretch = (movements::begins(latest.row), time);
                count(connection, into, stretch, (latest.row.1, i64::MAX), sign).await?
            }
            Near::Mark(mark) => {
                if mark.position > 0 {
                    into.0.add(tallies.at(connection, tables, mark).await?.as_ref(), members, sign);
                }
                if mark.before < time {
                    count_between(connection, &marks, into, (mark.before, time), sign).await?
                } else {
                    count_between(connection, &marks, into, (time, mark.before), -sign).await?
                }
            }
        };
        near.move_on(connection, tallies, (tables, last, latest.as_ref()), counted).await?;
    }
    Ok(scores)
}

/// From where it is counted to an end of a stretch of time.
#[derive(Debug, Clone, Copy)]
enum Near<'t> {
    Mark(Mark),
    Latest(&'t Latest),
}

impl Near<'_> {
    /// Whether both are the same; there is one latest.
    fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Mark(one), Self::Mark(other)) => one == other,
            (Self::Latest(_), Self::Latest(_)) => true,
            (Self::Mark(_), Self::Latest(_)) | (Self::Latest(_), Self::Mark(_)) => false,
        }
    }

    /// Moves the latest tally on where so many movements were counted after it, or where there is none after the last mark.
    async fn move_on(
        self,
        connection: &mut Connection<'_>,
        tallies: &Tallies,
        (tables, last, latest): (i64, Mark, Option<&Latest>),
        counted: usize,
    ) -> Result<(), ViewError> {
        if self.is(latest.map_or(Near::Mark(last), Near::Latest)) && counted >= LATEST_MOVEMENTS {
            tallies.move_on(connection, tables, last, latest).await?;
        }
        Ok(())
    }
}

/// Counts what the members did in a stretch of time, or takes it back; says how many movements of anybody it looked at.
async fn count_between(
    connection: &mut Connection<'_>,
    marks: &[Mark],
    (scores, members): (&mut Scores, &Members),
    (from, to): (Timestamp, Timestamp),
    sign: i64,
) -> Result<usize, ViewError> {
    // What was recorded before a mark stands before it in the log, and the rest after it.
    let first = marks.iter().rfind(|mark| mark.before <= from).map_or(0, |mark| mark.block());
    let last = marks.iter().find(|mark| mark.before >= to).map_or(i64::MAX, |mark| mark.block());
    count(connection, (scores, members), (from, to), (first, last), sign).await
}

/// The same where it is known in which stretches of the log all of it lies.
async fn count(
    connection: &mut Connection<'_>,
    (scores, members): (&mut Scores, &Members),
    (from, to): (Timestamp, Timestamp),
    blocks: (i64, i64),
    sign: i64,
) -> Result<usize, ViewError> {
    let mut movements = 0;
    if from < to {
        movements::scan(connection, (from, to), blocks, |ordinal, kind, amount| {
            movements += 1;
            if let Some(place) = members.place(ordinal) {
                scores.count(place, kind, amount, sign);
            }
        })
        .await?;
    }
    Ok(movements)
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
    let members = Members::of(read, subject, Reach::Subtree).await?;
    let (as_of, tallies) = (read.as_of(), read.unscoped().tallies());
    let mut connection = read.connection();
    let stretch = (request.from.unwrap_or(Timestamp::MIN), request.to.unwrap_or(Timestamp::MAX));
    // What was not done by one of the members is not counted.
    connection.show_packed(true).await?;
    let scores = scores(&mut connection, &tallies, &members, stretch, as_of).await?;
    connection.show_packed(false).await?;
    let figure = request.sort.figure();
    let limit = usize::try_from(request.limit).map_err(ViewError::unreadable)?;
    // Everybody who is better than the last one shown is shown; of its equals as many as fit, by their ids.
    let least = least_of_the_best(scores.by(figure).map(|(_, figure)| figure), limit);
    let (mut shown, mut equals) = (Vec::new(), Vec::new());
    for (place, figure) in scores.by(figure) {
        match least {
            Some(least) if figure < least => {}
            Some(least) if figure == least => equals.push(members.ordinal(place)),
            _ => shown.push(members.ordinal(place)),
        }
    }
    let places = limit.saturating_sub(shown.len());
    if equals.len() > places {
        equals = first_by_id(&mut connection, equals, places).await?;
    }
    shown.extend(equals);
    name(&mut connection, &shown, (&scores, &members), request.sort).await
}

/// The least of so many of the greatest figures; `None` where there are no more than that.
fn least_of_the_best(figures: impl Iterator<Item = i64>, limit: usize) -> Option<i64> {
    let mut best: Vec<i64> = Vec::new();
    let mut least = None;
    let cut = |best: &mut Vec<i64>| {
        let (_, least, _) = best.select_nth_unstable_by_key(limit.checked_sub(1)?, |figure| Reverse(*figure));
        let least = *least;
        best.truncate(limit);
        Some(least)
    };
    for figure in figures {
        if least.is_none_or(|least| figure > least) {
            best.push(figure);
            if best.len() > limit.saturating_mul(2) {
                least = cut(&mut best);
            }
        }
    }
    if best.len() > limit { cut(&mut best) } else { least }
}

/// How many ordinals are looked up one by one rather than by walking through the ids.
const LOOKED_UP_MAX: usize = 2_000;

/// The first few of these ordinals, which are given in order, in the order of the resellers' ids. Few are looked up; where they
/// are many, walking through the ids meets one soon.
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
    let sql = "select ordinal from analytics_members order by reseller_id";
    connection
        .for_each(sql, Vec::new(), |row| {
            let ordinal = usize::try_from(row.columns().integer()?).map_err(ViewError::unreadable)?;
            if ordinals.binary_search(&ordinal).is_ok() {
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
    (scores, members): (&Scores, &Members),
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
        let place =
            members.place(ordinal).ok_or_else(|| ViewError::unreadable("a reseller that was not asked about"))?;
        let of = |figure| scores.of(place, figure);
        let reseller = RankedReseller {
            reseller_id: columns.parse()?,
            company_name: columns.string()?,
            tier: columns.parse()?,
            provisioned: of(Figure::Provisioned),
            added: of(Figure::Added),
            acquisitions: of(Figure::Acquisitions),
            commissions: of(Figure::Commissions),
        };
        top.push((of(sort.figure()), reseller));
    }
    // Stable: equals stay in the order of their ids.
    top.sort_by_key(|(figure, _)| Reverse(*figure));
    Ok(top.into_iter().map(|(_, reseller)| reseller).collect())
}
