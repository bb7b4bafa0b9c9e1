//! What a command brings along so that deciding it is a pure function: identifiers, public references, codes, salts.
//!
//! Everything is drawn from the thread's cryptographic generator. Identifiers are UUIDv7 of the service's clock, so they sort by
//! time even where the clock is moved by hand.

use aggregates::primitives::{Invalid, ReferralCode, Refid, Timestamp};
use rand::RngCore;
use uuid::{Builder, Uuid};

/// Crockford's alphabet: no letter that is mistaken for a digit.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A new identifier.
pub(crate) fn id(now: Timestamp) -> Uuid {
    let mut random = [0_u8; 10];
    rand::rng().fill_bytes(&mut random);
    let milliseconds = u64::try_from(now.micros() / 1000).unwrap_or_default();
    Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}

/// A new public reference: 60 random bits.
pub(crate) fn refid() -> Result<Refid, Invalid> {
    Refid::new(format!("RS-{}", letters(12)))
}

/// A new referral code: 80 random bits.
pub(crate) fn referral_code() -> Result<ReferralCode, Invalid> {
    ReferralCode::new(letters(16))
}

/// A new salt: 32 hexadecimal digits.
pub(crate) fn salt() -> String {
    let mut random = [0_u8; 16];
    rand::rng().fill_bytes(&mut random);
    format!("{:032x}", u128::from_be_bytes(random))
}

fn letters(count: usize) -> String {
    let mut random = vec![0_u8; count];
    rand::rng().fill_bytes(&mut random);
    random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32))).map(|letter| char::from(*letter)).collect()
}
