//! JSON Web Tokens of one issuer, by its public keys.
//!
//! Shape: [`JwtOptions`] is what an operator sets, [`Issuer`] holds the keys and the recently verified tokens. What a token may
//! be signed with is said by the key, never by the token: each key is pinned to the algorithms of its own kind, a symmetric key
//! is never taken, and a token's own keys (`jwk`, `x5c`, `jku`) are never looked at. Cost: a token is verified once and believed
//! for [`REVALIDATE_AFTER`] (one SHA-256 and one look-up); its times are judged at every use. The file of keys is read again at
//! most every [`REVALIDATE_AFTER`], or sooner for a key id that is not known, though not within [`UNKNOWN_KEY_PAUSE`]: a key
//! that its issuer takes out of the file is refused two seconds later at the most. Whoever is turned away is not told why; the
//! log is, at debug level.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aggregates::primitives::{ResellerId, Role, Timestamp, UserId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use quick_cache::sync::Cache;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::directory::{Directory, DirectoryError};
use super::{CACHED_TOKENS_MAX, REVALIDATE_AFTER};

/// How long a key id that is not known waits, at the most, before the keys are read again for it.
pub const UNKNOWN_KEY_PAUSE: Duration = Duration::from_millis(200);
/// The largest set of keys that is read, in bytes.
const JWKS_BYTES_MAX: u64 = 1 << 20;
/// The smallest RSA modulus that is taken, in bytes: 2048 bits.
const RSA_BYTES_MIN: usize = 256;

/// Whose tokens are believed, and how they say what we need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtOptions {
    /// The only `iss` that is believed.
    pub issuer: String,
    /// The `aud` that means this service, or several; a token must name one of them.
    #[serde(deserialize_with = "one_or_more")]
    pub audience: Vec<String>,
    /// A file with the issuer's public keys (a JSON Web Key Set). It is read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// The key set itself, as JSON text, instead of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// The claim that names the user.
    #[serde(default = "user_claim")]
    pub user_claim: String,
    /// The claim that names the role: `super_admin`, `reseller`, `payments`, `auditor` or `finance`.
    #[serde(default = "role_claim")]
    pub role_claim: String,
    /// The claim that lists the ids of the resellers that a `reseller` may act for. A token without it acts for the resellers
    /// that its user is registered for.
    #[serde(default = "tenants_claim")]
    pub tenants_claim: String,
    /// How far the issuer's clock may be from ours, in seconds; at most 300.
    #[serde(default = "leeway_seconds")]
    pub leeway_seconds: u32,
}

fn user_claim() -> String {
    "sub".to_owned()
}

fn role_claim() -> String {
    "tallytree_role".to_owned()
}

fn tenants_claim() -> String {
    "tallytree_tenants".to_owned()
}

fn leeway_seconds() -> u32 {
    30
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

impl JwtOptions {
    /// Whether these can be used, apart from the keys themselves.
    ///
    /// # Errors
    /// [`JwtError`] with the field that is wrong.
    pub fn check(&self) -> Result<(), JwtError> {
        let wrong = |detail: &str| Err(JwtError(detail.to_owned()));
        if self.issuer.is_empty() {
            return wrong("jwt.issuer must not be empty");
        }
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            return wrong("jwt.audience must name at least one audience, and none that is empty");
        }
        if self.jwks.is_some() == self.jwks_file.is_some() {
            return wrong("jwt needs either jwks_file or jwks");
        }
        if self.leeway_seconds > 300 {
            return wrong("jwt.leeway_seconds must be at most 300");
        }
        Ok(())
    }
}

/// Why an issuer's tokens cannot be verified at all.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JwtError(String);

/// What a token that holds says.
#[derive(Debug)]
pub(super) struct Claims {
    /// The user behind it.
    pub(super) user: UserId,
    /// What the user may do.
    pub(super) role: Role,
    /// The tenants that the issuer names; `None` where it leaves that to the register.
    tenants: Option<Vec<ResellerId>>,
    not_before: Option<Timestamp>,
    expires_at: Timestamp,
}

/// A token whose signature, issuer and audience hold.
#[derive(Debug)]
pub(super) struct Verified {
    /// What it says.
    pub(super) claims: Claims,
    /// The tenants that its user may act for.
    pub(super) tenants: Vec<ResellerId>,
    generation: u64,
    at: Instant,
}

/// The issuer whose tokens are believed.
#[derive(Debug)]
pub(super) struct Issuer {
    options: JwtOptions,
    directory: Directory,
    keys: RwLock<Arc<KeySet>>,
    /// When the keys were last read; held while they are.
    reading: tokio::sync::Mutex<Instant>,
    verified: Cache<[u8; 32], Arc<Verified>>,
}

/// The keys as they were read.
#[derive(Debug)]
struct KeySet {
    /// Counts the changes, so that what was verified by earlier keys is verified again.
    generation: u64,
    text: Vec<u8>,
    keys: Vec<PinnedKey>,
}

