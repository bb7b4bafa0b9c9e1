//! Listening to the feed: nothing missing and nothing twice, whatever happens to the connection, the server, or somebody else.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::listener::{FEED, Listener, PATIENCE};
use crate::common::app::TestApp;
use crate::common::process::{self, Process};
use aggregates::primitives::Role;
use tallytree::access::directory::TokenOrder;
use tallytree::clock::Clock;

/// The listeners of the big test, where the machine allows as many connections.
const LISTENERS: usize = 1_000;
/// How many entries a listener may be behind.
const BEHIND_MAX: usize = 10_000;

fn reseller_token(app: &TestApp, id: &str) -> String {
    app.token(&TokenOrder { tenant: Some(id.parse().expect("an id")), ..TokenOrder::of(Role::Reseller) })
}

/// Listens once the read models have come as far as anybody was told.
async fn listen(app: &TestApp, token: &str, path: &str, last: Option<&str>) -> Listener {
    app.admin().get("/audit/head").await.ok();
    Listener::at(app.address(), token, path, last).await
}

fn amounts(entries: &[Value]) -> Vec<i64> {
    entries.iter().map(|entry| entry["amount"].as_i64().expect("an amount")).collect()
}

async fn fund(app: &TestApp, reseller: &str, amounts: impl IntoIterator<Item = i64>) {
    for amount in amounts {
        app.fund(reseller, amount).await;
    }
}

#[tokio::test]
async fn who_listens_hears_what_happens_in_its_sight_and_nothing_else() {
    let app = TestApp::start().await;
    let top = app.top_level("top", "gold").await;
    let low = app.child_of(&top, "low", "gold").await;
    let other = app.top_level("other", "gold").await;
    fund(&app, &low, [1]).await;
    let (staff, upper) = (app.token(&TokenOrder::of(Role::Auditor)), reseller_token(&app, &top));
    let mut all = listen(&app, &staff, FEED, None).await;
    let mut above = listen(&app, &upper, FEED, None).await;
    let mut below = listen(&app, &reseller_token(&app, &low), FEED, None).await;
    let mut about = listen(&app, &upper, &format!("{FEED}?reseller_id={low}"), None).await;
    let mut kind = listen(&app, &staff, &format!("{FEED}?kind=credits_removed"), None).await;
    fund(&app, &low, [2]).await;
    fund(&app, &other, [3]).await;
    fund(&app, &top, [4]).await;
    let body = json!({"amount": 5, "kind": "correction", "reason": "mistake"});
    app.admin().post(format!("/wallets/{low}/credits/remove"), body).fresh_key().await.created();
    let moved =
        |entries: &[Value]| -> Vec<i64> { amounts(entries).into_iter().filter(|amount| amount.abs() < 100).collect() };
    let heard = all.take(5).await;
    assert_eq!(moved(&heard), [2, 3, 4, -5]);
    assert_eq!(heard[4]["kind"], "low_credit");
    assert_eq!(moved(&above.take(3).await), [2, 4, -5]);
    assert_eq!(moved(&below.take(2).await), [2, -5]);
    assert_eq!(moved(&about.take(2).await), [2, -5]);
    assert_eq!(moved(&kind.take(1).await), [-5]);
    // What is heard is what the page shows.
    let page = app.auditor().get(format!("{FEED}?limit=5")).await.ok();
    let mut newest = page["data"].as_array().expect("entries").clone();
    newest.reverse();
    assert_eq!(heard, newest);
}

#[tokio::test]
async fn what_reaches_somebody_is_heard_by_it() {
    let app = TestApp::start().await;
    let top = app.top_level("top", "gold").await;
    let low = app.child_of(&top, "low", "gold").await;
    let mut listener = listen(&app, &reseller_token(&app, &low), FEED, None).await;
    app.admin().post("/products", json!({"sku": "pro", "name": "Pro", "base_cost": 1000})).await.created();
    app.reseller(&top).put("/reseller-network/settings", json!({"margin_percent": "10"})).await.ok();
    app.reseller(&top).post(format!("/resellers/{low}/freeze"), json!({})).await.ok();
    let kinds: Vec<Value> = listener.take(3).await.iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["product_published", "cost_changed", "subtree_frozen"]);
}

