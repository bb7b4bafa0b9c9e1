//! Where the events stand that a provision's fact is the fold of: the one that made it, and its last refund.
//!
//! A fact of a provision is not written with the commit, because everything of it is in these two events. The fact itself is
//! folded when it is asked for (`super::super::reading`), which only a refund does; what is kept by key is two numbers.

use aggregates::facts::{self, ProvisionStep};
use aggregates::primitives::ProvisionId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::sqlite::connection::error;
use crate::store::{StoreError, StoredEvent};

/// What one event does to a provision.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::sqlite) struct Change {
    pub(super) id: ProvisionId,
    step: ProvisionStep,
    position: u64,
}

impl Change {
    /// Of an event's texts; `None` where it does nothing to a provision.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for what this version cannot read: whoever passed over it would refund twice.
    pub(super) fn of(
        aggregate_type: &str,
        event_type: &str,
        event_version: &str,
        payload: &str,
        position: u64,
    ) -> Result<Option<Self>, StoreError> {
        let step = facts::provision_step(aggregate_type, event_type, event_version, payload)
            .map_err(|cause| StoreError::Unreadable(format!("event {position}: {cause}")))?;
        Ok(step.map(|step| {
            let (ProvisionStep::Provisioned(id) | ProvisionStep::Refunded(id)) = step;
            Self { id, step, position }
        }))
    }

    /// Of an event that is to be committed.
    pub(super) fn of_event(event: &StoredEvent) -> Result<Option<Self>, StoreError> {
        Self::of(&event.aggregate_type, &event.event_type, &event.event_version, &event.payload, event.position)
    }

    /// Of a row whose columns from `first` on are an event's type, version and payload.
    pub(super) fn of_row(
        row: &Row<'_>,
        first: usize,
        aggregate_type: &str,
        position: u64,
    ) -> Result<Option<Self>, StoreError> {
        let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?)).map_err(error);
        Self::of(aggregate_type, text(first)?, text(first + 1)?, text(first + 2)?, position)
    }
}

/// Where the events of one provision stand, as far as one place knows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Places {
    made: Option<u64>,
    refunded: Option<u64>,
}

impl Places {
    /// Takes in the next event.
    pub(super) fn take_in(&mut self, change: &Change) {
        match change.step {
            // One that is made anew begins anew.
            ProvisionStep::Provisioned(_) => *self = Self { made: Some(change.position), refunded: None },
            ProvisionStep::Refunded(_) => self.refunded = Some(change.position),
        }
    }

    /// Forgets what stands at or before a position; says whether anything is left.
    pub(super) fn forget(&mut self, position: u64) -> bool {
        let later = |place: Option<u64>| place.filter(|place| *place > position);
        *self = Self { made: later(self.made), refunded: later(self.refunded) };
        *self != Self::default()
    }

    /// Whether the event that made it is known, so that nothing from before counts.
    pub(super) fn is_whole(&self) -> bool {
        self.made.is_some()
    }

    /// These on top of what is known from before.
    pub(super) fn after(self, former: Self) -> Self {
        if self.is_whole() { self } else { Self { made: former.made, refunded: self.refunded.or(former.refunded) } }
    }

    /// The events to fold, in order; none for a provision that was never made.
    pub(super) fn positions(self) -> impl Iterator<Item = u64> {
        self.made.into_iter().chain(self.refunded.filter(|_| self.is_whole()))
    }
}

/// What the file knows.
pub(super) fn read(index: &Connection, id: ProvisionId) -> Result<Places, StoreError> {
    let found = index
        .prepare_cached("select provisioned, refunded from provision_events where id = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([id.0.as_bytes()], |row| Ok(Places { made: row.get(0)?, refunded: row.get(1)? }))
                .optional()
        })
        .map_err(error)?;
    Ok(found.unwrap_or_default())
}

/// Puts changes, in the order of the log, into the file.
pub(super) fn write(index: &Connection, mut changes: Vec<Change>) -> Result<(), StoreError> {
    // In the order of the keys, and of the log within one: the sort is stable.
    changes.sort_by_key(|change| change.id);
    let mut made = index
        .prepare_cached(
            "insert or rollback into provision_events (id, provisioned, refunded) values (?1, ?2, ?3) \
             on conflict (id) do update set provisioned = excluded.provisioned, refunded = excluded.refunded",
        )
        .map_err(error)?;
    let mut refunded =
        index.prepare_cached("update or rollback provision_events set refunded = ?2 where id = ?1").map_err(error)?;
    for changes in changes.chunk_by(|one, next| one.id == next.id) {
        let Some(first) = changes.first() else { continue };
        let mut places = Places::default();
        changes.iter().for_each(|change| places.take_in(change));
        let id = first.id.0.as_bytes();
        // A refund of what was never provisioned is none, here as in the fold.
        match places.made {
            Some(position) => made.execute(params![id, position, places.refunded]),
            None => refunded.execute(params![id, places.refunded]),
        }
        .map_err(error)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> ProvisionId {
        ProvisionId(Uuid::from_u128(number))
    }

    fn made(number: u128, position: u64) -> Change {
        Change { id: id(number), step: ProvisionStep::Provisioned(id(number)), position }
    }

    fn refunded(number: u128, position: u64) -> Change {
        Change { id: id(number), step: ProvisionStep::Refunded(id(number)), position }
    }

    fn places(changes: &[Change]) -> Places {
        let mut places = Places::default();
        changes.iter().for_each(|change| places.take_in(change));
        places
    }

    fn positions(places: Places) -> Vec<u64> {
        places.positions().collect()
    }

    fn file() -> Connection {
        let index = Connection::open_in_memory().unwrap();
        index.execute_batch(include_str!("../../../../migrations/sqlite/index/0001_index.sql")).unwrap();
        index.execute_batch(include_str!("../../../../migrations/sqlite/index/0002_provision_events.sql")).unwrap();
        index
    }

    #[test]
    fn what_is_known_here_and_what_is_known_from_before_make_one() {
        assert_eq!(positions(places(&[made(1, 3), refunded(1, 5), refunded(1, 8)])), [3, 8]);
        let from_before = places(&[made(1, 3), refunded(1, 5)]);
        assert_eq!(positions(places(&[refunded(1, 8)]).after(from_before)), [3, 8]);
        assert_eq!(positions(Places::default().after(from_before)), [3, 5]);
        assert_eq!(positions(places(&[made(1, 9)]).after(from_before)), [9], "what is made anew begins anew");
        assert_eq!(positions(places(&[refunded(1, 8)])), [0_u64; 0], "a refund of what was never made");

        let mut tail = places(&[made(1, 3), refunded(1, 5)]);
        assert!(tail.forget(3) && !tail.is_whole());
        assert_eq!(positions(tail.after(places(&[made(1, 3)]))), [3, 5]);
        assert!(!tail.forget(5));
    }

    #[test]
    fn the_file_says_what_folding_all_changes_says_however_they_come_in_steps() {
        let changes =
            [made(7, 1), made(2, 2), refunded(7, 3), refunded(9, 4), refunded(7, 5), made(5, 6), refunded(2, 7)];
        for step in 1..=changes.len() {
            let index = file();
            for changes in changes.chunks(step) {
                write(&index, changes.to_vec()).unwrap();
            }
            let kept: Vec<_> = [2, 5, 7, 9].map(|number| positions(read(&index, id(number)).unwrap())).into();
            assert_eq!(kept, [vec![2, 7], vec![6], vec![1, 5], vec![]], "in steps of {step}");
        }
    }
}
