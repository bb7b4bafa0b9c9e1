//! The real server on a free port over a store of its own, and people who talk to it. The store is a temporary directory, or,
//! where these tests run on PostgreSQL (`tests/on_postgres`), a database on the throwaway server.
//!
//! `app.admin().post("/resellers", json!({…})).await.created()` reads as it is meant. A GET waits for the read models to have
//! seen whatever this app was last told (`min_position`), unless it says otherwise.

use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aggregates::primitives::{ResellerId, Role, UserId};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request};
use serde_json::{Value, json};
use tallytree::access::directory::{Directory, TokenOrder};
use tallytree::clock::Clock;
use tallytree::config::{ClockKind, Config, Database};
use tallytree::node::{self, Node, NodeError};
use tallytree::{projector, refusals};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::connections::{Connections, Lost};
use super::contract;
use super::postgres::{self, TestDatabase};

/// Whether this is the binary that runs everything on PostgreSQL.
pub fn on_postgres() -> bool {
    module_path!().starts_with("on_postgres")
}

/// What a store needs to be there, and takes with it when it goes.
#[derive(Debug)]
pub enum Place {
    Files(TempDir),
    Database(TestDatabase),
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        if !on_postgres() {
            return Self::Files(tempfile::tempdir().expect("a temporary directory"));
        }
        match migrated_database() {
            Some(database) => Self::Database(database),
            // It has been said that nothing here can run; nothing here has failed.
            None => std::process::exit(0),
        }
    }

    /// Where a store in it is.
    pub fn database(&self) -> Database {
        match self {
            Self::Files(dir) => Database::Sqlite(dir.path().join("store")),
            Self::Database(database) => database.url().parse().expect("an address"),
        }
    }

    /// Where a store in it is, for a process: a directory, or a database's address.
    pub fn store(&self) -> PathBuf {
        match self {
            Self::Files(dir) => dir.path().join("store"),
            Self::Database(database) => PathBuf::from(database.url()),
        }
    }
}

/// A database whose schema is made already: a copy of one that was migrated once, which takes a fifth of the time.
fn migrated_database() -> Option<TestDatabase> {
    static TEMPLATE: OnceLock<Option<TestDatabase>> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let template = postgres::database()?;
        let database: Database = template.url().parse().expect("an address");
        // Every connection has gone with the runtime that it was made on: a template is nobody's.
        std::thread::scope(|scope| {
            let migrate = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    drop(database.open().await.expect("a store"));
                    projector::migrate(&database).await.expect("read models");
                    refusals::migrate(&database).await.expect("refusals");
                });
            };
            scope.spawn(migrate).join().expect("no panic");
        });
        Some(template)
    });
    template.as_ref().and_then(|template| Some(postgres::shared()?.copy_of(template)))
}

/// A running service.
pub struct TestApp {
    place: Arc<Place>,
    config: Config,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), NodeError>>,
    connections: Connections,
    admin: String,
    position: Arc<AtomicU64>,
}

impl TestApp {
    /// Starts a service on an empty store, with the default policy.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a service on an empty store, with whatever is set.
    pub async fn start_with(set: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(Place::new(), set).await
    }

    /// The same on a store in a place of one's own choosing.
    pub async fn start_at(place: Place, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            database: place.database(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            dev: true,
            clock: ClockKind::Manual,
            requests_per_second: 0,
            ..Config::default()
        };
        set(&mut config);
        Self::open(Arc::new(place), config, None).await
    }

    async fn open(place: Arc<Place>, config: Config, admin: Option<String>) -> Self {
        let node = Node::open(&config).await.expect("the node opens");
        let listener = TcpListener::bind(config.listen).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(node::run(listener, node, async {
            let _ = stopped.await;
        }));
        let admin = admin.unwrap_or_else(|| token(&config, &TokenOrder::of(Role::SuperAdmin)));
        let connections = Connections::to(address);
        Self { place, config, stop, server, connections, admin, position: Arc::default() }
    }

    /// Stops in order and starts again on the same store.
    pub async fn restart(self) -> Self {
        self.stop.send(()).expect("the server still runs");
        self.server.await.expect("no panic").expect("an orderly end");
        Self::open(self.place, self.config, Some(self.admin)).await
    }

    /// Another node on the same store, for the same people.
    #[allow(dead_code)] // not for files
    pub async fn beside(&self) -> Self {
        Self::open(Arc::clone(&self.place), self.config.clone(), Some(self.admin.clone())).await
    }

    /// The same on the same store by another address.
    #[allow(dead_code)]
    pub async fn beside_at(&self, address: &str) -> Self {
        let config = Config { database: address.parse().expect("an address"), ..self.config.clone() };
        Self::open(Arc::clone(&self.place), config, Some(self.admin.clone())).await
    }

    /// The same, with queries asked of a copy of the database.
    #[allow(dead_code)]
    pub async fn beside_with_copy(&self, copy: &str) -> Self {
        let config = Config { read_database: Some(copy.parse().expect("an address")), ..self.config.clone() };
        Self::open(Arc::clone(&self.place), config, Some(self.admin.clone())).await
    }

