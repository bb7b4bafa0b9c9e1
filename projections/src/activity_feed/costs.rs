//! Whose own cost a price change changes.
//!
//! The rule is `aggregates::pricing`; here it is asked twice, with what held before the event and with what holds after it, for
//! everybody below whom it may concern. A cost depends on nothing below it, so below a reseller whose cost stays, all stay.
//!
//! Cost: nothing for batches without such events; else the subtree below is loaded, and walked once an event and product.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aggregates::event::{AggregateKey, Event};
use aggregates::platform::{PlatformEvent, Policy};
use aggregates::pricing::{PricedItem, PricedReseller, unit_costs};
use aggregates::primitives::{Credits, Level, Percent, ResellerId, ResellerStatus, Sku, Tier};
use aggregates::product::{ProductEvent, ProductTerms};
use aggregates::reseller::ResellerEvent;

use super::{Line, MEMBERS, Member, PRICES, Rows, TERMS, terms_name};
use crate::batch::LogEvent;
use crate::memory::Map;
use crate::products::priced;
use crate::sql::{Changes, Connection, Value, ViewError};

const POLICY: &str = "policy";

/// What costs depend on besides the resellers themselves, as far as a batch needs it.
#[derive(Debug, Default)]
pub(super) struct Costs {
    policy: Policy,
    products: BTreeMap<Sku, ProductTerms>,
    prices: Map<(u64, Sku), Level>,
    /// Everybody loaded, in the order of their lines.
    lines: BTreeMap<Line, u64>,
    written_prices: BTreeMap<(u64, Sku), Option<Level>>,
    written_terms: BTreeMap<String, Value>,
}

/// One thing that costs depend on becomes another.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Price(u64, Sku, Option<Level>),
    Tier(u64, Tier),
    Margin(u64, Option<Percent>),
    Terms(Sku, Option<ProductTerms>),
    Policy(Policy),
}

/// A reseller's own cost before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CostChange {
    pub(super) number: u64,
    /// Of which product; `None` where it may be more than one.
    pub(super) sku: Option<Sku>,
    pub(super) former: Option<Credits>,
    pub(super) now: Option<Credits>,
}

/// What a batch's changes of costs must know.
#[derive(Debug, Default)]
struct Needed {
    /// Whether anything changes that costs depend on.
    any: bool,
    /// Below whom costs may change.
    subtrees: BTreeSet<Line>,
    /// Whose line is enough: nobody below is stored yet.
    lines: BTreeSet<Line>,
}

impl Needed {
    fn by(events: &[LogEvent], rows: &Rows) -> Self {
        let mut needed = Self::default();
        let mut new: Map<ResellerId, Option<ResellerId>> = Map::new();
        let mut settings_seen = BTreeSet::new();
        let known = |reseller| rows.numbers.get(&reseller).and_then(|number| rows.members.get(number));
        for logged in events {
            let reseller = match (&logged.key, &logged.event) {
                (AggregateKey::Reseller(reseller), Event::Reseller(event)) => match event {
                    ResellerEvent::ResellerRegistered(registration) => {
                        new.insert(*reseller, registration.parent);
                        continue;
                    }
                    ResellerEvent::SettingsChanged { settings } => {
                        let margin = known(*reseller).and_then(|member| member.margin_percent);
                        if settings_seen.insert(*reseller) && settings.margin_percent == margin {
                            continue;
                        }
                        *reseller
                    }
                    ResellerEvent::PriceSet { .. }
                    | ResellerEvent::PriceCleared { .. }
                    | ResellerEvent::TierChanged { .. } => *reseller,
                    _ => continue,
                },
                (_, Event::Platform(PlatformEvent::PolicySet { .. }))
                | (_, Event::Product(ProductEvent::ProductRepriced { .. } | ProductEvent::ProductRevised { .. })) => {
                    needed.any = true;
                    needed.subtrees.insert(Line::default());
                    continue;
                }
                _ => continue,
            };
            needed.any = true;
            match known(reseller) {
                Some(member) => {
                    needed.subtrees.insert(member.path.clone());
                }
                // It registers in this very batch, maybe like its parent: the nearest one that is stored has the line.
                None => {
                    let above = std::iter::successors(Some(reseller), |id| new.get(id).copied().flatten());
                    needed.lines.extend(above.filter_map(known).next().map(|member| member.path.clone()));
                }
            }
        }
        needed
    }
}

