//! Upline requests: one row each, folded by the aggregate's own fold, and whom each was put to on its way up.
//!
//! A request is seen by its requester, by those it was put to and by the operator's staff; for the rest of the line it does not
//! exist. The *inbox* of a reseller (or of the platform) is what is addressed to it, decided or not; what it passed on is the
//! next one's. The *outbox* is what it raised; the platform raises nothing, so its outbox is everything that anybody raised.
//!
//! Pending ones are counted as they come and go, so that a dashboard reads a count and counts nothing.
//!
//! Cost: a page of a box is at most one short range of an index for each status and kind that is asked for (30 of them), merged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use aggregates::answer::RequestView;
use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Invalid, RequestId, RequestKind, RequestStatus, ResellerId, Text, Timestamp, UserId};
use aggregates::rejection::{Above, SeenAuthority};
use aggregates::reseller::ResellerEvent;
use aggregates::upline_request::{Addressee, Outcome, Raised, UplineRequest, UplineRequestEvent};
use serde::Serialize;

use crate::batch::LogEvent;
use crate::dashboard::PLATFORM;
use crate::page::{Page, PageRequest};
use crate::sql::{Changes, Columns, Connection, Merge, Read, Table, Value, ViewError};
use crate::{Projection, ScopedRead};

static UPLINE_REQUESTS: Table = Table {
    name: "upline_requests",
    columns: &[
        ("request_id", Merge::Key),
        ("position", Merge::Keep),
        ("requester_id", Merge::Keep),
        ("kind", Merge::Keep),
        ("ask", Merge::Keep),
        ("status", Merge::Replace),
        ("addressed_to", Merge::Replace),
        ("expires_at", Merge::Keep),
        ("result", Merge::Replace),
        ("reason", Merge::Replace),
        ("created_at", Merge::Keep),
        ("decided_at", Merge::Replace),
    ],
};

static ADDRESSEES: Table =
    Table { name: "upline_request_addressees", columns: &[("request_id", Merge::Key), ("reseller_id", Merge::Key)] };

static COUNTS: Table = Table {
    name: "upline_request_counts",
    columns: &[
        ("reseller_id", Merge::Key),
        ("pending_out", Merge::Add),
        ("pending_in", Merge::Add),
        ("deactivated", Merge::Add),
    ],
};

const COLUMNS: &str = "u.request_id, u.position, u.requester_id, u.ask, u.status, u.addressed_to, u.expires_at, u.result, \
                       u.reason, u.created_at, u.decided_at";

/// The projection.
#[derive(Debug)]
pub struct UplineRequests;

/// The requests that a batch touches, and whom it put requests to.
#[derive(Debug, Default)]
pub struct Rows {
    requests: BTreeMap<RequestId, RequestRow>,
    addressees: BTreeSet<(RequestId, ResellerId)>,
    counts: BTreeMap<String, Counts>,
}

/// By how much a batch changes what is counted of a reseller.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    pending_out: i64,
    pending_in: i64,
    deactivated: i64,
}

impl Rows {
    fn counts_of(&mut self, who: impl Display) -> &mut Counts {
        self.counts.entry(who.to_string()).or_default()
    }

    /// Counts a request where it is pending: once more or once less.
    fn count(&mut self, pending: Option<(ResellerId, Addressee)>, change: i64) {
        let Some((requester, addressed_to)) = pending else { return };
        self.counts_of(requester).pending_out += change;
        self.counts_of(PLATFORM).pending_out += change;
        match addressed_to {
            Addressee::Platform => self.counts_of(PLATFORM).pending_in += change,
            Addressee::Reseller(addressee) => self.counts_of(addressee).pending_in += change,
        }
    }
}

/// A request after its last event.
#[derive(Debug)]
struct RequestRow {
    position: u64,
    raised: Option<Raised>,
    reason: Option<Text>,
    created_at: String,
    decided_at: Option<String>,
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
    let row = RequestRow {
        position,
        raised: Some(raised),
        reason: columns.parse_or_null()?,
        created_at: columns.string()?,
        decided_at: columns.string_or_null()?,
    };
    Ok((id, row))
}

