//! The activity feed over random histories: pages and streams against a naive reader of all entries, and whom price changes
//! reach against costs worked out anew after every event. Blocks span eight positions here, so that pages cross many.

use std::collections::{BTreeMap, BTreeSet};

use aggregates::event::{AggregateKey, Event};
use aggregates::platform::{PlatformEvent, Policy};
use aggregates::pricing::{PricedItem, PricedReseller, unit_costs};
use aggregates::primitives::{Authority, CompanyName, Level, Percent, ResellerId, ResellerStatus, Sku, Text, Tier};
use aggregates::product::{ProductEvent, ProductTerms};
use aggregates::reseller::{ResellerEvent, Settings};

use super::{Dice, History, World};
use crate::activity_feed::pages::{self, FeedFilter, Kind, Sight, Sought};
use crate::activity_feed::words::{ActivityView, EntryId};
use crate::activity_feed::{presence, reading};
use crate::page::PageRequest;
use crate::rebuild::Rebuild;
use crate::sql::{Folder, Value};
use crate::{ReadPool, Scope, ScopedRead, fold_batch};

super::places::on_both_stores!(
    a_price_change_reaches_exactly_those_whose_own_cost_changed,
    the_feed_is_the_same_whatever_the_batches,
    pages_and_streams_hold_what_a_reader_may_know_and_nothing_else,
    a_page_about_one_reseller_holds_its_own_entries_alone,
    resellers_are_told_of_by_the_names_they_have_now
);

/// A history with everything that costs depend on in motion.
fn restless(seed: u64, steps: usize) -> History {
    let mut history = History::random(seed, 20);
    let mut dice = Dice(seed + 1);
    let sku = |name: &str| Sku::new(name).unwrap();
    for _ in 0..steps {
        let reseller = dice.pick(&history.resellers);
        let amount = i64::try_from(dice.roll(2_000)).unwrap();
        let product = dice.pick(&["pro", "basic"]);
        match dice.roll(8) {
            0 => {
                let margin_percent = if dice.roll(3) == 0 { None } else { Percent::whole(dice.pick(&[5, 10, 40])) };
                let settings = Settings { margin_percent, ..Settings::default() };
                history.push(AggregateKey::Reseller(reseller), ResellerEvent::SettingsChanged { settings });
            }
            1 => {
                let (from, to) = (Tier::Standard, dice.pick(Tier::ALL));
                history.push(AggregateKey::Reseller(reseller), ResellerEvent::TierChanged { from, to, reason: None });
            }
            2 | 3 => {
                let (sku, cost, by) = (sku(product), Level::new(amount).unwrap(), Authority::Platform);
                history.push(AggregateKey::Reseller(reseller), ResellerEvent::PriceSet { by, sku, cost });
            }
            4 => history.push(AggregateKey::Reseller(reseller), ResellerEvent::PriceCleared { sku: sku(product) }),
            5 => {
                let terms = ProductTerms {
                    name: Text::new("Product").unwrap(),
                    base_cost: Level::new(amount).unwrap(),
                    minimum_tier: Tier::Standard,
                    minimum_margin_percent: Percent::whole(dice.pick(&[0, 20])).unwrap(),
                };
                let former_base_cost = Level::new(1).unwrap();
                let key = AggregateKey::Product(sku(product));
                let is_known = history.events.iter().any(|(known, ..)| *known == key);
                history.push(
                    key,
                    match dice.roll(3) {
                        _ if !is_known => ProductEvent::ProductPublished { sku: sku(product), terms },
                        0 => ProductEvent::ProductRevised { terms },
                        _ => ProductEvent::ProductRepriced { former_base_cost, terms },
                    },
                );
            }
            6 => {
                let mut policy = Policy::default();
                policy.tiers.gold = Percent::whole(dice.pick(&[15, 20])).unwrap();
                history.push(AggregateKey::Platform, PlatformEvent::PolicySet { policy });
            }
            _ => history.step(&mut dice),
        }
    }
    history
}

