//! A reseller's statement of one month as a page to be printed: opening, movements by kind, closing, in credits and money, and
//! every line. No script, nothing loaded; everything that people wrote is escaped by the templates.
//!
//! Sent as it is made: the page up to its lines, then those, then the rest.

use aggregates::month::Month;
use aggregates::platform::Policy;
use aggregates::primitives::{Credits, ResellerId, Timestamp};
use maud::{DOCTYPE, PreEscaped, html};
use projections::books::Stretch;
use projections::books::lines::{self, Line, Which};
use projections::books::statements::{self, Statement};
use projections::{ScopedRead, policy};

use super::ExportError;

/// How many positions of the log a piece covers.
const LINES_PAGE: u64 = 65_536;
/// Where the lines come in.
const LINES: &str = "<!-- lines -->";

const STYLE: &str = "\
@page { size: A4; margin: 18mm 15mm }
body { font: 10pt/1.4 system-ui, sans-serif; color: #111; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 16pt; margin: 0 } h2 { font-size: 12pt; margin: 1.6rem 0 .4rem }
p { margin: .2rem 0 } .quiet { color: #555 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .2rem .5rem; border-bottom: 1px solid #ddd; vertical-align: top }
th.amount, td.amount { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
td.words { overflow-wrap: anywhere } tr.sum td { font-weight: 600; border-top: 1px solid #111 }
thead { display: table-header-group } tr { break-inside: avoid }
@media print { body { margin: 0; max-width: none; padding: 0 } }
";

/// A statement in the making.
#[derive(Debug)]
pub(super) struct Document {
    reseller: ResellerId,
    stretch: Stretch,
    done: u64,
    count: u64,
    /// What goes out before the lines, and what after; each once.
    before: Option<String>,
    after: Option<String>,
}

/// A kind of movement in words.
fn kind_in_words(kind: &str) -> &str {
    match kind {
        "added_purchase" => "Purchases",
        "added_bonus" => "Bonuses",
        "added_referral" => "Referral bonuses",
        "added_adjustment" => "Adjustments",
        "removed_chargeback" => "Chargebacks",
        "removed_correction" => "Corrections",
        "provisioned" => "Provisions",
        "refunded" => "Refunds",
        "commissions_earned" => "Commissions earned",
        "commissions_reversed" => "Commissions reversed",
        "transferred_in" => "Transfers received",
        "transferred_out" => "Transfers sent",
        other => other,
    }
}

/// A line in words.
fn line_in_words(line: &Line<'_>) -> &'static str {
    match (line.kind, line.source) {
        ("credits_added", "purchase") => "Purchase",
        ("credits_added", "bonus") => "Bonus",
        ("credits_added", "referral") => "Referral bonus",
        ("credits_added", _) => "Adjustment",
        ("credits_removed", "chargeback") => "Chargeback",
        ("credits_removed", _) => "Correction",
        ("provisioned", _) => "Provision",
        ("provision_refunded", _) => "Refund",
        ("commission_earned", _) => "Commission",
        ("commission_reversed", _) => "Commission reversed",
        ("credits_transferred_in", _) => "Transfer received",
        ("credits_transferred_out", _) => "Transfer sent",
        _ => "Movement",
    }
}

impl Document {
    /// The statement of a reseller in sight.
    pub(super) async fn open(
        read: &mut ScopedRead,
        reseller: ResellerId,
        month: Month,
        stretch: Stretch,
        as_of: Timestamp,
    ) -> Result<Self, ExportError> {
        let statement = statements::statements(read, Some(reseller), stretch, 0, 1).await?.pop();
        // It may have been registered after that month.
        let statement = statement.ok_or(ExportError::NoSuchReseller)?;
        let policy = policy::at(&mut read.connection(), stretch.until).await?;
        let page = page(&statement, month, &policy, stretch.until, as_of);
        let (before, after) = page.split_once(LINES).unwrap_or((&page, ""));
        let (before, after) = (Some(before.to_owned()), Some(after.to_owned()));
        Ok(Self { reseller, stretch, done: stretch.after, count: 0, before, after })
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// In positions of the log.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.done - self.stretch.after, self.stretch.until - self.stretch.after)
    }

    /// The next piece; `None` when there is no more.
    pub(super) async fn next(&mut self, read: &mut ScopedRead) -> Result<Option<Vec<u8>>, ExportError> {
        if let Some(before) = self.before.take() {
            return Ok(Some(before.into_bytes()));
        }
        if self.done >= self.stretch.until {
            return Ok(self.after.take().map(String::into_bytes));
        }
        let until = self.done.saturating_add(LINES_PAGE).min(self.stretch.until);
        let mut rows = String::new();
        let stretch = Stretch { after: self.done, until };
        lines::lines(read, Which::All, Some(self.reseller), stretch, |line| {
            rows.push_str(&row(line).into_string());
            self.count += 1;
            Ok(())
        })
        .await?;
        self.done = until;
        // Empty pieces are passed over by who asks.
        Ok(Some(rows.into_bytes()))
    }
}

fn row(line: &Line<'_>) -> PreEscaped<String> {
    let time = line.recorded_at.get(..16).unwrap_or(line.recorded_at).replace('T', " ");
    html! {
        tr {
            td { (time) }
            td.words {
                (line_in_words(line))
                @if !line.reference.is_empty() { " " (line.reference) }
                @if !line.note.is_empty() { br; span.quiet { (line.note) } }
            }
            td.amount { (line.amount) }
            td.amount { (line.balance) }
        }
    }
}

fn page(statement: &Statement, month: Month, policy: &Policy, position: u64, as_of: Timestamp) -> String {
    let money = |credits: Credits| {
        let money = policy.money(credits);
        format!("{} {}", money.amount, money.currency)
    };
    let sum = |name: &str, credits: Credits, class: &str| {
        html! { tr class=(class) { td { (name) } td.amount { (credits) } td.amount { (money(credits)) } } }
    };
    let movements = statement.movements.by_kind();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Statement " (month) " " (statement.reseller.company_name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Statement " (month) }
                p { strong { (statement.reseller.company_name) } " " span.quiet { (statement.reseller.refid) } }
                p.quiet { "Reseller " (statement.reseller.reseller_id) }
                p.quiet {
                    "From " (month.start()) " to before " (month.end()) ". As of event " (position) " of the ledger, recorded "
                    (as_of) "."
                }
                h2 { "Summary" }
                table {
                    thead { tr { th { "" } th.amount { "Credits" } th.amount { "Money" } } }
                    tbody {
                        (sum("Opening balance", statement.opening, "sum"))
                        @for (kind, credits) in movements.iter().filter(|(_, credits)| *credits != 0) {
                            (sum(kind_in_words(kind), *credits, ""))
                        }
                        (sum("Closing balance", statement.closing, "sum"))
                    }
                }
                p.quiet {
                    (policy.credit_conversion_rate) " credits make 1.00 " (policy.currency) ", the rate at the end of the statement."
                }
                h2 { "Movements (" (statement.movements.lines) ")" }
                table {
                    thead {
                        tr { th { "Time (UTC)" } th { "What" } th.amount { "Credits" } th.amount { "Balance" } }
                    }
                    tbody { (PreEscaped(LINES)) }
                }
            }
        }
    }
    .into_string()
}

#[cfg(test)]
mod tests {
    use projections::books::statements::Movements;

    use super::*;

    #[test]
    fn every_kind_of_movement_has_its_words() {
        for (kind, _) in Movements::default().by_kind() {
            assert_ne!(kind_in_words(kind), kind);
        }
    }
}
