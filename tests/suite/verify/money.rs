//! Amounts that were changed with balances and chain recomputed, and things that the rules would have refused: what only the
//! invariant at hand can tell.

use serde_json::{Value, json};
use uuid::Uuid;

use super::history::{BOTTOM, DEBTOR, MIDDLE, PROVISION, TOP};
use super::tampered::{Tampered, assert_caught, check, violated};
use crate::common::log::reseller;

#[tokio::test]
async fn a_changed_transfer_is_caught_although_balances_and_chain_are_recomputed() {
    let copy = Tampered::new().await;
    let at = copy.find("CreditsTransferredIn", Some(MIDDLE));
    copy.edit(at, |event| event["amount"] = 5_000.into());
    assert_caught(&copy.verify(), "I2", at, "balance");
    copy.recompute_balances(MIDDLE);
    copy.recompute_chain();
    let report = copy.verify();
    assert_caught(&report, "I4", at, "clearing");
    assert_caught(&report, "I5", at - 1, "CreditsTransferredIn");
    assert_eq!(check(&report, "I2").violations + check(&report, "I8").violations, 0);
}

#[tokio::test]
async fn a_changed_commission_is_caught_although_balances_and_chain_are_recomputed() {
    let copy = Tampered::new().await;
    let at = copy.find("CommissionEarned", Some(TOP));
    copy.edit(at, |event| event["amount"] = 1_500.into());
    copy.recompute_balances(TOP);
    copy.recompute_chain();
    let report = copy.verify();
    let first = check(&report, "I5").first.as_ref().unwrap();
    assert!(first.what.contains("CommissionEarned"), "{first:?}");
    assert_eq!(check(&report, "I2").violations + check(&report, "I8").violations, 0);
}

#[tokio::test]
async fn a_reversal_that_leaves_a_credit_behind_is_caught() {
    let copy = Tampered::new().await;
    let at = copy.find("CommissionReversed", Some(MIDDLE));
    copy.edit(at, |event| event["amount"] = (event["amount"].as_i64().unwrap() - 1).into());
    copy.recompute_balances(MIDDLE);
    copy.recompute_chain();
    let report = copy.verify();
    assert!(check(&report, "I5").first.as_ref().unwrap().what.contains("CommissionReversed"));
}

#[tokio::test]
async fn a_refund_of_more_than_was_paid_is_caught() {
    let copy = Tampered::new().await;
    let payload = json!({"refund_id": Uuid::from_u128(802), "provision_id": Uuid::from_u128(PROVISION), "amount": 5_000,
        "refunded_total": 5_334, "balance": copy.balance(BOTTOM) + 5_000, "reserved": 0});
    let at = copy.append("Wallet", reseller(BOTTOM), "ProvisionRefunded", &payload, "super_admin");
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I5", at, "refund of provision");
}

#[tokio::test]
async fn a_reseller_that_took_another_below_zero_is_caught_and_the_platform_is_not() {
    let copy = Tampered::new().await;
    let payload = json!({"amount": 1, "kind": "correction", "balance": copy.balance(DEBTOR) - 1, "reserved": 0});
    copy.append("Wallet", reseller(DEBTOR), "CreditsRemoved", &payload, "super_admin");
    let payload = json!({"amount": 1, "kind": "correction", "balance": copy.balance(DEBTOR) - 1, "reserved": 0});
    let at = copy.append("Wallet", reseller(DEBTOR), "CreditsRemoved", &payload, "reseller");
    copy.recompute_chain();
    let report = copy.verify();
    assert_caught(&report, "I3", at, "CreditsRemoved");
    assert_eq!(check(&report, "I3").violations, 1);
}

/// A provision that nobody priced: what it costs is named in it.
pub fn forged_provision(id: u128, cost: i64, balance: i64) -> Value {
    json!({"provision": {"provision_id": Uuid::from_u128(id), "amount": cost, "unit_cost": cost, "price_source": "declared",
        "quantity": 1}, "balance": balance, "reserved": 0})
}

#[tokio::test]
async fn a_provision_beyond_the_credit_limit_is_caught() {
    let copy = Tampered::new().await;
    let (balance, limit) = (copy.balance(MIDDLE), 250);
    let all = forged_provision(1, balance + limit, -limit);
    copy.append("Wallet", reseller(MIDDLE), "Provisioned", &all, "reseller");
    let at = copy.append("Wallet", reseller(MIDDLE), "Provisioned", &forged_provision(2, 1, -limit - 1), "reseller");
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I3", at, "available");
}

#[tokio::test]
async fn a_provision_under_a_freeze_is_caught() {
    let copy = Tampered::new().await;
    let freeze = json!({"authority": "platform", "reason": null});
    copy.append("Reseller", reseller(TOP), "SubtreeFrozen", &freeze, "super_admin");
    let provision = forged_provision(1, 1, copy.balance(BOTTOM) - 1);
    let at = copy.append("Wallet", reseller(BOTTOM), "Provisioned", &provision, "reseller");
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I6", at, &format!("Provisioned of reseller {}", reseller(BOTTOM)));
}

#[tokio::test]
async fn a_second_credit_for_one_reference_is_caught() {
    let copy = Tampered::new().await;
    let payload = json!({"transaction_id": Uuid::from_u128(1), "amount": 10_000, "source": "purchase",
        "reference": "INV-1", "balance": copy.balance(MIDDLE) + 10_000, "reserved": 0});
    let at = copy.append("Wallet", reseller(MIDDLE), "CreditsAdded", &payload, "payments");
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I7", at, "INV-1");
}

#[tokio::test]
async fn a_command_in_two_commits_is_caught() {
    let copy = Tampered::new().await;
    let at =
        copy.append("Reseller", reseller(TOP), "ResellerRenamed", &json!({"company_name": "Other"}), "super_admin");
    let columns = "metadata = (select metadata from events where position = 2), actor = 'ops', \
                   command_id = (select command_id from events where position = 2)";
    copy.sql(&format!("update events set {columns} where position = {at}"));
    copy.recompute_chain();
    assert_caught(&copy.verify(), "I7", at, "events of command");
}

#[tokio::test]
async fn a_receipt_for_something_that_never_happened_is_caught() {
    let copy = Tampered::new().await;
    copy.sql(&format!(
        "update receipts set answer = replace(answer, '{}', '{}')",
        Uuid::from_u128(PROVISION + 2),
        Uuid::nil()
    ));
    let report = copy.verify();
    assert_eq!(violated(&report), ["I7"]);
    assert!(check(&report, "I7").first.as_ref().unwrap().what.contains("receipt 0707"));
}