    /// Stops in order.
    #[allow(dead_code)]
    pub async fn stop(self) {
        self.stop.send(()).expect("the server still runs");
        self.server.await.expect("no panic").expect("an orderly end");
    }

    /// The same, and leaves the store there.
    #[allow(dead_code)] // only files are looked at afterwards
    pub async fn stop_and_keep(self) -> Arc<Place> {
        let place = Arc::clone(&self.place);
        self.stop().await;
        place
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.connections.address()
    }

    /// The operator's token.
    pub fn admin_token(&self) -> &str {
        &self.admin
    }

    /// Where the store is: a directory, or a database's address.
    pub fn store(&self) -> &Path {
        match &self.config.database {
            Database::Sqlite(dir) => dir,
            Database::Postgres(address) => Path::new(address.expose()),
        }
    }

    /// What the store needs to be there.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Does to the read models what nobody may, as somebody with every right would; says how many rows it changed.
    pub fn tamper_with_views(&self, sql: &str) -> u64 {
        self.tamper("views", sql)
    }

    /// The same to the log: what guards it is put out of force first.
    pub fn tamper_with_log(&self, sql: &str) -> u64 {
        self.tamper("ledger", sql)
    }

    fn tamper(&self, part: &str, sql: &str) -> u64 {
        match &*self.place {
            Place::Files(dir) => {
                let file = dir.path().join("store").join(format!("{part}.db"));
                let connection = rusqlite::Connection::open(file).expect("a file of the store");
                connection.busy_timeout(Duration::from_secs(5)).expect("a patience");
                if part == "ledger" {
                    connection.execute_batch("drop trigger events_are_never_changed").expect("unguarded");
                }
                connection.execute(sql, []).expect("tampered with") as u64
            }
            Place::Database(database) => {
                let unguarded = if part == "ledger" { "alter table events disable trigger all;" } else { "" };
                let script = format!("set search_path = {part}; {unguarded} {sql}");
                database.sql_as_superuser(&script).expect("tampered with")
            }
        }
    }

    /// The table of tokens.
    pub fn directory(&self) -> Directory {
        Directory::of(&self.config.database)
    }

    /// Whoever holds this token.
    pub fn with_token(&self, token: impl Into<String>) -> Person {
        Person {
            connections: self.connections.clone(),
            token: Some(token.into()),
            position: Arc::clone(&self.position),
        }
    }

    /// Somebody without any token.
    pub fn stranger(&self) -> Person {
        Person { token: None, ..self.with_token("") }
    }

    /// The operator.
    pub fn admin(&self) -> Person {
        self.with_token(&self.admin)
    }

    /// Somebody with a token as ordered.
    pub fn person(&self, order: &TokenOrder) -> Person {
        self.with_token(self.token(order))
    }

    /// A token as ordered.
    pub fn token(&self, order: &TokenOrder) -> String {
        token(&self.config, order)
    }

    /// The operator's payment system.
    pub fn payments(&self) -> Person {
        self.person(&TokenOrder::of(Role::Payments))
    }

    /// Somebody who reads everything.
    pub fn auditor(&self) -> Person {
        self.person(&TokenOrder::of(Role::Auditor))
    }

    /// Somebody who reads projections.
    pub fn finance(&self) -> Person {
        self.person(&TokenOrder::of(Role::Finance))
    }

    /// A reseller's own staff.
    pub fn reseller(&self, tenant: &str) -> Person {
        self.person(&TokenOrder { tenant: Some(reseller_id(tenant)), ..TokenOrder::of(Role::Reseller) })
    }

    /// The operator's own application, acting for a reseller and naming costs.
    pub fn application(&self, tenant: &str) -> Person {
        let tenant = Some(reseller_id(tenant));
        self.person(&TokenOrder { tenant, declared_cost: true, ..TokenOrder::of(Role::Reseller) })
    }

    /// A user, who acts for whatever it is a member of.
    pub fn user(&self, user: &str) -> Person {
        let user = Some(UserId::new(user).expect("a user"));
        self.person(&TokenOrder { user, ..TokenOrder::of(Role::Reseller) })
    }

    /// Moves the clock.
    pub async fn advance(&self, seconds: u32) {
        self.stranger().post("/dev/clock", json!({"advance_seconds": seconds})).await.ok();
    }

    /// Registers a top-level reseller of a tier; its id.
    pub async fn top_level(&self, user: &str, tier: &str) -> String {
        let body = json!({"user_id": user, "company_name": format!("{user} Ltd"), "tier": tier});
        id_of(&self.admin().post("/resellers", body).await.created())
    }

    /// Registers a reseller under another, by the operator; its id.
    pub async fn child_of(&self, parent: &str, user: &str, tier: &str) -> String {
        let body = json!({"user_id": user, "company_name": format!("{user} Ltd"), "tier": tier, "parent_id": parent});
        id_of(&self.admin().post("/resellers", body).await.created())
    }

    /// Gives a wallet credits.
    pub async fn fund(&self, reseller: &str, amount: i64) {
        let body = json!({"amount": amount, "source": "bonus"});
        self.admin().post(format!("/wallets/{reseller}/credits"), body).fresh_key().await.created();
    }
}

