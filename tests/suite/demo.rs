//! `tallytree demo` as somebody meets it who has just cloned the repository.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;

use crate::common::app::TestApp;

fn demo(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallytree"));
    command.arg("demo").arg("--database").arg(format!("sqlite:{}", dir.display())).arg("--no-serve").args(arguments);
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    demo(dir, arguments).output().expect("a demo")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Events by type, and what all wallets were credited and debited: the figures of a history.
fn figures(dir: &Path) -> Vec<(String, i64, i64)> {
    let ledger = Connection::open(dir.join("ledger.db")).expect("the ledger");
    let mut statement = ledger
        .prepare(
            "select event_type, count(*), \
             sum(coalesce(payload ->> '$.Provisioned.provision.amount', payload ->> '$.CreditsAdded.amount', 0)) \
             from events group by event_type order by event_type",
        )
        .expect("a query");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("figures")
}

#[test]
fn the_same_seed_fills_two_stores_with_the_same_figures_and_a_filled_one_is_only_shown_again() {
    let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let size = ["--resellers", "25", "--events", "900", "--seed", "11"];
    for dir in [&one, &other] {
        let filled = run(dir.path(), &size);
        assert!(filled.status.success(), "{filled:?}");
        for variable in ["TOKEN=tt_", "RESELLER=tt_", "PAYMENTS=tt_", "AUDITOR=tt_", "FINANCE=tt_"] {
            assert!(text(&filled).contains(variable), "{variable}");
        }
    }
    let figures_of_one = figures(one.path());
    assert_eq!(figures_of_one, figures(other.path()));

    let again = run(one.path(), &size);
    assert!(again.status.success() && text(&again).contains("here it is again"), "{again:?}");
    assert_eq!(figures(one.path()), figures_of_one);
}

#[tokio::test]
async fn a_history_that_no_demo_wrote_is_left_alone() {
    let app = TestApp::start().await;
    let refused = run(app.store(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("has been started before") && said.contains("--database sqlite:./tallytree-demo"), "{said}");

    app.top_level("somebody", "gold").await;
    let before = figures(app.store());
    let refused = run(app.store(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("left alone") && said.contains("--database sqlite:./tallytree-demo"), "{said}");
    assert_eq!(figures(app.store()), before);
}

#[cfg(unix)]
#[test]
fn an_interruption_leaves_a_ledger_that_can_be_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let filling =
        demo(dir.path(), &["--events", "500000"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a demo");
    let started = std::time::Instant::now();
    let events = || -> rusqlite::Result<i64> {
        let ledger = Connection::open(dir.path().join("ledger.db"))?;
        ledger.query_row("select count(*) from events", [], |row| row.get(0))
    };
    while events().map_or(true, |count| count < 200) {
        assert!(started.elapsed().as_secs() < 60, "it does not begin");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let sent = Command::new("kill").args(["-INT", &filling.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    let ended = filling.wait_with_output().expect("its end");
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert!(text(&ended).contains("What is there is a valid ledger"), "{ended:?}");
    assert!(run(dir.path(), &[]).status.success());
}
