//! `/wallets…`: prepaid credits, what they are spent on, and what something would cost.

use aggregates::answer::{CreditAnswer, ProvisionAnswer, QuoteView, RefundAnswer, TransferAnswer, WalletView};
use aggregates::primitives::{ClientId, Level, Quantity, Sku};
use projections::provisions::{ProvisionView, TransferView};
use projections::statement_lines::{TransactionKind, TransactionView};
use serde_json::json;

use crate::http::answer::BulkAnswerBody;
use crate::http::commands::EmptyBody;
use crate::http::commands::provisions::{BulkBody, ProvisionBody};
use crate::http::commands::wallets::{
    self as write, CreditLimitBody, CreditsBody, HoldBody, RefundBody, RemoveBody, ThresholdBody, TransferBody,
};
use crate::http::describe::{Routes, command, query};
use crate::http::queries::wallets as read;

/// What may keep a reseller from spending.
const SPENDING: &[&str] = &[
    "reseller_inactive",
    "reseller_frozen",
    "provisioning_held",
    "client_inactive",
    "product_retired",
    "tier_not_entitled",
    "declared_cost_not_allowed",
    "insufficient_credits",
    "limit_exceeded",
    "overflow",
];

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .about("wallets", "Prepaid credits: one wallet a reseller, under the reseller's id.")
        .get(
            "/wallets/{reseller_id}",
            read::one,
            query("A wallet, now or as it was")
                .takes_past()
                .shows::<WalletView>("The wallet"),
        )
        .post(
            "/wallets/{reseller_id}",
            write::open,
            command("Opens a wallet, where the policy does not open one at registration")
                .may_send::<EmptyBody>(json!({}))
                .creates::<WalletView>("Opened")
                .refuses(&["already_exists"]),
        )
        .get(
            "/wallets/{reseller_id}/transactions",
            read::transactions,
            query("A wallet's statement, newest first")
                .takes::<TransactionKind>("kind", "Of this kind.")
                .takes_range()
                .takes::<ClientId>("client_id", "Spent for this client.")
                .pages::<TransactionView>("Statement lines"),
        )
        .get(
            "/wallets/{reseller_id}/quote",
            read::quote,
            query("What something would cost the reseller now (calculateTierCost)")
                .says("Name a `base_cost`, or a `sku`.")
                .takes::<Level>("base_cost", "A base cost to apply the reseller's discount to.")
                .takes::<Sku>("sku", "A product.")
                .takes::<Quantity>("quantity", "How many units.")
                .shows::<QuoteView>("The cost")
                .refuses(&["overflow"]),
        )
        .post(
            "/wallets/{reseller_id}/credits",
            write::add_credits,
            command("Adds credits")
                .says(
                    "By the platform or its payment system. A purchase's reference is taken once in the whole ledger; without \
                     one an Idempotency-Key is needed.",
                )
                .sends::<CreditsBody>(json!({"amount": 50_000, "source": "purchase", "reference": "INV-2026-0042"}))
                .creates::<CreditAnswer>("Added")
                .refuses(&["duplicate_reference", "idempotency_required", "overflow"]),
        )
        .post(
            "/wallets/{reseller_id}/credits/remove",
            write::remove_credits,
            command("Removes credits: a chargeback or a correction")
                .sends::<RemoveBody>(json!({"amount": 100, "kind": "correction", "reason": "booked twice"}))
                .creates::<CreditAnswer>("Removed; the balance may be below zero")
                .refuses(&["idempotency_required", "overflow", "limit_exceeded"]),
        )
        .get(
            "/wallets/{reseller_id}/provisions",
            read::provisions,
            query("A wallet's provisions, newest first").pages::<ProvisionView>("Provisions"),
        )
        .post(
            "/wallets/{reseller_id}/provisions",
            write::provision,
            command("Spends credits on a service")
                .says("Name one of `sku` (with `quantity`), `cost`, `base_cost`; the latter two are not for everybody.")
                .sends::<ProvisionBody>(json!({"sku": "pro-license", "quantity": 2, "description": "Issue Pro License"}))
                .creates::<ProvisionAnswer>("Provisioned")
                .refuses(SPENDING),
        )
        .post(
            "/wallets/{reseller_id}/provisions/bulk",
            write::provision_bulk,
            command("Many provisions in one request")
                .says(
                    "Atomic: all or none; the first refusal is answered, with its `index`. Else item by item, each with a \
                     status of its own.",
                )
                .sends::<BulkBody>(json!({"atomic": true, "items": [{"sku": "pro-license"}, {"base_cost": 1000}]}))
                .shows::<BulkAnswerBody<'static>>("What became of each")
                .refuses(SPENDING),
        )
        .get(
            "/wallets/{reseller_id}/provisions/{provision_id}",
            read::provision,
            query("One provision, with its refunds").shows::<ProvisionView>("The provision"),
        )
        .post(
            "/wallets/{reseller_id}/provisions/{provision_id}/refunds",
            write::refund,
            command("Refunds a provision, or a part of it")
                .says("Without an amount, what is left. Commissions are reversed in proportion.")
                .may_send::<RefundBody>(json!({"amount": 400, "reason": "cancelled"}))
                .creates::<RefundAnswer>("Refunded")
                .refuses(&["limit_exceeded", "overflow"]),
        )
        .post(
            "/wallets/{reseller_id}/transfers",
            write::transfer,
            command("Sends credits to a direct child, or takes them back from it")
                .sends::<TransferBody>(
                    json!({"to": "0190d3a0-7c1e-7b60-8f00-3d0f6c8e2a12", "amount": 500, "note": "for November"}),
                )
                .creates::<TransferAnswer>("Sent; the balances are the sender's")
                .refuses(&["idempotency_required", "reseller_inactive", "reseller_frozen", "insufficient_credits", "overflow"]),
        )
        .get(
            "/wallets/{reseller_id}/transfers/{transfer_id}",
            read::transfer,
            query("One transfer that the wallet sent or received").shows::<TransferView>("The transfer"),
        )
        .put(
            "/wallets/{reseller_id}/threshold",
            write::set_threshold,
            command("Sets the balance below which a wallet is low")
                .sends::<ThresholdBody>(json!({"threshold": 1000}))
                .shows::<WalletView>("Set")
                .refuses(&["limit_exceeded"]),
        )
        .put(
            "/wallets/{reseller_id}/credit-limit",
            write::set_credit_limit,
            command("Sets how far below zero provisions may take a wallet")
                .sends::<CreditLimitBody>(json!({"credit_limit": 5000}))
                .shows::<WalletView>("Set")
                .refuses(&["overflow"]),
        )
        .put(
            "/wallets/{reseller_id}/hold",
            write::set_hold,
            command("Holds provisioning, or lets it go on")
                .sends::<HoldBody>(json!({"held": true, "reason": "an invoice is due"}))
                .shows::<WalletView>("Held, or not")
                .refuses(&["invalid_transition", "reseller_inactive"]),
        )
}
