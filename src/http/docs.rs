//! GET `/docs`: the description as a page on which it can be tried out. Swagger UI, whose files are part of the binary: the page
//! asks no other server for anything.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::Config;

use super::Shared;
use super::error::Problem;

static PAGE: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json").persist_authorization(false).try_it_out_enabled(true)));

/// The page styles itself, and draws its icons from its own text; anything else comes from here or not at all.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// The page and its files. Not part of what is described: it is the description.
pub(super) fn router() -> Router<Shared> {
    Router::new()
        // The page names its files relative to itself.
        .route("/docs", get(async || (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "/docs/")])))
        .route("/docs/", get(async || file("index.html")))
        .route("/docs/{file}", get(async |Path(name): Path<String>| file(&name)))
}

fn file(name: &str) -> Result<Response, Problem> {
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, Arc::clone(&PAGE)) else {
        return Err(Problem::not_found("file"));
    };
    let kind = HeaderValue::from_str(&file.content_type).map_err(|error| Problem::internal(&error))?;
    let mut response = file.bytes.into_owned().into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    Ok(response)
}
