//! Reading what entries tell: the events themselves, with the names of all whom their words mention.
//!
//! Whose an event is stands in the event, but for those of clients and requests, of which the entry's own row says it. What an
//! event is called, and who may know of it, follows from the event ([`kind_of`]), as when it was folded.
//!
//! Cost: one look-up for each event and for each reseller that is named, two more for what happened to a client, three for a
//! request. On PostgreSQL each event's own row besides, for the wall between tenants.

use std::collections::{BTreeMap, BTreeSet};

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{RequestId, ResellerId};
use aggregates::upline_request::Ask;

use super::pages::{Reached, Sought};
use super::words::{EntryId, Mention, Reach, mentioned};
use super::{ActivityView, Line, Told, kind_of};
use crate::ScopedRead;
use crate::sql::{Connection, Dialect, Row, Value, ViewError};

/// The events at these positions with all that their words need, by position.
///
/// # Errors
/// What the database says, an event that this version cannot read, or one of a client or a request without its entry.
pub async fn told(read: &mut ScopedRead, positions: &BTreeSet<u64>) -> Result<BTreeMap<u64, Told>, ViewError> {
    let mut connection = read.connection();
    let mut all = events(&mut connection, positions).await?;
    let mut named = Named::default();
    let mentions = all.values().flat_map(|told| mentioned(&told.event, &told.metadata).into_iter().chain(told.subject));
    named
        .add(&connection.fetch_by_keys(&format!("{NAMED} reseller_id in"), mentions.collect::<BTreeSet<_>>()).await?)?;

    // What happened to the platform has no line, and what happened to a reseller its own.
    let mut unplaced = BTreeSet::new();
    for (position, told) in &mut all {
        let place = told.subject.and_then(|subject| named.by_id.get(&subject));
        match (&told.key, place) {
            (AggregateKey::Platform | AggregateKey::Product(_), _) => {}
            (_, Some((number, mention))) => (told.number, told.line) = (*number, mention.line.clone()),
            (_, None) => {
                unplaced.insert(*position);
            }
        }
    }
    let placed = "select position, number, path from activity where position in";
    let mut owners = BTreeSet::new();
    for row in &connection.fetch_by_numbers(placed, &unplaced).await? {
        let mut columns = row.columns();
        let position = columns.count()?;
        if let Some(told) = all.get_mut(&position) {
            (told.number, told.line) = (columns.count()?, Line(columns.bytes()?));
            owners.insert(told.number);
            unplaced.remove(&position);
        }
    }
    // It would pass for one of the platform's.
    if let Some(position) = unplaced.first() {
        return Err(ViewError::unreadable(format!("no entry for the event at {position}")));
    }
    named.add(&connection.fetch_by_numbers(&format!("{NAMED} number in"), owners).await?)?;
    let asks = asks(&mut connection, &all).await?;

    for told in all.values_mut() {
        told.subject = named.by_number.get(&told.number).copied();
        let mentions = mentioned(&told.event, &told.metadata).into_iter().chain(told.subject);
        told.mentions = mentions.filter_map(|id| Some((id, named.by_id.get(&id)?.1.clone()))).collect();
        if let AggregateKey::UplineRequest(request) = &told.key {
            told.ask = asks.get(request).cloned();
        }
    }
    Ok(all)
}

/// The events at these positions; of each it is not yet known where it belongs, but for the reseller whose it is.
async fn events(connection: &mut Connection<'_>, positions: &BTreeSet<u64>) -> Result<BTreeMap<u64, Told>, ViewError> {
    let dialect = connection.dialect();
    // The log has no wall of its own between tenants; the feed's rows have.
    let in_sight = match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => "exists (select from activity a where a.position = e.position) and ",
    };
    let sql = format!(
        "select e.position, e.aggregate_type, e.aggregate_id, e.event_type, e.event_version, e.payload, e.metadata, {} \
         from ledger.events e where {in_sight}e.position in",
        dialect.time("e.recorded_at")
    );
    let mut all = BTreeMap::new();
    for row in &connection.fetch_by_numbers(&sql, positions).await? {
        let mut columns = row.columns();
        let position = columns.count()?;
        let (aggregate_type, aggregate_id) = (columns.str()?, columns.str()?);
        let (event_type, event_version, payload) = (columns.str()?, columns.str()?, columns.str()?);
        let at = |error: aggregates::event::DecodeError| ViewError::Unreadable(format!("position {position}: {error}"));
        let key = AggregateKey::parse(aggregate_type, aggregate_id).map_err(at)?;
        let event = Event::decode(aggregate_type, event_type, event_version, payload).map_err(at)?;
        let (kind, audience) = kind_of(&event);
        let subject = match &key {
            AggregateKey::Reseller(reseller) | AggregateKey::Wallet(reseller) => Some(*reseller),
            _ => None,
        };
        let (metadata, recorded_at) = (columns.json()?, columns.parse()?);
        let told = Told {
            position,
            kind,
            audience,
            number: 0,
            line: Line::default(),
            key,
            event,
            metadata,
            recorded_at,
            subject,
            mentions: BTreeMap::new(),
            ask: None,
        };
        all.insert(position, told);
    }
    Ok(all)
}

