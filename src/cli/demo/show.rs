//! What a filled demo is shown with: a token for each role, and requests to copy.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use aggregates::primitives::{ResellerId, ResellerStatus, Role, Text, UserId};

use super::plan::OPERATOR;
use super::plan::catalog::EXAMPLE_SKU;
use crate::access::directory::{Directory, TokenOrder};
use crate::clock::Clock;
use crate::store::{Database, EventStore};

/// Who plays in the printed requests.
#[derive(Debug)]
pub(super) struct Cast {
    lead: Option<Lead>,
    resellers: usize,
    levels: u32,
    /// Role, variable, token; each made anew at every start, for only a hash of it is kept.
    tokens: Vec<(&'static str, &'static str, String)>,
}

/// The top-level reseller with the largest downline.
#[derive(Debug)]
struct Lead {
    id: ResellerId,
    user: UserId,
    company: String,
    downline: usize,
}

/// What is read of a reseller to choose the cast.
struct Candidate {
    user: UserId,
    company: String,
    parent: Option<ResellerId>,
    depth: u32,
    free: bool,
}

impl Cast {
    /// Chooses the cast from what is in the store, and makes its tokens.
    pub(super) async fn of(database: &Database) -> anyhow::Result<Self> {
        let mut store = database.open().await?;
        let mut candidates: HashMap<ResellerId, Candidate> = HashMap::new();
        let mut each = |id, _, reseller: aggregates::reseller::Reseller| {
            let free = reseller.freezes.is_empty();
            if let Some(profile) = reseller.profile {
                let registration = profile.registration;
                let candidate = Candidate {
                    user: registration.user_id,
                    company: registration.company_name.to_string(),
                    parent: registration.parent,
                    depth: registration.depth,
                    free: free && registration.status == ResellerStatus::Active,
                };
                candidates.insert(id, candidate);
            }
        };
        store.resellers(&mut each).await?;
        drop(store);

        let lead = lead(&candidates);
        let directory = Directory::of(database);
        let make = async |order: TokenOrder| directory.create(&order, Clock::System.now()).await;
        let label = Some(Text::new("demo")?);
        let mut tokens = Vec::new();
        let operator =
            TokenOrder { user: Some(UserId::new(OPERATOR)?), label: label.clone(), ..TokenOrder::of(Role::SuperAdmin) };
        tokens.push(("super_admin", "TOKEN", make(operator).await?));
        if let Some(lead) = &lead {
            let order = TokenOrder {
                tenant: Some(lead.id),
                user: Some(lead.user.clone()),
                label: label.clone(),
                ..TokenOrder::of(Role::Reseller)
            };
            tokens.push(("reseller", "RESELLER", make(order).await?));
        }
        for (role, name, variable) in [
            (Role::Payments, "payments", "PAYMENTS"),
            (Role::Auditor, "auditor", "AUDITOR"),
            (Role::Finance, "finance", "FINANCE"),
        ] {
            tokens.push((name, variable, make(TokenOrder { label: label.clone(), ..TokenOrder::of(role) }).await?));
        }
        let levels = candidates.values().map(|candidate| candidate.depth + 1).max().unwrap_or_default();
        Ok(Self { lead, resellers: candidates.len(), levels, tokens })
    }

    /// Prints tokens and requests.
    pub(super) fn show(&self, address: SocketAddr) -> anyhow::Result<()> {
        println!("{}", self.text(address)?);
        Ok(())
    }

    fn text(&self, address: SocketAddr) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        writeln!(text, "\n{} resellers on {} levels. Paste this into a shell:\n", self.resellers, self.levels)?;
        writeln!(text, "export TALLYTREE=http://{address}")?;
        for (role, variable, token) in &self.tokens {
            writeln!(text, "export {variable}={token:<68} # {role}")?;
        }
        let Some(lead) = &self.lead else { return Ok(text) };
        writeln!(text, "export WALLET={:<70} # {}, {} in its downline", lead.id, lead.company, lead.downline)?;
        for (what, role, rest) in [
            ("its dashboard", "RESELLER", "/reseller-network/dashboard".to_owned()),
            ("its downline, two levels of it", "RESELLER", "/reseller-network/downline/tree?depth=2".to_owned()),
            (
                "credits bought (again with the same reference: the first answer)",
                "PAYMENTS",
                format!("/wallets/$WALLET/credits{}", body(r#"{"amount": 5000, "reference": "PAY-TRY-1"}"#)),
            ),
            (
                "what three servers would cost it",
                "RESELLER",
                format!("/wallets/$WALLET/quote?sku={EXAMPLE_SKU}&quantity=3"),
            ),
            (
                "provision them",
                "RESELLER",
                format!(
                    "/wallets/$WALLET/provisions{}",
                    body(&format!(r#"{{"sku": "{EXAMPLE_SKU}", "quantity": 3}}"#))
                ),
            ),
            (
                "provision a million of them: refused, 402",
                "RESELLER",
                format!(
                    "/wallets/$WALLET/provisions{}",
                    body(&format!(r#"{{"sku": "{EXAMPLE_SKU}", "quantity": 1000000}}"#))
                ),
            ),
            ("the whole network, for the operator", "TOKEN", "/reseller-network/dashboard".to_owned()),
            ("the end of the log and its hash, for the auditor", "AUDITOR", "/audit/head".to_owned()),
        ] {
            let (path, body) =
                rest.split_once(' ').map_or((rest.as_str(), String::new()), |(path, body)| (path, format!(" {body}")));
            writeln!(text, "\n# {what}\ncurl -s -H \"Authorization: Bearer ${role}\" \"$TALLYTREE{path}\"{body}")?;
        }
        Ok(text)
    }
}

/// The part of a `curl` line that sends a body.
fn body(json: &str) -> String {
    format!(" -H 'Content-Type: application/json' -d '{json}'")
}

fn lead(candidates: &HashMap<ResellerId, Candidate>) -> Option<Lead> {
    let mut downline: HashMap<ResellerId, usize> = HashMap::new();
    for candidate in candidates.values() {
        let mut above = candidate.parent;
        while let Some(ancestor) = above {
            *downline.entry(ancestor).or_default() += 1;
            above = candidates.get(&ancestor).and_then(|candidate| candidate.parent);
        }
    }
    let size = |id: &ResellerId| downline.get(id).copied().unwrap_or_default();
    candidates
        .iter()
        .filter(|(_, candidate)| candidate.parent.is_none() && candidate.free)
        .max_by_key(|(id, _)| (size(id), **id))
        .map(|(id, candidate)| Lead {
            id: *id,
            user: candidate.user.clone(),
            company: candidate.company.clone(),
            downline: size(id),
        })
}
