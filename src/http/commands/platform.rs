//! Commands about the platform: `/platform…`.

use aggregates::command::Command;
use aggregates::platform::Policy;
use axum::extract::State;
use axum::response::Response;

use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::extract::CommandRequest;

/// PUT `/platform/policy`
pub(crate) async fn set_policy(State(service): State<Shared>, request: CommandRequest) -> Result<Response, Problem> {
    let policy: Policy = request.body()?;
    request.submit(&service, Command::SetPolicy(policy)).await?.ok()
}
