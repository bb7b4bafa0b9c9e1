//! What one unit costs a reseller, and what its uplines earn by it. One home for the rules of DOMAIN's "Provisioning" 3 and 4;
//! the write side feeds it from the network in memory, a quote from the read models' rows.
//!
//! Integer arithmetic in `i128`, checked. Discounts round half away from zero, margins round up.

use crate::platform::Policy;
use crate::primitives::{Credits, Level, MAX_CREDITS, Percent, PriceSource, ResellerId, ResellerStatus, Tier};
use crate::rejection::Rejection;

/// One reseller of a line, as far as pricing must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PricedReseller {
    /// Which one.
    pub id: ResellerId,
    /// Its tier.
    pub tier: Tier,
    /// Whether it is in business: only then it earns commissions.
    pub status: ResellerStatus,
    /// What its parent has set as its cost for the product in question.
    pub price: Option<Level>,
    /// What its own children pay above its cost where no price is set for them.
    pub margin_percent: Option<Percent>,
}

/// What is sold, as far as pricing must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PricedItem {
    /// The cost of one unit before any discount.
    pub base_cost: Level,
    /// The least that a parent adds to its own cost in a price it sets; zero for a declared base cost.
    pub minimum_margin_percent: Percent,
}

/// What one unit costs, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitCost {
    /// Credits for one unit.
    pub cost: Credits,
    /// How it came about.
    pub source: PriceSource,
}

/// `base × (100 − percent) / 100`, rounded half away from zero.
///
/// # Errors
/// `overflow` beyond 2⁵³ − 1.
pub fn discounted(base: Credits, percent: Percent) -> Result<Credits, Rejection> {
    let left = 10_000_i128 - i128::from(percent.hundredths());
    credits((i128::from(base) * left + 5_000) / 10_000)
}

/// ⌈`cost × (100 + percent) / 100`⌉.
///
/// # Errors
/// `overflow` beyond 2⁵³ − 1.
pub fn with_margin(cost: Credits, percent: Percent) -> Result<Credits, Rejection> {
    let grown = 10_000_i128 + i128::from(percent.hundredths());
    credits((i128::from(cost) * grown + 9_999) / 10_000)
}

/// `⌊base × percent / 100⌋`.
///
/// # Errors
/// `overflow` beyond 2⁵³ − 1.
pub fn percent_of(base: Credits, percent: Percent) -> Result<Credits, Rejection> {
    credits(i128::from(base) * i128::from(percent.hundredths()) / 10_000)
}

/// Unit cost × quantity.
///
/// # Errors
/// `overflow` beyond 2⁵³ − 1.
pub fn times(unit_cost: Credits, quantity: u32) -> Result<Credits, Rejection> {
    credits(i128::from(unit_cost) * i128::from(quantity))
}

/// Nothing costs less than nothing: where a percentage out of bounds has come in from elsewhere, nobody is paid for buying.
fn credits(value: i128) -> Result<Credits, Rejection> {
    Credits::try_from(value).ok().filter(|credits| (0..=MAX_CREDITS).contains(credits)).ok_or(Rejection::Overflow {})
}

/// The unit cost of every reseller of a line, top first, as it is at this moment.
///
/// # Errors
/// `overflow` where margins grow a cost beyond 2⁵³ − 1.
pub fn unit_costs(line: &[PricedReseller], item: PricedItem, policy: &Policy) -> Result<Vec<UnitCost>, Rejection> {
    let mut costs: Vec<UnitCost> = Vec::with_capacity(line.len());
    for (index, reseller) in line.iter().enumerate() {
        let parent = index.checked_sub(1).and_then(|above| Some((line.get(above)?, costs.get(above)?.cost)));
        let tier_cost = || {
            let cost = discounted(item.base_cost.credits(), policy.discount(reseller.tier))?;
            Ok(UnitCost { cost, source: PriceSource::Tier })
        };
        costs.push(match (reseller.price, parent) {
            (Some(price), Some((_, parent_cost))) => {
                let least = with_margin(parent_cost, item.minimum_margin_percent)?;
                if price.credits() >= least {
                    UnitCost { cost: price.credits(), source: PriceSource::ParentPrice }
                } else {
                    UnitCost { cost: least, source: PriceSource::MinimumMargin }
                }
            }
            // A top-level reseller's price is set by the platform, which has no cost of its own to cover.
            (Some(price), None) => UnitCost { cost: price.credits(), source: PriceSource::ParentPrice },
            (None, Some((parent, parent_cost))) => match parent.margin_percent {
                Some(margin) => UnitCost { cost: with_margin(parent_cost, margin)?, source: PriceSource::ParentMargin },
                None => tier_cost()?,
            },
            (None, None) => tier_cost()?,
        });
    }
    Ok(costs)
}

/// What each upline earns on one unit, nearest first: differential, so that every credit is accounted for.
///
/// Walks up from the seller's parent: an active ancestor whose own cost is below the floor earns the difference, and the floor
/// becomes its own cost. Whoever is not active (or has no wallet, see `earns`) is skipped, and its share falls to the next
/// one up. What the line leaves is the platform's, never negative.
pub fn commissions_per_unit(
    line: &[PricedReseller],
    costs: &[UnitCost],
    mut earns: impl FnMut(&PricedReseller) -> bool,
) -> Vec<(ResellerId, Credits)> {
    let Some((seller, above)) = costs.split_last() else { return Vec::new() };
    let mut floor = seller.cost;
    let mut earned = Vec::new();
    for (reseller, own) in line.iter().zip(above).rev() {
        if reseller.status == ResellerStatus::Active && own.cost < floor && earns(reseller) {
            earned.push((reseller.id, floor - own.cost));
            floor = own.cost;
        }
    }
    earned
}
