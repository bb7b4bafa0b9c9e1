//! What is ordered: which kind of export, as what, of which time and whom; and what of that makes no sense.

use std::fmt;
use std::str::FromStr;

use aggregates::month::Month;
use aggregates::primitives::{Invalid, ResellerId, Timestamp};

use super::ExportError;

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
    pub(super) fn goes_on(self) -> bool {
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
    pub(super) fn range(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), ExportError> {
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
