//! How the network grows: who joins under whom, who lets them in, and how tiers follow size.

use std::collections::BTreeMap;

use aggregates::client::ClientDetails;
use aggregates::command::{ClientStep, Command};
use aggregates::primitives::{
    ClientId, CompanyName, Invalid, Percent, ReferralCode, ResellerId, ResellerStatus, Text, Tier, UserId,
};
use rand::Rng;
use serde_json::{Map, Value};

use super::book::{Member, OwnClient};
use super::calendar::MOMENTS;
use super::{Later, Plan, names};

/// How many top-level resellers there are on the first day.
const FIRST_PARTNERS: usize = 6;
/// How many there are in the end.
const TOP_LEVEL_MAX: usize = 10;
/// The most clients that a demo's reseller has, so that the plan's memory stays small.
const CLIENTS_MAX: usize = 400;
/// From which downline on a reseller is gold, and platinum.
const GOLD_FROM: usize = 5;
const PLATINUM_FROM: usize = 20;

/// How a newcomer comes.
enum Way {
    /// The platform registers it.
    Platform,
    /// Its parent registers it.
    Parent,
    /// It brings a code.
    Code(ReferralCode),
}

impl Plan {
    /// Lets newcomers in, as many as the network should have grown by now.
    pub(super) fn welcome_newcomers(&mut self) -> Result<(), Invalid> {
        // A tenth on the first day, then a little faster every month.
        let last = MOMENTS - 1;
        let passed = self.moment.min(last);
        let steady = self.size.resellers * passed / last;
        let grown = self.size.resellers * passed / last * passed / last;
        let wanted = (self.size.resellers / 10 + steady / 2 + grown * 2 / 5).max(FIRST_PARTNERS);
        let wanted = if passed == last { self.size.resellers } else { wanted.min(self.size.resellers) };
        while self.book.members.len() < wanted {
            self.register_somebody()?;
        }
        Ok(())
    }

    fn register_somebody(&mut self) -> Result<(), Invalid> {
        let index = self.book.members.len();
        let late_partner = index >= FIRST_PARTNERS
            && self.book.top_level.len() < TOP_LEVEL_MAX
            && self.size.resellers >= 60
            && index % (self.size.resellers / 8) == self.size.resellers / 16;
        let parent = if index < FIRST_PARTNERS || late_partner { None } else { self.parent_for_newcomer() };
        let way = match parent {
            None => Way::Platform,
            Some(parent) => match self.usable_code(parent) {
                Some(code) if self.chance(50) => Way::Code(code),
                _ if self.chance(85) => Way::Parent,
                _ => Way::Platform,
            },
        };
        let (company, short) = names::company(&mut self.rng, &mut self.book.names);
        let reseller = ResellerId(self.id());
        let user = UserId::new(format!("owner@{short}.example"))?;
        let tier = match (parent, &way) {
            (None, _) if index < 3 => Some(Tier::Platinum),
            (None, _) => Some(Tier::Gold),
            (Some(_), Way::Platform) if self.chance(15) => Some(Tier::Gold),
            _ => None,
        };
        let pending = !matches!(way, Way::Platform);
        let by_code = matches!(way, Way::Code(_));
        let actor = match (&way, parent) {
            (Way::Parent, Some(parent)) => self.acting(parent),
            _ => Self::operator()?,
        };
        let command = Command::Register {
            reseller,
            refid: self.refid()?,
            user_id: user.clone(),
            company_name: CompanyName::new(company)?,
            parent: match way {
                Way::Code(_) => None,
                _ => parent.map(|parent| self.book.members[parent].id),
            },
            referral_code: match way {
                Way::Code(code) => Some(code),
                _ => None,
            },
            tier,
            metadata: self.first_metadata(&short),
        };
        self.send(actor, command, if by_code { 3 } else { 2 });
        let appetite = self.rng.random_range(1..=100_u32).pow(2) / 130 + if parent.is_none() { 23 } else { 4 };
        let member = Member {
            id: reseller,
            user,
            parent,
            depth: parent.map_or(0, |parent| self.book.members[parent].depth + 1),
            tier: tier.unwrap_or(self.book.policy.default_tier),
            status: if pending { ResellerStatus::Pending } else { ResellerStatus::Active },
            margin_percent: None,
            prices: BTreeMap::new(),
            children: Vec::new(),
            downline: 0,
            frozen: false,
            held: false,
            balance: 0,
            threshold: self.book.policy.low_credit_threshold.credits(),
            armed: true,
            clients: Vec::new(),
            referred: by_code,
            appetite: appetite.min(100),
            careless: self.chance(12),
            waiting: false,
            code: None,
        };
        let member = self.book.join(member);
        if pending {
            // Of those who came in the last days, some still wait.
            self.later(1, 14, Later::Approve(member));
        } else if parent.is_none() {
            self.first_credits(member)?;
        } else {
            self.later(1, 3, Later::FirstCredits(member));
        }
        Ok(())
    }

