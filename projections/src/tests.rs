//! The read models as a whole: folded from random small histories and compared with a naive count over the same events.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod activity;
mod analytics;
mod analytics_speed;
mod past;
mod places;
#[allow(unreachable_pub, dead_code)] // a toolbox, of another crate too
#[path = "../../tests/suite/common/postgres.rs"]
mod server;
mod statements;
mod wall;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use aggregates::client::ClientEvent;
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::{PlatformEvent, Policy};
use aggregates::primitives::{
    Amount, Authority, ClientId, ClientStatus, CommandId, CompanyName, CreditSource, Level, Percent, PriceSource,
    ProvisionId, Quantity, ReferralCode, ReferralTag, Refid, RefundId, RequestId, RequestKind, RequestStatus,
    ResellerId, ResellerStatus, Sku, Text, Tier, Timestamp, TransferId, UserId,
};
use aggregates::product::{ProductEvent, ProductTerms};
use aggregates::reseller::{Registrar, Registration, ResellerEvent};
use aggregates::upline_request::{Addressee, Ask, Outcome, UplineRequestEvent};
use aggregates::wallet::{Commission, Provision, WalletEvent};
use places::{Kind, Place, on, on_both_stores, write_log};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use uuid::Uuid;

use crate::downline_tree::{Tree, TreeNode, TreeRequest};
use crate::page::PageRequest;
use crate::prices::Quoted;
use crate::rebuild::compare::compare_files;
use crate::rebuild::{self, Progress, Rebuild, RebuildError, Rebuilt};
use crate::sql::{Changes, Connection, Database, Folder, Merge, Table, Value, ViewError};
use crate::{
    DECLARED, NAMES, ReadPool, Scope, ScopedRead, clients, dashboard, downline_tree, fold_batch, prices, products,
    provisions, referrals, statement_lines, upline_requests, wallets,
};

on_both_stores!(
    each_table_is_declared_by_one_projection_and_what_is_read_by_a_known_one,
    the_rows_are_the_same_whatever_the_batches,
    dashboards_equal_a_naive_count_over_the_history,
    paging_the_tree_visits_each_node_exactly_once,
    what_lies_outside_the_scope_is_not_found,
    a_statement_pages_from_the_newest_line_to_the_first,
    a_quote_is_what_the_tier_and_the_line_make_of_the_base_cost,
    a_read_waits_for_its_position_and_says_how_far_it_came,
    a_read_that_waits_is_woken_by_the_projectors_word,
    boxes_of_requests_equal_a_naive_reading_of_the_history,
    what_is_overdue_is_what_a_naive_reader_finds_overdue,
    referral_codes_equal_a_naive_reading_of_the_history,
    a_cut_history_stops_the_fold,
    rows_that_somebody_else_wrote_are_read_again,
    several_folders_at_once_fold_each_event_once,
    what_is_rebuilt_is_what_it_was,
);

/// How long a read waits that should not have to.
const PATIENCE: Duration = Duration::from_millis(200);

/// A small deterministic source of numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
    fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(
            u128::from(self.roll(u64::MAX >> 34)) << 96 | u128::from(self.0) << 32 | u128::from(self.roll(1 << 30)),
        )
    }
}

/// A history written by hand, and what a naive reader knows of it.
#[derive(Default)]
struct History {
    events: Vec<(AggregateKey, Event, String)>,
    resellers: Vec<ResellerId>,
    parents: BTreeMap<ResellerId, Option<ResellerId>>,
    statuses: BTreeMap<ResellerId, ResellerStatus>,
    freezes: BTreeMap<ResellerId, BTreeSet<Authority>>,
    balances: BTreeMap<ResellerId, i64>,
    provisioned: BTreeMap<ResellerId, i64>,
    recent: BTreeMap<ResellerId, i64>,
    provisions: Vec<(ProvisionId, ResellerId, i64, i64)>,
    clients: BTreeMap<ClientId, (ResellerId, ClientStatus)>,
    requests: Vec<Asked>,
    codes: BTreeMap<ReferralCode, Code>,
    day: i64,
}

/// A request as a naive reader knows it.
struct Asked {
    id: RequestId,
    requester: ResellerId,
    /// Who is to answer, or has: `None` is the platform.
    to: Option<ResellerId>,
    /// Everyone it was put to.
    through: Vec<ResellerId>,
    kind: RequestKind,
    status: RequestStatus,
    expires_at: Timestamp,
}

/// A referral code as a naive reader knows it.
struct Code {
    owner: ResellerId,
    uses: u64,
    revoked: bool,
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

impl History {
    fn push(&mut self, key: AggregateKey, event: impl Into<Event>) {
        let time = start().plus_seconds(self.day * 86_400 + i64::try_from(self.events.len()).unwrap() % 80_000);
        self.events.push((key, event.into(), time.to_string()));
    }

    fn register(&mut self, dice: &mut Dice, parent: Option<ResellerId>) -> ResellerId {
        let reseller = ResellerId(dice.uuid());
        let status = dice.pick(&[ResellerStatus::Active, ResellerStatus::Pending]);
        let number = self.resellers.len();
        let registration = Registration {
            reseller,
            user_id: UserId::new(format!("user-{number}")).unwrap(),
            refid: Refid::new(format!("RS-{number}")).unwrap(),
            company_name: CompanyName::new(format!("Company {number}")).unwrap(),
            tier: dice.pick(Tier::ALL),
            status,
            parent,
            depth: u32::try_from(self.line(parent).len()).unwrap(),
            metadata: serde_json::Map::new(),
            referral: None,
            registrar: if status == ResellerStatus::Active { Registrar::Platform } else { Registrar::Upline },
            registered_at: start(),
        };
        let event = ResellerEvent::ResellerRegistered(Box::new(registration));
        self.push(AggregateKey::Reseller(reseller), event);
        let low_credit_threshold = Level::new(500).unwrap();
        let opened = WalletEvent::WalletOpened { reseller, low_credit_threshold, balance: 0, reserved: 0 };
        self.push(AggregateKey::Wallet(reseller), opened);
        self.resellers.push(reseller);
        self.parents.insert(reseller, parent);
        self.statuses.insert(reseller, status);
        self.balances.insert(reseller, 0);
        reseller
    }

    /// A reseller and all above it, nearest first.
    fn line(&self, from: Option<ResellerId>) -> Vec<ResellerId> {
        std::iter::successors(from, |reseller| self.parents.get(reseller).copied().flatten()).collect()
    }

    fn below(&self, root: ResellerId) -> Vec<ResellerId> {
        self.resellers.iter().copied().filter(|reseller| self.line(Some(*reseller)).contains(&root)).collect()
    }

    fn frozen(&self, reseller: ResellerId) -> bool {
        self.line(Some(reseller)).iter().any(|above| self.freezes.get(above).is_some_and(|freezes| !freezes.is_empty()))
    }

    fn change(&mut self, reseller: ResellerId, change: i64) -> i64 {
        let balance = self.balances.get_mut(&reseller).unwrap();
        *balance += change;
        *balance
    }

