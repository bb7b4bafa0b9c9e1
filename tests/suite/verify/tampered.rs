//! A copy of the history in the hands of somebody with a shell, and what `verify` says to it.

use std::path::PathBuf;

use aggregates::primitives::ResellerId;
use projections::NAMES;
use projections::rebuild::Rebuild;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tallytree::audit::verify::{Report, Tally, verify};
use tallytree::store::sqlite::{index_path, ledger_path, views_path};
use tallytree::store::{StoredEvent, chain};
use tempfile::TempDir;
use uuid::Uuid;

use super::history::original;
use crate::common::log::reseller;

/// A copy of the history, in the hands of somebody with a shell.
pub struct Tampered {
    pub dir: TempDir,
    pub ledger: Connection,
}

impl Tampered {
    pub async fn new() -> Self {
        let original = original().await;
        let dir = tempfile::tempdir().unwrap();
        for path in [ledger_path(original), index_path(original), views_path(original)] {
            // A copy that also holds what is still in the write-ahead log.
            let target: PathBuf = dir.path().join(path.file_name().unwrap());
            Connection::open(&path).unwrap().execute("vacuum into ?1", [target.to_str().unwrap()]).unwrap();
        }
        let ledger = Connection::open(ledger_path(dir.path())).unwrap();
        ledger.execute_batch("drop trigger events_are_never_changed; drop trigger events_are_never_deleted;").unwrap();
        Self { dir, ledger }
    }

    pub fn sql(&self, sql: &str) {
        assert!(self.ledger.execute(sql, []).unwrap() > 0, "changes nothing: {sql}");
    }

    pub fn index_sql(&self, sql: &str) {
        let index = Connection::open(index_path(self.dir.path())).unwrap();
        assert!(index.execute(sql, []).unwrap() > 0, "changes nothing: {sql}");
    }

    /// The position of the first event of a type, of a wallet or reseller where one is named.
    pub fn find(&self, event_type: &str, of: Option<u128>) -> i64 {
        let id = of.map(|of| reseller(of).to_string());
        let sql = "select min(position) from events where event_type = ?1 and (?2 is null or aggregate_id = ?2)";
        let found: Option<i64> = self.ledger.query_row(sql, params![event_type, id], |row| row.get(0)).unwrap();
        found.unwrap_or_else(|| panic!("no {event_type}"))
    }

    pub fn end(&self) -> i64 {
        self.ledger.query_row("select max(position) from events", [], |row| row.get(0)).unwrap()
    }

    /// The hash at a position.
    pub fn hash(&self, position: i64) -> [u8; 32] {
        self.ledger.query_row("select hash from events where position = ?1", [position], |row| row.get(0)).unwrap()
    }

    /// Deletes all events of the last command and moves the head to what is left.
    pub fn cut_last_command(&self) {
        self.sql(
            "delete from events where command_id = (select command_id from events order by position desc limit 1)",
        );
        let end = self.end();
        self.ledger
            .execute("update head set position = ?1, hash = (select hash from events where position = ?1)", [end])
            .unwrap();
    }

    /// Exchanges two events' places.
    pub fn swap(&self, one: i64, other: i64) {
        self.sql(&format!("update events set position = 0 where position = {one}"));
        self.sql(&format!("update events set position = {one} where position = {other}"));
        self.sql(&format!("update events set position = {other} where position = 0"));
    }

    /// Changes an event's payload, below its type's name.
    pub fn edit(&self, position: i64, change: impl FnOnce(&mut Value)) {
        let sql = "select event_type, payload from events where position = ?1";
        let (kind, payload): (String, String) =
            self.ledger.query_row(sql, [position], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut payload: Value = serde_json::from_str(&payload).unwrap();
        change(&mut payload[kind]);
        self.ledger
            .execute("update events set payload = ?2 where position = ?1", params![position, payload.to_string()])
            .unwrap();
    }

    /// Appends an event to an aggregate in a command of its own, a chain link included.
    pub fn append(&self, aggregate_type: &str, of: ResellerId, event_type: &str, payload: &Value, role: &str) -> i64 {
        let position = self.end() + 1;
        let command = Uuid::from_u128(5_000 + u128::try_from(position).unwrap());
        let metadata = json!({"actor": "mallory", "role": role, "command_id": command.to_string()}).to_string();
        self.ledger
            .execute(
                "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
                 metadata, recorded_at, hash, actor, command_id) select ?1, ?2, ?3, \
                 (select coalesce(max(sequence), 0) + 1 from events where aggregate_type = ?2 and aggregate_id = ?3), \
                 ?4, '1.0.0', ?5, ?6, (select recorded_at from events where position = ?1 - 1), zeroblob(32), 'mallory', ?7",
                params![
                    position,
                    aggregate_type,
                    of.to_string(),
                    event_type,
                    json!({event_type: payload}).to_string(),
                    metadata,
                    command.to_string()
                ],
            )
            .unwrap();
        position
    }

