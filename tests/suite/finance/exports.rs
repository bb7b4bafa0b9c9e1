//! What exports say is what the queries say, in one order, as of one position, for whoever may see it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Trade, exported, number, objects, rows};
use crate::common::app::{Person, Reply};
use crate::common::process;

/// A whole list, page after page.
async fn all_pages(person: &Person, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut page = person.get(format!("{path}?limit=500{cursor}")).await.ok();
        found.append(page["data"].as_array_mut().expect("rows"));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn an_export_of_transactions_has_every_line_of_every_wallet_in_the_order_of_the_log() {
    let mut trade = Trade::start(1).await;
    trade.days(3, 40).await;
    let finance = trade.app.finance();
    let mut expected = Vec::new();
    for reseller in &trade.resellers {
        expected.extend(all_pages(&trade.app.admin(), &format!("/wallets/{reseller}/transactions")).await);
    }
    expected.sort_by_key(|line| line["position"].as_u64());
    let told = objects(&exported(&finance, "/exports/transactions?format=jsonl").await);
    // A description that is empty is nothing in a table.
    assert_eq!(told, expected);

    let csv = rows(&exported(&finance, "/exports/transactions").await);
    assert_eq!(csv.len(), expected.len());
    for (row, line) in csv.iter().zip(&expected) {
        for (column, cell) in row {
            let told = match &line[column] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(cell.strip_prefix('\'').unwrap_or(cell), told, "{column} of {row:?}");
        }
    }
    let one = &trade.resellers[1];
    let of_one = objects(&exported(&finance, &format!("/exports/transactions?format=jsonl&reseller_id={one}")).await);
    let expected: Vec<Value> = expected.into_iter().filter(|line| line["reseller_id"] == **one).collect();
    assert_eq!(of_one, expected);
}

#[tokio::test]
async fn commissions_name_who_earned_and_who_sold_also_where_they_went_back() {
    let mut trade = Trade::start(2).await;
    trade.days(2, 60).await;
    let commissions = objects(&exported(&trade.app.finance(), "/exports/commissions?format=jsonl").await);
    let lines = objects(&exported(&trade.app.finance(), "/exports/transactions?format=jsonl").await);
    let sellers: BTreeMap<&str, &str> = lines
        .iter()
        .filter(|line| line["kind"] == "provisioned")
        .filter_map(|line| Some((line["provision_id"].as_str()?, line["reseller_id"].as_str()?)))
        .collect();
    let kinds = ["commission_earned", "commission_reversed"];
    let expected: Vec<&Value> = lines.iter().filter(|line| kinds.iter().any(|kind| line["kind"] == *kind)).collect();
    assert_eq!(commissions.len(), expected.len());
    for kind in kinds {
        assert!(commissions.iter().any(|line| line["kind"] == kind), "there is a {kind}");
    }
    for (told, line) in commissions.iter().zip(expected) {
        for member in
            ["position", "kind", "reseller_id", "provision_id", "refund_id", "amount", "balance", "recorded_at"]
        {
            assert_eq!(told[member], line[member]);
        }
        assert_eq!(told["seller_id"], sellers[told["provision_id"].as_str().expect("an id")]);
    }
}

#[tokio::test]
async fn an_export_broken_off_anywhere_goes_on_to_the_same_bytes_whatever_has_happened_since() {
    let mut trade = Trade::start(3).await;
    trade.days(40, 2).await;
    let finance = trade.app.finance();
    for (path, key) in [
        ("/exports/transactions?format=csv", &["position"][..]),
        ("/exports/commissions?format=jsonl", &["position"]),
        ("/exports/balances?format=csv", &["reseller_id"]),
        ("/exports/statements?format=csv", &["month", "reseller_id"]),
    ] {
        let reply = finance.get(path).await;
        let position = reply.position();
        let whole = String::from_utf8(reply.text.to_vec()).expect("a text");
        let records: Vec<BTreeMap<String, String>> = if path.contains("csv") {
            rows(&whole)
        } else {
            let texts = |value: Value| match value {
                Value::Object(members) => {
                    members.into_iter().map(|(name, value)| (name, value.to_string().replace('"', ""))).collect()
                }
                other => panic!("{other}"),
            };
            objects(&whole).into_iter().map(texts).collect()
        };
        assert!(records.len() > 5, "{path}: {whole}");
        trade.deed().await;
        for (index, record) in records.iter().enumerate().step_by(records.len() / 5) {
            let key: Vec<&str> = key.iter().map(|column| record[*column].as_str()).collect();
            let rest = exported(&finance, &format!("{path}&cursor={position}.{}", key.join("."))).await;
            assert!(whole.ends_with(&rest), "{path} after row {index}: {rest}");
            let left = if path.contains("csv") {
                let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(rest.as_bytes());
                reader.records().count()
            } else {
                rest.lines().count()
            };
            assert_eq!(left, records.len() - index - 1, "{path} after row {index}");
        }
    }
}

#[tokio::test]
async fn what_is_over_is_told_with_the_same_bytes_for_ever_also_after_a_company_has_another_name() {
    let mut trade = Trade::start(4).await;
    trade.days(35, 2).await;
    let finance = trade.app.finance();
    let paths: Vec<String> = ["transactions", "balances", "commissions", "statements"]
        .iter()
        .flat_map(|kind| ["csv", "jsonl"].map(|format| format!("/exports/{kind}?format={format}&month=2033-01")))
        .collect();
    let mut before: Vec<Reply> = Vec::new();
    for path in &paths {
        before.push(finance.get(path).await);
    }
    let renamed = format!("/resellers/{}", trade.resellers[0]);
    trade.app.admin().patch(renamed, json!({"company_name": "Another name"})).await.ok();
    let policy = trade.app.admin().get("/platform/policy").await.ok();
    let mut policy = policy;
    policy["credit_conversion_rate"] = json!(7);
    trade.app.admin().put("/platform/policy", policy).await.ok();
    trade.days(5, 10).await;
    for (path, before) in paths.iter().zip(before) {
        let after = finance.get(path).await;
        assert_eq!((after.status, after.position()), (200, before.position()), "{path}");
        assert_eq!(after.text, before.text, "{path}");
        assert!(!after.text.is_empty());
    }
    let now = exported(&finance, "/exports/balances").await;
    assert!(now.contains("Another name"), "{now}");
}

#[tokio::test]
async fn statements_follow_on_one_another_and_add_up_to_the_books_of_the_platform() {
    let mut trade = Trade::start(5).await;
    trade.days(100, 2).await;
    let finance = trade.app.finance();
    let statements = rows(&exported(&finance, "/exports/statements?from=2033-01-01&to=2033-03-31").await);
    assert_eq!(statements.len(), 3 * trade.resellers.len());
    let mut closings: BTreeMap<&str, i64> = BTreeMap::new();
    for statement in &statements {
        let opening = closings.get(statement["reseller_id"].as_str()).copied().unwrap_or_default();
        assert_eq!(number(statement, "opening"), opening, "{statement:?}");
        closings.insert(&statement["reseller_id"], number(statement, "closing"));
    }
    let balances = rows(&exported(&finance, "/exports/balances?to=2033-03-31").await);
    for balance in &balances {
        assert_eq!(number(balance, "balance"), closings[balance["reseller_id"].as_str()]);
    }
    for month in ["2033-01", "2033-02", "2033-03"] {
        let of_month: Vec<_> = statements.iter().filter(|row| row["month"] == month).collect();
        let sum = |column: &str| of_month.iter().map(|row| number(row, column)).sum::<i64>();
        assert_eq!(sum("transferred_in"), -sum("transferred_out"), "{month}");
        let trend = format!("/analytics/credit-trends?interval=monthly&from={month}-01&to={month}-28");
        assert_ne!(sum("provisioned"), 0, "{month}");
        let lines = rows(&exported(&finance, &format!("/exports/transactions?month={month}")).await);
        assert_eq!(sum("lines"), i64::try_from(lines.len()).expect("few"), "{month}");
        assert_eq!(sum("closing") - sum("opening"), lines.iter().map(|line| number(line, "amount")).sum::<i64>());
        finance.get(trend).await.ok();
    }
    let outstanding = finance.get("/analytics/credits-outstanding").await.ok();
    let now = rows(&exported(&finance, "/exports/balances").await);
    assert_eq!(outstanding["credits"], now.iter().map(|row| number(row, "balance")).sum::<i64>());
}

#[tokio::test]
async fn a_reseller_exports_itself_and_its_downline_as_its_queries_show_them() {
    let mut trade = Trade::start(6).await;
    trade.days(2, 50).await;
    let (top, middle, leaf, elsewhere) =
        (&trade.resellers[0], &trade.resellers[1], &trade.resellers[2], &trade.resellers[5]);
    let person = trade.app.reseller(middle);
    let lines = objects(&exported(&person, "/exports/transactions?format=jsonl").await);
    let mut expected = Vec::new();
    for reseller in &trade.resellers[1..4] {
        expected.extend(all_pages(&person, &format!("/wallets/{reseller}/transactions")).await);
    }
    expected.sort_by_key(|line| line["position"].as_u64());
    assert_eq!(lines, expected);
    for kind in ["transactions", "balances", "commissions", "statements"] {
        let text = exported(&person, &format!("/exports/{kind}")).await;
        assert!(!text.contains(top.as_str()) && !text.contains(elsewhere.as_str()), "{kind}: {text}");
        for other in [top, elsewhere] {
            person.get(format!("/exports/{kind}?reseller_id={other}")).await.problem(404, "not_found");
        }
        let of_leaf = exported(&person, &format!("/exports/{kind}?reseller_id={leaf}")).await;
        assert!(!of_leaf.contains(&format!("\n{middle},")), "{of_leaf}");
        trade.app.payments().get(format!("/exports/{kind}")).await.problem(403, "forbidden");
        trade.app.stranger().get(format!("/exports/{kind}")).await.problem(401, "unauthenticated");
        trade.app.auditor().get(format!("/exports/{kind}")).await.ok();
    }
    assert_eq!(rows(&exported(&person, "/exports/balances").await).len(), 3);
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_told_so() {
    let trade = Trade::start(7).await;
    let finance = trade.app.finance();
    for (path, parameter) in [
        ("/exports/transactions?format=pdf", "format"),
        ("/exports/transactions?month=2033-13", "month"),
        ("/exports/transactions?month=2033-01&from=2033-01-01", "month"),
        ("/exports/balances?from=2033-01-01", "from"),
        ("/exports/statements?from=2033-01-02", "from"),
        ("/exports/statements?to=2033-01-30", "to"),
        ("/exports/transactions?cursor=7", "cursor"),
        ("/exports/transactions?cursor=99999999.7", "cursor"),
        ("/exports/transactions?cursor=5.7", "cursor"),
        ("/exports/balances?cursor=5.0190d3a5-7c1e-7b60-8f00-3d0f6c8e2a11", "cursor"),
        ("/exports/transactions?limit=5", "limit"),
    ] {
        let problem = finance.get(path).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], format!("/{parameter}"), "{path}");
    }
}

