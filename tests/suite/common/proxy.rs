//! A TCP proxy in front of a PostgreSQL server: it notes what is sent, and cuts the connection of a turn at its COMMIT, before or
//! after the server has carried it out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::postgres::TestDatabase;

/// What happens to a turn's COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The connection is cut before the server has heard of it.
    BeforeCommit,
    /// The server commits and answers, and the answer is lost with the connection.
    AfterCommit,
    /// Nothing is cut, this time.
    Nothing,
}

/// What was sent to the server.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The startup parameters of the last connection, readable.
    pub startup: String,
    /// The names of prepared statements; empty for the unnamed one.
    pub prepared: Vec<String>,
    /// Texts of simple queries.
    pub queries: Vec<String>,
    /// How many statements were prepared outside of a transaction.
    pub outside_of_transactions: usize,
    /// How many connections were cut.
    pub cut: usize,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    cuts: Mutex<VecDeque<Cut>>,
}

/// The proxy; it goes with the test.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts it in front of a database's server.
    pub async fn start(database: &TestDatabase) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let upstream: u16 =
            database.url().rsplit_once(':').expect("a port").1.split('/').next().expect("it").parse().expect("one");
        let url = database.url().replacen(&format!(":{upstream}/"), &format!(":{port}/"), 1);
        let shared = Arc::<Shared>::default();
        let known = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { continue };
                tokio::spawn(relay(client, server, Arc::clone(&known)));
            }
        });
        Self { url, shared, task }
    }

    /// The database through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What has been sent since it was last forgotten.
    pub fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }

    /// Forgets what has been sent.
    pub fn forget(&self) {
        *lock(&self.shared.seen) = Seen::default();
    }

    /// What happens to the next turns' COMMITs, one after the other; then nothing happens any more.
    pub fn cut(&self, cuts: impl IntoIterator<Item = Cut>) {
        lock(&self.shared.cuts).extend(cuts);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn relay(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let back = tokio::spawn(answers(server_in, client_out, stopped));
    match requests(client_in, server_out, &shared).await {
        Some(Cut::AfterCommit) => {
            // From here on the answers are kept, until the server has given its last one.
            let _ = stop.send(());
            let _ = back.await;
        }
        _ => back.abort(),
    }
}

/// Passes on what the client sends, until it ends or is cut.
async fn requests(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, shared: &Shared) -> Option<Cut> {
    // The first message has no type.
    let startup = message(&mut client, None).await?;
    lock(&shared.seen).startup = String::from_utf8_lossy(&startup).replace('\0', " ");
    server.write_all(&startup).await.ok()?;
    let mut in_turn = false;
    let mut in_transaction = false;
    loop {
        let kind = client.read_u8().await.ok()?;
        let message = message(&mut client, Some(kind)).await?;
        let text = || String::from_utf8_lossy(&message[5..]).split('\0').next().unwrap_or_default().to_owned();
        match kind {
            b'P' => {
                let mut seen = lock(&shared.seen);
                seen.prepared.push(text());
                seen.outside_of_transactions += usize::from(!in_transaction);
            }
            b'Q' => {
                let query = text();
                in_turn |= query.starts_with("begin isolation level read committed") && !query.ends_with("commit;");
                in_transaction = match query.as_str() {
                    "commit" | "rollback" => false,
                    begin if begin.starts_with("begin") => !begin.ends_with("commit;"),
                    _ => in_transaction,
                };
                let commits = in_turn && query == "commit";
                lock(&shared.seen).queries.push(query);
                if commits {
                    in_turn = false;
                    let cut = lock(&shared.cuts).pop_front().unwrap_or(Cut::Nothing);
                    lock(&shared.seen).cut += usize::from(cut != Cut::Nothing);
                    match cut {
                        Cut::BeforeCommit => return Some(cut),
                        Cut::AfterCommit => {
                            server.write_all(&message).await.ok()?;
                            // The server carries out what it has been sent, and then hears that nobody is there any more.
                            server.shutdown().await.ok()?;
                            return Some(cut);
                        }
                        Cut::Nothing => {}
                    }
                }
            }
            _ => {}
        }
        server.write_all(&message).await.ok()?;
    }
}

/// The next message, whole.
async fn message(from: &mut OwnedReadHalf, kind: Option<u8>) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    let mut message: Vec<u8> = kind.into_iter().chain(length.to_be_bytes()).collect();
    let begun = message.len();
    message.resize(begun + usize::try_from(length).ok()?.checked_sub(4)?, 0);
    from.read_exact(&mut message[begun..]).await.ok()?;
    Some(message)
}

/// Passes on what the server answers, until it ends; once stopped, keeps it.
async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut passing = true;
    loop {
        let read = tokio::select! {
            // A sender that is gone means that the client has ended by itself.
            _ = &mut stopped, if passing => {
                passing = false;
                continue;
            }
            read = server.read(&mut buffer) => read,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(length) if passing => {
                if client.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
        }
    }
}
