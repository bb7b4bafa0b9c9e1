//! Events as the log keeps them: the closed set of all aggregates' events, their identity, and their way to and from text.
//!
//! Payloads are what cqrs-es and postgres-es write: the aggregate's event enum, externally tagged (`{"CreditsAdded": {…}}`).
//! The format is reviewed: `event_format.json` holds a sample of every event, and a test compares. An event once written
//! stays loadable for ever: a change of shape takes a new version and an upcaster in [`upcasters`].

use std::fmt;

use cqrs_es::persist::{EventUpcaster, SerializedEvent};
use serde::{Deserialize, Serialize};

use crate::client::ClientEvent;
use crate::platform::PlatformEvent;
use crate::primitives::{Actor, ClientId, CommandId, RequestId, ResellerId, Sku, Timestamp};
use crate::product::ProductEvent;
use crate::reseller::ResellerEvent;
use crate::upline_request::UplineRequestEvent;
use crate::wallet::WalletEvent;

/// Implements `cqrs_es::Aggregate` by the aggregate's own `decide` and `fold`. `EventSink::write` applies before `handle` has
/// succeeded, so the rule stands in `decide(&self)`, which leaves nothing half done.
macro_rules! cqrs_aggregate {
    ($aggregate:ty, $type_name:literal, $command:ty, $event:ty) => {
        impl Aggregate for $aggregate {
            const TYPE: &'static str = $type_name;
            type Command = $command;
            type Event = $event;
            type Error = Rejection;
            type Services = ();

            async fn handle(&mut self, command: $command, (): &(), sink: &EventSink<Self>) -> Result<(), Rejection> {
                for event in self.decide(&command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: $event) {
                self.fold(&event);
            }
        }
    };
}
pub(crate) use cqrs_aggregate;

/// Names an aggregate's events as the log does: by their variants.
macro_rules! domain_event {
    ($event:ty { $($kind:ident),+ $(,)? }) => {
        impl DomainEvent for $event {
            fn event_type(&self) -> String {
                self.kind().to_owned()
            }
            fn event_version(&self) -> String {
                crate::event::EVENT_VERSION.to_owned()
            }
        }

        impl $event {
            /// Every event type of this aggregate, as the log names it.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($kind)),+];

            /// The event's type as the log names it.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind { .. } => stringify!($kind)),+
                }
            }
        }
    };
}
pub(crate) use domain_event;

/// The identity of one aggregate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AggregateKey {
    /// The one platform.
    Platform,
    /// A reseller.
    Reseller(ResellerId),
    /// A reseller's wallet.
    Wallet(ResellerId),
    /// An upline request.
    UplineRequest(RequestId),
    /// A client.
    Client(ClientId),
    /// A product.
    Product(Sku),
}

/// The `aggregate_id` of the one platform.
pub const PLATFORM_ID: &str = "platform";

impl AggregateKey {
    /// The type of a wallet, as the log names it.
    pub const WALLET: &'static str = "Wallet";

    /// The aggregate's type as the log names it.
    #[must_use]
    pub fn aggregate_type(&self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Reseller(_) => "Reseller",
            Self::Wallet(_) => Self::WALLET,
            Self::UplineRequest(_) => "UplineRequest",
            Self::Client(_) => "Client",
            Self::Product(_) => "Product",
        }
    }

    /// The aggregate's id as the log names it.
    #[must_use]
    pub fn aggregate_id(&self) -> String {
        match self {
            Self::Platform => PLATFORM_ID.to_owned(),
            Self::Reseller(id) | Self::Wallet(id) => id.to_string(),
            Self::UplineRequest(id) => id.to_string(),
            Self::Client(id) => id.to_string(),
            Self::Product(sku) => sku.to_string(),
        }
    }

    /// Reads the two texts back.
    ///
    /// # Errors
    /// [`DecodeError`] for an unknown type or an id of the wrong form.
    pub fn parse(aggregate_type: &str, aggregate_id: &str) -> Result<Self, DecodeError> {
        let malformed = |_| DecodeError::Malformed(format!("{aggregate_type} has the id {aggregate_id:?}"));
        Ok(match aggregate_type {
            "Platform" if aggregate_id == PLATFORM_ID => Self::Platform,
            "Platform" => {
                return Err(DecodeError::Malformed(format!("Platform has the id {aggregate_id:?}")));
            }
            "Reseller" => Self::Reseller(aggregate_id.parse().map_err(malformed)?),
            "Wallet" => Self::Wallet(aggregate_id.parse().map_err(malformed)?),
            "UplineRequest" => Self::UplineRequest(aggregate_id.parse().map_err(malformed)?),
            "Client" => Self::Client(aggregate_id.parse().map_err(malformed)?),
            "Product" => Self::Product(aggregate_id.parse().map_err(malformed)?),
            other => return Err(DecodeError::UnknownType(other.to_owned())),
        })
    }
}

