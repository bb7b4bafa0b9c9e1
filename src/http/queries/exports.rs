//! Exports: `/exports/{kind}`, sent as they are made.

use std::time::Duration;

use aggregates::month::Month;
use aggregates::primitives::ResellerId;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::{QueryRequest, VIEW_TIME_MAX};
use crate::finance::exports::{Export, ExportError, Format, Kind, Order};
use crate::http::Shared;
use crate::http::error::{POSITION, Problem};
use crate::http::parameters::{Since, Until, wrong};

/// For how long a piece of an export waits for its read models; they have come that far before.
const PIECE_TIME_MAX: Duration = VIEW_TIME_MAX;

macro_rules! handlers {
    ($($(#[$doc:meta])* $name:ident = $kind:expr),+ $(,)?) => {$(
        $(#[$doc])*
        pub(crate) async fn $name(State(service): State<Shared>, request: QueryRequest) -> Result<Response, Problem> {
            export(&service, request, $kind).await
        }
    )+};
}

handlers!(
    /// GET `/exports/transactions`
    transactions = Kind::Transactions,
    /// GET `/exports/balances`
    balances = Kind::Balances,
    /// GET `/exports/commissions`
    commissions = Kind::Commissions,
    /// GET `/exports/statements`
    statements = Kind::Statements,
    /// GET `/exports/journal`
    journal = Kind::Journal,
);

async fn export(service: &Shared, mut request: QueryRequest, kind: Kind) -> Result<Response, Problem> {
    let parameters = &mut request.parameters;
    let from = parameters.take("from")?.map(|Since(time)| time);
    let to = parameters.take("to")?.map(|Until(time)| time);
    let month: Option<Month> = parameters.take("month")?;
    let order = Order {
        kind,
        format: parameters.take::<Format>("format")?,
        from,
        to,
        month,
        reseller: parameters.take::<ResellerId>("reseller_id")?,
        cursor: parameters.take("cursor")?,
    };
    let scope = request.scope()?;
    let mut export = Export::open(&service.views, scope, &order, request.min_position, PIECE_TIME_MAX).await?;
    let position = export.position();
    // Before the answer begins, so that what is wrong from the start can still be told.
    let first = export.next().await?;
    let stream = futures_util::stream::try_unfold((first, export), |(piece, mut export)| async move {
        let Some(piece) = piece else { return Ok(None) };
        match export.next().await {
            Ok(next) => Ok(Some((Bytes::from(piece), (next, export)))),
            Err(error) => {
                // The answer has begun: all that can be done is to break it off, so that nobody takes it for the whole.
                tracing::error!(%error, "an export broke off");
                Err(std::io::Error::other(error))
            }
        }
    });
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(order.form()?.media_type()));
    headers.insert(POSITION, HeaderValue::from(position));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    // A page is for the eyes: it may show itself, and run and load nothing.
    let shown = order.form()? == Format::Html;
    let disposition = if shown { "inline" } else { "attachment" };
    insert(headers, CONTENT_DISPOSITION, &format!("{disposition}; filename=\"{}\"", order.file_name(position)))?;
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if shown {
        let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

fn insert(headers: &mut axum::http::HeaderMap, name: HeaderName, value: &str) -> Result<(), Problem> {
    let value = HeaderValue::from_str(value).map_err(|error| Problem::internal(&error))?;
    headers.insert(name, value);
    Ok(())
}

impl From<ExportError> for Problem {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Invalid { parameter, detail } => wrong(parameter, detail),
            ExportError::Forbidden(detail) => Self::new("forbidden", detail),
            ExportError::NoSuchReseller => Self::not_found("reseller"),
            ExportError::View(error) => error.into(),
            ExportError::Sheet(error) => Self::internal(&error),
        }
    }
}
