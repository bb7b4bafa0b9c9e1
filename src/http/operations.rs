//! What an operator's tools ask, and what answers a path or a method that does not exist.

use aggregates::primitives::Timestamp;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Shared;
use super::answer::json as answer_json;
use super::error::Problem;
use super::extract::parse;

/// How far the read models may be behind the log before this node says that it is not ready.
const EVENTS_BEHIND_MAX: u64 = 100_000;

/// What a living process says.
#[derive(Serialize, ToSchema)]
pub(crate) struct HealthView {
    #[schema(examples("ok"))]
    status: &'static str,
}

/// The process is alive.
pub(super) async fn healthz() -> Result<Response, Problem> {
    answer_json(StatusCode::OK, &HealthView { status: "ok" })
}

/// What a node says that is ready.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReadyView {
    #[schema(examples("ready"))]
    status: &'static str,
    /// How far the log has come, as this node knows it.
    position: u64,
    /// How far the read models have come.
    views_position: u64,
}

/// This node takes commands and its read models follow.
pub(super) async fn readyz(State(service): State<Shared>) -> Result<Response, Problem> {
    let head = *service.engine.committed().borrow();
    let views = service.projector.health();
    let behind = head.saturating_sub(views.position);
    // Whoever asks has no token: what a store says of itself is for the node's own log.
    let reason = if service.engine.stopped().is_some() {
        Some("this node takes no commands any more; its log says why".to_owned())
    } else if views.error.is_some() {
        Some("the read models come no further at the moment; this node's log says why".to_owned())
    } else if !views.has_caught_up {
        Some("the read models have not come to the end of the log yet".to_owned())
    } else {
        (behind > EVENTS_BEHIND_MAX).then(|| format!("the read models are {behind} events behind"))
    };
    match reason {
        Some(reason) => Err(Problem::new("not_ready", reason)
            .with("position", json!(head))
            .with("views_position", json!(views.position))),
        None => {
            let ready = ReadyView { status: "ready", position: head, views_position: views.position };
            answer_json(StatusCode::OK, &ready)
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdvanceBody {
    advance_seconds: u32,
}

/// What the clock says.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClockView {
    now: Timestamp,
}

/// Moves the clock that tests move by hand.
pub(super) async fn advance_clock(State(service): State<Shared>, body: axum::body::Bytes) -> Result<Response, Problem> {
    let body: AdvanceBody = parse(&body)?;
    match service.clock.advance(body.advance_seconds) {
        Some(now) => answer_json(StatusCode::OK, &ClockView { now }),
        None => Err(Problem::not_found("resource")),
    }
}

/// No route has this path.
pub(super) async fn no_such_path(uri: Uri) -> Problem {
    Problem::new("not_found", format!("there is no {}", uri.path()))
}

/// The path is there, but not with this method.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new("method_not_allowed", format!("{} does not take {method}", uri.path()))
}
