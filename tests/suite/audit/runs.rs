//! Runs of `verify` that a running service is asked for.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use tallytree::store::sqlite::views_path;

use super::world::World;
use crate::common::app::{Person, Place};

/// Begins a run and waits for its end.
async fn run(auditor: &Person, body: Value) -> Value {
    let reply = auditor.post("/audit/verify", body).await;
    let place = reply.header("location").unwrap().to_owned();
    let begun = reply.expect_status(202);
    assert_eq!(place, format!("/audit/verify/{}", begun["id"].as_str().unwrap()));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let run = auditor.get(&place).await.ok();
        if run["status"] != "running" {
            return run;
        }
        assert!(Instant::now() < deadline, "{run}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn check<'a>(run: &'a Value, name: &str) -> &'a Value {
    let checks = run["report"]["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {run}"))
}

#[tokio::test]
async fn a_running_service_verifies_itself_and_names_what_is_violated() {
    let world = World::with_deeds(40).await;
    let (auditor, log) = (world.app.auditor(), world.log().await);
    let head = auditor.get("/audit/head").await.ok();
    let anchor = format!("{}:{}", head["position"], head["hash"].as_str().unwrap());
    let whole = run(&auditor, json!({"expect": [anchor]})).await;
    assert_eq!(whole["status"], "holds", "{whole}");
    assert_eq!((&whole["report"]["position"], &whole["report"]["hash"]), (&head["position"], &head["hash"]));
    for name in ["I1", "I2", "I4", "I8", "expected", "I9 read models"] {
        assert!(check(&whole, name)["checked"].as_u64().unwrap() > 0, "{name}");
        assert_eq!(check(&whole, name)["violations"], 0, "{name}");
    }
    assert!(whole["ended_at"].is_string() && whole["done"] == whole["total"], "{whole}");

    let line = log.iter().find(|raw| raw.event_type == "CreditsAdded").unwrap().position;
    let spoil = format!("update transactions set amount = amount + 1 where position = {line}");
    match world.app.place() {
        Place::Files(_) => {
            let views = Connection::open(views_path(world.app.store())).unwrap();
            assert_eq!(views.execute(&spoil, []).unwrap(), 1);
        }
        Place::Database(database) => {
            assert_eq!(database.sql_as_superuser(&format!("set search_path = views; {spoil}")).unwrap(), 1);
        }
    }
    let other = format!("1:{}", "00".repeat(32));
    let spoilt = run(&auditor, json!({"expect": [other]})).await;
    assert_eq!(spoilt["status"], "violated");
    let first = &check(&spoilt, "I9 read models")["first"];
    assert!(first["what"].as_str().unwrap().contains(&format!("transactions, position {line}")), "{first}");
    assert_eq!(check(&spoilt, "expected")["first"]["position"], 1);

    auditor.post("/audit/verify", json!({"expect": ["nonsense"]})).await.problem(422, "invalid");
    auditor.get("/audit/verify/01900000-0000-7000-8000-000000000000").await.problem(404, "not_found");
    for person in [world.app.finance(), world.app.reseller(&world.resellers[0])] {
        person.post("/audit/verify", json!({})).await.problem(403, "forbidden");
    }
}
