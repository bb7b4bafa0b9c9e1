//! The journal, as hledger, ledger and beancount read it: they accept it, they add it up to our own figures, and they reject it
//! once it was touched.
//!
//! These programs are no part of a Rust toolchain. Where one is missing, what it would have shown is left out, and that is said;
//! with `TALLYTREE_TEST_BOOKKEEPERS=required` it is a failure.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use rand::Rng;
use serde_json::json;

use super::{Trade, exported, number, rows};

/// Runs a bookkeeper on a journal; `None` where there is none.
fn ask(program: &str, arguments: &[&str], journal: &Path) -> Option<Output> {
    let mut command = Command::new(program);
    if program == "bean-check" {
        command.arg(journal);
    } else {
        command.arg("-f").arg(journal).env("HOME", "/nonexistent");
    }
    match command.args(arguments).env("LC_ALL", "C.UTF-8").output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let required = std::env::var_os("TALLYTREE_TEST_BOOKKEEPERS").is_some_and(|value| value == "required");
            assert!(!required, "{program} is not installed");
            // Past the capturing of output.
            let _ = writeln!(std::io::stderr(), "skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Each bookkeeper's strictest check, and the form it reads.
const CHECKS: [(&str, &[&str], &str); 3] = [
    ("hledger", &["check", "--strict"], "hledger"),
    ("ledger", &["--pedantic", "balance"], "hledger"),
    ("bean-check", &[], "beancount"),
];

/// Asserts that everyone who is here accepts, or rejects, a journal in its form.
fn judged(journals: &BTreeMap<&str, String>, accepted: bool, why: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    for (program, arguments, form) in CHECKS {
        let path = directory.path().join(format!("books.{form}"));
        std::fs::write(&path, &journals[form]).expect("written");
        let Some(said) = ask(program, arguments, &path) else { continue };
        let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert_eq!(said.status.success(), accepted, "{program}, {why}: {words}");
    }
}

async fn journals(trade: &Trade, range: &str) -> BTreeMap<&'static str, String> {
    let mut journals = BTreeMap::new();
    for form in ["hledger", "beancount"] {
        journals.insert(form, exported(&trade.app.finance(), &format!("/exports/journal?format={form}{range}")).await);
    }
    journals
}

/// The journal with so many credits more on both legs of the transaction of this number: it balances as before.
fn altered(journal: &str, transaction: usize, by: i64) -> String {
    let mut lines: Vec<String> = journal.lines().map(str::to_owned).collect();
    let accounts = ["wallet:", "platform:", "transfers:", "Assets:", "Equity:"];
    let posts = |line: &String| {
        let posted = line.trim_start();
        posted != line && accounts.iter().any(|account| posted.starts_with(account)) && !line.contains("  0 CREDITS")
    };
    let legs: Vec<usize> = (0..lines.len()).filter(|index| posts(&lines[*index])).collect();
    for (leg, more) in legs[transaction * 2..transaction * 2 + 2].iter().zip([by, -by]) {
        let line = &lines[*leg];
        let amount = line.split_whitespace().nth(1).expect("an amount").to_owned();
        let raised = amount.parse::<i64>().expect("an amount") + more;
        lines[*leg] = line.replacen(&format!("  {amount} CREDITS"), &format!("  {raised} CREDITS"), 1);
    }
    let altered = lines.join("\n") + "\n";
    assert_ne!(altered, journal);
    altered
}

/// How many transactions a journal has.
fn transactions(journal: &str) -> usize {
    journal.lines().filter(|line| line.contains(" * (") || line.starts_with("  position: ")).count()
}

#[tokio::test]
async fn the_journal_of_a_random_year_is_accepted_and_rejected_once_a_transaction_was_altered() {
    let mut trade = Trade::start(21).await;
    let awkward = json!({"company_name": "Q\"uote; account: x  9 CREDITS\n2033-01-01 open Assets:Mine\\"});
    trade.app.admin().patch(format!("/resellers/{}", trade.resellers[2]), awkward).await.ok();
    trade.days(365, 1).await;
    let journals = journals(&trade, "").await;
    let lines = rows(&exported(&trade.app.finance(), "/exports/transactions").await);
    for journal in journals.values() {
        assert_eq!(transactions(journal), lines.len());
    }
    judged(&journals, true, "as it is");
    for _ in 0..3 {
        let (transaction, by) = (trade.dice.random_range(0..lines.len()), trade.dice.random_range(1..50));
        let touched = journals.iter().map(|(form, text)| (*form, altered(text, transaction, by))).collect();
        judged(&touched, false, &format!("{by} more in transaction {transaction}"));
    }
    // It is the assertions that reject it: without them nobody would notice.
    let unasserted = |form: &&'static str, text: &String| {
        let lines = text.lines().filter(|line| !line.contains(" balance "));
        let bare = lines.map(|line| line.split(" = ").next().expect("a line")).collect::<Vec<_>>().join("\n");
        (*form, altered(&bare, 5, 7))
    };
    judged(&journals.iter().map(|(form, text)| unasserted(form, text)).collect(), true, "altered, without assertions");
}

