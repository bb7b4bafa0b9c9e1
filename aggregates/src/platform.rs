//! The Platform aggregate: the policy in force, and the periods that are closed; both are themselves part of the history. There
//! is one instance.

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use crate::closing::{Closing, Reckoning};
use crate::primitives::{Credits, Currency, Level, Percent, Tier, Timestamp};
use crate::rejection::Rejection;

/// How much each tier pays less than the base cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TierDiscounts {
    /// Percent off for `standard`.
    pub standard: Percent,
    /// Percent off for `gold`.
    pub gold: Percent,
    /// Percent off for `platinum`.
    pub platinum: Percent,
}

/// The rules in force. Configuration seeds the first policy of an empty store; afterwards only a command changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Percent off the base cost, by tier; each at most 100.
    pub tiers: TierDiscounts,
    /// The tier of whoever is registered without one.
    pub default_tier: Tier,
    /// How many credits make 1.00 of `currency`; at least 1.
    pub credit_conversion_rate: u32,
    /// What credits are sold for.
    pub currency: Currency,
    /// The threshold that wallets open with, and the least that a reseller may set for itself.
    pub low_credit_threshold: Level,
    /// Whether uplines earn commissions.
    pub commissions: bool,
    /// What the owner of a `become-partner` code gets when the referred reseller is approved; 0 for nothing.
    pub referral_bonus: Level,
    /// The highest price a parent may set for a child, in percent of the base cost.
    pub max_child_price_percent: Percent,
    /// Whether a reseller that its upline registers is approved at once.
    pub auto_approve: bool,
    /// Whether registration opens a wallet.
    pub auto_open_wallet: bool,
    /// After how many days an unanswered upline request expires; at least 1.
    pub request_expiry_days: u32,
}

impl Default for Policy {
    fn default() -> Self {
        let percent = |whole| Percent::whole(whole).unwrap_or_default();
        let level = |credits| Level::new(credits).unwrap_or_default();
        Self {
            tiers: TierDiscounts { standard: percent(0), gold: percent(15), platinum: percent(30) },
            default_tier: Tier::Standard,
            credit_conversion_rate: 100,
            currency: Currency::usd(),
            low_credit_threshold: level(500),
            commissions: true,
            referral_bonus: level(1000),
            max_child_price_percent: percent(200),
            auto_approve: false,
            auto_open_wallet: true,
            request_expiry_days: 30,
        }
    }
}

impl Policy {
    /// The discount of a tier.
    #[must_use]
    pub fn discount(&self, tier: Tier) -> Percent {
        match tier {
            Tier::Standard => self.tiers.standard,
            Tier::Gold => self.tiers.gold,
            Tier::Platinum => self.tiers.platinum,
        }
    }

    /// Credits in money at this policy's rate, rounded half away from zero to two decimals.
    #[must_use]
    pub fn money(&self, credits: Credits) -> Money {
        let rate = Decimal::from(self.credit_conversion_rate.max(1));
        let mut amount =
            (Decimal::from(credits) / rate).round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
        amount.rescale(2);
        Money { amount, currency: self.currency.clone() }
    }

    /// # Errors
    /// [`Rejection::Invalid`] naming the field that is out of bounds.
    pub fn check(&self) -> Result<(), Rejection> {
        for (pointer, discount) in [
            ("/tiers/standard", self.tiers.standard),
            ("/tiers/gold", self.tiers.gold),
            ("/tiers/platinum", self.tiers.platinum),
        ] {
            if discount.hundredths() > 10_000 {
                return Err(Rejection::invalid(pointer, "must be from 0 to 100 percent"));
            }
        }
        if self.credit_conversion_rate == 0 {
            return Err(Rejection::invalid("/credit_conversion_rate", "must be at least 1"));
        }
        if !(1..=3650).contains(&self.request_expiry_days) {
            return Err(Rejection::invalid("/request_expiry_days", "must be from 1 to 3650"));
        }
        Ok(())
    }
}

/// An amount of money as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Money {
    /// A decimal string with two decimals.
    #[cfg_attr(feature = "schema", schema(value_type = String, examples("12.50"), pattern = r"^-?[0-9]+\.[0-9]{2}$"))]
    pub amount: Decimal,
    /// ISO 4217.
    pub currency: Currency,
}

/// What can be asked of the platform aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlatformCommand {
    /// Put another policy in force.
    SetPolicy(Policy),
    /// Close a period.
    ClosePeriod {
        /// The figures, as they were added up.
        reckoning: Box<Reckoning>,
        /// The time of the decision.
        now: Timestamp,
        /// The position of the last event before it.
        head: u64,
    },
}

/// What has happened to the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlatformEvent {
    /// A policy came into force, whole.
    PolicySet {
        /// The policy from here on.
        policy: Policy,
    },
    /// A month was closed.
    PeriodClosed(Box<Closing>),
}

