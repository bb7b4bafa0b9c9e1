//! Who stands below whom, kept from one question to the next.
//!
//! A reseller is numbered when it is registered and stays below whom it was registered, so what is kept stays right for as long
//! as it belongs to the same history and the same tables ([`crate::origin`]), and only who has come since is read. Each
//! [`ReadPool`](crate::ReadPool) of an embedded store keeps its own.
//!
//! Memory: four bytes a reseller. Cost: reading all of them for the first time, some 300 ns each, by one reader while others wait
//! for it; later a few look-ups, and a copy where somebody has been registered since. While a rebuild puts its tables in place
//! they are read anew, maybe several times.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::Analytics;
use super::ranking::registered;
use crate::origin::{Origin, Seen, tables};
use crate::sql::{Connection, ViewError};

/// Stands for the platform, above whom nobody is.
const NOBODY: u32 = u32::MAX;

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Lineage(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    origin: Origin,
    parents: Arc<Parents>,
}

/// Below whom each reseller stands, by its ordinal.
#[derive(Debug, Default)]
pub(super) struct Parents(Vec<u32>);

impl Parents {
    /// Of everybody in order, and for each whom it stands below.
    #[cfg(test)]
    pub(super) fn of(parents: impl IntoIterator<Item = Option<u32>>) -> Self {
        Self(parents.into_iter().map(|parent| parent.unwrap_or(NOBODY)).collect())
    }

    /// Everybody who was registered after this one, in order, with whom it stands below.
    pub(super) fn after(&self, ordinal: usize) -> impl Iterator<Item = (usize, usize)> {
        // An ordinal that does not fit, as that of nobody, is one that nobody has.
        let parents = self.0.iter().map(|parent| usize::try_from(*parent).unwrap_or(usize::MAX));
        parents.enumerate().skip(ordinal.saturating_add(1))
    }

    /// Takes in the next one, by its line: the ordinals from the top down to its own, four bytes each.
    fn push(&mut self, line: &[u8]) -> Result<(), ViewError> {
        let (line, _) = line.as_chunks::<4>();
        let own = line.last().map(|own| u32::from_be_bytes(*own));
        if own.map(usize::try_from) != Some(Ok(self.0.len())) {
            return Err(ViewError::unreadable(format!("the line of reseller {} is another's", self.0.len())));
        }
        let above = line.len().checked_sub(2).and_then(|index| line.get(index));
        self.0.push(above.map_or(NOBODY, |parent| u32::from_be_bytes(*parent)));
        Ok(())
    }
}

impl Lineage {
    /// Below whom everybody stands in this snapshot; `None` where what is kept is of a later moment than the snapshot, which then
    /// does not say whether it is of the same history.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn parents(&self, connection: &mut Connection<'_>) -> Result<Option<Arc<Parents>>, ViewError> {
        let tables = tables(connection).await?;
        // Whoever comes while it is read waits, rather than to read it as well.
        let mut kept = self.0.lock().await;
        let mut parents = match &*kept {
            None => Arc::default(),
            Some(Known { origin, parents }) => match origin.seen(connection, tables).await? {
                Seen::Same => Arc::clone(parents),
                Seen::Later => return Ok(None),
                Seen::Another => Arc::default(),
            },
        };
        let registered = registered(connection).await?;
        if parents.0.len() < registered {
            let mut grown = Parents(Vec::with_capacity(registered));
            grown.0.extend_from_slice(&parents.0);
            let sql = "select line from analytics_members where ordinal >= $1 order by ordinal";
            let first = u64::try_from(grown.0.len()).map_err(ViewError::unreadable)?;
            connection
                .for_each(sql, vec![first.into()], |row| grown.push(row.columns().slice()?).map(|()| true))
                .await?;
            let origin = Origin::here::<Analytics>(connection, tables).await?;
            parents = Arc::new(grown);
            *kept = Some(Known { origin, parents: Arc::clone(&parents) });
        }
        Ok(Some(parents))
    }
}
