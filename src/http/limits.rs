//! How many requests each token may send: a bucket a token, one check a request.
//!
//! Shape: [`Limits`] stands in front of the router, so that what is turned away costs nothing but the look-up. A bucket belongs
//! to a token, whatever connection it comes by and however its header is spelled; it is kept once the token was let in. What comes
//! without a token, or with one that was never let in, counts against its peer's bucket (an IPv6 peer is its /64), so guessing
//! tokens is bounded, and a proxy's good clients go on when a bad one has used up what the proxy has. Cost: one hash, one look-up
//! in memory, one compare-and-swap, three headers. Bounded: the least used buckets are given up, full.
//!
//! The headers are `X-RateLimit-*` and `Retry-After`, because that is what clients read today: the IETF's draft has changed its
//! names and its syntax from one version to the next.

use std::convert::Infallible;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::future::RouteFuture;
use futures_util::future::{Either, Ready, ready};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use quick_cache::sync::Cache;
use tower_service::Service;

use super::error::{POSITION, Problem};
use super::extract::bearer;

/// How many buckets are kept.
const BUCKETS_MAX: usize = 20_000;
/// Whoever watches over the process must be answered, however many ask.
const UNLIMITED: &[&str] = &["/healthz", "/readyz"];

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

type Bucket = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// The buckets of one service.
#[derive(Debug)]
pub struct Limits {
    per_second: NonZeroU32,
    burst: NonZeroU32,
    clock: DefaultClock,
    hasher: RandomState,
    buckets: Cache<u64, Arc<Bucket>>,
}

/// What a bucket still holds.
struct Left {
    requests: u32,
    /// Until it holds as much as it can, rounded up.
    full_in_seconds: u32,
}

impl Limits {
    /// So many requests a second on average, and so many at once; `None` where either is 0.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        Some(Self {
            per_second: NonZeroU32::new(per_second)?,
            burst: NonZeroU32::new(burst)?,
            clock: DefaultClock::default(),
            hasher: RandomState::new(),
            buckets: Cache::new(BUCKETS_MAX),
        })
    }

    fn bucket(&self) -> Arc<Bucket> {
        let quota = Quota::per_second(self.per_second).allow_burst(self.burst);
        Arc::new(RateLimiter::direct_with_clock(quota, self.clock.clone()).with_middleware())
    }

    /// The bucket of a peer, which is made where there is none.
    fn peer(&self, address: IpAddr) -> Arc<Bucket> {
        let network = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            v4 => v4,
        };
        let key = self.hasher.hash_one(network);
        let made: Result<_, Infallible> = self.buckets.get_or_insert_with(&key, || Ok(self.bucket()));
        made.unwrap_or_else(|never| match never {})
    }

    /// Takes one request out of a bucket, or says why not.
    fn take(&self, bucket: &Bucket) -> Result<Left, Box<Response>> {
        match bucket.check() {
            Ok(state) => {
                let requests = state.remaining_burst_capacity();
                Ok(Left { requests, full_in_seconds: (self.burst.get() - requests).div_ceil(self.per_second.get()) })
            }
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let detail = format!("more than {} requests a second; try again in {seconds} s", self.per_second);
                let mut response = Problem::new("rate_limited", detail).into_response();
                let full_in_seconds = self.burst.get().div_ceil(self.per_second.get());
                self.tell(&mut response, &Left { requests: 0, full_in_seconds });
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
                Err(Box::new(response))
            }
        }
    }

    fn tell(&self, response: &mut Response, left: &Left) {
        let headers = response.headers_mut();
        headers.insert(LIMIT, HeaderValue::from(self.burst.get()));
        headers.insert(REMAINING, HeaderValue::from(left.requests));
        headers.insert(RESET, HeaderValue::from(left.full_in_seconds));
    }
}

/// Makes the service of each connection.
#[derive(Clone)]
pub struct Limited {
    router: Router,
    limits: Option<Arc<Limits>>,
}

impl Limited {
    /// The router behind limits, or behind none.
    #[must_use]
    pub fn new(router: Router, limits: Option<Limits>) -> Self {
        Self { router, limits: limits.map(Arc::new) }
    }

    /// The service of a connection from there.
    #[must_use]
    pub fn connection(&self, address: SocketAddr) -> LimitedConnection {
        let Self { router, limits } = self.clone();
        LimitedConnection { router, limits, peer: address.ip() }
    }
}

/// The service of one connection.
#[derive(Clone)]
pub struct LimitedConnection {
    router: Router,
    limits: Option<Arc<Limits>>,
    peer: IpAddr,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Service<Request> for LimitedConnection {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<RouteFuture<Infallible>, Either<Ready<Result<Response, Infallible>>, Answering>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(limits) = self.limits.clone().filter(|_| !UNLIMITED.contains(&request.uri().path())) else {
            return Either::Left(self.router.call(request));
        };
        let token = bearer(request.headers()).map(|token| limits.hasher.hash_one(token));
        let known = token.and_then(|token| limits.buckets.get(&token));
        // Whether it is good is not known yet: it is its peer that asks.
        let unknown = token.filter(|_| known.is_none());
        let left = match limits.take(&known.unwrap_or_else(|| limits.peer(self.peer))) {
            Ok(left) => left,
            Err(refusal) => return Either::Right(Either::Left(ready(Ok(*refusal)))),
        };
        let answering = self.router.call(request);
        Either::Right(Either::Right(Box::pin(async move {
            let mut response = answering.await?;
            // Only who was let in is told a position.
            if let Some(token) = unknown
                && response.headers().contains_key(POSITION)
            {
                limits.buckets.insert(token, limits.bucket());
            }
            limits.tell(&mut response, &left);
            Ok(response)
        })))
    }
}
