//! For `#[serde(with = "exact_option")]` on an `Option<f64>`: a decimal string that reads back to the same bits, or null.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::stats::exact::Exact;

pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(Exact).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Option::<Exact>::deserialize(deserializer)?.map(|exact| exact.0))
}
