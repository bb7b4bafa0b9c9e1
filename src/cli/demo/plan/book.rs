//! What the plan knows of the network it is writing: who is there, what they hold, what things cost them.
//!
//! Costs and commissions come from [`aggregates::pricing`], the rules that the ledger itself uses, so the plan knows to the
//! credit what every wallet holds and asks for what will be granted, except where it means to be refused.

use std::collections::{BTreeMap, HashSet};

use aggregates::platform::Policy;
use aggregates::pricing::{self, PricedItem, PricedReseller};
use aggregates::primitives::{
    ClientId, Credits, Level, Percent, ReferralCode, ResellerId, ResellerStatus, Sku, Tier, UserId,
};
use aggregates::product::ProductTerms;

/// A client of a reseller.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnClient {
    pub(super) id: ClientId,
    pub(super) active: bool,
}

/// A reseller.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: ResellerId,
    pub(super) user: UserId,
    pub(super) parent: Option<usize>,
    pub(super) depth: u32,
    pub(super) tier: Tier,
    pub(super) status: ResellerStatus,
    pub(super) margin_percent: Option<Percent>,
    /// What its parent charges it, by product.
    pub(super) prices: BTreeMap<usize, Level>,
    pub(super) children: Vec<usize>,
    pub(super) downline: usize,
    pub(super) frozen: bool,
    pub(super) held: bool,
    pub(super) balance: Credits,
    pub(super) threshold: Credits,
    pub(super) armed: bool,
    pub(super) clients: Vec<OwnClient>,
    /// Whether it came with its parent's referral code.
    pub(super) referred: bool,
    /// How much it sells, from 1 to 100.
    pub(super) appetite: u32,
    /// Whether it lets its credits run out before it sees to new ones.
    pub(super) careless: bool,
    /// Whether it has asked for credits and waits.
    pub(super) waiting: bool,
    /// Its referral code, and the moment from which on it is not used any more.
    pub(super) code: Option<(ReferralCode, usize)>,
}

/// A product.
#[derive(Debug)]
pub(super) struct OnSale {
    pub(super) sku: Sku,
    pub(super) terms: ProductTerms,
    pub(super) popularity: u32,
    pub(super) retired: bool,
}

/// What a provision comes to.
#[derive(Debug)]
pub(super) struct Price {
    pub(super) amount: Credits,
    pub(super) commissions: Vec<(usize, Credits)>,
}

/// The network as the plan knows it.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) policy: Policy,
    pub(super) members: Vec<Member>,
    /// Those without a parent.
    pub(super) top_level: Vec<usize>,
    pub(super) products: Vec<OnSale>,
    pub(super) names: HashSet<String>,
}

impl Book {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, members: Vec::new(), top_level: Vec::new(), products: Vec::new(), names: HashSet::new() }
    }

    /// A member and its ancestors, nearest first.
    pub(super) fn upward(&self, member: usize) -> impl Iterator<Item = usize> {
        let mut next = Some(member);
        std::iter::from_fn(move || {
            let current = next?;
            next = self.members[current].parent;
            Some(current)
        })
    }

    /// Whether it or an ancestor is frozen.
    pub(super) fn frozen(&self, member: usize) -> bool {
        self.upward(member).any(|above| self.members[above].frozen)
    }

    /// Whether it is in business and may act.
    pub(super) fn free(&self, member: usize) -> bool {
        self.members[member].status == ResellerStatus::Active && !self.frozen(member)
    }

    /// From the top down to a member.
    fn line(&self, member: usize) -> Vec<usize> {
        let mut line: Vec<usize> = self.upward(member).collect();
        line.reverse();
        line
    }

    fn priced(&self, line: &[usize], product: usize) -> Vec<PricedReseller> {
        let priced = |member: &usize| {
            let member = &self.members[*member];
            PricedReseller {
                id: member.id,
                tier: member.tier,
                status: member.status,
                price: member.prices.get(&product).copied(),
                margin_percent: member.margin_percent,
            }
        };
        line.iter().map(priced).collect()
    }

    fn item(&self, product: usize) -> PricedItem {
        let terms = &self.products[product].terms;
        PricedItem { base_cost: terms.base_cost, minimum_margin_percent: terms.minimum_margin_percent }
    }

    /// What one unit costs a member; `None` where that cannot be said.
    pub(super) fn unit_cost(&self, member: usize, product: usize) -> Option<Credits> {
        let priced = self.priced(&self.line(member), product);
        let costs = pricing::unit_costs(&priced, self.item(product), &self.policy).ok()?;
        costs.last().map(|unit| unit.cost)
    }

    /// What a provision costs, and who earns by it.
    pub(super) fn price(&self, member: usize, product: usize, quantity: u32) -> Option<Price> {
        let line = self.line(member);
        let priced = self.priced(&line, product);
        let costs = pricing::unit_costs(&priced, self.item(product), &self.policy).ok()?;
        let amount = pricing::times(costs.last()?.cost, quantity).ok()?;
        let mut commissions = Vec::new();
        if self.policy.commissions {
            for (earner, per_unit) in pricing::commissions_per_unit(&priced, &costs, |_| true) {
                let earner = line.iter().copied().find(|member| self.members[*member].id == earner)?;
                commissions.push((earner, pricing::times(per_unit, quantity).ok()?));
            }
        }
        Some(Price { amount, commissions })
    }

    /// Takes credits out of a wallet; how many events that makes.
    pub(super) fn debit(&mut self, member: usize, amount: Credits) -> u64 {
        let wallet = &mut self.members[member];
        wallet.balance -= amount;
        self.judge(member)
    }

    /// Puts credits into a wallet; how many events that makes.
    pub(super) fn credit(&mut self, member: usize, amount: Credits) -> u64 {
        let wallet = &mut self.members[member];
        wallet.balance += amount;
        wallet.armed |= wallet.balance >= wallet.threshold;
        1
    }

    /// Low credit is told once, and again only after it has recovered.
    fn judge(&mut self, member: usize) -> u64 {
        let wallet = &mut self.members[member];
        let low = wallet.balance < wallet.threshold;
        let told = low && wallet.armed;
        wallet.armed = !low;
        1 + u64::from(told)
    }

    /// Lets a member join under its parent.
    pub(super) fn join(&mut self, member: Member) -> usize {
        let index = self.members.len();
        if member.parent.is_none() {
            self.top_level.push(index);
        }
        if let Some(parent) = member.parent {
            self.members[parent].children.push(index);
            let above: Vec<usize> = self.upward(parent).collect();
            for ancestor in above {
                self.members[ancestor].downline += 1;
            }
        }
        self.members.push(member);
        index
    }
}
