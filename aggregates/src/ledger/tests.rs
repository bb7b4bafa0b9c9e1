//! The ledger's rules, told as short stories. What each rule is stands in its own file; that they hold together is shown here
//! by example, and by random histories against a naive model in the service's test suite.

use super::world::{World, amount, level, platform, sku, tenant};
use crate::answer::Answer;
use crate::command::{BulkItem, Command, PriceBasis};
use crate::platform::Policy;
use crate::primitives::{
    Actor, CreditSource, MAX_CREDITS, Percent, Quantity, Reference, ReferralCode, RequestId, RequestKind, ResellerId,
    ResellerStatus, Role, Text, Tier, TransferId, UserId,
};
use crate::reseller::SettingsPatch;
use crate::upline_request::Ask;

fn one_unit() -> PriceBasis {
    PriceBasis::Product { sku: sku(), quantity: Quantity::ONE }
}

#[test]
fn a_sale_below_two_uplines_pays_each_the_difference_and_the_platform_the_rest() {
    let mut world = World::new();
    let (grandparent, parent, seller) = world.line_of_three();
    world.publish(1000, Tier::Standard, 0);
    world.fund(seller, 1000);
    let sold = world.sell(seller).expect("sold");
    assert_eq!(sold.amount, 1000);
    assert_eq!(world.moved(), [(seller, -1000), (seller, 0), (parent, 150), (grandparent, 150)]);
}

#[test]
fn a_refund_reverses_commissions_to_the_credit_whatever_its_parts_and_whatever_changed_since() {
    for parts in [vec![500, 500], [vec![3; 333], vec![1]].concat(), vec![4; 250], vec![999, 1]] {
        let mut world = World::new();
        let (grandparent, parent, seller) = world.line_of_three();
        world.publish(1000, Tier::Standard, 0);
        world.fund(seller, 1000);
        let sold = world.sell(seller).expect("sold");
        world.ok(&platform(), Command::ChangeTier { reseller: parent, tier: Tier::Platinum, reason: None });
        world.ok(&platform(), Command::SetPolicy(Policy { commissions: false, ..Policy::default() }));
        for part in &parts {
            world.refund(seller, sold.provision_id, Some(*part)).expect("refunded");
        }
        assert_eq!([world.balance(seller), world.balance(parent), world.balance(grandparent)], [1000, 0, 0]);
        let no = world.refund(seller, sold.provision_id, Some(1)).expect_err("nothing is left");
        assert_eq!(no.code(), "not_refundable");
    }
}

#[test]
fn tiers_price_a_base_cost_of_1000_at_700_850_and_1000() {
    for (tier, cost) in [(Tier::Platinum, 700), (Tier::Gold, 850), (Tier::Standard, 1000)] {
        let mut world = World::new();
        let reseller = world.reseller(None, tier);
        world.fund(reseller, 5000);
        let sold = world.provision(&platform(), reseller, PriceBasis::BaseCost(level(1000))).expect("sold");
        assert_eq!(sold.unit_cost, cost);
    }
}

#[test]
fn a_reseller_does_not_name_its_own_price_unless_its_token_may() {
    let mut world = World::new();
    let reseller = world.reseller(None, Tier::Standard);
    world.fund(reseller, 1000);
    let no = world.provision(&tenant(reseller), reseller, PriceBasis::Cost(amount(1))).expect_err("refused");
    assert_eq!(no.code(), "declared_cost_not_allowed");
    let application = Actor { declared_cost: true, ..tenant(reseller) };
    assert_eq!(world.provision(&application, reseller, PriceBasis::Cost(amount(200))).expect("sold").balance, 800);
}