type Reached = BTreeSet<(u64, ResellerId)>;

/// Whom price changes must reach: everybody's costs worked out after each event.
fn naively_reached(history: &History) -> Reached {
    let mut policy = Policy::default();
    let mut products: BTreeMap<Sku, PricedItem> = BTreeMap::new();
    let mut state: BTreeMap<ResellerId, (Tier, Option<Percent>)> = BTreeMap::new();
    let mut prices: BTreeMap<(ResellerId, Sku), Level> = BTreeMap::new();
    let mut costs: BTreeMap<(ResellerId, Sku), i64> = BTreeMap::new();
    let mut reached = Reached::new();
    for (index, (key, event, _)) in history.events.iter().enumerate() {
        match event {
            Event::Platform(PlatformEvent::PolicySet { policy: new }) => policy = new.clone(),
            Event::Product(
                ProductEvent::ProductPublished { terms, .. }
                | ProductEvent::ProductRepriced { terms, .. }
                | ProductEvent::ProductRevised { terms },
            ) => {
                let AggregateKey::Product(sku) = key else { panic!("a product") };
                let item =
                    PricedItem { base_cost: terms.base_cost, minimum_margin_percent: terms.minimum_margin_percent };
                products.insert(sku.clone(), item);
            }
            Event::Reseller(event) => {
                let AggregateKey::Reseller(reseller) = *key else { panic!("a reseller") };
                match event {
                    ResellerEvent::ResellerRegistered(registration) => {
                        state.insert(reseller, (registration.tier, None));
                    }
                    ResellerEvent::TierChanged { to, .. } => state.get_mut(&reseller).unwrap().0 = *to,
                    ResellerEvent::SettingsChanged { settings } => {
                        state.get_mut(&reseller).unwrap().1 = settings.margin_percent;
                    }
                    ResellerEvent::PriceSet { sku, cost, .. } => {
                        prices.insert((reseller, sku.clone()), *cost);
                    }
                    ResellerEvent::PriceCleared { sku } => {
                        prices.remove(&(reseller, sku.clone()));
                    }
                    _ => continue,
                }
            }
            _ => continue,
        }
        let former = std::mem::take(&mut costs);
        for reseller in state.keys() {
            let mut ids = history.line(Some(*reseller));
            ids.reverse();
            for (sku, item) in &products {
                let line: Vec<PricedReseller> = ids
                    .iter()
                    .map(|id| PricedReseller {
                        id: *id,
                        tier: state[id].0,
                        status: ResellerStatus::Active,
                        price: prices.get(&(*id, sku.clone())).copied(),
                        margin_percent: state[id].1,
                    })
                    .collect();
                let cost = unit_costs(&line, *item, &policy).unwrap().last().unwrap().cost;
                costs.insert((*reseller, sku.clone()), cost);
                let told_already = *key == AggregateKey::Reseller(*reseller);
                if former.get(&(*reseller, sku.clone())).is_some_and(|former| *former != cost) && !told_already {
                    reached.insert((index as u64 + 1, *reseller));
                }
            }
        }
    }
    reached
}

async fn a_price_change_reaches_exactly_those_whose_own_cost_changed() {
    let mut some = 0;
    for seed in 0..6 {
        let history = restless(seed, 150);
        let expected = naively_reached(&history);
        let world = World::of(history, usize::try_from(1 + seed * 13).unwrap()).await;
        let mut read = world.read(Scope::All).await;
        let sql = "select c.position, r.reseller_id from activity_reach c join activity_resellers r on r.number = c.number \
                   where c.kind = 'cost_changed'";
        let found: Reached = read
            .connection()
            .fetch(sql, vec![])
            .await
            .unwrap()
            .iter()
            .map(|row| {
                let mut columns = row.columns();
                (columns.count().unwrap(), columns.parse().unwrap())
            })
            .collect();
        assert_eq!(found, expected, "seed {seed}");
        some += found.len();
    }
    assert!(some > 100, "{some}");
}

