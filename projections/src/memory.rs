//! What projections know from one batch to the next, so that rows which are touched again are not read again.
//!
//! Shape: a [`Memory`] belongs to whoever folds, and holds one value for each projection ([`Projection::Memory`]), mostly made of
//! [`Kept`] rows. Truth: rows in memory are those that were written with the checkpoint that stands beside them. Where a
//! projection stands at another one now (somebody else has folded, a commit has failed, another history was put in place) what
//! was known is forgotten. Cost: a look-up is some ten times quicker than reading the row. Memory: bounded by each [`Kept`].

use std::any::Any;
use std::fmt;
use std::hash::Hash;

use hashbrown::{HashMap, HashSet};

use crate::Projection;
use crate::checkpoint::Checkpoint;

/// Rows by keys that no tenant chooses, in no order: quicker than by a hash that withstands an enemy's keys.
pub type Map<Key, Row> = HashMap<Key, Row>;
/// The same without rows.
pub type Set<Key> = HashSet<Key>;

/// What a projection may know.
pub trait Known: Default + Send + 'static {
    /// From here on it takes in rows; before, it knows none.
    fn begin(&mut self);
}

impl Known for () {
    fn begin(&mut self) {}
}

/// What all projections know.
#[derive(Default)]
pub struct Memory {
    known: Map<&'static str, (Checkpoint, Box<dyn Any + Send>)>,
    lasts: bool,
}

impl Memory {
    /// One that lasts; the default one forgets everything at once, for who folds so much at a time that little is touched again.
    #[must_use]
    pub fn lasting() -> Self {
        Self { lasts: true, ..Self::default() }
    }

    /// What a projection that stands at `checkpoint` knows; nothing, where what is known is of another one.
    pub(crate) fn take<P: Projection>(&mut self, checkpoint: &Checkpoint) -> P::Memory {
        let mut anew = P::Memory::default();
        if self.lasts {
            anew.begin();
        }
        match self.known.remove(P::NAME) {
            Some((known_at, known)) if known_at == *checkpoint => known.downcast().map_or(anew, |known| *known),
            _ => anew,
        }
    }

    /// Takes down what it knows when it will have come to `checkpoint`.
    pub(crate) fn keep<P: Projection>(&mut self, checkpoint: Checkpoint, known: P::Memory) {
        if self.lasts {
            self.known.insert(P::NAME, (checkpoint, Box::new(known)));
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.known.iter().map(|(name, (checkpoint, _))| (name, checkpoint.position))).finish()
    }
}

/// Rows by key, at most `MAX` of them: those that were not asked for longest ago are forgotten first, half of them at once.
#[derive(Debug)]
pub struct Kept<Key, Row, const MAX: usize> {
    recent: Map<Key, Row>,
    former: Map<Key, Row>,
    takes: bool,
}

impl<Key, Row, const MAX: usize> Default for Kept<Key, Row, MAX> {
    fn default() -> Self {
        Self { recent: HashMap::default(), former: HashMap::default(), takes: false }
    }
}

impl<Key: Send + 'static, Row: Send + 'static, const MAX: usize> Known for Kept<Key, Row, MAX> {
    fn begin(&mut self) {
        self.takes = true;
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
        if !self.takes {
            return;
        }
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
    use crate::wallets::{Held, Wallets};

    #[test]
    fn what_was_asked_for_lately_is_kept_and_no_more_than_so_many() {
        let mut kept: Kept<u32, u32, 8> = Kept::default();
        kept.put(0, 0);
        assert_eq!(kept.get(&0), None, "it has not begun");
        kept.begin();
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
        kept.begin();
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
            known.begin();
            known.put(wallet, Held::default());
            known
        };
        let knows = |mut known: <Wallets as Projection>::Memory| known.get(&wallet).is_some();
        let mut memory = Memory::default();
        memory.keep::<Wallets>(at(7, b"a"), known());
        assert!(!knows(memory.take::<Wallets>(&at(7, b"a"))), "it does not last");
        let mut memory = Memory::lasting();
        memory.keep::<Wallets>(at(7, b"a"), known());
        assert!(knows(memory.take::<Wallets>(&at(7, b"a"))));
        assert!(!knows(memory.take::<Wallets>(&at(7, b"a"))), "whoever has it may fail");
        for other in [at(8, b"a"), at(7, b"b"), at(0, b"")] {
            memory.keep::<Wallets>(at(7, b"a"), known());
            assert!(!knows(memory.take::<Wallets>(&other)), "{other:?}");
        }
    }
}
