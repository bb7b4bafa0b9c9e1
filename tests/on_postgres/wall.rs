//! The second wall, as PostgreSQL knows it: which tables stand behind it, and whose personal data it shows.

use serde_json::json;

use crate::common::app::TestApp;
use crate::common::postgres::execute;

/// Tables that belong to nobody, or to the service's own work, each with what it holds.
const NOT_A_TENANTS: [&str; 14] = [
    // the log and what is committed with it: read by the ledger, and by auditors, who see all
    "ledger.events",
    "ledger.head",
    "ledger.receipts",
    "ledger.facts",
    "ledger.snapshots",
    "ledger.tokens",
    // how far read models have come, and what holds for everybody
    "views.checkpoints",
    "views.policies",
    "views.products",
    "views.activity_terms",
    // for the operator's staff alone
    "refusals.refusals",
    // which migrations have run
    "ledger._sqlx_migrations",
    "views._sqlx_migrations",
    "refusals._sqlx_migrations",
];

/// A table that is added later stands behind the wall, or is named here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tenants_table_is_under_row_level_security_that_binds_its_owner_too() {
    let app = TestApp::start().await;
    let store = app.store().to_str().expect("an address").to_owned();
    let all = "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname in ('ledger', 'views', 'refusals') and c.relkind in ('r', 'p')";
    let named: Vec<String> = NOT_A_TENANTS.iter().map(|name| format!("'{name}'")).collect();
    let named = format!("n.nspname || '.' || c.relname in ({})", named.join(", "));
    let open = format!("{all} and not (c.relrowsecurity and c.relforcerowsecurity)");
    let count = |sql: String| execute(&store, &sql).expect("a count");
    assert_eq!(count(format!("{open} and not {named}")), 0, "a tenant's table stands open");
    assert_eq!(
        count(format!("{open} and {named}")),
        NOT_A_TENANTS.len() as u64,
        "one of those that are named has gone"
    );
    assert!(count(format!("{all} and c.relrowsecurity and c.relforcerowsecurity")) > 25);
    let without = "and not exists (select from pg_policy p where p.polrelid = c.oid)";
    assert_eq!(count(format!("{all} and c.relrowsecurity {without}")), 0, "a wall without a door");
    app.stop().await;
}

/// The service's role with our own conditions left out: it sees the personal data of the clients in scope, of no others, and
/// none at all where nothing is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_alone_shows_no_personal_data_from_outside_the_scope() {
    let app = TestApp::start().await;
    let top = app.top_level("top", "gold").await;
    let child = app.child_of(&top, "child", "standard").await;
    let other = app.top_level("other", "gold").await;
    for (number, owner) in [&top, &child, &child, &other].into_iter().enumerate() {
        let body = json!({"name": format!("Client {number}"), "email": format!("client{number}@example.com")});
        let made = app.reseller(owner).post("/clients", body).await;
        let position = made.position();
        let id = made.created()["id"].as_str().expect("an id").to_owned();
        // By the time it is shown the read models know whose it is.
        app.admin().get(format!("/clients/{id}?min_position={position}")).await.ok();
    }
    let store = app.store().to_str().expect("an address").to_owned();
    let seen = |from: &str, until: &str| {
        let sql = format!(
            "begin; set local tallytree.scope = 'subtree'; set local tallytree.path_from = '{from}'; \
             set local tallytree.path_until = '{until}'; create temp table seen on commit drop as select * from ledger.personal_data; \
             update seen set name = name; commit"
        );
        sql
    };
    let rows = |sql: &str| count_of_update(&store, sql);
    let range = |path: String| (path.clone() + "/", path + "0");
    for (path, expected) in
        [(format!("/{top}"), 3), (format!("/{top}/{child}"), 2), (format!("/{other}"), 1), (format!("/{child}"), 0)]
    {
        let (from, until) = range(path.clone());
        assert_eq!(rows(&seen(&from, &until)), expected, "{path}");
    }
    assert_eq!(execute(&store, "select * from ledger.personal_data").expect("a count"), 0, "without a scope");
    assert_eq!(execute(&store, "delete from ledger.personal_data").expect("a count"), 0, "without a scope");
    execute(&store, "insert into ledger.personal_data values ('somebody', '', 'name', null, '{}')")
        .expect_err("without a scope it can be written");
    let all = "set tallytree.scope = 'all'; select * from ledger.personal_data";
    assert_eq!(execute(&store, all).expect("a count"), 4);
    app.stop().await;
}

/// How many rows the last statement that counts them found: what a text of several statements says is the sum of them.
fn count_of_update(store: &str, sql: &str) -> u64 {
    // The temporary table's making counts its rows, and the update counts them again.
    execute(store, sql).expect("a count") / 2
}
