//! Rows that are written once and that no fold reads, as a number for each table: how many there are, and the sum of their digests.
//!
//! A sum does not ask for an order, so the live table is read as it lies, and nothing need be written to compare with it. The
//! digests are keyed by what nobody knows who could have changed a row: without that, rows could be found whose digests have the
//! sum of others'. Where two sums differ nothing says in which row: then the rows are folded and compared themselves. Cost: one
//! SHA-256 a row on either side, a quarter of what writing and looking up a row takes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use sha2::{Digest, Sha256};

use crate::sql::Value;

/// How many rows, and the sum of their digests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) rows: u64,
    pub(super) sum: u128,
}

/// What is known of the tables.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) key: [u8; 32],
    pub(super) tables: BTreeMap<String, Sum>,
}

impl Digests {
    /// None yet, under a key of their own.
    pub(super) fn begin() -> Self {
        // Each of these is a number that only this process can know.
        let words: [u64; 4] = std::array::from_fn(|word| RandomState::new().hash_one(word));
        let mut key = [0; 32];
        for (bytes, word) in key.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.to_be_bytes();
        }
        Self { key, tables: BTreeMap::new() }
    }

    /// Takes in rows of a table, column after column.
    pub(super) fn fold(&mut self, table: &str, width: usize, rows: &[Value]) {
        if !self.tables.contains_key(table) {
            self.tables.insert(table.to_owned(), Sum::default());
        }
        let key = self.key;
        if let Some(sum) = self.tables.get_mut(table) {
            rows.chunks_exact(width).for_each(|row| sum.add(&key, row));
        }
    }

    /// What the rows of a table come to.
    pub(super) fn of(&self, table: &str) -> Sum {
        self.tables.get(table).copied().unwrap_or_default()
    }
}

impl Sum {
    /// Takes in a row.
    pub(super) fn add(&mut self, key: &[u8; 32], row: &[Value]) {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(key);
        for value in row {
            // A mark of the kind, and lengths: no other row has the same bytes.
            match value {
                Value::Integer(number) => {
                    bytes.push(b'i');
                    bytes.extend_from_slice(&number.to_be_bytes());
                }
                Value::Text(text) => put(&mut bytes, b't', text.as_bytes()),
                Value::Bytes(blob) => put(&mut bytes, b'b', blob),
                // No column holds a list.
                Value::Null | Value::Integers(_) | Value::Texts(_) | Value::Blobs(_) => bytes.push(b'n'),
            }
        }
        let mut half = [0; 16];
        half.copy_from_slice(&Sha256::digest(&bytes)[..16]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(half));
    }
}

fn put(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(&value.len().to_be_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    fn sum_of(key: u8, rows: &[&[Value]]) -> Sum {
        let mut sum = Sum::default();
        rows.iter().for_each(|row| sum.add(&[key; 32], row));
        sum
    }

    #[test]
    fn the_same_rows_have_one_sum_in_any_order_and_others_another() {
        let (one, two): ([Value; 2], [Value; 2]) = ([1_u32.into(), "a".into()], [2_u32.into(), Value::Null]);
        assert_eq!(sum_of(1, &[&one, &two]), sum_of(1, &[&two, &one]));
        let others: [&[&[Value]]; 8] = [
            &[&one],
            &[&one, &one],
            &[&one, &two, &two],
            &[&one, &[2_u32.into(), "".into()]],
            &[&one, &[2_u32.into(), Value::Bytes(Vec::new())]],
            &[&[1_u32.into(), "a".into(), 2_u32.into()], &[Value::Null]],
            &[&[1_u32.into(), Value::Bytes(b"a".to_vec())], &two],
            &[],
        ];
        for other in others {
            assert_ne!(sum_of(1, &[&one, &two]), sum_of(1, other), "{other:?}");
        }
    }

    #[test]
    fn what_is_digested_is_every_column_of_its_table() {
        let connection = rusqlite::Connection::open_in_memory().expect("memory");
        crate::sql::sqlite::create_directly(&connection).expect("tables");
        for table in crate::DECLARED.iter().flat_map(|projection| projection.written_once) {
            let mut statement = connection.prepare("select name from pragma_table_info(?1)").expect("a table");
            let names = statement.query_map([table.name], |row| row.get(0)).expect("columns");
            let mut names: Vec<String> = names.collect::<Result<_, _>>().expect("names");
            let mut digested: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            digested.sort_unstable();
            assert_eq!(names, digested, "{}", table.name);
        }
    }

    #[test]
    fn nobody_can_foretell_a_sum() {
        let row: [Value; 1] = [1_u32.into()];
        assert_ne!(sum_of(1, &[&row]), sum_of(2, &[&row]));
        assert_ne!(Digests::begin().key, Digests::begin().key);
    }
}
