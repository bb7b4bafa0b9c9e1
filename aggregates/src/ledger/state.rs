//! What the ledger holds: versioned aggregates by identity, facts, personal data. The same shape serves as the ledger's base
//! and as the changes that one decision lays over it.

use hashbrown::HashMap;

use crate::client::{Client, ClientDetails};
use crate::event::{AggregateKey, Event};
use crate::facts::{Fact, FactKey};
use crate::platform::Platform;
use crate::primitives::{ClientId, RequestId, ResellerId, Sku};
use crate::product::Product;
use crate::rejection::Rejection;
use crate::reseller::Reseller;
use crate::upline_request::UplineRequest;
use crate::wallet::Wallet;

/// An aggregate's state with the number of its last event (0 before the first).
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Versioned<A> {
    pub(crate) state: A,
    pub(crate) sequence: u64,
}

/// Aggregates, facts and personal data by key. An absent key is not loaded; a fact or personal data that is loaded and not
/// there is `None`; an aggregate that is loaded and not there has sequence 0.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) platform: HashMap<(), Versioned<Platform>>,
    pub(crate) resellers: HashMap<ResellerId, Versioned<Reseller>>,
    pub(crate) wallets: HashMap<ResellerId, Versioned<Wallet>>,
    pub(crate) requests: HashMap<RequestId, Versioned<UplineRequest>>,
    pub(crate) clients: HashMap<ClientId, Versioned<Client>>,
    pub(crate) products: HashMap<Sku, Versioned<Product>>,
    pub(crate) facts: HashMap<FactKey, Option<Fact>>,
    pub(crate) personal_data: HashMap<ClientId, Option<ClientDetails>>,
}

/// An aggregate that the ledger holds: where it is kept, and its rule and fold by reference.
pub(crate) trait Held: cqrs_es::Aggregate + Clone {
    type Id: Clone + Eq + std::hash::Hash;

    fn key(id: &Self::Id) -> AggregateKey;
    fn shelf(state: &State) -> &HashMap<Self::Id, Versioned<Self>>;
    fn shelf_mut(state: &mut State) -> &mut HashMap<Self::Id, Versioned<Self>>;
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Rejection>;
    fn fold(&mut self, event: &Self::Event);
    fn event(event: Self::Event) -> Event;
}

macro_rules! held {
    ($($aggregate:ident($variant:ident, $id:ty, $shelf:ident, |$key_id:pat_param| $key:expr)),+ $(,)?) => {$(
        impl Held for $aggregate {
            type Id = $id;

            fn key($key_id: &$id) -> AggregateKey {
                $key
            }
            fn shelf(state: &State) -> &HashMap<$id, Versioned<Self>> {
                &state.$shelf
            }
            fn shelf_mut(state: &mut State) -> &mut HashMap<$id, Versioned<Self>> {
                &mut state.$shelf
            }
            fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Rejection> {
                $aggregate::decide(self, command)
            }
            fn fold(&mut self, event: &Self::Event) {
                $aggregate::fold(self, event);
            }
            fn event(event: Self::Event) -> Event {
                Event::$variant(event)
            }
        }
    )+};
}

held!(
    Platform(Platform, (), platform, |()| AggregateKey::Platform),
    Reseller(Reseller, ResellerId, resellers, |id| AggregateKey::Reseller(*id)),
    Wallet(Wallet, ResellerId, wallets, |id| AggregateKey::Wallet(*id)),
    UplineRequest(UplineRequest, RequestId, requests, |id| AggregateKey::UplineRequest(*id)),
    Client(Client, ClientId, clients, |id| AggregateKey::Client(*id)),
    Product(Product, Sku, products, |sku| AggregateKey::Product(sku.clone())),
);

impl State {
    /// Takes in what a snapshot says; `None` where the aggregate has no event.
    pub(crate) fn load<A: Held>(
        &mut self,
        id: A::Id,
        snapshot: Option<(String, u64)>,
    ) -> Result<(), serde_json::Error> {
        let versioned = match snapshot {
            Some((payload, sequence)) => Versioned { state: serde_json::from_str::<A>(&payload)?, sequence },
            None => Versioned { state: A::default(), sequence: 0 },
        };
        A::shelf_mut(self).insert(id, versioned);
        Ok(())
    }

    /// Folds an event of another writer: ignores what is not newer, takes the next, drops the aggregate otherwise.
    pub(crate) fn apply<A: Held>(&mut self, id: &A::Id, sequence: u64, event: &A::Event) {
        let shelf = A::shelf_mut(self);
        let Some(held) = shelf.get_mut(id) else { return };
        if sequence == held.sequence + 1 {
            held.state.fold(event);
            held.sequence = sequence;
        } else if sequence > held.sequence {
            shelf.remove(id);
        }
    }

    /// A loaded aggregate as a snapshot.
    pub(crate) fn snapshot<A: Held>(&self, id: &A::Id) -> Result<Option<(String, u64)>, serde_json::Error> {
        match A::shelf(self).get(id) {
            Some(held) => Ok(Some((serde_json::to_string(&held.state)?, held.sequence))),
            None => Ok(None),
        }
    }

    /// Lays changes over this state.
    pub(crate) fn absorb(&mut self, changes: Self) {
        self.platform.extend(changes.platform);
        self.resellers.extend(changes.resellers);
        self.wallets.extend(changes.wallets);
        self.requests.extend(changes.requests);
        self.clients.extend(changes.clients);
        self.products.extend(changes.products);
        self.facts.extend(changes.facts);
        self.personal_data.extend(changes.personal_data);
    }
}
