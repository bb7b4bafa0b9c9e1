//! Each kind of request, each transition, each role: who may, who may not, and what comes of it in the same commit.

use serde_json::{Value, json};

use super::{Line, RAISE, act, generic, path, poll, raise, top_up};
use crate::common::app::Person;

const ACTIONS: [&str; 4] = ["approve", "reject", "cancel", "forward"];

/// The status and code that a person gets for an action on a pending request of `low`; `None` where it is theirs to do.
type Expected = Option<(u16, &'static str)>;

fn forbidden() -> Expected {
    Some((403, "forbidden"))
}

/// What each kind says of the three who see the request: the requester, its parent, the operator.
fn expected(kind: &str, action: &str) -> [Expected; 3] {
    let requester = if action == "cancel" { None } else { forbidden() };
    let parents = matches!(kind, "credit_topup" | "generic" | "price_change");
    let parent = match action {
        "cancel" => forbidden(),
        "forward" if kind == "price_change" => forbidden(),
        _ if parents => None,
        _ => forbidden(),
    };
    let operator = match action {
        _ if parents => forbidden(),
        "cancel" => forbidden(),
        "forward" => Some((409, "invalid_transition")),
        _ => None,
    };
    [requester, parent, operator]
}

async fn publish(line: &Line) {
    line.app.admin().post("/products", json!({"sku": "pro", "name": "Pro", "base_cost": 1000})).await.created();
}

fn asks() -> [Value; 5] {
    [
        top_up(40),
        generic("hello"),
        json!({"kind": "price_change", "payload": {"sku": "pro", "cost": 900}}),
        json!({"kind": "tier_upgrade", "payload": {"tier": "gold"}}),
        json!({"kind": "referral_code", "payload": {"tag": "summer"}}),
    ]
}

#[tokio::test]
async fn whoever_may_not_answer_a_request_is_told_so_and_nothing_happens() {
    let line = Line::start().await;
    publish(&line).await;
    line.app.fund(&line.middle, 1000).await;
    let [low, middle, admin] = [line.as_low(), line.as_middle(), line.app.admin()];
    for ask in asks() {
        let kind = ask["kind"].as_str().expect("a kind").to_owned();
        let request = raise(&low, ask).await;
        let nobody = "01900000-0000-7000-8000-000000000000";
        for action in ACTIONS {
            for (person, expected) in [&low, &middle, &admin].into_iter().zip(expected(&kind, action)) {
                if let Some((status, code)) = expected {
                    act(person, action, &request).await.problem(status, code);
                }
            }
            for (name, person) in line.outsiders() {
                let foreign = act(&person, action, &request).await.problem(404, "not_found");
                let missing = act(&person, action, nobody).await.problem(404, "not_found");
                assert_eq!(foreign, missing, "{name} learns of a {kind}");
            }
            for person in [line.app.auditor(), line.app.finance(), line.app.payments()] {
                act(&person, action, &request).await.problem(403, "forbidden");
            }
            act(&line.app.stranger(), action, &request).await.problem(401, "unauthenticated");
        }
        let record = low.get(path(&request)).await.ok();
        assert_eq!((&record["status"], &record["decided_at"]), (&json!("pending"), &Value::Null), "{kind}");
    }
    assert_eq!((line.balance(&line.middle).await, line.balance(&line.low).await), (1000, 0));
    let [codes, tier] = ["/reseller-network/referrals".to_owned(), format!("/resellers/{}", line.low)];
    assert_eq!(low.get(codes).await.ok()["data"], json!([]));
    assert_eq!(low.get(tier).await.ok()["tier"], "standard");
}

/// Whose it is to do this to a request of `low`.
fn rightful<'p>(kind: &str, action: &str, people: [&'p Person; 3]) -> Option<&'p Person> {
    people.into_iter().zip(expected(kind, action)).find(|(_, expected)| expected.is_none()).map(|(person, _)| person)
}

