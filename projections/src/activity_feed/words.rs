//! Entries in words: what an event says to the one who reads it, and no more than that one may know.
//!
//! Pure: [`Told`] is an event with the names of whom it mentions, [`Sight`](super::Sight) is who reads. Whoever is not in sight is
//! never named: it is its "upline", or nobody.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;

use aggregates::client::ClientEvent;
use aggregates::event::{AggregateKey, Event, EventMetadata};
use aggregates::platform::PlatformEvent;
use aggregates::primitives::{
    Authority, ClientId, Credits, ProvisionId, RefundId, RequestId, ResellerId, ResellerStatus, Role, Sku, Text, Tier,
    Timestamp, TransferId,
};
use aggregates::product::ProductEvent;
use aggregates::rejection::{Above, SeenAuthority};
use aggregates::reseller::ResellerEvent;
use aggregates::upline_request::{Addressee, Ask, Outcome, UplineRequestEvent};
use aggregates::wallet::WalletEvent;
use serde::{Serialize, Serializer};

use super::pages::{Reached, Sight};
use super::{Audience, COST_CHANGED, Line};
use crate::sql::ViewError;

/// Where an entry stands in the feed: the event's position, and 0 for what happened or 1 for what it means to one whom it
/// reaches. Written `position:index`; the same after every rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The event's position.
    pub position: u64,
    /// Whether it is what the event means to one whom it reaches.
    pub reached: bool,
}

impl EntryId {
    /// Its place in a page's cursor.
    pub(super) fn key(self) -> i64 {
        i64::try_from(self.position * 2 + u64::from(self.reached)).unwrap_or(i64::MAX)
    }

    /// From a cursor.
    pub(super) fn of_key(key: i64) -> Self {
        let key = u64::try_from(key).unwrap_or_default();
        Self { position: key / 2, reached: key % 2 == 1 }
    }
}

impl Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.position, u8::from(self.reached))
    }
}

impl FromStr for EntryId {
    type Err = ViewError;

    fn from_str(text: &str) -> Result<Self, ViewError> {
        let (position, index) = text.split_once(':').ok_or(ViewError::InvalidCursor)?;
        let position = position.parse().map_err(|_| ViewError::InvalidCursor)?;
        let id = Self { position, reached: index == "1" };
        if id.to_string() == text && position < 1 << 60 { Ok(id) } else { Err(ViewError::InvalidCursor) }
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Somebody whom an event mentions.
#[derive(Debug, Clone)]
pub(super) struct Mention {
    pub(super) name: String,
    pub(super) line: Line,
}

/// What an event means to one whom it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub(super) kind: String,
    pub(super) sku: Option<Sku>,
    pub(super) former_cost: Option<Credits>,
    pub(super) unit_cost: Option<Credits>,
}

/// An event with all that its words need, for any reader.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its position.
    pub position: u64,
    /// Its kind.
    pub kind: &'static str,
    pub(super) audience: Audience,
    /// To whom it happened; 0 for the platform.
    pub(super) number: u64,
    /// That one's line.
    pub(super) line: Line,
    pub(super) key: AggregateKey,
    pub(super) event: Event,
    pub(super) metadata: EventMetadata,
    pub(super) recorded_at: Timestamp,
    pub(super) subject: Option<ResellerId>,
    pub(super) mentions: BTreeMap<ResellerId, Mention>,
    pub(super) ask: Option<Ask>,
}

/// An entry of the feed. What does not apply, or is not the reader's to know, is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[allow(missing_docs)] // DOMAIN's words
pub struct ActivityView {
    /// `position:index`.
    #[cfg_attr(feature = "schema", schema(value_type = String, examples("4711:0")))]
    pub id: EntryId,
    pub position: u64,
    /// What happened.
    #[cfg_attr(feature = "schema", schema(value_type = super::pages::Kind))]
    pub kind: String,
    /// In a sentence.
    pub summary: String,
    /// To whom; null for what happened to the platform or to all.
    pub reseller_id: Option<ResellerId>,
    pub company_name: Option<String>,
    /// Who did it: `platform`, `upline`, or the reseller's id where it is in sight.
    pub by: Option<SeenAuthority>,
    /// Signed where a balance changed by it.
    pub amount: Option<Credits>,
    /// The balance after it.
    pub balance: Option<Credits>,
    pub sku: Option<Sku>,
    /// What one unit costs from here on.
    pub unit_cost: Option<Credits>,
    /// What one unit cost before.
    pub former_cost: Option<Credits>,
    pub tier: Option<Tier>,
    /// The other reseller, where it is in sight.
    pub counterparty_id: Option<ResellerId>,
    pub client_id: Option<ClientId>,
    pub provision_id: Option<ProvisionId>,
    pub refund_id: Option<RefundId>,
    pub transfer_id: Option<TransferId>,
    pub request_id: Option<RequestId>,
    pub note: Option<String>,
    pub recorded_at: Timestamp,
}

