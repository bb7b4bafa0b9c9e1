//! From a request to what a handler works with: who asks, what the path names, what the body says, under which key.
//!
//! Order of being turned away: token (401), tenant (400, 404), role (403), path (404), size (413), slowness (408), key (422),
//! body (400, 422), query string (422). The body is read once and parsed in place; only a body that does not fit is parsed a
//! second time, to say where. One that takes milliseconds is parsed where nobody waits for the thread.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use aggregates::answer::{Answer, ItemOutcome};
use aggregates::command::{Command, CommandEnvelope, Idempotency};
use aggregates::primitives::{
    Actor, ClientId, CommandId, ProvisionId, ReferralCode, RequestId, ResellerId, Role, Sku, TransferId,
};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};
use projections::sql::aside;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Shared;
use super::answer::Answered;
use super::bodies::Received;
use super::error::Problem;
use super::fresh;
use super::parameters::Parameters;
use crate::audit::runs::RunId;
use crate::engine::Outcome;
use crate::refusals::Refusal;

/// The largest body of a command.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The largest body of a bulk.
const BULK_BODY_BYTES_MAX: usize = 16 << 20;
/// From this size on a body takes so long that others are not made to wait for the thread that works on it.
const LONG_BODY_BYTES: usize = 64 << 10;

/// What a path names. An id that could not be one names nothing that exists.
pub(crate) trait PathParams: Sized + Send {
    /// Reads the parameters in the order in which they stand in the path.
    fn read(parts: &mut dyn Iterator<Item = &str>) -> Result<Self, Problem>;
}

impl PathParams for () {
    fn read(_: &mut dyn Iterator<Item = &str>) -> Result<Self, Problem> {
        Ok(())
    }
}

macro_rules! path_params {
    ($($id:ty = $what:literal),+ $(,)?) => {$(
        impl PathParams for $id {
            fn read(parts: &mut dyn Iterator<Item = &str>) -> Result<Self, Problem> {
                let text = parts.next().unwrap_or_default();
                <$id>::from_str(text).map_err(|_| Problem::not_found($what))
            }
        }
    )+};
}

path_params!(
    ResellerId = "reseller",
    ClientId = "client",
    ProvisionId = "provision",
    TransferId = "transfer",
    RequestId = "upline request",
    Sku = "product",
    ReferralCode = "referral code",
    RunId = "run of verify",
);

impl<A: PathParams, B: PathParams> PathParams for (A, B) {
    fn read(parts: &mut dyn Iterator<Item = &str>) -> Result<Self, Problem> {
        Ok((A::read(parts)?, B::read(parts)?))
    }
}

/// Reads a path's parameters.
pub(crate) async fn path<P: PathParams>(parts: &mut Parts, service: &Shared) -> Result<P, Problem> {
    if size_of::<P>() == 0 {
        return P::read(&mut std::iter::empty());
    }
    let raw = RawPathParams::from_request_parts(parts, service).await.map_err(|_| Problem::not_found("resource"))?;
    P::read(&mut raw.iter().map(|(_, value)| value))
}

/// The token that a request brings, however its scheme is spelled.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Finds out who asks.
pub(crate) async fn authenticate(headers: &HeaderMap, service: &Shared) -> Result<Actor, Problem> {
    let bearer = bearer(headers).unwrap_or_default();
    // A name that is no text names no tenant.
    let tenant = headers.get("x-tenant-id").map(|value| value.to_str().unwrap_or_default());
    Ok(service.access.authenticate(bearer, tenant, service.clock.now()).await?)
}

/// A command as it came in.
#[derive(Debug, Clone)]
pub(crate) struct CommandRequest<P = ()> {
    /// Who sends it.
    pub actor: Actor,
    /// What its path names.
    pub path: P,
    /// What its query string says; whatever is not taken out by the time it is submitted is unknown.
    pub parameters: Parameters,
    method: Method,
    uri: Uri,
    key: Option<String>,
    body: Arc<Received>,
}

impl<P: PathParams> FromRequest<Shared> for CommandRequest<P> {
    type Rejection = Problem;

