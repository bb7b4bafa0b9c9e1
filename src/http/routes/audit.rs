//! `/audit…`: the log itself.

use aggregates::primitives::{ResellerId, Timestamp, UserId};
use projections::audit_log::{EventView, HeadView};
use serde_json::json;

use crate::audit::difference::{OutstandingDifference, WalletDifference};
use crate::audit::runs::Run;
use crate::http::describe::{Operation, Routes, query};
use crate::http::queries::audit::{self as read, RefusalsView, ReplayView, VerifyBody};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .about("audit", "The log as it is, for auditors and the operator.")
        .get(
            "/audit/events",
            read::events,
            query("Events, oldest first, with the exact text that was hashed")
                .says("`Accept: application/x-ndjson` streams one event a line up to the head.")
                .takes::<u64>("after", "After this position.")
                .takes::<String>("aggregate_type", "Of aggregates of this type.")
                .takes::<String>("aggregate_id", "Of this aggregate.")
                .takes::<String>("event_type", "Of this type.")
                .takes::<UserId>("actor", "Whose command they came of.")
                .takes_range()
                .pages::<EventView>("Events")
                .or_as("application/x-ndjson", &json!({"type": "string", "description": "One event a line."})),
        )
        .get(
            "/audit/wallets/{reseller_id}/replay",
            read::replay,
            query("A wallet built from its events alone, beside what is recorded and what is shown")
                .says("By the aggregate's own fold and, knowing nothing of it, by cqrs-es; compared at every step with what each \
                       event carries and with the wallet's statement, and in the end with the read models.")
                .takes::<Timestamp>("until", "Up to the last event up to this time; not together with `until_position`.")
                .takes::<u64>("until_position", "Up to this position.")
                .takes::<bool>("steps", "Whether to show the steps, a page at a time.")
                .takes_page()
                .shows::<ReplayView>("The replay"),
        )
        .get(
            "/audit/wallets/{reseller_id}/difference",
            read::wallet_difference,
            between("What happened to a wallet between two moments: before, after, and the events in between")
                .shows::<WalletDifference>("The difference"),
        )
        .get(
            "/audit/credits-outstanding/difference",
            read::outstanding_difference,
            between("What changed the credits outstanding between two moments: before, after, and the events in between")
                .takes::<ResellerId>("reseller_id", "Of this reseller and everything below it; else of the whole network.")
                .shows::<OutstandingDifference>("The difference"),
        )
        .post(
            "/audit/verify",
            read::verify,
            query("Verifies the store while the service goes on: every invariant, each with counts and its first violation")
                .says("One run at a time: where one is going on, that one is answered with.")
                .may_send::<VerifyBody>(json!({"expect": []}))
                .accepts::<Run>("It has begun")
                .refuses(&["malformed", "body_too_large", "body_too_slow"]),
        )
        .get(
            "/audit/verify/{id}",
            read::verification,
            query("A run of verify: how far it is, or what it found").shows::<Run>("The run"),
        )
        .get(
            "/audit/refusals",
            read::refusals,
            query("What was refused: who asked for what, why it was not done, and when; the last first")
                .says("Kept beside the ledger, for as long as the service is configured to.")
                .takes::<UserId>("actor", "To this actor.")
                .takes::<String>("role", "To whoever asked in this role.")
                .takes::<ResellerId>("tenant", "To whoever asked for this reseller.")
                .takes::<String>("code", "For this reason: `insufficient_credits`, `forbidden` …")
                .takes_range()
                .takes_page()
                .shows::<RefusalsView>("Refusals"),
        )
        .get("/audit/head", read::head, query("The end of the log").shows::<HeadView>("The head"))
}

/// Two moments, each as of which something is shown.
fn between(summary: &'static str) -> Operation {
    query(summary)
        .takes::<Timestamp>("from", "As of this time; else of `from_position`, else of the beginning.")
        .takes::<u64>("from_position", "After this position.")
        .takes::<Timestamp>("to", "As of this time; else of `to_position`, else of now.")
        .takes::<u64>("to_position", "After this position.")
        .takes_page()
}
