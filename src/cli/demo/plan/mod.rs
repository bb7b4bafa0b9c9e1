//! What happens in the demo's months: a function of the seed, the wanted size and the time now, and of nothing else.
//!
//! Shape: [`Plan::next_moment`] writes one moment at a time: first what was put on the agenda earlier, then newcomers, then
//! day-to-day business until the moment's share of the wanted events is spent. Commands stand in the order in which they must
//! be decided; the plan never sees an answer, because its `book` follows the ledger's own rules. Cost: some microseconds a
//! command; the plan holds one moment at a time.
//!
//! - `calendar`: when, and how busy. `names`, `catalog`: what things are called. `book`: who is there and what they hold.
//! - `growth`: newcomers, approvals, tiers. `funding`: credits in and down. `trade`: provisions, refunds.
//! - `requests`: what resellers ask of their upline. `stories`: the rare events that make a history.

mod book;
mod calendar;
pub(super) mod catalog;
mod funding;
mod growth;
mod names;
mod requests;
mod stories;
#[cfg(test)]
mod tests;
mod trade;

use std::collections::BTreeMap;

use aggregates::command::{Command, CommandEnvelope};
use aggregates::platform::Policy;
use aggregates::primitives::{
    Actor, Amount, Credits, Invalid, MAX_CREDITS, ProvisionId, ReferralCode, Refid, RequestId, Role, Timestamp, UserId,
};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use uuid::{Builder, Uuid};

use book::Book;
use calendar::{Calendar, DELAY_SECONDS_MAX, MOMENTS, MOMENTS_A_DAY};
use stories::Story;

/// The user that stands behind the platform's commands; the first command of a demo is its.
pub(super) const OPERATOR: &str = "demo-operator";
/// The payment system's user.
const PAYMENTS: &str = "demo-payments";

/// How large a demo is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// How many resellers there are in the end.
    pub(super) resellers: usize,
    /// About how many events lead there.
    pub(super) events: u64,
    /// How many levels the network has at most.
    pub(super) levels: u32,
}

/// What is sent at one moment, in this order.
#[derive(Debug)]
pub(super) struct Moment {
    /// When.
    pub(super) at: Timestamp,
    /// What.
    pub(super) commands: Vec<CommandEnvelope>,
    /// How many events the plan has come to by the end of this moment.
    pub(super) events: u64,
}

/// What was put on the agenda.
#[derive(Debug)]
enum Later {
    Approve(usize),
    FirstCredits(usize),
    FirstClients(usize),
    ActivateClient {
        member: usize,
        client: usize,
    },
    Refund {
        member: usize,
        provision: ProvisionId,
        paid: Credits,
        refunded: Credits,
        commissions: Vec<(usize, Credits)>,
    },
    DecideTopup {
        member: usize,
        request: RequestId,
        amount: Amount,
    },
    DecideRequest {
        request: RequestId,
        decision: requests::Decision,
    },
    Story(Story),
}

/// The months to come, which are past.
#[derive(Debug)]
pub(super) struct Plan {
    rng: StdRng,
    calendar: Calendar,
    size: Size,
    book: Book,
    agenda: BTreeMap<usize, Vec<Later>>,
    moment: usize,
    at: Timestamp,
    out: Vec<CommandEnvelope>,
    events: u64,
    provisioned_on: usize,
    payments: u64,
}

impl Plan {
    /// A plan of this size, for a history under this policy that ends now.
    pub(super) fn new(size: Size, seed: u64, policy: Policy, now: Timestamp) -> Self {
        let calendar = Calendar::until(now);
        let at = calendar.time(0, 0);
        let mut plan = Self {
            rng: StdRng::seed_from_u64(seed),
            calendar,
            size,
            book: Book::new(policy),
            agenda: BTreeMap::new(),
            moment: 0,
            at,
            out: Vec::new(),
            events: 1, // the first policy
            provisioned_on: usize::MAX,
            payments: 0,
        };
        for (moment, story) in stories::agenda(size) {
            plan.later_at(moment, Later::Story(story));
        }
        plan
    }

    /// What every wallet should hold by now.
    #[cfg(test)]
    pub(super) fn balances(&self) -> impl Iterator<Item = (aggregates::primitives::ResellerId, Credits)> {
        self.book.members.iter().map(|member| (member.id, member.balance))
    }

    /// How many events there should be by now.
    #[cfg(test)]
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// When the history begins.
    pub(super) fn begins_at(&self) -> Timestamp {
        self.calendar.time(0, 0)
    }

    /// The next moment; `None` after the last one.
    ///
    /// # Errors
    /// [`Invalid`] where a value that the plan made up is none: a mistake of the plan.
    pub(super) fn next_moment(&mut self) -> Result<Option<Moment>, Invalid> {
        if self.moment == MOMENTS {
            return Ok(None);
        }
        let delay = self.rng.random_range(0..DELAY_SECONDS_MAX * 1_000_000);
        self.at = self.calendar.time(self.moment, delay);
        let share = self.calendar.share(self.moment, self.size.events.saturating_sub(self.events));
        let enough = self.events + share;
        if self.moment == 0 {
            self.open_the_catalog()?;
        }
        for due in self.agenda.remove(&self.moment).unwrap_or_default() {
            self.carry_out(due)?;
        }
        self.welcome_newcomers()?;
        // A bound, in case nobody can do anything.
        let mut tries = 20 + 20 * share;
        while self.events < enough && tries > 0 {
            self.do_something()?;
            tries -= 1;
        }
        // Every day sees some business, however small the demo.
        let day = self.moment / MOMENTS_A_DAY;
        if self.moment % MOMENTS_A_DAY == MOMENTS_A_DAY - 1 && self.provisioned_on != day {
            self.provision_something()?;
        }
        self.moment += 1;
        Ok(Some(Moment { at: self.at, commands: std::mem::take(&mut self.out), events: self.events }))
    }