impl fmt::Display for AggregateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.aggregate_type(), self.aggregate_id())
    }
}

/// Any event of any aggregate.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Of the platform.
    Platform(PlatformEvent),
    /// Of a reseller.
    Reseller(ResellerEvent),
    /// Of a wallet.
    Wallet(WalletEvent),
    /// Of an upline request.
    UplineRequest(UplineRequestEvent),
    /// Of a client.
    Client(ClientEvent),
    /// Of a product.
    Product(ProductEvent),
}

macro_rules! from_aggregate_events {
    ($($variant:ident($event:ty)),+ $(,)?) => {$(
        impl From<$event> for Event {
            fn from(event: $event) -> Self {
                Self::$variant(event)
            }
        }
    )+};
}
from_aggregate_events!(
    Platform(PlatformEvent),
    Reseller(ResellerEvent),
    Wallet(WalletEvent),
    UplineRequest(UplineRequestEvent),
    Client(ClientEvent),
    Product(ProductEvent),
);

/// The version that every event is written in today.
pub const EVENT_VERSION: &str = "1.0.0";

/// The upcasters that bring older events to today's shape, oldest first. None yet: every event is still at version 1.0.0.
#[must_use]
pub fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
    Vec::new()
}

/// Why an event could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer node may have written it.
    #[error("the event or aggregate type {0:?} is not known to this version of Tallytree")]
    UnknownType(String),
    /// The text is not an event.
    #[error("malformed event: {0}")]
    Malformed(String),
}

impl Event {
    /// The event's type as the log names it.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Platform(event) => event.kind(),
            Self::Reseller(event) => event.kind(),
            Self::Wallet(event) => event.kind(),
            Self::UplineRequest(event) => event.kind(),
            Self::Client(event) => event.kind(),
            Self::Product(event) => event.kind(),
        }
    }

    /// The payload's JSON text: hashed and stored as it is, never written a second time.
    ///
    /// # Errors
    /// What serde_json says; none of our types can fail, but money is not the place to assume.
    pub fn payload(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Platform(event) => serde_json::to_string(event),
            Self::Reseller(event) => serde_json::to_string(event),
            Self::Wallet(event) => serde_json::to_string(event),
            Self::UplineRequest(event) => serde_json::to_string(event),
            Self::Client(event) => serde_json::to_string(event),
            Self::Product(event) => serde_json::to_string(event),
        }
    }

    /// Reads an event from the log, upcasting it where it is older than today's shape.
    ///
    /// # Errors
    /// [`DecodeError::UnknownType`] for what a newer version may have written, [`DecodeError::Malformed`] for damage.
    pub fn decode(aggregate_type: &str, event_type: &str, version: &str, payload: &str) -> Result<Self, DecodeError> {
        if version == EVENT_VERSION {
            return Self::decode_current(aggregate_type, event_type, payload);
        }
        Self::decode_older(aggregate_type, event_type, version, payload, &upcasters())
    }

    fn decode_older(
        aggregate_type: &str,
        event_type: &str,
        version: &str,
        payload: &str,
        upcasters: &[Box<dyn EventUpcaster>],
    ) -> Result<Self, DecodeError> {
        let payload = serde_json::from_str(payload).map_err(|error| DecodeError::Malformed(error.to_string()))?;
        let stored = SerializedEvent::new(
            String::new(),
            0,
            aggregate_type.to_owned(),
            event_type.to_owned(),
            version.to_owned(),
            payload,
            serde_json::Value::Null,
        );
        let current = upcasters.iter().fold(stored, |event, upcaster| {
            if upcaster.can_upcast(&event.event_type, &event.event_version) { upcaster.upcast(event) } else { event }
        });
        if current.event_version != EVENT_VERSION {
            return Err(DecodeError::UnknownType(format!("{event_type} version {version}")));
        }
        Self::decode_current(aggregate_type, &current.event_type, &current.payload.to_string())
    }

    fn decode_current(aggregate_type: &str, event_type: &str, payload: &str) -> Result<Self, DecodeError> {
        fn read<'de, T>(kinds: &[&str], event_type: &str, payload: &'de str) -> Result<Event, DecodeError>
        where
            T: Deserialize<'de> + Into<Event>,
        {
            if !kinds.contains(&event_type) {
                return Err(DecodeError::UnknownType(event_type.to_owned()));
            }
            serde_json::from_str::<T>(payload)
                .map(Into::into)
                .map_err(|error| DecodeError::Malformed(format!("{event_type}: {error}")))
        }
        let event = match aggregate_type {
            "Platform" => read::<PlatformEvent>(PlatformEvent::KINDS, event_type, payload),
            "Reseller" => read::<ResellerEvent>(ResellerEvent::KINDS, event_type, payload),
            "Wallet" => read::<WalletEvent>(WalletEvent::KINDS, event_type, payload),
            "UplineRequest" => read::<UplineRequestEvent>(UplineRequestEvent::KINDS, event_type, payload),
            "Client" => read::<ClientEvent>(ClientEvent::KINDS, event_type, payload),
            "Product" => read::<ProductEvent>(ProductEvent::KINDS, event_type, payload),
            other => Err(DecodeError::UnknownType(other.to_owned())),
        }?;
        if event.event_type() == event_type {
            Ok(event)
        } else {
            Err(DecodeError::Malformed(format!("a {event_type} holds a {}", event.event_type())))
        }
    }
}

