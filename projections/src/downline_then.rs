//! How many resellers stood below each after any position, counted in one pass.
//!
//! Resellers are numbered in the order of registration, so those who were there are the first so many, and the row of each says
//! the numbers of the line above it. Either those are counted up, or those who came later are taken from what is counted now,
//! whichever are fewer: the past is reached from the nearer end.
//!
//! Cost: some hundred nanoseconds for each of the fewer, at most half of all resellers; eight bytes each of memory.

use crate::analytics::ranking::registered;
use crate::dashboard::Dashboards;
use crate::sql::{Value, ViewError};
use crate::{Projection, ScopedRead, analytics};

/// How many stood below whom.
#[derive(Debug)]
pub(crate) struct DownlineThen {
    /// The position.
    pub(crate) position: u64,
    /// By ordinal: children and downline, of those who were there or of those who came later.
    counts: Vec<(u32, u32)>,
    /// The same below the platform.
    top: (u32, u32),
    /// Whether those who came later were counted.
    is_of_later: bool,
}

impl DownlineThen {
    /// Counts, as of a position that does not lie beyond the read.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn at(read: &mut ScopedRead, position: u64) -> Result<Self, ViewError> {
        let mut connection = read.connection();
        let resellers = registered(&mut connection).await?;
        let sql = "select m.ordinal from resellers r join analytics_members m on m.reseller_id = r.reseller_id \
                   where r.position > $1 order by r.position limit 1";
        let first_later = connection.fetch_one(sql, vec![position.into()]).await?;
        let first_later = first_later.map(|row| row.columns().count()).transpose()?;
        let there = match first_later {
            Some(ordinal) => usize::try_from(ordinal).map_err(ViewError::unreadable)?,
            None => resellers,
        };
        // What is counted now belongs to another read model: the two must have come equally far.
        let sql = "select count(distinct position) from checkpoints where projection in ($1, $2)";
        let names = [<Dashboards as Projection>::NAME, <analytics::Analytics as Projection>::NAME];
        let row = connection.fetch_one(sql, names.map(Value::from).to_vec()).await?;
        let is_even = row.map(|row| row.columns().count()).transpose()? == Some(1);
        let is_of_later = is_even && resellers.saturating_sub(there) < there;
        let mut then = Self { position, counts: vec![(0, 0); resellers], top: (0, 0), is_of_later };
        let sql = if is_of_later {
            "select line from analytics_members where ordinal >= $1"
        } else {
            "select line from analytics_members where ordinal < $1"
        };
        let there = Value::from(u64::try_from(there).map_err(ViewError::unreadable)?);
        connection
            .for_each(sql, vec![there], |row| {
                then.count(row.columns().slice()?);
                Ok(true)
            })
            .await?;
        Ok(then)
    }

    /// Counts one reseller for all above it.
    fn count(&mut self, line: &[u8]) {
        let (line, _) = line.as_chunks::<4>();
        let Some((_, above)) = line.split_last() else { return };
        self.top.1 += 1;
        match above.last() {
            Some(parent) => self.change(*parent, |(children, _)| *children += 1),
            None => self.top.0 += 1,
        }
        for ordinal in above {
            self.change(*ordinal, |(_, downline)| *downline += 1);
        }
    }

    fn change(&mut self, ordinal: [u8; 4], change: impl FnOnce(&mut (u32, u32))) {
        let place = usize::try_from(u32::from_be_bytes(ordinal)).ok().and_then(|index| self.counts.get_mut(index));
        if let Some(counts) = place {
            change(counts);
        }
    }

    /// How many children, and how many in all, stood below the reseller with this ordinal, of whom so many stand below it now.
    pub(crate) fn below(&self, ordinal: u64, now: (u64, u64)) -> (u64, u64) {
        let counted = usize::try_from(ordinal).ok().and_then(|index| self.counts.get(index));
        self.of(counted.copied().unwrap_or_default(), now)
    }

    /// The same below the platform.
    pub(crate) fn top(&self, now: (u64, u64)) -> (u64, u64) {
        self.of(self.top, now)
    }

    fn of(&self, (children, downline): (u32, u32), now: (u64, u64)) -> (u64, u64) {
        let counted = (u64::from(children), u64::from(downline));
        if self.is_of_later { (now.0.saturating_sub(counted.0), now.1.saturating_sub(counted.1)) } else { counted }
    }
}
