//! The ledger's yes, as a response: serialised once, with its position.

use std::borrow::Cow;

use aggregates::answer::{Answer, BulkAnswer, BulkItemAnswer, ItemOutcome, ProvisionAnswer};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
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

    /// 202 with the place where to ask for the outcome.
    pub(crate) fn accepted(&self, location: &str) -> Result<Response, Problem> {
        let mut response = self.respond(StatusCode::ACCEPTED)?;
        let location = HeaderValue::from_str(location).map_err(|error| Problem::internal(&error))?;
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
