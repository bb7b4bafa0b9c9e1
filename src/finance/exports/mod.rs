//! Exports: what happened and what is held, as a table in the form that is asked for, piece by piece.
//!
//! Shape: an [`Export`] is opened as of a position, as its [`order`] says, and then asked for piece after piece; [`rows`] reads
//! them, page by page in snapshots of their own, so that no connection is held by who reads slowly, and a [`sheet`] ([`csv`],
//! [`jsonl`], [`xlsx`], [`parquet`]) writes them; the journal and the printed statement ([`document`]) read and write
//! themselves. Memory is that of one page, whatever is exported.
//!
//! One export shows one state: everything in it is as of its position ([`Export::position`]), and what is read up to a position
//! never changes (see [`projections::books`]). So it can also be broken off and go on later: a cursor is the position and the
//! key of the last row that arrived, both of which stand in what arrived, and the two parts together have the bytes of the
//! whole.
//!
//! Order: lines and commissions by position, balances by registration, statements by month and then by registration.

mod cells;
mod csv;
mod cursor;
mod document;
mod error;
mod jsonl;
mod order;
mod parquet;
mod rows;
mod sheet;
mod xlsx;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use aggregates::primitives::Timestamp;
use projections::books::Stretch;
use projections::sql::ViewError;
use projections::{ReadPool, Scope, audit_log};

use super::journal::{Dialect, Journal};
use document::Document;
pub use error::{ExportError, SheetError};
pub use order::{Format, Kind, Order};
use rows::Rows;
use sheet::{Rest, Sheet, sheet};

/// What an export is made of.
enum Content {
    Table(Rows, Box<dyn Sheet>),
    Journal(Box<Journal>),
    Document(Box<Document>),
    /// A table that is done, on its way out.
    File(File),
    Ended,
}

/// How much of a file goes out at a time.
const FILE_PIECE: u64 = 1 << 18;

/// An export in the making.
pub struct Export {
    views: ReadPool,
    scope: Scope,
    patience: Duration,
    position: u64,
    as_of: Timestamp,
    content: Content,
    /// How far it has come and has to go, how many rows there have been, what goes on after them: kept for when it is done.
    progress: (u64, u64),
    count: u64,
    cursor: Option<String>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("position", &self.position).field("count", &self.count).finish_non_exhaustive()
    }
}

