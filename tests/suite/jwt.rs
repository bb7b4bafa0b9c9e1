//! Tokens of an outside issuer: who is let in with one, and everything that a forger may try.
//!
//! The issuer is this test: it holds private keys, publishes the public ones in a file, and signs what it likes.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rand::RngCore;
use serde_json::{Value, json};
use tallytree::access::jwt::JwtOptions;
use tallytree::clock::Clock;
use tempfile::TempDir;

use crate::common::app::{Person, TestApp};

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "tallytree";

/// A private RSA key of 2048 bits, made for these tests; making one takes too long.
const RSA_KEY: &str = "\
    MIIEowIBAAKCAQEArlBoMPk5Eggqjp0Y5KAVirhtLoq7j4Ve8BzF1yufHYOFtf5BHnz5CWS+YPTXb2Gk4uECYJXdfJanUZpL4PbZ+csKDg8IqT\
    RftABgNqHedPLNmlVcuZtrek58ZmB9LzrL/qi2l9htfe04QV97lvjuhki7d34C1jXfMtDtguh792IS9viA5SqvWy99/I2pQRVZX/n0BkRpvKuS\
    RY/IXDyZ50pv84PtruBCkMsLPIQSK+s6/EggRhuqrYOCF6UYb+atbrRlLiskpZewqyxL/Y8B0S9rNHo52XZaWtZsa3bSEG2f1v+YuiD4sCqXUm\
    sYNmyVXVOSwcfiT1zgw1BSHuc5BQIDAQABAoH/fQanlpbu50PWFTgRE65VLow3h0D6grK1mkcI60SiLpCYMXD3cTmMVuy2rz2isXWbe5f3JBNo\
    4ApbyyRgZmvzKHsILCtgEnVYp+hv7N2lmsO5WjzBpxPLN7m5Ux5LYH48lpDzsaqCwARPIHZjY5L7glVsXQTBEy8JHNqQzAFsrL5HkLmL6BU5Of\
    B54mdBKZsiGrH+rdURjBiN3pr/gLvQPyzatXI53a5UT1NW8pRC23DetjTjMS6BT4BPzCqY49DJLLcYIXg7n5CzfxHqNcIOCRBeUOQjYZkXPW7y\
    LOZR7bD2dCHYbwHIbn0gYVsmNYvcN1r2TrO2HLFIbLywb4YBAoGBANhG1wWSTdpGXC5btRZ+sLMAa7Mma4JaYqZAJmtWQHNIk1iz/P4hFLS+I0\
    tB/MtzYQlgoAl+8dQ9S0j1NwGZ2K1j84jbdocHHhImdp5fD17YQe3qMRUoOF2M4wRzuqUhg3S8r72bcV/kiWz5zm/79yvUTsE3HobwQTs90AHl\
    pMQFAoGBAM5UhHpnBWksdrl23Cbx6JBOU4SLnbcVNeB28H+at+1SLESOs1qi4PlP6t+KnQviVIdC+iBkPiXLsewecSW5jduPcnOQCxUQDk4vFJ\
    EOxxwa1omDagMOh4JXNHgi7Kah48zVSiYxI6t07unnQUE2adV3P/JIk8L3Nb/uCdo2v7EBAoGBAKN2XzvRyU/JUBCltaer12djUQNVbXpXUCox\
    YBhOV2YKm3s2hmeYnyrAbrKJzEQFD3lj83FZ5fMw5H7e/1URb2gVnFJ69Qm3Qm4bbhni5R4dOy9Tiwdfn8JtIoQR6Ca4vr9zgSxAmR8N/yRDZl\
    jTSoxw6Zk1TLhWTCc3X8ifRbn1AoGBALlVibo5F88lNW/aqF4DJZeaA8Mndf+iecaqj9TPMS9nhIQAenKLo/HOK3eolvC52Ju3Od4mrPxeP++M\
    WK4+QoJaE8BiPtIonfD0sVCrKYbBRLw44tzkDCy0EFlpZZE4EdtIK1arBRNZ8dEA/MiLC/3HJBWJw9B5JjrEouz0CLQBAoGBAL8B4sPfFhUStd\
    Gx218mxwSQI/Fc+Tfo+AJyY/jQpafi1bjO2eqDK3zgr7oHEvTvlkkmZMoxTfUhpzn6z+7y8Uj2rmEXrASDpDVhJjYot8mw7StxLl6fbJhS6l17\
    wbqtQjDr/BQ0aqcahxq0E1hFcpIcld5UEvboND2KPpWQB6Oj";

