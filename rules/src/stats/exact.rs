//! How the state of a running test is written down: every `f64` as the shortest decimal string that reads back to the
//! same bits.
//!
//! A JSON number would not do. JSON has no `-inf`, which is what an untouched running sum holds, and `serde_json`
//! without its `float_roundtrip` feature may read a number back one bit off. A restarted agent must continue the very
//! same test, so state goes through Rust's own formatter and parser, which are exact in both directions.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// For `#[serde(with = "exact")]` on an `f64`.
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:?}"))
}

/// For `#[serde(with = "exact")]` on an `f64`. NaN is refused: it is never a valid state.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let value: f64 = text.parse().map_err(|_| {
        D::Error::custom(format!("{text:?} is not a number: expected one written as a string, like \"0.25\""))
    })?;
    if value.is_nan() {
        return Err(D::Error::custom("NaN is not a valid state: expected a number or an infinity"));
    }
    Ok(value)
}

/// One `f64` inside a list.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Exact(#[serde(with = "super::exact")] pub(crate) f64);
