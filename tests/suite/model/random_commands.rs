//! Random command sequences: after every command the ledger and the model agree on the answer and on everything they hold.
//!
//! Deterministic: the same number of cases is the same cases. `TALLYTREE_MODEL_CASES` runs more of them, `TALLYTREE_MODEL_SEED`
//! others. A failure prints the shortest story found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::dice::{self, Dice, NUMBERS, Throw};
use super::naive::{Demand, Id, Terms};
use super::scene::{Scene, platform};

fn from_environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A network of 4 to 12 resellers, three levels deep at least, with money and products.
fn beginning(numbers: &[u32]) -> Scene {
    let mut dice = Dice::new(numbers);
    let mut scene = Scene::new(dice::rules(&mut dice));
    for id in 1..=4 + dice.roll(9) {
        let parent = match id {
            1 => None,
            2 | 3 => Some(id - 1),
            _ => Some(1 + dice.roll(id - 1)),
        };
        let id = Id::try_from(id).unwrap();
        let register = Demand::Register {
            reseller: id,
            user: 1_000 + id,
            parent: parent.map(|parent| Id::try_from(parent).unwrap()),
            code: None,
            tier: Some(if id == 1 { 2 } else { dice.roll(3) }),
        };
        scene.done(&platform(), &register);
        if scene.naive.wallet(id).is_some() {
            let amount = i64::try_from(1 + dice.roll(400)).unwrap();
            let source = super::naive::Source::Bonus;
            scene.done(&platform(), &Demand::AddCredits { wallet: id, amount, source, reference: None });
        }
    }
    for (id, base_cost, minimum_tier, minimum_margin) in [(1, 100, 0, 0), (2, 33, 0, 10_00), (3, 10, 1, 0)] {
        scene.done(&platform(), &Demand::Publish(id, Terms { base_cost, minimum_tier, minimum_margin }));
    }
    scene
}

fn play(scene: &mut Scene, steps: &[Vec<u32>], follower: u32) {
    let mut history: Vec<Throw> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let fresh = 2_000 + 10 * Id::try_from(index).unwrap();
        // The last numbers move the clock and the ledgers about; the rest make the demand.
        let (numbers, moves) = step.split_at(NUMBERS - 2);
        scene.now += match moves[0] % 20 {
            0 => 40 * 86_400,
            1 => 86_400,
            2..=9 => 1,
            _ => 0,
        };
        match moves[1] % 16 {
            1 => scene.driver.restart(),
            2 => scene.driver.shrink(),
            3 if follower % 2 == 1 => scene.driver.change_over(),
            _ => {}
        }
        let thrown = dice::throw(numbers, &scene.naive, &history, fresh, follower & 2 == 0);
        scene.ask(&thrown.who, thrown.key, &thrown.demand);
        if thrown.key.is_some() {
            history.push(thrown);
        }
    }
}

#[test]
fn the_ledger_agrees_with_a_naive_model_on_random_commands() {
    let cases = u32::try_from(from_environment("TALLYTREE_MODEL_CASES", 64)).unwrap();
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&from_environment("TALLYTREE_MODEL_SEED", 2).to_be_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let steps = vec(vec(any::<u32>(), NUMBERS), 1..120);
    let hook = std::panic::take_hook();
    // While shrinking, thousands of failures are expected; only the last one is told, below.
    std::panic::set_hook(Box::new(|_| {}));
    let result = runner.run(&(vec(any::<u32>(), 60), steps, any::<u32>()), |(begin, steps, follower)| {
        let mut told = String::new();
        let failure = catch_unwind(AssertUnwindSafe(|| {
            let mut scene = beginning(&begin);
            let failure = catch_unwind(AssertUnwindSafe(|| play(&mut scene, &steps, follower)));
            told.clone_from(&scene.story);
            failure
        }));
        match failure.and_then(|inner| inner) {
            Ok(()) => Ok(()),
            Err(payload) => {
                let why = payload.downcast_ref::<String>().cloned();
                let why = why.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Err(TestCaseError::fail(format!("{}\n\n{told}", why.unwrap_or_default())))
            }
        }
    });
    std::panic::set_hook(hook);
    if let Err(proptest::test_runner::TestError::Fail(reason, _)) = &result {
        panic!("{reason}");
    }
    result.unwrap();
}

