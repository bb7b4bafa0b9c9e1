//! What was written down before tells what the store alone cannot: that this log, whole in itself, is another one.

use tallytree::audit::anchor::Anchor;
use tallytree::audit::verify::{Report, verify};
use tallytree::store::Database;

use super::history::{BOTTOM, original, write_history_from};
use super::tampered::{Tampered, assert_caught, check, violated};
use crate::common::app::Place;
use crate::common::log::noon;

fn verify_against(database: &Database, anchors: &[Anchor]) -> Report {
    verify(database, anchors, &mut |_, _| ()).unwrap()
}

/// What an auditor wrote down while the history was as it should be.
async fn written_down() -> Anchor {
    original().await.head
}

#[tokio::test]
async fn a_history_that_only_grew_is_the_one_that_was_written_down() {
    let copy = Tampered::new().await;
    let end = written_down().await;
    let early = Anchor { position: 3, hash: copy.hash(3) };
    let empty = Anchor { position: 0, hash: [0; 32] };
    let report = verify_against(&copy.place.database(), &[end, early, empty, early]);
    assert!(report.is_ok(), "{:?}", violated(&report));
    assert_eq!(check(&report, "expected").checked, 2);
}

#[tokio::test]
async fn a_changed_amount_with_everything_recomputed_is_caught_by_what_was_written_down_alone() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsAdded", Some(BOTTOM));
    copy.edit(at, |event| event["amount"] = 6_000.into());
    copy.recompute_chain();
    assert!(violated(&copy.verify()).contains(&"I2"), "with the chain alone, the balances tell");
    copy.recompute_balances(BOTTOM);
    copy.recompute_chain();
    copy.sql("update facts set value = replace(value, '15100', '16100') where kind = 'totals'");
    copy.forget_what_follows();
    let report = copy.verify();
    assert!(report.is_ok(), "in itself it is whole: {:?}", violated(&report));
    let anchor = written_down().await;
    let report = verify_against(&copy.place.database(), &[anchor]);
    assert_eq!(violated(&report), ["expected"]);
    assert_caught(&report, "expected", i64::try_from(anchor.position).unwrap(), "was written down");
    let report = verify_against(&copy.place.database(), &[Anchor { position: 3, hash: copy.hash(3) }]);
    assert!(report.is_ok(), "what was written down before the change still stands");
}

#[tokio::test]
async fn a_cut_tail_is_caught_by_what_was_written_down_although_nothing_else_tells() {
    let copy = Tampered::new().await;
    copy.cut_last_command();
    copy.forget_what_follows();
    let report = copy.verify();
    assert!(report.is_ok(), "in itself it is whole: {:?}", violated(&report));
    let anchor = written_down().await;
    let report = verify_against(&copy.place.database(), &[anchor]);
    assert_eq!(violated(&report), ["expected"]);
    assert_caught(&report, "expected", i64::try_from(anchor.position).unwrap(), "was written down");
    let first = check(&report, "expected").first.as_ref().unwrap();
    assert!(first.found.contains(&format!("ends at {}", copy.end())), "{first:?}");
}

#[tokio::test]
async fn a_whole_log_written_anew_is_caught_by_what_was_written_down_although_nothing_else_tells() {
    let place = Place::new();
    let other = &place.database();
    write_history_from(other, noon().plus_seconds(1)).await;
    let report = verify_against(other, &[]);
    assert!(report.is_ok(), "{:?}", violated(&report));
    let anchor = written_down().await;
    let report = verify_against(other, &[anchor]);
    assert_eq!(violated(&report), ["expected"]);
    let first = check(&report, "expected").first.as_ref().unwrap();
    assert!(first.found.contains("another history"), "{first:?}");
}
