//! A copy of the history in the hands of somebody with a shell, and what `verify` says to it.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aggregates::primitives::ResellerId;
use projections::NAMES;
use projections::rebuild::Rebuild;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use tallytree::audit::verify::{Keeping, Report, Tally, VerifyError, verify, verify_resumably};
use tallytree::projector::views_of;
use tallytree::store::sqlite::{index_path, ledger_path, views_path};
use tallytree::store::{Database, StoredEvent, chain};
use tempfile::TempDir;
use uuid::Uuid;

use super::history::{Original, original};
use crate::common::app::Place;
use crate::common::log::reseller;
use crate::common::postgres;

/// A copy of the history, in the hands of somebody with a shell.
pub struct Tampered {
    pub place: Place,
    original: &'static Original,
}

/// All files of a store at once: a table is found in whichever it is.
fn open(dir: &Path) -> Connection {
    let connection = Connection::open(ledger_path(dir)).unwrap();
    for (path, name) in [(index_path(dir), "log_index"), (views_path(dir), "views")] {
        if path.exists() {
            connection.execute(&format!("attach database ?1 as {name}"), [path.to_str().unwrap()]).unwrap();
        }
    }
    connection
}

/// A text in SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

const PATH: &str = "set search_path = ledger, views;";

impl Tampered {
    pub async fn new() -> Self {
        let original = original().await;
        match &original.place {
            Place::Files(files) => {
                let (from, copy) = (files.path().join("store"), tempfile::tempdir().unwrap());
                let to = copy.path().join("store");
                std::fs::create_dir(&to).unwrap();
                for path in [ledger_path(&from), index_path(&from), views_path(&from)] {
                    // A copy that also holds what is still in the write-ahead log.
                    let target = to.join(path.file_name().unwrap());
                    Connection::open(&path).unwrap().execute("vacuum into ?1", [target.to_str().unwrap()]).unwrap();
                }
                let ledger = Connection::open(ledger_path(&to)).unwrap();
                let drop = "drop trigger events_are_never_changed; drop trigger events_are_never_deleted;";
                ledger.execute_batch(drop).unwrap();
                Self { place: Place::Files(copy), original }
            }
            Place::Database(database) => {
                let copy = postgres::shared().unwrap().copy_of(database);
                let drop = "drop trigger events_are_never_changed on ledger.events; \
                            drop trigger events_are_never_deleted on ledger.events";
                copy.sql_as_superuser(drop).unwrap();
                Self { place: Place::Database(copy), original }
            }
        }
    }

    /// Runs SQL; says how many rows it changed.
    pub fn try_sql(&self, sql: &str) -> u64 {
        match &self.place {
            Place::Files(_) => u64::try_from(open(&self.place.store()).execute(sql, []).unwrap()).unwrap(),
            Place::Database(database) => database.sql_as_superuser(&format!("{PATH} {sql}")).unwrap(),
        }
    }

    pub fn sql(&self, sql: &str) {
        assert!(self.try_sql(sql) > 0, "changes nothing: {sql}");
    }

    /// Runs statements on the read models' file alone.
    pub fn on_views(&self, sql: &str) {
        Connection::open(views_path(&self.place.store())).unwrap().execute_batch(sql).unwrap();
    }

