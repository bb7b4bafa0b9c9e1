//! Personal data beside the log: each client's row has the hash that its last event carries, and a forgotten one has no row.
//!
//! Memory: a hash per client.

use aggregates::client::{Client, ClientDetails};
use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{ClientId, Text};
use projections::sql::Value;
use serde::{Deserialize, Serialize};

use super::VerifyError;
use super::examined::Examined;
use super::findings::{Check, Findings};
use super::map::Map;
use super::reading::{Store, bytes, text};

/// A client, as far as its data goes.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// Of its data; none once forgotten.
    hash: Option<Box<str>>,
    /// Of its last event.
    position: i64,
    /// Whether its row was found.
    #[serde(skip)]
    is_found: bool,
}

/// All clients.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PersonalData {
    clients: Map<ClientId, Known>,
}

impl PersonalData {
    pub(super) fn follow(&mut self, examined: &Examined<'_>) {
        let (AggregateKey::Client(id), Event::Client(event)) = (examined.key, examined.event) else { return };
        let known = self.clients.entry(*id).or_default();
        // The domain's own fold, for the one thing that is kept of it.
        let mut client = Client { details_hash: known.hash.take().map(String::from), ..Client::default() };
        client.fold(event);
        known.hash = client.details_hash.map(String::into_boxed_str);
        known.position = examined.position;
    }

    /// Compares the side table. What it tells never holds a client's data, only hashes.
    pub(super) fn compare(mut self, store: &mut dyn Store, findings: &mut Findings) -> Result<(), VerifyError> {
        let sql = "select client_id, salt, name, email, metadata from ledger.personal_data";
        store.rows(sql, Vec::new(), &mut |row| {
            let mut values = row.values()?.into_iter();
            let id = text(values.next());
            let known = id.parse::<ClientId>().ok().and_then(|client| self.clients.get_mut(&client));
            let (expected, position) = match known {
                Some(known) => {
                    known.is_found = true;
                    (known.hash.as_deref().map(str::to_owned), Some(known.position))
                }
                None => (None, None),
            };
            let found = details(&mut values).map(|details| details.hash());
            findings.holds(Check::PersonalData, position, expected.is_some() && expected == found, || {
                let expected = expected.unwrap_or_else(|| "no row: it was forgotten, or never taken on".to_owned());
                (format!("details of client {id}"), expected, found.unwrap_or_else(|| "unreadable details".to_owned()))
            });
            Ok(true)
        })?;
        let missing = self.clients.iter().filter(|(_, known)| known.hash.is_some() && !known.is_found);
        if let Some((id, known)) = missing.min_by_key(|(_, known)| known.position) {
            findings.holds(Check::PersonalData, known.position, false, || {
                let expected = known.hash.as_deref().unwrap_or_default().to_owned();
                (format!("details of client {id}"), expected, "no row".to_owned())
            });
        }
        Ok(())
    }
}

fn details(values: &mut impl Iterator<Item = Value>) -> Option<ClientDetails> {
    let (salt, name) = (text(values.next()), text(values.next()));
    let email = values.next().filter(|email| *email != Value::Null).map(|email| Text::new(text(Some(email))));
    let metadata = serde_json::from_slice(&bytes(values.next()));
    Some(ClientDetails { salt, name: Text::new(name).ok()?, email: email.transpose().ok()?, metadata: metadata.ok()? })
}
