//! The words that every other module speaks in: identifiers, amounts, percentages, instants, tiers and roles.
//!
//! Each type is parsed once, at the edge, and is valid ever after: a [`Quantity`] of zero or a [`Sku`] with a space in it
//! cannot be made. Deserialisation goes through the same constructors, so a command that was read is a command that is
//! well formed. Nothing here reads a clock or makes an identifier: both come from outside.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use rust_decimal::Decimal;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Whole prepaid credits. Signed, because a chargeback may take a wallet below zero.
pub type Credits = i64;

/// The largest number of credits anything may hold or name: 2⁵³ − 1, so that every JSON reader keeps it exact.
pub const MAX_CREDITS: Credits = (1 << 53) - 1;

/// Why a value was not accepted: a sentence that says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                match Uuid::try_parse(text) {
                    // What is written otherwise (upper case, braces, no hyphens) is no id of ours: one thing, one name.
                    Ok(id) if id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text => Ok(Self(id)),
                    _ => Err(Invalid("must be a UUID written like 0190d3a5-7c1e-7b60-8f00-3d0f6c8e2a11".into())),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor(PhantomData))
            }
        }
    )+};
}

/// Reads from a text, without a copy of it, whatever is parsed from one.
struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err = Invalid>> Visitor<'_> for TextVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

uuid_ids! {
    /// A reseller, its tenant and its wallet: the three share one identifier.
    ResellerId,
    /// A client of a reseller.
    ClientId,
    /// One provision.
    ProvisionId,
    /// One refund of a provision.
    RefundId,
    /// One transfer between two wallets; both of its events carry it.
    TransferId,
    /// One upline request.
    RequestId,
    /// One command as it was sent; every event that came of it carries it, and a credit's transaction id is the id of the
    /// command that added it.
    CommandId,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $message:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// [`Invalid`] with what would be right.
            pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(Invalid($message.into())) }
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

/// Whether a text may be stored: U+0000 is refused everywhere, because PostgreSQL's `json` takes it and its readers choke.
fn storable(text: &str, least: usize, most: usize) -> bool {
    let length = text.chars().count();
    (least..=most).contains(&length) && !text.contains('\0')
}

fn printable(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
}

text_type!(
    /// The identity of a user in the operator's own user directory.
    UserId, |t| storable(t, 1, 128) && t.trim() == t, "must be 1 to 128 characters without spaces around them"
);
text_type!(
    /// A reseller's company name.
    CompanyName, |t| storable(t, 1, 200) && !t.trim().is_empty(), "must be 1 to 200 characters and not blank"
);
text_type!(
    /// A reseller's public reference: random, never sequential.
    Refid, |t| printable(t, 40), "must be 1 to 40 printable characters"
);
text_type!(
    /// A product's stock keeping unit: the product's identity.
    Sku,
    |t| (1..=64).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
    "must be 1 to 64 letters, digits, dots, dashes or underscores"
);
text_type!(
    /// The reference of a payment in the operator's books; a purchase's is taken once in the whole ledger.
    Reference, |t| storable(t, 1, 200), "must be 1 to 200 characters without U+0000"
);
text_type!(
    /// A referral code.
    ReferralCode, |t| printable(t, 40), "must be 1 to 40 printable characters"
);
text_type!(
    /// What a referral code is for; the policy's bonus is paid for `become-partner`.
    ReferralTag, |t| printable(t, 60), "must be 1 to 60 printable characters"
);
text_type!(
    /// A short free text: a reason, a note, a description, a name.
    Text, |t| storable(t, 0, 1000), "must be at most 1000 characters without U+0000"
);
text_type!(
    /// An ISO 4217 currency code.
    Currency, |t| t.len() == 3 && t.bytes().all(|b| b.is_ascii_uppercase()), "must be three capital letters such as USD"
);

impl Currency {
    /// US dollars, what an unconfigured platform sells credits for.
    #[must_use]
    pub fn usd() -> Self {
        Self("USD".into())
    }
}

/// The tag whose completed referrals earn the policy's bonus.
pub const BECOME_PARTNER: &str = "become-partner";

/// Reads a JSON integer in `least..=MAX_CREDITS`; strings, fractions and anything else are told what would be right.
struct CreditsVisitor {
    least: Credits,
}

