//! A decision in the making: what a command reads, and the events, facts and answers it leads to, laid over the ledger and
//! not yet part of it.
//!
//! Rules read through [`Draft::get`] and [`Draft::fact`], which see the command's own earlier events, and write through
//! [`Draft::order`], which lets the aggregate decide, folds its events and folds the facts they touch. What is not loaded
//! stops the decision with its keys.

use crate::answer::Answer;
use crate::client::ClientDetails;
use crate::command::{Command, CommandEnvelope, Idempotency};
use crate::event::{AggregateKey, Event, NewEvent};
use crate::facts::{self, Fact, FactKey};
use crate::network::Network;
use crate::platform::{Platform, Policy};
use crate::primitives::{Actor, ClientId, CommandId, ResellerId, Timestamp};
use crate::rejection::{Denial, Rejection};
use crate::wallet::{Wallet, WalletCommand, WalletDirective, WalletEvent};

use super::state::{Held, State, Versioned};
use super::{Accepted, Key, Ledger, Receipts, Remembered};

/// Why a decision did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    Refused(Rejection),
    Denied(Denial),
    Missing(Vec<Key>),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

pub(super) type Decided<T> = Result<T, Stop>;

/// A decision in the making.
pub(super) struct Draft<'a> {
    ledger: &'a Ledger,
    envelope: &'a CommandEnvelope,
    /// The time of the decision.
    pub(super) now: Timestamp,
    /// The receipts of a bulk's items.
    pub(super) receipts: &'a dyn Receipts,
    changes: State,
    pub(super) events: Vec<NewEvent>,
    fact_positions: Vec<(FactKey, u64)>,
    personal_data: Vec<(ClientId, Option<ClientDetails>)>,
    /// Receipts for a bulk's items.
    pub(super) item_receipts: Vec<(Idempotency, Remembered)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        ledger: &'a Ledger,
        envelope: &'a CommandEnvelope,
        now: Timestamp,
        receipts: &'a dyn Receipts,
    ) -> Self {
        Self {
            ledger,
            envelope,
            now,
            receipts,
            changes: State::default(),
            events: Vec::new(),
            fact_positions: Vec::new(),
            personal_data: Vec::new(),
            item_receipts: Vec::new(),
        }
    }

    pub(super) fn decide(&mut self, command: &Command) -> Decided<Answer> {
        match command {
            Command::SetPolicy(_) | Command::ClosePeriod(_) => self.decide_platform(command),
            Command::Register { .. }
            | Command::Approve { .. }
            | Command::Deactivate { .. }
            | Command::Reactivate { .. }
            | Command::Freeze { .. }
            | Command::Unfreeze { .. }
            | Command::ChangeTier { .. }
            | Command::Rename { .. }
            | Command::UpdateMetadata { .. }
            | Command::ChangeSettings { .. }
            | Command::SetPrice { .. }
            | Command::ClearPrice { .. }
            | Command::RevokeReferralCode { .. } => self.decide_reseller(command),
            Command::OpenWallet { .. }
            | Command::AddCredits { .. }
            | Command::RemoveCredits { .. }
            | Command::SetThreshold { .. }
            | Command::SetCreditLimit { .. }
            | Command::SetHold { .. } => self.decide_wallet(command),
            Command::Provision { wallet, order } => self.provision(*wallet, order),
            Command::ProvisionBulk { wallet, atomic, items } => self.provision_bulk(*wallet, *atomic, items),
            Command::Refund { wallet, provision_id, refund_id, amount, reason } => {
                self.refund(*wallet, *provision_id, *refund_id, *amount, reason.as_ref())
            }
            Command::Transfer { from, to, transfer_id, amount, note } => {
                self.transfer(*from, *to, *transfer_id, *amount, note.as_ref())
            }
            Command::OnboardClient { .. }
            | Command::ChangeClient { .. }
            | Command::StepClient { .. }
            | Command::ReassignClient { .. } => self.decide_client(command),
            Command::PublishProduct { .. } | Command::ReviseProduct { .. } | Command::RetireProduct { .. } => {
                self.decide_product(command)
            }
            Command::RaiseRequest { .. }
            | Command::ApproveRequest { .. }
            | Command::RejectRequest { .. }
            | Command::CancelRequest { .. }
            | Command::ForwardRequest { .. }
            | Command::ExpireRequest { .. }
            | Command::FailRequest { .. } => self.decide_upline_request(command),
        }
    }

    /// Who asks.
    pub(super) fn actor(&self) -> &'a Actor {
        &self.envelope.actor
    }

    /// By which command.
    pub(super) fn command_id(&self) -> CommandId {
        self.envelope.command_id
    }

    /// The tree, without this command's own changes.
    pub(super) fn network(&self) -> &'a Network {
        &self.ledger.network
    }

    /// The position of the last event, this command's own included.
    pub(super) fn position(&self) -> u64 {
        self.events.last().map_or(self.ledger.position, |event| event.position)
    }

    /// The policy in force.
    pub(super) fn policy(&self) -> Decided<&Policy> {
        Ok(&self.get::<Platform>(&())?.policy)
    }

    /// Stops unless all of these are loaded; so that a rule which can name several asks for all of them at once.
    pub(super) fn require(&self, keys: impl IntoIterator<Item = Key>) -> Decided<()> {
        let missing: Vec<Key> = keys.into_iter().filter(|key| !self.ledger.has(key)).collect();
        if missing.is_empty() { Ok(()) } else { Err(Stop::Missing(missing)) }
    }

    /// An aggregate's state after the command's own events so far.
    pub(super) fn get<A: Held>(&self, id: &A::Id) -> Decided<&A> {
        self.versioned::<A>(id).map(|versioned| &versioned.state)
    }

    /// The number of an aggregate's last event.
    pub(super) fn sequence<A: Held>(&self, id: &A::Id) -> Decided<u64> {
        self.versioned::<A>(id).map(|versioned| versioned.sequence)
    }

    fn versioned<A: Held>(&self, id: &A::Id) -> Decided<&Versioned<A>> {
        A::shelf(&self.changes)
            .get(id)
            .or_else(|| A::shelf(&self.ledger.state).get(id))
            .ok_or_else(|| Stop::Missing(vec![Key::Aggregate(A::key(id))]))
    }

    /// A fact after the command's own events so far.
    pub(super) fn fact(&self, key: &FactKey) -> Decided<Option<&Fact>> {
        self.changes
            .facts
            .get(key)
            .or_else(|| self.ledger.state.facts.get(key))
            .map(Option::as_ref)
            .ok_or_else(|| Stop::Missing(vec![Key::Fact(key.clone())]))
    }

    /// A client's personal data.
    pub(super) fn personal_data(&self, client: ClientId) -> Decided<Option<&ClientDetails>> {
        self.ledger
            .state
            .personal_data
            .get(&client)
            .map(Option::as_ref)
            .ok_or_else(|| Stop::Missing(vec![Key::PersonalData(client)]))
    }

    /// Puts a client's personal data beside the log, or erases it.
    pub(super) fn put_personal_data(&mut self, client: ClientId, details: Option<ClientDetails>) {
        self.changes.personal_data.insert(client, details.clone());
        self.personal_data.push((client, details));
    }

    /// Lets an aggregate decide and takes its events in. How many there were.
    pub(super) fn order<A: Held>(&mut self, id: &A::Id, command: &A::Command) -> Decided<usize>
    where
        A::Event: Clone,
    {
        let current = self.versioned::<A>(id)?;
        let events = current.state.decide(command)?;
        let count = events.len();
        if count == 0 {
            return Ok(0);
        }
        if !A::shelf(&self.changes).contains_key(id) {
            let copy = current.clone();
            A::shelf_mut(&mut self.changes).insert(id.clone(), copy);
        }
        for event in events {
            let sequence = match A::shelf_mut(&mut self.changes).get_mut(id) {
                Some(held) => {
                    held.state.fold(&event);
                    held.sequence += 1;
                    held.sequence
                }
                None => return Err(Stop::Missing(vec![Key::Aggregate(A::key(id))])),
            };
            self.record(A::key(id), sequence, A::event(event))?;
        }
        Ok(count)
    }

    /// Lets a wallet decide, with the one setting of its reseller that it must know: as this command has changed it, where it
    /// has, since a threshold that comes with new settings is judged by those.
    ///
    /// A changed setting by itself neither holds a wallet whose credit is low already nor lifts a hold; it counts for what makes
    /// credit low from here on.
    pub(super) fn order_wallet(&mut self, wallet: ResellerId, command: WalletCommand) -> Decided<usize> {
        let hold_on_low_credit = match self.changes.resellers.get(&wallet) {
            Some(changed) => changed.state.settings.hold_on_low_credit,
            None => self.network().get(wallet).is_some_and(|node| node.hold_on_low_credit),
        };
        self.order::<Wallet>(&wallet, &WalletDirective { command, hold_on_low_credit })
    }

    fn record(&mut self, key: AggregateKey, sequence: u64, event: Event) -> Decided<()> {
        let position = self.position() + 1;
        if let AggregateKey::Wallet(owner) | AggregateKey::Reseller(owner) = &key {
            for fact_key in facts::keys(&event) {
                // A provision's identity is new with it; any other fact builds on, or must not stand in, what is there.
                let is_new = matches!(event, Event::Wallet(WalletEvent::Provisioned { .. }));
                let current = if is_new { None } else { self.fact(&fact_key)? };
                if let Some(fact) = facts::fold(&fact_key, current, *owner, &event, position) {
                    self.changes.facts.insert(fact_key.clone(), Some(fact));
                    self.fact_positions.push((fact_key, position));
                }
            }
        }
        self.events.push(NewEvent { position, key, sequence, event });
        Ok(())
    }

    pub(super) fn finish(self, answer: Answer) -> Accepted {
        // The last position at which a fact changed is the one that counts; in log order, so that every node writes alike.
        let mut positions = self.fact_positions;
        if positions.len() > 1 {
            let last: hashbrown::HashMap<FactKey, u64> = positions.iter().cloned().collect();
            positions.retain(|(key, position)| last.get(key) == Some(position));
        }
        let facts = positions
            .into_iter()
            .filter_map(|(key, position)| {
                let fact = self.changes.facts.get(&key)?.clone()?;
                Some((key, fact, position))
            })
            .collect();
        Accepted {
            events: self.events,
            facts,
            personal_data: self.personal_data,
            answer,
            item_receipts: self.item_receipts,
            changes: self.changes,
        }
    }
}
