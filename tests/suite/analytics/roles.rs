//! Who may ask: staff about all and about anybody, a reseller about its own subtree, payments about nothing.

use super::Network;

const PATHS: &[&str] = &[
    "/analytics/top-resellers",
    "/analytics/tier-snapshot",
    "/analytics/credit-trends",
    "/analytics/credits-outstanding",
    "/analytics/balance-history",
    "/analytics/clients/signup-trends",
    "/analytics/clients/status-breakdown",
    "/reseller-network/dashboard",
    "/reseller-network/downline/performance",
    "/reseller-network/downline/health",
];

const ABOUT_ONE: &[&str] = &["/analytics/resellers/{}/stats", "/reseller-network/downline/{}"];

#[tokio::test]
async fn staff_reads_all_and_a_reseller_its_own_subtree() {
    let network = Network::start().await;
    let Network { app, top, left, leaf, .. } = &network;
    for path in PATHS {
        for staff in [app.admin(), app.auditor(), app.finance()] {
            staff.get(*path).await.ok();
            staff.get(format!("{path}?reseller_id={leaf}")).await.ok();
        }
        let mut own = app.reseller(left).get(*path).await.ok();
        assert_eq!(own, app.reseller(left).get(format!("{path}?reseller_id={left}")).await.ok(), "{path}");
        let mut told_to_staff = app.admin().get(format!("{path}?reseller_id={left}")).await.ok();
        // The figures are the same; what happened is told to each in words of its own sight.
        for answer in [&mut own, &mut told_to_staff] {
            if let Some(members) = answer.as_object_mut() {
                members.remove("recent_activity");
            }
        }
        assert_eq!(own, told_to_staff, "{path}");
        app.reseller(top).get(format!("{path}?reseller_id={leaf}")).await.ok();
        app.payments().get(*path).await.problem(403, "forbidden");
        app.stranger().get(*path).await.problem(401, "unauthenticated");
        app.admin().get(format!("{path}?colour=red")).await.problem(422, "invalid");
        app.admin().get(format!("{path}?reseller_id=x")).await.problem(422, "invalid");
    }
    for path in ABOUT_ONE {
        let path = path.replace("{}", leaf);
        for person in [app.admin(), app.auditor(), app.finance(), app.reseller(top), app.reseller(leaf)] {
            person.get(&path).await.ok();
        }
        app.payments().get(&path).await.problem(403, "forbidden");
        app.stranger().get(&path).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn what_lies_elsewhere_answers_as_what_is_not_there() {
    let network = Network::start().await;
    let Network { app, top, left, right, elsewhere, .. } = &network;
    let nobody = "01900000-0000-7000-8000-000000000000";
    let paths = PATHS.iter().map(|path| format!("{path}?reseller_id={{}}"));
    for path in paths.chain(ABOUT_ONE.iter().map(|path| (*path).to_owned())) {
        for hidden in [top, right, elsewhere] {
            let person = app.reseller(left);
            let foreign = person.get(path.replace("{}", hidden)).await;
            let missing = person.get(path.replace("{}", nobody)).await;
            assert_eq!(foreign.position(), missing.position());
            assert_eq!(foreign.problem(404, "not_found"), missing.problem(404, "not_found"), "{path}");
        }
        app.admin().get(path.replace("{}", nobody)).await.problem(404, "not_found");
    }
}
