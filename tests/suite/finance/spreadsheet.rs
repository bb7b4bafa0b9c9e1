//! A table in CSV runs nothing when a spreadsheet opens it, and loses nothing.

use serde_json::json;

use super::{exported, number, objects, rows};
use crate::common::app::{TestApp, id_of};

#[tokio::test]
async fn a_company_called_like_a_formula_stays_text_and_a_debt_stays_a_number() {
    let app = TestApp::start().await;
    let names = [
        "=HYPERLINK(\"http://evil.example\",\"click\")",
        "+49 30 1234",
        "-Minus & Co",
        "@Home",
        "\t=1+1",
        "\r=1+1",
        "Müller; =1+1",
    ];
    let mut resellers = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let body = json!({"user_id": format!("user-{index}"), "company_name": name});
        resellers.push(id_of(&app.admin().post("/resellers", body).await.created()));
    }
    let debt = json!({"amount": 250, "kind": "chargeback", "reason": "=cmd|' /C calc'!A0"});
    app.admin().post(format!("/wallets/{}/credits/remove", resellers[0]), debt).fresh_key().await.created();

    let csv = exported(&app.finance(), "/exports/balances").await;
    let table = rows(&csv);
    for (row, name) in table.iter().zip(names) {
        let safe = if name.starts_with(char::is_alphanumeric) { name.to_owned() } else { format!("'{name}") };
        assert_eq!(row["company_name"], safe, "{csv}");
    }
    assert_eq!((number(&table[0], "balance"), table[0]["amount"].as_str()), (-250, "-2.50"));
    let lines = rows(&exported(&app.finance(), "/exports/transactions").await);
    assert_eq!((number(&lines[0], "amount"), lines[0]["note"].as_str()), (-250, "'=cmd|' /C calc'!A0"));
    // No cell of the file begins as a formula does, but for numbers.
    for row in table.iter().chain(&lines) {
        for cell in row.values().filter(|cell| cell.parse::<f64>().is_err()) {
            assert!(!cell.trim_start().starts_with(['=', '+', '-', '@']), "{cell}");
        }
    }
    // Who reads JSON is told what was written, to the letter.
    let told = objects(&exported(&app.finance(), "/exports/balances?format=jsonl").await);
    assert_eq!(told.iter().map(|row| row["company_name"].as_str().expect("a name")).collect::<Vec<_>>(), names);
}
