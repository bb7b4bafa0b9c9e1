//! Whether a history is linearizable: whether each deed can be given one moment between its asking and its answer, so that in
//! the order of those moments every answer is the one that the model gives.
//!
//! The service's own log is a witness: the order that it claims is tried first ([`follow`]), and needs one look at each deed.
//! Where that is not an order, there may be another ([`linearize`]): Wing and Gong's search, with Lowe's memory of configurations
//! that led nowhere. A deed whose asker has given up without an answer has no end: its moment may come at any time after it was
//! asked for, or never. What the service says of positions decides only what is tried first, never which order is accepted.
//!
//! Cost of the search: a deed's candidates are at most one of each asker's and those that were given up; answers show balances,
//! so hardly ever does more than one of them fit, but where a wrong one does it may be long before that shows.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::model::{Answer, Deed, Family};

/// A deed, from its asking to its answer. Times are of one clock.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Who asked; nobody asks for two things at once.
    pub asker: usize,
    pub deed: Deed,
    pub asked_at: u64,
    /// When it was answered and what; `None` where the asker has given up.
    pub answered: Option<(u64, Answer)>,
    /// Where in the order it may be looked for first: after all of a lower number. Of a deed without an answer that the log does not
    /// know it is [`NOWHERE`].
    pub hint: u64,
}

/// Where a deed stands that has not happened, as far as the service's log says.
pub const NOWHERE: u64 = u64::MAX;

/// A history that has no order: how much of it could be ordered, and what could not follow.
#[derive(Debug)]
pub struct Impossible {
    /// How many deeds the longest order has.
    pub ordered: usize,
    /// What the family held then.
    pub family: Family,
    /// What had been asked for and could not come next, and what would have had to be answered.
    pub stuck: Vec<(Operation, Answer)>,
}

/// One step of the order that is being built.
struct Step {
    /// The family before it.
    before: Family,
    /// What may come here and has not been tried, the likeliest last.
    candidates: Vec<usize>,
    /// What comes here now.
    taken: Option<usize>,
}

/// The search.
struct Search<'history> {
    operations: &'history [Operation],
    /// Each asker's answered deeds, in order.
    askers: Vec<Vec<usize>>,
    /// How many of each asker's are in the order.
    next: Vec<usize>,
    /// Deeds without an answer, by the time of their asking, and which of them are in the order.
    open: Vec<usize>,
    taken_open: Vec<bool>,
    /// Of all that is in the order; together with the family it says where the search is.
    fingerprint: u128,
}

impl<'history> Search<'history> {
    fn new(operations: &'history [Operation]) -> Self {
        let mut askers: Vec<Vec<usize>> = Vec::new();
        let mut open = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            if operation.answered.is_none() {
                open.push(index);
                continue;
            }
            if askers.len() <= operation.asker {
                askers.resize_with(operation.asker + 1, Vec::new);
            }
            askers[operation.asker].push(index);
        }
        for of_one in &mut askers {
            of_one.sort_by_key(|index| operations[*index].asked_at);
        }
        open.sort_by_key(|index| operations[*index].asked_at);
        let next = vec![0; askers.len()];
        let taken_open = vec![false; open.len()];
        Self { operations, askers, next, open, taken_open, fingerprint: 0 }
    }

    /// The deeds that may come next whatever they do: those asked for before any other that is missing was answered.
    fn may_come(&self) -> Vec<usize> {
        let heads = self.askers.iter().zip(&self.next).filter_map(|(of_one, next)| of_one.get(*next)).copied();
        let heads: Vec<usize> = heads.collect();
        let answered_at = |index: &usize| self.operations[*index].answered.map_or(u64::MAX, |(at, _)| at);
        let first_answer = heads.iter().map(answered_at).min().unwrap_or(u64::MAX);
        let in_time = |index: &usize| self.operations[*index].asked_at <= first_answer;
        let open = self.open.iter().zip(&self.taken_open).filter(|(_, taken)| !**taken).map(|(index, _)| *index);
        heads.into_iter().filter(in_time).chain(open.take_while(in_time)).collect()
    }

    /// Those of them that the model answers as they were answered; the likeliest last.
    fn candidates(&self, family: &Family) -> Vec<usize> {
        let fits = |index: &usize| {
            let (answer, next) = family.after(self.operations[*index].deed);
            // What changes nothing and has no answer need not have happened.
            self.operations[*index].answered.map_or(next != *family, |(_, given)| given == answer)
        };
        let mut candidates: Vec<usize> = self.may_come().into_iter().filter(fits).collect();
        let likeliest = |index: &usize| std::cmp::Reverse((self.operations[*index].hint, *index));
        candidates.sort_by_key(likeliest);
        candidates
    }

    fn mark(&mut self, index: usize, taken: bool) {
        let mut hasher = DefaultHasher::new();
        index.hash(&mut hasher);
        let low = hasher.finish();
        "another".hash(&mut hasher);
        self.fingerprint ^= u128::from(low) << 64 | u128::from(hasher.finish());
        if self.operations[index].answered.is_none() {
            let place = self.open.iter().position(|open| *open == index).expect("an open deed");
            self.taken_open[place] = taken;
            return;
        }
        let next = &mut self.next[self.operations[index].asker];
        if taken { *next += 1 } else { *next -= 1 }
    }

    fn is_done(&self) -> bool {
        self.askers.iter().zip(&self.next).all(|(of_one, next)| *next == of_one.len())
    }
}

