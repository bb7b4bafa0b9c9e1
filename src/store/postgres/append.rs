//! A batch as one statement: events, receipts, facts, snapshots, personal data and the head, each in bulk by UNNEST, and the
//! notice to other nodes. One round trip, whatever is in the batch; what is not in it is not in the statement.
//!
//! Where there are events the head moves first, and only where everything is as it was decided on; all the rest is joined to
//! it, so it is written with the head or not at all.

use std::collections::BTreeMap;

use aggregates::command::ReceiptKey;
use aggregates::event::AggregateKey;
use aggregates::ledger::Remembered;
use aggregates::primitives::Timestamp;
use sqlx::postgres::PgConnection;

use super::connection::{answered, doubtful};
use super::moment::Moment;
use super::reading::{Query, bigint, column};
use super::turn::{QUEUE, Seen};
use crate::store::{Batch, Head, STATE_VERSION, SnapshotRow, StoreError};

/// The channel on which a node hears that another one has committed. A notice says nothing but that.
pub const CHANNEL: &str = "tallytree_log";

/// A wallet's snapshot is written with its first events and whenever it has come to another multiple of so many: what is not in it
/// is folded when it is loaded ([`super::reading`]), and a commit for many wallets spares a row for nearly each of them. All other
/// aggregates change seldom, and have one after every event.
const WALLET_SNAPSHOT_EVERY: u64 = 20;

/// A turn that holds the lock loses it when it has been silent for so long; one that assumes its head is no better.
const ASSUMED_MAX: &str = "4 seconds";

/// Writes a batch after `head`, in the transaction that is open and holds the head's lock.
pub(super) async fn write(
    connection: &mut PgConnection,
    pooled: bool,
    head: &Head,
    batch: &Batch,
) -> Result<(), StoreError> {
    let written = statement(head, batch, None)?.run(connection, pooled).await.map_err(StoreError::from)?;
    if batch.events.is_empty() || written.is_whole {
        return Ok(());
    }
    Err(StoreError::Database(match written.orphans {
        0 => "the log has no head, or another one than was locked".to_owned(),
        orphans => format!("{orphans} events do not follow their aggregate's last one"),
    }))
}

/// Writes a batch after `head` and commits it, outside of any transaction: the statement queues for the lock itself, and writes
/// where the head is still this one, none of the keys has a receipt as far as the statement sees (of one that it does not see yet
/// the key of the receipts knows), and the time that was assumed is not long ago: a machine may have slept in between.
///
/// A statement that was given up for lost and comes late writes nothing: whoever gives it up counts the epoch on first.
pub(super) async fn write_assumed(
    connection: &mut PgConnection,
    seen: &Seen,
    batch: &Batch,
    absent: &[ReceiptKey],
) -> Result<(), StoreError> {
    if batch.events.is_empty() {
        return Err(StoreError::Overtaken(
            "nothing moves the head, so nothing would see whether it has moved".to_owned(),
        ));
    }
    let assumed = Assumed { absent, now: seen.now };
    let statement = statement(&seen.head, batch, Some(&assumed))?;
    if statement.run(connection, false).await.map_err(overtaken)?.is_whole {
        return Ok(());
    }
    Err(StoreError::Overtaken("another node has written, or a key has been answered".to_owned()))
}

/// What a turn without the lock has assumed beside the head.
struct Assumed<'turn> {
    absent: &'turn [ReceiptKey],
    now: Timestamp,
}

/// Why the statement said nothing.
enum Failed {
    Database(sqlx::Error),
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Database(error) => doubtful(error),
            Failed::Store(error) => error,
        }
    }
}

/// An answer of the server itself by which the statement, which is all of its transaction, has certainly failed.
fn overtaken(error: Failed) -> StoreError {
    if let Failed::Database(sqlx::Error::Database(answer)) = &error
        && let Some(
            // lock_not_available, deadlock_detected, unique_violation: somebody else is at work, or was.
            "55P03" | "40P01" | "23505",
        ) = answer.code().as_deref()
    {
        return StoreError::Overtaken(answer.to_string());
    }
    error.into()
}

/// What the statement said.
struct Written {
    /// Whether the head was moved, and all the rest written.
    is_whole: bool,
    /// How many aggregates' events do not follow their last one.
    orphans: i64,
}

/// The sequence of each aggregate's first event in a batch, by type and id.
type Firsts<'batch> = BTreeMap<(&'batch str, &'batch str), u64>;

