//! What is right passes, and everything in it was looked at.

use aggregates::platform::Policy;
use tallytree::audit::verify::{Report, head, verify};
use tallytree::clock::Clock;
use tallytree::engine::{self, EngineOptions};
use tallytree::store::sqlite::SqliteStore;

use super::history::{Scribe, TOP, add, write_history};
use super::tampered::{Tampered, check, violated};
use crate::common::log::noon;

#[tokio::test]
async fn a_history_that_the_engine_wrote_passes_and_everything_in_it_was_looked_at() {
    let copy = Tampered::new().await;
    let report = verify(copy.dir.path(), &[head(copy.dir.path()).unwrap()], &mut |_, _| ()).unwrap();
    let failed: Vec<_> = report.checks.iter().filter_map(|check| check.first.as_ref()).collect();
    assert!(report.is_ok(), "{failed:#?}");
    assert_eq!(report.position, copy.end());
    for check in &report.checks {
        assert!(check.checked > 0, "{} has looked at nothing", check.name);
    }
    assert_eq!(check(&report, "I8").checked, u64::try_from(copy.end()).unwrap() + 1, "each event, and the head");
}

#[tokio::test]
async fn a_store_that_is_being_written_to_is_verified_as_it_stood_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    write_history(dir.path()).await;
    let store = SqliteStore::open(dir.path()).unwrap();
    let clock = Clock::manual(noon().plus_seconds(86_400));
    let engine = engine::start(store, clock.clone(), Policy::default(), EngineOptions::default()).await.unwrap();
    let mut scribe = Scribe { engine, clock, serial: 9_000 };
    let path = dir.path().to_owned();
    let (done, mut is_done) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let reports: Vec<_> = (0..20).map(|_| verify(&path, &[], &mut |_, _| ()).unwrap()).collect();
        done.send(reports).unwrap();
    });
    let reports = loop {
        scribe.platform(add(TOP, 1, None)).await;
        if let Ok(reports) = is_done.try_recv() {
            break reports;
        }
    };
    assert!(reports.iter().all(Report::is_ok), "{:?}", reports.iter().map(violated).collect::<Vec<_>>());
    assert!(reports.last().unwrap().position > reports[0].position, "nothing was written meanwhile");
    scribe.engine.shutdown().await;
}
