//! What an operator's tools ask, and the description of all this.

use axum::http::StatusCode;
use serde_json::json;

use crate::http::describe::{Routes, open};
use crate::http::document;
use crate::http::operations::{AdvanceBody, ClockView, HealthView, ReadyView, advance_clock, healthz, readyz};

pub(super) fn routes(routes: Routes, manual_clock: bool) -> Routes {
    let routes = routes
        .about("operations", "For an operator's tools; no token is needed.")
        .get("/healthz", healthz, open("Whether the process is alive").shows::<HealthView>("It is"))
        .get(
            "/readyz",
            readyz,
            open("Whether this node takes commands and its read models follow")
                .shows::<ReadyView>("It does")
                .refuses(&["not_ready"]),
        )
        .get(
            "/openapi.json",
            document::serve,
            open("This description").shows_as("OpenAPI 3.1", "application/json", &json!({"type": "object"})),
        );
    if !manual_clock {
        return routes;
    }
    routes.post(
        "/dev/clock",
        advance_clock,
        open("Moves the clock that tests move by hand")
            .sends::<AdvanceBody>(json!({"advance_seconds": 60}))
            .answers::<ClockView>(StatusCode::OK, "The time from here on")
            .refuses(&["malformed", "invalid"]),
    )
}