impl RequestRow {
    /// Who waits for whom, while it is pending.
    fn pending(&self) -> Option<(ResellerId, Addressee)> {
        let raised = self.raised.as_ref().filter(|raised| raised.status == RequestStatus::Pending)?;
        Some((raised.requester, raised.addressed_to))
    }

    fn fold(&mut self, event: &UplineRequestEvent, recorded_at: &str) {
        let mut state = UplineRequest { raised: self.raised.take() };
        state.fold(event);
        self.raised = state.raised;
        match event {
            UplineRequestEvent::UplineRequestRaised { .. } | UplineRequestEvent::UplineRequestForwarded { .. } => {
                return;
            }
            UplineRequestEvent::UplineRequestRejected { reason } => self.reason.clone_from(reason),
            UplineRequestEvent::UplineRequestFailed { reason } => self.reason = Some(reason.clone()),
            UplineRequestEvent::UplineRequestCompleted { .. }
            | UplineRequestEvent::UplineRequestCancelled {}
            | UplineRequestEvent::UplineRequestExpired {} => {}
        }
        self.decided_at = Some(recorded_at.to_owned());
    }
}

impl Projection for UplineRequests {
    const NAME: &'static str = "upline_requests";
    const TABLES: &'static [&'static Table] = &[&UPLINE_REQUESTS, &ADDRESSEES, &COUNTS];
    type Rows = Rows;
    type Memory = ();

    async fn load(connection: &mut Connection<'_>, events: &[LogEvent], (): &mut ()) -> Result<Rows, ViewError> {
        let touched: BTreeSet<RequestId> = events
            .iter()
            .filter_map(|event| match event.key {
                AggregateKey::UplineRequest(request) => Some(request),
                _ => None,
            })
            .collect();
        let sql = format!("select {COLUMNS} from upline_requests u where u.request_id in");
        let rows = connection.fetch_by_keys(&sql, touched).await?;
        let requests = rows.iter().map(|row| read(&mut row.columns())).collect::<Result<_, _>>()?;
        Ok(Rows { requests, ..Rows::default() })
    }

    fn fold(rows: &mut Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let (request, event) = match (&logged.key, &logged.event) {
                (AggregateKey::UplineRequest(request), Event::UplineRequest(event)) => (request, event),
                (AggregateKey::Reseller(id), Event::Reseller(ResellerEvent::ResellerDeactivated { .. })) => {
                    rows.counts_of(id).deactivated += 1;
                    continue;
                }
                (AggregateKey::Reseller(id), Event::Reseller(ResellerEvent::ResellerReactivated { .. })) => {
                    rows.counts_of(id).deactivated -= 1;
                    continue;
                }
                _ => continue,
            };
            let row = rows.requests.entry(*request).or_insert_with(|| RequestRow {
                position: logged.position,
                raised: None,
                reason: None,
                created_at: logged.recorded_at.clone(),
                decided_at: None,
            });
            let before = row.pending();
            row.fold(event, &logged.recorded_at);
            let after = row.pending();
            rows.count(before, -1);
            rows.count(after, 1);
            if let UplineRequestEvent::UplineRequestRaised { addressed_to: Addressee::Reseller(reseller), .. }
            | UplineRequestEvent::UplineRequestForwarded { to: Addressee::Reseller(reseller), .. } = event
            {
                rows.addressees.insert((*request, *reseller));
            }
        }
        Ok(())
    }

    fn write(rows: Rows, changes: &mut Changes, (): &mut ()) -> Result<(), ViewError> {
        for (request, row) in rows.requests {
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
                    raised.ask.kind().word().into(),
                    Value::json(&raised.ask)?,
                    raised.status.word().into(),
                    addressed_to,
                    Value::text(raised.expires_at),
                    raised.result.as_ref().map(Value::json).transpose()?.unwrap_or(Value::Null),
                    Value::text_or_null(row.reason),
                    row.created_at.into(),
                    row.decided_at.into(),
                ],
            );
        }
        for (request, reseller) in rows.addressees {
            changes.put(&ADDRESSEES, [Value::text(request), Value::text(reseller)]);
        }
        for (reseller, counts) in rows.counts {
            let Counts { pending_out, pending_in, deactivated } = counts;
            changes.put(&COUNTS, [reseller.into(), pending_out.into(), pending_in.into(), deactivated.into()]);
        }
        Ok(())
    }
}

