//! The Reseller aggregate: one node of the network, and one tenant.
//!
//! What a reseller may do on its own account is decided here. Rules that look at the tree (who may freeze whom, what a
//! parent may charge) are the ledger's, which asks [`crate::network::Network`].

use std::collections::{BTreeMap, BTreeSet};

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::primitives::{
    Authority, CompanyName, Level, Percent, ReferralCode, ReferralTag, Refid, RequestId, RequestKind, ResellerId,
    ResellerStatus, Sku, Text, Tier, Timestamp, UserId,
};
use crate::rejection::Rejection;

/// The most that a reseller's metadata may take as JSON text: 64 KiB.
pub const METADATA_BYTES_MAX: usize = 64 * 1024;
/// How deep free JSON (metadata) may be nested. Whatever wraps it in the log must stay within what a reader of JSON accepts
/// (128 levels), or what was committed could never be read again.
pub const NESTING_MAX: usize = 32;
/// How deep a network may be; a top-level reseller has depth 0.
pub const DEPTH_MAX: u32 = 64;
/// How often a referral code may be used, unless it says otherwise.
pub const REFERRAL_USES_MAX: u32 = 100;
/// How long a referral code is valid: 90 days.
pub const REFERRAL_LIFETIME_SECONDS: i64 = 90 * 86_400;

/// By which means a reseller may be told of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// By mail.
    Email,
    /// By a signed call to the reseller's own server.
    Webhook,
}

/// What a reseller has set for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Settings {
    /// Which kinds of upline request pass through to the next one up without being asked.
    pub auto_forward: BTreeMap<RequestKind, bool>,
    /// By which means it wants to be told.
    pub notifications: BTreeMap<Channel, bool>,
    /// What its children pay above its own cost where no price is set for them.
    pub margin_percent: Option<Percent>,
    /// Whether its parent may take credits back.
    pub allow_withdraw: bool,
    /// Whether the low-credit policy holds provisioning when the balance falls below the threshold.
    pub hold_on_low_credit: bool,
}

/// A change of settings: what is absent stays. `margin_percent: null` clears it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsPatch {
    /// Kinds to start or stop forwarding.
    pub auto_forward: BTreeMap<RequestKind, bool>,
    /// Channels to switch on or off.
    pub notifications: BTreeMap<Channel, bool>,
    /// A new margin, or `null` for none.
    #[serde(deserialize_with = "present")]
    pub margin_percent: Option<Option<Percent>>,
    /// Whether the parent may take credits back.
    pub allow_withdraw: Option<bool>,
    /// Whether low credit holds provisioning.
    pub hold_on_low_credit: Option<bool>,
}

/// Tells a field that is `null` from one that is absent.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

impl SettingsPatch {
    fn applied_to(&self, settings: &Settings) -> Settings {
        let mut new = settings.clone();
        new.auto_forward.extend(self.auto_forward.iter().map(|(kind, on)| (*kind, *on)));
        new.notifications.extend(self.notifications.iter().map(|(channel, on)| (*channel, *on)));
        if let Some(margin) = self.margin_percent {
            new.margin_percent = margin;
        }
        new.allow_withdraw = self.allow_withdraw.unwrap_or(new.allow_withdraw);
        new.hold_on_low_credit = self.hold_on_low_credit.unwrap_or(new.hold_on_low_credit);
        new
    }
}

/// A referral code as its owner holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCode {
    /// What it is for.
    pub tag: ReferralTag,
    /// How often it may be used.
    pub max_uses: u32,
    /// How often it has been.
    pub uses: u32,
    /// From when on it is void.
    pub expires_at: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// By which referral a reseller came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referral {
    /// The code that was used.
    pub code: ReferralCode,
    /// What the code was for.
    pub tag: ReferralTag,
    /// Whose code it was.
    pub referrer: ResellerId,
}

/// Who registered a reseller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registrar {
    /// The operator: the user is taken from registration on.
    Platform,
    /// The parent: the user is taken at approval only, so that nobody can probe or squat a user.
    Upline,
}

