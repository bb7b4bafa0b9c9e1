//! What is kept beside the log and follows from it: snapshots, the index, facts, read models, personal data.

use serde_json::json;
use tallytree::audit::verify::Report;
use tallytree::store::sqlite::index_path;
use uuid::Uuid;

use super::history::{BOTTOM, DEBTOR, MIDDLE, PROVISION, TOP};
use super::resumed::write_on;
use super::tampered::{Tampered, check, violated};
use crate::common::app::on_postgres;
use crate::common::log::{client, reseller};

#[tokio::test]
async fn a_changed_snapshot_is_caught() {
    let copy = Tampered::new().await;
    let cast = if on_postgres() { "json" } else { "text" };
    // Its threshold is in it from its first event on, however far behind the snapshot is.
    let (told, changed) = (r#"_threshold":500"#, r#"_threshold":501"#);
    copy.sql(&format!(
        "update snapshots set payload = cast(replace(cast(payload as text), '{told}', '{changed}') as {cast}) \
         where aggregate_type = 'Wallet' and aggregate_id = '{}'",
        reseller(MIDDLE)
    ));
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 snapshots"]);
    let first = check(&report, "I9 snapshots").first.as_ref().unwrap();
    assert!(first.what.contains(&reseller(MIDDLE).to_string()), "{first:?}");
    assert!(first.expected.contains(told) && first.found.contains(changed), "{first:?}");
}

#[tokio::test]
async fn a_snapshot_that_claims_to_hold_later_events_is_caught() {
    let copy = Tampered::new().await;
    let payload = json!({"amount": 1, "kind": "correction", "balance": copy.balance(DEBTOR) - 1, "reserved": 0});
    copy.append("Wallet", reseller(DEBTOR), "CreditsRemoved", &payload, "super_admin");
    copy.recompute_chain();
    assert_eq!(check(&copy.verify(), "I9 snapshots").violations, 0, "one that is behind is folded on");
    let wallet = format!("aggregate_type = 'Wallet' and aggregate_id = '{}'", reseller(DEBTOR));
    copy.sql(&format!("update snapshots set position = position + 1000 where {wallet}"));
    assert!(check(&copy.verify(), "I9 snapshots").first.as_ref().unwrap().expected.contains("all events up to"));
    copy.sql(&format!("update snapshots set position = 1 where {wallet}"));
    assert!(check(&copy.verify(), "I9 snapshots").first.as_ref().unwrap().expected.contains("a position from"));
}

#[tokio::test]
async fn a_snapshot_from_before_the_first_event_is_caught() {
    let copy = Tampered::new().await;
    let wallet = format!("aggregate_type = 'Wallet' and aggregate_id = '{}'", reseller(DEBTOR));
    copy.sql(&format!("update snapshots set last_sequence = 0, position = 0 where {wallet}"));
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 snapshots"]);
    assert!(check(&report, "I9 snapshots").first.as_ref().unwrap().found.contains("sequence 0"));
}

#[tokio::test]
async fn a_second_snapshot_of_the_platform_is_caught() {
    let copy = Tampered::new().await;
    // Whoever reads only one of the two may read the right one.
    copy.sql(
        "insert into snapshots (aggregate_type, aggregate_id, last_sequence, current_snapshot, payload, state_version, position) \
         select aggregate_type, 'zzz', last_sequence, current_snapshot, payload, state_version, position from snapshots \
         where aggregate_type = 'Platform'",
    );
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 snapshots"]);
    assert!(check(&report, "I9 snapshots").first.as_ref().unwrap().found.contains("zzz"));
}

#[tokio::test]
async fn a_read_model_that_claims_not_to_have_begun_is_caught() {
    for projection in ["provisions", "downline_tree"] {
        let copy = Tampered::new().await;
        copy.sql(&format!("delete from checkpoints where projection = '{projection}'"));
        let report = copy.verify();
        assert_eq!(violated(&report), ["I9 read models"], "{projection}");
        let first = check(&report, "I9 read models").first.as_ref().unwrap();
        assert!(first.what.contains(projection) && first.expected.contains("no row"), "{first:?}");
    }
}

#[tokio::test]
async fn a_receipt_that_was_taken_away_is_caught() {
    if on_postgres() {
        return; // Its receipts are not numbered.
    }
    let copy = Tampered::new().await;
    // Of three the second one is gone: its key would do the same thing a second time.
    copy.sql(
        "insert into receipts (id, key, fingerprint, status, position, answer, created_at) \
         select 3, x'00000000000000000000000000000003', fingerprint, status, position, answer, created_at from receipts \
         where id = 1",
    );
    let report = copy.verify();
    assert_eq!(violated(&report), ["I7"]);
    assert!(check(&report, "I7").first.as_ref().unwrap().what.contains("receipt number 2"));

    let copy = Tampered::new().await;
    copy.sql("insert into receipt_keys (key, receipt) values (x'00000000000000000000000000000002', 2)");
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 index"]);
    assert!(check(&report, "I9 index").first.as_ref().unwrap().expected.contains("number 2"));
}

#[tokio::test]
async fn an_index_that_leads_elsewhere_is_caught() {
    if on_postgres() {
        return; // It has no index of ours.
    }
    for (damage, what) in [
        ("update streams set position = position + 1 where position = 3", "event 1 of"),
        ("delete from streams where position = 3", "number of events"),
        ("update receipt_keys set receipt = receipt + 1 where receipt = 1", "receipt key"),
        ("delete from receipt_keys where receipt = 1", "number of receipts"),
        ("update progress set hash = zeroblob(32)", "hash at the index's end"),
    ] {
        let copy = Tampered::new().await;
        copy.sql(damage);
        let report = copy.verify();
        assert_eq!(violated(&report), ["I9 index"], "{damage}");
        let first = check(&report, "I9 index").first.as_ref().unwrap();
        assert!(first.what.contains(what), "{damage}: {first:?}");
    }
}

#[tokio::test]
async fn a_changed_or_missing_fact_is_caught() {
    let copy = Tampered::new().await;
    copy.sql("delete from facts where kind = 'purchase_reference' and key = 'INV-1'");
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 facts"]);
    assert!(check(&report, "I9 facts").first.as_ref().unwrap().what.contains("INV-1"));

    let copy = Tampered::new().await;
    // Nobody would find it, and what was issued would begin at nought again.
    copy.sql("update facts set key = 'x' where kind = 'totals'");
    assert_eq!(violated(&copy.verify()), ["I9 facts"]);
}

#[tokio::test]
async fn a_changed_missing_or_invented_fact_of_a_provision_is_caught_and_named() {
    let there = Uuid::from_u128(PROVISION);
    let invented = Uuid::from_u128(PROVISION + 77);
    let cases = if on_postgres() {
        let at = "where kind = 'provision' and value like '%:334%'";
        let change = |from: &str, to: &str| format!("update facts set value = replace(value, '{from}', '{to}') {at}");
        let invent = format!("insert into facts select kind, '{invented}', value, position from facts {at}");
        [
            (change("\"refunded\":334", "\"refunded\":0"), there, "334", "\"refunded\":0"),
            (change("\"paid\":", "\"paid\":9"), there, "334", "\"paid\":9"),
            (format!("delete from facts {at}"), there, "334", "no such fact"),
            (invent, invented, "none", "334"),
        ]
    } else {
        let at = format!("where id = x'{}'", there.simple());
        let invent = format!("insert into provision_events values (x'{}', 3, null)", invented.simple());
        [
            // What came back would be paid out once more …
            (format!("update provision_events set refunded = null {at}"), there, "last refunded at", "not refunded"),
            // … or what something else cost.
            (format!("update provision_events set provisioned = provisioned - 1 {at}"), there, "made at", "made at"),
            (format!("delete from provision_events {at}"), there, "made at", "no such fact"),
            (invent, invented, "none", "made at 3"),
        ]
    };
    for (sql, id, expected, found) in cases {
        let copy = Tampered::new().await;
        assert_eq!(copy.try_sql(&sql), 1, "{sql}");
        let report = copy.verify();
        assert_eq!(violated(&report), ["I9 facts"], "{sql}");
        let tally = check(&report, "I9 facts");
        let first = tally.first.as_ref().unwrap();
        assert_eq!(tally.violations, 1, "{sql}: {first:?}");
        assert_eq!(first.what, format!("provision fact {id}"), "{sql}");
        assert!(first.expected.contains(expected) && first.found.contains(found), "{sql}: {first:?}");
        assert_ne!(first.expected, first.found);
    }
}

#[tokio::test]
async fn a_fact_of_a_provision_where_nobody_looks_for_it_is_caught() {
    if on_postgres() {
        return; // There all facts are in one table.
    }
    let copy = Tampered::new().await;
    copy.sql(
        "insert into facts select 'provision', '00000000-0000-0000-0000-0000000002bc', value, 1 from facts limit 1",
    );
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 facts"]);
    assert_eq!(check(&report, "I9 facts").first.as_ref().unwrap().expected, "none");
}

#[tokio::test]
async fn what_the_index_has_not_taken_in_yet_of_a_provision_is_not_missing_and_what_it_has_is_compared() {
    if on_postgres() {
        return; // It has no index of ours.
    }
    let copy = Tampered::new().await;
    let index = index_path(&copy.place.store());
    let older = index.with_extension("older");
    std::fs::copy(&index, &older).unwrap();
    let former = copy.end();
    // A provision, and a refund of one from before.
    write_on(&copy.place.database()).await;
    let note = |report: &Report| check(report, "I9 facts").note.clone().unwrap();
    let report = copy.verify();
    assert!(report.is_ok() && note(&report).contains(&format!("event {}", copy.end())), "{:?}", violated(&report));

    // As where the process was killed before its keeper came to them.
    for (damage, found) in [
        ("", ""),
        ("update provision_events set refunded = refunded - 1 where refunded is not null", "last refunded at"),
        (
            "update provision_events set refunded = (select max(position) from events) where refunded is not null",
            "last",
        ),
    ] {
        std::fs::copy(&older, &index).unwrap();
        if damage.is_empty() {
            let report = copy.verify();
            assert!(report.is_ok() && note(&report).contains(&format!("event {former}")), "{:?}", violated(&report));
        } else {
            copy.sql(damage);
            let report = copy.verify();
            assert_eq!(violated(&report), ["I9 facts"], "{damage}");
            assert!(check(&report, "I9 facts").first.as_ref().unwrap().found.contains(found), "{damage}");
        }
    }
    // Opening the store brings it up.
    std::fs::copy(&older, &index).unwrap();
    drop(copy.place.database().open().await.unwrap());
    let report = copy.verify();
    assert!(report.is_ok() && note(&report).contains(&format!("event {}", copy.end())), "{:?}", violated(&report));
}

#[tokio::test]
async fn a_changed_balance_in_the_read_models_is_caught() {
    let copy = Tampered::new().await;
    copy.sql(&format!("update wallets set balance = balance + 1 where reseller_id = '{}'", reseller(TOP)));
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 balances", "I9 read models"]);
    assert!(check(&report, "I9 balances").first.as_ref().unwrap().what.contains(&reseller(TOP).to_string()));
}

#[tokio::test]
async fn any_other_row_of_the_read_models_that_was_changed_lost_or_made_up_is_caught_and_named() {
    let copy = Tampered::new().await;
    let reference = "update transactions set reference = 'INV-2' where reference = 'INV-1'";
    let lost = format!("delete from dashboards where reseller_id = '{}'", reseller(BOTTOM));
    let made_up = format!("insert into tier_changes values ('/{}/', 7, 'gold', 1, '2001-02-03', '')", reseller(TOP));
    for (projection, sql, what, expected, found) in [
        ("wallets", reference, "transactions, position ", "reference 'INV-1'", "reference 'INV-2'"),
        ("dashboard", &lost, "dashboards, reseller_id ", "path '/", "no such row"),
        ("analytics", &made_up, "position 7, tier 'gold'", "no such row", "recorded_at '2001-02-03'"),
    ] {
        assert_eq!(copy.try_sql(sql), 1, "{sql}");
        let report = copy.verify();
        assert_eq!(violated(&report), ["I9 read models"]);
        let tally = check(&report, "I9 read models");
        let first = tally.first.as_ref().unwrap();
        assert_eq!(tally.violations, 1, "{first:?}");
        assert!(first.what.starts_with(projection) && first.what.contains(what), "{first:?}");
        assert!(first.expected.contains(expected) && first.found.contains(found), "{first:?}");
        copy.rebuild().await;
        assert!(copy.verify().is_ok(), "a rebuild mends it");
    }
}

#[tokio::test]
async fn values_of_another_kind_in_the_read_models_are_caught_and_named() {
    let copy = Tampered::new().await;
    let time = "update checkpoints set recorded_at = '2026-07-01T00:00:00.000000Z' where projection = 'provisions'";
    assert_eq!(copy.try_sql(time), 1);
    let report = copy.verify();
    assert_eq!(violated(&report), ["I9 read models"]);
    assert!(
        check(&report, "I9 read models").first.as_ref().unwrap().found.contains("2026-07-01"),
        "what answers are as of"
    );
    if on_postgres() {
        return; // Its columns hold no values of other kinds.
    }

    let balance = "update wallets set balance = balance + 0.5 where balance > 0";
    // The bytes are the same, and found by nobody who looks for bytes.
    let bytes = "update standings set figures = cast(figures as text)";
    let amount =
        retyped("transactions", "amount bigint", "amount text", "update transactions set amount = amount || ''");
    // Without its key a table takes a row twice.
    let twice = "create table copy as select * from transactions; drop table transactions; \
                 alter table copy rename to transactions; \
                 insert into transactions select * from transactions where reference = 'INV-1'";
    for (sql, names, what, found) in [
        (balance, &["I9 balances", "I9 read models"][..], "wallets, number", "the fraction"),
        (bytes, &["I9 read models"], "standings, ordinal", "a text that is none"),
        (&amount, &["I9 read models"], "transactions, position", "amount '"),
        (twice, &["I9 read models"], "transactions, position", "reference 'INV-1'"),
    ] {
        let copy = Tampered::new().await;
        copy.on_views(sql);
        let report = copy.verify();
        assert_eq!(violated(&report), names, "{sql}");
        let first = check(&report, "I9 read models").first.as_ref().unwrap();
        assert!(first.what.contains(what) && first.found.contains(found), "{sql}: {first:?}");
    }
}

/// Has a column take values of another type, and then does something.
fn retyped(table: &str, from: &str, to: &str, sql: &str) -> String {
    format!(
        "pragma writable_schema = on; \
         update sqlite_schema set sql = replace(sql, '{from}', '{to}') where name = '{table}'; \
         pragma writable_schema = reset; {sql}; pragma writable_schema = on; \
         update sqlite_schema set sql = replace(sql, '{to}', '{from}') where name = '{table}'; \
         pragma writable_schema = reset"
    )
}

#[tokio::test]
async fn personal_data_that_was_changed_or_outlived_its_client_is_caught() {
    let copy = Tampered::new().await;
    copy.sql("update personal_data set name = 'Somebody Else'");
    let report = copy.verify();
    assert_eq!(violated(&report), ["personal data"]);

    let copy = Tampered::new().await;
    let salt = format!("{:032x}", 2);
    copy.sql(&format!("insert into personal_data values ('{}', '{salt}', 'Client 2', null, '{{}}')", client(2)));
    let first = check(&copy.verify(), "personal data").first.clone().unwrap();
    assert!(first.what.contains(&client(2).to_string()) && first.expected.contains("forgotten"), "{first:?}");

    let copy = Tampered::new().await;
    copy.sql("delete from personal_data");
    assert_eq!(violated(&copy.verify()), ["personal data"]);
}
