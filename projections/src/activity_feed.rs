//! The activity feed: one stream from all aggregates, in words a person understands, for a reseller and all its downline.
//!
//! Shape: the fold writes one small row for each event (whose it is, what kind, who may know) and one for everybody whom it
//! reaches besides; [`words`] makes the entry from the event itself when it is read, for whoever reads. [`pages`] finds the
//! entries in sight, [`presence`] where there can be none, [`reading`] reads what they tell, [`costs`] works out whose own cost a
//! price change changes.
//!
//! Who is told what:
//! - A reseller sees what happens to itself and to its downline, but of its downline's own affairs (settings, requests to others,
//!   the details of clients) nothing, and no client, description or code.
//! - What happens above is not for those below, except what concerns them: a freeze that lies on their line (by
//!   `platform` or `upline`, no name), a new, changed or retired product, and that their own cost of a product changed
//!   (`cost_changed`; not by whom). A reseller's feed begins with its registration.
//! - A request is told to who asks and to who is to answer.
//! - What the operator does to the platform (policy, prices before discounts) is for the operator's staff.
//!
//! An entry's id is `position:index`: 0 is what happened, 1 what it means to one whom it reaches.
//!
//! Cost: two rows of indexes beside the row itself, all in the newest pages. A change of price or margin costs as much as there
//! are resellers below whose cost may change by it; a new policy or base cost as much as there are resellers.

mod costs;
pub mod pages;
pub mod presence;
pub mod reading;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aggregates::client::ClientEvent;
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::PlatformEvent;
use aggregates::primitives::{Percent, ResellerId, Sku, Tier};
use aggregates::product::ProductEvent;
use aggregates::reseller::ResellerEvent;
use aggregates::upline_request::{Addressee, UplineRequestEvent};
use aggregates::wallet::WalletEvent;

use crate::Projection;
use crate::batch::LogEvent;
use crate::memory::{Kept, Known, Map, Set};
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use costs::{Change, Costs};

pub use pages::{FeedFilter, Sight, after, page, recent};
pub use words::{ActivityView, Told};

/// How many positions a block spans, as a power of two. Larger, and writing changes more pages of the index, and a page of a
/// subtree of middling size reads more; smaller, and a page of a quiet subtree looks into more blocks.
const BLOCK_BITS: u32 = if cfg!(test) { 3 } else { 14 };

static ENTRIES: Table = Table {
    name: "activity",
    columns: &[
        ("position", Merge::Key),
        ("block", Merge::Keep),
        ("kind", Merge::Keep),
        ("number", Merge::Keep),
        ("path", Merge::Keep),
        ("audience", Merge::Keep),
    ],
};

static REACH: Table = Table {
    name: "activity_reach",
    columns: &[
        ("position", Merge::Key),
        ("number", Merge::Key),
        ("kind", Merge::Keep),
        ("sku", Merge::Keep),
        ("former_cost", Merge::Keep),
        ("unit_cost", Merge::Keep),
    ],
};

static RESELLERS: Table = Table {
    name: "activity_resellers",
    columns: &[
        ("number", Merge::Key),
        ("reseller_id", Merge::Keep),
        ("path", Merge::Keep),
        ("tier", Merge::Replace),
        ("margin_percent", Merge::Replace),
        ("company_name", Merge::Replace),
    ],
};

static PRICES: Table = Table {
    name: "activity_prices",
    columns: &[("number", Merge::Key), ("sku", Merge::Key), ("cost", Merge::Replace)],
};

static TERMS: Table = Table { name: "activity_terms", columns: &[("name", Merge::Key), ("terms", Merge::Replace)] };

static SUBJECTS: Table = Table {
    name: "activity_subjects",
    columns: &[("subject_id", Merge::Key), ("number", Merge::Replace), ("addressed_to", Merge::Replace)],
};

/// The line of a reseller's ancestors by their numbers, itself included: five bytes each, highest first, so that a subtree is a
/// range. The platform's is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(Vec<u8>);

const NUMBER_BYTES: usize = 5;

impl Line {
    fn extended(&self, number: u64) -> Result<Self, ViewError> {
        let bytes = number.to_be_bytes();
        let (beyond, number) = bytes.split_at(size_of::<u64>() - NUMBER_BYTES);
        if beyond.iter().any(|byte| *byte != 0) {
            return Err(ViewError::unreadable("a position beyond 2^40"));
        }
        Ok(Self([self.0.as_slice(), number].concat()))
    }

