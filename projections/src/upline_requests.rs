//! Upline requests: one row each, folded by the aggregate's own fold. Only what is pending is counted, by an index that holds
//! nothing else.

use std::collections::BTreeMap;

use aggregates::answer::RequestView;
use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{RequestId, ResellerId, UserId};
use aggregates::rejection::{Above, SeenAuthority};
use aggregates::upline_request::{Addressee, Raised, UplineRequest};
use serde::Serialize;

use crate::batch::LogEvent;
use crate::dashboard::PLATFORM;
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use crate::{Projection, ScopedRead};

static UPLINE_REQUESTS: Table = Table {
    name: "upline_requests",
    columns: &[
        ("request_id", Merge::Key),
        ("position", Merge::Keep),
        ("requester_id", Merge::Keep),
        ("ask", Merge::Keep),
        ("status", Merge::Replace),
        ("addressed_to", Merge::Replace),
        ("expires_at", Merge::Keep),
        ("result", Merge::Replace),
        ("created_at", Merge::Keep),
    ],
};

const COLUMNS: &str = "request_id, position, requester_id, ask, status, addressed_to, expires_at, result, created_at";

/// The projection.
#[derive(Debug)]
pub struct UplineRequests;

/// A request after its last event.
#[derive(Debug)]
pub struct RequestRow {
    position: u64,
    created_at: String,
    raised: Option<Raised>,
}

fn read(columns: &mut Columns<'_>) -> Result<(RequestId, RequestRow), ViewError> {
    let (id, position) = (columns.parse()?, columns.count()?);
    let (requester, ask, status) = (columns.parse()?, columns.json()?, columns.parse()?);
    let addressed_to = match columns.str()? {
        PLATFORM => Addressee::Platform,
        reseller => Addressee::Reseller(reseller.parse().map_err(ViewError::unreadable)?),
    };
    // Who raised it is not kept: folding does not look at it, and no answer shows it.
    let raised_by = UserId::new("-").map_err(ViewError::unreadable)?;
    let (expires_at, result) = (columns.parse()?, columns.json_or_null()?);
    let raised = Raised { requester, raised_by, ask, addressed_to, expires_at, status, result };
    Ok((id, RequestRow { position, created_at: columns.string()?, raised: Some(raised) }))
}

impl Projection for UplineRequests {
    const NAME: &'static str = "upline_requests";
    const TABLES: &'static [&'static Table] = &[&UPLINE_REQUESTS];
    type Rows = BTreeMap<RequestId, RequestRow>;

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent]) -> Result<Self::Rows, ViewError> {
        let touched: BTreeMap<RequestId, ()> = events
            .iter()
            .filter_map(|event| match event.key {
                AggregateKey::UplineRequest(request) => Some((request, ())),
                _ => None,
            })
            .collect();
        let sql = format!("select {COLUMNS} from upline_requests where request_id in");
        let rows = connection.fetch_by_keys(&sql, touched.into_keys()).await?;
        rows.iter().map(|row| read(&mut row.columns())).collect()
    }

    fn fold(rows: &mut Self::Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let (AggregateKey::UplineRequest(request), Event::UplineRequest(event)) = (&logged.key, &logged.event)
            else {
                continue;
            };
            let row = rows.entry(*request).or_insert_with(|| RequestRow {
                position: logged.position,
                created_at: logged.recorded_at.clone(),
                raised: None,
            });
            let mut state = UplineRequest { raised: row.raised.take() };
            state.fold(event);
            row.raised = state.raised;
        }
        Ok(())
    }

    fn write(rows: Self::Rows, changes: &mut Changes) -> Result<(), ViewError> {
        for (request, row) in rows {
            let Some(raised) = row.raised else { continue };
            let addressed_to = match raised.addressed_to {
                Addressee::Platform => PLATFORM.into(),
                Addressee::Reseller(reseller) => Value::text(reseller),
            };
            changes.put(
                &UPLINE_REQUESTS,
                [
                    Value::text(request),
                    row.position.into(),
                    Value::text(raised.requester),
                    Value::json(&raised.ask)?,
                    raised.status.word().into(),
                    addressed_to,
                    Value::text(raised.expires_at),
                    raised.result.as_ref().map(Value::json).transpose()?.unwrap_or(Value::Null),
                    row.created_at.into(),
                ],
            );
        }
        Ok(())
    }
}

/// How many requests wait for an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PendingNumbers {
    /// Those that were raised; by whom the dashboard is about.
    pub pending_out: u64,
    /// Those that are to be answered, by the same.
    pub pending_in: u64,
}

/// How many requests of a reseller and to it are pending; for the platform: all of them, and those addressed to it.
pub(crate) async fn pending(
    connection: &mut Connection<'_>,
    reseller: Option<ResellerId>,
) -> Result<PendingNumbers, ViewError> {
    let out = if reseller.is_some() { " and requester_id = $1" } else { "" };
    let sql = format!(
        "select (select count(*) from upline_requests where status = 'pending'{out}), \
         (select count(*) from upline_requests where status = 'pending' and addressed_to = $1)"
    );
    let who = reseller.map_or_else(|| PLATFORM.into(), Value::text);
    let Some(row) = connection.fetch_one(&sql, vec![who]).await? else { return Ok(PendingNumbers::default()) };
    let mut columns = row.columns();
    Ok(PendingNumbers { pending_out: columns.count()?, pending_in: columns.count()? })
}

/// An addressee as the requester or the addressee itself may know it: only the latter has an id in its own sight.
fn seen_addressee(addressee: Addressee, viewer: Option<ResellerId>) -> SeenAuthority {
    match addressee {
        Addressee::Platform => SeenAuthority::Elsewhere(Above::Platform),
        Addressee::Reseller(id) if viewer.is_none_or(|viewer| viewer == id) => SeenAuthority::Reseller(id),
        Addressee::Reseller(_) => SeenAuthority::Elsewhere(Above::Upline),
    }
}

/// One request, for its requester, its addressee and the operator's staff.
///
/// # Errors
/// What the database says.
pub async fn find(scoped: &mut ScopedRead, request: RequestId) -> Result<Option<RequestView>, ViewError> {
    let sql = format!(
        "select {COLUMNS} from upline_requests where request_id = $1 and \
         ($2 is null or requester_id = $2 or addressed_to = $2)"
    );
    let values = vec![Value::text(request), Value::text_or_null(scoped.viewer())];
    let Some(row) = scoped.connection().fetch_one(&sql, values).await? else { return Ok(None) };
    let viewer = scoped.viewer();
    let (id, row) = read(&mut row.columns())?;
    Ok(row.raised.map(|raised| RequestView {
        id,
        requester: raised.requester,
        ask: raised.ask,
        status: raised.status,
        addressed_to: seen_addressee(raised.addressed_to, viewer),
        expires_at: raised.expires_at,
        result: raised.result,
    }))
}
