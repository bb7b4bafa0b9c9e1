//! Inbox and outbox: whose they are, in which order, by which filters, page by page, and what nobody else finds in them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Line, REQUESTS, act, generic, ids, path, raise, top_up};
use crate::common::app::Person;

async fn list(person: &Person, query: &str) -> Vec<String> {
    ids(&person.get(format!("{REQUESTS}?{query}")).await.ok())
}

#[tokio::test]
async fn each_sees_its_own_inbox_and_outbox_newest_first() {
    let line = Line::start().await;
    let first = raise(&line.as_low(), generic("first")).await;
    let second = raise(&line.as_low(), top_up(5)).await;
    let third = raise(&line.as_middle(), generic("third")).await;
    let tier = raise(&line.as_low(), json!({"kind": "tier_upgrade", "payload": {"tier": "gold"}})).await;
    assert_eq!(list(&line.as_low(), "direction=out").await, [tier.clone(), second.clone(), first.clone()]);
    assert!(list(&line.as_low(), "direction=in").await.is_empty());
    assert_eq!(list(&line.as_middle(), "direction=in").await, [second.clone(), first.clone()]);
    assert_eq!(list(&line.as_middle(), "direction=out").await, [third.as_str()]);
    // What waits for an answer is what one looks for first.
    assert_eq!(list(&line.as_top(), "").await, [third.as_str()]);
    assert_eq!(list(&line.app.admin(), "").await, [tier.as_str()]);
    // A record of a list is the one that is polled.
    let page = line.as_middle().get(format!("{REQUESTS}?limit=1")).await.ok();
    assert_eq!(page["data"][0], line.as_middle().get(path(&second)).await.ok());

    // What was passed on is the next one's, and what was decided stays where it was decided.
    act(&line.as_middle(), "forward", &first).await.ok();
    act(&line.as_middle(), "reject", &second).await.ok();
    assert_eq!(list(&line.as_middle(), "direction=in").await, [second.as_str()]);
    assert_eq!(list(&line.as_middle(), "direction=in&status=pending").await, Vec::<String>::new());
    assert_eq!(list(&line.as_top(), "direction=in").await, [third.clone(), first.clone()]);
    for (name, person) in line.outsiders() {
        if name != "the grandparent" {
            assert!(list(&person, "direction=in").await.is_empty() && list(&person, "direction=out").await.is_empty());
        }
    }
    // The dashboard counts what the boxes hold.
    for (person, out, into) in [(line.as_low(), 2, 0), (line.as_middle(), 1, 0), (line.as_top(), 0, 2)] {
        let board = person.get("/reseller-network/dashboard").await.ok();
        assert_eq!(board["upline_requests"], json!({"pending_out": out, "pending_in": into}));
        assert_eq!(list(&person, "direction=out&status=pending").await.len(), out);
        assert_eq!(list(&person, "direction=in&status=pending").await.len(), into);
    }
}

