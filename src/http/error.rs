//! Problem documents (RFC 9457): one small type, one table from code to status.
//!
//! Every "no" of this service is one of these: the ledger's refusals with their members, and what is turned away before.

use std::borrow::Cow;

use aggregates::rejection::{Denial, Rejection};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::access::AccessError;
use crate::engine::EngineError;

/// Where in the log an answer stands.
pub(crate) const POSITION: HeaderName = HeaderName::from_static("tallytree-position");
/// Marks the first answer to a key, given again.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A problem document on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: Cow<'static, str>,
    detail: String,
    members: Map<String, Value>,
    position: Option<u64>,
    replayed: bool,
}

/// The status and the title of a code.
pub(crate) fn kind(code: &str) -> (StatusCode, &'static str) {
    match code {
        "malformed" => (StatusCode::BAD_REQUEST, "The body is not JSON"),
        "tenant_required" => (StatusCode::BAD_REQUEST, "A tenant must be named"),
        "unauthenticated" => (StatusCode::UNAUTHORIZED, "Not authenticated"),
        "insufficient_credits" => (StatusCode::PAYMENT_REQUIRED, "Insufficient credits"),
        "forbidden" => (StatusCode::FORBIDDEN, "Not yours to do"),
        "declared_cost_not_allowed" => (StatusCode::FORBIDDEN, "Declared cost not allowed"),
        "not_found" => (StatusCode::NOT_FOUND, "Not found"),
        "method_not_allowed" => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
        "reseller_inactive" => (StatusCode::CONFLICT, "Reseller not active"),
        "client_inactive" => (StatusCode::CONFLICT, "Client not active"),
        "product_retired" => (StatusCode::CONFLICT, "Product retired"),
        "invalid_transition" => (StatusCode::CONFLICT, "Not possible in this state"),
        "already_exists" => (StatusCode::CONFLICT, "Already exists"),
        "duplicate_reference" => (StatusCode::CONFLICT, "Reference already credited"),
        "tier_not_entitled" => (StatusCode::CONFLICT, "Tier not entitled"),
        "body_too_slow" => (StatusCode::REQUEST_TIMEOUT, "Body too slow"),
        "body_too_large" => (StatusCode::PAYLOAD_TOO_LARGE, "Body too large"),
        "invalid" => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid request"),
        "limit_exceeded" => (StatusCode::UNPROCESSABLE_ENTITY, "Limit exceeded"),
        "overflow" => (StatusCode::UNPROCESSABLE_ENTITY, "Too many credits"),
        "referral_invalid" => (StatusCode::UNPROCESSABLE_ENTITY, "Referral code not valid"),
        "idempotency_required" => (StatusCode::UNPROCESSABLE_ENTITY, "Idempotency key required"),
        "idempotency_key_reused" => (StatusCode::UNPROCESSABLE_ENTITY, "Idempotency key reused"),
        "reseller_frozen" => (StatusCode::LOCKED, "Reseller frozen"),
        "provisioning_held" => (StatusCode::LOCKED, "Provisioning held"),
        "rate_limited" => (StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
        "too_busy" => (StatusCode::SERVICE_UNAVAILABLE, "Too busy"),
        "outcome_unknown" => (StatusCode::SERVICE_UNAVAILABLE, "Outcome not known yet"),
        "view_behind" => (StatusCode::SERVICE_UNAVAILABLE, "Read model behind"),
        "not_ready" => (StatusCode::SERVICE_UNAVAILABLE, "Not ready"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
    }
}

impl Problem {
    /// A problem by its code, with a sentence.
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code: Cow::Borrowed(code), detail: detail.into(), members: Map::new(), position: None, replayed: false }
    }

    /// Its code.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// Its sentence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// What it says beyond that, a JSON object.
    pub(crate) fn members(&self) -> String {
        Value::Object(self.members.clone()).to_string()
    }

    /// The position of the log that it was decided on.
    pub(crate) fn position(&self) -> Option<u64> {
        self.position
    }

    /// Whether it was answered before, to the same key.
    pub(crate) fn is_replayed(&self) -> bool {
        self.replayed
    }

    /// There is no such thing, or none that this caller may see.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::from(&Denial::NotFound { what: what.to_owned() })
    }

    /// A wrong value, by a JSON pointer to where it stands.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let errors = json!([{ "pointer": pointer.into(), "detail": detail }]);
        Self::new("invalid", detail).with("errors", errors)
    }

    /// Adds a member.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// Says at which position of the log it was decided, and whether it is the first answer to a key given again.
    pub(crate) fn decided_at(mut self, position: u64, replayed: bool) -> Self {
        self.position = Some(position);
        self.replayed = replayed;
        self
    }

    /// Whether it has this code.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.code == code
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        kind(&self.code).0
    }

    /// A fault of ours: told to the log in full, to the client not at all.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new("internal", "something went wrong on our side")
    }
}

