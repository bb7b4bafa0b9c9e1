//! Between the model's plain words and the ledger's types: demands into commands, decisions into replies.

use aggregates::answer::{Answer, BulkItemAnswer, ItemOutcome, ProvisionAnswer};
use aggregates::client::ClientDetails;
use aggregates::command::{
    BulkItem, ClientStep, Command, CommandEnvelope, Idempotency, PriceBasis, ProvisionOrder, ReceiptKey,
};
use aggregates::event::{AggregateKey, Event, NewEvent};
use aggregates::platform::{Policy, TierDiscounts};
use aggregates::primitives::{
    Actor, Amount, Authority, ClientId, CommandId, CompanyName, CreditSource, Level, Percent, ProvisionId, Quantity,
    Reference, ReferralCode, ReferralTag, Refid, RefundId, RemovalKind, RequestId, RequestKind, ResellerId, Role, Sku,
    Text, Tier, TransferId, UserId,
};
use aggregates::product::ProductTerms;
use aggregates::rejection::{Denial, Rejection};
use aggregates::reseller::SettingsPatch;
use aggregates::upline_request::Ask;
use aggregates::wallet::WalletEvent;
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::naive::{self, Demand, Id, Kind, No, Refusal, Rules, Sale, Who, Wish};

pub fn uuid(id: Id) -> Uuid {
    Uuid::from_u128(u128::from(id))
}
pub fn reseller(id: Id) -> ResellerId {
    ResellerId(uuid(id))
}
pub fn sku(id: Id) -> Sku {
    Sku::new(format!("sku-{id}")).unwrap()
}
pub fn code(id: Id) -> ReferralCode {
    ReferralCode::new(format!("code-{id}")).unwrap()
}
fn user(id: Id) -> UserId {
    UserId::new(format!("user-{id}")).unwrap()
}
pub fn plain(id: ResellerId) -> Id {
    plain_uuid(id.0)
}
fn plain_uuid(id: Uuid) -> Id {
    Id::try_from(id.as_u128()).unwrap()
}
fn amount(credits: i64) -> Amount {
    Amount::new(credits).unwrap()
}
fn level(credits: i64) -> Level {
    Level::new(credits).unwrap()
}
fn percent(hundredths: i64) -> Percent {
    Percent::try_from(Decimal::new(hundredths, 2)).unwrap()
}
pub fn tier(tier: naive::Tier) -> Tier {
    Tier::ALL[tier]
}
fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

pub fn authority(authority: naive::Authority) -> Authority {
    match authority {
        naive::Authority::LowCreditPolicy => Authority::LowCreditPolicy,
        naive::Authority::Reseller(id) => Authority::Reseller(reseller(id)),
        naive::Authority::Platform => Authority::Platform,
    }
}

pub fn policy(rules: &Rules) -> Policy {
    let [standard, gold, platinum] = rules.discounts.map(percent);
    Policy {
        tiers: TierDiscounts { standard, gold, platinum },
        default_tier: tier(rules.default_tier),
        low_credit_threshold: level(rules.threshold),
        commissions: rules.commissions,
        referral_bonus: level(rules.referral_bonus),
        max_child_price_percent: percent(rules.max_child_price),
        auto_approve: rules.auto_approve,
        auto_open_wallet: rules.opens_wallets,
        request_expiry_days: u32::try_from(rules.expiry_days).unwrap(),
        ..Policy::default()
    }
}

pub fn actor(who: &Who) -> Actor {
    Actor {
        id: user(who.user),
        role: match who.role {
            naive::Role::SuperAdmin => Role::SuperAdmin,
            naive::Role::Reseller => Role::Reseller,
            naive::Role::Payments => Role::Payments,
            naive::Role::Auditor => Role::Auditor,
            naive::Role::System => Role::System,
        },
        tenant: who.tenant.map(reseller),
        declared_cost: who.declared_cost,
    }
}