    /// Down from one of the top-level resellers, the first of which grow the most, to whoever the newcomer knows.
    fn parent_for_newcomer(&mut self) -> Option<usize> {
        for _ in 0..16 {
            let top = &self.book.top_level;
            let mut at = *top.iter().find(|_| self.rng.random_ratio(3, 10)).or(top.first())?;
            loop {
                let member = &self.book.members[at];
                // Whoever has a large downline already grows through it.
                let descend = if member.children.len() < 3 { 46 } else { 80 };
                if member.depth + 1 >= self.size.levels || member.children.is_empty() || !self.chance(descend) {
                    break;
                }
                let children = &self.book.members[at].children;
                let one = children[self.rng.random_range(0..children.len())];
                let other = children[self.rng.random_range(0..children.len())];
                let larger = self.book.members[one].downline >= self.book.members[other].downline;
                at = if larger { one } else { other };
            }
            if self.book.free(at) {
                return Some(at);
            }
        }
        None
    }

    fn usable_code(&self, member: usize) -> Option<ReferralCode> {
        let (code, until) = self.book.members[member].code.as_ref()?;
        (self.moment < *until).then(|| code.clone())
    }

    fn first_metadata(&mut self, short: &str) -> Map<String, Value> {
        let mut metadata = Map::new();
        metadata.insert("website".into(), format!("https://{short}.example").into());
        if self.chance(30) {
            let colour = self.rng.random_range(0..0x100_0000);
            metadata.insert("brand".into(), serde_json::json!({ "colour": format!("#{colour:06x}") }));
        }
        metadata
    }

    /// The platform lets a newcomer in; whoever referred it gets the bonus.
    pub(super) fn approve(&mut self, member: usize) -> Result<(), Invalid> {
        let reseller = self.book.members[member].id;
        self.send(Self::operator()?, Command::Approve { reseller }, 1);
        self.book.members[member].status = ResellerStatus::Active;
        let Member { referred, parent, .. } = self.book.members[member];
        if let Some(referrer) = parent.filter(|_| referred) {
            let bonus = self.book.policy.referral_bonus.credits();
            if bonus > 0 && self.book.free(referrer) {
                self.events += self.book.credit(referrer, bonus);
            }
        }
        self.later(1, 6, Later::FirstCredits(member));
        Ok(())
    }

    pub(super) fn first_credits(&mut self, member: usize) -> Result<(), Invalid> {
        let credits = self.rng.random_range(4..20) * 500;
        self.fund(member, credits)?;
        self.later(1, 4, Later::FirstClients(member));
        Ok(())
    }

    pub(super) fn first_clients(&mut self, member: usize) -> Result<(), Invalid> {
        for _ in 0..self.rng.random_range(1..=2) {
            self.onboard(member)?;
        }
        Ok(())
    }

    pub(super) fn onboard_somebody(&mut self) -> Result<(), Invalid> {
        match self.somebody() {
            Some(member) => self.onboard(member),
            None => Ok(()),
        }
    }