/// A private key, with the name and the algorithm that its public half is published under.
struct Key {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Key {
    fn ed25519(id: &'static str) -> Self {
        let mut der = STANDARD.decode("MC4CAQAwBQYDK2VwBCIEIA==").expect("the header of such a key");
        let mut seed = [0_u8; 32];
        rand::rng().fill_bytes(&mut seed);
        der.extend_from_slice(&seed);
        Self { id, algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(&der) }
    }

    fn rsa(id: &'static str) -> Self {
        let der = STANDARD.decode(RSA_KEY).expect("a key");
        Self { id, algorithm: Algorithm::RS256, key: EncodingKey::from_rsa_der(&der) }
    }

    fn public(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("its public half");
        jwk.common.key_id = Some(self.id.to_owned());
        jwk
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(&Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) }, claims)
    }

    fn sign_as(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).expect("a token")
    }
}

/// The issuer's side: where it publishes its keys.
struct Issuer {
    dir: TempDir,
}

impl Issuer {
    fn publishing(keys: &[&Key]) -> Self {
        let issuer = Self { dir: tempfile::tempdir().expect("a directory") };
        issuer.publish(&json!({"keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>()}));
        issuer
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("keys.json")
    }

    fn publish(&self, set: &Value) {
        let beside = self.dir.path().join("keys.next");
        std::fs::write(&beside, set.to_string()).expect("written");
        std::fs::rename(beside, self.file()).expect("published at once");
    }

    fn options(&self) -> JwtOptions {
        serde_json::from_value(json!({"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": self.file()}))
            .expect("options")
    }

    async fn app(&self) -> TestApp {
        TestApp::start_with(|config| config.jwt = Some(self.options())).await
    }
}

fn now() -> i64 {
    Clock::System.now().micros() / 1_000_000
}

fn claims(user: &str, role: &str) -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user, "exp": now() + 3600, "tallytree_role": role})
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().expect("claims").remove(name);
    claims
}

async fn is_let_in(app: &TestApp, token: &str) {
    app.with_token(token).get("/products").await.ok();
}

async fn is_turned_away(app: &TestApp, token: &str) {
    let reply = app.with_token(token).get("/products").await;
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"tallytree\""));
    let problem = reply.problem(401, "unauthenticated");
    // The same words whatever is wrong.
    assert_eq!(problem["detail"], "a valid bearer token is needed");
}

#[tokio::test]
async fn each_role_may_do_what_it_may_with_a_token_of_the_service() {
    let key = Key::ed25519("first");
    let issuer = Issuer::publishing(&[&key]);
    let app = issuer.app().await;
    let ann = app.top_level("ann", "gold").await;
    let bearer = |claims: Value| -> Person { app.with_token(key.sign(&claims)) };

    let admin = bearer(claims("root", "super_admin"));
    let body = json!({"user_id": "bob", "company_name": "Bob Ltd"});
    admin.post("/resellers", body.clone()).await.created();

    let paid = json!({"amount": 10, "reference": "inv-1"});
    let payments = bearer(claims("till", "payments"));
    payments.post(format!("/wallets/{ann}/credits"), paid.clone()).await.created();
    payments.get(format!("/wallets/{ann}")).await.problem(403, "forbidden");

    let auditor = bearer(claims("eve", "auditor"));
    auditor.get("/audit/events").await.ok();
    auditor.post("/resellers", body.clone()).await.problem(403, "forbidden");

    let finance = bearer(claims("fin", "finance"));
    finance.get(format!("/wallets/{ann}")).await.ok();
    finance.get("/audit/events").await.problem(403, "forbidden");
    finance.post(format!("/wallets/{ann}/credits"), paid).await.problem(403, "forbidden");

    let reseller = bearer(with(claims("someone", "reseller"), "tallytree_tenants", json!([ann])));
    assert_eq!(reseller.get("/resellers").await.ok()["data"][0]["id"], ann.as_str());
    reseller
        .post(format!("/wallets/{ann}/provisions"), json!({"cost": 1}))
        .await
        .problem(403, "declared_cost_not_allowed");

    // The log names the user that the issuer vouches for.
    let events = app.auditor().get("/audit/events?actor=root").await.ok();
    assert_eq!(events["data"][0]["metadata"]["actor"], "root");
}

