//! Who belongs to a subtree, by ordinal: what is packed by ordinal is filtered by it.
//!
//! Cost: a subtree is a read of a range of an index, some 300 ns a member. That of a large one would take milliseconds, so the
//! embedded store keeps in memory who stands below whom ([`super::lineage`]), and one pass over it says who belongs to any subtree:
//! some 2 ns for each reseller that was registered after its root. On PostgreSQL the range is read, however large it is.

use super::lineage::Parents;
use super::ranking::registered;
use super::standings::ordinal_of;
use super::trends::Reach;
use crate::ScopedRead;
use crate::sql::{Dialect, ViewError};
use crate::subject::Subject;

/// How many members are read from the index at least before the lineage is asked …
const READ_MIN: usize = if cfg!(test) { 2 } else { 256 };
/// … and as many more as one of them costs more than one look at everybody.
const LOOKS_PER_READ: usize = 128;

/// Which ordinals belong to a subtree.
#[derive(Debug, Clone)]
pub enum Members {
    /// All.
    All,
    /// These.
    Some(Subset),
}

/// Some ordinals. Each has a place among them: how many of them are lower.
#[derive(Debug, Clone, Default)]
pub struct Subset {
    ordinals: Vec<usize>,
    /// A bit for each ordinal, and how many are set before these 64.
    words: Vec<(u64, usize)>,
}

impl Members {
    /// The members of a subtree.
    ///
    /// # Errors
    /// What the database says.
    pub async fn of(read: &mut ScopedRead, subject: &Subject, reach: Reach) -> Result<Self, ViewError> {
        if subject.reseller.is_none() {
            return Ok(Self::All);
        }
        let range = match reach {
            Reach::Subtree => subject.range(),
            Reach::Downline => subject.range_below(),
        };
        let sql = "select ordinal as number from analytics_members where path >= $1 and path < $2";
        // On a server no more are shown than those in scope, so what one reads is not for the next to keep.
        if read.connection().dialect() == Dialect::Sqlite {
            let at_most = READ_MIN.max(registered(&mut read.connection()).await? / LOOKS_PER_READ);
            let some = format!("{sql} limit {}", at_most + 1);
            let ordinals = read.connection().fetch_integers(&some, range.clone()).await?;
            if ordinals.len() <= at_most {
                return Self::read(ordinals);
            }
            let lineage = read.unscoped().lineage();
            let mut connection = read.connection();
            if let Some(parents) = lineage.parents(&mut connection).await?
                && let Some(root) = ordinal_of(&mut connection, &subject.id).await?
            {
                let root = usize::try_from(root).map_err(ViewError::unreadable)?;
                return Ok(Self::below(&parents, root, reach));
            }
        }
        Self::read(read.connection().fetch_integers(sql, range).await?)
    }

    fn read(ordinals: Vec<i64>) -> Result<Self, ViewError> {
        let ordinals = ordinals.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
        Ok(Self::some(ordinals.map_err(ViewError::unreadable)?))
    }

    /// These ordinals.
    pub(super) fn some(ordinals: impl IntoIterator<Item = usize>) -> Self {
        let mut subset = Subset::default();
        ordinals.into_iter().for_each(|ordinal| subset.insert(ordinal));
        Self::Some(subset.numbered())
    }

    /// All who stand below this one, and where it is reached itself, it.
    fn below(parents: &Parents, root: usize, reach: Reach) -> Self {
        let mut subset = Subset::default();
        subset.insert(root);
        for (ordinal, parent) in parents.after(root) {
            // Whoever stands above another was registered before it, so it is known by now whether it belongs.
            if subset.contains(parent) {
                subset.insert(ordinal);
            }
        }
        if reach == Reach::Downline {
            subset.remove(root);
        }
        Self::Some(subset.numbered())
    }

    /// Whether an ordinal is one of them.
    #[must_use]
    pub fn contain(&self, ordinal: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(subset) => subset.contains(ordinal),
        }
    }

    /// Which of them an ordinal is, if it is one.
    #[must_use]
    pub fn place(&self, ordinal: usize) -> Option<usize> {
        match self {
            Self::All => Some(ordinal),
            Self::Some(Subset { words, .. }) => {
                let (bits, before) = words.get(ordinal / 64)?;
                let lower = bits & ((1 << (ordinal % 64)) - 1);
                let place = *before + usize::try_from(lower.count_ones()).ok()?;
                (bits >> (ordinal % 64) & 1 == 1).then_some(place)
            }
        }
    }

    /// The ordinal at a place that is one of theirs.
    #[must_use]
    pub fn ordinal(&self, place: usize) -> usize {
        match self {
            Self::All => place,
            Self::Some(Subset { ordinals, .. }) => ordinals.get(place).copied().unwrap_or(place),
        }
    }

    /// The ordinals in order; `None` for all.
    #[must_use]
    pub fn ordinals(&self) -> Option<&[usize]> {
        match self {
            Self::All => None,
            Self::Some(Subset { ordinals, .. }) => Some(ordinals),
        }
    }
}

impl Subset {
    fn insert(&mut self, ordinal: usize) {
        if self.words.len() <= ordinal / 64 {
            self.words.resize(ordinal / 64 + 1, (0, 0));
        }
        self.words[ordinal / 64].0 |= 1_u64 << (ordinal % 64);
    }

    fn remove(&mut self, ordinal: usize) {
        if let Some((bits, _)) = self.words.get_mut(ordinal / 64) {
            *bits &= !(1_u64 << (ordinal % 64));
        }
    }

    fn contains(&self, ordinal: usize) -> bool {
        self.words.get(ordinal / 64).is_some_and(|(bits, _)| bits >> (ordinal % 64) & 1 == 1)
    }

    /// The same, once all are in: each gets its place.
    fn numbered(mut self) -> Self {
        for (index, (bits, before)) in self.words.iter_mut().enumerate() {
            *before = self.ordinals.len();
            let mut rest = *bits;
            while rest != 0 {
                self.ordinals.push(index * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_some_ordinals_has_its_place() {
        let ordinals = [0, 1, 63, 64, 200, 1_000];
        let members = Members::some([200, 64, 0, 1_000, 63, 1]);
        assert_eq!(members.ordinals(), Some(ordinals.as_slice()));
        for (place, ordinal) in ordinals.into_iter().enumerate() {
            assert_eq!((members.place(ordinal), members.ordinal(place)), (Some(place), ordinal));
            assert!(members.contain(ordinal));
        }
        for other in [2, 62, 65, 199, 1_001, 100_000] {
            assert_eq!((members.place(other), members.contain(other)), (None, false));
        }
        assert_eq!((Members::All.place(7), Members::All.ordinal(7), Members::All.ordinals()), (Some(7), 7, None));
    }

    #[test]
    fn a_subtree_is_all_whose_line_leads_through_its_root() {
        // 0 and 1 stand at the top; 2, 3 below 0; 4 below 1; 5 below 2; 6 below 4.
        let parents = Parents::of([None, None, Some(0), Some(0), Some(1), Some(2), Some(4)]);
        let below = |root, reach| Members::below(&parents, root, reach).ordinals().map(<[usize]>::to_vec);
        assert_eq!(below(0, Reach::Subtree), Some(vec![0, 2, 3, 5]));
        assert_eq!(below(0, Reach::Downline), Some(vec![2, 3, 5]));
        assert_eq!(below(1, Reach::Subtree), Some(vec![1, 4, 6]));
        assert_eq!(below(4, Reach::Downline), Some(vec![6]));
        assert_eq!((below(6, Reach::Subtree), below(6, Reach::Downline)), (Some(vec![6]), Some(vec![])));
    }
}
