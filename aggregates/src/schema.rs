//! What the domain's own types look like in a description of the API: the bounds of what is read, an example of each.
//!
//! Only with the feature `schema`. Types whose form serde derives, derive their description too; these here read and write
//! themselves, so they are described by hand, and the tests below hold each description against the type itself.

use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::month::Month;
use crate::primitives::{
    Amount, ClientId, CommandId, CompanyName, Currency, Level, MAX_CREDITS, Percent, ProvisionId, Quantity, Reference,
    ReferralCode, ReferralTag, Refid, RefundId, RequestId, ResellerId, Sku, Text, Timestamp, TransferId, UserId,
};

macro_rules! described {
    ($($name:ident = $schema:expr),+ $(,)?) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::Object($schema))
            }
        }

        impl ToSchema for $name {}
    )+};
}

described!(
    ResellerId = id("A reseller, its tenant and its wallet: the three share one identifier.", "a0"),
    ClientId = id("A client of a reseller.", "a1"),
    ProvisionId = id("One provision.", "a2"),
    RefundId = id("One refund of a provision.", "a3"),
    TransferId = id("One transfer between two wallets.", "a4"),
    RequestId = id("One upline request.", "a5"),
    CommandId = id("One command as it was sent.", "a6"),
    UserId = text("The identity of a user in the operator's own directory; no spaces around it.", 1, 128, "sarah")
        .pattern(Some(r"^[^\s\u0000]([^\u0000]*[^\s\u0000])?$"))
        .build(),
    CompanyName = text("A reseller's company name; not blank.", 1, 200, "Elite Global Partners")
        .pattern(Some(r"^[^\u0000]*[^\s\u0000][^\u0000]*$"))
        .build(),
    Refid = text("A reseller's public reference.", 1, 40, "RS-7K2M9QX4TBVD").pattern(Some("^[!-~]+$")).build(),
    Sku = text("A product's stock keeping unit.", 1, 64, "pro-license").pattern(Some("^[A-Za-z0-9._-]+$")).build(),
    Reference = text("The reference of a payment in the operator's books.", 1, 200, "INV-2026-0042")
        .pattern(Some(r"^[^\u0000]+$"))
        .build(),
    ReferralCode = text("A referral code.", 1, 40, "4Q8ZT1N6W0XKCJ2B").pattern(Some("^[!-~]+$")).build(),
    ReferralTag = text("What a referral code is for.", 1, 60, "become-partner").pattern(Some("^[!-~]+$")).build(),
    Text = text("A short free text.", 0, 1000, "as agreed on the phone").pattern(Some(r"^[^\u0000]*$")).build(),
    Currency = text("An ISO 4217 currency code.", 3, 3, "USD").pattern(Some("^[A-Z]{3}$")).build(),
    Month = text("A calendar month, in UTC.", 7, 7, "2026-10").pattern(Some("^[0-9]{4}-(0[1-9]|1[0-2])$")).build(),
    Amount = whole("An amount of credits to move: a positive whole number.", 1, MAX_CREDITS, 500),
    Level = whole("A number of credits that may be 0: a cost, a threshold, a limit.", 0, MAX_CREDITS, 1000),
    Quantity = whole("How many units are provisioned at once.", 1, i64::from(Quantity::MOST), 1),
    Percent = ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::String, Type::Number]))
        .description(Some(
            "A percentage from 0 to 1000 with at most two decimals. Answers write it as a decimal string; commands may \
             send a string or a number.",
        ))
        .pattern(Some(r"^[0-9]{1,4}(\.[0-9]{1,2})?$"))
        .minimum(Some(0))
        .maximum(Some(Percent::MOST))
        .examples(["12.5"])
        .build(),
    Timestamp = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("An instant: RFC 3339. Answers write it in UTC with six decimals and Z."))
        .examples(["2026-11-21T09:30:00.000000Z"])
        .build(),
);

/// One of these words.
pub(crate) fn word(words: &[&'static str]) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied())).into()
}

/// A UUID; the examples differ in two digits, so that a reader can tell them apart.
fn id(description: &str, digits: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("uuid".to_owned())))
        .description(Some(description))
        .examples([format!("0190d3{digits}-7c1e-7b60-8f00-3d0f6c8e2a11")])
        .build()
}

fn text(description: &str, least: usize, most: usize, example: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .min_length(Some(least))
        .max_length(Some(most))
        .examples([example])
}

fn whole(description: &str, least: i64, most: i64, example: i64) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .description(Some(description))
        .minimum(Some(least))
        .maximum(Some(most))
        .examples([example])
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    /// What a described type accepts and refuses at the edges that its description names.
    fn holds<T: ToSchema + DeserializeOwned>() {
        let RefOr::T(schema) = T::schema() else { panic!("a schema") };
        let schema = serde_json::to_value(schema).expect("JSON");
        let name = T::name();
        let accepts = |value: Value| serde_json::from_value::<T>(value).is_ok();
        assert!(accepts(schema["examples"][0].clone()), "{name}: its example");
        if let Some(most) = schema["maxLength"].as_u64() {
            let (least, most) = (schema["minLength"].as_u64().expect("a bound"), most);
            let of = |length: u64| json!("A".repeat(usize::try_from(length).expect("short")));
            assert!(accepts(of(least)) && accepts(of(most)) && !accepts(of(most + 1)), "{name}: its lengths");
            assert!(least == 0 || !accepts(of(least - 1)), "{name}: its least length");
        }
        if let (Some(least), Some(most)) = (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
            assert!(accepts(json!(least)) && accepts(json!(most)), "{name}: its bounds");
            assert!(!accepts(json!(least - 1)) && !accepts(json!(most + 1)), "{name}: beyond its bounds");
        }
        assert!(!accepts(json!(null)) && !accepts(json!({})), "{name}: another type");
    }

    #[test]
    fn every_description_agrees_with_its_type() {
        holds::<ResellerId>();
        holds::<ClientId>();
        holds::<ProvisionId>();
        holds::<RefundId>();
        holds::<TransferId>();
        holds::<RequestId>();
        holds::<CommandId>();
        holds::<UserId>();
        holds::<CompanyName>();
        holds::<Refid>();
        holds::<Sku>();
        holds::<Reference>();
        holds::<ReferralCode>();
        holds::<ReferralTag>();
        holds::<Text>();
        holds::<Currency>();
        holds::<Amount>();
        holds::<Level>();
        holds::<Quantity>();
        holds::<Percent>();
        holds::<Timestamp>();
    }
}