fn firsts(batch: &Batch) -> Firsts<'_> {
    let mut firsts = Firsts::new();
    for event in &batch.events {
        firsts.entry((&event.aggregate_type, &event.aggregate_id)).or_insert(event.sequence);
    }
    firsts
}

/// Whether a snapshot is written.
fn is_due(row: &SnapshotRow, firsts: &Firsts<'_>) -> bool {
    let AggregateKey::Wallet(_) = row.key else { return true };
    let id = row.key.aggregate_id();
    match firsts.get(&(row.key.aggregate_type(), id.as_str())) {
        Some(first) if *first > 1 => (first - 1) / WALLET_SNAPSHOT_EVERY != row.sequence / WALLET_SNAPSHOT_EVERY,
        Some(_) | None => true,
    }
}

fn statement(head: &Head, batch: &Batch, assumed: Option<&Assumed<'_>>) -> Result<Statement, StoreError> {
    let mut statement = Statement::default();
    let firsts = firsts(batch);
    statement.head(head, batch, &firsts, assumed)?;
    statement.events(batch)?;
    statement.receipts(batch)?;
    statement.facts(batch)?;
    statement.snapshots(head, batch, &firsts)?;
    statement.personal_data(batch)?;
    Ok(statement)
}

/// The statement as it grows.
#[derive(Default)]
struct Statement {
    query: Query,
    /// `name as (…)`, each.
    parts: Vec<String>,
    /// What the parts after the head's are joined to: it, where it moves.
    moved: &'static str,
    /// What comes of it all.
    answer: String,
}

impl Statement {
    async fn run(mut self, connection: &mut PgConnection, pooled: bool) -> Result<Written, Failed> {
        self.query.sql = format!("with {} select {}", self.parts.join(", "), self.answer);
        let rows = answered(self.query.fetch(connection, pooled)).await?.map_err(Failed::Database)?;
        let Some(row) = rows.first() else {
            return Err(StoreError::Database("an append without an answer".to_owned()).into());
        };
        Ok(Written { is_whole: column::<i64>(row, 0)? == 1, orphans: column(row, 1)? })
    }

    /// Moves the head, if it is the one that was decided on and every aggregate's events follow its last one.
    fn head(
        &mut self,
        head: &Head,
        batch: &Batch,
        firsts: &Firsts<'_>,
        assumed: Option<&Assumed<'_>>,
    ) -> Result<(), StoreError> {
        let Some(end) = batch.events.last() else {
            "0::int8, 0::int8".clone_into(&mut self.answer);
            return Ok(());
        };
        let known = || firsts.iter().filter(|(_, sequence)| **sequence > 1);
        let query = &mut self.query;
        let types = query.bind(known().map(|((kind, _), _)| *kind).collect::<Vec<_>>())?;
        let ids = query.bind(known().map(|((_, id), _)| *id).collect::<Vec<_>>())?;
        let before = query.bind(known().map(|(_, sequence)| bigint(sequence - 1)).collect::<Vec<_>>())?;
        self.parts.push(format!(
            "orphans as materialized (select count(*) as number \
             from unnest(${types}::text[], ${ids}::text[], ${before}::int8[]) as first(type, id, before) \
             where not exists (select from ledger.events e where e.aggregate_type = first.type \
             and e.aggregate_id = first.id and e.sequence = first.before))"
        ));
        let (before, known, epoch) =
            (query.bind(bigint(head.position))?, query.bind(head.hash)?, query.bind(bigint(head.epoch))?);
        let (position, hash) = (query.bind(bigint(end.position))?, query.bind(end.hash)?);
        let mut guard = format!(
            "id = 1 and position = ${before} and hash = ${known} and epoch = ${epoch} \
             and (select number from orphans) = 0"
        );
        if let Some(Assumed { absent, now }) = assumed {
            let (absent, now) = (query.bind(*absent)?, query.bind(Moment(*now))?);
            // The queue is stood in before the row is locked, as everybody does.
            guard.push_str(&format!(
                " and ({QUEUE}) is not null \
                 and not exists (select from ledger.receipts where key = any(${absent}::bytea[])) \
                 and clock_timestamp() < ${now}::timestamptz + interval '{ASSUMED_MAX}'"
            ));
        }
        self.parts.push(format!(
            "head as (update ledger.head set position = ${position}, hash = ${hash} where {guard} returning 1)"
        ));
        self.moved = "head, ";
        self.answer = format!(
            "(select count(*) from head), (select number from orphans), (select pg_notify('{CHANNEL}', '') from head)"
        );
        Ok(())
    }

