//! A naive model of the ledger, written from DOMAIN alone: a list of everything, recomputed at every question.
//!
//! It answers a demand with what was done, with a refusal (the API's code and its figures), or with a denial (`forbidden`,
//! `not_found`). It decides on a copy of itself and keeps the copy only if all went well: all or nothing, slow and obvious.
//!
//! Percentages are hundredths of a percent: 1_500 is 15 %.
//!
//! Where DOMAIN is silent, these choices were made first, and the ledger made the same:
//!
//! 1. What changes nothing (the same tier, price, threshold, settings, policy, terms, owner, freeze or hold again) is accepted
//!    without an event.
//! 2. `forbidden` comes before everything that depends on how things stand.
//! 3. Where the platform is the parent its own unit cost is 0, so that it may price as it likes up to the cap.
//! 4. `invalid`, and `idempotency_key_reused` for the request's own key, are not remembered under a key.
//! 5. In an atomic bulk a known item key that was refused before refuses the bulk with that refusal, at that item.
//! 6. Turning `hold_on_low_credit` on or off lays or lifts nothing by itself; a threshold that comes with it is judged by it.
//! 7. A purchase without a reference is the platform's to make; a payment system must name one.
//! 8. What an upline registers under auto-approval for a user that is taken stays pending, and looks like any other.
//! 9. A referral bonus that would pass what may be issued refuses the approval with `overflow`.
//! 10. A deactivated client stays so but may be forgotten and reassigned; a forgotten one may not be.
//!
//! In these the model followed the ledger, because either would do:
//!
//! 11. A missing wallet is told before anything that a wallet is asked; only a transfer notices the missing sender's after the
//!     missing receiver's. In a bulk it is each item's refusal, after `declared_cost_not_allowed`.
//! 12. A missing parent (to the platform), a missing new owner of a client and a missing request that should expire are refused;
//!     anything else out of sight or missing is denied. A request in another's name is denied as not found, though in sight.
//! 13. A named `base_cost` is priced like a product that nobody has set a price for: parents' margins count.
//! 14. An inactive ancestor neither freezes, holds nor prices; an inactive reseller raises no request and onboards no client.
//! 15. A request is approved only while requester and addressee are active; that it is decided is told first.
//! 16. A tier may be asked for only if it is higher (`invalid`), and given by a request only if it still is
//!     (`invalid_transition`). A price may be asked for only for a product on sale.
//! 17. `price_change` cannot be forwarded (`forbidden`); what the platform holds cannot be either (`invalid_transition`).
//! 18. Only the reseller itself sets `allow_withdraw`.
//! 19. Retiring or revising what is retired, and revoking what is revoked, is `invalid_transition`; clearing a price that is not set
//!     is `not_found`.
//! 20. A debit of 0 alerts nobody.
//! 21. The platform, too, may expire a request that is due.
//! 22. A key twice in one bulk, its own included, is turned away before the ledger is asked; so it is not modelled.

mod clients;
mod network;
mod provisioning;
mod upline_requests;
mod wallets;

use std::collections::BTreeMap;

/// Any identity; each kind of thing counts its own.
pub type Id = u64;
/// Hundredths of a percent.
pub type Hundredths = i64;
/// 0 standard, 1 gold, 2 platinum.
pub type Tier = usize;