impl Export {
    /// Opens an export of what `scope` sees, of read models that have come at least as far as `min_position` and as far as the
    /// order needs; they are waited for at most `patience`.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub async fn open(
        views: &ReadPool,
        scope: Scope,
        order: &Order,
        min_position: u64,
        patience: Duration,
    ) -> Result<Self, ExportError> {
        let form = order.form()?;
        if order.cursor.is_some() && !form.goes_on() {
            return Err(ExportError::invalid("cursor", format!("an export as {form} cannot go on")));
        }
        if order.kind == Kind::Journal && scope != Scope::All {
            return Err(ExportError::Forbidden("the journal is for the operator's staff"));
        }
        if order.kind == Kind::Journal && order.reseller.is_some() {
            return Err(ExportError::invalid("reseller_id", "the journal is of all resellers"));
        }
        let (from, to) = order.range()?;
        if order.kind == Kind::Balances && from.is_some() {
            return Err(ExportError::invalid("from", "balances are as of one moment: name `to` alone"));
        }
        let resumed = order.cursor.as_deref().map(|cursor| cursor::read(order.kind, cursor)).transpose()?;
        let mut read = scope.begin(views, min_position, patience).await?;
        let ordered = match to {
            Some(to) => audit_log::position_before(read.unscoped(), to).await?,
            None => read.position(),
        };
        let position = match &resumed {
            Some((position, _)) if *position > audit_log::head(read.unscoped()).await?.position => {
                return Err(ViewError::InvalidCursor.into());
            }
            // One that was given for a later time: with it a closed month's table would go on into the next ones.
            Some((position, _)) if to.is_some() && *position > ordered => return Err(ViewError::InvalidCursor.into()),
            Some((position, _)) => *position,
            None => ordered,
        };
        if position > read.position() {
            // What was ordered has happened, and is not folded yet.
            drop(read);
            read = scope.begin(views, position, patience).await?;
        }
        if let Some(reseller) = order.reseller
            && read.path_of(reseller).await?.is_none()
        {
            return Err(ExportError::NoSuchReseller);
        }
        let after = match from {
            Some(from) => audit_log::position_before(read.unscoped(), from).await?.min(position),
            None => 0,
        };
        let as_of = audit_log::recorded_at(read.unscoped(), position).await?.unwrap_or(Timestamp::MIN);
        let stretch = Stretch { after, until: position };
        let dialect = match form {
            Format::Hledger => Some(Dialect::Hledger),
            Format::Beancount => Some(Dialect::Beancount),
            _ => None,
        };
        let content = if let Some(dialect) = dialect {
            let journal = Journal::open(views, &mut read, dialect, stretch, from.filter(|_| after > 0), as_of).await?;
            Content::Journal(Box::new(journal))
        } else if form == Format::Html {
            let (Some(reseller), Some(month)) = (order.reseller, order.month) else {
                let missing = if order.reseller.is_none() { "reseller_id" } else { "month" };
                return Err(ExportError::invalid(
                    missing,
                    "a statement to be printed is of one reseller and one month",
                ));
            };
            Content::Document(Box::new(Document::open(&mut read, reseller, month, stretch, as_of).await?))
        } else {
            let key = resumed.map(|(_, key)| key);
            let rows = Rows::open(&mut read, order, (from, to), stretch, as_of, key).await?;
            let sheet = sheet(order, form, rows.columns(), as_of)?;
            Content::Table(rows, sheet)
        };
        let views = views.clone();
        let (progress, count, cursor) = ((0, position), 0, None);
        Ok(Self { views, scope, patience, position, as_of, content, progress, count, cursor })
    }

    /// The position that it is as of.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When the event at that position was recorded.
    #[must_use]
    pub fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// How far it has come, and how far it has to go.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        self.progress
    }

    /// How many rows there have been.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What goes on after the last piece, where it can.
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        self.cursor.clone()
    }

    /// The next piece; `None` when there is no more.
    ///
    /// # Errors
    /// See [`ExportError`]. What has come before is then not the whole.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        loop {
            let bytes = match &mut self.content {
                Content::Table(rows, sheet) => {
                    let mut read = self.scope.begin(&self.views, self.position, self.patience).await?;
                    let more = rows.next(&mut read, sheet.as_mut()).await?;
                    drop(read);
                    (self.progress, self.count) = (rows.progress(), rows.count());
                    self.cursor = rows.key().map(|key| cursor::written(self.position, &key));
                    if more { sheet.ready()? } else { self.end_table().await? }
                }
                Content::Journal(journal) => {
                    let mut read = self.scope.begin(&self.views, self.position, self.patience).await?;
                    let Some(bytes) = journal.next(&mut read).await? else { return Ok(None) };
                    (self.progress, self.count) = (journal.progress(), journal.count());
                    bytes
                }
                Content::Document(document) => {
                    let mut read = self.scope.begin(&self.views, self.position, self.patience).await?;
                    let Some(bytes) = document.next(&mut read).await? else { return Ok(None) };
                    (self.progress, self.count) = (document.progress(), document.count());
                    bytes
                }
                Content::File(file) => {
                    let mut bytes = Vec::new();
                    file.take(FILE_PIECE).read_to_end(&mut bytes).map_err(SheetError::of)?;
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    bytes
                }
                Content::Ended => return Ok(None),
            };
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// Ends the table, which for some forms is when the work is done, where waiting is allowed.
    async fn end_table(&mut self) -> Result<Vec<u8>, ExportError> {
        let Content::Table(_, sheet) = std::mem::replace(&mut self.content, Content::Ended) else {
            return Ok(Vec::new());
        };
        let ended = tokio::task::spawn_blocking(move || sheet.end()).await.map_err(SheetError::of)?;
        match ended? {
            Rest::Bytes(bytes) => Ok(bytes),
            Rest::File(file) => {
                self.content = Content::File(file);
                Ok(Vec::new())
            }
        }
    }
}
