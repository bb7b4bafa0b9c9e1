//! Where credits come from: bought from the platform at the top, sent on from parent to child below.

use aggregates::command::Command;
use aggregates::primitives::{CreditSource, Credits, Invalid, Reference, ResellerStatus, Text, TransferId};
use chrono::Datelike;
use rand::Rng;

use super::Plan;

impl Plan {
    /// Sees to it that a member has so many credits more; its parent, and whoever stands above, is seen to first.
    pub(super) fn fund(&mut self, member: usize, credits: Credits) -> Result<(), Invalid> {
        if self.book.members[member].status != ResellerStatus::Active {
            return Ok(());
        }
        let credits = round(credits);
        let directly = self.chance(6);
        let parent = self.book.members[member].parent.filter(|parent| self.book.free(*parent));
        match parent {
            Some(parent) if !directly => {
                self.keep_above(parent, credits)?;
                self.transfer(parent, member, credits)
            }
            _ => self.purchase(member, credits),
        }
    }

    /// Sees to it that a member can send on so many credits and still has something left.
    pub(super) fn keep_above(&mut self, member: usize, credits: Credits) -> Result<(), Invalid> {
        let missing = credits + self.book.members[member].threshold - self.book.members[member].balance;
        if missing <= 0 {
            return Ok(());
        }
        let reserve = credits * self.rng.random_range(0..=4) / 4;
        self.fund(member, missing + reserve)
    }

    /// A purchase, told by the payment system, or entered by hand from an invoice.
    pub(super) fn purchase(&mut self, member: usize, credits: Credits) -> Result<(), Invalid> {
        self.payments += 1;
        let year = self.at.date().year();
        let by_hand = self.chance(20);
        let (actor, prefix, note) = if by_hand {
            (Self::operator()?, "INV", Some(Text::new("bank transfer")?))
        } else {
            (Self::payment_system()?, "PAY", None)
        };
        let command = Command::AddCredits {
            wallet: self.book.members[member].id,
            amount: Self::amount(credits)?,
            source: CreditSource::Purchase,
            reference: Some(Reference::new(format!("{prefix}-{year}-{:06}", self.payments))?),
            note,
        };
        let events = self.book.credit(member, credits);
        self.send(actor, command, events);
        Ok(())
    }

    fn transfer(&mut self, from: usize, to: usize, credits: Credits) -> Result<(), Invalid> {
        let command = Command::Transfer {
            from: self.book.members[from].id,
            to: self.book.members[to].id,
            transfer_id: TransferId(self.id()),
            amount: Self::amount(credits)?,
            note: None,
        };
        let events = self.book.debit(from, credits) + self.book.credit(to, credits);
        self.send(self.acting(from), command, events);
        Ok(())
    }

    /// A parent sends one of its children credits before it has to ask.
    pub(super) fn send_credits_down(&mut self) -> Result<(), Invalid> {
        let Some(parent) = self.some_parent() else { return Ok(()) };
        let Some(child) = self.some_child(parent) else { return Ok(()) };
        let credits = self.rng.random_range(2..20) * 500;
        self.keep_above(parent, credits)?;
        self.transfer(parent, child, credits)
    }
}

/// Nobody buys 7 313 credits.
fn round(credits: Credits) -> Credits {
    let step = match credits {
        ..10_000 => 500,
        10_000..100_000 => 5_000,
        _ => 25_000,
    };
    (credits + step - 1) / step * step
}
