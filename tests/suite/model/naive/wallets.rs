//! Wallets: credits in and out, transfers, thresholds, limits and holds.

use super::{
    Authority, Credit, Id, MOST, Naive, Reference, Role, Ruling, Source, Wallet, Who, denied, ensure, permit, refused,
    with_figures,
};

impl Naive {
    pub fn wallet(&self, id: Id) -> Option<&Wallet> {
        self.wallets.iter().find(|wallet| wallet.owner == id)
    }

    fn wallet_mut(&mut self, id: Id) -> &mut Wallet {
        self.wallets.iter_mut().find(|wallet| wallet.owner == id).expect("a wallet that is there")
    }

    pub(super) fn must_have_wallet(&self, id: Id) -> Ruling<&Wallet> {
        self.wallet(id).map_or_else(|| refused("not_found"), Ok)
    }

    pub(super) fn put_wallet(&mut self, id: Id) {
        let threshold = self.rules.threshold;
        let wallet = Wallet { owner: id, movements: vec![], limit: 0, threshold, armed: true, holds: vec![] };
        self.wallets.push(wallet);
        self.done.changed = true;
    }

    pub(super) fn open_wallet(&mut self, who: &Who, id: Id) -> Ruling {
        self.only_platform(who, id)?;
        ensure(self.wallet(id).is_none(), "already_exists")?;
        self.put_wallet(id);
        Ok(())
    }

    /// Adds to a wallet, which holds no more than there can be.
    pub(super) fn credit(&mut self, id: Id, amount: i64) -> Ruling {
        let wallet = self.wallet_mut(id);
        ensure(wallet.balance() + amount <= MOST, "overflow")?;
        wallet.movements.push(amount);
        self.done.changed = true;
        self.arm_if_recovered(id);
        Ok(())
    }

    /// Takes from a wallet, which owes no more than there can be.
    pub(super) fn debit(&mut self, id: Id, amount: i64) -> Ruling {
        let wallet = self.wallet_mut(id);
        ensure(wallet.balance() - amount >= -MOST, "overflow")?;
        wallet.movements.push(-amount);
        self.done.changed = true;
        if amount > 0 {
            self.alert_if_low(id);
        }
        self.arm_if_recovered(id);
        Ok(())
    }

    fn arm_if_recovered(&mut self, id: Id) {
        let wallet = self.wallet_mut(id);
        if wallet.balance() >= wallet.threshold {
            wallet.armed = true;
            wallet.holds.retain(|authority| *authority != Authority::LowCreditPolicy);
        }
    }

    fn alert_if_low(&mut self, id: Id) {
        let holds = self.reseller(id).is_some_and(|reseller| reseller.hold_on_low_credit);
        let wallet = self.wallet_mut(id);
        if wallet.armed && wallet.balance() < wallet.threshold {
            wallet.armed = false;
            let alert = (id, wallet.balance(), wallet.threshold);
            if holds && !wallet.holds.contains(&Authority::LowCreditPolicy) {
                wallet.holds.push(Authority::LowCreditPolicy);
            }
            self.done.low_credit.push(alert);
        }
    }

    /// Everything ever issued and every limit in force.
    fn outstanding(&self) -> i128 {
        let issued: i128 = self.credits.iter().map(|credit| i128::from(credit.amount)).sum();
        let limits: i128 = self.wallets.iter().map(|wallet| i128::from(wallet.limit)).sum();
        issued + limits
    }

    /// Brings credits into the ledger.
    pub(super) fn issue(&mut self, credit: Credit) -> Ruling {
        self.must_have_wallet(credit.wallet)?;
        if credit.source == Source::Purchase && self.purchase(credit.reference).is_some() {
            return refused("duplicate_reference");
        }
        ensure(self.outstanding() + i128::from(credit.amount) <= i128::from(MOST), "overflow")?;
        self.credit(credit.wallet, credit.amount)?;
        self.credits.push(credit);
        Ok(())
    }

    fn purchase(&self, reference: Option<Reference>) -> Option<&Credit> {
        let known = |credit: &&Credit| credit.source == Source::Purchase && credit.reference == reference;
        reference.and_then(|_| self.credits.iter().find(known))
    }