#[tokio::test]
async fn the_command_line_writes_the_same_bytes_without_a_token() {
    let mut trade = Trade::start(8).await;
    trade.days(33, 2).await;
    let finance = trade.app.finance();
    let directory = tempfile::tempdir().expect("a directory");
    for (path, arguments) in [
        ("/exports/transactions", &["transactions"][..]),
        (
            "/exports/transactions?month=2033-01&format=jsonl",
            &["transactions", "--month", "2033-01", "--format", "jsonl"],
        ),
        ("/exports/statements", &["statements"]),
        ("/exports/balances?to=2033-01-31", &["balances", "--to", "2033-01-31"]),
    ] {
        let expected = exported(&finance, path).await;
        let told = process::run(trade.app.store(), &[&["export"], arguments].concat()).await;
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        assert_eq!(String::from_utf8_lossy(&told.stdout), expected, "{path}");
        let file = directory.path().join("table");
        let output = file.to_str().expect("a path");
        let written = process::run(trade.app.store(), &[&["export"], arguments, &["--output", output]].concat()).await;
        assert!(written.status.success());
        assert_eq!(std::fs::read_to_string(&file).expect("a file"), expected, "{path}");
    }
    // A cursor of a later time does not carry a month on into the next ones.
    let head = finance.get("/exports/transactions").await.position();
    let first = finance.get("/exports/transactions?month=2033-01").await;
    let line = number(&rows(std::str::from_utf8(&first.text).expect("a text"))[0], "position");
    let beyond = format!("/exports/transactions?month=2033-01&cursor={head}.{line}");
    assert!(head > first.position());
    finance.get(beyond).await.problem(422, "invalid");
    // What was broken off is added to.
    let whole = finance.get("/exports/transactions").await;
    let (position, text) = (whole.position(), String::from_utf8(whole.text.to_vec()).expect("a text"));
    let line = number(&rows(&text)[10], "position");
    let file = directory.path().join("table");
    let rest = exported(&finance, &format!("/exports/transactions?cursor={position}.{line}")).await;
    std::fs::write(&file, text.strip_suffix(&rest).expect("its end")).expect("written");
    let (cursor, output) = (format!("{position}.{line}"), file.to_str().expect("a path"));
    let added =
        process::run(trade.app.store(), &["export", "transactions", "--output", output, "--cursor", &cursor]).await;
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), text);
}
