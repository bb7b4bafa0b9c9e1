//! One node of the service: store, engine, read models and the HTTP server, opened in this order and closed in the other.
//!
//! [`Node::open`] starts everything but the server; [`run`] serves on a listener that the caller has bound, so that tests start
//! the real thing on port 0, and lets the policies do their work meanwhile. Shutdown: the policies end → `/readyz` fails and new
//! commands are refused → the queue is drained and everyone answered → listeners are sent away → connections close → what goes
//! on beside ends → the projector finishes its batch; all of it within [`SHUTDOWN_TIME`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use projections::ReadPool;
use projections::activity_feed::presence;
use projections::sql::ViewError;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::access::Access;
use crate::access::directory::Directory;
use crate::access::jwt::{JwtError, JwtOptions};
use crate::audit::runs::Runs;
use crate::clock::Clock;
use crate::config::{ClockKind, Config, Database};
use crate::engine::{self, Engine, EngineOptions, EngineStartError};
use crate::feed;
use crate::http::bodies::Bodies;
use crate::http::connections::{self, Terms};
use crate::http::limits::{Limited, Limits};
use crate::http::streams::Streams;
use crate::http::{self, Patient, Service};
use crate::policies;
use crate::projector;
use crate::refusals::{Refusals, RefusalsError};
use crate::store::StoreError;

/// For how long a client may leave unread what was sent to it before its connection is cut.
const UNREAD_TIME: Duration = Duration::from_secs(60);
/// How long a node may take from the signal to its end.
pub const SHUTDOWN_TIME: Duration = Duration::from_secs(10);
/// How much of that is for the commands that wait.
const DRAIN_TIME: Duration = Duration::from_secs(6);
/// How much of that is for connections that are still being answered.
const CONNECTIONS_TIME: Duration = Duration::from_secs(2);
/// How much of that is for the batch that the projector has in hand.
const PROJECTOR_TIME: Duration = Duration::from_millis(1500);

