//! Analytics compared with a naive recomputation from the events of random histories, and the specification's own examples on
//! a history written for them.

use std::collections::BTreeMap;

use aggregates::client::ClientEvent;
use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{ClientId, CommandId, CreditSource, ResellerId, ResellerStatus, Tier, Timestamp};
use aggregates::reseller::ResellerEvent;
use aggregates::wallet::WalletEvent;
use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, Utc};
use chrono_tz::Tz;

use super::places::Place;
use super::{Dice, History, World};
use crate::analytics::calendar::Interval;
use crate::analytics::members::Members;
use crate::analytics::performance;
use crate::analytics::ranking::{self, RankedReseller, RankingRequest, Sort};
use crate::analytics::standing;
use crate::analytics::trends::{self, Reach, TrendRequest};
use crate::page::PageRequest;
use crate::rebuild::Rebuild;
use crate::sql::Folder;
use crate::subject::Subject;
use crate::{ReadPool, Scope, ScopedRead, downline_health, fold_batch};

super::places::on_both_stores!(
    trends_equal_a_naive_recomputation_for_any_stretch_zone_and_subtree,
    rankings_equal_a_naive_recomputation_and_ties_go_by_id,
    rankings_are_right_in_every_snapshot_while_events_are_folded,
    rankings_are_right_after_a_rebuild_and_of_another_history,
    tier_snapshots_performance_and_outstanding_credits_equal_a_naive_recomputation,
    the_examples_of_the_specification_come_out_number_for_number
);

/// What a naive reader counts: volume, provisioned, refunded, in, out, commissions, net, acquisitions.
type Counted = [i64; 8];

/// Of the first so many events: whose event it is, when it was recorded, and what it counts.
fn counted(history: &History, there: usize) -> Vec<(ResellerId, Timestamp, Counted)> {
    let mut all = Vec::new();
    for (key, event, recorded_at) in &history.events[..there] {
        let time: Timestamp = recorded_at.parse().unwrap();
        match (key, event) {
            (AggregateKey::Wallet(reseller), Event::Wallet(event)) => {
                let mut counted = [0; 8];
                counted[6] = event.balance_change();
                match event {
                    WalletEvent::CreditsAdded { amount, .. } => counted[0] = *amount,
                    WalletEvent::Provisioned { provision, .. } => counted[1] = provision.amount,
                    WalletEvent::ProvisionRefunded { amount, .. } => counted[2] = *amount,
                    WalletEvent::CreditsTransferredIn { amount, .. } => counted[3] = *amount,
                    WalletEvent::CreditsTransferredOut { amount, .. } => counted[4] = *amount,
                    WalletEvent::CommissionEarned { amount, .. } => counted[5] = *amount,
                    WalletEvent::CommissionReversed { amount, .. } => counted[5] = -*amount,
                    _ => continue,
                }
                all.push((*reseller, time, counted));
            }
            (_, Event::Client(ClientEvent::ClientOnboarded { owner, .. })) => {
                all.push((*owner, time, [0, 0, 0, 0, 0, 0, 0, 1]));
            }
            _ => {}
        }
    }
    all
}

fn subject_of(history: &History, reseller: Option<ResellerId>) -> Subject {
    let mut line = history.line(reseller);
    line.reverse();
    let path: String = line.iter().map(|id| format!("{id}/")).collect();
    let id = reseller.map_or_else(|| "platform".to_owned(), |id| id.to_string());
    Subject { reseller, id, path: format!("/{path}") }
}

fn is_below(history: &History, reseller: ResellerId, root: Option<ResellerId>) -> bool {
    root.is_none_or(|root| history.line(Some(reseller)).contains(&root))
}

/// What a period is called, worked out another way than the code does.
fn label(interval: Interval, local: NaiveDate) -> String {
    match interval {
        Interval::Daily => local.format("%Y-%m-%d").to_string(),
        Interval::Weekly => local.format("%G-W%V").to_string(),
        Interval::Monthly => local.format("%Y-%m").to_string(),
        Interval::Yearly => local.year().to_string(),
    }
}

fn local_day(zone: &str, time: Timestamp) -> NaiveDate {
    let utc = DateTime::<Utc>::from_timestamp_micros(time.micros()).unwrap();
    match zone.parse::<FixedOffset>() {
        Ok(offset) => utc.with_timezone(&offset).date_naive(),
        Err(_) => utc.with_timezone(&zone.parse::<Tz>().unwrap()).date_naive(),
    }
}

