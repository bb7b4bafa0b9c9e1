//! A request built once and sent often: a sending clones it and puts fresh idempotency keys in.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use http_body_util::Full;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use serde_json::Value;

/// How long a key is: 16 hexadecimal digits of the run and 16 of the count.
pub(in crate::cli::bench) const KEY_LENGTH: usize = 32;
/// What stands in a body where every sending has a key of its own.
pub(in crate::cli::bench) const KEY_MARK: &str = "################################";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What goes over the wire.
pub(in crate::cli::bench) type Sendable = hyper::Request<Full<Bytes>>;

/// Makes idempotency keys, each once in a run and, by the run's random half, once altogether.
#[derive(Debug)]
pub(in crate::cli::bench) struct KeySource {
    run: u64,
    taken: AtomicU64,
}

impl KeySource {
    /// Keys that begin with `run`.
    pub(in crate::cli::bench) fn new(run: u64) -> Self {
        Self { run, taken: AtomicU64::new(0) }
    }

    /// How many keys have been taken.
    pub(in crate::cli::bench) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The next `count` keys.
    fn take(&self, count: usize) -> impl Iterator<Item = String> {
        let first = self.taken.fetch_add(count as u64, Ordering::Relaxed);
        let run = self.run;
        (first..).take(count).map(move |own| format!("{run:016x}{own:016x}"))
    }
}

/// A request and where its keys stand in it.
#[derive(Debug, Clone)]
pub(in crate::cli::bench) struct Request {
    head: hyper::Request<()>,
    body: Bytes,
    /// Whether it has a key of its own: a command has, a query has not.
    keyed: bool,
    /// Where in the body keys stand.
    keys: Vec<usize>,
}

impl Request {
    /// A command with a key of its own, and in its body one for each [`KEY_MARK`].
    ///
    /// # Errors
    /// The path or the token cannot be sent.
    pub(in crate::cli::bench) fn command(path: &str, token: &str, body: &Value) -> anyhow::Result<Self> {
        let body = body.to_string();
        let keys = body.match_indices(KEY_MARK).map(|(at, _)| at).collect();
        let mut head = head(Method::POST, path, token)?;
        head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self { head, body: Bytes::from(body), keyed: true, keys })
    }

    /// A query.
    ///
    /// # Errors
    /// The path or the token cannot be sent.
    pub(in crate::cli::bench) fn query(path: &str, token: &str) -> anyhow::Result<Self> {
        Ok(Self { head: head(Method::GET, path, token)?, body: Bytes::new(), keyed: false, keys: Vec::new() })
    }

    /// A copy to send, with fresh keys.
    ///
    /// # Errors
    /// None where keys are what [`KeySource`] makes.
    pub(in crate::cli::bench) fn sendable(&self, source: &KeySource) -> anyhow::Result<Sendable> {
        let mut keys = source.take(usize::from(self.keyed) + self.keys.len());
        let mut head = self.head.clone();
        if self.keyed {
            let key = keys.next().context("a key source has keys without end")?;
            head.headers_mut().insert(IDEMPOTENCY_KEY, HeaderValue::try_from(key)?);
        }
        let mut body = self.body.clone();
        if !self.keys.is_empty() {
            let mut patched = body.to_vec();
            for (at, key) in self.keys.iter().zip(keys) {
                if let Some(room) = patched.get_mut(*at..*at + KEY_LENGTH) {
                    room.copy_from_slice(key.as_bytes());
                }
            }
            body = Bytes::from(patched);
        }
        Ok(head.map(|()| Full::new(body)))
    }
}

fn head(method: Method, path: &str, token: &str) -> anyhow::Result<hyper::Request<()>> {
    hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "tallytree")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(())
        .with_context(|| format!("making a request to {path}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::HashSet;

    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    async fn sent(request: &Request, source: &KeySource) -> (Option<String>, Vec<String>) {
        let sendable = request.sendable(source).expect("a request");
        let key = sendable.headers().get(IDEMPOTENCY_KEY).map(|key| key.to_str().expect("text").to_owned());
        let body = sendable.into_body().collect().await.expect("a body").to_bytes();
        (key, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn every_sending_of_a_command_has_other_keys_in_its_header_and_in_its_body() {
        let source = KeySource::new(0xabc);
        let request = Request::command("/x", "t", &json!([KEY_MARK, "#", KEY_MARK])).expect("a request");
        let mut seen = HashSet::new();
        for _ in 0..10 {
            let (own, body) = sent(&request, &source).await;
            let [first, other, second] = body.try_into().expect("three texts");
            assert_eq!(other, "#", "what is no mark is left alone");
            for key in [own.expect("a key"), first, second] {
                assert!(key.starts_with("0000000000000abc") && key.len() == KEY_LENGTH, "{key}");
                assert!(seen.insert(key));
            }
        }
        assert_eq!(source.taken(), 30);
    }

    #[tokio::test]
    async fn a_query_takes_no_key() {
        let source = KeySource::new(1);
        let request = Request::query("/x?limit=1", "t").expect("a request");
        assert_eq!(sent(&request, &source).await, (None, Vec::new()));
        assert_eq!(source.taken(), 0);
    }
}
