//! The second wall: on PostgreSQL the database itself shows nothing from outside a scope, also where a query does not ask for
//! less. The queries here have no conditions at all.

use std::collections::{BTreeMap, BTreeSet};

use aggregates::primitives::ResellerId;

use super::places::{Kind, on};
use super::{PATIENCE, World};
use crate::activity_feed::reading;
use crate::{Scope, ScopedRead};

/// Whose rows a query without any condition finds; its one column names a reseller, the platform, or nobody.
async fn seen(read: &mut ScopedRead, sql: &str) -> BTreeSet<String> {
    let rows = read.connection().fetch(sql, vec![]).await.unwrap();
    rows.iter().filter_map(|row| row.columns().string_or_null().unwrap()).collect()
}

/// For each table, whose rows there are.
const OWNED: &[&str] = &[
    "select reseller_id from wallets",
    "select reseller_id from transactions",
    "select reseller_id from provisions",
    "select reseller_id from refunds",
    "select reseller_id from clients",
    "select reseller_id from client_counts",
    "select reseller_id from dashboards",
    "select reseller_id from analytics_members",
    "select reseller_id from referral_codes",
    "select reseller_id from upline_request_counts",
    "select reseller_id from upline_request_addressees",
    "select m.reseller_id from tier_changes c left join resellers m on m.path = c.path",
];

/// The same where the line above is known too.
const OF_THE_LINE: &[&str] = &[
    "select reseller_id from resellers",
    "select reseller_id from prices",
    "select reseller_id from activity_resellers",
];

#[tokio::test]
async fn the_database_alone_shows_nothing_from_outside_the_scope() {
    if !on(Kind::Postgres) {
        return;
    }
    let world = World::folded(88, 900, 200).await;
    let everything: BTreeSet<u64> = (1..=world.history.events.len() as u64).collect();
    let mut not_empty: BTreeSet<&str> = BTreeSet::new();
    for viewer in &world.history.resellers {
        let below: BTreeSet<String> = world.history.below(*viewer).iter().map(ToString::to_string).collect();
        let own: BTreeSet<String> = below.iter().cloned().chain([viewer.to_string()]).collect();
        let line = world.history.line(Some(*viewer)).into_iter().map(|id| id.to_string());
        let own_and_line: BTreeSet<String> = own.iter().cloned().chain(line).collect();
        let mut read = world.read(Scope::Subtree(*viewer)).await;
        for (queries, allowed) in [(OWNED, &own), (OF_THE_LINE, &own_and_line)] {
            for sql in queries {
                let seen = seen(&mut read, sql).await;
                let foreign: Vec<&String> = seen.difference(allowed).collect();
                assert!(foreign.is_empty(), "{viewer} sees {foreign:?} by {sql}");
                if !seen.is_empty() {
                    not_empty.insert(sql);
                }
            }
        }
        let transfers = "select from_id, to_id from transfers";
        for row in read.connection().fetch(transfers, vec![]).await.unwrap() {
            let mut columns = row.columns();
            let sides = [columns.string().unwrap(), columns.string().unwrap()];
            assert!(sides.iter().any(|side| own.contains(side)), "{viewer} sees a transfer between {sides:?}");
        }
        let happened = "select r.reseller_id from activity a join activity_resellers r on r.number = a.number \
                        where a.audience <> 2 and not exists (select from activity_reach x where x.position = a.position)";
        let seen = seen(&mut read, happened).await;
        assert!(seen.is_subset(&own), "{viewer} sees activity of {:?}", seen.difference(&own).collect::<Vec<_>>());
        let rows = read.connection().fetch("select position from activity", vec![]).await.unwrap();
        let entries: BTreeSet<u64> = rows.iter().map(|row| row.columns().count().unwrap()).collect();
        let told = reading::told(&mut read, &everything).await.unwrap();
        assert!(
            told.keys().eq(&entries) && entries.len() < everything.len(),
            "{viewer} is told of what it has no entry of"
        );
    }
    // A test that finds nothing at all would prove nothing.
    let missing: Vec<&&str> = OWNED.iter().chain(OF_THE_LINE).filter(|sql| !not_empty.contains(**sql)).collect();
    assert!(missing.is_empty(), "nobody sees anything by {missing:?}");
}