    fn provision(&mut self, dice: &mut Dice, reseller: ResellerId) {
        let amount = i64::try_from(dice.roll(300)).unwrap();
        let provision_id = ProvisionId(dice.uuid());
        let balance = self.change(reseller, -amount);
        let parent = self.parents[&reseller];
        let commissions: Vec<Commission> =
            parent.into_iter().map(|reseller| Commission { reseller, amount: amount / 10 }).collect();
        let provision = Provision {
            provision_id,
            amount,
            unit_cost: amount,
            price_source: PriceSource::Tier,
            quantity: Quantity::ONE,
            base_cost: Some(amount),
            discount_percent: Percent::whole(15),
            sku: None,
            client: self.clients.keys().next().copied(),
            description: Text::new("a licence").ok(),
            metadata: None,
            commissions: commissions.clone(),
        };
        let event = WalletEvent::Provisioned { provision: Box::new(provision), balance, reserved: 0 };
        self.push(AggregateKey::Wallet(reseller), event);
        for Commission { reseller: upline, amount } in commissions {
            let balance = self.change(upline, amount);
            let event = WalletEvent::CommissionEarned { provision_id, seller: reseller, amount, balance, reserved: 0 };
            self.push(AggregateKey::Wallet(upline), event);
        }
        *self.provisioned.entry(reseller).or_default() += amount;
        if self.day > 10 {
            *self.recent.entry(reseller).or_default() += amount;
        }
        self.provisions.push((provision_id, reseller, amount, 0));
    }

    fn step(&mut self, dice: &mut Dice) {
        let reseller = dice.pick(&self.resellers);
        let other = dice.pick(&self.resellers);
        let amount = i64::try_from(1 + dice.roll(1000)).unwrap();
        match dice.roll(17) {
            0 | 1 => {
                self.register(dice, Some(reseller));
            }
            2..=4 => {
                let balance = self.change(reseller, amount);
                let event = WalletEvent::CreditsAdded {
                    transaction_id: CommandId(dice.uuid()),
                    amount,
                    source: CreditSource::Bonus,
                    reference: None,
                    note: None,
                    balance,
                    reserved: 0,
                };
                self.push(AggregateKey::Wallet(reseller), event);
            }
            5..=8 => self.provision(dice, reseller),
            9 if !self.provisions.is_empty() => {
                let index = usize::try_from(dice.roll(self.provisions.len() as u64)).unwrap();
                let (provision_id, reseller, paid, refunded) = self.provisions[index];
                let amount = (paid - refunded).min(7);
                self.provisions[index].3 += amount;
                let event = WalletEvent::ProvisionRefunded {
                    refund_id: RefundId(dice.uuid()),
                    provision_id,
                    amount,
                    refunded_total: refunded + amount,
                    reason: None,
                    balance: self.change(reseller, amount),
                    reserved: 0,
                };
                self.push(AggregateKey::Wallet(reseller), event);
            }
            10 => {
                let transfer_id = TransferId(dice.uuid());
                let balance = self.change(reseller, -amount);
                let out = WalletEvent::CreditsTransferredOut {
                    transfer_id,
                    to: other,
                    amount,
                    note: None,
                    balance,
                    reserved: 0,
                };
                self.push(AggregateKey::Wallet(reseller), out);
                let balance = self.change(other, amount);
                let from = reseller;
                let into =
                    WalletEvent::CreditsTransferredIn { transfer_id, from, amount, note: None, balance, reserved: 0 };
                self.push(AggregateKey::Wallet(other), into);
            }
            11 => {
                let (status, event) = match self.statuses[&reseller] {
                    ResellerStatus::Pending => {
                        let user_id = UserId::new("user").unwrap();
                        (ResellerStatus::Active, ResellerEvent::ResellerApproved { user_id })
                    }
                    ResellerStatus::Active => {
                        (ResellerStatus::Deactivated, ResellerEvent::ResellerDeactivated { reason: None })
                    }
                    ResellerStatus::Deactivated => {
                        (ResellerStatus::Active, ResellerEvent::ResellerReactivated { reason: None })
                    }
                };
                self.statuses.insert(reseller, status);
                self.push(AggregateKey::Reseller(reseller), event);
            }
            12 => {
                let authority = Authority::Platform;
                let freezes = self.freezes.entry(reseller).or_default();
                let event = if freezes.remove(&authority) {
                    ResellerEvent::SubtreeUnfrozen { authority, reason: None }
                } else {
                    freezes.insert(authority);
                    ResellerEvent::SubtreeFrozen { authority, reason: None }
                };
                self.push(AggregateKey::Reseller(reseller), event);
            }
            13 => {
                let client = ClientId(dice.uuid());
                let details_hash = String::new();
                let event =
                    ClientEvent::ClientOnboarded { client, owner: reseller, details_hash, onboarded_at: start() };
                self.push(AggregateKey::Client(client), event);
                self.push(AggregateKey::Client(client), ClientEvent::ClientActivated {});
                self.clients.insert(client, (reseller, ClientStatus::Active));
                if dice.roll(2) == 0 {
                    let event = ClientEvent::ClientReassigned { from: reseller, to: other };
                    self.push(AggregateKey::Client(client), event);
                    self.clients.insert(client, (other, ClientStatus::Active));
                }
            }
            14 => self.ask(dice, reseller, amount),
            15 => self.refer(dice, reseller, other),
            _ => {
                let (sku, cost) = (Sku::new("pro").unwrap(), Level::new(amount).unwrap());
                let event = if dice.roll(3) == 0 {
                    ResellerEvent::PriceCleared { sku }
                } else {
                    ResellerEvent::PriceSet { by: Authority::Platform, sku, cost }
                };
                self.push(AggregateKey::Reseller(reseller), event);
            }
        }
    }

    /// A request that is put to some of the line, and is decided or not.
    fn ask(&mut self, dice: &mut Dice, requester: ResellerId, amount: i64) {
        let id = RequestId(dice.uuid());
        let text = |text: &str| Text::new(text).unwrap();
        let ask = match dice.roll(3) {
            0 => Ask::CreditTopup { amount: Amount::new(amount).unwrap() },
            1 => Ask::Generic { subject: text("subject"), body: text("body") },
            _ => Ask::TierUpgrade { tier: Tier::Platinum },
        };
        let addressee = |to: Option<ResellerId>| to.map_or(Addressee::Platform, Addressee::Reseller);
        let mut to = self.parents[&requester];
        let mut through: Vec<ResellerId> = to.into_iter().collect();
        let expires_at = start().plus_seconds(i64::try_from(dice.roll(40)).unwrap() * 86_400);
        let (kind, raised_by) = (ask.kind(), UserId::new("user").unwrap());
        let addressed_to = addressee(to);
        let mut events = vec![UplineRequestEvent::UplineRequestRaised {
            request: id,
            requester,
            raised_by,
            ask,
            addressed_to,
            expires_at,
        }];
        while let Some(from) = to.filter(|_| dice.roll(2) == 0) {
            to = self.parents[&from];
            through.extend(to);
            events.push(UplineRequestEvent::UplineRequestForwarded {
                from: Addressee::Reseller(from),
                to: addressee(to),
            });
        }
        let status = dice.pick(RequestStatus::ALL);
        events.extend(match status {
            RequestStatus::Pending => None,
            RequestStatus::Completed => {
                let (by, result) = (addressee(to), Outcome::Answer(None));
                Some(UplineRequestEvent::UplineRequestCompleted { by, result })
            }
            RequestStatus::Rejected => Some(UplineRequestEvent::UplineRequestRejected { reason: Some(text("why")) }),
            RequestStatus::Failed => Some(UplineRequestEvent::UplineRequestFailed { reason: text("why") }),
            RequestStatus::Cancelled => Some(UplineRequestEvent::UplineRequestCancelled {}),
            RequestStatus::Expired => Some(UplineRequestEvent::UplineRequestExpired {}),
        });
        for event in events {
            self.push(AggregateKey::UplineRequest(id), event);
        }
        self.requests.push(Asked { id, requester, to, through, kind, status, expires_at });
    }

