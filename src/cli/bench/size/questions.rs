//! What is asked: every kind of query with its variety of callers, scopes, stretches of time, pages and orders, drawn at random
//! from a fixed seed.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::Context;
use chrono::{DateTime, Days, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde_json::Value;

use super::network::Network;
use crate::cli::bench::load::{Connection, Request};

/// How many different questions there are for each kind and scope.
const QUESTIONS: usize = 300;
/// How far back questions go, at most; the network's history is some months long.
const DAYS: u64 = 260;

/// Every kind, in the order in which they are measured.
pub(super) const KINDS: [Kind; 6] =
    [Kind::Healthz, Kind::Dashboard, Kind::Tree, Kind::Activity, Kind::Trend, Kind::TopResellers];
/// Every scope.
const SCOPES: [Scope; 3] = [Scope::Platform, Scope::Large, Scope::Small];

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Nothing that takes any work, nor a token, a limit or a snapshot: what an answer costs on this machine at the least.
    Healthz,
    /// The dashboard.
    Dashboard,
    /// A page of the downline's tree, a first or a later one.
    Tree,
    /// A page of the activity feed, a first or a later one.
    Activity,
    /// Credits, balances or sign-ups over time.
    Trend,
    /// The top resellers by any figure.
    TopResellers,
}

/// About whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    /// Everybody.
    Platform,
    /// One of the largest subtrees.
    Large,
    /// A reseller without a downline.
    Small,
}

impl Kind {
    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Healthz => "/healthz, for comparison",
            Self::Dashboard => "dashboard",
            Self::Tree => "tree page",
            Self::Activity => "activity page",
            Self::Trend => "any trend",
            Self::TopResellers => "top resellers",
        }
    }

    /// About whom it is asked.
    pub(super) fn scopes(self) -> &'static [Scope] {
        if self == Self::Healthz { &[Scope::Platform] } else { &SCOPES }
    }

    /// How long 99 of 100 may take, in milliseconds. `None` for what is there for comparison.
    pub(super) fn bound_ms(self) -> Option<f64> {
        match self {
            Self::Healthz => None,
            Self::Dashboard => Some(5.0),
            Self::Tree | Self::Activity => Some(10.0),
            Self::Trend => Some(20.0),
            Self::TopResellers => Some(50.0),
        }
    }
}

impl Scope {
    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Platform => "the platform",
            Self::Large => "a large subtree",
            Self::Small => "a small reseller",
        }
    }
}

/// What people call a kind of query about a scope.
pub(super) fn name(kind: Kind, scope: Scope) -> String {
    match kind {
        Kind::Healthz => kind.name().to_owned(),
        _ => format!("{}, {}", kind.name(), scope.name()),
    }
}

/// Questions of a kind about a scope.
pub(super) async fn about(
    network: &Network,
    address: SocketAddr,
    kind: Kind,
    scope: Scope,
) -> anyhow::Result<Vec<Request>> {
    let mut random = StdRng::seed_from_u64(7);
    let mut connection = Connection::open(address).await?;
    let mut questions = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        let (token, about) = network.somebody(scope, &mut random)?;
        questions.push(question(kind, token, about, &mut connection, &mut random).await?);
    }
    Ok(questions)
}

async fn question(
    kind: Kind,
    token: &str,
    about: Option<&str>,
    connection: &mut Connection,
    random: &mut StdRng,
) -> anyhow::Result<Request> {
    let mut path = match kind {
        Kind::Healthz => "/healthz".to_owned(),
        Kind::Dashboard => "/reseller-network/dashboard".to_owned(),
        Kind::Tree => tree(random),
        Kind::Activity => activity(random),
        Kind::Trend => trend(random),
        Kind::TopResellers => top_resellers(random),
    };
    if let Some(about) = about {
        let name = if kind == Kind::Tree { "root" } else { "reseller_id" };
        let mark = if path.contains('?') { '&' } else { '?' };
        // Writing to a String cannot fail.
        let _ = write!(path, "{mark}{name}={about}");
    }
    let question = Request::query(&path, token)?;
    if matches!(kind, Kind::Tree | Kind::Activity) && random.random_bool(0.5) {
        // A later page, where there is one.
        let answer: Value = connection.ask(&question).await?.json().with_context(|| path.clone())?;
        if let Some(path) = later_page(&path, &answer) {
            return Request::query(&path, token);
        }
    }
    Ok(question)
}

