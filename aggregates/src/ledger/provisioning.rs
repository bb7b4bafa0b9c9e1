//! Provisioning: who names the price, what refuses it, what it costs, who earns by it. One at a time or in bulk.
//!
//! A single provision of a top-level reseller reads one wallet and one product; commissions read the wallets of those who
//! earn, asked for all at once.

use crate::answer::{Answer, BulkAnswer, BulkItemAnswer, ItemOutcome, ProvisionAnswer};
use crate::client::Client;
use crate::command::{BulkItem, PriceBasis, ProvisionOrder};
use crate::event::AggregateKey;
use crate::pricing::{self, PricedItem, PricedReseller};
use crate::primitives::{ClientStatus, Credits, Percent, PriceSource, Quantity, ResellerId, ResellerStatus};
use crate::rejection::Rejection;
use crate::reseller::check_metadata;
use crate::wallet::{Commission, Provision, Wallet, WalletCommand};

use super::authority::Standing;
use super::draft::{Decided, Draft, Stop};
use super::{EVENTS_MAX, Key, Remembered, too_many_events};

impl Draft<'_> {
    pub(super) fn provision(&mut self, wallet: ResellerId, order: &ProvisionOrder) -> Decided<Answer> {
        let standing = self.itself_or_platform(wallet, "wallet")?;
        let provision = self.judge_affordable(wallet, standing, order)?;
        self.commit(wallet, provision).map(|answer| Answer::Provision(Box::new(answer)))
    }

    /// Atomic: judged in order for everything but money, then the total, then all in one commit. Not atomic: item by item.
    pub(super) fn provision_bulk(&mut self, wallet: ResellerId, atomic: bool, items: &[BulkItem]) -> Decided<Answer> {
        let standing = self.itself_or_platform(wallet, "wallet")?;
        let answer =
            if atomic { self.bulk_atomic(wallet, standing, items)? } else { self.bulk_each(wallet, standing, items)? };
        Ok(Answer::Bulk(answer))
    }

    fn bulk_atomic(&mut self, wallet: ResellerId, standing: Standing, items: &[BulkItem]) -> Decided<BulkAnswer> {
        let refused = |index: usize, stop: Stop| match stop {
            Stop::Refused(refusal) => Stop::Refused(Rejection::ItemRefused { index, refusal: Box::new(refusal) }),
            other => other,
        };
        let mut judged: Vec<Result<Provision, BulkItemAnswer>> = Vec::with_capacity(items.len());
        let mut missing: Vec<Key> = Vec::new();
        let mut required: Credits = 0;
        let mut events = 0;
        for (index, item) in items.iter().enumerate() {
            if !missing.is_empty() {
                // Something is missing already: what is left only says what it misses too, so that all of it is loaded in one
                // go, and nothing is answered before the first item has been.
                if let Err(Stop::Missing(keys)) = self.judge(wallet, standing, &item.order) {
                    missing.extend(keys);
                }
                continue;
            }
            let known = self.known_answer(index, item).map_err(|stop| refused(index, stop))?;
            judged.push(match known {
                Some(BulkItemAnswer { outcome: ItemOutcome::Refused(refusal), .. }) => {
                    return Err(refused(index, Stop::Refused(refusal)));
                }
                Some(first_answer) => Err(first_answer),
                None => {
                    let provision = match self.judge(wallet, standing, &item.order) {
                        Ok(provision) => provision,
                        Err(Stop::Missing(keys)) => {
                            missing = keys;
                            continue;
                        }
                        Err(stop) => return Err(refused(index, stop)),
                    };
                    required = required.checked_add(provision.amount).ok_or(Rejection::Overflow {})?;
                    events += 1 + provision.commissions.len();
                    Ok(provision)
                }
            });
            if events > EVENTS_MAX {
                return Err(too_many_events().into());
            }
        }
        if !missing.is_empty() {
            return Err(Stop::Missing(missing));
        }
        self.get::<Wallet>(&wallet)?.check_affordable(required)?;
        let mut answer = BulkAnswer { accepted: 0, refused: 0, replayed: 0, items: Vec::with_capacity(items.len()) };
        for (index, (judged, item)) in judged.into_iter().zip(items).enumerate() {
            answer.items.push(match judged {
                Ok(provision) => {
                    let provisioned = self.commit(wallet, provision)?;
                    answer.accepted += 1;
                    self.remember_item(index, item, ItemOutcome::Provisioned(Box::new(provisioned)))
                }
                Err(first_answer) => {
                    answer.replayed += 1;
                    first_answer
                }
            });
        }
        Ok(answer)
    }

    fn bulk_each(&mut self, wallet: ResellerId, standing: Standing, items: &[BulkItem]) -> Decided<BulkAnswer> {
        let mut answer = BulkAnswer { accepted: 0, refused: 0, replayed: 0, items: Vec::with_capacity(items.len()) };
        let mut missing: Vec<Key> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let known = match self.known_answer(index, item) {
                Ok(known) => known,
                Err(Stop::Refused(refusal)) => {
                    // The key stands for something else: that is said, and not remembered under it.
                    answer.refused += 1;
                    answer.items.push(BulkItemAnswer {
                        index,
                        replayed: false,
                        outcome: ItemOutcome::Refused(refusal),
                    });
                    continue;
                }
                Err(other) => return Err(other),
            };
            if let Some(first_answer) = known {
                answer.replayed += 1;
                answer.items.push(first_answer);
                continue;
            }
            let outcome = match self.judge_affordable(wallet, standing, &item.order) {
                Ok(provision) => {
                    // Judged: from here on the item happens whole, or the command does not.
                    let provisioned = self.commit(wallet, provision)?;
                    answer.accepted += 1;
                    ItemOutcome::Provisioned(Box::new(provisioned))
                }
                Err(Stop::Refused(refusal)) => {
                    answer.refused += 1;
                    ItemOutcome::Refused(refusal)
                }
                // Gather what all items miss, so that they are loaded in one go.
                Err(Stop::Missing(keys)) => {
                    missing.extend(keys);
                    continue;
                }
                Err(denied) => return Err(denied),
            };
            let item_answer = self.remember_item(index, item, outcome);
            answer.items.push(item_answer);
            if self.events.len() > EVENTS_MAX {
                return Err(too_many_events().into());
            }
        }
        if missing.is_empty() { Ok(answer) } else { Err(Stop::Missing(missing)) }
    }

    /// The first answer to an item's key, if it is known.
    fn known_answer(&self, index: usize, item: &BulkItem) -> Decided<Option<BulkItemAnswer>> {
        let Some(idempotency) = item.idempotency else { return Ok(None) };
        let Some(receipt) = self.receipts.find(&idempotency.key) else { return Ok(None) };
        if receipt.fingerprint != idempotency.fingerprint {
            return Err(Rejection::IdempotencyKeyReused {}.into());
        }
        let outcome = match &receipt.outcome {
            Remembered::Done { answer: Answer::Provision(answer), .. } => ItemOutcome::Provisioned(answer.clone()),
            Remembered::Refused(refusal) => ItemOutcome::Refused(refusal.clone()),
            Remembered::Done { .. } => return Err(Rejection::IdempotencyKeyReused {}.into()),
        };
        Ok(Some(BulkItemAnswer { index, replayed: true, outcome }))
    }

    fn remember_item(&mut self, index: usize, item: &BulkItem, outcome: ItemOutcome) -> BulkItemAnswer {
        let kept = match &outcome {
            ItemOutcome::Provisioned(_) => true,
            ItemOutcome::Refused(refusal) => refusal.is_remembered(),
        };
        if let Some(idempotency) = item.idempotency.filter(|_| kept) {
            let remembered = match &outcome {
                ItemOutcome::Provisioned(answer) => {
                    Remembered::Done { changed: true, answer: Answer::Provision(answer.clone()) }
                }
                ItemOutcome::Refused(refusal) => Remembered::Refused(refusal.clone()),
            };
            self.item_receipts.push((idempotency, remembered));
        }
        BulkItemAnswer { index, replayed: false, outcome }
    }

    fn judge_affordable(&self, wallet: ResellerId, standing: Standing, order: &ProvisionOrder) -> Decided<Provision> {
        let provision = self.judge(wallet, standing, order)?;
        self.get::<Wallet>(&wallet)?.check_affordable(provision.amount)?;
        Ok(provision)
    }

    /// Judges an order by everything but money, in DOMAIN's order, and prices it.
    fn judge(&self, wallet: ResellerId, standing: Standing, order: &ProvisionOrder) -> Decided<Provision> {
        let declared = !matches!(order.basis, PriceBasis::Product { .. });
        if declared && standing != Standing::Platform && !self.actor().declared_cost {
            return Err(Rejection::DeclaredCostNotAllowed {}.into());
        }
        if let Some(metadata) = &order.metadata {
            check_metadata(metadata)?;
        }
        self.check_opened(wallet)?;
        self.check_active(wallet)?;
        self.check_unfrozen(wallet)?;
        self.check_not_held(wallet)?;
        if let Some(client) = order.client {
            let client = self.get::<Client>(&client)?;
            match client.status {
                Some(_) if client.owner != Some(wallet) => return Err(Rejection::not_found("client").into()),
                None => return Err(Rejection::not_found("client").into()),
                Some(ClientStatus::Active) => {}
                Some(status) => return Err(Rejection::ClientInactive { status }.into()),
            }
        }
        self.price(wallet, order)
    }

    fn check_not_held(&self, wallet: ResellerId) -> Decided<()> {
        let holds = &self.get::<Wallet>(&wallet)?.holds;
        match self.network().highest(holds.iter().copied()) {
            None => Ok(()),
            Some(authority) => {
                let by = self.network().seen_by(self.actor().tenant, authority);
                Err(Rejection::ProvisioningHeld { by }.into())
            }
        }
    }

    fn price(&self, wallet: ResellerId, order: &ProvisionOrder) -> Decided<Provision> {
        let (item, sku, quantity) = match &order.basis {
            PriceBasis::Cost(cost) => return Ok(declared_provision(order, cost.credits())),
            PriceBasis::BaseCost(base_cost) => {
                let item = PricedItem { base_cost: *base_cost, minimum_margin_percent: Percent::default() };
                (item, None, Quantity::ONE)
            }
            PriceBasis::Product { sku, quantity } => {
                let terms = self.product_on_sale(sku)?;
                let tier = self.network().get(wallet).map(|node| node.tier);
                if tier < Some(terms.minimum_tier) {
                    return Err(Rejection::TierNotEntitled { required_tier: terms.minimum_tier }.into());
                }
                let (base_cost, minimum_margin_percent) = (terms.base_cost, terms.minimum_margin_percent);
                (PricedItem { base_cost, minimum_margin_percent }, Some(sku), *quantity)
            }
        };
        let policy = self.policy()?;
        let line = self.network().line(wallet, sku);
        let costs = pricing::unit_costs(&line, item, policy)?;
        let (Some(seller), Some(unit_cost)) = (line.last(), costs.last()) else {
            return Err(Rejection::not_found("reseller").into());
        };
        let amount = pricing::times(unit_cost.cost, quantity.units())?;
        let discount = policy.discount(seller.tier);
        let commissions = if policy.commissions { self.commissions(&line, &costs, quantity)? } else { Vec::new() };
        Ok(Provision {
            amount,
            unit_cost: unit_cost.cost,
            price_source: unit_cost.source,
            quantity,
            base_cost: Some(item.base_cost.credits()),
            discount_percent: Some(discount),
            sku: sku.cloned(),
            commissions,
            ..declared_provision(order, amount)
        })
    }

    fn commissions(
        &self,
        line: &[PricedReseller],
        costs: &[pricing::UnitCost],
        quantity: Quantity,
    ) -> Decided<Vec<Commission>> {
        let Some((seller, above)) = costs.split_last() else { return Ok(Vec::new()) };
        let candidates = line
            .iter()
            .zip(above)
            .filter(|(reseller, own)| reseller.status == ResellerStatus::Active && own.cost < seller.cost)
            .map(|(reseller, _)| Key::Aggregate(AggregateKey::Wallet(reseller.id)));
        self.require(candidates)?;
        let has_wallet =
            |reseller: &PricedReseller| self.get::<Wallet>(&reseller.id).is_ok_and(|wallet| wallet.reseller.is_some());
        pricing::commissions_per_unit(line, costs, has_wallet)
            .into_iter()
            .map(|(reseller, per_unit)| {
                Ok(Commission { reseller, amount: pricing::times(per_unit, quantity.units())? })
            })
            .collect()
    }

    /// Debits the wallet and credits the commissions.
    fn commit(&mut self, wallet: ResellerId, provision: Provision) -> Decided<ProvisionAnswer> {
        let told = self.actor().is_platform().then(|| provision.commissions.clone());
        let provision_id = provision.provision_id;
        let commissions = provision.commissions.clone();
        let mut answer = ProvisionAnswer {
            provision_id,
            amount: provision.amount,
            unit_cost: provision.unit_cost,
            price_source: provision.price_source,
            quantity: provision.quantity,
            base_cost: provision.base_cost,
            discount_percent: provision.discount_percent,
            balance: 0,
            available: 0,
            low_credit: false,
            commissions: told,
        };
        self.order_wallet(wallet, WalletCommand::Provision(Box::new(provision)))?;
        for earned in commissions {
            let amount = earned.amount;
            self.order_wallet(earned.reseller, WalletCommand::EarnCommission { provision_id, seller: wallet, amount })?;
        }
        let after = self.get::<Wallet>(&wallet)?;
        answer.balance = after.balance;
        answer.available = after.available();
        answer.low_credit = after.is_low();
        Ok(answer)
    }
}

/// An order at a declared cost: taken as given, no commission.
fn declared_provision(order: &ProvisionOrder, amount: Credits) -> Provision {
    Provision {
        provision_id: order.provision_id,
        amount,
        unit_cost: amount,
        price_source: PriceSource::Declared,
        quantity: Quantity::ONE,
        base_cost: None,
        discount_percent: None,
        sku: None,
        client: order.client,
        description: order.description.clone(),
        metadata: order.metadata.clone(),
        commissions: Vec::new(),
    }
}
