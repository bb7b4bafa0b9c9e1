//! A role of the service's own that owns nothing: `scripts/service_role.sql` gives it all that serving needs, and no way to change
//! what has happened.

use std::path::Path;

use serde_json::json;
use tallytree::config::Config;

use crate::common::app::{Place, TestApp};
use crate::common::postgres::{self, execute};
use crate::common::process;

const GRANTS: &str = include_str!("../../scripts/service_role.sql");
const ROLE: &str = "tallytree_service";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_owns_nothing_serves_and_cannot_change_history() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let address = database.url().to_owned();
    let migrated = process::run(Path::new(&address), &["migrate"]).await;
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    execute(&server.url("postgres"), &format!("create role {ROLE} login")).expect("a role");
    for _ in 0..2 {
        // It may be run again.
        execute(&address, &GRANTS.replace(":role", ROLE)).expect("its rights");
    }
    let its_own = address.replacen("//tallytree@", &format!("//{ROLE}@"), 1);
    assert_ne!(its_own, address);

    let serve = |config: &mut Config| config.database = its_own.parse().expect("an address");
    let app = TestApp::start_at(Place::Database(database), serve).await;
    let top = app.top_level("top", "gold").await;
    let child = app.child_of(&top, "child", "standard").await;
    app.fund(&child, 1_000).await;
    let sold =
        app.admin().post(format!("/wallets/{child}/provisions"), json!({"cost": 300})).fresh_key().await.created();
    let refund = format!("/wallets/{child}/provisions/{}/refunds", sold["provision_id"].as_str().expect("an id"));
    app.admin().post(refund, json!({"amount": 100})).fresh_key().await.created();
    let client = app.reseller(&child).post("/clients", json!({"name": "Somebody"})).await.created();
    let forgotten = format!("/clients/{}", client["id"].as_str().expect("an id"));
    app.admin().get(forgotten).await.ok();
    app.admin()
        .post(format!("/wallets/{child}/provisions"), json!({"cost": 5_000}))
        .fresh_key()
        .await
        .problem(402, "insufficient_credits");
    for who in [app.admin(), app.reseller(&top), app.reseller(&child)] {
        for path in ["dashboard", "downline/tree?depth=3&limit=10", "activity?limit=20"] {
            who.get(format!("/reseller-network/{path}")).await.ok();
        }
    }
    assert_eq!(app.admin().get(format!("/wallets/{child}")).await.ok()["balance"], 800);

    let refused = [
        "update ledger.events set payload = '{}'",
        "update ledger.events set hash = hash where false",
        "delete from ledger.events",
        "delete from ledger.events where false",
        "truncate ledger.events",
        "drop table ledger.events",
        "alter table ledger.events disable trigger events_are_never_changed",
        "alter table ledger.events add column note text",
        "create or replace function ledger.refuse() returns trigger language plpgsql as $$ begin return null; end $$",
        "set session_replication_role = replica; update ledger.events set payload = '{}'",
        "insert into ledger.head values (2, 0, '', 0)",
        "delete from ledger.head",
        "truncate ledger.head",
        "alter table views.wallets disable row level security",
        "alter table views.wallets no force row level security",
        "drop policy scope on views.wallets",
        "create table ledger.mine (id bigint)",
        "create table views.mine (id bigint)",
        "drop schema ledger cascade",
        "update ledger._sqlx_migrations set success = false",
        "update views._sqlx_migrations set success = false",
    ];
    for sql in refused {
        let allowed = execute(&its_own, sql);
        let code = allowed
            .err()
            .and_then(|error| error.into_database_error())
            .and_then(|said| Some(said.code()?.into_owned()));
        // insufficient_privilege
        assert!(code.as_deref() == Some("42501"), "{sql}: {code:?}");
    }
    // To grant what one has not is no error, and changes nothing.
    execute(&its_own, "grant update on ledger.events to current_user").expect("a warning");
    execute(&its_own, "update ledger.events set hash = hash where false").expect_err("it has no right to it");
    let seen = execute(&its_own, "select 1 from ledger.events").expect("it reads");
    assert!(seen > 5);
    app.stop().await;
}