/// Loads what the costs depend on that a batch may change.
pub(super) async fn load(
    connection: &mut Connection<'_>,
    events: &[LogEvent],
    rows: &mut Rows,
) -> Result<(), ViewError> {
    let needed = Needed::by(events, rows);
    if !needed.any {
        return Ok(());
    }
    let mut loaded: Option<&Line> = None;
    for root in &needed.subtrees {
        // In this order a subtree follows its root at once.
        if loaded.is_some_and(|loaded| loaded.holds(root)) {
            continue;
        }
        loaded = Some(root);
        let (from, until) = root.subtree();
        let range = || vec![Value::Bytes(from.clone()), Value::Bytes(until.clone())];
        rows.add_members(&connection.fetch(&format!("{MEMBERS} path >= $1 and path < $2"), range()).await?)?;
        let below = "select p.number, p.sku, p.cost from activity_resellers r join activity_prices p on p.number = r.number \
                     where p.cost is not null and r.path >= $1 and r.path < $2";
        rows.costs.add_prices(&connection.fetch(below, range()).await?)?;
    }
    let above: BTreeSet<u64> = needed.subtrees.iter().chain(&needed.lines).flat_map(Line::numbers).collect();
    let prices = "select number, sku, cost from activity_prices where cost is not null and number in";
    rows.costs.add_prices(&connection.fetch_by_numbers(prices, &above).await?)?;
    let strangers: Vec<u64> = above.into_iter().filter(|number| !rows.members.contains_key(number)).collect();
    rows.add_members(&connection.fetch_by_numbers(&format!("{MEMBERS} number in"), strangers).await?)?;
    for row in connection.fetch("select name, terms from activity_terms", Vec::new()).await? {
        let mut columns = row.columns();
        match columns.str()?.strip_prefix("product:") {
            Some(sku) => {
                let sku: Sku = sku.parse().map_err(ViewError::unreadable)?;
                if let Some(terms) = columns.json::<Option<ProductTerms>>()? {
                    rows.costs.products.insert(sku, terms);
                }
            }
            None => rows.costs.policy = columns.json()?,
        }
    }
    Ok(())
}

/// What holds: as it is known, or with one change.
struct Holding<'a> {
    costs: &'a Costs,
    members: &'a Map<u64, Arc<Member>>,
    change: Option<&'a Change>,
}

impl Holding<'_> {
    fn unit_cost(&self, line: &Line, sku: &Sku) -> Result<Option<Credits>, ViewError> {
        let terms = match self.change {
            Some(Change::Terms(changed, terms)) if changed == sku => terms.as_ref(),
            _ => self.costs.products.get(sku),
        };
        let Some(item) = terms.map(priced) else { return Ok(None) };
        let policy = match self.change {
            Some(Change::Policy(policy)) => policy,
            _ => &self.costs.policy,
        };
        let line: Vec<PricedReseller> = line
            .numbers()
            .map(|number| {
                let member = self.members.get(&number).ok_or_else(|| ViewError::unreadable("a line with a gap"))?;
                let mut priced = PricedReseller {
                    id: member.id,
                    tier: member.tier,
                    status: ResellerStatus::Active,
                    price: self.costs.prices.get(&(number, sku.clone())).copied(),
                    margin_percent: member.margin_percent,
                };
                match self.change {
                    Some(Change::Price(whose, what, price)) if *whose == number && what == sku => priced.price = *price,
                    Some(Change::Tier(whose, tier)) if *whose == number => priced.tier = *tier,
                    Some(Change::Margin(whose, margin)) if *whose == number => priced.margin_percent = *margin,
                    _ => {}
                }
                Ok(priced)
            })
            .collect::<Result<_, ViewError>>()?;
        // A cost that cannot be worked out is none: nothing can be provisioned at it.
        Ok(last_cost(&line, item, policy))
    }
}

fn last_cost(line: &[PricedReseller], item: PricedItem, policy: &Policy) -> Option<Credits> {
    unit_costs(line, item, policy).ok()?.last().map(|unit| unit.cost)
}

impl Costs {
    fn add_prices(&mut self, rows: &[crate::sql::Row]) -> Result<(), ViewError> {
        for row in rows {
            let mut columns = row.columns();
            self.prices.insert((columns.count()?, columns.parse()?), columns.level()?);
        }
        Ok(())
    }

