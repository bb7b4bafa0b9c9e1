//! Parquet and XLSX as the tools of others read them: typed, complete, and the same as CSV and JSON.
//!
//! Where Python has no pandas, pyarrow or openpyxl, what they would have shown is left out, and that is said; with
//! `TALLYTREE_TEST_BOOKKEEPERS=required` it is a failure.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Trade, exported, objects};
use crate::common::process;

const KINDS: [&str; 4] = ["transactions", "balances", "commissions", "statements"];

/// What a script prints, as JSON; `None` where Python or one of its libraries is not there.
fn python(libraries: &str, script: &str, file: &Path) -> Option<Value> {
    let there = Command::new("python3").args(["-c", &format!("import {libraries}")]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        let required = std::env::var_os("TALLYTREE_TEST_BOOKKEEPERS").is_some_and(|value| value == "required");
        assert!(!required, "Python has no {libraries}");
        // Past the capturing of output.
        let _ = writeln!(std::io::stderr(), "skipped: Python has no {libraries}");
        return None;
    }
    let output = Command::new("python3").arg("-c").arg(script).arg(file).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

const PARQUET: &str = r#"
import json, sys
import pyarrow.parquet as parquet
table = parquet.read_table(sys.argv[1])
types = {field.name: str(field.type) for field in table.schema}
def plain(value):
    if hasattr(value, "isoformat"):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value if value is None or isinstance(value, (int, str)) else str(value)
rows = [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]
print(json.dumps({"types": types, "rows": rows}))
"#;

const XLSX: &str = r#"
import json, sys, datetime
import openpyxl
sheet = openpyxl.load_workbook(sys.argv[1], read_only=True).worksheets[0]
rows = list(sheet.iter_rows())
names = [cell.value for cell in rows[0]]
def plain(value):
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="milliseconds")
    return value
told = [{name: [cell.data_type, plain(cell.value)] for name, cell in zip(names, row)} for row in rows[1:]]
print(json.dumps({"names": names, "rows": told}))
"#;

/// What pandas makes of a table when it is told nothing about it: types by column, and sums of the whole numbers.
const PANDAS: &str = r#"
import json, sys
import pandas
file = sys.argv[1]
table = pandas.read_parquet(file) if file.endswith("parquet") else pandas.read_excel(file, keep_default_na=False, na_values=[""])
integers = [name for name in table.columns if str(table[name].dtype) in ("int64", "Int64")]
print(json.dumps({
    "rows": len(table),
    "types": {name: str(table[name].dtype) for name in table.columns},
    "sums": {name: int(table[name].sum()) for name in integers},
}))
"#;

#[tokio::test]
async fn pandas_reads_both_with_the_right_types_and_sums() {
    let mut trade = Trade::start(33).await;
    trade.days(33, 4).await;
    let directory = tempfile::tempdir().expect("a directory");
    for kind in KINDS {
        let lines =
            objects(&exported(&trade.app.finance(), &format!("/exports/{kind}?format=jsonl&month=2033-01")).await);
        for format in ["parquet", "xlsx"] {
            let path = written(&trade, directory.path(), kind, format).await;
            let Some(told) = python("pandas, pyarrow, openpyxl", PANDAS, &path) else { continue };
            assert_eq!(told["rows"], lines.len(), "{kind} as {format}");
            let mut summed = 0;
            for (column, value) in lines[0].as_object().expect("columns") {
                let is = told["types"][column].as_str().expect("a type");
                let values = || lines.iter().map(|line| &line[column]);
                if values().all(Value::is_i64) {
                    assert!(is.eq_ignore_ascii_case("int64"), "{kind} as {format}, {column}: {is}");
                    let sum: i64 = values().map(|value| value.as_i64().expect("a number")).sum();
                    assert_eq!(told["sums"][column], sum, "{kind} as {format}, {column}");
                    summed += 1;
                } else if ["recorded_at", "as_of"].contains(&column.as_str()) {
                    assert!(is.starts_with("datetime64"), "{kind} as {format}, {column}: {is}");
                } else if column == "closing_amount" || (column == "amount" && value.is_string()) {
                    // Exact decimals are objects to pandas; a workbook has no others than floats.
                    let wanted: &[&str] = if format == "parquet" { &["object"] } else { &["float64", "int64"] };
                    assert!(wanted.contains(&is), "{kind} as {format}, {column}: {is}");
                } else if values().any(Value::is_string) {
                    assert!(["object", "str", "string"].contains(&is), "{kind} as {format}, {column}: {is}");
                }
            }
            assert!(summed >= 2, "{kind} as {format}: {told}");
        }
    }
}

