//! Digests that stand for texts which are not kept.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The first half of a SHA-256: nobody finds two texts with the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Half([u8; 16]);

impl Half {
    /// Of these parts, one after the other.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hasher.finalize()[..16]);
        Self(half)
    }

    /// Of all that came before, and these parts.
    pub(super) fn then(self, parts: &[&[u8]]) -> Self {
        let mut all = vec![&self.0[..]];
        all.extend_from_slice(parts);
        Self::of(&all)
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for Half {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Half {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(|half| Self(half.to_be_bytes())).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    #[test]
    fn a_digest_is_of_all_parts_and_written_and_read_again_the_same() {
        let whole = Half::of(&[b"abc"]);
        assert_eq!(whole.to_string(), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(Half::of(&[b"a", b"bc"]), whole);
        assert_ne!(Half::default().then(&[b"abc"]), whole);
        let text = serde_json::to_string(&whole).expect("a text");
        assert_eq!(serde_json::from_str::<Half>(&text).expect("a digest"), whole);
    }
}
