//! The rare events that make a history: the catalog, freezes, chargebacks, holds, resellers that leave and come back.

use aggregates::command::Command;
use aggregates::primitives::{CreditSource, Invalid, Level, Percent, RemovalKind, ResellerStatus, Sku, Text};
use aggregates::product::ProductTerms;
use rand::Rng;

use super::book::OnSale;
use super::calendar::{DAYS, MOMENTS, MOMENTS_A_DAY};
use super::catalog::{self, Item};
use super::{Later, Plan, Size};

/// Something out of the ordinary.
#[derive(Debug, Clone, Copy)]
pub(super) enum Story {
    ReviewTiers,
    PublishLater(usize),
    Reprice,
    Retire,
    RaiseBonus,
    GiveBonus,
    FreezeByPlatform,
    FreezeByParent,
    Unfreeze { member: usize, by: Option<usize> },
    Chargeback,
    Correction,
    Hold,
    Resume { member: usize },
    Deactivate,
    Reactivate { member: usize },
}

/// Which stories are told, and at which moment.
pub(super) fn agenda(size: Size) -> Vec<(usize, Story)> {
    // Between the morning and the evening of the day that is so far into the history.
    let at = |percent: usize| DAYS * percent / 100 * MOMENTS_A_DAY + percent % 3 + 1;
    let mut agenda = vec![
        (at(18), Story::GiveBonus),
        (at(26), Story::FreezeByParent),
        (at(31), Story::Hold),
        (at(38), Story::PublishLater(0)),
        (at(44), Story::Chargeback),
        (at(50), Story::Reprice),
        (at(53), Story::FreezeByPlatform),
        (at(57), Story::RaiseBonus),
        (at(61), Story::Deactivate),
        (at(64), Story::PublishLater(1)),
        (at(68), Story::Correction),
        (at(74), Story::Hold),
        (at(79), Story::Retire),
        (at(83), Story::FreezeByPlatform),
        (at(88), Story::Chargeback),
        (at(92), Story::GiveBonus),
        // These two still stand today.
        (MOMENTS - 6, Story::Hold),
        (MOMENTS - 3, Story::FreezeByParent),
    ];
    // The larger the network, the more of it.
    let more = (size.resellers / 100).min(400);
    for index in 0..more {
        let moment = MOMENTS / 4 + MOMENTS * 7 / 10 * index / more.max(1);
        let story = [Story::Chargeback, Story::Deactivate, Story::FreezeByParent, Story::Hold, Story::GiveBonus];
        agenda.push((moment, story[index % story.len()]));
    }
    agenda.extend((1..DAYS / 30).map(|month| (month * 30 * MOMENTS_A_DAY + 1, Story::ReviewTiers)));
    agenda.sort_by_key(|(moment, _)| *moment);
    agenda
}

impl Plan {
    pub(super) fn open_the_catalog(&mut self) -> Result<(), Invalid> {
        catalog::FIRST.iter().try_for_each(|item| self.publish(item))
    }

    fn publish(&mut self, item: &Item) -> Result<(), Invalid> {
        let sku = Sku::new(item.sku)?;
        let terms = ProductTerms {
            name: Text::new(item.name)?,
            base_cost: Level::new(item.base_cost)?,
            minimum_tier: item.minimum_tier,
            minimum_margin_percent: Percent::whole(item.minimum_margin_percent).unwrap_or_default(),
        };
        self.send(Self::operator()?, Command::PublishProduct { sku: sku.clone(), terms: terms.clone() }, 1);
        self.book.products.push(OnSale { sku, terms, popularity: item.popularity, retired: false });
        Ok(())
    }

    pub(super) fn tell(&mut self, story: Story) -> Result<(), Invalid> {
        match story {
            Story::ReviewTiers => self.review_tiers(),
            Story::PublishLater(index) => self.publish(&catalog::LATER[index]),
            Story::Reprice => self.reprice(),
            Story::Retire => {
                let product = &mut self.book.products[catalog::RETIRED];
                product.retired = true;
                let sku = product.sku.clone();
                self.send(Self::operator()?, Command::RetireProduct { sku }, 1);
                Ok(())
            }
            Story::RaiseBonus => {
                let mut policy = self.book.policy.clone();
                policy.referral_bonus = Level::new(policy.referral_bonus.credits() + 500)?;
                self.book.policy = policy.clone();
                self.send(Self::operator()?, Command::SetPolicy(policy), 1);
                Ok(())
            }
            Story::GiveBonus => self.give_bonus(),
            Story::FreezeByPlatform => self.freeze(false),
            Story::FreezeByParent => self.freeze(true),
            Story::Unfreeze { member, by } => self.unfreeze(member, by),
            Story::Chargeback => self.take_back(RemovalKind::Chargeback, "the card issuer took the payment back"),
            Story::Correction => self.take_back(RemovalKind::Correction, "entered twice by hand"),
            Story::Hold => self.hold(),
            Story::Resume { member } => {
                let wallet = self.book.members[member].id;
                self.send(Self::operator()?, Command::SetHold { wallet, held: false, reason: None }, 1);
                self.book.members[member].held = false;
                Ok(())
            }
            Story::Deactivate => self.deactivate(),
            Story::Reactivate { member } => {
                let reseller = self.book.members[member].id;
                let reason = Some(Text::new("back under new management")?);
                self.send(Self::operator()?, Command::Reactivate { reseller, reason }, 1);
                self.book.members[member].status = ResellerStatus::Active;
                Ok(())
            }
        }
    }

