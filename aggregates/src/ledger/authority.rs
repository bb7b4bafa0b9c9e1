//! Who may: the actor's standing towards a reseller, and what it may lay or lift in its own name.
//!
//! Whatever lies outside an actor's sight is denied as what does not exist; what it sees but may not do is `forbidden`. Both
//! are [`Denial`]s: turned away, not remembered.

use crate::primitives::{Authority, ResellerId, ResellerStatus, Role};
use crate::rejection::{Denial, Rejection};

use super::draft::{Decided, Draft};

/// Where an actor stands towards a reseller that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The operator.
    Platform,
    /// The reseller itself.
    Itself(ResellerId),
    /// Its direct parent.
    Parent(ResellerId),
    /// An ancestor further up.
    Ancestor(ResellerId),
    /// The payment system.
    Payments,
}

pub(super) fn forbidden(detail: &str) -> Denial {
    Denial::Forbidden { detail: detail.into() }
}

pub(super) fn unseen(what: &str) -> Denial {
    Denial::NotFound { what: what.into() }
}

impl Draft<'_> {
    /// The actor's standing towards a reseller; `what` is what the command names (`reseller`, `wallet` …).
    pub(super) fn standing(&self, reseller: ResellerId, what: &str) -> Decided<Standing> {
        let actor = self.actor();
        let exists = self.network().get(reseller).is_some();
        match (actor.role, actor.tenant) {
            (Role::SuperAdmin, _) if exists => Ok(Standing::Platform),
            (Role::Payments, _) if exists => Ok(Standing::Payments),
            (Role::Reseller, Some(tenant)) if exists && tenant == reseller => Ok(Standing::Itself(tenant)),
            (Role::Reseller, Some(tenant)) if exists => {
                let mut ancestors = self.network().ancestors(reseller);
                match ancestors.position(|(ancestor, _)| ancestor == tenant) {
                    Some(0) => Ok(Standing::Parent(tenant)),
                    Some(_) => Ok(Standing::Ancestor(tenant)),
                    None => Err(unseen(what).into()),
                }
            }
            (Role::Auditor | Role::Finance, _) => {
                Err(forbidden("auditors and finance read; they change nobody's credits").into())
            }
            _ => Err(unseen(what).into()),
        }
    }

    /// The operator, or nobody.
    pub(super) fn platform_only(&self) -> Decided<()> {
        if self.actor().is_platform() { Ok(()) } else { Err(forbidden("this is the platform's to do").into()) }
    }

    /// The operator towards a reseller that it names, or nobody: what the actor cannot see stays unseen.
    pub(super) fn platform_only_towards(&self, reseller: ResellerId, what: &str) -> Decided<()> {
        match self.standing(reseller, what)? {
            Standing::Platform => Ok(()),
            _ => Err(forbidden("this is the platform's to do").into()),
        }
    }

    /// The reseller itself or the operator, or nobody.
    pub(super) fn itself_or_platform(&self, reseller: ResellerId, what: &str) -> Decided<Standing> {
        match self.standing(reseller, what)? {
            standing @ (Standing::Platform | Standing::Itself(_)) => Ok(standing),
            _ => Err(forbidden("this is the reseller's own, or the platform's, to do").into()),
        }
    }

    /// In whose name the actor lays a freeze or a hold on a reseller: the operator's or an active ancestor's. Nobody lays one
    /// on itself.
    pub(super) fn authority_over(&self, reseller: ResellerId, what: &str) -> Decided<Authority> {
        match self.standing(reseller, what)? {
            Standing::Platform => Ok(Authority::Platform),
            Standing::Parent(tenant) | Standing::Ancestor(tenant) => {
                self.check_active(tenant)?;
                Ok(Authority::Reseller(tenant))
            }
            Standing::Itself(_) | Standing::Payments => {
                Err(forbidden("this is for the platform or the upline to do").into())
            }
        }
    }

    /// Of some freezes or holds those that `by` may lift.
    ///
    /// Stops with `forbidden` where only higher ones stand, `invalid_transition` where there is none.
    pub(super) fn liftable(
        &self,
        by: Authority,
        laid: impl IntoIterator<Item = Authority>,
        refusal: Rejection,
    ) -> Decided<Vec<Authority>> {
        let laid: Vec<Authority> = laid.into_iter().collect();
        if laid.is_empty() {
            return Err(refusal.into());
        }
        let liftable: Vec<Authority> =
            laid.into_iter().filter(|authority| self.network().outranks(by, *authority)).collect();
        if liftable.is_empty() {
            return Err(forbidden("only the authority that laid it, or a higher one, lifts it").into());
        }
        Ok(liftable)
    }

    /// Refuses unless the reseller is in business.
    pub(super) fn check_active(&self, reseller: ResellerId) -> Decided<()> {
        match self.network().get(reseller) {
            Some(node) if node.status == ResellerStatus::Active => Ok(()),
            Some(node) => Err(Rejection::ResellerInactive { reseller, status: node.status }.into()),
            None => Err(Rejection::not_found("reseller").into()),
        }
    }

    /// Refuses where the reseller or an ancestor is frozen.
    pub(super) fn check_unfrozen(&self, reseller: ResellerId) -> Decided<()> {
        match self.network().highest(self.network().freezes_over(reseller)) {
            None => Ok(()),
            Some(authority) => {
                let frozen_by = self.network().seen_by(self.actor().tenant, authority);
                Err(Rejection::ResellerFrozen { frozen_by }.into())
            }
        }
    }
}