    fn onboard(&mut self, member: usize) -> Result<(), Invalid> {
        let clients = self.book.members[member].clients.len();
        if self.book.members[member].status != ResellerStatus::Active || clients >= CLIENTS_MAX {
            return Ok(());
        }
        let (name, email) = names::person(&mut self.rng);
        let client = ClientId(self.id());
        let details = ClientDetails {
            salt: self.salt(),
            name: Text::new(name)?,
            email: Some(Text::new(email)?),
            metadata: Map::new(),
        };
        self.send(self.acting(member), Command::OnboardClient { client, owner: None, details }, 1);
        self.book.members[member].clients.push(OwnClient { id: client, active: false });
        self.later(1, 8, Later::ActivateClient { member, client: clients });
        Ok(())
    }

    pub(super) fn activate_client(&mut self, member: usize, client: usize) -> Result<(), Invalid> {
        if self.chance(7) {
            // Never came back.
            return Ok(());
        }
        let id = self.book.members[member].clients[client].id;
        self.send(self.acting(member), Command::StepClient { client: id, step: ClientStep::Activate }, 1);
        self.book.members[member].clients[client].active = true;
        Ok(())
    }

    /// A client pauses, or comes back.
    pub(super) fn suspend_or_resume_a_client(&mut self) -> Result<(), Invalid> {
        let Some(member) = self.somebody() else { return Ok(()) };
        let count = self.book.members[member].clients.len();
        if count == 0 {
            return Ok(());
        }
        let client = self.rng.random_range(0..count);
        let OwnClient { id, active } = self.book.members[member].clients[client];
        if !active {
            // It may never have been activated yet: that is on the agenda already.
            return Ok(());
        }
        let forgotten = self.chance(15);
        let step = if forgotten { ClientStep::Forget } else { ClientStep::Suspend };
        if forgotten {
            // Only what was stopped for good is forgotten.
            self.send(self.acting(member), Command::StepClient { client: id, step: ClientStep::Deactivate }, 1);
        }
        self.send(self.acting(member), Command::StepClient { client: id, step }, 1);
        self.book.members[member].clients[client].active = false;
        if !forgotten {
            self.later(6, 60, Later::ActivateClient { member, client });
        }
        Ok(())
    }

    /// On the first of a month the platform looks at who has grown.
    pub(super) fn review_tiers(&mut self) -> Result<(), Invalid> {
        for member in 0..self.book.members.len() {
            let (tier, downline) = (self.book.members[member].tier, self.book.members[member].downline);
            let deserved = match downline {
                PLATINUM_FROM.. => Tier::Platinum,
                GOLD_FROM.. => Tier::Gold,
                _ => Tier::Standard,
            };
            if deserved > tier && self.book.members[member].status == ResellerStatus::Active {
                let reseller = self.book.members[member].id;
                let reason = Some(Text::new(format!("{downline} resellers in its downline"))?);
                self.send(Self::operator()?, Command::ChangeTier { reseller, tier: deserved, reason }, 1);
                self.book.members[member].tier = deserved;
            }
        }
        Ok(())
    }

    /// A parent says what its children pay above its own cost.
    pub(super) fn set_a_margin(&mut self) -> Result<(), Invalid> {
        let Some(parent) = self.some_parent() else { return Ok(()) };
        let margin = Percent::whole(self.rng.random_range(1..=5) * 4);
        if self.book.members[parent].margin_percent == margin {
            return Ok(());
        }
        let patch = aggregates::reseller::SettingsPatch { margin_percent: Some(margin), ..Default::default() };
        let reseller = self.book.members[parent].id;
        self.send(self.acting(parent), Command::ChangeSettings { reseller, patch, threshold: None }, 1);
        self.book.members[parent].margin_percent = margin;
        Ok(())
    }

    /// A reseller tends to its profile.
    pub(super) fn change_a_detail(&mut self) -> Result<(), Invalid> {
        let Some(member) = self.somebody() else { return Ok(()) };
        let mut patch = Map::new();
        let hotline = format!("+00 555 {:04}", self.rng.random_range(0..10_000));
        patch.insert("hotline".into(), hotline.into());
        let reseller = self.book.members[member].id;
        self.send(self.acting(member), Command::UpdateMetadata { reseller, patch }, 1);
        Ok(())
    }
}
