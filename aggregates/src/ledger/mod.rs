//! The state machine across aggregates: given a command, the time and what is in memory, it says what happens.
//!
//! Shape: [`Ledger::footprint`] names what a command will surely need; [`Ledger::decide`] is pure and answers with events, a
//! refusal, or the keys it found missing (whoever runs the ledger loads them and asks again; at most four rounds, since each
//! rule asks for all it can name at once). [`Ledger::absorb`] takes in its own events, [`Ledger::apply`] those of another
//! writer.
//!
//! Deciding never waits and never changes the ledger: a decision works on a `Draft` laid over it, so a command for many
//! aggregates happens whole or not at all. One file a noun: who may is in `authority`, the rules in their own files.

mod authority;
mod clients;
mod draft;
mod platform;
mod products;
mod provisioning;
mod referrals;
mod refunds;
mod resellers;
mod state;
#[cfg(test)]
mod tests;
mod transfers;
mod upline_requests;
mod views;
mod wallets;
#[cfg(test)]
mod world;

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::client::{Client, ClientDetails};
use crate::command::{Command, CommandEnvelope, Idempotency, PriceBasis, ReceiptKey};
use crate::event::{AggregateKey, Event, LoggedEvent, NewEvent};
use crate::facts::{self, Fact, FactKey};
use crate::network::Network;
use crate::platform::Platform;
use crate::primitives::{ClientId, ResellerId, Timestamp};
use crate::product::Product;
use crate::rejection::{Denial, Rejection};
use crate::reseller::Reseller;
use crate::upline_request::{Ask, UplineRequest};
use crate::wallet::Wallet;
use draft::{Draft, Stop};
use state::State;

/// The most events that one command may lead to.
pub const EVENTS_MAX: usize = 20_000;

/// What a command is told that would come to more.
fn too_many_events() -> Rejection {
    let most = i64::try_from(EVENTS_MAX).unwrap_or(i64::MAX);
    Rejection::LimitExceeded { what: "events of one command".into(), least: 0, most }
}

/// Something that the ledger may have to be given before it can decide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An aggregate's state.
    Aggregate(AggregateKey),
    /// A fact.
    Fact(FactKey),
    /// A client's personal data.
    PersonalData(ClientId),
}

/// What a key was found to hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Loaded {
    /// An aggregate's state as its snapshot's JSON text, and the number of its last event; `None` where there is no event.
    Aggregate(Option<(String, u64)>),
    /// A fact.
    Fact(Option<Fact>),
    /// A client's personal data.
    PersonalData(Option<ClientDetails>),
}

/// An answer as it is remembered under an idempotency key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remembered {
    /// It was accepted.
    Done {
        /// Whether any event came of it.
        changed: bool,
        /// What was answered.
        answer: Answer,
    },
    /// It was refused.
    Refused(Rejection),
}

/// What is remembered under a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// For what the key was used.
    pub fingerprint: [u8; 32],
    /// What was answered.
    pub outcome: Remembered,
    /// The position of the answer: of its last event, or of the head it was decided on.
    pub position: u64,
}

/// The receipts that a decision may need: those of the keys of a bulk's items.
pub trait Receipts {
    /// The receipt under a key, if there is one.
    fn find(&self, key: &ReceiptKey) -> Option<&Receipt>;
}

/// What the ledger says to a command.
#[derive(Debug)]
pub enum Decision {
    /// Yes: these events, this answer.
    Accepted(Box<Accepted>),
    /// No, by the rules.
    Refused(Rejection),
    /// Turned away before the rules were asked.
    Denied(Denial),
    /// Load these and ask again.
    Missing(Vec<Key>),
}

/// An accepted command: everything that must be committed together, and what to answer then.
#[derive(Debug)]
pub struct Accepted {
    /// The events, in order; empty where nothing changes.
    pub events: Vec<NewEvent>,
    /// The facts after the events, each with the position of the event that changed it last.
    pub facts: Vec<(FactKey, Fact, u64)>,
    /// Personal data to put beside the log, or (`None`) to erase.
    pub personal_data: Vec<(ClientId, Option<ClientDetails>)>,
    /// What to answer.
    pub answer: Answer,
    /// Receipts of a bulk's items; the request's own is the writer's to make.
    pub item_receipts: Vec<(Idempotency, Remembered)>,
    changes: State,
}