    /// The numbers on it, highest first.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.0.chunks_exact(NUMBER_BYTES).map(number_of)
    }

    /// The last number of a line that is written so.
    fn last_of(line: &[u8]) -> Option<u64> {
        line.chunks_exact(NUMBER_BYTES).next_back().map(number_of)
    }

    /// Whether this reseller stands on the line of the other, or is the other.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// From this reseller's line up to, not including, the second: its subtree.
    fn subtree(&self) -> (Vec<u8>, Vec<u8>) {
        let mut end = self.0.clone();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                return (self.0.clone(), end);
            }
        }
        (self.0.clone(), vec![u8::MAX; NUMBER_BYTES + 1])
    }

    /// The same without the reseller itself.
    fn below(&self) -> (Vec<u8>, Vec<u8>) {
        let (root, end) = self.subtree();
        if root.is_empty() { (root, end) } else { (self.alone().1, end) }
    }

    /// This reseller alone.
    fn alone(&self) -> (Vec<u8>, Vec<u8>) {
        (self.0.clone(), [self.0.as_slice(), &[0]].concat())
    }
}

fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Who may know of an entry, apart from the operator's staff, who may know of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Whom it happened to, and all above.
    Upline,
    /// Whom it happened to.
    Own,
    /// As [`Self::Upline`], and all below.
    Line,
}

impl Audience {
    fn number(self) -> i64 {
        match self {
            Self::Upline => 0,
            Self::Own => 1,
            Self::Line => 2,
        }
    }
}

/// What reaches those whose own cost changed.
pub const COST_CHANGED: &str = "cost_changed";
/// What most entries are; the index by kind leaves it out.
const PROVISIONED: &str = "provisioned";

// Both stand in the entries that were folded, by which they are found, and follow from the event where it is told: whoever changes
// what an event is called here, or who may know of it, has the feed folded again by a migration.
macro_rules! kinds {
    ($($aggregate:ident :: $event:ident = $kind:literal for $audience:ident),+ $(,)?) => {
        /// Every kind of entry.
        pub const KINDS: &[&str] = &[COST_CHANGED, $($kind),+];

        /// Who may know of the entries of a kind.
        fn audience_of(kind: &str) -> Audience {
            match kind {
                $($kind => Audience::$audience,)+
                _ => Audience::Own,
            }
        }

        /// What an event is called here, and who may know of it.
        fn kind_of(event: &Event) -> (&'static str, Audience) {
            type Platform = PlatformEvent;
            type Reseller = ResellerEvent;
            type Wallet = WalletEvent;
            type UplineRequest = UplineRequestEvent;
            type Client = ClientEvent;
            type Product = ProductEvent;
            match event {
                $(Event::$aggregate($aggregate::$event { .. }) => ($kind, Audience::$audience)),+
            }
        }
    };
}

