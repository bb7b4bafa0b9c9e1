//! The tree in memory, lean: parents, tiers, statuses, freezes and prices of every reseller; no metadata, no names.
//!
//! Some 200 bytes a reseller. Freezes and unit costs are looked up by walking the ancestors (at most 64), so a freeze is one
//! entry on the frozen root however large its downline, and the very next look-up sees it.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::pricing::PricedReseller;
use crate::primitives::{Authority, Level, Percent, ResellerId, ResellerStatus, Sku, Tier};
use crate::rejection::{Above, SeenAuthority};
use crate::reseller::{Reseller, ResellerEvent, Settings};

/// One reseller, as far as the tree must know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its parent; `None` for a top-level reseller.
    pub parent: Option<ResellerId>,
    /// Number of ancestors.
    pub depth: u32,
    /// Its tier.
    pub tier: Tier,
    /// Where it stands.
    pub status: ResellerStatus,
    /// Whose freezes lie on it.
    pub freezes: Vec<Authority>,
    /// What its children pay above its own cost where no price is set for them.
    pub margin_percent: Option<Percent>,
    /// Whether its parent may take credits back.
    pub allow_withdraw: bool,
    /// Whether the low-credit policy holds its provisioning.
    pub hold_on_low_credit: bool,
    /// What its parent has set as its costs.
    pub prices: BTreeMap<Sku, Level>,
    /// The number of the last event of the reseller that is folded into this.
    pub sequence: u64,
}

/// The tree of all resellers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Network {
    nodes: HashMap<ResellerId, Node>,
}

