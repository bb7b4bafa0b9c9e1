//! The read side of the API, one file for each noun. A handler says which parameters it takes and which projection answers;
//! what the caller may see is its scope, a predicate in the projection's own SQL.

pub(super) mod activity;
pub(super) mod analytics;
pub(super) mod audit;
pub(super) mod clients;
pub(super) mod exports;
pub(super) mod network;
pub(super) mod platform;
pub(super) mod products;
pub(super) mod referrals;
pub(super) mod requests;
pub(super) mod resellers;
pub(super) mod wallets;

use std::time::Duration;

use aggregates::primitives::{Actor, ResellerId, Role, Timestamp};
use axum::extract::FromRequestParts;
use axum::http::header::IF_NONE_MATCH;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use projections::page::{LIMIT_DEFAULT, LIMIT_MAX, PageRequest};
use projections::sql::ViewError;
use projections::{Read, Scope, ScopedRead};
use serde::Serialize;

use super::Shared;
use super::answer::{json, json_unless_unchanged};
use super::error::{POSITION, Problem};
use super::extract::{PathParams, authenticate, path};
use super::parameters::{Parameters, own_or_named, wrong};
use crate::audit::as_of::{AsOf, AsOfError, Moment};

/// For how long a query waits for its read models to come as far as it was asked to.
const VIEW_TIME_MAX: Duration = Duration::from_secs(5);

/// A moment of the past, and the parameter that named it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedMoment {
    moment: Moment,
    by: &'static str,
}

impl NamedMoment {
    /// After a position that nobody named.
    pub(crate) fn position(position: u64) -> Self {
        Self { moment: Moment::Position(position), by: "position" }
    }
}

/// A query as it came in.
#[derive(Debug)]
pub(crate) struct QueryRequest<P = ()> {
    /// Who asks.
    pub actor: Actor,
    /// What its path names.
    pub path: P,
    /// What else it says; taken out one by one.
    pub parameters: Parameters,
    min_position: u64,
    /// The tags of answers that the client has already.
    held: Vec<HeaderValue>,
}

impl<P: PathParams> FromRequestParts<Shared> for QueryRequest<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Shared) -> Result<Self, Problem> {
        let actor = authenticate(&parts.headers, service).await?;
        if !may_query(actor.role) {
            return Err(Problem::new("forbidden", format!("the role {} may not read this", actor.role)));
        }
        let path = path(parts, service).await?;
        let mut parameters = Parameters::of(&parts.uri)?;
        let min_position = parameters.take("min_position")?.unwrap_or(0);
        let held = parts.headers.get_all(IF_NONE_MATCH).iter().cloned().collect();
        Ok(Self { actor, path, parameters, min_position, held })
    }
}

fn may_query(role: Role) -> bool {
    matches!(role, Role::SuperAdmin | Role::Reseller | Role::Auditor | Role::Finance)
}

impl<P> QueryRequest<P> {
    /// Begins reading what the caller may see. Call it when all parameters are taken: whatever is left is unknown.
    pub(crate) async fn begin(&mut self, service: &Shared) -> Result<ScopedRead, Problem> {
        Ok(self.scope()?.begin(&service.views, self.min_position, VIEW_TIME_MAX).await?)
    }

    /// What the caller may see. Call it when all parameters are taken: whatever is left is unknown.
    fn scope(&mut self) -> Result<Scope, Problem> {
        std::mem::take(&mut self.parameters).end()?;
        match (self.actor.role, self.actor.tenant) {
            (Role::SuperAdmin | Role::Auditor | Role::Finance, _) => Ok(Scope::All),
            (_, Some(tenant)) => Ok(Scope::Subtree(tenant)),
            (role, None) => Err(Problem::new("forbidden", format!("the role {role} may not read this"))),
        }
    }

    /// Begins reading the log itself, for those who may see all of it.
    pub(crate) async fn begin_unscoped(&mut self, service: &Shared) -> Result<Read, Problem> {
        std::mem::take(&mut self.parameters).end()?;
        Ok(service.views.begin(self.min_position, VIEW_TIME_MAX).await?)
    }

    /// Takes `at` and `position`, by which a moment of the past is named, in one way or the other; and says by which it was.
    pub(crate) fn moment(&mut self) -> Result<Option<NamedMoment>, Problem> {
        self.moment_of("at", "position")
    }

    /// The same by other names.
    pub(crate) fn moment_of(
        &mut self,
        time: &'static str,
        position: &'static str,
    ) -> Result<Option<NamedMoment>, Problem> {
        match (self.parameters.take(time)?, self.parameters.take(position)?) {
            (None, None) => Ok(None),
            (Some(at), None) => Ok(Some(NamedMoment { moment: Moment::Time(at), by: time })),
            (None, Some(at)) => Ok(Some(NamedMoment { moment: Moment::Position(at), by: position })),
            (Some(_), Some(_)) => Err(wrong(position, "name a time or a position, not both")),
        }
    }

