//! Commands about a reseller: its life, its tier and settings, freezes over its subtree, prices its parent sets for it.

use serde_json::{Map, Value};

use crate::answer::{Answer, DoneAnswer, PriceView};
use crate::command::Command;
use crate::facts::FactKey;
use crate::pricing::{self, PricedItem};
use crate::primitives::{
    Authority, CompanyName, Credits, Level, ReferralCode, Refid, ResellerId, ResellerStatus, Role, Sku, Text, Tier,
    UserId,
};
use crate::rejection::Rejection;
use crate::reseller::{DEPTH_MAX, Registrar, Registration, Reseller, ResellerCommand, SettingsPatch};

use super::authority::{Standing, forbidden, unseen};
use super::draft::{Decided, Draft};

/// What a registration names, before the rules have filled in the rest.
struct Application<'c> {
    reseller: ResellerId,
    refid: &'c Refid,
    user_id: &'c UserId,
    company_name: &'c CompanyName,
    parent: Option<ResellerId>,
    referral_code: Option<&'c ReferralCode>,
    tier: Option<Tier>,
    metadata: &'c Map<String, Value>,
}

impl Draft<'_> {
    pub(super) fn decide_reseller(&mut self, command: &Command) -> Decided<Answer> {
        match command {
            Command::Register { reseller, refid, user_id, company_name, parent, referral_code, tier, metadata } => {
                let referral_code = referral_code.as_ref();
                let (reseller, parent, tier) = (*reseller, *parent, *tier);
                self.register(&Application {
                    reseller,
                    refid,
                    user_id,
                    company_name,
                    parent,
                    referral_code,
                    tier,
                    metadata,
                })
            }
            Command::Approve { reseller } => {
                self.platform_only_towards(*reseller, "reseller")?;
                self.approve(*reseller)?;
                self.reseller_answer(*reseller)
            }
            Command::Deactivate { reseller, reason } => {
                self.platform_orders(*reseller, &ResellerCommand::Deactivate(reason.clone()))
            }
            Command::Reactivate { reseller, reason } => {
                self.platform_orders(*reseller, &ResellerCommand::Reactivate(reason.clone()))
            }
            Command::ChangeTier { reseller, tier, reason } => {
                self.platform_orders(*reseller, &ResellerCommand::ChangeTier(*tier, reason.clone()))
            }
            Command::Freeze { reseller, reason } => self.freeze(*reseller, reason.as_ref()),
            Command::Unfreeze { reseller, reason } => self.unfreeze(*reseller, reason.as_ref()),
            Command::Rename { reseller, company_name } => {
                self.itself_or_platform(*reseller, "reseller")?;
                self.order::<Reseller>(reseller, &ResellerCommand::Rename(company_name.clone()))?;
                self.reseller_answer(*reseller)
            }
            Command::UpdateMetadata { reseller, patch } => {
                match self.standing(*reseller, "reseller")? {
                    Standing::Platform | Standing::Itself(_) => {}
                    Standing::Parent(tenant) | Standing::Ancestor(tenant) => self.check_active(tenant)?,
                    Standing::Payments => return Err(forbidden("a payment system adds purchases only").into()),
                }
                self.order::<Reseller>(reseller, &ResellerCommand::UpdateMetadata(patch.clone()))?;
                self.reseller_answer(*reseller)
            }
            Command::ChangeSettings { reseller, patch, threshold } => {
                self.change_settings(*reseller, patch, *threshold)
            }
            Command::SetPrice { reseller, sku, cost } => self.set_price(*reseller, sku, *cost),
            Command::ClearPrice { reseller, sku } => {
                self.pricing_authority(*reseller)?;
                self.order::<Reseller>(reseller, &ResellerCommand::ClearPrice(sku.clone()))?;
                Ok(Answer::Price(PriceView { reseller_id: *reseller, sku: sku.clone(), cost: None }))
            }
            Command::RevokeReferralCode { reseller, code } => {
                self.itself_or_platform(*reseller, "referral code")?;
                self.order::<Reseller>(reseller, &ResellerCommand::RevokeReferralCode(code.clone()))?;
                Ok(Answer::Done(DoneAnswer { done: "revoked".into() }))
            }
            _ => Err(Rejection::not_found("command").into()),
        }
    }

    fn platform_orders(&mut self, reseller: ResellerId, command: &ResellerCommand) -> Decided<Answer> {
        self.platform_only_towards(reseller, "reseller")?;
        self.order::<Reseller>(&reseller, command)?;
        self.reseller_answer(reseller)
    }

    /// By the platform: active at once, or with a referral code pending under its owner. By an upline: a child of its own,
    /// pending until approved.
    fn register(&mut self, application: &Application<'_>) -> Decided<Answer> {
        let Application { reseller, refid, user_id, .. } = *application;
        let (registrar, parent) = self.registrar_and_parent(application)?;
        let depth = match parent {
            None => 0,
            Some(parent) => {
                self.check_active(parent)?;
                self.check_unfrozen(parent)?;
                self.network().get(parent).map_or(0, |node| node.depth + 1)
            }
        };
        if depth > DEPTH_MAX {
            let most = Credits::from(DEPTH_MAX);
            return Err(Rejection::LimitExceeded { what: "the depth of the network".into(), least: 0, most }.into());
        }
        if self.fact(&FactKey::Refid(refid.clone()))?.is_some() {
            return Err(Rejection::AlreadyExists { what: "the refid".into() }.into());
        }
        // What an upline registers is judged at approval, so that nobody can probe or squat a user.
        if registrar == Registrar::Platform && self.fact(&FactKey::User(user_id.clone()))?.is_some() {
            return Err(Rejection::AlreadyExists { what: "a reseller of this user".into() }.into());
        }
        let referral = match application.referral_code {
            Some(code) => Some(self.complete_referral(code, reseller, user_id)?),
            None => None,
        };
        let pending = registrar == Registrar::Upline || referral.is_some();
        let policy = self.policy()?;
        let (opens_wallet, approves) = (policy.auto_open_wallet, policy.auto_approve);
        let registration = Registration {
            reseller,
            user_id: user_id.clone(),
            refid: refid.clone(),
            company_name: application.company_name.clone(),
            tier: application.tier.unwrap_or(policy.default_tier),
            status: if pending { ResellerStatus::Pending } else { ResellerStatus::Active },
            parent,
            depth,
            metadata: application.metadata.clone(),
            referral,
            registrar,
            registered_at: self.now,
        };
        self.order::<Reseller>(&reseller, &ResellerCommand::Register(registration))?;
        if opens_wallet {
            self.open_wallet(reseller)?;
        }
        // Whose user is taken stays pending, and looks no different from one that waits.
        if registrar == Registrar::Upline && approves && self.fact(&FactKey::User(user_id.clone()))?.is_none() {
            self.approve(reseller)?;
        }
        self.reseller_answer(reseller)
    }

    fn registrar_and_parent(&self, application: &Application<'_>) -> Decided<(Registrar, Option<ResellerId>)> {
        match (self.actor().role, self.actor().tenant) {
            (Role::SuperAdmin, _) => match (application.parent, application.referral_code) {
                (Some(_), Some(_)) => {
                    Err(Rejection::invalid("/referral_code", "must not be given together with parent_id").into())
                }
                (None, Some(code)) => Ok((Registrar::Platform, Some(self.referrer(code)?))),
                (Some(parent), None) if self.network().get(parent).is_none() => {
                    Err(Rejection::not_found("parent").into())
                }
                (parent, None) => Ok((Registrar::Platform, parent)),
            },
            (Role::Reseller, Some(tenant)) => {
                let parent = application.parent.unwrap_or(tenant);
                match self.standing(parent, "parent") {
                    Ok(Standing::Itself(_)) => {}
                    Ok(_) => return Err(forbidden("a reseller registers children of its own only").into()),
                    Err(_) => return Err(unseen("parent").into()),
                }
                if application.tier.is_some() || application.referral_code.is_some() {
                    return Err(forbidden("tier and referral_code are the platform's to give").into());
                }
                Ok((Registrar::Upline, Some(tenant)))
            }
            _ => Err(forbidden("resellers are registered by the platform or their parent").into()),
        }
    }

    /// Puts a pending reseller in business, with the bonus for who referred it.
    fn approve(&mut self, reseller: ResellerId) -> Decided<()> {
        let profile = self.get::<Reseller>(&reseller)?.profile.as_deref().map(|profile| &profile.registration);
        if let Some(profile) = profile
            .filter(|profile| profile.status == ResellerStatus::Pending && profile.registrar == Registrar::Upline)
            && self.fact(&FactKey::User(profile.user_id.clone()))?.is_some()
        {
            return Err(Rejection::AlreadyExists { what: "a reseller of this user".into() }.into());
        }
        self.order::<Reseller>(&reseller, &ResellerCommand::Approve)?;
        self.pay_referral_bonus(reseller)
    }

    fn freeze(&mut self, reseller: ResellerId, reason: Option<&Text>) -> Decided<Answer> {
        let authority = self.freezing_authority(reseller)?;
        self.order::<Reseller>(&reseller, &ResellerCommand::Freeze(authority, reason.cloned()))?;
        self.reseller_answer(reseller)
    }

    fn unfreeze(&mut self, reseller: ResellerId, reason: Option<&Text>) -> Decided<Answer> {
        let authority = self.freezing_authority(reseller)?;
        let laid = self.get::<Reseller>(&reseller)?.freezes.clone();
        let refusal = Rejection::transition("the reseller", "not frozen", "unfrozen");
        let lifted = self.liftable(authority, laid, refusal)?;
        self.order::<Reseller>(&reseller, &ResellerCommand::Unfreeze(lifted, reason.cloned()))?;
        self.reseller_answer(reseller)
    }

    /// The frozen neither freeze nor unfreeze.
    fn freezing_authority(&self, reseller: ResellerId) -> Decided<Authority> {
        let authority = self.authority_over(reseller, "reseller")?;
        if let Authority::Reseller(tenant) = authority {
            self.check_unfrozen(tenant)?;
        }
        Ok(authority)
    }

    fn change_settings(
        &mut self,
        reseller: ResellerId,
        patch: &SettingsPatch,
        threshold: Option<Level>,
    ) -> Decided<Answer> {
        let standing = self.itself_or_platform(reseller, "reseller")?;
        if standing == Standing::Platform && patch.allow_withdraw.is_some() {
            return Err(forbidden("only the reseller itself lets its parent take credits back").into());
        }
        if standing != Standing::Platform {
            // A margin prices the children, as a price set for one does.
            self.check_active(reseller)?;
        }
        // First the settings: the threshold is judged by `hold_on_low_credit` as it is from now on.
        self.order::<Reseller>(&reseller, &ResellerCommand::ChangeSettings(patch.clone()))?;
        if let Some(threshold) = threshold {
            self.set_threshold(reseller, threshold)?;
        }
        self.settings_answer(reseller)
    }

    /// Who sets a reseller's prices: its direct parent, or the platform for a top-level one.
    pub(super) fn pricing_authority(&self, reseller: ResellerId) -> Decided<Authority> {
        let top_level = self.network().get(reseller).is_some_and(|node| node.parent.is_none());
        match self.standing(reseller, "reseller")? {
            Standing::Platform if top_level => Ok(Authority::Platform),
            Standing::Parent(tenant) => {
                self.check_active(tenant)?;
                Ok(Authority::Reseller(tenant))
            }
            _ => Err(forbidden("prices are set by the direct parent, for a top-level reseller by the platform").into()),
        }
    }

    fn set_price(&mut self, reseller: ResellerId, sku: &Sku, cost: Level) -> Decided<Answer> {
        let authority = self.pricing_authority(reseller)?;
        self.order_price(reseller, sku, cost, authority)?;
        Ok(Answer::Price(PriceView { reseller_id: reseller, sku: sku.clone(), cost: Some(cost) }))
    }

    /// ⌈own unit cost × (1 + the product's minimum margin)⌉ ≤ cost ≤ base cost × the policy's highest child price.
    pub(super) fn order_price(
        &mut self,
        reseller: ResellerId,
        sku: &Sku,
        cost: Level,
        authority: Authority,
    ) -> Decided<()> {
        let terms = self.product_on_sale(sku)?;
        let (base_cost, minimum_margin_percent) = (terms.base_cost, terms.minimum_margin_percent);
        let policy = self.policy()?;
        let most = pricing::percent_of(base_cost.credits(), policy.max_child_price_percent)?;
        let least = match authority {
            Authority::Reseller(parent) => {
                let line = self.network().line(parent, Some(sku));
                let costs = pricing::unit_costs(&line, PricedItem { base_cost, minimum_margin_percent }, policy)?;
                let own = costs.last().map_or(0, |unit_cost| unit_cost.cost);
                pricing::with_margin(own, minimum_margin_percent)?
            }
            Authority::Platform | Authority::LowCreditPolicy => 0,
        };
        if !(least..=most).contains(&cost.credits()) {
            return Err(Rejection::LimitExceeded { what: "the cost".into(), least, most }.into());
        }
        self.order::<Reseller>(&reseller, &ResellerCommand::SetPrice(authority, sku.clone(), cost))?;
        Ok(())
    }
}