#[tokio::test]
async fn a_user_of_several_tenants_names_one_and_only_its_own() {
    let key = Key::ed25519("first");
    let issuer = Issuer::publishing(&[&key]);
    let app = issuer.app().await;
    let ann = app.top_level("ann", "gold").await;
    let bob = app.top_level("bob", "gold").await;
    let eve = app.top_level("eve", "gold").await;
    let child = app.child_of(&ann, "ann's child", "standard").await;
    let both = with(claims("someone", "reseller"), "tallytree_tenants", json!([ann, bob]));
    let person = app.with_token(key.sign(&both));

    person.get("/resellers").await.problem(400, "tenant_required");
    for own in [&ann, &bob] {
        let seen = person.get(format!("/wallets/{own}")).header("x-tenant-id", own).await.ok();
        assert_eq!(seen["reseller_id"], own.as_str());
    }
    person.get(format!("/wallets/{bob}")).header("x-tenant-id", &ann).await.problem(404, "not_found");
    let missing = "019a0000-0000-7000-8000-000000000000";
    let answers = [eve.as_str(), child.as_str(), missing, "no id"];
    let mut told = Vec::new();
    for tenant in answers {
        told.push(person.get("/resellers").header("x-tenant-id", tenant).await.problem(404, "not_found"));
    }
    assert!(told.iter().all(|answer| *answer == told[0]), "{told:?}");

    // Where the issuer names no tenants, the register does: ann is registered for one.
    let registered = app.with_token(key.sign(&claims("ann", "reseller")));
    assert_eq!(registered.get(format!("/wallets/{ann}")).await.ok()["reseller_id"], ann.as_str());
    registered.get("/resellers").header("x-tenant-id", &bob).await.problem(404, "not_found");
    let nobody = app.with_token(key.sign(&claims("nobody", "reseller")));
    nobody.get("/resellers").await.problem(400, "tenant_required");
    let none = with(claims("ann", "reseller"), "tallytree_tenants", json!([]));
    app.with_token(key.sign(&none)).get("/resellers").await.problem(400, "tenant_required");
}

#[tokio::test]
async fn what_does_not_hold_is_turned_away_without_a_word_why() {
    let key = Key::ed25519("first");
    let other = Key::ed25519("first");
    let unknown = Key::ed25519("second");
    let rsa = Key::rsa("rsa");
    let issuer = Issuer::publishing(&[&key, &rsa]);
    let app = issuer.app().await;
    let good = claims("eve", "auditor");
    is_let_in(&app, &key.sign(&good)).await;
    is_let_in(&app, &rsa.sign(&good)).await;

    for bad in [
        with(good.clone(), "exp", json!(now() - 31)),
        with(good.clone(), "exp", json!("tomorrow")),
        with(good.clone(), "exp", json!(null)),
        without(good.clone(), "exp"),
        with(good.clone(), "nbf", json!(now() + 120)),
        with(good.clone(), "nbf", json!("soon")),
        with(good.clone(), "iss", json!("https://id.example.evil")),
        with(good.clone(), "iss", json!([ISSUER])),
        without(good.clone(), "iss"),
        with(good.clone(), "aud", json!("another")),
        with(good.clone(), "aud", json!([])),
        without(good.clone(), "aud"),
        without(good.clone(), "sub"),
        with(good.clone(), "sub", json!("")),
        with(good.clone(), "sub", json!(7)),
        with(good.clone(), "sub", json!("key:0123456789abcdef")),
        with(good.clone(), "sub", json!("policy:expiry")),
        without(good.clone(), "tallytree_role"),
        with(good.clone(), "tallytree_role", json!("system")),
        with(good.clone(), "tallytree_role", json!("root")),
        with(good.clone(), "tallytree_role", json!(["auditor"])),
        with(with(good.clone(), "tallytree_role", json!("reseller")), "tallytree_tenants", json!("all")),
        with(with(good.clone(), "tallytree_role", json!("reseller")), "tallytree_tenants", json!(["x"])),
    ] {
        is_turned_away(&app, &key.sign(&bad)).await;
    }

    // A key that is not the issuer's, under its name and under one that is not known.
    is_turned_away(&app, &other.sign(&good)).await;
    is_turned_away(&app, &unknown.sign(&good)).await;
    // Another algorithm than the key's own, and none at all.
    let named = |algorithm| Header { kid: Some("first".to_owned()), ..Header::new(algorithm) };
    is_turned_away(&app, &rsa.sign_as(&named(Algorithm::RS256), &good)).await;
    let no_signature = [json!({"alg": "none", "kid": "first"}), good.clone()]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
        .join(".");
    is_turned_away(&app, &format!("{no_signature}.")).await;
    is_turned_away(&app, &no_signature).await;
    // The public key is no secret, so nothing may be signed with it as if it were one.
    let jwk = serde_json::to_value(key.public()).expect("a document");
    let x = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().expect("a key")).expect("bytes");
    let n = serde_json::to_value(rsa.public()).expect("a document")["n"].as_str().expect("a key").to_owned();
    for secret in [x, URL_SAFE_NO_PAD.decode(n).expect("bytes"), std::fs::read(issuer.file()).expect("the file")] {
        for id in ["first", "rsa"] {
            let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::HS256) };
            let forged = jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(&secret)).expect("a token");
            is_turned_away(&app, &forged).await;
        }
    }
    // A key that the token brings along is not looked at, nor is an extension that nobody here understands.
    let own_key = Header { jwk: Some(other.public()), kid: None, ..Header::new(Algorithm::EdDSA) };
    is_turned_away(&app, &other.sign_as(&own_key, &good)).await;
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..named(Algorithm::EdDSA) };
    is_turned_away(&app, &key.sign_as(&critical, &good)).await;

    // A signed token with other claims, or with a piece cut off.
    let token = key.sign(&good);
    let parts: Vec<&str> = token.split('.').collect();
    let admin = URL_SAFE_NO_PAD.encode(claims("eve", "super_admin").to_string());
    is_turned_away(&app, &format!("{}.{admin}.{}", parts[0], parts[2])).await;
    is_turned_away(&app, &format!("{}.{}", parts[0], parts[1])).await;
    is_turned_away(&app, &format!("{}.{}.", parts[0], parts[1])).await;
    is_turned_away(&app, &token[..token.len() - 4]).await;
}

