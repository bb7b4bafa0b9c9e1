//! Isolation by brute force: random networks, in which every sort of caller asks every route for every sort of target, and what
//! it is answered is compared with what DOMAIN and API say ([`oracle`]). Who may not, changes nothing; what lies elsewhere
//! answers, byte by byte, as what does not exist; and no answer holds an id, a name or a word that its reader may not know.
//!
//! `TALLYTREE_ISOLATION_SEEDS` names other seeds (`7,8,9`), `TALLYTREE_ISOLATION_ALL` asks for all targets instead of one of
//! each sort. The default takes some seconds.

mod lists;
mod oracle;
mod routes;
mod users;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use aggregates::primitives::{Role, UserId};
use futures_util::{StreamExt, stream};
use hyper::Method;
use serde_json::{Value, json};
use tallytree::access::directory::TokenOrder;
use tallytree::clock::Clock;

use crate::common::app::{Call, Person, Reply, TestApp};
use oracle::{Target, Verdict, Who, first_child, leaks, own, targets, verdict};
use routes::{OPEN, ROUTES, Route, Rule};
use world::{MISSING, Place, World};

/// How many requests are on their way at a time.
const AT_A_TIME: usize = 16;

/// Somebody who asks.
#[derive(Clone)]
struct Caller {
    name: String,
    who: Who,
    person: Person,
    /// The tenant that it names.
    tenant: Option<String>,
}

impl Caller {
    fn new(name: &str, who: Who, person: Person) -> Self {
        Self { name: name.to_owned(), who, person, tenant: None }
    }

    fn naming(self, tenant: &str) -> Self {
        Self { tenant: Some(tenant.to_owned()), ..self }
    }

    /// A request of this caller's.
    fn call(&self, method: &str, path: &str, body: String) -> Call {
        let call = match method {
            "GET" => self.person.get(path),
            method => self.person.call(method.parse::<Method>().expect("a method"), path, body).fresh_key(),
        };
        match &self.tenant {
            Some(tenant) => call.header("x-tenant-id", tenant),
            None => call,
        }
    }
}

/// Members of every sort of reseller, the staff, and those who are nobody here.
async fn callers(world: &World) -> Vec<Caller> {
    let app = &world.app;
    let mut callers = vec![
        Caller::new("the operator", Who::SuperAdmin, app.admin()),
        Caller::new("an auditor", Who::Auditor, app.auditor()),
        Caller::new("finance", Who::Finance, app.finance()),
        Caller::new("payments", Who::Payments, app.payments()),
    ];
    for (name, place) in members(world) {
        callers.push(Caller::new(name, Who::Member(place), app.reseller(&world.resellers[place].id)));
    }
    let middle = &world.resellers[4];
    let user = Caller::new("a user of the middle", Who::Member(4), app.user(&middle.user));
    callers.push(user.clone());
    callers.push(Caller { name: "a user naming its own".to_owned(), ..user.clone().naming(&middle.id) });
    for (name, tenant) in [
        ("a user naming its parent", world.resellers[3].id.as_str()),
        ("a user naming its child", &world.resellers[5].id),
        ("a user naming another tree", &world.resellers[1].id),
        ("a user naming nobody there is", MISSING),
        ("a user naming no id", "not-an-id"),
    ] {
        callers.push(Caller { name: name.to_owned(), who: Who::Elsewhere, ..user.clone().naming(tenant) });
    }
    callers.push(Caller::new("a user of nobody", Who::Tenantless, app.user("nobody-in-particular")));
    let (revoked, forged, expired) = void_tokens(world).await;
    callers.push(Caller::new("a stranger", Who::Nobody, app.stranger()));
    callers.push(Caller::new("a revoked token", Who::Nobody, app.with_token(revoked)));
    callers.push(Caller::new("a forged token", Who::Nobody, app.with_token(forged)));
    callers.push(Caller::new("an expired token", Who::Nobody, app.with_token(expired)));
    callers
}

/// A reseller of every sort.
fn members(world: &World) -> Vec<(&'static str, Place)> {
    let place_of = |status: &str| {
        (0..world.resellers.len()).find(|place| world.resellers[*place].status == status).expect("one of them")
    };
    let by_upline =
        (3..world.resellers.len()).find(|place| world.resellers[*place].frozen_by.is_some()).expect("one of them");
    let below_frozen = first_child(world, 2).expect("the frozen have a child");
    vec![
        ("a top-level reseller", 0),
        ("another top-level reseller", 1),
        ("one that the platform froze", 2),
        ("one under a frozen one", below_frozen),
        ("one that its upline froze", by_upline),
        ("the middle", 4),
        ("one that is held", 6),
        ("the end of the line", 7),
        ("a brother of the middle's parent's child", 8),
        ("one that waits for approval", place_of("pending")),
        ("one out of business", place_of("deactivated")),
    ]
}