crate::event::domain_event!(PlatformEvent { PolicySet, PeriodClosed });

/// The platform: the policy in force, and how far its books are closed. Before the first `PolicySet` it is the default policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The policy in force.
    pub policy: Policy,
    /// Whether a policy has been set at all.
    pub seeded: bool,
    /// The last period that was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Box<Closing>>,
}

impl Platform {
    /// # Errors
    /// [`Rejection::Invalid`] for a policy out of bounds; for a closing see [`Reckoning::check`].
    pub fn decide(&self, command: &PlatformCommand) -> Result<Vec<PlatformEvent>, Rejection> {
        match command {
            PlatformCommand::SetPolicy(policy) => {
                policy.check()?;
                if self.seeded && *policy == self.policy {
                    return Ok(Vec::new());
                }
                Ok(vec![PlatformEvent::PolicySet { policy: policy.clone() }])
            }
            PlatformCommand::ClosePeriod { reckoning, now, head } => {
                reckoning.check(self.closed.as_deref(), *now, *head)?;
                Ok(vec![PlatformEvent::PeriodClosed(Box::new(reckoning.closing.clone()))])
            }
        }
    }

    /// Folds one event.
    pub fn fold(&mut self, event: &PlatformEvent) {
        match event {
            PlatformEvent::PolicySet { policy } => {
                self.policy = policy.clone();
                self.seeded = true;
            }
            PlatformEvent::PeriodClosed(closing) => self.closed = Some(closing.clone()),
        }
    }
}

crate::event::cqrs_aggregate!(Platform, "Platform", PlatformCommand, PlatformEvent);

#[cfg(test)]
mod tests {
    use super::*;
    use cqrs_es::test::TestFramework;

    #[test]
    fn a_policy_is_set_whole_and_a_second_time_changes_nothing() {
        let policy = Policy::default();
        TestFramework::<Platform>::with(())
            .given_no_previous_events()
            .when(PlatformCommand::SetPolicy(policy.clone()))
            .then_expect_events(vec![PlatformEvent::PolicySet { policy: policy.clone() }]);
        TestFramework::<Platform>::with(())
            .given(vec![PlatformEvent::PolicySet { policy: policy.clone() }])
            .when(PlatformCommand::SetPolicy(policy))
            .then_expect_events(vec![]);
    }

    #[test]
    fn a_discount_above_one_hundred_percent_is_refused() {
        let mut policy = Policy::default();
        policy.tiers.gold = Percent::whole(101).expect("percent");
        TestFramework::<Platform>::with(())
            .given_no_previous_events()
            .when(PlatformCommand::SetPolicy(policy))
            .then_expect_error(Rejection::invalid("/tiers/gold", "must be from 0 to 100 percent"));
    }

    fn may() -> Reckoning {
        let month = "2026-05".parse().expect("a month");
        let closing = Closing { month, last_position: 7, head_hash: "00".repeat(32), totals: [].into() };
        let added_up_at = "2026-08-01T00:00:00Z".parse().expect("a time");
        Reckoning { closing, first_month: month, followed: true, added_up_at }
    }

    fn close(reckoning: &Reckoning) -> PlatformCommand {
        let now = "2026-08-01T00:00:00Z".parse().expect("a time");
        PlatformCommand::ClosePeriod { reckoning: Box::new(reckoning.clone()), now, head: 9 }
    }

    #[test]
    fn a_month_is_closed_once_and_the_next_one_follows() {
        let may = may();
        let closed = PlatformEvent::PeriodClosed(Box::new(may.closing.clone()));
        TestFramework::<Platform>::with(())
            .given_no_previous_events()
            .when(close(&may))
            .then_expect_events(vec![closed.clone()]);
        TestFramework::<Platform>::with(())
            .given(vec![closed.clone()])
            .when(close(&may))
            .then_expect_error(Rejection::AlreadyExists { what: "the closing of 2026-05".into() });
        let mut june = may.clone();
        june.closing.month = "2026-06".parse().expect("a month");
        TestFramework::<Platform>::with(())
            .given(vec![closed])
            .when(close(&june))
            .then_expect_events(vec![PlatformEvent::PeriodClosed(Box::new(june.closing.clone()))]);
        TestFramework::<Platform>::with(()).given_no_previous_events().when(close(&june)).then_expect_error(
            Rejection::transition("the period 2026-06", "waiting for 2026-05 to be closed", "closed"),
        );
    }

    #[test]
    fn money_is_rounded_half_away_from_zero_to_two_decimals() {
        let mut policy = Policy::default();
        assert_eq!(policy.money(1250).amount.to_string(), "12.50");
        assert_eq!(policy.money(-300).amount.to_string(), "-3.00");
        policy.credit_conversion_rate = 8;
        assert_eq!(policy.money(1).amount.to_string(), "0.13");
        assert_eq!(policy.money(-1).amount.to_string(), "-0.13");
    }
}