/// The most that may ever be issued, limits included.
pub const MOST: i64 = (1 << 53) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    SuperAdmin,
    Reseller,
    Payments,
    Auditor,
    System,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Who {
    pub role: Role,
    pub tenant: Option<Id>,
    pub user: Id,
    pub declared_cost: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rules {
    pub discounts: [Hundredths; 3],
    pub default_tier: Tier,
    pub threshold: i64,
    pub commissions: bool,
    pub referral_bonus: i64,
    pub max_child_price: Hundredths,
    pub auto_approve: bool,
    pub opens_wallets: bool,
    pub expiry_days: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    Product { product: Id, quantity: i64 },
    BaseCost(i64),
    Cost(i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Order {
    pub provision: Id,
    pub basis: Basis,
    pub client: Option<Id>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BulkItem {
    pub order: Order,
    /// A key and what it was sent for.
    pub key: Option<(Id, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    Purchase,
    Bonus,
    Referral,
    Adjustment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    ReferralCode,
    CreditTopup,
    TierUpgrade,
    PriceChange,
    Generic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
    /// A code with the tag `become-partner`, or with another.
    ReferralCode {
        become_partner: bool,
    },
    CreditTopup(i64),
    TierUpgrade(Tier),
    PriceChange {
        product: Id,
        cost: i64,
    },
    Generic,
}

impl Wish {
    pub fn kind(self) -> Kind {
        match self {
            Self::ReferralCode { .. } => Kind::ReferralCode,
            Self::CreditTopup(_) => Kind::CreditTopup,
            Self::TierUpgrade(_) => Kind::TierUpgrade,
            Self::PriceChange { .. } => Kind::PriceChange,
            Self::Generic => Kind::Generic,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Activate,
    Suspend,
    Deactivate,
    Forget,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Preferences {
    pub auto_forward: Vec<(Kind, bool)>,
    pub margin: Option<Option<Hundredths>>,
    pub allow_withdraw: Option<bool>,
    pub hold_on_low_credit: Option<bool>,
    pub threshold: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    pub base_cost: i64,
    pub minimum_tier: Tier,
    pub minimum_margin: Hundredths,
}

/// Everything that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Demand {
    SetRules(Rules),
    Register { reseller: Id, user: Id, parent: Option<Id>, code: Option<Id>, tier: Option<Tier> },
    Approve(Id),
    Deactivate(Id),
    Reactivate(Id),
    Freeze(Id),
    Unfreeze(Id),
    ChangeTier(Id, Tier),
    ChangeSettings(Id, Preferences),
    SetPrice { reseller: Id, product: Id, cost: i64 },
    ClearPrice { reseller: Id, product: Id },
    RevokeCode { reseller: Id, code: Id },
    OpenWallet(Id),
    AddCredits { wallet: Id, amount: i64, source: Source, reference: Option<Id> },
    RemoveCredits { wallet: Id, amount: i64 },
    Provision { wallet: Id, order: Order },
    Bulk { wallet: Id, atomic: bool, items: Vec<BulkItem> },
    Refund { wallet: Id, provision: Id, amount: Option<i64> },
    Transfer { from: Id, to: Id, amount: i64 },
    SetThreshold(Id, i64),
    SetCreditLimit(Id, i64),
    SetHold(Id, bool),
    Onboard { client: Id, owner: Option<Id> },
    StepClient(Id, Step),
    Reassign { client: Id, owner: Id },
    Publish(Id, Terms),
    Revise(Id, Terms),
    Retire(Id),
    Raise { request: Id, requester: Id, wish: Wish },
    ApproveRequest { request: Id, code: Id },
    RejectRequest(Id),
    CancelRequest(Id),
    ForwardRequest(Id),
    ExpireRequest(Id),
    FailRequest(Id),
}

/// A refusal: its code, the figures that the API names with it, and for an atomic bulk the item at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub figures: Vec<i64>,
    pub index: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum No {
    Refused(Refusal),
    Denied(&'static str),
}

pub type Ruling<T = ()> = Result<T, No>;

pub fn refused<T>(code: &'static str) -> Ruling<T> {
    with_figures(code, &[])
}

pub fn with_figures<T>(code: &'static str, figures: &[i64]) -> Ruling<T> {
    Err(No::Refused(Refusal { code, figures: figures.to_vec(), index: None }))
}

pub fn denied<T>(code: &'static str) -> Ruling<T> {
    Err(No::Denied(code))
}

pub fn ensure(holds: bool, code: &'static str) -> Ruling {
    if holds { Ok(()) } else { refused(code) }
}

pub fn permit(holds: bool) -> Ruling {
    if holds { Ok(()) } else { denied("forbidden") }
}

/// One provision as it was sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    pub wallet: Id,
    pub provision: Id,
    pub amount: i64,
    pub unit_cost: i64,
    pub source: &'static str,
    pub commissions: Vec<(Id, i64)>,
}

/// What one item of a bulk was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemReply {
    pub replayed: bool,
    pub outcome: Result<Sale, Refusal>,
}

/// What came of an accepted demand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Whether anything happened at all.
    pub changed: bool,
    pub sales: Vec<Sale>,
    /// Wallet, balance, threshold of every low-credit alert.
    pub low_credit: Vec<(Id, i64, i64)>,
    pub items: Vec<ItemReply>,
}

/// The answer to a demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub replayed: bool,
    pub outcome: Result<Done, No>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authority {
    LowCreditPolicy,
    Reseller(Id),
    Platform,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    Active,
    Deactivated,
}

#[derive(Debug, Clone)]
pub struct Reseller {
    pub id: Id,
    pub user: Id,
    /// Whether the user has been taken: at registration by the platform, else at approval.
    pub user_taken: bool,
    pub parent: Option<Id>,
    pub tier: Tier,
    pub status: Status,
    pub freezes: Vec<Authority>,
    pub prices: BTreeMap<Id, i64>,
    pub auto_forward: BTreeMap<Kind, bool>,
    pub margin: Option<Hundredths>,
    pub allow_withdraw: bool,
    pub hold_on_low_credit: bool,
    /// The code it came by.
    pub referred_by: Option<Id>,
}

#[derive(Debug, Clone)]
pub struct Wallet {
    pub owner: Id,
    /// Every change of the balance, in order; the balance is their sum.
    pub movements: Vec<i64>,
    pub limit: i64,
    pub threshold: i64,
    pub armed: bool,
    pub holds: Vec<Authority>,
}

impl Wallet {
    pub fn balance(&self) -> i64 {
        self.movements.iter().sum()
    }
}

#[derive(Debug, Clone)]
pub struct Provision {
    pub sale: Sale,
    pub refunded: i64,
}

#[derive(Debug, Clone)]
pub struct Code {
    pub id: Id,
    pub owner: Id,
    pub become_partner: bool,
    pub uses: u32,
    pub expires_at: i64,
    pub revoked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientStatus {
    Onboarded,
    Active,
    Suspended,
    Deactivated,
    Forgotten,
}

#[derive(Debug, Clone)]
pub struct Client {
    pub id: Id,
    pub owner: Id,
    pub status: ClientStatus,
}

#[derive(Debug, Clone)]
pub struct Product {
    pub id: Id,
    pub terms: Terms,
    pub retired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStatus {
    Pending,
    Completed,
    Rejected,
    Cancelled,
    Expired,
    Failed,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub id: Id,
    pub requester: Id,
    pub raised_by: Id,
    pub wish: Wish,
    /// `None` is the platform.
    pub addressee: Option<Id>,
    /// Everyone it was put to on its way.
    pub asked: Vec<Id>,
    pub expires_at: i64,
    pub status: RequestStatus,
}

#[derive(Debug, Clone)]
struct Credit {
    source: Source,
    reference: Option<Reference>,
    wallet: Id,
    amount: i64,
}

/// What a credit refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reference {
    Named(Id),
    Request(Id),
    Referral,
}

/// The tenant, user and key that an answer is remembered under.
type Slot = (Option<Id>, Id, Id);

#[derive(Debug, Clone)]
struct Memory {
    fingerprint: u64,
    outcome: Result<Done, No>,
}

/// The model.
#[derive(Debug, Clone)]
pub struct Naive {
    pub rules: Rules,
    pub resellers: Vec<Reseller>,
    pub wallets: Vec<Wallet>,
    pub provisions: Vec<Provision>,
    pub codes: Vec<Code>,
    pub clients: Vec<Client>,
    pub products: Vec<Product>,
    pub requests: Vec<Request>,
    credits: Vec<Credit>,
    memory: BTreeMap<Slot, Memory>,
    now: i64,
    done: Done,
}

impl Naive {
    /// An empty ledger under some rules.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            resellers: Vec::new(),
            wallets: Vec::new(),
            provisions: Vec::new(),
            codes: Vec::new(),
            clients: Vec::new(),
            products: Vec::new(),
            requests: Vec::new(),
            credits: Vec::new(),
            memory: BTreeMap::new(),
            now: 0,
            done: Done::default(),
        }
    }

    /// Answers a demand; `now` in seconds.
    pub fn ask(&mut self, who: &Who, key: Option<(Id, u64)>, now: i64, demand: &Demand) -> Reply {
        let slot = key.map(|(key, _)| (who.tenant, who.user, key));
        let fingerprint = key.map_or(0, |(_, fingerprint)| fingerprint);
        if let Some(known) = slot.and_then(|slot| self.memory.get(&slot)) {
            return if known.fingerprint == fingerprint {
                Reply { replayed: true, outcome: known.outcome.clone() }
            } else {
                Reply { replayed: false, outcome: refused("idempotency_key_reused") }
            };
        }
        let mut trial = self.clone();
        trial.now = now;
        trial.done = Done::default();
        let outcome = trial.carry_out(who, demand).map(|()| trial.done.clone());
        if outcome.is_ok() {
            *self = trial;
        }
        if let Some(slot) = slot
            && memorable(&outcome)
        {
            self.memory.insert(slot, Memory { fingerprint, outcome: outcome.clone() });
        }
        Reply { replayed: false, outcome }
    }

    fn carry_out(&mut self, who: &Who, demand: &Demand) -> Ruling {
        match who.role {
            Role::SuperAdmin | Role::Reseller => {}
            Role::Payments => permit(matches!(demand, Demand::AddCredits { .. }))?,
            Role::System => permit(matches!(demand, Demand::ExpireRequest(_) | Demand::FailRequest(_)))?,
            Role::Auditor => return denied("forbidden"),
        }
        match demand {
            Demand::SetRules(rules) => self.set_rules(who, rules),
            Demand::Register { reseller, user, parent, code, tier } => {
                self.register(who, *reseller, *user, *parent, *code, *tier)
            }
            Demand::Approve(id) => self.approve(who, *id),
            Demand::Deactivate(id) => self.step_reseller(who, *id, Status::Active, Status::Deactivated),
            Demand::Reactivate(id) => self.step_reseller(who, *id, Status::Deactivated, Status::Active),
            Demand::Freeze(id) => self.freeze(who, *id),
            Demand::Unfreeze(id) => self.unfreeze(who, *id),
            Demand::ChangeTier(id, tier) => self.change_tier(who, *id, *tier),
            Demand::ChangeSettings(id, preferences) => self.change_settings(who, *id, preferences),
            Demand::SetPrice { reseller, product, cost } => self.set_price(who, *reseller, *product, *cost),
            Demand::ClearPrice { reseller, product } => self.clear_price(who, *reseller, *product),
            Demand::RevokeCode { reseller, code } => self.revoke_code(who, *reseller, *code),
            Demand::OpenWallet(id) => self.open_wallet(who, *id),
            Demand::AddCredits { wallet, amount, source, reference } => {
                self.add_credits(who, *wallet, *amount, *source, *reference)
            }
            Demand::RemoveCredits { wallet, amount } => self.remove_credits(who, *wallet, *amount),
            Demand::Provision { wallet, order } => self.provision(who, *wallet, order),
            Demand::Bulk { wallet, atomic, items } => self.bulk(who, *wallet, *atomic, items),
            Demand::Refund { wallet, provision, amount } => self.refund(who, *wallet, *provision, *amount),
            Demand::Transfer { from, to, amount } => self.transfer(who, *from, *to, *amount),
            Demand::SetThreshold(id, threshold) => self.set_threshold(who, *id, *threshold),
            Demand::SetCreditLimit(id, limit) => self.set_credit_limit(who, *id, *limit),
            Demand::SetHold(id, held) => self.set_hold(who, *id, *held),
            Demand::Onboard { client, owner } => self.onboard(who, *client, *owner),
            Demand::StepClient(id, step) => self.step_client(who, *id, *step),
            Demand::Reassign { client, owner } => self.reassign(who, *client, *owner),
            Demand::Publish(id, terms) => self.publish(who, *id, *terms),
            Demand::Revise(id, terms) => self.revise(who, *id, *terms),
            Demand::Retire(id) => self.retire(who, *id),
            Demand::Raise { request, requester, wish } => self.raise(who, *request, *requester, *wish),
            Demand::ApproveRequest { request, code } => self.approve_request(who, *request, *code),
            Demand::RejectRequest(id) => self.decide_request(who, *id, RequestStatus::Rejected),
            Demand::CancelRequest(id) => self.decide_request(who, *id, RequestStatus::Cancelled),
            Demand::ForwardRequest(id) => self.forward_request(who, *id),
            Demand::ExpireRequest(id) => self.expire_request(who, *id),
            Demand::FailRequest(id) => self.fail_request(who, *id),
        }
    }

    fn set_rules(&mut self, who: &Who, rules: &Rules) -> Ruling {
        permit(who.role == Role::SuperAdmin)?;
        ensure(rules.discounts.iter().all(|percent| *percent <= 10_000), "invalid")?;
        self.done.changed |= self.rules != *rules;
        self.rules = rules.clone();
        Ok(())
    }
}

/// Whether an answer is remembered under a key.
fn memorable(outcome: &Result<Done, No>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(No::Denied(_)) => false,
        Err(No::Refused(refusal)) => {
            refusal.index.is_some() || (refusal.code != "invalid" && refusal.code != "idempotency_key_reused")
        }
    }
}
