//! `/reseller-network…`: dashboard, downline, settings, referrals, upline requests.

use aggregates::answer::{DoneAnswer, RequestView, SettingsView};
use aggregates::primitives::{RequestKind, RequestStatus, ResellerId};
use aggregates::reseller::DEPTH_MAX;
use projections::activity_feed::pages::Kind;
use projections::activity_feed::words::ActivityView;
use projections::analytics::performance::Performance;
use projections::downline_health::Health;
use projections::downline_tree::Tree;
use projections::referrals::CodeView;
use projections::upline_requests::RequestRecord;
use serde_json::json;

use crate::http::commands::requests::{self as write, ApproveBody, AskBody, ReferralPayload, SettingsBody};
use crate::http::commands::{EmptyBody, ReasonBody};
use crate::http::describe::{Operation, Routes, command, query};
use crate::http::queries::activity::{BEHIND_MAX, feed};
use crate::http::queries::network::{self as read, Board, ChildSummary};
use crate::http::queries::{referrals, requests};

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
                .shows::<Board>("The dashboard")
                .tagged(),
        )
        .get(
            "/reseller-network/activity",
            feed,
            query("What happened, in words, newest first; or as it happens")
                .says(
                    "With `Accept: text/event-stream` it is a stream: everything after `Last-Event-ID`, else what happens \
                     from now on, oldest first. A stream takes `kind` and `reseller_id` only.",
                )
                .takes::<Kind>("kind", "Of this kind.")
                .takes::<ResellerId>("reseller_id", "What happened to this reseller, in sight, and what reached it.")
                .takes_range()
                .takes_header(
                    "Last-Event-ID",
                    &json!({"type": "string", "pattern": "^((0|[1-9][0-9]{0,16}):[01])?$", "examples": ["4711:0"]}),
                    &format!(
                        "For a stream: the last entry that the client has. Where more than {BEHIND_MAX} came after it the \
                         stream is refused (`limit_exceeded`): read pages.",
                    ),
                )
                .pages::<ActivityView>("Entries")
                .or_as(
                    "text/event-stream",
                    &json!({
                        "type": "string",
                        "description": "Events: `id` is that of the entry, `data` the entry as the pages have it.",
                        "examples": ["id: 4711:0\ndata: {\"id\": \"4711:0\", \"position\": 4711, \"kind\": \"credits_added\"}\n\n"],
                    }),
                )
                .refuses(&["limit_exceeded"]),
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
                .takes_past()
                .shows::<Tree>("The tree")
                .tagged(),
        )
        .get(
            "/reseller-network/downline/performance",
            read::performance,
            query("How the downline does: all of it, and child by child")
                .says("A child counts with everybody below it.")
                .takes_range()
                .takes::<ResellerId>("reseller_id", "The downline of this reseller, in sight.")
                .takes_page()
                .shows::<Performance>("Figures of the stretch of time; of all time where none is named"),
        )
        .get(
            "/reseller-network/downline/health",
            read::health,
            query("What in the downline needs looking after")
                .says("Each list is cut at `limit`; the counts are whole.")
                .takes::<ResellerId>("reseller_id", "The downline of this reseller, in sight.")
                .takes_limit("How many of each list at the most.")
                .shows::<Health>("Who cannot sell, who soon cannot, who waits for an answer"),
        )
        .get(
            "/reseller-network/downline/{id}",
            read::child,
            query("One reseller of the downline at a glance").shows::<ChildSummary>("It, its wallet and its dashboard"),
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
                .refuses(&["limit_exceeded", "reseller_inactive"]),
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
