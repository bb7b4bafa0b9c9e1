//! `/analytics…`: figures of a subtree, by reseller, by tier and by period.

use aggregates::primitives::ResellerId;
use projections::analytics::calendar::{Interval, PERIODS_DEFAULT, PERIODS_MAX};
use projections::analytics::ranking::{RankedReseller, Sort};
use projections::analytics::standing::{CreditsOutstanding, ResellerStats, StatusBreakdown, TierSnapshot};
use projections::analytics::trends::{BalancePoint, CreditTrend, SignupTrend};
use projections::page::LIMIT_MAX;

use crate::http::describe::{Operation, Routes, query};
use crate::http::queries::analytics as read;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .about("analytics", "Figures of a reseller and everything below it, for any stretch of time.")
        .get(
            "/analytics/top-resellers",
            read::top_resellers,
            figures("Who did most, best first; the figures are each one's own")
                .takes_range()
                .takes::<Sort>("sort", "By which figure: `provisioned` unless said otherwise.")
                .takes_limit("How many, from the best.")
                .lists::<RankedReseller>(LIMIT_MAX as usize, "Those who did anything that is shown"),
        )
        .get(
            "/analytics/tier-snapshot",
            read::tier_snapshot,
            figures("How many active resellers there are of each tier")
                .says("As they stood before `to`; with `from`, only those that registered from then on.")
                .takes_range()
                .shows::<TierSnapshot>("By tier"),
        )
        .get(
            "/analytics/credit-trends",
            read::credit_trends,
            trend("Credits by period").lists::<CreditTrend>(PERIODS_MAX, "Periods, the oldest first, none left out"),
        )
        .get(
            "/analytics/credits-outstanding",
            read::credits_outstanding,
            figures("What all wallets hold together, in credits and in money, now or as it was")
                .takes_past()
                .shows::<CreditsOutstanding>("The sums"),
        )
        .get(
            "/analytics/resellers/{id}/stats",
            read::reseller_stats,
            query("One reseller at a glance, and its subtree").shows::<ResellerStats>("Its figures"),
        )
        .get(
            "/analytics/balance-history",
            read::balance_history,
            trend("What was held at the end of each period")
                .lists::<BalancePoint>(PERIODS_MAX, "Periods, the oldest first; the last ends at `to`"),
        )
        .get(
            "/analytics/clients/signup-trends",
            read::signup_trends,
            trend("How many clients were taken on, by period")
                .lists::<SignupTrend>(PERIODS_MAX, "Periods, the oldest first, none left out"),
        )
        .get(
            "/analytics/clients/status-breakdown",
            read::status_breakdown,
            figures("How many clients there are in each status").shows::<StatusBreakdown>("By status"),
        )
}

fn figures(summary: &'static str) -> Operation {
    query(summary).takes::<ResellerId>(
        "reseller_id",
        "Of this reseller, in sight, and everything below it; else of the caller's own tenant, or of the whole network.",
    )
}

fn trend(summary: &'static str) -> Operation {
    figures(summary)
        .takes::<Interval>("interval", "How long a period is: `daily` unless said otherwise; weeks are ISO weeks.")
        .takes::<String>("tz", "Whose days: `UTC` (unless said otherwise), a distance such as `+02:00`, or a name such as `Europe/Berlin`.")
        .takes_moment(
            "from",
            &format!(
                "From this time on, or from the beginning of this day of the time zone; else from the first event, \
                 {PERIODS_DEFAULT} periods at the most. More than {PERIODS_MAX} periods up to `to` are refused.",
            ),
        )
        .takes_moment("to", "Before this time, or up to the end of this day of the time zone; else up to now.")
}
