//! The activity feed: `/reseller-network/activity`, page by page or as it happens.
//!
//! A stream begins after `Last-Event-ID`, or now. A listener subscribes first, then reads what there is after the last entry it
//! has, then listens and leaves out what it has: none is missing and none comes twice. One that does not keep up reads again;
//! one that is more than [`BEHIND_MAX`] entries behind is sent away and reads pages. Who listens is asked again every
//! [`RECHECK_AFTER`]: a token that is revoked or expires ends its stream.

use std::sync::Arc;
use std::time::Duration;

use aggregates::primitives::Actor;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use projections::Scope;
use projections::activity_feed::pages::{self, FeedFilter, Sought};
use projections::activity_feed::words::{ActivityView, EntryId};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{QueryRequest, VIEW_TIME_MAX, found};
use crate::feed::{Delivery, Subscription};
use crate::http::Shared;
use crate::http::error::{POSITION, Problem};
use crate::http::extract::authenticate;
use crate::http::parameters::{Since, Until};
use crate::http::streams::StreamPlace;

/// How many entries a listener may be behind.
pub(crate) const BEHIND_MAX: usize = 10_000;
/// How long a stream may be silent: what stands between the two of them takes a silent one for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often it is asked again who listens.
const RECHECK_AFTER: Duration = Duration::from_secs(5);
/// How many entries are read at a time.
const PAGE_ENTRIES: usize = 200;
/// How many entries are sent at a time.
const SENT_MAX: usize = 100;

const STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What stands between must not collect what is to be sent at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// GET `/reseller-network/activity`
pub(crate) async fn feed(
    State(service): State<Shared>,
    headers: HeaderMap,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    let kind = request.parameters.take("kind")?;
    let reseller_id = request.parameters.take("reseller_id")?;
    if wants_stream(&headers) {
        let place = service.streams.take(&request.actor)?;
        let mut read_request = request;
        let last = last_event_id(&headers)?;
        if let Some(last) = last {
            // What a listener has seen on one node it may resume on another that is behind.
            read_request.min_position = read_request.min_position.max(last.position);
        }
        let mut read = read_request.begin(&service).await?;
        let position = read.position();
        let Some(sought) = Sought::of(&mut read, kind, reseller_id).await? else {
            return Err(Problem::not_found("reseller").decided_at(position, false));
        };
        if let Some(last) = last
            && pages::is_behind(&mut read, &sought, last, BEHIND_MAX).await?
        {
            return Err(behind().decided_at(position, false));
        }
        let scope = read.scope();
        drop(read);
        let last = last.unwrap_or(EntryId { position, reached: true });
        return Ok(stream(Listening::new(service, place, headers, read_request.actor, scope, sought, last), position));
    }
    let filter = FeedFilter {
        kind,
        reseller_id,
        from: request.parameters.take("from")?.map(|Since(time)| time),
        to: request.parameters.take("to")?.map(|Until(time)| time),
    };
    let page = request.page()?;
    let mut read = request.begin(&service).await?;
    let page = pages::page(&mut read, &filter, &page).await?;
    found(read.position(), "reseller", page.as_ref())
}

/// Whether the client asks for a stream, among whatever else it takes.
fn wants_stream(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
        |accepted| accepted.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(STREAM)),
    )
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<EntryId>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    match value.to_str().unwrap_or_default() {
        // A client that has seen nothing yet may send it empty.
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| Problem::invalid("", "Last-Event-ID is not the id of an entry of this feed")),
    }
}

fn behind() -> Problem {
    let detail = format!("more than {BEHIND_MAX} entries came after Last-Event-ID: read them page by page");
    Problem::new("limit_exceeded", detail).with("entries_behind_max", json!(BEHIND_MAX))
}

/// One who listens.
struct Listening {
    service: Shared,
    /// Held until it ends.
    _place: StreamPlace,
    /// With which token, and for which tenant.
    headers: HeaderMap,
    actor: Actor,
    scope: Scope,
    sought: Arc<Sought>,
    /// Everything up to here has been sent.
    last: EntryId,
    subscription: Option<Subscription>,
    /// Whether there may be something after `last` that was folded before it subscribed.
    is_reading: bool,
    greeted: bool,
    ended: bool,
    recheck_at: Instant,
    closing: watch::Receiver<bool>,
}

/// What a waiting listener wakes up for.
enum Woken {
    Closing,
    Delivered(Option<Arc<Delivery>>),
    Recheck,
    Silence,
}

impl Listening {
    fn new(
        service: Shared,
        place: StreamPlace,
        headers: HeaderMap,
        actor: Actor,
        scope: Scope,
        sought: Sought,
        last: EntryId,
    ) -> Self {
        let closing = service.feed.closing();
        Self {
            service,
            _place: place,
            headers,
            actor,
            scope,
            sought: Arc::new(sought),
            last,
            subscription: None,
            is_reading: true,
            greeted: false,
            ended: false,
            recheck_at: Instant::now() + RECHECK_AFTER,
            closing,
        }
    }

