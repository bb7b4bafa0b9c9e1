//! Why there is no export, or no more of it.

use std::fmt;

use projections::sql::ViewError;

/// Why there is no export, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The order is not right.
    #[error("{parameter}: {detail}")]
    Invalid {
        /// Which part of it.
        parameter: &'static str,
        /// What would be right.
        detail: String,
    },
    /// It is not for everybody.
    #[error("{0}")]
    Forbidden(&'static str),
    /// There is no such reseller, or none in sight.
    #[error("there is no such reseller")]
    NoSuchReseller,
    /// The read models.
    #[error(transparent)]
    View(#[from] ViewError),
    /// It could not be written.
    #[error(transparent)]
    Sheet(#[from] SheetError),
}

impl ExportError {
    pub(super) fn invalid(parameter: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { parameter, detail: detail.into() }
    }
}

/// Why a row could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the export could not be written: {0}")]
pub struct SheetError(String);

impl SheetError {
    pub(super) fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}
