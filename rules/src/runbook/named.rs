//! How a service names its runbook: a name, or a name with the values of its parameters.

use super::RunbookUse;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// The long form.
#[derive(Deserialize)]
#[serde(rename = "RunbookUse", deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    with: BTreeMap<String, Value>,
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = RunbookUse;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a runbook, or a map with `name` and `with`")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<RunbookUse, E> {
        Ok(RunbookUse { name: name.to_owned(), with: BTreeMap::new() })
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<RunbookUse, M::Error> {
        let Written { name, with } = Written::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RunbookUse { name, with })
    }
}

impl<'de> Deserialize<'de> for RunbookUse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

impl Serialize for RunbookUse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.with.is_empty() {
            return serializer.serialize_str(&self.name);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("with", &self.with)?;
        map.end()
    }
}
