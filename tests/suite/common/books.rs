//! The log as an auditor reads it, with SQL and without the service: what was done, by the marks that commands leave in it.
//!
//! While a node is down its files are left alone, the write-ahead log included: what is read is a copy, so that the node that
//! comes next has to recover by itself. Events are read once, each time those that are new.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tallytree::store::sqlite::SqliteStore;
use tallytree::store::{EventStore, StoredEvent};

use super::log::assert_unbroken;
use super::process;
use super::traffic::{Deed, Order, Told, Town};

/// What one command, or one item of a bulk, has done.
#[derive(Debug)]
struct Effect {
    position: u64,
    aggregate_id: String,
    event_type: String,
    body: Value,
}

/// What has been read so far.
#[derive(Debug, Default)]
pub struct Books {
    read_to: u64,
    effects: HashMap<String, Vec<Effect>>,
    /// When who was frozen (true) and unfrozen (false), in order.
    freezes: HashMap<String, Vec<(u64, bool)>>,
}

/// What an answer says was done.
struct Claim<'told> {
    mark: &'told str,
    event_type: &'static str,
    aggregate_id: &'told str,
    /// The member that names the effect, and the amount; absent for a freeze.
    id: Option<(&'static str, &'told Value)>,
    amount: Option<&'told Value>,
}

impl Books {
    /// Reads on in the store, or rather in a copy of it.
    pub fn read_copy(&mut self, store: &Path) {
        let copy = tempfile::tempdir().expect("a temporary directory");
        for name in ["ledger.db", "ledger.db-wal"] {
            if store.join(name).exists() {
                std::fs::copy(store.join(name), copy.path().join(name)).expect("a copy");
            }
        }
        let ledger = Connection::open(copy.path().join("ledger.db")).expect("the ledger");
        self.read_on(&ledger);
    }

    /// Reads on in the store, beside whoever works on it.
    pub fn read(&mut self, store: &Path) {
        self.read_on(&ledger_of(store));
    }

    fn read_on(&mut self, ledger: &Connection) {
        let sql =
            "select position, aggregate_id, event_type, payload from events where position > ?1 order by position";
        let mut statement = ledger.prepare(sql).expect("a statement");
        let mut rows = statement.query([self.read_to]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let position: u64 = row.get(0).expect("a position");
            assert_eq!(position, self.read_to + 1, "the log has a gap");
            self.read_to = position;
            let event_type: String = row.get(2).expect("a type");
            let payload: Value =
                serde_json::from_str(row.get_ref(3).expect("a payload").as_str().expect("a text")).expect("JSON");
            let body = &payload[&event_type];
            // A provision's particulars stand together in it.
            let body = if body["provision"].is_object() { &body["provision"] } else { body };
            let mark = match event_type.as_str() {
                "Provisioned" => &body["description"],
                "CreditsAdded" | "CreditsTransferredOut" => &body["note"],
                "ProvisionRefunded" | "SubtreeFrozen" | "SubtreeUnfrozen" => &body["reason"],
                _ => continue,
            };
            let mark = mark.as_str().unwrap_or_else(|| panic!("nobody asked for event {position}")).to_owned();
            let aggregate_id: String = row.get(1).expect("an aggregate");
            if event_type.starts_with("Subtree") {
                let frozen = event_type == "SubtreeFrozen";
                self.freezes.entry(aggregate_id.clone()).or_default().push((position, frozen));
            }
            let effect = Effect { position, aggregate_id, event_type, body: body.clone() };
            self.effects.entry(mark).or_default().push(effect);
        }
    }

    /// Asserts that what was told is true: of what was accepted there is one effect, the one that the answer names; of what was
    /// refused there is none.
    pub fn assert_true(&self, told: &Told, town: &Town) {
        if !told.accepted() {
            self.assert_untouched_by(&told.order);
            return;
        }
        for mark in own_marks(&told.order) {
            let effects = self.effects.get(mark).map_or(&[][..], Vec::as_slice);
            assert!(effects.len() <= 1, "{mark} was done more than once: {effects:?}");
        }
        for claim in claims(told, town) {
            let Some([effect]) = self.effects.get(claim.mark).map(Vec::as_slice) else {
                // Who is frozen already is not frozen once more; of nothing else may there be no trace.
                let frozen =
                    claim.event_type == "SubtreeFrozen" && self.frozen(claim.aggregate_id, told.reply.position());
                assert!(frozen, "{} was acknowledged and is not in the log: {told:?}", claim.mark);
                continue;
            };
            let named = claim.id.is_none_or(|(name, id)| &effect.body[name] == id);
            let same_amount = claim.amount.is_none_or(|amount| &effect.body["amount"] == amount);
            let same_place = effect.aggregate_id == claim.aggregate_id && effect.event_type == claim.event_type;
            assert!(named && same_amount && same_place, "{told:?} is not what happened: {effect:?}");
            assert!(effect.position <= told.reply.position(), "{told:?} stands before its effect {effect:?}");
        }
    }

