//! Which entries are in sight, newest first by pages or oldest first after an entry (for streams).
//!
//! What happened to a subtree is found in two steps. First the newest entries of all are filtered, a few ([`PROBED`]) to see
//! whether so many ([`FILTERED`]) would fill the page, and then those: whoever has a part in what goes on has a page full by
//! then. For the others the blocks before are looked into one by one by the index that sorts each by path, but those in which, as
//! far as that is kept ([`presence`](super::presence)), nobody of the subtree can be; a block costs one seek, and reading ends with
//! the block in which the page is full. What reaches a reseller besides, and what lies on its line,
//! are short lists of its own and merged.
//!
//! Cost: bounded by a block's entries and the number of blocks, whatever the size of the subtree.

use aggregates::primitives::{ResellerId, Timestamp};

use super::reading::views;
use super::words::{EntryId, Reach};
use super::{ActivityView, Audience, BLOCK_BITS, KINDS, Line, PROVISIONED, Told, audience_of};
use crate::audit_log::position_at;
use crate::kinds::Kinds;
use crate::page::{Page, PageRequest, cursor_of};
use crate::sql::{Row, Value, ViewError};
use crate::{Scope, ScopedRead};

/// How many entries a dashboard shows.
const RECENT: usize = 10;
/// How many entries are filtered in their own order before blocks are looked into, where the first few promise a full page …
const FILTERED: u64 = if cfg!(test) { 8 } else { 4_096 };
/// … and how many those are.
const PROBED: u64 = FILTERED / 8;
/// As many times more where most entries of the kind are in no index of their own: a block tells the kinds of all its entries, and
/// each is looked at.
const FILTERED_UNINDEXED: u64 = 4;
/// How many blocks are looked into by one statement; by each further one twice as many.
const BLOCKS_AT_ONCE: usize = if cfg!(test) { 2 } else { 64 };

/// The kinds of entries.
#[derive(Debug)]
pub struct EntryKinds;

impl Kinds for EntryKinds {
    const NAME: &'static str = "ActivityKind";
    const ALL: &'static [&'static str] = KINDS;
}

/// A kind of entry.
pub type Kind = crate::kinds::Kind<EntryKinds>;

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub struct FeedFilter {
    /// Of this kind.
    pub kind: Option<Kind>,
    /// About this very reseller, and what reached it.
    pub reseller_id: Option<ResellerId>,
    /// Recorded at this time or later.
    pub from: Option<Timestamp>,
    /// Recorded before this time.
    pub to: Option<Timestamp>,
}

/// Who reads, and how far its sight goes.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The reseller that reads; `None` for the operator's staff.
    pub reseller: Option<ResellerId>,
    /// Its number; 0 for the operator's staff.
    pub number: u64,
    pub(super) line: Line,
    pub(super) name: String,
}

impl Sight {
    /// Of whoever reads. `None` where there is no such reseller.
    ///
    /// # Errors
    /// What the database says.
    pub async fn of(read: &mut ScopedRead) -> Result<Option<Self>, ViewError> {
        let Some(reseller) = read.viewer() else {
            return Ok(Some(Self { reseller: None, number: 0, line: Line::default(), name: String::new() }));
        };
        let Some(found) = place_of(read, reseller).await? else { return Ok(None) };
        Ok(Some(Self { reseller: Some(reseller), number: found.number, line: found.line, name: found.name }))
    }

    /// Whom the reader asks about, if about one: `None` where that one is not in sight.
    async fn asked(
        &self,
        read: &mut ScopedRead,
        reseller: Option<ResellerId>,
    ) -> Result<Option<Option<Place>>, ViewError> {
        let Some(reseller) = reseller else { return Ok(Some(None)) };
        if self.reseller == Some(reseller) {
            let Self { number, line, name, .. } = self.clone();
            return Ok(Some(Some(Place { reseller, number, line, name })));
        }
        Ok(place_of(read, reseller).await?.map(Some))
    }

    /// Whether it is a reseller that reads, and not the operator's staff.
    #[must_use]
    pub fn is_tenant(&self) -> bool {
        self.reseller.is_some()
    }

