//! What resellers did, as far as rankings show it: a column of numbers for each figure.
//!
//! [`Scores`] are summed up for one question, by place among the members that it is about, so a question about few costs little.
//! [`NarrowScores`] is what everybody had done so far, by ordinal, each column as narrow as its largest number allows: some fifteen
//! bytes a reseller, and adding all of it costs a fraction of a nanosecond a number.

use aggregates::primitives::Credits;

use super::members::Members;
use super::movements::Kind;
use super::standings::{put_sparse, take_sparse};
use crate::sql::ViewError;

/// The columns in the order in which they are stored: provisioned, added, clients taken on, commissions, and how many movements
/// that is.
const COLUMNS: usize = 5;
/// Where the number of movements stands.
const MOVEMENTS: usize = 4;

/// A figure of a ranking; its number is that of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    Provisioned = 0,
    Added = 1,
    Acquisitions = 2,
    Commissions = 3,
}

/// In which figure a movement counts, and whether it is taken off there; `None` where no ranking shows it.
fn figure_of(kind: Kind) -> Option<(Figure, i64)> {
    match kind {
        Kind::Added => Some((Figure::Added, 1)),
        Kind::Provisioned => Some((Figure::Provisioned, 1)),
        Kind::CommissionEarned => Some((Figure::Commissions, 1)),
        Kind::CommissionReversed => Some((Figure::Commissions, -1)),
        Kind::Onboarded => Some((Figure::Acquisitions, 1)),
        Kind::Removed | Kind::Refunded | Kind::TransferredOut | Kind::TransferredIn => None,
    }
}

/// Whether a column of a ranking shows it: who did nothing else is not ranked.
#[must_use]
pub fn is_shown(kind: Kind) -> bool {
    figure_of(kind).is_some()
}

/// What each of some resellers did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scores([Vec<i64>; COLUMNS]);

impl Scores {
    /// Of so many who have done nothing.
    pub(super) fn nothing(resellers: usize) -> Self {
        Self(std::array::from_fn(|_| vec![0; resellers]))
    }

    /// Makes room for so many, if there are not as many yet.
    pub(super) fn reach(&mut self, resellers: usize) {
        if self.0[MOVEMENTS].len() < resellers {
            self.0.iter_mut().for_each(|column| column.resize(resellers, 0));
        }
    }

    /// Counts a movement, or (`sign` below zero) takes it back. A figure stays at the end of 64 bits, see [`super::Figures`].
    pub(super) fn count(&mut self, place: usize, kind: Kind, amount: Credits, sign: i64) {
        let Some((figure, sign_of_kind)) = figure_of(kind) else { return };
        if let Some(figure) = self.0[figure as usize].get_mut(place) {
            *figure = figure.saturating_add(sign * sign_of_kind * amount);
        }
        if let Some(movements) = self.0[MOVEMENTS].get_mut(place) {
            *movements += sign;
        }
    }

    /// Adds what the members had done, or (`sign` below zero) takes it away. As it counts, a figure stays at the end of 64 bits
    /// where turnover comes there.
    pub(super) fn add(&mut self, tally: &NarrowScores, members: &Members, sign: i64) {
        for (sums, column) in self.0.iter_mut().zip(&tally.0) {
            match column {
                Column::Bytes(numbers) => add(sums, numbers, members, sign),
                Column::Shorts(numbers) => add(sums, numbers, members, sign),
                Column::Words(numbers) => add(sums, numbers, members, sign),
                Column::Longs(numbers) => add(sums, numbers, members, sign),
            }
        }
    }

    /// One figure of one of them.
    pub(super) fn of(&self, place: usize, figure: Figure) -> i64 {
        self.0[figure as usize].get(place).copied().unwrap_or_default()
    }

    /// One figure of those who did anything, with their places.
    pub(super) fn by(&self, figure: Figure) -> impl Iterator<Item = (usize, i64)> {
        let figures = self.0[figure as usize].iter().zip(&self.0[MOVEMENTS]).enumerate();
        figures.filter(|(_, (_, movements))| **movements > 0).map(|(place, (figure, _))| (place, *figure))
    }

    /// As they are stored, of so many resellers; those that are not there have done nothing.
    #[must_use]
    pub fn pack(&self, resellers: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(resellers * 10);
        for index in 0..resellers {
            let numbers = self.0.each_ref().map(|column| column.get(index).copied().unwrap_or_default());
            put_sparse(&mut bytes, &numbers);
        }
        bytes
    }

    /// Reads what is stored.
    pub(super) fn unpack(mut bytes: &[u8]) -> Result<Self, ViewError> {
        let mut scores = Self::default();
        while !bytes.is_empty() {
            let numbers: [i64; COLUMNS] = take_sparse(&mut bytes)?;
            scores.0.iter_mut().zip(numbers).for_each(|(column, number)| column.push(number));
        }
        Ok(scores)
    }
}

