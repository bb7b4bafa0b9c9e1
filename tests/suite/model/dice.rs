//! Random numbers into demands. Amounts are small and near what wallets hold, names are few: refusals, boundaries, reused keys
//! and taken references come often.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::naive::{
    Basis, BulkItem, Demand, Id, Kind, MOST, Naive, Order, Preferences, Reseller, Role, Rules, Source, Status, Step,
    Terms, Who, Wish,
};
use super::scene::{member, platform};

/// How many numbers one demand is made of.
pub const NUMBERS: usize = 24;

/// Numbers to be used up one by one; zeros when they are.
pub struct Dice<'n> {
    numbers: std::slice::Iter<'n, u32>,
}

impl<'n> Dice<'n> {
    pub fn new(numbers: &'n [u32]) -> Self {
        Self { numbers: numbers.iter() }
    }

    /// One of 0 … sides − 1.
    pub fn roll(&mut self, sides: usize) -> usize {
        usize::try_from(*self.numbers.next().unwrap_or(&0)).unwrap() % sides
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 1
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.roll(among.len())]
    }

    fn credits(&mut self, sides: usize) -> i64 {
        i64::try_from(self.roll(sides)).unwrap()
    }
}

/// A demand with who sends it and under which key.
#[derive(Debug, Clone)]
pub struct Throw {
    pub who: Who,
    pub key: Option<(Id, u64)>,
    pub demand: Demand,
}

