//! I9, snapshots: the state that is kept of an aggregate is the one folded from the log up to its last event.
//!
//! What the snapshots say is taken down before the log is read, as digests, so whatever they hold lies within the log. Each is
//! compared when the fold has come to the event that it stands at, and then nothing more is kept of that aggregate. Texts are
//! compared; one that is not the same text may still be the same state, and is read again in the end. Memory: a small record per
//! snapshot, and a state per aggregate whose snapshot the fold has not come to yet.
//!
//! A snapshot that a former run has judged, and that is still the same one, is judged: its record is kept ([`super::kept`]). Of
//! another one the events are folded from the first on, although they themselves were judged before.

mod judged;

use aggregates::client::Client;
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::Platform;
use aggregates::product::Product;
use aggregates::reseller::Reseller;
use aggregates::upline_request::UplineRequest;
use aggregates::wallet::Wallet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::VerifyError;
use super::examined::Examined;
use super::findings::{Check, Findings};
use super::half::Half;
use super::map::Map;
use super::reading::{Store, bytes, number, text};
use crate::store::STATE_VERSION;
pub(super) use judged::Judged;

/// How many states are kept to be told of: of more than these only that they differ.
const TOLD_MAX: usize = 16;

/// A snapshot as it was found.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    /// The number of the last event in it.
    sequence: i64,
    /// It is said to hold every event of its aggregate up to here.
    position: i64,
    digest: Half,
    /// Whether the fold has come to the event that it stands at.
    #[serde(skip)]
    is_judged: bool,
    /// Whether it was found to be right, and whether that was by a former run.
    #[serde(skip)]
    is_right: bool,
    #[serde(skip)]
    was_right: bool,
}

/// A state that is not the text that was found.
#[derive(Debug)]
struct Doubt {
    sequence: i64,
    /// Of the event it stands at.
    position: i64,
    digest: Half,
    text: Option<String>,
}

/// The snapshots, and the states of those that are still to be compared.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    found: Map<AggregateKey, Found>,
    states: Map<AggregateKey, Held>,
    doubts: Map<AggregateKey, Doubt>,
    aggregates: usize,
    /// How many of those found are of an aggregate that a former run knew, and are not judged: their events are wanted again.
    wanted: usize,
    other_version: u64,
    are_there: bool,
}

/// A state in as little room as it takes: wallets have many events and little state, the others the other way round.
#[derive(Debug)]
enum Held {
    Wallet(Box<Wallet>),
    Text(Box<[u8]>),
}

fn query(schema: &str) -> String {
    format!(
        "select aggregate_type, aggregate_id, last_sequence, state_version, position, cast(payload as text) \
         from {schema}.snapshots"
    )
}

impl Snapshots {
    /// Takes down what there is.
    pub(super) fn take(store: &mut dyn Store, findings: &mut Findings) -> Result<Self, VerifyError> {
        let mut all = Self::default();
        let Some(schema) = store.snapshots() else { return Ok(all) };
        all.are_there = true;
        store.rows(&query(schema), Vec::new(), &mut |row| {
            let mut values = row.values()?.into_iter();
            let (aggregate_type, aggregate_id) = (text(values.next()), text(values.next()));
            let (sequence, version) = (number(values.next())?, number(values.next())?);
            if version != i64::from(STATE_VERSION) {
                all.other_version += 1;
                return Ok(true);
            }
            let (position, payload) = (number(values.next())?, bytes(values.next()));
            match AggregateKey::parse(&aggregate_type, &aggregate_id) {
                Ok(key) => {
                    let digest = Half::of(&[&payload]);
                    let found =
                        Found { sequence, position, digest, is_judged: false, is_right: false, was_right: false };
                    if all.found.insert(key, found).is_some() {
                        findings.holds(Check::Snapshots, None, false, || {
                            let what = format!("snapshot of {aggregate_type} {aggregate_id}");
                            (what, "one for each aggregate".to_owned(), "another one".to_owned())
                        });
                    }
                }
                Err(error) => findings.holds(Check::Snapshots, None, false, || {
                    let what = format!("snapshot of {aggregate_type} {aggregate_id}");
                    (what, "a known aggregate".to_owned(), error.to_string())
                }),
            }
            Ok(true)
        })?;
        Ok(all)
    }

    pub(super) fn follow(&mut self, examined: &Examined<'_>, findings: &mut Findings) {
        if examined.sequence == 1 {
            self.aggregates += 1;
        }
        self.fold(examined.position, examined.key, examined.sequence, examined.event, findings);
    }

    fn fold(&mut self, position: i64, key: &AggregateKey, sequence: i64, event: &Event, findings: &mut Findings) {
        let Some(found) = self.found.get_mut(key) else { return };
        if sequence > found.sequence {
            // Whoever loads the snapshot folds on from its position.
            if sequence == found.sequence + 1 && position <= found.position {
                let said = found.position;
                findings.holds(Check::Snapshots, position, false, || {
                    let expected = format!("all events up to the position it names, {said}");
                    (format!("snapshot of {key}"), expected, format!("no event after number {}", sequence - 1))
                });
            }
            return;
        }
        let Some(state) = step(self.states.remove(key), event) else { return };
        if sequence < found.sequence {
            self.states.insert(key.clone(), state);
            return;
        }
        let text = state.into_text();
        let digest = Half::of(&[&text]);
        found.is_judged = true;
        if found.position < position {
            let said = found.position;
            findings.holds(Check::Snapshots, position, false, || {
                let expected = format!("a position from {position} on");
                (format!("snapshot of {key}"), expected, said.to_string())
            });
        } else if found.digest == digest {
            found.is_right = true;
            findings.holds(Check::Snapshots, position, true, Default::default);
        } else {
            let told = (self.doubts.len() < TOLD_MAX).then(|| String::from_utf8_lossy(&text).into_owned());
            let doubt = Doubt { sequence, position, digest, text: told };
            self.doubts.insert(key.clone(), doubt);
        }
    }

