//! Where an export goes on: the position that it is as of, and the key of the last row that arrived, apart by dots. Whoever was
//! cut off can write one down from the answer's `Tallytree-Position` and the last row:
//! `<position>.<the row's position>` for lines and commissions, `<position>.<reseller_id>` for balances,
//! `<position>.<month>.<reseller_id>` for statements.

use aggregates::month::Month;
use aggregates::primitives::ResellerId;
use projections::sql::ViewError;

use super::Kind;

/// The last row that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Line(u64),
    Reseller(ResellerId),
    Statement(Month, ResellerId),
}

pub(super) fn written(position: u64, key: &Key) -> String {
    match key {
        Key::Line(line) => format!("{position}.{line}"),
        Key::Reseller(reseller) => format!("{position}.{reseller}"),
        Key::Statement(month, reseller) => format!("{position}.{month}.{reseller}"),
    }
}

pub(super) fn read(kind: Kind, cursor: &str) -> Result<(u64, Key), ViewError> {
    let parse = || {
        let (position, key) = cursor.split_once('.')?;
        let key = match kind {
            Kind::Transactions | Kind::Commissions => Key::Line(key.parse().ok()?),
            Kind::Balances => Key::Reseller(key.parse().ok()?),
            Kind::Statements => {
                let (month, reseller) = key.split_once('.')?;
                Key::Statement(month.parse().ok()?, reseller.parse().ok()?)
            }
            Kind::Journal => return None,
        };
        let position: u64 = position.parse().ok()?;
        (written(position, &key) == cursor).then_some((position, key))
    };
    parse().ok_or(ViewError::InvalidCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_says_what_it_was_written_from_and_nothing_else_is_one() {
        let id: ResellerId = "0190d3a5-7c1e-7b60-8f00-3d0f6c8e2a11".parse().expect("an id");
        let month: Month = "2026-10".parse().expect("a month");
        for (kind, key) in [
            (Kind::Transactions, Key::Line(7)),
            (Kind::Balances, Key::Reseller(id)),
            (Kind::Statements, Key::Statement(month, id)),
        ] {
            let cursor = written(9, &key);
            assert_eq!(read(kind, &cursor).expect("a cursor"), (9, key));
            assert!(read(kind, &format!("{cursor} ")).is_err());
            assert!(read(kind, "9").is_err() && read(kind, "").is_err() && read(kind, "+9.7").is_err());
        }
        assert!(read(Kind::Transactions, "9.07").is_err());
        assert!(read(Kind::Balances, "9.7").is_err());
    }
}