    /// A referral code is issued, used or revoked.
    fn refer(&mut self, dice: &mut Dice, owner: ResellerId, referred: ResellerId) {
        let known: Vec<ReferralCode> = self.codes.keys().cloned().collect();
        let tag = ReferralTag::new("fair").unwrap();
        let place = usize::try_from(dice.roll(known.len() as u64 + 1)).unwrap();
        let Some(code) = known.get(place) else {
            let code = ReferralCode::new(format!("CODE{}", known.len())).unwrap();
            let (request, expires_at) = (RequestId(dice.uuid()), start().plus_seconds(86_400));
            let issued =
                ResellerEvent::ReferralCodeIssued { code: code.clone(), tag, max_uses: 2, expires_at, request };
            self.push(AggregateKey::Reseller(owner), issued);
            self.codes.insert(code, Code { owner, uses: 0, revoked: false });
            return;
        };
        let known = self.codes.get_mut(code).unwrap();
        let event = if dice.roll(4) == 0 {
            known.revoked = true;
            ResellerEvent::ReferralCodeRevoked { code: code.clone() }
        } else {
            known.uses += 1;
            ResellerEvent::ReferralCompleted { code: code.clone(), tag, referred }
        };
        let owner = known.owner;
        self.push(AggregateKey::Reseller(owner), event);
    }

    fn random(seed: u64, steps: usize) -> Self {
        let mut dice = Dice(seed);
        let mut history = Self::default();
        let policy = Policy::default();
        history.push(AggregateKey::Platform, PlatformEvent::PolicySet { policy });
        let sku = Sku::new("pro").unwrap();
        let terms = ProductTerms {
            name: Text::new("Pro").unwrap(),
            base_cost: Level::new(1000).unwrap(),
            minimum_tier: Tier::Gold,
            minimum_margin_percent: Percent::default(),
        };
        history.push(AggregateKey::Product(sku.clone()), ProductEvent::ProductPublished { sku, terms });
        history.register(&mut dice, None);
        history.register(&mut dice, None);
        for step in 0..steps {
            history.day = i64::try_from(step * 40 / steps).unwrap();
            history.step(&mut dice);
        }
        history
    }

    /// The day on which the last 30 days begin after day 10.
    fn now() -> Timestamp {
        start().plus_seconds(40 * 86_400 + 60)
    }
}

async fn fold_everything(database: &Database, limit: usize) {
    let mut folder = Folder::open(database).await.unwrap();
    while fold_batch(&mut folder, limit).await.unwrap().more {}
}

struct World {
    place: Place,
    history: History,
    pool: ReadPool,
}

impl World {
    async fn folded(seed: u64, steps: usize, limit: usize) -> Self {
        Self::of(History::random(seed, steps), limit).await
    }

    async fn of(history: History, limit: usize) -> Self {
        let place = Place::new().await;
        place.write_log(&history).await;
        place.fold(limit).await;
        let pool = ReadPool::open(&place.database()).await.unwrap();
        Self { place, history, pool }
    }

    async fn read(&self, scope: Scope) -> ScopedRead {
        scope.begin(&self.pool, self.history.events.len() as u64, PATIENCE).await.unwrap()
    }
}

/// Every row of every table of a SQLite store, as text.
async fn everything(dir: &Path) -> Vec<String> {
    let mut folder = Folder::open(&dir.into()).await.unwrap();
    let mut look = folder.look().await.unwrap();
    let mut all = Vec::new();
    for table in DECLARED.iter().flat_map(|one| one.tables) {
        for row in look.views().fetch(&format!("select * from {}", table.name), vec![]).await.unwrap() {
            all.push(format!("{}: {:?}", table.name, row.values().unwrap()));
        }
    }
    all.sort();
    all
}

/// That both are the same rows; says only which are not.
#[track_caller]
fn same(left: &[String], right: &[String], what: &str) {
    let only = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|row| !other.contains(row)).take(5).cloned().collect()
    };
    assert!(left == right, "{what}: {:#?} instead of {:#?}", only(left, right), only(right, left));
}

/// A table that no projection declares would not be rebuilt; one that two declare would be rebuilt under the other's feet.
async fn each_table_is_declared_by_one_projection_and_what_is_read_by_a_known_one() {
    let world = World::folded(1, 20, 100).await;
    let mut tables = world.place.tables().await;
    let mut declared: Vec<&str> = DECLARED.iter().flat_map(|one| one.tables).map(|table| table.name).collect();
    declared.push("checkpoints");
    tables.sort();
    declared.sort_unstable();
    assert_eq!(declared, tables);
    for read in DECLARED.iter().flat_map(|one| one.reads) {
        assert!(NAMES.contains(read), "{read} is no projection");
    }
}

async fn the_rows_are_the_same_whatever_the_batches() {
    for seed in 1..4 {
        let whole = World::folded(seed, 300, 100_000).await.place.everything().await;
        assert!(whole.len() > 300);
        for limit in [1, 7, 64] {
            let world = World::folded(seed, 300, limit).await;
            same(&world.place.everything().await, &whole, &format!("seed {seed}, batches of {limit}"));
        }
    }
}