#[tokio::test]
async fn hledger_adds_up_each_account_and_month_to_the_balances_as_of_it() {
    let mut trade = Trade::start(22).await;
    trade.days(95, 2).await;
    let finance = trade.app.finance();
    let journal = exported(&finance, "/exports/journal?format=hledger").await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("books.journal");
    std::fs::write(&path, &journal).expect("written");
    for (month, end) in [("2033-01", "2033-02-01"), ("2033-02", "2033-03-01"), ("2033-03", "2033-04-01")] {
        let arguments = ["balance", "--flat", "--empty", "--no-total", "--output-format", "csv", "--end", end];
        let Some(said) = ask("hledger", &arguments, &path) else { return };
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let mut told: BTreeMap<String, i64> = rows(&String::from_utf8(said.stdout).expect("a text"))
            .into_iter()
            .map(|row| (row["account"].clone(), row["balance"].replace(" CREDITS", "").parse().expect("a number")))
            .collect();
        for row in rows(&exported(&finance, &format!("/exports/balances?month={month}")).await) {
            let wallet = format!("wallet:{}", row["reseller_id"]);
            assert_eq!(told.remove(&wallet).unwrap_or_default(), number(&row, "balance"), "{wallet} in {month}");
        }
        let closing = finance.post("/platform/close", json!({"month": month})).await.created();
        for (account, total) in closing["totals"].as_object().expect("accounts") {
            if account != "wallet" {
                assert_eq!(json!(told.remove(account).unwrap_or_default()), total["balance"], "{account} in {month}");
            }
        }
        told.retain(|_, balance| *balance != 0);
        assert!(told.is_empty(), "{told:?}");
    }
}

#[tokio::test]
async fn the_journal_of_a_month_opens_with_what_was_there_and_is_the_same_for_ever() {
    let mut trade = Trade::start(23).await;
    trade.days(65, 2).await;
    let february = journals(&trade, "&month=2033-02").await;
    judged(&february, true, "February, before anything is closed");
    for form in ["hledger", "beancount"] {
        assert!(february[form].contains("opening balance") && !february[form].contains("2033-01-"), "{form}");
    }
    trade.app.finance().post("/platform/close", json!({"month": "2033-01"})).await.created();
    trade.app.finance().post("/platform/close", json!({"month": "2033-02"})).await.created();
    trade.days(3, 5).await;
    assert_eq!(journals(&trade, "&month=2033-02").await, february);
}

#[tokio::test]
async fn the_journal_is_for_the_operators_staff_and_goes_by_its_own_forms() {
    let trade = Trade::start(24).await;
    let reseller = trade.app.reseller(&trade.resellers[0]);
    reseller.get("/exports/journal").await.problem(403, "forbidden");
    let finance = trade.app.finance();
    let one = &trade.resellers[0];
    for (path, parameter) in [
        ("/exports/journal?format=csv".to_owned(), "format"),
        ("/exports/transactions?format=hledger".to_owned(), "format"),
        ("/exports/journal?cursor=7.7".to_owned(), "cursor"),
        (format!("/exports/journal?reseller_id={one}"), "reseller_id"),
    ] {
        let problem = finance.get(path.as_str()).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], format!("/{parameter}"), "{path}");
    }
    assert!(exported(&finance, "/exports/journal").await.starts_with("; The books"));
}