    /// As [`Self::begin`], at moments of the past: the read has come to all of them.
    pub(crate) async fn begin_at<const MOMENTS: usize>(
        &mut self,
        service: &Shared,
        moments: [NamedMoment; MOMENTS],
    ) -> Result<(ScopedRead, [AsOf; MOMENTS]), Problem> {
        let mut read = self.begin(service).await?;
        let mut found = [AsOf { position: 0, time: Timestamp::MIN }; MOMENTS];
        for (found, named) in found.iter_mut().zip(moments) {
            *found =
                AsOf::of(read.unscoped(), named.moment, service.clock.now()).await.map_err(|error| match error {
                    AsOfError::Future { .. } => wrong(named.by, error.to_string()),
                    AsOfError::View(error) => error.into(),
                })?;
        }
        let furthest = found.iter().map(|then| then.position).max().unwrap_or_default();
        if furthest > read.position() {
            drop(read);
            self.min_position = furthest;
            read = self.begin(service).await?;
        }
        Ok((read, found))
    }

    /// Refuses roles that are not among these.
    pub(crate) fn only(&self, roles: &[Role]) -> Result<(), Problem> {
        if roles.contains(&self.actor.role) {
            Ok(())
        } else {
            Err(Problem::new("forbidden", format!("the role {} may not read this", self.actor.role)))
        }
    }

    /// A view as a response, unless the client has it already. A view that is not there answers as [`found`].
    pub(crate) fn found_or_unchanged(
        &self,
        position: u64,
        what: &str,
        view: Option<&impl Serialize>,
    ) -> Result<Response, Problem> {
        let Some(view) = view else { return found(position, what, view) };
        let mut response = json_unless_unchanged(&self.held, view)?;
        response.headers_mut().insert(POSITION, HeaderValue::from(position));
        Ok(response)
    }

    /// Takes `reseller_id`, by which the operator's staff says whose affairs it means. A reseller may name itself; any other is,
    /// for it, not there.
    pub(crate) fn named_reseller(&mut self) -> Result<Option<ResellerId>, Problem> {
        own_or_named(&self.actor, self.parameters.take("reseller_id")?)
    }

    /// Takes `limit` and `cursor`.
    pub(crate) fn page(&mut self) -> Result<PageRequest, Problem> {
        Ok(PageRequest { limit: self.limit()?, cursor: self.parameters.take("cursor")? })
    }

    /// Takes `limit`: 50 unless said otherwise, at most 500.
    pub(crate) fn limit(&mut self) -> Result<u32, Problem> {
        match self.parameters.take("limit")? {
            None => Ok(LIMIT_DEFAULT),
            Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
            Some(_) => Err(wrong("limit", format!("must be from 1 to {LIMIT_MAX}"))),
        }
    }
}

/// Refuses a reseller that was named and is not there.
async fn in_sight(read: &mut ScopedRead, named: Option<ResellerId>) -> Result<(), Problem> {
    match named {
        Some(reseller) if read.path_of(reseller).await?.is_none() => {
            Err(Problem::not_found("reseller").decided_at(read.position(), false))
        }
        _ => Ok(()),
    }
}

/// A view as a response, with the position that it shows.
pub(crate) fn shown(position: u64, view: &impl Serialize) -> Result<Response, Problem> {
    let mut response = json(StatusCode::OK, view)?;
    response.headers_mut().insert(POSITION, HeaderValue::from(position));
    Ok(response)
}

/// A view that may not be there, or not for this caller: the two answer alike.
pub(crate) fn found(position: u64, what: &str, view: Option<&impl Serialize>) -> Result<Response, Problem> {
    match view {
        Some(view) => shown(position, view),
        None => Err(Problem::not_found(what).decided_at(position, false)),
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        match &error {
            ViewError::ViewBehind { position } => {
                Self::new("view_behind", error.to_string()).decided_at(*position, false)
            }
            ViewError::InvalidCursor => wrong("cursor", error.to_string()),
            ViewError::Rejection(rejection) => Self::from(rejection),
            ViewError::HistoryCut(_) => Self::new("not_ready", error.to_string()),
            // What the database says of itself is not for clients.
            _ if error.is_unreachable() => Self::new("not_ready", "the database of the read models is not there"),
            ViewError::Database(_)
            | ViewError::Sqlite(_)
            | ViewError::Migration(_)
            | ViewError::File { .. }
            | ViewError::Unreadable(_) => Self::internal(&error),
        }
    }
}
