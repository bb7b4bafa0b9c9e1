//! Who is asking: tokens, the roles and tenants behind them, and the actor that the ledger is told.
//!
//! Shape: [`token`] is the text that a client holds, [`directory`] the table beside the log, [`jwt`] the tokens of an issuer
//! outside, [`Access`] a bounded cache in front of both. Cost: an authenticated request is one SHA-256 and one look-up in
//! memory; a token is read again from the table at most every [`REVALIDATE_AFTER`], which is how revocations (by any process)
//! take effect. Layering: knows nothing of HTTP.

pub mod directory;
pub mod jwt;
pub mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aggregates::primitives::{Actor, ResellerId, Role, Timestamp};
use quick_cache::sync::Cache;

use directory::{Directory, DirectoryError, KnownToken};
use jwt::{Issuer, JwtError, JwtOptions};
use token::TokenText;

/// For how long a token is believed before it is read again.
pub const REVALIDATE_AFTER: Duration = Duration::from_secs(2);
/// How many tokens are kept in memory.
const CACHED_TOKENS_MAX: usize = 10_000;

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No token, or one that is unknown, revoked or expired.
    #[error("a valid bearer token is needed")]
    Unauthenticated,
    /// The user behind the token belongs to no tenant, or to several, and named none.
    #[error("name the tenant to act for with X-Tenant-ID")]
    TenantRequired,
    /// The tenant is unknown, or the user is not a member; the two look the same.
    #[error("there is no such tenant")]
    NoSuchTenant,
    /// The tokens could not be read.
    #[error("{0}")]
    Directory(#[from] DirectoryError),
}

/// The tokens, with the recently used ones in memory.
#[derive(Debug, Clone)]
pub struct Access {
    directory: Directory,
    issuer: Option<Arc<Issuer>>,
    cache: Arc<Cache<String, Arc<Cached>>>,
    started: Instant,
}

/// A token as it was read, and when.
#[derive(Debug)]
struct Cached {
    token: KnownToken,
    /// Milliseconds since `started`; whoever moves it forward reads the token again, the others go on with this one meanwhile.
    read_at: AtomicU64,
}

impl Access {
    /// Access by the tokens of a directory.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self { directory, issuer: None, cache: Arc::new(Cache::new(CACHED_TOKENS_MAX)), started: Instant::now() }
    }

    /// The same, and by the tokens of an issuer. Blocking: reads the issuer's keys.
    ///
    /// # Errors
    /// [`JwtError`] where they cannot be used.
    pub fn with_issuer(mut self, options: JwtOptions) -> Result<Self, JwtError> {
        self.issuer = Some(Arc::new(Issuer::open(options, self.directory.clone())?));
        Ok(self)
    }

    /// Finds out who holds a token, and as which actor it acts.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn authenticate(
        &self,
        bearer: &str,
        named_tenant: Option<&str>,
        now: Timestamp,
    ) -> Result<Actor, AccessError> {
        let Some(text) = TokenText::parse(bearer) else { return self.by_issuer(bearer, named_tenant, now).await };
        let cached = self.known(text.key_id).await?.ok_or(AccessError::Unauthenticated)?;
        let token = &cached.token;
        let expired = token.expires_at.is_some_and(|expiry| expiry <= now);
        if !text.matches(&token.secret_hash) || token.revoked || expired {
            return Err(AccessError::Unauthenticated);
        }
        Ok(Actor {
            id: token.actor_id.clone(),
            role: token.role,
            tenant: tenant_of(token.role, &token.tenants, named_tenant)?,
            declared_cost: token.declared_cost,
        })
    }

    /// Finds out who holds a token of the issuer.
    async fn by_issuer(&self, token: &str, named_tenant: Option<&str>, now: Timestamp) -> Result<Actor, AccessError> {
        let issuer = self.issuer.as_ref().filter(|_| !token.is_empty()).ok_or(AccessError::Unauthenticated)?;
        let verified = issuer.verified(token, now).await?.ok_or(AccessError::Unauthenticated)?;
        let claims = &verified.claims;
        Ok(Actor {
            id: claims.user.clone(),
            role: claims.role,
            tenant: tenant_of(claims.role, &verified.tenants, named_tenant)?,
            // That a token may name a price is the operator's to say, with a shell.
            declared_cost: false,
        })
    }

    async fn known(&self, key_id: &str) -> Result<Option<Arc<Cached>>, DirectoryError> {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(cached) = self.cache.get(key_id) {
            let read_at = cached.read_at.load(Ordering::Relaxed);
            let fresh = now.saturating_sub(read_at) < u64::try_from(REVALIDATE_AFTER.as_millis()).unwrap_or(u64::MAX);
            if fresh || cached.read_at.compare_exchange(read_at, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                return Ok(Some(cached));
            }
        }
        let Some(token) = self.directory.find(key_id).await? else {
            self.cache.remove(key_id);
            return Ok(None);
        };
        let cached = Arc::new(Cached { token, read_at: AtomicU64::new(now) });
        self.cache.insert(key_id.to_owned(), Arc::clone(&cached));
        Ok(Some(cached))
    }
}

/// The tenant that a token acts for: its own, or one of its user's.
fn tenant_of(role: Role, tenants: &[ResellerId], named: Option<&str>) -> Result<Option<ResellerId>, AccessError> {
    // What is no id names no tenant, whoever sends it; an id means something only to those who act for tenants.
    let named: Option<ResellerId> = named.map(str::parse).transpose().map_err(|_| AccessError::NoSuchTenant)?;
    if role != Role::Reseller {
        return Ok(None);
    }
    match (named, tenants) {
        (Some(named), tenants) if tenants.contains(&named) => Ok(Some(named)),
        (Some(_), _) => Err(AccessError::NoSuchTenant),
        (None, [only]) => Ok(Some(*only)),
        (None, _) => Err(AccessError::TenantRequired),
    }
}