/// As the service would hash it: one key space for each tenant and actor.
pub fn idempotency(who: &Who, key: Id, fingerprint: u64) -> Idempotency {
    let mut receipt: ReceiptKey = [0; 16];
    receipt[..4].copy_from_slice(&u32::try_from(who.tenant.map_or(0, |id| id + 1)).unwrap().to_be_bytes());
    receipt[4..8].copy_from_slice(&u32::try_from(who.user).unwrap().to_be_bytes());
    receipt[8..].copy_from_slice(&key.to_be_bytes());
    let mut print = [0; 32];
    print[..8].copy_from_slice(&fingerprint.to_be_bytes());
    Idempotency { key: receipt, fingerprint: print }
}

fn order(order: &naive::Order) -> ProvisionOrder {
    ProvisionOrder {
        provision_id: ProvisionId(uuid(order.provision)),
        basis: match order.basis {
            naive::Basis::Product { product, quantity } => PriceBasis::Product {
                sku: sku(product),
                quantity: Quantity::new(u32::try_from(quantity).unwrap()).unwrap(),
            },
            naive::Basis::BaseCost(cost) => PriceBasis::BaseCost(level(cost)),
            naive::Basis::Cost(cost) => PriceBasis::Cost(amount(cost)),
        },
        client: order.client.map(|id| ClientId(uuid(id))),
        description: None,
        metadata: None,
    }
}

fn terms(terms: &naive::Terms) -> ProductTerms {
    ProductTerms {
        name: text("a product"),
        base_cost: level(terms.base_cost),
        minimum_tier: tier(terms.minimum_tier),
        minimum_margin_percent: percent(terms.minimum_margin),
    }
}

fn kind(kind: Kind) -> RequestKind {
    match kind {
        Kind::ReferralCode => RequestKind::ReferralCode,
        Kind::CreditTopup => RequestKind::CreditTopup,
        Kind::TierUpgrade => RequestKind::TierUpgrade,
        Kind::PriceChange => RequestKind::PriceChange,
        Kind::Generic => RequestKind::Generic,
    }
}

fn ask(wish: Wish) -> Ask {
    match wish {
        Wish::ReferralCode { become_partner } => {
            let tag = if become_partner { "become-partner" } else { "friends" };
            Ask::ReferralCode { tag: ReferralTag::new(tag).unwrap() }
        }
        Wish::CreditTopup(credits) => Ask::CreditTopup { amount: amount(credits) },
        Wish::TierUpgrade(wanted) => Ask::TierUpgrade { tier: tier(wanted) },
        Wish::PriceChange { product, cost } => Ask::PriceChange { sku: sku(product), cost: level(cost) },
        Wish::Generic => Ask::Generic { subject: text("a question"), body: text("at length") },
    }
}

/// The command that a demand means; `serial` makes the identities that a sender makes.
pub fn envelope(who: &Who, key: Option<(Id, u64)>, serial: u64, demand: &Demand) -> CommandEnvelope {
    CommandEnvelope {
        command_id: CommandId(uuid(serial)),
        actor: actor(who),
        idempotency: key.map(|(key, fingerprint)| idempotency(who, key, fingerprint)),
        command: command(who, serial, demand),
    }
}

