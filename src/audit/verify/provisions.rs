//! Every provision, as far as refunds, receipts and facts must know it: kept small, because there are many.
//!
//! Memory: some 80 bytes a provision and 24 a commission.

use aggregates::facts::{Fact, FactKey, ProvisionFact};
use aggregates::primitives::{Credits, ProvisionId, ResellerId};
use aggregates::wallet::Commission;
use serde::{Deserialize, Serialize};

use super::map::Map;

/// A provision. Its commissions are those from `first_commission` on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Provisioned {
    pub(super) wallet: ResellerId,
    pub(super) paid: Credits,
    pub(super) refunded: Credits,
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
}

impl Provisions {
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

    /// The first of those whose place is not marked, with its key.
    pub(super) fn first_missing(&self, marked: &[bool]) -> Option<(FactKey, (Fact, i64))> {
        let missing = self.places.iter().filter(|(_, place)| marked.get(**place as usize) != Some(&true));
        let first = missing.min_by_key(|(id, _)| self.get(id).map(|provision| provision.position))?.0;
        Some((FactKey::Provision(*first), self.fact(first)?))
    }
}
