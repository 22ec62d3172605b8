//! The statistics against vectors computed elsewhere, and laws that they must obey. Relative error at most 1e-9 unless a
//! vector says otherwise.

#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

#[path = "vectors/gauge.rs"]
mod gauge;
#[path = "vectors/latency.rs"]
mod latency;
#[path = "vectors/proportion.rs"]
mod proportion;
#[path = "vectors/ratio.rs"]
mod ratio;

use serde_json::Value;

/// Below this a value is zero for our purposes: a log e-value near 0 is a difference of numbers near 1.
const ABSOLUTE_FLOOR: f64 = 1e-13;

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The members of a list that must not be empty.
#[track_caller]
fn list(value: &Value) -> &[Value] {
    let list = value.as_array().unwrap_or_else(|| panic!("{value} is no list"));
    assert!(!list.is_empty(), "the vectors hold nothing here");
    list
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[track_caller]
fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(number).collect()
}

#[track_caller]
fn close(found: f64, expected: f64, what: impl std::fmt::Debug) {
    let allowed = (1e-9 * expected.abs()).max(ABSOLUTE_FLOOR);
    assert!((found - expected).abs() <= allowed, "{what:?}: found {found:e}, expected {expected:e}");
}
