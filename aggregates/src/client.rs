//! The Client aggregate: for whom services are provisioned.
//!
//! A client's name, e-mail and metadata are personal data in a log that can never be deleted, so they are not in it: they
//! live in a side table beside the log, and an event carries only their salted SHA-256 ([`ClientDetails::hash`]). Forgetting a
//! client deletes the row, salt and all; the log still verifies.

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::primitives::{ClientId, ClientStatus, ResellerId, Text, Timestamp};
use crate::rejection::Rejection;

/// Personal data of a client, as the side table keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientDetails {
    /// 32 random hexadecimal digits, new with every change, so that equal details do not have equal hashes.
    pub salt: String,
    /// What the client is called.
    pub name: Text,
    /// Where it is written to.
    pub email: Option<Text>,
    /// Anything else, at most 64 KiB.
    pub metadata: Map<String, Value>,
}

impl ClientDetails {
    /// Lower-case hexadecimal SHA-256 of the details' JSON text (fields in the order above, metadata's keys sorted).
    #[must_use]
    pub fn hash(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What can be asked of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCommand {
    /// Take it on.
    Onboard {
        /// Its identity.
        client: ClientId,
        /// The reseller it belongs to.
        owner: ResellerId,
        /// Hash of its personal data.
        details_hash: String,
        /// When.
        now: Timestamp,
    },
    /// Its personal data changed.
    ChangeDetails {
        /// Hash of the new personal data.
        details_hash: String,
    },
    /// Let it be provisioned for.
    Activate,
    /// Stop it for a while.
    Suspend,
    /// Stop it for good.
    Deactivate,
    /// Give it to another reseller.
    Reassign {
        /// The reseller it belongs to from here on.
        owner: ResellerId,
    },
    /// Erase its personal data.
    Forget,
}

/// What has happened to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientEvent {
    /// It was taken on.
    ClientOnboarded {
        /// Its identity.
        client: ClientId,
        /// The reseller it belongs to.
        owner: ResellerId,
        /// Salted hash of its personal data.
        details_hash: String,
        /// When it was taken on.
        onboarded_at: Timestamp,
    },
    /// Its personal data changed.
    ClientDetailsChanged {
        /// Salted hash of the new personal data.
        details_hash: String,
    },
    /// It can be provisioned for.
    ClientActivated {},
    /// It was stopped for a while.
    ClientSuspended {},
    /// It was stopped for good.
    ClientDeactivated {},
    /// It was given to another reseller.
    ClientReassigned {
        /// Whose it was.
        from: ResellerId,
        /// Whose it is.
        to: ResellerId,
    },
    /// Its personal data was erased.
    ClientForgotten {},
}

crate::event::domain_event!(ClientEvent {
    ClientOnboarded,
    ClientDetailsChanged,
    ClientActivated,
    ClientSuspended,
    ClientDeactivated,
    ClientReassigned,
    ClientForgotten
});

/// A client. `owner` and `status` are `None` before it is onboarded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The reseller it belongs to.
    pub owner: Option<ResellerId>,
    /// Where it stands.
    pub status: Option<ClientStatus>,
    /// Salted hash of its personal data; `None` once forgotten.
    pub details_hash: Option<String>,
    /// When it was taken on.
    pub onboarded_at: Timestamp,
}

