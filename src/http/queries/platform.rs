//! Queries about the platform: `/platform…`.

use aggregates::primitives::Role;
use axum::extract::State;
use axum::response::Response;
use projections::policy;

use super::{QueryRequest, shown};
use crate::http::Shared;
use crate::http::error::Problem;

/// GET `/platform/policy`
pub(crate) async fn policy(State(service): State<Shared>, mut request: QueryRequest) -> Result<Response, Problem> {
    request.only(&[Role::SuperAdmin, Role::Auditor, Role::Finance])?;
    let mut read = request.begin(&service).await?;
    let policy = policy::in_force(&mut read.connection()).await?;
    shown(read.position(), &policy)
}
