//! I5: what has two sides has both, in one commit and to the credit: transfers, commissions and their reversals.
//!
//! Refunds are worked out anew from the provision alone: with `refunded` the total refunded, upline *i* has been reversed
//! ⌊cᵢ × refunded / amount⌋ in total. Memory: every provision ([`super::provisions`]), which the facts are compared
//! with afterwards, and the sides of the commit in hand.

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Credits, ProvisionId, ResellerId};
use aggregates::wallet::{Provision, WalletEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::examined::Examined;
use super::findings::{Check, Findings};
use super::provisions::Provisions;

/// One side of something that has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Side {
    /// The transfer, provision or refund.
    id: Uuid,
    /// The wallet that the second side belongs to.
    to: ResellerId,
    /// The wallet that the first side belongs to; for a reversal the provision's id stands here as well.
    from: Uuid,
    amount: Credits,
    position: i64,
}

/// First sides and second sides of one commit.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sides {
    first: Vec<Side>,
    second: Vec<Side>,
}

impl Sides {
    /// Matches the sides of a commit and forgets them; `name` is the second side's event.
    fn settle(&mut self, name: &str, findings: &mut Findings) {
        if self.first.is_empty() && self.second.is_empty() {
            return;
        }
        let identity = |side: &Side| (side.id, side.to, side.from, side.amount);
        self.first.sort_unstable();
        self.second.sort_unstable();
        let mut second = self.second.iter().peekable();
        let describe = |side: &Side| format!("{} credits to {} by {}", side.amount, side.to, side.id);
        for named in &self.first {
            // What comes before this one in the same order answers to nothing.
            while let Some(done) = second.next_if(|done| identity(done) < identity(named)) {
                findings.holds(Check::Pairs, done.position, false, || unasked(name, describe(done)));
            }
            let is_answered = second.next_if(|done| identity(done) == identity(named)).is_some();
            findings.holds(Check::Pairs, named.position, is_answered, || {
                (format!("{name} in the same commit"), describe(named), "none that matches".to_owned())
            });
        }
        for done in second {
            findings.holds(Check::Pairs, done.position, false, || unasked(name, describe(done)));
        }
        self.first.clear();
        self.second.clear();
    }
}

/// A second side that nothing asked for.
fn unasked(name: &str, done: String) -> (String, String, String) {
    (format!("what a {name} answers to, in the same commit"), done, "nothing".to_owned())
}

/// All pairs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Pairs {
    pub(super) provisions: Provisions,
    transfers: Sides,
    commissions: Sides,
    reversals: Sides,
}

impl Pairs {
    pub(super) fn follow(&mut self, examined: &Examined<'_>, findings: &mut Findings) {
        let (AggregateKey::Wallet(wallet), Event::Wallet(event)) = (examined.key, examined.event) else { return };
        let (wallet, position) = (*wallet, examined.position);
        match event {
            WalletEvent::CreditsTransferredOut { transfer_id, to, amount, .. } => self.transfers.first.push(Side {
                id: transfer_id.0,
                to: *to,
                from: wallet.0,
                amount: *amount,
                position,
            }),
            WalletEvent::CreditsTransferredIn { transfer_id, from, amount, .. } => self.transfers.second.push(Side {
                id: transfer_id.0,
                to: wallet,
                from: from.0,
                amount: *amount,
                position,
            }),
            WalletEvent::Provisioned { provision, .. } => self.provision(wallet, provision, position, findings),
            WalletEvent::CommissionEarned { provision_id, seller, amount, .. } => {
                self.commissions.second.push(Side {
                    id: provision_id.0,
                    to: wallet,
                    from: seller.0,
                    amount: *amount,
                    position,
                });
            }
            WalletEvent::ProvisionRefunded { refund_id, provision_id, amount, refunded_total, .. } => {
                self.refund(wallet, refund_id.0, *provision_id, (*amount, *refunded_total), position, findings);
            }
            WalletEvent::CommissionReversed { refund_id, provision_id, amount, .. } => {
                self.reversals.second.push(Side {
                    id: refund_id.0,
                    to: wallet,
                    from: provision_id.0,
                    amount: *amount,
                    position,
                });
            }
            _ => {}
        }
    }

    /// Matches what the commit holds.
    pub(super) fn end_of_commit(&mut self, findings: &mut Findings) {
        self.transfers.settle("CreditsTransferredIn", findings);
        self.commissions.settle("CommissionEarned", findings);
        self.reversals.settle("CommissionReversed", findings);
    }

    fn provision(&mut self, wallet: ResellerId, provision: &Provision, position: i64, findings: &mut Findings) {
        let id = provision.provision_id;
        let amount = i128::from(provision.unit_cost) * i128::from(provision.quantity.units());
        findings.equal(Check::Pairs, position, &amount, &provision.amount.into(), || {
            format!("amount of provision {id}: unit cost times quantity")
        });
        let earned: i128 = provision.commissions.iter().map(|earned| i128::from(earned.amount)).sum();
        findings.holds(Check::Pairs, position, earned <= provision.amount.into(), || {
            let what = format!("commissions of provision {id}");
            (what, format!("{} or less", provision.amount), earned.to_string())
        });
        self.commissions.first.extend(provision.commissions.iter().map(|earned| Side {
            id: id.0,
            to: earned.reseller,
            from: wallet.0,
            amount: earned.amount,
            position,
        }));
        let former = self.provisions.insert(id, wallet, (provision.amount, &provision.commissions), position);
        findings.holds(Check::Pairs, position, former.is_none(), || {
            let at = former.map(|former| former.position).unwrap_or_default();
            (format!("provision {id}"), "provisioned once".to_owned(), format!("again, after {at}"))
        });
    }

    fn refund(
        &mut self,
        wallet: ResellerId,
        refund_id: Uuid,
        id: ProvisionId,
        (amount, refunded_total): (Credits, Credits),
        position: i64,
        findings: &mut Findings,
    ) {
        let known = self.provisions.get_mut(&id).filter(|(provision, _)| provision.wallet == wallet);
        let Some((provision, commissions)) = known else {
            findings.holds(Check::Pairs, position, false, || {
                let what = format!("provision {id} that is refunded to wallet {wallet}");
                (what, "provisioned from that wallet before".to_owned(), "no such provision".to_owned())
            });
            return;
        };
        let (before, paid) = (provision.refunded, provision.paid);
        let total = before.saturating_add(amount);
        let right = amount > 0 && refunded_total == total && total <= paid;
        findings.holds(Check::Pairs, position, right, || {
            let expected = format!("{total} in total, of {paid} paid, in parts of 1 or more");
            (format!("refund of provision {id}"), expected, format!("{amount}, {refunded_total} in total"))
        });
        provision.refunded = refunded_total;
        let former = std::mem::replace(&mut provision.position, position);
        for earned in commissions {
            let amount = reversed(earned.amount, total, paid) - reversed(earned.amount, before, paid);
            if let Some(amount) = Credits::try_from(amount).ok().filter(|amount| *amount > 0) {
                let side = Side { id: refund_id, to: earned.reseller, from: id.0, amount, position };
                self.reversals.first.push(side);
            }
        }
        self.provisions.changed(id, former, position);
    }
}

/// What of a commission must have been reversed once `refunded` of `paid` is refunded. All three are 0 or more where the
/// events are right, and where they are not the violation has been told.
fn reversed(commission: Credits, refunded: Credits, paid: Credits) -> i128 {
    (i128::from(commission) * i128::from(refunded)).checked_div_euclid(i128::from(paid)).unwrap_or_default()
}
