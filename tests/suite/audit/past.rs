//! The past: as of a thousand random instants everything is what a reader who folds the whole log anew finds.

use serde_json::{Value, json};

use super::world::{Dice, Naive, World};

/// How many instants are looked at.
const INSTANTS: usize = 1_000;

#[tokio::test]
async fn as_of_a_thousand_random_instants_is_what_a_replay_by_brute_force_finds() {
    let world = World::with_deeds(260).await;
    let log = world.log().await;
    let auditor = world.app.auditor();
    let mut dice = Dice::new(11);
    let mut looked_at = [0; 4];
    for _ in 0..INSTANTS {
        let event = &log[dice.below(log.len())];
        let by_time = dice.below(2) == 0;
        let (naive, moment) = if by_time {
            let naive = Naive::of(log.iter().filter(|other| other.recorded_at <= event.recorded_at));
            (naive, format!("at={}", event.recorded_at))
        } else {
            let naive = Naive::of(log.iter().take_while(|other| other.position <= event.position));
            (naive, format!("position={}", event.position))
        };
        let id = &world.resellers[dice.below(world.resellers.len())];
        let which = dice.below(4);
        looked_at[which] += 1;
        match which {
            0 => {
                let reply = auditor.get(format!("/wallets/{id}?{moment}")).await;
                let Some(wallet) = naive.wallets.get(id) else {
                    reply.problem(404, "not_found");
                    continue;
                };
                let shown = reply.ok();
                assert_eq!(shown["balance"], wallet.balance, "{moment} {shown}");
                assert_eq!(shown["available"], wallet.balance + wallet.limit, "{moment} {shown}");
                let found =
                    (&shown["credit_limit"], &shown["low_credit_threshold"], &shown["held"], &shown["sequence"]);
                let (limit, threshold) = (json!(wallet.limit), json!(wallet.threshold));
                let expected = (&limit, &threshold, &json!(!wallet.holds.is_empty()), &json!(wallet.sequence));
                assert_eq!(found, expected, "{moment}");
            }
            1 => {
                let reply = auditor.get(format!("/resellers/{id}?{moment}")).await;
                let Some(reseller) = naive.resellers.get(id) else {
                    reply.problem(404, "not_found");
                    continue;
                };
                let shown = reply.ok();
                assert_eq!(shown["company_name"], reseller.company_name, "{moment}");
                assert_eq!(shown["tier"], reseller.tier, "{moment}");
                assert_eq!(shown["status"], reseller.status, "{moment}");
                assert_eq!(shown["frozen"], naive.is_frozen(id), "{moment}");
            }
            2 => {
                let reply = auditor.get(format!("/reseller-network/downline/tree?root={id}&limit=500&{moment}")).await;
                if naive.resellers.contains_key(id) {
                    assert_tree(&reply.ok(), &naive);
                } else {
                    reply.problem(404, "not_found");
                }
            }
            _ => {
                let shown = auditor.get(format!("/analytics/credits-outstanding?{moment}")).await.ok();
                let balances: Vec<i64> = naive.wallets.values().map(|wallet| wallet.balance).collect();
                let positive: i64 = balances.iter().filter(|balance| **balance > 0).sum();
                assert_eq!(shown["credits"], balances.iter().sum::<i64>(), "{moment}");
                assert_eq!(shown["positive"], positive, "{moment}");
            }
        }
    }
    assert!(looked_at.iter().all(|times| *times > 100), "{looked_at:?}");
}

/// A tree's nodes, each held against the naive reader; all of them are there.
fn assert_tree(node: &Value, naive: &Naive) -> usize {
    let id = node["id"].as_str().unwrap();
    let reseller = &naive.resellers[id];
    assert_eq!(node["company_name"], reseller.company_name);
    assert_eq!(node["tier"], reseller.tier);
    assert_eq!(node["frozen"], naive.is_frozen(id), "{id}");
    assert_eq!(node["balance"], json!(naive.wallets.get(id).map(|wallet| wallet.balance)), "{id}");
    let (downline, children) = naive.counts(id);
    assert_eq!((&node["downline_count"], &node["children_count"]), (&json!(downline), &json!(children)), "{id}");
    let shown: usize = node["children"].as_array().unwrap().iter().map(|child| assert_tree(child, naive)).sum();
    assert_eq!(shown, downline, "{id}");
    shown + 1
}