async fn trends_equal_a_naive_recomputation_for_any_stretch_zone_and_subtree() {
    for seed in 100..103 {
        let world = World::folded(seed, 400, 61).await;
        let history = &world.history;
        let events = counted(history, history.events.len());
        let mut read = world.read(Scope::All).await;
        let mut dice = Dice(seed);
        for round in 0..60 {
            let root = if round % 5 == 0 { None } else { Some(dice.pick(&history.resellers)) };
            let subject = subject_of(history, root);
            let zone = dice.pick(&["UTC", "+05:30", "-11:00", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]);
            let interval = dice.pick(&[Interval::Daily, Interval::Weekly, Interval::Monthly, Interval::Yearly]);
            let instant = |dice: &mut Dice| {
                let micros = i64::try_from(dice.roll(60 * 86_400)).unwrap() * 1_000_000;
                Timestamp::from_micros(super::start().micros() - 5 * 86_400_000_000 + micros)
            };
            let (a, b) = (instant(&mut dice), instant(&mut dice));
            let (from, to) = (a.min(b), a.max(b));
            let request = TrendRequest {
                interval,
                zone: zone.parse().unwrap(),
                from: Some(from),
                to: Some(to),
                now: History::now(),
            };
            let mut expected: BTreeMap<String, Counted> = BTreeMap::new();
            let mut day = local_day(zone, from);
            while day <= local_day(zone, Timestamp::from_micros(to.micros() - 1)) && from < to {
                expected.entry(label(interval, day)).or_default();
                day = day.succ_opt().unwrap();
            }
            let (mut balance_before, mut balances) = (0, BTreeMap::<String, i64>::new());
            for (reseller, time, counted) in &events {
                if !is_below(history, *reseller, root) || *time >= to {
                    continue;
                }
                if *time < from {
                    balance_before += counted[6];
                    continue;
                }
                let sums = expected.get_mut(&label(interval, local_day(zone, *time))).unwrap();
                sums.iter_mut().zip(counted).for_each(|(sum, part)| *sum += part);
            }
            let mut balance = balance_before;
            for (period, sums) in &expected {
                balance += sums[6];
                balances.insert(period.clone(), balance);
            }
            let what = format!("seed {seed}, {zone}, {interval:?}, {from} to {to}, {root:?}");
            let credits = trends::credits(&mut read, &subject, &request).await.unwrap().unwrap();
            let seen: Vec<(String, [i64; 7])> = credits
                .into_iter()
                .map(|trend| {
                    let figures = [
                        trend.volume,
                        trend.provisioned,
                        trend.refunded,
                        trend.transferred_in,
                        trend.transferred_out,
                        trend.commissions,
                        trend.net,
                    ];
                    (trend.period, figures)
                })
                .collect();
            let first_seven = |sums: &Counted| <[i64; 7]>::try_from(&sums[..7]).unwrap();
            let wanted: Vec<(String, [i64; 7])> =
                expected.iter().map(|(period, sums)| (period.clone(), first_seven(sums))).collect();
            assert_eq!(seen, wanted, "{what}");
            let signups = trends::signups(&mut read, &subject, &request).await.unwrap().unwrap();
            let seen: Vec<i64> = signups.iter().map(|trend| trend.signups).collect();
            assert_eq!(seen, expected.values().map(|sums| sums[7]).collect::<Vec<_>>(), "{what}");
            let history_of_balance = trends::balances(&mut read, &subject, &request).await.unwrap().unwrap();
            let seen: Vec<(String, i64)> =
                history_of_balance.into_iter().map(|point| (point.period, point.balance)).collect();
            assert_eq!(seen, balances.into_iter().collect::<Vec<_>>(), "{what}");
        }
    }
}

