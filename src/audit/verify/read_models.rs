//! I9, read models: every table compared with what the same fold makes of the log from its first event: rows that are written once
//! by what they come to, and row by row where that differs; the others row by row.
//!
//! That the fold is right is not shown here: for balances [`views`](super::views) does, by another fold. This shows that batches,
//! crashes, restarts and rebuilds have left nothing out and nothing twice.

use projections::rebuild::compare::{Compared, Comparison};
use projections::sql::ViewError;

use super::VerifyError;
use super::findings::{Check, Findings};

/// Waits for the comparison's end, and notes what came of it; `unfoldable` is why events could not be handed to it any more.
pub(super) fn end(
    comparison: Option<Comparison>,
    unfoldable: Option<String>,
    findings: &mut Findings,
) -> Result<(), VerifyError> {
    let Some(comparison) = comparison else {
        findings.note(Check::ReadModels, "there are no read models".to_owned());
        return Ok(());
    };
    let compared = match unfoldable {
        Some(why) => Err(ViewError::Unreadable(why)),
        None => comparison.end(),
    };
    let is_untold = |compared: &Compared| compared.differences > 0 && compared.first.is_none();
    match compared {
        Ok(compared) if compared.iter().any(is_untold) => return Err(VerifyError::Unequal),
        Ok(compared) => note(compared, findings),
        Err(error) if error.is_an_accident() => return Err(error.into()),
        // An event that cannot be folded, or a table that cannot be read: whichever it is, they are not equal.
        Err(error) => findings.holds(Check::ReadModels, None, false, || {
            ("read models folded anew".to_owned(), "equal to those that are there".to_owned(), error.to_string())
        }),
    }
    Ok(())
}

fn note(all: Vec<Compared>, findings: &mut Findings) {
    let mut positions: Vec<u64> = all.iter().map(|compared| compared.position).collect();
    positions.sort_unstable();
    positions.dedup();
    let positions: Vec<String> = positions.iter().map(u64::to_string).collect();
    let note = if positions.is_empty() {
        "nothing has been folded yet".to_owned()
    } else {
        format!("compared at position {}", positions.join(", "))
    };
    findings.note(Check::ReadModels, note);
    for compared in all {
        let first = compared
            .first
            .map(|first| (format!("{}: {}", compared.projection, first.what), first.expected, first.found));
        findings.count(Check::ReadModels, compared.rows, compared.differences, first);
    }
}