    /// Looks again at what was not the same text, and tells of what the log never came to. `sequence` is the last of an aggregate.
    pub(super) fn end(
        self,
        store: &mut dyn Store,
        sequence: impl Fn(&AggregateKey) -> i64,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        let Some(schema) = store.snapshots().filter(|_| self.are_there) else {
            findings.note(Check::Snapshots, "there are none".to_owned());
            return Ok(());
        };
        let mut beyond: Vec<_> = self.found.iter().filter(|(key, found)| sequence(key) < found.sequence).collect();
        beyond.sort_unstable_by_key(|(key, _)| *key);
        for (key, found) in beyond {
            findings.holds(Check::Snapshots, None, false, || {
                let expected = format!("one of sequence {} at most", sequence(key));
                (format!("snapshot of {key}"), expected, format!("sequence {}", found.sequence))
            });
        }
        let is_left = |key: &AggregateKey, found: &Found| !found.is_judged && sequence(key) >= found.sequence;
        let mut left: Vec<_> = self.found.iter().filter(|(key, found)| is_left(key, found)).collect();
        left.sort_unstable_by_key(|(key, _)| *key);
        for (key, found) in left {
            findings.holds(Check::Snapshots, None, false, || {
                let expected = "the state after one of its events".to_owned();
                (format!("snapshot of {key}"), expected, format!("one of sequence {}", found.sequence))
            });
        }
        let missing = self.aggregates.saturating_sub(self.found.len());
        if missing > 0 || self.other_version > 0 {
            let other = self.other_version;
            let note = format!("{missing} missing and {other} of another version, which the store replays instead");
            findings.note(Check::Snapshots, note);
        }
        if self.doubts.is_empty() {
            return Ok(());
        }
        let mut wrong: Vec<(i64, AggregateKey, String, String)> = Vec::new();
        store.rows(&query(schema), Vec::new(), &mut |row| {
            let mut values = row.values()?.into_iter();
            let key = AggregateKey::parse(&text(values.next()), &text(values.next()));
            let Some((key, doubt)) = key.ok().and_then(|key| self.doubts.get(&key).map(|doubt| (key, doubt))) else {
                return Ok(true);
            };
            // One that has been replaced meanwhile is not there any more.
            if number(values.next())? != doubt.sequence {
                return Ok(true);
            }
            let payload = bytes(values.nth(2));
            let is_equal = written_anew(&key, &payload).is_some_and(|anew| Half::of(&[&anew]) == doubt.digest);
            if is_equal {
                findings.holds(Check::Snapshots, doubt.position, true, Default::default);
            } else {
                let expected = doubt.text.clone().unwrap_or_else(|| "the state folded from the log".to_owned());
                wrong.push((doubt.position, key, expected, String::from_utf8_lossy(&payload).into_owned()));
            }
            Ok(true)
        })?;
        wrong.sort_unstable();
        for (position, key, expected, found) in wrong {
            findings.holds(Check::Snapshots, position, false, || (format!("snapshot of {key}"), expected, found));
        }
        Ok(())
    }
}

impl Held {
    fn into_text(self) -> Box<[u8]> {
        match self {
            Self::Wallet(wallet) => written(&*wallet),
            Self::Text(text) => text,
        }
    }
}

fn written(state: &impl Serialize) -> Box<[u8]> {
    serde_json::to_vec(state).unwrap_or_default().into()
}

/// The state after an event; `None` where key and event do not fit, which the reader has told.
fn step(held: Option<Held>, event: &Event) -> Option<Held> {
    fn on<A: Default + Serialize + DeserializeOwned>(held: Option<Held>, fold: impl FnOnce(&mut A)) -> Option<Held> {
        let mut state = match held {
            // It was written a moment ago.
            Some(Held::Text(text)) => serde_json::from_slice(&text).ok()?,
            Some(Held::Wallet(_)) => return None,
            None => A::default(),
        };
        fold(&mut state);
        Some(Held::Text(written(&state)))
    }
    match event {
        Event::Wallet(event) => {
            let mut wallet = match held {
                Some(Held::Wallet(wallet)) => wallet,
                Some(Held::Text(_)) => return None,
                None => Box::default(),
            };
            wallet.fold(event);
            Some(Held::Wallet(wallet))
        }
        Event::Platform(event) => on(held, |state: &mut Platform| state.fold(event)),
        Event::Reseller(event) => on(held, |state: &mut Reseller| state.fold(event)),
        Event::UplineRequest(event) => on(held, |state: &mut UplineRequest| state.fold(event)),
        Event::Client(event) => on(held, |state: &mut Client| state.fold(event)),
        Event::Product(event) => on(held, |state: &mut Product| state.fold(event)),
    }
}

/// A state as it would be written now.
fn written_anew(key: &AggregateKey, payload: &[u8]) -> Option<Box<[u8]>> {
    fn of<A: Serialize + DeserializeOwned>(payload: &[u8]) -> Option<Box<[u8]>> {
        serde_json::from_slice::<A>(payload).ok().map(|state| written(&state))
    }
    match key {
        AggregateKey::Platform => of::<Platform>(payload),
        AggregateKey::Reseller(_) => of::<Reseller>(payload),
        AggregateKey::Wallet(_) => of::<Wallet>(payload),
        AggregateKey::UplineRequest(_) => of::<UplineRequest>(payload),
        AggregateKey::Client(_) => of::<Client>(payload),
        AggregateKey::Product(_) => of::<Product>(payload),
    }
}
