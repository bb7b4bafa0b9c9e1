//! Replay: a wallet built from its events alone, step by step, beside what each event recorded and what the read models say.
//!
//! Four ways to the same figures, which must agree: the amounts summed up; the aggregate's own fold; cqrs-es, from its own event
//! types, upcasters and store, which knows nothing of ours but the texts in the log; and what every event carries. A fifth is the
//! statement that clients are shown.
//!
//! Cost: a few microseconds an event. Memory: [`CHUNK`] events, whatever the wallet's length.

use std::collections::HashMap;

use aggregates::answer::WalletView;
use aggregates::event::{Event, EventMetadata, upcasters};
use aggregates::primitives::{Credits, ResellerId, Timestamp};
use aggregates::wallet::Wallet;
use cqrs_es::persist::{
    PersistedEventRepository, PersistedEventStore, PersistenceError, ReplayStream, SerializedEvent, SerializedSnapshot,
};
use cqrs_es::{Aggregate, EventStore};
use projections::audit_log::{self, StreamEvent};
use projections::sql::{Read, Value, ViewError};
use projections::wallets::WalletRow;
use projections::{policy, statement_lines, wallet_terms};
use serde::Serialize;
use utoipa::ToSchema;

use super::as_of::AsOf;

/// How many events are in memory at once.
const CHUNK: u32 = 1_000;

/// One event, and where the wallet stands after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Step {
    /// The event's position.
    pub position: u64,
    /// Its number among the wallet's events.
    pub sequence: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// What happened.
    pub event_type: String,
    /// Whose command it came of.
    pub actor: String,
    /// By which command.
    pub command_id: String,
    /// By how much the balance changed.
    pub change: Credits,
    /// The sum of all changes so far: from amounts alone.
    pub balance: Credits,
    /// The credits reserved so far, from amounts alone.
    pub reserved: Credits,
    /// The balance that the event carries.
    pub recorded_balance: Credits,
    /// The reserved credits that the event carries.
    pub recorded_reserved: Credits,
    /// The balance in the wallet's statement; null for an event that is no line of it, and beyond the read models.
    pub read_model_balance: Option<Credits>,
    /// Whether all of these agree.
    pub matches: bool,
}

/// Where two of the ways do not agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Difference {
    /// The event's position; null for the wallet as a whole.
    pub position: Option<u64>,
    /// What is compared.
    pub what: String,
    /// As the events have it.
    pub expected: String,
    /// As it is there.
    pub found: String,
}

/// A wallet built from its events alone.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Replay {
    /// Whose wallet.
    pub reseller_id: ResellerId,
    /// How many events it has up to there.
    pub events: u64,
    /// By the aggregate's own fold.
    pub replayed: WalletView,
    /// By cqrs-es.
    pub replayed_by_cqrs_es: WalletView,
    /// As the read models have it at that position.
    pub read_model: Option<WalletView>,
    /// Whether every way came to the same, at every step.
    pub matches: bool,
    /// The first place where they did not.
    pub first_difference: Option<Difference>,
}

