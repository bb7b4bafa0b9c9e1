//! Personal data beside the log: each client's row has the hash that its last event carries, and a forgotten one has no row.

use std::collections::HashSet;

use aggregates::client::ClientDetails;
use aggregates::primitives::{ClientId, Text};
use rusqlite::Row;

use super::VerifyError;
use super::findings::{Check, Findings};
use super::log::{Snapshot, bytes, lossy};
use super::states::States;

/// Compares the side table with the clients' states. What it tells never holds a client's data, only hashes.
pub(super) fn compare(states: &States, store: &Snapshot, findings: &mut Findings) -> Result<(), VerifyError> {
    let mut seen: HashSet<ClientId> = HashSet::new();
    store.rows("select client_id, salt, name, email, metadata from personal_data", |row| {
        let id = lossy(row, 0)?;
        let client = id.parse::<ClientId>().ok();
        seen.extend(client);
        let folded = client.and_then(|client| states.clients.get(&client));
        let expected = folded.and_then(|folded| folded.state.details_hash.clone());
        let found = details(row)?.map(|details| details.hash());
        let position = folded.map(|folded| folded.position);
        findings.holds(Check::PersonalData, position, expected.is_some() && expected == found, || {
            let expected = expected.unwrap_or_else(|| "no row: it was forgotten, or never taken on".to_owned());
            (format!("details of client {id}"), expected, found.unwrap_or_else(|| "unreadable details".to_owned()))
        });
        Ok(())
    })?;
    let missing =
        states.clients.iter().filter(|(id, folded)| folded.state.details_hash.is_some() && !seen.contains(*id));
    if let Some((id, folded)) = missing.min_by_key(|(_, folded)| folded.position) {
        findings.holds(Check::PersonalData, folded.position, false, || {
            let expected = folded.state.details_hash.clone().unwrap_or_default();
            (format!("details of client {id}"), expected, "no row".to_owned())
        });
    }
    Ok(())
}

fn details(row: &Row<'_>) -> Result<Option<ClientDetails>, VerifyError> {
    let email = match row.get_ref(3)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(lossy(row, 3)?),
    };
    let (salt, name) = (lossy(row, 1)?, lossy(row, 2)?);
    let metadata = serde_json::from_slice(bytes(row, 4)?);
    Ok((|| {
        let email = email.map(Text::new).transpose().ok()?;
        Some(ClientDetails { salt, name: Text::new(name).ok()?, email, metadata: metadata.ok()? })
    })())
}