    fn events(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let events = &batch.events;
        if events.is_empty() {
            return Ok(());
        }
        let (query, moved) = (&mut self.query, self.moved);
        let position = query.bind(events.iter().map(|event| bigint(event.position)).collect::<Vec<_>>())?;
        let aggregate_type = query.bind(events.iter().map(|event| &*event.aggregate_type).collect::<Vec<_>>())?;
        let aggregate_id = query.bind(events.iter().map(|event| &*event.aggregate_id).collect::<Vec<_>>())?;
        let sequence = query.bind(events.iter().map(|event| bigint(event.sequence)).collect::<Vec<_>>())?;
        let event_type = query.bind(events.iter().map(|event| &*event.event_type).collect::<Vec<_>>())?;
        let event_version = query.bind(events.iter().map(|event| &*event.event_version).collect::<Vec<_>>())?;
        let payload = query.bind(events.iter().map(|event| &*event.payload).collect::<Vec<_>>())?;
        let metadata = query.bind(events.iter().map(|event| &*event.metadata).collect::<Vec<_>>())?;
        let recorded_at = query.bind(events.iter().map(|event| Moment(event.recorded_at)).collect::<Vec<_>>())?;
        let hash = query.bind(events.iter().map(|event| event.hash).collect::<Vec<_>>())?;
        let actor = query.bind(events.iter().map(|event| &*event.actor).collect::<Vec<_>>())?;
        let command_id = query.bind(events.iter().map(|event| event.command_id.to_string()).collect::<Vec<_>>())?;
        self.parts.push(format!(
            "events as (insert into ledger.events (position, aggregate_type, aggregate_id, sequence, event_type, \
             event_version, payload, metadata, recorded_at, hash, actor, command_id) \
             select position, aggregate_type, aggregate_id, sequence, event_type, event_version, cast(payload as json), \
             cast(metadata as json), recorded_at, hash, actor, command_id \
             from {moved}unnest(${position}::int8[], ${aggregate_type}::text[], ${aggregate_id}::text[], ${sequence}::int8[], \
             ${event_type}::text[], ${event_version}::text[], ${payload}::text[], ${metadata}::text[], \
             ${recorded_at}::timestamptz[], ${hash}::bytea[], ${actor}::text[], ${command_id}::text[]) \
             as new(position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
             recorded_at, hash, actor, command_id))"
        ));
        Ok(())
    }

    fn receipts(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let receipts = &batch.receipts;
        if receipts.is_empty() {
            return Ok(());
        }
        let (query, moved) = (&mut self.query, self.moved);
        let key = query.bind(receipts.iter().map(|(key, _)| *key).collect::<Vec<_>>())?;
        let fingerprint = query.bind(receipts.iter().map(|(_, receipt)| receipt.fingerprint).collect::<Vec<_>>())?;
        let status = receipts.iter().map(|(_, receipt)| match receipt.outcome {
            Remembered::Done { .. } => "done",
            Remembered::Refused(_) => "refused",
        });
        let status = query.bind(status.collect::<Vec<_>>())?;
        let position = query.bind(receipts.iter().map(|(_, receipt)| bigint(receipt.position)).collect::<Vec<_>>())?;
        let answers = receipts.iter().map(|(_, receipt)| json(&receipt.outcome));
        let answer = query.bind(answers.collect::<Result<Vec<_>, _>>()?)?;
        let now = query.bind(Moment(batch.now))?;
        self.parts.push(format!(
            "receipts as (insert into ledger.receipts (key, fingerprint, status, position, answer, created_at) \
             select key, fingerprint, status, position, answer, ${now}::timestamptz from {moved}unnest(${key}::bytea[], \
             ${fingerprint}::bytea[], ${status}::text[], ${position}::int8[], ${answer}::text[]) \
             as new(key, fingerprint, status, position, answer))"
        ));
        Ok(())
    }

    fn facts(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let facts = &batch.facts;
        if facts.is_empty() {
            return Ok(());
        }
        let (query, moved) = (&mut self.query, self.moved);
        let kind = query.bind(facts.keys().map(|key| key.kind()).collect::<Vec<_>>())?;
        let key = query.bind(facts.keys().map(|key| key.key()).collect::<Vec<_>>())?;
        let value = query.bind(facts.values().map(|(fact, _)| json(fact)).collect::<Result<Vec<_>, _>>()?)?;
        let position = query.bind(facts.values().map(|(_, position)| bigint(*position)).collect::<Vec<_>>())?;
        self.parts.push(format!(
            "facts as (insert into ledger.facts (kind, key, value, position) select new.* \
             from {moved}unnest(${kind}::text[], ${key}::text[], ${value}::text[], ${position}::int8[]) as new \
             on conflict (kind, key) do update set value = excluded.value, position = excluded.position)"
        ));
        Ok(())
    }

    fn snapshots(&mut self, head: &Head, batch: &Batch, firsts: &Firsts<'_>) -> Result<(), StoreError> {
        let snapshots: Vec<&SnapshotRow> = batch.snapshots.iter().filter(|row| is_due(row, firsts)).collect();
        if snapshots.is_empty() {
            return Ok(());
        }
        let (query, moved) = (&mut self.query, self.moved);
        let aggregate_type = query.bind(snapshots.iter().map(|row| row.key.aggregate_type()).collect::<Vec<_>>())?;
        let aggregate_id = query.bind(snapshots.iter().map(|row| row.key.aggregate_id()).collect::<Vec<_>>())?;
        let sequence = query.bind(snapshots.iter().map(|row| bigint(row.sequence)).collect::<Vec<_>>())?;
        let payload = query.bind(snapshots.iter().map(|row| &*row.payload).collect::<Vec<_>>())?;
        let version = query.bind(i64::from(STATE_VERSION))?;
        let position = query.bind(bigint(batch.events.last().map_or(head.position, |event| event.position)))?;
        self.parts.push(format!(
            "snapshots as (insert into ledger.snapshots as s (aggregate_type, aggregate_id, last_sequence, \
             current_snapshot, payload, state_version, position) \
             select aggregate_type, aggregate_id, sequence, 1, cast(payload as json), ${version}, ${position} \
             from {moved}unnest(${aggregate_type}::text[], ${aggregate_id}::text[], ${sequence}::int8[], ${payload}::text[]) \
             as new(aggregate_type, aggregate_id, sequence, payload) \
             on conflict (aggregate_type, aggregate_id) do update set last_sequence = excluded.last_sequence, \
             current_snapshot = s.current_snapshot + 1, payload = excluded.payload, \
             state_version = excluded.state_version, position = excluded.position)"
        ));
        Ok(())
    }

    fn personal_data(&mut self, batch: &Batch) -> Result<(), StoreError> {
        // Of several changes of one client the last one counts: a statement may change a row once.
        let last: BTreeMap<_, _> = batch.personal_data.iter().map(|(client, details)| (*client, details)).collect();
        let (query, moved) = (&mut self.query, self.moved);
        let erased: Vec<String> =
            last.iter().filter(|(_, details)| details.is_none()).map(|(client, _)| client.to_string()).collect();
        if !erased.is_empty() {
            let erased = query.bind(erased)?;
            self.parts.push(format!(
                "erased as (delete from ledger.personal_data p using {moved}unnest(${erased}::text[]) as erased(client_id) \
                 where p.client_id = erased.client_id)"
            ));
        }
        let put: Vec<_> = last.iter().filter_map(|(client, details)| Some((client, details.as_ref()?))).collect();
        if !put.is_empty() {
            let client = query.bind(put.iter().map(|(client, _)| client.to_string()).collect::<Vec<_>>())?;
            let salt = query.bind(put.iter().map(|(_, details)| &*details.salt).collect::<Vec<_>>())?;
            let name = query.bind(put.iter().map(|(_, details)| details.name.as_str()).collect::<Vec<_>>())?;
            let email = put.iter().map(|(_, details)| details.email.as_ref().map(|email| email.as_str()));
            let email = query.bind(email.collect::<Vec<_>>())?;
            let metadata = put.iter().map(|(_, details)| json(&details.metadata));
            let metadata = query.bind(metadata.collect::<Result<Vec<_>, _>>()?)?;
            self.parts.push(format!(
                "put as (insert into ledger.personal_data (client_id, salt, name, email, metadata) select new.* from {moved}\
                 unnest(${client}::text[], ${salt}::text[], ${name}::text[], ${email}::text[], ${metadata}::text[]) as new \
                 on conflict (client_id) do update set salt = excluded.salt, name = excluded.name, \
                 email = excluded.email, metadata = excluded.metadata)"
            ));
        }
        Ok(())
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Database(error.to_string()))
}