/// A ranking by a naive reader: ids with credits added, provisioned, commissions and acquisitions.
fn naive_ranking(
    history: &History,
    events: &[(ResellerId, Timestamp, Counted)],
    root: Option<ResellerId>,
    request: &RankingRequest,
) -> Vec<(String, [i64; 4])> {
    let column = match request.sort {
        Sort::Provisioned => 1,
        Sort::Added => 0,
        Sort::Acquisitions => 7,
        Sort::Commissions => 5,
    };
    let mut sums: BTreeMap<ResellerId, Counted> = BTreeMap::new();
    for (reseller, time, counted) in events {
        let inside = request.from.is_none_or(|from| *time >= from) && request.to.is_none_or(|to| *time < to);
        let shown = counted[0] != 0 || counted[1] != 0 || counted[5] != 0 || counted[7] != 0;
        // A provision for nothing, and a commission of nothing, happened as well.
        let of_nothing = counted[..7] == [0; 7] && counted[7] == 0;
        if inside && (shown || of_nothing) && is_below(history, *reseller, root) {
            let sum = sums.entry(*reseller).or_default();
            sum.iter_mut().zip(counted).for_each(|(sum, part)| *sum += part);
        }
    }
    let mut expected: Vec<(i64, String, Counted)> =
        sums.into_iter().map(|(reseller, sums)| (-sums[column], reseller.to_string(), sums)).collect();
    expected.sort();
    expected.truncate(request.limit as usize);
    expected.into_iter().map(|(_, id, sums)| (id, [sums[0], sums[1], sums[5], sums[7]])).collect()
}

fn shown(top: Vec<RankedReseller>) -> Vec<(String, [i64; 4])> {
    let figures = |each: &RankedReseller| [each.added, each.provisioned, each.commissions, each.acquisitions];
    top.iter().map(|each| (each.reseller_id.to_string(), figures(each))).collect()
}

/// Asks for so many rankings, of whatever stretch and about whomever in sight, and compares them with a naive recomputation of
/// what was there when the read began.
async fn compare_rankings(read: &mut ScopedRead, history: &History, dice: &mut Dice, rounds: u64, what: &str) {
    let there = usize::try_from(read.position()).unwrap();
    let events = counted(history, there);
    let viewer = read.viewer();
    let in_sight: Vec<ResellerId> = history.events[..there]
        .iter()
        .filter_map(|(key, event, _)| match (key, event) {
            (AggregateKey::Reseller(reseller), Event::Reseller(ResellerEvent::ResellerRegistered(_))) => {
                Some(*reseller)
            }
            _ => None,
        })
        .filter(|reseller| is_below(history, *reseller, viewer))
        .collect();
    for round in 0..rounds {
        let root = if round % 3 == 0 { viewer } else { Some(dice.pick(&in_sight)) };
        let subject = subject_of(history, root);
        let instant = |dice: &mut Dice| {
            // Between two events, or at one of them.
            if dice.roll(2) == 0 {
                let seconds = i64::try_from(dice.roll(45 * 86_400)).unwrap();
                return super::start().plus_seconds(seconds);
            }
            dice.pick(&events).1
        };
        let (a, b) = (instant(dice), instant(dice));
        let request = RankingRequest {
            limit: dice.pick(&[1, 2, 5, 500]),
            sort: dice.pick(&[Sort::Provisioned, Sort::Added, Sort::Acquisitions, Sort::Commissions]),
            from: (round % 4 != 1).then_some(a.min(b)),
            to: (round % 4 != 2).then_some(a.max(b)),
        };
        let seen = shown(ranking::top(read, &subject, &request).await.unwrap());
        assert_eq!(
            seen,
            naive_ranking(history, &events, root, &request),
            "{what}, {there} events: {request:?} {root:?}"
        );
    }
}

async fn rankings_equal_a_naive_recomputation_and_ties_go_by_id() {
    let world = World::folded(110, 500, 97).await;
    let mut dice = Dice(7);
    compare_rankings(&mut world.read(Scope::All).await, &world.history, &mut dice, 80, "the staff").await;
    let viewer = world.history.resellers[0];
    compare_rankings(&mut world.read(Scope::Subtree(viewer)).await, &world.history, &mut dice, 40, "a tenant").await;
}

/// What is kept in memory from one question to the next is of the snapshot that is asked, whatever has been folded since.
async fn rankings_are_right_in_every_snapshot_while_events_are_folded() {
    let history = History::random(111, 700);
    let place = Place::new().await;
    place.write_log(&history).await;
    let mut folder = Folder::open(&place.database()).await.unwrap();
    let mut dice = Dice(11);
    fold_batch(&mut folder, 90).await.unwrap();
    let pool = ReadPool::open(&place.database()).await.unwrap();
    let mut former = Scope::All.begin(&pool, 0, super::PATIENCE).await.unwrap();
    let viewer = history.resellers[0];
    while fold_batch(&mut folder, 37).await.unwrap().more {
        let mut read = Scope::All.begin(&pool, 0, super::PATIENCE).await.unwrap();
        let mut of_one = Scope::Subtree(viewer).begin(&pool, 0, super::PATIENCE).await.unwrap();
        compare_rankings(&mut read, &history, &mut dice, 6, "now").await;
        compare_rankings(&mut former, &history, &mut dice, 3, "before").await;
        compare_rankings(&mut of_one, &history, &mut dice, 3, "a tenant").await;
        former = read;
    }
}

