//! A world for the ledger's unit tests: a ledger whose every key is loaded on demand from nothing, and people who command it.

use serde_json::Map;
use uuid::Uuid;

use crate::answer::{Answer, ProvisionAnswer};
use crate::command::{Command, CommandEnvelope, PriceBasis, ProvisionOrder, ReceiptKey};
use crate::event::{AggregateKey, Event, NewEvent};
use crate::platform::Policy;
use crate::primitives::{
    Actor, Amount, CommandId, CompanyName, CreditSource, Credits, Level, Percent, ProvisionId, Quantity, Refid,
    RefundId, ResellerId, Role, Sku, Text, Tier, Timestamp, TransferId, UserId,
};
use crate::product::ProductTerms;
use crate::rejection::{Denial, Rejection};
use crate::wallet::{Wallet, WalletEvent};

use super::{Decision, Key, Ledger, Loaded, Receipt, Receipts};

/// No key has been used before.
struct NoReceipts;

impl Receipts for NoReceipts {
    fn find(&self, _: &ReceiptKey) -> Option<&Receipt> {
        None
    }
}

/// Why a command was not accepted.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum No {
    Refused(Rejection),
    Denied(Denial),
}

impl No {
    pub(super) fn code(&self) -> String {
        let value = match self {
            Self::Refused(rejection) => serde_json::to_value(rejection),
            Self::Denied(denial) => serde_json::to_value(denial),
        };
        value.expect("json")["code"].as_str().expect("code").to_owned()
    }
}

pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) now: Timestamp,
    /// The events of the last command.
    pub(super) last: Vec<NewEvent>,
    ids: u128,
}

pub(super) fn platform() -> Actor {
    Actor { id: UserId::new("operator").expect("user"), role: Role::SuperAdmin, tenant: None, declared_cost: false }
}

pub(super) fn tenant(reseller: ResellerId) -> Actor {
    Actor {
        id: UserId::new(format!("user-of-{reseller}")).expect("user"),
        role: Role::Reseller,
        tenant: Some(reseller),
        declared_cost: false,
    }
}

pub(super) fn amount(credits: Credits) -> Amount {
    Amount::new(credits).expect("amount")
}

pub(super) fn level(credits: Credits) -> Level {
    Level::new(credits).expect("level")
}

pub(super) fn sku() -> Sku {
    Sku::new("pro").expect("sku")
}

impl World {
    /// A world with the default policy.
    pub(super) fn new() -> Self {
        let mut world = Self { ledger: Ledger::default(), now: Timestamp::from_micros(1), last: Vec::new(), ids: 0 };
        world.ok(&platform(), Command::SetPolicy(Policy::default()));
        world
    }

    pub(super) fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    /// Sends a command and takes in what comes of it.
    pub(super) fn send(&mut self, actor: &Actor, command: Command) -> Result<Answer, No> {
        let envelope =
            CommandEnvelope { command_id: CommandId(self.id()), actor: actor.clone(), idempotency: None, command };
        self.load_nothing(Ledger::footprint(&envelope.command));
        for _ in 0..4 {
            match self.ledger.decide(&envelope, self.now, &NoReceipts) {
                Decision::Accepted(mut accepted) => {
                    self.ledger.absorb(&mut accepted);
                    let changes_the_network = accepted.events.iter().any(|new| matches!(new.event, Event::Reseller(_)));
                    assert!(
                        !changes_the_network || envelope.command.may_change_the_network(),
                        "{:?}",
                        envelope.command
                    );
                    self.last = accepted.events;
                    return Ok(accepted.answer);
                }
                Decision::Refused(rejection) => return Err(No::Refused(rejection)),
                Decision::Denied(denial) => return Err(No::Denied(denial)),
                Decision::Missing(keys) => self.load_nothing(keys),
            }
        }
        panic!("still missing keys after four rounds: {:?}", envelope.command);
    }

    /// Everything that has been there is still loaded: what is missing has never been.
    fn load_nothing(&mut self, keys: Vec<Key>) {
        for key in keys.into_iter().filter(|key| !self.ledger.has(key)).collect::<Vec<_>>() {
            let nothing = match key {
                Key::Aggregate(_) => Loaded::Aggregate(None),
                Key::Fact(_) => Loaded::Fact(None),
                Key::PersonalData(_) => Loaded::PersonalData(None),
            };
            self.ledger.load(key, nothing).expect("loaded");
        }
    }

    pub(super) fn ok(&mut self, actor: &Actor, command: Command) -> Answer {
        let text = format!("{command:?}");
        self.send(actor, command).unwrap_or_else(|no| panic!("{text} was not accepted: {no:?}"))
    }

