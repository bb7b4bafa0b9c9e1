//! How many streams may be open. A stream holds its connection for as long as its listener likes, and is never closed to make
//! room: so all together get half of the connections, and a reseller gets a tenth, whatever tokens it has (as does each user of the
//! operator's staff, and each of its tokens without a user). The other half is for whoever asks something else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aggregates::primitives::{Actor, ResellerId, UserId};

use super::error::Problem;

/// Who listens: a reseller with all of its tokens, or somebody of the operator's staff.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Listener {
    Reseller(ResellerId),
    Staff(UserId),
}

impl Listener {
    fn of(actor: &Actor) -> Self {
        match actor.tenant {
            Some(tenant) => Self::Reseller(tenant),
            None => Self::Staff(actor.id.clone()),
        }
    }
}

/// The streams that are open.
#[derive(Debug)]
pub struct Streams {
    open: Mutex<HashMap<Listener, usize>>,
    each_max: usize,
    total_max: usize,
}

impl Streams {
    /// For a server with so many connections.
    #[must_use]
    pub fn among(connections: usize) -> Arc<Self> {
        let (each_max, total_max) = ((connections / 10).max(1), (connections / 2).max(1));
        Arc::new(Self { open: Mutex::default(), each_max, total_max })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Listener, usize>> {
        // Counts are whole between two operations, whatever panicked elsewhere.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more.
    ///
    /// # Errors
    /// `rate_limited` where this listener, or all together, have as many as they may.
    pub(super) fn take(self: &Arc<Self>, actor: &Actor) -> Result<StreamPlace, Problem> {
        let listener = Listener::of(actor);
        let mut open = self.open();
        let (own, total) = (open.get(&listener).copied().unwrap_or_default(), open.values().sum::<usize>());
        if own >= self.each_max {
            let detail = format!("{own} streams are open for this listener, as many as one may have: close one first");
            return Err(Problem::new("rate_limited", detail));
        }
        if total >= self.total_max {
            let detail = "as many streams are open as this node serves: try again later, or read pages".to_owned();
            return Err(Problem::new("rate_limited", detail));
        }
        open.insert(listener.clone(), own + 1);
        drop(open);
        Ok(StreamPlace { streams: Arc::clone(self), listener })
    }
}

/// The place of one stream; dropping it gives it back.
#[derive(Debug)]
pub(super) struct StreamPlace {
    streams: Arc<Streams>,
    listener: Listener,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(own) = open.get_mut(&self.listener) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.listener);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use aggregates::primitives::Role;

    fn actor(id: &str, tenant: Option<u128>) -> Actor {
        let role = if tenant.is_some() { Role::Reseller } else { Role::Auditor };
        let tenant = tenant.map(|tenant| ResellerId(uuid::Uuid::from_u128(tenant)));
        Actor { id: UserId::new(id).expect("an id"), role, tenant, declared_cost: false }
    }

    #[test]
    fn a_reseller_has_a_tenth_of_the_connections_whatever_tokens_it_has() {
        let streams = Streams::among(20);
        let first = streams.take(&actor("ann", Some(1))).unwrap();
        let _second = streams.take(&actor("bob", Some(1))).unwrap();
        streams.take(&actor("ann", Some(1))).expect_err("a third");
        let _other = streams.take(&actor("ann", Some(2))).expect("another reseller");
        drop(first);
        let _third = streams.take(&actor("ann", Some(1))).expect("one was given back");
    }

    #[test]
    fn all_together_have_half_of_them() {
        let streams = Streams::among(6);
        let mut held: Vec<_> = (1..=3).map(|tenant| streams.take(&actor("ann", Some(tenant))).unwrap()).collect();
        streams.take(&actor("eve", None)).expect_err("a fourth");
        held.pop();
        streams.take(&actor("eve", None)).expect("one was given back");
        drop(held);
        assert!(streams.open().is_empty(), "nobody is remembered who does not listen");
    }
}
