//! Answers about a whole aggregate, as it stands after the command's own events.

use crate::answer::{Answer, ClientView, ProductView, RequestView, ResellerView, SettingsView, WalletView};
use crate::client::{Client, ClientDetails};
use crate::event::AggregateKey;
use crate::primitives::{ClientId, RequestId, ResellerId, Sku};
use crate::product::Product;
use crate::rejection::Rejection;
use crate::reseller::Reseller;
use crate::upline_request::UplineRequest;
use crate::wallet::Wallet;

use serde_json::Map;

use super::draft::{Decided, Draft};
use super::{Key, Ledger};

impl Ledger {
    /// A remembered answer as it is given again: as it was, but for a client's personal data, which are those of now, and none
    /// where the client has been forgotten or been given to another reseller since.
    ///
    /// # Errors
    /// What must be loaded first.
    pub fn recall(&self, answer: &Answer) -> Result<Answer, Vec<Key>> {
        let mut answer = answer.clone();
        if let Answer::Client(view) = &mut answer {
            let keys = [Key::Aggregate(AggregateKey::Client(view.id)), Key::PersonalData(view.id)];
            let missing: Vec<Key> = keys.into_iter().filter(|key| !self.has(key)).collect();
            if !missing.is_empty() {
                return Err(missing);
            }
            let client = self.state.clients.get(&view.id).map(|client| &client.state);
            let same_owner = client.is_some_and(|client| client.owner == Some(view.reseller_id));
            let details = self.state.personal_data.get(&view.id).and_then(Option::as_ref);
            view.show(details.filter(|_| same_owner));
        }
        Ok(answer)
    }
}

impl Draft<'_> {
    pub(super) fn reseller_answer(&self, id: ResellerId) -> Decided<Answer> {
        let reseller = self.get::<Reseller>(&id)?;
        let Some(profile) = reseller.profile.as_deref().map(|profile| &profile.registration) else {
            return Err(Rejection::not_found("reseller").into());
        };
        // The network does not yet know this command's own events: a new reseller's line begins at its parent.
        let above = profile.parent.into_iter().flat_map(|parent| self.network().freezes_over(parent));
        let highest = self.network().highest(reseller.freezes.iter().copied().chain(above));
        Ok(Answer::Reseller(Box::new(ResellerView {
            id,
            refid: profile.refid.clone(),
            user_id: profile.user_id.clone(),
            company_name: profile.company_name.clone(),
            tier: profile.tier,
            status: profile.status,
            frozen: highest.is_some(),
            frozen_by: highest.map(|authority| self.network().seen_by(self.actor().tenant, authority)),
            // A tenant's sight ends at itself: its upline has no id there.
            parent_id: profile.parent.filter(|_| self.actor().tenant != Some(id)),
            depth: profile.depth,
            metadata: profile.metadata.clone(),
            created_at: profile.registered_at,
        })))
    }

    pub(super) fn settings_answer(&self, id: ResellerId) -> Decided<Answer> {
        let settings = self.get::<Reseller>(&id)?.settings.clone();
        let wallet = self.get::<Wallet>(&id)?;
        let low_credit_threshold = wallet.reseller.map(|_| wallet.low_credit_threshold);
        Ok(Answer::Settings(SettingsView { settings, low_credit_threshold }))
    }

    pub(super) fn wallet_answer(&self, id: ResellerId) -> Decided<Answer> {
        let wallet = self.get::<Wallet>(&id)?;
        Ok(Answer::Wallet(Box::new(WalletView {
            reseller_id: id,
            balance: wallet.balance,
            reserved: wallet.reserved,
            available: wallet.available(),
            credit_limit: wallet.credit_limit,
            low_credit_threshold: wallet.low_credit_threshold,
            low_credit: wallet.is_low(),
            held: !wallet.holds.is_empty(),
            money: self.policy()?.money(wallet.balance),
            sequence: self.sequence::<Wallet>(&id)?,
            position: self.position(),
            as_of: self.now,
        })))
    }

    /// `details` are the client's personal data after the command; `None` once forgotten.
    pub(super) fn client_answer(&self, id: ClientId, details: Option<&ClientDetails>) -> Decided<Answer> {
        let client = self.get::<Client>(&id)?;
        let (Some(owner), Some(status)) = (client.owner, client.status) else {
            return Err(Rejection::not_found("client").into());
        };
        let mut view = ClientView {
            id,
            reseller_id: owner,
            status,
            name: None,
            email: None,
            metadata: Map::new(),
            created_at: client.onboarded_at,
        };
        view.show(details);
        Ok(Answer::Client(Box::new(view)))
    }

    pub(super) fn product_answer(&self, sku: &Sku) -> Decided<Answer> {
        let product = self.get::<Product>(sku)?;
        let Some(terms) = product.terms.clone() else { return Err(Rejection::not_found("product").into()) };
        Ok(Answer::Product(ProductView { sku: sku.clone(), terms, retired: product.retired }))
    }

    pub(super) fn request_answer(&self, id: RequestId) -> Decided<Answer> {
        let Some(raised) = &self.get::<UplineRequest>(&id)?.raised else {
            return Err(Rejection::not_found("upline request").into());
        };
        Ok(Answer::Request(Box::new(RequestView {
            id,
            requester: raised.requester,
            ask: raised.ask.clone(),
            status: raised.status,
            addressed_to: self.network().seen_by(self.actor().tenant, raised.addressed_to.into()),
            expires_at: raised.expires_at,
            result: raised.result.clone(),
        })))
    }
}
