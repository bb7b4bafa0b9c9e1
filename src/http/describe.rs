//! Routes that describe themselves: a path cannot be served without saying what it takes and what it answers.
//!
//! Shape: [`Routes`] holds the router and the description beside it and gives each route to both; [`query`], [`command`] and
//! [`open`] begin an [`Operation`] with what all of its kind have in common (token, tenant, headers, the problems that anybody
//! may meet), so that a route says only what is its own. Schemas come from the types that are read and written, statuses from
//! the codes of the problems. Cost: built once a process, when the description is first asked for; the router pays nothing.
//! The test-suite holds every answer it is given, and everything that was accepted, against this description.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use aggregates::primitives::Timestamp;
use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, on};
use projections::page::{LIMIT_DEFAULT, LIMIT_MAX};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Shared;
use super::error::kind;

/// Problems that any request may meet.
const ANYBODY: &[&str] = &["rate_limited", "internal"];
/// Problems that any query may meet: of its token, its tenant, its parameters, its read models.
const READER: &[&str] = &[
    "tenant_required",
    "unauthenticated",
    "forbidden",
    "not_found",
    "invalid",
    "too_busy",
    "view_behind",
    "not_ready",
];
/// Problems that any command may meet before the rules are asked, and the key that was used for another.
const COMMANDER: &[&str] = &[
    "malformed",
    "tenant_required",
    "unauthenticated",
    "forbidden",
    "not_found",
    "body_too_large",
    "body_too_slow",
    "invalid",
    "idempotency_key_reused",
    "too_busy",
    "outcome_unknown",
];

/// Who may ask, and what all of its kind have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Query,
    Command,
}

/// What one method of one path takes and answers.
pub(crate) struct Operation {
    kind: Kind,
    summary: &'static str,
    description: Option<&'static str>,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Vec<(StatusCode, Value)>,
    codes: BTreeSet<&'static str>,
    schemas: Schemas,
}

/// A query: needs a token, takes `min_position`, is answered with 200 and the position that it shows.
pub(crate) fn query(summary: &'static str) -> Operation {
    Operation::new(Kind::Query, summary, READER).parameter::<u64>(
        "min_position",
        "query",
        "Wait (5 s at the most) until the read models have come to this position, which a command was answered with.",
    )
}