#[tokio::test]
async fn a_decided_request_never_changes_again_and_says_what_became_of_it() {
    let line = Line::start().await;
    publish(&line).await;
    line.app.fund(&line.middle, 1000).await;
    let [low, middle, admin] = [line.as_low(), line.as_middle(), line.app.admin()];
    let people = [&low, &middle, &admin];
    for ask in asks() {
        let kind = ask["kind"].as_str().expect("a kind").to_owned();
        // Approval last: what it gives cannot be asked for again.
        for (decision, status) in [("reject", "rejected"), ("cancel", "cancelled"), ("approve", "completed")] {
            let request = raise(&low, ask.clone()).await;
            let person = rightful(&kind, decision, people).expect("somebody may");
            let answer = act(person, decision, &request).await.ok();
            assert_eq!(answer["status"], status);
            let record = poll(&low, &request).await;
            for (name, value) in [("status", json!(status)), ("kind", json!(kind)), ("payload", ask["payload"].clone())]
            {
                assert_eq!(record[name], value, "{kind} {decision}");
            }
            assert_eq!(record["requester"], line.low.as_str());
            assert!(record["decided_at"].as_str() >= record["created_at"].as_str(), "{record}");
            assert_eq!(record["result"].is_null(), decision != "approve", "{record}");
            for action in ACTIONS {
                if let Some(person) = rightful(&kind, action, people) {
                    act(person, action, &request).await.problem(409, "invalid_transition");
                }
            }
            assert_eq!(low.get(path(&request)).await.ok(), record);
        }
    }
    // Each approval had its effect, once.
    assert_eq!((line.balance(&line.middle).await, line.balance(&line.low).await), (960, 40));
    assert_eq!(low.get(format!("/resellers/{}", line.low)).await.ok()["tier"], "gold");
    assert_eq!(low.get(format!("/wallets/{}/quote?sku=pro", line.low)).await.ok()["unit_cost"], 900);
    let codes = low.get("/reseller-network/referrals").await.ok();
    assert_eq!((&codes["data"][0]["tag"], codes["data"].as_array().map(Vec::len)), (&json!("summer"), Some(1)));
}

#[tokio::test]
async fn the_effect_of_an_approval_is_in_its_commit() {
    let line = Line::start().await;
    publish(&line).await;
    line.app.fund(&line.middle, 1000).await;
    let [low, middle, admin] = [line.as_low(), line.as_middle(), line.app.admin()];
    let effects: [&[&str]; 5] = [
        &["CreditsTransferredOut", "CreditsTransferredIn"],
        &[],
        &["PriceSet"],
        &["TierChanged"],
        &["ReferralCodeIssued"],
    ];
    for (ask, effects) in asks().into_iter().zip(effects) {
        let request = raise(&low, ask.clone()).await;
        let kind = ask["kind"].as_str().expect("a kind");
        let before = admin.get("/audit/head").await.ok()["position"].clone();
        let person = rightful(kind, "approve", [&low, &middle, &admin]).expect("somebody may");
        act(person, "approve", &request).await.ok();
        let events = line.app.auditor().get(format!("/audit/events?after={before}")).await.ok();
        let events = events["data"].as_array().expect("events");
        let kinds: Vec<_> = events.iter().filter_map(|event| event["event_type"].as_str()).collect();
        let expected: Vec<_> = [&["UplineRequestCompleted"], effects].concat();
        // A wallet that crosses its threshold says so besides.
        let kinds: Vec<_> = kinds.into_iter().filter(|kind| *kind != "LowCredit").collect();
        assert_eq!(kinds, expected);
        let commands: Vec<_> = events.iter().map(|event| &event["metadata"]["command_id"]).collect();
        assert!(commands.iter().all(|command| *command == commands[0]), "{commands:?}");
    }
}

