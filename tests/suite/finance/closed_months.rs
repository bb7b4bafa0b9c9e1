//! Closings beside a naive bookkeeper, who has nothing but the log and the table of postings in the design: what each closing
//! says, what is refused, that nothing ever falls into a month that is closed, and that what is told of it keeps its bytes.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use rand::Rng;
use serde_json::{Value, json};

use super::{Trade, log};
use crate::common::app::TestApp;
use crate::common::process;

/// The months that are played through, each with its end, and one before and one after them.
const MONTHS: [(&str, &str); 5] = [
    ("2033-01", "2033-02-01"),
    ("2033-02", "2033-03-01"),
    ("2033-03", "2033-04-01"),
    ("2033-04", "2033-05-01"),
    ("2033-05", "2033-06-01"),
];

/// The accounts that an event is posted to and with how much, as the design's table has it: debit, credit, amount.
fn posted(event: &Value) -> Option<(String, String, i64)> {
    let kind = event["event_type"].as_str().expect("a type");
    let said = &event["payload"][kind];
    let word = |member: &str| said[member].as_str().expect("a word");
    let wallet = || "wallet".to_owned();
    let (debit, credit) = match kind {
        "CreditsAdded" => (format!("platform:issued:{}", word("source")), wallet()),
        "CreditsRemoved" => (wallet(), format!("platform:removed:{}", word("kind"))),
        "Provisioned" => (wallet(), "platform:revenue".to_owned()),
        "ProvisionRefunded" => ("platform:revenue".to_owned(), wallet()),
        "CommissionEarned" => ("platform:commissions".to_owned(), wallet()),
        "CommissionReversed" => (wallet(), "platform:commissions".to_owned()),
        "CreditsTransferredOut" => (wallet(), "transfers:clearing".to_owned()),
        "CreditsTransferredIn" => ("transfers:clearing".to_owned(), wallet()),
        _ => return None,
    };
    let amount = if kind == "Provisioned" { &said["provision"]["amount"] } else { &said["amount"] };
    Some((debit, credit, amount.as_i64().expect("an amount")))
}

/// What a naive bookkeeper would close a month with: turnover since the closing before, balances since ever, by account.
fn naive_totals(log: &[Value], from: u64, until: u64) -> BTreeMap<String, [i64; 3]> {
    let mut totals: BTreeMap<String, [i64; 3]> = BTreeMap::new();
    for event in log {
        let position = event["position"].as_u64().expect("a position");
        let Some((debit, credit, amount)) = posted(event).filter(|_| position <= until) else { continue };
        let turnover = if position > from { amount } else { 0 };
        let debited = totals.entry(debit).or_default();
        (debited[0], debited[2]) = (debited[0] + turnover, debited[2] - amount);
        let credited = totals.entry(credit).or_default();
        (credited[1], credited[2]) = (credited[1] + turnover, credited[2] + amount);
    }
    totals
}

fn time_of(event: &Value) -> &str {
    event["recorded_at"].as_str().expect("a time")
}

/// Everything that is told of a month, in every form.
async fn told_of(app: &TestApp, month: &str, reseller: &str) -> BTreeMap<String, Bytes> {
    let mut paths = vec![format!("/exports/statements?format=html&reseller_id={reseller}&month={month}")];
    for kind in ["transactions", "balances", "commissions", "statements"] {
        let forms = ["csv", "jsonl", "xlsx", "parquet"];
        paths.extend(forms.map(|form| format!("/exports/{kind}?format={form}&month={month}")));
    }
    paths.extend(["hledger", "beancount"].map(|form| format!("/exports/journal?format={form}&month={month}")));
    let mut told = BTreeMap::new();
    for path in paths {
        let reply = app.finance().get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        told.insert(path, reply.text);
    }
    told
}

/// What has been closed, and what was told of it then.
struct Closed {
    month: &'static str,
    end: &'static str,
    last_position: u64,
    told: BTreeMap<String, Bytes>,
}

#[tokio::test]
async fn closings_say_what_a_naive_bookkeeper_says_and_what_is_closed_stays_as_it_is() {
    let mut trade = Trade::start(41).await;
    let mut closed: Vec<Closed> = Vec::new();
    let mut refused = 0;
    for _ in 0..33 {
        trade.days(4, 3).await;
        // Most who come to close name some month or other.
        let (month, end) = match trade.dice.random_range(0..3) {
            0 => MONTHS[trade.dice.random_range(0..MONTHS.len())],
            _ => MONTHS[closed.len().min(MONTHS.len() - 1)],
        };
        let now = trade.app.stranger().post("/dev/clock", json!({"advance_seconds": 0})).await.ok();
        let is_over = now["now"].as_str().expect("a time") >= end;
        let is_next = MONTHS.get(closed.len()).is_some_and(|(next, _)| *next == month);
        let answer = trade.app.finance().post("/platform/close", json!({"month": month})).await;
        if !(is_over && is_next) {
            assert!(matches!(answer.status, 409), "{month}: {}", answer.body);
            refused += 1;
            continue;
        }
        let closing = answer.created();
        let log = log(&trade.app).await;
        let last = log.iter().rfind(|event| time_of(event) < end).expect("an event");
        let last_position = last["position"].as_u64().expect("a position");
        assert_eq!((&closing["last_position"], &closing["head_hash"]), (&last["position"], &last["hash"]), "{month}");
        let from = closed.last().map_or(0, |closed| closed.last_position);
        let expected = naive_totals(&log, from, last_position);
        let found: BTreeMap<String, [i64; 3]> = closing["totals"]
            .as_object()
            .expect("accounts")
            .iter()
            .map(|(account, total)| {
                let figure = |side: &str| total[side].as_i64().expect("a number");
                (account.clone(), [figure("debit"), figure("credit"), figure("balance")])
            })
            .collect();
        assert_eq!(found, expected, "{month}");
        let told = told_of(&trade.app, month, &trade.resellers[0]).await;
        closed.push(Closed { month, end, last_position, told });
    }
    assert!(closed.len() >= 3 && refused >= 3, "{} closed, {refused} refused", closed.len());

    // Names and rates change, the read models are folded anew, and a node whose clock is years behind goes on.
    let renamed = format!("/resellers/{}", trade.resellers[0]);
    trade.app.admin().patch(renamed, json!({"company_name": "Another name"})).await.ok();
    let mut policy = trade.app.admin().get("/platform/policy").await.ok();
    policy["credit_conversion_rate"] = json!(7);
    trade.app.admin().put("/platform/policy", policy).await.ok();
    let rebuilt = process::run(trade.app.store(), &["rebuild"]).await;
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let mut trade = Trade { app: trade.app.restart().await, ..trade };
    for _ in 0..10 {
        trade.deed().await;
    }
    let log = log(&trade.app).await;
    for closed in &closed {
        for event in &log {
            let is_within = event["position"].as_u64().expect("a position") <= closed.last_position;
            assert_eq!(time_of(event) < closed.end, is_within, "{}: {event}", closed.month);
        }
        let again = told_of(&trade.app, closed.month, &trade.resellers[0]).await;
        for (path, before) in &closed.told {
            assert!(again[path] == *before, "{path} has other bytes than when the month was closed");
        }
    }
}
