//! The plan is the same for the same seed, names nothing that is not there yet, and looks like a business.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap, HashSet};

use aggregates::command::{Command, PriceBasis, ProvisionOrder};
use aggregates::primitives::{ClientId, RequestId, ResellerId, TransferId};
use aggregates::upline_request::Ask;
use chrono::Datelike;

use super::*;

fn now() -> Timestamp {
    "2026-11-21T12:34:56Z".parse().expect("time")
}

fn plan(resellers: usize, events: u64, seed: u64) -> Plan {
    Plan::new(Size { resellers, events, levels: 6 }, seed, Policy::default(), now())
}

fn moments(mut plan: Plan) -> Vec<Moment> {
    let mut moments = Vec::new();
    while let Some(moment) = plan.next_moment().expect("a plan makes up what is right") {
        moments.push(moment);
    }
    moments
}

fn commands(moments: &[Moment]) -> impl Iterator<Item = (Timestamp, &CommandEnvelope)> {
    moments.iter().flat_map(|moment| moment.commands.iter().map(|command| (moment.at, command)))
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another() {
    let text = |seed| format!("{:?}", moments(plan(60, 3_000, seed)));
    let first = text(7);
    assert!(first == text(7));
    assert!(first != text(8));
}

#[test]
fn time_moves_forward_and_ends_before_now() {
    let moments = moments(plan(60, 3_000, 1));
    assert!(moments.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert!(moments.last().expect("moments").at <= now());
}

#[test]
fn there_are_as_many_resellers_as_wanted_and_about_as_many_events() {
    for (resellers, events) in [(300, 20_000), (40, 5_000), (1_000, 60_000)] {
        let moments = moments(plan(resellers, events, 3));
        let registered =
            commands(&moments).filter(|(_, sent)| matches!(sent.command, Command::Register { .. })).count();
        assert_eq!(registered, resellers);
        let planned = moments.last().expect("moments").events;
        assert!(planned.abs_diff(events) * 20 < events, "{planned} of {events}");
    }
}

#[test]
fn the_smallest_demos_are_written_too() {
    for (resellers, events) in [(1, 1), (2, 50), (7, 1), (16, 200)] {
        assert!(!moments(plan(resellers, events, 1)).is_empty());
    }
}

/// What commands have brought into being so far.
#[derive(Default)]
struct There {
    resellers: HashSet<ResellerId>,
    clients: HashSet<ClientId>,
    products: HashSet<String>,
    requests: HashSet<RequestId>,
    codes: HashSet<String>,
    provisions: HashSet<ProvisionId>,
}

impl There {
    fn has_order(&mut self, order: &ProvisionOrder) {
        if let PriceBasis::Product { sku, .. } = &order.basis {
            assert!(self.products.contains(sku.as_str()));
        }
        assert!(order.client.is_none_or(|client| self.clients.contains(&client)));
        self.provisions.insert(order.provision_id);
    }

    fn take(&mut self, sent: &CommandEnvelope) {
        assert!(sent.actor.tenant.is_none_or(|tenant| self.resellers.contains(&tenant)));
        match &sent.command {
            Command::Register { reseller, parent, referral_code, .. } => {
                assert!(parent.is_none_or(|parent| self.resellers.contains(&parent)));
                assert!(referral_code.as_ref().is_none_or(|code| self.codes.contains(code.as_str())));
                assert!(self.resellers.insert(*reseller));
            }
            Command::Approve { reseller }
            | Command::Deactivate { reseller, .. }
            | Command::Reactivate { reseller, .. }
            | Command::Freeze { reseller, .. }
            | Command::Unfreeze { reseller, .. }
            | Command::ChangeTier { reseller, .. }
            | Command::UpdateMetadata { reseller, .. }
            | Command::ChangeSettings { reseller, .. }
            | Command::AddCredits { wallet: reseller, .. }
            | Command::RemoveCredits { wallet: reseller, .. }
            | Command::SetHold { wallet: reseller, .. } => assert!(self.resellers.contains(reseller)),
            Command::SetPrice { reseller, sku, .. } => {
                assert!(self.resellers.contains(reseller) && self.products.contains(sku.as_str()));
            }
            Command::Provision { wallet, order } => {
                assert!(self.resellers.contains(wallet));
                self.has_order(order);
            }
            Command::ProvisionBulk { wallet, items, .. } => {
                assert!(self.resellers.contains(wallet));
                items.iter().for_each(|item| self.has_order(&item.order));
            }
            Command::Refund { wallet, provision_id, .. } => {
                assert!(self.resellers.contains(wallet) && self.provisions.contains(provision_id));
            }
            Command::Transfer { from, to, .. } => {
                assert!(self.resellers.contains(from) && self.resellers.contains(to));
            }
            Command::OnboardClient { client, .. } => assert!(self.clients.insert(*client)),
            Command::StepClient { client, .. } => assert!(self.clients.contains(client)),
            Command::PublishProduct { sku, .. } => assert!(self.products.insert(sku.to_string())),
            Command::ReviseProduct { sku, .. } | Command::RetireProduct { sku } => {
                assert!(self.products.contains(sku.as_str()));
            }
            Command::RaiseRequest { request, requester, ask } => {
                assert!(self.resellers.contains(requester));
                assert!(!matches!(ask, Ask::PriceChange { sku, .. } if !self.products.contains(sku.as_str())));
                assert!(self.requests.insert(*request));
            }
            Command::ApproveRequest { request, code, .. } => {
                assert!(self.requests.contains(request));
                self.codes.insert(code.to_string());
            }
            Command::RejectRequest { request, .. } | Command::CancelRequest { request } => {
                assert!(self.requests.contains(request));
            }
            Command::SetPolicy(_) => {}
            other => panic!("what does a demo do with {other:?}?"),
        }
    }
}

#[test]
fn no_command_names_what_does_not_exist_yet() {
    for seed in 0..5 {
        let moments = moments(plan(120, 9_000, seed));
        let mut there = There::default();
        let mut ids: HashSet<Uuid> = HashSet::new();
        for (_, sent) in commands(&moments) {
            there.take(sent);
            assert!(ids.insert(sent.command_id.0), "a command id twice");
            if let Command::Transfer { transfer_id: TransferId(id), .. } = sent.command {
                assert!(ids.insert(id));
            }
        }
    }
}

#[test]
fn every_month_has_provisions_and_weekends_are_quiet() {
    let moments = moments(plan(300, 20_000, 1));
    let mut by_month: BTreeMap<(i32, u32), usize> = BTreeMap::new();
    let (mut weekend, mut week) = (0, 0);
    for (at, sent) in commands(&moments) {
        if matches!(sent.command, Command::Provision { .. } | Command::ProvisionBulk { .. }) {
            *by_month.entry((at.date().year(), at.date().month())).or_default() += 1;
            let counter = if at.date().weekday().num_days_from_monday() > 4 { &mut weekend } else { &mut week };
            *counter += 1;
        }
    }
    assert!(by_month.len() >= 9, "{by_month:?}");
    assert!(by_month.values().all(|count| *count > 5), "{by_month:?}");
    let counts: Vec<usize> = by_month.into_values().collect();
    assert!(counts[8] > counts[1] * 3 / 2, "months grow: {counts:?}");
    assert!(weekend * 5 < week, "{weekend} {week}");
}

#[test]
fn the_network_is_several_levels_deep_and_some_branches_are_much_larger_than_others() {
    let mut plan = plan(300, 20_000, 1);
    while plan.next_moment().expect("a moment").is_some() {}
    let members = &plan.book.members;
    let top: Vec<usize> =
        members.iter().filter(|member| member.parent.is_none()).map(|member| member.downline).collect();
    assert!((6..=10).contains(&top.len()), "{top:?}");
    let (largest, smallest) = (top.iter().max().expect("some"), top.iter().min().expect("some"));
    assert!(*largest > 60 && largest > &(smallest * 4), "{top:?}");
    let deepest = members.iter().map(|member| member.depth).max().expect("some");
    assert!((4..=6).contains(&deepest), "{deepest}");
}

#[test]
fn something_of_everything_happens() {
    let moments = moments(plan(300, 20_000, 1));
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (_, sent) in commands(&moments) {
        let text = format!("{:?}", sent.command);
        let name = text.split([' ', '(']).next().unwrap_or_default().to_owned();
        *counts.entry(name).or_default() += 1;
        if let Command::Register { referral_code: Some(_), .. } = sent.command {
            *counts.entry("referral".into()).or_default() += 1;
        }
    }
    for name in [
        "Register",
        "Approve",
        "Deactivate",
        "Freeze",
        "Unfreeze",
        "ChangeTier",
        "UpdateMetadata",
        "ChangeSettings",
        "SetPrice",
        "AddCredits",
        "RemoveCredits",
        "Provision",
        "ProvisionBulk",
        "Refund",
        "Transfer",
        "SetHold",
        "OnboardClient",
        "StepClient",
        "PublishProduct",
        "ReviseProduct",
        "RetireProduct",
        "RaiseRequest",
        "ApproveRequest",
        "RejectRequest",
        "SetPolicy",
        "referral",
    ] {
        assert!(counts.contains_key(name), "no {name} in {counts:?}");
    }
}