async fn the_feed_is_the_same_whatever_the_batches() {
    let mut first: Option<Vec<String>> = None;
    for limit in [1, 7, 10_000] {
        let world = World::of(restless(3, 120), limit).await;
        let rows: Vec<String> =
            world.place.everything().await.into_iter().filter(|row| row.starts_with("activity")).collect();
        assert!(rows.len() > 200, "{}", rows.len());
        assert_eq!(first.get_or_insert_with(|| rows.clone()), &rows, "batches of {limit}");
    }
}

/// Every entry that a reader may know of, newest first, by reading all of them.
async fn naive(world: &World, scope: Scope, kind: Option<&str>, about: Option<ResellerId>) -> Vec<EntryId> {
    let mut read = world.read(scope).await;
    let sight = Sight::of(&mut read).await.unwrap().unwrap();
    let positions = (1..=world.history.events.len() as u64).collect();
    let told = reading::told(&mut read, &positions).await.unwrap();
    let own_number = sight.number;
    let mut ids = Vec::new();
    for (position, told) in &told {
        let view = told.view(&sight, None);
        let of_kind = kind.is_none_or(|kind| kind == told.kind);
        let about = about.is_none_or(|about| view.reseller_id == Some(about));
        // What happened to all is about the reader where it asks about itself.
        let about = about || (view.reseller_id.is_none() && scope != Scope::All);
        if told.is_in_sight(&sight) && of_kind && about {
            ids.push(EntryId { position: *position, reached: false });
        }
    }
    let mut reached = Vec::new();
    reading::reaches(&mut read, 0, u64::MAX >> 2, |position, number, _| reached.push((position, number)))
        .await
        .unwrap();
    for (position, number) in reached {
        let is_own = scope != Scope::All && number == own_number;
        let of_kind = kind.is_none_or(|kind| {
            kind == "cost_changed" && told[&position].ask_is_none() && told[&position].kind != "client_reassigned"
        });
        if is_own && of_kind {
            ids.push(EntryId { position, reached: true });
        }
    }
    ids.sort_unstable();
    ids.reverse();
    ids
}

async fn all_pages(read: &mut ScopedRead, filter: &FeedFilter, limit: u32) -> Vec<ActivityView> {
    let mut request = PageRequest { limit, cursor: None };
    let mut all = Vec::new();
    loop {
        let page = pages::page(read, filter, &request).await.unwrap().expect("in sight");
        assert!(page.data.len() <= limit as usize);
        all.extend(page.data);
        match page.next_cursor {
            None => return all,
            cursor => request.cursor = cursor,
        }
    }
}

fn ids(views: &[ActivityView]) -> Vec<EntryId> {
    views.iter().map(|view| view.id).collect()
}

async fn pages_and_streams_hold_what_a_reader_may_know_and_nothing_else() {
    let world = World::of(restless(11, 200), 50).await;
    let scopes: Vec<Scope> =
        std::iter::once(Scope::All).chain(world.history.resellers.iter().map(|id| Scope::Subtree(*id))).collect();
    let mut compared = 0;
    for scope in scopes {
        for kind in [None, Some("provisioned"), Some("price_set"), Some("subtree_frozen"), Some("cost_changed")] {
            let expected = naive(&world, scope, kind, None).await;
            let filter = FeedFilter { kind: kind.map(|kind| kind.parse().unwrap()), ..FeedFilter::default() };
            for limit in [3, 500] {
                let mut read = world.read(scope).await;
                assert_eq!(ids(&all_pages(&mut read, &filter, limit).await), expected, "{scope:?} {kind:?} {limit}");
            }
            let mut read = world.read(scope).await;
            let sought = Sought::of(&mut read, filter.kind, None).await.unwrap().unwrap();
            let mut last = EntryId { position: 0, reached: false };
            let mut streamed = Vec::new();
            loop {
                let next = pages::after(&mut read, &sought, last, 4).await.unwrap();
                let Some(entry) = next.last() else { break };
                last = entry.id;
                streamed.extend(ids(&next));
            }
            streamed.reverse();
            assert_eq!(streamed, expected, "{scope:?} {kind:?}");
            compared += expected.len();
        }
    }
    assert!(compared > 500, "{compared}");
}

