//! Ancestors, freezes and unit costs of the network against brute force, on random trees as deep as allowed.
//!
//! The brute force keeps a plain list of parents, freezes, tiers, prices and margins, finds a downline by trying every pair, and
//! prices from the top by DOMAIN's words in floating-free fractions. Every tree is built twice: by events, and by snapshots.

use std::collections::{BTreeMap, BTreeSet};

use aggregates::network::Network;
use aggregates::platform::Policy;
use aggregates::pricing::{PricedItem, unit_costs};
use aggregates::primitives::{
    Authority, CompanyName, Level, Percent, Refid, ResellerId, ResellerStatus, Sku, Text, Tier, Timestamp, UserId,
};
use aggregates::reseller::{Registrar, Registration, Reseller, ResellerEvent, Settings};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rust_decimal::Decimal;

use super::dice::Dice;
use super::translate::{reseller, sku};

/// The deepest that the network may be.
const DEPTH_MAX: usize = 64;
const PRODUCT: u64 = 1;

/// One reseller, as plain as can be.
#[derive(Debug, Clone, Default)]
struct Plain {
    parent: Option<usize>,
    tier: usize,
    freezes: BTreeSet<Authority>,
    price: Option<i64>,
    /// Hundredths of a percent.
    margin: Option<i64>,
}

fn id(place: usize) -> ResellerId {
    reseller(1 + u64::try_from(place).unwrap())
}

fn percent(hundredths: i64) -> Percent {
    Percent::try_from(Decimal::new(hundredths, 2)).unwrap()
}

fn depth(tree: &[Plain], place: usize) -> usize {
    tree[place].parent.map_or(0, |parent| 1 + depth(tree, parent))
}

/// Whether one place is below another, by trying every child of it.
fn is_below(tree: &[Plain], below: usize, above: usize) -> bool {
    (0..tree.len()).any(|child| tree[child].parent == Some(above) && (child == below || is_below(tree, below, child)))
}

fn ceiling(amount: i64, hundredths: i64) -> i64 {
    let exact = amount * hundredths;
    if exact % 100_00 == 0 { exact / 100_00 } else { exact / 100_00 + 1 }
}

/// DOMAIN, Provisioning 3, for a base cost and a minimum margin.
fn unit_cost(tree: &[Plain], place: usize, base_cost: i64, minimum_margin: i64, priced: bool) -> i64 {
    let one = &tree[place];
    let above = one.parent.map_or(0, |parent| unit_cost(tree, parent, base_cost, minimum_margin, priced));
    let margin = one.parent.and_then(|parent| tree[parent].margin);
    match (one.price.filter(|_| priced), margin) {
        (Some(price), _) => price.max(ceiling(above, 100_00 + minimum_margin)),
        (None, Some(margin)) => ceiling(above, 100_00 + margin),
        (None, None) => {
            let exact = base_cost * [100, 85, 70][one.tier];
            exact / 100 + i64::from(exact % 100 >= 50)
        }
    }
}

/// A tree of up to 150 resellers, often a long line, in the order in which they register.
fn grow(dice: &mut Dice<'_>) -> Vec<Plain> {
    let mut tree: Vec<Plain> = Vec::new();
    for place in 0..1 + dice.roll(150) {
        let parent = match dice.roll(8) {
            _ if place == 0 => None,
            0 => None,
            1 | 2 => Some(dice.roll(place)),
            _ => Some(place - 1),
        };
        let parent = parent.filter(|parent| depth(&tree, *parent) < DEPTH_MAX);
        let price = (dice.roll(4) == 0).then(|| i64::try_from(dice.roll(2_000)).unwrap());
        let margin = (dice.roll(4) == 0).then(|| i64::try_from(dice.roll(12_00)).unwrap());
        tree.push(Plain { parent, tier: dice.roll(3), price, margin, freezes: BTreeSet::new() });
    }
    for _ in 0..dice.roll(6) {
        let frozen = dice.roll(tree.len());
        let above: Vec<usize> = (0..tree.len()).filter(|above| is_below(&tree, frozen, *above)).collect();
        let authority = match above.len() {
            0 => Authority::Platform,
            _ if dice.roll(3) == 0 => Authority::Platform,
            many => Authority::Reseller(id(above[dice.roll(many)])),
        };
        tree[frozen].freezes.insert(authority);
    }
    tree
}

/// The events that make one reseller what it is; a freeze of the platform comes and goes again among them.
fn events(tree: &[Plain], place: usize) -> Vec<ResellerEvent> {
    let one = &tree[place];
    let registration = Registration {
        reseller: id(place),
        user_id: UserId::new(format!("user-{place}")).unwrap(),
        refid: Refid::new(format!("RS-{place}")).unwrap(),
        company_name: CompanyName::new("Company").unwrap(),
        tier: Tier::Standard,
        status: ResellerStatus::Active,
        parent: one.parent.map(id),
        depth: u32::try_from(depth(tree, place)).unwrap(),
        metadata: serde_json::Map::new(),
        referral: None,
        registrar: Registrar::Platform,
        registered_at: Timestamp::from_micros(0),
    };
    let reason: Option<Text> = None;
    let settings = Settings { margin_percent: one.margin.map(percent), ..Settings::default() };
    let mut events = vec![
        ResellerEvent::ResellerRegistered(Box::new(registration)),
        ResellerEvent::SubtreeFrozen { authority: Authority::Platform, reason: reason.clone() },
        ResellerEvent::TierChanged { from: Tier::Standard, to: Tier::ALL[one.tier], reason: reason.clone() },
        ResellerEvent::SettingsChanged { settings },
        ResellerEvent::SubtreeUnfrozen { authority: Authority::Platform, reason: reason.clone() },
    ];
    let freeze = |authority: &Authority| ResellerEvent::SubtreeFrozen { authority: *authority, reason: reason.clone() };
    events.extend(one.freezes.iter().map(freeze));
    let by = one.parent.map_or(Authority::Platform, |parent| Authority::Reseller(id(parent)));
    let price =
        one.price.map(|cost| ResellerEvent::PriceSet { by, sku: sku(PRODUCT), cost: Level::new(cost).unwrap() });
    events.extend(price);
    events
}

