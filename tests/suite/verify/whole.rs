//! What is right passes, and everything in it was looked at.

use aggregates::platform::Policy;
use tallytree::audit::verify::{Report, head, verify};
use tallytree::clock::Clock;
use tallytree::engine::{self, EngineOptions};
use tallytree::projector;

use super::history::{Scribe, TOP, add, write_history};
use super::tampered::{Tampered, check, violated};
use crate::common::app::{Place, on_postgres};
use crate::common::log::noon;

#[tokio::test]
async fn a_history_that_the_engine_wrote_passes_and_everything_in_it_was_looked_at() {
    let copy = Tampered::new().await;
    let database = copy.place.database();
    let report = verify(&database, &[head(&database).unwrap()], &mut |_, _| ()).unwrap();
    let failed: Vec<_> = report.checks.iter().filter_map(|check| check.first.as_ref()).collect();
    assert!(report.is_ok(), "{failed:#?}");
    assert_eq!(report.position, copy.end());
    // A server keeps its indexes itself.
    for check in report.checks.iter().filter(|check| !(on_postgres() && check.name == "I9 index")) {
        assert!(check.checked > 0, "{} has looked at nothing", check.name);
    }
    assert_eq!(check(&report, "I8").checked, u64::try_from(copy.end()).unwrap() + 1, "each event, and the head");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_being_written_to_is_verified_as_it_stood_at_the_start() {
    let place = Place::new();
    let database = place.database();
    write_history(&database).await;
    let store = database.open().await.unwrap();
    let clock = Clock::manual(noon().plus_seconds(86_400));
    let engine = engine::start(store, clock.clone(), Policy::default(), EngineOptions::default()).await.unwrap();
    let projector = projector::start(&database, engine.committed()).await.unwrap();
    let mut scribe = Scribe { engine, clock, serial: 9_000 };
    let (done, mut is_done) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let reports: Vec<_> = (0..20).map(|_| verify(&database, &[], &mut |_, _| ()).unwrap()).collect();
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
    projector.shutdown().await;
    scribe.engine.shutdown().await;
}
