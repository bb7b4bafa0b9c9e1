//! The store on PostgreSQL. Behind a pooler too: nothing is prepared by name and nothing set for a session.
//!
//! The log comes by COPY, which is the cheapest way there is to have many rows, and the exact one: it writes every byte that a
//! text can hold in one way only.

use std::future::Future;

use futures_util::TryStreamExt;
use projections::sql::{Connection, Server as Address, Value, ViewError};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::runtime::Runtime;

use super::{CHUNK_EVENTS, Chunk, Each, Store};
use crate::audit::verify::VerifyError;
use crate::store::Database;
use crate::store::postgres::Address as StoreAddress;

#[derive(Debug)]
pub(super) struct Server {
    runtime: Runtime,
    address: Address,
    connection: PgConnection,
    has_views: bool,
}

impl Server {
    pub(super) fn open(address: &StoreAddress) -> Result<Self, VerifyError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(VerifyError::Thread)?;
        let projections::sql::Database::Postgres(address) =
            crate::projector::views_of(&Database::Postgres(address.clone()))
        else {
            return Err(ViewError::unreadable("a server that is none").into());
        };
        let (connection, _): (PgConnection, PgConnectOptions) =
            runtime.block_on(address.connect()).map_err(ViewError::from)?;
        let mut server = Self { runtime, address, connection, has_views: false };
        let mut has_views = false;
        server.rows("select 1 where to_regclass('views.checkpoints') is not null", Vec::new(), &mut |_| {
            has_views = true;
            Ok(true)
        })?;
        server.has_views = has_views;
        Ok(server)
    }
}

/// Waits for the database.
fn wait<T>(runtime: &Runtime, work: impl Future<Output = Result<T, ViewError>>) -> Result<T, VerifyError> {
    Ok(runtime.block_on(work)?)
}

impl Store for Server {
    fn rows(&mut self, sql: &str, values: Vec<Value>, each: &mut Each<'_>) -> Result<(), VerifyError> {
        let mut connection = Connection::postgres(&mut self.connection, false);
        wait(&self.runtime, connection.for_each(sql, values, each))
    }

    fn events(&mut self, after: i64, until: Option<i64>, chunk: &mut Chunk) -> Result<(), VerifyError> {
        chunk.clear();
        let until = until.unwrap_or(i64::MAX);
        // COPY takes no parameters; these are numbers. Columns in the order of `RawEvent`.
        let sql = format!(
            "copy (select position, sequence, aggregate_type, aggregate_id, event_type, event_version, payload, metadata, \
             to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), encode(hash, 'hex'), actor, \
             command_id from ledger.events where position > {after} and position <= {until} order by position \
             limit {CHUNK_EVENTS}) to stdout"
        );
        wait(&self.runtime, async {
            let mut lines = self.connection.copy_out_raw(&sql).await?;
            // One message is one row.
            while let Some(line) = lines.try_next().await? {
                // What does not fit is asked for again.
                if !chunk.is_full() {
                    push(&line, chunk)?;
                }
            }
            Ok(())
        })
    }

    fn settle(&mut self) -> Result<(), VerifyError> {
        self.connection = if self.has_views {
            self.runtime.block_on(self.address.snapshot()).map_err(ViewError::from)?
        } else {
            let (mut connection, _) = self.runtime.block_on(self.address.connect()).map_err(ViewError::from)?;
            // Without read models nobody can say whose personal data it is, and this has to see everybody's.
            let begin = "begin isolation level repeatable read read only; set local tallytree.scope = 'all'";
            let begin = sqlx::raw_sql(begin);
            self.runtime.block_on(sqlx::Executor::execute(&mut connection, begin)).map_err(ViewError::from)?;
            connection
        };
        Ok(())
    }

    fn has_views(&self) -> bool {
        self.has_views
    }

    fn snapshots(&self) -> Option<&'static str> {
        Some("ledger")
    }

    fn is_indexed(&self) -> bool {
        false
    }
}

/// Takes in a row of COPY's: columns between tabs, with what would be mistaken for a tab or an end written by a backslash.
fn push(line: &[u8], chunk: &mut Chunk) -> Result<(), ViewError> {
    let malformed = || ViewError::unreadable("a row of COPY that is none");
    let line = line.strip_suffix(b"\n").ok_or_else(malformed)?;
    let mut columns = line.split(|byte| *byte == b'\t');
    let mut number = || {
        let text = columns.next().and_then(|column| std::str::from_utf8(column).ok());
        text.and_then(|text| text.parse::<i64>().ok()).ok_or_else(malformed)
    };
    let (position, sequence) = (number()?, number()?);
    chunk.push(position, sequence, |column, bytes| {
        let written = columns.next().ok_or_else(malformed)?;
        if column == HASH {
            from_hexadecimal(written, bytes).ok_or_else(malformed)
        } else {
            unescape(written, bytes);
            Ok(())
        }
    })?;
    if columns.next().is_some() { Err(malformed()) } else { Ok(()) }
}

/// Which of the columns is the hash.
const HASH: usize = 7;

fn from_hexadecimal(digits: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    for [high, low] in pairs {
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    rest.is_empty().then_some(())
}

fn unescape(mut written: &[u8], bytes: &mut Vec<u8>) {
    while let Some(at) = written.iter().position(|byte| *byte == b'\\') {
        bytes.extend_from_slice(&written[..at]);
        bytes.push(match written.get(at + 1) {
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'v') => 0x0b,
            Some(other) => *other,
            None => b'\\',
        });
        written = written.get(at + 2..).unwrap_or_default();
    }
    bytes.extend_from_slice(written);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    #[test]
    fn a_row_of_copy_is_read_to_the_byte() {
        let mut chunk = Chunk::default();
        let line = b"7\t2\tWallet\tw\tType\t1\t{\"a\":\"\\\\n \\\\\\\\ \\t\\n\"}\t{}\tnow\t0aff\tme\tc\n";
        push(line, &mut chunk).expect("a row");
        let event = chunk.events().next().expect("an event");
        assert_eq!((event.position, event.sequence, event.hash), (7, 2, &[0x0a, 0xff][..]));
        assert_eq!(event.payload, b"{\"a\":\"\\n \\\\ \t\n\"}");
        assert_eq!((event.metadata, event.actor, event.command_id), (&b"{}"[..], &b"me"[..], &b"c"[..]));
        for broken in [&b"7\t2\tWallet\n"[..], b"x\t2\n", b"", b"7\t2\ta\tb\tc\td\te\tf\tg\t0\ti\tj\n"] {
            assert!(push(broken, &mut chunk).is_err());
        }
    }
}
