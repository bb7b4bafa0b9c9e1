//! The HTTP API: API.md as code. This file is its table of contents.
//!
//! A command goes extract → parse → [`crate::engine::Engine::submit`] → answer; a query goes extract → scope → read models.
//! The two sides share nothing but the conventions (tokens, problem documents, `Tallytree-Position`). Layering: [`commands`]
//! see the engine and access; `queries` see projections and access.

mod answer;
mod commands;
mod error;
mod extract;
mod operations;
mod parameters;
mod patience;
mod queries;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, patch, post, put};

use projections::ReadPool;
use tower_http::trace::TraceLayer;

pub(crate) use patience::Patient;

use crate::access::Access;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::feed::Feed;
use crate::fresh;
use crate::projector::Projector;
use commands::{clients, platform, products, requests, resellers, wallets};
use queries as read;

/// What every handler works with.
#[derive(Debug)]
pub struct Service {
    /// Takes commands.
    pub engine: Engine,
    /// Knows who asks.
    pub access: Access,
    /// What time it is.
    pub clock: Clock,
    /// Answers queries.
    pub views: ReadPool,
    /// Keeps what answers them up to date.
    pub projector: Projector,
    /// Tells those who listen what happens.
    pub feed: Feed,
}

/// One service, shared by all requests.
pub(crate) type Shared = Arc<Service>;

/// Every path there is.
pub fn router(service: Arc<Service>) -> Router {
    let manual_clock = matches!(service.clock, Clock::Manual(_));
    let mut router = Router::new()
        .route("/resellers", get(read::resellers::list).post(resellers::register))
        .route("/resellers/{id}", get(read::resellers::one).patch(resellers::rename))
        .route("/resellers/{id}/approve", post(resellers::approve))
        .route("/resellers/{id}/deactivate", post(resellers::deactivate))
        .route("/resellers/{id}/reactivate", post(resellers::reactivate))
        .route("/resellers/{id}/freeze", post(resellers::freeze))
        .route("/resellers/{id}/unfreeze", post(resellers::unfreeze))
        .route("/resellers/{id}/tier", put(resellers::change_tier))
        .route("/resellers/{id}/metadata", patch(resellers::update_metadata))
        .route("/resellers/{id}/prices", get(read::resellers::prices))
        .route("/resellers/{id}/prices/{sku}", put(resellers::set_price).delete(resellers::clear_price))
        .route("/wallets/{reseller_id}", get(read::wallets::one).post(wallets::open))
        .route("/wallets/{reseller_id}/transactions", get(read::wallets::transactions))
        .route("/wallets/{reseller_id}/quote", get(read::wallets::quote))
        .route("/wallets/{reseller_id}/credits", post(wallets::add_credits))
        .route("/wallets/{reseller_id}/credits/remove", post(wallets::remove_credits))
        .route("/wallets/{reseller_id}/provisions", get(read::wallets::provisions).post(wallets::provision))
        .route("/wallets/{reseller_id}/provisions/bulk", post(wallets::provision_bulk))
        .route("/wallets/{reseller_id}/provisions/{provision_id}", get(read::wallets::provision))
        .route("/wallets/{reseller_id}/provisions/{provision_id}/refunds", post(wallets::refund))
        .route("/wallets/{reseller_id}/transfers", post(wallets::transfer))
        .route("/wallets/{reseller_id}/transfers/{transfer_id}", get(read::wallets::transfer))
        .route("/wallets/{reseller_id}/threshold", put(wallets::set_threshold))
        .route("/wallets/{reseller_id}/credit-limit", put(wallets::set_credit_limit))
        .route("/wallets/{reseller_id}/hold", put(wallets::set_hold))
        .route("/clients", get(read::clients::list).post(clients::onboard))
        .route("/clients/{id}", get(read::clients::one).patch(clients::change))
        .route("/clients/{id}/activate", post(clients::activate))
        .route("/clients/{id}/suspend", post(clients::suspend))
        .route("/clients/{id}/deactivate", post(clients::deactivate))
        .route("/clients/{id}/reassign", post(clients::reassign))
        .route("/clients/{id}/forget", post(clients::forget))
        .route("/products", get(read::products::list).post(products::publish))
        .route("/products/{sku}", get(read::products::one).put(products::revise))
        .route("/products/{sku}/retire", post(products::retire))
        .route("/platform/policy", get(read::platform::policy).put(platform::set_policy))
        .route("/reseller-network/dashboard", get(read::network::dashboard))
        .route("/reseller-network/activity", get(read::activity::feed))
        .route("/reseller-network/downline/tree", get(read::network::tree))
        .route("/reseller-network/downline/performance", get(read::network::performance))
        .route("/reseller-network/downline/health", get(read::network::health))
        .route("/reseller-network/downline/{id}", get(read::network::child))
        .route("/reseller-network/referrals", get(read::referrals::list).post(requests::ask_for_referral_code))
        .route("/reseller-network/referrals/{code}", delete(requests::revoke_referral_code))
        .route("/reseller-network/settings", get(read::network::settings).put(requests::change_settings))
        .route("/reseller-network/upline/request", post(requests::raise))
        .route("/reseller-network/upline/requests", get(read::requests::list))
        .route("/reseller-network/upline/request/{id}", get(read::requests::one))
        .route("/reseller-network/upline/request/{id}/approve", post(requests::approve))
        .route("/reseller-network/upline/request/{id}/reject", post(requests::reject))
        .route("/reseller-network/upline/request/{id}/cancel", post(requests::cancel))
        .route("/reseller-network/upline/request/{id}/forward", post(requests::forward))
        .route("/analytics/top-resellers", get(read::analytics::top_resellers))
        .route("/analytics/tier-snapshot", get(read::analytics::tier_snapshot))
        .route("/analytics/credit-trends", get(read::analytics::credit_trends))
        .route("/analytics/credits-outstanding", get(read::analytics::credits_outstanding))
        .route("/analytics/resellers/{id}/stats", get(read::analytics::reseller_stats))
        .route("/analytics/balance-history", get(read::analytics::balance_history))
        .route("/analytics/clients/signup-trends", get(read::analytics::signup_trends))
        .route("/analytics/clients/status-breakdown", get(read::analytics::status_breakdown))
        .route("/audit/events", get(read::audit::events))
        .route("/audit/head", get(read::audit::head))
        .route("/healthz", get(operations::healthz))
        .route("/readyz", get(operations::readyz));
    if manual_clock {
        router = router.route("/dev/clock", post(operations::advance_clock));
    }
    let router = router
        .fallback(operations::no_such_path)
        .method_not_allowed_fallback(operations::no_such_method)
        .with_state(service);
    // A layer costs every request something; only who debugs pays for it.
    if tracing::enabled!(tracing::Level::DEBUG) { router.layer(TraceLayer::new_for_http()) } else { router }
}
