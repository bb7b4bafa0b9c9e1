//! Provisioning: prices, commissions, bulk, refunds.

use super::network::ceiling_percent;
use super::{
    Basis, BulkItem, ClientStatus, Done, Id, ItemReply, Memory, Naive, No, Order, Product, Provision, Refusal, Role,
    Ruling, Sale, Slot, Status, Terms, Who, ensure, memorable, permit, refused, with_figures,
};

impl Naive {
    pub fn product(&self, id: Id) -> Option<&Product> {
        self.products.iter().find(|product| product.id == id)
    }

    /// The base cost less the discount of the reseller's tier, rounded half away from zero.
    fn tier_cost(&self, id: Id, base_cost: i64) -> i64 {
        let tier = self.reseller(id).map_or(0, |reseller| reseller.tier);
        let exact = i128::from(base_cost) * i128::from(10_000 - self.rules.discounts[tier]);
        i64::try_from((exact + 5_000) / 10_000).expect("a small amount")
    }

    /// What one unit of a product costs a reseller now, and how that came about.
    pub fn unit_cost(&self, id: Id, product: &Product) -> (i64, &'static str) {
        let Some(reseller) = self.reseller(id) else { return (0, "") };
        let parent = reseller.parent.and_then(|parent| self.reseller(parent));
        let parent_cost = parent.map_or(0, |parent| self.unit_cost(parent.id, product).0);
        if let Some(price) = reseller.prices.get(&product.id).copied() {
            let least = ceiling_percent(parent_cost, 10_000 + product.terms.minimum_margin);
            return if price >= least { (price, "parent_price") } else { (least, "minimum_margin") };
        }
        if let Some(margin) = parent.and_then(|parent| parent.margin) {
            return (ceiling_percent(parent_cost, 10_000 + margin), "parent_margin");
        }
        (self.tier_cost(id, product.terms.base_cost), "tier")
    }

    /// What one unit of the order costs a reseller; a declared base cost is like a product that nobody has priced.
    fn cost_to(&self, id: Id, basis: Basis) -> (i64, &'static str) {
        match basis {
            Basis::Cost(cost) => (cost, "declared"),
            Basis::BaseCost(base_cost) => {
                let terms = Terms { base_cost, minimum_tier: 0, minimum_margin: 0 };
                self.unit_cost(id, &Product { id: Id::MAX, terms, retired: false })
            }
            Basis::Product { product, .. } => {
                self.unit_cost(id, self.product(product).expect("a product that is there"))
            }
        }
    }

    fn commissions(&self, seller: Id, basis: Basis, quantity: i64) -> Vec<(Id, i64)> {
        let mut commissions = Vec::new();
        if !self.rules.commissions || matches!(basis, Basis::Cost(_)) {
            return commissions;
        }
        let mut floor = self.cost_to(seller, basis).0;
        for upline in self.line(seller).into_iter().skip(1) {
            let active = self.reseller(upline).is_some_and(|reseller| reseller.status == Status::Active);
            let own = self.cost_to(upline, basis).0;
            if active && self.wallet(upline).is_some() && own < floor {
                commissions.push((upline, (floor - own) * quantity));
                floor = own;
            }
        }
        commissions
    }

    fn may_provision(&self, who: &Who, id: Id) -> Ruling {
        self.seen(who, id)?;
        permit(who.role == Role::SuperAdmin || who.tenant == Some(id))
    }

