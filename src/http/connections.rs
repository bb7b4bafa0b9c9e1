//! The connections of a server: a bounded number of them, none of which is held by a client that asks nothing.
//!
//! Shape: [`serve`] accepts and gives each connection a task. A client must have asked within [`Terms::first_request`]; later it
//! has [`Terms::idle`] from an answer to the whole head of its next request. Where all places are taken and one more client comes,
//! connections on which nothing is being answered are closed at once: a client that keeps one open must be ready for that at any
//! time anyway, and the next one, an operator's `/healthz` say, is served instead of waiting for their time to be over. A long
//! answer (a stream of events) is nobody's idle time.

use std::convert::Infallible;
use std::future::Future;
use std::io::Read;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_service::Service;

/// The most connections, where the process may open enough files.
const CONNECTIONS_MAX: usize = 10_000;
/// How many files may be open where the system does not say: as few as some systems allow.
const FILES_UNKNOWN: usize = 256;
/// How long it is until idle connections are closed again while somebody waits for a place.
const CROWDED_EVERY: Duration = Duration::from_millis(200);

/// What is granted to clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How many connections there may be.
    pub(crate) most: usize,
    /// Within which time of connecting a request must have come.
    pub(crate) first_request: Duration,
    /// How long a connection may wait for the next request, its head included.
    pub(crate) idle: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        // A proxy's own time for idle connections is often 60 s, and it should be the one that closes them.
        Self { most: most(), first_request: Duration::from_secs(15), idle: Duration::from_secs(65) }
    }
}

/// As many connections as leave a quarter of the files that this process may open for what is not a connection.
fn most() -> usize {
    let mut limits = String::new();
    // Short, and made by the system: nobody waits for a disk.
    let read = std::fs::File::open("/proc/self/limits").and_then(|mut file| file.read_to_string(&mut limits));
    let files = read.ok().and_then(|_| files_of(&limits)).unwrap_or(FILES_UNKNOWN);
    (files / 4 * 3).clamp(1, CONNECTIONS_MAX)
}

/// How many files a process may open, by what its system says of it.
fn files_of(limits: &str) -> Option<usize> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(usize::MAX) } else { soft.parse().ok() }
}

/// Serves until `closing` comes; then lets what is being answered come to its end. Dropping it cuts every connection.
pub(crate) async fn serve<L, S>(
    mut listener: L,
    service_of: impl Fn(SocketAddr) -> S,
    terms: Terms,
    closing: impl Future<Output = ()>,
) where
    L: Listener<Addr = SocketAddr>,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let places = Arc::new(Semaphore::new(terms.most));
    // Each change asks connections to end once nothing is being answered on them.
    let (farewell, _) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut closing = pin!(closing);
    loop {
        // Not waited for beside the listener: whoever was just accepted would be dropped.
        while connections.try_join_next().is_some() {}
        let next = async {
            let (io, address) = listener.accept().await;
            (io, address, place(&places, &farewell).await)
        };
        tokio::select! {
            () = &mut closing => break,
            (io, address, place) = next => {
                let Some(place) = place else { break };
                connections.spawn(attend(io, service_of(address), terms, farewell.subscribe(), place));
            }
        }
    }
    drop(listener);
    farewell.send_replace(());
    while connections.join_next().await.is_some() {}
}

/// Waits for a place; where there is none, idle connections make one. `None` never comes: nobody closes the places.
async fn place(places: &Arc<Semaphore>, farewell: &watch::Sender<()>) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Some(place);
    }
    tracing::debug!("all connections are taken; idle ones are closed");
    loop {
        farewell.send_replace(());
        if let Ok(place) = timeout(CROWDED_EVERY, Arc::clone(places).acquire_owned()).await {
            return place.ok();
        }
    }
}

