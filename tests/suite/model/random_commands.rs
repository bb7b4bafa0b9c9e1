//! Random command sequences: after every command the ledger and the model agree on the answer and on everything they hold.
//!
//! Deterministic: the same number of cases is the same cases. `TALLYTREE_MODEL_CASES` runs more of them, `TALLYTREE_MODEL_SEED`
//! others. A failure prints the shortest story found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use rand::{Rng, SeedableRng};

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
    for (id, base_cost, minimum_tier, minimum_margin) in [(1, 100, 0, 0), (2, 33, 0, 1_000), (3, 10, 1, 0)] {
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

/// A history of so many random demands, as the ledger commits it.
pub fn random_history(seed: u64, demands: usize) -> Vec<aggregates::event::LoggedEvent> {
    let mut luck = rand::rngs::StdRng::seed_from_u64(seed);
    let mut numbers = |many: usize| (0..many).map(|_| luck.random()).collect::<Vec<u32>>();
    let mut scene = beginning(&numbers(60));
    let steps: Vec<Vec<u32>> = (0..demands).map(|_| numbers(NUMBERS)).collect();
    play(&mut scene, &steps, 0);
    scene.driver.log
}

#[test]
fn the_ledger_agrees_with_a_naive_model_on_random_commands() {
    let cases = u32::try_from(from_environment("TALLYTREE_MODEL_CASES", 250)).unwrap();
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&from_environment("TALLYTREE_MODEL_SEED", 2).to_be_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 1_500, ..Config::default() };
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