    /// Everything that stands between an order and its sale but money.
    fn judge(&self, who: &Who, id: Id, order: &Order) -> Ruling<Sale> {
        if !matches!(order.basis, Basis::Product { .. }) {
            ensure(who.role == Role::SuperAdmin || who.declared_cost, "declared_cost_not_allowed")?;
        }
        self.must_have_wallet(id)?;
        self.must_be_active(id)?;
        self.must_not_be_frozen(id)?;
        ensure(self.must_have_wallet(id)?.holds.is_empty(), "provisioning_held")?;
        if let Some(client) = order.client {
            match self.clients.iter().find(|known| known.id == client && known.owner == id) {
                Some(client) => ensure(client.status == ClientStatus::Active, "client_inactive")?,
                None => return refused("not_found"),
            }
        }
        let mut quantity = 1;
        if let Basis::Product { product, quantity: asked } = order.basis {
            let Some(product) = self.product(product) else { return refused("not_found") };
            ensure(!product.retired, "product_retired")?;
            let tier = self.reseller(id).map_or(0, |reseller| reseller.tier);
            ensure(tier >= product.terms.minimum_tier, "tier_not_entitled")?;
            quantity = asked;
        }
        let (unit_cost, source) = self.cost_to(id, order.basis);
        Ok(Sale {
            wallet: id,
            provision: order.provision,
            amount: unit_cost * quantity,
            unit_cost,
            source,
            commissions: self.commissions(id, order.basis, quantity),
        })
    }

    fn must_afford(&self, id: Id, required: i64) -> Ruling {
        let wallet = self.must_have_wallet(id)?;
        let available = wallet.balance() + wallet.limit;
        if available < required {
            return with_figures("insufficient_credits", &[required, available, wallet.balance(), 0]);
        }
        Ok(())
    }

    fn sell(&mut self, sale: Sale) -> Ruling {
        self.debit(sale.wallet, sale.amount)?;
        for (upline, amount) in sale.commissions.clone() {
            self.credit(upline, amount)?;
        }
        self.done.sales.push(sale.clone());
        self.provisions.push(Provision { sale, refunded: 0 });
        Ok(())
    }

    fn judge_affordable(&self, who: &Who, id: Id, order: &Order) -> Ruling<Sale> {
        let sale = self.judge(who, id, order)?;
        self.must_afford(id, sale.amount)?;
        Ok(sale)
    }

    pub(super) fn provision(&mut self, who: &Who, id: Id, order: &Order) -> Ruling {
        self.may_provision(who, id)?;
        let sale = self.judge_affordable(who, id, order)?;
        self.sell(sale)
    }