#[tokio::test]
async fn what_has_not_happened_yet_is_refused_and_what_was_not_there_yet_is_not_found() {
    let world = World::with_deeds(5).await;
    let (id, auditor) = (&world.resellers[0], world.app.auditor());
    let end = auditor.get("/audit/head").await.ok()["position"].as_u64().unwrap();
    for path in [
        format!("/wallets/{id}"),
        format!("/resellers/{id}"),
        "/reseller-network/downline/tree".to_owned(),
        "/analytics/credits-outstanding".to_owned(),
    ] {
        auditor.get(format!("{path}?position={}", end + 1)).await.problem(422, "invalid");
        auditor.get(format!("{path}?at=2999-01-01T00:00:00Z")).await.problem(422, "invalid");
        auditor.get(format!("{path}?at=2026-01-01T00:00:00Z&position=1")).await.problem(422, "invalid");
    }
    for path in [format!("/wallets/{id}"), format!("/resellers/{id}")] {
        auditor.get(format!("{path}?position=0")).await.problem(404, "not_found");
    }
    let tree = auditor.get("/reseller-network/downline/tree?position=0").await.ok();
    assert_eq!((&tree["downline_count"], &tree["children"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn a_difference_names_the_events_that_made_it_and_they_add_up() {
    let world = World::with_deeds(150).await;
    let log = world.log().await;
    let auditor = world.app.auditor();
    let end = log.last().unwrap().position;
    let mut dice = Dice::new(3);
    let (mut by_wallets, mut by_stretch) = (0, 0);
    for round in 0..40 {
        // Far apart, and near each other.
        let (one, other) = (1 + dice.below(log.len()), 1 + dice.below(log.len()));
        let (from, mut to) = (one.min(other), one.max(other));
        if round % 2 == 1 {
            to = to.min(from + 15);
        }
        let before = Naive::of(log.iter().take(from));
        let after = Naive::of(log.iter().take(to));
        let range = format!("from_position={from}&to_position={to}&limit=500");
        let all = |naive: &Naive| naive.wallets.values().map(|wallet| wallet.balance).sum::<i64>();
        let shown = auditor.get(format!("/audit/credits-outstanding/difference?{range}")).await.ok();
        assert_eq!(shown["matches"], true, "{shown}");
        assert_eq!(shown["change"], all(&after) - all(&before), "{range}");
        assert_eq!(sum_of(&shown["events"]["data"]), all(&after) - all(&before));

        let id = &world.resellers[dice.below(world.resellers.len())];
        let shown = auditor.get(format!("/audit/credits-outstanding/difference?{range}&reseller_id={id}")).await.ok();
        let whole = Naive::of(log.iter());
        let below = |naive: &Naive| -> i64 {
            naive.wallets.iter().filter(|(of, _)| whole.is_below(of, id)).map(|(_, wallet)| wallet.balance).sum()
        };
        assert_eq!((&shown["change"], &shown["matches"]), (&json!(below(&after) - below(&before)), &json!(true)));
        let lines = shown["events"]["data"].as_array().unwrap();
        assert_eq!(sum_of(&shown["events"]["data"]), below(&after) - below(&before));
        assert!(lines.iter().all(|line| whole.is_below(line["reseller_id"].as_str().unwrap(), id)));
        assert!(lines.is_sorted_by_key(|line| line["position"].as_u64()));
        // A stretch is looked through either as such or wallet by wallet.
        let wallets = whole.resellers.keys().filter(|of| whole.is_below(of, id)).count();
        *if wallets * 16 < to - from { &mut by_wallets } else { &mut by_stretch } += 1;

        let reply = auditor.get(format!("/audit/wallets/{id}/difference?{range}")).await;
        let Some(wallet) = after.wallets.get(id) else {
            reply.problem(404, "not_found");
            continue;
        };
        let shown = reply.ok();
        let change = wallet.balance - before.wallets.get(id).map_or(0, |wallet| wallet.balance);
        assert_eq!((&shown["change"], &shown["matches"]), (&json!(change), &json!(true)), "{shown}");
        assert_eq!(sum_of(&shown["events"]["data"]), change);
        let inside =
            |event: &Value| (from + 1..=to).contains(&usize::try_from(event["position"].as_u64().unwrap()).unwrap());
        assert!(shown["events"]["data"].as_array().unwrap().iter().all(inside));
    }
    assert!(by_wallets > 2 && by_stretch > 2, "{by_wallets}, {by_stretch}");

    // By pages, and by times.
    let id = &world.resellers[0];
    let whole = auditor.get(format!("/audit/wallets/{id}/difference?limit=500")).await.ok();
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = auditor.get(format!("/audit/wallets/{id}/difference?limit=3{cursor}")).await.ok();
        paged.extend(page["events"]["data"].as_array().unwrap().clone());
        match page["events"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(whole["events"]["data"].as_array().unwrap(), &paged);
    let time = &log[log.len() / 2].recorded_at;
    let by_time = auditor.get(format!("/audit/wallets/{id}/difference?from={time}&to_position={end}")).await.ok();
    let last = log.iter().rfind(|event| event.recorded_at <= *time).unwrap();
    assert_eq!(by_time["from_position"], last.position);
    auditor
        .get(format!("/audit/wallets/{id}/difference?from_position={end}&to_position=1"))
        .await
        .problem(422, "invalid");
}

fn sum_of(events: &Value) -> i64 {
    events.as_array().unwrap().iter().map(|event| event["amount"].as_i64().unwrap()).sum()
}
