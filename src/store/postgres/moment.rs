//! Times as PostgreSQL has them: microseconds since 2000, which is all that a [`Timestamp`] has too.

use aggregates::primitives::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef, Postgres};
use sqlx::{Decode, Encode, Type, TypeInfo};

/// The microseconds from 1970 to 2000.
const TO_2000: i64 = 946_684_800_000_000;

/// `timestamptz` and its array type, by the numbers that they have in every database.
const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMPTZ_ARRAY: Oid = Oid(1185);

/// A time in a parameter or a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) Timestamp);

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }

    fn compatible(column: &PgTypeInfo) -> bool {
        column.name() == "TIMESTAMPTZ"
    }
}

impl PgHasArrayType for Moment {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY)
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&(self.0.micros() - TO_2000).to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Moment {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                let since_2000 = i64::from_be_bytes(value.as_bytes()?.try_into()?);
                let micros = since_2000.checked_add(TO_2000).ok_or("an infinite time")?;
                Ok(Self(Timestamp::from_micros(micros)))
            }
            PgValueFormat::Text => of_text(value.as_str()?),
        }
    }
}

/// `2026-11-21 12:00:00.000001+00`: what is read without a prepared statement comes so.
fn of_text(text: &str) -> Result<Moment, BoxDynError> {
    let mut text = text.replacen(' ', "T", 1);
    let sign = text.rfind(['+', '-']).ok_or("a time without its zone")?;
    if text.len() - sign == 3 {
        text.push_str(":00");
    }
    Ok(Moment(text.parse()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    #[test]
    fn a_text_is_read_in_whichever_zone_it_was_written() {
        let noon: Timestamp = "2026-11-21T12:00:00.000001Z".parse().expect("a time");
        for text in
            ["2026-11-21 12:00:00.000001+00", "2026-11-21 17:30:00.000001+05:30", "2026-11-21 10:00:00.000001-02"]
        {
            assert_eq!(of_text(text).expect("a time"), Moment(noon));
        }
        of_text("infinity").expect_err("no time");
    }
}
