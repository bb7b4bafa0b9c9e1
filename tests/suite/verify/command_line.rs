//! `tallytree verify` and `tallytree head`: what they print, and how they end.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::tampered::Tampered;

fn run(copy: &Tampered, arguments: &[&str]) -> Output {
    let database = String::from(copy.place.database());
    let mut process = Command::new(env!("CARGO_BIN_EXE_tallytree"));
    process.args(arguments).args(["--database", &database]).output().unwrap()
}

#[tokio::test]
async fn the_command_line_says_it_and_ends_with_1() {
    let copy = Tampered::new().await;
    let run = |arguments: &[&str]| run(&copy, &[&["verify"], arguments].concat());
    let good = run(&[]);
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success() && text.contains("every invariant holds"), "{text}");
    copy.replace(1, "USD", "USE");
    let bad = run(&[]);
    let text = String::from_utf8(bad.stdout).unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert!(text.contains("first at 1: hash"), "{text}");
    let report: Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
    let chain = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "I8").unwrap();
    assert_eq!((&chain["violations"], &chain["first"]["position"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn the_head_is_printed_to_be_written_down_and_expected_later() {
    let copy = Tampered::new().await;
    let printed = String::from_utf8(run(&copy, &["head"]).stdout).unwrap();
    assert_eq!(printed.trim().split_once(':').unwrap().0, copy.end().to_string());
    let good = run(&copy, &["verify", "--expect", printed.trim()]);
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success() && text.contains("expected       the history up to each"), "{text}");

    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("heads.txt");
    std::fs::write(&list, format!("# October\n{}  # printed by J.\n", printed.trim())).unwrap();
    let list = list.to_str().unwrap();
    assert!(run(&copy, &["verify", "--expect-file", list]).status.success());
    copy.cut_last_command();
    let bad = run(&copy, &["verify", "--expect-file", list]);
    let text = String::from_utf8(bad.stdout).unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert!(text.contains("the history was cut: it ends at"), "{text}");

    std::fs::write(list, "# nothing\n").unwrap();
    for wrong in [["--expect", "7"], ["--expect-file", list], ["--expect-file", "nowhere"]] {
        let refused = run(&copy, &[&["verify"], &wrong[..]].concat());
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{wrong:?}");
    }
}
