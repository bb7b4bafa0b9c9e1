//! The log itself and what follows from it alone: `/audit…`, for auditors and the operator.

use aggregates::primitives::{ResellerId, Role};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use projections::audit_log::{self, EventFilter, EventView};
use projections::page::{LIMIT_MAX, Page, PageRequest};
use projections::sql::ViewError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{NamedMoment, QueryRequest, analytics, found, shown};
use crate::audit::anchor::Anchor;
use crate::audit::as_of::AsOf;
use crate::audit::difference;
use crate::audit::replay::{self, Replay, Step};
use crate::audit::runs::RunId;
use crate::fresh;
use crate::http::Shared;
use crate::http::answer::json;
use crate::http::error::{POSITION, Problem};
use crate::http::extract::parse;
use crate::http::parameters::{Since, Until, wrong};
use crate::refusals::{RefusalFilter, RefusalView};

const READERS: &[Role] = &[Role::SuperAdmin, Role::Auditor];
/// The largest body of a request to verify: 10 000 anchors.
const VERIFY_BODY_BYTES_MAX: usize = 2 << 20;
const LINES: &str = "application/x-ndjson";

/// GET `/audit/head`
pub(crate) async fn head(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    request.only(READERS)?;
    let mut read = request.begin_unscoped(&service).await?;
    let head = audit_log::head(&mut read).await?;
    shown(head.position, &head)
}

/// GET `/audit/events`: a page, or one event a line up to the head where the client asks for that.
pub(crate) async fn events(
    State(service): State<Shared>,
    headers: HeaderMap,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    request.only(READERS)?;
    let parameters = &mut request.parameters;
    let filter = EventFilter {
        aggregate_type: parameters.take("aggregate_type")?,
        aggregate_id: parameters.take("aggregate_id")?,
        event_type: parameters.take("event_type")?,
        actor: parameters.take("actor")?,
        from: parameters.take("from")?.map(|Since(time)| time),
        to: parameters.take("to")?.map(|Until(time)| time),
        after: parameters.take("after")?,
    };
    let page = request.page()?;
    let mut read = request.begin_unscoped(&service).await?;
    let head = audit_log::head(&mut read).await?.position;
    if headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(LINES.as_bytes())) {
        drop(read);
        return Ok(lines(service, filter, page.cursor, head));
    }
    let events = audit_log::events(&mut read, &filter, &page).await?;
    shown(head, &events)
}

/// A wallet's replay, with a page of its steps where they are asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplayView {
    #[serde(flatten)]
    replay: Replay,
    /// Null unless `steps=true`.
    steps: Option<Steps>,
}

/// A page of a replay's steps.
#[derive(Serialize, ToSchema)]
pub(crate) struct Steps {
    /// Oldest first.
    data: Vec<Step>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

/// GET `/audit/wallets/{reseller_id}/replay`
pub(crate) async fn replay(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    request.only(READERS)?;
    let moment = request.moment_of("until", "until_position")?;
    let steps: bool = request.parameters.take("steps")?.unwrap_or(false);
    let page = request.page()?;
    let after = page.position()?.unwrap_or(0);
    let (mut read, then) = match moment {
        Some(moment) => {
            let (read, [then]) = request.begin_at(&service, [moment]).await?;
            (read, then)
        }
        None => {
            let read = request.begin(&service).await?;
            let then = AsOf { position: read.position(), time: read.as_of() };
            (read, then)
        }
    };
    let mut shown: Vec<(i64, Step)> = Vec::new();
    let replay = replay::wallet(read.unscoped(), request.path, then, |step| {
        let position = i64::try_from(step.position).map_err(ViewError::unreadable)?;
        if steps && position > after && shown.len() <= page.rows() {
            shown.push((position, step));
        }
        Ok(())
    })
    .await?;
    let Page { data, next_cursor } = Page::of(&page, shown);
    let steps = steps.then_some(Steps { data, next_cursor });
    let view = replay.map(|replay| ReplayView { replay, steps });
    found(read.position(), "wallet", view.as_ref())
}

/// What a run of `verify` is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyBody {
    /// What was written down of the log before, `POSITION:HASH` each: it must still stand.
    #[serde(default)]
    #[schema(max_items = 10_000)]
    expect: Vec<String>,
}

/// POST `/audit/verify`: it reads, and so it is no command.
pub(crate) async fn verify(
    State(service): State<Shared>,
    mut request: QueryRequest,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    request.only(READERS)?;
    let body = service.bodies.receive(&headers, body, VERIFY_BODY_BYTES_MAX).await?;
    let VerifyBody { expect } = if body.bytes.is_empty() { VerifyBody::default() } else { parse(&body.bytes)? };
    let anchors = expect.iter().enumerate().map(|(index, text)| {
        text.parse::<Anchor>().map_err(|error| Problem::invalid(format!("/expect/{index}"), error.to_string()))
    });
    let anchors = anchors.collect::<Result<Vec<_>, _>>()?;
    let read = request.begin_unscoped(&service).await?;
    let clock = service.clock.clone();
    let id = RunId(fresh::id(clock.now()));
    let run = service.verifications.begin(id, anchors, move || clock.now());
    let run = run.map_err(|error| Problem::internal(&error))?;
    let mut response = json(StatusCode::ACCEPTED, &run)?;
    let place = HeaderValue::from_str(&format!("/audit/verify/{}", run.id.0));
    response.headers_mut().insert(LOCATION, place.map_err(|error| Problem::internal(&error))?);
    response.headers_mut().insert(POSITION, HeaderValue::from(read.position()));
    Ok(response)
}