/// A token that was revoked, one with another's key id and a made-up secret, one whose time is over.
async fn void_tokens(world: &World) -> (String, String, String) {
    let order = TokenOrder::of(Role::SuperAdmin);
    let key_id = |token: &str| token.split('_').nth(1).expect("a key id").to_owned();
    let revoked = world.app.token(&order);
    let directory = world.app.directory();
    assert!(directory.revoke(&key_id(&revoked), Clock::System.now()).await.expect("the table of tokens"));
    let good = world.app.token(&order);
    let forged = format!("tt_{}_{}", key_id(&good), revoked.split('_').nth(2).expect("a secret"));
    let expires_at = Some("2020-01-01T00:00:00.000000Z".parse().expect("a time"));
    let user = Some(UserId::new("late").expect("a user"));
    (revoked, forged, world.app.token(&TokenOrder { expires_at, user, ..order }))
}

/// One request with what must become of it.
struct Ask {
    caller: Caller,
    at: usize,
    route: &'static Route,
    target: Target,
    verdict: Verdict,
    path: String,
    body: String,
}

/// All requests of a caller that the filter lets through.
fn asks(world: &mut World, caller: &Caller, policy: &str, wanted: impl Fn(&Route, Verdict) -> bool) -> Vec<Ask> {
    let all = std::env::var_os("TALLYTREE_ISOLATION_ALL").is_some();
    let known = !matches!(caller.who, Who::Nobody | Who::Tenantless | Who::Elsewhere);
    let mut asks = Vec::new();
    for (at, route) in ROUTES.iter().enumerate() {
        let mut targets = targets(world, caller.who, route.about, all);
        // Who is nobody is told so whatever it asks for.
        // A second person of a reseller is told as the first.
        let most = if all || (known && !caller.name.starts_with("a user")) { targets.len() } else { 1 };
        targets.truncate(most);
        for target in targets {
            if route.rule == Rule::TransferFrom && target.owner.is_some_and(|owner| first_child(world, owner).is_none())
            {
                continue;
            }
            let verdict = verdict(world, caller.who, route, &target);
            if wanted(route, verdict) {
                let (path, body) = written(world, caller.who, route, &target, policy);
                asks.push(Ask { caller: caller.clone(), at, route, target, verdict, path, body });
            }
        }
    }
    asks
}

/// A route's path and body for a caller and a target.
fn written(world: &World, who: Who, route: &Route, target: &Target, policy: &str) -> (String, String) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let fresh = format!("fresh-{}", NEXT.fetch_add(1, Ordering::SeqCst));
    let child = target.owner.and_then(|owner| first_child(world, owner));
    let child = child.map_or(MISSING, |child| &world.resellers[child].id);
    let write = |text: &str| {
        text.replace("{id}", &target.ids[0])
            .replace("{id2}", &target.ids[1])
            .replace("{own}", &world.resellers[own(who)].id)
            .replace("{child}", child)
            .replace("{policy}", policy)
            .replace("{head}", &world.head.to_string())
            .replace("{fresh}", &fresh)
    };
    (write(route.ask), write(route.body))
}

impl Ask {
    fn name(&self) -> String {
        let what = self.target.what;
        format!("{}: {} {} {} (target: {what})", self.caller.name, self.route.method, self.path, self.body)
    }

    /// What those who came before have changed: there is no price to clear, or a freeze is a higher one's to lift.
    fn is_gone(&self, reply: &Reply) -> bool {
        match (self.route.rule, self.route.method, reply.status) {
            (Rule::Parent, "DELETE", 404) => reply.body["what"] == "price",
            (Rule::Unfreeze, _, 403) => true,
            _ => false,
        }
    }

    /// What is wrong with an answer.
    fn faults(&self, world: &World, reply: &Reply) -> Vec<String> {
        let text = String::from_utf8_lossy(&reply.text);
        let right = match self.verdict {
            Verdict::Denied(status) => reply.status == status,
            Verdict::Barred => matches!(reply.status, 409 | 423),
            Verdict::Allowed if self.route.method == "GET" => reply.status == 200,
            Verdict::Allowed => matches!(reply.status, 200..300 | 402 | 409 | 422 | 423) || self.is_gone(reply),
        };
        let mut faults = Vec::new();
        if !right {
            faults.push(format!("{}\n  must be {:?}, is {}: {text}", self.name(), self.verdict, reply.status));
        }
        let asked = format!("{} {}", self.path, self.body);
        let mut leaked = leaks(world, self.caller.who, &asked, &text);
        if self.route.method != "GET" {
            // What a command makes is in no book yet.
            leaked.retain(|word| world.secrets.contains_key(word));
        }
        if !leaked.is_empty() {
            faults.push(format!("{}\n  tells {leaked:?}: {text}", self.name()));
        }
        faults
    }
}

