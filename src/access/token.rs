//! The text of a token: `tt_<key id>_<secret>`. The secret is 256 random bits, so a plain SHA-256 is all that need be kept of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A token as a client sent it, taken apart.
#[derive(Clone, Copy)]
pub struct TokenText<'a> {
    /// Which key it is.
    pub key_id: &'a str,
    secret: &'a str,
}

impl<'a> TokenText<'a> {
    /// Takes a token apart; `None` where it has another form.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (key_id, secret) = text.strip_prefix("tt_")?.split_once('_')?;
        let plausible = (1..=64).contains(&key_id.len()) && (1..=128).contains(&secret.len());
        plausible.then_some(Self { key_id, secret })
    }

    /// Whether this is the secret that the hash was made of; takes the same time either way.
    #[must_use]
    pub fn matches(&self, secret_hash: &[u8; 32]) -> bool {
        let hash: [u8; 32] = Sha256::digest(self.secret).into();
        hash.ct_eq(secret_hash).into()
    }
}

/// A new token: its text is shown once, its hash is kept.
#[derive(Clone)]
pub struct FreshToken {
    /// Which key it is.
    pub key_id: String,
    /// What to keep of the secret.
    pub secret_hash: [u8; 32],
    /// What to show.
    pub text: String,
}

impl FreshToken {
    /// Makes a token.
    #[must_use]
    pub fn generate() -> Self {
        let mut random = rand::rng();
        let mut secret = [0_u8; 32];
        let mut key = [0_u8; 8];
        random.fill_bytes(&mut secret);
        random.fill_bytes(&mut key);
        let key_id = format!("{:016x}", u64::from_be_bytes(key));
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let text = format!("tt_{key_id}_{secret}");
        Self { key_id, secret_hash: Sha256::digest(&secret).into(), text }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_by_its_hash_alone() {
        let fresh = FreshToken::generate();
        let text = TokenText::parse(&fresh.text).expect("a token");
        assert_eq!(text.key_id, fresh.key_id);
        assert!(text.matches(&fresh.secret_hash));
        assert!(!text.matches(&FreshToken::generate().secret_hash));
    }

    #[test]
    fn what_has_another_form_is_no_token() {
        for text in ["", "tt_", "tt_abc", "tt__secret", "tt_abc_", "Bearer tt_a_b", "sk_a_b"] {
            assert!(TokenText::parse(text).is_none(), "{text}");
        }
    }
}