/// All resellers that an event mentions besides the one to whom it happened.
pub(super) fn mentioned(event: &Event, metadata: &EventMetadata) -> Vec<ResellerId> {
    let mut mentioned: Vec<ResellerId> =
        metadata.tenant.as_deref().and_then(|id| id.parse().ok()).into_iter().collect();
    match event {
        Event::Reseller(ResellerEvent::ResellerRegistered(registration)) => mentioned.extend(registration.parent),
        Event::Reseller(ResellerEvent::ReferralCompleted { referred: other, .. })
        | Event::Reseller(ResellerEvent::SubtreeFrozen { authority: Authority::Reseller(other), .. })
        | Event::Reseller(ResellerEvent::SubtreeUnfrozen { authority: Authority::Reseller(other), .. })
        | Event::Reseller(ResellerEvent::PriceSet { by: Authority::Reseller(other), .. })
        | Event::Wallet(WalletEvent::CommissionEarned { seller: other, .. })
        | Event::Wallet(WalletEvent::CreditsTransferredOut { to: other, .. })
        | Event::Wallet(WalletEvent::CreditsTransferredIn { from: other, .. })
        | Event::Wallet(WalletEvent::ProvisioningHeld { authority: Authority::Reseller(other), .. })
        | Event::Wallet(WalletEvent::ProvisioningResumed { authority: Authority::Reseller(other), .. }) => {
            mentioned.push(*other);
        }
        Event::Client(ClientEvent::ClientReassigned { from, to }) => mentioned.extend([*from, *to]),
        Event::UplineRequest(UplineRequestEvent::UplineRequestRaised { addressed_to: to, .. })
        | Event::UplineRequest(UplineRequestEvent::UplineRequestForwarded { to, .. })
        | Event::UplineRequest(UplineRequestEvent::UplineRequestCompleted { by: to, .. }) => {
            mentioned.extend(super::reseller_of(*to));
        }
        _ => {}
    }
    mentioned
}

