//! Every route there is, once: how it is asked, what it names, and by which rule of DOMAIN and API it is answered.

/// What a route names, and so what its targets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Nothing of anybody's.
    Nothing,
    Reseller,
    Client,
    /// A wallet and a provision.
    Provision,
    /// A wallet and a transfer.
    Transfer,
    Request,
    /// A referral code, with its owner's id.
    Code,
    Product,
}

/// Who may. `super_admin` may wherever nothing else is said; auditors and finance read; `payments` adds purchases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Read by whoever has it in sight.
    ReadInSight,
    /// Read by itself and the staff: one's own affairs are not for the upline.
    ReadOwn,
    /// A reseller's own affairs without naming it: the staff must name one.
    ReadOwnUnnamed,
    /// Read by all but `payments`.
    Read,
    /// Read by the staff alone.
    ReadByStaff,
    /// Read by the operator and auditors alone.
    ReadLog,
    /// As [`Self::ReadLog`], about something that must be there.
    ReadLogOf,
    /// As [`Self::ReadLogOf`], where nothing that this test names is there.
    ReadLogOfNone,
    /// Read by the owner, the operator and auditors.
    ReadClient,
    /// As [`Self::ReadClient`], a list.
    ReadClients,
    /// Read by its requester, whom it was put to, and the staff.
    ReadRequest,
    /// The platform's to do; whoever sees the target is told so.
    Platform,
    /// The platform's to do, and nobody's in particular.
    PlatformAlone,
    /// The platform's and finance's to do.
    CloseBooks,
    /// Its own or the platform's to do.
    Itself,
    /// As [`Self::Itself`], by one in business that is neither frozen nor held.
    ItselfUnfrozen,
    /// Its own, its upline's or the platform's to do.
    Line,
    /// Any ancestor's or the platform's to do.
    Upline,
    /// As [`Self::Upline`], and not by who is frozen.
    UplineUnfrozen,
    /// As [`Self::UplineUnfrozen`], where the freeze is its own or a lower one's.
    Unfreeze,
    /// The direct parent's to do, for a top-level reseller the platform's.
    Parent,
    /// The platform's and the payment system's to do.
    Credits,
    /// From the target's wallet to that of its first child.
    TransferFrom,
    /// From one's own wallet to the target's.
    TransferTo,
    /// From the target's wallet to one's own: the direct parent's, where the child lets it.
    TakeBack,
    /// By the owner or the platform; for all else there is no such client.
    Client,
    /// The platform's; for whoever does not own it there is no such client.
    ClientPlatform,
    /// A client of one's own is sold to from one's own wallet.
    SellToClient,
    /// For a child of one's own; the platform's for any.
    Register,
    /// By a reseller in business for itself, or the platform for any.
    Onboard,
    /// By its addressee.
    Answer,
    /// By its addressee, where its kind is passed on.
    Forward,
    /// By its requester.
    Cancel,
    /// By any reseller in business.
    Raise,
    /// Named by `reseller_id`, its own or the platform's to change; any other is not there.
    OwnNamed,
}

/// A route, and one way to ask it.
#[derive(Debug)]
pub struct Route {
    pub method: &'static str,
    /// As the router spells it.
    pub pattern: &'static str,
    /// As it is asked: `{id}` and `{id2}` are the target's, `{own}` the caller's own reseller (for the staff, some reseller),
    /// `{head}` where the log was when the network stood.
    pub ask: &'static str,
    pub about: About,
    pub rule: Rule,
    /// The body, with the same places and `{fresh}` for what nobody has used.
    pub body: &'static str,
}

const fn get(pattern: &'static str, ask: &'static str, about: About, rule: Rule) -> Route {
    Route { method: "GET", pattern, ask, about, rule, body: "" }
}

const fn command(
    method: &'static str,
    pattern: &'static str,
    ask: &'static str,
    about: About,
    rule: Rule,
    body: &'static str,
) -> Route {
    Route { method, pattern, ask, about, rule, body }
}

/// What everybody may ask who can reach the service; nothing of anybody's is in it.
pub const OPEN: &[(&str, &str)] =
    &[("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/openapi.json"), ("POST", "/dev/clock")];

