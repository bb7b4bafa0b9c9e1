//! I9, facts: the keyed table rebuilt from the log and compared, value and position, row by row; what is left over is missing.
//!
//! Provisions are kept by [`super::provisions`], which compares them itself where `index.db` has them: then none may be in the
//! table. The other kinds are folded here by the domain's own fold. Of those only digests
//! are kept, of key and value: an event says all of its fact, so what the fact should be is read again where it is not that.
//! Memory: some 50 bytes per purchase, reseller and referral code.

use aggregates::event::{AggregateKey, DecodeError, Event};
use aggregates::facts::{self, Fact, FactKey};
use aggregates::wallet::WalletEvent;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::VerifyError;
use super::examined::{Examined, decode};
use super::findings::{Check, Findings};
use super::half::Half;
use super::map::Map;
use super::provisions::Provisions;
use super::reading::{Chunk, Store, bytes, number, text};

fn of_key(key: &FactKey) -> Half {
    Half::of(&[key.kind().as_bytes(), b"\n", key.key().as_bytes()])
}

fn of_value(fact: &Fact) -> Half {
    Half::of(&[&serde_json::to_vec(fact).unwrap_or_default()])
}

/// A fact that one event made.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    value: Half,
    /// Of that event.
    position: i64,
    /// Whether it was found in the table.
    #[serde(skip)]
    is_found: bool,
}

/// Every fact that is not a provision.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    facts: Map<Half, Known>,
    /// What many events have made, and the last of them.
    #[serde(deserialize_with = "totals")]
    totals: Option<(Fact, i64)>,
}

/// A value says of which kind it is only beside its key.
fn totals<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(Fact, i64)>, D::Error> {
    let written = Option::<(Box<RawValue>, i64)>::deserialize(deserializer)?;
    let read = written.map(|(fact, position)| Ok((FactKey::Totals.decode(fact.get())?, position)));
    read.transpose().map_err(|error: DecodeError| serde::de::Error::custom(error))
}

impl Facts {
    pub(super) fn follow(&mut self, examined: &Examined<'_>) {
        let totals = self.totals.take();
        let made: Vec<_> = made_by(examined.key, examined.event, examined.position, totals.as_ref()).collect();
        self.totals = totals;
        for (key, fact) in made {
            if key == FactKey::Totals {
                self.totals = Some((fact, examined.position));
            } else {
                let known = Known { value: of_value(&fact), position: examined.position, is_found: false };
                self.facts.insert(of_key(&key), known);
            }
        }
    }

    /// Where the event stands that made this fact.
    pub(super) fn position(&self, key: &FactKey) -> Option<i64> {
        self.facts.get(&of_key(key)).map(|known| known.position)
    }