async fn a_page_about_one_reseller_holds_its_own_entries_alone() {
    let world = World::of(restless(5, 150), 50).await;
    for reseller in &world.history.resellers {
        let filter = FeedFilter { reseller_id: Some(*reseller), ..FeedFilter::default() };
        let mut read = world.read(Scope::Subtree(*reseller)).await;
        let own = all_pages(&mut read, &filter, 5).await;
        assert_eq!(ids(&own), naive(&world, Scope::Subtree(*reseller), None, Some(*reseller)).await);
        let Some(above) = world.history.parents[reseller] else { continue };
        let mut read = world.read(Scope::Subtree(above)).await;
        let seen = all_pages(&mut read, &filter, 5).await;
        assert_eq!(ids(&seen), naive_about(&world, above, *reseller).await);
        assert!(seen.iter().all(|view| view.reseller_id == Some(*reseller) && view.kind != "settings_changed"));
        let mut read = world.read(Scope::Subtree(*reseller)).await;
        let filter = FeedFilter { reseller_id: Some(above), ..FeedFilter::default() };
        assert!(pages::page(&mut read, &filter, &PageRequest::default()).await.unwrap().is_none());
    }
}

/// Some take another name, and another one later on, and whatever costs depend on changes in between.
fn renamed(seed: u64) -> (History, BTreeMap<ResellerId, String>) {
    let mut history = restless(seed, 60);
    let mut dice = Dice(seed + 2);
    let mut names: BTreeMap<ResellerId, String> = BTreeMap::new();
    for (_, event, _) in &history.events {
        if let Event::Reseller(ResellerEvent::ResellerRegistered(registration)) = event {
            names.insert(registration.reseller, registration.company_name.to_string());
        }
    }
    for round in 0..80 {
        // The first two keep theirs.
        let reseller = dice.pick(&history.resellers[2..]);
        if dice.roll(2) == 0 {
            let name = format!("Name {round}");
            let company_name = CompanyName::new(name.clone()).unwrap();
            history.push(AggregateKey::Reseller(reseller), ResellerEvent::ResellerRenamed { company_name });
            names.insert(reseller, name);
        } else {
            let (from, to) = (Tier::Standard, dice.pick(Tier::ALL));
            history.push(AggregateKey::Reseller(reseller), ResellerEvent::TierChanged { from, to, reason: None });
        }
    }
    (history, names)
}

async fn resellers_are_told_of_by_the_names_they_have_now() {
    for limit in [1, 7, 10_000] {
        let (history, names) = renamed(31);
        let world = World::of(history, limit).await;
        let mut told_of = BTreeSet::new();
        for scope in [Scope::All, Scope::Subtree(world.history.resellers[0])] {
            let mut read = world.read(scope).await;
            for entry in all_pages(&mut read, &FeedFilter::default(), 50).await {
                let Some(reseller) = entry.reseller_id else { continue };
                assert_eq!(entry.company_name.as_ref(), names.get(&reseller), "{reseller}, batches of {limit}");
                told_of.insert(reseller);
            }
        }
        let renamed = told_of.iter().filter(|reseller| names[reseller].starts_with("Name")).count();
        assert!(renamed > 2 && told_of.len() > renamed, "{renamed} of {}", told_of.len());
    }
}

/// Takes down who is in every block; how many blocks that were.
async fn remember_all(pool: &ReadPool) -> usize {
    let mut blocks = 0;
    while presence::remember(pool).await.unwrap() {
        blocks += 1;
    }
    blocks
}