#[tokio::test]
async fn the_platform_pays_a_top_up_as_a_purchase_under_the_requests_id() {
    let line = Line::start().await;
    let request = raise(&line.as_top(), top_up(700)).await;
    let record = line.as_top().get(path(&request)).await.ok();
    assert_eq!(record["addressed_to"], "platform");
    let answer = act(&line.app.admin(), "approve", &request).await.ok();
    assert_eq!(answer["result"], json!({"credits": {"transfer_id": null}}));
    let lines = line.as_top().get(format!("/wallets/{}/transactions", line.top)).await.ok();
    let first = &lines["data"][0];
    assert_eq!(
        (&first["source"], &first["reference"], &first["amount"]),
        (&json!("purchase"), &json!(request), &json!(700))
    );
    // The reference is taken: nobody is paid for it twice.
    let again = json!({"amount": 700, "source": "purchase", "reference": request});
    let wallet = format!("/wallets/{}/credits", line.top);
    line.app.admin().post(&wallet, again).fresh_key().await.problem(409, "duplicate_reference");
    assert_eq!(line.balance(&line.top).await, 700);
}

#[tokio::test]
async fn a_top_up_that_cannot_be_paid_waits_until_it_can() {
    let line = Line::start().await;
    let request = raise(&line.as_low(), top_up(100)).await;
    line.app.fund(&line.middle, 60).await;
    let refusal = act(&line.as_middle(), "approve", &request).await.problem(402, "insufficient_credits");
    assert_eq!((&refusal["required"], &refusal["available"]), (&json!(100), &json!(60)));
    // A credit limit is for provisions only.
    let limit = json!({"credit_limit": 1000});
    line.app.admin().put(format!("/wallets/{}/credit-limit", line.middle), limit).await.ok();
    act(&line.as_middle(), "approve", &request).await.problem(402, "insufficient_credits");
    assert_eq!(line.as_low().get(path(&request)).await.ok()["status"], "pending");
    line.app.fund(&line.middle, 40).await;
    let answer = act(&line.as_middle(), "approve", &request).await.ok();
    let transfer = answer["result"]["credits"]["transfer_id"].as_str().expect("a transfer").to_owned();
    let transfer = line.as_low().get(format!("/wallets/{}/transfers/{transfer}", line.low)).await.ok();
    assert_eq!(transfer["amount"], 100);
    assert_eq!((line.balance(&line.middle).await, line.balance(&line.low).await), (0, 100));
}

#[tokio::test]
async fn a_repeated_approval_under_one_key_pays_once() {
    let line = Line::start().await;
    line.app.fund(&line.middle, 1000).await;
    let request = raise(&line.as_low(), top_up(100)).await;
    let approve = format!("{RAISE}/{request}/approve");
    let first = line.as_middle().post(&approve, json!({})).key("yes").await;
    let again = line.as_middle().post(&approve, json!({})).key("yes").await;
    // Another token of the same reseller is another actor: only the very same one is given its first answer again.
    assert!(!first.replayed() && first.status == 200);
    assert!(again.replayed() || again.status == 409, "{}", again.body);
    let token = line.as_middle();
    let request = raise(&line.as_low(), top_up(100)).await;
    let approve = format!("{RAISE}/{request}/approve");
    let first = token.post(&approve, json!({})).key("again").await;
    let again = token.post(&approve, json!({})).key("again").await;
    assert!(again.replayed() && again.text == first.text && again.position() == first.position());
    assert_eq!((line.balance(&line.middle).await, line.balance(&line.low).await), (800, 200));
}

