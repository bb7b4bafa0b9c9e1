//! `/products…` and `/platform…`: what is sold, and by which rules.

use aggregates::answer::ProductView;
use aggregates::platform::Policy;
use aggregates::primitives::ResellerId;
use projections::products::CatalogEntry;
use serde_json::json;

use crate::http::commands::EmptyBody;
use crate::http::commands::platform::set_policy;
use crate::http::commands::products::{self as write, PublishBody, ReviseBody};
use crate::http::describe::{Routes, command, query};
use crate::http::queries::platform::policy;
use crate::http::queries::products as read;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .about("products", "What can be provisioned, and what it costs whom.")
        .get(
            "/products",
            read::list,
            query("All products; a reseller is told what each costs it")
                .takes::<ResellerId>("reseller_id", "What each costs this reseller.")
                .pages::<CatalogEntry>("Products"),
        )
        .post(
            "/products",
            write::publish,
            command("Puts a product on sale")
                .sends::<PublishBody>(
                    json!({"sku": "pro-license", "name": "Pro License", "base_cost": 1000, "minimum_margin_percent": "5"}),
                )
                .creates::<ProductView>("Published")
                .refuses(&["already_exists"]),
        )
        .get("/products/{sku}", read::one, query("One product").shows::<ProductView>("The product"))
        .put(
            "/products/{sku}",
            write::revise,
            command("Revises a product, its base cost included")
                .sends::<ReviseBody>(json!({"name": "Pro License", "base_cost": 1100, "minimum_tier": "gold"}))
                .shows::<ProductView>("Revised")
                .refuses(&["invalid_transition"]),
        )
        .post(
            "/products/{sku}/retire",
            write::retire,
            command("Takes a product off sale, for good")
                .may_send::<EmptyBody>(json!({}))
                .shows::<ProductView>("Retired")
                .refuses(&["invalid_transition"]),
        )
        .about("platform", "The rules in force.")
        .get("/platform/policy", policy, query("The policy in force; for the operator's staff").shows::<Policy>("The policy"))
        .put(
            "/platform/policy",
            set_policy,
            command("Puts another policy in force, whole")
                .sends::<Policy>(json!(Policy::default()))
                .shows::<Policy>("In force from here on"),
        )
}