async fn dashboards_equal_a_naive_count_over_the_history() {
    for seed in 10..14 {
        let world = World::folded(seed, 400, 50).await;
        let history = &world.history;
        let mut read = world.read(Scope::All).await;
        for reseller in &history.resellers {
            let view = dashboard::find(&mut read, Some(*reseller), History::now()).await.unwrap().unwrap();
            let below = history.below(*reseller);
            let sum = |of: &BTreeMap<ResellerId, i64>| below.iter().filter_map(|id| of.get(id)).sum::<i64>();
            let downline = |with: &dyn Fn(ResellerId) -> bool| {
                below.iter().filter(|id| *id != reseller && with(**id)).count() as u64
            };
            assert_eq!(view.finance.balance, history.balances[reseller]);
            assert_eq!(view.finance.provisioned_total, history.provisioned.get(reseller).copied().unwrap_or(0));
            assert_eq!(view.subtree.balance, sum(&history.balances));
            assert_eq!(view.subtree.provisioned_total, sum(&history.provisioned));
            assert_eq!(view.subtree.provisioned_30d, sum(&history.recent));
            assert_eq!(view.network.downline, downline(&|_| true));
            assert_eq!(view.network.children, downline(&|id| history.parents[&id] == Some(*reseller)));
            assert_eq!(view.network.active, downline(&|id| history.statuses[&id] == ResellerStatus::Active));
            assert_eq!(view.network.pending, downline(&|id| history.statuses[&id] == ResellerStatus::Pending));
            assert_eq!(view.network.frozen, downline(&|id| history.frozen(id)));
            let own = history.clients.values().filter(|(owner, _)| owner == reseller).count() as u64;
            assert_eq!((view.clients.total, view.clients.active), (own, own));
            let pending = || history.requests.iter().filter(|request| request.status == RequestStatus::Pending);
            let pending_out = pending().filter(|request| request.requester == *reseller).count() as u64;
            let pending_in = pending().filter(|request| request.to == Some(*reseller)).count() as u64;
            assert_eq!(view.upline_requests.pending_out, pending_out);
            assert_eq!(view.upline_requests.pending_in, pending_in);
            let wallet = wallets::find(&mut read, *reseller).await.unwrap().unwrap();
            assert_eq!(wallet.balance, history.balances[reseller]);
        }
        let all = dashboard::find(&mut read, None, History::now()).await.unwrap().unwrap();
        assert_eq!(all.finance.balance, history.balances.values().sum::<i64>());
        assert_eq!(all.subtree.balance, all.finance.balance);
        assert_eq!(all.finance.provisioned_total, history.provisioned.values().sum::<i64>());
        assert_eq!(all.network.downline, history.resellers.len() as u64);
        assert_eq!(all.network.frozen, history.resellers.iter().filter(|id| history.frozen(**id)).count() as u64);
        assert_eq!(all.clients.total, history.clients.len() as u64);
    }
}

fn walk(node: &TreeNode, visit: &mut dyn FnMut(&TreeNode)) {
    visit(node);
    node.children.iter().for_each(|child| walk(child, visit));
}

async fn paging_the_tree_visits_each_node_exactly_once() {
    let world = World::folded(21, 400, 1000).await;
    let top = world.history.resellers[0];
    for (scope, root) in [(Scope::All, None), (Scope::All, Some(top)), (Scope::Subtree(top), None)] {
        for (limit, depth) in [(1, 64), (2, 1), (3, 2), (7, 64), (50, 3), (500, 64)] {
            let mut read = world.read(scope).await;
            let mut seen: Vec<ResellerId> = Vec::new();
            let mut asked: Vec<(Option<ResellerId>, Option<String>)> = vec![(root, None)];
            while let Some((root, cursor)) = asked.pop() {
                let again = cursor.is_some();
                let request = TreeRequest { root, depth, limit, cursor, at: None };
                let tree = downline_tree::tree(&mut read, &request).await.unwrap().unwrap();
                let before = seen.len();
                let mut visit = |node: &TreeNode| {
                    seen.push(node.id);
                    assert_eq!(node.frozen, world.history.frozen(node.id));
                    assert_eq!(node.balance, Some(world.history.balances[&node.id]));
                    asked.extend(node.children_cursor.clone().map(|cursor| (Some(node.id), Some(cursor))));
                };
                match tree {
                    Tree::Platform(node) => {
                        node.children.iter().for_each(|child| walk(child, &mut visit));
                        asked.extend(node.children_cursor.map(|cursor| (None, Some(cursor))));
                    }
                    Tree::Reseller(node) if again => {
                        node.children.iter().for_each(|child| walk(child, &mut visit));
                        asked.extend(node.children_cursor.map(|cursor| (Some(node.id), Some(cursor))));
                    }
                    Tree::Reseller(node) => walk(&node, &mut visit),
                }
                assert!(seen.len() - before <= limit as usize);
            }
            let mut expected = match root.or(read.viewer()) {
                Some(root) => world.history.below(root),
                None => world.history.resellers.clone(),
            };
            expected.sort();
            seen.sort();
            assert_eq!(seen, expected, "limit {limit}, depth {depth}");
        }
    }
}

async fn what_lies_outside_the_scope_is_not_found() {
    let world = World::folded(31, 400, 1000).await;
    let viewer = world.history.resellers[2];
    let below = world.history.below(viewer);
    let mut read = world.read(Scope::Subtree(viewer)).await;
    let page = PageRequest { limit: 500, cursor: None };
    for reseller in &world.history.resellers {
        let inside = below.contains(reseller);
        assert_eq!(downline_tree::find(&mut read, *reseller).await.unwrap().is_some(), inside);
        assert_eq!(wallets::find(&mut read, *reseller).await.unwrap().is_some(), inside);
        let filter = statement_lines::TransactionFilter::default();
        let statement = statement_lines::statement(&mut read, *reseller, &filter, &page).await.unwrap();
        assert_eq!(statement.is_some(), inside);
        assert_eq!(provisions::provisions(&mut read, *reseller, &page).await.unwrap().is_some(), inside);
        assert_eq!(dashboard::find(&mut read, Some(*reseller), History::now()).await.unwrap().is_some(), inside);
        assert_eq!(products::list(&mut read, Some(*reseller), &page).await.unwrap().is_some(), inside);
        let request = TreeRequest { root: Some(*reseller), depth: 1, limit: 5, cursor: None, at: None };
        assert_eq!(downline_tree::tree(&mut read, &request).await.unwrap().is_some(), inside);
    }
    for (client, (owner, _)) in &world.history.clients {
        assert_eq!(clients::find(&mut read, *client).await.unwrap().is_some(), *owner == viewer);
    }
    let listed = downline_tree::list(&mut read, &downline_tree::ResellerFilter::default(), &page).await.unwrap();
    assert_eq!(listed.data.iter().map(|view| view.id).collect::<Vec<_>>(), below);
    assert_eq!(listed.data[0].parent_id, None, "nobody is told who its parent is");
    let nobody = ResellerId(Uuid::nil());
    let mut read = world.read(Scope::Subtree(nobody)).await;
    assert_eq!(downline_tree::find(&mut read, viewer).await.unwrap(), None);
}