#[tokio::test]
async fn several_audiences_a_clock_that_is_a_little_off_and_one_key_without_a_name_are_taken() {
    let key = Key::ed25519("first");
    let issuer = Issuer::publishing(&[&key]);
    let app = issuer.app().await;
    let good = claims("eve", "auditor");
    is_let_in(&app, &key.sign(&with(good.clone(), "aud", json!(["billing", AUDIENCE])))).await;
    is_let_in(&app, &key.sign(&with(good.clone(), "exp", json!(now() - 5)))).await;
    is_let_in(&app, &key.sign(&with(good.clone(), "nbf", json!(now() + 5)))).await;
    is_let_in(&app, &key.sign(&with(good.clone(), "exp", json!(now() as f64 + 60.5)))).await;
    is_let_in(&app, &key.sign_as(&Header::new(Algorithm::EdDSA), &good)).await;
}

#[tokio::test]
async fn a_token_expires_by_the_clock_of_the_service_while_it_is_in_use() {
    let key = Key::ed25519("first");
    let app = Issuer::publishing(&[&key]).app().await;
    let token = key.sign(&with(claims("eve", "auditor"), "exp", json!(now() + 600)));
    is_let_in(&app, &token).await;
    app.advance(700).await;
    is_turned_away(&app, &token).await;
}

#[tokio::test]
async fn a_new_key_is_taken_at_once_and_one_that_is_withdrawn_is_refused_soon() {
    let (first, second) = (Key::ed25519("first"), Key::ed25519("second"));
    let issuer = Issuer::publishing(&[&first]);
    let app = issuer.app().await;
    let claims = claims("eve", "auditor");
    let (old, new) = (first.sign(&claims), second.sign(&claims));
    is_let_in(&app, &old).await;
    is_turned_away(&app, &new).await;

    issuer.publish(&json!({"keys": [first.public(), second.public()]}));
    tokio::time::sleep(Duration::from_millis(250)).await;
    is_let_in(&app, &new).await;
    is_let_in(&app, &old).await;

    // A file that cannot be read for a moment changes nothing.
    std::fs::write(issuer.file(), "{").expect("written");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    is_let_in(&app, &old).await;

    issuer.publish(&json!({"keys": [second.public()]}));
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    is_turned_away(&app, &old).await;
    is_let_in(&app, &new).await;
}

#[tokio::test]
async fn keys_that_nothing_can_be_verified_with_stop_the_service_at_its_start() {
    let key = Key::ed25519("first");
    let issuer = Issuer::publishing(&[&key]);
    let weak = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff_u8; 128]), "e": "AQAB"});
    let mut misnamed = serde_json::to_value(key.public()).expect("a document");
    misnamed["alg"] = json!("RS256");
    let mut encrypting = serde_json::to_value(key.public()).expect("a document");
    encrypting["use"] = json!("enc");
    for set in [
        json!({}),
        json!({"keys": []}),
        json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7_u8; 32])}]}),
        json!({"keys": [weak]}),
        json!({"keys": [misnamed]}),
        json!({"keys": [encrypting]}),
    ] {
        issuer.publish(&set);
        let store = tempfile::tempdir().expect("a directory");
        let config = tallytree::config::Config {
            database: tallytree::config::Database::Sqlite(store.path().join("store")),
            jwt: Some(issuer.options()),
            ..tallytree::config::Config::default()
        };
        let error = tallytree::node::Node::open(&config).await.expect_err("no key").to_string();
        assert!(error.contains("key set"), "{set}: {error}");
    }
}

#[tokio::test]
async fn without_an_issuer_no_such_token_is_taken() {
    let app = TestApp::start().await;
    is_turned_away(&app, &Key::ed25519("first").sign(&claims("eve", "auditor"))).await;
}