fn command(who: &Who, serial: u64, demand: &Demand) -> Command {
    let request_id = |id: &Id| RequestId(uuid(*id));
    match demand {
        Demand::SetRules(rules) => Command::SetPolicy(policy(rules)),
        Demand::Register { reseller: id, user: user_id, parent, code: by, tier: wanted } => Command::Register {
            reseller: reseller(*id),
            refid: Refid::new(format!("RS-{id}")).unwrap(),
            user_id: user(*user_id),
            company_name: CompanyName::new(format!("Company {id}")).unwrap(),
            parent: parent.map(reseller),
            referral_code: by.map(code),
            tier: wanted.map(tier),
            metadata: Map::<String, Value>::new(),
        },
        Demand::Approve(id) => Command::Approve { reseller: reseller(*id) },
        Demand::Deactivate(id) => Command::Deactivate { reseller: reseller(*id), reason: None },
        Demand::Reactivate(id) => Command::Reactivate { reseller: reseller(*id), reason: None },
        Demand::Freeze(id) => Command::Freeze { reseller: reseller(*id), reason: None },
        Demand::Unfreeze(id) => Command::Unfreeze { reseller: reseller(*id), reason: None },
        Demand::ChangeTier(id, to) => Command::ChangeTier { reseller: reseller(*id), tier: tier(*to), reason: None },
        Demand::ChangeSettings(id, preferences) => Command::ChangeSettings {
            reseller: reseller(*id),
            patch: SettingsPatch {
                auto_forward: preferences.auto_forward.iter().map(|(of, on)| (kind(*of), *on)).collect(),
                notifications: std::collections::BTreeMap::new(),
                margin_percent: preferences.margin.map(|margin| margin.map(percent)),
                allow_withdraw: preferences.allow_withdraw,
                hold_on_low_credit: preferences.hold_on_low_credit,
            },
            threshold: preferences.threshold.map(level),
        },
        Demand::SetPrice { reseller: id, product, cost } => {
            Command::SetPrice { reseller: reseller(*id), sku: sku(*product), cost: level(*cost) }
        }
        Demand::ClearPrice { reseller: id, product } => {
            Command::ClearPrice { reseller: reseller(*id), sku: sku(*product) }
        }
        Demand::RevokeCode { reseller: id, code: of } => {
            Command::RevokeReferralCode { reseller: reseller(*id), code: code(*of) }
        }
        Demand::OpenWallet(id) => Command::OpenWallet { wallet: reseller(*id) },
        Demand::AddCredits { wallet, amount: credits, source, reference } => Command::AddCredits {
            wallet: reseller(*wallet),
            amount: amount(*credits),
            source: match source {
                naive::Source::Purchase => CreditSource::Purchase,
                naive::Source::Bonus => CreditSource::Bonus,
                naive::Source::Referral => CreditSource::Referral,
                naive::Source::Adjustment => CreditSource::Adjustment,
            },
            reference: reference.map(|id| Reference::new(format!("ref-{id}")).unwrap()),
            note: None,
        },
        Demand::RemoveCredits { wallet, amount: credits } => Command::RemoveCredits {
            wallet: reseller(*wallet),
            amount: amount(*credits),
            kind: RemovalKind::Chargeback,
            reason: None,
        },
        Demand::Provision { wallet, order: asked } => {
            Command::Provision { wallet: reseller(*wallet), order: Box::new(order(asked)) }
        }
        Demand::Bulk { wallet, atomic, items } => Command::ProvisionBulk {
            wallet: reseller(*wallet),
            atomic: *atomic,
            items: items
                .iter()
                .map(|item| BulkItem {
                    order: order(&item.order),
                    idempotency: item.key.map(|(key, fingerprint)| idempotency(who, key, fingerprint)),
                })
                .collect(),
        },
        Demand::Refund { wallet, provision, amount: credits } => Command::Refund {
            wallet: reseller(*wallet),
            provision_id: ProvisionId(uuid(*provision)),
            refund_id: RefundId(uuid(serial)),
            amount: credits.map(amount),
            reason: None,
        },
        Demand::Transfer { from, to, amount: credits } => Command::Transfer {
            from: reseller(*from),
            to: reseller(*to),
            transfer_id: TransferId(uuid(serial)),
            amount: amount(*credits),
            note: None,
        },
        Demand::SetThreshold(id, threshold) => {
            Command::SetThreshold { wallet: reseller(*id), threshold: level(*threshold) }
        }
        Demand::SetCreditLimit(id, limit) => {
            Command::SetCreditLimit { wallet: reseller(*id), credit_limit: level(*limit) }
        }
        Demand::SetHold(id, held) => Command::SetHold { wallet: reseller(*id), held: *held, reason: None },
        Demand::Onboard { client, owner } => Command::OnboardClient {
            client: ClientId(uuid(*client)),
            owner: owner.map(reseller),
            details: ClientDetails {
                salt: format!("{serial:032x}"),
                name: text("a client"),
                email: None,
                metadata: Map::new(),
            },
        },
        Demand::StepClient(id, step) => Command::StepClient {
            client: ClientId(uuid(*id)),
            step: match step {
                naive::Step::Activate => ClientStep::Activate,
                naive::Step::Suspend => ClientStep::Suspend,
                naive::Step::Deactivate => ClientStep::Deactivate,
                naive::Step::Forget => ClientStep::Forget,
            },
        },
        Demand::Reassign { client, owner } => {
            Command::ReassignClient { client: ClientId(uuid(*client)), owner: reseller(*owner) }
        }
        Demand::Publish(id, of) => Command::PublishProduct { sku: sku(*id), terms: terms(of) },
        Demand::Revise(id, of) => Command::ReviseProduct { sku: sku(*id), terms: terms(of) },
        Demand::Retire(id) => Command::RetireProduct { sku: sku(*id) },
        Demand::Raise { request, requester, wish } => {
            Command::RaiseRequest { request: request_id(request), requester: reseller(*requester), ask: ask(*wish) }
        }
        Demand::ApproveRequest { request, code: fresh } => Command::ApproveRequest {
            request: request_id(request),
            transfer_id: TransferId(uuid(serial)),
            code: code(*fresh),
            note: None,
        },
        Demand::RejectRequest(id) => Command::RejectRequest { request: request_id(id), reason: None },
        Demand::CancelRequest(id) => Command::CancelRequest { request: request_id(id) },
        Demand::ForwardRequest(id) => Command::ForwardRequest { request: request_id(id) },
        Demand::ExpireRequest(id) => Command::ExpireRequest { request: request_id(id) },
        Demand::FailRequest(id) => Command::FailRequest { request: request_id(id) },
    }
}

