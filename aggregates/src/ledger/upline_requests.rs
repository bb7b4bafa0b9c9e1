//! Upline requests: raising, passing on, and answering with the effect in the same commit.
//!
//! `tier_upgrade` and `referral_code` are completed by the platform alone, and raising passes them up at once; `price_change`
//! by the direct parent alone, and is never passed on; `credit_topup` and `generic` by whoever they are addressed to. Nobody
//! completes what the same user raised.
//!
//! A request is seen by its requester, by those of its line that it was put to, and by the platform; for the rest of the line
//! it does not exist.

use crate::answer::Answer;
use crate::command::Command;
use crate::event::AggregateKey;
use crate::facts::FactKey;
use crate::primitives::{
    Authority, CreditSource, Reference, ReferralCode, RequestId, RequestKind, RequestStatus, ResellerId, Role, Text,
    TransferId,
};
use crate::product::Product;
use crate::rejection::Rejection;
use crate::reseller::{REFERRAL_LIFETIME_SECONDS, Reseller, ResellerCommand};
use crate::upline_request::{Addressee, Ask, Outcome, Raised, UplineRequest, UplineRequestCommand};

use super::Key;
use super::authority::{forbidden, unseen};
use super::draft::{Decided, Draft};
use super::wallets::duplicate_reference;

const SECONDS_A_DAY: i64 = 86_400;
/// Why a request fails: the only reason there is.
const REQUESTER_GONE: &str = "the reseller that asked is no longer in business";

