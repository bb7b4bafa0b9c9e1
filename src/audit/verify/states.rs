//! The state of every aggregate folded from the log, for what is compared with it.
//!
//! Memory: one state per aggregate, which is bounded.

use std::collections::HashMap;
use std::hash::Hash;

use aggregates::client::Client;
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::Platform;
use aggregates::primitives::{ClientId, RequestId, ResellerId, Sku};
use aggregates::product::Product;
use aggregates::reseller::Reseller;
use aggregates::upline_request::UplineRequest;
use aggregates::wallet::Wallet;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::examined::Examined;

/// A state after its last event.
#[derive(Debug, Default)]
pub(super) struct Folded<A> {
    pub(super) state: A,
    pub(super) sequence: i64,
    pub(super) position: i64,
}

type Shelf<Id, A> = HashMap<Id, Folded<A>>;

/// Every aggregate's state.
#[derive(Debug, Default)]
pub(super) struct States {
    platform: Shelf<(), Platform>,
    resellers: Shelf<ResellerId, Reseller>,
    pub(super) wallets: Shelf<ResellerId, Wallet>,
    requests: Shelf<RequestId, UplineRequest>,
    pub(super) clients: Shelf<ClientId, Client>,
    products: Shelf<Sku, Product>,
}

impl States {
    pub(super) fn follow(&mut self, examined: &Examined<'_>) {
        fn fold<Id: Hash + Eq + Clone, A: Default>(
            shelf: &mut Shelf<Id, A>,
            id: &Id,
            examined: &Examined<'_>,
            fold: impl FnOnce(&mut A),
        ) {
            let folded = match shelf.get_mut(id) {
                Some(folded) => folded,
                None => shelf.entry(id.clone()).or_default(),
            };
            folded.sequence = examined.sequence;
            folded.position = examined.position;
            fold(&mut folded.state);
        }
        match (examined.key, examined.event) {
            (AggregateKey::Platform, Event::Platform(event)) => {
                fold(&mut self.platform, &(), examined, |state| state.fold(event));
            }
            (AggregateKey::Reseller(id), Event::Reseller(event)) => {
                fold(&mut self.resellers, id, examined, |state| state.fold(event));
            }
            (AggregateKey::Wallet(id), Event::Wallet(event)) => {
                fold(&mut self.wallets, id, examined, |state| state.fold(event));
            }
            (AggregateKey::UplineRequest(id), Event::UplineRequest(event)) => {
                fold(&mut self.requests, id, examined, |state| state.fold(event));
            }
            (AggregateKey::Client(id), Event::Client(event)) => {
                fold(&mut self.clients, id, examined, |state| state.fold(event));
            }
            (AggregateKey::Product(sku), Event::Product(event)) => {
                fold(&mut self.products, sku, examined, |state| state.fold(event));
            }
            // The reader pairs key and event by aggregate type, so nothing else comes.
            _ => {}
        }
    }

    /// What is expected and what is found, where this text is not the state that an aggregate has now.
    pub(super) fn differs(&self, key: &AggregateKey, payload: &[u8]) -> Option<(String, String)> {
        match key {
            AggregateKey::Platform => differs(self.platform.get(&()), payload),
            AggregateKey::Reseller(id) => differs(self.resellers.get(id), payload),
            AggregateKey::Wallet(id) => differs(self.wallets.get(id), payload),
            AggregateKey::UplineRequest(id) => differs(self.requests.get(id), payload),
            AggregateKey::Client(id) => differs(self.clients.get(id), payload),
            AggregateKey::Product(sku) => differs(self.products.get(sku), payload),
        }
    }

    /// The number of an aggregate's last event.
    pub(super) fn sequence(&self, key: &AggregateKey) -> Option<i64> {
        match key {
            AggregateKey::Platform => self.platform.get(&()).map(|folded| folded.sequence),
            AggregateKey::Reseller(id) => self.resellers.get(id).map(|folded| folded.sequence),
            AggregateKey::Wallet(id) => self.wallets.get(id).map(|folded| folded.sequence),
            AggregateKey::UplineRequest(id) => self.requests.get(id).map(|folded| folded.sequence),
            AggregateKey::Client(id) => self.clients.get(id).map(|folded| folded.sequence),
            AggregateKey::Product(sku) => self.products.get(sku).map(|folded| folded.sequence),
        }
    }

    /// How many aggregates have an event.
    pub(super) fn count(&self) -> usize {
        self.platform.len()
            + self.resellers.len()
            + self.wallets.len()
            + self.requests.len()
            + self.clients.len()
            + self.products.len()
    }
}

fn differs<A>(folded: Option<&Folded<A>>, payload: &[u8]) -> Option<(String, String)>
where
    A: PartialEq + Serialize + DeserializeOwned,
{
    let state = &folded?.state;
    let is_equal = serde_json::from_slice::<A>(payload).is_ok_and(|found| found == *state);
    (!is_equal)
        .then(|| (serde_json::to_string(state).unwrap_or_default(), String::from_utf8_lossy(payload).into_owned()))
}