impl Visitor<'_> for CreditsVisitor {
    type Value = Credits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer number of credits from {} to {MAX_CREDITS}", self.least)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Credits, E> {
        i64::try_from(value)
            .ok()
            .filter(|credits| (self.least..=MAX_CREDITS).contains(credits))
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Credits, E> {
        if (self.least..=MAX_CREDITS).contains(&value) {
            Ok(value)
        } else {
            Err(E::invalid_value(de::Unexpected::Signed(value), &self))
        }
    }
}

/// An amount in a command: 1 … 2⁵³ − 1 credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Amount(Credits);

impl Amount {
    /// # Errors
    /// [`Invalid`] outside 1 … 2⁵³ − 1.
    pub fn new(credits: Credits) -> Result<Self, Invalid> {
        if (1..=MAX_CREDITS).contains(&credits) {
            Ok(Self(credits))
        } else {
            Err(Invalid(format!("must be an integer from 1 to {MAX_CREDITS}")))
        }
    }

    /// The amount in credits.
    #[must_use]
    pub fn credits(self) -> Credits {
        self.0
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CreditsVisitor { least: 1 }).map(Self)
    }
}

/// A cost, a threshold or a limit: 0 … 2⁵³ − 1 credits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Level(Credits);

impl Level {
    /// # Errors
    /// [`Invalid`] outside 0 … 2⁵³ − 1.
    pub fn new(credits: Credits) -> Result<Self, Invalid> {
        if (0..=MAX_CREDITS).contains(&credits) {
            Ok(Self(credits))
        } else {
            Err(Invalid(format!("must be an integer from 0 to {MAX_CREDITS}")))
        }
    }

    /// The level in credits.
    #[must_use]
    pub fn credits(self) -> Credits {
        self.0
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CreditsVisitor { least: 0 }).map(Self)
    }
}

/// How many units are provisioned at once: 1 … 1 000 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(u32);

impl Quantity {
    /// One unit.
    pub const ONE: Self = Self(1);
    /// The most that one provision may name.
    pub const MOST: u32 = 1_000_000;

    /// # Errors
    /// [`Invalid`] outside 1 … 1 000 000.
    pub fn new(units: u32) -> Result<Self, Invalid> {
        if (1..=Self::MOST).contains(&units) {
            Ok(Self(units))
        } else {
            Err(Invalid("must be an integer from 1 to 1000000".into()))
        }
    }

    /// The number of units.
    #[must_use]
    pub fn units(self) -> u32 {
        self.0
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ONE
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let units =
            u32::deserialize(deserializer).map_err(|_| de::Error::custom("must be an integer from 1 to 1000000"))?;
        Self::new(units).map_err(de::Error::custom)
    }
}

/// A percentage with up to two decimals, 0 … 1000, held as hundredths of a percent so that pricing is integer arithmetic.
///
/// Written as a decimal string (`"12.5"`); read from a string or a JSON number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// The largest percentage: 1000 %.
    pub const MOST: u32 = 1000;

    /// A whole percentage; `None` above 1000.
    #[must_use]
    pub const fn whole(percent: u32) -> Option<Self> {
        if percent <= Self::MOST { Some(Self(percent * 100)) } else { None }
    }

    /// Hundredths of a percent: 15 % is 1500.
    #[must_use]
    pub fn hundredths(self) -> u32 {
        self.0
    }

    /// As a decimal number of percent.
    #[must_use]
    pub fn decimal(self) -> Decimal {
        Decimal::new(i64::from(self.0), 2).normalize()
    }
}

impl TryFrom<Decimal> for Percent {
    type Error = Invalid;
    fn try_from(percent: Decimal) -> Result<Self, Invalid> {
        let invalid = || Invalid("must be a percentage from 0 to 1000 with at most two decimals".into());
        let hundredths = percent.checked_mul(Decimal::ONE_HUNDRED).ok_or_else(invalid)?.normalize();
        if hundredths.scale() > 0 {
            return Err(invalid());
        }
        u32::try_from(hundredths.mantissa())
            .ok()
            .filter(|hundredths| *hundredths <= Self::MOST * 100)
            .map(Self)
            .ok_or_else(invalid)
    }
}