#[tokio::test]
async fn who_comes_back_hears_everything_since_and_nothing_twice() {
    let app = TestApp::start().await;
    let reseller = app.top_level("someone", "gold").await;
    let token = reseller_token(&app, &reseller);
    let mut listener = listen(&app, &token, FEED, None).await;
    fund(&app, &reseller, 1..=5).await;
    let mut heard = amounts(&listener.take(3).await);
    let last = listener.last.clone();
    drop(listener);
    fund(&app, &reseller, 6..=8).await;
    let mut listener = listen(&app, &token, FEED, last.as_deref()).await;
    fund(&app, &reseller, 9..=10).await;
    heard.extend(amounts(&listener.take(7).await));
    assert_eq!(heard, (1..=10).collect::<Vec<_>>());

    // The server ends the stream when it is told to stop, and gives the same ids when it is back.
    let (app, end) = tokio::join!(app.restart(), listener.next());
    assert!(end.is_none(), "nothing more was said");
    fund(&app, &reseller, 11..=12).await;
    let mut listener = listen(&app, &token, FEED, listener.last.as_deref()).await;
    fund(&app, &reseller, [13]).await;
    assert_eq!(amounts(&listener.take(3).await), [11, 12, 13]);
}

#[tokio::test]
async fn a_stream_takes_no_pages_and_no_foreign_ids() {
    let app = TestApp::start().await;
    let reseller = app.top_level("someone", "gold").await;
    let other = app.top_level("other", "gold").await;
    let person = app.reseller(&reseller);
    let stream = |query: &str| person.get(format!("{FEED}{query}")).header("accept", "text/event-stream");
    for query in ["?limit=5", "?cursor=5", "?from=2020-01-01", "?kind=nonsense"] {
        stream(query).await.problem(422, "invalid");
    }
    stream("").header("last-event-id", "nonsense").await.problem(422, "invalid");
    stream("").header("last-event-id", "999999:0").await.problem(503, "view_behind");
    let nobody = "01900000-0000-7000-8000-000000000000";
    let elsewhere = stream(&format!("?reseller_id={other}")).await.problem(404, "not_found");
    assert_eq!(elsewhere, stream(&format!("?reseller_id={nobody}")).await.problem(404, "not_found"));
    app.payments().get(FEED).header("accept", "text/event-stream").await.problem(403, "forbidden");
    app.stranger().get(FEED).header("accept", "text/event-stream").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_its_stream() {
    let app = TestApp::start().await;
    // What is told is told before it listens.
    app.top_level("someone", "gold").await;
    let token = app.token(&TokenOrder::of(Role::Finance));
    let mut listener = listen(&app, &token, FEED, None).await;
    let directory = app.directory();
    let key = token.split('_').nth(1).expect("a key");
    assert!(directory.revoke(key, Clock::System.now()).await.expect("the directory"));
    let began = Instant::now();
    assert!(listener.next().await.is_none());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// Sells so many things to nobody in particular, in bulks.
async fn sell(app: &TestApp, reseller: &str, mut items: usize) {
    while items > 0 {
        let bulk = items.min(10_000);
        items -= bulk;
        let body = json!({"atomic": false, "items": vec![json!({"cost": 1}); bulk]});
        let answer = app.application(reseller).post(format!("/wallets/{reseller}/provisions/bulk"), body).await.ok();
        assert_eq!(answer["accepted"], bulk);
    }
}

#[tokio::test]
async fn who_is_more_than_ten_thousand_entries_behind_is_sent_away() {
    let app = TestApp::start().await;
    let reseller = app.top_level("someone", "gold").await;
    app.fund(&reseller, 1_000_000).await;
    let token = reseller_token(&app, &reseller);
    let first = app.reseller(&reseller).get(format!("{FEED}?limit=1")).await.ok();
    let first = first["data"][0]["id"].as_str().expect("an id").to_owned();
    sell(&app, &reseller, BEHIND_MAX).await;
    // Exactly as many as one may be behind.
    let page = app.reseller(&reseller).get(format!("{FEED}?limit=1")).await.ok();
    let newest = page["data"][0]["id"].as_str().expect("an id").to_owned();
    let mut listener = listen(&app, &token, FEED, Some(&first)).await;
    let entries = listener.take(BEHIND_MAX).await;
    assert_eq!(entries.last().expect("the newest")["id"], newest);
    app.fund(&reseller, 1).await;
    listener.next().await.expect("it listens on");
    let late = app.reseller(&reseller).get(FEED).header("accept", "text/event-stream").header("last-event-id", &first);
    assert_eq!(late.await.problem(422, "limit_exceeded")["entries_behind_max"], BEHIND_MAX);
    // Others' sales do not put anybody behind.
    let other = app.top_level("other", "gold").await;
    app.fund(&other, 5).await;
    let mut quiet = listen(&app, &reseller_token(&app, &other), FEED, Some(&first)).await;
    assert_eq!(quiet.take(3).await[2]["amount"], 5);
}

/// How many streams a process may have from itself, leaving some connections for everything else: the service gives streams half of
/// its connections, which are three quarters of the files, and both ends of each are here.
fn connections_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    files.map_or(80, |files: usize| (files.saturating_sub(200) / 2).min(files / 4 * 3 / 2 - 10))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_listeners_and_a_slow_one_each_hear_everything_of_theirs_once() {
    const TENANTS: usize = 20;
    const ROUNDS: usize = 15;
    let app = TestApp::start().await;
    let listeners = LISTENERS.min(connections_max());
    let mut resellers = Vec::new();
    for tenant in 0..TENANTS {
        let id = app.top_level(&format!("tenant-{tenant}"), "gold").await;
        app.fund(&id, 1_000).await;
        let token = reseller_token(&app, &id);
        resellers.push((id, token));
    }
    let staff = app.token(&TokenOrder::of(Role::Auditor));
    let slow = listen(&app, &staff, FEED, None).await;
    let mut hearing = JoinSet::new();
    for number in 0..listeners {
        // Every fortieth hears everybody.
        let (token, expected, own) = match number % 40 {
            0 => (staff.clone(), ROUNDS * TENANTS, None),
            _ => (resellers[number % TENANTS].1.clone(), ROUNDS, Some(resellers[number % TENANTS].0.clone())),
        };
        let mut listener = listen(&app, &token, FEED, None).await;
        hearing.spawn(async move {
            let entries = listener.take(expected).await;
            assert!(entries.iter().all(|entry| own.as_ref().is_none_or(|own| entry["reseller_id"] == own.as_str())));
            let mut positions: Vec<u64> = entries.iter().filter_map(|entry| entry["position"].as_u64()).collect();
            assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
            positions.dedup();
            assert_eq!(positions.len(), expected);
            Instant::now()
        });
    }
    eprintln!("{listeners} listen");
    let began = Instant::now();
    for round in 0..ROUNDS {
        let mut sales = JoinSet::new();
        for (id, _) in &resellers {
            let sale = json!({"cost": round + 1});
            let application = app.application(id);
            let path = format!("/wallets/{id}/provisions");
            sales.spawn(async move { application.post(path, sale).await.created() });
        }
        while let Some(sale) = sales.join_next().await {
            sale.expect("a sale");
        }
    }
    let sold = Instant::now();
    let mut last = sold;
    while let Some(heard) = hearing.join_next().await {
        last = last.max(heard.expect("it heard all"));
    }
    eprintln!("sold in {:?}, all heard {:?} later", sold - began, last - sold);
    assert!(last - sold < PATIENCE, "somebody was delayed: {:?}", last - sold);
    // The one that did not read until now has missed nothing either.
    let mut slow = slow;
    let entries = slow.take(ROUNDS * TENANTS).await;
    let page = app.auditor().get(format!("{FEED}?limit={}", ROUNDS * TENANTS)).await.ok();
    let mut newest = page["data"].as_array().expect("entries").clone();
    newest.reverse();
    assert_eq!(entries, newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_reads_too_slowly_loses_its_stream_and_delays_nobody() {
    let app = TestApp::start().await;
    let reseller = app.top_level("someone", "gold").await;
    app.fund(&reseller, 1_000_000).await;
    let token = reseller_token(&app, &reseller);
    let mut slow = listen(&app, &token, FEED, None).await;
    let mut quick = listen(&app, &token, FEED, None).await;
    let (bulks, bulk) = (6, 5_000);
    for _ in 0..bulks {
        sell(&app, &reseller, bulk).await;
        quick.take(bulk).await;
    }
    // What was on its way when it fell behind comes, and then no more.
    let mut heard = 0;
    while slow.next().await.is_some() {
        heard += 1;
    }
    eprintln!("the slow one heard {heard}");
    assert!(heard < bulks * bulk - BEHIND_MAX, "{heard}");
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_ends_its_streams_at_once() {
    let place = crate::common::app::Place::new();
    let store = place.store();
    let mut node = Process::serve(&store).await;
    let token = process::token(&store, &["--role", "auditor"]).await;
    let mut listener = Listener::at(node.address(), &token, FEED, None).await;
    let began = Instant::now();
    node.terminate().await;
    assert!(listener.next().await.is_none());
    let status = node.ended(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}: {}", node.log());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