    /// Compares the table.
    pub(super) fn compare(
        mut self,
        provisions: &Provisions,
        store: &mut dyn Store,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        let has_provisions = !store.is_indexed();
        let mut found_provisions = vec![false; provisions.len()];
        let mut found_totals = false;
        // What was found and what should be told of it: the first, in the order of the table.
        let mut first: Option<(String, String, i64, i64)> = None;
        let sql = "select kind, key, value, position from ledger.facts";
        store.rows(sql, Vec::new(), &mut |row| {
            let mut values = row.values()?.into_iter();
            let (kind, name, value) = (text(values.next()), text(values.next()), bytes(values.next()));
            let position = number(values.next())?;
            let key = FactKey::parse(&kind, &name).ok();
            let written = std::str::from_utf8(&value).unwrap_or_default();
            let found = key.as_ref().and_then(|key| key.decode(written).ok());
            let (is_right, expected) = match &key {
                Some(FactKey::Provision(_)) if !has_provisions => (false, None),
                Some(FactKey::Provision(id)) => {
                    if let Some(found) = provisions.place(id).and_then(|place| found_provisions.get_mut(place)) {
                        *found = true;
                    }
                    let expected = provisions.fact(id);
                    let is_right = expected.is_some() && expected == found.map(|fact| (fact, position));
                    (is_right, expected)
                }
                Some(FactKey::Totals) => {
                    found_totals = true;
                    let is_right = self.totals.is_some() && self.totals == found.map(|fact| (fact, position));
                    (is_right, self.totals.clone())
                }
                Some(key) => match self.facts.get_mut(&of_key(key)) {
                    Some(known) => {
                        known.is_found = true;
                        let is_right =
                            known.position == position && found.is_some_and(|fact| of_value(&fact) == known.value);
                        if !is_right && first.is_none() {
                            first = Some((kind.clone(), name.clone(), known.position, position));
                        }
                        (is_right, None)
                    }
                    None => (false, None),
                },
                None => (false, None),
            };
            findings.holds(Check::Facts, position, is_right, || {
                let found = format!("{} at {position}", String::from_utf8_lossy(&value));
                (format!("{kind} fact {name}"), expected.as_ref().map_or_else(|| "none".to_owned(), told), found)
            });
            Ok(true)
        })?;
        // What the event says that it should be is read where it is told first.
        if let Some((kind, name, made, position)) = first
            && let Some((_, fact)) =
                read_again(store, made)?.into_iter().find(|(key, _)| key.kind() == kind && key.key() == name)
        {
            findings.explain(Check::Facts, &format!("{kind} fact {name}"), position, told(&(fact, made)));
        }

        let mut missing = if has_provisions { provisions.first_missing(&found_provisions, i64::MAX) } else { None };
        if !found_totals && let Some(totals) = &self.totals {
            missing = missing.or(Some((FactKey::Totals, totals.clone())));
        }
        let lost = self.facts.iter().filter(|(_, known)| !known.is_found).min_by_key(|(_, known)| known.position);
        if let Some((half, known)) = lost
            && missing.as_ref().is_none_or(|(_, (_, position))| known.position < *position)
        {
            let made = read_again(store, known.position)?.into_iter().find(|(key, _)| of_key(key) == *half);
            missing = made.map(|(key, fact)| (key, (fact, known.position)));
        }
        if let Some((key, fact)) = missing {
            findings.holds(Check::Facts, fact.1, false, || {
                (format!("{} fact {}", key.kind(), key.key()), told(&fact), "no such fact".to_owned())
            });
        }
        provisions.compare_index(store, findings)
    }
}

/// The facts that an event makes, provisions left out.
fn made_by(
    key: &AggregateKey,
    event: &Event,
    position: i64,
    totals: Option<&(Fact, i64)>,
) -> impl Iterator<Item = (FactKey, Fact)> {
    let owner = match key {
        AggregateKey::Wallet(owner) | AggregateKey::Reseller(owner) => Some(*owner),
        _ => None,
    };
    let is_provision =
        matches!(event, Event::Wallet(WalletEvent::Provisioned { .. } | WalletEvent::ProvisionRefunded { .. }));
    let owner = owner.filter(|_| !is_provision);
    let keys = owner.map(|_| facts::keys(event)).unwrap_or_default();
    let position = u64::try_from(position).unwrap_or_default();
    keys.into_iter().filter_map(move |key| {
        let current = if key == FactKey::Totals { totals.map(|(fact, _)| fact) } else { None };
        let fact = facts::fold(&key, current, owner?, event, position)?;
        Some((key, fact))
    })
}

/// The facts that the event at a position makes.
fn read_again(store: &mut dyn Store, position: i64) -> Result<Vec<(FactKey, Fact)>, VerifyError> {
    let mut chunk = Chunk::default();
    store.events(position - 1, Some(position), &mut chunk)?;
    let read = chunk.events().next().and_then(|raw| decode(&raw).ok());
    Ok(read.map(|event| made_by(&event.key, &event.event, position, None).collect()).unwrap_or_default())
}

fn told((fact, position): &(Fact, i64)) -> String {
    format!("{} at {position}", serde_json::to_string(fact).unwrap_or_default())
}