const NAMED: &str = "select reseller_id, number, company_name, path from activity_resellers where";

/// Resellers with their names.
#[derive(Debug, Default)]
struct Named {
    by_id: BTreeMap<ResellerId, (u64, Mention)>,
    by_number: BTreeMap<u64, ResellerId>,
}

impl Named {
    fn add(&mut self, rows: &[Row]) -> Result<(), ViewError> {
        for row in rows {
            let mut columns = row.columns();
            let (id, number) = (columns.parse()?, columns.count()?);
            self.by_number.insert(number, id);
            self.by_id.insert(id, (number, Mention { name: columns.string()?, line: Line(columns.bytes()?) }));
        }
        Ok(())
    }
}

/// What the requests among these ask for.
async fn asks(
    connection: &mut Connection<'_>,
    all: &BTreeMap<u64, Told>,
) -> Result<BTreeMap<RequestId, Ask>, ViewError> {
    let requests: BTreeSet<RequestId> = all
        .values()
        .filter_map(|told| match &told.key {
            AggregateKey::UplineRequest(request) => Some(*request),
            _ => None,
        })
        .collect();
    let sql = "select request_id, ask from upline_requests where request_id in";
    let mut asks = BTreeMap::new();
    for row in &connection.fetch_by_keys(sql, &requests).await? {
        let mut columns = row.columns();
        asks.insert(columns.parse()?, columns.json()?);
    }
    Ok(asks)
}

const REACH_COLUMNS: &str = "position, number, kind, sku, former_cost, unit_cost";

fn read_reach(row: &Row) -> Result<(u64, u64, Reach), ViewError> {
    let mut columns = row.columns();
    let (position, number) = (columns.count()?, columns.count()?);
    let reach = Reach {
        kind: columns.string()?,
        sku: columns.parse_or_null()?,
        former_cost: columns.integer_or_null()?,
        unit_cost: columns.integer_or_null()?,
    };
    Ok((position, number, reach))
}

/// Whom the events of a stretch reach besides those to whom they happened, handed to `each` as position, number and meaning.
///
/// # Errors
/// What the database says.
pub async fn reaches(
    read: &mut ScopedRead,
    after: u64,
    until: u64,
    mut each: impl FnMut(u64, u64, Reach) + Send,
) -> Result<(), ViewError> {
    let sql = format!(
        "select {REACH_COLUMNS} from activity_reach where position > $1 and position <= $2 order by position, number"
    );
    read.connection()
        .for_each(&sql, vec![after.into(), until.into()], |row| {
            let (position, number, reach) = read_reach(&row)?;
            each(position, number, reach);
            Ok(true)
        })
        .await
}

/// The entries as they are told.
pub(super) async fn views(
    read: &mut ScopedRead,
    sought: &Sought,
    ids: &[EntryId],
) -> Result<Vec<ActivityView>, ViewError> {
    let told = told(read, &ids.iter().map(|id| id.position).collect()).await?;
    let mut reached: BTreeMap<u64, Reach> = BTreeMap::new();
    if let Some(Reached { number, .. }) = sought.reached() {
        let positions: Vec<u64> = ids.iter().filter(|id| id.reached).map(|id| id.position).collect();
        if !positions.is_empty() {
            let mut connection = read.connection();
            let of_these = connection.dialect().one_of("position", 1);
            let sql = format!("select {REACH_COLUMNS} from activity_reach where {of_these} and number = $2");
            for row in &connection.fetch(&sql, vec![Value::integers(positions), (*number).into()]).await? {
                let (position, _, reach) = read_reach(row)?;
                reached.insert(position, reach);
            }
        }
    }
    ids.iter()
        .map(|id| {
            let told = told.get(&id.position).ok_or_else(|| ViewError::unreadable(format!("no event at {id}")))?;
            Ok(sought.view(told, reached.get(&id.position).filter(|_| id.reached)))
        })
        .collect()
}
