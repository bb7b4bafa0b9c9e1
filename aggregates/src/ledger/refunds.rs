//! Refunds: the platform's alone, and exact to the credit however many parts they come in.
//!
//! `Provisioned` is the only basis (its fact, see [`crate::facts::ProvisionFact`]): today's tiers, prices and policy play no
//! part. With `refunded` the total refunded including this one, upline *i* has been reversed `⌊cᵢ × refunded / amount⌋` in
//! total; this refund reverses the difference, and the platform bears the rest. After the last part everything is exact.

use crate::answer::{Answer, RefundAnswer};
use crate::event::AggregateKey;
use crate::facts::{Fact, FactKey};
use crate::primitives::{Amount, Credits, ProvisionId, RefundId, ResellerId, Text};
use crate::rejection::Rejection;
use crate::wallet::{Wallet, WalletCommand};

use super::Key;
use super::draft::{Decided, Draft};

impl Draft<'_> {
    pub(super) fn refund(
        &mut self,
        wallet: ResellerId,
        provision_id: ProvisionId,
        refund_id: RefundId,
        amount: Option<Amount>,
        reason: Option<&Text>,
    ) -> Decided<Answer> {
        self.platform_only_towards(wallet, "wallet")?;
        let provision = match self.fact(&FactKey::Provision(provision_id))? {
            Some(Fact::Provision(provision)) if provision.wallet == wallet => provision.clone(),
            _ => return Err(Rejection::not_found("provision").into()),
        };
        let refundable = provision.paid.saturating_sub(provision.refunded);
        let amount = match amount {
            Some(amount) if amount.credits() <= refundable => amount.credits(),
            None if refundable > 0 => refundable,
            _ => return Err(Rejection::NotRefundable { refundable }.into()),
        };
        let refunded_total = provision.refunded + amount;
        self.require(provision.commissions.iter().map(|earned| Key::Aggregate(AggregateKey::Wallet(earned.reseller))))?;

        let reason = reason.cloned();
        self.order_wallet(wallet, WalletCommand::Refund { refund_id, provision_id, amount, refunded_total, reason })?;
        for earned in &provision.commissions {
            let before = reversed(earned.amount, provision.refunded, provision.paid)?;
            let amount = reversed(earned.amount, refunded_total, provision.paid)? - before;
            if amount > 0 {
                let reverse = WalletCommand::ReverseCommission { refund_id, provision_id, amount };
                self.order_wallet(earned.reseller, reverse)?;
            }
        }
        let balance = self.get::<Wallet>(&wallet)?.balance;
        Ok(Answer::Refund(RefundAnswer { refund_id, provision_id, amount, refunded_total, balance }))
    }
}

/// What of a commission has been reversed once `refunded` of `paid` is refunded: ⌊commission × refunded / paid⌋.
fn reversed(commission: Credits, refunded: Credits, paid: Credits) -> Result<Credits, Rejection> {
    let share = i128::from(commission)
        .checked_mul(i128::from(refunded))
        .and_then(|product| product.checked_div(i128::from(paid)))
        .ok_or(Rejection::Overflow {})?;
    Credits::try_from(share).map_err(|_| Rejection::Overflow {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_reversal_add_up_to_the_commission_whatever_the_parts_are() {
        for (paid, commission, part) in [(1000, 150, 3), (1000, 150, 4), (3, 1, 1), (7, 5, 2)] {
            let (mut refunded, mut total) = (0, 0);
            while refunded < paid {
                let next = (refunded + part).min(paid);
                total += reversed(commission, next, paid).expect("share")
                    - reversed(commission, refunded, paid).expect("share");
                refunded = next;
            }
            assert_eq!(total, commission);
        }
    }
}
