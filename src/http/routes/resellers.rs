//! `/resellers…`: who is in the network, and the prices between them.

use aggregates::answer::{PriceView, ResellerView};
use aggregates::primitives::{Refid, ResellerStatus, Tier, UserId};
use serde_json::json;

use crate::http::commands::resellers::{self as write, PriceBody, RegisterBody, RenameBody, TierBody};
use crate::http::commands::{EmptyBody, ReasonBody};
use crate::http::describe::{Object, Routes, command, query};
use crate::http::queries::resellers as read;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .about("resellers", "Partners: the nodes of the network, each a tenant of its own.")
        .get(
            "/resellers",
            read::list,
            query("Resellers in sight, in the order of their registration")
                .takes::<UserId>("user_id", "Registered for this user.")
                .takes::<Refid>("refid", "With this public reference.")
                .takes::<Tier>("tier", "Of this tier.")
                .takes::<ResellerStatus>("status", "In this status.")
                .takes::<String>("q", "Whose company name holds this text.")
                .pages::<ResellerView>("Resellers"),
        )
        .post(
            "/resellers",
            write::register,
            command("Registers a reseller")
                .says(
                    "The platform's are active at once. A reseller registers children of its own, which stay pending until \
                     they are approved; `tier` and `referral_code` are the platform's to give.",
                )
                .sends::<RegisterBody>(json!({"user_id": "sarah", "company_name": "Elite Global Partners", "tier": "platinum"}))
                .creates::<ResellerView>("Registered")
                .refuses(&["already_exists", "reseller_inactive", "reseller_frozen", "referral_invalid", "limit_exceeded"]),
        )
        .get("/resellers/{id}", read::one, query("One reseller, now or as it was").takes_past().shows::<ResellerView>("The reseller"))
        .patch(
            "/resellers/{id}",
            write::rename,
            command("Renames a reseller")
                .sends::<RenameBody>(json!({"company_name": "Elite Partners International"}))
                .shows::<ResellerView>("Renamed"),
        )
        .post(
            "/resellers/{id}/approve",
            write::approve,
            command("Approves a pending reseller")
                .says("Pays the referral's bonus, where one is due, in the same commit. The platform's to do.")
                .may_send::<ReasonBody>(json!({"reason": "papers are in order"}))
                .shows::<ResellerView>("Approved")
                .refuses(&["invalid_transition", "already_exists", "overflow"]),
        )
        .post(
            "/resellers/{id}/deactivate",
            write::deactivate,
            command("Puts a reseller out of business")
                .may_send::<ReasonBody>(json!({"reason": "contract ended"}))
                .shows::<ResellerView>("Deactivated")
                .refuses(&["invalid_transition"]),
        )
        .post(
            "/resellers/{id}/reactivate",
            write::reactivate,
            command("Puts a deactivated reseller back in business")
                .may_send::<ReasonBody>(json!({"reason": "contract renewed"}))
                .shows::<ResellerView>("Reactivated")
                .refuses(&["invalid_transition"]),
        )
        .post(
            "/resellers/{id}/freeze",
            write::freeze,
            command("Freezes a reseller and all its downline")
                .says("By the platform or an upline. Every command decided after it sees it, on any node.")
                .may_send::<ReasonBody>(json!({"reason": "under investigation"}))
                .shows::<ResellerView>("Frozen")
                .refuses(&["reseller_inactive", "reseller_frozen"]),
        )
        .post(
            "/resellers/{id}/unfreeze",
            write::unfreeze,
            command("Lifts a freeze that the caller, or one below it, has laid")
                .may_send::<ReasonBody>(json!({"reason": "cleared"}))
                .shows::<ResellerView>("Lifted; it may still be frozen by another")
                .refuses(&["invalid_transition", "reseller_inactive", "reseller_frozen"]),
        )
        .put(
            "/resellers/{id}/tier",
            write::change_tier,
            command("Gives a reseller another tier")
                .sends::<TierBody>(json!({"tier": "gold", "reason": "a good year"}))
                .shows::<ResellerView>("Changed"),
        )
        .patch(
            "/resellers/{id}/metadata",
            write::update_metadata,
            command("Changes a reseller's metadata by a JSON merge patch (RFC 7386)")
                .sends::<Object>(json!({"region": "EMEA", "obsolete": null}))
                .shows::<ResellerView>("Changed")
                .refuses(&["limit_exceeded"]),
        )
        .get(
            "/resellers/{id}/prices",
            read::prices,
            query("The prices that a reseller's parent has set for it").pages::<PriceView>("Prices"),
        )
        .put(
            "/resellers/{id}/prices/{sku}",
            write::set_price,
            command("Sets the price of a product for a direct child")
                .says("At least the parent's own cost with the product's minimum margin, at most the policy's bound.")
                .sends::<PriceBody>(json!({"cost": 900}))
                .shows::<PriceView>("Set")
                .refuses(&["product_retired", "reseller_inactive", "limit_exceeded", "overflow"]),
        )
        .delete(
            "/resellers/{id}/prices/{sku}",
            write::clear_price,
            command("Clears the price of a product for a direct child")
                .may_send::<EmptyBody>(json!({}))
                .shows::<PriceView>("Cleared")
                .refuses(&["reseller_inactive"]),
        )
}
