//! Replays: every step of a wallet, and whether all ways to it agree.

use serde_json::Value;

use super::world::{Naive, World};
use crate::common::app::on_postgres;
use crate::common::process::run;

#[tokio::test]
async fn a_replay_shows_every_step_and_every_way_to_it_agrees() {
    let world = World::with_deeds(120).await;
    let (log, auditor) = (world.log().await, world.app.auditor());
    for id in &world.resellers {
        let own: Vec<_> = log.iter().filter(|raw| raw.aggregate_type == "Wallet" && raw.aggregate_id == *id).collect();
        let replay = auditor.get(format!("/audit/wallets/{id}/replay?steps=true&limit=500")).await.ok();
        assert_eq!((&replay["matches"], &replay["first_difference"]), (&Value::Bool(true), &Value::Null), "{replay}");
        assert_eq!(replay["events"], own.len());
        let wallet = auditor.get(format!("/wallets/{id}")).await.ok();
        for way in ["replayed", "replayed_by_cqrs_es", "read_model"] {
            for figure in ["balance", "reserved", "credit_limit", "low_credit_threshold", "held", "sequence", "money"] {
                assert_eq!(replay[way][figure], wallet[figure], "{way} {figure}");
            }
        }
        let steps = replay["steps"]["data"].as_array().unwrap();
        assert_eq!(steps.len(), own.len());
        for (step, raw) in steps.iter().zip(&own) {
            let naive = Naive::of(log.iter().take_while(|other| other.position <= raw.position));
            assert_eq!(step["position"], raw.position);
            assert_eq!(step["event_type"], raw.event_type);
            assert_eq!(step["balance"], naive.wallets[id].balance);
            assert_eq!(step["recorded_balance"], step["balance"]);
            assert_eq!(step["matches"], true);
            if !step["read_model_balance"].is_null() {
                assert_eq!(step["read_model_balance"], step["balance"]);
            } else {
                assert_eq!(step["change"], 0, "each event that moved credits is a line of the statement");
            }
        }
    }
    world.app.finance().get(format!("/audit/wallets/{}/replay", world.resellers[0])).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_replay_ends_where_it_is_told_to_and_its_steps_come_by_pages() {
    let world = World::with_deeds(80).await;
    let (log, auditor) = (world.log().await, world.app.auditor());
    let id = &world.resellers[0];
    let middle = &log[log.len() / 2];
    let naive = Naive::of(log.iter().take_while(|raw| raw.position <= middle.position));
    let path = format!("/audit/wallets/{id}/replay?until_position={}", middle.position);
    let replay = auditor.get(&path).await.ok();
    assert_eq!(replay["replayed"]["balance"], naive.wallets[id].balance);
    assert_eq!(replay["replayed"]["sequence"], naive.wallets[id].sequence);
    assert_eq!((&replay["matches"], &replay["steps"]), (&Value::Bool(true), &Value::Null), "{replay}");
    let naive = Naive::of(log.iter().filter(|raw| raw.recorded_at <= middle.recorded_at));
    let by_time = auditor.get(format!("/audit/wallets/{id}/replay?until={}", middle.recorded_at)).await.ok();
    assert_eq!(by_time["replayed"]["balance"], naive.wallets[id].balance);

    let whole = auditor.get(format!("{path}&steps=true&limit=500")).await.ok();
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = auditor.get(format!("{path}&steps=true&limit=4{cursor}")).await.ok();
        paged.extend(page["steps"]["data"].as_array().unwrap().clone());
        match page["steps"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(whole["steps"]["data"].as_array().unwrap(), &paged);
    for wrong in ["until_position=1&until=2026-01-01T00:00:00Z", "until_position=99999999", "steps=perhaps", "speed=2"]
    {
        auditor.get(format!("/audit/wallets/{id}/replay?{wrong}")).await.problem(422, "invalid");
    }
    let nobody = "01900000-0000-7000-8000-000000000000";
    auditor.get(format!("/audit/wallets/{nobody}/replay")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_replay_tells_what_was_tampered_with_and_where() {
    let world = World::with_deeds(60).await;
    let (log, auditor, id) = (world.log().await, world.app.auditor(), &world.resellers[0]);
    let lines: Vec<_> = log
        .iter()
        .filter(|raw| raw.aggregate_id == *id && raw.event_type == "CreditsAdded")
        .map(|raw| raw.position)
        .collect();
    let first = lines[0];
    world.app.tamper_with_views(&format!("update transactions set balance = balance + 1 where position = {first}"));
    let replay = auditor.get(format!("/audit/wallets/{id}/replay?steps=true&limit=500")).await.ok();
    assert_eq!((&replay["matches"], &replay["first_difference"]["position"]), (&Value::Bool(false), &lines[0].into()));
    assert_eq!(replay["first_difference"]["what"], "balance in the statement");
    let unlike: Vec<_> =
        replay["steps"]["data"].as_array().unwrap().iter().filter(|step| step["matches"] == false).collect();
    assert_eq!((unlike.len(), &unlike[0]["position"]), (1, &lines[0].into()));
    world.app.tamper_with_views(&format!("update transactions set balance = balance - 1 where position = {first}"));

    // `json` on a server, which keeps the text.
    let kind = if on_postgres() { "json" } else { "text" };
    let changed = "replace(cast(payload as text), '\"amount\":', '\"amount\":1')";
    let sql = format!("update events set payload = cast({changed} as {kind}) where position = {first}");
    assert_eq!(world.app.tamper_with_log(&sql), 1);
    let replay = auditor.get(format!("/audit/wallets/{id}/replay")).await.ok();
    assert_eq!(replay["matches"], false);
    assert_eq!(replay["first_difference"]["what"], "balance that the event carries");
    assert_eq!(replay["first_difference"]["position"], lines[0]);
}

#[tokio::test]
async fn the_command_line_replays_a_wallet_while_the_service_runs() {
    let world = World::with_deeds(40).await;
    let id = &world.resellers[0];
    let wallet = world.app.admin().get(format!("/wallets/{id}")).await.ok();
    let output = run(world.app.store(), &["replay", "wallet", id]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("WalletOpened") && text.contains(&format!("balance {}", wallet["balance"])), "{text}");
    assert!(text.contains("sums, fold, cqrs-es, what is recorded and what is shown agree"), "{text}");

    let lines = run(world.app.store(), &["replay", "wallet", id, "--json", "--until-position", "5"]).await;
    let text = String::from_utf8(lines.stdout).unwrap();
    let verdict: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&verdict["matches"], verdict["replayed"]["position"].as_u64()), (&Value::Bool(true), Some(5)));

    world.app.tamper_with_views(&format!("update transactions set balance = balance + 1 where reseller_id = '{id}'"));
    let output = run(world.app.store(), &["replay", "wallet", id]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("DIFFERS") && text.contains("THEY DIFFER at"), "{text}");
}