/// Replays a wallet up to a moment; `each` is told every step. `None` where it was not open yet. The read models are compared
/// where the read has come that far.
///
/// # Errors
/// What the database or `each` says, or an event that cannot be read.
pub async fn wallet(
    read: &mut Read,
    reseller: ResellerId,
    then: AsOf,
    mut each: impl FnMut(Step) -> Result<(), ViewError> + Send,
) -> Result<Option<Replay>, ViewError> {
    let id = reseller.to_string();
    let mut row = WalletRow::default();
    let mut second = SecondPath::default();
    let mut balance: Credits = 0;
    let mut events = 0;
    let mut first: Option<Difference> = None;
    let mut differs = |position: Option<u64>, what: &str, expected: String, found: String| {
        if expected != found && first.is_none() {
            first = Some(Difference { position, what: what.to_owned(), expected, found });
        }
    };
    loop {
        let chunk = audit_log::events_of(read, "Wallet", &id, row.sequence, then.position, CHUNK).await?;
        let (Some(begin), Some(end)) = (chunk.first(), chunk.last()) else { break };
        let statement = statement(read, reseller, begin.position, end.position).await?;
        for stored in &chunk {
            let at = Some(stored.position);
            let (event, metadata) = read_event(stored)?;
            let Event::Wallet(event) = event else { continue };
            differs(at, "sequence", (row.sequence + 1).to_string(), stored.sequence.to_string());
            row.wallet.fold(&event);
            (row.sequence, row.position) = (stored.sequence, stored.position);
            events += 1;
            balance = balance
                .checked_add(event.balance_change())
                .ok_or_else(|| ViewError::unreadable(format!("the amounts up to {} overflow", stored.position)))?;
            // No event reserves yet, so amounts alone leave nothing reserved.
            let (recorded_balance, recorded_reserved) = event.after();
            let step = Step {
                position: stored.position,
                sequence: stored.sequence,
                recorded_at: stored.recorded_at.parse().map_err(ViewError::unreadable)?,
                event_type: stored.event_type.clone(),
                actor: metadata.actor,
                command_id: metadata.command_id,
                change: event.balance_change(),
                balance,
                reserved: 0,
                recorded_balance,
                recorded_reserved,
                read_model_balance: statement.get(&stored.position).copied(),
                matches: true,
            };
            let is_line =
                aggregates::postings::of(&aggregates::event::AggregateKey::Wallet(reseller), &Event::Wallet(event))
                    .is_some();
            let expected_line = (is_line && stored.position <= read.position()).then_some(balance);
            differs(at, "balance that the event carries", balance.to_string(), recorded_balance.to_string());
            differs(at, "reserved credits that the event carries", 0.to_string(), recorded_reserved.to_string());
            differs(at, "balance in the statement", told(expected_line), told(step.read_model_balance));
            let matches = balance == recorded_balance
                && recorded_reserved == 0
                && expected_line == step.read_model_balance
                && stored.sequence == events;
            each(Step { matches, ..step })?;
        }
        second.take_in(&id, chunk).await?;
    }
    if events == 0 {
        return Ok(None);
    }
    let policy = policy::at(&mut read.connection(), then.position).await?;
    let read_model = match read.position() {
        come if come < then.position => None,
        _ => wallet_terms::at(read, reseller, then.position).await?,
    };
    differs(None, "balance by the fold", balance.to_string(), row.wallet.balance.to_string());
    let state = |wallet: &Wallet| serde_json::to_string(wallet).map_err(ViewError::unreadable);
    differs(None, "state by cqrs-es", state(&row.wallet)?, state(&second.state)?);
    differs(None, "number of events by cqrs-es", row.sequence.to_string(), second.sequence.to_string());
    if read.position() >= then.position {
        // Whether the next fall is announced is nothing that a read of the past is asked for.
        let known = |row: &WalletRow| {
            let wallet = Wallet { armed: false, ..row.wallet.clone() };
            Ok::<_, ViewError>(format!("{} {} {}", state(&wallet)?, row.sequence, row.position))
        };
        let found = read_model.as_ref().map_or_else(|| Ok("no wallet".to_owned()), known)?;
        differs(None, "wallet in the read models", known(&row)?, found);
    }
    let view = |row: &WalletRow| row.view(reseller, &policy, then.position, then.time);
    let by_cqrs_es = WalletRow {
        wallet: second.state,
        sequence: u64::try_from(second.sequence).map_err(ViewError::unreadable)?,
        ..row.clone()
    };
    Ok(Some(Replay {
        reseller_id: reseller,
        events,
        replayed: view(&row),
        replayed_by_cqrs_es: view(&by_cqrs_es),
        read_model: read_model.as_ref().map(view),
        matches: first.is_none(),
        first_difference: first,
    }))
}

fn told(balance: Option<Credits>) -> String {
    balance.map_or_else(|| "no line".to_owned(), |balance| balance.to_string())
}

fn read_event(stored: &StreamEvent) -> Result<(Event, EventMetadata), ViewError> {
    let at = |error: &dyn std::fmt::Display| ViewError::unreadable(format!("position {}: {error}", stored.position));
    let event = Event::decode("Wallet", &stored.event_type, &stored.event_version, &stored.payload)
        .map_err(|error| at(&error))?;
    let metadata = serde_json::from_str(&stored.metadata).map_err(|error| at(&error))?;
    Ok((event, metadata))
}

