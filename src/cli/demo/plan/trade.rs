//! Day-to-day business: provisions one at a time and in bulk, and what of them is given back.

use aggregates::command::{BulkItem, Command, PriceBasis, ProvisionOrder};
use aggregates::primitives::{ClientId, Credits, Invalid, ProvisionId, Quantity, RefundId, Text};
use rand::Rng;

use super::book::Price;
use super::{Later, MOMENTS_A_DAY, Plan};

impl Plan {
    pub(super) fn provision_something(&mut self) -> Result<(), Invalid> {
        let Some(member) = self.somebody() else { return Ok(()) };
        // Whoever waits for credits, or is held, tries now and then all the same.
        let stuck = self.book.members[member].waiting || self.book.members[member].held;
        if stuck && !self.chance(6) {
            return Ok(());
        }
        let Some(product) = self.some_product(member) else { return Ok(()) };
        let quantity = match self.rng.random_range(0..100) {
            0..78 => 1,
            78..97 => self.rng.random_range(2..=5),
            _ => self.rng.random_range(10..=25),
        };
        self.provision(member, product, quantity)
    }

    /// Provisions, and sees to the credits for it; or shows what happens where nobody has.
    pub(super) fn provision(&mut self, member: usize, product: usize, quantity: u32) -> Result<(), Invalid> {
        let Some(price) = self.book.price(member, product, quantity) else { return Ok(()) };
        let sold_to_all = self.book.products[product].terms.minimum_tier;
        let entitled = self.book.members[member].tier >= sold_to_all;
        let allowed = entitled && !self.book.members[member].held && self.book.free(member);
        if !allowed {
            let order = self.order(member, product, quantity)?;
            let wallet = self.book.members[member].id;
            self.send(self.acting(member), Command::Provision { wallet, order: Box::new(order) }, 0);
            return Ok(());
        }
        if self.book.members[member].balance < price.amount {
            if self.book.members[member].careless {
                return self.run_out(member, product, quantity, price.amount);
            }
            self.restock(member, price.amount)?;
        }
        let order = self.order(member, product, quantity)?;
        let provision = order.provision_id;
        let wallet = self.book.members[member].id;
        let events = self.book_provision(member, &price);
        self.send(self.acting(member), Command::Provision { wallet, order: Box::new(order) }, events);
        self.provisioned_on = self.moment / MOMENTS_A_DAY;
        self.maybe_give_back(member, provision, price);
        if !self.book.members[member].careless
            && self.book.members[member].balance < self.book.members[member].threshold
        {
            self.restock(member, 0)?;
        }
        Ok(())
    }

    /// Refused for want of credits; then it asks for some.
    fn run_out(&mut self, member: usize, product: usize, quantity: u32, needed: Credits) -> Result<(), Invalid> {
        let order = self.order(member, product, quantity)?;
        let wallet = self.book.members[member].id;
        self.send(self.acting(member), Command::Provision { wallet, order: Box::new(order) }, 0);
        if self.book.members[member].waiting { Ok(()) } else { self.ask_for_credits(member, needed) }
    }

    /// Credits for some weeks: the more it sells, the more.
    fn restock(&mut self, member: usize, needed: Credits) -> Result<(), Invalid> {
        let appetite = i64::from(self.book.members[member].appetite);
        let missing = (needed - self.book.members[member].balance).max(0);
        let some_weeks = self.rng.random_range(1_500..4_000) + appetite * 80;
        self.fund(member, missing + some_weeks)
    }

    fn book_provision(&mut self, member: usize, price: &Price) -> u64 {
        let mut events = self.book.debit(member, price.amount);
        for (earner, amount) in &price.commissions {
            events += self.book.credit(*earner, *amount);
        }
        events
    }

    fn order(&mut self, member: usize, product: usize, quantity: u32) -> Result<ProvisionOrder, Invalid> {
        let sku = self.book.products[product].sku.clone();
        let description = if self.chance(10) { Some(Text::new("ordered by telephone")?) } else { None };
        Ok(ProvisionOrder {
            provision_id: ProvisionId(self.id()),
            basis: PriceBasis::Product { sku, quantity: Quantity::new(quantity)? },
            client: self.some_client(member),
            description,
            metadata: None,
        })
    }