fn word(value: &impl serde::Serialize) -> &'static str {
    let json = serde_json::to_value(value).unwrap();
    // Codes are few; leaking a word each is what a test may do.
    Box::leak(json["code"].as_str().unwrap().to_owned().into_boxed_str())
}

pub fn refusal(rejection: &Rejection) -> Refusal {
    let (figures, index) = match rejection {
        Rejection::ItemRefused { index, refusal: inner } => {
            return Refusal { index: Some(*index), ..refusal(inner) };
        }
        Rejection::InsufficientCredits { required, available, balance, reserved } => {
            (vec![*required, *available, *balance, *reserved], None)
        }
        Rejection::LimitExceeded { least, most, .. } => (vec![*least, *most], None),
        Rejection::NotRefundable { refundable } => (vec![*refundable], None),
        _ => (vec![], None),
    };
    Refusal { code: word(rejection), figures, index }
}

pub fn denial(denial: &Denial) -> No {
    No::Denied(word(denial))
}

/// Every sale among some events, and every low-credit alert.
pub fn sales_and_alerts(events: &[NewEvent]) -> (Vec<Sale>, Vec<(Id, i64, i64)>) {
    let mut sales = Vec::new();
    let mut alerts = Vec::new();
    for event in events {
        match (&event.key, &event.event) {
            (AggregateKey::Wallet(id), Event::Wallet(WalletEvent::Provisioned { provision, .. })) => {
                let commissions = provision.commissions.iter().map(|one| (plain(one.reseller), one.amount)).collect();
                sales.push(Sale {
                    wallet: plain(*id),
                    provision: plain_uuid(provision.provision_id.0),
                    amount: provision.amount,
                    unit_cost: provision.unit_cost,
                    source: provision.price_source.word(),
                    commissions,
                });
            }
            (AggregateKey::Wallet(id), Event::Wallet(WalletEvent::LowCredit { threshold, balance, .. })) => {
                alerts.push((plain(*id), *balance, threshold.credits()));
            }
            _ => {}
        }
    }
    (sales, alerts)
}

/// An item's figures: whether replayed; identity, amount and unit cost, or the refusal.
pub type ItemFigures = (bool, Result<(Id, i64, i64), Refusal>);

pub fn items(answer: &Answer) -> Vec<ItemFigures> {
    let figures = |answer: &ProvisionAnswer| (plain_uuid(answer.provision_id.0), answer.amount, answer.unit_cost);
    let item = |item: &BulkItemAnswer| match &item.outcome {
        ItemOutcome::Provisioned(answer) => (item.replayed, Ok(figures(answer))),
        ItemOutcome::Refused(rejection) => (item.replayed, Err(refusal(rejection))),
    };
    match answer {
        Answer::Bulk(bulk) => bulk.items.iter().map(item).collect(),
        _ => Vec::new(),
    }
}