    async fn from_request(request: Request, service: &Shared) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let actor = authenticate(&parts.headers, service).await?;
        if let Err(problem) = may_command(actor.role, &parts.method, parts.uri.path()) {
            Asked { actor, method: parts.method, path: parts.uri }.note(service, &problem, None);
            return Err(problem);
        }
        let path = path(&mut parts, service).await?;
        let most = if parts.uri.path().ends_with("/provisions/bulk") { BULK_BODY_BYTES_MAX } else { BODY_BYTES_MAX };
        let body = service.bodies.receive(&parts.headers, body, most).await?;
        let key = idempotency_key(&parts.headers)?;
        let parameters = Parameters::of(&parts.uri)?;
        Ok(Self { actor, path, parameters, method: parts.method, uri: parts.uri, key, body: Arc::new(body) })
    }
}

/// Which roles may send commands at all; what each may do within its tenant is the ledger's to say.
fn may_command(role: Role, method: &Method, path: &str) -> Result<(), Problem> {
    match role {
        Role::SuperAdmin | Role::Reseller => Ok(()),
        Role::Payments if method == Method::POST && path.starts_with("/wallets/") && path.ends_with("/credits") => {
            Ok(())
        }
        role if role.closes_periods() && method == Method::POST && path == "/platform/close" => Ok(()),
        other => Err(Problem::new("forbidden", format!("the role {other} may not do this"))),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    check_key(text).map_err(|detail| Problem::invalid("", format!("Idempotency-Key {detail}")))?;
    Ok(Some(text.to_owned()))
}

/// Whether a text may be an idempotency key.
pub(crate) fn check_key(text: &str) -> Result<(), &'static str> {
    let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    if printable && (1..=255).contains(&text.len()) { Ok(()) } else { Err("must be 1 to 255 printable characters") }
}

impl<P> CommandRequest<P> {
    /// The body.
    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        parse(&self.body.bytes)
    }

    /// The body, where it may be left out.
    pub(crate) fn body_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.bytes.is_empty() { Ok(T::default()) } else { parse(&self.body.bytes) }
    }

    /// Refuses to go on without a key.
    pub(crate) fn require_key(&self) -> Result<(), Problem> {
        match self.key {
            Some(_) => Ok(()),
            None => Err(Problem::new("idempotency_required", "send an Idempotency-Key: credits enter or move here")),
        }
    }

    /// The request's own key as it was sent.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// A key in the space of this request's tenant and actor, for what `fingerprint` says.
    pub(crate) fn idempotency(&self, key: &str, fingerprint: [u8; 32]) -> Idempotency {
        let mut hasher = Sha256::new();
        hasher.update(self.tenant_bytes());
        // One user may hold tokens of several roles, and what one is told is not for the other.
        hasher.update(self.actor.role.word());
        // The actor's length keeps actor and key apart.
        hasher.update(self.actor.id.as_str().len().to_be_bytes());
        hasher.update(self.actor.id.as_str());
        hasher.update(key);
        let hash: [u8; 32] = hasher.finalize().into();
        let mut short = [0_u8; 16];
        short.copy_from_slice(&hash[..16]);
        Idempotency { key: short, fingerprint }
    }

    /// What an item of a bulk is recognised by: path, tenant, and what it says without its key.
    pub(crate) fn item_fingerprint(&self, item: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update("item\n");
        hasher.update(self.uri.path());
        hasher.update("\n");
        hasher.update(self.tenant_bytes());
        hasher.update(item);
        hasher.finalize().into()
    }

    /// What the request is recognised by: method, path (with its query: it may name the target), tenant, exact body.
    fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.method.as_str());
        hasher.update(" ");
        hasher.update(self.uri.path_and_query().map_or("", |path| path.as_str()));
        hasher.update("\n");
        hasher.update(self.tenant_bytes());
        hasher.update(&self.body.bytes);
        hasher.finalize().into()
    }

    fn tenant_bytes(&self) -> [u8; 16] {
        self.actor.tenant.map_or([0; 16], |tenant| *tenant.0.as_bytes())
    }

    /// Sends the command to the ledger and waits for its durable answer.
    pub(crate) async fn submit(mut self, service: &Shared, command: Command) -> Result<Answered, Problem> {
        std::mem::take(&mut self.parameters).end()?;
        let idempotency =
            self.key.as_deref().map(|key| self.idempotency(key, beside(&self.body.bytes, || self.fingerprint())));
        let asked = Asked { actor: self.actor.clone(), method: self.method, path: self.uri };
        let envelope = CommandEnvelope {
            command_id: CommandId(fresh::id(service.clock.now())),
            actor: self.actor,
            idempotency,
            command,
        };
        let reply = service.engine.submit(envelope).await?;
        let (position, replayed) = (reply.position, reply.replayed);
        let problem = match reply.outcome {
            Outcome::Done { changed, answer } => {
                asked.note_items(service, &answer, position);
                return Ok(Answered { answer, changed, position, replayed });
            }
            Outcome::Refused(rejection) => Problem::from(&rejection).decided_at(position, replayed),
            Outcome::Denied(denial) => Problem::from(&denial).decided_at(position, replayed),
        };
        asked.note(service, &problem, None);
        Err(problem)
    }
}