#[tokio::test]
async fn nobody_completes_what_the_same_user_raised_whatever_hat_is_worn() {
    let line = Line::start().await;
    // The same user is a member of the child and of its parent.
    let both = "amphibious";
    let parent = line.app.top_level(both, "gold").await;
    let user = |tenant: &str| {
        let user = Some(aggregates::primitives::UserId::new(both).expect("a user"));
        let tenant = Some(tenant.parse().expect("a reseller"));
        let order = tallytree::access::directory::TokenOrder {
            user,
            tenant,
            ..tallytree::access::directory::TokenOrder::of(aggregates::primitives::Role::Reseller)
        };
        line.app.person(&order)
    };
    let child = line.app.child_of(&parent, "child", "standard").await;
    line.app.fund(&parent, 1000).await;
    let request = raise(&user(&child), top_up(10)).await;
    act(&user(&parent), "approve", &request).await.problem(403, "forbidden");
    // Another user of the parent may; and so may the one user for what another one raised.
    act(&line.app.reseller(&parent), "approve", &request).await.ok();
    let request = raise(&line.app.reseller(&child), top_up(10)).await;
    act(&user(&parent), "approve", &request).await.ok();
    // The one who raised it may still take it back, reject it with the other hat, or pass it on.
    for (tenant, action) in [(&child, "cancel"), (&parent, "reject"), (&parent, "forward")] {
        let request = raise(&user(&child), top_up(10)).await;
        act(&user(tenant), action, &request).await.ok();
    }
    // An operator with a reseller of its own is one user too.
    let request = raise(&user(&parent), json!({"kind": "tier_upgrade", "payload": {"tier": "platinum"}})).await;
    let operator = line.app.person(&tallytree::access::directory::TokenOrder {
        user: Some(aggregates::primitives::UserId::new(both).expect("a user")),
        ..tallytree::access::directory::TokenOrder::of(aggregates::primitives::Role::SuperAdmin)
    });
    act(&operator, "approve", &request).await.problem(403, "forbidden");
    act(&line.app.admin(), "approve", &request).await.ok();
}

#[tokio::test]
async fn what_only_the_platform_answers_goes_to_it_at_once() {
    let line = Line::start().await;
    for ask in [
        json!({"kind": "tier_upgrade", "payload": {"tier": "platinum"}}),
        json!({"kind": "referral_code", "payload": {}}),
    ] {
        let request = raise(&line.as_low(), ask).await;
        let record = line.as_low().get(path(&request)).await.ok();
        assert_eq!(record["addressed_to"], "platform");
        act(&line.as_middle(), "approve", &request).await.problem(403, "forbidden");
        act(&line.app.admin(), "approve", &request).await.ok();
        // The parent, through whose hands it went, sees that; but a code is its owner's.
        let seen = line.as_middle().get(path(&request)).await.ok();
        assert_eq!(seen["status"], "completed");
        if seen["kind"] == "referral_code" {
            assert_eq!(seen["result"], Value::Null);
            assert!(line.as_low().get(path(&request)).await.ok()["result"]["referral_code"].is_string());
            assert!(line.app.auditor().get(path(&request)).await.ok()["result"]["referral_code"].is_string());
        }
    }
}

#[tokio::test]
async fn a_price_is_the_direct_parents_within_its_bounds() {
    let line = Line::start().await;
    publish(&line).await;
    let ask = |cost: i64| json!({"kind": "price_change", "payload": {"sku": "pro", "cost": cost}});
    let cheap = raise(&line.as_low(), ask(849)).await;
    let refused = act(&line.as_middle(), "approve", &cheap).await.problem(422, "limit_exceeded");
    assert_eq!((&refused["least"], &refused["most"]), (&json!(850), &json!(2000)));
    assert_eq!(line.as_low().get(path(&cheap)).await.ok()["status"], "pending");
    let fair = raise(&line.as_low(), ask(850)).await;
    act(&line.as_middle(), "approve", &fair).await.ok();
    let quote = line.as_low().get(format!("/wallets/{}/quote?sku=pro", line.low)).await.ok();
    assert_eq!((&quote["unit_cost"], &quote["price_source"]), (&json!(850), &json!("parent_price")));
    // For a top-level reseller it is the platform.
    let request = raise(&line.as_top(), ask(1)).await;
    act(&line.app.admin(), "approve", &request).await.ok();
    let unknown = json!({"kind": "price_change", "payload": {"sku": "nothing", "cost": 1}});
    line.as_low().post(RAISE, unknown).await.problem(404, "not_found");
    line.app.admin().post("/products/pro/retire", json!({})).await.ok();
    line.as_low().post(RAISE, ask(900)).await.problem(409, "product_retired");
}

