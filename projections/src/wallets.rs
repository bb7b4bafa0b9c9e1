//! What every wallet holds now: one row per wallet, folded by the aggregate's own fold; and the lines of its statement, which
//! begin at that row ([`crate::statement_lines`]).

use aggregates::answer::WalletView;
use aggregates::event::{AggregateKey, Event};
use aggregates::platform::Policy;
use aggregates::primitives::{ResellerId, Timestamp};
use aggregates::wallet::{Wallet, WalletEvent};

use crate::batch::LogEvent;
use crate::memory::{Kept, Map, Set};
use crate::sql::{Changes, Columns, Connection, Merge, Table, Value, ViewError};
use crate::statement_lines::{Chain, MARKS, NewLines, TRANSACTIONS};
use crate::{Projection, ScopedRead, policy};

static WALLETS: Table = Table {
    name: "wallets",
    columns: &[
        ("number", Merge::Key),
        ("reseller_id", Merge::Keep),
        ("balance", Merge::Replace),
        ("reserved", Merge::Replace),
        ("credit_limit", Merge::Replace),
        ("low_credit_threshold", Merge::Replace),
        ("armed", Merge::Replace),
        ("holds", Merge::Replace),
        ("sequence", Merge::Replace),
        ("position", Merge::Replace),
        ("updated_at", Merge::Replace),
        Chain::COLUMNS[0],
        Chain::COLUMNS[1],
        Chain::COLUMNS[2],
    ],
};

/// How many wallets are kept in memory, of some two hundred bytes each.
const WALLETS_KEPT: usize = 32_768;

/// The projection.
#[derive(Debug)]
pub struct Wallets;

/// A wallet after its last event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalletRow {
    /// Its state.
    pub wallet: Wallet,
    /// The number of its last event.
    pub sequence: u64,
    /// The position of its last event.
    pub position: u64,
    /// When that was recorded.
    pub updated_at: String,
}

const COLUMNS: &str = "w.reseller_id, w.balance, w.reserved, w.credit_limit, w.low_credit_threshold, w.armed, w.holds, \
                       w.sequence, w.position, w.updated_at";

/// The same, which wallet it is, and where its statement ends.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// The position of its opening.
    number: u64,
    row: WalletRow,
    chain: Chain,
}

/// The wallets that a batch touches, and its statement lines.
#[derive(Debug, Default)]
pub struct Rows {
    wallets: Map<ResellerId, Held>,
    lines: NewLines,
}

impl WalletRow {
    fn read(columns: &mut Columns<'_>) -> Result<(ResellerId, Self), ViewError> {
        let reseller: ResellerId = columns.parse()?;
        let wallet = Wallet {
            reseller: Some(reseller),
            balance: columns.integer()?,
            reserved: columns.integer()?,
            credit_limit: columns.level()?,
            low_credit_threshold: columns.level()?,
            armed: columns.boolean()?,
            holds: columns.json()?,
        };
        let row =
            Self { wallet, sequence: columns.count()?, position: columns.count()?, updated_at: columns.string()? };
        Ok((reseller, row))
    }

    /// The wallet as answers show it, seen at a position of the log and priced by the policy in force there.
    #[must_use]
    pub fn view(&self, reseller_id: ResellerId, policy: &Policy, position: u64, as_of: Timestamp) -> WalletView {
        let wallet = &self.wallet;
        WalletView {
            reseller_id,
            balance: wallet.balance,
            reserved: wallet.reserved,
            available: wallet.available(),
            credit_limit: wallet.credit_limit,
            low_credit_threshold: wallet.low_credit_threshold,
            low_credit: wallet.is_low(),
            held: !wallet.holds.is_empty(),
            money: policy.money(wallet.balance),
            sequence: self.sequence,
            position,
            as_of,
        }
    }
}

