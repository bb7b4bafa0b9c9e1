//! I9, balances: the read models' wallets compared with those folded from the log, at the very checkpoint they stand at.
//!
//! The snapshot of `views.db` is taken before the log's, so its checkpoint lies within the log; the comparison happens when
//! the fold has come there. A store without read models has nothing to compare.

use std::collections::BTreeSet;
use std::path::Path;

use aggregates::primitives::{Authority, ResellerId};

use super::VerifyError;
use super::chain::Chain;
use super::findings::{Check, Findings};
use super::log::{Snapshot, bytes, lossy};
use super::states::States;
use crate::audit::anchor::hexadecimal;

const WALLETS: &str = "select reseller_id, balance, reserved, credit_limit, low_credit_threshold, armed, holds, sequence, \
                       position from wallets";

/// The read models as they stand.
#[derive(Debug)]
pub(super) struct Views {
    snapshot: Snapshot,
    /// The position of the last event in them, and its hash.
    checkpoint: (i64, Vec<u8>),
    is_compared: bool,
}

impl Views {
    /// Takes the snapshot, where there are read models.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, VerifyError> {
        if !path.exists() {
            return Ok(None);
        }
        let snapshot = Snapshot::open(path)?;
        if !(snapshot.has_table("checkpoints")? && snapshot.has_table("wallets")?) {
            return Ok(None);
        }
        let mut checkpoint = (0, Vec::new());
        snapshot.rows("select position, hash from checkpoints where projection = 'wallets'", |row| {
            checkpoint = (row.get(0)?, bytes(row, 1)?.to_vec());
            Ok(())
        })?;
        Ok(Some(Self { snapshot, checkpoint, is_compared: false }))
    }

    /// Compares, where the fold stands at the checkpoint.
    pub(super) fn at(&mut self, chain: &Chain, states: &States, findings: &mut Findings) -> Result<(), VerifyError> {
        let (position, hash) = &self.checkpoint;
        if chain.position != *position || self.is_compared {
            return Ok(());
        }
        self.is_compared = true;
        if *position > 0 {
            findings.holds(Check::Views, *position, chain.hash == *hash, || {
                ("hash at the checkpoint".to_owned(), hexadecimal(&chain.hash), hexadecimal(hash))
            });
        }
        let mut rows = 0;
        self.snapshot.rows(WALLETS, |row| {
            rows += 1;
            let id = lossy(row, 0)?;
            let folded = id.parse::<ResellerId>().ok().and_then(|id| states.wallets.get(&id));
            let expected = folded.map(|folded| {
                let wallet = &folded.state;
                let (limit, threshold) = (wallet.credit_limit.credits(), wallet.low_credit_threshold.credits());
                let figures = [wallet.balance, wallet.reserved, limit, threshold, i64::from(wallet.armed)];
                (figures, wallet.holds.clone(), folded.sequence, folded.position)
            });
            let figures = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
            let holds = serde_json::from_slice::<BTreeSet<Authority>>(bytes(row, 6)?).ok();
            let (sequence, last): (i64, i64) = (row.get(7)?, row.get(8)?);
            let found = holds.map(|holds| (figures, holds, sequence, last));
            findings.holds(Check::Views, last, expected.is_some() && expected == found, || {
                let told = |row: Option<([i64; 5], BTreeSet<Authority>, i64, i64)>| match row {
                    Some(([balance, reserved, limit, threshold, armed], holds, sequence, position)) => format!(
                        "balance {balance}, reserved {reserved}, limit {limit}, threshold {threshold}, armed {armed}, \
                         holds {holds:?}, sequence {sequence}, position {position}"
                    ),
                    None => "no such wallet".to_owned(),
                };
                (format!("wallet {id} in the read models at {position}"), told(expected), told(found))
            });
            Ok(())
        })?;
        findings.equal(Check::Views, *position, &states.wallets.len(), &rows, || {
            format!("number of wallets in the read models at {position}")
        });
        findings.note(Check::Views, format!("compared at position {position}"));
        Ok(())
    }

    /// A checkpoint that the log never came to is one of another history.
    pub(super) fn end(&self, chain: &Chain, findings: &mut Findings) {
        if !self.is_compared {
            findings.equal(Check::Views, self.checkpoint.0, &chain.position, &self.checkpoint.0, || {
                "checkpoint of the read models' wallets, which the log does not hold".to_owned()
            });
        }
    }
}