async fn a_statement_pages_from_the_newest_line_to_the_first() {
    let world = World::folded(41, 400, 1000).await;
    let mut read = world.read(Scope::All).await;
    let filter = statement_lines::TransactionFilter::default();
    for reseller in &world.history.resellers {
        let mut page = PageRequest { limit: 3, cursor: None };
        let mut amounts = 0;
        loop {
            let lines = statement_lines::statement(&mut read, *reseller, &filter, &page).await.unwrap().unwrap();
            amounts += lines.data.iter().map(|line| line.amount).sum::<i64>();
            page.cursor = lines.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        assert_eq!(amounts, world.history.balances[reseller]);
    }
    for (provision, reseller, paid, refunded) in &world.history.provisions {
        let view = provisions::provision(&mut read, *reseller, *provision).await.unwrap().unwrap();
        assert_eq!((view.amount, view.refunded_total), (*paid, *refunded));
        assert_eq!(view.refunds.unwrap().iter().map(|refund| refund.amount).sum::<i64>(), *refunded);
    }
}

async fn a_quote_is_what_the_tier_and_the_line_make_of_the_base_cost() {
    let world = World::folded(51, 0, 1000).await;
    let mut read = world.read(Scope::All).await;
    let top = world.history.resellers[0];
    let tier = downline_tree::find(&mut read, top).await.unwrap().unwrap().tier;
    let expected = match tier {
        Tier::Standard => 1000,
        Tier::Gold => 850,
        Tier::Platinum => 700,
    };
    let base = Quoted::BaseCost(Level::new(1000).unwrap());
    let quote = prices::quote(&mut read, top, &base, Quantity::new(3).unwrap()).await.unwrap().unwrap();
    assert_eq!((quote.unit_cost, quote.cost), (expected, 3 * expected));
    let product = Quoted::Product(Sku::new("pro").unwrap());
    let quote = prices::quote(&mut read, top, &product, Quantity::ONE).await.unwrap().unwrap();
    assert_eq!(quote.unit_cost, expected);
}

async fn a_read_waits_for_its_position_and_says_how_far_it_came() {
    let world = World::folded(61, 50, 1000).await;
    let head = world.history.events.len() as u64;
    let behind = Scope::All.begin(&world.pool, head + 1, PATIENCE).await;
    assert!(matches!(behind, Err(ViewError::ViewBehind { position }) if position == head));
}

/// A read that waits is woken by what is published, not by its own polling, which by then comes every 100 ms only.
async fn a_read_that_waits_is_woken_by_the_projectors_word() {
    let place = Place::new().await;
    let history = History::random(62, 400);
    place.write_log(&history).await;
    let mut folder = Folder::open(&place.database()).await.unwrap();
    let (publish, published) = tokio::sync::watch::channel(0);
    let pool = ReadPool::open(&place.database()).await.unwrap().woken_by(published, std::sync::Arc::default());
    let mut waits = Vec::new();
    let mut more = true;
    while more && waits.len() < 9 {
        let (pool, next) = (pool.clone(), *publish.borrow() + 1);
        let waiting = tokio::spawn(async move {
            let read = Scope::All.begin(&pool, next, Duration::from_secs(5)).await.unwrap();
            (read.position(), std::time::Instant::now())
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let folded = fold_batch(&mut folder, 40).await.unwrap();
        more = folded.more;
        let told = std::time::Instant::now();
        publish.send_replace(folded.position);
        let (position, seen) = waiting.await.unwrap();
        assert_eq!(position, folded.position);
        waits.push(seen.saturating_duration_since(told));
    }
    waits.sort();
    // By polling alone half of them would have waited 50 ms or longer.
    assert!(waits[waits.len() / 2] < Duration::from_millis(25), "{waits:?}");
}

async fn boxes_of_requests_equal_a_naive_reading_of_the_history() {
    use upline_requests::{Direction, RequestFilter};
    for seed in 80..83 {
        let world = World::folded(seed, 500, 33).await;
        let history = &world.history;
        assert!(history.requests.len() > 15);
        let everybody = std::iter::once(None).chain(history.resellers.iter().copied().map(Some));
        for owner in everybody {
            let scope = owner.map_or(Scope::All, Scope::Subtree);
            let mut own = world.read(scope).await;
            let mut staff = world.read(Scope::All).await;
            for (direction, is_in_box) in [
                (Direction::In, &(|asked: &Asked| asked.to == owner) as &dyn Fn(&Asked) -> bool),
                (Direction::Out, &|asked: &Asked| owner.is_none_or(|owner| asked.requester == owner)),
            ] {
                for status in [None, Some(RequestStatus::Pending), Some(RequestStatus::Rejected)] {
                    for kind in [None, Some(RequestKind::Generic)] {
                        let expected: Vec<RequestId> = history
                            .requests
                            .iter()
                            .rev()
                            .filter(|asked| is_in_box(asked))
                            .filter(|asked| status.is_none_or(|status| asked.status == status))
                            .filter(|asked| kind.is_none_or(|kind| asked.kind == kind))
                            .map(|asked| asked.id)
                            .collect();
                        let filter = RequestFilter { direction, reseller_id: None, status, kind };
                        let mut page = PageRequest { limit: 4, cursor: None };
                        let mut found = Vec::new();
                        loop {
                            let part = upline_requests::list(&mut own, &filter, &page).await.unwrap();
                            found.extend(part.data.into_iter().map(|record| record.request.id));
                            let Some(cursor) = part.next_cursor else { break };
                            page.cursor = Some(cursor);
                        }
                        assert_eq!(found, expected, "seed {seed}, {filter:?} of {owner:?}");
                        let named = RequestFilter { reseller_id: owner, ..filter };
                        let all = PageRequest { limit: 500, cursor: None };
                        let by_staff = upline_requests::list(&mut staff, &named, &all).await.unwrap();
                        assert_eq!(
                            by_staff.data.into_iter().map(|record| record.request.id).collect::<Vec<_>>(),
                            expected
                        );
                    }
                }
            }
            for asked in &history.requests {
                let record = upline_requests::find(&mut own, asked.id).await.unwrap();
                let is_seen = owner.is_none_or(|owner| owner == asked.requester || asked.through.contains(&owner));
                assert_eq!(record.is_some(), is_seen, "{} through the eyes of {owner:?}", asked.id);
                let Some(record) = record else { continue };
                assert_eq!((record.request.status, record.request.ask.kind()), (asked.status, asked.kind));
                let is_pending = asked.status == RequestStatus::Pending;
                assert_eq!(record.decided_at.is_none(), is_pending);
                let gives_reason = matches!(asked.status, RequestStatus::Rejected | RequestStatus::Failed);
                assert_eq!(record.reason.is_some(), gives_reason);
            }
        }
    }
}

async fn what_is_overdue_is_what_a_naive_reader_finds_overdue() {
    for seed in 90..93 {
        let world = World::folded(seed, 500, 50).await;
        let history = &world.history;
        for day in [0, 5, 20, 39, 100] {
            let now = start().plus_seconds(day * 86_400);
            let pending = || history.requests.iter().filter(|asked| asked.status == RequestStatus::Pending);
            let is_gone = |asked: &&Asked| history.statuses[&asked.requester] == ResellerStatus::Deactivated;
            let due: BTreeSet<RequestId> =
                pending().filter(|asked| asked.expires_at <= now).map(|asked| asked.id).collect();
            let later = || pending().filter(|asked| asked.expires_at > now);
            let gone: BTreeSet<RequestId> = later().filter(is_gone).map(|asked| asked.id).collect();
            let mut read = world.pool.begin(0, PATIENCE).await.unwrap();
            let found = upline_requests::overdue(&mut read, now, 500).await.unwrap();
            assert_eq!(found.expired.iter().copied().collect::<BTreeSet<_>>(), due);
            assert_eq!(found.orphaned.iter().copied().collect::<BTreeSet<_>>(), gone);
            assert_eq!(found.next, later().map(|asked| asked.expires_at).min());
            let some = upline_requests::overdue(&mut read, now, 2).await.unwrap();
            assert_eq!((some.expired.len(), some.orphaned.len()), (due.len().min(2), gone.len().min(2)));
        }
    }
}

async fn referral_codes_equal_a_naive_reading_of_the_history() {
    use referrals::CodeState;
    let world = World::folded(95, 600, 20).await;
    let history = &world.history;
    assert!(history.codes.len() > 5);
    let everybody = std::iter::once(None).chain(history.resellers.iter().copied().map(Some));
    for owner in everybody {
        let mut read = world.read(owner.map_or(Scope::All, Scope::Subtree)).await;
        for (now, in_time) in [(start(), true), (start().plus_seconds(86_400), false)] {
            let all = PageRequest { limit: 500, cursor: None };
            let page = referrals::list(&mut read, None, now, &all).await.unwrap();
            let owned = history.codes.values().filter(|code| owner.is_none_or(|owner| owner == code.owner)).count();
            assert_eq!(page.data.len(), owned);
            for view in page.data {
                let known = &history.codes[&view.code];
                let state = match known {
                    Code { revoked: true, .. } => CodeState::Revoked,
                    _ if !in_time => CodeState::Expired,
                    Code { uses: 2.., .. } => CodeState::UsedUp,
                    _ => CodeState::Active,
                };
                assert_eq!((view.reseller_id, view.uses, view.state), (known.owner, known.uses, state));
            }
        }
    }
}

async fn a_cut_history_stops_the_fold() {
    let place = Place::new().await;
    place.write_log(&History::random(71, 50)).await;
    place.fold(1000).await;
    let mut folder = Folder::open(&place.database()).await.unwrap();
    place.tamper("update events set hash = substr(hash, 2) where position = (select max(position) from events)").await;
    assert!(matches!(fold_batch(&mut folder, 10).await, Err(ViewError::HistoryCut(_))));
    place.tamper("delete from events where position = (select max(position) from events)").await;
    assert!(matches!(fold_batch(&mut folder, 10).await, Err(ViewError::HistoryCut(_))));
}

/// What a folder knows of rows is not what they are any more, once somebody else has written them.
async fn rows_that_somebody_else_wrote_are_read_again() {
    let place = Place::new().await;
    place.write_log(&History::random(77, 400)).await;
    let mut folder = Folder::open(&place.database()).await.unwrap();
    let half = fold_batch(&mut folder, 300).await.unwrap().position;
    // As a rebuild does: rows, and the checkpoints that they stand at.
    place.spoil("update wallets set credit_limit = 987654").await;
    place.spoil("update checkpoints set position = position").await;
    while fold_batch(&mut folder, 300).await.unwrap().more {}
    let mut look = folder.look().await.unwrap();
    let sql = "select count(*) from wallets where credit_limit = 987654 and position > $1";
    let row = look.views().fetch_one(sql, vec![half.into()]).await.unwrap().unwrap();
    assert!(row.columns().count().unwrap() > 0, "no wallet was gone on with as it was found");
}

/// Two nodes that fold at once, and one that is behind: every event counts once.
async fn several_folders_at_once_fold_each_event_once() {
    let place = Place::new().await;
    place.write_log(&History::random(72, 400)).await;
    let mut folding = Vec::new();
    for limit in [7, 18, 29] {
        let mut folder = Folder::open(&place.database()).await.unwrap();
        folding.push(tokio::spawn(async move { while fold_batch(&mut folder, limit).await.unwrap().more {} }));
    }
    for one in folding {
        one.await.unwrap();
    }
    let folded = place.everything().await;
    let alone = World::folded(72, 400, 50).await;
    same(&folded, &alone.place.everything().await, "three folders and one");
}

/// Each projection alone, after its rows were lost, while others are read and folded on.
async fn what_is_rebuilt_is_what_it_was() {
    let world = World::folded(75, 300, 60).await;
    let (rows, schema) = (world.place.everything().await, world.place.schema().await);
    let database = world.place.database();
    for projection in DECLARED {
        for table in projection.tables {
            world.place.spoil(&format!("delete from {}", table.name)).await;
        }
        assert_ne!(world.place.everything().await, rows, "{}", projection.name);
        let rebuild = Rebuild::begin(&database, &[projection.name]).await.unwrap();
        assert!(matches!(Rebuild::begin(&database, &["prices"]).await, Err(RebuildError::Running)));
        let rebuilt = rebuild.run(|_| true).await.unwrap().unwrap();
        assert_eq!(rebuilt.position, world.history.events.len() as u64);
        same(&world.place.everything().await, &rows, projection.name);
        same(&world.place.schema().await, &schema, "the schema");
        // A pool that has read before goes on with the new tables, by statements that it has prepared.
        let mut read = world.read(Scope::Subtree(world.history.resellers[0])).await;
        assert!(wallets::find(&mut read, world.history.resellers[0]).await.unwrap().is_some(), "{}", projection.name);
    }
    let all = Rebuild::begin::<&str>(&database, &[]).await.unwrap().run(|_| true).await.unwrap().unwrap();
    assert_eq!(all.projections, NAMES);
    same(&world.place.everything().await, &rows, "all");
    let stopped = Rebuild::begin(&database, &["wallets"]).await.unwrap().run(|_| false).await.unwrap();
    assert_eq!(stopped, None);
    drop(Rebuild::begin(&database, &["wallets"]).await.unwrap());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(rebuild::clean(&database).await.unwrap() > 0);
    same(&world.place.schema().await, &schema, "the schema");
    same(&world.place.everything().await, &rows, "stopped");
}

/// What a database folds to is not its own affair.
#[tokio::test]
async fn both_stores_fold_to_the_same_rows() {
    if !on(Kind::Postgres) {
        return;
    }
    for seed in [73, 74] {
        let rows = World::folded(seed, 500, 60).await.place.everything().await;
        on(Kind::Sqlite);
        same(&World::folded(seed, 500, 60).await.place.everything().await, &rows, &format!("seed {seed}"));
        on(Kind::Postgres);
    }
}

/// The definitions of all tables and indexes, as SQLite has them, quotes aside.
async fn schema(dir: &Path) -> Vec<String> {
    let mut folder = Folder::open(&dir.into()).await.unwrap();
    let sql = "select type || ' ' || name || ' on ' || tbl_name || ': ' || replace(coalesce(sql, ''), '\"', '') \
               from sqlite_master order by 1";
    let mut look = folder.look().await.unwrap();
    let rows = look.views().fetch(sql, vec![]).await.unwrap();
    rows.iter().map(|row| row.columns().string().unwrap()).collect()
}

async fn integrity(dir: &Path) -> String {
    let mut folder = Folder::open(&dir.into()).await.unwrap();
    let mut look = folder.look().await.unwrap();
    look.views().fetch_one("pragma integrity_check", vec![]).await.unwrap().unwrap().columns().string().unwrap()
}

async fn spoil(dir: &Path, sql: &str) {
    let mut folder = Folder::open(&dir.into()).await.unwrap();
    let mut look = folder.look().await.unwrap();
    look.views().execute(sql, vec![]).await.unwrap();
}

async fn rebuild_now(dir: &Path, names: &[&str]) -> Rebuilt {
    Rebuild::begin(&dir.into(), names).await.unwrap().run(|_| true).await.unwrap().unwrap()
}

async fn differences(dir: &Path) -> Vec<String> {
    let dir = dir.to_owned();
    let compared = tokio::task::spawn_blocking(move || compare_files(&dir)).await.unwrap().unwrap().unwrap();
    compared.into_iter().filter_map(|compared| compared.first).map(|first| first.what).collect()
}

async fn spoil_all(dir: &Path, tables: &[&Table]) {
    for table in tables {
        spoil(dir, &format!("delete from {}", table.name)).await;
    }
}

#[tokio::test]
async fn each_projection_rebuilt_alone_is_what_it_was_and_so_is_the_schema() {
    let world = World::folded(81, 400, 30).await;
    let dir = world.place.dir();
    let (rows, definitions) = (everything(dir).await, schema(dir).await);
    for projection in DECLARED {
        spoil_all(dir, projection.tables).await;
        assert_ne!(everything(dir).await, rows, "{}", projection.name);
        let rebuilt = rebuild_now(dir, &[projection.name]).await;
        assert!(rebuilt.projections.contains(&projection.name));
        assert_eq!(rebuilt.position, world.history.events.len() as u64);
        assert_eq!(everything(dir).await, rows, "{}", projection.name);
        assert_eq!(schema(dir).await, definitions);
    }
    spoil_all(dir, &DECLARED.iter().flat_map(|one| one.tables).copied().collect::<Vec<_>>()).await;
    assert_eq!(rebuild_now(dir, &[]).await.projections, NAMES);
    assert_eq!(everything(dir).await, rows);
    assert_eq!((schema(dir).await, integrity(dir).await.as_str()), (definitions, "ok"));
}

#[tokio::test]
async fn a_comparison_finds_each_table_that_is_not_what_the_log_folds_to() {
    let world = World::folded(82, 400, 30).await;
    let dir = world.place.dir();
    assert_eq!(differences(dir).await, [""; 0]);
    for table in DECLARED.iter().flat_map(|one| one.tables) {
        spoil_all(dir, &[table]).await;
        let found = differences(dir).await;
        assert!(found.len() == 1 && found[0].starts_with(&format!("{}, ", table.name)), "{}: {found:?}", table.name);
        rebuild_now(dir, &[]).await;
    }
    spoil(dir, "update checkpoints set hash = x'00' where projection = 'wallets'").await;
    assert!(differences(dir).await[0].contains("checkpoint of wallets"));
}

/// What is folded while a rebuild goes on: the rest is folded under the lock, or before, by how much it is.
#[tokio::test]
async fn a_rebuild_catches_up_with_what_is_folded_meanwhile() {
    for (first, step) in [(40, 25), (10, 2_500)] {
        let whole = World::folded(83, 3_000, 1000).await;
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), &whole.history).await;
        let mut folder = Folder::open(&dir.path().into()).await.unwrap();
        fold_batch(&mut folder, first).await.unwrap();
        let rebuild = Rebuild::begin(&dir.path().into(), &["dashboard", "provisions"]).await.unwrap();
        let (events, mut more) = tokio::sync::mpsc::unbounded_channel();
        let folding = tokio::spawn(async move {
            while more.recv().await.is_some() {
                fold_batch(&mut folder, step).await.unwrap();
            }
            folder
        });
        let mut calls = 0;
        let rebuilt = rebuild
            .run(|_| {
                calls += 1;
                events.send(()).is_ok()
            })
            .await
            .unwrap()
            .unwrap();
        drop(events);
        let mut folder = folding.await.unwrap();
        assert!(calls >= 2 && rebuilt.position >= first as u64, "{calls}: {rebuilt:?}");
        assert_eq!(differences(dir.path()).await, [""; 0]);
        while fold_batch(&mut folder, step).await.unwrap().more {}
        assert_eq!(everything(dir.path()).await, everything(whole.place.dir()).await);
    }
}

/// More events than are folded under the lock: what the groups fold in databases of their own comes out whole.
#[tokio::test]
async fn what_is_folded_side_by_side_is_what_it_was() {
    let world = World::folded(90, 2_500, 500).await;
    let dir = world.place.dir();
    let (rows, definitions) = (everything(dir).await, schema(dir).await);
    for names in [NAMES, &["wallets"], &["provisions", "analytics"]] {
        let of_them = DECLARED.iter().filter(|one| names.contains(&one.name)).flat_map(|one| one.tables);
        spoil_all(dir, &of_them.copied().collect::<Vec<_>>()).await;
        let mut seen = vec![0];
        let rebuild = Rebuild::begin(&dir.into(), names).await.unwrap();
        let tell = |now: Progress| {
            seen.push(now.position);
            true
        };
        rebuild.run(tell).await.unwrap().unwrap();
        assert!(seen.is_sorted() && seen.last() == Some(&(world.history.events.len() as u64)), "{seen:?}");
        assert_eq!(everything(dir).await, rows, "{names:?}");
        assert_eq!((schema(dir).await, integrity(dir).await.as_str()), (definitions.clone(), "ok"));
    }
}

#[tokio::test]
async fn a_rebuild_that_is_stopped_or_fails_while_it_folds_leaves_everything_as_it_was() {
    let world = World::folded(91, 2_500, 500).await;
    let dir = world.place.dir();
    let (rows, definitions) = (everything(dir).await, schema(dir).await);
    let stopped = Rebuild::begin(&dir.into(), NAMES).await.unwrap().run(|now| now.position == 0).await.unwrap();
    assert_eq!(stopped, None);
    assert_eq!((everything(dir).await, schema(dir).await), (rows.clone(), definitions.clone()));

    // Nobody can read that event, or nobody knows whose wallet it is.
    for spoiled in ["event_type = 'not_one'", "aggregate_id = '00000000-0000-0000-0000-00000000dead'"] {
        let log = rusqlite::Connection::open(dir.join("ledger.db")).unwrap();
        let sql = "create table kept as select * from events where position = \
                   (select max(position) from events where aggregate_type = 'Wallet' and position <= 2000)";
        log.execute_batch(sql).unwrap();
        let spoil = format!("update events set {spoiled} where position = (select position from kept)");
        assert_eq!(log.execute(&spoil, []).unwrap(), 1);
        let failed = Rebuild::begin(&dir.into(), NAMES).await.unwrap().run(|_| true).await;
        assert!(matches!(failed, Err(RebuildError::View(_))), "{spoiled}: {failed:?}");
        assert_eq!((everything(dir).await, schema(dir).await), (rows.clone(), definitions.clone()));
        log.execute_batch("replace into events select * from kept; drop table kept").unwrap();
    }
    rebuild_now(dir, &[]).await;
    assert_eq!(everything(dir).await, rows);
}

#[tokio::test]
async fn a_rebuild_that_was_stopped_or_dropped_leaves_the_live_tables_alone_and_its_own_are_cleaned_up() {
    let world = World::folded(84, 300, 100).await;
    let dir = world.place.dir();
    let (rows, definitions) = (everything(dir).await, schema(dir).await);
    let stopped = Rebuild::begin(&dir.into(), &["wallets"]).await.unwrap().run(|_| false).await.unwrap();
    assert_eq!(stopped, None);
    assert_eq!((everything(dir).await, schema(dir).await), (rows.clone(), definitions.clone()));

    let underway = Rebuild::begin(&dir.into(), &["wallets"]).await.unwrap();
    assert!(matches!(Rebuild::begin(&dir.into(), &["prices"]).await, Err(RebuildError::Running)));
    assert_eq!(rebuild::clean(&dir.into()).await.unwrap(), 0, "not while it goes on");
    drop(underway);
    assert!(schema(dir).await.len() > definitions.len());
    // Folding goes on beside what is left, and so does another rebuild.
    fold_everything(&dir.into(), 10).await;
    rebuild_now(dir, &["prices"]).await;
    assert_eq!((everything(dir).await, schema(dir).await), (rows.clone(), definitions.clone()));
    drop(Rebuild::begin(&dir.into(), &["provisions"]).await.unwrap());
    assert!(rebuild::clean(&dir.into()).await.unwrap() >= 3);
    assert_eq!((everything(dir).await, schema(dir).await), (rows, definitions));
    assert!(matches!(Rebuild::begin(&dir.into(), &["wallet"]).await, Err(RebuildError::Unknown { .. })));
}

#[tokio::test]
async fn after_the_log_was_replaced_only_a_rebuild_of_all_projections_mends_the_read_models() {
    let world = World::folded(85, 300, 100).await;
    let dir = world.place.dir();
    let other = History::random(86, 120);
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(dir.join(file));
    }
    write_log(dir, &other).await;
    let mut folder = Folder::open(&dir.into()).await.unwrap();
    assert!(matches!(fold_batch(&mut folder, 10).await, Err(ViewError::HistoryCut(_))));
    let some = Rebuild::begin(&dir.into(), &["wallets"]).await.unwrap().run(|_| true).await;
    assert!(matches!(some, Err(RebuildError::View(ViewError::HistoryCut(_)))), "{some:?}");
    assert_eq!(rebuild_now(dir, &[]).await.position, other.events.len() as u64);
    assert_eq!(fold_batch(&mut folder, 10).await.unwrap().position, other.events.len() as u64);
    assert_eq!(differences(dir).await, [""; 0]);
}