impl Network {
    /// A reseller.
    #[must_use]
    pub fn get(&self, id: ResellerId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// How many resellers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no reseller.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Every reseller, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ResellerId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// The ancestors of a reseller, nearest first, itself excluded.
    pub fn ancestors(&self, id: ResellerId) -> impl Iterator<Item = (ResellerId, &Node)> {
        let mut next = self.nodes.get(&id).and_then(|node| node.parent);
        std::iter::from_fn(move || {
            let id = next?;
            let node = self.nodes.get(&id)?;
            next = node.parent;
            Some((id, node))
        })
    }

    /// Whether `above` is an ancestor of `below`. Nobody is its own ancestor.
    #[must_use]
    pub fn is_ancestor(&self, above: ResellerId, below: ResellerId) -> bool {
        self.ancestors(below).any(|(id, _)| id == above)
    }

    /// The freezes that stand over a reseller: its own and its ancestors'.
    pub fn freezes_over(&self, id: ResellerId) -> impl Iterator<Item = Authority> {
        let own = self.nodes.get(&id).into_iter().flat_map(|node| node.freezes.iter().copied());
        own.chain(self.ancestors(id).flat_map(|(_, node)| node.freezes.iter().copied()))
    }

    /// The highest authority of some: the platform, else the reseller nearest to the top.
    #[must_use]
    pub fn highest(&self, authorities: impl Iterator<Item = Authority>) -> Option<Authority> {
        authorities.min_by_key(|authority| match authority {
            Authority::Platform => (0, 0),
            Authority::Reseller(id) => (1, self.nodes.get(id).map_or(u32::MAX, |node| node.depth)),
            Authority::LowCreditPolicy => (2, 0),
        })
    }

    /// Whether `higher` may lift what `authority` has laid: its own, and whatever lies below it.
    #[must_use]
    pub fn outranks(&self, higher: Authority, authority: Authority) -> bool {
        match (higher, authority) {
            (Authority::Platform, _) | (_, Authority::LowCreditPolicy) => true,
            (Authority::Reseller(above), Authority::Reseller(below)) => {
                above == below || self.is_ancestor(above, below)
            }
            _ => false,
        }
    }

    /// An authority as a viewer may know it: by id inside its own subtree (`None` sees everything), else as `upline`.
    #[must_use]
    pub fn seen_by(&self, viewer: Option<ResellerId>, authority: Authority) -> SeenAuthority {
        match (authority, viewer) {
            (Authority::Platform, _) => SeenAuthority::Elsewhere(Above::Platform),
            (Authority::LowCreditPolicy, _) => SeenAuthority::Elsewhere(Above::LowCreditPolicy),
            (Authority::Reseller(id), None) => SeenAuthority::Reseller(id),
            (Authority::Reseller(id), Some(viewer)) if id == viewer || self.is_ancestor(viewer, id) => {
                SeenAuthority::Reseller(id)
            }
            (Authority::Reseller(_), Some(_)) => SeenAuthority::Elsewhere(Above::Upline),
        }
    }

    /// The line from the top down to a reseller, itself included, as pricing must know it. Without a SKU no price is set.
    #[must_use]
    pub fn line(&self, id: ResellerId, sku: Option<&Sku>) -> Vec<PricedReseller> {
        let own = self.nodes.get(&id).map(|node| (id, node));
        let mut line: Vec<PricedReseller> = own
            .into_iter()
            .chain(self.ancestors(id))
            .map(|(id, node)| PricedReseller {
                id,
                tier: node.tier,
                status: node.status,
                price: sku.and_then(|sku| node.prices.get(sku).copied()),
                margin_percent: node.margin_percent,
            })
            .collect();
        line.reverse();
        line
    }

    /// Takes a reseller in as its snapshot has it.
    pub fn enlist(&mut self, id: ResellerId, sequence: u64, reseller: &Reseller) {
        let Some(profile) = reseller.profile.as_deref().map(|profile| &profile.registration) else { return };
        let mut node = Node {
            parent: profile.parent,
            depth: profile.depth,
            tier: profile.tier,
            status: profile.status,
            freezes: reseller.freezes.iter().copied().collect(),
            margin_percent: None,
            allow_withdraw: false,
            hold_on_low_credit: false,
            prices: reseller.prices.clone(),
            sequence,
        };
        node.set(&reseller.settings);
        self.nodes.insert(id, node);
    }

    /// Folds an event of a reseller; what is not newer than what is known is ignored.
    pub fn fold(&mut self, id: ResellerId, sequence: u64, event: &ResellerEvent) {
        if let ResellerEvent::ResellerRegistered(_) = event {
            if !self.nodes.contains_key(&id) {
                let mut reseller = Reseller::default();
                reseller.fold(event);
                self.enlist(id, sequence, &reseller);
            }
            return;
        }
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.sequence < sequence) else { return };
        node.sequence = sequence;
        match event {
            ResellerEvent::ResellerApproved { .. } | ResellerEvent::ResellerReactivated { .. } => {
                node.status = ResellerStatus::Active;
            }
            ResellerEvent::ResellerDeactivated { .. } => node.status = ResellerStatus::Deactivated,
            ResellerEvent::TierChanged { to, .. } => node.tier = *to,
            ResellerEvent::SettingsChanged { settings } => node.set(settings),
            ResellerEvent::SubtreeFrozen { authority, .. } => {
                if !node.freezes.contains(authority) {
                    node.freezes.push(*authority);
                }
            }
            ResellerEvent::SubtreeUnfrozen { authority, .. } => node.freezes.retain(|laid| laid != authority),
            ResellerEvent::PriceSet { sku, cost, .. } => {
                node.prices.insert(sku.clone(), *cost);
            }
            ResellerEvent::PriceCleared { sku } => {
                node.prices.remove(sku);
            }
            ResellerEvent::ResellerRegistered(_)
            | ResellerEvent::ResellerRenamed { .. }
            | ResellerEvent::MetadataUpdated { .. }
            | ResellerEvent::ReferralCodeIssued { .. }
            | ResellerEvent::ReferralCodeRevoked { .. }
            | ResellerEvent::ReferralCompleted { .. } => {}
        }
    }
}

impl Node {
    fn set(&mut self, settings: &Settings) {
        self.margin_percent = settings.margin_percent;
        self.allow_withdraw = settings.allow_withdraw;
        self.hold_on_low_credit = settings.hold_on_low_credit;
    }
}