/// What can be asked of a reseller.
#[derive(Debug, Clone, PartialEq)]
pub enum ResellerCommand {
    /// Take it into the network.
    Register(Registration),
    /// Give it another company name.
    Rename(CompanyName),
    /// Put it in business.
    Approve,
    /// Put it out of business.
    Deactivate(Option<Text>),
    /// Put it back in business.
    Reactivate(Option<Text>),
    /// Give it another tier.
    ChangeTier(Tier, Option<Text>),
    /// Merge a JSON patch (RFC 7386) into its metadata.
    UpdateMetadata(Map<String, Value>),
    /// Change its settings.
    ChangeSettings(SettingsPatch),
    /// Freeze it and all its downline.
    Freeze(Authority, Option<Text>),
    /// Lift the freezes laid by these authorities.
    Unfreeze(Vec<Authority>, Option<Text>),
    /// Give it a referral code.
    IssueReferralCode {
        /// The code.
        code: ReferralCode,
        /// What it is for.
        tag: ReferralTag,
        /// From when on it is void.
        expires_at: Timestamp,
        /// The request that asked for it.
        request: RequestId,
    },
    /// Make a referral code void.
    RevokeReferralCode(ReferralCode),
    /// Somebody registered with one of its codes.
    CompleteReferral {
        /// The code.
        code: ReferralCode,
        /// Who registered.
        referred: ResellerId,
        /// The user behind it.
        referred_user: UserId,
        /// When.
        now: Timestamp,
    },
    /// Its parent sets its price for a product.
    SetPrice(Authority, Sku, Level),
    /// Its parent clears its price for a product.
    ClearPrice(Sku),
}

/// Everything that a registration fixes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// Its identity.
    pub reseller: ResellerId,
    /// The user behind it.
    pub user_id: UserId,
    /// Its public reference.
    pub refid: Refid,
    /// Its company name.
    pub company_name: CompanyName,
    /// Its first tier.
    pub tier: Tier,
    /// Active at once, or waiting for approval.
    pub status: ResellerStatus,
    /// Its parent; `None` for a top-level reseller.
    pub parent: Option<ResellerId>,
    /// Number of ancestors.
    pub depth: u32,
    /// White-labelling and the like.
    pub metadata: Map<String, Value>,
    /// By which referral it came.
    pub referral: Option<Referral>,
    /// Who registered it.
    pub registrar: Registrar,
    /// When it was registered.
    pub registered_at: Timestamp,
}

/// What has happened to a reseller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ResellerEvent {
    /// It joined the network.
    ResellerRegistered(Box<Registration>),
    /// Its company name changed.
    ResellerRenamed {
        /// The name from here on.
        company_name: CompanyName,
    },
    /// It is in business.
    ResellerApproved {
        /// The user that is now taken.
        user_id: UserId,
    },
    /// It is out of business.
    ResellerDeactivated {
        /// Why.
        reason: Option<Text>,
    },
    /// It is back in business.
    ResellerReactivated {
        /// Why.
        reason: Option<Text>,
    },
    /// It has another tier.
    TierChanged {
        /// The tier before.
        from: Tier,
        /// The tier from here on.
        to: Tier,
        /// Why.
        reason: Option<Text>,
    },
    /// Its metadata changed.
    MetadataUpdated {
        /// The JSON merge patch (RFC 7386).
        patch: Map<String, Value>,
    },
    /// Its settings changed.
    SettingsChanged {
        /// The settings from here on, whole.
        settings: Settings,
    },
    /// It and all its downline are frozen.
    SubtreeFrozen {
        /// Whose freeze it is.
        authority: Authority,
        /// Why.
        reason: Option<Text>,
    },
    /// One freeze was lifted.
    SubtreeUnfrozen {
        /// Whose freeze it was.
        authority: Authority,
        /// Why.
        reason: Option<Text>,
    },
    /// It has a referral code.
    ReferralCodeIssued {
        /// The code.
        code: ReferralCode,
        /// What it is for.
        tag: ReferralTag,
        /// How often it may be used.
        max_uses: u32,
        /// From when on it is void.
        expires_at: Timestamp,
        /// The request that asked for it.
        request: RequestId,
    },
    /// A referral code is void.
    ReferralCodeRevoked {
        /// The code.
        code: ReferralCode,
    },
    /// Somebody registered with one of its codes.
    ReferralCompleted {
        /// The code.
        code: ReferralCode,
        /// What it was for.
        tag: ReferralTag,
        /// Who registered.
        referred: ResellerId,
    },
    /// Its parent set its price for a product.
    PriceSet {
        /// Who set it.
        by: Authority,
        /// The product.
        sku: Sku,
        /// What one unit costs it.
        cost: Level,
    },
    /// Its parent cleared its price for a product.
    PriceCleared {
        /// The product.
        sku: Sku,
    },
}

