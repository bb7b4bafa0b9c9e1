//! Transfers: two events, one transfer id, one commit.
//!
//! From a direct parent to its child; from a child to its direct parent by that parent alone, while the child itself has
//! allowed it; or as the effect of a completed top-up request. Nothing else. The credit limit is not for transfers.

use crate::answer::{Answer, TransferAnswer};
use crate::primitives::{Amount, ResellerId, Text, TransferId};
use crate::rejection::Rejection;
use crate::wallet::{Wallet, WalletCommand};

use super::authority::{Standing, forbidden, unseen};
use super::draft::{Decided, Draft};

impl Draft<'_> {
    pub(super) fn transfer(
        &mut self,
        from: ResellerId,
        to: ResellerId,
        transfer_id: TransferId,
        amount: Amount,
        note: Option<&Text>,
    ) -> Decided<Answer> {
        let sender = self.standing(from, "wallet")?;
        if self.standing(to, "wallet").is_err() {
            return Err(unseen("wallet to send to").into());
        }
        let parent_of = |id| self.network().get(id).and_then(|node| node.parent);
        let parent = if parent_of(to) == Some(from) {
            if !matches!(sender, Standing::Platform | Standing::Itself(_)) {
                return Err(forbidden("a parent itself sends credits to its child").into());
            }
            from
        } else if parent_of(from) == Some(to) {
            if !matches!(sender, Standing::Parent(_)) {
                return Err(forbidden("only the direct parent takes credits back from its child").into());
            }
            if !self.network().get(from).is_some_and(|node| node.allow_withdraw) {
                return Err(forbidden("the child has not allowed its parent to take credits back").into());
            }
            to
        } else {
            return Err(forbidden("credits are transferred between a direct parent and its child only").into());
        };
        self.check_active(parent)?;
        self.move_credits(from, to, transfer_id, amount, note)?;
        let wallet = self.get::<Wallet>(&from)?;
        Ok(Answer::Transfer(TransferAnswer { transfer_id, balance: wallet.balance, available: wallet.available() }))
    }

    /// Both legs of a transfer, however it came about. The sender must not be frozen; the receiver may be.
    pub(super) fn move_credits(
        &mut self,
        from: ResellerId,
        to: ResellerId,
        transfer_id: TransferId,
        amount: Amount,
        note: Option<&Text>,
    ) -> Decided<()> {
        if from == to {
            return Err(Rejection::invalid("/to", "must be another wallet").into());
        }
        self.check_unfrozen(from)?;
        if self.get::<Wallet>(&to)?.reseller.is_none() {
            return Err(Rejection::not_found("wallet to send to").into());
        }
        let note = note.cloned();
        self.order_wallet(from, WalletCommand::TransferOut { transfer_id, to, amount, note: note.clone() })?;
        self.order_wallet(to, WalletCommand::TransferIn { transfer_id, from, amount, note })?;
        Ok(())
    }
}
