//! A family of wallets as DOMAIN tells it, and nothing of how the service does it: a parent and its children, who share a fate
//! because credits go from one to the others and a freeze of the parent freezes them all. Five wallets are so few that the whole
//! state is a small value.

use std::collections::BTreeMap;

/// A place in the family; the parent's is 0.
pub type Place = usize;

/// How many wallets a family has.
pub const FAMILY: usize = 5;

/// What is asked of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Credits come in, from outside.
    Add { to: Place, amount: i64 },
    /// Credits are charged back, which may take a wallet below zero.
    ChargeBack { from: Place, amount: i64 },
    /// A provision at a declared cost: no commission.
    Spend { from: Place, cost: i64 },
    /// From the parent to a child.
    Transfer { to: Place, amount: i64 },
    /// How far below zero provisions may go.
    Limit { of: Place, limit: i64 },
    /// The platform freezes one of them, and all below it.
    Freeze { of: Place },
    /// … and lifts that.
    Unfreeze { of: Place },
    /// What a wallet holds.
    Look { at: Place },
}

/// What was answered, as far as the rules have a say in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes; what the wallet held then, and what it could have spent.
    Holds { balance: i64, available: i64 },
    /// Yes, and no more is said.
    Yes,
    /// 402.
    Insufficient { required: i64, available: i64 },
    /// 423.
    Frozen,
    /// It was not frozen.
    NotFrozen,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Wallet {
    balance: i64,
    limit: i64,
    frozen: bool,
}

/// What a family holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Family([Wallet; FAMILY]);

impl Family {
    /// Who is frozen while its parent is, or itself.
    fn is_frozen(&self, place: Place) -> bool {
        self.0[0].frozen || self.0[place].frozen
    }

    fn holds(&self, place: Place) -> Answer {
        let Wallet { balance, limit, .. } = self.0[place];
        Answer::Holds { balance, available: balance + limit }
    }

    /// Carries a deed out: what must be answered, and what the family holds after it.
    pub fn after(&self, deed: Deed) -> (Answer, Self) {
        let mut next = *self;
        let answer = match deed {
            Deed::Add { to, amount } => {
                next.0[to].balance += amount;
                next.holds(to)
            }
            Deed::ChargeBack { from, amount } => {
                next.0[from].balance -= amount;
                next.holds(from)
            }
            Deed::Spend { from, cost } => {
                let available = self.0[from].balance + self.0[from].limit;
                if self.is_frozen(from) {
                    return (Answer::Frozen, next);
                }
                if available < cost {
                    return (Answer::Insufficient { required: cost, available }, next);
                }
                next.0[from].balance -= cost;
                next.holds(from)
            }
            Deed::Transfer { to, amount } => {
                // The credit limit is for provisions only.
                let available = self.0[0].balance;
                if self.is_frozen(0) {
                    return (Answer::Frozen, next);
                }
                if available < amount {
                    return (Answer::Insufficient { required: amount, available }, next);
                }
                next.0[0].balance -= amount;
                next.0[to].balance += amount;
                next.holds(0)
            }
            Deed::Limit { of, limit } => {
                next.0[of].limit = limit;
                next.holds(of)
            }
            Deed::Freeze { of } => {
                next.0[of].frozen = true;
                Answer::Yes
            }
            Deed::Unfreeze { of } if self.0[of].frozen => {
                next.0[of].frozen = false;
                Answer::Yes
            }
            Deed::Unfreeze { .. } => Answer::NotFrozen,
            Deed::Look { at } => self.holds(at),
        };
        (answer, next)
    }
}

/// How often each sort of deed was answered how, in words; to see that a history was worth checking.
pub fn tally<'deeds>(deeds: impl Iterator<Item = (&'deeds Deed, &'deeds Answer)>) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for (deed, answer) in deeds {
        let words = [format!("{deed:?}"), format!("{answer:?}")]
            .map(|text| text.split_whitespace().next().unwrap_or_default().to_owned());
        *tally.entry(words.join(" → ")).or_default() += 1;
    }
    tally
}