kinds!(
    Platform::PolicySet = "policy_set" for Own,
    Platform::PeriodClosed = "period_closed" for Own,
    Reseller::ResellerRegistered = "reseller_registered" for Upline,
    Reseller::ResellerRenamed = "reseller_renamed" for Upline,
    Reseller::ResellerApproved = "reseller_approved" for Upline,
    Reseller::ResellerDeactivated = "reseller_deactivated" for Upline,
    Reseller::ResellerReactivated = "reseller_reactivated" for Upline,
    Reseller::TierChanged = "tier_changed" for Upline,
    Reseller::MetadataUpdated = "metadata_updated" for Upline,
    Reseller::SettingsChanged = "settings_changed" for Own,
    Reseller::SubtreeFrozen = "subtree_frozen" for Line,
    Reseller::SubtreeUnfrozen = "subtree_unfrozen" for Line,
    Reseller::ReferralCodeIssued = "referral_code_issued" for Own,
    Reseller::ReferralCodeRevoked = "referral_code_revoked" for Own,
    Reseller::ReferralCompleted = "referral_completed" for Upline,
    Reseller::PriceSet = "price_set" for Upline,
    Reseller::PriceCleared = "price_cleared" for Upline,
    Wallet::WalletOpened = "wallet_opened" for Upline,
    Wallet::CreditsAdded = "credits_added" for Upline,
    Wallet::CreditsRemoved = "credits_removed" for Upline,
    Wallet::Provisioned = "provisioned" for Upline,
    Wallet::CommissionEarned = "commission_earned" for Upline,
    Wallet::ProvisionRefunded = "provision_refunded" for Upline,
    Wallet::CommissionReversed = "commission_reversed" for Upline,
    Wallet::CreditsTransferredOut = "credits_transferred_out" for Upline,
    Wallet::CreditsTransferredIn = "credits_transferred_in" for Upline,
    Wallet::LowCreditThresholdSet = "low_credit_threshold_set" for Upline,
    Wallet::CreditLimitSet = "credit_limit_set" for Upline,
    Wallet::ProvisioningHeld = "provisioning_held" for Upline,
    Wallet::ProvisioningResumed = "provisioning_resumed" for Upline,
    Wallet::LowCredit = "low_credit" for Upline,
    UplineRequest::UplineRequestRaised = "upline_request_raised" for Own,
    UplineRequest::UplineRequestForwarded = "upline_request_forwarded" for Own,
    UplineRequest::UplineRequestCompleted = "upline_request_completed" for Own,
    UplineRequest::UplineRequestRejected = "upline_request_rejected" for Own,
    UplineRequest::UplineRequestCancelled = "upline_request_cancelled" for Own,
    UplineRequest::UplineRequestExpired = "upline_request_expired" for Own,
    UplineRequest::UplineRequestFailed = "upline_request_failed" for Own,
    Client::ClientOnboarded = "client_onboarded" for Upline,
    Client::ClientDetailsChanged = "client_details_changed" for Own,
    Client::ClientActivated = "client_activated" for Upline,
    Client::ClientSuspended = "client_suspended" for Upline,
    Client::ClientDeactivated = "client_deactivated" for Upline,
    Client::ClientReassigned = "client_reassigned" for Upline,
    Client::ClientForgotten = "client_forgotten" for Own,
    Product::ProductPublished = "product_published" for Line,
    Product::ProductRepriced = "product_repriced" for Own,
    Product::ProductRevised = "product_revised" for Line,
    Product::ProductRetired = "product_retired" for Line,
);

/// How many resellers are kept in memory, of some two hundred bytes each.
const MEMBERS_KEPT: usize = 262_144;

/// The projection.
#[derive(Debug)]
pub struct ActivityFeed;

/// What is known from one batch to the next: resellers as they were written, with their numbers.
#[derive(Debug, Default)]
pub struct Memory(Kept<ResellerId, (u64, Arc<Member>), MEMBERS_KEPT>);

impl Known for Memory {
    fn begin(&mut self) {
        self.0.begin();
    }
}

/// A reseller as the feed must know it.
#[derive(Debug, Clone)]
struct Member {
    id: ResellerId,
    path: Line,
    tier: Tier,
    margin_percent: Option<Percent>,
    company_name: String,
    changed: bool,
}

/// Whose a client or a request is.
#[derive(Debug, Clone, Copy)]
struct Subject {
    number: u64,
    addressed_to: Option<u64>,
    changed: bool,
}

/// What is known of those whom a batch concerns, and the entries that it makes.
#[derive(Debug, Default)]
pub struct Rows {
    numbers: Map<ResellerId, u64>,
    members: Map<u64, Arc<Member>>,
    subjects: BTreeMap<String, Subject>,
    costs: Costs,
    entries: Vec<[Value; 6]>,
    reached: Vec<[Value; 6]>,
}

impl Rows {
    fn member(&self, reseller: ResellerId, logged: &LogEvent) -> Result<(u64, &Member), ViewError> {
        self.numbers
            .get(&reseller)
            .and_then(|number| Some((*number, self.members.get(number)?.as_ref())))
            .ok_or_else(|| unknown(logged, "a reseller that is not registered"))
    }

    fn add_member(&mut self, number: u64, member: Arc<Member>) {
        self.numbers.insert(member.id, number);
        self.members.insert(number, member);
    }

    fn add_members(&mut self, rows: &[crate::sql::Row]) -> Result<(), ViewError> {
        read_members(rows)?.into_iter().for_each(|(number, member)| self.add_member(number, member));
        Ok(())
    }