impl Draft<'_> {
    pub(super) fn decide_upline_request(&mut self, command: &Command) -> Decided<Answer> {
        let id = match command {
            Command::RaiseRequest { request, requester, ask } => {
                self.raise(*request, *requester, ask)?;
                *request
            }
            Command::ApproveRequest { request, transfer_id, code, note } => {
                self.complete(*request, *transfer_id, code, note.as_ref())?;
                *request
            }
            Command::RejectRequest { request, reason } => {
                self.addressed_request(*request)?;
                self.order::<UplineRequest>(request, &UplineRequestCommand::Reject(reason.clone()))?;
                *request
            }
            Command::CancelRequest { request } => {
                let requester = self.visible_request(*request)?.requester;
                if self.actor().tenant != Some(requester) {
                    return Err(forbidden("a request is taken back by who raised it").into());
                }
                self.order::<UplineRequest>(request, &UplineRequestCommand::Cancel)?;
                *request
            }
            Command::ForwardRequest { request } => {
                self.forward(*request)?;
                *request
            }
            Command::ExpireRequest { request } => {
                if !matches!(self.actor().role, Role::System | Role::SuperAdmin) {
                    return Err(forbidden("requests expire by policy").into());
                }
                self.order::<UplineRequest>(request, &UplineRequestCommand::Expire(self.now))?;
                *request
            }
            Command::FailRequest { request } => {
                self.fail(*request)?;
                *request
            }
            _ => return Err(Rejection::not_found("command").into()),
        };
        self.request_answer(id)
    }

    fn raise(&mut self, request: RequestId, requester: ResellerId, ask: &Ask) -> Decided<()> {
        if self.actor().role != Role::Reseller {
            return Err(forbidden("requests are raised by a reseller to its upline").into());
        }
        if self.actor().tenant != Some(requester) {
            return Err(unseen("reseller").into());
        }
        self.check_active(requester)?;
        self.check_unfrozen(requester)?;
        self.check_ask(requester, ask)?;
        let parent = self.network().get(requester).and_then(|node| node.parent);
        let addressed_to = parent.map_or(Addressee::Platform, Addressee::Reseller);
        let days = i64::from(self.policy()?.request_expiry_days);
        let raise = UplineRequestCommand::Raise {
            request,
            requester,
            raised_by: self.actor().id.clone(),
            ask: ask.clone(),
            addressed_to,
            expires_at: self.now.plus_seconds(days * SECONDS_A_DAY),
        };
        self.order::<UplineRequest>(&request, &raise)?;
        match ask.kind() {
            // Only the platform answers these: nobody in between is asked.
            RequestKind::ReferralCode | RequestKind::TierUpgrade if addressed_to != Addressee::Platform => {
                self.order::<UplineRequest>(&request, &UplineRequestCommand::Forward(Addressee::Platform))?;
                Ok(())
            }
            RequestKind::CreditTopup | RequestKind::Generic => self.auto_forward(request),
            RequestKind::ReferralCode | RequestKind::TierUpgrade | RequestKind::PriceChange => Ok(()),
        }
    }

    fn check_ask(&self, requester: ResellerId, ask: &Ask) -> Decided<()> {
        match ask {
            Ask::TierUpgrade { tier } => {
                let current = self.network().get(requester).map(|node| node.tier);
                if Some(*tier) <= current {
                    return Err(Rejection::invalid("/payload/tier", "must be higher than the present tier").into());
                }
            }
            Ask::PriceChange { sku, .. } => {
                self.get::<Product>(sku)?;
                self.product_on_sale(sku)?;
            }
            Ask::ReferralCode { .. } | Ask::CreditTopup { .. } | Ask::Generic { .. } => {}
        }
        Ok(())
    }

    /// Passes a request on for as long as its addressee's settings say so.
    fn auto_forward(&mut self, request: RequestId) -> Decided<()> {
        if let Some(raised) = &self.get::<UplineRequest>(&request)?.raised {
            let above = self.network().ancestors(raised.requester);
            self.require(above.map(|(id, _)| Key::Aggregate(AggregateKey::Reseller(id))))?;
        }
        loop {
            let Some(raised) = &self.get::<UplineRequest>(&request)?.raised else { return Ok(()) };
            let Addressee::Reseller(addressee) = raised.addressed_to else { return Ok(()) };
            let kind = raised.ask.kind();
            let settings = &self.get::<Reseller>(&addressee)?.settings;
            if !settings.auto_forward.get(&kind).copied().unwrap_or(false) {
                return Ok(());
            }
            let next = self.next_up(addressee);
            self.order::<UplineRequest>(&request, &UplineRequestCommand::Forward(next))?;
        }
    }

    fn next_up(&self, addressee: ResellerId) -> Addressee {
        self.network().get(addressee).and_then(|node| node.parent).map_or(Addressee::Platform, Addressee::Reseller)
    }

    fn forward(&mut self, request: RequestId) -> Decided<()> {
        let raised = self.addressed_request(request)?;
        let Addressee::Reseller(addressee) = raised.addressed_to else {
            return Err(Rejection::transition("the upline request", "with the platform", "forwarded").into());
        };
        if raised.ask.kind() == RequestKind::PriceChange {
            return Err(forbidden("a price is set by the direct parent: it is not passed on").into());
        }
        let next = self.next_up(addressee);
        self.order::<UplineRequest>(&request, &UplineRequestCommand::Forward(next))?;
        self.auto_forward(request)
    }

    /// Approves a request, with its effect. Where the effect is refused the request stays pending.
    fn complete(
        &mut self,
        request: RequestId,
        transfer_id: TransferId,
        code: &ReferralCode,
        note: Option<&Text>,
    ) -> Decided<()> {
        let Raised { requester, raised_by, ask, addressed_to, status, .. } = self.addressed_request(request)?.clone();
        if raised_by == self.actor().id {
            return Err(forbidden("nobody completes what the same user raised").into());
        }
        // A decided request says so first, whatever has become of the two since.
        if status == RequestStatus::Pending {
            self.check_active(requester)?;
            if let Addressee::Reseller(addressee) = addressed_to {
                self.check_active(addressee)?;
            }
        }
        self.require(effect_footprint(request, requester, addressed_to, &ask, code))?;
        let outcome = match &ask {
            Ask::CreditTopup { .. } => {
                let transfer_id = matches!(addressed_to, Addressee::Reseller(_)).then_some(transfer_id);
                Outcome::Credits { transfer_id }
            }
            Ask::TierUpgrade { tier } => Outcome::Tier(*tier),
            Ask::ReferralCode { .. } => Outcome::ReferralCode(code.clone()),
            Ask::PriceChange { cost, .. } => Outcome::Price(*cost),
            Ask::Generic { .. } => Outcome::Answer(note.cloned()),
        };
        self.order::<UplineRequest>(&request, &UplineRequestCommand::Complete(addressed_to, outcome))?;
        match (ask, addressed_to) {
            (Ask::CreditTopup { amount }, Addressee::Reseller(addressee)) => {
                self.move_credits(addressee, requester, transfer_id, amount, note)
            }
            (Ask::CreditTopup { amount }, Addressee::Platform) => {
                self.check_opened(requester)?;
                let reference = purchase_reference(request)?;
                if let Some(taken) = self.purchase(&reference)? {
                    return Err(duplicate_reference(taken).into());
                }
                self.issue(requester, amount, CreditSource::Purchase, Some(&reference), note)
            }
            (Ask::TierUpgrade { tier }, Addressee::Platform) => {
                let current = self.network().get(requester).map(|node| node.tier);
                if let Some(current) = current.filter(|current| *current >= tier) {
                    return Err(Rejection::transition("the reseller", current, "upgraded").into());
                }
                self.order::<Reseller>(&requester, &ResellerCommand::ChangeTier(tier, note.cloned()))?;
                Ok(())
            }
            (Ask::ReferralCode { tag }, Addressee::Platform) => {
                let key = FactKey::ReferralCode(code.clone());
                if self.fact(&key)?.is_some() {
                    return Err(Rejection::AlreadyExists { what: "the referral code".into() }.into());
                }
                let expires_at = self.now.plus_seconds(REFERRAL_LIFETIME_SECONDS);
                let issue = ResellerCommand::IssueReferralCode { code: code.clone(), tag, expires_at, request };
                self.order::<Reseller>(&requester, &issue)?;
                Ok(())
            }
            (Ask::PriceChange { sku, cost }, Addressee::Platform) => {
                self.order_price(requester, &sku, cost, Authority::Platform)
            }
            (Ask::PriceChange { sku, cost }, Addressee::Reseller(parent)) => {
                self.order_price(requester, &sku, cost, Authority::Reseller(parent))
            }
            (Ask::Generic { .. }, _) => Ok(()),
            (Ask::TierUpgrade { .. } | Ask::ReferralCode { .. }, Addressee::Reseller(_)) => {
                Err(forbidden("tiers and referral codes are the platform's to give").into())
            }
        }
    }

    /// Gives up what nobody can answer any more: its requester is out of business, and an approval would be refused.
    fn fail(&mut self, request: RequestId) -> Decided<()> {
        if !matches!(self.actor().role, Role::System | Role::SuperAdmin) {
            return Err(forbidden("requests are given up by policy").into());
        }
        if let Some(raised) = &self.get::<UplineRequest>(&request)?.raised
            && raised.status == RequestStatus::Pending
            && self.check_active(raised.requester).is_ok()
        {
            return Err(Rejection::transition("the upline request", "of a reseller in business", "failed").into());
        }
        let reason = Text::new(REQUESTER_GONE).map_err(|invalid| Rejection::invalid("/reason", invalid.to_string()))?;
        self.order::<UplineRequest>(&request, &UplineRequestCommand::Fail(reason))?;
        Ok(())
    }

    /// A request as the actor may see it: its requester, those it was put to, and the platform.
    fn visible_request(&self, request: RequestId) -> Decided<&Raised> {
        if matches!(self.actor().role, Role::Auditor | Role::Finance | Role::Payments) {
            return Err(forbidden("requests are answered by the upline").into());
        }
        let Some(raised) = &self.get::<UplineRequest>(&request)?.raised else {
            return Err(unseen("upline request").into());
        };
        let is_seen = self.actor().is_platform()
            || self.actor().tenant.is_some_and(|tenant| tenant == raised.requester || self.was_put_to(raised, tenant));
        if is_seen { Ok(raised) } else { Err(unseen("upline request").into()) }
    }

    /// Whether a request is, or once was, addressed to this reseller: it goes up the line step by step, except what only the
    /// platform answers, which goes from the parent to the platform at once.
    fn was_put_to(&self, raised: &Raised, tenant: ResellerId) -> bool {
        let at_once = matches!(
            raised.ask.kind(),
            RequestKind::ReferralCode | RequestKind::TierUpgrade | RequestKind::PriceChange
        );
        for (above, _) in self.network().ancestors(raised.requester) {
            if above == tenant {
                return true;
            }
            if at_once || raised.addressed_to == Addressee::Reseller(above) {
                return false;
            }
        }
        false
    }

    /// A request that is the actor's to answer.
    fn addressed_request(&self, request: RequestId) -> Decided<&Raised> {
        let raised = self.visible_request(request)?;
        let is_addressee = match raised.addressed_to {
            Addressee::Platform => self.actor().is_platform(),
            Addressee::Reseller(addressee) => self.actor().tenant == Some(addressee),
        };
        if is_addressee { Ok(raised) } else { Err(forbidden("a request is answered by who it is addressed to").into()) }
    }
}