/// A command: needs a token, takes a key, is answered with the position of its last event.
pub(crate) fn command(summary: &'static str) -> Operation {
    let mut operation = Operation::new(Kind::Command, summary, COMMANDER);
    operation.parameters.push(json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "Makes it safe to send this command again: the first answer comes back. Needed where credits enter or move.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    }));
    operation
}

/// What anybody may ask, without a token.
pub(crate) fn open(summary: &'static str) -> Operation {
    Operation::new(Kind::Open, summary, &[])
}

impl Operation {
    fn new(kind: Kind, summary: &'static str, codes: &[&'static str]) -> Self {
        let mut operation = Self {
            kind,
            summary,
            description: None,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            codes: BTreeSet::new(),
            schemas: Schemas::default(),
        };
        if kind != Kind::Open {
            operation.parameters.push(json!({
                "name": "X-Tenant-ID",
                "in": "header",
                "required": false,
                "description": "The reseller to act for; needed where the token's user is a member of several.",
                "schema": operation.schemas.of::<aggregates::primitives::ResellerId>(),
            }));
        }
        operation.refuses(ANYBODY).refuses(codes)
    }

    /// What a reader should know beyond the summary.
    pub(crate) fn says(mut self, description: &'static str) -> Self {
        self.description = Some(description);
        self
    }

    /// A parameter of the query string.
    pub(crate) fn takes<T: ToSchema>(self, name: &str, description: &str) -> Self {
        self.parameter::<T>(name, "query", description)
    }

    /// A whole number in the query string.
    pub(crate) fn takes_whole(mut self, name: &str, least: u32, most: u32, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": description,
            "schema": {"type": "integer", "minimum": least, "maximum": most},
        }));
        self
    }

    /// One of these words in the query string.
    pub(crate) fn takes_word(mut self, name: &str, words: &[&str], description: &str) -> Self {
        self.parameters.push(json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": description,
            "schema": {"type": "string", "enum": words},
        }));
        self
    }

    /// A time or a date in the query string.
    pub(crate) fn takes_moment(mut self, name: &str, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": description,
            "schema": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}],
                       "examples": ["2026-11-01"]},
        }));
        self
    }

    /// `from` and `to`.
    pub(crate) fn takes_range(self) -> Self {
        self.takes_moment("from", "From this time on, or from the beginning of this day (UTC).")
            .takes_moment("to", "Before this time, or up to the end of this day (UTC).")
    }

    /// `at` and `position`: a moment of the past.
    pub(crate) fn takes_past(self) -> Self {
        self.takes::<Timestamp>("at", "As it was after the last event up to this time; not together with `position`.")
            .takes::<u64>("position", "As it was after this position of the log.")
    }

    /// `limit` and `cursor`.
    pub(crate) fn takes_page(self) -> Self {
        self.takes_limit("How many at the most.")
            .takes::<String>("cursor", "Goes on where the answer with this `next_cursor` ended.")
    }

    /// `limit`.
    pub(crate) fn takes_limit(mut self, description: &str) -> Self {
        self.parameters.push(json!({
            "name": "limit",
            "in": "query",
            "required": false,
            "description": description,
            "schema": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
        }));
        self
    }

    /// A header of the request that is its own.
    pub(crate) fn takes_header(mut self, name: &str, schema: &Value, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "header", "required": false, "description": description, "schema": schema,
        }));
        self
    }

    fn parameter<T: ToSchema>(mut self, name: &str, place: &str, description: &str) -> Self {
        let schema = self.schemas.of::<T>();
        self.parameters.push(json!({
            "name": name, "in": place, "required": false, "description": description, "schema": schema,
        }));
        self
    }

    /// The body, with an example.
    pub(crate) fn sends<T: ToSchema>(self, example: Value) -> Self {
        self.sends_as::<T>(true, example)
    }

    /// A body that may be left out, with an example.
    pub(crate) fn may_send<T: ToSchema>(self, example: Value) -> Self {
        self.sends_as::<T>(false, example)
    }

    fn sends_as<T: ToSchema>(mut self, required: bool, example: Value) -> Self {
        let schema = self.schemas.of::<T>();
        self.body = Some(json!({
            "required": required,
            "content": {"application/json": {"schema": schema, "example": example}},
        }));
        self
    }

    /// 200 with a `T`.
    pub(crate) fn shows<T: ToSchema>(self, description: &str) -> Self {
        self.answers::<T>(StatusCode::OK, description)
    }

    /// 200 with a page of `T`; takes `limit` and `cursor`.
    pub(crate) fn pages<T: ToSchema>(mut self, description: &str) -> Self {
        let schema = json!({
            "type": "object",
            "required": ["data", "next_cursor"],
            "properties": {
                "data": {"type": "array", "maxItems": LIMIT_MAX, "items": self.schemas.of::<T>()},
                "next_cursor": {"type": ["string", "null"], "description": "Where the next page begins; null on the last."},
            },
        });
        self.answer(StatusCode::OK, description, "application/json", &schema);
        self.takes_page()
    }

    /// 200 with a list of `T`, so many at the most.
    pub(crate) fn lists<T: ToSchema>(mut self, most: usize, description: &str) -> Self {
        let schema = json!({"type": "array", "maxItems": most, "items": self.schemas.of::<T>()});
        self.answer(StatusCode::OK, description, "application/json", &schema);
        self
    }

    /// 201 with a `T`, or 200 where the command changed nothing.
    pub(crate) fn creates<T: ToSchema>(self, description: &str) -> Self {
        self.answers::<T>(StatusCode::CREATED, description)
            .answers::<T>(StatusCode::OK, "Nothing came of it: it was so already")
    }

    /// 202 with a `T` and the place where to ask for the outcome.
    pub(crate) fn accepts<T: ToSchema>(mut self, description: &str) -> Self {
        self = self.answers::<T>(StatusCode::ACCEPTED, description);
        if let Some((_, answer)) = self.answers.last_mut() {
            answer["headers"]["Location"] = json!({"description": "Where to ask for the outcome; the query waits until it knows of this.", "schema": {"type": "string"}});
        }
        self
    }

    /// A status with a `T`.
    pub(crate) fn answers<T: ToSchema>(mut self, status: StatusCode, description: &str) -> Self {
        let schema = self.schemas.of::<T>();
        self.answer(status, description, "application/json", &schema);
        self
    }

    /// A 200 in another form beside the one already named, which the client asks for by `Accept`.
    pub(crate) fn or_as(mut self, media_type: &str, schema: &Value) -> Self {
        if let Some((_, answer)) = self.answers.iter_mut().find(|(status, _)| *status == StatusCode::OK) {
            answer["content"][media_type] = json!({"schema": schema});
        }
        self
    }

    /// A 200 that is not JSON.
    pub(crate) fn shows_as(mut self, description: &str, media_type: &str, schema: &Value) -> Self {
        self.answer(StatusCode::OK, description, media_type, schema);
        self
    }

    /// The answer has a tag by which it need not be sent again.
    pub(crate) fn tagged(mut self) -> Self {
        let tag = json!({"description": "What the answer says, in short.", "schema": {"type": "string"}});
        for (_, answer) in &mut self.answers {
            answer["headers"]["ETag"] = tag.clone();
        }
        let mut unchanged =
            json!({"description": "It is as it was when it had this tag", "headers": headers_of(self.kind)});
        unchanged["headers"]["ETag"] = tag;
        self.answers.push((StatusCode::NOT_MODIFIED, unchanged));
        self.parameters.push(json!({
            "name": "If-None-Match",
            "in": "header",
            "required": false,
            "description": "The tags of answers that the client has; it is told 304 where one of them still holds.",
            "schema": {"type": "string"},
        }));
        self
    }

    /// Problems that it may meet beyond those that all of its kind may.
    pub(crate) fn refuses(mut self, codes: &[&'static str]) -> Self {
        self.codes.extend(codes);
        self
    }

    fn answer(&mut self, status: StatusCode, description: &str, media_type: &str, schema: &Value) {
        let mut answer = json!({
            "description": description,
            "headers": headers_of(self.kind),
            "content": {},
        });
        answer["content"][media_type] = json!({"schema": schema});
        self.answers.push((status, answer));
    }

    fn describe(self, tag: &str, method: &Method, path: &str, problems: &mut BTreeMap<String, Value>) -> Value {
        let mut parameters: Vec<Value> = names_in(path).map(path_parameter).collect();
        parameters.extend(self.parameters);
        let mut responses = Map::new();
        for (status, answer) in self.answers {
            responses.insert(status.as_str().to_owned(), answer);
        }
        let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for code in self.codes {
            by_status.entry(kind(code).0.as_u16()).or_default().push(code);
        }
        for (status, codes) in by_status {
            let name = format!("{status}_{}", codes.join("_"));
            responses.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{name}")}));
            problems.entry(name).or_insert_with(|| problem(status, &codes));
        }
        let mut operation = json!({
            "operationId": operation_id(method, path),
            "tags": [tag],
            "summary": self.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(description) = self.description {
            operation["description"] = json!(description);
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation["security"] = if self.kind == Kind::Open { json!([]) } else { json!([{"token": []}]) };
        operation
    }
}

/// The headers of an accepted request's answer.
fn headers_of(kind: Kind) -> Value {
    let mut headers = json!({
        "X-RateLimit-Limit": {"$ref": "#/components/headers/X-RateLimit-Limit"},
        "X-RateLimit-Remaining": {"$ref": "#/components/headers/X-RateLimit-Remaining"},
        "X-RateLimit-Reset": {"$ref": "#/components/headers/X-RateLimit-Reset"},
    });
    if kind != Kind::Open {
        headers["Tallytree-Position"] = json!({"$ref": "#/components/headers/Tallytree-Position"});
    }
    if kind == Kind::Command {
        headers["Idempotent-Replayed"] = json!({"$ref": "#/components/headers/Idempotent-Replayed"});
    }
    headers
}

/// The answer of a status that problems have.
fn problem(status: u16, codes: &[&str]) -> Value {
    let titles: Vec<&str> = codes.iter().map(|code| kind(code).1).collect();
    let first = codes.first().copied().unwrap_or("internal");
    let mut answer = json!({
        "description": titles.join(", or: "),
        "headers": {},
        "content": {"application/problem+json": {
            "schema": {
                "allOf": [{"$ref": "#/components/schemas/Problem"}],
                "properties": {"status": {"const": status}, "code": {"enum": codes}},
            },
            "example": {
                "type": format!("urn:tallytree:problem:{first}"),
                "title": kind(first).1,
                "status": status,
                "detail": "A sentence about this very request.",
                "code": first,
            },
        }},
    });
    if matches!(status, 429 | 503) {
        answer["headers"]["Retry-After"] = json!({"$ref": "#/components/headers/Retry-After"});
    }
    answer
}

/// The names of a path's parameters, in order.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "sku" => json!({"$ref": "#/components/schemas/Sku"}),
        "code" => json!({"$ref": "#/components/schemas/ReferralCode"}),
        _ => json!({"type": "string", "format": "uuid", "examples": ["0190d3a0-7c1e-7b60-8f00-3d0f6c8e2a11"]}),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

/// `GET /wallets/{reseller_id}/quote` → `get_wallets_by_reseller_id_quote`.
fn operation_id(method: &Method, path: &str) -> String {
    let words = path.split('/').filter(|part| !part.is_empty()).map(|part| {
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => format!("by_{name}"),
            None => part.replace(['-', '.'], "_"),
        }
    });
    std::iter::once(method.as_str().to_ascii_lowercase()).chain(words).collect::<Vec<_>>().join("_")
}

/// A JSON object with members of any name.
pub(crate) enum Object {}

impl PartialSchema for Object {
    fn schema() -> RefOr<Schema> {
        utoipa::openapi::ObjectBuilder::new().into()
    }
}

impl ToSchema for Object {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("object")
    }
}

/// The schemas that operations refer to, by name.
#[derive(Default)]
pub(crate) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// The schema of a type: a reference where it has a name of its own.
    pub(crate) fn of<T: ToSchema>(&mut self) -> Value {
        let mut named = Vec::new();
        T::schemas(&mut named);
        for (name, schema) in named {
            self.insert(name, schema);
        }
        let name = T::name().into_owned();
        // What has no name of its own is said on the spot.
        if name == "String" || name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return serde_json::to_value(T::schema()).unwrap_or_default();
        }
        self.insert(name.clone(), T::schema());
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn insert(&mut self, name: String, schema: RefOr<Schema>) {
        self.0.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
}

/// Every route, and the description of each.
#[derive(Default)]
pub(crate) struct Routes {
    router: Router<Shared>,
    tag: &'static str,
    tags: Vec<Value>,
    paths: BTreeMap<String, Map<String, Value>>,
    schemas: Schemas,
    problems: BTreeMap<String, Value>,
}

impl Routes {
    /// What follows is about this.
    pub(crate) fn about(mut self, tag: &'static str, description: &'static str) -> Self {
        self.tag = tag;
        self.tags.push(json!({"name": tag, "description": description}));
        self
    }

    /// GET
    pub(crate) fn get<H: Handler<T, Shared>, T: 'static>(self, path: &str, handler: H, operation: Operation) -> Self {
        self.route(&Method::GET, MethodFilter::GET, path, handler, operation)
    }

    /// POST
    pub(crate) fn post<H: Handler<T, Shared>, T: 'static>(self, path: &str, handler: H, operation: Operation) -> Self {
        self.route(&Method::POST, MethodFilter::POST, path, handler, operation)
    }

    /// PUT
    pub(crate) fn put<H: Handler<T, Shared>, T: 'static>(self, path: &str, handler: H, operation: Operation) -> Self {
        self.route(&Method::PUT, MethodFilter::PUT, path, handler, operation)
    }

    /// PATCH
    pub(crate) fn patch<H: Handler<T, Shared>, T: 'static>(self, path: &str, handler: H, operation: Operation) -> Self {
        self.route(&Method::PATCH, MethodFilter::PATCH, path, handler, operation)
    }

    /// DELETE
    pub(crate) fn delete<H: Handler<T, Shared>, T: 'static>(
        self,
        path: &str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.route(&Method::DELETE, MethodFilter::DELETE, path, handler, operation)
    }

    fn route<H: Handler<T, Shared>, T: 'static>(
        mut self,
        method: &Method,
        filter: MethodFilter,
        path: &str,
        handler: H,
        mut operation: Operation,
    ) -> Self {
        self.router = self.router.route(path, on(filter, handler));
        self.schemas.0.append(&mut operation.schemas.0);
        let described = operation.describe(self.tag, method, path, &mut self.problems);
        let key = method.as_str().to_ascii_lowercase();
        self.paths.entry(path.to_owned()).or_default().insert(key, described);
        self
    }

    /// The router, without the description.
    pub(crate) fn router(self) -> Router<Shared> {
        self.router
    }

    /// The description, without the router.
    pub(crate) fn description(self) -> Description {
        Description {
            tags: self.tags,
            paths: self.paths.into_iter().map(|(path, methods)| (path, Value::Object(methods))).collect(),
            schemas: self.schemas.0.into_iter().collect(),
            problems: self.problems.into_iter().collect(),
        }
    }
}

/// The parts of an OpenAPI document that come from the routes.
pub(crate) struct Description {
    /// What the routes are about, in order.
    pub(crate) tags: Vec<Value>,
    /// Operations, by path and method.
    pub(crate) paths: Map<String, Value>,
    /// Schemas, by name.
    pub(crate) schemas: Map<String, Value>,
    /// Answers with problems, by name: many operations have the same.
    pub(crate) problems: Map<String, Value>,
}
