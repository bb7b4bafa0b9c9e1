//! What resellers ask of their upline, and what they are told.

use aggregates::command::Command;
use aggregates::primitives::{
    Amount, BECOME_PARTNER, Credits, Invalid, Level, ReferralTag, RequestId, ResellerStatus, Text, Tier, TransferId,
};
use aggregates::upline_request::Ask;
use aggregates::{pricing, primitives::Actor};
use rand::Rng;

use super::{Later, MOMENTS_A_DAY, Plan};

/// How long a code is used in the demo: it is valid for 90 days.
const CODE_DAYS: usize = 80;

/// What is to be decided, for whom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Decision {
    ReferralCode { member: usize },
    Tier { member: usize, tier: Tier },
    Price { member: usize, product: usize, cost: Level },
    Answer { member: usize },
}

impl Plan {
    fn raise(&mut self, member: usize, ask: Ask, events: u64) -> RequestId {
        let request = RequestId(self.id());
        let requester = self.book.members[member].id;
        self.send(self.acting(member), Command::RaiseRequest { request, requester, ask }, events);
        request
    }

    fn approval(&mut self, request: RequestId) -> Result<Command, Invalid> {
        let (transfer_id, code) = (TransferId(self.id()), self.referral_code()?);
        Ok(Command::ApproveRequest { request, transfer_id, code, note: None })
    }

    /// Who answers a member: its parent, or the platform where there is none.
    fn answering(&self, member: usize) -> Result<Actor, Invalid> {
        match self.book.members[member].parent {
            Some(parent) => Ok(self.acting(parent)),
            None => Self::operator(),
        }
    }

    fn answerable(&self, member: usize) -> bool {
        let active = |member: usize| self.book.members[member].status == ResellerStatus::Active;
        active(member) && self.book.members[member].parent.is_none_or(|parent| self.book.free(parent))
    }

    pub(super) fn ask_for_credits(&mut self, member: usize, needed: Credits) -> Result<(), Invalid> {
        let credits = (needed + self.rng.random_range(4_000..20_000)) / 1_000 * 1_000;
        let amount = Self::amount(credits.max(1_000))?;
        let request = self.raise(member, Ask::CreditTopup { amount }, 1);
        self.book.members[member].waiting = true;
        self.later(1, 9, Later::DecideTopup { member, request, amount });
        Ok(())
    }

    pub(super) fn decide_topup(&mut self, member: usize, request: RequestId, amount: Amount) -> Result<(), Invalid> {
        if !self.answerable(member) {
            self.later(3, 12, Later::DecideTopup { member, request, amount });
            return Ok(());
        }
        self.book.members[member].waiting = false;
        match self.rng.random_range(0..100) {
            0..76 => {
                let mut events = 1;
                if let Some(parent) = self.book.members[member].parent {
                    self.keep_above(parent, amount.credits())?;
                    events += self.book.debit(parent, amount.credits());
                }
                events += self.book.credit(member, amount.credits());
                let command = self.approval(request)?;
                self.send(self.answering(member)?, command, events);
            }
            76..92 => {
                let reason = Some(Text::new("please settle the open invoice first")?);
                self.send(self.answering(member)?, Command::RejectRequest { request, reason }, 1);
                // So it buys its credits itself.
                let credits = amount.credits();
                self.purchase(member, credits)?;
            }
            92..96 => {
                self.send(self.acting(member), Command::CancelRequest { request }, 1);
                self.purchase(member, amount.credits())?;
            }
            // Nobody answers.
            _ => {}
        }
        Ok(())
    }

    /// Whoever may have children asks for a code to win them with.
    pub(super) fn ask_for_a_referral_code(&mut self) -> Result<(), Invalid> {
        let Some(member) = self.somebody() else { return Ok(()) };
        let known = &self.book.members[member];
        let has_one = known.code.as_ref().is_some_and(|(_, until)| self.moment < *until);
        if has_one || known.depth >= self.size.levels {
            return Ok(());
        }
        let forwarded = u64::from(known.parent.is_some());
        let request = self.raise(member, Ask::ReferralCode { tag: ReferralTag::new(BECOME_PARTNER)? }, 1 + forwarded);
        self.later(1, 12, Later::DecideRequest { request, decision: Decision::ReferralCode { member } });
        Ok(())
    }

