//! `/audit…`: the log itself.

use aggregates::primitives::UserId;
use projections::audit_log::{EventView, HeadView};
use serde_json::json;

use crate::http::describe::{Routes, query};
use crate::http::queries::audit as read;

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
        .get("/audit/head", read::head, query("The end of the log").shows::<HeadView>("The head"))
}