async fn written(trade: &Trade, directory: &Path, kind: &str, format: &str) -> std::path::PathBuf {
    let reply = trade.app.finance().get(format!("/exports/{kind}?format={format}&month=2033-01")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let path = directory.join(format!("{kind}.{format}"));
    std::fs::write(&path, &reply.text).expect("written");
    // The same order has the same bytes, and the command line writes them too.
    let again = trade.app.finance().get(format!("/exports/{kind}?format={format}&month=2033-01")).await;
    assert_eq!(again.text, reply.text, "{kind}");
    let by_command = directory.join("by-command");
    let output = by_command.to_str().expect("a path");
    let arguments = ["export", kind, "--format", format, "--month", "2033-01", "--output", output];
    let told = process::run(trade.app.store(), &arguments).await;
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(std::fs::read(&by_command).expect("a file"), reply.text, "{kind}");
    path
}

#[tokio::test]
async fn parquet_is_typed_and_has_what_json_has() {
    let mut trade = Trade::start(31).await;
    trade.days(33, 5).await;
    let directory = tempfile::tempdir().expect("a directory");
    for kind in KINDS {
        let path = written(&trade, directory.path(), kind, "parquet").await;
        let lines = exported(&trade.app.finance(), &format!("/exports/{kind}?format=jsonl&month=2033-01")).await;
        let Some(told) = python("pyarrow.parquet", PARQUET, &path) else { continue };
        assert_eq!(told["rows"], Value::Array(objects(&lines)), "{kind}");
        for (column, kind_of) in told["types"].as_object().expect("types") {
            let expected = match column.as_str() {
                "recorded_at" | "as_of" => "timestamp[us, tz=UTC]",
                "closing_amount" => "decimal128(18, 2)",
                "amount" if kind == "balances" => "decimal128(18, 2)",
                name if name.ends_with("_id")
                    || ["month", "refid", "company_name", "currency", "kind", "source", "reference", "note"]
                        .contains(&name) =>
                {
                    "string"
                }
                _ => "int64",
            };
            assert_eq!(kind_of, expected, "{kind}: {column}");
        }
    }
}

#[tokio::test]
async fn xlsx_has_numbers_as_numbers_times_as_times_and_formulas_as_text() {
    let mut trade = Trade::start(32).await;
    let formula = json!({"company_name": "=HYPERLINK(\"http://evil.example\")"});
    trade.app.admin().patch(format!("/resellers/{}", trade.resellers[0]), formula).await.ok();
    trade.days(33, 5).await;
    let directory = tempfile::tempdir().expect("a directory");
    for kind in KINDS {
        let path = written(&trade, directory.path(), kind, "xlsx").await;
        let lines =
            objects(&exported(&trade.app.finance(), &format!("/exports/{kind}?format=jsonl&month=2033-01")).await);
        let Some(told) = python("openpyxl", XLSX, &path) else { continue };
        let rows = told["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), lines.len(), "{kind}");
        for (row, line) in rows.iter().zip(&lines) {
            for (column, expected) in line.as_object().expect("columns") {
                let (is, value) = (&row[column][0], &row[column][1]);
                match (column.as_str(), expected) {
                    (_, Value::Null) => assert_eq!(value, &Value::Null, "{kind} {column}"),
                    ("recorded_at" | "as_of", Value::String(time)) => {
                        let shown = value.as_str().expect("a time");
                        assert_eq!((is, &shown[..19]), (&json!("d"), &time[..19]), "{kind} {column}");
                    }
                    ("closing_amount" | "amount", Value::String(money)) => {
                        assert_eq!((is, value.as_f64()), (&json!("n"), money.parse().ok()), "{kind} {column}");
                    }
                    (_, Value::Number(number)) => assert_eq!((is, value.as_i64()), (&json!("n"), number.as_i64())),
                    (_, text) => {
                        // What openpyxl reads back has the ends of lines that XML has.
                        assert_eq!(is, "s", "{kind} {column}: {value}");
                        let plain = |text: &Value| text.as_str().expect("a text").replace("\r\n", "\n");
                        assert!(plain(value) == plain(text) || text.to_string().contains("\\u00"), "{value} {text}");
                    }
                }
            }
        }
    }
}
