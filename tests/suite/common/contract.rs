//! Every answer that a test is given is held against the description that the service gives of itself, and so is every request
//! that was accepted: a route, status, header or field that is not described fails whichever test meets it first.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use hyper::{HeaderMap, Method};
use serde_json::Value;

/// The description, with what only tests may do.
pub static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| tallytree::http::description(true));

/// How many items of a long list are looked at.
const ITEMS_MAX: usize = 50;

/// Not described: the page that shows the description.
const PAGE: &str = "/docs";

/// Fails where request or answer is not as described.
#[track_caller]
pub fn hold(method: &Method, path: &str, sent: &[u8], status: u16, headers: &HeaderMap, answered: &[u8]) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let what = || format!("{method} {path}?{query} → {status} {}", String::from_utf8_lossy(answered));
    let Some(operation) = operation(method, path) else {
        assert!(path.starts_with(PAGE) || matches!(status, 404 | 405), "not described: {}", what());
        return;
    };
    let Some(answer) = operation["responses"].get(status.to_string()).map(resolved) else {
        panic!("status not described: {}", what());
    };
    let text = |name: &str| headers.get(name).map(|value| value.to_str().expect("a text"));
    for name in ["tallytree-position", "idempotent-replayed", "location", "etag", "retry-after"] {
        let described = answer["headers"].as_object().into_iter().flatten();
        // Problems may say where they were decided; what they have in common is described once.
        let common = status >= 400 && matches!(name, "tallytree-position" | "idempotent-replayed");
        let described = described.map(|(name, _)| name.to_ascii_lowercase()).any(|described| described == name);
        assert!(text(name).is_none() || described || common, "header {name} not described: {}", what());
    }
    // A table may have no rows; what has no type of content has no body.
    if answered.is_empty() && text("content-type").is_none() {
        assert!(answer.get("content").is_none(), "described with a body: {}", what());
    } else {
        let kind = text("content-type").expect("a type of content");
        let content = &answer["content"][kind];
        assert!(content.is_object(), "{kind} not described: {}", what());
        if matches!(kind, "application/json" | "application/problem+json") {
            let body: Value = serde_json::from_slice(answered).expect("JSON");
            conforms(&content["schema"], &body).unwrap_or_else(|error| panic!("{error}: {}", what()));
        }
    }
    if status >= 300 {
        return;
    }
    for name in query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty()) {
        let parameters = operation["parameters"].as_array().expect("a list");
        let described = parameters.iter().any(|parameter| parameter["in"] == "query" && parameter["name"] == name);
        assert!(described, "parameter {name} not described: {}", what());
    }
    if !sent.is_empty() && *method != Method::GET {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "a body was accepted that is not described: {}", what());
        let body: Value = serde_json::from_slice(sent).expect("JSON");
        conforms(schema, &body).unwrap_or_else(|error| panic!("accepted, but {error}: {body} in {}", what()));
    }
}

/// What is described of a method of a path.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let paths = DESCRIPTION["paths"].as_object().expect("paths");
    let method = method.as_str().to_ascii_lowercase();
    // A path without parameters goes before one whose parameter would take it in.
    let mut matching: Vec<_> = paths.iter().filter(|(template, _)| matches(template, path)).collect();
    matching.sort_by_key(|(template, _)| template.matches('{').count());
    matching.first().and_then(|(_, methods)| methods.get(&method))
}

fn matches(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) if part == given || (part.starts_with('{') && !given.is_empty()) => {}
            _ => return false,
        }
    }
}

/// What a reference stands for.
pub fn resolved(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a reference within the document");
            DESCRIPTION.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
        }
        None => value,
    }
}

/// Whether a value is as its schema says, with no member that the schema does not name.
///
/// # Errors
/// What is wrong, and where.
pub fn conforms(schema: &Value, value: &Value) -> Result<(), String> {
    whole(schema, value, "")
}

/// The members of an object that a schema speaks of.
#[derive(Default)]
struct Named {
    any: bool,
    names: BTreeSet<String>,
}

impl Named {
    fn and(&mut self, other: Self) {
        self.any |= other.any;
        self.names.extend(other.names);
    }
}

fn whole(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let named = part(schema, value, at)?;
    match value.as_object().into_iter().flatten().find(|(name, _)| !named.any && !named.names.contains(*name)) {
        Some((name, _)) => Err(format!("{at}/{name} is not described")),
        None => Ok(()),
    }
}

