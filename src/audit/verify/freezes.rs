//! I6: no `Provisioned` or `CreditsTransferredOut` stands where the wallet's reseller or an ancestor was frozen.
//!
//! A tree of its own, folded along; memory: a parent and the freezes per reseller.

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Authority, ResellerId};
use aggregates::reseller::{DEPTH_MAX, ResellerEvent};
use aggregates::wallet::WalletEvent;
use serde::{Deserialize, Serialize};

use super::examined::Examined;
use super::findings::{Check, Findings};
use super::map::Map;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Node {
    parent: Option<ResellerId>,
    freezes: Vec<Authority>,
}

/// The network, as far as freezes go.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Freezes {
    nodes: Map<ResellerId, Node>,
}

impl Freezes {
    pub(super) fn follow(&mut self, examined: &Examined<'_>, findings: &mut Findings) {
        match (examined.key, examined.event) {
            (AggregateKey::Reseller(id), Event::Reseller(event)) => self.fold(*id, event),
            (
                AggregateKey::Wallet(id),
                Event::Wallet(event @ (WalletEvent::Provisioned { .. } | WalletEvent::CreditsTransferredOut { .. })),
            ) => {
                let barred = self.barred(*id);
                findings.holds(Check::Freezes, examined.position, barred.is_none(), || {
                    let what = format!("{} of reseller {id}", event.kind());
                    (what, "no freeze on it or above it".to_owned(), barred.unwrap_or_default())
                });
            }
            _ => {}
        }
    }

    fn fold(&mut self, id: ResellerId, event: &ResellerEvent) {
        match event {
            ResellerEvent::ResellerRegistered(registration) => {
                self.nodes.entry(id).or_default().parent = registration.parent;
            }
            ResellerEvent::SubtreeFrozen { authority, .. } => {
                self.nodes.entry(id).or_default().freezes.push(*authority)
            }
            ResellerEvent::SubtreeUnfrozen { authority, .. } => {
                self.nodes.entry(id).or_default().freezes.retain(|laid| laid != authority);
            }
            _ => {}
        }
    }

    /// What bars a reseller from spending: a freeze over it, or a line that does not reach the top.
    fn barred(&self, id: ResellerId) -> Option<String> {
        let mut next = Some(id);
        for _ in 0..=DEPTH_MAX {
            // Above the top there is nothing, and nothing bars.
            let at = next?;
            let Some(node) = self.nodes.get(&at) else {
                return Some(format!("no reseller {at} in the log before this position"));
            };
            if let Some(authority) = node.freezes.first() {
                let by = match authority {
                    Authority::Platform => "the platform".to_owned(),
                    Authority::Reseller(by) => format!("reseller {by}"),
                    Authority::LowCreditPolicy => "the low-credit policy".to_owned(),
                };
                return Some(format!("reseller {at} was frozen by {by}"));
            }
            next = node.parent;
        }
        next.map(|_| format!("a line of more than {DEPTH_MAX} ancestors"))
    }
}
