//! Pages by key: a cursor is the key of the last row shown, so a page costs the same wherever it lies, and rows that come in
//! between shift nothing.

use serde::Serialize;

use crate::sql::ViewError;

/// How many rows a page has unless it is asked for otherwise.
pub const LIMIT_DEFAULT: u32 = 50;
/// The most that a page may have.
pub const LIMIT_MAX: u32 = 500;

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to 500 rows.
    pub limit: u32,
    /// Where the last page ended.
    pub cursor: Option<String>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, cursor: None }
    }
}

impl PageRequest {
    /// The limit, kept within its bounds.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.limit.clamp(1, LIMIT_MAX) as usize
    }

    /// The limit to ask the database for: one more row tells whether there is a next page.
    #[must_use]
    pub fn rows_and_one(&self) -> u64 {
        u64::from(self.limit.clamp(1, LIMIT_MAX)) + 1
    }

    /// The position that the cursor holds.
    ///
    /// # Errors
    /// [`ViewError::InvalidCursor`].
    pub fn position(&self) -> Result<Option<i64>, ViewError> {
        self.cursor.as_deref().map(position_of).transpose()
    }
}

/// The cursor for a position: opaque to clients.
#[must_use]
pub fn cursor_of(position: i64) -> String {
    format!("{position:x}")
}

/// The position in a cursor.
///
/// # Errors
/// [`ViewError::InvalidCursor`].
pub fn position_of(cursor: &str) -> Result<i64, ViewError> {
    i64::from_str_radix(cursor, 16)
        .ok()
        .filter(|position| *position >= 0 && cursor_of(*position) == cursor)
        .ok_or(ViewError::InvalidCursor)
}

/// One page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page<T> {
    /// Its rows.
    pub data: Vec<T>,
    /// Where the next one begins; `None` on the last.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page from one row more than it may show, each with its position.
    #[must_use]
    pub fn of(request: &PageRequest, mut rows: Vec<(i64, T)>) -> Self {
        let more = rows.len() > request.rows();
        rows.truncate(request.rows());
        let next_cursor = rows.last().filter(|_| more).map(|(position, _)| cursor_of(*position));
        Self { data: rows.into_iter().map(|(_, row)| row).collect(), next_cursor }
    }
}