    /// The next text to send; `None` at the end.
    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        if !self.greeted {
            // Sent at once, so that the client knows that it is heard.
            self.greeted = true;
            return Ok(Some(Bytes::from_static(b"retry: 2000\n\n")));
        }
        let silent_until = Instant::now() + KEEP_ALIVE;
        loop {
            if *self.closing.borrow() || (Instant::now() >= self.recheck_at && !self.is_still_allowed().await) {
                return Ok(None);
            }
            if self.is_reading {
                let text = self.read().await?;
                if !text.is_empty() {
                    return Ok(Some(Bytes::from(text)));
                }
                continue;
            }
            let Some(subscription) = &mut self.subscription else {
                self.is_reading = true;
                continue;
            };
            let woken = tokio::select! {
                biased;
                _ = self.closing.changed() => Woken::Closing,
                delivery = subscription.deliveries.recv() => Woken::Delivered(delivery),
                () = sleep_until(self.recheck_at) => Woken::Recheck,
                () = sleep_until(silent_until) => Woken::Silence,
            };
            match woken {
                Woken::Closing => return Ok(None),
                Woken::Recheck => {}
                Woken::Silence => return Ok(Some(Bytes::from_static(b": still here\n\n"))),
                Woken::Delivered(Some(first)) => {
                    let text = self.deliver(first)?;
                    if !text.is_empty() {
                        return Ok(Some(Bytes::from(text)));
                    }
                }
                Woken::Delivered(None) => {
                    // It did not keep up.
                    self.subscription = None;
                    self.is_reading = true;
                }
            }
        }
    }

    /// Whether the token is still good, and for the same.
    async fn is_still_allowed(&mut self) -> bool {
        self.recheck_at = Instant::now() + RECHECK_AFTER;
        match authenticate(&self.headers, &self.service).await {
            Ok(actor) => actor == self.actor,
            // That tokens cannot be read at the moment is not the listener's fault.
            Err(problem) => problem.status().is_server_error(),
        }
    }

    /// Reads what came after the last one. When that is little, what comes next is delivered; when it is too much, that is the
    /// end.
    async fn read(&mut self) -> anyhow::Result<Vec<u8>> {
        if self.subscription.is_none() {
            self.subscription = Some(self.service.feed.subscribe(Arc::clone(&self.sought)));
        }
        let mut read = self.scope.begin(&self.service.live, 0, VIEW_TIME_MAX).await?;
        // As many entries can only have come where as many positions have.
        if read.position().saturating_sub(self.last.position) > BEHIND_MAX as u64
            && pages::is_behind(&mut read, &self.sought, self.last, BEHIND_MAX).await?
        {
            self.ended = true;
            return Ok(b": too far behind\n\n".to_vec());
        }
        let entries = pages::after(&mut read, &self.sought, self.last, PAGE_ENTRIES).await?;
        let mut text = Vec::new();
        for entry in &entries {
            text.extend(frame(entry)?);
        }
        if let Some(entry) = entries.last() {
            self.last = entry.id;
        }
        if entries.len() < PAGE_ENTRIES {
            self.is_reading = false;
            self.last = self.last.max(EntryId { position: read.position(), reached: true });
        }
        Ok(text)
    }

    /// The text of a delivery and of those that wait behind it, without what has been sent.
    fn deliver(&mut self, first: Arc<Delivery>) -> anyhow::Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut next = Some(first);
        let mut sent = 0;
        while let Some(delivery) = next {
            let id = EntryId { position: delivery.told.position, reached: delivery.reach.is_some() };
            if id > self.last {
                let sight = self.sought.sight();
                let make = || frame(&self.sought.view(&delivery.told, delivery.reach.as_ref())).map(Bytes::from);
                text.extend_from_slice(&delivery.text(sight.number, make)?);
                self.last = id;
                sent += 1;
            }
            let waiting = self.subscription.as_mut().filter(|_| sent < SENT_MAX);
            next = waiting.and_then(|subscription| subscription.deliveries.try_recv().ok());
        }
        Ok(text)
    }
}

/// An entry as an event of a stream.
fn frame(entry: &ActivityView) -> serde_json::Result<Vec<u8>> {
    let mut text = format!("id: {}\ndata: ", entry.id).into_bytes();
    serde_json::to_writer(&mut text, entry)?;
    text.extend(b"\n\n");
    Ok(text)
}

fn stream(listening: Listening, position: u64) -> Response {
    let texts = futures_util::stream::unfold(listening, |mut listening| async move {
        match listening.next().await {
            Ok(text) => text.map(|text| (Ok::<_, std::io::Error>(text), listening)),
            Err(error) => {
                // The client comes again with the last id it has.
                tracing::warn!(%error, "a stream ends");
                None
            }
        }
    });
    let mut response = Body::from_stream(texts).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    headers.insert(POSITION, HeaderValue::from(position));
    response
}