#[test]
fn a_parents_price_that_has_gone_stale_never_sells_below_the_parents_own_cost() {
    let mut world = World::new();
    let (_, parent, seller) = world.line_of_three();
    world.publish(1000, Tier::Standard, 10);
    world.fund(seller, 10_000);
    let set = |cost| Command::SetPrice { reseller: seller, sku: sku(), cost: level(cost) };
    assert_eq!(world.refused(&tenant(parent), set(934)), "limit_exceeded");
    assert_eq!(world.refused(&tenant(parent), set(2001)), "limit_exceeded");
    world.ok(&tenant(parent), set(935));
    assert_eq!(world.sell(seller).expect("sold").unit_cost, 935);
    world.ok(&platform(), Command::ChangeTier { reseller: parent, tier: Tier::Standard, reason: None });
    assert_eq!(world.sell(seller).expect("sold").unit_cost, 1100);
}

#[test]
fn provisioning_is_refused_in_the_documented_order() {
    let mut world = World::new();
    let parent = world.reseller(None, Tier::Standard);
    let child = world.reseller(Some(parent), Tier::Standard);
    world.publish(1000, Tier::Gold, 0);
    let code = |world: &mut World| world.sell(child).expect_err("refused").code();
    let hold = |held| Command::SetHold { wallet: child, held, reason: None };
    world.ok(&platform(), Command::Deactivate { reseller: child, reason: None });
    world.ok(&platform(), Command::Freeze { reseller: parent, reason: None });
    world.ok(&platform(), hold(true));
    assert_eq!(code(&mut world), "reseller_inactive");
    world.ok(&platform(), Command::Reactivate { reseller: child, reason: None });
    assert_eq!(code(&mut world), "reseller_frozen");
    world.ok(&platform(), Command::Unfreeze { reseller: parent, reason: None });
    assert_eq!(code(&mut world), "provisioning_held");
    world.ok(&platform(), hold(false));
    assert_eq!(code(&mut world), "tier_not_entitled");
    world.ok(&platform(), Command::ChangeTier { reseller: child, tier: Tier::Gold, reason: None });
    assert_eq!(code(&mut world), "insufficient_credits");
    world.fund(child, 850);
    assert_eq!(world.sell(child).expect("sold").balance, 0);
}

#[test]
fn credits_move_from_parent_to_child_and_back_only_where_the_child_allows_it() {
    let mut world = World::new();
    let (grandparent, parent, seller) = world.line_of_three();
    world.fund(grandparent, 100);
    let down = world.transfer(grandparent, parent, 60);
    world.ok(&tenant(grandparent), down);
    assert_eq!((world.balance(grandparent), world.balance(parent)), (40, 60));
    let skipping = world.transfer(grandparent, seller, 1);
    assert_eq!(world.refused(&tenant(grandparent), skipping), "forbidden");
    let up_by_child = world.transfer(parent, grandparent, 1);
    assert_eq!(world.refused(&tenant(parent), up_by_child), "not_found");
    let back = world.transfer(parent, grandparent, 60);
    assert_eq!(world.refused(&tenant(grandparent), back.clone()), "forbidden");
    let allow = SettingsPatch { allow_withdraw: Some(true), ..SettingsPatch::default() };
    let allow = Command::ChangeSettings { reseller: parent, patch: allow, threshold: None };
    assert_eq!(world.refused(&platform(), allow.clone()), "forbidden");
    world.ok(&tenant(parent), allow);
    world.ok(&tenant(grandparent), back);
    assert_eq!((world.balance(grandparent), world.balance(parent)), (100, 0));
}

#[test]
fn a_purchase_reference_is_credited_once_in_the_whole_ledger() {
    let mut world = World::new();
    let (first, second) = (world.reseller(None, Tier::Standard), world.reseller(None, Tier::Standard));
    let payments =
        Actor { id: UserId::new("payments").expect("user"), role: Role::Payments, tenant: None, declared_cost: false };
    let buy = |wallet, credits| Command::AddCredits {
        wallet,
        amount: amount(credits),
        source: CreditSource::Purchase,
        reference: Some(Reference::new("inv-1").expect("reference")),
        note: None,
    };
    let answer = world.ok(&payments, buy(first, 500));
    assert_eq!(world.ok(&payments, buy(first, 500)), answer);
    assert_eq!(world.balance(first), 500);
    assert_eq!(world.refused(&payments, buy(first, 501)), "duplicate_reference");
    assert_eq!(world.refused(&payments, buy(second, 500)), "duplicate_reference");
    assert_eq!(world.refused(&platform(), buy(first, 500)), "duplicate_reference");
}