    /// Whether this one's own affairs are the reader's to know.
    pub(super) fn owns(&self, subject: Option<ResellerId>) -> bool {
        self.reseller.is_none_or(|viewer| subject.is_some_and(|subject| Scope::Subtree(viewer).owns(subject)))
    }
}

struct Place {
    reseller: ResellerId,
    number: u64,
    line: Line,
    name: String,
}

/// A reseller in sight, by the feed's own count.
async fn place_of(read: &mut ScopedRead, reseller: ResellerId) -> Result<Option<Place>, ViewError> {
    let values = read.range_and([Value::text(reseller)]);
    let row = read
        .connection()
        .fetch_one(
            "select a.number, a.path, a.company_name from resellers r \
             join activity_resellers a on a.reseller_id = r.reseller_id \
             where r.path >= $1 and r.path < $2 and r.reseller_id = $3",
            values,
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut columns = row.columns();
    Ok(Some(Place { reseller, number: columns.count()?, line: Line(columns.bytes()?), name: columns.string()? }))
}

/// One whose own list of what reached it is read.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    pub(super) number: u64,
    pub(super) reseller: ResellerId,
    pub(super) name: String,
}

/// What is looked for, in the feed's own terms.
#[derive(Debug, Clone)]
pub struct Sought {
    sight: Sight,
    /// The lines of those whom it is about.
    lines: (Vec<u8>, Vec<u8>),
    kind: Option<Kind>,
    /// Whose own list of what reached it belongs to it.
    reached: Option<Reached>,
    /// Who stands above the reader, the platform included, where that belongs to it.
    above: Vec<u64>,
}

impl Sought {
    /// `None` where the reseller that is asked for is not in sight.
    ///
    /// # Errors
    /// What the database says.
    pub async fn of(
        read: &mut ScopedRead,
        kind: Option<Kind>,
        reseller: Option<ResellerId>,
    ) -> Result<Option<Self>, ViewError> {
        let Some(sight) = Sight::of(read).await? else { return Ok(None) };
        let Some(asked) = sight.asked(read, reseller).await? else { return Ok(None) };
        let lines = match &asked {
            Some(place) => place.line.alone(),
            // Of others' own affairs nothing is told: there is no need to look among them.
            None if sight.is_tenant() && kind.is_some_and(|kind| audience_of(kind.word()) == Audience::Own) => {
                sight.line.alone()
            }
            None => sight.line.subtree(),
        };
        Ok(Some(Self::about(sight, lines, asked, kind)))
    }

    fn about(sight: Sight, lines: (Vec<u8>, Vec<u8>), asked: Option<Place>, kind: Option<Kind>) -> Self {
        let own = sight.is_tenant() && asked.as_ref().is_none_or(|place| place.number == sight.number);
        let reached = match (sight.reseller, asked) {
            (Some(reseller), _) if own => Some(Reached { number: sight.number, reseller, name: sight.name.clone() }),
            // The staff may know what reached anybody.
            (None, Some(Place { number, reseller, name, .. })) => Some(Reached { number, reseller, name }),
            _ => None,
        };
        let above = if own {
            sight.line.numbers().filter(|number| *number != sight.number).chain([0]).collect()
        } else {
            Vec::new()
        };
        Self { sight, lines, kind, reached, above }
    }

    /// Who reads.
    #[must_use]
    pub fn sight(&self) -> &Sight {
        &self.sight
    }

    /// Whether an event is looked for, as what happened.
    #[must_use]
    pub fn takes(&self, told: &Told) -> bool {
        let about = told.line.0 >= self.lines.0 && told.line.0 < self.lines.1;
        let above = told.audience == Audience::Line && self.above.contains(&told.number);
        (about || above) && self.kind.is_none_or(|kind| kind.word() == told.kind) && told.is_in_sight(&self.sight)
    }

    /// Whether what an event means to one whom it reaches is looked for.
    #[must_use]
    pub fn takes_reach(&self, number: u64, reach: &Reach) -> bool {
        self.reached.as_ref().is_some_and(|reached| reached.number == number)
            && self.kind.is_none_or(|kind| kind.word() == reach.kind)
    }