/// GET `/audit/verify/{id}`
pub(crate) async fn verification(
    State(service): State<Shared>,
    mut request: QueryRequest<RunId>,
) -> Result<Response, Problem> {
    request.only(READERS)?;
    let read = request.begin_unscoped(&service).await?;
    found(read.position(), "run of verify", service.verifications.find(request.path).as_ref())
}

/// What was refused, and how much of it could not be kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct RefusalsView {
    /// The last first.
    data: Vec<RefusalView>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
    /// How many could not be written down since this node started: more were refused at once than could be.
    dropped: u64,
}

/// GET `/audit/refusals`
pub(crate) async fn refusals(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    request.only(READERS)?;
    let page = request.page()?;
    let parameters = &mut request.parameters;
    let filter = RefusalFilter {
        actor: parameters.take("actor")?,
        role: parameters.take("role")?,
        tenant: parameters.take("tenant")?,
        code: parameters.take("code")?,
        from: parameters.take("from")?.map(|Since(time)| time),
        to: parameters.take("to")?.map(|Until(time)| time),
    };
    let read = request.begin_unscoped(&service).await?;
    service.refusals.settle().await;
    let Page { data, next_cursor } = service.refusals.list(&filter, &page).await?;
    let view = RefusalsView { data, next_cursor, dropped: service.refusals.dropped() };
    shown(read.position(), &view)
}

/// The two moments that a difference lies between: the second one is now unless it is named.
fn between<P>(request: &mut QueryRequest<P>) -> Result<(NamedMoment, Option<NamedMoment>), Problem> {
    let from = request.moment_of("from", "from_position")?.unwrap_or(NamedMoment::position(0));
    Ok((from, request.moment_of("to", "to_position")?))
}

/// Which of the two moments comes first is for the caller to know.
fn in_order(from: AsOf, to: AsOf) -> Result<(AsOf, AsOf), Problem> {
    if from.position > to.position { Err(wrong("to", "must not lie before from")) } else { Ok((from, to)) }
}

/// GET `/audit/wallets/{reseller_id}/difference`
pub(crate) async fn wallet_difference(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    request.only(READERS)?;
    let page = request.page()?;
    let (mut read, moments) = match between(&mut request)? {
        (from, Some(to)) => {
            let (read, [from, to]) = request.begin_at(&service, [from, to]).await?;
            (read, in_order(from, to)?)
        }
        (from, None) => {
            let (read, [from]) = request.begin_at(&service, [from]).await?;
            let to = AsOf { position: read.position(), time: read.as_of() };
            (read, in_order(from, to)?)
        }
    };
    let difference = difference::of_wallet(&mut read, request.path, moments, &page).await?;
    found(read.position(), "wallet", difference.as_ref())
}

/// GET `/audit/credits-outstanding/difference`
pub(crate) async fn outstanding_difference(
    State(service): State<Shared>,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    request.only(READERS)?;
    let page = request.page()?;
    let (mut read, subject, moments) = match between(&mut request)? {
        (from, Some(to)) => {
            let (read, subject, [from, to]) = analytics::begin_at(&service, &mut request, [from, to]).await?;
            (read, subject, in_order(from, to)?)
        }
        (from, None) => {
            let (read, subject, [from]) = analytics::begin_at(&service, &mut request, [from]).await?;
            let to = AsOf { position: read.position(), time: read.as_of() };
            (read, subject, in_order(from, to)?)
        }
    };
    let difference = difference::of_outstanding(&mut read, &subject, moments, &page).await?;
    shown(read.position(), &difference)
}

/// Where a stream of events has come.
struct Progress {
    service: Shared,
    filter: EventFilter,
    cursor: Option<String>,
    ended: bool,
}

/// One event a line, up to the head as it is now. Read page by page, so that no connection is held by a slow reader.
fn lines(service: Shared, filter: EventFilter, cursor: Option<String>, head: u64) -> Response {
    let progress = Progress { service, filter, cursor, ended: false };
    let stream = futures_util::stream::try_unfold(progress, move |mut progress| async move {
        if progress.ended {
            return Ok(None);
        }
        let text = next_lines(&mut progress, head).await.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(Some((Bytes::from(text), progress)))
    });
    let mut response = Body::from_stream(stream).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    response.headers_mut().insert(POSITION, HeaderValue::from(head));
    response
}

async fn next_lines(progress: &mut Progress, head: u64) -> anyhow::Result<Vec<u8>> {
    let mut read = progress.service.views.begin(0, std::time::Duration::ZERO).await?;
    let page = PageRequest { limit: LIMIT_MAX, cursor: progress.cursor.take() };
    let events = audit_log::events(&mut read, &progress.filter, &page).await?;
    let mut text = Vec::new();
    let until_head = |event: &&EventView| event.position <= head;
    let mut shown = 0;
    for event in events.data.iter().take_while(until_head) {
        serde_json::to_writer(&mut text, event)?;
        text.push(b'\n');
        shown += 1;
    }
    progress.cursor = events.next_cursor;
    progress.ended = progress.cursor.is_none() || shown < events.data.len();
    Ok(text)
}