    /// The rows of a query, every value as text.
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let Place::Database(database) = &self.place else {
            let connection = open(&self.place.store());
            let mut statement = connection.prepare(sql).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                let text = |column| match row.get_ref(column).unwrap() {
                    ValueRef::Integer(number) => number.to_string(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => panic!("{other:?}"),
                };
                Ok((0..columns).map(text).collect())
            };
            return statement.query_map([], row).unwrap().map(Result::unwrap).collect();
        };
        database.rows(&format!("{PATH} {sql}"))
    }

    fn number(&self, sql: &str) -> i64 {
        self.rows(sql)[0][0].parse().unwrap()
    }

    /// Bytes in SQL.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match &self.place {
            Place::Files(_) => format!("x'{digits}'"),
            Place::Database(_) => format!("decode('{digits}', 'hex')"),
        }
    }

    /// The position of the first event of a type, of a wallet or reseller where one is named.
    pub fn find(&self, event_type: &str, of: Option<u128>) -> i64 {
        let of = of.map(|of| format!("and aggregate_id = '{}'", reseller(of))).unwrap_or_default();
        self.number(&format!("select coalesce(min(position), -1) from events where event_type = '{event_type}' {of}"))
    }

    pub fn end(&self) -> i64 {
        self.number("select max(position) from events")
    }

    /// The hash at a position.
    pub fn hash(&self, position: i64) -> [u8; 32] {
        let hex = match &self.place {
            Place::Files(_) => "hex(hash)",
            Place::Database(_) => "encode(hash, 'hex')",
        };
        let digits = &self.rows(&format!("select {hex} from events where position = {position}"))[0][0];
        std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
    }

    /// Moves the head to this event.
    pub fn move_head(&self, position: i64) {
        let hash = self.bytes(&self.hash(position));
        self.sql(&format!("update head set position = {position}, hash = {hash}"));
    }

    /// Deletes all events of the last command and moves the head to what is left.
    pub fn cut_last_command(&self) {
        self.sql(
            "delete from events where command_id = (select command_id from events order by position desc limit 1)",
        );
        self.move_head(self.end());
    }

    /// Exchanges two events' places.
    pub fn swap(&self, one: i64, other: i64) {
        let away = 1_000_000_000;
        self.sql(&format!("update events set position = {away} where position = {one}"));
        self.sql(&format!("update events set position = {one} where position = {other}"));
        self.sql(&format!("update events set position = {other} where position = {away}"));
    }

    /// Changes an event's payload, below its type's name.
    pub fn edit(&self, position: i64, change: impl FnOnce(&mut Value)) {
        let sql = format!("select event_type, cast(payload as text) from events where position = {position}");
        let row = &self.rows(&sql)[0];
        let mut payload: Value = serde_json::from_str(&row[1]).unwrap();
        change(&mut payload[&row[0]]);
        let payload = quoted(&payload.to_string());
        self.sql(&format!("update events set payload = {payload} where position = {position}"));
    }

    /// Changes an event's payload as a text.
    pub fn replace(&self, position: i64, from: &str, to: &str) {
        let row = &self.rows(&format!("select cast(payload as text) from events where position = {position}"))[0];
        assert!(row[0].contains(from), "{} has no {from}", row[0]);
        let payload = quoted(&row[0].replace(from, to));
        self.sql(&format!("update events set payload = {payload} where position = {position}"));
    }

    /// Appends an event to an aggregate in a command of its own, a chain link included.
    pub fn append(&self, aggregate_type: &str, of: ResellerId, event_type: &str, payload: &Value, role: &str) -> i64 {
        let position = self.end() + 1;
        let command = Uuid::from_u128(5_000 + u128::try_from(position).unwrap());
        let metadata = json!({"actor": "mallory", "role": role, "command_id": command.to_string()}).to_string();
        self.sql(&format!(
            "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, \
             metadata, recorded_at, hash, actor, command_id) select {position}, '{aggregate_type}', '{of}', \
             (select coalesce(max(sequence), 0) + 1 from events where aggregate_type = '{aggregate_type}' \
             and aggregate_id = '{of}'), '{event_type}', '1.0.0', {payload}, {metadata}, recorded_at, {hash}, 'mallory', \
             '{command}' from events where position = {position} - 1",
            payload = quoted(&json!({event_type: payload}).to_string()),
            metadata = quoted(&metadata),
            hash = self.bytes(&[0; 32]),
        ));
        position
    }

    /// The balance that the last event of a wallet carries.
    pub fn balance(&self, of: u128) -> i64 {
        let sql = format!(
            "select event_type, cast(payload as text) from events where aggregate_type = 'Wallet' \
             and aggregate_id = '{}' order by sequence desc limit 1",
            reseller(of)
        );
        let row = &self.rows(&sql)[0];
        serde_json::from_str::<Value>(&row[1]).unwrap()[&row[0]]["balance"].as_i64().unwrap()
    }

    /// Makes every event of a wallet carry the balance that its amounts lead to.
    pub fn recompute_balances(&self, of: u128) {
        let sql = format!(
            "select position, event_type from events where aggregate_type = 'Wallet' and aggregate_id = '{}' \
             order by sequence",
            reseller(of)
        );
        let mut balance = 0;
        for row in self.rows(&sql) {
            self.edit(row[0].parse().unwrap(), |event| {
                balance += match row[1].as_str() {
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
        let time = match &self.place {
            Place::Files(_) => "recorded_at",
            Place::Database(_) => "to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        };
        let sql = format!(
            "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, cast(payload as text), \
             cast(metadata as text), {time}, actor, command_id from events order by position"
        );
        let mut hash = [0; 32];
        let mut changes = String::new();
        for row in self.rows(&sql) {
            let event = StoredEvent {
                position: row[0].parse().unwrap(),
                aggregate_type: row[1].clone().into(),
                aggregate_id: row[2].clone(),
                sequence: row[3].parse().unwrap(),
                event_type: row[4].clone().into(),
                event_version: row[5].clone().into(),
                payload: row[6].clone(),
                metadata: row[7].clone(),
                recorded_at: row[8].parse().unwrap(),
                hash: [0; 32],
                actor: row[9].clone(),
                command_id: row[10].parse().unwrap(),
            };
            hash = chain::hash(&hash, &event);
            changes += &format!(" when {} then {}", event.position, self.bytes(&hash));
        }
        self.sql(&format!("update events set hash = case position {changes} end"));
        self.move_head(self.end());
    }

    /// Verifies it: by one run that judges all, and by one that goes on from what a run has kept before anything was touched. Both
    /// must say the same; but the second knows besides what the log was.
    pub fn verify(&self) -> Report {
        let report = verify(self.place.database(), &[], &mut |_, _| ()).unwrap();
        let kept = self.kept_before();
        let resumed = resume(&self.place.database(), kept.path());
        let others = |report: &Report| {
            report.checks.iter().filter(|check| check.name != "expected").cloned().collect::<Vec<_>>()
        };
        assert_eq!(others(&resumed), others(&report), "a run that goes on says something else");
        assert_eq!((resumed.position, &resumed.hash, resumed.events), (report.position, &report.hash, report.events));
        let again = resume(&self.place.database(), kept.path());
        assert_eq!(violated(&again), violated(&resumed), "what was found once is found again");
        report
    }

    /// What a run kept of the history before anything was touched.
    pub fn kept_before(&self) -> TempDir {
        let kept = &self.original.kept;
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(kept.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        copy
    }

    pub async fn rebuild(&self) {
        let rebuild = Rebuild::begin(&views_of(&self.place.database()), NAMES).await.unwrap();
        rebuild.run(|_| true).await.unwrap().unwrap();
    }

    pub fn forget_read_models(&self) {
        match &self.place {
            Place::Files(_) => std::fs::remove_file(views_path(&self.place.store())).unwrap(),
            Place::Database(database) => assert!(database.sql_as_superuser("drop schema views cascade").is_ok()),
        }
    }

    /// Makes everything that follows from the log follow from what it is now: whoever cheats is thorough.
    pub fn forget_what_follows(&self) {
        self.forget_read_models();
        match &self.place {
            Place::Files(_) => std::fs::remove_file(index_path(&self.place.store())).unwrap(),
            Place::Database(_) => self.sql("delete from snapshots"),
        }
    }
}

/// Verifies a store on from what is kept in a directory.
pub fn try_resume(database: &Database, kept: &Path) -> Result<Report, VerifyError> {
    let keeping = Keeping { dir: kept, interval: Duration::ZERO, stop: &AtomicBool::new(false) };
    verify_resumably(database.clone(), &[], keeping, &mut |_, _| ())
}

pub fn resume(database: &Database, kept: &Path) -> Report {
    try_resume(database, kept).unwrap()
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
