//! Somebody who listens to the feed: one connection, read event by event.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an event may take that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const FEED: &str = "/reseller-network/activity";

/// An open stream.
pub struct Listener {
    body: Incoming,
    waiting: String,
    /// The id of the last entry that came.
    pub last: Option<String>,
}

impl Listener {
    /// Begins listening at this path; the server must agree.
    pub async fn at(address: SocketAddr, token: &str, path: &str, last: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(async {
            // What went wrong is told to whoever reads.
            let _ = connection.await;
        });
        let mut request = Request::get(path)
            .header("host", address.to_string())
            .header("accept", "text/event-stream")
            .header("authorization", format!("Bearer {token}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let response = requests.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        // The connection lives as long as somebody holds its request side.
        tokio::spawn(async move {
            let _requests = requests;
            std::future::pending::<()>().await;
        });
        let mut listener =
            Self { body: response.into_body(), waiting: String::new(), last: last.map(ToOwned::to_owned) };
        // The greeting says that it is heard.
        assert_eq!(listener.block().await.as_deref(), Some("retry: 2000"));
        listener
    }

    /// The next block of lines; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.waiting.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.waiting = rest;
                return Some(block);
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("something is said");
            let data = frame?.ok()?.into_data().ok()?;
            self.waiting.push_str(std::str::from_utf8(&data).expect("text"));
        }
    }

    /// The next entry; `None` at the end. Comments are passed over.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let block = self.block().await?;
            if block.starts_with(':') {
                continue;
            }
            let (id, data) = block.strip_prefix("id: ").and_then(|rest| rest.split_once("\ndata: ")).expect("an event");
            let entry: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(entry["id"], id);
            self.last = Some(id.to_owned());
            return Some(entry);
        }
    }

    /// The next so many entries.
    pub async fn take(&mut self, entries: usize) -> Vec<Value> {
        let mut taken = Vec::with_capacity(entries);
        while taken.len() < entries {
            taken.push(self.next().await.expect("an entry"));
        }
        taken
    }
}
