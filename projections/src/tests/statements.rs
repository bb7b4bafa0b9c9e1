//! Statements in every stretch of the log, beside a reader who has only looked at the events.

use std::collections::BTreeMap;

use aggregates::event::{AggregateKey, Event};
use aggregates::postings;
use aggregates::primitives::{Level, ResellerId, Timestamp};
use aggregates::wallet::WalletEvent;

use super::{Dice, History, Place, World};
use crate::books::lines::{Which, lines};
use crate::books::statements::statements;
use crate::books::{Stretch, holdings};
use crate::page::PageRequest;
use crate::sql::{Folder, Value};
use crate::statement_lines::{STRIDE, TransactionFilter, between, statement};
use crate::{Scope, ScopedRead, fold_batch, provisions, wallet_terms};

super::places::on_both_stores!(
    a_statement_shows_the_lines_of_its_stretch_whatever_is_asked_for,
    what_was_held_and_what_moved_it_is_what_a_naive_reader_finds_in_every_stretch,
    a_stretch_in_the_middle_is_entered_at_a_mark,
    the_end_of_a_month_is_entered_at_the_first_line_of_the_next,
    a_version_that_knows_nothing_of_chains_cannot_write,
    a_wallet_that_begins_twice_is_refused_whatever_the_batches,
);

/// A line as a naive reader knows it.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    position: u64,
    recorded_at: Timestamp,
    amount: i64,
    balance: i64,
    is_provision: bool,
}

/// Some wallets with many lines, some with few, and some with none.
fn busy(seed: u64) -> History {
    let mut history = History::random(seed, 40);
    let mut dice = Dice(seed + 1000);
    for round in 0..400 {
        let reseller = history.resellers[round % 5];
        history.provision(&mut dice, reseller);
        history.day += i64::from(round % 50 == 0);
    }
    for _ in 0..2 {
        history.register(&mut dice, None);
    }
    history
}

/// Every wallet's lines, oldest first.
fn known(history: &History) -> BTreeMap<ResellerId, Vec<Known>> {
    let mut lines: BTreeMap<ResellerId, Vec<Known>> = BTreeMap::new();
    for (index, (key, event, recorded_at)) in history.events.iter().enumerate() {
        let (AggregateKey::Wallet(reseller), Event::Wallet(wallet_event)) = (key, event) else { continue };
        let of_wallet = lines.entry(*reseller).or_default();
        if postings::of(key, event).is_some() {
            of_wallet.push(Known {
                position: index as u64 + 1,
                recorded_at: recorded_at.parse().unwrap(),
                amount: wallet_event.balance_change(),
                balance: wallet_event.after().0,
                is_provision: matches!(wallet_event, WalletEvent::Provisioned { .. }),
            });
        }
    }
    assert!(lines.values().any(|lines| lines.len() as u64 > 5 * STRIDE), "marks are entered in the middle");
    lines
}

fn newest_first(lines: &[Known], which: impl Fn(&&Known) -> bool) -> Vec<u64> {
    lines.iter().rev().filter(which).map(|line| line.position).collect()
}

/// Every page of a statement, one after the other.
async fn paged(read: &mut ScopedRead, reseller: ResellerId, filter: &TransactionFilter, limit: u32) -> Vec<u64> {
    let mut page = PageRequest { limit, cursor: None };
    let mut seen = Vec::new();
    loop {
        let part = statement(read, reseller, filter, &page).await.unwrap().unwrap();
        seen.extend(part.data.iter().map(|line| u64::try_from(line.position).unwrap()));
        page.cursor = part.next_cursor;
        if page.cursor.is_none() {
            return seen;
        }
    }
}

