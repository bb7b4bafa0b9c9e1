//! How a journal is written down: for hledger and ledger, which read the same, and for beancount.

use std::collections::BTreeMap;
use std::fmt::Write;

use aggregates::postings::Account;
use aggregates::primitives::Timestamp;
use chrono::NaiveDate;

use super::Entry;

/// Whose syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::finance) enum Dialect {
    /// hledger's and ledger's.
    Hledger,
    /// beancount's.
    Beancount,
}

/// What opening balances are set against; with the last of them it is zero.
pub(super) const OPENING: &str = "equity:opening";

/// A journal's text as it comes to be. Writing to a text cannot fail, so what `write!` says is not looked at.
#[derive(Debug)]
pub(super) struct Writing {
    dialect: Dialect,
    text: String,
    /// The day of the last entry, and what the accounts that moved on it have come to; for beancount, which asserts by day.
    day: Option<NaiveDate>,
    moved: BTreeMap<String, i128>,
}

impl Writing {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, text: String::new(), day: None, moved: BTreeMap::new() }
    }

    /// Takes what has been written.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text).into_bytes()
    }

    /// The first lines.
    pub(super) fn begin(&mut self, position: u64, as_of: Timestamp, day: NaiveDate) {
        let _ = writeln!(self.text, "; The books of Tallytree in CREDITS, up to event {position}, recorded {as_of}.");
        let _ = writeln!(self.text, "; Amounts are credits less debits: what a wallet holds is positive.\n");
        let _ = match self.dialect {
            Dialect::Hledger => writeln!(self.text, "commodity CREDITS\n"),
            Dialect::Beancount => writeln!(
                self.text,
                "option \"title\" \"Tallytree\"\noption \"operating_currency\" \"CREDITS\"\n\n{day} commodity CREDITS\n"
            ),
        };
    }

    /// Declares an account, and whose it is.
    pub(super) fn open(&mut self, day: NaiveDate, account: &str, whose: Option<(&str, &str)>) {
        let account = self.name(account);
        let _ = match (self.dialect, whose) {
            (Dialect::Hledger, None) => writeln!(self.text, "account {account}"),
            (Dialect::Hledger, Some((refid, company_name))) => {
                writeln!(self.text, "; {} {}\naccount {account}", one_line(refid), one_line(company_name))
            }
            (Dialect::Beancount, None) => writeln!(self.text, "{day} open {account} CREDITS"),
            (Dialect::Beancount, Some((refid, company_name))) => writeln!(
                self.text,
                "{day} open {account} CREDITS\n  refid: {}\n  company: {}",
                quoted(refid),
                quoted(company_name)
            ),
        };
    }

    /// Opens an account with what it came to before.
    pub(super) fn opening(&mut self, day: NaiveDate, account: &str, balance: i128) {
        let (account, opening) = (self.name(account), self.name(OPENING));
        let against = -balance;
        let _ = match self.dialect {
            Dialect::Hledger => writeln!(
                self.text,
                "\n{day} * opening balance\n    {account}  {balance} CREDITS = {balance} CREDITS\n    {opening}  {against} CREDITS"
            ),
            Dialect::Beancount => writeln!(
                self.text,
                "\n{day} * \"opening balance\"\n  {account}  {balance} CREDITS\n  {opening}  {against} CREDITS"
            ),
        };
        self.day = Some(day);
        self.moved.insert(account, balance);
    }

    /// All opening balances have been set: they cancel out.
    pub(super) fn opened(&mut self, day: NaiveDate) {
        let opening = self.name(OPENING);
        if self.dialect == Dialect::Hledger {
            let _ = writeln!(self.text, "\n{day} * opening balances cancel out\n    {opening}  0 CREDITS = 0 CREDITS");
        }
        self.moved.insert(opening, 0);
    }

    /// One event.
    pub(super) fn enter(&mut self, entry: &Entry<'_>) {
        let wallet = self.name(&Account::Wallet(entry.wallet).to_string());
        let other = self.name(&entry.other.to_string());
        let Entry { day, position, words, moved, holds, .. } = entry;
        let against = -i128::from(*moved);
        match self.dialect {
            Dialect::Hledger => {
                let _ = writeln!(
                    self.text,
                    "\n{day} * ({position}) {words}\n    {wallet}  {moved} CREDITS = {holds} CREDITS\n    {other}  {against} CREDITS"
                );
            }
            Dialect::Beancount => {
                if self.day != Some(*day) {
                    self.end_day();
                    self.day = Some(*day);
                }
                let _ = writeln!(
                    self.text,
                    "\n{day} * \"{words}\"\n  position: {position}\n  {wallet}  {moved} CREDITS\n  {other}  {against} CREDITS"
                );
                self.moved.insert(wallet, i128::from(*holds));
                self.moved.insert(other, entry.other_balance);
            }
        }
        self.day = Some(*day);
    }

    /// The last lines: what the platform's accounts have come to.
    pub(super) fn end(&mut self, begins: NaiveDate, platform: &BTreeMap<Account, i128>) {
        match self.dialect {
            Dialect::Hledger => {
                let day = self.day.unwrap_or(begins);
                let _ = writeln!(self.text, "\n{day} * what the platform's accounts have come to");
                for (account, balance) in platform {
                    let _ = writeln!(self.text, "    {account}  0 CREDITS = {balance} CREDITS");
                }
            }
            Dialect::Beancount => self.end_day(),
        }
    }

    /// What the accounts that moved on a day had come to when the next one began.
    fn end_day(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        let Some(next) = self.day.and_then(|day| day.succ_opt()).filter(|_| !moved.is_empty()) else { return };
        self.text.push('\n');
        for (account, balance) in moved {
            let _ = writeln!(self.text, "{next} balance {account}  {balance} CREDITS");
        }
    }

    /// An account as this dialect names it. Beancount wants five roots and capital letters: what resellers hold are assets, what
    /// the platform has given or taken is equity, whatever is said of the sign.
    fn name(&self, account: &str) -> String {
        if self.dialect == Dialect::Hledger {
            return account.to_owned();
        }
        let root = if account.starts_with("wallet:") { "Assets" } else { "Equity" };
        let mut name = root.to_owned();
        for part in account.split(':').skip_while(|part| *part == "equity") {
            name.push(':');
            let mut letters = part.chars();
            name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            name.push_str(letters.as_str());
        }
        name
    }
}

/// What people wrote, on one line.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if is_break(character) { ' ' } else { character }).collect()
}

/// What people wrote, as a string of beancount's.
fn quoted(text: &str) -> String {
    format!("\"{}\"", one_line(text).replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether some reader might take it for the end of a line.
fn is_break(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_their_line_and_in_their_quotes() {
        assert_eq!(one_line("a\nb\r\u{85}\u{2028}c"), "a b   c");
        assert_eq!(quoted("say \"a\\\n2026-01-01 open Assets:Mine"), r#""say \"a\\ 2026-01-01 open Assets:Mine""#);
    }

    #[test]
    fn beancount_is_given_roots_and_capitals() {
        let writing = Writing::new(Dialect::Beancount);
        assert_eq!(writing.name("platform:issued:purchase"), "Equity:Platform:Issued:Purchase");
        assert_eq!(writing.name("wallet:0190d3a5-7c1e"), "Assets:Wallet:0190d3a5-7c1e");
        assert_eq!(writing.name("wallet:a190"), "Assets:Wallet:A190");
        assert_eq!(writing.name("transfers:clearing"), "Equity:Transfers:Clearing");
        assert_eq!(writing.name(OPENING), "Equity:Opening");
    }
}