fn token(config: &Config, order: &TokenOrder) -> String {
    let directory = Directory::of(&config.database);
    // On a thread of its own, so that tests can ask for tokens in the middle of a sentence.
    std::thread::scope(|scope| {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let create = move || runtime().block_on(directory.create(order, Clock::System.now())).expect("a token");
        scope.spawn(create).join().expect("no panic")
    })
}

fn reseller_id(text: &str) -> ResellerId {
    text.parse().expect("a reseller's id")
}

/// The `id` of an answer.
pub fn id_of(answer: &Value) -> String {
    answer["id"].as_str().expect("an id").to_owned()
}

/// Somebody who talks to the service.
#[derive(Clone)]
pub struct Person {
    connections: Connections,
    token: Option<String>,
    position: Arc<AtomicU64>,
}

/// How long a server may hold a connection open without a word.
const PATIENCE: Duration = Duration::from_secs(30);

impl Person {
    /// Whoever holds this token, with connections of its own to a server at this address.
    pub fn at(address: SocketAddr, token: &str) -> Self {
        Self { connections: Connections::to(address), token: Some(token.to_owned()), position: Arc::default() }
    }

    /// The same connections with another token.
    pub fn bearing(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub fn get(&self, path: impl Into<String>) -> Call {
        let mut path = path.into();
        let seen = self.position.load(Ordering::SeqCst);
        if seen > 0 && !path.contains("min_position") {
            path.push_str(&format!("{}min_position={seen}", if path.contains('?') { '&' } else { '?' }));
        }
        self.call(Method::GET, path, Vec::new())
    }

    pub fn post(&self, path: impl Into<String>, body: Value) -> Call {
        self.call(Method::POST, path, body.to_string())
    }

    pub fn put(&self, path: impl Into<String>, body: Value) -> Call {
        self.call(Method::PUT, path, body.to_string())
    }

    pub fn patch(&self, path: impl Into<String>, body: Value) -> Call {
        self.call(Method::PATCH, path, body.to_string())
    }

    pub fn delete(&self, path: impl Into<String>) -> Call {
        self.call(Method::DELETE, path, Vec::new())
    }

    /// Any request at all.
    pub fn call(&self, method: Method, path: impl Into<String>, body: impl Into<Vec<u8>>) -> Call {
        Call { person: self.clone(), method, path: path.into(), headers: Vec::new(), body: body.into() }
    }
}

/// A request that is about to be sent: `.await` sends it.
#[must_use]
pub struct Call {
    person: Person,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    /// Sends it under this idempotency key.
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// Sends it under a key that nobody has used.
    pub fn fresh_key(self) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = format!("fresh-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        self.key(&key)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    async fn send(self) -> Reply {
        self.heard().await.expect("an answer")
    }

    /// Sends it to a server that may be gone before it has answered.
    pub async fn heard(self) -> Result<Reply, Lost> {
        let mut request = Request::builder().method(&self.method).uri(&self.path);
        if let Some(token) = &self.person.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let sent = Bytes::from(self.body);
        let request = request.body(Full::new(sent.clone())).expect("a request");
        let waited = tokio::time::timeout(PATIENCE, self.person.connections.send(request)).await;
        let (parts, text) = waited.unwrap_or_else(|_| {
            panic!("{} {} at {} hangs", self.method, self.path, self.person.connections.address())
        })?;
        contract::hold(&self.method, &self.path, &sent, parts.status.as_u16(), &parts.headers, &text);
        if self.method != Method::GET
            && let Some(position) = position_in(&parts.headers)
        {
            self.person.position.fetch_max(position, Ordering::SeqCst);
        }
        Ok(Reply {
            request: format!("{} {}", self.method, self.path),
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&text)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&text).into_owned())),
            text,
        })
    }
}

impl IntoFuture for Call {
    type Output = Reply;
    type IntoFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

fn position_in(headers: &HeaderMap) -> Option<u64> {
    headers.get("tallytree-position")?.to_str().ok()?.parse().ok()
}

/// What the service said.
#[derive(Debug)]
pub struct Reply {
    request: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    /// The body as it came.
    pub text: Bytes,
}

impl Reply {
    /// The body of a 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        self.expect_status(200)
    }

    /// The body of a 201.
    #[track_caller]
    pub fn created(self) -> Value {
        self.expect_status(201)
    }

    #[track_caller]
    pub fn expect_status(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.request, self.body);
        self.body
    }

    /// The problem document, which must have this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}: {}", self.request, self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.request);
        assert_eq!(self.body["status"], status, "{}", self.request);
        for member in ["type", "title", "detail"] {
            assert!(self.body[member].is_string(), "{} without {member}: {}", self.request, self.body);
        }
        self.body
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Where in the log it stands.
    #[track_caller]
    pub fn position(&self) -> u64 {
        position_in(&self.headers).unwrap_or_else(|| panic!("{} has no position", self.request))
    }

    /// Whether it is the first answer to its key, given again.
    pub fn replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }
}
