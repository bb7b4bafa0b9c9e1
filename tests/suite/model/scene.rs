//! The ledger and the model side by side: every demand goes to both, and everything they say and hold is compared.

use std::fmt::Write as _;

use aggregates::ledger::Remembered;
use aggregates::primitives::{ResellerStatus, Timestamp};
use aggregates::upline_request::Addressee;

use super::driver::{Driver, Said};
use super::naive::{self, Demand, Done, Id, ItemReply, Naive, No, Reply, Rules, Who};
use super::translate;

/// Where the story begins, in seconds since 1970.
const BEGINNING: i64 = 1_800_000_000;

pub struct Scene {
    pub naive: Naive,
    pub driver: Driver,
    /// Seconds since 1970.
    pub now: i64,
    serial: u64,
    /// What was asked and answered so far, to be read by people.
    pub story: String,
}

pub fn platform() -> Who {
    Who { role: naive::Role::SuperAdmin, tenant: None, user: 1, declared_cost: false }
}

pub fn member(tenant: Id) -> Who {
    Who { role: naive::Role::Reseller, tenant: Some(tenant), user: 1_000 + tenant, declared_cost: false }
}

pub fn usual_rules() -> Rules {
    Rules {
        discounts: [0, 15_00, 30_00],
        default_tier: 0,
        threshold: 500,
        commissions: true,
        referral_bonus: 0,
        max_child_price: 200_00,
        auto_approve: false,
        opens_wallets: true,
        expiry_days: 30,
    }
}

impl Scene {
    /// An empty ledger on which these rules have just been set.
    pub fn new(rules: Rules) -> Self {
        // Not yet the rules that are about to be set, so that setting them is a change on both sides.
        let unset = Rules { expiry_days: rules.expiry_days + 1, ..rules.clone() };
        let mut scene = Self {
            naive: Naive::new(unset),
            driver: Driver::default(),
            now: BEGINNING,
            serial: 1_000_000,
            story: String::new(),
        };
        scene.ask(&platform(), None, &Demand::SetRules(rules));
        scene
    }

    /// Asks both, compares, and tells what was answered.
    pub fn ask(&mut self, who: &Who, key: Option<(Id, u64)>, demand: &Demand) -> Reply {
        self.serial += 1;
        let asks = format!("{who:?} key {key:?} at +{}: {demand:?}", self.now - BEGINNING);
        writeln!(self.story, "{asks}").unwrap();
        let envelope = translate::envelope(who, key, self.serial, demand);
        let said = self.driver.send(&envelope, Timestamp::from_micros(self.now * 1_000_000));
        let expected = self.naive.ask(who, key, self.now, demand);
        writeln!(self.story, "    {}", brief(&expected)).unwrap();
        compare_reply(who, &said, &expected);
        self.compare_state();
        expected
    }

    /// Asks as the platform or a member, and insists that it is done.
    pub fn done(&mut self, who: &Who, demand: &Demand) -> Done {
        self.ask(who, None, demand).outcome.unwrap_or_else(|no| panic!("{demand:?} by {who:?}: {no:?}"))
    }