/// Analytics go by numbers. Of the rows that are somebody's no others are shown than those in scope; rows that everybody is in are
/// not shown at all, unless it is said that what they hold will be sorted.
#[tokio::test]
async fn the_database_alone_shows_no_sums_from_outside_the_scope() {
    const BY_NUMBER: [&str; 3] =
        ["select ordinal from standings", "select distinct ordinal from days", "select ordinal from low_credits"];
    const PACKED: [&str; 2] = ["select count(*) from movements", "select count(*) from scores"];
    if !on(Kind::Postgres) {
        return;
    }
    let world = World::folded(90, 900, 200).await;
    let mut all = world.read(Scope::All).await;
    let mut numbers: BTreeMap<i64, String> = BTreeMap::new();
    for row in all.connection().fetch("select ordinal, reseller_id from analytics_members", vec![]).await.unwrap() {
        let mut columns = row.columns();
        numbers.insert(columns.integer().unwrap(), columns.string().unwrap());
    }
    for sql in PACKED {
        assert!(number(&mut all, sql).await > 0, "{sql}: there is nothing to hide");
    }
    drop(all);
    let mut not_empty: BTreeSet<&str> = BTreeSet::new();
    for viewer in &world.history.resellers {
        let below: BTreeSet<String> = world.history.below(*viewer).iter().map(ToString::to_string).collect();
        let mut read = world.read(Scope::Subtree(*viewer)).await;
        for sql in BY_NUMBER {
            for row in read.connection().fetch(sql, vec![]).await.unwrap() {
                let ordinal = row.columns().integer().unwrap();
                let whose = numbers.get(&ordinal);
                let own = whose.is_some_and(|whose| below.contains(whose) || *whose == viewer.to_string());
                assert!(own, "{viewer} sees {ordinal}, which is {whose:?}, by {sql}");
                not_empty.insert(sql);
            }
        }
        for sql in PACKED {
            assert_eq!(number(&mut read, sql).await, 0, "{viewer}: {sql}");
            read.connection().show_packed(true).await.unwrap();
            assert!(number(&mut read, sql).await > 0, "{viewer}: {sql}, opened");
            read.connection().show_packed(false).await.unwrap();
            assert_eq!(number(&mut read, sql).await, 0, "{viewer}: {sql}, closed again");
        }
    }
    assert_eq!(not_empty.len(), BY_NUMBER.len(), "nobody sees anything but by {not_empty:?}");
}

async fn number(read: &mut ScopedRead, sql: &str) -> i64 {
    read.connection().fetch_one(sql, vec![]).await.unwrap().unwrap().columns().integer().unwrap()
}

/// Who is not there sees nothing, and a session that says nothing neither sees nor writes.
#[tokio::test]
async fn without_a_scope_the_database_shows_nothing_and_takes_nothing() {
    if !on(Kind::Postgres) {
        return;
    }
    let world = World::folded(89, 200, 200).await;
    let nobody = Scope::Subtree(ResellerId(uuid::Uuid::from_u128(1)));
    let mut read = nobody.begin(&world.pool, 0, PATIENCE).await.unwrap();
    for sql in OWNED.iter().chain(OF_THE_LINE) {
        assert!(seen(&mut read, sql).await.is_empty(), "{sql}");
    }
    drop(read);
    assert_eq!(world.place.sql("delete from views.wallets"), 0, "what is not seen cannot be deleted");
    let insert = "insert into views.client_counts values ('somebody', 'active', 1)";
    assert!(world.place.try_sql(insert).is_err_and(|error| error.contains("row-level security")), "it can be written");
}
