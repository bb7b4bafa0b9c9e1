//! One keep-alive HTTP/1.1 connection, spoken by hyper and driven by the task that asks: no second task, no hand-over
//! between threads. An answer is always read to its end.

use std::net::SocketAddr;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::request::{KeySource, Request, Sendable};

/// A connection.
#[derive(Debug)]
pub(in crate::cli::bench) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(in crate::cli::bench) struct Answer(Response<Bytes>);

impl Answer {
    /// Its status.
    pub(in crate::cli::bench) fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// The body of a 2xx answer; any other answer is an error that shows it.
    pub(in crate::cli::bench) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        let (status, body) = (self.0.status(), self.0.body());
        if !status.is_success() {
            anyhow::bail!("answered {status}: {}", String::from_utf8_lossy(body));
        }
        Ok(serde_json::from_slice(body)?)
    }

    /// A header's value.
    pub(in crate::cli::bench) fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok()
    }
}

impl Connection {
    /// Connects.
    pub(in crate::cli::bench) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting to the server")?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver })
    }

    /// Sends a request and reads the answer to its end. Tells what an answer that is not 2xx says, and nothing of others.
    pub(super) async fn exchange(&mut self, request: Sendable) -> anyhow::Result<Result<(), String>> {
        self.answered(request, async |answer: Response<Incoming>| {
            if !answer.status().is_success() {
                return Ok(Err(told(answer).await?));
            }
            let mut body = answer.into_body();
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok(Ok(()))
        })
        .await
    }

    /// Sends a request and keeps the whole answer.
    pub(in crate::cli::bench) async fn call(&mut self, request: Sendable) -> anyhow::Result<Answer> {
        self.answered(request, async |answer: Response<Incoming>| {
            let (head, body) = answer.into_parts();
            Ok(Answer(Response::from_parts(head, body.collect().await?.to_bytes())))
        })
        .await
    }

    /// Sends a query, which needs no keys, and keeps the whole answer.
    pub(in crate::cli::bench) async fn ask(&mut self, query: &Request) -> anyhow::Result<Answer> {
        self.call(query.sendable(&KeySource::new(0))?).await
    }

    /// Drives the connection until an answer has come and `read` is done with it.
    async fn answered<T>(
        &mut self,
        request: Sendable,
        read: impl AsyncFnOnce(Response<Incoming>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let Self { sender, driver } = self;
        let exchange = async {
            sender.ready().await?;
            read(sender.send_request(request).await?).await
        };
        tokio::select! {
            biased;
            done = exchange => done,
            ended = driver => {
                ended?;
                anyhow::bail!("the server closed the connection")
            }
        }
    }
}

/// An answer in words.
async fn told(answer: Response<Incoming>) -> anyhow::Result<String> {
    let status: StatusCode = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(format!("{status}: {}", String::from_utf8_lossy(&body)))
}