    /// Everybody below the one to whom it happens whose own cost it changes. Whom it happens to is told by the entry itself.
    pub(super) fn changed_by(
        &mut self,
        members: &Map<u64, Arc<Member>>,
        change: &Change,
    ) -> Result<Vec<CostChange>, ViewError> {
        let (root, skus, one) = match change {
            // A product that is new or gone costs nobody more or less.
            Change::Terms(sku, terms) if terms.is_none() || !self.products.contains_key(sku) => return Ok(Vec::new()),
            Change::Terms(sku, _) => (None, vec![sku.clone()], true),
            Change::Price(number, sku, _) => (Some(*number), vec![sku.clone()], true),
            Change::Tier(number, _) | Change::Margin(number, _) => {
                (Some(*number), self.products.keys().cloned().collect(), false)
            }
            Change::Policy(policy) if policy.tiers == self.policy.tiers => return Ok(Vec::new()),
            Change::Policy(_) => (None, self.products.keys().cloned().collect(), false),
        };
        if self.lines.len() != members.len() {
            self.lines = members.iter().map(|(number, member)| (member.path.clone(), *number)).collect();
        }
        let root = root.and_then(|number| members.get(&number)).map(|member| member.path.clone()).unwrap_or_default();
        let (from, until) = root.below();
        let before = Holding { costs: self, members, change: None };
        let after = Holding { costs: self, members, change: Some(change) };
        let mut changed: BTreeMap<u64, CostChange> = BTreeMap::new();
        for sku in skus {
            let mut unchanged: Option<&Line> = None;
            for (line, number) in self.lines.range(Line(from.clone())..Line(until.clone())) {
                if !one && root.0.is_empty() && changed.contains_key(number) {
                    continue;
                }
                // What happens to all may change a cost below one that stays.
                if !root.0.is_empty() && unchanged.is_some_and(|unchanged| unchanged.holds(line)) {
                    continue;
                }
                let (former, now) = (before.unit_cost(line, &sku)?, after.unit_cost(line, &sku)?);
                if former == now {
                    unchanged = Some(line);
                    continue;
                }
                let cost = if one {
                    CostChange { number: *number, sku: Some(sku.clone()), former, now }
                } else {
                    CostChange { number: *number, sku: None, former: None, now: None }
                };
                changed.insert(*number, cost);
            }
        }
        Ok(changed.into_values().collect())
    }

    /// Lets a change hold from here on.
    pub(super) fn apply(&mut self, members: &mut Map<u64, Arc<Member>>, change: Change) {
        match change {
            Change::Price(number, sku, price) => {
                match price {
                    Some(price) => self.prices.insert((number, sku.clone()), price),
                    None => self.prices.remove(&(number, sku.clone())),
                };
                self.written_prices.insert((number, sku), price);
            }
            Change::Tier(number, tier) => {
                if let Some(member) = members.get_mut(&number) {
                    let member = Arc::make_mut(member);
                    member.tier = tier;
                    member.changed = true;
                }
            }
            Change::Margin(number, margin) => {
                if let Some(member) = members.get_mut(&number) {
                    let member = Arc::make_mut(member);
                    member.margin_percent = margin;
                    member.changed = true;
                }
            }
            Change::Terms(sku, terms) => {
                let written = terms.as_ref().map_or_else(|| Ok(Value::from("null")), Value::json);
                self.written_terms.insert(terms_name(&sku), written.unwrap_or(Value::Null));
                match terms {
                    Some(terms) => self.products.insert(sku, terms),
                    None => self.products.remove(&sku),
                };
            }
            Change::Policy(policy) => {
                self.written_terms.insert(POLICY.to_owned(), Value::json(&policy).unwrap_or(Value::Null));
                self.policy = policy;
            }
        }
    }

    pub(super) fn write(self, changes: &mut Changes) -> Result<(), ViewError> {
        for ((number, sku), cost) in self.written_prices {
            changes.put(&PRICES, [number.into(), Value::text(sku), cost.map(Level::credits).into()]);
        }
        for (name, terms) in self.written_terms {
            if terms == Value::Null {
                return Err(ViewError::unreadable("terms that have no text"));
            }
            changes.put(&TERMS, [name.into(), terms]);
        }
        Ok(())
    }
}