#[test]
fn credits_issued_and_credit_limits_together_never_pass_what_json_keeps_exact() {
    let mut world = World::new();
    let reseller = world.reseller(None, Tier::Standard);
    world.fund(reseller, MAX_CREDITS - 10);
    let limit = |credits| Command::SetCreditLimit { wallet: reseller, credit_limit: level(credits) };
    assert_eq!(world.refused(&platform(), limit(11)), "overflow");
    world.ok(&platform(), limit(10));
    let add = Command::AddCredits {
        wallet: reseller,
        amount: amount(1),
        source: CreditSource::Bonus,
        reference: None,
        note: None,
    };
    assert_eq!(world.refused(&platform(), add.clone()), "overflow");
    world.ok(&platform(), limit(0));
    world.ok(&platform(), add);
}

#[test]
fn a_freeze_belongs_to_its_authority_and_stands_over_whatever_is_below() {
    let mut world = World::new();
    let (grandparent, parent, seller) = world.line_of_three();
    let freeze = |reseller| Command::Freeze { reseller, reason: None };
    let unfreeze = |reseller| Command::Unfreeze { reseller, reason: None };
    assert_eq!(world.refused(&tenant(parent), freeze(parent)), "forbidden");
    assert_eq!(world.refused(&tenant(seller), freeze(parent)), "not_found");
    world.ok(&tenant(grandparent), freeze(parent));
    world.ok(&platform(), freeze(parent));
    assert_eq!(world.refused(&tenant(parent), freeze(seller)), "reseller_frozen");
    world.ok(&tenant(grandparent), unfreeze(parent));
    assert_eq!(world.kinds(), ["SubtreeUnfrozen"]);
    assert_eq!(world.refused(&tenant(grandparent), unfreeze(parent)), "forbidden");
    world.ok(&platform(), unfreeze(parent));
    assert_eq!(world.refused(&platform(), unfreeze(parent)), "invalid_transition");
    assert!(world.ledger.network().freezes_over(seller).next().is_none());
}

#[test]
fn what_an_upline_registers_neither_reveals_nor_squats_a_user() {
    let mut world = World::new();
    let parent = world.reseller(None, Tier::Standard);
    let register = |world: &mut World, actor: &Actor, parent| {
        let reseller = ResellerId(world.id());
        let command = Command::Register {
            reseller,
            refid: crate::primitives::Refid::new(format!("RS-{reseller}")).expect("refid"),
            user_id: UserId::new("ben").expect("user"),
            company_name: crate::primitives::CompanyName::new("Ben").expect("name"),
            parent,
            referral_code: None,
            tier: None,
            metadata: serde_json::Map::new(),
        };
        world.send(actor, command).map(|_| reseller)
    };
    let squatter = register(&mut world, &tenant(parent), None).expect("pending");
    assert_eq!(world.ledger.network().get(squatter).expect("node").status, ResellerStatus::Pending);
    register(&mut world, &platform(), None).expect("the user is free until somebody is approved with it");
    register(&mut world, &tenant(parent), None).expect("looks as if the user were free");
    assert_eq!(world.refused(&platform(), Command::Approve { reseller: squatter }), "already_exists");
}

#[test]
fn a_reseller_gives_no_tier_to_its_child_and_none_to_itself_by_a_request_it_approves() {
    let mut world = World::new();
    let (grandparent, parent, _) = world.line_of_three();
    let no = world.register(&tenant(parent), None, Some(Tier::Platinum)).expect_err("refused");
    assert_eq!(no.code(), "forbidden");
    let request = RequestId(world.id());
    let ask = Ask::TierUpgrade { tier: Tier::Platinum };
    world.ok(&tenant(parent), Command::RaiseRequest { request, requester: parent, ask });
    assert_eq!(world.kinds(), ["UplineRequestRaised", "UplineRequestForwarded"]);
    let approve = Command::ApproveRequest {
        request,
        transfer_id: TransferId(world.id()),
        code: ReferralCode::new("CODE").expect("code"),
        note: None,
    };
    assert_eq!(world.refused(&tenant(parent), approve.clone()), "forbidden");
    assert_eq!(world.refused(&tenant(grandparent), approve.clone()), "forbidden");
    world.ok(&platform(), approve);
    assert_eq!(world.kinds(), ["UplineRequestCompleted", "TierChanged"]);
}