    fn register(
        &mut self,
        logged: &LogEvent,
        registration: &aggregates::reseller::Registration,
    ) -> Result<(), ViewError> {
        let above = match registration.parent {
            Some(parent) => self.member(parent, logged)?.1.path.clone(),
            None => Line::default(),
        };
        let member = Member {
            id: registration.reseller,
            path: above.extended(logged.position)?,
            tier: registration.tier,
            margin_percent: None,
            company_name: registration.company_name.to_string(),
            changed: true,
        };
        self.add_member(logged.position, Arc::new(member));
        Ok(())
    }

    /// Takes in what the event says of clients and requests; answers whose it is and whom else it reaches.
    fn place(&mut self, logged: &LogEvent) -> Result<(u64, BTreeSet<u64>), ViewError> {
        let mut reached = BTreeSet::new();
        let number = match (&logged.key, &logged.event) {
            (AggregateKey::Platform | AggregateKey::Product(_), _) => 0,
            (AggregateKey::Reseller(reseller) | AggregateKey::Wallet(reseller), _) => self.member(*reseller, logged)?.0,
            (AggregateKey::Client(client), event) => {
                let id = client.to_string();
                match event {
                    Event::Client(ClientEvent::ClientOnboarded { owner, .. }) => {
                        let number = self.member(*owner, logged)?.0;
                        self.subjects.insert(id, Subject { number, addressed_to: None, changed: true });
                        number
                    }
                    Event::Client(ClientEvent::ClientReassigned { from, to }) => {
                        let (from, to) = (self.member(*from, logged)?.0, self.member(*to, logged)?.0);
                        self.subjects.insert(id, Subject { number: to, addressed_to: None, changed: true });
                        reached.insert(to);
                        from
                    }
                    _ => self.subject(&id, logged)?.number,
                }
            }
            (AggregateKey::UplineRequest(request), event) => {
                let id = request.to_string();
                let mut subject = match event {
                    Event::UplineRequest(UplineRequestEvent::UplineRequestRaised {
                        requester, addressed_to, ..
                    }) => {
                        let number = self.member(*requester, logged)?.0;
                        Subject { number, addressed_to: self.addressee(*addressed_to, logged)?, changed: true }
                    }
                    _ => *self.subject(&id, logged)?,
                };
                reached.extend(subject.addressed_to);
                if let Event::UplineRequest(UplineRequestEvent::UplineRequestForwarded { to, .. }) = event {
                    subject = Subject { addressed_to: self.addressee(*to, logged)?, changed: true, ..subject };
                    reached.extend(subject.addressed_to);
                }
                self.subjects.insert(id, subject);
                subject.number
            }
        };
        reached.remove(&number);
        Ok((number, reached))
    }

    fn subject(&self, id: &str, logged: &LogEvent) -> Result<&Subject, ViewError> {
        self.subjects.get(id).ok_or_else(|| unknown(logged, "a client or a request that did not begin"))
    }

    fn addressee(&self, addressee: Addressee, logged: &LogEvent) -> Result<Option<u64>, ViewError> {
        match addressee {
            Addressee::Platform => Ok(None),
            Addressee::Reseller(reseller) => Ok(Some(self.member(reseller, logged)?.0)),
        }
    }

    fn fold(&mut self, logged: &LogEvent) -> Result<(), ViewError> {
        if let Event::Reseller(ResellerEvent::ResellerRegistered(registration)) = &logged.event {
            self.register(logged, registration)?;
        }
        let (number, reached) = self.place(logged)?;
        if let Event::Reseller(ResellerEvent::ResellerRenamed { company_name }) = &logged.event
            && let Some(member) = self.members.get_mut(&number)
        {
            let member = Arc::make_mut(member);
            member.company_name = company_name.to_string();
            member.changed = true;
        }
        let (kind, audience) = kind_of(&logged.event);
        let path = if number == 0 { Vec::new() } else { self.path_of(number, logged)?.0.clone() };
        self.entries.push([
            logged.position.into(),
            (logged.position >> BLOCK_BITS).into(),
            kind.into(),
            number.into(),
            Value::Bytes(path),
            audience.number().into(),
        ]);
        for number in reached {
            let none = Value::Null;
            self.reached.push([logged.position.into(), number.into(), kind.into(), none.clone(), none.clone(), none]);
        }
        if let Some(change) = self.change_of(logged, number) {
            for cost in self.costs.changed_by(&self.members, &change)? {
                self.reached.push([
                    logged.position.into(),
                    cost.number.into(),
                    COST_CHANGED.into(),
                    Value::text_or_null(cost.sku),
                    cost.former.into(),
                    cost.now.into(),
                ]);
            }
            self.costs.apply(&mut self.members, change);
        }
        Ok(())
    }