    /// An entry in the words that are for this reader.
    #[must_use]
    pub fn view(&self, told: &Told, reach: Option<&Reach>) -> ActivityView {
        told.view(&self.sight, reach.zip(self.reached.as_ref()))
    }

    /// Whose own list of what reached it belongs to it.
    pub(super) fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    /// Whose subtree it is about, or whom; `None` for everybody.
    fn root(&self) -> Option<u64> {
        Line::last_of(&self.lines.0)
    }

    fn is_everything(&self) -> bool {
        !self.sight.is_tenant() && self.lines.0.is_empty()
    }
}

/// A stretch of positions, and from which end it is read.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// The first position.
    from: u64,
    /// The first position after it.
    until: u64,
    newest_first: bool,
}

impl Stretch {
    fn order(self) -> &'static str {
        if self.newest_first { "desc" } else { "asc" }
    }

    /// So many positions at the end from which it is read, and the rest.
    fn split(self, positions: u64) -> (Self, Self) {
        if self.newest_first {
            let middle = self.until.saturating_sub(positions).max(self.from);
            (Self { from: middle, ..self }, Self { until: middle, ..self })
        } else {
            let middle = self.from.saturating_add(positions).min(self.until);
            (Self { until: middle, ..self }, Self { from: middle, ..self })
        }
    }

    fn is_empty(self) -> bool {
        self.from >= self.until
    }
}

fn positions(rows: &[Row], reached: bool) -> Result<Vec<EntryId>, ViewError> {
    rows.iter().map(|row| Ok(EntryId { position: row.columns().count()?, reached })).collect()
}

/// Who may know of an entry: the conditions of [`Told::is_in_sight`] within a range of lines.
const SEEN: &str = "($3 = 0 or a.audience <> 1 or a.number = $3)";

/// What happened, in order, at least `limit` entries where there are as many.
async fn happened(
    read: &mut ScopedRead,
    sought: &Sought,
    stretch: Stretch,
    limit: usize,
) -> Result<Vec<EntryId>, ViewError> {
    let order = stretch.order();
    let is_unindexed = sought.kind.is_some_and(|kind| kind.word() == PROVISIONED);
    if sought.is_everything() && (sought.kind.is_none() || is_unindexed) {
        let of_kind = if is_unindexed { " and kind = $4" } else { "" };
        let sql = format!(
            "select position from activity where position >= $1 and position < $2{of_kind} order by position {order} limit $3"
        );
        let rows = u64::try_from(limit).unwrap_or(u64::MAX);
        let values = vec![stretch.from.into(), stretch.until.into(), rows.into(), sought.kind.map(Kind::word).into()];
        return positions(&read.connection().fetch(&sql, values).await?, false);
    }
    let values = |stretch: Stretch, rows: usize| -> Vec<Value> {
        vec![
            Value::Bytes(sought.lines.0.clone()),
            Value::Bytes(sought.lines.1.clone()),
            sought.sight.number.into(),
            stretch.from.into(),
            stretch.until.into(),
            sought.kind.map(Kind::word).into(),
            u64::try_from(rows).unwrap_or(u64::MAX).into(),
        ]
    };
    let of_kind = if sought.kind.is_some() { " and a.kind = $6" } else { "" };
    let sql = format!(
        "select a.position from activity a where a.position >= $4 and a.position < $5 and a.path >= $1 and a.path < $2 \
         and {SEEN}{of_kind} order by a.position {order} limit $7"
    );
    let filtered = if is_unindexed { FILTERED * FILTERED_UNINDEXED } else { FILTERED };
    let (mut found, mut rest) = (Vec::new(), stretch);
    for some in [PROBED, filtered - PROBED] {
        let (end, others) = rest.split(some);
        let more = read.connection().fetch(&sql, values(end, limit - found.len())).await?;
        found.extend(positions(&more, false)?);
        rest = others;
        if found.len() >= limit || rest.is_empty() {
            return Ok(found);
        }
        // At this rate all that are filtered would not be enough.
        let promised = u64::try_from(found.len()).unwrap_or(u64::MAX).saturating_mul(filtered / PROBED);
        if promised < u64::try_from(limit).unwrap_or(u64::MAX) {
            break;
        }
    }
    // The blocks one after the other; within one the entries come by path, and are put in order here. The index by kind does
    // without what most entries are, and the condition says so.
    let (first, last) = (rest.from >> BLOCK_BITS, (rest.until - 1) >> BLOCK_BITS);
    let mut blocks: Box<dyn Iterator<Item = u64> + Send> =
        if stretch.newest_first { Box::new((first..=last).rev()) } else { Box::new(first..=last) };
    if let Some(number) = sought.root() {
        let presence = read.unscoped().presence();
        let may = presence.of(&mut read.connection(), number).await?;
        blocks = Box::new(blocks.filter(move |block| may.may_tell(*block)));
    }
    let of_rare_kind = if sought.kind.is_some() && !is_unindexed { " and a.kind <> 'provisioned'" } else { "" };
    let dialect = read.connection().dialect();
    let sql = format!(
        "select b.number, a.position from {} where a.position >= $4 and a.position < $5 and {SEEN}{of_kind}{of_rare_kind}",
        dialect.one_after_the_other(
            &dialect.numbers("b", 8),
            "activity a",
            "a.block = b.number and a.path >= $1 and a.path < $2"
        )
    );
    let (mut block, mut in_order) = (None, found.len());
    let (mut order_kept, mut at_once) = (true, BLOCKS_AT_ONCE);
    while found.len() < limit {
        let next: Vec<u64> = blocks.by_ref().take(at_once).collect();
        if next.is_empty() {
            break;
        }
        at_once = at_once.saturating_mul(2);
        let mut values = values(rest, limit);
        values.push(Value::integers(next));
        read.connection()
            .for_each(&sql, values, |row| {
                let mut columns = row.columns();
                let (this, position) = (columns.count()?, columns.count()?);
                if block != Some(this) {
                    order_kept &= block.is_none_or(|former| (former > this) == stretch.newest_first);
                    block = Some(this);
                    sort(&mut found[in_order..], stretch);
                    in_order = found.len();
                    if found.len() >= limit {
                        return Ok(false);
                    }
                }
                found.push(EntryId { position, reached: false });
                Ok(true)
            })
            .await?;
    }
    sort(&mut found[in_order..], stretch);
    if order_kept { Ok(found) } else { Err(ViewError::unreadable("blocks out of order")) }
}