    /// Sends a command that must not be accepted, and must leave no trace; its code.
    pub(super) fn refused(&mut self, actor: &Actor, command: Command) -> String {
        let before = self.ledger.position();
        let text = format!("{command:?}");
        match self.send(actor, command) {
            Ok(answer) => panic!("{text} was accepted: {answer:?}"),
            Err(no) => {
                assert_eq!(self.ledger.position(), before);
                no.code()
            }
        }
    }

    pub(super) fn register(
        &mut self,
        actor: &Actor,
        parent: Option<ResellerId>,
        tier: Option<Tier>,
    ) -> Result<ResellerId, No> {
        let reseller = ResellerId(self.id());
        let command = Command::Register {
            reseller,
            refid: Refid::new(format!("RS-{reseller}")).expect("refid"),
            user_id: UserId::new(format!("user-of-{reseller}")).expect("user"),
            company_name: CompanyName::new("Company").expect("name"),
            parent,
            referral_code: None,
            tier,
            metadata: Map::new(),
        };
        self.send(actor, command).map(|_| reseller)
    }

    /// An active reseller.
    pub(super) fn reseller(&mut self, parent: Option<ResellerId>, tier: Tier) -> ResellerId {
        self.register(&platform(), parent, Some(tier)).expect("registered")
    }

    /// A standard seller under a gold parent under a platinum grandparent: (grandparent, parent, seller).
    pub(super) fn line_of_three(&mut self) -> (ResellerId, ResellerId, ResellerId) {
        let grandparent = self.reseller(None, Tier::Platinum);
        let parent = self.reseller(Some(grandparent), Tier::Gold);
        let seller = self.reseller(Some(parent), Tier::Standard);
        (grandparent, parent, seller)
    }

    pub(super) fn fund(&mut self, wallet: ResellerId, credits: Credits) {
        let (source, reference, note) = (CreditSource::Bonus, None, None);
        self.ok(&platform(), Command::AddCredits { wallet, amount: amount(credits), source, reference, note });
    }

    pub(super) fn publish(&mut self, base_cost: Credits, minimum_tier: Tier, margin: u32) {
        let terms = ProductTerms {
            name: Text::new("Pro").expect("text"),
            base_cost: level(base_cost),
            minimum_tier,
            minimum_margin_percent: Percent::whole(margin).expect("percent"),
        };
        self.ok(&platform(), Command::PublishProduct { sku: sku(), terms });
    }

    pub(super) fn order(&mut self, basis: PriceBasis) -> ProvisionOrder {
        ProvisionOrder { provision_id: ProvisionId(self.id()), basis, client: None, description: None, metadata: None }
    }

    pub(super) fn provision(
        &mut self,
        actor: &Actor,
        wallet: ResellerId,
        basis: PriceBasis,
    ) -> Result<ProvisionAnswer, No> {
        let order = Box::new(self.order(basis));
        match self.send(actor, Command::Provision { wallet, order })? {
            Answer::Provision(answer) => Ok(*answer),
            other => panic!("not a provision: {other:?}"),
        }
    }

    /// Provisions one unit of the product as the reseller itself.
    pub(super) fn sell(&mut self, wallet: ResellerId) -> Result<ProvisionAnswer, No> {
        self.provision(&tenant(wallet), wallet, PriceBasis::Product { sku: sku(), quantity: Quantity::ONE })
    }

    pub(super) fn refund(
        &mut self,
        wallet: ResellerId,
        provision_id: ProvisionId,
        part: Option<Credits>,
    ) -> Result<Answer, No> {
        let refund_id = RefundId(self.id());
        let (amount, reason) = (part.map(amount), None);
        self.send(&platform(), Command::Refund { wallet, provision_id, refund_id, amount, reason })
    }

    pub(super) fn transfer(&mut self, from: ResellerId, to: ResellerId, credits: Credits) -> Command {
        Command::Transfer { from, to, transfer_id: TransferId(self.id()), amount: amount(credits), note: None }
    }

    pub(super) fn balance(&self, wallet: ResellerId) -> Credits {
        let snapshot = self.ledger.snapshot(&AggregateKey::Wallet(wallet)).expect("snapshot");
        snapshot.map_or(0, |(payload, _)| serde_json::from_str::<Wallet>(&payload).expect("wallet").balance)
    }

    /// The kinds of the last command's events.
    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.last.iter().map(|new| new.event.event_type()).collect()
    }

    /// What each wallet moved by in the last command.
    pub(super) fn moved(&self) -> Vec<(ResellerId, Credits)> {
        self.last
            .iter()
            .filter_map(|new| match (&new.key, &new.event) {
                (AggregateKey::Wallet(wallet), Event::Wallet(event)) => {
                    Some((*wallet, WalletEvent::balance_change(event)))
                }
                _ => None,
            })
            .collect()
    }
}