#[tokio::test]
async fn the_operators_staff_sees_the_platforms_boxes_or_by_name_anybodys() {
    let line = Line::start().await;
    let generic_one = raise(&line.as_low(), generic("hello")).await;
    let own = raise(&line.as_top(), top_up(5)).await;
    for person in [line.app.admin(), line.app.auditor(), line.app.finance()] {
        assert_eq!(list(&person, "direction=in").await, [own.as_str()]);
        // The platform asks nobody; its outbox is everything that anybody asked.
        assert_eq!(list(&person, "direction=out").await, [own.clone(), generic_one.clone()]);
        let named = format!("direction=in&reseller_id={}", line.middle);
        assert_eq!(list(&person, &named).await, [generic_one.as_str()]);
        let named = format!("direction=out&reseller_id={}", line.low);
        assert_eq!(list(&person, &named).await, [generic_one.as_str()]);
        let missing = "01900000-0000-7000-8000-000000000000";
        person.get(format!("{REQUESTS}?reseller_id={missing}")).await.problem(404, "not_found");
    }
    // A reseller names itself or nobody: its downline's boxes are not its own.
    let own = format!("{REQUESTS}?reseller_id={}", line.middle);
    assert_eq!(ids(&line.as_middle().get(own).await.ok()), [generic_one.as_str()]);
    let missing = line.as_middle().get(format!("{REQUESTS}?reseller_id=01900000-0000-7000-8000-000000000000")).await;
    let missing = missing.problem(404, "not_found");
    for other in [&line.low, &line.top, &line.foreign] {
        let foreign = line.as_middle().get(format!("{REQUESTS}?reseller_id={other}")).await;
        assert_eq!(foreign.problem(404, "not_found"), missing);
    }
    line.app.payments().get(REQUESTS).await.problem(403, "forbidden");
    line.app.stranger().get(REQUESTS).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_request_elsewhere_answers_like_one_that_does_not_exist() {
    let line = Line::start().await;
    let request = raise(&line.as_low(), generic("between us")).await;
    let missing = "01900000-0000-7000-8000-000000000000";
    for (name, person) in line.outsiders() {
        let foreign = person.get(path(&request)).await.problem(404, "not_found");
        assert_eq!(foreign, person.get(path(missing)).await.problem(404, "not_found"), "{name}");
    }
    for person in [line.as_low(), line.as_middle(), line.app.admin(), line.app.auditor(), line.app.finance()] {
        assert_eq!(person.get(path(&request)).await.ok()["payload"]["subject"], "between us");
    }
    line.app.payments().get(path(&request)).await.problem(403, "forbidden");
    line.app.stranger().get(path(&request)).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn two_users_of_one_tenant_share_its_boxes_and_a_member_of_two_says_which() {
    let line = Line::start().await;
    let (one, other) = (line.as_low(), line.app.user("low"));
    let request = raise(&one, generic("hello")).await;
    assert_eq!(list(&other, "direction=out").await, [request.as_str()]);
    act(&other, "cancel", &request).await.ok();
    assert_eq!(one.get(path(&request)).await.ok()["status"], "cancelled");
    // Being upline is no membership, and a tenant that is not one's own is not there.
    let foreign = line.app.user("top").get(REQUESTS).header("x-tenant-id", &line.low).await.problem(404, "not_found");
    let missing = "01900000-0000-7000-8000-000000000000";
    let missing = line.app.user("top").get(REQUESTS).header("x-tenant-id", missing).await.problem(404, "not_found");
    assert_eq!(foreign, missing);
}

/// Every filter against a plain reading of the whole, and every page against the whole.
#[tokio::test]
async fn filters_and_pages_show_exactly_what_the_whole_does() {
    let line = Line::start().await;
    line.app.fund(&line.middle, 1000).await;
    let (low, middle) = (line.as_low(), line.as_middle());
    for number in 0..24 {
        let ask = if number % 3 == 0 { top_up(1) } else { generic(&format!("number {number}")) };
        let person = if number % 5 == 0 { line.app.reseller(&line.sibling) } else { low.clone() };
        let request = raise(&person, ask).await;
        match number % 4 {
            0 => act(&middle, "approve", &request).await.ok(),
            1 => act(&middle, "reject", &request).await.ok(),
            2 => act(&person, "cancel", &request).await.ok(),
            _ => Value::Null,
        };
    }
    raise(&low, json!({"kind": "referral_code", "payload": {}})).await;
    for (person, direction) in [(&low, "out"), (&middle, "in"), (&line.app.admin(), "in"), (&line.app.admin(), "out")] {
        let box_of = format!("direction={direction}");
        let whole = person.get(format!("{REQUESTS}?{box_of}&limit=500")).await.ok();
        let whole = whole["data"].as_array().expect("a page").clone();
        let mut seen = BTreeSet::new();
        for status in ["", "pending", "completed", "rejected", "failed", "cancelled", "expired"] {
            for kind in ["", "referral_code", "credit_topup", "tier_upgrade", "price_change", "generic"] {
                let filter = [("status", status), ("kind", kind)].into_iter().filter(|(_, value)| !value.is_empty());
                let expected: Vec<String> = whole
                    .iter()
                    .filter(|record| filter.clone().all(|(name, value)| record[name] == value))
                    .map(crate::common::app::id_of)
                    .collect();
                let filter: String = filter.map(|(name, value)| format!("&{name}={value}")).collect();
                assert_eq!(list(person, &format!("{box_of}{filter}&limit=500")).await, expected, "{filter}");
                seen.extend(expected);
            }
        }
        assert_eq!(seen.len(), whole.len());
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = person.get(format!("{REQUESTS}?{box_of}&limit=7{cursor}")).await.ok();
            paged.extend(ids(&page));
            let Some(next) = page["next_cursor"].as_str() else { break };
            assert_eq!(page["data"].as_array().map(Vec::len), Some(7));
            cursor = format!("&cursor={next}");
        }
        assert_eq!(paged, whole.iter().map(crate::common::app::id_of).collect::<Vec<_>>());
    }
    for wrong in [
        "direction=up",
        "status=open",
        "kind=favour",
        "limit=0",
        "cursor=zz",
        "colour=red",
        "status=pending&status=failed",
    ] {
        low.get(format!("{REQUESTS}?{wrong}")).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn a_page_is_not_shifted_by_what_comes_in_between() {
    let line = Line::start().await;
    let low = line.as_low();
    let mut raised = Vec::new();
    for number in 0..6 {
        raised.push(raise(&low, generic(&format!("number {number}"))).await);
    }
    raised.reverse();
    let first = low.get(format!("{REQUESTS}?direction=out&limit=3")).await.ok();
    assert_eq!(ids(&first), raised[..3]);
    raise(&low, generic("later")).await;
    act(&low, "cancel", &raised[1]).await.ok();
    let cursor = first["next_cursor"].as_str().expect("more");
    let second = low.get(format!("{REQUESTS}?direction=out&limit=3&cursor={cursor}")).await.ok();
    assert_eq!((ids(&second), &second["next_cursor"]), (raised[3..].to_vec(), &Value::Null));
}