impl Client {
    /// # Errors
    /// `already_exists`, `not_found` or `invalid_transition`.
    pub fn decide(&self, command: &ClientCommand) -> Result<Vec<ClientEvent>, Rejection> {
        let (Some(status), Some(owner)) = (self.status, self.owner) else {
            return match command {
                ClientCommand::Onboard { client, owner, details_hash, now } => Ok(vec![ClientEvent::ClientOnboarded {
                    client: *client,
                    owner: *owner,
                    details_hash: details_hash.clone(),
                    onboarded_at: *now,
                }]),
                _ => Err(Rejection::not_found("client")),
            };
        };
        let refuse = |to| Err(Rejection::transition("the client", status, to));
        match (command, status) {
            (ClientCommand::Onboard { .. }, _) => Err(Rejection::AlreadyExists { what: "the client".into() }),
            (ClientCommand::ChangeDetails { .. }, ClientStatus::Forgotten) => refuse("changed"),
            (ClientCommand::ChangeDetails { details_hash }, _) => {
                Ok(vec![ClientEvent::ClientDetailsChanged { details_hash: details_hash.clone() }])
            }
            (ClientCommand::Activate, ClientStatus::Onboarded | ClientStatus::Suspended) => {
                Ok(vec![ClientEvent::ClientActivated {}])
            }
            (ClientCommand::Activate, _) => refuse("activated"),
            (ClientCommand::Suspend, ClientStatus::Active) => Ok(vec![ClientEvent::ClientSuspended {}]),
            (ClientCommand::Suspend, _) => refuse("suspended"),
            (ClientCommand::Deactivate, ClientStatus::Onboarded | ClientStatus::Active | ClientStatus::Suspended) => {
                Ok(vec![ClientEvent::ClientDeactivated {}])
            }
            (ClientCommand::Deactivate, _) => refuse("deactivated"),
            (ClientCommand::Reassign { .. }, ClientStatus::Forgotten) => refuse("reassigned"),
            (ClientCommand::Reassign { owner: to }, _) if *to == owner => Ok(Vec::new()),
            (ClientCommand::Reassign { owner: to }, _) => {
                Ok(vec![ClientEvent::ClientReassigned { from: owner, to: *to }])
            }
            (ClientCommand::Forget, ClientStatus::Forgotten) => refuse("forgotten"),
            (ClientCommand::Forget, _) => Ok(vec![ClientEvent::ClientForgotten {}]),
        }
    }

    /// Folds one event.
    pub fn fold(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::ClientOnboarded { owner, details_hash, onboarded_at, .. } => {
                self.onboarded_at = *onboarded_at;
                self.owner = Some(*owner);
                self.status = Some(ClientStatus::Onboarded);
                self.details_hash = Some(details_hash.clone());
            }
            ClientEvent::ClientDetailsChanged { details_hash } => self.details_hash = Some(details_hash.clone()),
            ClientEvent::ClientActivated {} => self.status = Some(ClientStatus::Active),
            ClientEvent::ClientSuspended {} => self.status = Some(ClientStatus::Suspended),
            ClientEvent::ClientDeactivated {} => self.status = Some(ClientStatus::Deactivated),
            ClientEvent::ClientReassigned { to, .. } => self.owner = Some(*to),
            ClientEvent::ClientForgotten {} => {
                self.status = Some(ClientStatus::Forgotten);
                self.details_hash = None;
            }
        }
    }
}

crate::event::cqrs_aggregate!(Client, "Client", ClientCommand, ClientEvent);

#[cfg(test)]
mod tests {
    use super::*;
    use cqrs_es::test::TestFramework;
    use uuid::Uuid;

    fn onboarded() -> Vec<ClientEvent> {
        vec![ClientEvent::ClientOnboarded {
            client: ClientId(Uuid::from_u128(1)),
            owner: ResellerId(Uuid::from_u128(2)),
            details_hash: "hash".into(),
            onboarded_at: Timestamp::default(),
        }]
    }

    #[test]
    fn only_a_suspended_or_new_client_can_be_activated() {
        TestFramework::<Client>::with(())
            .given(onboarded())
            .when(ClientCommand::Activate)
            .then_expect_events(vec![ClientEvent::ClientActivated {}]);
        let mut given = onboarded();
        given.push(ClientEvent::ClientDeactivated {});
        TestFramework::<Client>::with(())
            .given(given)
            .when(ClientCommand::Activate)
            .then_expect_error(Rejection::transition("the client", "deactivated", "activated"));
    }

    #[test]
    fn a_forgotten_client_keeps_no_hash_and_takes_no_new_details() {
        let mut given = onboarded();
        given.push(ClientEvent::ClientForgotten {});
        let mut client = Client::default();
        given.iter().for_each(|event| client.fold(event));
        assert_eq!(client.details_hash, None);
        TestFramework::<Client>::with(())
            .given(given)
            .when(ClientCommand::ChangeDetails { details_hash: "new".into() })
            .then_expect_error(Rejection::transition("the client", "forgotten", "changed"));
    }

    #[test]
    fn the_hash_of_personal_data_depends_on_its_salt() {
        let details = |salt: &str| ClientDetails {
            salt: salt.into(),
            name: Text::new("Acme Corp").expect("text"),
            email: None,
            metadata: Map::new(),
        };
        assert_ne!(details("a").hash(), details("b").hash());
        assert_eq!(details("a").hash().len(), 64);
    }
}
