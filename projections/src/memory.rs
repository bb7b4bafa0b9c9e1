//! What projections know from one batch to the next, so that rows which are touched again are not read again.
//!
//! Shape: a [`Memory`] belongs to whoever folds, and holds one value for each projection ([`Projection::Memory`]), mostly made of
//! [`Kept`] rows. Truth: rows in memory are those that were written with the checkpoint that stands beside them. Where a
//! projection stands at another one now (somebody else has folded, a commit has failed, another history was put in place) what
//! was known is forgotten. Cost: a look-up is some ten times quicker than reading the row. Memory: bounded by each [`Kept`].

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use hashbrown::DefaultHashBuilder;

use crate::Projection;
use crate::checkpoint::Checkpoint;

/// What all projections know.
#[derive(Default)]
pub struct Memory(HashMap<&'static str, (Checkpoint, Box<dyn Any + Send>)>);

impl Memory {
    /// What a projection that stands at `checkpoint` knows; nothing, where what is known is of another one.
    pub(crate) fn take<P: Projection>(&mut self, checkpoint: &Checkpoint) -> P::Memory {
        match self.0.remove(P::NAME) {
            Some((known_at, known)) if known_at == *checkpoint => {
                known.downcast().map(|known| *known).unwrap_or_default()
            }
            _ => P::Memory::default(),
        }
    }

    /// Takes down what it knows when it will have come to `checkpoint`.
    pub(crate) fn keep<P: Projection>(&mut self, checkpoint: Checkpoint, known: P::Memory) {
        self.0.insert(P::NAME, (checkpoint, Box::new(known)));
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, (checkpoint, _))| (name, checkpoint.position))).finish()
    }
}

/// Rows by key, at most `MAX` of them: those that were not asked for longest ago are forgotten first, half of them at once.
#[derive(Debug)]
pub struct Kept<Key, Row, const MAX: usize> {
    recent: HashMap<Key, Row, DefaultHashBuilder>,
    former: HashMap<Key, Row, DefaultHashBuilder>,
}

impl<Key, Row, const MAX: usize> Default for Kept<Key, Row, MAX> {
    fn default() -> Self {
        Self { recent: HashMap::default(), former: HashMap::default() }
    }
}

impl<Key: Copy + Eq + Hash, Row, const MAX: usize> Kept<Key, Row, MAX> {
    /// The row with this key, if it is known.
    #[must_use]
    pub fn get(&mut self, key: &Key) -> Option<&Row> {
        if !self.recent.contains_key(key) {
            let row = self.former.remove(key)?;
            self.put(*key, row);
        }
        self.recent.get(key)
    }

    /// Takes in a row as it is now.
    pub fn put(&mut self, key: Key, row: Row) {
        if self.recent.len() >= MAX / 2 && !self.recent.contains_key(&key) {
            self.former = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, row);
    }
}

#[cfg(test)]
mod tests {
    use aggregates::primitives::ResellerId;

    use super::*;
    use crate::wallets::{WalletRow, Wallets};

    #[test]
    fn what_was_asked_for_lately_is_kept_and_no_more_than_so_many() {
        let mut kept: Kept<u32, u32, 8> = Kept::default();
        for key in 0..100 {
            kept.put(key, key * 2);
            assert_eq!(kept.get(&0), Some(&0), "asked for again and again, after {key}");
            assert_eq!(kept.get(&key), Some(&(key * 2)));
            assert!(kept.recent.len() + kept.former.len() <= 8, "after {key}");
        }
        assert_eq!(kept.get(&50), None, "long ago");
    }

    #[test]
    fn a_row_that_changed_is_known_as_it_is_now() {
        let mut kept: Kept<u32, u32, 4> = Kept::default();
        (0..3).for_each(|key| kept.put(key, key));
        // By now the first is in the older half.
        kept.put(0, 7);
        assert_eq!(kept.get(&0), Some(&7));
        (10..12).for_each(|key| kept.put(key, key));
        assert_eq!(kept.get(&0), Some(&7));
    }

    #[test]
    fn what_is_known_at_another_checkpoint_is_forgotten() {
        let at = |position, hash: &[u8]| Checkpoint { position, hash: hash.to_vec() };
        let wallet = ResellerId(uuid::Uuid::from_u128(1));
        let known = || {
            let mut known = <Wallets as Projection>::Memory::default();
            known.put(wallet, WalletRow::default());
            known
        };
        let knows = |mut known: <Wallets as Projection>::Memory| known.get(&wallet).is_some();
        let mut memory = Memory::default();
        memory.keep::<Wallets>(at(7, b"a"), known());
        assert!(knows(memory.take::<Wallets>(&at(7, b"a"))));
        assert!(!knows(memory.take::<Wallets>(&at(7, b"a"))), "whoever has it may fail");
        for other in [at(8, b"a"), at(7, b"b"), at(0, b"")] {
            memory.keep::<Wallets>(at(7, b"a"), known());
            assert!(!knows(memory.take::<Wallets>(&other)), "{other:?}");
        }
    }
}