impl FromStr for Percent {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let decimal =
            Decimal::from_str_exact(text).map_err(|_| Invalid("must be a percentage such as \"12.5\"".into()))?;
        Self::try_from(decimal)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.decimal().fmt(f)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PercentVisitor;
        impl Visitor<'_> for PercentVisitor {
            type Value = Percent;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a percentage from 0 to 1000 with at most two decimals, such as \"12.5\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Percent, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Percent, E> {
                Percent::try_from(Decimal::from(whole)).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Percent, E> {
                Percent::try_from(Decimal::from(whole)).map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Percent, E> {
                // The shortest text of the float is what its sender wrote; the binary value is not.
                number.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(PercentVisitor)
    }
}

/// An instant in UTC, in microseconds since 1970: what both databases and RFC 3339 with six decimals can hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The first instant that `0001-…` to `9999-…` texts can express is far below; this is only the smallest value.
    pub const MIN: Self = Self(-62_135_596_800_000_000);
    /// The last microsecond of the year 9999: the last one that RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// From microseconds since 1970; clamped to the years 1 … 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }

    /// This instant moved by so many seconds, clamped to the years 1 … 9999.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self::from_micros(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// The UTC day this instant falls on.
    #[must_use]
    pub fn date(self) -> NaiveDate {
        self.date_time().date_naive()
    }

    /// The first instant of a UTC day.
    #[must_use]
    pub fn start_of(day: NaiveDate) -> Self {
        Self::from_micros(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
    }

    fn date_time(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self::from_micros(time.timestamp_micros())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.date_time().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl FromStr for Timestamp {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self::from(time.with_timezone(&Utc)))
            .map_err(|_| Invalid("must be an RFC 3339 time such as 2026-11-21T09:30:00Z".into()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in events, answers and options.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Invalid(format!("must be one of: {}", [$($word),+].join(", ")))),
                }
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                crate::schema::word(&[$($word),+])
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::ToSchema for $name {}
    };
}

word_enum!(
    /// A reseller's tier, lowest first: it sets prices and which products may be sold.
    Tier {
        /// The default tier.
        Standard = "standard",
        /// The middle tier.
        Gold = "gold",
        /// The highest tier.
        Platinum = "platinum",
    }
);

word_enum!(
    /// What an actor may do; see the API's table of roles.
    Role {
        /// The platform: the operator's own staff.
        SuperAdmin = "super_admin",
        /// A user of one reseller, acting for it.
        Reseller = "reseller",
        /// The operator's payment system: adds purchased credits and nothing else.
        Payments = "payments",
        /// Reads everything, writes nothing.
        Auditor = "auditor",
        /// Reads projections and exports, and closes months.
        Finance = "finance",
        /// A named policy of the system itself.
        System = "system",
    }
);

word_enum!(
    /// Where a reseller stands in its life.
    ResellerStatus {
        /// Registered, not yet approved.
        Pending = "pending",
        /// In business.
        Active = "active",
        /// Put out of business by the platform; may be reactivated.
        Deactivated = "deactivated",
    }
);

word_enum!(
    /// Where added credits came from.
    CreditSource {
        /// Bought; its reference is taken once in the whole ledger.
        Purchase = "purchase",
        /// Given by the platform.
        Bonus = "bonus",
        /// Given for a completed referral.
        Referral = "referral",
        /// Corrected upwards by the platform.
        Adjustment = "adjustment",
    }
);

word_enum!(
    /// Why the platform took credits out.
    RemovalKind {
        /// A payment was charged back.
        Chargeback = "chargeback",
        /// A mistake is corrected.
        Correction = "correction",
    }
);

word_enum!(
    /// How a unit cost came about.
    PriceSource {
        /// The base cost less the tier's discount.
        Tier = "tier",
        /// A price that the parent set for this reseller.
        ParentPrice = "parent_price",
        /// The parent's own cost plus the product's minimum margin, because the price it set has gone stale below that.
        MinimumMargin = "minimum_margin",
        /// The parent's own cost plus its general margin.
        ParentMargin = "parent_margin",
        /// Named by the operator's own application.
        Declared = "declared",
    }
);

word_enum!(
    /// What a reseller may ask of its upline.
    RequestKind {
        /// A referral code, which only the platform issues.
        ReferralCode = "referral_code",
        /// Credits.
        CreditTopup = "credit_topup",
        /// A higher tier, which only the platform gives.
        TierUpgrade = "tier_upgrade",
        /// A price for one product, which only the direct parent sets.
        PriceChange = "price_change",
        /// Anything else, in words.
        Generic = "generic",
    }
);

word_enum!(
    /// Where an upline request stands; all but `pending` are final.
    RequestStatus {
        /// Waits for its addressee.
        Pending = "pending",
        /// Approved, and its effect done.
        Completed = "completed",
        /// Refused by its addressee.
        Rejected = "rejected",
        /// Could not be done.
        Failed = "failed",
        /// Taken back by its requester.
        Cancelled = "cancelled",
        /// Nobody answered in time.
        Expired = "expired",
    }
);

word_enum!(
    /// Where a client stands.
    ClientStatus {
        /// Onboarded, not yet activated. Only active clients can be provisioned for.
        Onboarded = "onboarded",
        /// Can be provisioned for.
        Active = "active",
        /// Stopped for a while.
        Suspended = "suspended",
        /// Stopped for good.
        Deactivated = "deactivated",
        /// Its personal data has been erased.
        Forgotten = "forgotten",
    }
);

/// Whose word stands behind a freeze or a hold. A higher one may lift what a lower one laid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// The low-credit policy, in the name of a reseller's own setting (holds only).
    LowCreditPolicy,
    /// An ancestor.
    Reseller(ResellerId),
    /// The operator.
    Platform,
}

