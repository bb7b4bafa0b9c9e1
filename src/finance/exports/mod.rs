//! Exports: what happened and what is held, as a table in the form that is asked for, piece by piece.
//!
//! Shape: an [`Export`] is opened as of a position and then asked for piece after piece; [`rows`] reads them, page by page in
//! snapshots of their own, so that no connection is held by who reads slowly, and a *sheet* ([`csv`], [`jsonl`], [`xlsx`], [`parquet`]) writes
//! them; the journal and the printed statement ([`document`]) read and write themselves.
//! Memory is that of one page, whatever is exported.
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
mod jsonl;
mod parquet;
mod rows;
mod xlsx;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

use aggregates::month::Month;
use aggregates::primitives::{Invalid, ResellerId, Timestamp};
use projections::books::Stretch;
use projections::sql::ViewError;
use projections::{ReadPool, Scope, audit_log};

use super::before;
use super::journal::{Dialect, Journal};
use cells::{Cell, Column};
use document::Document;
use rows::Rows;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The words for them, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it in paths and options.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Invalid(format!("must be one of: {}", Self::WORDS.join(", ")))),
                }
            }
        }
    };
}

words!(
    /// What is exported.
    Kind {
        /// Statement lines of all wallets in sight.
        Transactions = "transactions",
        /// What each reseller held.
        Balances = "balances",
        /// Commissions earned and reversed.
        Commissions = "commissions",
        /// For each month and reseller: opening, movements by kind, closing.
        Statements = "statements",
        /// The double entry behind each event.
        Journal = "journal",
    }
);

words!(
    /// As what it is written.
    Format {
        /// Comma-separated values, safe in a spreadsheet.
        Csv = "csv",
        /// One JSON object a line.
        JsonLines = "jsonl",
        /// A workbook for Excel and its like.
        Xlsx = "xlsx",
        /// Typed columns for what analyses them.
        Parquet = "parquet",
        /// A page to be printed, of one reseller's month.
        Html = "html",
        /// A journal for hledger and ledger.
        Hledger = "hledger",
        /// A journal for beancount.
        Beancount = "beancount",
    }
);

impl Kind {
    /// As what it can be written, the usual one first.
    #[must_use]
    pub fn formats(self) -> &'static [Format] {
        match self {
            Self::Journal => &[Format::Hledger, Format::Beancount],
            Self::Statements => &[Format::Csv, Format::JsonLines, Format::Xlsx, Format::Parquet, Format::Html],
            Self::Transactions | Self::Balances | Self::Commissions => {
                &[Format::Csv, Format::JsonLines, Format::Xlsx, Format::Parquet]
            }
        }
    }
}

impl Format {
    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::JsonLines => "application/x-ndjson",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Html => "text/html; charset=utf-8",
            Self::Hledger | Self::Beancount => "text/plain; charset=utf-8",
        }
    }

    /// Whether an export can be broken off and go on later.
    fn goes_on(self) -> bool {
        matches!(self, Self::Csv | Self::JsonLines)
    }
}

/// What is ordered.
#[derive(Debug, Clone)]
pub struct Order {
    /// What.
    pub kind: Kind,
    /// As what; without it, as is usual.
    pub format: Option<Format>,
    /// What was recorded at this time or later; not for balances.
    pub from: Option<Timestamp>,
    /// What was recorded before this time; without it, all there is.
    pub to: Option<Timestamp>,
    /// What was recorded in this month; stands for `from` and `to`, and not beside them.
    pub month: Option<Month>,
    /// One reseller's; without it, everybody's in sight.
    pub reseller: Option<ResellerId>,
    /// After which row to go on.
    pub cursor: Option<String>,
}

impl Order {
    /// As what it is written.
    ///
    /// # Errors
    /// [`ExportError::Invalid`] where its kind is not written so.
    pub fn form(&self) -> Result<Format, ExportError> {
        let formats = self.kind.formats();
        match (self.format, formats.first()) {
            (None, Some(usual)) => Ok(*usual),
            (Some(format), _) if formats.contains(&format) => Ok(format),
            _ => {
                let words: Vec<&str> = formats.iter().map(|format| format.word()).collect();
                Err(ExportError::invalid("format", format!("{} are written as {}", self.kind, words.join(", "))))
            }
        }
    }

    /// The beginning and the end of what is ordered.
    fn range(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), ExportError> {
        match (self.month, self.from, self.to) {
            (None, from, to) => Ok((from, to)),
            (Some(month), None, None) if self.kind == Kind::Balances => Ok((None, Some(month.end()))),
            (Some(month), None, None) => Ok((Some(month.start()), Some(month.end()))),
            (Some(_), ..) => Err(ExportError::invalid("month", "name a month, or a range, not both")),
        }
    }

    /// What a file with it might be called, where it is as of this position.
    #[must_use]
    pub fn file_name(&self, position: u64) -> String {
        let extent = self.month.map_or_else(|| format!("as-of-{position}"), |month| month.to_string());
        let extension = match self.form() {
            Ok(Format::Hledger) => "journal",
            Ok(format) => format.word(),
            Err(_) => "txt",
        };
        format!("{}-{extent}.{extension}", self.kind)
    }
}

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
    fn invalid(parameter: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { parameter, detail: detail.into() }
    }
}

/// Why a row could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the export could not be written: {0}")]
pub struct SheetError(String);

impl SheetError {
    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// What a sheet has left when the last row is in it.
enum Rest {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file, to be read from its beginning.
    File(File),
}

/// A table in one form or another.
trait Sheet: Send {
    /// Adds a row, with a cell for each column.
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SheetError>;
    /// Takes what can go out already.
    fn ready(&mut self) -> Result<Vec<u8>, SheetError>;
    /// Ends the table.
    fn end(self: Box<Self>) -> Result<Rest, SheetError>;
}

/// What an export is made of.
enum Content {
    Table(Rows, Box<dyn Sheet>),
    Journal(Box<Journal>),
    Document(Box<Document>),
    /// A table that is done, on its way out.
    File(File),
    Ended,
}

fn sheet(
    order: &Order,
    form: Format,
    columns: &'static [Column],
    as_of: Timestamp,
) -> Result<Box<dyn Sheet>, SheetError> {
    Ok(match form {
        Format::JsonLines => Box::new(jsonl::JsonLines::begin(columns)),
        Format::Xlsx => Box::new(xlsx::Xlsx::begin(order.kind.word(), columns, as_of)?),
        Format::Parquet => Box::new(parquet::Parquet::begin(order.kind.word(), columns)?),
        // What is no table never comes here.
        Format::Csv | Format::Hledger | Format::Beancount | Format::Html => {
            Box::new(csv::Csv::begin(columns, order.cursor.is_some())?)
        }
    })
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
            Some(to) => before(&mut read, to).await?,
            None => read.position(),
        };
        let position = match &resumed {
            Some((position, _)) if *position > audit_log::head(read.unscoped()).await?.position => {
                return Err(ViewError::InvalidCursor.into());
            }
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
            Some(from) => before(&mut read, from).await?.min(position),
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

/// The months from one instant up to another.
fn months(from: Timestamp, to: Timestamp) -> impl Iterator<Item = Month> {
    std::iter::successors(Some(Month::of(from)), |month| month.next()).take_while(move |month| month.start() < to)
}