/// How many requests wait for an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    let sql = "select pending_out, pending_in from upline_request_counts where reseller_id = $1";
    let who = reseller.map_or_else(|| PLATFORM.into(), Value::text);
    let Some(row) = connection.fetch_one(sql, vec![who]).await? else { return Ok(PendingNumbers::default()) };
    let mut columns = row.columns();
    Ok(PendingNumbers { pending_out: columns.count()?, pending_in: columns.count()? })
}

/// A request as it is polled and listed: what its answer said, and what a reader asks besides.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RequestRecord {
    /// What it is and where it stands.
    #[serde(flatten)]
    pub request: RequestView,
    /// Why it was rejected or failed, where that was said.
    pub reason: Option<Text>,
    /// When it was raised.
    pub created_at: Timestamp,
    /// When it was decided; `None` while it is pending.
    pub decided_at: Option<Timestamp>,
}

/// An addressee as the requester or the addressee itself may know it: only the latter has an id in its own sight.
fn seen_addressee(addressee: Addressee, viewer: Option<ResellerId>) -> SeenAuthority {
    match addressee {
        Addressee::Platform => SeenAuthority::Elsewhere(Above::Platform),
        Addressee::Reseller(id) if viewer.is_none_or(|viewer| viewer == id) => SeenAuthority::Reseller(id),
        Addressee::Reseller(_) => SeenAuthority::Elsewhere(Above::Upline),
    }
}

/// A row as the viewer may see it, with its position.
fn read_record(columns: &mut Columns<'_>, viewer: Option<ResellerId>) -> Result<(i64, RequestRecord), ViewError> {
    let (id, row) = read(columns)?;
    let raised = row.raised.ok_or_else(|| ViewError::unreadable("a request that was not raised"))?;
    // A referral code is its owner's; whoever the request passed through is not told it.
    let is_hidden = viewer.is_some_and(|viewer| viewer != raised.requester)
        && matches!(raised.result, Some(Outcome::ReferralCode(_)));
    let request = RequestView {
        id,
        requester: raised.requester,
        ask: raised.ask,
        status: raised.status,
        addressed_to: seen_addressee(raised.addressed_to, viewer),
        expires_at: raised.expires_at,
        result: raised.result.filter(|_| !is_hidden),
    };
    let record = RequestRecord {
        request,
        reason: row.reason,
        created_at: row.created_at.parse().map_err(ViewError::unreadable)?,
        decided_at: row.decided_at.map(|time| time.parse()).transpose().map_err(ViewError::unreadable)?,
    };
    Ok((i64::try_from(row.position).map_err(ViewError::unreadable)?, record))
}

/// One request, for its requester, whoever it was put to, and the operator's staff.
///
/// # Errors
/// What the database says.
pub async fn find(scoped: &mut ScopedRead, request: RequestId) -> Result<Option<RequestRecord>, ViewError> {
    let viewer = scoped.viewer();
    let sql = format!(
        "select {COLUMNS} from upline_requests u where u.request_id = $1 and (cast($2 as text) is null or u.requester_id = $2 or exists \
         (select 1 from upline_request_addressees a where a.request_id = $1 and a.reseller_id = $2))"
    );
    let values = vec![Value::text(request), Value::text_or_null(viewer)];
    let row = scoped.connection().fetch_one(&sql, values).await?;
    Ok(row.map(|row| read_record(&mut row.columns(), viewer)).transpose()?.map(|(_, record)| record))
}

/// Which of a reseller's (or the platform's) two boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// What is addressed to it.
    #[default]
    In,
    /// What it raised; for the platform, what anybody raised.
    Out,
}

impl FromStr for Direction {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "in" => Ok(Self::In),
            "out" => Ok(Self::Out),
            _ => Err(Invalid("must be in or out".into())),
        }
    }
}