/// Spoils what is written at marks and has it read, so that what is kept is wrong.
async fn keep_what_is_wrong(world: &World) {
    world.place.spoil("update scores set entries = (select entries from scores order by position limit 1)").await;
    let mut read = world.read(Scope::All).await;
    let sql = "select before_micros from scores order by position";
    let marks = read.connection().fetch(sql, vec![]).await.unwrap();
    assert!(marks.len() > 2, "{} marks", marks.len());
    let (network, events) = (subject_of(&world.history, None), counted(&world.history, world.history.events.len()));
    let mut differ = false;
    // In the end what has come since the last one.
    let times = marks.iter().map(|mark| Some(Timestamp::from_micros(mark.columns().integer().unwrap())));
    for to in times.chain([None]) {
        let request = RankingRequest { limit: 500, sort: Sort::Provisioned, from: None, to };
        let seen = shown(ranking::top(&mut read, &network, &request).await.unwrap());
        differ |= seen != naive_ranking(&world.history, &events, None, &request);
    }
    assert!(differ, "what was spoilt was not read");
}

/// Spoils who stands below whom and has it read, so that what is kept of it is wrong: everybody stands at the top.
async fn keep_a_wrong_lineage(world: &World) {
    world.place.spoil("update analytics_members set line = substr(line, length(line) - 3)").await;
    let resellers = &world.history.resellers;
    let below = |root: &ResellerId| resellers.iter().filter(|one| is_below(&world.history, **one, Some(*root))).count();
    let root = resellers.iter().copied().max_by_key(below).unwrap();
    let mut read = world.read(Scope::All).await;
    let subject = subject_of(&world.history, Some(root));
    let members = Members::of(&mut read, &subject, Reach::Subtree).await.unwrap();
    assert_eq!(members.ordinals().map(<[usize]>::len), Some(1), "what was spoilt was not read");
}

/// The same of who stands below whom, which only the embedded store keeps.
#[tokio::test]
async fn members_are_right_after_a_rebuild_and_of_another_history() {
    super::places::on(super::places::Kind::Sqlite);
    let mut world = World::folded(113, 500, 97).await;
    let mut dice = Dice(13);
    keep_a_wrong_lineage(&world).await;
    let rebuild = Rebuild::begin(&world.place.database(), &["analytics"]).await.unwrap();
    assert!(rebuild.run(|_| true).await.unwrap().is_some());
    compare_rankings(&mut world.read(Scope::All).await, &world.history, &mut dice, 30, "rebuilt").await;

    world.pool = ReadPool::open(&world.place.database()).await.unwrap();
    keep_a_wrong_lineage(&world).await;
    world.place.become_another_history(97).await;
    compare_rankings(&mut world.read(Scope::All).await, &world.history, &mut dice, 30, "another history").await;
}

/// Who was registered after a snapshot is not a member in it, though it is known by then.
#[tokio::test]
async fn the_members_of_a_subtree_are_those_of_the_snapshot_that_is_asked() {
    super::places::on(super::places::Kind::Sqlite);
    let history = History::random(114, 700);
    let place = Place::new().await;
    place.write_log(&history).await;
    let mut folder = Folder::open(&place.database()).await.unwrap();
    fold_batch(&mut folder, 250).await.unwrap();
    let pool = ReadPool::open(&place.database()).await.unwrap();
    let mut former = Scope::All.begin(&pool, 0, super::PATIENCE).await.unwrap();
    while fold_batch(&mut folder, 250).await.unwrap().more {}
    let mut now = Scope::All.begin(&pool, 0, super::PATIENCE).await.unwrap();
    let mut grown = 0;
    for root in &history.resellers {
        let subject = subject_of(&history, Some(*root));
        let mut counts = Vec::new();
        // The later snapshot first: what is read of it is kept.
        for read in [&mut now, &mut former] {
            let there = usize::try_from(read.position()).unwrap();
            let below = history.events[..there].iter().filter(|(key, event, _)| match (key, event) {
                (AggregateKey::Reseller(one), Event::Reseller(ResellerEvent::ResellerRegistered(_))) => {
                    is_below(&history, *one, Some(*root))
                }
                _ => false,
            });
            let members = Members::of(read, &subject, Reach::Subtree).await.unwrap();
            let expected = below.count();
            assert_eq!(members.ordinals().unwrap().len(), expected, "{root} at {there}");
            counts.push(expected);
        }
        grown += u32::from(counts[1] > 2 && counts[0] > counts[1]);
    }
    assert!(grown > 1, "no subtree has grown");
}