/// Who caused an event and by which command; a map of texts, as cqrs-es keeps metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventMetadata {
    /// The actor's id.
    pub actor: String,
    /// The actor's role.
    pub role: String,
    /// The tenant it acted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The command; all events of one command carry the same.
    pub command_id: String,
}

impl EventMetadata {
    /// The metadata of every event of one command.
    #[must_use]
    pub fn of(actor: &Actor, command_id: CommandId) -> Self {
        Self {
            actor: actor.id.to_string(),
            role: actor.role.word().to_owned(),
            tenant: actor.tenant.map(|tenant| tenant.to_string()),
            command_id: command_id.to_string(),
        }
    }
}

/// An event that a decision made, with its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its position in the log: 1, 2, 3 … without a gap.
    pub position: u64,
    /// Whose event it is.
    pub key: AggregateKey,
    /// Its number among the events of that aggregate: 1, 2, 3 …
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// An event read back from the log.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedEvent {
    /// Its position in the log.
    pub position: u64,
    /// Whose event it is.
    pub key: AggregateKey,
    /// Its number among the events of that aggregate.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
    /// Who caused it.
    pub metadata: EventMetadata,
    /// When; never decreasing with position.
    pub recorded_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use cqrs_es::persist::SemanticVersionEventUpcaster;
    use serde_json::json;

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let event = Event::Client(ClientEvent::ClientActivated {});
        let payload = event.payload().expect("payload");
        assert_eq!(payload, r#"{"ClientActivated":{}}"#);
        assert_eq!(Event::decode("Client", "ClientActivated", EVENT_VERSION, &payload), Ok(event));
    }

    #[test]
    fn an_unknown_event_is_told_from_a_damaged_one() {
        let unknown = Event::decode("Client", "ClientPromoted", EVENT_VERSION, r#"{"ClientPromoted":{}}"#);
        assert_eq!(unknown, Err(DecodeError::UnknownType("ClientPromoted".into())));
        let damaged = Event::decode("Client", "ClientActivated", EVENT_VERSION, r#"{"ClientActi"#);
        assert!(matches!(damaged, Err(DecodeError::Malformed(_))));
        let other = Event::decode("Client", "ClientActivated", EVENT_VERSION, r#"{"ClientSuspended":{}}"#);
        assert!(matches!(other, Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn an_older_event_is_brought_to_todays_shape_by_its_upcaster() {
        let upcast = SemanticVersionEventUpcaster::new(
            "ClientReassigned",
            EVENT_VERSION,
            Box::new(|_| {
                json!({"ClientReassigned": {
                "from": "00000000-0000-0000-0000-000000000001", "to": "00000000-0000-0000-0000-000000000002"}})
            }),
        );
        let upcasters: Vec<Box<dyn EventUpcaster>> = vec![Box::new(upcast)];
        let old = r#"{"ClientReassigned":{"owner":2}}"#;
        let event = Event::decode_older("Client", "ClientReassigned", "0.9", old, &upcasters);
        assert!(matches!(event, Ok(Event::Client(ClientEvent::ClientReassigned { .. }))), "{event:?}");
        let without = Event::decode("Client", "ClientReassigned", "0.9", old);
        assert!(matches!(without, Err(DecodeError::UnknownType(_))));
    }
}