/// The page after this answer.
fn later_page(path: &str, answer: &Value) -> Option<String> {
    if let Some(cursor) = answer.get("next_cursor").and_then(Value::as_str) {
        return Some(format!("{path}&cursor={cursor}"));
    }
    // Of a tree: more children of the first node whose children are not all shown.
    let (root, cursor) = more_children(answer)?;
    let mut path: Vec<String> = path.split('&').filter(|part| !part.starts_with("root=")).map(str::to_owned).collect();
    path.extend(root.map(|root| format!("root={root}")));
    path.push(format!("cursor={cursor}"));
    Some(path.join("&"))
}

/// A node, breadth first, and where its children go on; the platform has no id.
fn more_children(answer: &Value) -> Option<(Option<&str>, &str)> {
    let mut nodes = VecDeque::from([answer]);
    while let Some(node) = nodes.pop_front() {
        if let Some(cursor) = node.get("children_cursor").and_then(Value::as_str) {
            return Some((node.get("id").and_then(Value::as_str), cursor));
        }
        nodes.extend(node.get("children").and_then(Value::as_array).into_iter().flatten());
    }
    None
}

fn tree(random: &mut StdRng) -> String {
    let (depth, limit) = (random.random_range(1..=10), pick(&["20", "50", "100"], random));
    format!("/reseller-network/downline/tree?depth={depth}&limit={limit}")
}

fn activity(random: &mut StdRng) -> String {
    let limit = pick(&["20", "50", "100"], random);
    let mut path = format!("/reseller-network/activity?limit={limit}");
    if random.random_bool(0.3) {
        path.push_str("&kind=");
        path.push_str(pick(
            &["provisioned", "low_credit", "credits_added", "tier_changed", "reseller_registered"],
            random,
        ));
    }
    path.push_str(&stretch(random));
    path
}

fn trend(random: &mut StdRng) -> String {
    let of = pick(&["credit-trends", "balance-history", "clients/signup-trends"], random);
    let interval = pick(&["daily", "weekly", "monthly", "yearly"], random);
    format!("/analytics/{of}?interval={interval}{}", stretch(random))
}

fn top_resellers(random: &mut StdRng) -> String {
    let sort = pick(&["provisioned", "added", "acquisitions", "commissions"], random);
    let limit = pick(&["10", "50"], random);
    format!("/analytics/top-resellers?limit={limit}&sort={sort}{}", stretch(random))
}

/// No stretch of time, one of whole days, or one that begins and ends within days.
fn stretch(random: &mut StdRng) -> String {
    let back = random.random_range(1..DAYS);
    let length = random.random_range(0..back);
    let now = Utc::now();
    let ago = |days| now.checked_sub_days(Days::new(days)).unwrap_or(now);
    let (from, to) = (ago(back), ago(back - length));
    match random.random_range(0..3) {
        0 => String::new(),
        1 => format!("&from={}&to={}", from.date_naive(), to.date_naive()),
        _ => {
            let time = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
            format!("&from={}&to={}", time(from), time(to))
        }
    }
}

fn pick<'text>(from: &[&'text str], random: &mut StdRng) -> &'text str {
    from.choose(random).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_later_page_goes_on_where_the_first_one_ended() {
        let feed = json!({ "data": [], "next_cursor": "c" });
        assert_eq!(later_page("/a?limit=2", &feed).as_deref(), Some("/a?limit=2&cursor=c"));
        let whole = json!({ "id": "1", "children": [{ "id": "2", "children": [] }], "children_cursor": null });
        assert_eq!(later_page("/t?depth=2&root=1", &whole), None);
        let tree = json!({ "children": [{ "id": "2", "children": [], "children_cursor": "c" }] });
        assert_eq!(later_page("/t?depth=2&root=1", &tree).as_deref(), Some("/t?depth=2&root=2&cursor=c"));
        let platform = json!({ "children": [], "children_cursor": "p" });
        assert_eq!(later_page("/t?depth=2", &platform).as_deref(), Some("/t?depth=2&cursor=p"));
    }

    #[test]
    fn a_stretch_of_time_never_ends_before_it_begins() {
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..500 {
            let stretch = stretch(&mut random);
            let ends: Vec<&str> = stretch.split(['=', '&']).skip(2).step_by(2).collect();
            if let [from, to] = ends.as_slice() {
                assert!(from <= to, "{stretch}");
            } else {
                assert_eq!(stretch, "");
            }
        }
    }
}
