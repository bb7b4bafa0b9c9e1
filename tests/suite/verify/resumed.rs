//! Runs that go on from what the one before has kept. That each kind of tampering is caught by them as well is shown wherever
//! something is tampered with: [`Tampered::verify`] runs both.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use aggregates::platform::Policy;
use tallytree::audit::verify::VerifyError;
use tallytree::clock::Clock;
use tallytree::engine::{self, EngineOptions};
use tallytree::projector;
use tallytree::store::Database;

use super::history::{BOTTOM, PROVISION, Scribe, TOP, add, provision, refund, write_history_from};
use super::tampered::{Tampered, assert_caught, check, resume, try_resume, violated};
use crate::common::app::Place;
use crate::common::log::{noon, reseller};

/// Some more commands, and their read models.
pub async fn write_on(database: &Database) {
    let store = database.open().await.unwrap();
    let clock = Clock::manual(noon().plus_seconds(86_400));
    let engine = engine::start(store, clock.clone(), Policy::default(), EngineOptions::default()).await.unwrap();
    let projector = projector::start(database, engine.committed()).await.unwrap();
    let mut scribe = Scribe { engine, clock, serial: 9_000 };
    for command in [
        add(TOP, 70, Some("INV-3")),
        add(BOTTOM, 500, None),
        provision(BOTTOM, PROVISION + 9, 2),
        // Of a provision from before.
        refund(BOTTOM, PROVISION, 809, Some(5)),
    ] {
        scribe.platform(command).await;
    }
    let end = *scribe.engine.committed().borrow();
    projector.position().wait_for(|position| *position >= end).await.unwrap();
    projector.shutdown().await;
    scribe.engine.shutdown().await;
}

#[tokio::test]
async fn what_was_judged_is_not_judged_again_and_what_came_since_is() {
    let copy = Tampered::new().await;
    let (kept, former) = (copy.kept_before(), copy.end());
    write_on(&copy.place.database()).await;
    let report = resume(&copy.place.database(), kept.path());
    assert!(report.is_ok(), "{:?}", violated(&report));
    assert!(report.position > former);
    let resumed = report.resumed.clone().unwrap();
    assert_eq!((resumed.position, resumed.set_aside), (former, None));
    // It says what a run says that judges all.
    assert_eq!(report.checks, copy.verify().checks);
    // And the next one goes on from here.
    let next = resume(&copy.place.database(), kept.path());
    assert_eq!(next.resumed.unwrap().position, report.position);
    assert_eq!(next.checks, report.checks);
}

#[tokio::test]
async fn what_was_done_since_to_old_and_to_new_is_caught() {
    let old = "balance that a CreditsAdded";
    for (at, what, name) in [("min", old, "I2"), ("max", old, "I2")] {
        let copy = Tampered::new().await;
        let kept = copy.kept_before();
        write_on(&copy.place.database()).await;
        let wallet = reseller(BOTTOM);
        let sql = format!(
            "select {at}(position) from events where event_type = 'CreditsAdded' and aggregate_id = '{wallet}'"
        );
        let at: i64 = copy.rows(&sql)[0][0].parse().unwrap();
        copy.edit(at, |event| event["amount"] = 4_321.into());
        copy.recompute_chain();
        let report = resume(&copy.place.database(), kept.path());
        assert_caught(&report, name, at, what);
        assert!(report.resumed.unwrap().set_aside.is_some());
    }
    // Rows beside the log that follow from what was judged long ago, and from what came since.
    for (table, order) in [("transactions", ""), ("transactions", "desc"), ("activity", ""), ("activity", "desc")] {
        let copy = Tampered::new().await;
        let kept = copy.kept_before();
        write_on(&copy.place.database()).await;
        copy.sql(&format!(
            "delete from {table} where position = (select position from {table} order by position {order} limit 1)"
        ));
        let report = resume(&copy.place.database(), kept.path());
        assert_eq!(violated(&report), ["I9 read models"], "{table} {order}");
        let first = check(&report, "I9 read models").first.as_ref().unwrap();
        assert_eq!(first.found, "no such row", "{first:?}");
    }
}

#[tokio::test]
async fn a_log_that_was_cut_or_written_anew_is_not_the_one_that_was_judged_however_often_it_is_verified() {
    let copy = Tampered::new().await;
    let (kept, former) = (copy.kept_before(), copy.end());
    copy.cut_last_command();
    copy.forget_what_follows();
    let written_anew = Tampered::new().await;
    let kept_anew = written_anew.kept_before();
    written_anew.edit(written_anew.find("CreditsAdded", Some(TOP)), |event| event["note"] = "another".into());
    written_anew.recompute_chain();
    written_anew.forget_what_follows();
    for (copy, kept, says) in [(&copy, &kept, "the history was cut"), (&written_anew, &kept_anew, "another history")] {
        for _ in 0..3 {
            let report = resume(&copy.place.database(), kept.path());
            assert_eq!(violated(&report), ["expected"]);
            assert_caught(&report, "expected", former, "was written down");
            let first = check(&report, "expected").first.as_ref().unwrap();
            assert!(first.found.contains(says), "{first:?}");
        }
    }
}

