//! What holds for every command and query: no unknown parameter, one spelling of an id, and `min_position` that wakes.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;

use super::{Line, RAISE, REQUESTS, generic, path, raise};

#[tokio::test]
async fn a_command_refuses_parameters_that_it_does_not_know_and_does_nothing() {
    let line = Line::start().await;
    let low = line.as_low();
    let request = raise(&low, generic("hello")).await;
    for (path, pointer) in [
        (format!("{RAISE}?dry_run=true"), "/dry_run"),
        (format!("{RAISE}/{request}/cancel?reason=none"), "/reason"),
        (format!("{RAISE}/{request}/cancel?reseller_id={}", line.low), "/reseller_id"),
        (format!("{RAISE}/{request}/cancel?min_position=1"), "/min_position"),
    ] {
        let problem = low.call(Method::POST, &path, generic("x").to_string()).await;
        // A body that does not fit may be told first.
        let problem = if path.contains("cancel") { low.call(Method::POST, &path, "{}").await } else { problem };
        assert_eq!(problem.problem(422, "invalid")["errors"][0]["pointer"], pointer, "{path}");
    }
    let twice = format!("/reseller-network/settings?reseller_id={0}&reseller_id={0}", line.low);
    line.app.admin().put(twice, json!({})).await.problem(422, "invalid");
    let wallet = format!("/wallets/{}/credits?currency=EUR", line.low);
    line.app.admin().post(&wallet, json!({"amount": 5})).fresh_key().await.problem(422, "invalid");
    assert_eq!(line.balance(&line.low).await, 0);
    assert_eq!(low.get(path_of_out()).await.ok()["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(low.get(path(&request)).await.ok()["status"], "pending");
}

fn path_of_out() -> String {
    format!("{REQUESTS}?direction=out")
}

#[tokio::test]
async fn an_id_has_one_spelling_wherever_it_is_written() {
    let line = Line::start().await;
    let (low, admin) = (line.as_low(), line.app.admin());
    let request = raise(&low, generic("hello")).await;
    low.get(path(&request)).await.ok();
    for id in [&request, &line.low] {
        let spellings = [id.to_uppercase(), id.replace('-', ""), format!("%7B{id}%7D"), format!("urn:uuid:{id}")];
        for other in spellings {
            if id == &request {
                low.get(path(&other)).await.problem(404, "not_found");
                low.post(format!("{RAISE}/{other}/cancel"), json!({})).await.problem(404, "not_found");
            } else {
                admin.get(format!("/resellers/{other}")).await.problem(404, "not_found");
                admin.post(format!("/resellers/{other}/freeze"), json!({})).await.problem(404, "not_found");
                admin.get(format!("{REQUESTS}?reseller_id={other}")).await.problem(422, "invalid");
                let child = json!({"user_id": "x", "company_name": "x", "parent_id": other.replace("%7B", "{")});
                let problem = admin.post("/resellers", child).await.problem(422, "invalid");
                assert_eq!(problem["errors"][0]["pointer"], "/parent_id");
                low.get(REQUESTS).header("x-tenant-id", &other).await.problem(404, "not_found");
            }
        }
    }
    assert_eq!(low.get(path(&request)).await.ok()["status"], "pending");
}

/// A read that waits for a command of one's own is woken by the projector's commit: far sooner than any poll would find it in
/// a loop of such reads, and none is lost.
#[tokio::test]
async fn reads_that_wait_for_a_position_are_woken_when_it_is_folded() {
    let line = Line::start().await;
    let low = line.as_low();
    let next = low.post(RAISE, generic("first")).await.position();
    // Nobody has written it yet: the reads wait, and are all woken by the one commit.
    let begun = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let person = low.clone();
        waiting
            .spawn(async move { person.get(format!("{REQUESTS}?direction=out&min_position={}", next + 1)).await.ok() });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(waiting.len(), 20);
    low.post(RAISE, generic("second")).await.expect_status(202);
    while let Some(page) = waiting.join_next().await {
        assert_eq!(page.expect("no panic")["data"].as_array().map(Vec::len), Some(2));
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "they waited for {:?}", begun.elapsed());
}