    /// Whether somebody was frozen as of a position.
    fn frozen(&self, reseller: &str, position: u64) -> bool {
        let changes = self.freezes.get(reseller).map_or(&[][..], Vec::as_slice);
        changes.iter().rev().find(|(at, _)| *at <= position).is_some_and(|(_, frozen)| *frozen)
    }

    /// Asserts that a command has done nothing.
    pub fn assert_untouched_by(&self, order: &Order) {
        for mark in own_marks(order) {
            assert!(!self.effects.contains_key(mark), "{order:?} was turned away, and done");
        }
    }

    /// Asserts all of it once everybody has been answered: every answer is true, nothing is in the log that nobody was told,
    /// every answer is remembered, and nothing else is.
    pub fn assert_whole(&self, told: &[Arc<Told>], town: &Town) {
        let mut accounted = HashSet::new();
        for told in told {
            self.assert_true(told, town);
            if told.accepted() {
                accounted.extend(claims(told, town).into_iter().map(|claim| claim.mark));
            }
        }
        for mark in self.effects.keys() {
            assert!(
                accounted.contains(mark.as_str()),
                "{mark} is in the log, and nobody was told: {:?}",
                self.effects[mark]
            );
        }
        let count = "select count(*) from receipts";
        let receipts: usize = ledger_of(&town.store).query_row(count, [], |row| row.get(0)).expect("a count");
        assert_eq!(receipts, Town::keys(told).len(), "other answers are remembered than were given");
    }

    /// How many effects there are.
    pub fn effects(&self) -> usize {
        self.effects.values().map(Vec::len).sum()
    }
}

/// The marks that this command, and no earlier one, may have left in the log.
fn own_marks(order: &Order) -> Vec<&str> {
    let mut marks = vec![order.key.as_str()];
    if let Deed::Bulk { items, .. } = &order.deed {
        let items = items.iter().filter_map(|item| item["description"].as_str());
        // An item of an earlier bulk may have come along: its mark begins with that one's key.
        marks.extend(items.filter(|mark| mark.strip_prefix(&order.key).is_some_and(|rest| rest.starts_with('/'))));
    }
    marks
}

fn claims<'told>(told: &'told Told, town: &'told Town) -> Vec<Claim<'told>> {
    let body = &told.reply.body;
    let one = |event_type, place: &usize, name| {
        let id = (!body[name].is_null()).then_some((name, &body[name]));
        let amount = (!body["amount"].is_null()).then_some(&body["amount"]);
        vec![Claim { mark: &told.order.key, event_type, aggregate_id: &town.wallets[*place].id, id, amount }]
    };
    match &told.order.deed {
        Deed::Provision { wallet } => one("Provisioned", wallet, "provision_id"),
        Deed::Credit { wallet } => one("CreditsAdded", wallet, "transaction_id"),
        Deed::Transfer { from, .. } => one("CreditsTransferredOut", from, "transfer_id"),
        Deed::Refund { wallet } => one("ProvisionRefunded", wallet, "refund_id"),
        Deed::Freeze { reseller } => one("SubtreeFrozen", reseller, "authority"),
        Deed::Unfreeze { reseller } => one("SubtreeUnfrozen", reseller, "authority"),
        Deed::Bulk { wallet, items } => {
            let answers = body["items"].as_array().expect("items");
            let made = items.iter().zip(answers).filter(|(_, answer)| answer["status"] == 201);
            made.map(|(item, answer)| Claim {
                mark: item["description"].as_str().expect("a mark"),
                event_type: "Provisioned",
                aggregate_id: &town.wallets[*wallet].id,
                id: Some(("provision_id", &answer["provision_id"])),
                amount: Some(&answer["amount"]),
            })
            .collect()
        }
    }
}

fn ledger_of(store: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ledger = Connection::open_with_flags(store.join("ledger.db"), flags).expect("the ledger");
    ledger.busy_timeout(std::time::Duration::from_secs(5)).expect("a timeout");
    ledger
}

/// The whole log.
pub async fn log(store: &Path) -> Vec<StoredEvent> {
    let mut store = SqliteStore::open(store).expect("the store");
    let mut events: Vec<StoredEvent> = Vec::new();
    loop {
        let page = store.read(events.last().map_or(0, |last| last.position), 10_000).await.expect("events");
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// Asserts that the store of a node that is down keeps every invariant, by our own look at the chain and by `tallytree verify`.
pub async fn assert_sound(store: &Path) {
    assert_unbroken(&log(store).await);
    let verified = process::run(store, &["verify"]).await;
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "verify: {said}\n{}", String::from_utf8_lossy(&verified.stderr));
}