/// A public key and what it may sign with.
struct PinnedKey {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl std::fmt::Debug for PinnedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PinnedKey").field("id", &self.id).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

impl PinnedKey {
    /// The key of a set's member, or why it is left out.
    fn of(jwk: &Value) -> Result<Self, String> {
        let jwk = Jwk::deserialize(jwk).map_err(|error| error.to_string())?;
        if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
            return Err("it is not for signatures".to_owned());
        }
        let kind: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).map_err(|error| error.to_string())?;
                if modulus.iter().skip_while(|byte| **byte == 0).count() < RSA_BYTES_MIN {
                    return Err("an RSA key needs 2048 bits".to_owned());
                }
                &[
                    Algorithm::RS256,
                    Algorithm::RS384,
                    Algorithm::RS512,
                    Algorithm::PS256,
                    Algorithm::PS384,
                    Algorithm::PS512,
                ]
            }
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => &[Algorithm::ES256],
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => &[Algorithm::ES384],
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            AlgorithmParameters::OctetKey(_) => return Err("a symmetric key is no public key".to_owned()),
            _ => return Err("its kind is not supported".to_owned()),
        };
        let algorithms: Vec<Algorithm> = match jwk.common.key_algorithm {
            None => kind.to_vec(),
            Some(named) => match kind.iter().find(|algorithm| KeyAlgorithm::from(**algorithm) == named) {
                Some(algorithm) => vec![*algorithm],
                None => return Err(format!("its kind does not sign with {named}")),
            },
        };
        let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
        Ok(Self { id: jwk.common.key_id, algorithms, key })
    }
}

impl KeySet {
    fn parse(text: Vec<u8>, generation: u64) -> Result<Self, JwtError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set =
            serde_json::from_slice(&text).map_err(|error| JwtError(format!("the key set cannot be read: {error}")))?;
        let mut keys = Vec::new();
        for (index, jwk) in set.keys.iter().enumerate() {
            match PinnedKey::of(jwk) {
                Ok(key) => keys.push(key),
                // Issuers publish keys for other purposes beside those for signatures.
                Err(reason) => tracing::info!(index, reason, "a key of the issuer's set is left out"),
            }
        }
        if keys.is_empty() {
            return Err(JwtError("the key set has no public key that signatures can be verified with".to_owned()));
        }
        Ok(Self { generation, text, keys })
    }

    /// The keys that may have signed a token: those of its key id, else the only one that signs so.
    fn candidates(&self, key_id: Option<&str>, algorithm: Algorithm) -> Vec<&PinnedKey> {
        let signing = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        match key_id {
            Some(id) => signing.filter(|key| key.id.as_deref() == Some(id)).collect(),
            None => Some(signing.collect()).filter(|keys: &Vec<_>| keys.len() == 1).unwrap_or_default(),
        }
    }
}

