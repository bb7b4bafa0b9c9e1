//! The printed statement: what a reseller's month came to, on a page that runs nothing.

use serde_json::json;

use super::{Trade, exported, number, rows};
use crate::common::process;

#[tokio::test]
async fn a_printed_statement_says_what_the_tables_say_and_runs_nothing() {
    let mut trade = Trade::start(41).await;
    let script = "<script>alert(1)</script> & \"Sons\" <!-- lines -->";
    let renamed = format!("/resellers/{}", trade.resellers[1]);
    trade.app.admin().patch(renamed, json!({"company_name": script})).await.ok();
    let body =
        json!({"amount": 77, "source": "purchase", "reference": "<b>INV</b>", "note": "<img src=x onerror=alert(1)>"});
    let path = format!("/wallets/{}/credits", trade.resellers[1]);
    trade.app.admin().post(path, body).fresh_key().await.created();
    trade.days(63, 3).await;
    let finance = trade.app.finance();
    for month in ["2033-01", "2033-02"] {
        let statements = rows(&exported(&finance, &format!("/exports/statements?month={month}")).await);
        let lines = rows(&exported(&finance, &format!("/exports/transactions?month={month}")).await);
        for statement in &statements {
            let reseller = &statement["reseller_id"];
            let path = format!("/exports/statements?format=html&month={month}&reseller_id={reseller}");
            let reply = finance.get(path.as_str()).await;
            assert_eq!(reply.header("content-security-policy"), Some("default-src 'none'; style-src 'unsafe-inline'"));
            assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
            let page = String::from_utf8(reply.text.to_vec()).expect("a text");
            let said = |name: &str, credits: i64, money: &str| {
                format!("<td>{name}</td><td class=\"amount\">{credits}</td><td class=\"amount\">{money}")
            };
            let money = |credits: i64| {
                format!("{}{}.{:02} USD", if credits < 0 { "-" } else { "" }, credits.abs() / 100, credits.abs() % 100)
            };
            let (opening, closing) = (number(statement, "opening"), number(statement, "closing"));
            assert!(page.contains(&said("Opening balance", opening, &money(opening))), "{page}");
            assert!(page.contains(&said("Closing balance", closing, &money(closing))), "{page}");
            assert_eq!(money(closing), format!("{} USD", statement["closing_amount"]));
            let own: Vec<_> = lines.iter().filter(|line| line["reseller_id"] == *reseller).collect();
            let shown = page.matches("<tr><td>2033-").count();
            assert_eq!(shown, own.len(), "{page}");
            for line in own {
                let amounts = format!(
                    "<td class=\"amount\">{}</td><td class=\"amount\">{}</td></tr>",
                    line["amount"], line["balance"]
                );
                assert!(page.contains(&amounts), "{amounts} in {page}");
            }
            for tag in ["<script", "<img", "<b>", "onerror=alert(1)>"] {
                assert!(!page.contains(tag), "{tag} in {page}");
            }
            let name = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;Sons&quot; &lt;!-- lines --&gt;";
            assert_eq!(page.contains(name), *reseller == trade.resellers[1], "{page}");
            assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"), "{page}");
            let arguments =
                ["export", "statements", "--format", "html", "--month", month, "--reseller-id", reseller.as_str()];
            let told = process::run(trade.app.store(), &arguments).await;
            assert_eq!(String::from_utf8_lossy(&told.stdout), page);
        }
    }
}

#[tokio::test]
async fn a_printed_statement_is_of_one_reseller_in_sight_and_one_month() {
    let trade = Trade::start(42).await;
    let (middle, top) = (&trade.resellers[1], &trade.resellers[0]);
    let person = trade.app.reseller(middle);
    let path = |reseller: &str| format!("/exports/statements?format=html&month=2033-01&reseller_id={reseller}");
    assert!(exported(&person, &path(middle)).await.contains("user-1 Ltd"));
    person.get(path(top)).await.problem(404, "not_found");
    let finance = trade.app.finance();
    finance.get("/exports/statements?format=html&month=2033-01").await.problem(422, "invalid");
    finance.get(format!("/exports/statements?format=html&reseller_id={top}")).await.problem(422, "invalid");
    // It was registered later.
    finance
        .get(format!("/exports/statements?format=html&month=2032-12&reseller_id={top}"))
        .await
        .problem(404, "not_found");
}
