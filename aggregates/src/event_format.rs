//! The event format under review: `event_format.json` holds a sample of every event as the log stores it.
//!
//! A change of the file is a change of what has been written for ever: it takes a new event version and an upcaster, and the
//! samples of the older version stay in the file. After a change on purpose: `TALLYTREE_BLESS=1 cargo test -p aggregates`.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::client::ClientEvent;
use crate::closing::{AccountTotal, Closing};
use crate::event::{EVENT_VERSION, Event};
use crate::facts::{ProvisionStep, provision_step};
use crate::platform::{Platform, PlatformEvent, Policy};
use crate::primitives::{
    Amount, Authority, ClientId, CommandId, CompanyName, CreditSource, Level, Percent, PriceSource, ProvisionId,
    Quantity, Reference, ReferralCode, ReferralTag, Refid, RefundId, RemovalKind, RequestId, RequestKind, ResellerId,
    ResellerStatus, Sku, Text, Tier, Timestamp, TransferId, UserId,
};
use crate::product::{ProductEvent, ProductTerms};
use crate::reseller::{Channel, Referral, Registrar, Registration, ResellerEvent, Settings};
use crate::upline_request::{Addressee, Ask, Outcome, UplineRequestEvent};
use crate::wallet::{Commission, Provision, WalletEvent};

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(0x0190_d3a5_7c1e_7b60_8f00_0000_0000_0000 + number)
}

fn reseller(number: u128) -> ResellerId {
    ResellerId(uuid(number))
}

fn text(words: &str) -> Text {
    Text::new(words).expect("text")
}

fn level(credits: i64) -> Level {
    Level::new(credits).expect("level")
}

fn time() -> Timestamp {
    "2026-11-21T09:30:00.123456Z".parse().expect("time")
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().expect("object")
}

fn reseller_samples() -> Vec<ResellerEvent> {
    let code = || ReferralCode::new("BEN123").expect("code");
    let tag = || ReferralTag::new("become-partner").expect("tag");
    let sku = || Sku::new("pro-license").expect("sku");
    vec![
        ResellerEvent::ResellerRegistered(Box::new(Registration {
            reseller: reseller(2),
            user_id: UserId::new("user-2").expect("user"),
            refid: Refid::new("RS-7KQ2M9XW4TPD").expect("refid"),
            company_name: CompanyName::new("Elite Global Partners").expect("name"),
            tier: Tier::Platinum,
            status: ResellerStatus::Pending,
            parent: Some(reseller(1)),
            depth: 1,
            metadata: object(&json!({"logo": "https://example.com/logo.png"})),
            referral: Some(Referral { code: code(), tag: tag(), referrer: reseller(1) }),
            registrar: Registrar::Platform,
            registered_at: time(),
        })),
        ResellerEvent::ResellerRenamed { company_name: CompanyName::new("Elite").expect("name") },
        ResellerEvent::ResellerApproved { user_id: UserId::new("user-2").expect("user") },
        ResellerEvent::ResellerDeactivated { reason: Some(text("contract ended")) },
        ResellerEvent::ResellerReactivated { reason: None },
        ResellerEvent::TierChanged { from: Tier::Standard, to: Tier::Gold, reason: None },
        ResellerEvent::MetadataUpdated { patch: object(&json!({"logo": null})) },
        ResellerEvent::SettingsChanged {
            settings: Settings {
                auto_forward: [(RequestKind::CreditTopup, true)].into(),
                notifications: [(Channel::Email, true), (Channel::Webhook, false)].into(),
                margin_percent: Some("12.5".parse::<Percent>().expect("percent")),
                allow_withdraw: true,
                hold_on_low_credit: true,
            },
        },
        ResellerEvent::SubtreeFrozen { authority: Authority::Reseller(reseller(1)), reason: Some(text("unpaid")) },
        ResellerEvent::SubtreeUnfrozen { authority: Authority::Platform, reason: None },
        ResellerEvent::ReferralCodeIssued {
            code: code(),
            tag: tag(),
            max_uses: 100,
            expires_at: time(),
            request: RequestId(uuid(30)),
        },
        ResellerEvent::ReferralCodeRevoked { code: code() },
        ResellerEvent::ReferralCompleted { code: code(), tag: tag(), referred: reseller(3) },
        ResellerEvent::PriceSet { by: Authority::Reseller(reseller(1)), sku: sku(), cost: level(900) },
        ResellerEvent::PriceCleared { sku: sku() },
    ]
}

