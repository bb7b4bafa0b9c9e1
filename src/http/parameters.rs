//! The query string, parsed into the domain's types; a wrong or unknown parameter is told by name.

use std::str::FromStr;

use aggregates::primitives::{Actor, Invalid, ResellerId, Timestamp};
use axum::extract::Query;
use axum::http::Uri;
use chrono::NaiveDate;

use super::error::Problem;

/// The parameters of one request. Each is taken once; what is left over in the end is unknown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    left: Vec<(String, String)>,
}

impl Parameters {
    /// The parameters of a request's address.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Problem> {
        let Query(left) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::invalid("", error.body_text()))?;
        match left.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
            Some((name, _)) => Err(wrong(&name.replace('\0', ""), "must not contain U+0000")),
            None => Ok(Self { left }),
        }
    }

    /// Takes a parameter out; `None` where it is absent.
    pub(crate) fn take<T: FromStr<Err: ToString>>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let Some(at) = self.left.iter().position(|(left, _)| left == name) else { return Ok(None) };
        let (_, value) = self.left.swap_remove(at);
        if self.left.iter().any(|(left, _)| left == name) {
            return Err(wrong(name, "must be given once"));
        }
        value.parse().map(Some).map_err(|error: T::Err| wrong(name, error.to_string()))
    }

    /// Ends the taking: whatever is left is unknown.
    pub(crate) fn end(self) -> Result<(), Problem> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(wrong(name, "unknown parameter")),
        }
    }
}

/// A parameter that is not right.
pub(crate) fn wrong(name: &str, detail: impl Into<String>) -> Problem {
    Problem::invalid(format!("/{name}"), format!("query parameter {name}: {}", detail.into()))
}

/// Whose affairs are meant where they are a reseller's own, an upline's not: the operator's staff names a reseller (or none),
/// a reseller means itself, and any other that it names is, for it, not there.
pub(crate) fn own_or_named(actor: &Actor, named: Option<ResellerId>) -> Result<Option<ResellerId>, Problem> {
    match (actor.tenant, named) {
        (None, named) => Ok(named),
        (Some(own), None) => Ok(Some(own)),
        (Some(own), Some(named)) if own == named => Ok(Some(own)),
        (Some(_), Some(_)) => Err(Problem::not_found("reseller")),
    }
}

/// One end of a stretch of time as it is written: a time, or a date, which is a day of some time zone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Day(NaiveDate),
    Time(Timestamp),
}

impl FromStr for End {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse::<NaiveDate>() {
            Ok(day) => Ok(Self::Day(day)),
            Err(_) => text.parse().map(Self::Time),
        }
    }
}

impl End {
    /// As a `from`: of a date, the beginning.
    pub(crate) fn since(self, start_of: impl Fn(NaiveDate) -> Timestamp) -> Timestamp {
        match self {
            Self::Day(day) => start_of(day),
            Self::Time(time) => time,
        }
    }

    /// As a `to`, not included: of a date, the end.
    pub(crate) fn until(self, start_of: impl Fn(NaiveDate) -> Timestamp) -> Timestamp {
        match self {
            Self::Day(day) => day.succ_opt().map_or(Timestamp::MAX, start_of),
            Self::Time(time) => time,
        }
    }
}

/// A `from`: a time, or a UTC date, of which it is the beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since(pub Timestamp);

/// A `to`, not included: a time, or a UTC date, which is included whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until(pub Timestamp);

impl FromStr for Since {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(|end: End| Self(end.since(Timestamp::start_of)))
    }
}

impl FromStr for Until {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(|end: End| Self(end.until(Timestamp::start_of)))
    }
}