/// The state machine: the aggregates and facts that are loaded, and the network.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The position of the last event that is in here.
    position: u64,
    network: Network,
    state: State,
}

impl Ledger {
    /// The position of the last event it knows.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The tree as the ledger knows it.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What a command will surely need. Whatever else it needs, [`Ledger::decide`] names.
    #[must_use]
    pub fn footprint(command: &Command) -> Vec<Key> {
        let wallet = |id: &ResellerId| Key::Aggregate(AggregateKey::Wallet(*id));
        let reseller = |id: &ResellerId| Key::Aggregate(AggregateKey::Reseller(*id));
        let product = |sku: &crate::primitives::Sku| Key::Aggregate(AggregateKey::Product(sku.clone()));
        let client = |id: &ClientId| Key::Aggregate(AggregateKey::Client(*id));
        let request = |id| Key::Aggregate(AggregateKey::UplineRequest(id));
        match command {
            Command::SetPolicy(_) | Command::ClosePeriod(_) => Vec::new(),
            Command::Register { reseller: id, refid, user_id, referral_code, .. } => {
                let mut keys = vec![
                    reseller(id),
                    wallet(id),
                    Key::Fact(FactKey::Refid(refid.clone())),
                    Key::Fact(FactKey::User(user_id.clone())),
                ];
                keys.extend(referral_code.iter().map(|code| Key::Fact(FactKey::ReferralCode(code.clone()))));
                keys
            }
            Command::Approve { reseller: id } => vec![reseller(id), Key::Fact(FactKey::Totals)],
            Command::Deactivate { reseller: id, .. }
            | Command::Reactivate { reseller: id, .. }
            | Command::Freeze { reseller: id, .. }
            | Command::Unfreeze { reseller: id, .. }
            | Command::ChangeTier { reseller: id, .. }
            | Command::Rename { reseller: id, .. }
            | Command::UpdateMetadata { reseller: id, .. }
            | Command::RevokeReferralCode { reseller: id, .. } => vec![reseller(id)],
            Command::ChangeSettings { reseller: id, .. } => vec![reseller(id), wallet(id)],
            Command::SetPrice { reseller: id, sku, .. } | Command::ClearPrice { reseller: id, sku } => {
                vec![reseller(id), product(sku)]
            }
            Command::OpenWallet { wallet: id }
            | Command::SetThreshold { wallet: id, .. }
            | Command::SetHold { wallet: id, .. } => vec![wallet(id)],
            Command::RemoveCredits { wallet: id, .. } | Command::SetCreditLimit { wallet: id, .. } => {
                vec![wallet(id), Key::Fact(FactKey::Totals)]
            }
            Command::AddCredits { wallet: id, reference, .. } => {
                let mut keys = vec![wallet(id), Key::Fact(FactKey::Totals)];
                keys.extend(reference.iter().map(|taken| Key::Fact(FactKey::PurchaseReference(taken.clone()))));
                keys
            }
            Command::Provision { wallet: id, order } => {
                let mut keys = vec![wallet(id)];
                keys.extend(order.client.as_ref().map(client));
                if let PriceBasis::Product { sku, .. } = &order.basis {
                    keys.push(product(sku));
                }
                keys
            }
            Command::ProvisionBulk { wallet: id, items, .. } => {
                let mut keys = vec![wallet(id)];
                for item in items {
                    keys.extend(item.order.client.as_ref().map(client));
                    if let PriceBasis::Product { sku, .. } = &item.order.basis {
                        keys.push(product(sku));
                    }
                }
                keys.sort_unstable();
                keys.dedup();
                keys
            }
            Command::Refund { wallet: id, provision_id, .. } => {
                vec![wallet(id), Key::Fact(FactKey::Provision(*provision_id))]
            }
            Command::Transfer { from, to, .. } => vec![wallet(from), wallet(to)],
            Command::OnboardClient { client: id, .. }
            | Command::ChangeClient { client: id, .. }
            | Command::StepClient { client: id, .. }
            | Command::ReassignClient { client: id, .. } => vec![client(id), Key::PersonalData(*id)],
            Command::PublishProduct { sku, .. }
            | Command::ReviseProduct { sku, .. }
            | Command::RetireProduct { sku } => vec![product(sku)],
            Command::RaiseRequest { request: id, requester, ask } => {
                let mut keys = vec![request(*id), reseller(requester)];
                if let Ask::PriceChange { sku, .. } = ask {
                    keys.push(product(sku));
                }
                keys
            }
            Command::ApproveRequest { request: id, .. }
            | Command::RejectRequest { request: id, .. }
            | Command::CancelRequest { request: id }
            | Command::ForwardRequest { request: id }
            | Command::ExpireRequest { request: id }
            | Command::FailRequest { request: id } => vec![request(*id)],
        }
    }

