//! Queries of figures: `/analytics…`. `reseller_id=` scopes each of them to a subtree; a reseller is always scoped to its own.

use aggregates::primitives::{ResellerId, Timestamp};
use axum::extract::State;
use axum::response::Response;
use projections::ScopedRead;
use projections::analytics::calendar::{PERIODS_MAX, Zone};
use projections::analytics::ranking::{self, RankingRequest};
use projections::analytics::standing;
use projections::analytics::trends::{self, TrendRequest};
use projections::subject::Subject;
use serde::Serialize;

use super::{NamedMoment, QueryRequest, found, shown};
use crate::audit::as_of::AsOf;
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::parameters::{End, wrong};

/// Takes `reseller_id`, and begins reading about that reseller: the caller itself, or the whole network, where none is named.
pub(crate) async fn begin(service: &Shared, request: &mut QueryRequest) -> Result<(ScopedRead, Subject), Problem> {
    let (read, subject, []) = begin_at(service, request, []).await?;
    Ok((read, subject))
}

/// The same at moments of the past.
pub(super) async fn begin_at<const MOMENTS: usize>(
    service: &Shared,
    request: &mut QueryRequest,
    moments: [NamedMoment; MOMENTS],
) -> Result<(ScopedRead, Subject, [AsOf; MOMENTS]), Problem> {
    let named: Option<ResellerId> = request.parameters.take("reseller_id")?;
    let (mut read, then) = request.begin_at(service, moments).await?;
    match Subject::find(&mut read, named).await? {
        Some(subject) => Ok((read, subject, then)),
        None => Err(Problem::not_found("reseller").decided_at(read.position(), false)),
    }
}

/// Takes `from` and `to`; dates are days of the zone.
pub(crate) fn stretch(
    request: &mut QueryRequest,
    zone: Zone,
) -> Result<(Option<Timestamp>, Option<Timestamp>), Problem> {
    let from: Option<End> = request.parameters.take("from")?;
    let to: Option<End> = request.parameters.take("to")?;
    let from = from.map(|from| from.since(|day| zone.start_of(day)));
    let to = to.map(|to| to.until(|day| zone.start_of(day)));
    match (from, to) {
        (Some(from), Some(to)) if from > to => Err(wrong("from", "must not lie after to")),
        stretch => Ok(stretch),
    }
}

fn trend(service: &Shared, request: &mut QueryRequest) -> Result<TrendRequest, Problem> {
    let zone = request.parameters.take("tz")?.unwrap_or(Zone::UTC);
    let interval = request.parameters.take("interval")?.unwrap_or_default();
    let (from, to) = stretch(request, zone)?;
    Ok(TrendRequest { interval, zone, from, to, now: service.clock.now() })
}

fn trends_shown(read: &ScopedRead, periods: Option<Vec<impl Serialize>>) -> Result<Response, Problem> {
    match periods {
        Some(periods) => shown(read.position(), &periods),
        None => {
            Err(wrong("from", format!("with this interval there would be more than {PERIODS_MAX} periods up to `to`")))
        }
    }
}

/// GET `/analytics/top-resellers`
pub(crate) async fn top_resellers(
    State(service): State<Shared>,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    let (from, to) = stretch(&mut request, Zone::UTC)?;
    let wanted = RankingRequest {
        limit: request.limit()?,
        sort: request.parameters.take("sort")?.unwrap_or_default(),
        from,
        to,
    };
    let (mut read, subject) = begin(&service, &mut request).await?;
    let top = ranking::top(&mut read, &subject, &wanted).await?;
    shown(read.position(), &top)
}

/// GET `/analytics/tier-snapshot`
pub(crate) async fn tier_snapshot(
    State(service): State<Shared>,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    let (from, to) = stretch(&mut request, Zone::UTC)?;
    let (mut read, subject) = begin(&service, &mut request).await?;
    let snapshot = standing::tiers(&mut read, &subject, from, to).await?;
    shown(read.position(), &snapshot)
}

/// GET `/analytics/credit-trends`
pub(crate) async fn credit_trends(
    State(service): State<Shared>,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    let wanted = trend(&service, &mut request)?;
    let (mut read, subject) = begin(&service, &mut request).await?;
    let trends = trends::credits(&mut read, &subject, &wanted).await?;
    trends_shown(&read, trends)
}

/// GET `/analytics/credits-outstanding`
pub(crate) async fn credits_outstanding(
    State(service): State<Shared>,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    let Some(moment) = request.moment()? else {
        let (mut read, subject) = begin(&service, &mut request).await?;
        let outstanding = standing::outstanding(&mut read, &subject).await?;
        return shown(read.position(), &outstanding);
    };
    let (mut read, subject, [then]) = begin_at(&service, &mut request, [moment]).await?;
    let outstanding = standing::outstanding_at(&mut read, &subject, then.position).await?;
    shown(read.position(), &outstanding)
}

/// GET `/analytics/resellers/{id}/stats`
pub(crate) async fn reseller_stats(
    State(service): State<Shared>,
    mut request: QueryRequest<ResellerId>,
) -> Result<Response, Problem> {
    let mut read = request.begin(&service).await?;
    let stats = standing::stats(&mut read, request.path, service.clock.now()).await?;
    found(read.position(), "reseller", stats.as_ref())
}

/// GET `/analytics/balance-history`
pub(crate) async fn balance_history(
    State(service): State<Shared>,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    let wanted = trend(&service, &mut request)?;
    let (mut read, subject) = begin(&service, &mut request).await?;
    let balances = trends::balances(&mut read, &subject, &wanted).await?;
    trends_shown(&read, balances)
}

/// GET `/analytics/clients/signup-trends`
pub(crate) async fn signup_trends(
    State(service): State<Shared>,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    let wanted = trend(&service, &mut request)?;
    let (mut read, subject) = begin(&service, &mut request).await?;
    let signups = trends::signups(&mut read, &subject, &wanted).await?;
    trends_shown(&read, signups)
}

/// GET `/analytics/clients/status-breakdown`
pub(crate) async fn status_breakdown(
    State(service): State<Shared>,
    mut request: QueryRequest,
) -> Result<Response, Problem> {
    let (mut read, subject) = begin(&service, &mut request).await?;
    let clients = standing::clients(&mut read, &subject).await?;
    shown(read.position(), &clients)
}