#[tokio::test]
async fn a_request_goes_up_by_itself_where_settings_say_so_as_far_as_the_platform() {
    let line = Line::start().await;
    let deep = line.app.child_of(&line.low, "deep", "standard").await;
    let forward = json!({"auto_forward": {"credit_topup": true}});
    for reseller in [&line.low, &line.middle, &line.top] {
        line.app.reseller(reseller).put("/reseller-network/settings", forward.clone()).await.ok();
    }
    let person = line.app.reseller(&deep);
    let raised = person.post(RAISE, top_up(30)).await;
    let location = raised.header("location").expect("where to poll").to_owned();
    let raised = raised.expect_status(202);
    assert_eq!((&raised["addressed_to"], &raised["status"]), (&json!("platform"), &json!("pending")));
    let request = raised["id"].as_str().expect("an id");
    assert!(location.starts_with(&format!("{}?min_position=", path(request))), "{location}");
    // Everyone it went through sees it; nobody of them answers it.
    for reseller in [&line.low, &line.middle, &line.top] {
        assert_eq!(line.app.reseller(reseller).get(&location).await.ok()["addressed_to"], "platform");
        act(&line.app.reseller(reseller), "approve", request).await.problem(403, "forbidden");
    }
    act(&line.app.admin(), "approve", request).await.ok();
    assert_eq!(poll(&person, request).await["status"], "completed");
    assert_eq!(line.balance(&deep).await, 30);
    // Another kind is not passed on: it rests with the parent, and goes on by hand, past those who forward it.
    let request = raise(&person, generic("hello")).await;
    assert_eq!(line.app.reseller(&line.low).get(path(&request)).await.ok()["addressed_to"], line.low.as_str());
    line.as_middle().get(path(&request)).await.problem(404, "not_found");
    let words = json!({"auto_forward": {"generic": true}});
    line.as_middle().put("/reseller-network/settings", words).await.ok();
    act(&line.app.reseller(&line.low), "forward", &request).await.ok();
    assert_eq!(line.as_top().get(path(&request)).await.ok()["addressed_to"], line.top.as_str());
    assert_eq!(person.get(path(&request)).await.ok()["addressed_to"], "upline");
    let answered = line.as_top().post(format!("{RAISE}/{request}/approve"), json!({"note": "granted"})).await.ok();
    assert_eq!(answered["result"], json!({"answer": "granted"}));
    assert_eq!(poll(&person, &request).await["result"], json!({"answer": "granted"}));
}

#[tokio::test]
async fn a_rejection_says_why() {
    let line = Line::start().await;
    let request = raise(&line.as_low(), top_up(10)).await;
    let reject = format!("{RAISE}/{request}/reject");
    line.as_middle().post(&reject, json!({"reason": "ask again in May"})).await.ok();
    assert_eq!(poll(&line.as_low(), &request).await["reason"], "ask again in May");
    let unknown = json!({"why": "because"});
    line.as_middle().post(&reject, unknown).await.problem(422, "invalid");
}

#[tokio::test]
async fn the_frozen_ask_nothing_and_pay_nothing_but_may_answer_in_words() {
    let line = Line::start().await;
    line.app.fund(&line.middle, 1000).await;
    let money = raise(&line.as_low(), top_up(10)).await;
    let words = raise(&line.as_low(), generic("hello")).await;
    line.app.admin().post(format!("/resellers/{}/freeze", line.middle), json!({})).await.ok();
    for person in [line.as_low(), line.as_middle()] {
        let refused = person.post(RAISE, generic("?")).await.problem(423, "reseller_frozen");
        assert_eq!(refused["frozen_by"], "platform");
    }
    act(&line.as_middle(), "approve", &money).await.problem(423, "reseller_frozen");
    assert_eq!(line.as_low().get(path(&money)).await.ok()["status"], "pending");
    act(&line.as_middle(), "approve", &words).await.ok();
    // Passed on to somebody who is not frozen it is paid: credits may come in. That is not the direct parent.
    act(&line.as_middle(), "forward", &money).await.ok();
    line.app.fund(&line.top, 1000).await;
    act(&line.as_top(), "approve", &money).await.ok();
    assert_eq!((line.balance(&line.low).await, line.balance(&line.middle).await), (10, 1000));
    assert_eq!(line.balance(&line.top).await, 990);
}