/// Holds a value against every keyword of a schema. A keyword that is not known here fails, so that none is passed over.
fn part(schema: &Value, value: &Value, at: &str) -> Result<Named, String> {
    let mut named = Named::default();
    let keywords = match schema {
        Value::Bool(true) => return Ok(Named { any: true, ..named }),
        schema => schema.as_object().ok_or_else(|| format!("{at}: {schema} is no schema"))?,
    };
    let must = |holds: bool, keyword: &str| {
        if holds { Ok(()) } else { Err(format!("{at}: {value} is not as {keyword} {} says", schema[keyword])) }
    };
    for (keyword, said) in keywords {
        match keyword.as_str() {
            "$ref" => named.and(part(resolved(schema), value, at)?),
            "type" => must(is_of_type(said, value), keyword)?,
            "enum" => must(said.as_array().is_some_and(|words| words.contains(value)), keyword)?,
            "const" => must(said == value, keyword)?,
            "required" => {
                for name in said.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    must(value.as_object().is_none_or(|object| object.contains_key(name)), keyword)?;
                }
            }
            "properties" => {
                for (name, schema) in said.as_object().into_iter().flatten() {
                    named.names.insert(name.clone());
                    if let Some(member) = value.get(name) {
                        whole(schema, member, &format!("{at}/{name}"))?;
                    }
                }
            }
            "additionalProperties" => match said {
                Value::Bool(allowed) => named.any |= allowed,
                schema => {
                    named.any = true;
                    let others = value.as_object().into_iter().flatten();
                    for (name, member) in others
                        .filter(|(name, _)| keywords.get("properties").and_then(|known| known.get(name)).is_none())
                    {
                        whole(schema, member, &format!("{at}/{name}"))?;
                    }
                }
            },
            "propertyNames" => {
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    part(said, &Value::String(name.clone()), at)?;
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().take(ITEMS_MAX).enumerate() {
                    whole(said, item, &format!("{at}/{index}"))?;
                }
            }
            "allOf" => {
                for schema in said.as_array().into_iter().flatten() {
                    named.and(part(schema, value, at)?);
                }
            }
            "anyOf" => {
                let mut reasons = Vec::new();
                let mut held = false;
                for schema in said.as_array().into_iter().flatten() {
                    match part(schema, value, at) {
                        Ok(more) => {
                            named.and(more);
                            held = true;
                        }
                        Err(reason) => reasons.push(reason),
                    }
                }
                if !held {
                    return Err(reasons.join("; or "));
                }
            }
            "minimum" => must(value.as_f64().zip(said.as_f64()).is_none_or(|(value, bound)| value >= bound), keyword)?,
            "maximum" => must(value.as_f64().zip(said.as_f64()).is_none_or(|(value, bound)| value <= bound), keyword)?,
            "minLength" => must(length(value).zip(said.as_u64()).is_none_or(|(value, bound)| value >= bound), keyword)?,
            "maxLength" => must(length(value).zip(said.as_u64()).is_none_or(|(value, bound)| value <= bound), keyword)?,
            "minItems" => must(count(value).zip(said.as_u64()).is_none_or(|(value, bound)| value >= bound), keyword)?,
            "maxItems" => must(count(value).zip(said.as_u64()).is_none_or(|(value, bound)| value <= bound), keyword)?,
            "format" => must(has_format(said, value), keyword)?,
            // What a pattern says is held by the type itself, beside whose description a test of its own stands.
            "pattern" | "description" | "examples" | "default" | "title" => {}
            unknown => return Err(format!("{at}: the keyword {unknown} is not known to the tests")),
        }
    }
    let says_members = ["properties", "additionalProperties", "$ref", "allOf", "anyOf"];
    named.any |= !says_members.iter().any(|keyword| keywords.contains_key(*keyword));
    Ok(named)
}

fn is_of_type(said: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    };
    said.as_array().map_or_else(|| is(said), |kinds| kinds.iter().any(is))
}

fn length(value: &Value) -> Option<u64> {
    u64::try_from(value.as_str()?.chars().count()).ok()
}

fn count(value: &Value) -> Option<u64> {
    u64::try_from(value.as_array()?.len()).ok()
}

fn has_format(said: &Value, value: &Value) -> bool {
    let Some(text) = value.as_str() else { return true };
    match said.as_str() {
        Some("uuid") => text.parse::<aggregates::primitives::ResellerId>().is_ok(),
        Some("date-time") => text.parse::<aggregates::primitives::Timestamp>().is_ok(),
        Some("uri") => text.starts_with("urn:tallytree:"),
        _ => true,
    }
}
