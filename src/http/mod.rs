//! The HTTP API: API.md as code. [`routes`] is its table of contents.
//!
//! A command goes extract → parse → [`crate::engine::Engine::submit`] → answer; a query goes extract → scope → read models.
//! The two sides share nothing but the conventions (tokens, problem documents, `Tallytree-Position`). Layering: [`commands`]
//! see the engine and access; `queries` see projections and access.

mod answer;
pub mod bodies;
mod commands;
pub(crate) mod connections;
mod describe;
mod docs;
mod document;
mod error;
mod extract;
pub mod limits;
mod operations;
mod parameters;
mod patience;
mod queries;
mod routes;
pub mod streams;

use std::sync::Arc;

use axum::Router;
use projections::ReadPool;
use tower_http::trace::TraceLayer;

pub(crate) use parameters::{Since, Until};
pub(crate) use patience::Patient;

use crate::access::Access;
use crate::audit::runs::Runs;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::feed::Feed;
use crate::fresh;
use crate::projector::Projector;
use crate::refusals::Refusals;
use bodies::Bodies;
use streams::Streams;

/// What every handler works with.
#[derive(Debug)]
pub struct Service {
    /// Takes commands.
    pub engine: Engine,
    /// Knows who asks.
    pub access: Access,
    /// What time it is.
    pub clock: Clock,
    /// Answers queries.
    pub views: ReadPool,
    /// The read models as this node folds them: for the feed, which goes on from where it has read to.
    pub live: ReadPool,
    /// Keeps what answers them up to date.
    pub projector: Projector,
    /// Tells those who listen what happens.
    pub feed: Feed,
    /// How many of them there may be.
    pub streams: Arc<Streams>,
    /// Verifies the store for who asks.
    pub verifications: Runs,
    /// Keeps what was refused.
    pub refusals: Refusals,
    /// Receives what is sent.
    pub bodies: Bodies,
}

/// One service, shared by all requests.
pub(crate) type Shared = Arc<Service>;

/// Every path there is: see [`routes`].
pub fn router(service: Arc<Service>) -> Router {
    let manual_clock = matches!(service.clock, Clock::Manual(_));
    let router = routes::routes(manual_clock)
        .router()
        .merge(docs::router())
        .fallback(operations::no_such_path)
        .method_not_allowed_fallback(operations::no_such_method)
        .with_state(service);
    // A layer costs every request something; only who debugs pays for it.
    if tracing::enabled!(tracing::Level::DEBUG) { router.layer(TraceLayer::new_for_http()) } else { router }
}

/// The OpenAPI document of a service, with what only tests may do where the clock is moved by hand.
#[must_use]
pub fn description(manual_clock: bool) -> serde_json::Value {
    document::document(manual_clock)
}