/// The order of the hints, if every answer is right in it and nothing comes before what had been answered when it was asked for.
///
/// # Errors
/// The first deed that does not follow, what the family held before it, and what would have had to be answered.
pub fn follow(operations: &[Operation]) -> Result<Vec<usize>, Box<Impossible>> {
    let happened = |index: &usize| operations[*index].answered.is_some() || operations[*index].hint != NOWHERE;
    let mut order: Vec<usize> = (0..operations.len()).filter(happened).collect();
    order.sort_by_key(|index| (operations[*index].hint, operations[*index].asked_at));
    let (mut family, mut last_asked) = (Family::default(), 0);
    for (ordered, index) in order.iter().enumerate() {
        let operation = operations[*index];
        let (answer, next) = family.after(operation.deed);
        last_asked = last_asked.max(operation.asked_at);
        // A moment lies after its own asking and after those of all before it, and before its answer.
        if operation.answered.is_some_and(|(at, given)| given != answer || at < last_asked) {
            return Err(Box::new(Impossible { ordered, family, stuck: vec![(operation, answer)] }));
        }
        family = next;
    }
    Ok(order)
}

/// Finds an order in which every answer is right.
///
/// # Errors
/// How far one gets, where there is none.
pub fn linearize(operations: &[Operation]) -> Result<Vec<usize>, Box<Impossible>> {
    let mut search = Search::new(operations);
    let mut family = Family::default();
    let mut dead_ends: HashSet<(u128, Family)> = HashSet::new();
    let mut best: Option<Box<Impossible>> = None;
    let mut steps = vec![Step { before: family, candidates: search.candidates(&family), taken: None }];
    loop {
        let depth = steps.len();
        let Some(step) = steps.last_mut() else { break };
        if let Some(index) = step.taken.take() {
            // Back from where it led nowhere.
            search.mark(index, false);
        }
        family = step.before;
        let Some(index) = step.candidates.pop() else {
            dead_ends.insert((search.fingerprint, family));
            if best.as_ref().is_none_or(|best| best.ordered < depth) {
                let stuck = search.may_come().into_iter().filter(|index| operations[*index].answered.is_some());
                let stuck = stuck.map(|index| (operations[index], family.after(operations[index].deed).0)).collect();
                best = Some(Box::new(Impossible { ordered: depth - 1, family, stuck }));
            }
            steps.pop();
            continue;
        };
        step.taken = Some(index);
        search.mark(index, true);
        family = family.after(operations[index].deed).1;
        if search.is_done() {
            return Ok(steps.iter().filter_map(|step| step.taken).collect());
        }
        let is_dead_end = dead_ends.contains(&(search.fingerprint, family));
        let candidates = if is_dead_end { Vec::new() } else { search.candidates(&family) };
        steps.push(Step { before: family, candidates, taken: None });
    }
    match best {
        Some(impossible) => Err(impossible),
        // Nothing was asked.
        None => Ok(Vec::new()),
    }
}

/// What no service may do is found, and what it may is not.
mod tests {
    use super::*;

    /// Who asked, and when; when it was answered and what, if it was; and for what.
    type Told = (usize, u64, Option<(u64, Answer)>, Deed);

    fn history(deeds: &[Told]) -> Vec<Operation> {
        let operation = |&(asker, asked_at, answered, deed)| Operation { asker, deed, asked_at, answered, hint: 0 };
        deeds.iter().map(operation).collect()
    }

    /// The same where the log claims this order; nought is nowhere.
    fn claimed(deeds: &[Told], order: &[u64]) -> Vec<Operation> {
        let hint = |hint: u64| hint.checked_sub(1).unwrap_or(NOWHERE);
        history(deeds).into_iter().zip(order).map(|(told, order)| Operation { hint: hint(*order), ..told }).collect()
    }

