//! Sends the plan to the engine, command by command, while the clock walks through the past.
//!
//! Ordering: the commands of a moment are put into the engine's queue in the plan's order without waiting for one another (at
//! most [`WINDOW`] at a time), and the engine decides in the order of its queue; so a moment shares a few commits, and the
//! outcome does not depend on timing. The clock moves on only when everyone of a moment has been answered. An interruption
//! stops between two commands; what was sent is waited for.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::IsTerminal;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use aggregates::primitives::Timestamp;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::plan::{Moment, Plan};
use crate::clock::Clock;
use crate::engine::{Engine, EngineError, Outcome, Reply};
use crate::node;

/// How many commands are under way at most.
const WINDOW: usize = 256;

type Underway<'engine> = Pin<Box<dyn Future<Output = Result<Reply, EngineError>> + Send + 'engine>>;

/// The hand that moves the demo's clock.
#[derive(Debug)]
pub(super) struct Hand(Arc<AtomicI64>);

impl Hand {
    /// A clock that stands at `time`.
    pub(super) fn at(time: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(time.micros())))
    }

    /// The clock.
    pub(super) fn clock(&self) -> Clock {
        Clock::Manual(Arc::clone(&self.0))
    }

    fn move_to(&self, time: Timestamp) {
        self.0.store(time.micros(), Ordering::SeqCst);
    }
}

/// What became of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// How many commands were granted.
    pub(super) granted: u64,
    /// How many were refused, by code.
    pub(super) refused: BTreeMap<String, u64>,
    /// The position of the last event.
    pub(super) position: u64,
    /// The first and the last moment.
    pub(super) span: Option<(Timestamp, Timestamp)>,
    /// How long it took.
    pub(super) took: Duration,
    /// Whether somebody stopped it.
    pub(super) interrupted: bool,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refused.values().sum();
        let commands = self.granted + refused;
        write!(f, "{} events from {commands} commands in {:.1} s", self.position, self.took.as_secs_f64())?;
        if let Some((from, to)) = self.span {
            write!(f, ", from {} to {}", from.date(), to.date())?;
        }
        write!(f, ".")?;
        if refused > 0 {
            let by_code: Vec<String> = self.refused.iter().map(|(code, count)| format!("{count} {code}")).collect();
            write!(f, "\nRefused by the rules, as it should be: {}.", by_code.join(", "))?;
        }
        Ok(())
    }
}

/// Writes the whole plan, or as much of it as there is time for before somebody interrupts.
///
/// # Errors
/// Where the engine gives no answer.
pub(super) async fn write(engine: &Engine, hand: &Hand, plan: &mut Plan, events: u64) -> anyhow::Result<Written> {
    let stop = Arc::new(AtomicBool::new(false));
    let listening = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            node::stop_signal().await;
            stop.store(true, Ordering::SeqCst);
        }
    });
    let started = Instant::now();
    let progress = Progress::new(events);
    let mut written = Written::default();
    while let Some(moment) = plan.next_moment().context("the plan made up a value that is none")? {
        hand.move_to(moment.at);
        written.span = Some((written.span.map_or(moment.at, |(from, _)| from), moment.at));
        let (at, planned) = (moment.at, moment.events);
        carry_out(engine, moment, &stop, &mut written).await?;
        if stop.load(Ordering::SeqCst) {
            written.interrupted = true;
            break;
        }
        progress.show(at, planned);
    }
    listening.abort();
    progress.end();
    written.took = started.elapsed();
    Ok(written)
}