    /// Whether a key is loaded.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        match key {
            Key::Aggregate(AggregateKey::Platform) => self.state.platform.contains_key(&()),
            Key::Aggregate(AggregateKey::Reseller(id)) => self.state.resellers.contains_key(id),
            Key::Aggregate(AggregateKey::Wallet(id)) => self.state.wallets.contains_key(id),
            Key::Aggregate(AggregateKey::UplineRequest(id)) => self.state.requests.contains_key(id),
            Key::Aggregate(AggregateKey::Client(id)) => self.state.clients.contains_key(id),
            Key::Aggregate(AggregateKey::Product(sku)) => self.state.products.contains_key(sku),
            Key::Fact(key) => self.state.facts.contains_key(key),
            Key::PersonalData(id) => self.state.personal_data.contains_key(id),
        }
    }

    /// Takes in what was found under a key.
    ///
    /// # Errors
    /// A snapshot that cannot be decoded.
    pub fn load(&mut self, key: Key, loaded: Loaded) -> Result<(), serde_json::Error> {
        match (key, loaded) {
            (Key::Aggregate(key), Loaded::Aggregate(snapshot)) => match key {
                AggregateKey::Platform => self.state.load::<Platform>((), snapshot)?,
                AggregateKey::Reseller(id) => self.state.load::<Reseller>(id, snapshot)?,
                AggregateKey::Wallet(id) => self.state.load::<Wallet>(id, snapshot)?,
                AggregateKey::UplineRequest(id) => self.state.load::<UplineRequest>(id, snapshot)?,
                AggregateKey::Client(id) => self.state.load::<Client>(id, snapshot)?,
                AggregateKey::Product(sku) => self.state.load::<Product>(sku, snapshot)?,
            },
            (Key::Fact(key), Loaded::Fact(fact)) => {
                self.state.facts.insert(key, fact);
            }
            (Key::PersonalData(id), Loaded::PersonalData(details)) => {
                self.state.personal_data.insert(id, details);
            }
            // A store that answers a key with something of another kind has not answered it: it stays missing.
            _ => {}
        }
        Ok(())
    }

    /// Takes a reseller into the network; at start, for every one there is.
    pub fn enlist(&mut self, id: ResellerId, sequence: u64, reseller: &Reseller) {
        self.network.enlist(id, sequence, reseller);
    }

    /// Sets the position that everything enlisted so far stands at; at start only.
    pub fn start_at(&mut self, position: u64) {
        self.position = position;
    }

    /// Decides. Pure: the same state, command, time and receipts give the same decision.
    #[must_use]
    pub fn decide(&self, envelope: &CommandEnvelope, now: Timestamp, receipts: &dyn Receipts) -> Decision {
        let mut draft = Draft::new(self, envelope, now, receipts);
        let answer = match draft.decide(&envelope.command) {
            Ok(answer) => answer,
            Err(Stop::Refused(rejection)) => return Decision::Refused(rejection),
            Err(Stop::Denied(denial)) => return Decision::Denied(denial),
            Err(Stop::Missing(keys)) => return Decision::Missing(keys),
        };
        if draft.events.len() > EVENTS_MAX {
            return Decision::Refused(too_many_events());
        }
        Decision::Accepted(Box::new(draft.finish(answer)))
    }

    /// Takes in an accepted command of this ledger's own. The next decision builds on it; if the commit then fails, this ledger
    /// must be thrown away, or forget it ([`Ledger::forget`]).
    pub fn absorb(&mut self, accepted: &mut Accepted) {
        for new in &accepted.events {
            if let (AggregateKey::Reseller(id), Event::Reseller(event)) = (&new.key, &new.event) {
                self.network.fold(*id, new.sequence, event);
            }
            self.position = new.position;
        }
        self.state.absorb(std::mem::take(&mut accepted.changes));
    }

    /// Forgets what was absorbed since `position`, and changed these keys: it was not committed. What the ledger needs of it is
    /// to be loaded again. Says whether that could be done: a change of the network cannot be taken back, and then this ledger
    /// must be thrown away.
    pub fn forget(&mut self, position: u64, changed: &[Key]) -> bool {
        for key in changed {
            match key {
                Key::Aggregate(AggregateKey::Reseller(_)) => return false,
                Key::Aggregate(AggregateKey::Platform) => {
                    self.state.platform.remove(&());
                }
                Key::Aggregate(AggregateKey::Wallet(id)) => {
                    self.state.wallets.remove(id);
                }
                Key::Aggregate(AggregateKey::UplineRequest(id)) => {
                    self.state.requests.remove(id);
                }
                Key::Aggregate(AggregateKey::Client(id)) => {
                    self.state.clients.remove(id);
                }
                Key::Aggregate(AggregateKey::Product(sku)) => {
                    self.state.products.remove(sku);
                }
                Key::Fact(key) => {
                    self.state.facts.remove(key);
                }
                Key::PersonalData(id) => {
                    self.state.personal_data.remove(id);
                }
            }
        }
        self.position = position;
        true
    }

    /// Takes in an event of another writer. Ignores what is not newer, folds the next, and drops what does not follow; facts
    /// and personal data that it touches are dropped, to be read again.
    pub fn apply(&mut self, logged: &LoggedEvent) {
        for key in facts::keys(&logged.event) {
            self.state.facts.remove(&key);
        }
        match (&logged.key, &logged.event) {
            (AggregateKey::Platform, Event::Platform(event)) => {
                self.state.apply::<Platform>(&(), logged.sequence, event);
            }
            (AggregateKey::Reseller(id), Event::Reseller(event)) => {
                self.network.fold(*id, logged.sequence, event);
                self.state.apply::<Reseller>(id, logged.sequence, event);
            }
            (AggregateKey::Wallet(id), Event::Wallet(event)) => self.state.apply::<Wallet>(id, logged.sequence, event),
            (AggregateKey::UplineRequest(id), Event::UplineRequest(event)) => {
                self.state.apply::<UplineRequest>(id, logged.sequence, event);
            }
            (AggregateKey::Client(id), Event::Client(event)) => {
                self.state.personal_data.remove(id);
                self.state.apply::<Client>(id, logged.sequence, event);
            }
            (AggregateKey::Product(sku), Event::Product(event)) => {
                self.state.apply::<Product>(sku, logged.sequence, event);
            }
            // The log's reader pairs key and event by aggregate type, so nothing else comes.
            _ => {}
        }
        self.position = logged.position;
    }

    /// The state of a loaded aggregate as a snapshot: its JSON text and the number of its last event.
    ///
    /// # Errors
    /// What serde_json says.
    pub fn snapshot(&self, key: &AggregateKey) -> Result<Option<(String, u64)>, serde_json::Error> {
        match key {
            AggregateKey::Platform => self.state.snapshot::<Platform>(&()),
            AggregateKey::Reseller(id) => self.state.snapshot::<Reseller>(id),
            AggregateKey::Wallet(id) => self.state.snapshot::<Wallet>(id),
            AggregateKey::UplineRequest(id) => self.state.snapshot::<UplineRequest>(id),
            AggregateKey::Client(id) => self.state.snapshot::<Client>(id),
            AggregateKey::Product(sku) => self.state.snapshot::<Product>(sku),
        }
    }

    /// Forgets each kind of which more than `most` are loaded; network and policy stay. Only between commits: what a batch has
    /// absorbed is not in the store before its commit.
    pub fn shrink(&mut self, most: usize) {
        fn shrink<K, V>(map: &mut hashbrown::HashMap<K, V>, most: usize) {
            if map.len() > most {
                *map = hashbrown::HashMap::new();
            }
        }
        shrink(&mut self.state.resellers, most);
        shrink(&mut self.state.wallets, most);
        shrink(&mut self.state.requests, most);
        shrink(&mut self.state.clients, most);
        shrink(&mut self.state.products, most);
        shrink(&mut self.state.facts, most);
        shrink(&mut self.state.personal_data, most);
    }
}
