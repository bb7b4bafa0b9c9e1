//! Connections to a server, kept open from one request to the next.
//!
//! Not hyper-util's pooled client. What is handed to a connection in the moment in which it breaks may stay in the queue
//! between the two, and is given up only when nobody can put anything into that queue any more. A pooled client holds on to
//! its end until it is answered, so it waits for ever, and a server that was killed looks like one that hangs. Here whoever
//! waits sees the connection end and lets go of the queue.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::http::response::Parts;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// No answer came: the other side went away before or after it did what it was asked.
#[derive(Debug)]
pub struct Lost(pub String);

impl<E: std::error::Error> From<E> for Lost {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Connections to one server, as many as there are requests at a time. Clones share them.
#[derive(Clone)]
pub struct Connections {
    address: SocketAddr,
    idle: Arc<Mutex<Vec<Connection>>>,
}

/// One connection, for one request at a time.
struct Connection {
    requests: SendRequest<Full<Bytes>>,
    /// Ends when the connection does.
    task: JoinHandle<()>,
}

impl Connections {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, idle: Arc::default() }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request, once, and reads the answer to its end. Whether it is sent again is the story of whoever asks.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<(Parts, Bytes), Lost> {
        request.headers_mut().insert(HOST, HeaderValue::from_str(&self.address.to_string())?);
        let Connection { mut requests, mut task } = self.open().await?;
        let answer = requests.send_request(request);
        tokio::pin!(answer);
        let (response, requests) = tokio::select! {
            biased;
            response = &mut answer => (response?, Some(requests)),
            _ = &mut task => {
                drop(requests);
                (answer.await?, None)
            }
        };
        let (parts, body) = response.into_parts();
        let text = body.collect().await?.to_bytes();
        if let Some(requests) = requests {
            self.idle.lock().expect("nobody panicked").push(Connection { requests, task });
        }
        Ok((parts, text))
    }

    /// One that is open as far as anybody knows.
    async fn open(&self) -> Result<Connection, Lost> {
        loop {
            let idle = self.idle.lock().expect("nobody panicked").pop();
            let Some(mut connection) = idle else { break };
            if connection.requests.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let task = tokio::spawn(async {
            // What went wrong is told to whoever waits for an answer.
            let _ = connection.await;
        });
        requests.ready().await?;
        Ok(Connection { requests, task })
    }
}