    fn carry_out(&mut self, due: Later) -> Result<(), Invalid> {
        match due {
            Later::Approve(member) => self.approve(member),
            Later::FirstCredits(member) => self.first_credits(member),
            Later::FirstClients(member) => self.first_clients(member),
            Later::ActivateClient { member, client } => self.activate_client(member, client),
            Later::Refund { member, provision, paid, refunded, commissions } => {
                self.refund(member, provision, paid, refunded, commissions)
            }
            Later::DecideTopup { member, request, amount } => self.decide_topup(member, request, amount),
            Later::DecideRequest { request, decision } => self.decide_request(request, decision),
            Later::Story(story) => self.tell(story),
        }
    }

    /// One piece of day-to-day business.
    fn do_something(&mut self) -> Result<(), Invalid> {
        match self.rng.random_range(0..1000) {
            0..840 => self.provision_something(),
            840..865 => self.provision_in_bulk(),
            865..940 => self.onboard_somebody(),
            940..955 => self.send_credits_down(),
            955..965 => self.set_a_price(),
            965..972 => self.set_a_margin(),
            972..980 => self.change_a_detail(),
            980..988 => self.ask_for_a_referral_code(),
            988..996 => self.ask_for_something_else(),
            _ => self.suspend_or_resume_a_client(),
        }
    }

    // ---- what every part of the plan needs

    /// Sends a command, which comes to so many events.
    fn send(&mut self, actor: Actor, command: Command, events: u64) {
        let command_id = aggregates::primitives::CommandId(self.id());
        self.out.push(CommandEnvelope { command_id, actor, idempotency: None, command });
        self.events += events;
    }

    /// Puts something on the agenda, so many moments from now at the earliest. What would come after the last moment never
    /// happens: it is what is still open today.
    fn later(&mut self, from: usize, to: usize, what: Later) {
        let moment = self.moment + self.rng.random_range(from.max(1)..=to);
        self.later_at(moment, what);
    }

    fn later_at(&mut self, moment: usize, what: Later) {
        self.agenda.entry(moment).or_default().push(what);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent.min(100), 100)
    }

    /// An identifier of this moment: a UUIDv7, as the service makes them.
    fn id(&mut self) -> Uuid {
        let mut random = [0_u8; 10];
        self.rng.fill_bytes(&mut random);
        let milliseconds = u64::try_from(self.at.micros() / 1000).unwrap_or_default();
        Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
    }

    fn letters(&mut self, count: usize) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        (0..count).map(|_| char::from(ALPHABET[self.rng.random_range(0..ALPHABET.len())])).collect()
    }

    fn refid(&mut self) -> Result<Refid, Invalid> {
        Refid::new(format!("RS-{}", self.letters(12)))
    }

    fn referral_code(&mut self) -> Result<ReferralCode, Invalid> {
        ReferralCode::new(self.letters(16))
    }

    fn salt(&mut self) -> String {
        format!("{:032x}", self.rng.random::<u128>())
    }

    fn amount(credits: Credits) -> Result<Amount, Invalid> {
        Amount::new(credits.clamp(1, MAX_CREDITS))
    }

    fn staff(role: Role, user: &str) -> Result<Actor, Invalid> {
        Ok(Actor { id: UserId::new(user)?, role, tenant: None, declared_cost: false })
    }

    fn operator() -> Result<Actor, Invalid> {
        Self::staff(Role::SuperAdmin, OPERATOR)
    }

    fn payment_system() -> Result<Actor, Invalid> {
        Self::staff(Role::Payments, PAYMENTS)
    }

    /// A member's own user.
    fn acting(&self, member: usize) -> Actor {
        let member = &self.book.members[member];
        Actor { id: member.user.clone(), role: Role::Reseller, tenant: Some(member.id), declared_cost: false }
    }

    /// Somebody who is in business and free to act; those who sell more come up more often.
    fn somebody(&mut self) -> Option<usize> {
        for _ in 0..24 {
            let member = self.anybody()?;
            let roll = self.rng.random_range(0..100);
            if self.book.free(member) && roll < self.book.members[member].appetite {
                return Some(member);
            }
        }
        None
    }

    fn anybody(&mut self) -> Option<usize> {
        let count = self.book.members.len();
        (count > 0).then(|| self.rng.random_range(0..count))
    }

    /// Somebody free to act with children of its own.
    fn some_parent(&mut self) -> Option<usize> {
        for _ in 0..24 {
            let member = self.anybody()?;
            if self.book.free(member) && !self.book.members[member].children.is_empty() {
                return Some(member);
            }
        }
        None
    }

    /// One of a member's children that is in business.
    fn some_child(&mut self, parent: usize) -> Option<usize> {
        let children = &self.book.members[parent].children;
        let child = children[self.rng.random_range(0..children.len().max(1)).min(children.len().checked_sub(1)?)];
        self.book.free(child).then_some(child)
    }
}
