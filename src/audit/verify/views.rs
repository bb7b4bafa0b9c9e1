//! I9, balances: the read models' wallets compared with those folded from the log, at the very checkpoint they stand at.
//!
//! The read models' snapshot is taken before the log's end is looked up, so their checkpoint lies within the log; the fold stops
//! there. A store without read models has nothing to compare. Memory: each wallet's state.

use std::collections::BTreeSet;

use aggregates::event::{AggregateKey, Event};
use aggregates::primitives::{Authority, ResellerId};
use aggregates::wallet::Wallet;
use serde::{Deserialize, Serialize};

use super::VerifyError;
use super::chain::Chain;
use super::examined::Examined;
use super::findings::{Check, Findings};
use super::map::Map;
use super::reading::{Store, bytes, hash_at, number, text};
use crate::audit::anchor::hexadecimal;

const WALLETS: &str = "select reseller_id, balance, reserved, credit_limit, low_credit_threshold, armed, holds, sequence, \
                       position from views.wallets";

/// A wallet after its last event.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Folded {
    wallet: Wallet,
    sequence: i64,
    position: i64,
}

/// Where the read models' wallets stand: the position of the last event in them, and its hash.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    pub(super) position: i64,
    hash: Vec<u8>,
}

/// Reads it.
pub(super) fn checkpoint(store: &mut dyn Store) -> Result<Checkpoint, VerifyError> {
    let mut checkpoint = Checkpoint { position: 0, hash: Vec::new() };
    let sql = "select position, hash from views.checkpoints where projection = 'wallets'";
    store.rows(sql, Vec::new(), &mut |row| {
        let mut columns = row.columns();
        checkpoint = Checkpoint { position: columns.integer()?, hash: columns.bytes()? };
        Ok(true)
    })?;
    Ok(checkpoint)
}

/// All wallets, up to the checkpoint as soon as it is known.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Views {
    wallets: Map<ResellerId, Folded>,
    #[serde(skip)]
    checkpoint: Option<Checkpoint>,
}

impl Views {
    /// Where the fold has to stop. It must not have come further.
    pub(super) fn stop_at(&mut self, checkpoint: Checkpoint) {
        self.checkpoint = Some(checkpoint);
    }

    pub(super) fn follow(&mut self, examined: &Examined<'_>) {
        let (AggregateKey::Wallet(id), Event::Wallet(event)) = (examined.key, examined.event) else { return };
        if self.checkpoint.as_ref().is_some_and(|checkpoint| examined.position > checkpoint.position) {
            return;
        }
        let folded = self.wallets.entry(*id).or_default();
        folded.sequence = examined.sequence;
        folded.position = examined.position;
        folded.wallet.fold(event);
    }

    /// Compares.
    pub(super) fn compare(
        self,
        chain: &Chain,
        store: &mut dyn Store,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        let Some(Checkpoint { position: end, hash }) = self.checkpoint else {
            findings.note(Check::Views, "there are no read models".to_owned());
            return Ok(());
        };
        if end > chain.position {
            // A checkpoint that the log never came to is one of another history.
            findings.equal(Check::Views, end, &chain.position, &end, || {
                "checkpoint of the read models' wallets, which the log does not hold".to_owned()
            });
            return Ok(());
        }
        if end > 0 {
            let in_log = hash_at(store, end)?.unwrap_or_default();
            findings.holds(Check::Views, end, in_log == hash, || {
                ("hash at the checkpoint".to_owned(), hexadecimal(&in_log), hexadecimal(&hash))
            });
        }
        let mut rows = 0;
        store.rows(WALLETS, Vec::new(), &mut |row| {
            rows += 1;
            let mut values = row.values()?.into_iter();
            let id = text(values.next());
            let folded = id.parse::<ResellerId>().ok().and_then(|id| self.wallets.get(&id));
            let expected = folded.map(|folded| {
                let wallet = &folded.wallet;
                let (limit, threshold) = (wallet.credit_limit.credits(), wallet.low_credit_threshold.credits());
                let figures = [wallet.balance, wallet.reserved, limit, threshold, i64::from(wallet.armed)];
                (figures, wallet.holds.clone(), folded.sequence, folded.position)
            });
            // A value of another kind is not what it should be either.
            let figures: Vec<i64> = values.by_ref().take(5).filter_map(|figure| number(Some(figure)).ok()).collect();
            let holds = serde_json::from_slice::<BTreeSet<Authority>>(&bytes(values.next())).ok();
            let (sequence, last) = (number(values.next()).ok(), number(values.next()).ok());
            let found = match (<[i64; 5]>::try_from(figures), holds, sequence, last) {
                (Ok(figures), Some(holds), Some(sequence), Some(last)) => Some((figures, holds, sequence, last)),
                _ => None,
            };
            findings.holds(Check::Views, last, expected.is_some() && expected == found, || {
                (format!("wallet {id} in the read models at {end}"), told(expected), told(found))
            });
            Ok(true)
        })?;
        findings.equal(Check::Views, end, &self.wallets.len(), &rows, || {
            format!("number of wallets in the read models at {end}")
        });
        findings.note(Check::Views, format!("compared at position {end}"));
        Ok(())
    }
}

fn told(row: Option<([i64; 5], BTreeSet<Authority>, i64, i64)>) -> String {
    match row {
        Some(([balance, reserved, limit, threshold, armed], holds, sequence, position)) => format!(
            "balance {balance}, reserved {reserved}, limit {limit}, threshold {threshold}, armed {armed}, holds {holds:?}, \
             sequence {sequence}, position {position}"
        ),
        None => "no such wallet, or one with values of another kind".to_owned(),
    }
}
