//! Trends: periods and their ends, empty ones, other time zones, balances.

use serde_json::{Value, json};

use super::{Network, each, go_to};

/// What one wallet was given, when.
async fn funded(network: &Network, given: &[(&str, &str, i64)]) {
    for (instant, reseller, amount) in given {
        go_to(&network.app, instant).await;
        network.app.fund(reseller, *amount).await;
    }
}

fn volumes(trends: &Value) -> Vec<(String, i64)> {
    let row =
        |row: &Value| (row["period"].as_str().expect("a label").to_owned(), row["volume"].as_i64().expect("a volume"));
    trends.as_array().expect("periods").iter().map(row).collect()
}

fn named(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(label, volume)| ((*label).to_owned(), *volume)).collect()
}

#[tokio::test]
async fn volumes_by_month_with_the_empty_ones_and_a_bare_date_that_includes_its_day() {
    let network = Network::start().await;
    let (left, right, elsewhere) = (network.left.clone(), network.right.clone(), network.elsewhere.clone());
    funded(
        &network,
        &[
            ("2033-01-01T00:00:01Z", &left, 50_000),
            ("2033-01-31T23:59:58Z", &right, 25_000),
            ("2033-02-01T00:00:01Z", &elsewhere, 82_000),
            ("2033-04-30T23:00:00Z", &left, 7),
        ],
    )
    .await;
    let admin = network.app.admin();
    let path = "/analytics/credit-trends?interval=monthly&from=2033-01-01&to=2033-05-31";
    let trends = admin.get(path).await.ok();
    let months = [("2033-01", 75_000), ("2033-02", 82_000), ("2033-03", 0), ("2033-04", 7), ("2033-05", 0)];
    assert_eq!(volumes(&trends), named(&months));
    assert_eq!(
        trends[2],
        json!({"period": "2033-03", "volume": 0, "provisioned": 0, "refunded": 0, "transferred_in": 0,
               "transferred_out": 0, "commissions": 0, "net": 0})
    );
    let of_top = admin.get(format!("{path}&reseller_id={}", network.top)).await.ok();
    assert_eq!(volumes(&of_top)[..2], named(&[("2033-01", 75_000), ("2033-02", 0)]));
    let own = network.app.reseller(&right).get(path).await.ok();
    assert_eq!(volumes(&own)[0], ("2033-01".to_owned(), 25_000));

    for (stretch, expected) in [
        (
            "interval=daily&from=2033-01-30&to=2033-02-01",
            vec![("2033-01-30", 0), ("2033-01-31", 25_000), ("2033-02-01", 82_000)],
        ),
        ("interval=daily&from=2033-01-30&to=2033-02-01T00:00:00Z", vec![("2033-01-30", 0), ("2033-01-31", 25_000)]),
        ("interval=monthly&from=2033-01-31T23:59:59Z&to=2033-02-01T00:00:01Z", vec![("2033-01", 0), ("2033-02", 0)]),
        (
            "interval=monthly&from=2033-01-15T12:00:00Z&to=2033-02-10T01:02:03Z",
            vec![("2033-01", 25_000), ("2033-02", 82_000)],
        ),
        ("interval=weekly&from=2033-01-01&to=2033-01-03", vec![("2032-W53", 50_000), ("2033-W01", 0)]),
        ("interval=yearly&from=2032-06-01&to=2033-12-31", vec![("2032", 0), ("2033", 157_007)]),
        ("interval=daily&from=2033-03-01&to=2033-03-01T00:00:00Z", vec![]),
    ] {
        let trends = admin.get(format!("/analytics/credit-trends?{stretch}")).await.ok();
        assert_eq!(volumes(&trends), named(&expected), "{stretch}");
    }
}

