//! Rankings, snapshots, what is outstanding, and one reseller at a glance.

use serde_json::{Value, json};

use super::{Network, each, go_to};

#[tokio::test]
async fn the_top_resellers_of_any_stretch_by_any_figure() {
    let network = Network::start().await;
    let Network { app, top, left, right, leaf, elsewhere } = &network;
    for reseller in [left, right, leaf, elsewhere] {
        app.fund(reseller, 10_000).await;
    }
    go_to(app, "2033-01-10T12:00:00Z").await;
    network.sell(leaf, 1_000).await;
    network.sell(elsewhere, 2_000).await;
    network.take_on(right, "Ann").await;
    go_to(app, "2033-01-10T12:00:10Z").await;
    network.sell(right, 1_000).await;
    network.take_on(right, "Bob").await;
    network.take_on(leaf, "Cid").await;
    let admin = app.admin();
    let best = admin.get("/analytics/top-resellers?limit=2").await.ok();
    assert_eq!(
        best[0],
        json!({"reseller_id": elsewhere, "company_name": "elsewhere Ltd", "tier": "gold", "provisioned": 1_700,
               "added": 10_000, "acquisitions": 0, "commissions": 0})
    );
    // Equal figures: the least id first.
    let ids = |list: &Value| -> Vec<String> {
        each(list, "reseller_id").into_iter().filter_map(|id| id.as_str().map(str::to_owned)).collect()
    };
    let mut equals = [right.as_str(), leaf.as_str()];
    equals.sort_unstable();
    assert_eq!(ids(&best), [elsewhere.as_str(), equals[0]]);
    for (query, expected) in [
        ("sort=acquisitions&limit=2", vec![right.as_str(), leaf]),
        ("sort=acquisitions&limit=1&to=2033-01-10T12:00:05Z", vec![right.as_str()]),
        ("sort=commissions&limit=2", vec![top.as_str(), left]),
        ("from=2033-01-10T12:00:05Z&limit=1", vec![right.as_str()]),
        ("from=2033-01-10&to=2033-01-10&limit=1", vec![elsewhere.as_str()]),
        ("from=2033-01-11&to=2033-01-12", vec![]),
        ("to=2033-01-09&sort=provisioned&limit=500&from=2033-01-01", vec![]),
    ] {
        assert_eq!(ids(&admin.get(format!("/analytics/top-resellers?{query}")).await.ok()), expected, "{query}");
    }
    // Credits were added before: everybody who got some is there, and those who did nothing are not.
    let added = admin.get("/analytics/top-resellers?sort=added&to=2033-01-01").await.ok();
    assert_eq!(each(&added, "added"), [&json!(10_000); 4]);
    let mine = app.reseller(left).get("/analytics/top-resellers").await.ok();
    assert_eq!(ids(&mine), [leaf.as_str(), left.as_str()]);
    assert_eq!(ids(&admin.get(format!("/analytics/top-resellers?reseller_id={left}")).await.ok()), ids(&mine));
    for wrong in ["limit=0", "limit=501", "sort=beauty", "from=2033-01-03&to=2033-01-01"] {
        admin.get(format!("/analytics/top-resellers?{wrong}")).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn tiers_are_counted_as_they_were() {
    let network = Network::start().await;
    let Network { app, left, right, elsewhere, .. } = &network;
    let admin = app.admin();
    let tiers =
        |platinum: i64, gold: i64, standard: i64| json!({"platinum": platinum, "gold": gold, "standard": standard});
    assert_eq!(admin.get("/analytics/tier-snapshot").await.ok(), tiers(1, 2, 2));
    go_to(app, "2033-01-02T10:00:00Z").await;
    admin.put(format!("/resellers/{right}/tier"), json!({"tier": "gold"})).await.ok();
    admin.post(format!("/resellers/{elsewhere}/deactivate"), json!({})).await.ok();
    // Registered by its upline it waits for approval and is not counted yet.
    let waiting = json!({"user_id": "newcomer", "company_name": "Newcomer"});
    let waiting = app.reseller(left).post("/resellers", waiting).await.created();
    assert_eq!(admin.get("/analytics/tier-snapshot").await.ok(), tiers(1, 2, 1));
    go_to(app, "2033-01-03T10:00:00Z").await;
    let path = format!("/resellers/{}/approve", waiting["id"].as_str().expect("an id"));
    admin.post(path, json!({})).await.ok();
    for (query, expected) in [
        ("", tiers(1, 2, 2)),
        ("?to=2033-01-01", tiers(1, 2, 2)),
        ("?to=2033-01-02T10:00:00Z", tiers(1, 2, 2)),
        ("?to=2033-01-02", tiers(1, 2, 1)),
        ("?to=2032-01-01", tiers(0, 0, 0)),
        ("?from=2033-01-01", tiers(0, 0, 1)),
        ("?from=2033-01-01&to=2033-01-02", tiers(0, 0, 0)),
        ("?from=2032-12-01&to=2033-01-02", tiers(1, 2, 1)),
    ] {
        assert_eq!(admin.get(format!("/analytics/tier-snapshot{query}")).await.ok(), expected, "{query}");
    }
    assert_eq!(app.reseller(left).get("/analytics/tier-snapshot").await.ok(), tiers(0, 1, 2));
}

#[tokio::test]
async fn credits_outstanding_in_credits_and_in_money() {
    let network = Network::start().await;
    let Network { app, left, right, leaf, .. } = &network;
    let admin = app.admin();
    let nothing = json!({"credits": 0, "positive": 0, "negative": 0, "money": {"amount": "0.00", "currency": "USD"}});
    assert_eq!(admin.get("/analytics/credits-outstanding").await.ok(), nothing);
    app.fund(leaf, 2_500).await;
    app.fund(right, 100).await;
    let removal = json!({"amount": 400, "kind": "chargeback", "reason": "the bank took it back"});
    admin.post(format!("/wallets/{right}/credits/remove"), removal).fresh_key().await.created();
    let all = admin.get("/analytics/credits-outstanding").await.ok();
    let expected =
        json!({"credits": 2_200, "positive": 2_500, "negative": -300, "money": {"amount": "22.00", "currency": "USD"}});
    assert_eq!(all, expected);
    assert_eq!(app.reseller(left).get("/analytics/credits-outstanding").await.ok()["credits"], 2_500);
    app.fund(right, 300).await;
    assert_eq!(app.finance().get("/analytics/credits-outstanding").await.ok()["negative"], 0);
}

#[tokio::test]
async fn clients_by_status_and_a_reseller_at_a_glance() {
    let network = Network::start().await;
    let Network { app, top, left, leaf, elsewhere, .. } = &network;
    app.fund(leaf, 5_000).await;
    let ann = network.take_on(leaf, "Ann").await;
    network.take_on(left, "Bob").await;
    network.take_on(elsewhere, "Cid").await;
    app.reseller(leaf).post(format!("/clients/{ann}/activate"), json!({})).await.ok();
    go_to(app, "2033-02-01T00:00:00Z").await;
    network.sell(leaf, 1_000).await;
    let breakdown = app.reseller(top).get("/analytics/clients/status-breakdown").await.ok();
    let expected = json!({"onboarded": 1, "active": 1, "suspended": 0, "deactivated": 0, "forgotten": 0, "total": 2});
    assert_eq!(breakdown, expected);
    assert_eq!(app.admin().get("/analytics/clients/status-breakdown").await.ok()["total"], 3);

    let stats = app.reseller(leaf).get(format!("/analytics/resellers/{leaf}/stats")).await.ok();
    assert_eq!(
        (&stats["balance"], &stats["tier"], &stats["low_credit"]),
        (&json!(4_000), &json!("standard"), &json!(false))
    );
    assert_eq!((&stats["added_total"], &stats["acquisitions_total"]), (&json!(5_000), &json!(1)));
    // Both were more than 30 days ago; the sale was not.
    assert_eq!((&stats["last_30_days"]["added"], &stats["last_30_days"]["provisioned"]), (&json!(0), &json!(1_000)));
    let of_left = app.reseller(top).get(format!("/analytics/resellers/{left}/stats")).await.ok();
    assert_eq!((&of_left["provisioned_total"], &of_left["commissions_total"]), (&json!(0), &json!(150)));
    assert_eq!(of_left["subtree"]["resellers"], 2);
    assert_eq!(
        (&of_left["subtree"]["balance"], &of_left["subtree"]["provisioned_total"]),
        (&json!(4_150), &json!(1_000))
    );
    assert_eq!(of_left["subtree"]["last_30_days"]["provisioned"], 1_000);
    assert_eq!(of_left["subtree"]["acquisitions_total"], 2);
}
