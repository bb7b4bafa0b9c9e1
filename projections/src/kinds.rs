//! Kinds as filters name them: one word out of a closed list, and every other word refused by naming the list.

use std::marker::PhantomData;
use std::str::FromStr;

use aggregates::primitives::Invalid;

/// A closed list of kinds.
pub trait Kinds {
    /// What such a kind is called in the API's description.
    const NAME: &'static str;
    /// All of them.
    const ALL: &'static [&'static str];
}

/// A kind out of a list.
#[derive(Debug)]
pub struct Kind<K>(&'static str, PhantomData<K>);

impl<K> Kind<K> {
    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.0
    }
}

// Derived, these would ask for them of the list as well.
impl<K> Clone for Kind<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Kind<K> {}

impl<K: Kinds> FromStr for Kind<K> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let known = K::ALL.iter().find(|kind| **kind == text);
        known
            .map(|kind| Self(kind, PhantomData))
            .ok_or_else(|| Invalid(format!("must be one of: {}", K::ALL.join(", "))))
    }
}

#[cfg(feature = "schema")]
impl<K: Kinds> utoipa::PartialSchema for Kind<K> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(K::ALL.iter().copied())).into()
    }
}

#[cfg(feature = "schema")]
impl<K: Kinds> utoipa::ToSchema for Kind<K> {
    fn name() -> std::borrow::Cow<'static, str> {
        std::borrow::Cow::Borrowed(K::NAME)
    }
}