#[tokio::test]
async fn days_are_those_of_the_time_zone_that_is_asked_for() {
    let network = Network::start().await;
    let (left, leaf) = (network.left.clone(), network.leaf.clone());
    funded(
        &network,
        &[
            ("2033-03-10T18:29:00Z", &leaf, 1),
            ("2033-03-10T18:31:00Z", &leaf, 20),
            ("2033-03-10T23:30:00Z", &left, 300),
            ("2033-03-11T06:00:00Z", &leaf, 4_000),
        ],
    )
    .await;
    let person = network.app.reseller(&left);
    for (zone, expected) in [
        ("UTC", [("2033-03-10", 321), ("2033-03-11", 4_000)]),
        ("Asia/Kolkata", [("2033-03-10", 1), ("2033-03-11", 4_320)]),
        ("%2B05:30", [("2033-03-10", 1), ("2033-03-11", 4_320)]),
        ("+01:00", [("2033-03-10", 21), ("2033-03-11", 4_300)]),
        ("Europe/Berlin", [("2033-03-10", 21), ("2033-03-11", 4_300)]),
        ("-07:00", [("2033-03-10", 4_321), ("2033-03-11", 0)]),
    ] {
        let path = format!("/analytics/credit-trends?tz={zone}&from=2033-03-10&to=2033-03-11");
        assert_eq!(volumes(&person.get(path).await.ok()), named(&expected), "{zone}");
    }
    for wrong in [
        "tz=Mars/Olympus",
        "interval=hourly",
        "from=yesterday",
        "from=2033-03-12&to=2033-03-10",
        "interval=daily&from=2000-01-01",
    ] {
        person.get(format!("/analytics/credit-trends?{wrong}")).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn every_figure_of_a_period_and_the_balance_at_its_end() {
    let network = Network::start().await;
    let Network { app, top, left, leaf, .. } = &network;
    go_to(app, "2033-05-02T09:00:00Z").await;
    app.fund(left, 5_000).await;
    let admin = app.admin();
    admin.post(format!("/wallets/{left}/transfers"), json!({"to": leaf, "amount": 3_000})).fresh_key().await.created();
    go_to(app, "2033-05-03T09:00:00Z").await;
    // The leaf pays 1 000, left (gold) earns 150 of it and top (platinum) another 150.
    let sold = network.sell(leaf, 1_000).await;
    go_to(app, "2033-05-05T09:00:00Z").await;
    let refunds = format!("/wallets/{leaf}/provisions/{}/refunds", sold["provision_id"].as_str().expect("an id"));
    admin.post(refunds, json!({"amount": 500})).await.created();
    network.take_on(leaf, "Ann").await;
    network.take_on(leaf, "Bob").await;

    let stretch = "from=2033-05-02&to=2033-05-05";
    let trends = app.reseller(left).get(format!("/analytics/credit-trends?{stretch}")).await.ok();
    assert_eq!(each(&trends, "volume"), [&json!(5_000), &json!(0), &json!(0), &json!(0)]);
    assert_eq!(each(&trends, "transferred_in"), [&json!(3_000), &json!(0), &json!(0), &json!(0)]);
    assert_eq!(each(&trends, "transferred_out"), [&json!(3_000), &json!(0), &json!(0), &json!(0)]);
    assert_eq!(each(&trends, "provisioned"), [&json!(0), &json!(1_000), &json!(0), &json!(0)]);
    assert_eq!(each(&trends, "refunded"), [&json!(0), &json!(0), &json!(0), &json!(500)]);
    assert_eq!(each(&trends, "commissions"), [&json!(0), &json!(150), &json!(0), &json!(-75)]);
    assert_eq!(each(&trends, "net"), [&json!(5_000), &json!(-850), &json!(0), &json!(425)]);

    let balances = app.reseller(left).get(format!("/analytics/balance-history?{stretch}")).await.ok();
    assert_eq!(each(&balances, "balance"), [&json!(5_000), &json!(4_150), &json!(4_150), &json!(4_575)]);
    let later = app.reseller(left).get("/analytics/balance-history?from=2033-05-04&to=2033-05-04").await.ok();
    assert_eq!(later, json!([{"period": "2033-05-04", "balance": 4_150, "net": 0}]));
    let board = app.reseller(left).get("/reseller-network/dashboard").await.ok();
    assert_eq!(board["subtree"]["balance"], 4_575);
    let of_top = app.reseller(top).get(format!("/analytics/balance-history?{stretch}")).await.ok();
    assert_eq!(each(&of_top, "balance"), [&json!(5_000), &json!(4_300), &json!(4_300), &json!(4_650)]);

    let signups = app.reseller(top).get(format!("/analytics/clients/signup-trends?{stretch}")).await.ok();
    assert_eq!(each(&signups, "signups"), [&json!(0), &json!(0), &json!(0), &json!(2)]);
    let own = app.reseller(&network.right).get(format!("/analytics/clients/signup-trends?{stretch}")).await.ok();
    assert_eq!(each(&own, "signups"), [&json!(0); 4]);
}

#[tokio::test]
async fn without_ends_a_trend_goes_from_the_first_event_to_now() {
    let network = Network::start().await;
    let admin = network.app.admin();
    go_to(&network.app, "2033-02-03T00:00:00Z").await;
    let months = admin.get("/analytics/credit-trends?interval=monthly").await.ok();
    assert_eq!(each(&months, "period"), [&json!("2032-12"), &json!("2033-01"), &json!("2033-02")]);
    let own = network.app.reseller(&network.right).get("/analytics/credit-trends?interval=monthly").await.ok();
    assert_eq!(each(&own, "period"), each(&months, "period"), "whoever asks, it begins where the log does");
    let years = admin.get("/analytics/balance-history?interval=yearly").await.ok();
    assert_eq!(each(&years, "period"), [&json!("2032"), &json!("2033")]);
    let days = admin.get("/analytics/clients/signup-trends").await.ok();
    assert_eq!((days[0]["period"].as_str(), days.as_array().map(Vec::len)), (Some("2032-12-20"), Some(46)));
}
