//! The ledger's yes, as a response: serialised once, with its position.

use std::borrow::Cow;

use aggregates::answer::{Answer, BulkAnswer, BulkItemAnswer, ItemOutcome, ProvisionAnswer};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, VARY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::openapi::{AllOfBuilder, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::error::{POSITION, Problem, REPLAYED};

/// An accepted command.
#[derive(Debug)]
pub(crate) struct Answered {
    /// What was answered.
    pub answer: Answer,
    /// Whether any event came of it.
    pub changed: bool,
    /// Where in the log it stands.
    pub position: u64,
    /// Whether this is the first answer to the key, given again.
    pub replayed: bool,
}

impl Answered {
    /// 201 where it made something, 200 where nothing came of it.
    pub(crate) fn created(&self) -> Result<Response, Problem> {
        let status = if self.changed { StatusCode::CREATED } else { StatusCode::OK };
        self.respond(status)
    }

    /// 200.
    pub(crate) fn ok(&self) -> Result<Response, Problem> {
        self.respond(StatusCode::OK)
    }

    /// 202 with the place where to ask for the outcome: it is a query, which must wait until it has seen this.
    pub(crate) fn accepted(&self, place: &str) -> Result<Response, Problem> {
        let mut response = self.respond(StatusCode::ACCEPTED)?;
        let location = HeaderValue::from_str(&format!("{place}?min_position={}", self.position))
            .map_err(|error| Problem::internal(&error))?;
        response.headers_mut().insert(LOCATION, location);
        Ok(response)
    }

    fn respond(&self, status: StatusCode) -> Result<Response, Problem> {
        let mut response = match &self.answer {
            Answer::Bulk(bulk) => json(status, &BulkAnswerBody::of(bulk))?,
            answer => json(status, &answer.body())?,
        };
        let headers = response.headers_mut();
        headers.insert(POSITION, HeaderValue::from(self.position));
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    let mut text = Vec::with_capacity(512);
    serde_json::to_writer(&mut text, body).map_err(|error| Problem::internal(&error))?;
    let mut response = (status, text).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A JSON response with a tag of what it says, or 304 where one of the client's tags is the same.
///
/// The tag is a hash of the body. So it holds as long as the answer would be the same, byte for byte, for whoever asks: no day
/// that has passed, no scope, no price can be forgotten in it. What is saved is the sending, not the reading.
pub(crate) fn json_unless_unchanged(held: &[HeaderValue], body: &impl Serialize) -> Result<Response, Problem> {
    let mut text = Vec::with_capacity(2048);
    serde_json::to_writer(&mut text, body).map_err(|error| Problem::internal(&error))?;
    let hash: [u8; 32] = Sha256::digest(&text).into();
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash[..16]));
    let mut response = if holds(held, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = text.into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&tag).map_err(|error| Problem::internal(&error))?);
    // Nobody but the client itself may keep it, and the client asks each time whether it still holds.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(VARY, HeaderValue::from_static("Authorization, X-Tenant-ID"));
    Ok(response)
}

/// Whether a tag is among those of `If-None-Match` (RFC 9110): `*`, or tags, of which `W/` makes no difference here.
fn holds(held: &[HeaderValue], tag: &str) -> bool {
    held.iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|held| held == "*" || held.strip_prefix("W/").unwrap_or(held) == tag)
}

/// A bulk's answer as clients read it: each item with its own status.
#[derive(Serialize, ToSchema)]
pub(crate) struct BulkAnswerBody<'a> {
    accepted: u64,
    refused: u64,
    replayed: u64,
    items: Vec<BulkItemBody<'a>>,
}

#[derive(Serialize)]
struct BulkItemBody<'a> {
    index: usize,
    status: u16,
    #[serde(flatten)]
    provision: Option<&'a ProvisionAnswer>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// By hand: an item has either all that a provision's answer has, or a problem.
impl PartialSchema for BulkItemBody<'_> {
    fn schema() -> RefOr<Schema> {
        let text = serde_json::json!({
            "type": "object",
            "required": ["index", "status"],
            "properties": {
                "index": {"type": "integer", "minimum": 0, "description": "Its place in the request, from 0."},
                "status": {"type": "integer", "examples": [201], "description": "What it would have been answered alone."},
                "replayed": {"type": "boolean", "description": "Present where this is the first answer to its key, again."},
            },
        });
        let item = serde_json::from_value::<Schema>(text).unwrap_or_default();
        let refused = ObjectBuilder::new().property("problem", Ref::from_schema_name("Problem")).required("problem");
        let outcome = OneOfBuilder::new().item(Ref::from_schema_name(ProvisionAnswer::name())).item(refused);
        AllOfBuilder::new().item(item).item(outcome).into()
    }
}

impl ToSchema for BulkItemBody<'_> {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("BulkItem")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((ProvisionAnswer::name().into_owned(), ProvisionAnswer::schema()));
        ProvisionAnswer::schemas(schemas);
    }
}

impl<'a> BulkAnswerBody<'a> {
    fn of(bulk: &'a BulkAnswer) -> Self {
        let items = bulk.items.iter().map(BulkItemBody::of).collect();
        Self { accepted: bulk.accepted, refused: bulk.refused, replayed: bulk.replayed, items }
    }
}

impl<'a> BulkItemBody<'a> {
    fn of(item: &'a BulkItemAnswer) -> Self {
        let (status, provision, problem) = match &item.outcome {
            ItemOutcome::Provisioned(provision) => (StatusCode::CREATED, Some(provision.as_ref()), None),
            ItemOutcome::Refused(rejection) => {
                let problem = Problem::from(rejection);
                (problem.status(), None, Some(problem))
            }
        };
        Self { index: item.index, status: status.as_u16(), provision, replayed: item.replayed, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_any_of_the_forms_that_clients_send() {
        let held = |texts: &[&'static str]| texts.iter().map(|text| HeaderValue::from_static(text)).collect::<Vec<_>>();
        for texts in [&["\"a\""][..], &["W/\"a\""], &["\"b\", \"a\""], &["\"b\"", "\"a\""], &["*"]] {
            assert!(holds(&held(texts), "\"a\""), "{texts:?}");
        }
        for texts in [&[][..], &["\"b\""], &["a"], &["\"a"], &["\"A\""], &[""]] {
            assert!(!holds(&held(texts), "\"a\""), "{texts:?}");
        }
    }
}