/// What is kept in memory is not used any more when other tables, or another history, are in the place of what it was read from.
async fn rankings_are_right_after_a_rebuild_and_of_another_history() {
    let mut world = World::folded(112, 500, 97).await;
    let mut dice = Dice(12);
    keep_what_is_wrong(&world).await;
    let rebuild = Rebuild::begin(&world.place.database(), &["analytics"]).await.unwrap();
    assert!(rebuild.run(|_| true).await.unwrap().is_some());
    compare_rankings(&mut world.read(Scope::All).await, &world.history, &mut dice, 60, "rebuilt").await;

    // In the same tables, with the same marks, and only the hashes say that it is another history. A new pool has kept nothing.
    world.pool = ReadPool::open(&world.place.database()).await.unwrap();
    keep_what_is_wrong(&world).await;
    world.place.become_another_history(97).await;
    compare_rankings(&mut world.read(Scope::All).await, &world.history, &mut dice, 60, "another history").await;
}

async fn tier_snapshots_performance_and_outstanding_credits_equal_a_naive_recomputation() {
    let world = World::folded(120, 500, 33).await;
    let history = &world.history;
    let events = counted(history, history.events.len());
    let mut read = world.read(Scope::All).await;
    let mut dice = Dice(9);
    let mut registrations: BTreeMap<ResellerId, (Timestamp, Tier)> = BTreeMap::new();
    for (_, event, recorded_at) in &history.events {
        if let Event::Reseller(ResellerEvent::ResellerRegistered(registration)) = event {
            registrations.insert(registration.reseller, (recorded_at.parse().unwrap(), registration.tier));
        }
    }
    for round in 0..40 {
        let root = if round % 3 == 0 { None } else { Some(dice.pick(&history.resellers)) };
        let subject = subject_of(history, root);
        let seconds = i64::try_from(dice.roll(45 * 86_400)).unwrap();
        let to = (round % 2 == 0).then(|| super::start().plus_seconds(seconds));
        let from = (round % 4 < 2).then(|| super::start().plus_seconds(seconds / 2));
        let mut status: BTreeMap<ResellerId, ResellerStatus> = BTreeMap::new();
        for (key, event, recorded_at) in &history.events {
            let time: Timestamp = recorded_at.parse().unwrap();
            let (AggregateKey::Reseller(reseller), Event::Reseller(event)) = (key, event) else { continue };
            if to.is_some_and(|to| time >= to) {
                continue;
            }
            match event {
                ResellerEvent::ResellerRegistered(registration) => {
                    status.insert(*reseller, registration.status);
                }
                ResellerEvent::ResellerApproved { .. } | ResellerEvent::ResellerReactivated { .. } => {
                    status.insert(*reseller, ResellerStatus::Active);
                }
                ResellerEvent::ResellerDeactivated { .. } => {
                    status.insert(*reseller, ResellerStatus::Deactivated);
                }
                _ => {}
            }
        }
        let count = |tier: Tier| {
            let active = status.iter().filter(|(_, status)| **status == ResellerStatus::Active);
            let counted = active.filter(|(reseller, _)| {
                let (registered_at, of_tier) = registrations[*reseller];
                of_tier == tier && is_below(history, **reseller, root) && from.is_none_or(|from| registered_at >= from)
            });
            i64::try_from(counted.count()).unwrap()
        };
        let snapshot = standing::tiers(&mut read, &subject, from, to).await.unwrap();
        let wanted = (count(Tier::Platinum), count(Tier::Gold), count(Tier::Standard));
        assert_eq!((snapshot.platinum, snapshot.gold, snapshot.standard), wanted, "{from:?} {to:?} {root:?}");

        let balances =
            || history.balances.iter().filter(|(id, _)| is_below(history, **id, root)).map(|(_, held)| *held);
        let outstanding = standing::outstanding(&mut read, &subject).await.unwrap();
        let wanted = (balances().sum::<i64>(), balances().filter(|held| *held > 0).sum::<i64>());
        assert_eq!((outstanding.credits, outstanding.positive), wanted);
        assert_eq!(outstanding.negative, balances().filter(|held| *held < 0).sum::<i64>());

        let page = PageRequest { limit: 500, cursor: None };
        let performance = performance::performance(&mut read, &subject, from, to, &page).await.unwrap();
        let sum_below = |root: Option<ResellerId>, itself: bool| {
            let mut sums: Counted = [0; 8];
            for (reseller, time, counted) in &events {
                let inside = from.is_none_or(|from| *time >= from) && to.is_none_or(|to| *time < to);
                if inside && is_below(history, *reseller, root) && (itself || Some(*reseller) != root) {
                    sums.iter_mut().zip(counted).for_each(|(sum, part)| *sum += part);
                }
            }
            [sums[1], sums[0], sums[5], sums[7]]
        };
        let figures = |numbers: &performance::PerformanceNumbers| {
            [numbers.provisioned, numbers.added, numbers.commissions, numbers.acquisitions]
        };
        assert_eq!(figures(&performance.totals), sum_below(root, false), "{from:?} {to:?} {root:?}");
        let children: Vec<ResellerId> =
            history.resellers.iter().copied().filter(|id| history.parents[id] == root).collect();
        assert_eq!(performance.children.iter().map(|child| child.reseller_id).collect::<Vec<_>>(), children);
        let mut active = 0;
        for child in &performance.children {
            assert_eq!(figures(&child.numbers), sum_below(Some(child.reseller_id), true));
            active += child.numbers.active;
        }
        assert_eq!(active, performance.totals.active);

        let health = downline_health::health(&mut read, &subject, 3, History::now()).await.unwrap();
        let below = |with: &dyn Fn(ResellerId) -> bool| {
            let below = history.resellers.iter().filter(|id| is_below(history, **id, root) && Some(**id) != root);
            below.filter(|id| with(**id)).count() as u64
        };
        assert_eq!(health.counts.frozen, below(&|id| history.frozen(id)));
        assert_eq!(health.frozen.len() as u64, health.counts.frozen.min(3));
        assert!(health.frozen.iter().all(|named| history.frozen(named.id)));
        assert_eq!(health.counts.low_credit, below(&|id| history.balances[&id] < 500));
        assert!(health.low_credit.iter().all(|low| low.balance == history.balances[&low.id] && low.balance < 500));
        assert_eq!(health.counts.inactive, below(&|id| history.statuses[&id] == ResellerStatus::Deactivated));
        assert!(health.inactive.iter().all(|named| history.statuses[&named.id] == ResellerStatus::Deactivated));
    }
}

