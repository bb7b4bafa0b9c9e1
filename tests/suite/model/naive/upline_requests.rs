//! Upline requests: raised by a child, answered by whom they are addressed to.

use super::{
    Credit, Id, Kind, Naive, Reference, Request, RequestStatus, Role, Ruling, Source, Who, Wish, denied, ensure,
    permit, refused,
};

impl Naive {
    pub(super) fn raise(&mut self, who: &Who, id: Id, requester: Id, wish: Wish) -> Ruling {
        permit(who.role == Role::Reseller)?;
        if who.tenant != Some(requester) {
            return denied("not_found");
        }
        ensure(self.reseller(requester).is_some(), "not_found")?;
        self.must_be_active(requester)?;
        self.must_not_be_frozen(requester)?;
        match wish {
            Wish::TierUpgrade(tier) => {
                ensure(self.reseller(requester).is_some_and(|reseller| tier > reseller.tier), "invalid")?;
            }
            Wish::PriceChange { product, .. } => {
                let Some(product) = self.product(product) else { return refused("not_found") };
                ensure(!product.retired, "product_retired")?;
            }
            _ => {}
        }
        ensure(self.requests.iter().all(|request| request.id != id), "already_exists")?;
        let parent = self.reseller(requester).and_then(|reseller| reseller.parent);
        let expires_at = self.now + self.rules.expiry_days * 86_400;
        let mut asked = Vec::new();
        let addressee = self.settle(parent, wish.kind(), &mut asked);
        self.requests.push(Request {
            id,
            requester,
            raised_by: who.user,
            wish,
            addressee,
            asked,
            expires_at,
            status: RequestStatus::Pending,
        });
        self.done.changed = true;
        Ok(())
    }

    /// Where a request comes to rest that has reached `addressee`; whom it meets on its way is `asked`.
    fn settle(&self, addressee: Option<Id>, kind: Kind, asked: &mut Vec<Id>) -> Option<Id> {
        asked.extend(addressee);
        match kind {
            Kind::ReferralCode | Kind::TierUpgrade => None,
            Kind::PriceChange => addressee,
            Kind::CreditTopup | Kind::Generic => {
                let reseller = self.reseller(addressee?)?;
                let passes_on = reseller.auto_forward.get(&kind).copied().unwrap_or(false);
                if passes_on { self.settle(reseller.parent, kind, asked) } else { addressee }
            }
        }
    }

    fn seen_request(&self, who: &Who, id: Id) -> Ruling<Request> {
        let known = |id: &Id, request: &Request| *id == request.requester || request.asked.contains(id);
        match self.requests.iter().find(|request| request.id == id) {
            Some(request) if who.role == Role::SuperAdmin => Ok(request.clone()),
            Some(request) if who.tenant.is_some_and(|tenant| known(&tenant, request)) => Ok(request.clone()),
            _ => denied("not_found"),
        }
    }

    fn addressed_to(who: &Who, request: &Request) -> Ruling {
        permit(match request.addressee {
            Some(addressee) => who.role == Role::Reseller && who.tenant == Some(addressee),
            None => who.role == Role::SuperAdmin,
        })
    }

    fn request_mut(&mut self, id: Id) -> &mut Request {
        self.done.changed = true;
        self.requests.iter_mut().find(|request| request.id == id).expect("a request that is there")
    }

    pub(super) fn approve_request(&mut self, who: &Who, id: Id, code: Id) -> Ruling {
        let request = self.seen_request(who, id)?;
        Self::addressed_to(who, &request)?;
        permit(who.user != request.raised_by)?;
        let requester = request.requester;
        ensure(request.status == RequestStatus::Pending, "invalid_transition")?;
        self.must_be_active(requester)?;
        if let Some(addressee) = request.addressee {
            self.must_be_active(addressee)?;
        }
        match request.wish {
            Wish::CreditTopup(amount) => match request.addressee {
                Some(payer) => self.move_credits(payer, payer, requester, amount)?,
                None => {
                    self.must_have_wallet(requester)?;
                    let reference = Some(Reference::Request(id));
                    self.issue(Credit { source: Source::Purchase, reference, wallet: requester, amount })?;
                }
            },
            Wish::TierUpgrade(tier) => {
                let higher = self.reseller(requester).is_some_and(|reseller| tier > reseller.tier);
                ensure(higher, "invalid_transition")?;
                self.put_tier(requester, tier);
            }
            Wish::ReferralCode { become_partner } => self.put_code(code, requester, become_partner)?,
            Wish::PriceChange { product, cost } => self.put_price(requester, product, cost)?,
            Wish::Generic => {}
        }
        self.request_mut(id).status = RequestStatus::Completed;
        Ok(())
    }

    pub(super) fn decide_request(&mut self, who: &Who, id: Id, to: RequestStatus) -> Ruling {
        let request = self.seen_request(who, id)?;
        if to == RequestStatus::Cancelled {
            permit(who.tenant == Some(request.requester))?;
        } else {
            Self::addressed_to(who, &request)?;
        }
        ensure(request.status == RequestStatus::Pending, "invalid_transition")?;
        self.request_mut(id).status = to;
        Ok(())
    }

    pub(super) fn forward_request(&mut self, who: &Who, id: Id) -> Ruling {
        let request = self.seen_request(who, id)?;
        Self::addressed_to(who, &request)?;
        let kind = request.wish.kind();
        let Some(addressee) = request.addressee else { return refused("invalid_transition") };
        permit(kind != Kind::PriceChange)?;
        ensure(request.status == RequestStatus::Pending, "invalid_transition")?;
        let next = self.reseller(addressee).and_then(|reseller| reseller.parent);
        let mut asked = request.asked;
        let addressee = self.settle(next, kind, &mut asked);
        let request = self.request_mut(id);
        (request.addressee, request.asked) = (addressee, asked);
        Ok(())
    }

    pub(super) fn expire_request(&mut self, who: &Who, id: Id) -> Ruling {
        permit(who.role == Role::System || who.role == Role::SuperAdmin)?;
        let Some(request) = self.requests.iter().find(|request| request.id == id) else { return refused("not_found") };
        let due = request.status == RequestStatus::Pending && self.now >= request.expires_at;
        ensure(due, "invalid_transition")?;
        self.request_mut(id).status = RequestStatus::Expired;
        Ok(())
    }

    pub(super) fn fail_request(&mut self, who: &Who, id: Id) -> Ruling {
        permit(who.role == Role::System || who.role == Role::SuperAdmin)?;
        let Some(request) = self.requests.iter().find(|request| request.id == id) else { return refused("not_found") };
        let gone = self.must_be_active(request.requester).is_err();
        ensure(request.status == RequestStatus::Pending && gone, "invalid_transition")?;
        self.request_mut(id).status = RequestStatus::Failed;
        Ok(())
    }
}