/// What was asked, as far as a record of its refusal tells it: never the body, which may be personal.
struct Asked {
    actor: Actor,
    method: Method,
    path: Uri,
}

impl Asked {
    /// Notes that it was refused.
    fn note(&self, service: &Shared, problem: &Problem, item: Option<u64>) {
        service.refusals.note(Refusal {
            refused_at: service.clock.now(),
            actor: self.actor.id.to_string(),
            role: self.actor.role.word(),
            tenant: self.actor.tenant,
            method: self.method.to_string(),
            path: self.path.path().to_owned(),
            item,
            code: problem.code().to_owned(),
            detail: problem.detail().to_owned(),
            members: problem.members(),
            position: problem.position(),
            replayed: problem.is_replayed(),
        });
    }

    /// Notes what was refused of a bulk that was done.
    fn note_items(&self, service: &Shared, answer: &Answer, position: u64) {
        let Answer::Bulk(bulk) = answer else { return };
        for item in &bulk.items {
            if let ItemOutcome::Refused(rejection) = &item.outcome {
                let problem = Problem::from(rejection).decided_at(position, item.replayed);
                self.note(service, &problem, u64::try_from(item.index).ok());
            }
        }
    }
}

/// A JSON object, and not the array of its values in order, which serde would take as well.
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl<T: ToSchema> PartialSchema for Object<T> {
    fn schema() -> RefOr<Schema> {
        T::schema()
    }
}