/// The balances in a wallet's statement between two positions, both included.
async fn statement(
    read: &mut Read,
    reseller: ResellerId,
    from: u64,
    until: u64,
) -> Result<HashMap<u64, Credits>, ViewError> {
    let mut connection = read.connection();
    let lines = statement_lines::between(connection.dialect(), "r.reseller_id = $1", &["balance"], ("$2", "$3"));
    let values = vec![Value::text(reseller), from.saturating_sub(1).into(), until.into()];
    let rows = connection.fetch(&format!("select t.position, t.balance from {lines} t"), values).await?;
    rows.iter()
        .map(|row| {
            let mut columns = row.columns();
            Ok((columns.count()?, columns.integer()?))
        })
        .collect()
}

/// The same wallet by cqrs-es: its store loads the state so far as a snapshot and folds the next events onto it.
#[derive(Debug, Default)]
struct SecondPath {
    state: Wallet,
    sequence: usize,
}

impl SecondPath {
    async fn take_in(&mut self, id: &str, chunk: Vec<StreamEvent>) -> Result<(), ViewError> {
        let events = chunk.into_iter().map(|stored| serialized(id, stored)).collect::<Result<_, _>>()?;
        let snapshot = SerializedSnapshot {
            aggregate_id: id.to_owned(),
            aggregate: serde_json::to_value(&self.state).map_err(ViewError::unreadable)?,
            current_sequence: self.sequence,
            current_snapshot: 1,
        };
        let repository = Repository { snapshot, events };
        let store =
            PersistedEventStore::<_, Wallet>::new_snapshot_store(repository, usize::MAX).with_upcasters(upcasters());
        let loaded = store.load_aggregate(id).await.map_err(ViewError::unreadable)?;
        (self.state, self.sequence) = (loaded.aggregate, loaded.current_sequence);
        Ok(())
    }
}

fn serialized(id: &str, stored: StreamEvent) -> Result<SerializedEvent, ViewError> {
    Ok(SerializedEvent::new(
        id.to_owned(),
        usize::try_from(stored.sequence).map_err(ViewError::unreadable)?,
        Wallet::TYPE.to_owned(),
        stored.event_type,
        stored.event_version,
        serde_json::from_str(&stored.payload).map_err(ViewError::unreadable)?,
        serde_json::from_str(&stored.metadata).map_err(ViewError::unreadable)?,
    ))
}

/// What cqrs-es's store asks for: a state, and the events after it. It is read only.
struct Repository {
    snapshot: SerializedSnapshot,
    events: Vec<SerializedEvent>,
}

fn read_only() -> PersistenceError {
    PersistenceError::UnknownError("this repository is read for a replay, and for nothing else".into())
}

impl PersistedEventRepository for Repository {
    async fn get_events<A: Aggregate>(&self, _: &str) -> Result<Vec<SerializedEvent>, PersistenceError> {
        Ok(self.events.clone())
    }

    async fn get_last_events<A: Aggregate>(
        &self,
        _: &str,
        last_sequence: usize,
    ) -> Result<Vec<SerializedEvent>, PersistenceError> {
        Ok(self.events.iter().filter(|event| event.sequence > last_sequence).cloned().collect())
    }

    async fn get_snapshot<A: Aggregate>(&self, _: &str) -> Result<Option<SerializedSnapshot>, PersistenceError> {
        let SerializedSnapshot { aggregate_id, aggregate, current_sequence, current_snapshot } = &self.snapshot;
        Ok(Some(SerializedSnapshot {
            aggregate_id: aggregate_id.clone(),
            aggregate: aggregate.clone(),
            current_sequence: *current_sequence,
            current_snapshot: *current_snapshot,
        }))
    }

    async fn persist<A: Aggregate>(
        &self,
        _: &[SerializedEvent],
        _: Option<(String, serde_json::Value, usize)>,
    ) -> Result<(), PersistenceError> {
        Err(read_only())
    }

    async fn stream_events<A: Aggregate>(&self, _: &str) -> Result<ReplayStream, PersistenceError> {
        Err(read_only())
    }

    async fn stream_all_events<A: Aggregate>(&self) -> Result<ReplayStream, PersistenceError> {
        Err(read_only())
    }
}