fn sort(found: &mut [EntryId], stretch: Stretch) {
    found.sort_unstable();
    if stretch.newest_first {
        found.reverse();
    }
}

/// All entries that are looked for, in order, at most `limit`, leaving out those up to `beyond` from the end that is read.
async fn entries(
    read: &mut ScopedRead,
    sought: &Sought,
    stretch: Stretch,
    beyond: Option<EntryId>,
    limit: usize,
) -> Result<Vec<EntryId>, ViewError> {
    let mut stretch = stretch;
    if let Some(beyond) = beyond {
        // What stands at the same position may still be beyond it.
        if stretch.newest_first {
            stretch.until = stretch.until.min(beyond.position.saturating_add(1));
        } else {
            stretch.from = stretch.from.max(beyond.position);
        }
    }
    if stretch.is_empty() {
        return Ok(Vec::new());
    }
    // One more, because the entry that is left out may be among them.
    let rows = limit.saturating_add(1);
    let mut found = happened(read, sought, stretch, rows).await?;
    let of_kind = if sought.kind.is_some() { " and kind = $5" } else { "" };
    let order = stretch.order();
    let values = |number: u64, from: u64| -> Vec<Value> {
        let kind = sought.kind.map(Kind::word);
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        vec![number.into(), from.into(), stretch.until.into(), rows.into(), kind.into()]
    };
    if let Some(Reached { number, .. }) = sought.reached {
        let sql = format!(
            "select position from activity_reach where number = $1 and position >= $2 and position < $3{of_kind} \
             order by position {order} limit $4"
        );
        let reached = read.connection().fetch(&sql, values(number, stretch.from)).await?;
        found.extend(positions(&reached, true)?);
    }
    // A reseller is told of its line what happened since it registered.
    let since = stretch.from.max(sought.sight.number.saturating_add(1));
    if !sought.above.is_empty() {
        let of_these = read.connection().dialect().one_of("number", 1);
        let sql = format!(
            "select position from activity where audience = 2 and {of_these} and position >= $2 and position < $3{of_kind} \
             order by position {order} limit $4"
        );
        let mut values = values(0, since);
        if let Some(numbers) = values.first_mut() {
            *numbers = Value::integers(sought.above.iter().copied());
        }
        found.extend(positions(&read.connection().fetch(&sql, values).await?, false)?);
    }
    sort(&mut found, stretch);
    found.retain(|id| beyond.is_none_or(|beyond| if stretch.newest_first { *id < beyond } else { *id > beyond }));
    found.truncate(limit);
    Ok(found)
}

