//! Resellers: registration, approval, freezing, tiers, settings, prices and referral codes.

use std::collections::BTreeMap;

use super::{
    Authority, Code, Credit, Hundredths, Id, Naive, Preferences, Reference, Reseller, Role, Ruling, Source, Status,
    Tier, Who, denied, ensure, permit, refused, with_figures,
};

impl Naive {
    pub fn reseller(&self, id: Id) -> Option<&Reseller> {
        self.resellers.iter().find(|reseller| reseller.id == id)
    }

    fn reseller_mut(&mut self, id: Id) -> &mut Reseller {
        self.resellers.iter_mut().find(|reseller| reseller.id == id).expect("a reseller that is there")
    }

    /// A reseller and everybody above it, itself first.
    pub fn line(&self, id: Id) -> Vec<Id> {
        let mut line = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            line.push(id);
            next = self.reseller(id).and_then(|reseller| reseller.parent);
        }
        line
    }

    pub fn frozen(&self, id: Id) -> bool {
        self.line(id).iter().any(|id| self.reseller(*id).is_some_and(|reseller| !reseller.freezes.is_empty()))
    }

    /// The reseller, where the actor may see it.
    pub(super) fn seen(&self, who: &Who, id: Id) -> Ruling<&Reseller> {
        let in_sight = match who.role {
            Role::Reseller => who.tenant.is_some_and(|tenant| self.line(id).contains(&tenant)),
            _ => true,
        };
        match self.reseller(id) {
            Some(reseller) if in_sight => Ok(reseller),
            _ => denied("not_found"),
        }
    }

    /// In sight, and the platform's alone to do.
    pub(super) fn only_platform(&self, who: &Who, id: Id) -> Ruling {
        self.seen(who, id)?;
        permit(who.role == Role::SuperAdmin)
    }

    pub(super) fn must_be_active(&self, id: Id) -> Ruling {
        ensure(self.reseller(id).is_some_and(|reseller| reseller.status == Status::Active), "reseller_inactive")
    }

    pub(super) fn must_not_be_frozen(&self, id: Id) -> Ruling {
        ensure(!self.frozen(id), "reseller_frozen")
    }

    fn user_is_taken(&self, user: Id) -> bool {
        self.resellers.iter().any(|reseller| reseller.user == user && reseller.user_taken)
    }

    pub(super) fn register(
        &mut self,
        who: &Who,
        id: Id,
        user: Id,
        parent: Option<Id>,
        code: Option<Id>,
        tier: Option<Tier>,
    ) -> Ruling {
        let by_platform = who.role == Role::SuperAdmin;
        if !by_platform {
            permit(who.role == Role::Reseller)?;
            let parent = parent.or(who.tenant).expect("a reseller's tenant");
            self.seen(who, parent)?;
            permit(who.tenant == Some(parent))?;
            permit(tier.is_none() && code.is_none())?;
        }
        ensure(parent.is_none() || code.is_none(), "invalid")?;
        let parent = if by_platform { parent } else { who.tenant };
        let referral = match code {
            Some(code) => match self.codes.iter().find(|known| known.id == code) {
                Some(code) => Some(code.clone()),
                None => return refused("referral_invalid"),
            },
            None => None,
        };
        let parent = referral.as_ref().map(|code| code.owner).or(parent);
        if let Some(parent) = parent {
            ensure(self.reseller(parent).is_some(), "not_found")?;
            self.must_be_active(parent)?;
            self.must_not_be_frozen(parent)?;
            if self.line(parent).len() > 64 {
                return with_figures("limit_exceeded", &[]);
            }
        }
        ensure(self.reseller(id).is_none(), "already_exists")?;
        if by_platform {
            ensure(!self.user_is_taken(user), "already_exists")?;
        }
        if let Some(code) = &referral {
            let owner = self.reseller(code.owner).expect("a code's owner");
            let usable = !code.revoked && code.uses < 100 && self.now < code.expires_at && owner.user != user;
            ensure(usable, "referral_invalid")?;
            self.codes.iter_mut().find(|known| known.id == code.id).expect("the code").uses += 1;
        }
        // What an upline registers is approved at once only where its user is free; else it waits like any other.
        let at_once =
            if by_platform { referral.is_none() } else { self.rules.auto_approve && !self.user_is_taken(user) };
        self.resellers.push(Reseller {
            id,
            user,
            user_taken: by_platform || at_once,
            parent,
            tier: tier.unwrap_or(self.rules.default_tier),
            status: if at_once { Status::Active } else { Status::Pending },
            freezes: Vec::new(),
            prices: BTreeMap::new(),
            auto_forward: BTreeMap::new(),
            margin: None,
            allow_withdraw: false,
            hold_on_low_credit: false,
            referred_by: referral.map(|code| code.id),
        });
        if self.rules.opens_wallets {
            self.put_wallet(id);
        }
        self.done.changed = true;
        Ok(())
    }

    pub(super) fn approve(&mut self, who: &Who, id: Id) -> Ruling {
        self.only_platform(who, id)?;
        let reseller = self.seen(who, id)?.clone();
        ensure(reseller.status == Status::Pending, "invalid_transition")?;
        if !reseller.user_taken {
            ensure(!self.user_is_taken(reseller.user), "already_exists")?;
        }
        let approved = self.reseller_mut(id);
        approved.status = Status::Active;
        approved.user_taken = true;
        self.done.changed = true;
        let code = reseller.referred_by.and_then(|code| self.codes.iter().find(|known| known.id == code)).cloned();
        let Some(code) = code else { return Ok(()) };
        let bonus = self.rules.referral_bonus;
        let earns = code.become_partner
            && bonus > 0
            && self.must_be_active(code.owner).is_ok()
            && !self.frozen(code.owner)
            && self.wallet(code.owner).is_some();
        if earns {
            self.issue(Credit {
                source: Source::Referral,
                reference: Some(Reference::Referral),
                wallet: code.owner,
                amount: bonus,
            })?;
        }
        Ok(())
    }

    pub(super) fn step_reseller(&mut self, who: &Who, id: Id, from: Status, to: Status) -> Ruling {
        self.only_platform(who, id)?;
        ensure(self.seen(who, id)?.status == from, "invalid_transition")?;
        self.reseller_mut(id).status = to;
        self.done.changed = true;
        Ok(())
    }

    /// In whose authority the actor lays and lifts freezes and holds on a reseller: the platform's, or an ancestor's.
    pub(super) fn authority_over(&self, who: &Who, id: Id) -> Ruling<Authority> {
        self.seen(who, id)?;
        match who.role {
            Role::SuperAdmin => Ok(Authority::Platform),
            Role::Reseller => {
                permit(who.tenant != Some(id))?;
                let actor = who.tenant.expect("a reseller's tenant");
                self.must_be_active(actor)?;
                Ok(Authority::Reseller(actor))
            }
            _ => denied("forbidden"),
        }
    }

    pub(super) fn may_lift(&self, mine: Authority, theirs: Authority) -> bool {
        match (mine, theirs) {
            (Authority::Platform, _) | (_, Authority::LowCreditPolicy) => true,
            (Authority::Reseller(mine), Authority::Reseller(theirs)) => self.line(theirs).contains(&mine),
            _ => false,
        }
    }

    fn the_frozen_do_neither(&self, authority: Authority) -> Ruling {
        match authority {
            Authority::Reseller(actor) => self.must_not_be_frozen(actor),
            _ => Ok(()),
        }
    }

    pub(super) fn freeze(&mut self, who: &Who, id: Id) -> Ruling {
        let authority = self.authority_over(who, id)?;
        self.the_frozen_do_neither(authority)?;
        let reseller = self.reseller_mut(id);
        if !reseller.freezes.contains(&authority) {
            reseller.freezes.push(authority);
            self.done.changed = true;
        }
        Ok(())
    }

    pub(super) fn unfreeze(&mut self, who: &Who, id: Id) -> Ruling {
        let authority = self.authority_over(who, id)?;
        self.the_frozen_do_neither(authority)?;
        let freezes = self.seen(who, id)?.freezes.clone();
        ensure(!freezes.is_empty(), "invalid_transition")?;
        let left: Vec<_> = freezes.iter().copied().filter(|theirs| !self.may_lift(authority, *theirs)).collect();
        permit(left.len() < freezes.len())?;
        self.reseller_mut(id).freezes = left;
        self.done.changed = true;
        Ok(())
    }

    pub(super) fn change_tier(&mut self, who: &Who, id: Id, tier: Tier) -> Ruling {
        self.only_platform(who, id)?;
        self.put_tier(id, tier);
        Ok(())
    }

    pub(super) fn put_tier(&mut self, id: Id, tier: Tier) {
        let reseller = self.reseller_mut(id);
        if reseller.tier != tier {
            reseller.tier = tier;
            self.done.changed = true;
        }
    }

    pub(super) fn change_settings(&mut self, who: &Who, id: Id, preferences: &Preferences) -> Ruling {
        self.seen(who, id)?;
        permit(who.role == Role::SuperAdmin || who.tenant == Some(id))?;
        permit(preferences.allow_withdraw.is_none() || who.tenant == Some(id))?;
        if who.tenant == Some(id) {
            self.must_be_active(id)?;
        }
        let reseller = self.reseller_mut(id);
        let before =
            (reseller.auto_forward.clone(), reseller.margin, reseller.allow_withdraw, reseller.hold_on_low_credit);
        reseller.auto_forward.extend(preferences.auto_forward.iter().copied());
        reseller.margin = preferences.margin.unwrap_or(reseller.margin);
        reseller.allow_withdraw = preferences.allow_withdraw.unwrap_or(reseller.allow_withdraw);
        reseller.hold_on_low_credit = preferences.hold_on_low_credit.unwrap_or(reseller.hold_on_low_credit);
        let after =
            (reseller.auto_forward.clone(), reseller.margin, reseller.allow_withdraw, reseller.hold_on_low_credit);
        self.done.changed |= before != after;
        if let Some(threshold) = preferences.threshold {
            self.must_have_wallet(id)?;
            self.put_threshold(who, id, threshold)?;
        }
        Ok(())
    }

    fn may_price(&self, who: &Who, id: Id) -> Ruling {
        let parent = self.seen(who, id)?.parent;
        permit(match who.role {
            Role::SuperAdmin => parent.is_none(),
            _ => parent.is_some() && parent == who.tenant,
        })?;
        parent.map_or(Ok(()), |parent| self.must_be_active(parent))
    }

    pub(super) fn set_price(&mut self, who: &Who, id: Id, product: Id, cost: i64) -> Ruling {
        self.may_price(who, id)?;
        self.put_price(id, product, cost)
    }

    pub(super) fn put_price(&mut self, id: Id, product: Id, cost: i64) -> Ruling {
        let Some(product) = self.product(product).cloned() else { return refused("not_found") };
        ensure(!product.retired, "product_retired")?;
        let own = match self.reseller(id).and_then(|reseller| reseller.parent) {
            Some(parent) => self.unit_cost(parent, &product).0,
            None => 0,
        };
        let least = ceiling_percent(own, 10_000 + product.terms.minimum_margin);
        let most = product.terms.base_cost * self.rules.max_child_price / 10_000;
        if cost < least || cost > most {
            return with_figures("limit_exceeded", &[least, most]);
        }
        let former = self.reseller_mut(id).prices.insert(product.id, cost);
        self.done.changed |= former != Some(cost);
        Ok(())
    }

    pub(super) fn clear_price(&mut self, who: &Who, id: Id, product: Id) -> Ruling {
        self.may_price(who, id)?;
        let former = self.reseller_mut(id).prices.remove(&product);
        ensure(former.is_some(), "not_found")?;
        self.done.changed = true;
        Ok(())
    }

    pub(super) fn put_code(&mut self, id: Id, owner: Id, become_partner: bool) -> Ruling {
        ensure(self.codes.iter().all(|code| code.id != id), "already_exists")?;
        let expires_at = self.now + 90 * 86_400;
        self.codes.push(Code { id, owner, become_partner, uses: 0, expires_at, revoked: false });
        self.done.changed = true;
        Ok(())
    }

    pub(super) fn revoke_code(&mut self, who: &Who, id: Id, code: Id) -> Ruling {
        self.seen(who, id)?;
        permit(who.role == Role::SuperAdmin || who.tenant == Some(id))?;
        let Some(code) = self.codes.iter_mut().find(|known| known.id == code && known.owner == id) else {
            return refused("not_found");
        };
        ensure(!code.revoked, "invalid_transition")?;
        code.revoked = true;
        self.done.changed = true;
        Ok(())
    }
}

/// ⌈amount × percent⌉.
pub(super) fn ceiling_percent(amount: i64, percent: Hundredths) -> i64 {
    let exact = i128::from(amount) * i128::from(percent);
    i64::try_from((exact + 9_999) / 10_000).expect("a small amount")
}
