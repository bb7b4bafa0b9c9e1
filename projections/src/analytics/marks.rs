//! Marks: instants at which the fold wrote down what everybody had done and held so far, in one row each (`scores`).
//!
//! Whatever is asked of the past begins at the mark that lies nearest and is mended by what happened in between, so no question
//! costs more than about half of what lies between two marks, however long the history is.

use aggregates::primitives::Timestamp;

use super::movements::{RowKey, row_key};
use crate::sql::{Connection, ViewError};

/// Where everybody's figures were written; the first is the beginning, when nobody had done anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What is counted was recorded before, the rest from then on.
    pub before: Timestamp,
    /// Of the first movement that is not counted; 0 at the beginning.
    pub position: u64,
}

impl Mark {
    /// The stretch of the log in which the first movement that is not counted lies.
    #[must_use]
    pub fn block(self) -> i64 {
        self.row().1
    }

    /// The row of movements that the first one which is not counted stands in.
    pub(super) fn row(self) -> RowKey {
        row_key(self.position, self.before)
    }

    /// All there are, in order; `first` is when the first event was recorded.
    ///
    /// # Errors
    /// What the database says.
    pub async fn all(connection: &mut Connection<'_>, first: Timestamp) -> Result<Vec<Self>, ViewError> {
        let mut marks = vec![Self { before: first, position: 0 }];
        let sql = "select position, before_micros from scores order by position";
        for row in &connection.fetch(sql, Vec::new()).await? {
            let mut columns = row.columns();
            let position = columns.count()?;
            marks.push(Self { before: Timestamp::from_micros(columns.integer()?), position });
        }
        Ok(marks)
    }
}

/// How many movements of a kind that rankings show are counted before a mark is made again, at least: so many that writing
/// costs little beside them, and that the rows stay smaller than the movements themselves.
#[must_use]
pub fn movements_between(resellers: u32) -> i64 {
    // Tests have short histories.
    let least = if cfg!(test) { 60 } else { 131_072 };
    i64::from(resellers).max(least)
}

/// How many positions of the log lie between two marks at least where few of the movements are shown, so that a history of
/// transfers has marks too.
#[must_use]
pub fn positions_between(resellers: u32) -> i64 {
    movements_between(resellers) * 4
}
