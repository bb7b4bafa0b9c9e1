//! Every provision, as far as refunds, receipts and facts must know it: kept small, because there are many.
//!
//! A server keeps its facts in a table; `index.db` keeps where the two events stand that a fact is the fold of, up to where it has
//! come: a provision that changed after that is remembered as it was then.
//!
//! Memory: some 90 bytes a provision and 24 a commission, and some 30 for each that changed after the index's end.

use aggregates::facts::{Fact, FactKey, ProvisionFact};
use aggregates::primitives::{Credits, ProvisionId, ResellerId};
use aggregates::wallet::Commission;
use projections::sql::Value;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::VerifyError;
use super::findings::{Check, Findings};
use super::map::Map;
use super::reading::{Store, bytes, number};
use crate::audit::anchor::hexadecimal;

/// A provision. Its commissions are those from `first_commission` on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Provisioned {
    pub(super) wallet: ResellerId,
    pub(super) paid: Credits,
    pub(super) refunded: Credits,
    /// Where it was made.
    made: i64,
    /// Where it last changed.
    pub(super) position: i64,
    first_commission: u32,
    commissions: u32,
}

/// Every provision by its id.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Provisions {
    places: Map<ProvisionId, u32>,
    provisions: Vec<Provisioned>,
    commissions: Vec<Commission>,
    /// Where the index ends, once that is known.
    #[serde(skip)]
    index_end: Option<i64>,
    /// Where those last changed up to there which changed after it as well.
    #[serde(skip)]
    then: Map<ProvisionId, i64>,
}

/// Where the events of a provision stand: the one that made it, and its last refund.
type Places = (i64, Option<i64>);

impl Provisions {
    /// Where the index ends. No event after that may have been taken in.
    pub(super) fn stop_index_at(&mut self, position: i64) {
        self.index_end = Some(position);
    }

    /// One of them last changed at `former`, and changes at a later position now.
    pub(super) fn changed(&mut self, id: ProvisionId, former: i64, position: i64) {
        if self.index_end.is_some_and(|end| former <= end && end < position) {
            self.then.insert(id, former);
        }
    }

    /// Where the index should have the events of the one of this id.
    fn indexed(&self, id: &ProvisionId) -> Option<Places> {
        let provision = self.get(id).filter(|provision| self.index_end.is_some_and(|end| provision.made <= end))?;
        let last = self.then.get(id).copied().unwrap_or(provision.position);
        Some((provision.made, (last != provision.made).then_some(last)))
    }

    /// Compares what the index has, where there is one.
    pub(super) fn compare_index(&self, store: &mut dyn Store, findings: &mut Findings) -> Result<(), VerifyError> {
        let Some(end) = self.index_end else { return Ok(()) };
        let mut marked = vec![false; self.len()];
        let sql = "select id, provisioned, refunded from log_index.provision_events";
        store.rows(sql, Vec::new(), &mut |row| {
            let mut values = row.values()?.into_iter();
            let (key, made) = (bytes(values.next()), number(values.next())?);
            let refunded = match values.next() {
                Some(Value::Null) => None,
                refunded => Some(number(refunded)?),
            };
            let id = Uuid::from_slice(&key).ok().map(ProvisionId);
            if let Some(place) = id.and_then(|id| self.place(&id)).and_then(|place| marked.get_mut(place)) {
                *place = true;
            }
            let (expected, found) = (id.and_then(|id| self.indexed(&id)), (made, refunded));
            findings.holds(Check::Facts, refunded.unwrap_or(made), expected == Some(found), || {
                let name = id.map_or_else(|| hexadecimal(&key), |id| id.to_string());
                (format!("provision fact {name}"), expected.map_or_else(|| "none".to_owned(), told), told(found))
            });
            Ok(true)
        })?;
        if let Some((FactKey::Provision(id), _)) = self.first_missing(&marked, end) {
            let expected = self.indexed(&id);
            findings.holds(Check::Facts, expected.map(|(made, _)| made), false, || {
                (format!("provision fact {id}"), expected.map(told).unwrap_or_default(), "no such fact".to_owned())
            });
        }
        findings.note(Check::Facts, format!("those of provisions, by the index: up to event {end}"));
        Ok(())
    }

    /// Takes one in; answers with the one that had its id before.
    pub(super) fn insert(
        &mut self,
        id: ProvisionId,
        wallet: ResellerId,
        (paid, commissions): (Credits, &[Commission]),
        position: i64,
    ) -> Option<Provisioned> {
        // There is no log with 2³² provisions that is held in memory anyhow.
        let place = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let provision = Provisioned {
            wallet,
            paid,
            refunded: 0,
            made: position,
            position,
            first_commission: place(self.commissions.len()),
            commissions: place(commissions.len()),
        };
        self.commissions.extend_from_slice(commissions);
        let former = self.places.insert(id, place(self.provisions.len()));
        self.provisions.push(provision);
        former.and_then(|former| self.provisions.get(former as usize).copied())
    }

    pub(super) fn get(&self, id: &ProvisionId) -> Option<&Provisioned> {
        self.provisions.get(*self.places.get(id)? as usize)
    }

    /// The one of this id, to be changed, and its commissions.
    pub(super) fn get_mut(&mut self, id: &ProvisionId) -> Option<(&mut Provisioned, &[Commission])> {
        let provision = self.provisions.get_mut(*self.places.get(id)? as usize)?;
        let first = provision.first_commission as usize;
        let commissions = self.commissions.get(first..first + provision.commissions as usize);
        Some((provision, commissions.unwrap_or_default()))
    }

    /// The fact of the one of this id, and where it last changed.
    pub(super) fn fact(&self, id: &ProvisionId) -> Option<(Fact, i64)> {
        let provision = self.get(id)?;
        let first = provision.first_commission as usize;
        let commissions = self.commissions.get(first..first + provision.commissions as usize)?.to_vec();
        let Provisioned { wallet, paid, refunded, position, .. } = *provision;
        Some((Fact::Provision(ProvisionFact { wallet, paid, refunded, commissions }), position))
    }

    /// How many places there are.
    pub(super) fn len(&self) -> usize {
        self.provisions.len()
    }

    /// The place of the one of this id.
    pub(super) fn place(&self, id: &ProvisionId) -> Option<usize> {
        self.places.get(id).map(|place| *place as usize)
    }

    /// The first of those made up to a position whose place is not marked, with its key.
    pub(super) fn first_missing(&self, marked: &[bool], until: i64) -> Option<(FactKey, (Fact, i64))> {
        let missing = self.places.iter().filter(|(_, place)| marked.get(**place as usize) != Some(&true));
        let missing = missing.filter_map(|(id, _)| Some((id, self.get(id)?)));
        let missing = missing.filter(|(_, provision)| provision.made <= until);
        let first = missing.min_by_key(|(_, provision)| provision.position)?.0;
        Some((FactKey::Provision(*first), self.fact(first)?))
    }
}

fn told((made, refunded): Places) -> String {
    let refunded =
        refunded.map_or_else(|| "not refunded".to_owned(), |refunded| format!("last refunded at {refunded}"));
    format!("made at {made}, {refunded}")
}