// HUNT
#[test]
fn hunt() {
    use proptest::strategy::{Strategy, ValueTree};
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&from_environment("TALLYTREE_MODEL_SEED", 2).to_be_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let strategy = (vec(any::<u32>(), 60), vec(vec(any::<u32>(), NUMBERS), 100), any::<u32>());
    let mut kinds: std::collections::BTreeMap<String, (usize, String)> = Default::default();
    let mut histogram: std::collections::BTreeMap<String, usize> = Default::default();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let started = std::time::Instant::now();
    let mut cases = 0;
    while started.elapsed().as_secs() < from_environment("HUNT_SECONDS", 20) {
        cases += 1;
        let (begin, steps, follower) = strategy.new_tree(&mut runner).unwrap().current();
        let mut scene = match catch_unwind(AssertUnwindSafe(|| beginning(&begin))) {
            Ok(s) => s,
            Err(_) => continue,
        };
        let r = catch_unwind(AssertUnwindSafe(|| play(&mut scene, &steps, follower)));
        {
            let lines: Vec<&str> = scene.story.lines().collect();
            for w in lines.windows(2) {
                if w[0].starts_with("Who") && w[1].starts_with("    ") {
                    let what = w[0].split(": ").skip(5).collect::<Vec<_>>().join(": ");
                    let mut kind: String = what.chars().take_while(|c| c.is_alphabetic()).collect();
                    if kind == "ApproveRequest" || kind == "Bulk" {
                        if let Some(p) = w[0].find("atomic") {
                            kind += &w[0][p..p + 13];
                        }
                    }
                    let out: String = w[1]
                        .trim()
                        .chars()
                        .take(if w[1].contains("Refused(") { 60 } else { 18 })
                        .take_while(|c| *c != '[')
                        .collect();
                    *histogram
                        .entry(format!(
                            "{kind:18} {out}{}",
                            if w[1].ends_with("(replayed)") { " REPLAYED" } else { "" }
                        ))
                        .or_insert(0usize) += 1;
                    for word in
                        ["minimum_margin", "parent_margin", "parent_price", "declared", "replayed: true", "low [("]
                    {
                        if w[1].contains(word) {
                            *histogram.entry(format!("~ {word}")).or_insert(0) += 1;
                        }
                    }
                }
            }
        }
        if let Err(payload) = r.and_then(|()| Ok(())).map_err(|e| e) {
            let _ = ();
            let payload = payload;
            //&mut scene, &steps, follower))) {
            let why = payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| payload.downcast_ref::<&str>().map(|t| (*t).to_owned()))
                .unwrap_or_default();
            let lines: Vec<&str> = scene.story.lines().collect();
            let last = lines.iter().rev().find(|l| l.starts_with("Who")).unwrap_or(&"");
            let what = last.split(": ").skip(5).collect::<Vec<_>>().join(": ");
            let kind: String = what.chars().take_while(|c| c.is_alphabetic()).collect();
            let short: String = why.chars().filter(|c| !c.is_numeric()).take(150).collect();
            let entry = kinds.entry(format!("{kind} | {short}")).or_insert((0, format!("{why}\n   {last}")));
            entry.0 += 1;
        }
    }
    std::panic::set_hook(hook);
    println!("{cases} cases");
    for (k, n) in &histogram {
        println!("{n:7} {k}");
    }
    for (kind, (n, why)) in kinds {
        println!("== {n} x {kind}\n   {}", why.chars().take(900).collect::<String>());
    }
}