async fn carry_out(engine: &Engine, moment: Moment, stop: &AtomicBool, written: &mut Written) -> anyhow::Result<()> {
    let mut underway: VecDeque<Underway<'_>> = VecDeque::with_capacity(WINDOW);
    for command in moment.commands {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let mut reply: Underway<'_> = Box::pin(engine.submit(command));
        // The first look puts the command into the queue: that is what keeps the order.
        match poll_fn(|context| Poll::Ready(reply.as_mut().poll(context))).await {
            Poll::Ready(reply) => written.count(reply)?,
            Poll::Pending => underway.push_back(reply),
        }
        if underway.len() == WINDOW
            && let Some(oldest) = underway.pop_front()
        {
            written.count(oldest.await)?;
        }
    }
    for reply in underway {
        written.count(reply.await)?;
    }
    Ok(())
}

impl Written {
    fn count(&mut self, reply: Result<Reply, EngineError>) -> anyhow::Result<()> {
        let reply = reply.context("the history could not be written to its end")?;
        self.position = self.position.max(reply.position);
        let code = match &reply.outcome {
            Outcome::Done { .. } => {
                self.granted += 1;
                return Ok(());
            }
            Outcome::Refused(rejection) => code(rejection)?,
            Outcome::Denied(denial) => code(denial)?,
        };
        *self.refused.entry(code).or_default() += 1;
        Ok(())
    }
}

fn code(refusal: &impl serde::Serialize) -> anyhow::Result<String> {
    let document = serde_json::to_value(refusal)?;
    Ok(document.get("code").and_then(serde_json::Value::as_str).unwrap_or("other").to_owned())
}

/// A bar at a terminal, a line now and then elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    events: u64,
    told: std::cell::Cell<u64>,
}

impl Progress {
    fn new(events: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(events);
            if let Ok(style) =
                ProgressStyle::with_template("{msg} {wide_bar} {human_pos} of {human_len} events, {eta} left")
            {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, events, told: std::cell::Cell::new(0) }
    }

    fn show(&self, at: Timestamp, events: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(events.min(self.events));
                bar.set_message(at.date().to_string());
            }
            None => {
                let tenths = events * 10 / self.events.max(1);
                if tenths > self.told.replace(tenths) {
                    eprintln!("{}: {events} of about {} events", at.date(), self.events);
                }
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use aggregates::event::AggregateKey;
    use aggregates::ledger::{Key, Loaded};
    use aggregates::platform::Policy;
    use aggregates::wallet::Wallet;

    use super::super::plan::Size;
    use super::*;
    use crate::engine::{self, EngineOptions};
    use crate::store::EventStore;
    use crate::store::sqlite::SqliteStore;

    /// The plan never sees an answer: this is why it need not.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_ledger_comes_to_what_was_planned_event_for_event_and_credit_for_credit() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(dir.path()).expect("a store");
        let policy = Policy::default();
        let size = Size { resellers: 60, events: 2_500, levels: 6 };
        let mut plan = Plan::new(size, 5, policy.clone(), Clock::System.now());
        let hand = Hand::at(plan.begins_at());
        let engine = engine::start(store, hand.clock(), policy, EngineOptions::default()).await.expect("an engine");
        let written = write(&engine, &hand, &mut plan, size.events).await.expect("a history");
        engine.shutdown().await;

        assert_eq!(written.position, plan.events(), "{written}");
        let expected =
            ["insufficient_credits", "reseller_frozen", "provisioning_held", "tier_not_entitled", "limit_exceeded"];
        assert!(written.refused.keys().all(|code| expected.contains(&code.as_str())), "{written}");

        let mut store = SqliteStore::open(dir.path()).expect("the store");
        for (reseller, balance) in plan.balances() {
            let found = store.load(&[Key::Aggregate(AggregateKey::Wallet(reseller))]).await.expect("a wallet");
            let [(_, Loaded::Aggregate(Some((state, _))))] = found.as_slice() else { panic!("{found:?}") };
            let wallet: Wallet = serde_json::from_str(state).expect("a state");
            assert_eq!(wallet.balance, balance);
        }
        let last = store.read(written.position - 1, 10).await.expect("the last event");
        assert_eq!(last.len(), 1);
        assert!(last[0].recorded_at <= Clock::System.now());
    }
}