crate::event::domain_event!(ResellerEvent {
    ResellerRegistered,
    ResellerRenamed,
    ResellerApproved,
    ResellerDeactivated,
    ResellerReactivated,
    TierChanged,
    MetadataUpdated,
    SettingsChanged,
    SubtreeFrozen,
    SubtreeUnfrozen,
    ReferralCodeIssued,
    ReferralCodeRevoked,
    ReferralCompleted,
    PriceSet,
    PriceCleared
});

/// A reseller. `profile` is `None` before it is registered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reseller {
    /// What it is.
    pub profile: Option<Box<Profile>>,
    /// Its settings.
    pub settings: Settings,
    /// Whose freezes lie on it.
    pub freezes: BTreeSet<Authority>,
    /// Its referral codes; bounded by what the platform issues to it.
    pub referral_codes: BTreeMap<ReferralCode, IssuedCode>,
    /// What its parent has set as its costs.
    pub prices: BTreeMap<Sku, Level>,
}

/// What a registered reseller is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The registration it began with; name, tier, status and metadata are kept up to date in it.
    #[serde(flatten)]
    pub registration: Registration,
}

impl Reseller {
    /// # Errors
    /// `not_found` before registration, else what the rule at hand refuses.
    pub fn decide(&self, command: &ResellerCommand) -> Result<Vec<ResellerEvent>, Rejection> {
        let Some(profile) = self.profile.as_deref().map(|profile| &profile.registration) else {
            return match command {
                ResellerCommand::Register(registration) => {
                    check_metadata(&registration.metadata)?;
                    Ok(vec![ResellerEvent::ResellerRegistered(Box::new(registration.clone()))])
                }
                _ => Err(Rejection::not_found("reseller")),
            };
        };
        match command {
            ResellerCommand::Register(_) => Err(Rejection::AlreadyExists { what: "the reseller".into() }),
            ResellerCommand::Rename(name) if *name == profile.company_name => Ok(Vec::new()),
            ResellerCommand::Rename(name) => Ok(vec![ResellerEvent::ResellerRenamed { company_name: name.clone() }]),
            ResellerCommand::Approve if profile.status == ResellerStatus::Pending => {
                Ok(vec![ResellerEvent::ResellerApproved { user_id: profile.user_id.clone() }])
            }
            ResellerCommand::Approve => Err(Rejection::transition("the reseller", profile.status, "approved")),
            ResellerCommand::Deactivate(reason) if profile.status == ResellerStatus::Active => {
                Ok(vec![ResellerEvent::ResellerDeactivated { reason: reason.clone() }])
            }
            ResellerCommand::Deactivate(_) => Err(Rejection::transition("the reseller", profile.status, "deactivated")),
            ResellerCommand::Reactivate(reason) if profile.status == ResellerStatus::Deactivated => {
                Ok(vec![ResellerEvent::ResellerReactivated { reason: reason.clone() }])
            }
            ResellerCommand::Reactivate(_) => Err(Rejection::transition("the reseller", profile.status, "reactivated")),
            ResellerCommand::ChangeTier(to, _) if *to == profile.tier => Ok(Vec::new()),
            ResellerCommand::ChangeTier(to, reason) => {
                Ok(vec![ResellerEvent::TierChanged { from: profile.tier, to: *to, reason: reason.clone() }])
            }
            ResellerCommand::UpdateMetadata(patch) => {
                check_metadata(patch)?;
                let mut merged = profile.metadata.clone();
                merge(&mut merged, patch);
                check_metadata(&merged)?;
                if merged == profile.metadata {
                    return Ok(Vec::new());
                }
                Ok(vec![ResellerEvent::MetadataUpdated { patch: patch.clone() }])
            }
            ResellerCommand::ChangeSettings(patch) => {
                let settings = patch.applied_to(&self.settings);
                if settings == self.settings {
                    return Ok(Vec::new());
                }
                Ok(vec![ResellerEvent::SettingsChanged { settings }])
            }
            ResellerCommand::Freeze(authority, _) if self.freezes.contains(authority) => Ok(Vec::new()),
            ResellerCommand::Freeze(authority, reason) => {
                Ok(vec![ResellerEvent::SubtreeFrozen { authority: *authority, reason: reason.clone() }])
            }
            ResellerCommand::Unfreeze(authorities, reason) => Ok(authorities
                .iter()
                .filter(|authority| self.freezes.contains(authority))
                .map(|authority| ResellerEvent::SubtreeUnfrozen { authority: *authority, reason: reason.clone() })
                .collect()),
            ResellerCommand::IssueReferralCode { code, tag, expires_at, request } => {
                Ok(vec![ResellerEvent::ReferralCodeIssued {
                    code: code.clone(),
                    tag: tag.clone(),
                    max_uses: REFERRAL_USES_MAX,
                    expires_at: *expires_at,
                    request: *request,
                }])
            }
            ResellerCommand::RevokeReferralCode(code) => match self.referral_codes.get(code) {
                None => Err(Rejection::not_found("referral code")),
                Some(issued) if issued.revoked => Err(Rejection::transition("the referral code", "revoked", "revoked")),
                Some(_) => Ok(vec![ResellerEvent::ReferralCodeRevoked { code: code.clone() }]),
            },
            ResellerCommand::CompleteReferral { code, referred, referred_user, now } => {
                let invalid = |reason: &str| Rejection::ReferralInvalid { reason: reason.into() };
                let issued = self.referral_codes.get(code).ok_or_else(|| invalid("unknown"))?;
                if issued.revoked {
                    return Err(invalid("revoked"));
                }
                if *now >= issued.expires_at {
                    return Err(invalid("expired"));
                }
                if issued.uses >= issued.max_uses {
                    return Err(invalid("used_up"));
                }
                if *referred_user == profile.user_id {
                    return Err(invalid("self_referral"));
                }
                Ok(vec![ResellerEvent::ReferralCompleted {
                    code: code.clone(),
                    tag: issued.tag.clone(),
                    referred: *referred,
                }])
            }
            ResellerCommand::SetPrice(_, sku, cost) if self.prices.get(sku) == Some(cost) => Ok(Vec::new()),
            ResellerCommand::SetPrice(by, sku, cost) => {
                Ok(vec![ResellerEvent::PriceSet { by: *by, sku: sku.clone(), cost: *cost }])
            }
            ResellerCommand::ClearPrice(sku) if self.prices.contains_key(sku) => {
                Ok(vec![ResellerEvent::PriceCleared { sku: sku.clone() }])
            }
            ResellerCommand::ClearPrice(_) => Err(Rejection::not_found("price")),
        }
    }