/// An answer without what may differ between two targets.
fn anonymous(ask: &Ask, reply: &Reply) -> String {
    let mut headers: Vec<String> = Vec::new();
    for (name, value) in &reply.headers {
        let value = value.to_str().unwrap_or("?");
        headers.push(match name.as_str() {
            "date" | "x-request-id" => continue,
            "tallytree-position" => name.to_string(),
            // What is left of an allowance is not about the target.
            name if name.starts_with("ratelimit") || name.starts_with("x-ratelimit") => name.to_owned(),
            name => format!("{name}: {value}"),
        });
    }
    headers.sort();
    let mut text = String::from_utf8_lossy(&reply.text).into_owned();
    for id in ask.target.ids.iter().filter(|id| !id.is_empty()) {
        text = text.replace(id.as_str(), "<id>");
    }
    format!("{} {headers:?} {text}", reply.status)
}

/// Asks all of it, several at a time, and says what is wrong.
async fn ask_all(world: &World, asks: Vec<Ask>) -> Vec<String> {
    let answered: Vec<(Ask, Reply)> = stream::iter(asks)
        .map(|ask| async move {
            let reply = ask.caller.call(ask.route.method, &ask.path, ask.body.clone()).await;
            (ask, reply)
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    let mut faults = Vec::new();
    // Of each caller and route the first answer that there is no such thing: all others are the same.
    let mut missing: BTreeMap<(String, usize), (String, String)> = BTreeMap::new();
    for (ask, reply) in &answered {
        faults.extend(ask.faults(world, reply));
        let hidden = matches!(ask.caller.who, Who::Member(_)) && ask.verdict == Verdict::Denied(404);
        if hidden && !ask.target.is_malformed {
            let anonymous = anonymous(ask, reply);
            let first = missing.entry((ask.caller.name.clone(), ask.at)).or_insert((anonymous.clone(), ask.name()));
            if first.0 != anonymous {
                faults.push(format!("{}\n  {anonymous}\n  but {}\n  {}", ask.name(), first.1, first.0));
            }
        }
    }
    faults
}

async fn head(world: &World) -> u64 {
    world.app.auditor().get("/audit/head").await.ok()["position"].as_u64().expect("a position")
}

async fn events_after(world: &World, position: u64) -> Vec<Value> {
    let page = world.app.auditor().get(format!("/audit/events?after={position}&limit=500")).await.ok();
    page["data"].as_array().expect("events").clone()
}

fn seeds() -> Vec<u64> {
    match std::env::var("TALLYTREE_ISOLATION_SEEDS") {
        Ok(seeds) => seeds.split(',').map(|seed| seed.trim().parse().expect("a seed")).collect(),
        Err(_) => vec![1, 2],
    }
}

/// Says what is wrong in a round, each fault cut short.
#[track_caller]
fn assert_none(seed: u64, faults: &[String]) {
    let shown = faults.iter().take(30).map(|fault| fault.chars().take(700).collect());
    let shown: Vec<String> = shown.collect();
    assert!(faults.is_empty(), "seed {seed}: {} faults, the first of them\n{}", faults.len(), shown.join("\n"));
}

/// The test of this module: everything that may not be, tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_or_changes_anything_outside_its_scope() {
    for seed in seeds() {
        let mut world = World::build(seed).await;
        let callers = callers(&world).await;
        let policy = world.app.admin().get("/platform/policy").await.ok().to_string();

        let mut reads = Vec::new();
        for caller in &callers {
            reads.extend(asks(&mut world, caller, &policy, |route, _| route.method == "GET"));
        }
        let mut faults = ask_all(&world, reads).await;
        let walks = stream::iter(members(&world)).map(|member| lists::faults(&world, member)).buffer_unordered(4);
        faults.extend(walks.collect::<Vec<_>>().await.concat());

        let before = head(&world).await;
        let mut forbidden = Vec::new();
        for caller in &callers {
            let refused = |route: &Route, verdict| route.method != "GET" && verdict != Verdict::Allowed;
            forbidden.extend(asks(&mut world, caller, &policy, refused));
        }
        assert!(forbidden.len() > 500, "few of what is forbidden was tried: {}", forbidden.len());
        faults.extend(ask_all(&world, forbidden).await);
        faults.extend(
            events_after(&world, before).await.iter().map(|event| format!("what is forbidden was done: {event}")),
        );
        faults.extend(try_what_is_allowed(&mut world, &callers, &policy).await);
        assert_none(seed, &faults);
    }
}

/// Some of what resellers may do, done: it changes what is in their sight, and earns their upline what is its due.
async fn try_what_is_allowed(world: &mut World, callers: &[Caller], policy: &str) -> Vec<String> {
    let mut allowed = Vec::new();
    for caller in callers.iter().filter(|caller| matches!(caller.who, Who::Member(_))) {
        allowed
            .extend(asks(world, caller, policy, |route, verdict| route.method != "GET" && verdict == Verdict::Allowed));
    }
    // Who has passed a request on cannot answer it any more.
    allowed.sort_by_key(|ask| ask.route.ask.ends_with("/forward"));
    let mut faults = Vec::new();
    let mut done = BTreeSet::new();
    let mut before = head(world).await;
    for ask in allowed.into_iter().step_by(2) {
        let reply = ask.caller.call(ask.route.method, &ask.path, ask.body.clone()).await;
        faults.extend(ask.faults(world, &reply));
        let Who::Member(me) = ask.caller.who else { continue };
        for event in events_after(world, before).await {
            done.insert(ask.at);
            before = event["position"].as_u64().expect("a position");
            if !is_ones_to_change(world, me, &event) {
                faults.push(format!("{}\n  changed {event}", ask.name()));
            }
        }
    }
    let commands = ROUTES.iter().filter(|route| route.method != "GET").count();
    assert!(done.len() > commands / 3, "hardly anything that is allowed was done: {done:?}");
    faults
}

/// Whether an event is about what a reseller has in sight, its own request, or what its sale earns its upline.
fn is_ones_to_change(world: &World, me: Place, event: &Value) -> bool {
    let id = event["aggregate_id"].as_str().expect("an id");
    let place = world.resellers.iter().position(|one| one.id == id);
    let tenant = event["metadata"]["tenant"].as_str();
    if tenant != Some(&world.resellers[me].id) {
        return false;
    }
    let kind = event["event_type"].as_str().expect("a kind");
    match (event["aggregate_type"].as_str().expect("a type"), place) {
        (_, Some(place)) if world.sees(me, place) => true,
        (_, Some(place)) => world.sees(place, me) && kind == "CommissionEarned",
        // A new one says itself under whom it is; an old one is in the book.
        ("Reseller" | "Wallet", None) => true,
        ("Client", None) => world.clients.iter().find(|client| client.id == id).is_none_or(|client| client.owner == me),
        ("UplineRequest", None) => {
            world.requests.iter().find(|request| request.id == id).is_none_or(|request| world.sees_request(me, request))
        }
        _ => false,
    }
}

/// A key belongs to tenant and actor: the same request under the same key is for anybody else a request of its own.
#[tokio::test]
async fn nobody_is_given_anothers_answer_by_its_key() {
    let app = TestApp::start().await;
    let owner = app.top_level("owner", "gold").await;
    let child = app.child_of(&owner, "child", "gold").await;
    let foreign = app.top_level("foreign", "gold").await;
    let send = |person: Person| {
        person.patch(format!("/resellers/{child}"), json!({"company_name": "Renamed Ltd"})).key("the very same key")
    };
    let first = app.reseller(&child);
    assert!(!send(first.clone()).await.replayed());
    assert!(send(first).await.replayed());
    for (person, status) in [
        (app.reseller(&child), 200),
        (app.user("child"), 200),
        (app.reseller(&owner), 403),
        (app.reseller(&foreign), 404),
        (app.admin(), 200),
        (app.auditor(), 403),
        (app.payments(), 403),
        (app.stranger(), 401),
    ] {
        let reply = send(person).await;
        assert_eq!((reply.status, reply.replayed()), (status, false), "{}", reply.body);
    }
}

/// A route that is added to the router without a word on who may ask it is a hole nobody has looked into.
#[tokio::test]
async fn the_table_names_every_route_of_the_router_and_no_other() {
    let app = TestApp::start().await;
    // A route cannot be served without being described, so the description is the router.
    let description = app.stranger().get("/openapi.json").await.ok();
    let mut routed = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                routed.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    let owned = |(method, path): (&str, &str)| (method.to_owned(), path.to_owned());
    let mut named: BTreeSet<_> = ROUTES.iter().map(|route| owned((route.method, route.pattern))).collect();
    named.extend(OPEN.iter().copied().map(owned));
    assert!(routed.len() > 50, "the router was not read: {routed:?}");
    assert_eq!(routed, named);
}
