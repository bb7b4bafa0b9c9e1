//! When requests are due, at a fixed rate.
//!
//! The runtime's timer counts in milliseconds, far coarser than requests come, so a thread that sleeps in short ticks lets
//! due requests go. A request that leaves late within its tick still counts from the time it was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Short enough not to show in the latencies that matter, long enough to cost little.
const TICK: Duration = Duration::from_micros(200);

/// A schedule that all connections of a load take their requests from.
#[derive(Debug)]
pub(super) struct Pace {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    start: Instant,
    end: Instant,
    seconds_between: f64,
    taken: AtomicU64,
    due: Semaphore,
    over: AtomicBool,
}

impl Pace {
    /// Requests at `rate` per second from `start` to `end`.
    pub(super) fn start(rate: f64, start: Instant, end: Instant) -> std::io::Result<Self> {
        let state = Arc::new(State {
            start,
            end,
            seconds_between: 1.0 / rate.max(0.001),
            taken: AtomicU64::new(0),
            due: Semaphore::new(0),
            over: AtomicBool::new(false),
        });
        let ticking = Arc::clone(&state);
        std::thread::Builder::new().name("pace".into()).spawn(move || ticking.tick())?;
        Ok(Self { state })
    }

    /// Waits for the next request to be due and tells when it was; `None` at the end.
    pub(super) async fn next(&self) -> Option<Instant> {
        let state = &self.state;
        state.due.acquire().await.ok()?.forget();
        let due = state.due_at(state.taken.fetch_add(1, Ordering::Relaxed));
        (due < state.end).then_some(due)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
    }
}

impl State {
    fn due_at(&self, index: u64) -> Instant {
        self.start + Duration::from_secs_f64(index as f64 * self.seconds_between)
    }

    fn tick(&self) {
        let mut released = 0;
        while !self.over.load(Ordering::Relaxed) {
            let now = Instant::now();
            let mut count = 0;
            while self.due_at(released) <= now && self.due_at(released) < self.end {
                released += 1;
                count += 1;
            }
            if count > 0 {
                self.due.add_permits(count);
            }
            if self.due_at(released) >= self.end {
                break;
            }
            let next = self.due_at(released).max(now + TICK);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        // Whoever still waits learns that nothing more is due; what has been released is served first.
        while self.due.available_permits() > 0 && !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(TICK);
        }
        self.due.close();
    }
}