    fn reprice(&mut self) -> Result<(), Invalid> {
        let product = &mut self.book.products[catalog::REPRICED];
        product.terms.base_cost = Level::new(product.terms.base_cost.credits() * 110 / 100)?;
        let command = Command::ReviseProduct { sku: product.sku.clone(), terms: product.terms.clone() };
        self.send(Self::operator()?, command, 1);
        Ok(())
    }

    fn give_bonus(&mut self) -> Result<(), Invalid> {
        let Some(member) = self.somebody() else { return Ok(()) };
        let credits = self.rng.random_range(2..=10) * 500;
        let command = Command::AddCredits {
            wallet: self.book.members[member].id,
            amount: Self::amount(credits)?,
            source: CreditSource::Bonus,
            reference: None,
            note: Some(Text::new("thank you for a good quarter")?),
        };
        let events = self.book.credit(member, credits);
        self.send(Self::operator()?, command, events);
        Ok(())
    }

    /// A payment is in doubt: a whole branch stands still for some days, and is told so.
    fn freeze(&mut self, by_parent: bool) -> Result<(), Invalid> {
        // Never one of the top: the demo's figures should not stand still.
        let candidate = |plan: &Self, member: usize| {
            let known = &plan.book.members[member];
            let size = known.downline;
            known.parent.is_some() && plan.book.free(member) && (1..=40).contains(&size)
        };
        let candidates: Vec<usize> = (0..self.book.members.len()).filter(|member| candidate(self, *member)).collect();
        if candidates.is_empty() {
            return Ok(());
        }
        let member = candidates[self.rng.random_range(0..candidates.len())];
        let by = self.book.members[member].parent.filter(|_| by_parent);
        let actor = match by {
            Some(parent) => self.acting(parent),
            None => Self::operator()?,
        };
        let reseller = self.book.members[member].id;
        let reason = Some(Text::new("payments under review")?);
        self.send(actor, Command::Freeze { reseller, reason }, 1);
        self.book.members[member].frozen = true;
        let children = self.book.members[member].children.clone();
        for frozen in children.into_iter().chain([member]) {
            if self.book.members[frozen].status == ResellerStatus::Active {
                self.provision(frozen, 0, 1)?;
            }
        }
        self.later(9, 20, Later::Story(Story::Unfreeze { member, by }));
        Ok(())
    }

    fn unfreeze(&mut self, member: usize, by: Option<usize>) -> Result<(), Invalid> {
        // The frozen do not unfreeze: then the platform does it.
        let actor = match by.filter(|parent| self.book.free(*parent)) {
            Some(parent) => self.acting(parent),
            None => Self::operator()?,
        };
        let reseller = self.book.members[member].id;
        let reason = Some(Text::new("settled")?);
        self.send(actor, Command::Unfreeze { reseller, reason }, 1);
        self.book.members[member].frozen = false;
        Ok(())
    }

    fn take_back(&mut self, kind: RemovalKind, reason: &str) -> Result<(), Invalid> {
        let Some(member) = self.somebody() else { return Ok(()) };
        let credits = self.rng.random_range(4..=16) * 500;
        let command = Command::RemoveCredits {
            wallet: self.book.members[member].id,
            amount: Self::amount(credits)?,
            kind,
            reason: Some(Text::new(reason)?),
        };
        let events = self.book.debit(member, credits);
        self.send(Self::operator()?, command, events);
        Ok(())
    }

    fn hold(&mut self) -> Result<(), Invalid> {
        let Some(member) = self.somebody() else { return Ok(()) };
        if self.book.members[member].held || self.book.members[member].parent.is_none() {
            return Ok(());
        }
        let wallet = self.book.members[member].id;
        let reason = Some(Text::new("a contract is missing")?);
        self.send(Self::operator()?, Command::SetHold { wallet, held: true, reason }, 1);
        self.book.members[member].held = true;
        self.provision(member, 0, 1)?;
        self.later(6, 30, Later::Story(Story::Resume { member }));
        Ok(())
    }

    /// One without a downline gives up; some think better of it.
    fn deactivate(&mut self) -> Result<(), Invalid> {
        for _ in 0..64 {
            let Some(member) = self.somebody() else { return Ok(()) };
            if self.book.members[member].parent.is_none() || !self.book.members[member].children.is_empty() {
                continue;
            }
            let reseller = self.book.members[member].id;
            let reason = Some(Text::new("gave notice")?);
            self.send(Self::operator()?, Command::Deactivate { reseller, reason }, 1);
            self.book.members[member].status = ResellerStatus::Deactivated;
            if self.chance(40) {
                self.later(60, 240, Later::Story(Story::Reactivate { member }));
            }
            return Ok(());
        }
        Ok(())
    }
}