pub fn fingerprint(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Random rules, never far from the usual.
pub fn rules(dice: &mut Dice<'_>) -> Rules {
    Rules {
        discounts: dice.pick(&[
            [0, 1_500, 3_000],
            [0, 1_500, 3_000],
            [500, 1_050, 9_999],
            [3_000, 1_500, 0],
            [0, 0, 10_000],
        ]),
        default_tier: dice.pick(&[0, 0, 1]),
        threshold: dice.pick(&[0, 50, 50, 120]),
        commissions: !dice.one_in(6),
        referral_bonus: dice.pick(&[0, 7, 30]),
        max_child_price: dice.pick(&[20_000, 20_000, 10_000, 15_050, 100_000]),
        auto_approve: dice.one_in(3),
        opens_wallets: !dice.one_in(6),
        expiry_days: dice.pick(&[30, 1]),
    }
}

fn terms(dice: &mut Dice<'_>) -> Terms {
    Terms {
        base_cost: dice.pick(&[10, 33, 100, 7, 0, 1]),
        minimum_tier: dice.pick(&[0, 0, 0, 1, 2]),
        minimum_margin: dice.pick(&[0, 1_000, 555, 10_000]),
    }
}

/// A reseller that is there, or (rarely) one that is not.
fn someone(dice: &mut Dice<'_>, naive: &Naive) -> Id {
    if naive.resellers.is_empty() || dice.one_in(40) {
        return 999;
    }
    naive.resellers[dice.roll(naive.resellers.len())].id
}

/// Anybody at all.
fn anyone(dice: &mut Dice<'_>, naive: &Naive) -> Who {
    match dice.roll(11) {
        0..=6 => {
            let tenant = someone(dice, naive);
            let user = if dice.one_in(4) { 1_001 } else { 1_000 + tenant };
            Who { user, declared_cost: dice.one_in(3), ..member(tenant) }
        }
        7 | 8 => platform(),
        9 => Who { role: Role::Payments, user: 2, ..platform() },
        _ => Who { role: Role::Auditor, user: 3, ..platform() },
    }
}

/// Mostly one of those that are so, else the one at hand.
fn one_of(dice: &mut Dice<'_>, naive: &Naive, at_hand: Id, so: fn(&Reseller) -> bool) -> Id {
    let those: Vec<Id> = naive.resellers.iter().filter(|reseller| so(reseller)).map(|reseller| reseller.id).collect();
    if those.is_empty() || dice.one_in(5) { at_hand } else { dice.pick(&those) }
}

/// An amount near what matters to a wallet.
fn amount(dice: &mut Dice<'_>, naive: &Naive, wallet: Id) -> i64 {
    let near = naive.wallet(wallet).map_or(50, |wallet| match dice.roll(4) {
        0 => wallet.balance(),
        1 => wallet.balance() + wallet.limit,
        2 => wallet.balance() - wallet.threshold,
        _ => 50,
    });
    match dice.roll(8) {
        0 | 1 => (near + dice.credits(3) - 1).clamp(1, MOST),
        2 => 100 * (1 + dice.credits(10)),
        _ => 1 + dice.credits(60),
    }
}

fn basis(dice: &mut Dice<'_>, naive: &Naive, wallet: Id) -> Basis {
    match dice.roll(8) {
        0 => Basis::BaseCost(dice.pick(&[0, 10, 33, 100])),
        1 => Basis::Cost(amount(dice, naive, wallet)),
        _ => Basis::Product { product: product(dice), quantity: dice.pick(&[1, 1, 2, 3, 10]) },
    }
}

fn product(dice: &mut Dice<'_>) -> Id {
    dice.pick(&[1, 1, 1, 2, 2, 3, 3, 4])
}

/// A client, mostly one of the wallet's own.
fn client(dice: &mut Dice<'_>, naive: &Naive, wallet: Id) -> Option<Id> {
    if !dice.one_in(4) {
        return None;
    }
    let own = naive.clients.iter().find(|client| client.owner == wallet).map(|client| client.id);
    if dice.one_in(4) { naive.clients.first().map(|client| client.id).or(Some(998)) } else { own }
}

fn bulk(dice: &mut Dice<'_>, wallet: Id, fresh: Id) -> Demand {
    let atomic = dice.one_in(2);
    let count = 1 + dice.roll(4);
    let items = (0..count)
        .map(|index| {
            let basis = match dice.roll(12) {
                0 => Basis::BaseCost(10),
                1 => Basis::Cost(5),
                _ => Basis::Product { product: product(dice), quantity: 1 },
            };
            // A key mostly stands for the same thing, as it should.
            let key = match basis {
                Basis::Product { product, .. } if dice.roll(3) > 0 => Some(20 + product),
                _ => dice.one_in(3).then(|| 10 + Id::try_from(dice.roll(3)).unwrap()),
            };
            let key = key.map(|key| (key, fingerprint(&("item", wallet, basis))));
            let order = Order { provision: fresh + Id::try_from(index).unwrap(), basis, client: None };
            BulkItem { order, key }
        })
        .collect();
    Demand::Bulk { wallet, atomic, items }
}

/// Who would properly ask this, were everything in order.
fn proper(dice: &mut Dice<'_>, naive: &Naive, demand: &Demand) -> Who {
    let parent_of = |id: Id| naive.reseller(id).and_then(|reseller| reseller.parent);
    let above = |dice: &mut Dice<'_>, id: Id| {
        let line = naive.line(id);
        let place = dice.roll(line.len());
        if place == 0 { platform() } else { member(line[place]) }
    };
    let addressee = |id: Id| {
        let request = naive.requests.iter().find(|request| request.id == id);
        request.and_then(|request| request.addressee).map_or_else(platform, member)
    };
    match demand {
        Demand::Register { parent: Some(parent), code: None, tier: None, .. } if dice.one_in(2) => member(*parent),
        Demand::Freeze(id) | Demand::Unfreeze(id) | Demand::SetHold(id, _) => above(dice, *id),
        Demand::SetPrice { reseller, .. } | Demand::ClearPrice { reseller, .. } => {
            parent_of(*reseller).map_or_else(platform, member)
        }
        Demand::AddCredits { source: Source::Purchase, reference: Some(_), .. } if dice.one_in(3) => {
            Who { role: Role::Payments, user: 2, ..platform() }
        }
        Demand::ChangeSettings(id, _) | Demand::SetThreshold(id, _) if dice.one_in(2) => member(*id),
        Demand::RevokeCode { reseller, .. } => member(*reseller),
        Demand::Provision { wallet, .. } | Demand::Bulk { wallet, .. } => match dice.roll(4) {
            0 => platform(),
            1 => Who { declared_cost: true, ..member(*wallet) },
            _ => member(*wallet),
        },
        Demand::Transfer { from, to, .. } => match dice.roll(4) {
            0 => platform(),
            _ if parent_of(*from) == Some(*to) => member(*to),
            _ => member(*from),
        },
        Demand::Onboard { owner, .. } => owner.map_or_else(|| member(1), member),
        Demand::StepClient(id, _) => {
            let client = naive.clients.iter().find(|client| client.id == *id);
            client.map_or_else(platform, |client| member(client.owner))
        }
        Demand::Raise { requester, .. } => member(*requester),
        Demand::ApproveRequest { request, .. } => addressee(*request),
        Demand::RejectRequest(id) | Demand::ForwardRequest(id) => addressee(*id),
        Demand::CancelRequest(id) => {
            let request = naive.requests.iter().find(|request| request.id == *id);
            request.map_or_else(platform, |request| member(request.requester))
        }
        Demand::ExpireRequest(_) | Demand::FailRequest(_) => Who { role: Role::System, user: 4, ..platform() },
        _ => platform(),
    }
}

