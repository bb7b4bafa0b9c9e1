//! The log itself: `/audit…`, for auditors and the operator.

use aggregates::primitives::Role;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use projections::audit_log::{self, EventFilter, EventView};
use projections::page::{LIMIT_MAX, PageRequest};

use super::{QueryRequest, shown};
use crate::http::Shared;
use crate::http::error::{POSITION, Problem};
use crate::http::parameters::{Since, Until};

const READERS: &[Role] = &[Role::SuperAdmin, Role::Auditor];
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
