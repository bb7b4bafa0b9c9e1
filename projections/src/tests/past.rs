//! The past at one position after the other, beside a reader who has only looked at the events up to there. Many events share
//! their instants, and there are marks on the way (tests make one every 60 movements).

use std::collections::BTreeMap;

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::ResellerId;
use aggregates::reseller::ResellerEvent;
use chrono::{DateTime, Timelike, Utc};

use super::{Dice, History, World, walk};
use crate::analytics::standing;
use crate::downline_tree::{Tree, TreeRequest, tree};
use crate::subject::Subject;
use crate::{Scope, ScopedRead};

super::places::on_both_stores!(
    what_was_outstanding_and_who_stood_below_whom_is_what_a_naive_reader_finds_at_every_position,
);

/// What was known after some position.
#[derive(Default)]
struct Known {
    balances: BTreeMap<ResellerId, i64>,
    there: Vec<ResellerId>,
}

impl Known {
    fn take_in(&mut self, key: &AggregateKey, event: &Event) {
        match (key, event) {
            (AggregateKey::Wallet(reseller), Event::Wallet(event)) => {
                *self.balances.entry(*reseller).or_default() += event.balance_change();
            }
            (AggregateKey::Reseller(reseller), Event::Reseller(ResellerEvent::ResellerRegistered(_))) => {
                self.there.push(*reseller);
            }
            _ => {}
        }
    }

    /// Those who stood below a reseller, or in the network: children, and all.
    fn below(&self, history: &History, root: Option<ResellerId>) -> (u64, u64) {
        let below = || self.there.iter().filter(|id| root.is_none_or(|root| history.line(Some(**id)).contains(&root)));
        let children = self.there.iter().filter(|id| history.parents[*id] == root).count();
        (children as u64, below().filter(|id| Some(**id) != root).count() as u64)
    }
}

async fn what_was_outstanding_and_who_stood_below_whom_is_what_a_naive_reader_finds_at_every_position() {
    let mut history = History::random(57, 500);
    // Whole hours only.
    for (_, _, recorded_at) in &mut history.events {
        let time: DateTime<Utc> = recorded_at.parse().unwrap();
        let hour = time.with_minute(0).unwrap().with_second(0).unwrap();
        *recorded_at = hour.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    }
    let world = World::of(history, 70).await;
    let history = &world.history;
    let mut read = world.read(Scope::All).await;
    let marks = read.connection().fetch("select position from scores", Vec::new()).await.unwrap();
    assert!(marks.len() > 2, "{} marks", marks.len());
    let viewer = history.resellers[0];
    let mut seen_by_one = world.read(Scope::Subtree(viewer)).await;
    let mut known = Known::default();
    let mut dice = Dice(5);
    for position in 0..=history.events.len() {
        if let Some((key, event, _)) = position.checked_sub(1).map(|index| &history.events[index]) {
            known.take_in(key, event);
        }
        let root = dice.pick(&history.resellers);
        let below_viewer = dice.pick(&history.below(viewer));
        compare(&mut read, history, &known, position as u64, None).await;
        compare(&mut read, history, &known, position as u64, Some(root)).await;
        compare(&mut seen_by_one, history, &known, position as u64, Some(below_viewer)).await;
    }
}

async fn compare(read: &mut ScopedRead, history: &History, known: &Known, position: u64, root: Option<ResellerId>) {
    let subject = Subject::find(read, root).await.unwrap().unwrap();
    let outstanding = standing::outstanding_at(read, &subject, position).await.unwrap();
    let held = || {
        let below = |id: &ResellerId| root.is_none_or(|root| history.line(Some(*id)).contains(&root));
        known.balances.iter().filter(move |(id, _)| below(id)).map(|(_, held)| *held)
    };
    let wanted = (held().sum::<i64>(), held().filter(|held| *held > 0).sum::<i64>());
    assert_eq!((outstanding.credits, outstanding.positive), wanted, "{position} {root:?}");

    let request = TreeRequest { root, depth: 64, limit: 500, cursor: None, at: Some(position) };
    let found = tree(read, &request).await.unwrap();
    match found {
        None => assert!(root.is_some_and(|root| !known.there.contains(&root)), "{position} {root:?}"),
        Some(Tree::Platform(node)) => {
            assert_eq!((node.children_count, node.downline_count), known.below(history, None), "{position}");
        }
        Some(Tree::Reseller(node)) => {
            let mut shown = 0;
            walk(&node, &mut |node| {
                shown += 1;
                let counts = (node.children_count, node.downline_count);
                assert_eq!(counts, known.below(history, Some(node.id)), "{position} {:?}", node.id);
                assert_eq!(node.balance.unwrap_or_default(), known.balances.get(&node.id).copied().unwrap_or_default());
            });
            assert_eq!(shown, node.downline_count + 1, "{position}");
        }
    }
}