/// One demand. `fresh` is an identity that nothing has yet, with room for eight more. In a calm story nearly everybody asks what
/// is theirs to ask and few keys are used, so that it comes further.
pub fn throw(numbers: &[u32], naive: &Naive, history: &[Throw], fresh: Id, calm: bool) -> Throw {
    let dice = &mut Dice::new(numbers);
    let mut demand = demand(dice, naive, fresh);
    if !history.is_empty() && dice.one_in(12) {
        // Exactly the same again, as a client does that lost the answer.
        return history[dice.roll(history.len())].clone();
    }
    let who = if dice.one_in(if calm { 40 } else { 5 }) { anyone(dice, naive) } else { proper(dice, naive, &demand) };
    let keyed = dice.one_in(if calm { 20 } else { 4 });
    let key = if keyed { Some(10 + Id::try_from(dice.roll(4)).unwrap()) } else { None };
    drop_keys_twice(&mut demand, key);
    let key = key.map(|key| (key, fingerprint(&("request", &demand))));
    Throw { who, key, demand }
}

/// A key twice in one request is turned away before the ledger is asked.
fn drop_keys_twice(demand: &mut Demand, own: Option<Id>) {
    if let Demand::Bulk { items, .. } = demand {
        let mut taken: Vec<Id> = own.into_iter().collect();
        for item in items {
            item.key = item.key.filter(|(key, _)| !taken.contains(key));
            taken.extend(item.key.map(|(key, _)| key));
        }
    }
}

