//! The maps that the checkers keep what they know in.
//!
//! Several are looked into for each event, so they hash with the quick function of `hashbrown`, which nobody can foretell either:
//! each map draws its own seed.

use std::collections::{HashMap, HashSet};

use hashbrown::DefaultHashBuilder;

/// Something by its key.
pub(super) type Map<Key, Value> = HashMap<Key, Value, DefaultHashBuilder>;

/// Keys alone.
pub(super) type Set<Key> = HashSet<Key, DefaultHashBuilder>;

/// How a map by aggregates is written, whose keys are their names.
pub(super) mod by_aggregate {
    use std::fmt;
    use std::marker::PhantomData;

    use aggregates::event::AggregateKey;
    use serde::de::{Error, MapAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Map;

    pub(in crate::audit::verify) fn serialize<S: Serializer, V: Serialize>(
        map: &Map<AggregateKey, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(key, value)| (key.to_string(), value)))
    }

    struct Entries<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
        type Value = Map<AggregateKey, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map by the names of aggregates")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = Map::default();
            while let Some((name, value)) = entries.next_entry::<String, V>()? {
                let (aggregate_type, id) =
                    name.split_once(' ').ok_or_else(|| A::Error::custom("a name of one word"))?;
                map.insert(AggregateKey::parse(aggregate_type, id).map_err(A::Error::custom)?, value);
            }
            Ok(map)
        }
    }

    pub(in crate::audit::verify) fn deserialize<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Map<AggregateKey, V>, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