/// Everybody's feed, by pages from the newest entry and by a stream from the first one.
async fn everybodys_feed_is_right(world: &World, pool: &ReadPool, name: &str) {
    for reseller in &world.history.resellers {
        let scope = Scope::Subtree(*reseller);
        for kind in [None, Some("provisioned"), Some("credits_added")] {
            let expected = naive(world, scope, kind, None).await;
            let filter = FeedFilter { kind: kind.map(|kind| kind.parse().unwrap()), ..FeedFilter::default() };
            let mut read = scope.begin(pool, 0, super::PATIENCE).await.unwrap();
            assert_eq!(ids(&all_pages(&mut read, &filter, 3).await), expected, "{name}: {scope:?} {kind:?}");
            let sought = Sought::of(&mut read, filter.kind, None).await.unwrap().unwrap();
            let first = EntryId { position: 0, reached: false };
            let mut streamed = ids(&pages::after(&mut read, &sought, first, 10_000).await.unwrap());
            streamed.reverse();
            assert_eq!(streamed, expected, "{name}: {scope:?} {kind:?}");
        }
        let about = FeedFilter { reseller_id: Some(*reseller), ..FeedFilter::default() };
        let mut read = scope.begin(pool, 0, super::PATIENCE).await.unwrap();
        let expected = naive(world, scope, None, Some(*reseller)).await;
        assert_eq!(ids(&all_pages(&mut read, &about, 3).await), expected, "{name}: about {scope:?}");
    }
}

/// Of how many blocks it is known that a reseller has nothing there.
async fn left_out(pool: &ReadPool, reseller: ResellerId) -> usize {
    let mut read = Scope::All.begin(pool, 0, super::PATIENCE).await.unwrap();
    let sql = "select number from activity_resellers where reseller_id = $1";
    let row = read.connection().fetch_one(sql, vec![Value::text(reseller)]).await.unwrap().unwrap();
    let number = row.columns().count().unwrap();
    let presence = read.unscoped().presence();
    let blocks = presence.of(&mut read.connection(), number).await.unwrap();
    (0..=read.position()).step_by(8).filter(|position| !blocks.may_tell(position >> 3)).count()
}

/// Where nobody of a subtree is told of is kept by the embedded store alone.
#[tokio::test]
async fn blocks_that_are_left_out_hold_nothing_that_is_sought() {
    super::places::on(super::places::Kind::Sqlite);
    for (seed, steps) in [(21, 30), (22, 90), (23, 250)] {
        let world = World::of(restless(seed, steps), 50).await;
        let full = (world.history.events.len() + 1) / 8;
        everybodys_feed_is_right(&world, &world.pool, "nothing kept").await;
        // The newest sixteen: what was known of others is forgotten.
        assert_eq!(remember_all(&world.pool).await, full.min(16), "{full} blocks are full");
        everybodys_feed_is_right(&world, &world.pool, "all kept").await;
        let mut some = 0;
        for reseller in &world.history.resellers {
            some += left_out(&world.pool, *reseller).await;
        }
        assert!(some > world.history.resellers.len(), "{some} blocks left out");
    }
}

/// A log of which only so many events are folded yet, and whoever folds the rest.
async fn begun(history: History, events: usize) -> (World, Folder) {
    super::places::on(super::places::Kind::Sqlite);
    let place = super::Place::new().await;
    place.write_log(&history).await;
    let mut folder = Folder::open(&place.database()).await.unwrap();
    fold_batch(&mut folder, events).await.unwrap();
    let pool = ReadPool::open(&place.database()).await.unwrap();
    (World { place, history, pool }, folder)
}

#[tokio::test]
async fn blocks_are_left_out_while_events_are_folded() {
    let (world, mut folder) = begun(restless(24, 250), 100).await;
    assert!(remember_all(&world.pool).await > 0);
    let mut blocks = 0;
    while fold_batch(&mut folder, 37).await.unwrap().more {
        blocks += remember_all(&world.pool).await;
    }
    remember_all(&world.pool).await;
    assert!(blocks > 16, "{blocks} blocks came");
    everybodys_feed_is_right(&world, &world.pool, "in the end").await;
    assert!(left_out(&world.pool, world.history.resellers[1]).await > 0);
}