async fn a_statement_shows_the_lines_of_its_stretch_whatever_is_asked_for() {
    let world = World::of(busy(7), 23).await;
    let known = known(&world.history);
    let mut read = world.read(Scope::All).await;
    let mut dice = Dice(11);
    for (reseller, lines) in &known {
        for limit in [1, 7, 500] {
            let filter = TransactionFilter::default();
            assert_eq!(paged(&mut read, *reseller, &filter, limit).await, newest_first(lines, |_| true));
            let filter = TransactionFilter { kind: Some("provisioned".parse().unwrap()), ..filter };
            let expected = newest_first(lines, |line| line.is_provision);
            assert_eq!(paged(&mut read, *reseller, &filter, limit).await, expected);

            let mut page = PageRequest { limit, cursor: None };
            let mut seen = Vec::new();
            loop {
                let part = provisions::provisions(&mut read, *reseller, &page).await.unwrap().unwrap();
                seen.extend(part.data.iter().map(|provision| provision.position));
                page.cursor = part.next_cursor;
                if page.cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, expected);
        }
        for _ in 0..12 {
            let mut moments: Vec<Timestamp> = (0..2)
                .map(|_| {
                    world.history.events[usize::try_from(dice.roll(world.history.events.len() as u64)).unwrap()]
                        .2
                        .parse()
                        .unwrap()
                })
                .collect();
            moments.sort();
            let (from, to) = (moments[0], moments[1]);
            let filter = TransactionFilter { from: Some(from), to: Some(to), ..TransactionFilter::default() };
            let expected = newest_first(lines, |line| line.recorded_at >= from && line.recorded_at < to);
            assert_eq!(paged(&mut read, *reseller, &filter, 5).await, expected, "{from} {to}");
        }
        // A page may go on from anywhere, whether a line of this wallet stands there or not.
        for position in 0..=world.history.events.len() as u64 {
            let page = PageRequest { limit: 3, cursor: Some(format!("{position:x}")) };
            let part = provisions::provisions(&mut read, *reseller, &page).await.unwrap().unwrap();
            let seen: Vec<u64> = part.data.iter().map(|provision| provision.position).collect();
            let mut expected = newest_first(lines, |line| line.is_provision && line.position < position);
            expected.truncate(3);
            assert_eq!(seen, expected, "from {position}");
        }
    }
}

async fn what_was_held_and_what_moved_it_is_what_a_naive_reader_finds_in_every_stretch() {
    let world = World::of(busy(8), 31).await;
    let known = known(&world.history);
    let end = world.history.events.len() as u64;
    let mut read = world.read(Scope::All).await;
    let mut dice = Dice(12);
    for until in (0..=end).step_by(3) {
        for holding in holdings::holdings(&mut read, None, until, 0, 500).await.unwrap() {
            let lines = &known[&holding.reseller.reseller_id];
            let last = lines.iter().rev().find(|line| line.position <= until);
            let expected = (last.map_or(0, |line| line.balance), last.map(|line| line.position));
            assert_eq!((holding.balance, holding.last_position), expected, "{until}");
        }
        let stretch = Stretch { after: dice.roll(until + 1), until };
        let within = |line: &&Known| line.position > stretch.after && line.position <= until;
        for statement in statements(&mut read, None, stretch, 0, 500).await.unwrap() {
            let lines = &known[&statement.reseller.reseller_id];
            let moved: Vec<i64> = lines.iter().filter(within).map(|line| line.amount).collect();
            let balance = |position: u64| {
                lines.iter().rev().find(|line| line.position <= position).map_or(0, |line| line.balance)
            };
            assert_eq!((statement.opening, statement.closing), (balance(stretch.after), balance(until)), "{stretch:?}");
            let movements = (statement.movements.lines, statement.movements.sum());
            assert_eq!(movements, (moved.len() as u64, i128::from(moved.iter().sum::<i64>())), "{stretch:?}");
        }
        let reseller = dice.pick(&world.history.resellers);
        let mut seen = Vec::new();
        let each = |line: &crate::books::lines::Line<'_>| {
            seen.push(line.position);
            Ok(())
        };
        lines(&mut read, Which::All, Some(reseller), stretch, each).await.unwrap();
        seen.reverse();
        assert_eq!(seen, newest_first(&known[&reseller], within), "{stretch:?}");
        let last = known[&reseller].iter().rev().find(|line| line.position <= until);
        let wallet = wallet_terms::at(read.unscoped(), reseller, until).await.unwrap();
        assert_eq!(
            wallet.map_or(0, |row| row.wallet.balance),
            last.map_or(0, |line| line.balance),
            "{reseller} at {until}"
        );
    }
}

