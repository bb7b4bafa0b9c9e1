//! Named examples: commissions and refunds to the credit, on the ledger and the model at once.

use super::naive::{Basis, Demand, Id, Order, Rules, Source, Terms};
use super::scene::{Scene, member, platform, usual_rules};

const GRANDPARENT: Id = 1;
const PARENT: Id = 2;
const SELLER: Id = 3;
const LICENCE: Id = 1;
const PROVISION: Id = 5_000;

/// A standard seller under a gold parent under a platinum grandparent; the seller has `funds`, the licence its base cost.
fn three_levels(base_cost: i64, funds: i64) -> Scene {
    let mut scene = Scene::new(usual_rules());
    for (reseller, parent, tier) in [(GRANDPARENT, None, 2), (PARENT, Some(GRANDPARENT), 1), (SELLER, Some(PARENT), 0)]
    {
        let register = Demand::Register { reseller, user: 1_000 + reseller, parent, code: None, tier: Some(tier) };
        scene.done(&platform(), &register);
    }
    let fund = Demand::AddCredits { wallet: SELLER, amount: funds, source: Source::Bonus, reference: None };
    scene.done(&platform(), &fund);
    scene.done(&platform(), &Demand::Publish(LICENCE, Terms { base_cost, minimum_tier: 0, minimum_margin: 0 }));
    scene
}

fn provision(scene: &mut Scene) -> Vec<(Id, i64)> {
    let basis = Basis::Product { product: LICENCE, quantity: 1 };
    let order = Order { provision: PROVISION, basis, client: None };
    let done = scene.done(&member(SELLER), &Demand::Provision { wallet: SELLER, order });
    done.sales[0].commissions.clone()
}

fn refund(scene: &mut Scene, amount: Option<i64>) {
    scene.done(&platform(), &Demand::Refund { wallet: SELLER, provision: PROVISION, amount });
}

fn balances(scene: &Scene) -> [i64; 3] {
    [GRANDPARENT, PARENT, SELLER].map(|id| scene.driver.wallets[&super::translate::reseller(id)].balance)
}

/// Everything that a refund must not look at changes.
fn change_tier_price_and_policy(scene: &mut Scene) {
    scene.done(&platform(), &Demand::ChangeTier(PARENT, 2));
    scene.done(&platform(), &Demand::ChangeTier(SELLER, 1));
    scene.done(&platform(), &Demand::Revise(LICENCE, Terms { base_cost: 77, minimum_tier: 1, minimum_margin: 20_00 }));
    let rules = Rules { discounts: [3_00, 4_00, 50_00], commissions: false, ..usual_rules() };
    scene.done(&platform(), &Demand::SetRules(rules));
}

#[test]
fn each_upline_earns_what_lies_between_its_own_cost_and_the_next_lower_one() {
    let mut scene = three_levels(1_000, 1_000);
    assert_eq!(provision(&mut scene), [(PARENT, 150), (GRANDPARENT, 150)]);
    assert_eq!(balances(&scene), [150, 150, 0], "and 700 are the platform's");
}

#[test]
fn a_refund_in_two_parts_is_exact() {
    let mut scene = three_levels(1_000, 1_000);
    provision(&mut scene);
    change_tier_price_and_policy(&mut scene);
    refund(&mut scene, Some(333));
    assert_eq!(balances(&scene), [150 - 49, 150 - 49, 333]);
    refund(&mut scene, None);
    assert_eq!(balances(&scene), [0, 0, 1_000]);
}

#[test]
fn a_refund_in_334_parts_is_exact() {
    let mut scene = three_levels(1_000, 1_000);
    provision(&mut scene);
    change_tier_price_and_policy(&mut scene);
    for _ in 0..333 {
        refund(&mut scene, Some(3));
    }
    assert_eq!(balances(&scene), [1, 1, 999], "a part of a credit is never reversed before its time");
    refund(&mut scene, Some(1));
    assert_eq!(balances(&scene), [0, 0, 1_000]);
}

#[test]
fn a_refund_in_250_parts_of_four_is_exact() {
    let mut scene = three_levels(1_000, 1_000);
    provision(&mut scene);
    change_tier_price_and_policy(&mut scene);
    for _ in 0..250 {
        refund(&mut scene, Some(4));
    }
    assert_eq!(balances(&scene), [0, 0, 1_000]);
}

#[test]
fn three_credits_with_commissions_of_one_each_are_refunded_one_by_one() {
    let mut scene = three_levels(3, 3);
    // 3 less 15 % is 2.55, so 3; less 30 % is 2.1, so 2: prices make it 3, 2, 1.
    scene.done(&platform(), &Demand::SetPrice { reseller: GRANDPARENT, product: LICENCE, cost: 1 });
    scene.done(&member(GRANDPARENT), &Demand::SetPrice { reseller: PARENT, product: LICENCE, cost: 2 });
    assert_eq!(provision(&mut scene), [(PARENT, 1), (GRANDPARENT, 1)]);
    change_tier_price_and_policy(&mut scene);
    for left in [[1, 1, 1], [1, 1, 2], [0, 0, 3]] {
        refund(&mut scene, Some(1));
        assert_eq!(balances(&scene), left);
    }
    let more = scene.ask(&platform(), None, &Demand::Refund { wallet: SELLER, provision: PROVISION, amount: Some(1) });
    assert!(more.outcome.is_err(), "nothing is left to refund");
}