    /// Folds one event.
    pub fn fold(&mut self, event: &ResellerEvent) {
        if let ResellerEvent::ResellerRegistered(registration) = event {
            self.profile = Some(Box::new(Profile { registration: (**registration).clone() }));
            return;
        }
        // Only a registration comes before a profile; `decide` sees to that.
        let Some(profile) = self.profile.as_deref_mut().map(|profile| &mut profile.registration) else { return };
        match event {
            ResellerEvent::ResellerRegistered(_) => {}
            ResellerEvent::ResellerRenamed { company_name } => profile.company_name = company_name.clone(),
            ResellerEvent::ResellerApproved { .. } | ResellerEvent::ResellerReactivated { .. } => {
                profile.status = ResellerStatus::Active;
            }
            ResellerEvent::ResellerDeactivated { .. } => profile.status = ResellerStatus::Deactivated,
            ResellerEvent::TierChanged { to, .. } => profile.tier = *to,
            ResellerEvent::MetadataUpdated { patch } => merge(&mut profile.metadata, patch),
            ResellerEvent::SettingsChanged { settings } => self.settings = settings.clone(),
            ResellerEvent::SubtreeFrozen { authority, .. } => {
                self.freezes.insert(*authority);
            }
            ResellerEvent::SubtreeUnfrozen { authority, .. } => {
                self.freezes.remove(authority);
            }
            ResellerEvent::ReferralCodeIssued { code, tag, max_uses, expires_at, .. } => {
                let issued = IssuedCode {
                    tag: tag.clone(),
                    max_uses: *max_uses,
                    uses: 0,
                    expires_at: *expires_at,
                    revoked: false,
                };
                self.referral_codes.insert(code.clone(), issued);
            }
            ResellerEvent::ReferralCodeRevoked { code } => {
                if let Some(issued) = self.referral_codes.get_mut(code) {
                    issued.revoked = true;
                }
            }
            ResellerEvent::ReferralCompleted { code, .. } => {
                if let Some(issued) = self.referral_codes.get_mut(code) {
                    issued.uses = issued.uses.saturating_add(1);
                }
            }
            ResellerEvent::PriceSet { sku, cost, .. } => {
                self.prices.insert(sku.clone(), *cost);
            }
            ResellerEvent::PriceCleared { sku } => {
                self.prices.remove(sku);
            }
        }
    }
}