impl Projection for Wallets {
    const NAME: &'static str = "wallets";
    const TABLES: &'static [&'static Table] = &[&WALLETS, &TRANSACTIONS, &MARKS];
    const WRITTEN_ONCE: &'static [&'static Table] = &[&TRANSACTIONS, &MARKS];
    type Rows = Rows;
    type Memory = Kept<ResellerId, Held, WALLETS_KEPT>;

    async fn load(
        connection: &mut Connection<'_>,
        events: &[LogEvent],
        memory: &mut Self::Memory,
    ) -> Result<Rows, ViewError> {
        let mut opened = Set::new();
        let mut touched = Set::new();
        for event in events {
            match (&event.key, &event.event) {
                // There is no row of a wallet before it is opened.
                (AggregateKey::Wallet(reseller), Event::Wallet(WalletEvent::WalletOpened { .. }))
                    if !touched.contains(reseller) =>
                {
                    opened.insert(*reseller);
                }
                (AggregateKey::Wallet(reseller), _) => {
                    touched.insert(*reseller);
                }
                _ => {}
            }
        }
        let mut wallets = Map::new();
        let mut unknown = Vec::new();
        for reseller in touched.difference(&opened) {
            match memory.get(reseller) {
                Some(held) => {
                    wallets.insert(*reseller, held.clone());
                }
                None => unknown.push(*reseller),
            }
        }
        let sql = format!(
            "select {COLUMNS}, w.number, w.lines, w.last_line, w.last_provision from wallets w where w.reseller_id in"
        );
        for row in connection.fetch_by_keys(&sql, unknown).await? {
            let mut columns = row.columns();
            let (reseller, row) = WalletRow::read(&mut columns)?;
            wallets.insert(reseller, Held { row, number: columns.count()?, chain: Chain::read(&mut columns)? });
        }
        Ok(Rows { wallets, lines: NewLines::default() })
    }

    fn fold(rows: &mut Rows, events: &[LogEvent]) -> Result<(), ViewError> {
        for logged in events {
            let (AggregateKey::Wallet(reseller), Event::Wallet(event)) = (&logged.key, &logged.event) else { continue };
            let Held { number, row, chain } = rows.wallets.entry(*reseller).or_default();
            // A wallet begins once. One that was opened in an earlier batch and begins again, the index by reseller refuses.
            let is_opening = matches!(event, WalletEvent::WalletOpened { .. });
            if is_opening != (*number == 0) {
                let what =
                    if is_opening { "opens a wallet that is open" } else { "is of a wallet that was not opened" };
                return Err(ViewError::Unreadable(format!("position {} {what}", logged.position)));
            }
            if is_opening {
                *number = logged.position;
            }
            row.wallet.fold(event);
            row.sequence = logged.sequence;
            row.position = logged.position;
            rows.lines.fold((*reseller, chain), logged, event, &row.updated_at);
            row.updated_at.clone_from(&logged.recorded_at);
        }
        Ok(())
    }

    fn write(rows: Rows, changes: &mut Changes, memory: &mut Self::Memory) -> Result<(), ViewError> {
        // In the order in which they lie.
        let mut wallets: Vec<_> = rows.wallets.into_iter().collect();
        wallets.sort_unstable_by_key(|(_, held)| held.number);
        for (reseller, held) in wallets {
            memory.put(reseller, held.clone());
            let Held { number, row, chain } = held;
            let holds = if row.wallet.holds.is_empty() { Value::from("[]") } else { Value::json(&row.wallet.holds)? };
            let [lines, last_line, last_provision] = chain.values();
            changes.put(
                &WALLETS,
                [
                    number.into(),
                    Value::text(reseller),
                    row.wallet.balance.into(),
                    row.wallet.reserved.into(),
                    row.wallet.credit_limit.credits().into(),
                    row.wallet.low_credit_threshold.credits().into(),
                    row.wallet.armed.into(),
                    holds,
                    row.sequence.into(),
                    row.position.into(),
                    row.updated_at.into(),
                    lines,
                    last_line,
                    last_provision,
                ],
            );
        }
        rows.lines.write(changes);
        Ok(())
    }
}

/// One wallet.
///
/// # Errors
/// What the database says.
pub async fn find(read: &mut ScopedRead, reseller: ResellerId) -> Result<Option<WalletView>, ViewError> {
    let sql = format!(
        "select {COLUMNS} from wallets w join resellers r on r.reseller_id = w.reseller_id \
         where r.path >= $1 and r.path < $2 and w.reseller_id = $3"
    );
    let values = read.range_and([Value::text(reseller)]);
    let Some(row) = read.connection().fetch_one(&sql, values).await? else { return Ok(None) };
    let (reseller, row) = WalletRow::read(&mut row.columns())?;
    let policy = policy::in_force(&mut read.connection()).await?;
    Ok(Some(row.view(reseller, &policy, read.position(), read.as_of())))
}

#[cfg(test)]
mod tests {
    use aggregates::primitives::Level;

    use super::*;

    #[test]
    fn nothing_happens_to_a_wallet_before_it_is_opened() {
        let reseller = ResellerId(uuid::Uuid::from_u128(1));
        let threshold = Level::default();
        let opened = WalletEvent::WalletOpened { reseller, low_credit_threshold: threshold, balance: 0, reserved: 0 };
        let set = WalletEvent::LowCreditThresholdSet { threshold, balance: 0, reserved: 0 };
        let logged = |position, event: &WalletEvent| LogEvent {
            position,
            key: AggregateKey::Wallet(reseller),
            sequence: position,
            event: event.clone().into(),
            recorded_at: "2026-07-01T00:00:00.000000Z".to_owned(),
            hash: Vec::new(),
            command_id: String::new(),
        };
        let fold = |events: &[LogEvent]| Wallets::fold(&mut Rows::default(), events).map_err(|error| error.to_string());
        assert_eq!(fold(&[logged(1, &opened), logged(2, &set)]), Ok(()));
        for (events, why) in [
            ([logged(1, &set), logged(2, &opened)], "position 1 is of a wallet that was not opened"),
            ([logged(1, &opened), logged(2, &opened)], "position 2 opens a wallet that is open"),
        ] {
            let refused = fold(&events);
            assert!(refused.as_ref().is_err_and(|error| error.contains(why)), "{refused:?}");
        }
    }
}