#[test]
fn a_top_up_that_cannot_be_paid_leaves_the_request_pending() {
    let mut world = World::new();
    let (_, parent, seller) = world.line_of_three();
    let request = RequestId(world.id());
    let ask = Ask::CreditTopup { amount: amount(100) };
    world.ok(&tenant(seller), Command::RaiseRequest { request, requester: seller, ask });
    let approve = Command::ApproveRequest {
        request,
        transfer_id: TransferId(world.id()),
        code: ReferralCode::new("CODE").expect("code"),
        note: None,
    };
    assert_eq!(world.refused(&tenant(parent), approve.clone()), "insufficient_credits");
    world.fund(parent, 100);
    world.ok(&platform(), Command::Freeze { reseller: parent, reason: None });
    assert_eq!(world.refused(&tenant(parent), approve.clone()), "reseller_frozen");
    world.ok(&platform(), Command::Unfreeze { reseller: parent, reason: None });
    world.ok(&tenant(parent), approve);
    assert_eq!((world.balance(parent), world.balance(seller)), (0, 100));
}

fn approve(world: &mut World, request: RequestId) -> Command {
    let transfer_id = TransferId(world.id());
    Command::ApproveRequest { request, transfer_id, code: ReferralCode::new("CODE").expect("code"), note: None }
}

fn auto_forward(world: &mut World, reseller: ResellerId, kind: RequestKind) {
    let patch = SettingsPatch { auto_forward: [(kind, true)].into(), ..SettingsPatch::default() };
    world.ok(&tenant(reseller), Command::ChangeSettings { reseller, patch, threshold: None });
}

#[test]
fn a_request_passes_through_all_who_forward_its_kind_and_rests_with_the_first_who_does_not() {
    let mut world = World::new();
    let (top, parent, seller) = world.line_of_three();
    let ask = Ask::CreditTopup { amount: amount(100) };
    auto_forward(&mut world, parent, RequestKind::CreditTopup);
    let request = RequestId(world.id());
    world.ok(&tenant(seller), Command::RaiseRequest { request, requester: seller, ask: ask.clone() });
    assert_eq!(world.kinds(), ["UplineRequestRaised", "UplineRequestForwarded"]);
    assert_eq!(world.refused(&tenant(parent), Command::ForwardRequest { request }), "forbidden");
    // Passed on by hand it goes on by itself, and ends at the platform.
    world.ok(&tenant(top), Command::ForwardRequest { request });
    assert_eq!(world.refused(&platform(), Command::ForwardRequest { request }), "invalid_transition");

    auto_forward(&mut world, top, RequestKind::CreditTopup);
    let request = RequestId(world.id());
    world.ok(&tenant(seller), Command::RaiseRequest { request, requester: seller, ask });
    assert_eq!(world.kinds(), ["UplineRequestRaised", "UplineRequestForwarded", "UplineRequestForwarded"]);
    assert_eq!(world.refused(&tenant(top), Command::RejectRequest { request, reason: None }), "forbidden");
    let approve = approve(&mut world, request);
    world.ok(&platform(), approve);
    assert_eq!(world.kinds(), ["UplineRequestCompleted", "CreditsAdded"]);
    assert_eq!((world.balance(top), world.balance(parent), world.balance(seller)), (0, 0, 100));
}