    pub(super) fn add_credits(
        &mut self,
        who: &Who,
        id: Id,
        amount: i64,
        source: Source,
        reference: Option<Id>,
    ) -> Ruling {
        self.seen(who, id)?;
        permit(who.role == Role::SuperAdmin || who.role == Role::Payments)?;
        let reference = reference.map(Reference::Named);
        if who.role == Role::Payments {
            permit(source == Source::Purchase)?;
            ensure(reference.is_some(), "invalid")?;
        }
        self.must_have_wallet(id)?;
        let first = self.purchase(reference).filter(|_| source == Source::Purchase);
        if who.role == Role::Payments && first.is_some_and(|first| first.wallet == id && first.amount == amount) {
            return Ok(());
        }
        self.issue(Credit { source, reference, wallet: id, amount })
    }

    pub(super) fn remove_credits(&mut self, who: &Who, id: Id, amount: i64) -> Ruling {
        self.only_platform(who, id)?;
        self.must_have_wallet(id)?;
        self.debit(id, amount)
    }

    pub(super) fn transfer(&mut self, who: &Who, from: Id, to: Id, amount: i64) -> Ruling {
        let sender = self.seen(who, from)?.clone();
        let receiver = self.seen(who, to)?.clone();
        let downwards = receiver.parent == Some(from);
        let upwards = sender.parent == Some(to);
        permit(match who.role {
            Role::SuperAdmin => downwards,
            _ => (downwards && who.tenant == Some(from)) || (upwards && who.tenant == Some(to)),
        })?;
        permit(downwards || sender.allow_withdraw)?;
        self.move_credits(if downwards { from } else { to }, from, to, amount)
    }

    /// Moves credits from one wallet to another; `payer_or_parent` must be in business, the sender must not be frozen.
    pub(super) fn move_credits(&mut self, parent: Id, from: Id, to: Id, amount: i64) -> Ruling {
        self.must_be_active(parent)?;
        self.must_not_be_frozen(from)?;
        self.must_have_wallet(to)?;
        let balance = self.must_have_wallet(from)?.balance();
        if balance < amount {
            return with_figures("insufficient_credits", &[amount, balance, balance, 0]);
        }
        self.debit(from, amount)?;
        self.credit(to, amount)
    }

    pub(super) fn set_threshold(&mut self, who: &Who, id: Id, threshold: i64) -> Ruling {
        self.seen(who, id)?;
        permit(who.role == Role::SuperAdmin || who.tenant == Some(id))?;
        self.put_threshold(who, id, threshold)
    }

    pub(super) fn put_threshold(&mut self, who: &Who, id: Id, threshold: i64) -> Ruling {
        self.must_have_wallet(id)?;
        let least = self.rules.threshold;
        if who.role != Role::SuperAdmin && threshold < least {
            return with_figures("limit_exceeded", &[least, MOST]);
        }
        let former = self.must_have_wallet(id)?.threshold;
        if threshold != former {
            self.wallet_mut(id).threshold = threshold;
            self.done.changed = true;
            self.alert_if_low(id);
            self.arm_if_recovered(id);
        }
        Ok(())
    }

    pub(super) fn set_credit_limit(&mut self, who: &Who, id: Id, limit: i64) -> Ruling {
        self.only_platform(who, id)?;
        self.must_have_wallet(id)?;
        let former = self.wallet(id).map_or(0, |wallet| wallet.limit);
        if limit > former {
            ensure(self.outstanding() - i128::from(former) + i128::from(limit) <= i128::from(MOST), "overflow")?;
        }
        self.done.changed |= limit != former;
        self.wallet_mut(id).limit = limit;
        Ok(())
    }

    pub(super) fn set_hold(&mut self, who: &Who, id: Id, held: bool) -> Ruling {
        let authority = self.authority_over(who, id)?;
        self.must_have_wallet(id)?;
        let holds = self.wallet(id).map_or(vec![], |wallet| wallet.holds.clone());
        if held {
            if !holds.contains(&authority) {
                self.wallet_mut(id).holds.push(authority);
                self.done.changed = true;
            }
            return Ok(());
        }
        ensure(!holds.is_empty(), "invalid_transition")?;
        let left: Vec<_> = holds.iter().copied().filter(|theirs| !self.may_lift(authority, *theirs)).collect();
        if left.len() == holds.len() {
            return denied("forbidden");
        }
        self.wallet_mut(id).holds = left;
        self.done.changed = true;
        Ok(())
    }
}
