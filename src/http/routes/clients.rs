//! `/clients…`: whom resellers provision for.

use aggregates::answer::ClientView;
use aggregates::primitives::{ClientStatus, ResellerId, UserId};
use serde_json::json;

use crate::http::commands::ReasonBody;
use crate::http::commands::clients::{self as write, ChangeBody, OnboardBody, ReassignBody};
use crate::http::describe::{Operation, Routes, command, query};
use crate::http::queries::clients as read;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .about("clients", "Whom resellers provision for. Their records are their owner's; an upline is told numbers.")
        .get(
            "/clients",
            read::list,
            query("One's own clients")
                .takes::<ClientStatus>("status", "In this status.")
                .takes::<String>("q", "Whose name or e-mail address holds this text.")
                .takes::<ResellerId>("reseller_id", "Of this reseller; for the platform and auditors.")
                .takes::<UserId>("user_id", "Of this user's reseller; for the platform and auditors.")
                .pages::<ClientView>("Clients"),
        )
        .post(
            "/clients",
            write::onboard,
            command("Takes a client on")
                .sends::<OnboardBody>(
                    json!({"name": "Ada Byron", "email": "ada@example.com", "metadata": {"plan": "pro"}}),
                )
                .creates::<ClientView>("Taken on")
                .refuses(&["reseller_inactive", "limit_exceeded"]),
        )
        .get("/clients/{id}", read::one, query("One client").shows::<ClientView>("The client"))
        .patch(
            "/clients/{id}",
            write::change,
            command("Changes a client's details")
                .sends::<ChangeBody>(json!({"name": "Ada King", "email": null}))
                .shows::<ClientView>("Changed")
                .refuses(&["invalid_transition", "limit_exceeded"]),
        )
        .post("/clients/{id}/activate", write::activate, step("Activates a client"))
        .post("/clients/{id}/suspend", write::suspend, step("Suspends a client"))
        .post("/clients/{id}/deactivate", write::deactivate, step("Stops serving a client"))
        .post(
            "/clients/{id}/reassign",
            write::reassign,
            command("Gives a client to another reseller")
                .sends::<ReassignBody>(json!({"reseller_id": "0190d3a0-7c1e-7b60-8f00-3d0f6c8e2a12"}))
                .shows::<ClientView>("Given")
                .refuses(&["invalid_transition", "reseller_inactive"]),
        )
        .post("/clients/{id}/forget", write::forget, step("Erases a client's personal data, for good"))
}

fn step(summary: &'static str) -> Operation {
    command(summary)
        .may_send::<ReasonBody>(json!({"reason": "at the client's wish"}))
        .shows::<ClientView>("Done")
        .refuses(&["invalid_transition"])
}