#[test]
fn a_price_change_is_the_direct_parents_alone_whatever_it_forwards() {
    let mut world = World::new();
    let (top, parent, seller) = world.line_of_three();
    world.publish(500, Tier::Standard, 0);
    auto_forward(&mut world, parent, RequestKind::PriceChange);
    let request = RequestId(world.id());
    let ask = Ask::PriceChange { sku: sku(), cost: level(600) };
    world.ok(&tenant(seller), Command::RaiseRequest { request, requester: seller, ask });
    assert_eq!(world.kinds(), ["UplineRequestRaised"]);
    assert_eq!(world.refused(&tenant(parent), Command::ForwardRequest { request }), "forbidden");
    let approve = approve(&mut world, request);
    assert_eq!(world.refused(&tenant(top), approve.clone()), "not_found");
    assert_eq!(world.refused(&platform(), approve.clone()), "forbidden");
    world.ok(&tenant(parent), approve);
    assert_eq!(world.kinds(), ["UplineRequestCompleted", "PriceSet"]);
}

#[test]
fn an_upline_that_was_not_asked_sees_no_request() {
    let mut world = World::new();
    let (top, parent, seller) = world.line_of_three();
    let request = RequestId(world.id());
    let ask = Ask::Generic { subject: Text::new("a").expect("text"), body: Text::new("b").expect("text") };
    world.ok(&tenant(seller), Command::RaiseRequest { request, requester: seller, ask });
    let reject = Command::RejectRequest { request, reason: None };
    assert_eq!(world.refused(&tenant(top), reject.clone()), "not_found");
    assert_eq!(world.refused(&tenant(seller), reject.clone()), "forbidden");
    assert_eq!(world.refused(&tenant(parent), Command::CancelRequest { request }), "forbidden");
    world.ok(&tenant(parent), Command::ForwardRequest { request });
    assert_eq!(world.refused(&tenant(parent), reject.clone()), "forbidden");
    world.ok(&tenant(top), reject);
}

#[test]
fn a_request_fails_only_when_its_requester_has_gone() {
    let mut world = World::new();
    let (_, parent, seller) = world.line_of_three();
    let request = RequestId(world.id());
    let ask = Ask::CreditTopup { amount: amount(100) };
    world.ok(&tenant(seller), Command::RaiseRequest { request, requester: seller, ask });
    let policy = Actor { role: Role::System, ..platform() };
    let fail = Command::FailRequest { request };
    assert_eq!(world.refused(&policy, fail.clone()), "invalid_transition");
    world.ok(&platform(), Command::Deactivate { reseller: seller, reason: None });
    assert_eq!(world.refused(&tenant(parent), fail.clone()), "forbidden");
    world.ok(&policy, fail.clone());
    assert_eq!(world.kinds(), ["UplineRequestFailed"]);
    assert_eq!(world.refused(&policy, fail), "invalid_transition");
    assert_eq!(world.refused(&policy, Command::FailRequest { request: RequestId(seller.0) }), "not_found");
}

#[test]
fn an_atomic_bulk_is_judged_by_its_total_first_and_does_nothing_when_refused() {
    let mut world = World::new();
    let reseller = world.reseller(None, Tier::Standard);
    world.publish(500, Tier::Standard, 0);
    world.fund(reseller, 1499);
    let bulk = |world: &mut World, atomic| {
        let items = (0..3).map(|_| BulkItem { order: world.order(one_unit()), idempotency: None }).collect();
        Command::ProvisionBulk { wallet: reseller, atomic, items }
    };
    let atomic = bulk(&mut world, true);
    let refusal = world.send(&tenant(reseller), atomic).expect_err("refused");
    assert_eq!(
        refusal,
        super::world::No::Refused(crate::rejection::Rejection::InsufficientCredits {
            required: 1500,
            available: 1499,
            balance: 1499,
            reserved: 0
        })
    );
    let each = bulk(&mut world, false);
    let Answer::Bulk(answer) = world.ok(&tenant(reseller), each) else { panic!("a bulk answer") };
    assert_eq!((answer.accepted, answer.refused, world.balance(reseller)), (2, 1, 499));
}