impl Role {
    /// Whether it closes months: beside the platform itself finance does, and it is the one thing that finance commands. It
    /// changes nobody's credits.
    #[must_use]
    pub fn closes_periods(self) -> bool {
        matches!(self, Self::SuperAdmin | Self::Finance)
    }
}

/// Who sent a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user's id, or `key:<id>` of a token without a user, or `policy:<name>`.
    pub id: UserId,
    /// What it may do.
    pub role: Role,
    /// The reseller it acts for; always present for [`Role::Reseller`].
    pub tenant: Option<ResellerId>,
    /// Whether its token may name a price itself.
    pub declared_cost: bool,
}

impl Actor {
    /// Whether this is the operator.
    #[must_use]
    pub fn is_platform(&self) -> bool {
        self.role == Role::SuperAdmin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_positive_integer_that_json_keeps_exact() {
        for good in ["1", "9007199254740991"] {
            assert!(serde_json::from_str::<Amount>(good).is_ok(), "{good}");
        }
        for bad in ["0", "-1", "1.5", "1.0", "\"5\"", "9007199254740992", "99999999999999999999", "null", "true", "1e3"]
        {
            assert!(serde_json::from_str::<Amount>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_percentage_keeps_two_decimals_and_is_written_as_a_string() {
        for (text, hundredths) in [("\"12.5\"", 1250), ("15", 1500), ("12.34", 1234), ("\"0\"", 0), ("1000", 100_000)] {
            let percent: Percent = serde_json::from_str(text).expect(text);
            assert_eq!(percent.hundredths(), hundredths);
        }
        for bad in ["-1", "12.345", "1001", "\"x\"", "\"1e2\""] {
            assert!(serde_json::from_str::<Percent>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&Percent(1250)).expect("text"), "\"12.5\"");
    }

    #[test]
    fn an_id_has_one_spelling() {
        let text = "0190d3a5-7c1e-7b60-8f00-3d0f6c8e2a11";
        let id: ResellerId = text.parse().expect("an id");
        assert_eq!(serde_json::from_str::<ResellerId>(&format!("\"{text}\"")).expect("an id"), id);
        assert_eq!(serde_json::to_string(&id).expect("text"), format!("\"{text}\""));
        let bare = text.replace('-', "");
        for other in [text.to_uppercase(), bare, format!("{{{text}}}"), format!("urn:uuid:{text}"), String::new()] {
            assert!(other.parse::<ResellerId>().is_err(), "{other}");
            assert!(serde_json::from_str::<ResellerId>(&format!("\"{other}\"")).is_err(), "{other}");
        }
    }

    #[test]
    fn a_timestamp_is_written_with_six_decimals_and_z() {
        let time: Timestamp = "2026-11-21T10:00:00.1234569+01:00".parse().expect("time");
        assert_eq!(time.to_string(), "2026-11-21T09:00:00.123456Z");
        assert_eq!(Timestamp::start_of(time.date()).to_string(), "2026-11-21T00:00:00.000000Z");
    }

    #[test]
    fn text_with_a_zero_character_is_refused() {
        assert!(Text::new("a\0b").is_err());
        assert!(serde_json::from_str::<CompanyName>("\"a\\u0000b\"").is_err());
    }
}
