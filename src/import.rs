//! The events of a table that postgres-es wrote, taken over into an empty store.
//!
//! Such a table has no order across aggregates, no times and no hashes. Its events are read in the order in which they were
//! inserted (their place in the table, where nothing was ever removed from it) or by a column that says better, and written as
//! our log: positions, hash chain, facts and snapshots. They are read twice: first everything is folded and nothing written, so
//! that what does not fold is refused before anything is there; then it is written, in batches.
//!
//! Refused: a type, version or payload that is not ours; a sequence that does not follow; a child before its parent; a wallet
//! whose event carries another balance than its events come to; a policy out of bounds; and where a column says when they were
//! recorded, an event without a time, one that is more than a minute earlier than the event before it, and one later than now, since
//! the log's time never goes back and would stay ahead of the clock. What else must hold across aggregates is `verify`'s to say.
//!
//! Not taken over: personal data of clients. It is in no event, only its hash, so their rows in `personal_data` are missing, and
//! `verify` says so of the first one that is not forgotten.
//!
//! Memory: the state of every aggregate and every fact.

use std::collections::{BTreeMap, HashMap, HashSet};

use aggregates::event::{AggregateKey, EVENT_VERSION, Event, EventMetadata, LoggedEvent};
use aggregates::facts::{self, Fact, FactKey};
use aggregates::ledger::{Key, Ledger, Loaded};
use aggregates::platform::{PlatformEvent, Policy};
use aggregates::primitives::{Actor, CommandId, Credits, ResellerId, Role, Timestamp, UserId};
use aggregates::reseller::ResellerEvent;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::store::postgres::{Address, SourceEvent, Table};
use crate::store::{Batch, EventStore, Head, SnapshotRow, StoreError, StoredEvent, Turn, chain};

/// How many events are committed together.
const BATCH: usize = 2_000;
/// By so much an event may have been recorded before the one in front of it: what a column says is often when its transaction began,
/// and of two that overlapped the first to begin may have been the last to insert.
const OVERLAP_SECONDS_MAX: i64 = 60;

/// Why nothing, or not everything, was taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store has a history already; two cannot be one.
    #[error("the store is not empty: it has {0} events")]
    NotEmpty(u64),
    /// An event does not fit. Nothing was written.
    #[error("event {sequence} of {aggregate_type} {aggregate_id}: {why}")]
    Refused {
        /// The aggregate's type, as the table has it.
        aggregate_type: String,
        /// The aggregate's id, as the table has it.
        aggregate_id: String,
        /// The event's sequence.
        sequence: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The table, or our store, says no.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The machine or the program does not do what it should.
    #[error("{0}")]
    Defect(String),
}

/// What was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// How many events.
    pub events: u64,
    /// Of how many aggregates.
    pub aggregates: usize,
    /// The position of the last one.
    pub position: u64,
}

