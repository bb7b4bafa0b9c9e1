//! Several nodes on one database: what one has answered binds all of them, from the very next command on.

use serde_json::json;

use crate::common::app::TestApp;

/// How many trials: `TALLYTREE_TEST_TRIALS`, a few unless it is set.
fn trials() -> usize {
    std::env::var("TALLYTREE_TEST_TRIALS").ok().and_then(|trials| trials.parse().ok()).unwrap_or(150)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_through_one_node_is_obeyed_by_the_very_next_command_through_every_other() {
    let first = TestApp::start().await;
    let top = first.top_level("top", "gold").await;
    let child = first.child_of(&top, "child", "standard").await;
    first.fund(&child, 1_000_000_000).await;
    let nodes = [first.beside().await, first.beside().await];
    let all = [&first, &nodes[0], &nodes[1]];
    let provisions = format!("/wallets/{child}/provisions");
    let sell =
        async |node: &TestApp| node.admin().post(&provisions, json!({"cost": 1, "description": "x"})).fresh_key().await;
    for trial in 0..trials() {
        // Any of them freezes, the line above or the wallet's own reseller; the others are asked at once, in either order.
        let (through, frozen) = (all[trial % 3], if trial % 2 == 0 { &top } else { &child });
        let others = [all[(trial + 1 + trial / 3 % 2) % 3], all[(trial + 2 - trial / 3 % 2) % 3]];
        for node in all {
            sell(node).await.created();
        }
        through.admin().post(format!("/resellers/{frozen}/freeze"), json!({"reason": "a trial"})).await.ok();
        for node in others {
            sell(node).await.problem(423, "reseller_frozen");
        }
        let lifts = others[trial / 2 % 2];
        lifts.admin().post(format!("/resellers/{frozen}/unfreeze"), json!({})).await.ok();
    }
    for node in nodes {
        node.stop().await;
    }
}

/// Three nodes, each with its own projector, fold one log: every credit is counted once, and each node sees what another has
/// answered when it asks for that position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_has_answered_every_other_shows_when_it_is_asked_for() {
    let first = TestApp::start().await;
    let top = first.top_level("top", "gold").await;
    let nodes = [first.beside().await, first.beside().await];
    let all = [&first, &nodes[0], &nodes[1]];
    let mut balance = 0;
    for number in 0..90_i64 {
        let body = json!({"amount": number + 1, "source": "bonus"});
        let through = all[usize::try_from(number).expect("a number") % 3].admin();
        let answer = through.post(format!("/wallets/{top}/credits"), body).fresh_key().await;
        let position = answer.position();
        answer.created();
        balance += number + 1;
        for node in all {
            let wallet = node.admin().get(format!("/wallets/{top}?min_position={position}")).await.ok();
            assert_eq!(wallet["balance"], balance);
        }
    }
    for node in nodes {
        node.stop().await;
    }
}