/// A pool that has read before goes on reading, in the snapshot it has and in the next, with statements it has prepared.
#[tokio::test]
async fn readers_see_what_was_there_before_the_exchange_or_after_it_and_never_both() {
    let world = World::folded(87, 300, 100).await;
    let dir = world.place.dir();
    let sum = async |read: &mut ScopedRead| {
        let sql = "select sum(balance) from wallets";
        read.connection().fetch_one(sql, vec![]).await.unwrap().unwrap().columns().integer().unwrap()
    };
    let truth = sum(&mut world.read(Scope::All).await).await;
    spoil(dir, "update wallets set balance = balance + 1").await;
    let wrong = truth + i64::try_from(world.history.resellers.len()).unwrap();
    let mut before = world.read(Scope::All).await;
    assert_eq!(sum(&mut before).await, wrong);
    rebuild_now(dir, &["wallets", "dashboard"]).await;
    assert_eq!(sum(&mut before).await, wrong, "one snapshot");
    drop(before);
    for _ in 0..20 {
        assert_eq!(sum(&mut world.read(Scope::All).await).await, truth);
    }
}

/// Not a test of correctness: prints how many events a second all projections together fold. Run it in release:
/// `cargo test --release -p projections -- --ignored --nocapture folding_speed`.
#[tokio::test]
#[ignore = "a measurement"]
async fn folding_speed() {
    for wallets in [1, 1000] {
        let mut dice = Dice(99);
        let mut history = History::default();
        let top = history.register(&mut dice, None);
        for _ in 1..wallets {
            let parent = if dice.roll(3) == 0 { top } else { dice.pick(&history.resellers) };
            history.register(&mut dice, Some(parent));
        }
        while history.events.len() < 200_000 {
            let reseller = dice.pick(&history.resellers);
            history.provision(&mut dice, reseller);
        }
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), &history).await;
        let begin = std::time::Instant::now();
        fold_everything(&dir.path().into(), 4000).await;
        let seconds = begin.elapsed().as_secs_f64();
        println!("{wallets} wallets: {:.0} events/s", history.events.len() as f64 / seconds);
    }
}