/// Merges a JSON patch into an object as RFC 7386 says: `null` removes, objects merge, all else replaces.
pub fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(inner_patch) => {
                let entry = target.entry(key.clone()).or_insert(Value::Null);
                if !entry.is_object() {
                    *entry = Value::Object(Map::new());
                }
                if let Value::Object(inner) = entry {
                    merge(inner, inner_patch);
                }
            }
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

/// # Errors
/// [`Rejection::Invalid`] above 64 KiB, above [`NESTING_MAX`] levels, or where a text holds U+0000.
pub fn check_metadata(metadata: &Map<String, Value>) -> Result<(), Rejection> {
    let text = serde_json::to_string(metadata).unwrap_or_default();
    if text.len() > METADATA_BYTES_MAX {
        return Err(Rejection::invalid("/metadata", format!("must be at most {METADATA_BYTES_MAX} bytes of JSON")));
    }
    if metadata.values().any(|value| nesting(value) >= NESTING_MAX) {
        return Err(Rejection::invalid("/metadata", format!("must be nested at most {NESTING_MAX} levels deep")));
    }
    if text.contains("\\u0000") && metadata.iter().any(|(key, value)| key.contains('\0') || has_zero(value)) {
        return Err(Rejection::invalid("/metadata", "must not contain U+0000"));
    }
    Ok(())
}

/// How many levels of arrays and objects a value has; 0 for a plain one.
fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(nesting).max().unwrap_or(0),
        _ => 0,
    }
}

fn has_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_zero),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || has_zero(value)),
        _ => false,
    }
}

crate::event::cqrs_aggregate!(Reseller, "Reseller", ResellerCommand, ResellerEvent);

#[cfg(test)]
mod tests {
    use super::*;
    use cqrs_es::test::TestFramework;
    use serde_json::json;
    use uuid::Uuid;

    fn id(number: u128) -> ResellerId {
        ResellerId(Uuid::from_u128(number))
    }

    fn registered(status: ResellerStatus) -> Vec<ResellerEvent> {
        vec![ResellerEvent::ResellerRegistered(Box::new(Registration {
            reseller: id(1),
            user_id: UserId::new("user-1").expect("user"),
            refid: Refid::new("RS-1").expect("refid"),
            company_name: CompanyName::new("Elite Global Partners").expect("name"),
            tier: Tier::Standard,
            status,
            parent: None,
            depth: 0,
            metadata: Map::new(),
            referral: None,
            registrar: Registrar::Platform,
            registered_at: Timestamp::default(),
        }))]
    }

    fn given(events: Vec<ResellerEvent>) -> cqrs_es::test::AggregateTestExecutor<Reseller> {
        TestFramework::with(()).given(events)
    }

    #[test]
    fn only_a_pending_reseller_is_approved() {
        given(registered(ResellerStatus::Pending)).when(ResellerCommand::Approve).then_expect_events(vec![
            ResellerEvent::ResellerApproved { user_id: UserId::new("user-1").expect("user") },
        ]);
        given(registered(ResellerStatus::Active))
            .when(ResellerCommand::Approve)
            .then_expect_error(Rejection::transition("the reseller", "active", "approved"));
    }

    /// Else deactivating and reactivating would be a way around approval, and around taking the user.
    #[test]
    fn a_pending_reseller_is_approved_and_nothing_else() {
        for command in [ResellerCommand::Deactivate(None), ResellerCommand::Reactivate(None)] {
            let refused = given(registered(ResellerStatus::Pending)).when(command).inspect_result();
            assert!(matches!(refused, Err(Rejection::InvalidTransition { .. })));
        }
    }

