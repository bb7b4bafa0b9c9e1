//! Referrals: a new reseller with a code lands pending under the code's owner; the bonus comes in the commit of its approval.

use crate::facts::{Fact, FactKey};
use crate::primitives::{
    Amount, BECOME_PARTNER, CreditSource, Reference, ReferralCode, ResellerId, ResellerStatus, UserId,
};
use crate::rejection::Rejection;
use crate::reseller::{Referral, Reseller, ResellerCommand};
use crate::wallet::Wallet;

use super::draft::{Decided, Draft};

impl Draft<'_> {
    /// Whose code it is.
    pub(super) fn referrer(&self, code: &ReferralCode) -> Decided<ResellerId> {
        match self.fact(&FactKey::ReferralCode(code.clone()))? {
            Some(Fact::Reseller(owner)) => Ok(owner.reseller),
            _ => Err(Rejection::ReferralInvalid { reason: "unknown".into() }.into()),
        }
    }

    /// Uses the code for a new reseller, and says by which referral it came.
    pub(super) fn complete_referral(
        &mut self,
        code: &ReferralCode,
        referred: ResellerId,
        referred_user: &UserId,
    ) -> Decided<Referral> {
        let referrer = self.referrer(code)?;
        let complete = ResellerCommand::CompleteReferral {
            code: code.clone(),
            referred,
            referred_user: referred_user.clone(),
            now: self.now,
        };
        self.order::<Reseller>(&referrer, &complete)?;
        match self.get::<Reseller>(&referrer)?.referral_codes.get(code) {
            Some(issued) => Ok(Referral { code: code.clone(), tag: issued.tag.clone(), referrer }),
            None => Err(Rejection::ReferralInvalid { reason: "unknown".into() }.into()),
        }
    }

    /// The policy's bonus for the owner of the code by which an approved reseller came: for the tag `become-partner`, while the
    /// owner is active, unfrozen and has a wallet.
    pub(super) fn pay_referral_bonus(&mut self, approved: ResellerId) -> Decided<()> {
        let referral = self
            .get::<Reseller>(&approved)?
            .profile
            .as_deref()
            .and_then(|profile| profile.registration.referral.clone())
            .filter(|referral| referral.tag.as_str() == BECOME_PARTNER);
        let Some(Referral { referrer, .. }) = referral else { return Ok(()) };
        let Ok(bonus) = Amount::new(self.policy()?.referral_bonus.credits()) else { return Ok(()) };
        let active = self.network().get(referrer).is_some_and(|node| node.status == ResellerStatus::Active);
        let frozen = self.network().freezes_over(referrer).next().is_some();
        if !active || frozen || self.get::<Wallet>(&referrer)?.reseller.is_none() {
            return Ok(());
        }
        let reference = Reference::new(format!("referral:{approved}")).map_err(|_| Rejection::Overflow {})?;
        self.issue(referrer, bonus, CreditSource::Referral, Some(&reference), None)
    }
}