/// The specification's examples: months with their volumes, tiers with their numbers, what is outstanding, the leaders.
async fn the_examples_of_the_specification_come_out_number_for_number() {
    let mut history = History::default();
    let mut dice = Dice(1);
    // 177 partners: 12 platinum, 45 gold, 120 standard; all in business.
    let mut partners = Vec::new();
    while partners.len() < 177 {
        let reseller = history.register(&mut dice, None);
        let wanted = match partners.len() {
            0..12 => Tier::Platinum,
            12..57 => Tier::Gold,
            _ => Tier::Standard,
        };
        for (_, event, _) in &mut history.events {
            if let Event::Reseller(ResellerEvent::ResellerRegistered(registration)) = event
                && registration.reseller == reseller
            {
                registration.tier = wanted;
                registration.status = ResellerStatus::Active;
            }
        }
        partners.push(reseller);
    }
    for (_, _, recorded_at) in &mut history.events {
        *recorded_at = "2022-12-01T09:00:00.000000Z".to_owned();
    }
    let at = |history: &mut History, time: &str| history.events.last_mut().unwrap().2 = time.to_owned();
    let add = |history: &mut History, dice: &mut Dice, reseller: ResellerId, amount: i64, time: &str| {
        let event = WalletEvent::CreditsAdded {
            transaction_id: CommandId(dice.uuid()),
            amount,
            source: CreditSource::Adjustment,
            reference: None,
            note: None,
            balance: history.change(reseller, amount),
            reserved: 0,
        };
        history.push(AggregateKey::Wallet(reseller), event);
        at(history, time);
    };
    // "2023-01" is 75 000, "2023-02" 82 000, to the last microsecond of each; 2 500 000 are outstanding in the end.
    add(&mut history, &mut dice, partners[0], 50_000, "2023-01-01T00:00:00.000000Z");
    add(&mut history, &mut dice, partners[12], 25_000, "2023-01-31T23:59:59.999999Z");
    add(&mut history, &mut dice, partners[12], 82_000, "2023-02-01T00:00:00.000000Z");
    let sell = |history: &mut History, dice: &mut Dice, reseller: ResellerId, time: &str| {
        history.provision(dice, reseller);
        at(history, time);
    };
    for minute in 10..30 {
        sell(&mut history, &mut dice, partners[12], &format!("2023-03-15T10:{minute}:00.000000Z"));
    }
    for minute in 10..14 {
        sell(&mut history, &mut dice, partners[0], &format!("2023-03-15T11:{minute}:00.000000Z"));
    }
    let spent: i64 = history.provisioned.values().sum();
    add(&mut history, &mut dice, partners[60], 2_500_000 - 157_000 + spent, "2023-06-30T12:00:00.000000Z");
    // The leader that the report suggests for an upgrade: more than 100 acquisitions, and not platinum.
    let take_on = |history: &mut History, dice: &mut Dice, owner: ResellerId, number: usize| {
        for _ in 0..number {
            let client = ClientId(dice.uuid());
            let event = ClientEvent::ClientOnboarded {
                client,
                owner,
                details_hash: String::new(),
                onboarded_at: super::start(),
            };
            history.push(AggregateKey::Client(client), event);
            at(history, "2023-06-30T13:00:00.000000Z");
        }
    };
    take_on(&mut history, &mut dice, partners[12], 101);
    take_on(&mut history, &mut dice, partners[0], 7);

    let world = World::of(history, 50).await;
    let history = &world.history;
    let mut read = Scope::All.begin(&world.pool, 0, super::PATIENCE).await.unwrap();
    let network = subject_of(history, None);

    let snapshot = standing::tiers(&mut read, &network, None, None).await.unwrap();
    assert_eq!(
        serde_json::to_value(snapshot).unwrap(),
        serde_json::json!({"platinum": 12, "gold": 45, "standard": 120})
    );
    let day = |year, month, day| Timestamp::start_of(NaiveDate::from_ymd_opt(year, month, day).unwrap());
    let request = TrendRequest {
        interval: Interval::Monthly,
        zone: "UTC".parse().unwrap(),
        from: Some(day(2023, 1, 1)),
        to: Some(day(2023, 7, 1)),
        now: day(2023, 7, 1),
    };
    let trends = trends::credits(&mut read, &network, &request).await.unwrap().unwrap();
    let volumes: Vec<(&str, i64)> = trends.iter().map(|trend| (trend.period.as_str(), trend.volume)).collect();
    let june = 2_500_000 - 157_000 + spent;
    assert_eq!(
        volumes,
        [("2023-01", 75_000), ("2023-02", 82_000), ("2023-03", 0), ("2023-04", 0), ("2023-05", 0), ("2023-06", june)]
    );
    let of_one = subject_of(history, Some(partners[12]));
    let one = trends::credits(&mut read, &of_one, &request).await.unwrap().unwrap();
    assert_eq!(one.iter().map(|trend| trend.volume).collect::<Vec<_>>(), [25_000, 82_000, 0, 0, 0, 0]);
    assert_eq!(standing::outstanding(&mut read, &network).await.unwrap().credits, 2_500_000);
    let request =
        RankingRequest { limit: 5, sort: Sort::Provisioned, from: Some(day(2023, 3, 1)), to: Some(day(2023, 7, 1)) };
    let top = ranking::top(&mut read, &network, &request).await.unwrap();
    let leaders: Vec<(ResellerId, i64, Tier)> = top
        .iter()
        .filter(|each| each.provisioned > 0)
        .map(|each| (each.reseller_id, each.acquisitions, each.tier))
        .collect();
    assert_eq!(leaders, [(partners[12], 101, Tier::Gold), (partners[0], 7, Tier::Platinum)]);
    assert_eq!(top[2].reseller_id, partners[60], "it was given credits and sold nothing");
    let suggested = top.iter().filter(|each| each.acquisitions > 100 && each.tier != Tier::Platinum);
    assert_eq!(suggested.map(|each| each.reseller_id).collect::<Vec<_>>(), [partners[12]]);
}
