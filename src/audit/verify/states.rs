//! I9, snapshots: the state of every aggregate folded from the log, and each snapshot compared with it.
//!
//! Memory: one state per aggregate, which is bounded. A snapshot that is missing or of another version is no violation,
//! because the store then replays; one that differs is what a decision would rest on.

use std::collections::HashMap;
use std::hash::Hash;

use aggregates::client::Client;
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::Platform;
use aggregates::primitives::{ClientId, RequestId, ResellerId, Sku};
use aggregates::product::Product;
use aggregates::reseller::Reseller;
use aggregates::upline_request::UplineRequest;
use aggregates::wallet::Wallet;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::VerifyError;
use super::examined::Examined;
use super::findings::{Check, Findings};
use super::log::{Snapshot, bytes, lossy};
use crate::store::STATE_VERSION;

/// A state after its last event.
#[derive(Debug, Default)]
pub(super) struct Folded<A> {
    pub(super) state: A,
    pub(super) sequence: i64,
    pub(super) position: i64,
}

type Shelf<Id, A> = HashMap<Id, Folded<A>>;

/// Every aggregate's state.
#[derive(Debug, Default)]
pub(super) struct States {
    platform: Shelf<(), Platform>,
    resellers: Shelf<ResellerId, Reseller>,
    pub(super) wallets: Shelf<ResellerId, Wallet>,
    requests: Shelf<RequestId, UplineRequest>,
    pub(super) clients: Shelf<ClientId, Client>,
    products: Shelf<Sku, Product>,
}

/// A row of the snapshots' table.
struct Row<'row> {
    sequence: i64,
    position: i64,
    payload: &'row [u8],
}

impl States {
    pub(super) fn follow(&mut self, examined: &Examined<'_>) {
        fn fold<Id: Hash + Eq + Clone, A: Default>(
            shelf: &mut Shelf<Id, A>,
            id: &Id,
            examined: &Examined<'_>,
            fold: impl FnOnce(&mut A),
        ) {
            let folded = match shelf.get_mut(id) {
                Some(folded) => folded,
                None => shelf.entry(id.clone()).or_default(),
            };
            folded.sequence = examined.sequence;
            folded.position = examined.position;
            fold(&mut folded.state);
        }
        match (examined.key, examined.event) {
            (AggregateKey::Platform, Event::Platform(event)) => {
                fold(&mut self.platform, &(), examined, |state| state.fold(event));
            }
            (AggregateKey::Reseller(id), Event::Reseller(event)) => {
                fold(&mut self.resellers, id, examined, |state| state.fold(event));
            }
            (AggregateKey::Wallet(id), Event::Wallet(event)) => {
                fold(&mut self.wallets, id, examined, |state| state.fold(event));
            }
            (AggregateKey::UplineRequest(id), Event::UplineRequest(event)) => {
                fold(&mut self.requests, id, examined, |state| state.fold(event));
            }
            (AggregateKey::Client(id), Event::Client(event)) => {
                fold(&mut self.clients, id, examined, |state| state.fold(event));
            }
            (AggregateKey::Product(sku), Event::Product(event)) => {
                fold(&mut self.products, sku, examined, |state| state.fold(event));
            }
            // The reader pairs key and event by aggregate type, so nothing else comes.
            _ => {}
        }
    }

    /// Compares every snapshot.
    pub(super) fn snapshots(&self, store: &Snapshot, last: i64, findings: &mut Findings) -> Result<(), VerifyError> {
        let (mut present, mut other_version) = (0_usize, 0_u64);
        let sql = "select aggregate_type, aggregate_id, last_sequence, payload, state_version, position from snapshots";
        store.rows(sql, |row| {
            present += 1;
            if row.get::<_, i64>(4)? != i64::from(STATE_VERSION) {
                other_version += 1;
                return Ok(());
            }
            let (aggregate_type, aggregate_id) = (lossy(row, 0)?, lossy(row, 1)?);
            let snapshot = Row { sequence: row.get(2)?, position: row.get(5)?, payload: bytes(row, 3)? };
            let difference = match AggregateKey::parse(&aggregate_type, &aggregate_id) {
                Ok(AggregateKey::Platform) => differs(self.platform.get(&()), &snapshot, last),
                Ok(AggregateKey::Reseller(id)) => differs(self.resellers.get(&id), &snapshot, last),
                Ok(AggregateKey::Wallet(id)) => differs(self.wallets.get(&id), &snapshot, last),
                Ok(AggregateKey::UplineRequest(id)) => differs(self.requests.get(&id), &snapshot, last),
                Ok(AggregateKey::Client(id)) => differs(self.clients.get(&id), &snapshot, last),
                Ok(AggregateKey::Product(sku)) => differs(self.products.get(&sku), &snapshot, last),
                Err(error) => Some(("a known aggregate".to_owned(), error.to_string())),
            };
            findings.holds(Check::Snapshots, snapshot.position, difference.is_none(), || {
                let (expected, found) = difference.unwrap_or_default();
                (format!("snapshot of {aggregate_type} {aggregate_id}"), expected, found)
            });
            Ok(())
        })?;
        let missing = self.count().saturating_sub(present);
        if missing > 0 || other_version > 0 {
            let note =
                format!("{missing} missing and {other_version} of another version, which the store replays instead");
            findings.note(Check::Snapshots, note);
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.platform.len()
            + self.resellers.len()
            + self.wallets.len()
            + self.requests.len()
            + self.clients.len()
            + self.products.len()
    }
}

/// What is expected and what is found, where a snapshot is not the state folded from the log.
fn differs<A>(folded: Option<&Folded<A>>, row: &Row<'_>, last: i64) -> Option<(String, String)>
where
    A: PartialEq + Serialize + DeserializeOwned,
{
    let Some(folded) = folded else {
        return Some(("no snapshot, for there is no event".to_owned(), format!("one of sequence {}", row.sequence)));
    };
    if row.sequence != folded.sequence {
        return Some((format!("sequence {}", folded.sequence), format!("sequence {}", row.sequence)));
    }
    if !(folded.position..=last).contains(&row.position) {
        return Some((format!("a position from {} to {last}", folded.position), row.position.to_string()));
    }
    let is_equal = serde_json::from_slice::<A>(row.payload).is_ok_and(|state| state == folded.state);
    (!is_equal).then(|| {
        let expected = serde_json::to_string(&folded.state).unwrap_or_default();
        (expected, String::from_utf8_lossy(row.payload).into_owned())
    })
}
