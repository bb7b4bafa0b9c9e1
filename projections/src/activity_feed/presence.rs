//! In which blocks of the feed a subtree has entries, kept in memory on the embedded store: who is quiet would else be looked for
//! in every block of the history.
//!
//! Shape: for each full block a Bloom filter over the numbers on the lines of its entries (B. H. Bloom, "Space/time trade-offs in
//! hash coding with allowable errors", 1970), so that one look tells whether a reseller, or anybody below it, may have an entry
//! there. "No" is always right; "yes" is wrong for some of those who have none ([`BITS_A_NUMBER`]), and costs a look into the block.
//!
//! Truth: a block that is full never changes, so what is kept stays right for as long as it belongs to the same history and the
//! same tables ([`crate::origin`]). What is not kept, yet or at all, counts as "yes".
//!
//! Cost: a byte an entry, at most [`BLOCKS_KEPT`] blocks, the newest ones; reading a block takes some milliseconds and is done
//! beside the questions ([`remember`]), once, and again after a rebuild of any read model or a migration. Each [`ReadPool`] keeps
//! its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{ActivityFeed, BLOCK_BITS, Line};
use crate::Projection;
use crate::origin::{Origin, Seen, hash_at, reached, tables};
use crate::sql::{Connection, Dialect, ReadPool, ViewError};

/// How many blocks are kept at most: 64 MiB, of some sixty million entries.
const BLOCKS_KEPT: usize = if cfg!(test) { 16 } else { 4_096 };
/// How many bits a block has, as a power of two: eight for each position.
const FILTER_BITS: u32 = BLOCK_BITS + 3;
/// How many of them each number sets. Of those who are not in a block one in a hundred finds all of its own set where ten thousand
/// others are, as in a wide network, and one in twelve where 25 000 are.
const BITS_A_NUMBER: usize = 3;

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<Option<Arc<Kept>>>);

/// Of consecutive blocks, who may be in each.
#[derive(Debug, Clone)]
struct Kept {
    /// Up to the last position of the last block.
    origin: Origin,
    first: u64,
    blocks: VecDeque<Arc<Filter>>,
}

/// Who may be in a block.
#[derive(Debug)]
struct Filter(Vec<u64>);

impl Filter {
    fn none() -> Self {
        Self(vec![0; (1 << FILTER_BITS) / 64])
    }

    /// Where a number's bits are: as bit and word. Each is cut from another part of the number, mixed by the finalizer of SplitMix64
    /// (G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", 2014).
    fn bits(number: u64) -> [(u64, usize); BITS_A_NUMBER] {
        let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        [0, 1, 2].map(|part| {
            let bit = (mixed >> (part * 64 / 3)) & ((1 << FILTER_BITS) - 1);
            // No more than the bits that there are, which fit.
            (1 << (bit % 64), usize::try_from(bit / 64).unwrap_or_default())
        })
    }

    fn add(&mut self, number: u64) {
        for (bit, word) in Self::bits(number) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn may_hold(&self, number: u64) -> bool {
        Self::bits(number).into_iter().all(|(bit, word)| self.0.get(word).is_none_or(|word| word & bit != 0))
    }

    /// Of a full block.
    async fn of(connection: &mut Connection<'_>, block: u64) -> Result<Self, ViewError> {
        let mut filter = Self::none();
        let sql = "select path from activity where position >= $1 and position < $2";
        let (from, until) = (block << BLOCK_BITS, (block + 1) << BLOCK_BITS);
        let each = |row: crate::sql::Row| {
            Line(row.columns().bytes()?).numbers().for_each(|number| filter.add(number));
            Ok(true)
        };
        connection.for_each(sql, vec![from.into(), until.into()], each).await?;
        Ok(filter)
    }
}

/// Which blocks a question may leave out.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Option<(Arc<Kept>, u64)>);

impl Blocks {
    /// Whether the subtree that is asked about may have an entry in this block.
    pub(crate) fn may_tell(&self, block: u64) -> bool {
        let Some((kept, number)) = &self.0 else { return true };
        let index = block.checked_sub(kept.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| kept.blocks.get(index)).is_none_or(|filter| filter.may_hold(*number))
    }
}

impl Presence {
    fn kept(&self) -> Option<Arc<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where in this snapshot the subtree of a reseller with this number may have entries.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn of(&self, connection: &mut Connection<'_>, number: u64) -> Result<Blocks, ViewError> {
        let Some(kept) = self.kept() else { return Ok(Blocks::default()) };
        let tables = tables(connection).await?;
        let is_same = kept.origin.seen(connection, tables).await? == Seen::Same;
        Ok(Blocks(is_same.then_some((kept, number))))
    }

    /// Reads one more block, where there is one; whether there was.
    async fn read_on(&self, connection: &mut Connection<'_>) -> Result<bool, ViewError> {
        // On a server a session is shown no more than its scope, and what one has read is not for the next to keep.
        if connection.dialect() == Dialect::Postgres {
            return Ok(false);
        }
        let tables = tables(connection).await?;
        let folded = reached(connection, ActivityFeed::NAME).await?;
        if hash_at(connection, folded.position).await? != folded.hash {
            // The log is another one by now than that which was folded, and what is kept is told by the log.
            return Ok(false);
        }
        let full = (folded.position + 1) >> BLOCK_BITS;
        let mut kept = match self.kept() {
            Some(kept) => match kept.origin.seen(connection, tables).await? {
                Seen::Same => Some(Kept::clone(&kept)),
                Seen::Later => return Ok(false),
                Seen::Another => None,
            },
            None => None,
        };
        let end = kept.as_ref().map_or(full.saturating_sub(1), Kept::end);
        if end < full {
            let filter = Arc::new(Filter::of(connection, end).await?);
            let origin = Origin::at::<ActivityFeed>(connection, tables, ((end + 1) << BLOCK_BITS) - 1).await?;
            let mut blocks = kept.map_or_else(VecDeque::new, |kept| kept.blocks);
            blocks.push_back(filter);
            if blocks.len() > BLOCKS_KEPT {
                blocks.pop_front();
            }
            let first = (end + 1).saturating_sub(u64::try_from(blocks.len()).map_err(ViewError::unreadable)?);
            kept = Some(Kept { origin, first, blocks });
        } else if let Some(kept) = &mut kept
            && kept.blocks.len() < BLOCKS_KEPT
            && let Some(before) = kept.first.checked_sub(1)
        {
            kept.blocks.push_front(Arc::new(Filter::of(connection, before).await?));
            kept.first = before;
        } else {
            return Ok(false);
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = kept.map(Arc::new);
        Ok(true)
    }
}

impl Kept {
    /// The block after the last.
    fn end(&self) -> u64 {
        self.first + u64::try_from(self.blocks.len()).unwrap_or(u64::MAX)
    }
}

/// Takes down who is in the next block that is not kept yet, the newest first; whether there was one. For whoever serves questions,
/// beside them, again and again: never at the same time.
///
/// # Errors
/// What the database says.
pub async fn remember(pool: &ReadPool) -> Result<bool, ViewError> {
    let mut read = pool.begin(0, Duration::ZERO).await?;
    let presence = read.presence();
    presence.read_on(&mut read.connection()).await
}