    fn holds(balance: i64) -> Answer {
        Answer::Holds { balance, available: balance }
    }

    const ADD: Deed = Deed::Add { to: 1, amount: 10 };
    const SPEND: Deed = Deed::Spend { from: 1, cost: 10 };
    const POOR: Answer = Answer::Insufficient { required: 10, available: 0 };

    #[test]
    fn what_overlaps_may_have_come_in_any_order() {
        for (spent, refused) in [(0, 1), (1, 0)] {
            let mut deeds = vec![(0, 0, Some((5, holds(10))), ADD)];
            deeds.push((spent + 1, 6, Some((20, holds(0))), SPEND));
            deeds.push((refused + 1, 7, Some((19, POOR)), SPEND));
            assert_eq!(linearize(&history(&deeds)).expect("an order").len(), 3);
        }
    }

    #[test]
    fn money_that_is_spent_twice_is_found() {
        let twice = [
            (0, 0, Some((5, holds(10))), ADD),
            (1, 6, Some((20, holds(0))), SPEND),
            (2, 7, Some((19, holds(0))), SPEND),
        ];
        let found = linearize(&history(&twice)).expect_err("there is no such order");
        assert_eq!((found.ordered, found.stuck.len()), (2, 1));
    }

    #[test]
    fn an_answer_from_before_what_had_been_answered_is_found() {
        let stale = [(0, 0, Some((5, holds(10))), ADD), (1, 6, Some((9, POOR)), SPEND)];
        linearize(&history(&stale)).expect_err("the credits had been acknowledged");
        let overlapping = [(0, 0, Some((7, holds(10))), ADD), (1, 6, Some((9, POOR)), SPEND)];
        linearize(&history(&overlapping)).expect("it may have come before");
    }

    #[test]
    fn the_order_that_a_log_claims_is_believed_only_if_it_is_one() {
        let deeds = [
            (0, 0, Some((5, holds(10))), ADD),
            (1, 1, Some((20, holds(0))), SPEND),
            (2, 2, None, ADD),
            (3, 7, Some((19, POOR)), SPEND),
        ];
        assert_eq!(follow(&claimed(&deeds, &[1, 2, 0, 3])).expect("that order"), [0, 1, 3]);
        follow(&claimed(&deeds, &[2, 1, 0, 3])).expect_err("spent before it was added");
        follow(&claimed(&deeds, &[1, 2, 3, 4])).expect_err("what was given up has happened, so there are credits");
        follow(&claimed(&[deeds[0], (3, 7, Some((9, POOR)), SPEND)], &[2, 1])).expect_err("it was asked for later");
        linearize(&claimed(&deeds, &[2, 1, 0, 3])).expect("another order");
    }

    #[test]
    fn what_was_given_up_may_have_happened_once_or_not_at_all() {
        let look = |balance| (1, 10, Some((11, holds(balance))), Deed::Look { at: 1 });
        for balance in [0, 10] {
            linearize(&history(&[(0, 0, None, ADD), look(balance)])).expect("an order");
        }
        linearize(&history(&[(0, 0, None, ADD), look(20)])).expect_err("not twice");
        // It may come late, but not before it was asked for.
        let late = [look(0), (0, 0, None, ADD), (1, 12, Some((13, holds(10))), Deed::Look { at: 1 })];
        linearize(&history(&late)).expect("an order");
        linearize(&history(&[look(10), (0, 12, None, ADD)])).expect_err("nobody had asked for it yet");
    }

    #[test]
    fn a_freeze_that_was_acknowledged_is_obeyed_and_a_limit_is_not_for_transfers() {
        let frozen = |answer| {
            history(&[
                (0, 0, Some((1, holds(10))), ADD),
                (0, 2, Some((3, Answer::Yes)), Deed::Freeze { of: 0 }),
                (1, 4, Some((5, answer)), SPEND),
            ])
        };
        linearize(&frozen(Answer::Frozen)).expect("an order");
        linearize(&frozen(holds(0))).expect_err("its parent is frozen");
        let limit = Answer::Holds { balance: 0, available: 50 };
        let answer = Answer::Insufficient { required: 20, available: 0 };
        let transfer = [
            (0, 0, Some((1, limit)), Deed::Limit { of: 0, limit: 50 }),
            (0, 2, Some((3, answer)), Deed::Transfer { to: 2, amount: 20 }),
        ];
        linearize(&history(&transfer)).expect("an order");
    }
}