fn networks(tree: &[Plain]) -> [Network; 2] {
    let mut by_events = Network::default();
    let mut by_snapshots = Network::default();
    for place in 0..tree.len() {
        let mut snapshot = Reseller::default();
        let mut sequence = 0;
        for event in events(tree, place) {
            sequence += 1;
            by_events.fold(id(place), sequence, &event);
            // What has been seen already changes nothing.
            by_events.fold(id(place), sequence, &event);
            snapshot.fold(&event);
        }
        by_snapshots.enlist(id(place), sequence, &snapshot);
    }
    [by_events, by_snapshots]
}

fn compare(tree: &[Plain], network: &Network, base_cost: i64, minimum_margin: i64) {
    assert_eq!(network.len(), tree.len());
    let policy = Policy::default();
    let product: Sku = sku(PRODUCT);
    let discounts = [0, 15, 30].map(|whole| Percent::whole(whole).unwrap());
    assert_eq!([policy.tiers.standard, policy.tiers.gold, policy.tiers.platinum], discounts);
    let item =
        PricedItem { base_cost: Level::new(base_cost).unwrap(), minimum_margin_percent: percent(minimum_margin) };
    for place in 0..tree.len() {
        let above: BTreeSet<ResellerId> =
            (0..tree.len()).filter(|above| is_below(tree, place, *above)).map(id).collect();
        let ancestors: Vec<ResellerId> = network.ancestors(id(place)).map(|(ancestor, _)| ancestor).collect();
        assert_eq!(ancestors.iter().copied().collect::<BTreeSet<_>>(), above, "the ancestors of {place}");
        assert_eq!(ancestors.len(), above.len(), "an ancestor twice");
        assert_eq!(ancestors.first().copied(), tree[place].parent.map(id), "the nearest comes first");
        for other in 0..tree.len() {
            let expected = above.contains(&id(other));
            assert_eq!(network.is_ancestor(id(other), id(place)), expected, "{other} above {place}");
            let (mine, theirs) = (Authority::Reseller(id(other)), Authority::Reseller(id(place)));
            assert_eq!(network.outranks(mine, theirs), expected || other == place, "{other} outranks {place}");
        }

        let mut standing: BTreeMap<Authority, usize> = BTreeMap::new();
        for other in 0..tree.len() {
            if other == place || above.contains(&id(other)) {
                tree[other].freezes.iter().for_each(|authority| *standing.entry(*authority).or_default() += 1);
            }
        }
        let mut found: BTreeMap<Authority, usize> = BTreeMap::new();
        network.freezes_over(id(place)).for_each(|authority| *found.entry(authority).or_default() += 1);
        assert_eq!(found, standing, "the freezes over {place}");
        let rank = |authority: &Authority| match authority {
            Authority::Platform => -1,
            Authority::Reseller(of) => {
                let place = (0..tree.len()).find(|place| id(*place) == *of).unwrap();
                i64::try_from(depth(tree, place)).unwrap()
            }
            Authority::LowCreditPolicy => i64::MAX,
        };
        assert_eq!(network.highest(found.keys().copied()), standing.keys().copied().min_by_key(rank));

        for priced in [true, false] {
            let line = network.line(id(place), priced.then_some(&product));
            let costs = unit_costs(&line, item, &policy).expect("small figures");
            let expected = unit_cost(tree, place, base_cost, minimum_margin, priced);
            assert_eq!(costs.last().map(|cost| cost.cost), Some(expected), "the unit cost of {place}");
            assert_eq!(line.len(), above.len() + 1);
        }
    }
}

#[test]
fn the_network_finds_what_brute_force_finds() {
    let cases = std::env::var("TALLYTREE_NETWORK_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]));
    let result =
        runner.run(&(vec(any::<u32>(), 900), 0..3_000_i64, 0..3_000_i64), |(numbers, base_cost, minimum_margin)| {
            let tree = grow(&mut Dice::new(&numbers));
            for network in networks(&tree) {
                compare(&tree, &network, base_cost, minimum_margin / 10);
            }
            Ok(())
        });
    result.unwrap();
}

#[test]
fn the_deepest_line_that_is_allowed_is_walked_whole() {
    let mut tree: Vec<Plain> = (0..=DEPTH_MAX)
        .map(|place| Plain { parent: place.checked_sub(1), tier: 2 - place % 3, ..Plain::default() })
        .collect();
    tree[0].freezes.insert(Authority::Platform);
    tree[0].margin = Some(7_25);
    tree[40].price = Some(1);
    for network in networks(&tree) {
        assert_eq!(network.ancestors(id(DEPTH_MAX)).count(), DEPTH_MAX);
        compare(&tree, &network, 1_000, 1_00);
    }
}