/// Of a chain that is broken behind it, a stretch in the middle is still found.
async fn a_stretch_in_the_middle_is_entered_at_a_mark() {
    let world = World::of(busy(9), 1000).await;
    let known = known(&world.history);
    let (reseller, lines) = known.iter().max_by_key(|(_, lines)| lines.len()).unwrap();
    found_past_a_break(&world, *reseller, lines[lines.len() - 80].position, lines[lines.len() - 40].position).await;
}

async fn the_end_of_a_month_is_entered_at_the_first_line_of_the_next() {
    let mut history = History::default();
    let mut dice = Dice(13);
    let reseller = history.register(&mut dice, None);
    for month in 0..3 {
        history.day = 31 * month;
        (0..3).for_each(|_| history.provision(&mut dice, reseller));
    }
    let positions: Vec<u64> = (1..=history.events.len() as u64).rev().take(9).collect();
    let world = World::of(history, 1000).await;
    // The last line of the second month, and the second of the third.
    let (end, later) = (positions[3], positions[1]);
    found_past_a_break(&world, reseller, end, later).await;
}

/// Cuts a wallet's chain behind a line, and finds an earlier one all the same.
async fn found_past_a_break(world: &World, reseller: ResellerId, middle: u64, later: u64) {
    let cut = format!("update transactions set former = 0 where position = {later}");
    world.place.spoil(&cut).await;
    let mut read = world.read(Scope::All).await;
    let chain = between(read.connection().dialect(), "r.reseller_id = $1", &[], ("$2", "$3"));
    let asked = vec![Value::text(reseller), (middle - 1).into(), middle.into()];
    let found = read.connection().fetch(&format!("select t.position from {chain} t"), asked).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].columns().count().unwrap(), middle);
}

/// A line that nobody's chain leads to would be missing in a statement, and nothing would say so.
async fn a_version_that_knows_nothing_of_chains_cannot_write() {
    let world = World::of(busy(10), 1000).await;
    let wallet = world.history.resellers[0];
    let line = format!(
        "insert into transactions (position, reseller_id, sequence, kind, amount, balance, transaction_id, recorded_at) \
         values (1000000, '{wallet}', 1, 'credits_added', 1, 1, '', '')"
    );
    let opened = "insert into wallets (number, reseller_id, balance, reserved, credit_limit, low_credit_threshold, armed, holds, \
                  sequence, position, updated_at) values (1000000, 'another', 0, 0, 0, 0, 0, '[]', 1, 1000000, '')";
    for (sql, column) in [(line.as_str(), "former"), (opened, "lines")] {
        let refused = world.place.try_spoil(sql).await.unwrap_err();
        assert!(refused.contains(column), "{refused}");
    }
}

/// Its row goes by the number of its opening: by a second one it would be there twice.
async fn a_wallet_that_begins_twice_is_refused_whatever_the_batches() {
    // With the first opening in the same batch, and long before.
    for limit in [10_000, 1] {
        let mut history = History::random(12, 30);
        let reseller = history.resellers[0];
        let low_credit_threshold = Level::new(1).unwrap();
        let opened = WalletEvent::WalletOpened { reseller, low_credit_threshold, balance: 0, reserved: 0 };
        history.push(AggregateKey::Wallet(reseller), opened);
        let place = Place::new().await;
        place.write_log(&history).await;
        let mut folder = Folder::open(&place.database()).await.unwrap();
        let refused = loop {
            match fold_batch(&mut folder, limit).await {
                Ok(folded) => assert!(folded.more, "it was folded, by batches of {limit}"),
                Err(refused) => break refused.to_string(),
            }
        };
        assert!(refused.contains("wallet"), "batches of {limit}: {refused}");
    }
}
