//! Commands about clients: `/clients…`.

use aggregates::client::ClientDetails;
use aggregates::command::{ClientPatch, ClientStep, Command};
use aggregates::primitives::{ClientId, ResellerId, Text};
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{ReasonBody, present};
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::extract::CommandRequest;
use crate::http::fresh;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnboardBody {
    name: Text,
    #[serde(default)]
    email: Option<Text>,
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    #[serde(default)]
    reseller_id: Option<ResellerId>,
}

/// POST `/clients`
pub(crate) async fn onboard(State(service): State<Shared>, request: CommandRequest) -> Result<Response, Problem> {
    let OnboardBody { name, email, metadata, reseller_id } = request.body()?;
    let command = Command::OnboardClient {
        client: ClientId(fresh::id(service.clock.now())),
        owner: reseller_id,
        details: ClientDetails { salt: fresh::salt(), name, email, metadata },
    };
    request.submit(&service, command).await?.created()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBody {
    #[serde(default)]
    name: Option<Text>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Text>)]
    email: Option<Option<Text>>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// PATCH `/clients/{id}`
pub(crate) async fn change(
    State(service): State<Shared>,
    request: CommandRequest<ClientId>,
) -> Result<Response, Problem> {
    let ChangeBody { name, email, metadata } = request.body()?;
    let client = request.path;
    let patch = ClientPatch { name, email, metadata, salt: fresh::salt() };
    request.submit(&service, Command::ChangeClient { client, patch }).await?.ok()
}

/// POST `/clients/{id}/activate`
pub(crate) async fn activate(
    State(service): State<Shared>,
    request: CommandRequest<ClientId>,
) -> Result<Response, Problem> {
    step(&service, request, ClientStep::Activate).await
}

/// POST `/clients/{id}/suspend`
pub(crate) async fn suspend(
    State(service): State<Shared>,
    request: CommandRequest<ClientId>,
) -> Result<Response, Problem> {
    step(&service, request, ClientStep::Suspend).await
}

/// POST `/clients/{id}/deactivate`
pub(crate) async fn deactivate(
    State(service): State<Shared>,
    request: CommandRequest<ClientId>,
) -> Result<Response, Problem> {
    step(&service, request, ClientStep::Deactivate).await
}

/// POST `/clients/{id}/forget`
pub(crate) async fn forget(
    State(service): State<Shared>,
    request: CommandRequest<ClientId>,
) -> Result<Response, Problem> {
    step(&service, request, ClientStep::Forget).await
}

async fn step(service: &Shared, request: CommandRequest<ClientId>, step: ClientStep) -> Result<Response, Problem> {
    // A reason is taken, as for resellers; a client's events keep none, lest it be personal data.
    let _: ReasonBody = request.body_or_default()?;
    let client = request.path;
    request.submit(service, Command::StepClient { client, step }).await?.ok()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReassignBody {
    reseller_id: ResellerId,
}

/// POST `/clients/{id}/reassign`
pub(crate) async fn reassign(
    State(service): State<Shared>,
    request: CommandRequest<ClientId>,
) -> Result<Response, Problem> {
    let ReassignBody { reseller_id } = request.body()?;
    let client = request.path;
    request.submit(&service, Command::ReassignClient { client, owner: reseller_id }).await?.ok()
}
