//! I2 and I3: what each wallet holds, summed from amounts alone, and what was not allowed to happen at that balance.
//!
//! Memory: a few numbers per wallet. The sums go on from the amounts, never from what an event carries.

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{ResellerId, Role};
use aggregates::wallet::WalletEvent;
use serde::{Deserialize, Serialize};

use super::examined::Examined;
use super::findings::{Check, Findings};
use super::map::Map;

/// The policy that lets credits expire; it may take a wallet below zero, as the platform may.
const EXPIRY_POLICY: &str = "policy:expiry";

/// What one wallet's amounts add up to. No sum of `i64` amounts that a log can hold passes `i128`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Sums {
    balance: i128,
    /// Nothing reserves yet, so this stays at 0 and every event must carry that.
    reserved: i128,
    credit_limit: i128,
}

/// All wallets.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Wallets {
    sums: Map<ResellerId, Sums>,
}

impl Wallets {
    pub(super) fn follow(&mut self, examined: &Examined<'_>, findings: &mut Findings) {
        let (AggregateKey::Wallet(id), Event::Wallet(event)) = (examined.key, examined.event) else { return };
        let position = examined.position;
        let known = self.sums.get(id).copied();
        let opens = matches!(event, WalletEvent::WalletOpened { reseller, .. } if reseller == id);
        findings.holds(Check::Balances, position, known.is_none() == opens, || {
            let expected = if known.is_none() { "WalletOpened of that reseller" } else { "a wallet opened once" };
            (format!("wallet {id}"), expected.to_owned(), event.kind().to_owned())
        });

        let mut sums = known.unwrap_or_default();
        let change = i128::from(event.balance_change());
        sums.balance += change;
        if let WalletEvent::CreditLimitSet { former_limit, credit_limit, .. } = event {
            let former = i128::from(former_limit.credits());
            findings
                .equal(Check::Limits, position, &sums.credit_limit, &former, || format!("former limit of wallet {id}"));
            sums.credit_limit = i128::from(credit_limit.credits());
        }
        self.sums.insert(*id, sums);

        let (balance, reserved) = event.after();
        findings.equal(Check::Balances, position, &sums.balance, &balance.into(), || {
            format!("balance that a {} of wallet {id} carries", event.kind())
        });
        findings.equal(Check::Balances, position, &sums.reserved, &reserved.into(), || {
            format!("reserved credits that a {} of wallet {id} carries", event.kind())
        });
        judge(examined, *id, event, change, sums, findings);
    }
}

/// I3.
fn judge(
    examined: &Examined<'_>,
    id: ResellerId,
    event: &WalletEvent,
    change: i128,
    sums: Sums,
    findings: &mut Findings,
) {
    let position = examined.position;
    let uncommitted = sums.balance - sums.reserved;
    match event {
        WalletEvent::Provisioned { .. } => {
            let available = uncommitted + sums.credit_limit;
            findings.holds(Check::Limits, position, available >= 0, || {
                (format!("available to wallet {id} after Provisioned"), "0 or more".to_owned(), available.to_string())
            });
        }
        WalletEvent::CreditsTransferredOut { .. } => {
            findings.holds(Check::Limits, position, uncommitted >= 0, || {
                let what = format!("balance less reserved credits of wallet {id} after CreditsTransferredOut");
                (what, "0 or more".to_owned(), uncommitted.to_string())
            });
        }
        _ if change < 0 && sums.balance < 0 => {
            let metadata = examined.metadata;
            let may = metadata.role == Role::SuperAdmin.word() || metadata.actor == EXPIRY_POLICY;
            findings.holds(Check::Limits, position, may, || {
                let what = format!("actor of a {} that took wallet {id} to {}", event.kind(), sums.balance);
                let expected = format!("{} or {EXPIRY_POLICY}", Role::SuperAdmin);
                (what, expected, format!("{} as {}", metadata.actor, metadata.role))
            });
        }
        _ => {}
    }
}