#[tokio::test]
async fn a_state_that_is_damaged_or_of_another_store_is_refused_and_one_of_another_version_is_set_aside() {
    let copy = Tampered::new().await;
    let database = copy.place.database();
    let refused = |kept: &Path, says: &str| match try_resume(&database, kept) {
        Err(error @ VerifyError::Kept { .. }) => assert!(error.to_string().contains(says), "{error}"),
        other => panic!("{other:?}"),
    };
    let kept = copy.kept_before();
    let state = kept.path().join("state");
    let whole = std::fs::read(&state).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 2] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&state, damaged).unwrap();
        refused(kept.path(), "cannot be read");
    }
    std::fs::write(&state, &whole[..whole.len() - 100]).unwrap();
    refused(kept.path(), "cannot be read");
    std::fs::write(&state, b"").unwrap();
    refused(kept.path(), "cannot be read");

    let place = Place::new();
    write_history_from(&place.database(), noon().plus_seconds(1)).await;
    let foreign = tempfile::tempdir().unwrap();
    assert!(resume(&place.database(), foreign.path()).is_ok());
    refused(foreign.path(), "another store");

    // Written by another version: with a digest that is right.
    use sha2::{Digest, Sha256};
    let text = String::from_utf8(whole).unwrap();
    let content = text[..text.len() - 65].replacen("\"made_by\":\"", "\"made_by\":\"9.", 1);
    let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&state, format!("{content}{digest}\n")).unwrap();
    let report = resume(&database, kept.path());
    assert!(report.is_ok(), "{:?}", violated(&report));
    let resumed = report.resumed.unwrap();
    assert_eq!(resumed.position, 0);
    assert!(resumed.set_aside.unwrap().contains("of another version"));
    assert_eq!(check(&resume(&database, kept.path()), "I8").violations, 0);
}

#[tokio::test]
async fn read_models_that_were_kept_and_are_damaged_or_gone_are_folded_again() {
    let copy = Tampered::new().await;
    let kept = copy.kept_before();
    let database = copy.place.database();
    let file = kept.path().join("read-models-0.db");
    for damage in ["gone", "not a database", "another row"] {
        match damage {
            "gone" => std::fs::remove_file(&file).unwrap(),
            "another row" => {
                let folded = rusqlite::Connection::open(&file).unwrap();
                assert_eq!(folded.execute("update resellers set refid = refid || 'x'", []).unwrap(), 4);
            }
            text => std::fs::write(&file, text).unwrap(),
        }
        let report = resume(&database, kept.path());
        assert!(report.is_ok(), "{damage}: {:?}", violated(&report));
        assert!(report.resumed.unwrap().set_aside.is_some(), "{damage}");
        let next = resume(&database, kept.path()).resumed.unwrap();
        assert_eq!((next.position, next.set_aside), (copy.end(), None), "{damage}");
    }
}

#[tokio::test]
async fn two_runs_do_not_share_a_directory() {
    let copy = Tampered::new().await;
    let kept = copy.kept_before();
    let lock = std::fs::File::options().write(true).open(kept.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let error = try_resume(&copy.place.database(), kept.path()).unwrap_err();
    assert!(error.to_string().contains("another run"), "{error}");
}

fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallytree"));
    command.args(arguments).args(["--database", &String::from(place.database())]);
    command.stdin(Stdio::null());
    command
}

fn run(place: &Place, arguments: &[&str]) -> Output {
    command(place, arguments).output().unwrap()
}

/// Starts a run and waits until it has kept something new.
fn start_and_wait_for(place: &Place, arguments: &[&str], state: &Path) -> Child {
    let changed_at = || std::fs::metadata(state).and_then(|file| file.modified()).ok();
    let before = changed_at();
    let mut child = command(place, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while changed_at() == before {
        assert!(child.try_wait().unwrap().is_none(), "it ended before anything was kept");
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was kept");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[tokio::test]
async fn a_run_that_was_killed_or_stopped_is_gone_on_with_and_says_what_an_unbroken_one_says() {
    let place = Place::new();
    let filled = run(&place, &["demo", "--no-serve", "--resellers", "300", "--events", "30000"]);
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    let unbroken = run(&place, &["verify"]);
    assert!(unbroken.status.success());

    let dir = tempfile::tempdir().unwrap();
    let (kept, state) = (dir.path().join("kept"), dir.path().join("kept/state"));
    let arguments = ["verify", "--resume", kept.to_str().unwrap(), "--keep-every", "0"];
    let mut killed = start_and_wait_for(&place, &arguments, &state);
    killed.kill().unwrap();
    assert!(!killed.wait().unwrap().success(), "it was not done yet");
    let mut stopped = start_and_wait_for(&place, &arguments, &state);
    let told = Command::new("kill").args(["-TERM", &stopped.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(stopped.wait().unwrap().code(), Some(130));

    let ended = run(&place, &arguments);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && said.contains("as a former run has found it"), "{said}");
    let same = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(same(&unbroken), String::from_utf8(ended.stdout).unwrap());
    // Nothing is new now.
    let next = run(&place, &[&arguments[..], &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&next.stdout).unwrap();
    assert_eq!(report["resumed"]["position"], report["position"], "{report}");
}