    pub(super) fn bulk(&mut self, who: &Who, id: Id, atomic: bool, items: &[BulkItem]) -> Ruling {
        self.may_provision(who, id)?;
        let slots: Vec<Option<Slot>> =
            items.iter().map(|item| item.key.map(|(key, _)| (who.tenant, who.user, key))).collect();

        let known: Vec<Option<ItemReply>> =
            items.iter().zip(&slots).map(|(item, slot)| self.recall(item, *slot)).collect();
        if atomic {
            let mut sales = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let ruling = match &known[index] {
                    Some(reply) => reply.outcome.clone().map(|_| None).map_err(No::Refused),
                    None => self.judge(who, id, &item.order).map(Some),
                };
                sales.push(ruling.map_err(|no| at(index, no))?);
            }
            self.must_afford(id, sales.iter().flatten().map(|sale| sale.amount).sum())?;
            for (index, sale) in sales.into_iter().enumerate() {
                match (known[index].clone(), sale) {
                    (None, Some(sale)) => {
                        self.sell(sale.clone())?;
                        self.answer_item(&items[index], slots[index], Ok(sale));
                    }
                    (reply, _) => self.done.items.extend(reply),
                }
            }
            return Ok(());
        }
        for (index, item) in items.iter().enumerate() {
            match known[index].clone() {
                Some(reply) => self.done.items.push(reply),
                None => {
                    let outcome = match self.judge_affordable(who, id, &item.order) {
                        Ok(sale) => {
                            self.sell(sale.clone())?;
                            Ok(sale)
                        }
                        Err(No::Refused(refusal)) => Err(refusal),
                        Err(denial) => return Err(denial),
                    };
                    self.answer_item(item, slots[index], outcome);
                }
            }
        }
        Ok(())
    }

    /// What a known item key was answered first; for other content, that the key is used.
    fn recall(&self, item: &BulkItem, slot: Option<Slot>) -> Option<ItemReply> {
        let memory = slot.and_then(|slot| self.memory.get(&slot))?;
        let (_, fingerprint) = item.key?;
        let reused = Refusal { code: "idempotency_key_reused", figures: vec![], index: None };
        if memory.fingerprint != fingerprint {
            return Some(ItemReply { replayed: false, outcome: Err(reused) });
        }
        let outcome = match &memory.outcome {
            Ok(done) => Ok(done.sales[0].clone()),
            Err(No::Refused(refusal)) => Err(refusal.clone()),
            Err(No::Denied(_)) => Err(reused),
        };
        Some(ItemReply { replayed: true, outcome })
    }

    fn answer_item(&mut self, item: &BulkItem, slot: Option<Slot>, outcome: Result<Sale, Refusal>) {
        if let (Some(slot), Some((_, fingerprint))) = (slot, item.key) {
            let outcome = match &outcome {
                Ok(sale) => Ok(Done { changed: true, sales: vec![sale.clone()], ..Done::default() }),
                Err(refusal) => Err(No::Refused(refusal.clone())),
            };
            if memorable(&outcome) {
                self.memory.insert(slot, Memory { fingerprint, outcome });
            }
        }
        self.done.items.push(ItemReply { replayed: false, outcome });
    }

    pub(super) fn refund(&mut self, who: &Who, id: Id, provision: Id, amount: Option<i64>) -> Ruling {
        self.only_platform(who, id)?;
        let of_this = |known: &Provision| known.sale.provision == provision && known.sale.wallet == id;
        let Some(place) = self.provisions.iter().position(of_this) else { return refused("not_found") };
        let Provision { sale, refunded: before } = self.provisions[place].clone();
        let left = sale.amount - before;
        let amount = amount.unwrap_or(left);
        if left == 0 || amount > left {
            return with_figures("not_refundable", &[left]);
        }
        let after = before + amount;
        self.provisions[place].refunded = after;
        self.credit(id, amount)?;
        for (upline, commission) in sale.commissions {
            let reversed = |refunded: i64| {
                let exact = i128::from(commission) * i128::from(refunded) / i128::from(sale.amount);
                i64::try_from(exact).expect("at most the commission")
            };
            let now = reversed(after) - reversed(before);
            if now > 0 {
                self.debit(upline, now)?;
            }
        }
        Ok(())
    }

    pub(super) fn publish(&mut self, who: &Who, id: Id, terms: Terms) -> Ruling {
        permit(who.role == Role::SuperAdmin)?;
        ensure(self.product(id).is_none(), "already_exists")?;
        self.products.push(Product { id, terms, retired: false });
        self.done.changed = true;
        Ok(())
    }

    fn product_on_sale(&mut self, id: Id) -> Ruling<&mut Product> {
        let Some(product) = self.products.iter_mut().find(|product| product.id == id) else {
            return refused("not_found");
        };
        ensure(!product.retired, "invalid_transition")?;
        Ok(product)
    }

    pub(super) fn revise(&mut self, who: &Who, id: Id, terms: Terms) -> Ruling {
        permit(who.role == Role::SuperAdmin)?;
        let product = self.product_on_sale(id)?;
        let changes = product.terms != terms;
        product.terms = terms;
        self.done.changed |= changes;
        Ok(())
    }

    pub(super) fn retire(&mut self, who: &Who, id: Id) -> Ruling {
        permit(who.role == Role::SuperAdmin)?;
        self.product_on_sale(id)?.retired = true;
        self.done.changed = true;
        Ok(())
    }
}

fn at(index: usize, no: No) -> No {
    match no {
        No::Refused(refusal) => No::Refused(Refusal { index: Some(index), ..refusal }),
        denied @ No::Denied(_) => denied,
    }
}