#[tokio::test]
async fn whoever_is_out_of_business_neither_asks_nor_pays() {
    let line = Line::start().await;
    line.app.fund(&line.middle, 1000).await;
    let request = raise(&line.as_low(), top_up(10)).await;
    line.app.admin().post(format!("/resellers/{}/deactivate", line.middle), json!({})).await.ok();
    act(&line.as_middle(), "approve", &request).await.problem(409, "reseller_inactive");
    line.as_middle().post(RAISE, generic("?")).await.problem(409, "reseller_inactive");
    line.app.admin().post(format!("/resellers/{}/reactivate", line.middle), json!({})).await.ok();
    act(&line.as_middle(), "approve", &request).await.ok();
}

#[tokio::test]
async fn what_cannot_be_asked_is_pointed_at() {
    let line = Line::start().await;
    for (ask, pointer) in [
        (json!({"kind": "credit_topup", "payload": {"amount": 0}}), "/payload/amount"),
        (json!({"kind": "credit_topup", "payload": {}}), "/payload/amount"),
        (json!({"kind": "credit_topup", "payload": {"amount": 1, "to": "me"}}), "/payload/to"),
        (json!({"kind": "tier_upgrade", "payload": {"tier": "standard"}}), "/payload/tier"),
        (json!({"kind": "generic", "payload": {"subject": "a"}}), "/payload/body"),
        (json!({"kind": "generic", "payload": {"subject": "a\u{0}", "body": "b"}}), "/payload/subject"),
    ] {
        let problem = line.as_low().post(RAISE, ask.clone()).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{ask}");
    }
    line.as_low().post(RAISE, json!({"kind": "favour", "payload": {}})).await.problem(422, "invalid");
    for person in [line.app.admin(), line.app.auditor(), line.app.finance(), line.app.payments()] {
        person.post(RAISE, top_up(1)).await.problem(403, "forbidden");
    }
    line.app.stranger().post(RAISE, top_up(1)).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_raising_that_is_repeated_under_its_key_is_one_request() {
    let line = Line::start().await;
    let low = line.as_low();
    let first = low.post(RAISE, top_up(5)).key("once").await;
    let again = low.post(RAISE, top_up(5)).key("once").await;
    assert!(!first.replayed() && again.replayed());
    assert_eq!((first.header("location"), &first.text), (again.header("location"), &again.text));
    low.post(RAISE, top_up(6)).key("once").await.problem(422, "idempotency_key_reused");
    let out = low.get(format!("{}?direction=out", super::REQUESTS)).await.ok();
    assert_eq!(out["data"].as_array().map(Vec::len), Some(1));
}

/// Everybody decides at once: one decision stands, and only an approval moves credits.
#[tokio::test]
async fn of_two_who_decide_at_once_one_is_told_that_it_came_too_late() {
    let line = Line::start().await;
    line.app.fund(&line.middle, 1000).await;
    let (low, middle, colleague) = (line.as_low(), line.as_middle(), line.as_middle());
    let mut paid = 0;
    for _ in 0..20 {
        let request = raise(&low, top_up(10)).await;
        let answers = tokio::join!(
            act(&middle, "approve", &request),
            act(&colleague, "approve", &request),
            act(&low, "cancel", &request),
            act(&colleague, "reject", &request),
        );
        let answers = [answers.0, answers.1, answers.2, answers.3];
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        let status = low.get(path(&request)).await.ok()["status"].clone();
        for answer in answers {
            if answer.status == 200 {
                assert_eq!(answer.ok()["status"], status);
            } else {
                answer.problem(409, "invalid_transition");
            }
        }
        paid += i64::from(status == "completed") * 10;
    }
    assert_eq!((line.balance(&line.middle).await, line.balance(&line.low).await), (1000 - paid, paid));
}
