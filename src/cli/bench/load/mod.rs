//! The load generator: prebuilt requests over hyper's client connections, on threads of its own.
//!
//! It shares its cores with the server that it measures, so it is as lean as a client of that library can be: one task per
//! connection on a single-threaded runtime, requests built once and cloned with fresh keys, an answer's body read and not
//! kept. That costs some 12 µs of processor time a request, where the server that does nothing takes 16. Closed loop: a
//! connection sends its next request when the answer has come. Open loop: requests are due at a fixed rate whatever the server
//! does, and a latency counts from the time a request was *due*, so a stalled server is not spared the requests that it kept
//! from being sent (no coordinated omission).

mod connection;
mod pace;
mod request;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use hdrhistogram::Histogram;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub(super) use connection::Connection;
use pace::Pace;
pub(super) use request::{KEY_MARK, KeySource, Request};

/// How long to wait, beyond the planned time, for answers that do not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// One stretch of load.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// Who is asked.
    pub(super) address: SocketAddr,
    /// What is asked: one of these at random, each time.
    pub(super) requests: Arc<Vec<Request>>,
    /// How many connections ask.
    pub(super) connections: usize,
    /// How many threads drive them.
    pub(super) threads: usize,
    /// Requests per second to send whatever happens; `None`: each connection as fast as it is answered.
    pub(super) rate: Option<f64>,
    /// How long to ask before anything is measured.
    pub(super) warm_up: Duration,
    /// How long to measure.
    pub(super) measured: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Requests that count: closed loop, those answered in the measured time; open loop, those due in it.
    pub(super) requests: u64,
    /// Requests sent altogether, warm-up included; every one was answered.
    pub(super) sent: u64,
    /// How long was measured.
    pub(super) seconds: f64,
    /// Their latencies in nanoseconds.
    pub(super) latencies: Histogram<u64>,
    /// How many answers had another status than 2xx.
    pub(super) refused: u64,
    /// The first such answer.
    pub(super) first_refusal: Option<String>,
}

impl Sample {
    fn new() -> anyhow::Result<Self> {
        // 1 µs … 60 s with three digits: what lies beyond is recorded as the bound.
        let latencies = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?;
        Ok(Self { requests: 0, sent: 0, seconds: 0.0, latencies, refused: 0, first_refusal: None })
    }

    /// Requests per second.
    pub(super) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    fn merge(&mut self, other: Self) -> anyhow::Result<()> {
        self.requests += other.requests;
        self.sent += other.sent;
        self.seconds = self.seconds.max(other.seconds);
        self.refused += other.refused;
        self.latencies.add(&other.latencies)?;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
        Ok(())
    }
}

impl Load {
    /// Puts the load on and waits for the last answer.
    ///
    /// # Errors
    /// A connection that breaks, an answer that is not HTTP, or none in time. A refusal is not an error here: it is counted.
    pub(super) async fn run(self, keys: &Arc<KeySource>) -> anyhow::Result<Sample> {
        if self.connections == 0 || self.requests.is_empty() {
            bail!("a load needs connections, and something to ask");
        }
        let threads = self.threads.clamp(1, self.connections);
        let mut shares = Vec::with_capacity(threads);
        for index in 0..threads {
            let share = Load {
                connections: self.connections / threads + usize::from(index < self.connections % threads),
                rate: self.rate.map(|rate| rate / threads as f64),
                ..self.clone()
            };
            shares.push(share.on_its_own_thread(Arc::clone(keys))?);
        }
        let mut total = Sample::new()?;
        for share in shares {
            total.merge(share.await.map_err(|_| anyhow!("the load generator ended without a result"))??)?;
        }
        Ok(total)
    }

    fn on_its_own_thread(self, keys: Arc<KeySource>) -> anyhow::Result<oneshot::Receiver<anyhow::Result<Sample>>> {
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            let result = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(anyhow::Error::from)
                .and_then(|runtime| runtime.block_on(self.drive(keys)));
            // Nobody waits any more after an interrupt.
            let _ = sender.send(result);
        };
        std::thread::Builder::new().name("load".into()).spawn(work)?;
        Ok(receiver)
    }

    async fn drive(self, keys: Arc<KeySource>) -> anyhow::Result<Sample> {
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connections.push(Connection::open(self.address).await?);
        }
        let start = Instant::now();
        let measured_from = start + self.warm_up;
        let window = Window { measured_from, end: measured_from + self.measured };
        let pace = self.rate.map(|rate| Pace::start(rate, start, window.end)).transpose()?.map(Arc::new);
        let sample = Arc::new(Mutex::new(Sample::new()?));
        let mut tasks = JoinSet::new();
        for (index, connection) in connections.into_iter().enumerate() {
            let sender = Sender {
                connection,
                requests: Arc::clone(&self.requests),
                random: index,
                keys: Arc::clone(&keys),
                sample: Arc::clone(&sample),
                window,
            };
            match &pace {
                None => tasks.spawn(sender.closed_loop()),
                Some(pace) => tasks.spawn(sender.open_loop(Arc::clone(pace))),
            };
        }
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(self.warm_up + self.measured + PATIENCE, all)
            .await
            .map_err(|_| anyhow!("requests were left without an answer for {PATIENCE:?}"))??;
        drop(pace);
        let mut sample = sample.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sample.seconds = self.measured.as_secs_f64();
        Ok(sample)
    }
}

/// What of the time is measured.
#[derive(Debug, Clone, Copy)]
struct Window {
    measured_from: Instant,
    end: Instant,
}

/// One connection at work. The sample's lock is never contended: all senders of a sample run on one thread.
struct Sender {
    connection: Connection,
    requests: Arc<Vec<Request>>,
    random: usize,
    keys: Arc<KeySource>,
    sample: Arc<Mutex<Sample>>,
    window: Window,
}

impl Sender {
    async fn closed_loop(mut self) -> anyhow::Result<()> {
        let mut sent = Instant::now();
        while sent < self.window.end {
            let answer = self.exchange().await?;
            let answered = Instant::now();
            let counts = answered >= self.window.measured_from && answered < self.window.end;
            self.record(answer, sent, answered, counts);
            sent = answered;
        }
        Ok(())
    }

    async fn open_loop(mut self, pace: Arc<Pace>) -> anyhow::Result<()> {
        while let Some(due) = pace.next().await {
            let answer = self.exchange().await?;
            let counts = due >= self.window.measured_from;
            self.record(answer, due, Instant::now(), counts);
        }
        Ok(())
    }

    async fn exchange(&mut self) -> anyhow::Result<Result<(), String>> {
        // A linear congruential generator: nothing cheaper is random enough.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chosen = (self.random >> 33) % self.requests.len();
        let request = self.requests.get(chosen).ok_or_else(|| anyhow!("there is nothing to ask"))?;
        self.connection.exchange(request.sendable(&self.keys)?).await
    }

    fn record(&self, answer: Result<(), String>, from: Instant, answered: Instant, counts: bool) {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        sample.sent += 1;
        if counts {
            sample.requests += 1;
            let nanoseconds = u64::try_from(answered.duration_since(from).as_nanos()).unwrap_or(u64::MAX);
            sample.latencies.saturating_record(nanoseconds);
        }
        if let Err(refusal) = answer {
            sample.refused += 1;
            sample.first_refusal.get_or_insert(refusal);
        }
    }
}