impl<T: ToSchema> ToSchema for Object<T> {
    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

/// Works on a body; on a long one where nobody waits for this thread.
fn beside<T>(body: &[u8], work: impl FnOnce() -> T) -> T {
    if body.len() < LONG_BODY_BYTES { work() } else { aside(work) }
}

/// A list of at most `MOST` elements: one that is longer is not read on, and none that is read is kept then.
pub(crate) struct AtMost<T, const MOST: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for AtMost<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for ListVisitor<T, MOST> {
            type Value = AtMost<T, MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<AtMost<T, MOST>, A::Error> {
                let mut elements = Vec::new();
                while elements.len() < MOST {
                    match sequence.next_element()? {
                        Some(element) => elements.push(element),
                        None => return Ok(AtMost(elements)),
                    }
                }
                match sequence.next_element::<IgnoredAny>()? {
                    None => Ok(AtMost(elements)),
                    Some(_) => Err(A::Error::custom(format_args!("must be 1 to {MOST} items"))),
                }
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// Parses a body into the domain's types: malformed → 400, a wrong or unknown field → 422 with a pointer to it.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    beside(body, || parse_here(body))
}

fn parse_here<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    match serde_json::from_slice(body).map(|Object(value)| value) {
        Ok(value) if !mentions_zero_character(body) => Ok(value),
        Ok(value) => match zero_character_in(body) {
            Some(pointer) => Err(Problem::invalid(pointer, "must not contain U+0000")),
            None => Ok(value),
        },
        Err(error) if error.is_data() => Err(explain::<T>(body)),
        Err(error) => Err(Problem::new("malformed", format!("the body is not JSON: {error}"))),
    }
}

/// Parses a body that does not fit once more, to say where.
fn explain<T: DeserializeOwned>(body: &[u8]) -> Problem {
    // What is not JSON further on is malformed, wherever the first wrong field stands.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(body) {
        return Problem::new("malformed", format!("the body is not JSON: {error}"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Err(error) = serde_path_to_error::deserialize::<_, Object<T>>(&mut deserializer) else {
        return Problem::new("malformed", "the body is not one JSON value");
    };
    let mut pointer = pointer_of(error.path());
    let detail = error.inner().to_string();
    let detail = detail.rsplit_once(" at line ").map_or(detail.as_str(), |(sentence, _)| sentence);
    // serde names an absent or unknown field in its sentence; a pointer to its place says more than one to the whole.
    for beginning in ["missing field `", "unknown field `", "duplicate field `"] {
        let name = detail.strip_prefix(beginning).and_then(|rest| rest.split('`').next());
        if let Some(name) = name.map(escape).filter(|name| !pointer.ends_with(&format!("/{name}"))) {
            pointer = format!("{pointer}/{name}");
        }
    }
    Problem::invalid(pointer, detail)
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            // The variant of an enum is no place in the document.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// A name as it stands in a JSON pointer.
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Whether a body may hold U+0000: in JSON it can only be written as an escape.
fn mentions_zero_character(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if rest.starts_with(b"u0000") {
            return true;
        }
        // What is escaped is not itself the beginning of an escape.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// A pointer to the first text or name with U+0000 in it.
fn zero_character_in(body: &[u8]) -> Option<String> {
    fn walk(value: &serde_json::Value, pointer: &str) -> Option<String> {
        match value {
            serde_json::Value::String(text) => text.contains('\0').then(|| pointer.to_owned()),
            serde_json::Value::Array(items) => {
                items.iter().enumerate().find_map(|(index, item)| walk(item, &format!("{pointer}/{index}")))
            }
            serde_json::Value::Object(members) => members.iter().find_map(|(name, member)| {
                if name.contains('\0') {
                    return Some(pointer.to_owned());
                }
                walk(member, &format!("{pointer}/{}", escape(name)))
            }),
            _ => None,
        }
    }
    serde_json::from_slice(body).ok().and_then(|value| walk(&value, ""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Body {
        amount: aggregates::primitives::Amount,
        #[serde(default)]
        metadata: Map<String, Value>,
        #[serde(default)]
        items: Vec<aggregates::primitives::Amount>,
    }

    fn problem(body: &str) -> Value {
        serde_json::to_value(parse::<Body>(body.as_bytes()).expect_err(body)).expect("a document")
    }

    #[test]
    fn a_wrong_field_is_pointed_at() {
        for (body, pointer) in [
            (r#"{"amount": -1}"#, "/amount"),
            (r#"{"amount": "5"}"#, "/amount"),
            (r#"{"amount": 1.5}"#, "/amount"),
            (r#"{"amount": 99999999999999999999}"#, "/amount"),
            (r#"{"amount": 1, "expires_at": "2027-01-01"}"#, "/expires_at"),
            (r#"{"amount": 1, "items": [1, 0]}"#, "/items/1"),
            (r#"{}"#, "/amount"),
            (r#"{"amount": 1, "amount": 2}"#, "/amount"),
            (r#"{"amount": 1, "metadata": {"a": {"b/c": ["x\u0000"]}}}"#, "/metadata/a/b~1c/0"),
            ("[]", ""),
        ] {
            let problem = problem(body);
            assert_eq!(problem["code"], "invalid", "{body}");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
            assert!(!problem["errors"][0]["detail"].as_str().expect("a sentence").contains("line"), "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in ["", "{", "{\"amount\": 1} x", "{\"amount\": 01}", "\u{0}", "{\"a\": \"\u{1}\"}"] {
            assert_eq!(problem(body)["code"], "malformed", "{body:?}");
        }
    }

    #[test]
    fn an_escaped_backslash_before_u0000_is_no_zero_character() {
        let body: Body = parse(br#"{"amount": 1, "metadata": {"a": "\\u0000"}}"#).expect("accepted");
        assert_eq!(body.metadata.get("a"), Some(&json!("\\u0000")));
    }
}
