//! Who may see what: all of the network, or one subtree of it.
//!
//! A query of a tenant's table takes a [`ScopedRead`], and only [`Scope::begin`] makes one: a query without a scope cannot be
//! written. The scope is a range of ancestor paths in the same SQL, so what lies elsewhere is simply not found. On PostgreSQL the
//! database itself holds every query of a tenant's table to it as well: see the policies in `migrations/postgres/views`.

use std::time::Duration;

use aggregates::primitives::{ResellerId, Timestamp};

use crate::sql::{Connection, Read, ReadPool, Value, ViewError};

/// How much of the network may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of it: the operator's staff.
    All,
    /// A reseller and all its downline.
    Subtree(ResellerId),
}

impl Scope {
    /// Whether a reseller's own affairs (whom it serves, in which words) are the viewer's to know: its own, or the staff's. An
    /// upline is told sums.
    #[must_use]
    pub fn owns(self, reseller: ResellerId) -> bool {
        match self {
            Self::All => true,
            Self::Subtree(viewer) => viewer == reseller,
        }
    }

    /// Begins a read within this scope that has come at least as far as `min_position`.
    ///
    /// # Errors
    /// [`ViewError::ViewBehind`] where the read models do not come that far within `timeout`.
    pub async fn begin(self, pool: &ReadPool, min_position: u64, timeout: Duration) -> Result<ScopedRead, ViewError> {
        let mut read = pool.begin(min_position, timeout).await?;
        let path = match self {
            Self::All => Some("/".to_owned()),
            Self::Subtree(reseller) => {
                let row = read
                    .connection()
                    .fetch_one("select path from resellers where reseller_id = $1", vec![Value::text(reseller)])
                    .await?;
                row.map(|row| row.columns().string()).transpose()?
            }
        };
        // A reseller that is not there sees an empty range.
        let (from, until) = path.map_or_else(|| ("0".to_owned(), "0".to_owned()), |path| subtree_range(&path));
        if let Self::Subtree(reseller) = self {
            read.narrow(reseller, &from, &until).await?;
        }
        Ok(ScopedRead { read, scope: self, from, until })
    }
}

/// The paths of a subtree: from the root's own up to, not including, the second. `'0'` follows `'/'`.
#[must_use]
pub fn subtree_range(path: &str) -> (String, String) {
    (path.to_owned(), format!("{}0", path.strip_suffix('/').unwrap_or(path)))
}

/// A snapshot of the read models, seen through a scope.
#[derive(Debug)]
pub struct ScopedRead {
    read: Read,
    scope: Scope,
    from: String,
    until: String,
}

impl ScopedRead {
    /// How far the read models have come.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.read.position()
    }

    /// When the event at that position was recorded.
    #[must_use]
    pub fn as_of(&self) -> Timestamp {
        self.read.as_of()
    }

    /// Whose eyes it is seen through.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The reseller that looks; `None` for the operator's staff.
    #[must_use]
    pub fn viewer(&self) -> Option<ResellerId> {
        match self.scope {
            Scope::All => None,
            Scope::Subtree(reseller) => Some(reseller),
        }
    }

    /// The snapshot without the scope: for the log, which has no tenants. Whoever takes it has checked who asks.
    pub fn unscoped(&mut self) -> &mut Read {
        &mut self.read
    }

    /// The connection, within the snapshot.
    pub fn connection(&mut self) -> Connection<'_> {
        self.read.connection()
    }

    /// The two ends of the range of paths in sight, the first two parameters of every scoped query.
    #[must_use]
    pub fn range(&self) -> Vec<Value> {
        vec![self.from.as_str().into(), self.until.as_str().into()]
    }

    /// The range followed by these parameters.
    #[must_use]
    pub fn range_and<const MORE: usize>(&self, more: [Value; MORE]) -> Vec<Value> {
        let mut values = self.range();
        values.extend(more);
        values
    }

    /// The path of a reseller, where it is in sight.
    ///
    /// # Errors
    /// What the database says.
    pub async fn path_of(&mut self, reseller: ResellerId) -> Result<Option<String>, ViewError> {
        let values = self.range_and([Value::text(reseller)]);
        let row = self
            .connection()
            .fetch_one("select path from resellers where path >= $1 and path < $2 and reseller_id = $3", values)
            .await?;
        row.map(|row| row.columns().string()).transpose()
    }
}
