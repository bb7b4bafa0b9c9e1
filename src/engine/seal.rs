//! Accepted decisions turned into what is committed: events with their exact texts and chain hashes, facts, snapshots.
//!
//! Cost: the payload's text is made once and both hashed and stored; the metadata's text is made once a command; a touched
//! aggregate is written once a batch, however many of its events the batch holds.

use std::borrow::Cow;
use std::collections::HashSet;

use aggregates::client::ClientDetails;
use aggregates::command::CommandEnvelope;
use aggregates::event::{AggregateKey, EVENT_VERSION, EventMetadata, NewEvent};
use aggregates::facts::{Fact, FactKey};
use aggregates::ledger::{Key, Ledger};
use aggregates::primitives::{ClientId, CommandId, Timestamp};

use crate::store::{Batch, Head, SnapshotRow, StoredEvent, chain};

/// Collects what one turn will commit.
#[derive(Debug)]
pub(super) struct Sealer {
    head: Head,
    batch: Batch,
    /// The turn's time as the chain has it.
    now_text: String,
    touched: HashSet<AggregateKey>,
    /// The touched aggregates in the order of their first event, so that the same commands give the same batch.
    order: Vec<AggregateKey>,
    /// The commands that have events in this batch.
    commands: Vec<CommandId>,
}

impl Sealer {
    /// Starts at the head; everything is recorded at `max(now, the head's time)`, so time never runs backwards in the log.
    pub(super) fn new(head: Head, now: Timestamp) -> Self {
        let batch = Batch { now: now.max(head.recorded_at), ..Batch::default() };
        let now_text = batch.now.to_string();
        Self { head, batch, now_text, touched: HashSet::new(), order: Vec::new(), commands: Vec::new() }
    }

    /// The time of this turn.
    pub(super) fn now(&self) -> Timestamp {
        self.batch.now
    }

    /// The position of the last event so far: what the next decision rests on.
    pub(super) fn position(&self) -> u64 {
        self.head.position
    }

    /// Whether anything was accepted that a ledger without this batch would not know.
    pub(super) fn has_changes(&self) -> bool {
        !(self.batch.events.is_empty() && self.batch.facts.is_empty() && self.batch.personal_data.is_empty())
    }

    /// Takes in the events of one accepted command, before the ledger absorbs them.
    ///
    /// # Errors
    /// A sentence that names the defect, where an event does not follow the head or has no text. The batch must then not be
    /// committed.
    pub(super) fn seal(&mut self, envelope: &CommandEnvelope, events: &[NewEvent]) -> Result<(), String> {
        if events.is_empty() {
            return Ok(());
        }
        let metadata = EventMetadata::of(&envelope.actor, envelope.command_id);
        let text = serde_json::to_string(&metadata).map_err(|error| format!("metadata has no text: {error}"))?;
        self.commands.push(envelope.command_id);
        self.batch.events.reserve(events.len());
        for new in events {
            if new.position != self.head.position + 1 {
                return Err(format!("an event for position {} after {}", new.position, self.head.position));
            }
            let payload = new.event.payload().map_err(|error| format!("{} has no text: {error}", new.key))?;
            let mut event = StoredEvent {
                position: new.position,
                aggregate_type: Cow::Borrowed(new.key.aggregate_type()),
                aggregate_id: new.key.aggregate_id(),
                sequence: new.sequence,
                event_type: Cow::Borrowed(new.event.event_type()),
                event_version: Cow::Borrowed(EVENT_VERSION),
                payload,
                metadata: text.clone(),
                recorded_at: self.batch.now,
                hash: [0; 32],
                actor: metadata.actor.clone(),
                command_id: envelope.command_id,
            };
            event.hash = chain::hash_at(&self.head.hash, &event, &self.now_text);
            self.head.position = event.position;
            self.head.hash = event.hash;
            self.head.recorded_at = event.recorded_at;
            self.batch.events.push(event);
            if !self.touched.contains(&new.key) {
                self.touched.insert(new.key.clone());
                self.order.push(new.key.clone());
            }
        }
        Ok(())
    }

    /// Takes in what an accepted command changes beside its events; of two changes to the same key the later one counts.
    pub(super) fn keep(
        &mut self,
        facts: Vec<(FactKey, Fact, u64)>,
        personal_data: Vec<(ClientId, Option<ClientDetails>)>,
    ) {
        self.batch.facts.extend(facts.into_iter().map(|(key, fact, position)| (key, (fact, position))));
        self.batch.personal_data.extend(personal_data);
    }

    /// What a ledger that has absorbed it so far holds and the store does not.
    pub(super) fn changed(&self) -> Vec<Key> {
        changed(&self.order, &self.batch)
    }