fn wallet_samples() -> Vec<WalletEvent> {
    let (balance, reserved) = (1000, 0);
    let (provision_id, refund_id) = (ProvisionId(uuid(40)), RefundId(uuid(41)));
    let transfer_id = TransferId(uuid(42));
    let reason = Some(text("in words"));
    let provision = Provision {
        provision_id,
        amount: 2000,
        unit_cost: 1000,
        price_source: PriceSource::Tier,
        quantity: Quantity::new(2).expect("quantity"),
        base_cost: Some(1000),
        discount_percent: Some(Percent::default()),
        sku: Some(Sku::new("pro-license").expect("sku")),
        client: Some(ClientId(uuid(50))),
        description: Some(text("Issue Pro License")),
        metadata: Some(object(&json!({"order": 7}))),
        commissions: vec![Commission { reseller: reseller(1), amount: 300 }],
    };
    vec![
        WalletEvent::WalletOpened { reseller: reseller(2), low_credit_threshold: level(500), balance: 0, reserved },
        WalletEvent::CreditsAdded {
            transaction_id: CommandId(uuid(60)),
            amount: 50_000,
            source: CreditSource::Purchase,
            reference: Some(Reference::new("INV-2026-0001").expect("reference")),
            note: reason.clone(),
            balance,
            reserved,
        },
        WalletEvent::CreditsRemoved {
            amount: 100,
            kind: RemovalKind::Chargeback,
            reason: reason.clone(),
            balance: -100,
            reserved,
        },
        WalletEvent::Provisioned { provision: Box::new(provision), balance, reserved },
        WalletEvent::CommissionEarned { provision_id, seller: reseller(2), amount: 300, balance, reserved },
        WalletEvent::ProvisionRefunded {
            refund_id,
            provision_id,
            amount: 500,
            refunded_total: 700,
            reason: reason.clone(),
            balance,
            reserved,
        },
        WalletEvent::CommissionReversed { refund_id, provision_id, amount: 75, balance, reserved },
        WalletEvent::CreditsTransferredOut {
            transfer_id,
            to: reseller(2),
            amount: 10,
            note: reason.clone(),
            balance,
            reserved,
        },
        WalletEvent::CreditsTransferredIn {
            transfer_id,
            from: reseller(1),
            amount: 10,
            note: reason.clone(),
            balance,
            reserved,
        },
        WalletEvent::LowCreditThresholdSet { threshold: level(800), balance, reserved },
        WalletEvent::CreditLimitSet { former_limit: level(0), credit_limit: level(250), balance, reserved },
        WalletEvent::ProvisioningHeld { authority: Authority::LowCreditPolicy, reason: None, balance, reserved },
        WalletEvent::ProvisioningResumed { authority: Authority::Platform, reason, balance, reserved },
        WalletEvent::LowCredit { threshold: level(500), balance: 499, reserved },
    ]
}

fn upline_request_samples() -> Vec<UplineRequestEvent> {
    let raised = |ask| UplineRequestEvent::UplineRequestRaised {
        request: RequestId(uuid(30)),
        requester: reseller(2),
        raised_by: UserId::new("user-2").expect("user"),
        ask,
        addressed_to: Addressee::Reseller(reseller(1)),
        expires_at: time(),
    };
    let completed = |result| UplineRequestEvent::UplineRequestCompleted { by: Addressee::Platform, result };
    vec![
        raised(Ask::CreditTopup { amount: Amount::new(100).expect("amount") }),
        raised(Ask::ReferralCode { tag: ReferralTag::new("become-partner").expect("tag") }),
        raised(Ask::TierUpgrade { tier: Tier::Gold }),
        raised(Ask::PriceChange { sku: Sku::new("pro-license").expect("sku"), cost: level(900) }),
        raised(Ask::Generic { subject: text("Logo"), body: text("May we use yours?") }),
        UplineRequestEvent::UplineRequestForwarded { from: Addressee::Reseller(reseller(1)), to: Addressee::Platform },
        completed(Outcome::Credits { transfer_id: Some(TransferId(uuid(42))) }),
        completed(Outcome::ReferralCode(ReferralCode::new("BEN123").expect("code"))),
        completed(Outcome::Tier(Tier::Gold)),
        completed(Outcome::Price(level(900))),
        completed(Outcome::Answer(None)),
        UplineRequestEvent::UplineRequestRejected { reason: Some(text("not now")) },
        UplineRequestEvent::UplineRequestCancelled {},
        UplineRequestEvent::UplineRequestExpired {},
        UplineRequestEvent::UplineRequestFailed { reason: text("the requester has gone") },
    ]
}

fn closing() -> Closing {
    let total = |debit, credit, balance| AccountTotal { debit, credit, balance };
    Closing {
        month: "2026-10".parse().expect("month"),
        last_position: 4711,
        head_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        totals: [
            ("platform:issued:purchase".to_owned(), total(500, 0, -900)),
            ("platform:revenue".to_owned(), total(0, 200, 300)),
            ("wallet".to_owned(), total(200, 500, 600)),
        ]
        .into(),
    }
}

