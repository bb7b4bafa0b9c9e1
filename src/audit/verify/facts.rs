//! I9, facts: the keyed tables rebuilt from the log and compared, value and position, row by row; what is left over is missing.
//!
//! Provisions are many and are kept small, by [`super::pairs`]; the other kinds are folded here by the domain's own fold.
//! Memory: one entry per purchase, reseller and referral code.

use std::collections::HashMap;

use aggregates::event::{AggregateKey, Event};
use aggregates::facts::{self, Fact, FactKey, ProvisionFact};

use super::VerifyError;
use super::examined::Examined;
use super::findings::{Check, Findings};
use super::log::{Snapshot, bytes, lossy};
use super::pairs::{Provisioned, Provisions};

/// Every fact that is not a provision, with the position of the event that changed it last.
#[derive(Debug, Default)]
pub(super) struct Facts {
    facts: HashMap<FactKey, (Fact, i64)>,
}

impl Facts {
    pub(super) fn follow(&mut self, examined: &Examined<'_>) {
        let (AggregateKey::Wallet(owner) | AggregateKey::Reseller(owner)) = examined.key else { return };
        if matches!(
            examined.event,
            Event::Wallet(
                aggregates::wallet::WalletEvent::Provisioned { .. }
                    | aggregates::wallet::WalletEvent::ProvisionRefunded { .. }
            )
        ) {
            return;
        }
        let position = u64::try_from(examined.position).unwrap_or_default();
        for key in facts::keys(examined.event) {
            let current = self.facts.get(&key).map(|(fact, _)| fact);
            if let Some(fact) = facts::fold(&key, current, *owner, examined.event, position) {
                self.facts.insert(key, (fact, examined.position));
            }
        }
    }

    /// Compares the table. Uses up what was folded: each row takes its own out.
    pub(super) fn compare(
        mut self,
        mut provisions: Provisions,
        store: &Snapshot,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        store.rows("select kind, key, value, position from facts", |row| {
            let (kind, key): (String, String) = (lossy(row, 0)?, lossy(row, 1)?);
            let position: i64 = row.get(3)?;
            let value = bytes(row, 2)?;
            let expected = match FactKey::parse(&kind, &key) {
                Ok(FactKey::Provision(id)) => provisions.remove(&id).map(provision_fact),
                Ok(parsed) => self.facts.remove(&parsed),
                Err(_) => None,
            };
            let found = FactKey::parse(&kind, &key)
                .and_then(|key| key.decode(std::str::from_utf8(value).unwrap_or_default()))
                .ok()
                .map(|fact| (fact, position));
            findings.holds(Check::Facts, position, expected.is_some() && expected == found, || {
                let found = format!("{} at {position}", String::from_utf8_lossy(value));
                (format!("{kind} fact {key}"), expected.as_ref().map_or_else(|| "none".to_owned(), text), found)
            });
            Ok(())
        })?;
        let missing = provisions.into_iter().map(|(id, provision)| (FactKey::Provision(id), provision_fact(provision)));
        let first = missing.chain(self.facts).min_by_key(|(_, (_, position))| *position);
        if let Some((key, fact)) = first {
            findings.holds(Check::Facts, fact.1, false, || {
                (format!("{} fact {}", key.kind(), key.key()), text(&fact), "no such fact".to_owned())
            });
        }
        Ok(())
    }
}

fn provision_fact(provision: Provisioned) -> (Fact, i64) {
    let Provisioned { wallet, paid, refunded, commissions, position } = provision;
    (Fact::Provision(ProvisionFact { wallet, paid, refunded, commissions: commissions.into_vec() }), position)
}

fn text((fact, position): &(Fact, i64)) -> String {
    format!("{} at {position}", serde_json::to_string(fact).unwrap_or_default())
}