/// Why a node did not open or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store could not be opened.
    #[error("the store could not be opened: {0}")]
    Store(#[from] StoreError),
    /// The engine did not start.
    #[error("the engine did not start: {0}")]
    Engine(#[from] EngineStartError),
    /// The read models could not be opened.
    #[error("the read models could not be opened: {0}")]
    Views(#[from] ViewError),
    /// The read models could not be folded.
    #[error("the read models could not be folded: {0}")]
    Projector(#[from] projector::ProjectorError),
    /// What is refused could not be kept.
    #[error("the records of what is refused could not be opened: {0}")]
    Refusals(#[from] RefusalsError),
    /// The tokens of the configured issuer could not be verified.
    #[error("the issuer of tokens: {0}")]
    Issuer(#[from] JwtError),
    /// The server failed.
    #[error("the server failed: {0}")]
    Server(#[from] std::io::Error),
    /// A thread of ours ended badly.
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
    /// What waited was not finished in time.
    #[error("not everything was finished within {} s", SHUTDOWN_TIME.as_secs())]
    ShutdownTimedOut,
}

/// Everything but the server.
#[derive(Debug)]
pub struct Node {
    service: Arc<Service>,
    limits: Option<Limits>,
    terms: Terms,
    /// What goes on beside it, and ends with it.
    beside: JoinSet<()>,
}

/// How long it is between two blocks of the feed that are taken down, each some milliseconds' work …
const BLOCK_INTERVAL: Duration = Duration::from_millis(20);
/// … and until it is seen whether another one has become full …
const BLOCK_FULL_INTERVAL: Duration = Duration::from_millis(500);
/// … and until one that could not be read is tried again.
const BLOCK_RETRY_INTERVAL: Duration = Duration::from_secs(60);

impl Node {
    /// Opens the store of a configuration, migrating it where needed, and starts engine and read models.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn open(config: &Config) -> Result<Self, NodeError> {
        let clock = clock_of(config.clock);
        let store = config.database.open().await?;
        let options = EngineOptions {
            queue: config.queue_commands_max,
            receipts_kept: config.idempotency_kept(),
            ..EngineOptions::default()
        };
        let engine = engine::start(store, clock.clone(), config.policy.clone(), options).await?;
        let projector = if config.without_projections {
            projector::idle(&config.database).await?
        } else {
            projector::start(&config.database, engine.committed()).await?
        };
        let live = ReadPool::open(&projector::views_of(&config.database)).await?;
        let live = live.woken_by(projector.position(), projector.wanted());
        let views = match &config.read_database {
            Some(copy) => ReadPool::open(&projector::copy_of(copy)).await?,
            None => live.clone(),
        };
        let mut beside = JoinSet::new();
        // On a server nothing of the feed is kept.
        if !config.without_projections && matches!(config.database, Database::Sqlite(_)) {
            beside.spawn(remember(views.clone()));
        }
        let feed = feed::start(live.clone(), projector.position());
        let terms = Terms::default();
        let streams = Streams::among(terms.most);
        let access = open_access(&config.database, config.jwt.clone()).await?;
        let refusals = Refusals::open(&config.database, config.refusals_kept(), clock.clone()).await?;
        let limits = Limits::new(config.requests_per_second, config.requests_burst);
        let verifications = Runs::of(config.database.clone());
        let bodies = Bodies::default();
        let service =
            Service { engine, access, clock, views, live, projector, feed, streams, verifications, refusals, bodies };
        Ok(Self { service: Arc::new(service), limits, terms, beside })
    }

    /// The engine's handle; for whoever sends commands without HTTP.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.service.engine
    }

    /// The time as this node has it.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.service.clock
    }
}

impl Node {
    /// Ends everything in order where nothing was served.
    pub async fn shutdown(mut self) {
        self.beside.shutdown().await;
        self.service.engine.shutdown().await;
        self.service.feed.shutdown().await;
        self.service.projector.shutdown().await;
    }
}

/// Takes down who is in which block of the feed, for as long as it runs; questions are answered without it too, but later.
async fn remember(views: ReadPool) {
    loop {
        let pause = match presence::remember(&views).await {
            Ok(true) => BLOCK_INTERVAL,
            Ok(false) => BLOCK_FULL_INTERVAL,
            Err(failure) => {
                tracing::warn!(%failure, "a block of the feed was not taken down; feeds are answered without it, but later");
                BLOCK_RETRY_INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn clock_of(kind: ClockKind) -> Clock {
    match kind {
        ClockKind::System => Clock::System,
        ClockKind::Manual => Clock::manual(Clock::System.now()),
    }
}

/// Reads the issuer's keys, where there is one, where waiting is allowed.
async fn open_access(database: &Database, jwt: Option<JwtOptions>) -> Result<Access, NodeError> {
    let access = Access::new(Directory::of(database));
    match jwt {
        None => Ok(access),
        Some(options) => Ok(tokio::task::spawn_blocking(move || access.with_issuer(options)).await??),
    }
}

/// Serves until `shutdown` comes, then ends everything in order.
///
/// # Errors
/// [`NodeError::Server`] where the listener fails, [`NodeError::ShutdownTimedOut`] where the end took too long.
pub async fn run(
    listener: TcpListener,
    mut node: Node,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), NodeError> {
    let service = Arc::clone(&node.service);
    let policies = policies::start(
        service.engine.clone(),
        service.live.clone(),
        service.clock.clone(),
        service.projector.position(),
    );
    let router = Limited::new(http::router(Arc::clone(&service)), node.limits);
    let (close, closing) = tokio::sync::oneshot::channel::<()>();
    // Answers are small: waiting to fill a packet would only delay them.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
    });
    let closing = async move {
        // A sender that is gone means the same as one that speaks.
        let _ = closing.await;
    };
    let listener = Patient::new(listener, UNREAD_TIME);
    let serving = connections::serve(listener, move |address| router.connection(address), node.terms, closing);
    let mut serving = tokio::spawn(serving);

    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = shutdown => {}
    }
    tracing::info!("shutting down: no new commands");
    let drained = tokio::time::timeout(DRAIN_TIME, async {
        policies.shutdown().await;
        service.engine.shutdown().await;
    });
    let drained = drained.await;
    service.feed.shutdown().await;
    // The receiver is gone only if the server has ended already.
    let _ = close.send(());
    match tokio::time::timeout(CONNECTIONS_TIME, &mut serving).await {
        Ok(ended) => ended?,
        Err(_) => {
            tracing::warn!("connections that would not end are cut");
            serving.abort();
        }
    }
    node.beside.shutdown().await;
    service.refusals.settle().await;
    let folded = tokio::time::timeout(PROJECTOR_TIME, service.projector.shutdown()).await;
    drained.and(folded).map_err(|_| NodeError::ShutdownTimedOut)
}

/// The operator's sign to stop: SIGTERM, or Ctrl-C at a terminal. Heard from this call on, whenever it is awaited: who has been told
/// that we listen may send it at once. Must be called on a runtime.
pub fn stop_signal() -> impl Future<Output = ()> + Send {
    #[cfg(unix)]
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
    #[cfg(unix)]
    let interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).ok();
    async move {
        #[cfg(unix)]
        tokio::select! {
            () = heard(terminate) => {}
            () = heard(interrupt) => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for a signal; for ever where it cannot be heard.
#[cfg(unix)]
async fn heard(signal: Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(mut signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
