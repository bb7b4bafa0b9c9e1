//! An anchor: a position of the log and the hash that stood there, written down outside of the store.
//!
//! The hash at a position vouches for every byte of every event up to it. Whoever rewrites the log and hashes it anew, or cuts
//! its end off, has a log that is whole in itself; only what somebody wrote down before tells that it is another one.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

/// A position and its hash, written `POSITION:HASH` with the hash in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anchor {
    /// The position of the event; 0 for an empty log.
    pub position: u64,
    /// That event's hash; 32 zero bytes for an empty log.
    pub hash: [u8; 32],
}

/// What was written is no anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a position and a hash: write POSITION:HASH, the hash as 64 hexadecimal digits")]
pub struct NoAnchor(String);

impl FromStr for Anchor {
    type Err = NoAnchor;

    fn from_str(text: &str) -> Result<Self, NoAnchor> {
        let read = || {
            let (position, digits) = text.trim().split_once(':')?;
            let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
            let mut hash = [0; 32];
            if !rest.is_empty() || pairs.len() != hash.len() {
                return None;
            }
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
                *byte = digit(*high)? << 4 | digit(*low)?;
            }
            Some(Self { position: position.parse().ok()?, hash })
        };
        read().ok_or_else(|| NoAnchor(text.to_owned()))
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.position, hexadecimal(&self.hash))
    }
}

/// Every anchor in a text: one a line; what follows a `#` and empty lines are for people.
///
/// # Errors
/// [`NoAnchor`] with the first line that is none.
pub fn anchors(text: &str) -> Result<Vec<Anchor>, NoAnchor> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(str::parse)
        .collect()
}

/// Bytes as lower-case hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    #[test]
    fn an_anchor_reads_back_as_it_was_written_down() {
        let anchor = Anchor { position: 42, hash: [0xa5; 32] };
        let text = anchor.to_string();
        assert_eq!(text, format!("42:{}", "a5".repeat(32)));
        assert_eq!(text.parse(), Ok(anchor));
        assert_eq!(text.to_uppercase().parse(), Ok(anchor));
        let list = format!("# October\n{text}  # signed by J.\n\n{text}\n");
        assert_eq!(anchors(&list).expect("a list"), vec![anchor, anchor]);
    }

    #[test]
    fn what_is_no_anchor_is_refused() {
        for text in ["", "42", "42:", "x:00", &format!("42:{}", "0".repeat(63)), &format!("42:{}", "g0".repeat(32))] {
            assert!(text.parse::<Anchor>().is_err(), "{text:?}");
        }
        assert!(anchors("42:00").is_err());
    }
}