/// Not a test of correctness: prints how fast one table takes rows by `values` and by `json_each`.
#[tokio::test]
#[ignore = "a measurement"]
async fn bulk_speed() {
    static LINES: Table = Table {
        name: "lines",
        columns: &[("id", Merge::Key), ("a", Merge::Keep), ("b", Merge::Keep), ("c", Merge::Keep), ("d", Merge::Keep)],
    };
    let row = |id: u64| -> [Value; 5] {
        [id.into(), Value::text(Uuid::from_u128(id.into())), Value::text("provisioned"), id.into(), Value::Null]
    };
    for way in ["values", "json_each"] {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(dir.path().join("x.db")).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql("create table lines (id integer primary key, a text, b text, c bigint, d text); begin")
            .execute(&mut connection)
            .await
            .unwrap();
        let begin = std::time::Instant::now();
        for batch in 0..50_u64 {
            let ids = batch * 4000..(batch + 1) * 4000;
            let mut connection = Connection::sqlite(&mut connection);
            if way == "values" {
                let mut changes = Changes::default();
                ids.for_each(|id| changes.put(&LINES, row(id)));
                connection.apply(changes).await.unwrap();
            } else {
                let rows: Vec<(u64, String, &str, u64, Option<String>)> =
                    ids.map(|id| (id, Uuid::from_u128(id.into()).to_string(), "provisioned", id, None)).collect();
                let sql = "insert into lines select value->>0, value->>1, value->>2, value->>3, value->>4 \
                           from json_each($1) where true on conflict (id) do nothing";
                connection.execute(sql, vec![Value::json(&rows).unwrap()]).await.unwrap();
            }
        }
        println!("{way}: {:.0} rows/s", 200_000.0 / begin.elapsed().as_secs_f64());
    }
}