fn add<Number: Copy + Into<i64>>(sums: &mut [i64], numbers: &[Number], members: &Members, sign: i64) {
    let add = |sum: &mut i64, number: Number| {
        let number: i64 = number.into();
        *sum = sum.saturating_add(if sign < 0 { number.saturating_neg() } else { number });
    };
    match members.ordinals() {
        None => sums.iter_mut().zip(numbers).for_each(|(sum, number)| add(sum, *number)),
        Some(ordinals) => {
            // Who has come since had done nothing.
            for (sum, ordinal) in sums.iter_mut().zip(ordinals) {
                if let Some(number) = numbers.get(*ordinal) {
                    add(sum, *number);
                }
            }
        }
    }
}

/// What everybody had done, by ordinal. It is only read.
#[derive(Debug)]
pub(super) struct NarrowScores([Column; COLUMNS]);

#[derive(Debug)]
enum Column {
    Bytes(Vec<u8>),
    Shorts(Vec<u16>),
    Words(Vec<u32>),
    Longs(Vec<i64>),
}

impl Column {
    fn of(numbers: &[i64]) -> Self {
        narrow(numbers)
            .map(Self::Bytes)
            .or_else(|| narrow(numbers).map(Self::Shorts))
            .or_else(|| narrow(numbers).map(Self::Words))
            .unwrap_or_else(|| Self::Longs(numbers.to_vec()))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(numbers) => size_of_val(numbers.as_slice()),
            Self::Shorts(numbers) => size_of_val(numbers.as_slice()),
            Self::Words(numbers) => size_of_val(numbers.as_slice()),
            Self::Longs(numbers) => size_of_val(numbers.as_slice()),
        }
    }
}

/// The same numbers in fewer bytes, if all fit.
fn narrow<Number: TryFrom<i64>>(numbers: &[i64]) -> Option<Vec<Number>> {
    // Grown by a collected Option it would take up to twice the room.
    let mut narrow = Vec::with_capacity(numbers.len());
    for number in numbers {
        narrow.push(Number::try_from(*number).ok()?);
    }
    Some(narrow)
}

impl NarrowScores {
    /// The same as these scores, which are everybody's.
    pub(super) fn of(scores: &Scores) -> Self {
        Self(scores.0.each_ref().map(|column| Column::of(column)))
    }

    /// How much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(Column::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    fn example() -> Scores {
        let mut scores = Scores::nothing(5);
        scores.count(0, Kind::Provisioned, 0, 1);
        scores.count(1, Kind::Added, 9_007_199_254_740_991, 1);
        scores.count(1, Kind::Provisioned, 255, 1);
        scores.count(3, Kind::CommissionEarned, 70_000, 1);
        scores.count(3, Kind::Onboarded, 1, 1);
        scores.count(4, Kind::Refunded, 7, 1);
        scores.count(4, Kind::CommissionReversed, 5, 1);
        scores
    }

    #[test]
    fn what_is_packed_is_unpacked_and_a_cut_row_is_told() {
        let scores = example();
        let packed = scores.pack(5);
        assert_eq!(Scores::unpack(&packed).expect("scores"), scores);
        assert!(Scores::unpack(&packed[..packed.len() - 1]).is_err());
        let mut longer = scores.clone();
        longer.reach(7);
        assert_eq!(Scores::unpack(&scores.pack(7)).expect("scores"), longer, "two who have done nothing");
    }

    #[test]
    fn adding_a_tally_adds_every_number_whatever_its_width() {
        let scores = example();
        let tally = NarrowScores::of(&scores);
        assert!(matches!(
            &tally.0,
            [Column::Bytes(_), Column::Longs(_), Column::Bytes(_), Column::Longs(_), Column::Bytes(_)]
        ));
        assert!(matches!(Column::of(&[0, 256]), Column::Shorts(_)));
        assert!(matches!(Column::of(&[65_536, 4_294_967_295]), Column::Words(_)));
        assert!(matches!(Column::of(&[4_294_967_296]), Column::Longs(_)));
        let mut sums = Scores::nothing(6);
        sums.add(&tally, &Members::All, 1);
        let mut expected = scores.clone();
        expected.reach(6);
        assert_eq!(sums, expected, "and nothing for who has come since");
        sums.add(&tally, &Members::All, -1);
        assert_eq!(sums, Scores::nothing(6));
        let members = Members::some([5, 3, 1]);
        let mut sums = Scores::nothing(3);
        sums.add(&tally, &members, 1);
        assert_eq!(sums.of(0, Figure::Added), 9_007_199_254_740_991);
        assert_eq!(sums.of(1, Figure::Commissions), 70_000);
        assert_eq!(sums.by(Figure::Provisioned).collect::<Vec<_>>(), [(0, 255), (1, 0)], "the third has done nothing");
    }

    #[test]
    fn a_figure_stays_at_the_end_of_64_bits() {
        let mut scores = Scores::nothing(1);
        scores.count(0, Kind::Added, i64::MAX, 1);
        scores.count(0, Kind::Added, i64::MAX, 1);
        assert_eq!(scores.of(0, Figure::Added), i64::MAX);
        let tally = NarrowScores::of(&scores);
        scores.add(&tally, &Members::All, 1);
        assert_eq!(scores.of(0, Figure::Added), i64::MAX);
    }
}