    fn some_client(&mut self, member: usize) -> Option<ClientId> {
        let count = self.book.members[member].clients.len();
        if count == 0 || self.chance(25) {
            return None;
        }
        let client = self.book.members[member].clients[self.rng.random_range(0..count)];
        client.active.then_some(client.id)
    }

    /// By popularity, among what it may sell; once in a long while it tries what it may not.
    fn some_product(&mut self, member: usize) -> Option<usize> {
        let on_sale = |book: &super::Book, product: usize| !book.products[product].retired;
        let products = self.book.products.len();
        let weight = |book: &super::Book, product: usize| {
            if on_sale(book, product) { book.products[product].popularity } else { 0 }
        };
        let total: u32 = (0..products).map(|product| weight(&self.book, product)).sum();
        if total == 0 {
            return None;
        }
        for _ in 0..8 {
            let mut roll = self.rng.random_range(0..total);
            let product = (0..products).find(|product| {
                let weight = weight(&self.book, *product);
                let hit = roll < weight;
                roll = roll.saturating_sub(weight);
                hit
            })?;
            let entitled = self.book.members[member].tier >= self.book.products[product].terms.minimum_tier;
            if entitled || self.chance(4) {
                return Some(product);
            }
        }
        None
    }

    /// A batch that the reseller's own shop sends at once.
    pub(super) fn provision_in_bulk(&mut self) -> Result<(), Invalid> {
        let Some(member) = self.somebody() else { return Ok(()) };
        if self.book.members[member].waiting || self.book.members[member].held {
            return Ok(());
        }
        let mut items = Vec::new();
        let mut prices = Vec::new();
        let count = self.rng.random_range(3..=10);
        let products = self.book.products.len();
        while items.len() < count {
            let product = self.rng.random_range(0..products.min(6));
            let Some(price) = self.book.price(member, product, 1) else { return Ok(()) };
            items.push(BulkItem { order: self.order(member, product, 1)?, idempotency: None });
            prices.push(price);
        }
        let total: Credits = prices.iter().map(|price| price.amount).sum();
        if self.book.members[member].balance < total {
            self.restock(member, total)?;
        }
        let mut events = 0;
        for price in &prices {
            events += self.book_provision(member, price);
        }
        let wallet = self.book.members[member].id;
        let atomic = self.chance(50);
        self.send(self.acting(member), Command::ProvisionBulk { wallet, atomic, items }, events);
        self.provisioned_on = self.moment / MOMENTS_A_DAY;
        Ok(())
    }

    fn maybe_give_back(&mut self, member: usize, provision: ProvisionId, price: Price) {
        if self.rng.random_ratio(25, 1000) && price.amount > 0 {
            let Price { amount: paid, commissions } = price;
            self.later(3, 90, Later::Refund { member, provision, paid, refunded: 0, commissions });
        }
    }

    /// Gives back a part, or all that is left; each upline gives back its share of it.
    pub(super) fn refund(
        &mut self,
        member: usize,
        provision: ProvisionId,
        paid: Credits,
        refunded: Credits,
        commissions: Vec<(usize, Credits)>,
    ) -> Result<(), Invalid> {
        let left = paid - refunded;
        let in_parts = left > 10 && self.chance(45);
        let part = if in_parts { left / self.rng.random_range(2..=4) } else { left };
        let command = Command::Refund {
            wallet: self.book.members[member].id,
            provision_id: provision,
            refund_id: RefundId(self.id()),
            amount: if in_parts { Some(Self::amount(part)?) } else { None },
            reason: Some(Text::new(if in_parts {
                "not used for the whole term"
            } else {
                "cancelled within its notice"
            })?),
        };
        let mut events = self.book.credit(member, part);
        for (earner, commission) in &commissions {
            let share = |refunded: Credits| commission * refunded / paid;
            let reversed = share(refunded + part) - share(refunded);
            if reversed > 0 {
                events += self.book.debit(*earner, reversed);
            }
        }
        self.send(Self::operator()?, command, events);
        if in_parts && self.chance(60) {
            let refunded = refunded + part;
            self.later(6, 60, Later::Refund { member, provision, paid, refunded, commissions });
        }
        Ok(())
    }
}