    /// Adds the snapshots and closes the batch.
    ///
    /// # Errors
    /// A sentence that names the defect, where a touched aggregate has no state: an old snapshot must not outlive its events.
    pub(super) fn close(mut self, ledger: &Ledger) -> Result<Sealed, String> {
        self.batch.snapshots.reserve(self.order.len());
        for key in &self.order {
            match ledger.snapshot(key) {
                Ok(Some((payload, sequence))) => {
                    self.batch.snapshots.push(SnapshotRow { key: key.clone(), sequence, payload });
                }
                Ok(None) => return Err(format!("{key} has events but no state")),
                Err(error) => return Err(format!("the state of {key} has no text: {error}")),
            }
        }
        Ok(Sealed { batch: self.batch, head: self.head, commands: self.commands, touched: self.order })
    }
}

/// What has changed with these aggregates' events, by key.
fn changed(touched: &[AggregateKey], batch: &Batch) -> Vec<Key> {
    let aggregates = touched.iter().cloned().map(Key::Aggregate);
    let facts = batch.facts.keys().cloned().map(Key::Fact);
    let clients = batch.personal_data.iter().map(|(client, _)| Key::PersonalData(*client));
    aggregates.chain(facts).chain(clients).collect()
}

/// What one turn commits, and what the head will be then.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) batch: Batch,
    pub(super) head: Head,
    pub(super) commands: Vec<CommandId>,
    touched: Vec<AggregateKey>,
}

impl Sealed {
    /// What a ledger that has absorbed it holds and the store does not.
    pub(super) fn changed(&self) -> Vec<Key> {
        changed(&self.touched, &self.batch)
    }

    /// Whether there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        let Batch { events, receipts, facts, snapshots, personal_data, now: _ } = &self.batch;
        events.is_empty() && receipts.is_empty() && facts.is_empty() && snapshots.is_empty() && personal_data.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;
    use aggregates::client::ClientEvent;
    use aggregates::command::{ClientStep, Command};
    use aggregates::event::Event;
    use aggregates::primitives::{Actor, Role, UserId};
    use uuid::Uuid;

    fn client() -> ClientId {
        ClientId(Uuid::from_u128(7))
    }

    fn envelope(number: u128) -> CommandEnvelope {
        let id = UserId::new("ops").expect("id");
        CommandEnvelope {
            command_id: CommandId(Uuid::from_u128(number)),
            actor: Actor { id, role: Role::SuperAdmin, tenant: None, declared_cost: false },
            idempotency: None,
            command: Command::StepClient { client: client(), step: ClientStep::Activate },
        }
    }

    fn events(positions: impl IntoIterator<Item = u64>) -> Vec<NewEvent> {
        let event = |position| NewEvent {
            position,
            key: AggregateKey::Client(client()),
            sequence: position - 4,
            event: Event::Client(ClientEvent::ClientActivated {}),
        };
        positions.into_iter().map(event).collect()
    }

    fn head() -> Head {
        Head { position: 4, hash: [9; 32], epoch: 0, recorded_at: Timestamp::from_micros(1_000) }
    }

    #[test]
    fn events_of_several_commands_form_one_chain_from_the_head_on() {
        let mut sealer = Sealer::new(head(), Timestamp::from_micros(2_000));
        sealer.seal(&envelope(1), &events([5, 6])).expect("sealed");
        sealer.seal(&envelope(2), &events([7])).expect("sealed");

        assert_eq!(sealer.position(), 7);
        assert_eq!(sealer.commands, vec![CommandId(Uuid::from_u128(1)), CommandId(Uuid::from_u128(2))]);
        assert_eq!(sealer.order, vec![AggregateKey::Client(client())], "one snapshot for three events");
        let mut previous = [9; 32];
        for (event, position) in sealer.batch.events.iter().zip(5..) {
            assert_eq!(event.position, position);
            assert_eq!(event.hash, chain::hash(&previous, event));
            assert_eq!(event.recorded_at, Timestamp::from_micros(2_000));
            previous = event.hash;
        }
        assert_eq!(sealer.head.hash, previous);
        assert_eq!(
            sealer.batch.events[0].metadata,
            r#"{"actor":"ops","role":"super_admin","command_id":"00000000-0000-0000-0000-000000000001"}"#
        );
    }

    #[test]
    fn a_clock_that_stands_behind_the_log_does_not_turn_it_back() {
        let sealer = Sealer::new(head(), Timestamp::from_micros(500));
        assert_eq!(sealer.now(), Timestamp::from_micros(1_000));
    }

    #[test]
    fn an_event_that_does_not_follow_the_head_is_never_sealed() {
        let mut sealer = Sealer::new(head(), Timestamp::from_micros(2_000));
        assert!(sealer.seal(&envelope(1), &events([6])).is_err());
        assert!(!sealer.has_changes());
    }

    #[test]
    fn a_command_without_events_leaves_nothing_to_commit() {
        let mut sealer = Sealer::new(head(), Timestamp::from_micros(2_000));
        sealer.seal(&envelope(1), &events([])).expect("sealed");
        let sealed = Sealed { batch: sealer.batch, head: sealer.head, commands: sealer.commands, touched: Vec::new() };
        assert!(sealed.is_empty());
        assert!(sealed.commands.is_empty());
    }
}