    fn compare_state(&self) {
        let naive = &self.naive;
        assert_eq!(self.driver.wallets.len(), naive.wallets.len(), "the number of wallets");
        for wallet in &naive.wallets {
            let other = &self.driver.wallets[&translate::reseller(wallet.owner)];
            let figures =
                (other.balance, other.reserved, other.credit_limit.credits(), other.low_credit_threshold.credits());
            let expected = (wallet.balance(), 0, wallet.limit, wallet.threshold);
            assert_eq!(figures, expected, "ledger / model: balance, reserved, limit, threshold of {}", wallet.owner);
            assert_eq!(other.armed, wallet.armed, "ledger / model: whether wallet {} is armed", wallet.owner);
            let holds = wallet.holds.iter().copied().map(translate::authority).collect();
            assert_eq!(other.holds, holds, "ledger / model: the holds on wallet {}", wallet.owner);
        }
        assert_eq!(self.driver.resellers.len(), naive.resellers.len(), "the number of resellers");
        for reseller in &naive.resellers {
            let other = &self.driver.resellers[&translate::reseller(reseller.id)];
            let profile = &other.profile.as_ref().expect("a profile").registration;
            let status = match reseller.status {
                naive::Status::Pending => ResellerStatus::Pending,
                naive::Status::Active => ResellerStatus::Active,
                naive::Status::Deactivated => ResellerStatus::Deactivated,
            };
            let expected = (translate::tier(reseller.tier), status, reseller.parent.map(translate::reseller));
            let figures = (profile.tier, profile.status, profile.parent);
            assert_eq!(figures, expected, "ledger / model: tier, status, parent of {}", reseller.id);
            let freezes = reseller.freezes.iter().copied().map(translate::authority).collect();
            assert_eq!(other.freezes, freezes, "ledger / model: the freezes on {}", reseller.id);
            let prices = reseller.prices.iter().map(|(sku, cost)| (translate::sku(*sku), *cost)).collect::<Vec<_>>();
            let others = other.prices.iter().map(|(sku, cost)| (sku.clone(), cost.credits())).collect::<Vec<_>>();
            assert_eq!(others, prices, "ledger / model: the prices of {}", reseller.id);
        }
        for code in &naive.codes {
            let other =
                &self.driver.resellers[&translate::reseller(code.owner)].referral_codes[&translate::code(code.id)];
            assert_eq!((other.uses, other.revoked), (code.uses, code.revoked), "ledger / model: code {}", code.id);
        }
        assert_eq!(self.driver.requests.len(), naive.requests.len(), "the number of requests");
        for request in &naive.requests {
            let id = aggregates::primitives::RequestId(translate::uuid(request.id));
            let other = self.driver.requests[&id].raised.as_ref().expect("raised");
            let addressee = match other.addressed_to {
                Addressee::Platform => None,
                Addressee::Reseller(id) => Some(translate::plain(id)),
            };
            let status = format!("{:?}", request.status);
            assert_eq!(format!("{:?}", other.status), status, "ledger / model: request {}", request.id);
            assert_eq!(addressee, request.addressee, "ledger / model: addressee of request {}", request.id);
        }
        for client in &naive.clients {
            let other = &self.driver.clients[&aggregates::primitives::ClientId(translate::uuid(client.id))];
            let status = format!("Some({:?})", client.status);
            assert_eq!(format!("{:?}", other.status), status, "ledger / model: client {}", client.id);
            assert_eq!(other.owner, Some(translate::reseller(client.owner)), "ledger / model: client {}", client.id);
        }
    }
}

fn brief(reply: &Reply) -> String {
    let again = if reply.replayed { " (replayed)" } else { "" };
    match &reply.outcome {
        Ok(done) if done.changed => {
            format!("done{again} sales {:?} low {:?} items {:?}", done.sales, done.low_credit, done.items)
        }
        Ok(_) => format!("nothing to do{again}"),
        Err(no) => format!("{no:?}{again}"),
    }
}

fn compare_reply(who: &Who, said: &Said, expected: &Reply) {
    match (said, &expected.outcome) {
        (Said::Accepted(Remembered::Done { changed, answer }, events), Ok(done)) if !expected.replayed => {
            let events: Vec<_> = events
                .iter()
                .map(|event| aggregates::event::NewEvent {
                    position: event.position,
                    key: event.key.clone(),
                    sequence: event.sequence,
                    event: event.event.clone(),
                })
                .collect();
            let (sales, alerts) = translate::sales_and_alerts(&events);
            assert_eq!(sales, done.sales, "ledger / model: sales");
            assert_eq!(alerts, done.low_credit, "ledger / model: low-credit alerts");
            assert_eq!(*changed, done.changed, "ledger / model: whether anything changed");
            compare_items(&translate::items(answer), &done.items);
        }
        (Said::Replayed(Remembered::Done { answer, .. }), Ok(done)) if expected.replayed => {
            compare_items(&translate::items(answer), &done.items);
        }
        (Said::Refused(rejection), Err(No::Refused(refusal))) if !expected.replayed => {
            compare_refusal(&translate::refusal(rejection), refusal);
        }
        (Said::Replayed(Remembered::Refused(rejection)), Err(No::Refused(refusal))) if expected.replayed => {
            compare_refusal(&translate::refusal(rejection), refusal);
        }
        // A payment system sees nothing but wallets to credit: it may be told either.
        (Said::Denied(_), Err(No::Denied("forbidden"))) if who.role == naive::Role::Payments => {}
        (Said::Denied(denial), Err(no)) => assert_eq!(translate::denial(denial), *no, "ledger / model: denial"),
        _ => panic!("ledger / model: {said:?} / {expected:?}"),
    }
}

fn compare_refusal(ledger: &naive::Refusal, model: &naive::Refusal) {
    // The model leaves figures out where a refusal has none worth comparing.
    let figures = if model.figures.is_empty() { vec![] } else { ledger.figures.clone() };
    let ledger = naive::Refusal { figures, ..ledger.clone() };
    assert_eq!(&ledger, model, "ledger / model: refusal");
}

fn compare_items(ledger: &[translate::ItemFigures], model: &[ItemReply]) {
    let model: Vec<translate::ItemFigures> = model
        .iter()
        .map(|item| {
            let outcome = item.outcome.clone().map(|sale| (sale.provision, sale.amount, sale.unit_cost));
            (item.replayed, outcome)
        })
        .collect();
    assert_eq!(ledger, model, "ledger / model: items of a bulk");
}