    #[test]
    fn a_metadata_patch_merges_as_rfc_7386_says() {
        let mut target = json!({"a": "b", "c": {"d": "e", "f": "g"}}).as_object().cloned().expect("object");
        let patch = json!({"a": "z", "c": {"f": null}}).as_object().cloned().expect("object");
        merge(&mut target, &patch);
        assert_eq!(Value::Object(target), json!({"a": "z", "c": {"d": "e"}}));
    }

    #[test]
    fn metadata_is_at_most_64_kib_and_free_of_u_0000() {
        let patch = |value: &str| json!({ "logo": value }).as_object().cloned().expect("object");
        let refused = given(registered(ResellerStatus::Active))
            .when(ResellerCommand::UpdateMetadata(patch(&"x".repeat(METADATA_BYTES_MAX))))
            .inspect_result();
        assert!(matches!(refused, Err(Rejection::Invalid { .. })));
        let refused = given(registered(ResellerStatus::Active))
            .when(ResellerCommand::UpdateMetadata(patch("a\0")))
            .inspect_result();
        assert!(matches!(refused, Err(Rejection::Invalid { .. })));
    }

    /// What is committed must be readable for ever, wrapped in whatever the log, a snapshot or a receipt wraps it in.
    #[test]
    fn metadata_is_nested_at_most_32_levels_deep_and_reads_back_from_where_it_is_kept() {
        let nested = |levels: usize| {
            let mut value = json!("x");
            for _ in 1..levels {
                value = json!({ "a": value });
            }
            json!({ "deep": value }).as_object().cloned().expect("object")
        };
        let update =
            |levels| given(registered(ResellerStatus::Active)).when(ResellerCommand::UpdateMetadata(nested(levels)));
        assert!(matches!(update(NESTING_MAX + 1).inspect_result(), Err(Rejection::Invalid { .. })));
        let events = update(NESTING_MAX).inspect_result().expect("accepted");
        let mut reseller = Reseller::default();
        for event in registered(ResellerStatus::Active).iter().chain(&events) {
            reseller.fold(event);
        }
        let snapshot = serde_json::to_string(&reseller).expect("text");
        assert_eq!(serde_json::from_str::<Reseller>(&snapshot).expect("read back"), reseller);
        let payload = serde_json::to_string(&events).expect("text");
        assert_eq!(serde_json::from_str::<Vec<ResellerEvent>>(&payload).expect("read back"), events);
    }

    #[test]
    fn a_referral_code_is_not_for_its_owner_and_not_for_ever() {
        let code = ReferralCode::new("BEN123").expect("code");
        let mut events = registered(ResellerStatus::Active);
        events.push(ResellerEvent::ReferralCodeIssued {
            code: code.clone(),
            tag: ReferralTag::new(crate::primitives::BECOME_PARTNER).expect("tag"),
            max_uses: 1,
            expires_at: Timestamp::from_micros(100),
            request: RequestId(Uuid::nil()),
        });
        let complete = |user: &str, now| ResellerCommand::CompleteReferral {
            code: code.clone(),
            referred: id(2),
            referred_user: UserId::new(user).expect("user"),
            now: Timestamp::from_micros(now),
        };
        let invalid = |reason: &str| Rejection::ReferralInvalid { reason: reason.into() };
        given(events.clone()).when(complete("user-1", 50)).then_expect_error(invalid("self_referral"));
        given(events.clone()).when(complete("user-2", 100)).then_expect_error(invalid("expired"));
        let used = given(events.clone()).when(complete("user-2", 50)).inspect_result().expect("completed");
        events.extend(used);
        given(events).when(complete("user-3", 50)).then_expect_error(invalid("used_up"));
    }

    #[test]
    fn a_freeze_by_the_same_authority_is_laid_once() {
        let mut events = registered(ResellerStatus::Active);
        events.push(ResellerEvent::SubtreeFrozen { authority: Authority::Platform, reason: None });
        given(events.clone()).when(ResellerCommand::Freeze(Authority::Platform, None)).then_expect_events(vec![]);
        given(events).when(ResellerCommand::Freeze(Authority::Reseller(id(9)), None)).then_expect_events(vec![
            ResellerEvent::SubtreeFrozen { authority: Authority::Reseller(id(9)), reason: None },
        ]);
    }
}
