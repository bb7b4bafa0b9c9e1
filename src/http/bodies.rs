//! Receiving bodies: each in time, and all of them together in bounded memory.
//!
//! A client that announces a body and sends half of it would hold that half for ever. Here a body is given up when its time is
//! over. What large bodies hold while they are received and worked on is counted against one budget: whoever finds it used up is
//! told to try again. The first bytes of each are not counted, so that ordinary commands go on while somebody floods the node;
//! those are bounded by the number of connections. Cost for an ordinary command: one timer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::Problem;

/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How much bodies may hold together, beyond what is not counted.
const BUDGET_KIBIBYTES: u32 = 256 << 10;
/// How much of each is not counted.
const UNCOUNTED_BYTES: usize = 64 << 10;

/// What the bodies of one service may take.
#[derive(Debug)]
pub struct Bodies {
    time: Duration,
    budget: Arc<Semaphore>,
    budget_kibibytes: u32,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new(BODY_TIME, BUDGET_KIBIBYTES)
    }
}

/// A body that is here. It counts against the budget as long as this lives.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    /// What it holds of the budget.
    held: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    fn new(time: Duration, budget_kibibytes: u32) -> Self {
        let permits = usize::try_from(budget_kibibytes).unwrap_or(Semaphore::MAX_PERMITS);
        Self { time, budget: Arc::new(Semaphore::new(permits)), budget_kibibytes }
    }

    /// Receives a body of at most `most` bytes.
    pub(crate) async fn receive(&self, headers: &HeaderMap, body: Body, most: usize) -> Result<Received, Problem> {
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > most)) {
            return Err(too_large(most));
        }
        match timeout(self.time, self.collect(body, most)).await {
            Ok(received) => received,
            Err(_) => {
                let detail = format!("the body did not come within {} s; nothing was done", self.time.as_secs());
                Err(Problem::new("body_too_slow", detail))
            }
        }
    }

    async fn collect(&self, mut body: Body, most: usize) -> Result<Received, Problem> {
        let mut received = Received::default();
        let mut joined = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| Problem::new("malformed", format!("the body could not be read: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = received.bytes.len() + joined.len() + data.len();
            if length > most {
                return Err(too_large(most));
            }
            self.count(&mut received.held, length)?;
            // A body that comes in one piece, as most do, is not copied.
            if joined.is_empty() && received.bytes.is_empty() {
                received.bytes = data;
                continue;
            }
            if received.bytes.has_remaining() {
                joined.extend_from_slice(&std::mem::take(&mut received.bytes));
            }
            joined.extend_from_slice(&data);
        }
        if !joined.is_empty() {
            received.bytes = joined.freeze();
        }
        Ok(received)
    }

    /// Holds as much of the budget as a body of this length must.
    fn count(&self, held: &mut Option<OwnedSemaphorePermit>, length: usize) -> Result<(), Problem> {
        let wanted = length.saturating_sub(UNCOUNTED_BYTES).div_ceil(1 << 10);
        let more = wanted.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX).min(self.budget_kibibytes.saturating_add(1));
        let Ok(permit) = Arc::clone(&self.budget).try_acquire_many_owned(more) else {
            return Err(Problem::new("too_busy", "too many large bodies are being sent; nothing was done, try again"));
        };
        match held {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        Ok(())
    }
}

fn too_large(most: usize) -> Problem {
    Problem::new("body_too_large", format!("the body may have at most {most} bytes"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};

    const MOST: usize = 1 << 20;

    fn pieces(pieces: Vec<Vec<u8>>) -> stream::Iter<std::vec::IntoIter<Result<Bytes, std::io::Error>>> {
        stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece))).collect::<Vec<_>>())
    }

    async fn received(bodies: &Bodies, sent: Vec<Vec<u8>>) -> Result<Received, Problem> {
        bodies.receive(&HeaderMap::new(), Body::from_stream(pieces(sent)), MOST).await
    }

    #[tokio::test]
    async fn a_body_is_received_whole_in_however_many_pieces_it_comes() {
        let bodies = Bodies::default();
        for sent in [vec![], vec![b"ab".to_vec()], vec![b"a".to_vec(), vec![], b"bc".to_vec(), b"d".to_vec()]] {
            assert_eq!(received(&bodies, sent.clone()).await.unwrap().bytes, sent.concat());
        }
        let refused = received(&bodies, vec![vec![0; MOST], vec![0]]).await.unwrap_err();
        assert_eq!(refused.code(), "body_too_large");
    }

    #[tokio::test]
    async fn a_body_that_stops_half_way_is_given_up() {
        let bodies = Bodies::new(Duration::from_millis(50), 1_000);
        let half = pieces(vec![vec![b'{'; 200 << 10]]).chain(stream::pending());
        let refused = bodies.receive(&HeaderMap::new(), Body::from_stream(half), MOST).await.unwrap_err();
        assert_eq!((refused.code(), refused.status().as_u16()), ("body_too_slow", 408));
        assert_eq!(bodies.budget.available_permits(), 1_000, "what it held is free again");
    }

    #[tokio::test]
    async fn large_bodies_share_a_budget_and_small_ones_do_without() {
        let bodies = Bodies::new(Duration::from_secs(30), 300);
        let large = || vec![vec![0; 100 << 10], vec![0; 100 << 10]];
        let (first, second) = (received(&bodies, large()).await.unwrap(), received(&bodies, large()).await.unwrap());
        assert_eq!(received(&bodies, large()).await.unwrap_err().code(), "too_busy");
        assert_eq!(received(&bodies, vec![vec![0; UNCOUNTED_BYTES]]).await.unwrap().bytes.len(), UNCOUNTED_BYTES);
        drop(first);
        received(&bodies, large()).await.unwrap();
        drop(second);
        assert_eq!(bodies.budget.available_permits(), 300);
    }
}