/// The table.
pub const ROUTES: &[Route] = &[
    get("/resellers", "/resellers", About::Nothing, Rule::Read),
    get("/resellers/{id}", "/resellers/{id}", About::Reseller, Rule::ReadInSight),
    get("/resellers/{id}/prices", "/resellers/{id}/prices", About::Reseller, Rule::ReadInSight),
    get("/wallets/{reseller_id}", "/wallets/{id}", About::Reseller, Rule::ReadInSight),
    get("/wallets/{reseller_id}", "/wallets/{id}?position={head}", About::Reseller, Rule::ReadInSight),
    get("/wallets/{reseller_id}/transactions", "/wallets/{id}/transactions", About::Reseller, Rule::ReadInSight),
    get("/wallets/{reseller_id}/quote", "/wallets/{id}/quote?sku=seat", About::Reseller, Rule::ReadInSight),
    get("/wallets/{reseller_id}/provisions", "/wallets/{id}/provisions", About::Reseller, Rule::ReadInSight),
    get(
        "/wallets/{reseller_id}/provisions/{provision_id}",
        "/wallets/{id}/provisions/{id2}",
        About::Provision,
        Rule::ReadInSight,
    ),
    get(
        "/wallets/{reseller_id}/transfers/{transfer_id}",
        "/wallets/{id}/transfers/{id2}",
        About::Transfer,
        Rule::ReadInSight,
    ),
    get("/clients", "/clients", About::Nothing, Rule::ReadClients),
    get("/clients/{id}", "/clients/{id}", About::Client, Rule::ReadClient),
    get("/products", "/products", About::Nothing, Rule::Read),
    get("/products", "/products?reseller_id={id}", About::Reseller, Rule::ReadInSight),
    get("/products/{sku}", "/products/{id}", About::Product, Rule::ReadInSight),
    get("/platform/policy", "/platform/policy", About::Nothing, Rule::ReadByStaff),
    get("/reseller-network/dashboard", "/reseller-network/dashboard", About::Nothing, Rule::Read),
    get(
        "/reseller-network/dashboard",
        "/reseller-network/dashboard?reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/reseller-network/activity", "/reseller-network/activity", About::Nothing, Rule::Read),
    get(
        "/reseller-network/activity",
        "/reseller-network/activity?reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/reseller-network/downline/tree", "/reseller-network/downline/tree", About::Nothing, Rule::Read),
    get(
        "/reseller-network/downline/tree",
        "/reseller-network/downline/tree?root={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/reseller-network/referrals", "/reseller-network/referrals", About::Nothing, Rule::Read),
    get("/reseller-network/referrals", "/reseller-network/referrals?reseller_id={id}", About::Reseller, Rule::ReadOwn),
    get("/reseller-network/settings", "/reseller-network/settings", About::Nothing, Rule::ReadOwnUnnamed),
    get("/reseller-network/settings", "/reseller-network/settings?reseller_id={id}", About::Reseller, Rule::ReadOwn),
    get("/reseller-network/upline/requests", "/reseller-network/upline/requests", About::Nothing, Rule::Read),
    get(
        "/reseller-network/upline/requests",
        "/reseller-network/upline/requests?direction=out&reseller_id={id}",
        About::Reseller,
        Rule::ReadOwn,
    ),
    get(
        "/reseller-network/upline/request/{id}",
        "/reseller-network/upline/request/{id}",
        About::Request,
        Rule::ReadRequest,
    ),
    get("/reseller-network/downline/performance", "/reseller-network/downline/performance", About::Nothing, Rule::Read),
    get(
        "/reseller-network/downline/performance",
        "/reseller-network/downline/performance?reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/reseller-network/downline/health", "/reseller-network/downline/health", About::Nothing, Rule::Read),
    get(
        "/reseller-network/downline/health",
        "/reseller-network/downline/health?reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/analytics/top-resellers", "/analytics/top-resellers", About::Nothing, Rule::Read),
    get("/analytics/top-resellers", "/analytics/top-resellers?reseller_id={id}", About::Reseller, Rule::ReadInSight),
    get("/analytics/tier-snapshot", "/analytics/tier-snapshot", About::Nothing, Rule::Read),
    get("/analytics/tier-snapshot", "/analytics/tier-snapshot?reseller_id={id}", About::Reseller, Rule::ReadInSight),
    get("/analytics/credit-trends", "/analytics/credit-trends", About::Nothing, Rule::Read),
    get("/analytics/credit-trends", "/analytics/credit-trends?reseller_id={id}", About::Reseller, Rule::ReadInSight),
    get("/analytics/credits-outstanding", "/analytics/credits-outstanding", About::Nothing, Rule::Read),
    get(
        "/analytics/credits-outstanding",
        "/analytics/credits-outstanding?reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/analytics/balance-history", "/analytics/balance-history", About::Nothing, Rule::Read),
    get(
        "/analytics/balance-history",
        "/analytics/balance-history?reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/analytics/clients/signup-trends", "/analytics/clients/signup-trends", About::Nothing, Rule::Read),
    get(
        "/analytics/clients/signup-trends",
        "/analytics/clients/signup-trends?reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/analytics/clients/status-breakdown", "/analytics/clients/status-breakdown", About::Nothing, Rule::Read),
    get(
        "/analytics/clients/status-breakdown",
        "/analytics/clients/status-breakdown?reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/reseller-network/downline/{id}", "/reseller-network/downline/{id}", About::Reseller, Rule::ReadInSight),
    get("/analytics/resellers/{id}/stats", "/analytics/resellers/{id}/stats", About::Reseller, Rule::ReadInSight),
    get("/audit/events", "/audit/events", About::Nothing, Rule::ReadLog),
    get("/audit/events", "/audit/events?aggregate_id={id}", About::Reseller, Rule::ReadLog),
    get("/audit/head", "/audit/head", About::Nothing, Rule::ReadLog),
    get("/exports/transactions", "/exports/transactions", About::Nothing, Rule::Read),
    get(
        "/exports/transactions",
        "/exports/transactions?format=jsonl&reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/exports/journal", "/exports/journal", About::Nothing, Rule::ReadByStaff),
    get("/exports/balances", "/exports/balances", About::Nothing, Rule::Read),
    get("/exports/balances", "/exports/balances?format=jsonl&reseller_id={id}", About::Reseller, Rule::ReadInSight),
    get("/exports/commissions", "/exports/commissions", About::Nothing, Rule::Read),
    get(
        "/exports/commissions",
        "/exports/commissions?format=jsonl&reseller_id={id}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get("/exports/statements", "/exports/statements", About::Nothing, Rule::Read),
    get("/exports/statements", "/exports/statements?format=jsonl&reseller_id={id}", About::Reseller, Rule::ReadInSight),
    command("POST", "/audit/verify", "/audit/verify", About::Nothing, Rule::ReadLog, "{}"),
    get("/audit/verify/{id}", "/audit/verify/{id}", About::Reseller, Rule::ReadLogOfNone),
    get("/audit/refusals", "/audit/refusals", About::Nothing, Rule::ReadLog),
    get(
        "/audit/wallets/{reseller_id}/replay",
        "/audit/wallets/{id}/replay?steps=true",
        About::Reseller,
        Rule::ReadLogOf,
    ),
    get("/audit/wallets/{reseller_id}/difference", "/audit/wallets/{id}/difference", About::Reseller, Rule::ReadLogOf),
    get(
        "/audit/credits-outstanding/difference",
        "/audit/credits-outstanding/difference?reseller_id={id}",
        About::Reseller,
        Rule::ReadLogOf,
    ),
    get("/resellers/{id}", "/resellers/{id}?position={head}", About::Reseller, Rule::ReadInSight),
    get(
        "/reseller-network/downline/tree",
        "/reseller-network/downline/tree?root={id}&position={head}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    get(
        "/analytics/credits-outstanding",
        "/analytics/credits-outstanding?reseller_id={id}&position={head}",
        About::Reseller,
        Rule::ReadInSight,
    ),
    command(
        "POST",
        "/resellers",
        "/resellers",
        About::Reseller,
        Rule::Register,
        r#"{"user_id":"{fresh}","company_name":"{fresh}","parent_id":"{id}"}"#,
    ),
    command(
        "PATCH",
        "/resellers/{id}",
        "/resellers/{id}",
        About::Reseller,
        Rule::Itself,
        r#"{"company_name":"{fresh}"}"#,
    ),
    command("POST", "/resellers/{id}/approve", "/resellers/{id}/approve", About::Reseller, Rule::Platform, "{}"),
    command("POST", "/resellers/{id}/deactivate", "/resellers/{id}/deactivate", About::Reseller, Rule::Platform, "{}"),
    command("POST", "/resellers/{id}/reactivate", "/resellers/{id}/reactivate", About::Reseller, Rule::Platform, "{}"),
    command("POST", "/resellers/{id}/freeze", "/resellers/{id}/freeze", About::Reseller, Rule::UplineUnfrozen, "{}"),
    command("POST", "/resellers/{id}/unfreeze", "/resellers/{id}/unfreeze", About::Reseller, Rule::Unfreeze, "{}"),
    command(
        "PUT",
        "/resellers/{id}/tier",
        "/resellers/{id}/tier",
        About::Reseller,
        Rule::Platform,
        r#"{"tier":"gold"}"#,
    ),
    command(
        "PATCH",
        "/resellers/{id}/metadata",
        "/resellers/{id}/metadata",
        About::Reseller,
        Rule::Line,
        r#"{"colour":"red"}"#,
    ),
    command(
        "PUT",
        "/resellers/{id}/prices/{sku}",
        "/resellers/{id}/prices/seat",
        About::Reseller,
        Rule::Parent,
        r#"{"cost":1900}"#,
    ),
    command("DELETE", "/resellers/{id}/prices/{sku}", "/resellers/{id}/prices/desk", About::Reseller, Rule::Parent, ""),
    command("POST", "/wallets/{reseller_id}", "/wallets/{id}", About::Reseller, Rule::Platform, ""),
    command(
        "POST",
        "/wallets/{reseller_id}/credits",
        "/wallets/{id}/credits",
        About::Reseller,
        Rule::Credits,
        r#"{"amount":5,"source":"purchase","reference":"{fresh}"}"#,
    ),
    command(
        "POST",
        "/wallets/{reseller_id}/credits/remove",
        "/wallets/{id}/credits/remove",
        About::Reseller,
        Rule::Platform,
        r#"{"amount":5,"kind":"correction","reason":"x"}"#,
    ),
    command(
        "POST",
        "/wallets/{reseller_id}/provisions",
        "/wallets/{id}/provisions",
        About::Reseller,
        Rule::ItselfUnfrozen,
        r#"{"sku":"room"}"#,
    ),
    command(
        "POST",
        "/wallets/{reseller_id}/provisions",
        "/wallets/{own}/provisions",
        About::Client,
        Rule::SellToClient,
        r#"{"sku":"room","client_id":"{id}"}"#,
    ),
    command(
        "POST",
        "/wallets/{reseller_id}/provisions/bulk",
        "/wallets/{id}/provisions/bulk",
        About::Reseller,
        Rule::ItselfUnfrozen,
        r#"{"atomic":true,"items":[{"sku":"room"}]}"#,
    ),
    command(
        "POST",
        "/wallets/{reseller_id}/provisions/{provision_id}/refunds",
        "/wallets/{id}/provisions/{id2}/refunds",
        About::Provision,
        Rule::Platform,
        r#"{"amount":1}"#,
    ),
    command(
        "POST",
        "/wallets/{reseller_id}/transfers",
        "/wallets/{id}/transfers",
        About::Reseller,
        Rule::TransferFrom,
        r#"{"to":"{child}","amount":3}"#,
    ),
    command(
        "POST",
        "/wallets/{reseller_id}/transfers",
        "/wallets/{own}/transfers",
        About::Reseller,
        Rule::TransferTo,
        r#"{"to":"{id}","amount":3}"#,
    ),
    command(
        "POST",
        "/wallets/{reseller_id}/transfers",
        "/wallets/{id}/transfers",
        About::Reseller,
        Rule::TakeBack,
        r#"{"to":"{own}","amount":3}"#,
    ),
    command(
        "PUT",
        "/wallets/{reseller_id}/threshold",
        "/wallets/{id}/threshold",
        About::Reseller,
        Rule::Itself,
        r#"{"threshold":900}"#,
    ),
    command(
        "PUT",
        "/wallets/{reseller_id}/credit-limit",
        "/wallets/{id}/credit-limit",
        About::Reseller,
        Rule::Platform,
        r#"{"credit_limit":50}"#,
    ),
    command(
        "PUT",
        "/wallets/{reseller_id}/hold",
        "/wallets/{id}/hold",
        About::Reseller,
        Rule::Upline,
        r#"{"held":true}"#,
    ),
    command(
        "POST",
        "/clients",
        "/clients",
        About::Reseller,
        Rule::Onboard,
        r#"{"name":"{fresh}","reseller_id":"{id}"}"#,
    ),
    command("PATCH", "/clients/{id}", "/clients/{id}", About::Client, Rule::Client, r#"{"name":"{fresh}"}"#),
    command("POST", "/clients/{id}/activate", "/clients/{id}/activate", About::Client, Rule::Client, ""),
    command("POST", "/clients/{id}/suspend", "/clients/{id}/suspend", About::Client, Rule::Client, ""),
    command("POST", "/clients/{id}/deactivate", "/clients/{id}/deactivate", About::Client, Rule::Client, ""),
    command("POST", "/clients/{id}/forget", "/clients/{id}/forget", About::Client, Rule::Client, ""),
    command(
        "POST",
        "/clients/{id}/reassign",
        "/clients/{id}/reassign",
        About::Client,
        Rule::ClientPlatform,
        r#"{"reseller_id":"{own}"}"#,
    ),
    command(
        "POST",
        "/products",
        "/products",
        About::Nothing,
        Rule::PlatformAlone,
        r#"{"sku":"{fresh}","name":"New","base_cost":5}"#,
    ),
    command(
        "PUT",
        "/products/{sku}",
        "/products/{id}",
        About::Product,
        Rule::PlatformAlone,
        r#"{"name":"Other","base_cost":5}"#,
    ),
    command("POST", "/products/{sku}/retire", "/products/{id}/retire", About::Product, Rule::PlatformAlone, ""),
    command("PUT", "/platform/policy", "/platform/policy", About::Nothing, Rule::PlatformAlone, "{policy}"),
    command("POST", "/platform/close", "/platform/close", About::Nothing, Rule::CloseBooks, r#"{"month":"2001-01"}"#),
    command(
        "POST",
        "/reseller-network/referrals",
        "/reseller-network/referrals",
        About::Nothing,
        Rule::Raise,
        r#"{"tag":"fair"}"#,
    ),
    command(
        "DELETE",
        "/reseller-network/referrals/{code}",
        "/reseller-network/referrals/{id}",
        About::Code,
        Rule::OwnNamed,
        "",
    ),
    command(
        "DELETE",
        "/reseller-network/referrals/{code}",
        "/reseller-network/referrals/{id}?reseller_id={id2}",
        About::Code,
        Rule::OwnNamed,
        "",
    ),
    command(
        "PUT",
        "/reseller-network/settings",
        "/reseller-network/settings?reseller_id={id}",
        About::Reseller,
        Rule::OwnNamed,
        r#"{"notifications":{}}"#,
    ),
    command(
        "POST",
        "/reseller-network/upline/request",
        "/reseller-network/upline/request",
        About::Nothing,
        Rule::Raise,
        r#"{"kind":"credit_topup","payload":{"amount":2}}"#,
    ),
    command(
        "POST",
        "/reseller-network/upline/request/{id}/approve",
        "/reseller-network/upline/request/{id}/approve",
        About::Request,
        Rule::Answer,
        "",
    ),
    command(
        "POST",
        "/reseller-network/upline/request/{id}/reject",
        "/reseller-network/upline/request/{id}/reject",
        About::Request,
        Rule::Answer,
        "",
    ),
    command(
        "POST",
        "/reseller-network/upline/request/{id}/cancel",
        "/reseller-network/upline/request/{id}/cancel",
        About::Request,
        Rule::Cancel,
        "",
    ),
    command(
        "POST",
        "/reseller-network/upline/request/{id}/forward",
        "/reseller-network/upline/request/{id}/forward",
        About::Request,
        Rule::Forward,
        "",
    ),
];
