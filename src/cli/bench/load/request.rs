//! A request as bytes, built once; only its idempotency keys change, in place, from one sending to the next.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long a key is: 16 hexadecimal digits of the run and 16 of the count.
pub(in crate::cli::bench) const KEY_LENGTH: usize = 32;
const WALLETS: &str = "/wallets/";
/// How long a wallet's id is.
const ID_LENGTH: usize = 36;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Makes idempotency keys, each once in a run and, by the run's random half, once altogether.
#[derive(Debug)]
pub(in crate::cli::bench) struct KeySource {
    run: u64,
    taken: AtomicU64,
}

impl KeySource {
    /// Keys that begin with `run`.
    pub(in crate::cli::bench) fn new(run: u64) -> Self {
        Self { run, taken: AtomicU64::new(0) }
    }

    /// How many keys have been taken.
    pub(in crate::cli::bench) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A request's bytes and where its keys stand in them.
#[derive(Debug, Clone)]
pub(in crate::cli::bench) struct Request {
    bytes: Vec<u8>,
    keys: Vec<usize>,
    /// Where in the path the wallet stands.
    wallet: Option<usize>,
}

impl Request {
    /// A command with a key of its own, and in its body one for each `key_mark` (of a key's length).
    pub(in crate::cli::bench) fn command(
        method: &str,
        path: &str,
        token: &str,
        content_type: &str,
        body: &str,
        key_mark: &str,
    ) -> Self {
        let mut head = String::with_capacity(256);
        let length = body.len();
        // Writing to a String cannot fail.
        let _ = write!(
            head,
            "{method} {path} HTTP/1.1\r\nhost: tallytree\r\nauthorization: Bearer {token}\r\n\
             content-type: {content_type}\r\ncontent-length: {length}\r\nidempotency-key: "
        );
        let own_key = head.len();
        head.extend(std::iter::repeat_n('0', KEY_LENGTH));
        head.push_str("\r\n\r\n");
        let mut keys = vec![own_key];
        if key_mark.len() == KEY_LENGTH {
            keys.extend(body.match_indices(key_mark).map(|(at, _)| head.len() + at));
        }
        head.push_str(body);
        let wallet = path.starts_with(WALLETS).then(|| method.len() + 1 + WALLETS.len());
        Self { bytes: head.into_bytes(), keys, wallet }
    }

    /// A query.
    pub(in crate::cli::bench) fn query(path: &str, token: &str) -> Self {
        let bytes = format!("GET {path} HTTP/1.1\r\nhost: tallytree\r\nauthorization: Bearer {token}\r\n\r\n");
        Self { bytes: bytes.into_bytes(), keys: Vec::new(), wallet: None }
    }

    /// Gives it fresh keys.
    pub(in crate::cli::bench) fn take_keys(&mut self, source: &KeySource) {
        if self.keys.is_empty() {
            return;
        }
        let first = source.taken.fetch_add(self.keys.len() as u64, Ordering::Relaxed);
        for (count, at) in (first..).zip(&self.keys) {
            if let Some(key) = self.bytes.get_mut(*at..*at + KEY_LENGTH) {
                let (run, own) = key.split_at_mut(KEY_LENGTH / 2);
                write_hex(run, source.run);
                write_hex(own, count);
            }
        }
    }

    /// Sends it to another wallet from now on.
    pub(in crate::cli::bench) fn aim_at(&mut self, wallet: &str) {
        let room = self.wallet.and_then(|at| self.bytes.get_mut(at..at + ID_LENGTH));
        if let Some(room) = room.filter(|_| wallet.len() == ID_LENGTH) {
            room.copy_from_slice(wallet.as_bytes());
        }
    }

    /// What goes over the wire.
    pub(in crate::cli::bench) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn write_hex(room: &mut [u8], mut value: u64) {
    for digit in room.iter_mut().rev() {
        *digit = usize::try_from(value & 15).ok().and_then(|nibble| HEX.get(nibble).copied()).unwrap_or(b'0');
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_sending_has_other_keys_and_nothing_else_changes() {
        let mark = "#".repeat(KEY_LENGTH);
        let body = format!("[\"{mark}\",\"{mark}\"]");
        let source = KeySource::new(0xabc);
        let mut request = Request::command("POST", "/x", "t", "application/json", &body, &mark);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10 {
            request.take_keys(&source);
            let text = String::from_utf8(request.bytes().to_vec()).unwrap();
            for at in &request.keys {
                assert!(seen.insert(text[*at..*at + KEY_LENGTH].to_owned()));
                assert!(text[*at..].starts_with("0000000000000abc"));
            }
            assert!(text.contains(&format!("content-length: {}\r\n", body.len())));
        }
        assert_eq!(source.taken(), 30);
    }

    #[test]
    fn a_request_is_aimed_at_another_wallet_by_its_path_alone() {
        let (one, other) = ("1".repeat(36), "2".repeat(36));
        let path = |wallet| format!("/wallets/{wallet}/provisions");
        let mut request = Request::command("POST", &path(&one), "t", "application/json", "{}", "");
        request.aim_at(&other);
        let expected = Request::command("POST", &path(&other), "t", "application/json", "{}", "");
        assert_eq!(request.bytes(), expected.bytes());
    }
}
