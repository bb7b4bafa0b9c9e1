//! Events that were changed, damaged, deleted, moved or made up: what the log itself tells.

use serde_json::json;
use uuid::Uuid;

use super::history::BOTTOM;
use super::tampered::{Tampered, assert_caught, check, violated};
use crate::common::app::on_postgres;
use crate::common::log::reseller;

#[tokio::test]
async fn one_changed_byte_is_caught_by_the_chain() {
    let copy = Tampered::new().await;
    let at = copy.find("PolicySet", None);
    copy.replace(at, "USD", "USE");
    let report = copy.verify();
    assert_caught(&report, "I8", at, "hash");
    assert_eq!(check(&report, "I8").violations, 1, "told once");
}

#[tokio::test]
async fn damage_is_a_violation_with_its_position_and_no_crash() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsAdded", Some(BOTTOM));
    if on_postgres() {
        // Its columns hold nothing but JSON.
        copy.sql(&format!("update events set payload = '[7]' where position = {at}"));
        assert_caught(&copy.verify(), "log", at, "Wallet");
    } else {
        copy.sql(&format!("update events set payload = substr(payload, 2) where position = {at}"));
        assert_caught(&copy.verify(), "log", at, "Wallet");
        copy.sql(&format!("update events set payload = cast(x'7bff7d' as text) where position = {at}"));
        assert_caught(&copy.verify(), "log", at, "Wallet");
    }
    copy.sql(&format!("update events set event_type = 'CreditsConjured' where position = {at}"));
    assert_caught(&copy.verify(), "log", at, "Wallet");
    copy.sql(&format!("update events set metadata = '\"nonsense\"' where position = {at}"));
    let time = if on_postgres() { "2001-02-03T04:05:06Z" } else { "never" };
    copy.sql(&format!("update events set aggregate_id = 'nobody', recorded_at = '{time}' where position = {at}"));
    assert_caught(&copy.verify(), "log", at, "nobody");
    assert_caught(&copy.verify(), "I1", at, "recorded_at");
}

#[tokio::test]
async fn columns_that_are_not_hashed_must_say_what_the_metadata_says() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsRemoved", None);
    copy.sql(&format!("update events set actor = 'somebody else' where position = {at}"));
    let report = copy.verify();
    assert_caught(&report, "log", at, "metadata");
    assert_eq!(violated(&report), ["log"]);
}

#[tokio::test]
async fn a_deleted_event_leaves_a_gap_and_breaks_the_chain() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsAdded", Some(BOTTOM));
    copy.sql(&format!("delete from events where position = {at}"));
    let report = copy.verify();
    assert_caught(&report, "I1", at + 1, "position");
    assert_caught(&report, "I8", at + 1, "hash");
}

#[tokio::test]
async fn a_deleted_event_is_missed_even_when_the_rest_is_moved_up_and_hashed_anew() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsAdded", Some(BOTTOM));
    copy.sql(&format!("delete from events where position = {at}"));
    copy.sql(&format!("update events set position = position + 1000000 where position > {at}"));
    copy.sql("update events set position = position - 1000001 where position > 1000000");
    copy.recompute_chain();
    let report = copy.verify();
    assert!(check(&report, "I1").first.as_ref().unwrap().what.contains("sequence of Wallet"));
    assert!(check(&report, "I2").violations > 0);
    assert_eq!(check(&report, "I8").violations, 0);
}

#[tokio::test]
async fn two_swapped_events_are_out_of_sequence() {
    let copy = Tampered::new().await;
    let at = copy.find("ProvisionRefunded", Some(BOTTOM));
    let sql = format!("select min(position) from events where event_type = 'ProvisionRefunded' and position > {at}");
    let other: i64 = copy.rows(&sql)[0][0].parse().unwrap();
    copy.swap(at, other);
    assert_caught(&copy.verify(), "I8", at, "hash");
    copy.recompute_chain();
    let report = copy.verify();
    assert_caught(&report, "I1", at, "sequence of Wallet");
    assert_caught(&report, "I2", at, "balance");
    assert_caught(&report, "I5", at, "refund");
    assert_eq!(check(&report, "I8").violations, 0);
}

#[tokio::test]
async fn an_inserted_event_is_caught() {
    let copy = Tampered::new().await;
    let balance = copy.balance(BOTTOM) + 1_000;
    let payload = json!({"transaction_id": Uuid::from_u128(1), "amount": 1_000, "source": "bonus", "balance": balance,
        "reserved": 0});
    let at = copy.append("Wallet", reseller(BOTTOM), "CreditsAdded", &payload, "super_admin");
    let report = copy.verify();
    assert_caught(&report, "I8", at, "hash");
    copy.recompute_chain();
    let report = copy.verify();
    // What was written with real events is not there: the sum of all that was issued.
    assert_eq!(violated(&report), ["I9 facts"]);
    assert!(check(&report, "I9 facts").first.as_ref().unwrap().what.contains("totals"));
}

#[tokio::test]
async fn a_cut_tail_is_caught_by_the_head() {
    let copy = Tampered::new().await;
    let end = copy.end();
    copy.sql(&format!("delete from events where position > {}", end - 3));
    let report = copy.verify();
    assert_caught(&report, "I8", end - 3, "head");
    assert_caught(&report, "I9 balances", end, "checkpoint");
    copy.move_head(end - 3);
    copy.forget_read_models();
    let report = copy.verify();
    assert_eq!(check(&report, "I8").violations, 0, "a head that was moved as well");
    assert!(check(&report, "I9 snapshots").violations > 0, "what was written beside the cut events tells");
}
