//! The OpenAPI 3.1 document: what the routes say of themselves, with what all of them share, and an example of every answer.
//!
//! Written once a process. Examples are composed from the schemas, so that they cannot fall behind them.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::describe::Description;
use super::{Shared, routes};
use crate::clock::Clock;

static WITH_SYSTEM_CLOCK: LazyLock<Bytes> = LazyLock::new(|| document(false).to_string().into());
static WITH_MANUAL_CLOCK: LazyLock<Bytes> = LazyLock::new(|| document(true).to_string().into());

/// GET `/openapi.json`
pub(super) async fn serve(State(service): State<Shared>) -> Response {
    let document = if matches!(service.clock, Clock::Manual(_)) { &WITH_MANUAL_CLOCK } else { &WITH_SYSTEM_CLOCK };
    let mut response = Bytes::clone(document).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The whole document.
pub(super) fn document(manual_clock: bool) -> Value {
    let Description { tags, paths, mut schemas, problems } = routes::routes(manual_clock).description();
    // The domain's `Credits` is an alias, so what is derived calls it by the name of what it stands for.
    schemas.remove("i64");
    schemas.insert("Credits".to_owned(), credits());
    schemas.insert("Problem".to_owned(), problem());
    let (mut paths, mut schemas) = (Value::Object(paths), Value::Object(schemas));
    each(&mut paths, &mut in_words);
    each(&mut schemas, &mut in_words);
    give_examples(&mut paths, &schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tallytree",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": tags,
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problems,
            "headers": headers(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the service (`tt_…`, made by `tallytree token create`), or a JSON Web Token of \
                                    the configured issuer.",
                },
            },
        },
    })
}

const DESCRIPTION: &str = "\
An event-sourced ledger of prepaid credits for reseller networks.

- Amounts are integer credits. Times are RFC 3339 in UTC. Errors are `application/problem+json` with a stable `code`.
- An `Idempotency-Key` makes any command safe to send again: the first answer comes back, with `Idempotent-Replayed: true`.
- What the ledger decided or a query read says with `Tallytree-Position` where in the log it stands; a query takes `min_position` \
to wait for it.
- A reseller sees itself and its downline. Whatever lies elsewhere answers like what does not exist.";

fn credits() -> Value {
    json!({
        "type": "integer",
        "format": "int64",
        "description": "A number of credits, which may be negative.",
        "examples": [1000],
    })
}

fn problem() -> Value {
    let credits = json!({"$ref": "#/components/schemas/Credits"});
    let text = json!({"type": "string"});
    let authority = json!({"type": "string", "description": "`platform`, `upline`, `low_credit_policy`, or an id in one's own subtree."});
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457). `code` is stable; which other members there are depends on it.",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": text,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": text,
            "code": text,
            "errors": {
                "type": "array",
                "description": "What is wrong, by JSON pointers into the body (or the query string).",
                "items": {"type": "object", "required": ["pointer", "detail"], "properties": {"pointer": text, "detail": text}},
            },
            "index": {"type": "integer", "minimum": 0, "description": "Which item of a bulk was refused."},
            "required": credits,
            "available": credits,
            "balance": credits,
            "reserved": credits,
            "frozen_by": authority,
            "by": authority,
            "reseller": {"type": "string", "format": "uuid"},
            "current_status": text,
            "sku": text,
            "what": text,
            "from": text,
            "to": text,
            "transaction_id": text,
            "amount": credits,
            "position": {"type": "integer", "minimum": 0},
            "views_position": {"type": "integer", "minimum": 0},
            "required_tier": {"$ref": "#/components/schemas/Tier"},
            "least": credits,
            "most": credits,
            "refundable": credits,
            "entries_behind_max": {"type": "integer", "minimum": 0},
            "reason": text,
        },
    })
}

fn headers() -> Value {
    let whole = |description: &str| json!({"description": description, "schema": {"type": "integer", "minimum": 0}});
    json!({
        "Tallytree-Position": whole("Where in the log the answer stands."),
        "Idempotent-Replayed": {
            "description": "`true` on the first answer to a key, given again.",
            "schema": {"type": "string", "enum": ["true"]},
        },
        "Retry-After": whole("After how many seconds to try again."),
        "X-RateLimit-Limit": whole("How many requests this token may send at once."),
        "X-RateLimit-Remaining": whole("How many of them are left now."),
        "X-RateLimit-Reset": whole("In how many seconds all of them are there again."),
    })
}

/// Says what is derived from the code's own words in the words of its readers.
fn in_words(value: &mut Value) {
    if value.get("$ref") == Some(&json!("#/components/schemas/i64")) {
        value["$ref"] = json!("#/components/schemas/Credits");
    }
    // What is derived says "exactly one of"; that an answer also fits a weaker alternative is no fault of it.
    if let Some(members) = value.as_object_mut()
        && let Some(alternatives) = members.remove("oneOf")
    {
        members.insert("anyOf".to_owned(), alternatives);
    }
    if let Some(Value::String(description)) = value.get_mut("description") {
        *description = description.replace("`None`", "Null").replace("[`", "`").replace("`]", "`");
    }
}

/// Calls `change` for every object below.
fn each(value: &mut Value, change: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Object(_) => {
            change(value);
            if let Value::Object(members) = value {
                members.values_mut().for_each(|member| each(member, change));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, change)),
        _ => {}
    }
}

/// Gives every answer in JSON that has no example one that its schema makes.
fn give_examples(paths: &mut Value, schemas: &Value) {
    each(paths, &mut |value| {
        let Some(json) = value.get_mut("application/json") else { return };
        if json.get("example").is_none()
            && let Some(schema) = json.get("schema")
        {
            json["example"] = example(schema, schemas, &mut Vec::new());
        }
    });
}

/// A value that a schema allows; `within` are the names of the schemas it lies in, so that a tree ends.
fn example<'a>(schema: &'a Value, schemas: &'a Value, within: &mut Vec<&'a str>) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        if within.contains(&name) {
            return Value::Null;
        }
        within.push(name);
        let value = example(&schemas[name], schemas, within);
        within.pop();
        return value;
    }
    for given in [&schema["examples"][0], &schema["example"], &schema["default"], &schema["const"], &schema["enum"][0]]
    {
        if !given.is_null() {
            return given.clone();
        }
    }
    let not_null = |choice: &&Value| choice["type"] != "null";
    if let Some(choice) = schema["anyOf"].as_array().and_then(|choices| choices.iter().find(not_null)) {
        return example(choice, schemas, within);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut whole = Map::new();
        for part in parts {
            if let Value::Object(members) = example(part, schemas, within) {
                whole.extend(members);
            }
        }
        return Value::Object(whole);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("object") => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            Value::Object(properties.map(|(name, member)| (name.clone(), example(member, schemas, within))).collect())
        }
        Some("array") => match example(&schema["items"], schemas, within) {
            Value::Null => json!([]),
            item => json!([item]),
        },
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(false),
        Some("string") => json!("…"),
        _ => Value::Null,
    }
}