/// A page of the feed, newest first. `None` where the reseller that is asked for is not in sight.
///
/// # Errors
/// What the database says, or [`ViewError::InvalidCursor`].
pub async fn page(
    read: &mut ScopedRead,
    filter: &FeedFilter,
    request: &PageRequest,
) -> Result<Option<Page<ActivityView>>, ViewError> {
    let beyond = request.position()?.map(EntryId::of_key);
    let Some(sought) = Sought::of(read, filter.kind, filter.reseller_id).await? else { return Ok(None) };
    let stretch = stretch_of(read, filter).await?;
    let mut ids = entries(read, &sought, stretch, beyond, request.rows() + 1).await?;
    let more = ids.len() > request.rows();
    ids.truncate(request.rows());
    let next_cursor = ids.last().filter(|_| more).map(|id| cursor_of(id.key()));
    Ok(Some(Page { data: views(read, &sought, &ids).await?, next_cursor }))
}

async fn stretch_of(read: &mut ScopedRead, filter: &FeedFilter) -> Result<Stretch, ViewError> {
    let mut stretch = Stretch { from: 1, until: read.position() + 1, newest_first: true };
    // A position's time is the last one's at or before it: what lies before a time ends a microsecond earlier.
    let earlier = |time: Timestamp| Timestamp::from_micros(time.micros().saturating_sub(1));
    if let Some(from) = filter.from {
        stretch.from = position_at(read.unscoped(), earlier(from)).await? + 1;
    }
    if let Some(to) = filter.to {
        stretch.until = stretch.until.min(position_at(read.unscoped(), earlier(to)).await? + 1);
    }
    Ok(stretch)
}

/// The newest entries of a reseller and its downline, or of the whole network, as a dashboard shows them.
///
/// # Errors
/// What the database says.
pub async fn recent(read: &mut ScopedRead, of: Option<ResellerId>) -> Result<Vec<ActivityView>, ViewError> {
    let Some(sight) = Sight::of(read).await? else { return Ok(Vec::new()) };
    let Some(asked) = sight.asked(read, of).await? else { return Ok(Vec::new()) };
    let lines = asked.as_ref().map_or_else(|| sight.line.subtree(), |place| place.line.subtree());
    let sought = Sought::about(sight, lines, asked, None);
    let stretch = Stretch { from: 1, until: read.position() + 1, newest_first: true };
    let ids = entries(read, &sought, stretch, None, RECENT).await?;
    views(read, &sought, &ids).await
}

/// The entries after one, oldest first, up to where the read models have come.
///
/// # Errors
/// What the database says.
pub async fn after(
    read: &mut ScopedRead,
    sought: &Sought,
    last: EntryId,
    limit: usize,
) -> Result<Vec<ActivityView>, ViewError> {
    let ids = ids_after(read, sought, last, limit).await?;
    views(read, sought, &ids).await
}

/// Whether more than so many entries come after one.
///
/// # Errors
/// What the database says.
pub async fn is_behind(
    read: &mut ScopedRead,
    sought: &Sought,
    last: EntryId,
    entries: usize,
) -> Result<bool, ViewError> {
    Ok(ids_after(read, sought, last, entries.saturating_add(1)).await?.len() > entries)
}

async fn ids_after(
    read: &mut ScopedRead,
    sought: &Sought,
    last: EntryId,
    limit: usize,
) -> Result<Vec<EntryId>, ViewError> {
    let stretch = Stretch { from: 1, until: read.position() + 1, newest_first: false };
    entries(read, sought, stretch, Some(last), limit).await
}