/// Serves one connection.
async fn attend<I, S>(io: I, service: S, terms: Terms, mut farewell: watch::Receiver<()>, _place: OwnedSemaphorePermit)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let asked = AtomicBool::new(false);
    let answering = service_fn(|request: hyper::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        service.clone().call(request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(terms.idle);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), answering));
    let mut first_request = pin!(sleep(terms.first_request));
    let mut is_new = true;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "a connection broke");
                }
                return;
            }
            () = first_request.as_mut(), if is_new => {
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                is_new = false;
            }
            Ok(()) = farewell.changed() => connection.as_mut().graceful_shutdown(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use futures_util::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const LISTEN: &[u8] = b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n";
    const PATIENCE: Duration = Duration::from_secs(20);

    fn terms() -> Terms {
        Terms { most: 10, first_request: PATIENCE, idle: PATIENCE }
    }

    async fn server(terms: Terms) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endless =
            || async { Body::from_stream(stream::iter([Ok::<_, Infallible>("began")]).chain(stream::pending())) };
        let router = Router::new().route("/", get(|| async { "here" })).route("/stream", get(endless));
        let (close, closing) = oneshot::channel();
        let closing = async {
            let _ = closing.await;
        };
        let serving = tokio::spawn(serve(listener, move |_| router.clone(), terms, closing));
        (address, close, serving)
    }

    /// What comes until `end` has come or the connection ends.
    async fn read_until(stream: &mut TcpStream, end: &str) -> String {
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        while !String::from_utf8_lossy(&text).contains(end) {
            match timeout(PATIENCE, stream.read(&mut buffer)).await.expect("it hangs") {
                Ok(0) | Err(_) => break,
                Ok(read) => text.extend_from_slice(&buffer[..read]),
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    async fn ask(stream: &mut TcpStream) -> bool {
        stream.write_all(ASK).await.is_ok() && read_until(stream, "here").await.ends_with("here")
    }

    #[tokio::test]
    async fn who_asks_nothing_or_half_a_question_is_cut() {
        let short = Duration::from_millis(100);
        let (address, _close, _serving) = server(Terms { first_request: short, ..terms() }).await;
        for sent in [&b""[..], b"GET / HTTP/1.1\r\nho"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            assert_eq!(read_until(&mut stream, "never").await, "");
        }
        let (address, _close, _serving) = server(Terms { first_request: short, idle: short, ..terms() }).await;
        let mut listening = TcpStream::connect(address).await.unwrap();
        listening.write_all(LISTEN).await.unwrap();
        assert!(read_until(&mut listening, "began").await.contains("began"));
        let more = timeout(short * 4, listening.read(&mut [0; 1])).await;
        assert!(more.is_err(), "who is being answered is not idle: {more:?}");
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut stream).await && ask(&mut stream).await, "a connection is kept");
        stream.write_all(b"GET / HTTP").await.unwrap();
        read_until(&mut stream, "never").await;
    }

    #[tokio::test]
    async fn where_all_places_are_taken_idle_connections_give_theirs_and_streams_do_not() {
        let (address, _close, _serving) = server(Terms { most: 3, ..terms() }).await;
        let mut listening = TcpStream::connect(address).await.unwrap();
        listening.write_all(LISTEN).await.unwrap();
        assert!(read_until(&mut listening, "began").await.contains("began"));
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut idle).await);
        let silent = TcpStream::connect(address).await.unwrap();
        for _ in 0..5 {
            let mut another = TcpStream::connect(address).await.unwrap();
            assert!(ask(&mut another).await);
        }
        assert!(!ask(&mut idle).await, "its place was needed");
        let mut rest = [0; 1];
        let more = timeout(Duration::from_millis(50), listening.read(&mut rest)).await;
        assert!(more.is_err(), "a stream goes on: {more:?}");
        drop(silent);
    }

    #[tokio::test]
    async fn at_the_end_idle_connections_are_closed_and_what_is_answered_is_waited_for() {
        let (address, close, mut serving) = server(terms()).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut idle).await);
        let mut listening = TcpStream::connect(address).await.unwrap();
        listening.write_all(LISTEN).await.unwrap();
        assert!(read_until(&mut listening, "began").await.contains("began"));
        close.send(()).unwrap();
        assert_eq!(read_until(&mut idle, "never").await, "");
        assert!(timeout(Duration::from_millis(50), &mut serving).await.is_err(), "a stream is waited for");
        drop(listening);
        timeout(PATIENCE, serving).await.expect("it ends").unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[test]
    fn how_many_files_there_may_be_is_read_from_what_the_system_says() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             63458                63458                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(files_of(limits), Some(1024));
        assert_eq!(
            files_of("Max open files            unlimited            unlimited            files"),
            Some(usize::MAX)
        );
        assert_eq!(files_of(""), None);
    }
}
