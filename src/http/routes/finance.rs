//! `/exports…` and `/platform/close`: the books in the forms that others work with, and their closing.

use aggregates::closing::Closing;
use aggregates::month::Month;
use aggregates::primitives::ResellerId;
use serde_json::json;

use crate::finance::exports::Kind;
use crate::http::commands::platform::{self as write, CloseBody};
use crate::http::describe::{Operation, Routes, command, query};
use crate::http::queries::exports as read;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .about("finance", "The books in the forms that others work with.")
        .get(
            "/exports/transactions",
            read::transactions,
            export(Kind::Transactions, "Statement lines of all wallets in sight"),
        )
        .get("/exports/balances", read::balances, export(Kind::Balances, "What each reseller in sight held"))
        .get("/exports/commissions", read::commissions, export(Kind::Commissions, "Commissions earned and reversed"))
        .get(
            "/exports/statements",
            read::statements,
            export(Kind::Statements, "For each month and reseller: opening, movements by kind, closing"),
        )
        .get("/exports/journal", read::journal, export(Kind::Journal, "The double entry behind each event; for the operator's staff"))
        .post(
            "/platform/close",
            write::close,
            command("Closes a month")
                .says(
                    "Its totals, last position and hash become part of the history, and nothing is ever recorded in it again. \
                     Months are closed when they are over, once, and in order from the one in which credits first moved: what \
                     was posted in a month is counted from the closing before it. Whatever stands in the way is said as \
                     `from` of `invalid_transition`: `not over before …`, `waiting for 2026-09 to be closed`.",
                )
                .sends::<CloseBody>(json!({"month": "2026-10"}))
                .creates::<Closing>("Closed")
                .refuses(&["invalid_transition", "already_exists", "view_behind", "not_ready"]),
        )
}

fn words(kind: Kind) -> Vec<&'static str> {
    kind.formats().iter().map(|format| format.word()).collect()
}

/// What all exports have in common.
fn export(kind: Kind, summary: &'static str) -> Operation {
    let operation = query(summary)
        .says(
            "Sent as it is made, in one state: everything is as of `Tallytree-Position`, and the same order as of the same \
             position has the same bytes, whenever it is sent. Broken off, it goes on with `cursor`: that position and, behind \
             dots, the key of the last row that arrived (its `position`; for balances its `reseller_id`; for statements its \
             `month` and `reseller_id`). A text that a spreadsheet would take for a formula begins with ' in CSV.",
        )
        .takes_word("format", &words(kind), "As what; the first one unless said otherwise.")
        .takes::<Month>("month", "Of this month alone, instead of `from` and `to`.");
    let operation = if kind == Kind::Journal {
        operation
    } else {
        operation
            .takes::<ResellerId>("reseller_id", "Of this reseller alone, in sight.")
            .takes::<String>("cursor", "Goes on after this row of an export as CSV or JSON lines that was broken off.")
    };
    let operation = if kind == Kind::Balances {
        operation.takes_moment("to", "As of the last event before this time, or of this day (UTC); else of now.")
    } else {
        operation.takes_range()
    };
    let text = json!({"type": "string"});
    let mut formats = kind.formats().iter();
    let first = formats.next().map_or("text/plain", |format| format.media_type());
    let operation = operation.shows_as("The table", first, &text);
    formats.fold(operation, |operation, format| operation.or_as(format.media_type(), &text))
}