/// Which requests are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestFilter {
    /// Of which box.
    pub direction: Direction,
    /// Whose box: a reseller's, for the operator's staff; a reseller sees its own anyway, the staff else the platform's.
    pub reseller_id: Option<ResellerId>,
    /// In this status.
    pub status: Option<RequestStatus>,
    /// Of this kind.
    pub kind: Option<RequestKind>,
}

/// A box, newest first.
///
/// # Errors
/// [`ViewError::InvalidCursor`], or what the database says.
pub async fn list(
    scoped: &mut ScopedRead,
    filter: &RequestFilter,
    page: &PageRequest,
) -> Result<Page<RequestRecord>, ViewError> {
    let viewer = scoped.viewer();
    let owner = viewer.or(filter.reseller_id);
    let of_the_box = match (filter.direction, owner) {
        (Direction::In, _) => "addressed_to = $3 and ",
        (Direction::Out, Some(_)) => "requester_id = $3 and ",
        (Direction::Out, None) => "",
    };
    let statuses = filter.status.as_ref().map_or(RequestStatus::ALL, std::slice::from_ref);
    let kinds = filter.kind.as_ref().map_or(RequestKind::ALL, std::slice::from_ref);
    let ranges: Vec<String> = statuses
        .iter()
        .flat_map(|status| kinds.iter().map(move |kind| (status.word(), kind.word())))
        .map(|(status, kind)| {
            format!(
                "select * from (select request_id, position from upline_requests where {of_the_box}status = '{status}' and \
                 kind = '{kind}' and position < $1 order by position desc limit $2) s"
            )
        })
        .collect();
    let sql = format!(
        "select {COLUMNS} from (select request_id from ({}) s order by position desc limit $2) p \
         join upline_requests u on u.request_id = p.request_id order by u.position desc",
        ranges.join(" union all ")
    );
    let values = vec![
        page.position()?.unwrap_or(i64::MAX).into(),
        page.rows_and_one().into(),
        owner.map_or_else(|| PLATFORM.into(), Value::text),
    ];
    let rows = scoped.connection().fetch(&sql, values).await?;
    let rows = rows.iter().map(|row| read_record(&mut row.columns(), viewer)).collect::<Result<_, _>>()?;
    Ok(Page::of(page, rows))
}

/// What the policy over requests has to do at a time: whom to end, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overdue {
    /// Those whose time has come, longest due first.
    pub expired: Vec<RequestId>,
    /// Those whose requester has gone.
    pub orphaned: Vec<RequestId>,
    /// When the next one is due, none of the above counted.
    pub next: Option<Timestamp>,
}

/// What is overdue at `now`, at most `limit` of each sort. For the service's own policy: it has no scope, it sees everything.
///
/// # Errors
/// What the database says.
pub async fn overdue(read: &mut Read, now: Timestamp, limit: u32) -> Result<Overdue, ViewError> {
    let mut connection = read.connection();
    let due = "select request_id from upline_requests where status = 'pending' and expires_at <= $1 \
               order by expires_at limit $2";
    // Told as an expression, or the planner would rather go through all that is pending than through a requester's few.
    let requests = connection.dialect().one_after_the_other(
        "upline_request_counts n",
        "upline_requests u",
        "u.requester_id = n.reseller_id",
    );
    let orphaned = format!(
        "select u.request_id from {requests} where n.deactivated = 1 and n.pending_out > 0 \
                    and u.status = 'pending' and coalesce(u.expires_at, '') > $1 limit $2"
    );
    let ids = |rows: Vec<crate::sql::Row>| rows.iter().map(|row| row.columns().parse()).collect::<Result<_, _>>();
    let values = || vec![Value::text(now), limit.into()];
    let expired = ids(connection.fetch(due, values()).await?)?;
    let orphaned = ids(connection.fetch(&orphaned, values()).await?)?;
    let next = "select min(expires_at) from upline_requests where status = 'pending' and expires_at > $1";
    let next = connection.fetch_one(next, vec![Value::text(now)]).await?;
    let next = next.map(|row| row.columns().parse_or_null()).transpose()?.flatten();
    Ok(Overdue { expired, orphaned, next })
}
