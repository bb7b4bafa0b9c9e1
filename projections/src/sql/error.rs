//! What can go wrong with a read model.

use std::fmt::Display;
use std::path::PathBuf;

/// What can go wrong with a read model.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// What the database says.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// What SQLite says.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The schema could not be brought up to date.
    #[error("{0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A file beside the database.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A row or an event that this version cannot read.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// What has been folded is not in the log, or the log says something else there.
    #[error("history was cut: {0}")]
    HistoryCut(String),
    /// The read model did not come as far as was asked for in time.
    #[error("the read model has come as far as position {position} only")]
    ViewBehind {
        /// How far it has come.
        position: u64,
    },
    /// A cursor that this service did not give.
    #[error("the cursor is not one that an answer of this query carried")]
    InvalidCursor,
    /// A cost cannot be worked out.
    #[error(transparent)]
    Rejection(#[from] aggregates::rejection::Rejection),
}

impl ViewError {
    /// Whether the database could not be asked at all, so that asking again may help.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::PoolTimedOut) => true,
            Self::Database(error) => super::postgres::is_lost(error),
            _ => false,
        }
    }

    /// Whether it tells of the machine (a full disk, a lost connection) and not of what is stored.
    #[must_use]
    pub fn is_an_accident(&self) -> bool {
        use rusqlite::ErrorCode;
        match self {
            Self::File { .. } => true,
            Self::Database(sqlx::Error::Io(_)) => true,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::CannotOpen
                        | ErrorCode::OutOfMemory
                        | ErrorCode::PermissionDenied
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                )
            ),
            _ => self.is_unreachable(),
        }
    }

    /// An error about something that this version cannot read.
    pub fn unreadable(what: impl Display) -> Self {
        Self::Unreadable(what.to_string())
    }
}