/// What the effect of an approval will read.
fn effect_footprint(
    request: RequestId,
    requester: ResellerId,
    addressed_to: Addressee,
    ask: &Ask,
    code: &ReferralCode,
) -> Vec<Key> {
    let wallet = |id| Key::Aggregate(AggregateKey::Wallet(id));
    match (ask, addressed_to) {
        (Ask::CreditTopup { .. }, Addressee::Reseller(addressee)) => vec![wallet(addressee), wallet(requester)],
        (Ask::CreditTopup { .. }, Addressee::Platform) => {
            let mut keys = vec![wallet(requester), Key::Fact(FactKey::Totals)];
            keys.extend(purchase_reference(request).map(|taken| Key::Fact(FactKey::PurchaseReference(taken))));
            keys
        }
        (Ask::TierUpgrade { .. }, _) => vec![Key::Aggregate(AggregateKey::Reseller(requester))],
        (Ask::ReferralCode { .. }, _) => {
            let code = Key::Fact(FactKey::ReferralCode(code.clone()));
            vec![Key::Aggregate(AggregateKey::Reseller(requester)), code]
        }
        (Ask::PriceChange { sku, .. }, _) => {
            let product = Key::Aggregate(AggregateKey::Product(sku.clone()));
            vec![Key::Aggregate(AggregateKey::Reseller(requester)), product]
        }
        (Ask::Generic { .. }, _) => Vec::new(),
    }
}

/// The reference under which the platform pays a top-up: the request's id.
fn purchase_reference(request: RequestId) -> Result<Reference, Rejection> {
    Reference::new(request.to_string()).map_err(|invalid| Rejection::invalid("/request", invalid.to_string()))
}