    /// The balance that the last event of a wallet carries.
    pub fn balance(&self, of: u128) -> i64 {
        let sql = "select event_type, payload from events where aggregate_type = 'Wallet' and aggregate_id = ?1 \
                   order by sequence desc limit 1";
        let (kind, payload): (String, String) =
            self.ledger.query_row(sql, [reseller(of).to_string()], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        serde_json::from_str::<Value>(&payload).unwrap()[kind]["balance"].as_i64().unwrap()
    }

    /// Makes every event of a wallet carry the balance that its amounts lead to.
    pub fn recompute_balances(&self, of: u128) {
        let sql = "select position, event_type from events where aggregate_type = 'Wallet' and aggregate_id = ?1 \
                   order by sequence";
        let mut statement = self.ledger.prepare(sql).unwrap();
        let events: Vec<(i64, String)> = statement
            .query_map([reseller(of).to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut balance = 0;
        for (position, kind) in events {
            self.edit(position, |event| {
                balance += match kind.as_str() {
                    "CreditsAdded" | "CommissionEarned" | "ProvisionRefunded" | "CreditsTransferredIn" => {
                        event["amount"].as_i64().unwrap()
                    }
                    "CreditsRemoved" | "CommissionReversed" | "CreditsTransferredOut" => {
                        -event["amount"].as_i64().unwrap()
                    }
                    "Provisioned" => -event["provision"]["amount"].as_i64().unwrap(),
                    _ => 0,
                };
                event["balance"] = balance.into();
            });
        }
    }

    /// Makes the hash chain and the head fit what the events are now.
    pub fn recompute_chain(&self) {
        let mut statement = self
            .ledger
            .prepare(
                "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, \
                 recorded_at, actor, command_id from events order by position",
            )
            .unwrap();
        let events: Vec<StoredEvent> = statement
            .query_map([], |row| {
                Ok(StoredEvent {
                    position: row.get(0)?,
                    aggregate_type: row.get::<_, String>(1)?.into(),
                    aggregate_id: row.get(2)?,
                    sequence: row.get(3)?,
                    event_type: row.get::<_, String>(4)?.into(),
                    event_version: row.get::<_, String>(5)?.into(),
                    payload: row.get(6)?,
                    metadata: row.get(7)?,
                    recorded_at: row.get::<_, String>(8)?.parse().unwrap(),
                    hash: [0; 32],
                    actor: row.get(9)?,
                    command_id: row.get::<_, String>(10)?.parse().unwrap(),
                })
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut hash = [0; 32];
        for event in &events {
            hash = chain::hash(&hash, event);
            self.ledger
                .execute("update events set hash = ?2 where position = ?1", params![event.position, hash])
                .unwrap();
        }
        let end = events.last().unwrap().position;
        self.ledger.execute("update head set position = ?1, hash = ?2", params![end, hash]).unwrap();
    }

    pub fn verify(&self) -> Report {
        verify(self.dir.path(), &[], &mut |_, _| ()).unwrap()
    }

    pub async fn rebuild(&self) {
        let rebuild = Rebuild::begin(&self.dir.path().into(), NAMES).await.unwrap();
        rebuild.run(|_| true).await.unwrap().unwrap();
    }

    pub fn forget_read_models(&self) {
        std::fs::remove_file(views_path(self.dir.path())).unwrap();
    }
}

pub fn check<'a>(report: &'a Report, name: &str) -> &'a Tally {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}"))
}

/// The names of the checks that failed.
pub fn violated(report: &Report) -> Vec<&'static str> {
    report.checks.iter().filter(|check| check.violations > 0).map(|check| check.name).collect()
}

/// That a check failed, first at this position, about this.
#[track_caller]
pub fn assert_caught(report: &Report, name: &str, position: i64, what: &str) {
    assert!(!report.is_ok());
    let first = check(report, name).first.as_ref().unwrap_or_else(|| panic!("{name} holds; {:?}", violated(report)));
    assert_eq!(first.position, Some(position), "{name}: {first:?}");
    assert!(first.what.contains(what), "{name}: {first:?}");
    assert_ne!(first.expected, first.found);
}