    fn path_of(&self, number: u64, logged: &LogEvent) -> Result<&Line, ViewError> {
        self.members.get(&number).map(|member| &member.path).ok_or_else(|| unknown(logged, "a reseller unheard of"))
    }

    /// What an event changes of what costs depend on.
    fn change_of(&self, logged: &LogEvent, number: u64) -> Option<Change> {
        Some(match (&logged.key, &logged.event) {
            (_, Event::Reseller(ResellerEvent::PriceSet { sku, cost, .. })) => {
                Change::Price(number, sku.clone(), Some(*cost))
            }
            (_, Event::Reseller(ResellerEvent::PriceCleared { sku })) => Change::Price(number, sku.clone(), None),
            (_, Event::Reseller(ResellerEvent::TierChanged { to, .. })) => Change::Tier(number, *to),
            (_, Event::Reseller(ResellerEvent::SettingsChanged { settings })) => {
                let known = self.members.get(&number)?.margin_percent;
                if known == settings.margin_percent {
                    return None;
                }
                Change::Margin(number, settings.margin_percent)
            }
            (_, Event::Platform(PlatformEvent::PolicySet { policy })) => Change::Policy(policy.clone()),
            (
                AggregateKey::Product(sku),
                Event::Product(
                    ProductEvent::ProductPublished { terms, .. }
                    | ProductEvent::ProductRepriced { terms, .. }
                    | ProductEvent::ProductRevised { terms },
                ),
            ) => Change::Terms(sku.clone(), Some(terms.clone())),
            (AggregateKey::Product(sku), Event::Product(ProductEvent::ProductRetired {})) => {
                Change::Terms(sku.clone(), None)
            }
            _ => return None,
        })
    }
}

fn unknown(logged: &LogEvent, what: &str) -> ViewError {
    ViewError::Unreadable(format!("position {} names {what}", logged.position))
}

const MEMBERS: &str =
    "select number, reseller_id, path, tier, margin_percent, company_name from activity_resellers where";

/// The ids of all that a batch names, to be loaded.
#[derive(Debug, Default)]
struct Named {
    resellers: Set<ResellerId>,
    subjects: BTreeSet<String>,
    /// Of these the batch says all: they begin in it, and are not named before.
    begun: Set<ResellerId>,
}

impl Named {
    fn by(events: &[LogEvent]) -> Self {
        let mut named = Self::default();
        for logged in events {
            if let Event::Reseller(ResellerEvent::ResellerRegistered(registration)) = &logged.event
                && !named.resellers.contains(&registration.reseller)
            {
                named.begun.insert(registration.reseller);
            }
            match &logged.key {
                AggregateKey::Reseller(reseller) | AggregateKey::Wallet(reseller) => {
                    named.resellers.insert(*reseller);
                }
                AggregateKey::Client(client) => {
                    named.subjects.insert(client.to_string());
                }
                AggregateKey::UplineRequest(request) => {
                    named.subjects.insert(request.to_string());
                }
                AggregateKey::Platform | AggregateKey::Product(_) => {}
            }
            match &logged.event {
                Event::Reseller(ResellerEvent::ResellerRegistered(registration)) => {
                    named.resellers.extend(registration.parent);
                }
                Event::Client(ClientEvent::ClientOnboarded { owner, .. }) => {
                    named.resellers.insert(*owner);
                }
                Event::Client(ClientEvent::ClientReassigned { from, to }) => named.resellers.extend([*from, *to]),
                Event::UplineRequest(UplineRequestEvent::UplineRequestRaised { requester, addressed_to, .. }) => {
                    named.resellers.insert(*requester);
                    named.resellers.extend(reseller_of(*addressed_to));
                }
                Event::UplineRequest(UplineRequestEvent::UplineRequestForwarded { to, .. }) => {
                    named.resellers.extend(reseller_of(*to));
                }
                _ => {}
            }
        }
        named
    }
}