impl Issuer {
    /// Reads the issuer's keys. Blocking.
    pub(super) fn open(options: JwtOptions, directory: Directory) -> Result<Self, JwtError> {
        options.check()?;
        let text = match (&options.jwks, &options.jwks_file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(file)) => read(file)?,
            (None, None) => Vec::new(),
        };
        let keys = RwLock::new(Arc::new(KeySet::parse(text, 0)?));
        let reading = tokio::sync::Mutex::new(Instant::now());
        Ok(Self { options, directory, keys, reading, verified: Cache::new(CACHED_TOKENS_MAX) })
    }

    /// What a token says; `None` for one that does not hold.
    pub(super) async fn verified(&self, token: &str, now: Timestamp) -> Result<Option<Arc<Verified>>, DirectoryError> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        self.refresh(REVALIDATE_AFTER, false).await;
        let known = self
            .verified
            .get(&hash)
            .filter(|known| known.generation == self.key_set().generation && known.at.elapsed() < REVALIDATE_AFTER);
        let verified = match known {
            Some(known) => known,
            None => match self.verify(token).await {
                Ok((claims, generation)) => {
                    let tenants = self.tenants(&claims).await?;
                    let verified = Arc::new(Verified { claims, tenants, generation, at: Instant::now() });
                    self.verified.insert(hash, Arc::clone(&verified));
                    verified
                }
                Err(reason) => {
                    tracing::debug!(reason, "a JWT is refused");
                    return Ok(None);
                }
            },
        };
        let in_time = self.in_time(&verified.claims, now);
        if !in_time {
            tracing::debug!("a JWT is refused: it has expired, or does not hold yet");
        }
        Ok(in_time.then_some(verified))
    }

    /// The tenants that the issuer names, else those that the user is registered for.
    async fn tenants(&self, claims: &Claims) -> Result<Vec<ResellerId>, DirectoryError> {
        match &claims.tenants {
            Some(named) => Ok(named.clone()),
            None if claims.role != Role::Reseller => Ok(Vec::new()),
            None => self.directory.tenants_of(&claims.user).await,
        }
    }

    fn in_time(&self, claims: &Claims, now: Timestamp) -> bool {
        let leeway = i64::from(self.options.leeway_seconds);
        claims.expires_at.plus_seconds(leeway) > now
            && claims.not_before.is_none_or(|not_before| not_before.plus_seconds(-leeway) <= now)
    }

    /// The claims of a token whose signature, issuer and audience hold, and by which generation of keys; else why not.
    async fn verify(&self, token: &str) -> Result<(Claims, u64), String> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        if header.crit.is_some() {
            return Err("it has critical extensions".to_owned());
        }
        let mut set = self.key_set();
        if set.candidates(header.kid.as_deref(), header.alg).is_empty() {
            self.refresh(UNKNOWN_KEY_PAUSE, true).await;
            set = self.key_set();
        }
        let mut reason = format!("no key {:?} signs with {:?}", header.kid, header.alg);
        for candidate in set.candidates(header.kid.as_deref(), header.alg) {
            let mut validation = Validation::new(header.alg);
            validation.algorithms.clone_from(&candidate.algorithms);
            validation.set_issuer(&[&self.options.issuer]);
            validation.set_audience(&self.options.audience);
            validation.set_required_spec_claims(&["exp", "iss", "aud"]);
            // Times are judged by the service's own clock, at every use.
            validation.validate_exp = false;
            validation.validate_nbf = false;
            match jsonwebtoken::decode::<Map<String, Value>>(token, &candidate.key, &validation) {
                Ok(decoded) => return Ok((self.claims(&decoded.claims)?, set.generation)),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(reason)
    }

    fn claims(&self, claims: &Map<String, Value>) -> Result<Claims, String> {
        let text = |name: &str| {
            claims.get(name).and_then(Value::as_str).ok_or_else(|| format!("its claim {name} is absent or no text"))
        };
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => seconds(value).map(Some).ok_or_else(|| format!("its claim {name} is no time")),
        };
        // An array of issuers is no issuer.
        if text("iss")? != self.options.issuer {
            return Err("its issuer is another".to_owned());
        }
        let user = UserId::new(text(&self.options.user_claim)?).map_err(|error| error.to_string())?;
        // These begin the names of actors that are no users.
        if user.as_str().starts_with("key:") || user.as_str().starts_with("policy:") {
            return Err("its user has the name of a token or of a policy".to_owned());
        }
        let role: Role = text(&self.options.role_claim)?.parse().map_err(|_| "its role is unknown".to_owned())?;
        if role == Role::System {
            return Err("no token has the role system".to_owned());
        }
        let tenants = match claims.get(&self.options.tenants_claim) {
            None => None,
            Some(listed) => {
                Some(Vec::<ResellerId>::deserialize(listed).map_err(|_| "its tenants are no list of ids".to_owned())?)
            }
        };
        Ok(Claims {
            user,
            role,
            tenants,
            not_before: time("nbf")?,
            expires_at: time("exp")?.ok_or("it never expires")?,
        })
    }

    fn key_set(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the keys again unless they were read less than `age` ago. Without `wait`, not while somebody else does.
    async fn refresh(&self, age: Duration, wait: bool) {
        let Some(file) = &self.options.jwks_file else { return };
        let mut read_at = match self.reading.try_lock() {
            Ok(guard) => guard,
            Err(_) if wait => self.reading.lock().await,
            Err(_) => return,
        };
        if read_at.elapsed() < age {
            return;
        }
        *read_at = Instant::now();
        let (file, before) = (file.clone(), self.key_set());
        let changed = tokio::task::spawn_blocking(move || {
            let text = read(&file)?;
            if text == before.text { Ok(None) } else { KeySet::parse(text, before.generation + 1).map(Some) }
        })
        .await
        .unwrap_or_else(|error| Err(JwtError(error.to_string())));
        match changed {
            Ok(None) => {}
            Ok(Some(keys)) => {
                tracing::info!(keys = keys.keys.len(), "the issuer's keys have changed");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            // A file that is just being replaced may be absent or half written; the keys in force stay until it can be read.
            Err(error) => tracing::error!(%error, "the issuer's keys stay as they were"),
        }
    }
}

/// Reads a file of keys.
fn read(file: &std::path::Path) -> Result<Vec<u8>, JwtError> {
    use std::io::Read;
    let wrong = |error: std::io::Error| JwtError(format!("the key set {}: {error}", file.display()));
    let mut text = Vec::new();
    std::fs::File::open(file).map_err(wrong)?.take(JWKS_BYTES_MAX + 1).read_to_end(&mut text).map_err(wrong)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > JWKS_BYTES_MAX {
        return Err(JwtError(format!("the key set {} has more than {JWKS_BYTES_MAX} bytes", file.display())));
    }
    Ok(text)
}

/// A time in seconds since 1970, which may have decimals.
fn seconds(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_i64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| seconds.is_finite())?.floor();
        // Formatted, because `as` would cut silently what does not fit.
        format!("{seconds:.0}").parse().ok()
    })?;
    Some(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}
