//! Units as people write them in rule files: `10m`, `1h30m`, `300ms`, `10%`.
//!
//! Durations follow Prometheus (`ms s m h d w`, largest first, a bare number is refused), because that is what the
//! audience of these files writes all day and because `5` alone has cost people an hour before.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A length of time in whole milliseconds, written as `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    milliseconds: u64,
}

/// Why a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: {problem}; write for example 30s, 5m or 1h30m")]
pub struct BadSpan {
    text: String,
    problem: &'static str,
}

const UNITS: [(&str, u64); 6] =
    [("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Ten years: longer is a typing error, and it keeps sums of spans far from overflow.
const LONGEST_MILLISECONDS: u64 = 3_660 * 86_400_000;

impl Span {
    /// From whole milliseconds.
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self { milliseconds }
    }
    /// From whole seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self { milliseconds: seconds * 1_000 }
    }
    /// From whole minutes.
    pub const fn from_minutes(minutes: u64) -> Self {
        Self::from_seconds(minutes * 60)
    }
    /// As whole milliseconds.
    pub const fn milliseconds(self) -> u64 {
        self.milliseconds
    }
    /// As seconds.
    pub fn seconds(self) -> f64 {
        self.milliseconds as f64 / 1_000.0
    }
    /// As the standard library's duration.
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.milliseconds)
    }
    /// From one time to a later one; zero if it is not later.
    pub fn between(earlier: jiff::Timestamp, later: jiff::Timestamp) -> Self {
        let milliseconds = later.as_millisecond().saturating_sub(earlier.as_millisecond());
        Self { milliseconds: u64::try_from(milliseconds).unwrap_or(0) }
    }
    /// The time this long after `time`, or the end of time.
    pub fn after(self, time: jiff::Timestamp) -> jiff::Timestamp {
        time.checked_add(self.duration()).unwrap_or(jiff::Timestamp::MAX)
    }
    /// The time this long before `time`, or the beginning of time.
    pub fn before(self, time: jiff::Timestamp) -> jiff::Timestamp {
        time.checked_sub(self.duration()).unwrap_or(jiff::Timestamp::MIN)
    }
    /// Reads `1h30m`; a bare number, a sign, a repeated or misordered unit and more than ten years are errors.
    pub fn parse(text: &str) -> Result<Self, BadSpan> {
        let bad = |problem| BadSpan { text: text.chars().take(40).collect(), problem };
        let mut rest = text;
        let mut total: u64 = 0;
        let mut next_unit = 0;
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: u64 = rest[..digits].parse().map_err(|_| bad("a number is missing"))?;
            rest = &rest[digits..];
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit = &rest[..letters];
            rest = &rest[letters..];
            if unit.is_empty() {
                return Err(bad("the unit is missing (ms, s, m, h, d or w)"));
            }
            let place = UNITS.iter().position(|(name, _)| *name == unit).ok_or(bad("the unit is unknown"))?;
            if place < next_unit {
                return Err(bad("units must go from the largest to the smallest, each once"));
            }
            next_unit = place + 1;
            total = number
                .checked_mul(UNITS[place].1)
                .and_then(|part| total.checked_add(part))
                .filter(|total| *total <= LONGEST_MILLISECONDS)
                .ok_or(bad("it is longer than ten years"))?;
        }
        Ok(Self { milliseconds: total })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milliseconds == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.milliseconds;
        for (unit, size) in UNITS {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with a unit, such as 30s, 5m or 1h30m")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A threshold as people write it: `10%` (a share), `300ms` (a time, in seconds), `50` (a plain number).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantity {
    /// The value: shares as a number from 0 to 1, times in seconds, plain numbers as they are.
    pub value: f64,
    /// How it was written, for showing it again.
    pub unit: Unit,
}

/// How a quantity was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `10%`
    Percent,
    /// `300ms`
    Time,
    /// `50`
    Plain,
}

impl Quantity {
    /// Reads `10%`, `300ms` or `50`. Errors: not finite, negative, unknown unit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.trim().parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Some(value),
            _ => None,
        };
        if let Some(percent) = text.strip_suffix('%') {
            let value = number(percent)
                .ok_or_else(|| format!("{text:?} is not a percentage; write for example 5%"))?;
            return Ok(Self { value: value / 100.0, unit: Unit::Percent });
        }
        if let Some(value) = number(text) {
            return Ok(Self { value, unit: Unit::Plain });
        }
        match Span::parse(text) {
            Ok(span) => Ok(Self { value: span.seconds(), unit: Unit::Time }),
            Err(_) => Err(format!("{text:?} is no quantity; write for example 5%, 300ms or 50")),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            // Rounded to a millionth of a percent, so that 7% is shown as it was written.
            Unit::Percent => write!(f, "{}%", (self.value * 1e8).round() / 1e6),
            Unit::Time => write!(f, "{}", Span::from_milliseconds((self.value * 1_000.0).round() as u64)),
            Unit::Plain => write!(f, "{}", self.value),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.unit {
            Unit::Plain => serializer.serialize_f64(self.value),
            Unit::Percent | Unit::Time => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 5%, 300ms or 50")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::parse(text).map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
                if !value.is_finite() || value < 0.0 {
                    return Err(E::custom("a quantity must be a finite number that is not negative"));
                }
                Ok(Quantity { value, unit: Unit::Plain })
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                self.visit_f64(value as f64)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                self.visit_f64(value as f64)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_show() {
        for (text, milliseconds) in
            [("30s", 30_000), ("1h30m", 5_400_000), ("250ms", 250), ("1d", 86_400_000), ("0s", 0)]
        {
            let span = Span::parse(text).unwrap();
            assert_eq!(span.milliseconds(), milliseconds);
            assert_eq!(span.to_string(), text);
        }
        for bad in
            ["", "5", "-5s", "5 m", "m", "5x", "1m1h", "1m1m", "99999999999999999999s", "100000d", "1.5h"]
        {
            assert!(Span::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn quantities_read_and_show() {
        for (text, value) in
            [("10%", 0.1), ("7%", 0.07), ("300ms", 0.3), ("50", 50.0), ("0.5", 0.5), ("2.5%", 0.025)]
        {
            let quantity = Quantity::parse(text).unwrap();
            assert!((quantity.value - value).abs() < 1e-12, "{text}");
            assert_eq!(quantity.to_string(), text);
        }
        for bad in ["", "NaN", "inf", "-1", "-5%", "10 percent", "%"] {
            assert!(Quantity::parse(bad).is_err(), "{bad:?}");
        }
    }
}
