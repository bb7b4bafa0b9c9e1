//! Commands about the platform: `/platform…`.

use aggregates::command::Command;
use aggregates::month::Month;
use aggregates::platform::Policy;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::finance::close::{CloseError, RECKONINGS_MAX, reckon};
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::extract::CommandRequest;

/// The body of a closing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloseBody {
    month: Month,
}

/// POST `/platform/close`
pub(crate) async fn close(State(service): State<Shared>, request: CommandRequest) -> Result<Response, Problem> {
    // Before anything is added up for whoever may not ask for it.
    if !request.actor.role.closes_periods() {
        return Err(Problem::new("forbidden", "this is the platform's or finance's to do"));
    }
    let CloseBody { month } = request.body()?;
    for _ in 0..RECKONINGS_MAX {
        let reckoning = reckon(&service.views, month, service.clock.now(), &mut |_, _| {}).await?;
        match request.clone().submit(&service, Command::ClosePeriod(Box::new(reckoning))).await {
            Err(problem) if problem.is("log_moved_on") => {}
            submitted => return submitted?.created(),
        }
    }
    Err(Problem::new("too_busy", "the log moved on while the month was added up; nothing was done, try again"))
}

impl From<CloseError> for Problem {
    fn from(error: CloseError) -> Self {
        match error {
            CloseError::View(error) => error.into(),
            // Whoever closes must know by how much.
            CloseError::BooksDisagree { .. } => {
                tracing::error!(%error, "a month cannot be closed");
                Self::new("internal", format!("{error}; nothing was closed: run `tallytree verify`"))
            }
        }
    }
}

/// PUT `/platform/policy`
pub(crate) async fn set_policy(State(service): State<Shared>, request: CommandRequest) -> Result<Response, Problem> {
    let policy: Policy = request.body()?;
    request.submit(&service, Command::SetPolicy(policy)).await?.ok()
}
