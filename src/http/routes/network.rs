//! `/reseller-network…`: dashboard, downline, settings, referrals, upline requests.

use aggregates::answer::{DoneAnswer, RequestView, SettingsView};
use aggregates::primitives::{RequestKind, RequestStatus, ResellerId};
use aggregates::reseller::DEPTH_MAX;
use projections::dashboard::DashboardView;
use projections::downline_tree::Tree;
use projections::referrals::CodeView;
use projections::upline_requests::RequestRecord;
use serde_json::json;

use crate::http::commands::requests::{self as write, ApproveBody, AskBody, ReferralPayload, SettingsBody};
use crate::http::commands::{EmptyBody, ReasonBody};
use crate::http::describe::{Operation, Routes, command, query};
use crate::http::queries::{network as read, referrals, requests};

/// What an answer may be refused for.
const ANSWERING: &[&str] = &["invalid_transition", "reseller_inactive", "reseller_frozen"];

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .about("network", "A reseller's view of its own business and of everything below it.")
        .get(
            "/reseller-network/dashboard",
            read::dashboard,
            query("The numbers of the caller's tenant; for the operator's staff those of the whole network")
                .takes::<ResellerId>("reseller_id", "Those of this reseller, in sight.")
                .shows::<DashboardView>("The dashboard")
                .tagged(),
        )
        .get(
            "/reseller-network/downline/tree",
            read::tree,
            query("The downline as a tree, breadth first")
                .says("`limit` counts the nodes of the whole answer; where not all children of a node are shown it carries a \
                       `children_cursor`, to be sent back with the node as `root`.")
                .takes::<ResellerId>("root", "Below this reseller, in sight.")
                .takes_whole("depth", 1, DEPTH_MAX, "How many levels.")
                .takes_page()
                .shows::<Tree>("The tree")
                .tagged(),
        )
        .get(
            "/reseller-network/settings",
            read::settings,
            query("A reseller's own settings")
                .takes::<ResellerId>("reseller_id", "Whose; for the operator's staff, who must name one.")
                .shows::<SettingsView>("The settings"),
        )
        .put(
            "/reseller-network/settings",
            write::change_settings,
            command("Changes settings; what is absent stays")
                .takes::<ResellerId>("reseller_id", "Whose; for the platform, who must name one.")
                .sends::<SettingsBody>(json!({"auto_forward": {"credit_topup": true}, "margin_percent": "10"}))
                .shows::<SettingsView>("Changed")
                .refuses(&["limit_exceeded"]),
        )
        .about("upline requests", "A reseller may not act on its upline; it asks, and polls for the answer.")
        .get(
            "/reseller-network/referrals",
            referrals::list,
            query("Referral codes with their uses; one's own, for the operator's staff everybody's")
                .takes::<ResellerId>("reseller_id", "Those of this reseller; for the operator's staff.")
                .pages::<CodeView>("Codes"),
        )
        .post(
            "/reseller-network/referrals",
            write::ask_for_referral_code,
            command("Asks the platform for a referral code")
                .may_send::<ReferralPayload>(json!({"tag": "become-partner"}))
                .accepts::<RequestView>("Asked")
                .refuses(&["reseller_inactive", "reseller_frozen"]),
        )
        .delete(
            "/reseller-network/referrals/{code}",
            write::revoke_referral_code,
            command("Revokes a referral code")
                .takes::<ResellerId>("reseller_id", "Whose; for the platform, who must name one.")
                .may_send::<EmptyBody>(json!({}))
                .shows::<DoneAnswer>("Revoked")
                .refuses(&["invalid_transition"]),
        )
        .post(
            "/reseller-network/upline/request",
            write::raise,
            command("Asks the upline for something")
                .sends::<AskBody>(json!({"kind": "credit_topup", "payload": {"amount": 500}}))
                .accepts::<RequestView>("Asked")
                .refuses(&["reseller_inactive", "reseller_frozen", "product_retired", "already_exists"]),
        )
        .get(
            "/reseller-network/upline/requests",
            requests::list,
            query("The inbox, or the outbox")
                .takes_word("direction", &["out", "in"], "Those to be answered (`in`, unless said otherwise), or those raised (`out`).")
                .takes::<RequestStatus>("status", "In this status.")
                .takes::<RequestKind>("kind", "Of this kind.")
                .takes::<ResellerId>("reseller_id", "Those of this reseller; for the operator's staff.")
                .pages::<RequestRecord>("Requests"),
        )
        .get(
            "/reseller-network/upline/request/{id}",
            requests::one,
            query("A request that one has raised, or is to answer").shows::<RequestRecord>("The request"),
        )
        .post(
            "/reseller-network/upline/request/{id}/approve",
            write::approve,
            command("Does what a request asks for, in the same commit")
                .may_send::<ApproveBody>(json!({"note": "as agreed"}))
                .shows::<RequestView>("Done")
                .refuses(ANSWERING)
                .refuses(&[
                    "insufficient_credits",
                    "product_retired",
                    "limit_exceeded",
                    "overflow",
                    "already_exists",
                    "duplicate_reference",
                ]),
        )
        .post(
            "/reseller-network/upline/request/{id}/reject",
            write::reject,
            command("Refuses what a request asks for")
                .may_send::<ReasonBody>(json!({"reason": "not this month"}))
                .shows::<RequestView>("Refused")
                .refuses(ANSWERING),
        )
        .post("/reseller-network/upline/request/{id}/cancel", write::cancel, plain("Takes a request back"))
        .post("/reseller-network/upline/request/{id}/forward", write::forward, plain("Passes a request on to the next one up"))
}

fn plain(summary: &'static str) -> Operation {
    command(summary).may_send::<EmptyBody>(json!({})).shows::<RequestView>("Done").refuses(ANSWERING)
}
