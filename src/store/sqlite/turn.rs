//! A turn at the head of `ledger.db`: one `BEGIN IMMEDIATE` transaction from `begin` to `append`, or to nothing.

use std::collections::HashSet;
use std::time::Instant;

use aggregates::command::ReceiptKey;
use aggregates::facts::FactKey;
use aggregates::ledger::{Key, Loaded, Receipt, Remembered};
use aggregates::primitives::Timestamp;
use rusqlite::{Connection, params};
use uuid::fmt::Hyphenated;

use super::connection::doubtful;
use super::{SqliteStore, reading};
use crate::store::{Batch, Head, StoreError, StoredEvent, Turn};

/// The head's lock, held by an open transaction.
pub struct SqliteTurn<'store> {
    store: &'store mut SqliteStore,
    head: Head,
    /// Keys that were looked for and have no receipt, in order.
    absent: Vec<ReceiptKey>,
}

impl<'store> SqliteTurn<'store> {
    /// On a store whose connection has just begun its transaction.
    pub(super) fn new(store: &'store mut SqliteStore, head: Head) -> Self {
        Self { store, head, absent: Vec::new() }
    }
}

impl std::fmt::Debug for SqliteTurn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteTurn").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Drop for SqliteTurn<'_> {
    fn drop(&mut self) {
        self.store.abandon();
    }
}

impl Turn for SqliteTurn<'_> {
    fn head(&self) -> &Head {
        &self.head
    }

    fn is_assumed(&self) -> bool {
        false
    }

    fn now(&self) -> Option<Timestamp> {
        None
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        reading::events(&self.store.connection, after, limit)
    }

    async fn load(&mut self, keys: &[Key]) -> Result<Vec<(Key, Loaded)>, StoreError> {
        reading::load(&self.store.connection, &self.store.index, keys)
    }

    async fn receipts(&mut self, keys: &[ReceiptKey]) -> Result<Vec<(ReceiptKey, Receipt)>, StoreError> {
        let (connection, index) = (&self.store.connection, &self.store.index);
        let found = index.at_once(|| reading::receipts(connection, index, keys))?;
        let known: HashSet<&ReceiptKey> = found.iter().map(|(key, _)| key).collect();
        self.absent.extend(keys.iter().filter(|key| !known.contains(*key)));
        self.absent.sort_unstable();
        Ok(found)
    }

    async fn append(self, batch: &Batch) -> Result<(), StoreError> {
        batch.follows(&self.head)?;
        let changes = self.store.index.check(batch, &self.absent)?;
        // Most batches have receipts; looking up the number costs one row of the index.
        let first_receipt = if batch.receipts.is_empty() { 0 } else { self.store.index.next_receipt()? };
        // An error in here leaves the transaction open and drops the turn, which rolls it back: a COMMIT after a failed
        // statement would commit the rest, or "succeed" as a rollback.
        write(&self.store.connection, batch, first_receipt)?;
        self.store.connection.prepare_cached("commit").and_then(|mut commit| commit.execute([])).map_err(doubtful)?;
        self.store.committed_at = Some(Instant::now());
        self.store.index.committed(batch, first_receipt, &changes);
        let rows = batch.events.len() + batch.receipts.len();
        self.store.checkpointer.written(u64::try_from(rows).unwrap_or(u64::MAX));
        Ok(())
    }
}

fn write(connection: &Connection, batch: &Batch, first_receipt: u64) -> Result<(), StoreError> {
    write_events(connection, &batch.events)?;
    write_receipts(connection, batch, first_receipt)?;
    write_facts(connection, batch)?;
    write_personal_data(connection, batch)?;
    if let Some(end) = batch.events.last() {
        let moved = connection
            .prepare_cached("update head set position = ?1, hash = ?2 where id = 1")
            .and_then(|mut statement| statement.execute(params![end.position, end.hash]))
            .map_err(doubtful)?;
        if moved != 1 {
            return Err(StoreError::Database("the log has no head".to_owned()));
        }
    }
    Ok(())
}

fn write_events(connection: &Connection, events: &[StoredEvent]) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let mut statement = connection
        .prepare_cached(
            "insert or rollback into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
             metadata, recorded_at, hash, actor, command_id) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )
        .map_err(doubtful)?;
    // The events of one batch mostly share their time; writing it out anew for each would be felt.
    let mut time = (Timestamp::default(), Timestamp::default().to_string());
    let mut command_id = [0; Hyphenated::LENGTH];
    for event in events {
        if event.recorded_at != time.0 {
            time = (event.recorded_at, event.recorded_at.to_string());
        }
        let command_id: &str = event.command_id.0.as_hyphenated().encode_lower(&mut command_id);
        statement
            .execute(params![
                event.position,
                event.aggregate_type,
                event.aggregate_id,
                event.sequence,
                event.event_type,
                event.event_version,
                event.payload,
                event.metadata,
                time.1,
                event.hash,
                event.actor,
                command_id,
            ])
            .map_err(doubtful)?;
    }
    Ok(())
}

fn write_receipts(connection: &Connection, batch: &Batch, first: u64) -> Result<(), StoreError> {
    if batch.receipts.is_empty() {
        return Ok(());
    }
    let mut statement = connection
        .prepare_cached(
            "insert or rollback into receipts (id, key, fingerprint, status, position, answer, created_at) \
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .map_err(doubtful)?;
    let now = batch.now.to_string();
    for ((key, receipt), id) in batch.receipts.iter().zip(first..) {
        let status = match receipt.outcome {
            Remembered::Done { .. } => "done",
            Remembered::Refused(_) => "refused",
        };
        let answer = json(&receipt.outcome)?;
        statement
            .execute(params![id, key, receipt.fingerprint, status, receipt.position, answer, now])
            .map_err(doubtful)?;
    }
    Ok(())
}

fn write_facts(connection: &Connection, batch: &Batch) -> Result<(), StoreError> {
    // A provision's events say all of its fact, and the index where they stand: here it would only cost the commit a page.
    let mut facts = batch.facts.iter().filter(|(key, _)| !matches!(key, FactKey::Provision(_))).peekable();
    if facts.peek().is_none() {
        return Ok(());
    }
    let mut statement = connection
        .prepare_cached(
            "insert or rollback into facts (kind, key, value, position) values (?1, ?2, ?3, ?4) \
             on conflict (kind, key) do update set value = excluded.value, position = excluded.position",
        )
        .map_err(doubtful)?;
    for (key, (fact, position)) in facts {
        statement.execute(params![key.kind(), key.key(), json(fact)?, position]).map_err(doubtful)?;
    }
    Ok(())
}

fn write_personal_data(connection: &Connection, batch: &Batch) -> Result<(), StoreError> {
    for (client, details) in &batch.personal_data {
        let written = match details {
            Some(details) => connection
                .prepare_cached(
                    "insert into personal_data (client_id, salt, name, email, metadata) values (?1, ?2, ?3, ?4, ?5) \
                     on conflict (client_id) do update set salt = excluded.salt, name = excluded.name, \
                     email = excluded.email, metadata = excluded.metadata",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        client.to_string(),
                        details.salt,
                        details.name.as_str(),
                        details.email.as_ref().map(|email| email.as_str()),
                        serde_json::Value::Object(details.metadata.clone()).to_string(),
                    ])
                }),
            None => connection
                .prepare_cached("delete from personal_data where client_id = ?1")
                .and_then(|mut statement| statement.execute([client.to_string()])),
        };
        written.map_err(doubtful)?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Database(error.to_string()))
}
