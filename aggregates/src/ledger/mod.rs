//! The state machine across aggregates.
use crate::answer::Answer;
use crate::client::ClientDetails;
use crate::command::{Command, CommandEnvelope, Idempotency, ReceiptKey};
use crate::event::{AggregateKey, LoggedEvent, NewEvent};
use crate::facts::{Fact, FactKey};
use crate::primitives::{ClientId, ResellerId, Timestamp};
use crate::rejection::{Denial, Rejection};
use crate::reseller::Reseller;
use serde::{Deserialize, Serialize};

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

/// The receipts that a decision may need: those of the request's own key and of its items' keys.
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
}

/// The state machine: aggregates and facts that are loaded, and the network.
#[derive(Debug, Default)]
pub struct Ledger {}

impl Ledger {
    /// The position of the last event it knows.
    #[must_use]
    pub fn position(&self) -> u64 {
        todo!()
    }
    /// What a command will surely need.
    #[must_use]
    pub fn footprint(_command: &Command) -> Vec<Key> {
        todo!()
    }
    /// Whether a key is loaded.
    #[must_use]
    pub fn has(&self, _key: &Key) -> bool {
        todo!()
    }
    /// Takes in what was found under a key.
    ///
    /// # Errors
    /// A snapshot that cannot be decoded.
    pub fn load(&mut self, _key: Key, _loaded: Loaded) -> Result<(), serde_json::Error> {
        todo!()
    }
    /// Takes a reseller into the network; at start, for every one there is.
    pub fn enlist(&mut self, _id: ResellerId, _sequence: u64, _reseller: &Reseller) {
        todo!()
    }
    /// Sets the position that everything enlisted and loaded so far stands at; at start only.
    pub fn start_at(&mut self, _position: u64) {
        todo!()
    }
    /// Decides. Pure: the same state, command, time and receipts give the same decision.
    #[must_use]
    pub fn decide(&self, _envelope: &CommandEnvelope, _now: Timestamp, _receipts: &dyn Receipts) -> Decision {
        todo!()
    }
    /// Takes in an accepted command of this ledger's own. The next decision builds on it; if the commit then fails, this ledger
    /// must be thrown away.
    pub fn absorb(&mut self, _accepted: &mut Accepted) {
        todo!()
    }
    /// Takes in an event of another writer. Ignores what is not newer, folds the next, and drops what does not follow.
    pub fn apply(&mut self, _event: &LoggedEvent) {
        todo!()
    }
    /// The state of a loaded aggregate as a snapshot: its JSON text and the number of its last event.
    ///
    /// # Errors
    /// What serde_json says.
    pub fn snapshot(&self, _key: &AggregateKey) -> Result<Option<(String, u64)>, serde_json::Error> {
        todo!()
    }
    /// Forgets what has been loaded beyond `most` entries; network and policy stay.
    pub fn shrink(&mut self, _most: usize) {
        todo!()
    }
}