fn reseller_of(addressee: Addressee) -> Option<ResellerId> {
    match addressee {
        Addressee::Platform => None,
        Addressee::Reseller(reseller) => Some(reseller),
    }
}

fn read_members(rows: &[crate::sql::Row]) -> Result<Vec<(u64, Arc<Member>)>, ViewError> {
    let read = |row: &crate::sql::Row| {
        let mut columns = row.columns();
        let number = columns.count()?;
        let member = Member {
            id: columns.parse()?,
            path: Line(columns.bytes()?),
            tier: columns.parse()?,
            margin_percent: columns.parse_or_null()?,
            company_name: columns.string()?,
            changed: false,
        };
        Ok((number, Arc::new(member)))
    };
    rows.iter().map(read).collect()
}

fn read_subject(columns: &mut Columns<'_>) -> Result<(String, Subject), ViewError> {
    let (id, number) = (columns.string()?, columns.count()?);
    let addressed_to = columns.integer_or_null()?.map(u64::try_from).transpose().map_err(ViewError::unreadable)?;
    Ok((id, Subject { number, addressed_to, changed: false }))
}

impl Projection for ActivityFeed {
    const NAME: &'static str = "activity_feed";
    const TABLES: &'static [&'static Table] = &[&ENTRIES, &REACH, &RESELLERS, &PRICES, &TERMS, &SUBJECTS];
    const WRITTEN_ONCE: &'static [&'static Table] = &[&ENTRIES, &REACH];
    type Rows = Rows;
    type Memory = Memory;

    async fn load(
        connection: &mut Connection<'_>,
        events: &[LogEvent],
        memory: &mut Memory,
    ) -> Result<Rows, ViewError> {
        let named = Named::by(events);
        let mut rows = Rows::default();
        let sql = "select subject_id, number, addressed_to from activity_subjects where subject_id in";
        for row in connection.fetch_by_keys(sql, &named.subjects).await? {
            let (id, subject) = read_subject(&mut row.columns())?;
            rows.subjects.insert(id, subject);
        }
        let mut unknown = Vec::new();
        for reseller in named.resellers.difference(&named.begun) {
            match memory.0.get(reseller) {
                Some((number, member)) => rows.add_member(*number, Arc::clone(member)),
                None => unknown.push(*reseller),
            }
        }
        let read = connection.fetch_by_keys(&format!("{MEMBERS} reseller_id in"), unknown).await?;
        for (number, member) in read_members(&read)? {
            memory.0.put(member.id, (number, Arc::clone(&member)));
            rows.add_member(number, member);
        }
        let owners: BTreeSet<u64> = rows
            .subjects
            .values()
            .map(|subject| subject.number)
            .filter(|number| !rows.members.contains_key(number))
            .collect();
        rows.add_members(&connection.fetch_by_numbers(&format!("{MEMBERS} number in"), owners).await?)?;
        costs::load(connection, events, &mut rows).await?;
        Ok(rows)
    }

    fn fold(rows: &mut Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        events.iter().try_for_each(|logged| rows.fold(logged))
    }

    fn write(rows: Rows, changes: &mut Changes, memory: &mut Memory) -> Result<(), ViewError> {
        rows.entries.into_iter().for_each(|entry| changes.put(&ENTRIES, entry));
        rows.reached.into_iter().for_each(|reached| changes.put(&REACH, reached));
        let mut changed: Vec<_> = rows.members.into_iter().filter(|(_, member)| member.changed).collect();
        changed.sort_unstable_by_key(|(number, _)| *number);
        for (number, member) in changed {
            let member = Member { changed: false, ..Arc::unwrap_or_clone(member) };
            changes.put(
                &RESELLERS,
                [
                    number.into(),
                    Value::text(member.id),
                    Value::Bytes(member.path.0.clone()),
                    member.tier.word().into(),
                    Value::text_or_null(member.margin_percent),
                    member.company_name.as_str().into(),
                ],
            );
            memory.0.put(member.id, (number, Arc::new(member)));
        }
        for (id, subject) in rows.subjects.into_iter().filter(|(_, subject)| subject.changed) {
            changes.put(&SUBJECTS, [id.into(), subject.number.into(), subject.addressed_to.into()]);
        }
        rows.costs.write(changes)
    }
}

/// The name under which a product's terms are kept.
fn terms_name(sku: &Sku) -> String {
    format!("product:{sku}")
}