    pub(super) fn ask_for_something_else(&mut self) -> Result<(), Invalid> {
        let Some(member) = self.somebody() else { return Ok(()) };
        let (request, decision) = match self.rng.random_range(0..10) {
            0..3 if self.book.members[member].tier < Tier::Platinum => {
                let tier = match self.book.members[member].tier {
                    Tier::Standard => Tier::Gold,
                    Tier::Gold | Tier::Platinum => Tier::Platinum,
                };
                let forwarded = u64::from(self.book.members[member].parent.is_some());
                (self.raise(member, Ask::TierUpgrade { tier }, 1 + forwarded), Decision::Tier { member, tier })
            }
            0..6 => {
                let product = self.rng.random_range(0..6);
                let Some((least, _)) = self.price_bounds(member, product) else { return Ok(()) };
                let Some(own) = self.book.unit_cost(member, product) else { return Ok(()) };
                // Half-way between what it pays and the least that its parent may charge.
                let cost = Level::new((least + own) / 2)?;
                let sku = self.book.products[product].sku.clone();
                let request = self.raise(member, Ask::PriceChange { sku, cost }, 1);
                (request, Decision::Price { member, product, cost })
            }
            _ => {
                let ask = Ask::Generic {
                    subject: Text::new("Logo on the order form")?,
                    body: Text::new("Our customers ask for an order form with our own logo. Can this be set up?")?,
                };
                (self.raise(member, ask, 1), Decision::Answer { member })
            }
        };
        self.later(1, 24, Later::DecideRequest { request, decision });
        Ok(())
    }

    pub(super) fn decide_request(&mut self, request: RequestId, decision: Decision) -> Result<(), Invalid> {
        let member = match decision {
            Decision::ReferralCode { member }
            | Decision::Tier { member, .. }
            | Decision::Price { member, .. }
            | Decision::Answer { member } => member,
        };
        if !self.answerable(member) {
            self.later(3, 12, Later::DecideRequest { request, decision });
            return Ok(());
        }
        let by_platform = matches!(decision, Decision::ReferralCode { .. } | Decision::Tier { .. });
        let actor = if by_platform { Self::operator()? } else { self.answering(member)? };
        let granted = match decision {
            Decision::ReferralCode { .. } => self.chance(90),
            Decision::Tier { tier, .. } => {
                self.book.members[member].tier < tier && self.book.members[member].downline >= 2
            }
            Decision::Price { product, cost, .. } => {
                let bounds = self.price_bounds(member, product);
                bounds.is_some_and(|(least, most)| (least..=most).contains(&cost.credits())) && self.chance(75)
            }
            Decision::Answer { .. } => self.chance(80),
        };
        if !granted {
            let reason = Some(Text::new("not at present")?);
            self.send(actor, Command::RejectRequest { request, reason }, 1);
            return Ok(());
        }
        let (transfer_id, code) = (TransferId(self.id()), self.referral_code()?);
        let mut events = 2;
        match decision {
            Decision::ReferralCode { .. } => {
                let until = self.moment + CODE_DAYS * MOMENTS_A_DAY;
                self.book.members[member].code = Some((code.clone(), until));
            }
            Decision::Tier { tier, .. } => self.book.members[member].tier = tier,
            Decision::Price { product, cost, .. } => {
                events -= u64::from(self.book.members[member].prices.insert(product, cost) == Some(cost));
            }
            Decision::Answer { .. } => events = 1,
        }
        self.send(actor, Command::ApproveRequest { request, transfer_id, code, note: None }, events);
        Ok(())
    }

    /// A parent sets what one of its children pays for a product.
    pub(super) fn set_a_price(&mut self) -> Result<(), Invalid> {
        let Some(parent) = self.some_parent() else { return Ok(()) };
        let Some(child) = self.some_child(parent) else { return Ok(()) };
        let product = self.rng.random_range(0..6);
        let Some((least, most)) = self.price_bounds(child, product) else { return Ok(()) };
        let cost = least + least * self.rng.random_range(2..=18) / 100;
        // Now and then one asks for too much, and is told so.
        let greedy = self.chance(4);
        let cost = Level::new(if greedy { most * 2 + 1 } else { cost.min(most) })?;
        let (reseller, sku) = (self.book.members[child].id, self.book.products[product].sku.clone());
        let allowed = (least..=most).contains(&cost.credits());
        let changes = allowed && self.book.members[child].prices.get(&product) != Some(&cost);
        self.send(self.acting(parent), Command::SetPrice { reseller, sku, cost }, u64::from(changes));
        if allowed {
            self.book.members[child].prices.insert(product, cost);
        }
        Ok(())
    }

    /// The least and the most that a member's parent may charge it; `None` where it has none.
    fn price_bounds(&self, member: usize, product: usize) -> Option<(Credits, Credits)> {
        let parent = self.book.members[member].parent?;
        let terms = &self.book.products.get(product)?.terms;
        let own = self.book.unit_cost(parent, product)?;
        let least = pricing::with_margin(own, terms.minimum_margin_percent).ok()?;
        let most = pricing::percent_of(terms.base_cost.credits(), self.book.policy.max_child_price_percent).ok()?;
        Some((least, most))
    }
}