#[test]
fn a_margin_prices_the_children_for_whom_no_price_is_set() {
    let mut world = World::new();
    let (_, parent, seller) = world.line_of_three();
    world.publish(999, Tier::Standard, 0);
    world.fund(seller, 5000);
    let patch =
        SettingsPatch { margin_percent: Some(Some(Percent::whole(10).expect("percent"))), ..SettingsPatch::default() };
    world.ok(&tenant(parent), Command::ChangeSettings { reseller: parent, patch, threshold: None });
    // Gold pays round(999 × 0.85) = 849; ⌈849 × 1.1⌉ = 934.
    assert_eq!(world.sell(seller).expect("sold").unit_cost, 934);
}

#[test]
fn a_freeze_over_ten_thousand_resellers_is_one_event_and_the_very_next_command_of_each_obeys_it() {
    let mut world = World::new();
    world.publish(0, Tier::Standard, 0);
    let root = world.reseller(None, Tier::Standard);
    let mut downline = vec![root];
    for number in 0..10_000_usize {
        // A tree some thirteen levels deep.
        let parent = downline[number / 2];
        downline.push(world.reseller(Some(parent), Tier::Standard));
    }
    world.ok(&platform(), Command::Freeze { reseller: root, reason: None });
    assert_eq!(world.kinds(), ["SubtreeFrozen"]);
    for reseller in &downline {
        assert_eq!(world.sell(*reseller).expect_err("frozen").code(), "reseller_frozen");
    }
    world.ok(&platform(), Command::Unfreeze { reseller: root, reason: None });
    for reseller in &downline {
        world.sell(*reseller).expect("a product that costs nothing is sold again");
    }
}

#[test]
fn a_threshold_is_judged_by_the_settings_that_come_with_it() {
    let settings = |reseller, hold, threshold: Option<i64>| {
        let patch = SettingsPatch { hold_on_low_credit: Some(hold), ..SettingsPatch::default() };
        Command::ChangeSettings { reseller, patch, threshold: threshold.map(level) }
    };
    let mut world = World::new();
    let reseller = world.reseller(None, Tier::Standard);
    world.fund(reseller, 10_000);
    world.ok(&tenant(reseller), settings(reseller, true, Some(20_000)));
    assert_eq!(world.kinds(), ["SettingsChanged", "LowCreditThresholdSet", "LowCredit", "ProvisioningHeld"]);

    // Switching it off lifts nothing that lies, and what becomes low in the same command is not held.
    world.ok(&tenant(reseller), settings(reseller, false, None));
    assert_eq!(world.kinds(), ["SettingsChanged"]);
    world.fund(reseller, 10_000);
    world.ok(&tenant(reseller), settings(reseller, true, None));
    world.ok(&tenant(reseller), settings(reseller, false, Some(30_000)));
    assert_eq!(world.kinds(), ["SettingsChanged", "LowCreditThresholdSet", "LowCredit"]);

    // Nor does switching it on hold what is low already.
    world.ok(&tenant(reseller), settings(reseller, true, None));
    assert_eq!(world.kinds(), ["SettingsChanged"]);
}

#[test]
fn no_wallet_passes_what_can_be_held_exactly_even_by_a_refund_of_what_was_passed_on() {
    let mut world = World::new();
    let parent = world.reseller(None, Tier::Gold);
    let seller = world.reseller(Some(parent), Tier::Standard);
    world.publish(MAX_CREDITS, Tier::Standard, 0);
    world.fund(seller, MAX_CREDITS);
    let sold = world.sell(seller).expect("sold");
    let earned = world.balance(parent);
    assert!(earned > 0);
    let down = world.transfer(parent, seller, earned);
    world.ok(&tenant(parent), down);
    let position = world.ledger.position();
    let no = world.refund(seller, sold.provision_id, None).expect_err("the seller would hold more than there is");
    assert_eq!(no.code(), "overflow");
    assert_eq!((world.ledger.position(), world.balance(seller), world.balance(parent)), (position, earned, 0));
    // What fits comes back, with its part of the commission.
    world.refund(seller, sold.provision_id, Some(MAX_CREDITS - earned)).expect("refunded");
    assert_eq!(world.balance(seller), MAX_CREDITS);
    assert!(world.balance(parent) < 0);
}
