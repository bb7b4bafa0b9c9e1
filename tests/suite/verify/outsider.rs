//! The script by which an outsider checks the chain from a dump: it must say what `verify` says, without anything of ours.
//!
//! Where there is no Python these tests check nothing, and say so.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tallytree::audit::anchor::Anchor;
use tallytree::store::sqlite::ledger_path;

use super::history::{BOTTOM, original};
use super::tampered::Tampered;
use crate::common::app::{Place, TestApp, on_postgres};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/check_chain.py");

/// What the script says of a dump, given on standard input where it is a text; `None` where there is no Python.
fn check(dump: &Path, lines: &str, anchors: &[String]) -> Option<(i32, String)> {
    let mut command = Command::new("python3");
    command.arg(SCRIPT).arg(dump);
    for anchor in anchors {
        command.args(["--expect", anchor]);
    }
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        eprintln!("SKIPPED: there is no python3 on this machine, so the outsider's script was not run");
        return None;
    };
    // One that has read enough may hang up.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    Some((status.code().unwrap(), said))
}

/// What auditors are told to do, where it is SQL: the blocks of the guide.
fn recipes() -> Vec<String> {
    let guide = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/auditing.md"));
    let blocks = guide.split("```sql\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().trim().trim_end_matches(';').to_owned()).collect()
}

/// What the script says of the file itself, or of what the guide's query makes of the database.
fn check_store(copy: &Tampered, anchors: &[String]) -> Option<(i32, String)> {
    match &copy.place {
        Place::Files(_) => check(&ledger_path(&copy.place.store()), "", anchors),
        Place::Database(_) => {
            let lines: Vec<String> = copy.rows(&recipes()[1]).into_iter().map(|row| row[0].clone()).collect();
            check(Path::new("-"), &(lines.join("\n") + "\n"), anchors)
        }
    }
}

#[tokio::test]
async fn the_guides_query_says_where_the_chain_breaks() {
    if !on_postgres() {
        return; // It is for PostgreSQL.
    }
    let copy = Tampered::new().await;
    let query = &recipes()[0];
    assert!(query.contains("sha256"), "{query}");
    assert_eq!(copy.rows(query), Vec::<Vec<String>>::new(), "no row means that the chain holds");
    let at = copy.find("CreditsAdded", Some(BOTTOM));
    copy.replace(at, "5000", "5001");
    assert_eq!(copy.rows(query), [[at.to_string()]]);
    copy.recompute_chain();
    assert!(copy.rows(query).is_empty(), "hashed anew, the chain alone cannot tell");
    copy.sql(&format!("delete from events where position = {at}"));
    assert_eq!(copy.rows(query), [[(at + 1).to_string()]]);
    let copy = Tampered::new().await;
    copy.swap(at, at + 1);
    assert_eq!(copy.rows(query), [[at.to_string()]]);
    let copy = Tampered::new().await;
    copy.replace(1, "USD", "USE");
    assert_eq!(copy.rows(query), [["1"]]);
}

#[tokio::test]
async fn a_ledger_as_it_was_written_holds_and_its_end_is_the_one_that_was_written_down() {
    let copy = Tampered::new().await;
    let anchor = original().await.head;
    let early = Anchor { position: 3, hash: copy.hash(3) };
    let Some((code, said)) = check_store(&copy, &[anchor.to_string(), early.to_string()]) else { return };
    assert_eq!((code, said.trim()), (0, format!("the chain holds: {anchor}").as_str()));
}

#[tokio::test]
async fn the_outsider_names_the_place_where_a_ledger_was_tampered_with() {
    let anchor = original().await.head.to_string();
    let copy = Tampered::new().await;
    let at = copy.find("CreditsAdded", Some(BOTTOM));
    type Change = Box<dyn Fn(&Tampered)>;
    let changes: Vec<(Change, String)> = vec![
        (Box::new(move |copy| copy.replace(at, "5000", "5001")), format!("breaks at {at}")),
        (
            Box::new(move |copy| copy.sql(&format!("delete from events where position = {at}"))),
            format!("after position {} comes {}", at - 1, at + 1),
        ),
        (Box::new(move |copy| copy.swap(at, at + 1)), format!("breaks at {at}")),
        (
            Box::new(move |copy| {
                let balance = copy.balance(BOTTOM);
                let forged = super::money::forged_provision(1, 1, balance - 1);
                copy.append("Wallet", crate::common::log::reseller(BOTTOM), "Provisioned", &forged, "super_admin");
            }),
            format!("breaks at {}", copy.end() + 1),
        ),
        (
            Box::new(|copy| {
                copy.sql("delete from events where position = (select max(position) from events)");
            }),
            "the end was cut".to_owned(),
        ),
    ];
    // A dump of events has no head that says where the log ended: anchors say that.
    for (change, expected) in changes.iter().filter(|(_, expected)| !on_postgres() || expected != "the end was cut") {
        let copy = Tampered::new().await;
        change(&copy);
        let Some((code, said)) = check_store(&copy, &[]) else { return };
        assert!(code == 1 && said.contains(expected.as_str()), "{code}: {said}; not {expected}");
    }

    let copy = Tampered::new().await;
    copy.edit(at, |event| event["amount"] = 6_000.into());
    copy.recompute_balances(BOTTOM);
    copy.recompute_chain();
    assert_eq!(check_store(&copy, &[]).map(|(code, _)| code), Some(0), "hashed anew, the chain alone cannot tell");
    let (code, said) = check_store(&copy, std::slice::from_ref(&anchor)).unwrap();
    assert!(code == 1 && said.contains("another history"), "{code}: {said}");

    let copy = Tampered::new().await;
    copy.cut_last_command();
    assert_eq!(check_store(&copy, &[]).map(|(code, _)| code), Some(0), "its head moved, the chain alone cannot tell");
    let (code, said) = check_store(&copy, &[anchor]).unwrap();
    assert!(code == 1 && said.contains("its end was cut"), "{code}: {said}");
}

#[tokio::test]
async fn a_dump_that_was_streamed_is_checked_to_the_byte() {
    let app = TestApp::start().await;
    let reseller = app.top_level("elite", "gold").await;
    let metadata = serde_json::json!({"odd \u{2028} \"quoted\"": [1.5e-7, {"a": "€\n"}, null, true]});
    app.admin().patch(format!("/resellers/{reseller}/metadata"), metadata).await.ok();
    app.fund(&reseller, 5_000).await;
    let lines = app.auditor().get("/audit/events").header("accept", "application/x-ndjson").await;
    let lines = String::from_utf8(lines.text.to_vec()).unwrap();
    let head = app.auditor().get("/audit/head").await.ok();
    let anchor = format!("{}:{}", head["position"], head["hash"].as_str().unwrap());
    let from_lines = |lines: &str, anchors: &[String]| check(Path::new("-"), lines, anchors);
    let Some((code, said)) = from_lines(&lines, std::slice::from_ref(&anchor)) else { return };
    assert_eq!((code, said.trim()), (0, format!("the chain holds: {anchor}").as_str()));

    let (code, said) = from_lines(&lines.replacen("5000", "5001", 1), &[]).unwrap();
    assert!(code == 1 && said.contains("breaks at"), "{said}");
    let (code, said) = from_lines(&lines.replacen("\"payload\":{", "\"payload\": {", 1), &[]).unwrap();
    assert_eq!(code, 0, "a blank between members is not part of what was hashed: {said}");
    let (code, _) = from_lines(&lines.replacen("\":{\"", "\":{ \"", 1), &[]).unwrap();
    assert_eq!(code, 1, "one within the payload is");
    let cut = lines.trim_end().rsplit_once('\n').unwrap().0.to_owned();
    let (code, said) = from_lines(&cut, std::slice::from_ref(&anchor)).unwrap();
    assert!(code == 1 && said.contains("its end was cut"), "{said}");
    assert_eq!(from_lines("not a dump", &[]).unwrap().0, 2);
    assert_eq!(from_lines(&lines, &["7:zz".to_owned()]).unwrap().0, 2);

    // A part is checked from an event whose hash is known.
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let rest = lines.split_once('\n').unwrap().1;
    let known = format!("1:{}", first["hash"].as_str().unwrap());
    assert_eq!(from_lines(rest, &[known, anchor]).unwrap().0, 0);
    assert_eq!(from_lines(rest, &[]).unwrap().0, 1);
}