/// What is kept of a later moment says nothing of an older snapshot.
#[tokio::test]
async fn an_older_snapshot_is_answered_without_what_was_taken_down_later() {
    let (world, mut folder) = begun(restless(26, 100), 130).await;
    let viewer = Scope::Subtree(world.history.resellers[1]);
    let mut former = viewer.begin(&world.pool, 0, super::PATIENCE).await.unwrap();
    let before = all_pages(&mut former, &FeedFilter::default(), 3).await;
    assert!(before.len() > 3, "{} entries", before.len());
    while fold_batch(&mut folder, 37).await.unwrap().more {}
    keep_nobody(&world).await;
    assert_eq!(all_pages(&mut former, &FeedFilter::default(), 3).await, before);
}

/// Has everything forgotten of everybody, so that what is kept is wrong: nobody is anywhere.
async fn keep_nobody(world: &World) {
    world.place.spoil("update activity set path = x''").await;
    assert!(remember_all(&world.pool).await > 10);
    let mut some = 0;
    for reseller in &world.history.resellers {
        some += left_out(&world.pool, *reseller).await;
    }
    assert!(some > 10 * world.history.resellers.len(), "what was spoilt was not read");
}

#[tokio::test]
async fn blocks_are_looked_into_again_after_a_rebuild_and_of_another_history() {
    super::places::on(super::places::Kind::Sqlite);
    let mut world = World::folded(25, 500, 97).await;
    keep_nobody(&world).await;
    let rebuild = Rebuild::begin(&world.place.database(), &["activity_feed"]).await.unwrap();
    assert!(rebuild.run(|_| true).await.unwrap().is_some());
    everybodys_feed_is_right(&world, &world.pool, "rebuilt").await;
    assert!(remember_all(&world.pool).await > 10, "all of them anew");
    everybodys_feed_is_right(&world, &world.pool, "rebuilt and kept").await;

    world.pool = ReadPool::open(&world.place.database()).await.unwrap();
    keep_nobody(&world).await;
    world.place.tamper("update events set hash = substr(hash, 2)").await;
    assert_eq!(remember_all(&world.pool).await, 0, "what was folded is not of this log");
    world.place.become_another_history(97).await;
    everybodys_feed_is_right(&world, &world.pool, "another history").await;
    assert!(remember_all(&world.pool).await > 10, "all of them anew");
    everybodys_feed_is_right(&world, &world.pool, "another history, kept").await;
}

/// What an upline may know about one of its downline.
async fn naive_about(world: &World, viewer: ResellerId, about: ResellerId) -> Vec<EntryId> {
    let mut read = world.read(Scope::Subtree(viewer)).await;
    let sight = Sight::of(&mut read).await.unwrap().unwrap();
    let positions = (1..=world.history.events.len() as u64).collect();
    let told = reading::told(&mut read, &positions).await.unwrap();
    let seen = told
        .iter()
        .rev()
        .filter(|(_, told)| told.is_in_sight(&sight) && told.view(&sight, None).reseller_id == Some(about));
    seen.map(|(position, _)| EntryId { position: *position, reached: false }).collect()
}

#[test]
fn an_entrys_id_is_read_back_as_it_was_written_and_nothing_else_is_one() {
    for text in ["1:0", "77:1", "0:0"] {
        assert_eq!(text.parse::<EntryId>().unwrap().to_string(), text);
    }
    for text in ["", "1", "1:2", ":", "-1:0", "01:0", "1:0 ", "1:0:0", "99999999999999999999:0", "x:0"] {
        assert!(text.parse::<EntryId>().is_err(), "{text}");
    }
    assert!("nonsense".parse::<Kind>().is_err());
}