/// Takes over a table into an empty store. Where the table has no policy, `policy` comes first. `progress` hears how many events
/// have been read, of how many, in both readings.
///
/// # Errors
/// See [`ImportError`]. Where the writing itself is interrupted the store is left with a part and must be made anew.
pub async fn import<S: EventStore>(
    address: &Address,
    table: &Table,
    mut store: S,
    policy: Policy,
    now: Timestamp,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Imported, ImportError> {
    let empty = Head { position: 0, hash: [0; 32], epoch: 0, recorded_at: Timestamp::default() };
    let mut head = store.begin(&empty, &[]).await?.head().clone();
    if head.position > 0 {
        return Err(ImportError::NotEmpty(head.position));
    }
    let mut source = table.open(address).await?;
    let command = CommandId(Uuid::now_v7());
    let (mut read, total) = (0, source.events() * 2);

    let mut trial = History::new(head.clone(), now, table.is_timed(), command);
    let mut began = None;
    source.rewind().await?;
    while let Some(page) = source.next(BATCH).await? {
        for event in page {
            began = began.or(event.recorded_at);
            trial.take(event)?;
            read += 1;
        }
        progress(read, total);
        // Only whether it folds was asked.
        let _ = trial.batch()?;
    }
    let has_policy = trial.states.has(&Key::Aggregate(AggregateKey::Platform));
    let (events, aggregates) = (read, trial.known.len());

    let mut history = History::new(head.clone(), now, table.is_timed(), command);
    if !has_policy && events > 0 {
        history.take(first_policy(policy, began)?)?;
    }
    source.rewind().await?;
    while let Some(page) = source.next(BATCH).await? {
        for event in page {
            history.take(event)?;
            read += 1;
        }
        let batch = history.batch()?;
        let turn = store.begin(&head, &[]).await?;
        turn.append(&batch).await?;
        head = history.head.clone();
        progress(read, total);
    }
    source.close().await?;
    Ok(Imported { events, aggregates, position: head.position })
}

/// The policy as an event like the others. It was in force when the first of them happened, and the log's time never goes back.
fn first_policy(policy: Policy, recorded_at: Option<Timestamp>) -> Result<SourceEvent, ImportError> {
    let event = Event::Platform(PlatformEvent::PolicySet { policy });
    let key = AggregateKey::Platform;
    Ok(SourceEvent {
        aggregate_type: key.aggregate_type().to_owned(),
        aggregate_id: key.aggregate_id(),
        sequence: 1,
        event_type: event.event_type().to_owned(),
        event_version: EVENT_VERSION.to_owned(),
        payload: event.payload().map_err(|error| ImportError::Defect(error.to_string()))?,
        metadata: "{}".to_owned(),
        recorded_at,
    })
}

/// A log as it grows.
struct History {
    head: Head,
    now: Timestamp,
    /// Whether each event says when it was recorded.
    is_timed: bool,
    command: CommandId,
    states: Ledger,
    /// The number of each aggregate's last event.
    known: HashMap<AggregateKey, u64>,
    balances: HashMap<ResellerId, Credits>,
    facts: HashMap<FactKey, (Fact, u64)>,
    /// What has come since the last batch.
    events: Vec<StoredEvent>,
    changed: HashSet<AggregateKey>,
    changed_facts: HashSet<FactKey>,
}

impl History {
    fn new(head: Head, now: Timestamp, is_timed: bool, command: CommandId) -> Self {
        Self {
            head,
            now,
            is_timed,
            command,
            states: Ledger::default(),
            known: HashMap::new(),
            balances: HashMap::new(),
            facts: HashMap::new(),
            events: Vec::new(),
            changed: HashSet::new(),
            changed_facts: HashSet::new(),
        }
    }

    /// Takes in the next event.
    fn take(&mut self, source: SourceEvent) -> Result<(), ImportError> {
        let refused = |why: String| ImportError::Refused {
            aggregate_type: source.aggregate_type.clone(),
            aggregate_id: source.aggregate_id.clone(),
            sequence: source.sequence,
            why,
        };
        let key = AggregateKey::parse(&source.aggregate_type, &source.aggregate_id)
            .map_err(|error| refused(error.to_string()))?;
        // Ids have one spelling here, and the log finds an aggregate by it.
        if key.aggregate_id() != source.aggregate_id {
            return Err(refused(format!("its aggregate's id would be written {}", key.aggregate_id())));
        }
        let event = Event::decode(&source.aggregate_type, &source.event_type, &source.event_version, &source.payload)
            .map_err(|error| refused(error.to_string()))?;
        let last = self.known.get(&key).copied().unwrap_or_default();
        if source.sequence != last + 1 {
            return Err(refused(format!("event {} was expected; is the order right?", last + 1)));
        }
        self.judge(&key, &event).map_err(refused)?;
        let (metadata, actor, command_id) = self.metadata(&source.metadata).map_err(refused)?;

        let recorded_at = self.recorded_at(source.recorded_at).map_err(refused)?;
        let mut stored = StoredEvent {
            position: self.head.position + 1,
            aggregate_type: source.aggregate_type.into(),
            aggregate_id: source.aggregate_id,
            sequence: source.sequence,
            event_type: source.event_type.into(),
            event_version: source.event_version.into(),
            payload: source.payload,
            metadata,
            recorded_at,
            hash: [0; 32],
            actor,
            command_id,
        };
        stored.hash = chain::hash(&self.head.hash, &stored);
        self.fold(&key, event, &stored)?;
        self.head = Head { position: stored.position, hash: stored.hash, epoch: self.head.epoch, recorded_at };
        self.events.push(stored);
        Ok(())
    }

    /// When an event was recorded. No time is made up for one that should have said its own: it would stand in the log for good.
    fn recorded_at(&self, told: Option<Timestamp>) -> Result<Timestamp, String> {
        let last = self.head.recorded_at;
        match told {
            None if self.is_timed => Err("the column does not say when it was recorded; each event must".to_owned()),
            None => Ok(self.now.max(last)),
            Some(ahead) if ahead > self.now => Err(format!("it was recorded at {ahead}, later than now, {}", self.now)),
            Some(back) if back.plus_seconds(OVERLAP_SECONDS_MAX) < last => {
                Err(format!("it was recorded at {back}, before the event in front of it, {last}; is the order right?"))
            }
            // The log's time never goes back.
            Some(time) => Ok(time.max(last)),
        }
    }

    /// What must hold before an event can be taken in.
    fn judge(&mut self, key: &AggregateKey, event: &Event) -> Result<(), String> {
        match (key, event) {
            (AggregateKey::Reseller(_), Event::Reseller(ResellerEvent::ResellerRegistered(registration))) => {
                match registration.parent {
                    Some(parent) if !self.known.contains_key(&AggregateKey::Reseller(parent)) => {
                        Err(format!("its parent {parent} is not registered yet; is the order right?"))
                    }
                    _ => Ok(()),
                }
            }
            (AggregateKey::Wallet(owner), Event::Wallet(event)) => {
                let balance = self.balances.entry(*owner).or_default();
                let expected = balance.checked_add(event.balance_change());
                let (carried, _) = event.after();
                if expected != Some(carried) {
                    return Err(format!("it carries the balance {carried}, and its events come to {expected:?}"));
                }
                *balance = carried;
                Ok(())
            }
            (AggregateKey::Platform, Event::Platform(PlatformEvent::PolicySet { policy })) => {
                policy.check().map_err(|refusal| refusal.to_string())
            }
            _ => Ok(()),
        }
    }

    /// The metadata as our log has it: everything that was there, and who and by which command where that was not.
    fn metadata(&self, text: &str) -> Result<(String, String, CommandId), String> {
        let mut metadata: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("its metadata is no object: {error}"))?;
        let id = UserId::new("import").map_err(|error| error.0)?;
        let own =
            EventMetadata::of(&Actor { id, role: Role::SuperAdmin, tenant: None, declared_cost: false }, self.command);
        let command_id = match metadata.get("command_id").and_then(Value::as_str).map(str::parse::<CommandId>) {
            Some(Ok(command_id)) => command_id,
            _ => self.command,
        };
        for (name, value) in [("actor", own.actor), ("role", own.role)] {
            if !metadata.get(name).is_some_and(Value::is_string) {
                metadata.insert(name.to_owned(), value.into());
            }
        }
        metadata.insert("command_id".to_owned(), command_id.to_string().into());
        let actor = metadata.get("actor").and_then(Value::as_str).unwrap_or_default().to_owned();
        let text = serde_json::to_string(&metadata).map_err(|error| error.to_string())?;
        // As every reader of the log will.
        serde_json::from_str::<EventMetadata>(&text).map_err(|error| format!("its metadata: {error}"))?;
        Ok((text, actor, command_id))
    }

    fn fold(&mut self, key: &AggregateKey, event: Event, stored: &StoredEvent) -> Result<(), ImportError> {
        let defect = |error: serde_json::Error| ImportError::Defect(error.to_string());
        if self.known.insert(key.clone(), stored.sequence).is_none() {
            self.states.load(Key::Aggregate(key.clone()), Loaded::Aggregate(None)).map_err(defect)?;
        }
        if let AggregateKey::Wallet(owner) | AggregateKey::Reseller(owner) = key {
            for fact in facts::keys(&event) {
                let current = self.facts.get(&fact).map(|(fact, _)| fact);
                if let Some(folded) = facts::fold(&fact, current, *owner, &event, stored.position) {
                    self.facts.insert(fact.clone(), (folded, stored.position));
                    self.changed_facts.insert(fact);
                }
            }
        }
        self.changed.insert(key.clone());
        let metadata = serde_json::from_str(&stored.metadata).map_err(defect)?;
        self.states.apply(&LoggedEvent {
            position: stored.position,
            key: key.clone(),
            sequence: stored.sequence,
            event,
            metadata,
            recorded_at: stored.recorded_at,
        });
        Ok(())
    }

    /// What has come since the last batch, with the states and facts after it.
    fn batch(&mut self) -> Result<Batch, ImportError> {
        let mut batch = Batch { events: std::mem::take(&mut self.events), now: self.now, ..Batch::default() };
        for key in self.changed.drain() {
            match self.states.snapshot(&key) {
                Ok(Some((payload, sequence))) => batch.snapshots.push(SnapshotRow { key, sequence, payload }),
                Ok(None) => return Err(ImportError::Defect(format!("{key} has events but no state"))),
                Err(error) => return Err(ImportError::Defect(error.to_string())),
            }
        }
        let facts: BTreeMap<_, _> =
            self.changed_facts.drain().filter_map(|key| Some((key.clone(), self.facts.get(&key)?.clone()))).collect();
        batch.facts = facts;
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    fn history(is_timed: bool) -> History {
        let head = Head { position: 0, hash: [0; 32], epoch: 0, recorded_at: Timestamp::default() };
        History::new(head, Timestamp::from_micros(2_000_000), is_timed, CommandId(Uuid::nil()))
    }

    fn policy(recorded_at: Option<i64>) -> SourceEvent {
        first_policy(Policy::default(), recorded_at.map(Timestamp::from_micros)).expect("an event")
    }

    #[test]
    fn an_event_stands_at_its_own_time_and_no_time_is_made_up_for_it() {
        for fine in [0, 1_000_000, 2_000_000] {
            let mut history = history(true);
            history.take(policy(Some(fine))).expect("taken in");
            assert_eq!(history.head.recorded_at, Timestamp::from_micros(fine));
        }
        let refused = |told: Option<i64>| {
            let mut history = history(true);
            history.take(policy(Some(1_000_000))).expect("taken in");
            history.take(SourceEvent { sequence: 2, ..policy(told) }).expect_err("refused").to_string()
        };
        assert!(refused(Some(2_000_001)).contains("later than now, 1970-01-01T00:00:02"));
        assert!(refused(Some(-59_000_001)).contains("before the event in front of it, 1970-01-01T00:00:01"));
        let mut overlapping = history(true);
        overlapping.take(policy(Some(1_000_000))).expect("taken in");
        overlapping
            .take(SourceEvent { sequence: 2, ..policy(Some(-59_000_000)) })
            .expect("of a transaction that began earlier");
        assert_eq!(overlapping.head.recorded_at, Timestamp::from_micros(1_000_000), "time does not go back");
        assert!(refused(None).contains("does not say when"));
    }

    #[test]
    fn where_nothing_says_when_it_is_now() {
        let mut history = history(false);
        history.take(policy(None)).expect("taken in");
        assert_eq!(history.head.recorded_at, history.now);
    }

    #[test]
    fn a_policy_out_of_bounds_is_not_taken_over() {
        let beyond = Policy { credit_conversion_rate: 0, ..Policy::default() };
        let refused = history(false).take(first_policy(beyond, None).expect("an event")).expect_err("refused");
        assert!(matches!(refused, ImportError::Refused { .. }), "{refused}");
    }
}