impl From<&Rejection> for Problem {
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::ItemRefused { index, refusal } => Self::from(refusal.as_ref()).with("index", json!(index)),
            Rejection::NotRefundable { refundable } => {
                Self::new("limit_exceeded", rejection.to_string()).with("refundable", json!(refundable))
            }
            Rejection::Invalid { pointer, detail } => Self::invalid(pointer.as_str(), detail.as_str()),
            other => Self::tagged(serde_json::to_value(other), other.to_string()),
        }
    }
}

impl From<&Denial> for Problem {
    fn from(denial: &Denial) -> Self {
        match denial {
            Denial::Forbidden { detail } => Self::new("forbidden", detail.as_str()),
            Denial::NotFound { .. } => Self::new("not_found", denial.to_string()),
        }
    }
}

impl Problem {
    /// From what serialises as `{"code": …, members…}`.
    fn tagged(value: Result<Value, serde_json::Error>, detail: String) -> Self {
        match value {
            Ok(Value::Object(mut members)) => match members.remove("code") {
                Some(Value::String(code)) => {
                    // A problem's own `status` is that of HTTP.
                    if let Some(status) = members.remove("status") {
                        members.insert("current_status".to_owned(), status);
                    }
                    Self { code: Cow::Owned(code), detail, members, position: None, replayed: false }
                }
                _ => Self::internal(&"a refusal without a code"),
            },
            Ok(_) => Self::internal(&"a refusal that is no object"),
            Err(error) => Self::internal(&error),
        }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            // A node that has stopped promises the same as one that is busy: nothing was done.
            EngineError::TooBusy | EngineError::StoreUnavailable => Self::new("too_busy", error.to_string()),
            // Why is for the operator, in the node's log: it may name what this caller must not see.
            EngineError::Stopped(_) => Self::new("too_busy", "this node takes no commands; nothing was done"),
            EngineError::OutcomeUnknown => Self::new("outcome_unknown", error.to_string()),
        }
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        match &error {
            AccessError::Unauthenticated => Self::new("unauthenticated", error.to_string()),
            AccessError::TenantRequired => Self::new("tenant_required", error.to_string()),
            AccessError::NoSuchTenant => Self::not_found("tenant"),
            AccessError::Directory(directory) => {
                tracing::error!(error = %directory, "tokens could not be read");
                Self::new("too_busy", "tokens cannot be read at the moment; nothing was done, try again")
            }
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (status, title) = kind(&self.code);
        let mut map = serializer.serialize_map(Some(5 + self.members.len()))?;
        map.serialize_entry("type", &format_args!("urn:tallytree:problem:{}", self.code))?;
        map.serialize_entry("title", title)?;
        map.serialize_entry("status", &status.as_u16())?;
        map.serialize_entry("detail", &self.detail)?;
        map.serialize_entry("code", &self.code)?;
        for (name, value) in &self.members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(position) = self.position {
            headers.insert(POSITION, HeaderValue::from(position));
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tallytree\""));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