fn demand(dice: &mut Dice<'_>, naive: &Naive, fresh: Id) -> Demand {
    let kind = dice.roll(100);
    let id = someone(dice, naive);
    let child_of = |dice: &mut Dice<'_>, id: Id| {
        let children: Vec<Id> =
            naive.resellers.iter().filter(|reseller| reseller.parent == Some(id)).map(|child| child.id).collect();
        if children.is_empty() { someone(dice, naive) } else { dice.pick(&children) }
    };
    let request = |dice: &mut Dice<'_>| match naive.requests.len() {
        0 => 997,
        many if dice.one_in(3) => naive.requests[dice.roll(many)].id,
        many => naive.requests[many - 1].id,
    };
    match kind {
        0 | 1 => Demand::SetRules(rules(dice)),
        2..=5 => {
            let parent = if dice.one_in(5) { None } else { Some(id) };
            let code = (dice.one_in(3)).then(|| naive.codes.last().map_or(996, |code| code.id));
            let parent = if dice.one_in(10) || code.is_none() { parent } else { None };
            let tier = dice.one_in(4).then(|| dice.roll(3));
            let user = if dice.one_in(5) { 1_001 } else { 1_000 + fresh };
            Demand::Register { reseller: fresh, user, parent, code, tier }
        }
        6 | 7 => {
            let pending = naive.resellers.iter().rfind(|reseller| reseller.status == Status::Pending);
            Demand::Approve(pending.map_or(id, |reseller| reseller.id))
        }
        8 => Demand::Deactivate(id),
        9 => Demand::Reactivate(one_of(dice, naive, id, |reseller| reseller.status == Status::Deactivated)),
        10..=12 => Demand::Freeze(id),
        13..=16 => Demand::Unfreeze(one_of(dice, naive, id, |reseller| !reseller.freezes.is_empty())),
        17 | 18 => Demand::ChangeTier(id, dice.roll(3)),
        19..=22 => {
            let kind = dice.pick(&[Kind::CreditTopup, Kind::Generic, Kind::PriceChange]);
            let mut preferences = Preferences::default();
            match dice.roll(5) {
                0 => preferences.auto_forward.push((kind, dice.one_in(2))),
                1 => preferences.margin = Some(dice.pick(&[None, Some(0), Some(2_000), Some(3_333), Some(100_000)])),
                2 => preferences.allow_withdraw = Some(!dice.one_in(3)),
                3 => {
                    preferences.hold_on_low_credit = Some(!dice.one_in(3));
                    preferences.threshold = dice.one_in(2).then(|| dice.credits(150));
                }
                _ => preferences.threshold = Some(dice.credits(150)),
            }
            Demand::ChangeSettings(id, preferences)
        }
        23..=26 => {
            let product = product(dice);
            let parent = naive.reseller(id).and_then(|reseller| reseller.parent);
            let cost = naive.product(product).map_or(10, |product| match dice.roll(4) {
                0 => product.terms.base_cost * 2 + dice.credits(2),
                1 => dice.credits(120),
                _ => {
                    let own = parent.map_or(0, |parent| naive.unit_cost(parent, product).0);
                    own + own * product.terms.minimum_margin / 10_000 + dice.credits(3)
                }
            });
            Demand::SetPrice { reseller: id, product, cost }
        }
        27 => Demand::ClearPrice { reseller: id, product: product(dice) },
        28 => match naive.codes.last() {
            Some(code) => Demand::RevokeCode { reseller: code.owner, code: code.id },
            None => Demand::RevokeCode { reseller: id, code: 996 },
        },
        29 => Demand::OpenWallet(id),
        30..=37 => {
            let source = dice.pick(&[Source::Purchase, Source::Purchase, Source::Bonus, Source::Adjustment]);
            let reference = dice.one_in(2).then(|| Id::try_from(dice.roll(6)).unwrap());
            // A reference often comes with the same wallet and amount again, as from a payment system that retries.
            let (id, usual) = match reference {
                Some(reference) if !naive.resellers.is_empty() && dice.one_in(2) => {
                    let place = usize::try_from(reference).unwrap() % naive.resellers.len();
                    (naive.resellers[place].id, Some(50))
                }
                _ => (id, None),
            };
            let amount = if dice.one_in(60) { MOST - dice.credits(3) } else { amount(dice, naive, id) };
            let amount = usual.unwrap_or(amount);
            Demand::AddCredits { wallet: id, amount, source, reference }
        }
        38 | 39 => Demand::RemoveCredits { wallet: id, amount: amount(dice, naive, id) },
        40..=55 => {
            let order = Order { provision: fresh, basis: basis(dice, naive, id), client: client(dice, naive, id) };
            Demand::Provision { wallet: id, order }
        }
        56..=61 => bulk(dice, id, fresh),
        62..=68 => {
            let some = naive.provisions.len().checked_sub(1 + dice.roll(naive.provisions.len().clamp(1, 4)));
            let Some(provision) = some.map(|place| &naive.provisions[place]) else {
                return Demand::Refund { wallet: id, provision: 995, amount: None };
            };
            let left = provision.sale.amount - provision.refunded;
            let amount = match dice.roll(6) {
                0 => None,
                1 => Some((left + dice.credits(2)).max(1)),
                _ => Some(1 + dice.credits(usize::try_from(left.max(1)).unwrap().min(1_000))),
            };
            let wallet = if dice.one_in(10) { id } else { provision.sale.wallet };
            Demand::Refund { wallet, provision: provision.sale.provision, amount }
        }
        69..=75 => {
            let to = match dice.roll(6) {
                0 => someone(dice, naive),
                1 | 2 => naive.reseller(id).and_then(|reseller| reseller.parent).unwrap_or(id),
                _ => child_of(dice, id),
            };
            Demand::Transfer { from: id, to, amount: amount(dice, naive, id) }
        }
        76 => Demand::SetThreshold(id, dice.credits(150)),
        77 | 78 => {
            let limit = if dice.one_in(20) { MOST } else { dice.credits(100) };
            Demand::SetCreditLimit(id, limit)
        }
        79..=81 => Demand::SetHold(id, dice.one_in(2)),
        82 => Demand::Onboard { client: fresh, owner: dice.one_in(2).then_some(id) },
        83 | 84 => {
            let step = dice.pick(&[Step::Activate, Step::Activate, Step::Suspend, Step::Deactivate, Step::Forget]);
            Demand::StepClient(naive.clients.last().map_or(998, |client| client.id), step)
        }
        85 if dice.one_in(2) => {
            Demand::Reassign { client: naive.clients.last().map_or(998, |client| client.id), owner: id }
        }
        85 => Demand::Retire(product(dice)),
        86 => Demand::Publish(product(dice), terms(dice)),
        87 => Demand::Revise(product(dice), terms(dice)),
        88..=92 => {
            let wish = match dice.roll(6) {
                0 => Wish::ReferralCode { become_partner: !dice.one_in(3) },
                1 => Wish::TierUpgrade(dice.roll(3)),
                2 => Wish::PriceChange { product: product(dice), cost: dice.credits(120) },
                3 => Wish::Generic,
                _ => Wish::CreditTopup(amount(dice, naive, id)),
            };
            Demand::Raise { request: fresh, requester: id, wish }
        }
        93..=96 => Demand::ApproveRequest { request: request(dice), code: fresh },
        97 => Demand::RejectRequest(request(dice)),
        98 if dice.one_in(2) => Demand::CancelRequest(request(dice)),
        98 => Demand::ForwardRequest(request(dice)),
        99 if dice.one_in(2) => Demand::FailRequest(request(dice)),
        _ => Demand::ExpireRequest(request(dice)),
    }
}