pub(crate) fn samples() -> Vec<(&'static str, Event)> {
    let client = |event: ClientEvent| ("Client", Event::from(event));
    let product = |event: ProductEvent| ("Product", Event::from(event));
    let terms = ProductTerms {
        name: text("Pro license"),
        base_cost: level(1000),
        minimum_tier: Tier::Standard,
        minimum_margin_percent: Percent::default(),
    };
    let mut samples = vec![
        ("Platform", Event::from(PlatformEvent::PolicySet { policy: Policy::default() })),
        ("Platform", Event::from(PlatformEvent::PeriodClosed(Box::new(closing())))),
    ];
    samples.extend(reseller_samples().into_iter().map(|event| ("Reseller", Event::from(event))));
    samples.extend(wallet_samples().into_iter().map(|event| ("Wallet", Event::from(event))));
    samples.extend(upline_request_samples().into_iter().map(|event| ("UplineRequest", Event::from(event))));
    samples.extend([
        client(ClientEvent::ClientOnboarded {
            client: ClientId(uuid(50)),
            owner: reseller(2),
            details_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            onboarded_at: time(),
        }),
        client(ClientEvent::ClientDetailsChanged { details_hash: "9f86d081".into() }),
        client(ClientEvent::ClientActivated {}),
        client(ClientEvent::ClientSuspended {}),
        client(ClientEvent::ClientDeactivated {}),
        client(ClientEvent::ClientReassigned { from: reseller(2), to: reseller(3) }),
        client(ClientEvent::ClientForgotten {}),
        product(ProductEvent::ProductPublished { sku: Sku::new("pro-license").expect("sku"), terms: terms.clone() }),
        product(ProductEvent::ProductRepriced { former_base_cost: level(1200), terms: terms.clone() }),
        product(ProductEvent::ProductRevised { terms }),
        product(ProductEvent::ProductRetired {}),
    ]);
    samples
}

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/event_format.json");

#[test]
fn every_event_is_written_as_the_reviewed_format_says() {
    let written: Vec<Value> = samples()
        .iter()
        .map(|(aggregate_type, event)| {
            let payload: Value = serde_json::from_str(&event.payload().expect("payload")).expect("json");
            json!({
                "aggregate_type": aggregate_type,
                "event_type": event.event_type(),
                "event_version": EVENT_VERSION,
                "payload": payload,
            })
        })
        .collect();
    if std::env::var_os("TALLYTREE_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&written).expect("json");
        std::fs::write(FILE, text + "\n").expect("written");
    }
    let reviewed: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(FILE).expect("the file")).expect("json");
    for sample in &written {
        assert!(reviewed.contains(sample), "not in event_format.json: {sample:#}");
    }
}

#[test]
fn every_event_ever_written_is_still_read() {
    let reviewed: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(FILE).expect("the file")).expect("json");
    let known: Vec<Event> = samples().into_iter().map(|(_, event)| event).collect();
    assert!(!reviewed.is_empty());
    for sample in reviewed {
        let member = |name: &str| sample[name].as_str().expect("text").to_owned();
        let event = Event::decode(
            &member("aggregate_type"),
            &member("event_type"),
            &member("event_version"),
            &sample["payload"].to_string(),
        );
        assert!(event.as_ref().is_ok_and(|event| known.contains(event)), "{sample:#}: {event:?}");
    }
}

#[test]
fn no_event_type_is_without_a_sample() {
    let sampled: Vec<&str> = samples().iter().map(|(_, event)| event.event_type()).collect();
    let kinds = [
        PlatformEvent::KINDS,
        ResellerEvent::KINDS,
        WalletEvent::KINDS,
        UplineRequestEvent::KINDS,
        ClientEvent::KINDS,
        ProductEvent::KINDS,
    ];
    for kind in kinds.concat() {
        assert!(sampled.contains(&kind), "{kind} has no sample");
    }
}

/// What is read of a payload without decoding it is what decoding it says: in the words of today, and of any order of members.
#[test]
fn what_an_event_does_to_a_provision_is_read_from_its_text_as_from_its_whole() {
    let mut steps = 0;
    for (aggregate_type, event) in samples() {
        let decoded = ProvisionStep::of(&event);
        let as_written = event.payload().expect("json");
        let in_another_order = serde_json::from_str::<Value>(&as_written).expect("json");
        for payload in [as_written, in_another_order.to_string(), format!("{in_another_order:#}")] {
            let read = provision_step(aggregate_type, event.event_type(), EVENT_VERSION, &payload);
            assert_eq!(read, Ok(decoded), "{payload}");
        }
        steps += usize::from(decoded.is_some());
    }
    assert_eq!(steps, 2, "of a provision, and of a refund");
}

/// Snapshots are no format for ever (another `state_version` is replayed), but within one version they must read back.
#[test]
fn a_platform_snapshot_reads_back() {
    let platform = Platform { policy: Policy::default(), seeded: true, closed: Some(Box::new(closing())) };
    let text = serde_json::to_string(&platform).expect("json");
    assert_eq!(serde_json::from_str::<Platform>(&text).expect("platform"), platform);
}
