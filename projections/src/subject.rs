//! Whose figures are asked for: one reseller's, with its subtree, or those of the whole network.

use aggregates::primitives::ResellerId;

use crate::ScopedRead;
use crate::scope::subtree_range;
use crate::sql::{Value, ViewError};

/// The id under which the totals of the whole network stand.
pub const PLATFORM: &str = "platform";

/// Whose figures are asked for. That there is one says that the viewer may see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `None` for the whole network.
    pub reseller: Option<ResellerId>,
    /// The id under which its totals stand.
    pub id: String,
    /// Its path; the network's is `/`.
    pub path: String,
}

impl Subject {
    /// The reseller that was named, else the viewer itself, else (the operator's staff) the whole network. `None` where it is
    /// not in sight.
    ///
    /// # Errors
    /// What the database says.
    pub async fn find(read: &mut ScopedRead, named: Option<ResellerId>) -> Result<Option<Self>, ViewError> {
        let Some(reseller) = named.or(read.viewer()) else {
            return Ok(Some(Self { reseller: None, id: PLATFORM.to_owned(), path: "/".to_owned() }));
        };
        let path = read.path_of(reseller).await?;
        Ok(path.map(|path| Self { reseller: Some(reseller), id: reseller.to_string(), path }))
    }

    /// The two ends of the range of its subtree's paths, itself included.
    #[must_use]
    pub fn range(&self) -> Vec<Value> {
        let (from, until) = subtree_range(&self.path);
        vec![from.into(), until.into()]
    }

    /// The same without itself; the network is nobody's member.
    #[must_use]
    pub fn range_below(&self) -> Vec<Value> {
        let (from, until) = subtree_range(&self.path);
        // The least path that is longer.
        vec![format!("{from} ").into(), until.into()]
    }
}