impl Told {
    /// Whether the reader may know what happened.
    #[must_use]
    pub fn is_in_sight(&self, sight: &Sight) -> bool {
        if !sight.is_tenant() {
            return true;
        }
        match self.audience {
            Audience::Own => self.number == sight.number,
            Audience::Upline => self.number != 0 && sight.line.holds(&self.line),
            Audience::Line => {
                (self.number != 0 && sight.line.holds(&self.line))
                    || (self.line.holds(&sight.line) && self.position > sight.number)
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn ask_is_none(&self) -> bool {
        self.ask.is_none()
    }

    /// The numbers on the line of the one to whom it happened.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.line.numbers()
    }

    /// Whether all below may know of it, too: with [`Self::numbers`], whom a reader of the whole stream must ask.
    #[must_use]
    pub fn concerns_all_below(&self) -> bool {
        self.audience == Audience::Line
    }

    /// The entry for a reader; with `reach`, what it means to one whom it reaches.
    pub(crate) fn view(&self, sight: &Sight, reach: Option<(&Reach, &Reached)>) -> ActivityView {
        let mut view = ActivityView {
            id: EntryId { position: self.position, reached: reach.is_some() },
            position: self.position,
            kind: self.kind.to_owned(),
            summary: String::new(),
            reseller_id: self.subject,
            company_name: self.subject.and_then(|id| self.mentions.get(&id)).map(|mention| mention.name.clone()),
            by: self.actor(sight),
            amount: None,
            balance: None,
            sku: None,
            unit_cost: None,
            former_cost: None,
            tier: None,
            counterparty_id: None,
            client_id: None,
            provision_id: None,
            refund_id: None,
            transfer_id: None,
            request_id: None,
            note: None,
            recorded_at: self.recorded_at,
        };
        if let Some((reach, reached)) = reach.filter(|(reach, _)| reach.kind == COST_CHANGED) {
            say_cost(&mut view, reach, reached);
            return view;
        }
        // What lies above is told as what it is to the reader.
        if !sight.line.holds(&self.line) && self.number != 0 {
            view.reseller_id = sight.reseller;
            view.company_name = Some(sight.name.clone());
        }
        let who = view.company_name.clone().unwrap_or_else(|| "The platform".to_owned());
        match &self.event {
            Event::Platform(PlatformEvent::PolicySet { .. }) => {
                view.summary = "A new policy is in force".to_owned();
            }
            Event::Platform(PlatformEvent::PeriodClosed(closing)) => {
                view.summary = format!("The books of {} were closed", closing.month);
            }
            Event::Reseller(event) => self.say_reseller(&mut view, sight, &who, event),
            Event::Wallet(event) => self.say_wallet(&mut view, sight, &who, event),
            Event::UplineRequest(event) => self.say_request(&mut view, sight, &who, event),
            Event::Client(event) => self.say_client(&mut view, sight, &who, event, reach.map(|(_, reached)| reached)),
            Event::Product(event) => self.say_product(&mut view, event),
        }
        view
    }

    /// Who did it, as far as the reader may know.
    fn actor(&self, sight: &Sight) -> Option<SeenAuthority> {
        match self.metadata.role.parse::<Role>().ok()? {
            Role::Reseller => Some(self.seen(self.metadata.tenant.as_deref()?.parse().ok()?, sight)),
            Role::SuperAdmin | Role::Payments | Role::System => Some(SeenAuthority::Elsewhere(Above::Platform)),
            Role::Auditor | Role::Finance => None,
        }
    }

    fn seen(&self, reseller: ResellerId, sight: &Sight) -> SeenAuthority {
        match self.other(reseller, sight) {
            Some(_) => SeenAuthority::Reseller(reseller),
            None => SeenAuthority::Elsewhere(Above::Upline),
        }
    }

    fn seen_authority(&self, authority: Authority, sight: &Sight) -> SeenAuthority {
        match authority {
            Authority::Platform => SeenAuthority::Elsewhere(Above::Platform),
            Authority::LowCreditPolicy => SeenAuthority::Elsewhere(Above::LowCreditPolicy),
            Authority::Reseller(reseller) => self.seen(reseller, sight),
        }
    }

    /// Somebody mentioned, where it is in sight.
    fn other(&self, reseller: ResellerId, sight: &Sight) -> Option<&Mention> {
        self.mentions.get(&reseller).filter(|mention| sight.line.holds(&mention.line))
    }

    /// An authority in words.
    fn named(&self, authority: SeenAuthority) -> String {
        match authority {
            SeenAuthority::Reseller(id) => {
                self.mentions.get(&id).map_or_else(|| id.to_string(), |who| who.name.clone())
            }
            elsewhere @ SeenAuthority::Elsewhere(_) => elsewhere.to_string(),
        }
    }

    /// Another reseller in words.
    fn name_of(&self, reseller: ResellerId, sight: &Sight) -> String {
        self.other(reseller, sight).map_or_else(|| "its upline".to_owned(), |mention| mention.name.clone())
    }

    /// Why, where it is the reader's own reason or it reads everything: a reason may say more than its effect.
    fn reason(&self, reason: Option<&Text>, by: SeenAuthority, sight: &Sight) -> Option<String> {
        let own = !sight.is_tenant() || matches!(by, SeenAuthority::Reseller(_));
        reason.filter(|_| own).map(ToString::to_string)
    }

    fn say_reseller(&self, view: &mut ActivityView, sight: &Sight, who: &str, event: &ResellerEvent) {
        let own = sight.owns(self.subject);
        let by = view.by.unwrap_or(SeenAuthority::Elsewhere(Above::Platform));
        view.summary = match event {
            ResellerEvent::ResellerRegistered(registration) => {
                view.tier = Some(registration.tier);
                view.counterparty_id = registration.parent.filter(|parent| self.other(*parent, sight).is_some());
                let under = view.counterparty_id.map(|parent| format!(" under {}", self.name_of(parent, sight)));
                let waits = if registration.status == ResellerStatus::Pending { " and waits for approval" } else { "" };
                format!("{who} joined the network{}{waits}", under.unwrap_or_default())
            }
            ResellerEvent::ResellerRenamed { company_name } => format!("A reseller is now called {company_name}"),
            ResellerEvent::ResellerApproved { .. } => format!("{who} was approved"),
            ResellerEvent::ResellerDeactivated { reason } => {
                view.note = self.reason(reason.as_ref(), by, sight);
                format!("{who} was deactivated")
            }
            ResellerEvent::ResellerReactivated { reason } => {
                view.note = self.reason(reason.as_ref(), by, sight);
                format!("{who} was reactivated")
            }
            ResellerEvent::TierChanged { from, to, reason } => {
                view.tier = Some(*to);
                view.note = self.reason(reason.as_ref(), by, sight);
                format!("{who} went from tier {from} to {to}")
            }
            ResellerEvent::MetadataUpdated { .. } => format!("The metadata of {who} changed"),
            ResellerEvent::SettingsChanged { .. } => format!("{who} changed its settings"),
            ResellerEvent::SubtreeFrozen { authority, reason } => {
                let authority = self.seen_authority(*authority, sight);
                view.by = Some(authority);
                view.note = self.reason(reason.as_ref(), authority, sight);
                format!("{who} and all its downline were frozen by {}", self.named(authority))
            }
            ResellerEvent::SubtreeUnfrozen { authority, reason } => {
                let authority = self.seen_authority(*authority, sight);
                view.note = self.reason(reason.as_ref(), authority, sight);
                format!("The freeze of {} on {who} and its downline was lifted", self.named(authority))
            }
            ResellerEvent::ReferralCodeIssued { code, tag, request, .. } => {
                view.request_id = Some(*request);
                view.note = own.then(|| code.to_string());
                format!("{who} was issued a referral code for {tag}")
            }
            ResellerEvent::ReferralCodeRevoked { code } => {
                view.note = own.then(|| code.to_string());
                format!("A referral code of {who} was revoked")
            }
            ResellerEvent::ReferralCompleted { code, referred, .. } => {
                view.note = own.then(|| code.to_string());
                view.counterparty_id = Some(*referred).filter(|referred| self.other(*referred, sight).is_some());
                match self.other(*referred, sight) {
                    Some(referred) => format!("{} registered with a referral code of {who}", referred.name),
                    None => format!("Somebody registered with a referral code of {who}"),
                }
            }
            ResellerEvent::PriceSet { by, sku, cost } => {
                view.by = Some(self.seen_authority(*by, sight));
                view.sku = Some(sku.clone());
                view.unit_cost = Some(cost.credits());
                format!("The price of {sku} for {who} was set to {}", credits(cost.credits()))
            }
            ResellerEvent::PriceCleared { sku } => {
                view.sku = Some(sku.clone());
                format!("The price of {sku} for {who} was cleared")
            }
        };
    }

    fn say_wallet(&self, view: &mut ActivityView, sight: &Sight, who: &str, event: &WalletEvent) {
        let own = sight.owns(self.subject);
        let text = |text: &Option<Text>| text.as_ref().map(ToString::to_string);
        view.balance = Some(event.after().0);
        view.amount = Some(event.balance_change());
        view.summary = match event {
            WalletEvent::WalletOpened { .. } => {
                view.amount = None;
                format!("The wallet of {who} was opened")
            }
            WalletEvent::CreditsAdded { amount, source, note, .. } => {
                view.note = text(note);
                format!("{who} received {} ({source})", credits(*amount))
            }
            WalletEvent::CreditsRemoved { amount, kind, reason, .. } => {
                view.note = text(reason);
                format!("{} were taken from {who} ({kind})", credits(*amount))
            }
            WalletEvent::Provisioned { provision, .. } => {
                view.provision_id = Some(provision.provision_id);
                view.sku.clone_from(&provision.sku);
                view.unit_cost = Some(provision.unit_cost);
                view.client_id = provision.client.filter(|_| own);
                view.note = text(&provision.description).filter(|_| own);
                let units = provision.quantity.units();
                let what = match &provision.sku {
                    Some(sku) if units > 1 => format!("{units} × {sku}"),
                    Some(sku) => sku.to_string(),
                    None if units > 1 => format!("{units} services"),
                    None => "a service".to_owned(),
                };
                format!("{who} provisioned {what} for {}", credits(provision.amount))
            }
            WalletEvent::CommissionEarned { provision_id, seller, amount, .. } => {
                view.provision_id = Some(*provision_id);
                view.counterparty_id = Some(*seller).filter(|seller| self.other(*seller, sight).is_some());
                let from = self.other(*seller, sight).map_or_else(String::new, |from| format!(" from {}", from.name));
                format!("{who} earned a commission of {}{from}", credits(*amount))
            }
            WalletEvent::ProvisionRefunded { refund_id, provision_id, amount, reason, .. } => {
                view.provision_id = Some(*provision_id);
                view.refund_id = Some(*refund_id);
                view.note = text(reason).filter(|_| own);
                format!("{} were refunded to {who}", credits(*amount))
            }
            WalletEvent::CommissionReversed { refund_id, provision_id, amount, .. } => {
                view.provision_id = Some(*provision_id);
                view.refund_id = Some(*refund_id);
                format!("A commission of {} was taken back from {who} with a refund", credits(*amount))
            }
            WalletEvent::CreditsTransferredOut { transfer_id, to: other, amount, note, .. }
            | WalletEvent::CreditsTransferredIn { transfer_id, from: other, amount, note, .. } => {
                view.transfer_id = Some(*transfer_id);
                view.counterparty_id = Some(*other).filter(|other| self.other(*other, sight).is_some());
                view.note = text(note);
                let (verb, side) = match event {
                    WalletEvent::CreditsTransferredOut { .. } => ("sent", "to"),
                    _ => ("received", "from"),
                };
                format!("{who} {verb} {} {side} {}", credits(*amount), self.name_of(*other, sight))
            }
            WalletEvent::LowCreditThresholdSet { threshold, .. } => {
                view.amount = Some(threshold.credits());
                format!("Credit of {who} counts as low below {}", credits(threshold.credits()))
            }
            WalletEvent::CreditLimitSet { credit_limit, .. } => {
                view.amount = Some(credit_limit.credits());
                format!("The credit limit of {who} is now {}", credits(credit_limit.credits()))
            }
            WalletEvent::ProvisioningHeld { authority, reason, .. } => {
                let authority = self.seen_authority(*authority, sight);
                (view.amount, view.by) = (None, Some(authority));
                view.note = self.reason(reason.as_ref(), authority, sight);
                format!("Provisioning of {who} was put on hold by {}", self.named(authority))
            }
            WalletEvent::ProvisioningResumed { authority, reason, .. } => {
                let authority = self.seen_authority(*authority, sight);
                view.amount = None;
                view.note = self.reason(reason.as_ref(), authority, sight);
                format!("The hold of {} on {who} was lifted", self.named(authority))
            }
            WalletEvent::LowCredit { threshold, balance, .. } => {
                view.amount = Some(threshold.credits());
                format!("{who} is low on credit: {} are left", credits(*balance))
            }
        };
    }

    fn say_request(&self, view: &mut ActivityView, sight: &Sight, who: &str, event: &UplineRequestEvent) {
        if let AggregateKey::UplineRequest(request) = &self.key {
            view.request_id = Some(*request);
        }
        let what = match &self.ask {
            Some(Ask::ReferralCode { tag }) => format!("a referral code for {tag}"),
            Some(Ask::CreditTopup { amount }) => {
                view.amount = Some(amount.credits());
                credits(amount.credits())
            }
            Some(Ask::TierUpgrade { tier }) => {
                view.tier = Some(*tier);
                format!("tier {tier}")
            }
            Some(Ask::PriceChange { sku, cost }) => {
                view.sku = Some(sku.clone());
                view.unit_cost = Some(cost.credits());
                format!("a price of {} for {sku}", credits(cost.credits()))
            }
            Some(Ask::Generic { subject, .. }) => {
                view.note = Some(subject.to_string());
                "an answer".to_owned()
            }
            None => "something".to_owned(),
        };
        let addressee = |addressee: Addressee| self.named(self.seen_authority(addressee.into(), sight));
        view.summary = match event {
            UplineRequestEvent::UplineRequestRaised { addressed_to, .. } => {
                format!("{who} asked {} for {what}", addressee(*addressed_to))
            }
            UplineRequestEvent::UplineRequestForwarded { to, .. } => {
                format!("The request of {who} for {what} was passed on to {}", addressee(*to))
            }
            UplineRequestEvent::UplineRequestCompleted { result, .. } => {
                if let Outcome::Credits { transfer_id } = result {
                    view.transfer_id = *transfer_id;
                }
                format!("The request of {who} for {what} was approved")
            }
            UplineRequestEvent::UplineRequestRejected { reason } => {
                view.note = reason.as_ref().map(ToString::to_string).or(view.note.take());
                format!("The request of {who} for {what} was refused")
            }
            UplineRequestEvent::UplineRequestCancelled {} => format!("{who} took back its request for {what}"),
            UplineRequestEvent::UplineRequestExpired {} => format!("The request of {who} for {what} expired"),
            UplineRequestEvent::UplineRequestFailed { reason } => {
                view.note = Some(reason.to_string());
                format!("The request of {who} for {what} failed")
            }
        };
    }

    fn say_client(
        &self,
        view: &mut ActivityView,
        sight: &Sight,
        who: &str,
        event: &ClientEvent,
        reached: Option<&Reached>,
    ) {
        if let AggregateKey::Client(client) = &self.key
            && (sight.owns(self.subject) || reached.is_some())
        {
            view.client_id = Some(*client);
        }
        view.summary = match event {
            ClientEvent::ClientOnboarded { .. } => format!("{who} took on a client"),
            ClientEvent::ClientDetailsChanged { .. } => format!("The details of a client of {who} changed"),
            ClientEvent::ClientActivated {} => format!("A client of {who} was activated"),
            ClientEvent::ClientSuspended {} => format!("A client of {who} was suspended"),
            ClientEvent::ClientDeactivated {} => format!("A client of {who} was deactivated"),
            ClientEvent::ClientReassigned { from, to } => {
                if let Some(reached) = reached {
                    view.reseller_id = Some(reached.reseller);
                    view.company_name = Some(reached.name.clone());
                    view.counterparty_id = Some(*from).filter(|from| self.other(*from, sight).is_some());
                    format!("{} was given a client", reached.name)
                } else {
                    // Once given away it is no longer its former owner's.
                    view.client_id = view.client_id.filter(|_| !sight.is_tenant());
                    view.counterparty_id = Some(*to).filter(|to| self.other(*to, sight).is_some());
                    format!("A client of {who} was given to another reseller")
                }
            }
            ClientEvent::ClientForgotten {} => format!("The personal data of a client of {who} was erased"),
        };
    }

    fn say_product(&self, view: &mut ActivityView, event: &ProductEvent) {
        let sku = match &self.key {
            AggregateKey::Product(sku) => sku.clone(),
            _ => return,
        };
        view.summary = match event {
            ProductEvent::ProductPublished { terms, .. } => format!("{} ({sku}) can now be provisioned", terms.name),
            ProductEvent::ProductRepriced { former_base_cost, terms } => {
                view.former_cost = Some(former_base_cost.credits());
                view.unit_cost = Some(terms.base_cost.credits());
                let (cost, former) = (credits(terms.base_cost.credits()), former_base_cost.credits());
                format!("The base cost of {} ({sku}) is now {cost} instead of {former}", terms.name)
            }
            ProductEvent::ProductRevised { terms } => format!("The terms of {} ({sku}) changed", terms.name),
            ProductEvent::ProductRetired {} => format!("{sku} can no longer be provisioned"),
        };
        view.sku = Some(sku);
    }
}

/// An amount in words.
fn credits(amount: Credits) -> String {
    if amount == 1 { "1 credit".to_owned() } else { format!("{amount} credits") }
}

/// One's own cost is another.
fn say_cost(view: &mut ActivityView, reach: &Reach, reached: &Reached) {
    view.kind.clone_from(&reach.kind);
    view.reseller_id = Some(reached.reseller);
    view.company_name = Some(reached.name.clone());
    // By whom would be told with it whose margin or price it was.
    view.by = None;
    view.sku.clone_from(&reach.sku);
    (view.former_cost, view.unit_cost) = (reach.former_cost, reach.unit_cost);
    let who = &reached.name;
    view.summary = match (&reach.sku, reach.former_cost, reach.unit_cost) {
        (Some(sku), Some(former), Some(cost)) => {
            format!("A unit of {sku} now costs {who} {} instead of {former}", credits(cost))
        }
        (Some(sku), None, Some(cost)) => format!("A unit of {sku} now costs {who} {}", credits(cost)),
        (Some(sku), _, None) => format!("What a unit of {sku} costs {who} can no longer be worked out"),
        (None, ..) => format!("What products cost {who} has changed"),
    };
}
