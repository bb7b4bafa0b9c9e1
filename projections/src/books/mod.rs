//! The books as of a position, in bulk: statement lines, what everybody held, how it came about.
//!
//! What is read here up to a position is the same for ever: it rests on rows that are only added (`transactions`,
//! `company_names`, `policies`; from where on a statement is read makes no difference) and on what never changes of a reseller
//! (its id, public reference, place in the tree). So a report as of a position may be read in many snapshots, page after page, and
//! is one report.
//!
//! - [`lines`]: statement lines, in order of position.
//! - [`holdings`]: what each reseller held, in order of registration.
//! - [`statements`]: how that came about between two positions.

pub mod holdings;
pub mod lines;
pub mod statements;

use aggregates::primitives::ResellerId;

use crate::sql::{Columns, Value, ViewError};
use crate::statement_lines::last_line;
use crate::{Scope, ScopedRead};

/// A stretch of the log: what comes after one position, up to and including another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The position before its first event.
    pub after: u64,
    /// The position of its last event.
    pub until: u64,
}

/// Whose books are read: everybody's in sight, or one reseller's. Of one that is not in sight there is nothing.
pub type Whose = Option<ResellerId>;

/// A reseller as every report begins with it: as it was at the end of what is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The position of its registration: its place in the order of all reports.
    pub registered: u64,
    /// Who.
    pub reseller_id: ResellerId,
    /// Its public reference.
    pub refid: String,
    /// What it was called then.
    pub company_name: String,
}

impl Named {
    fn read(columns: &mut Columns<'_>) -> Result<Self, ViewError> {
        Ok(Self {
            registered: columns.count()?,
            reseller_id: columns.parse()?,
            refid: columns.string()?,
            company_name: columns.string()?,
        })
    }
}

/// The rows of a page of resellers in order of registration: what [`Named`] reads, then other columns of resellers `r`. Of those
/// that were registered by the position `$3`, and after `$4`, the first `$5`; the reseller that is asked for, where it is one, is
/// the parameter after the columns' own.
fn named(read: &ScopedRead, whose: Whose, columns: &[&str], parameter: &str) -> String {
    let columns: String = columns.iter().map(|column| format!(", {column}")).collect();
    format!(
        "select r.position, r.reseller_id, r.refid, {NAME_THEN}{columns} from resellers r \
         where r.position > $4 and r.position <= $3{in_sight} order by r.position limit $5",
        in_sight = in_sight(read, whose, parameter),
    )
}

/// What a company was called at `$3`, as a column of resellers `r`.
const NAME_THEN: &str = "(select n.company_name from company_names n where n.reseller_id = r.reseller_id and \
                         n.position <= $3 order by n.position desc limit 1)";

/// What a reseller held after the event at a position that stands as this parameter, as a column of resellers `r`.
fn balance_at(parameter: &str) -> String {
    format!("coalesce({}, 0)", last_line("balance", "r.reseller_id", parameter))
}

/// The condition that a reseller `r` is in sight, and the one that is asked for. All of the network is read in its order; a
/// subtree by its paths, and sorted.
fn in_sight(read: &ScopedRead, whose: Whose, parameter: &str) -> String {
    let scope = if read.scope() == Scope::All { "" } else { " and r.path >= $1 and r.path < $2" };
    let one = whose.map(|_| format!(" and r.reseller_id = {parameter}")).unwrap_or_default();
    format!("{scope}{one}")
}

fn whose_value(whose: Whose) -> Value {
    Value::text_or_null(whose)
}
