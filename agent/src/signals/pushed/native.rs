//! Native histograms as they are sent: a schema, spans of buckets and counts. Here they become buckets with bounds, as a
//! query answers them, so that `rules` reads both the same.
//!
//! The bounds are powers of two to fractions of an exponent; `rules` takes bounds that differ in the last bits for the
//! same.

use super::limits::MOST_BUCKETS;
use super::wire::{Field, Fields, Malformed, doubles, unzigzag, varints};
use jiff::Timestamp;
use rules::series::{HistogramSample, NativeBucket};
use std::collections::BTreeMap;

/// The resolutions that are of the exponential kind: 2^(2^-schema) from bound to bound.
const SCHEMAS: std::ops::RangeInclusive<i64> = -4..=8;

/// One side of a histogram: which buckets hold how many.
#[derive(Debug, Default)]
struct Side {
    /// Distance from the end of the one before (of the first: from 0), and length.
    spans: Vec<(i64, u64)>,
    /// Counts as differences to the bucket before …
    deltas: Vec<i64>,
    /// … or as they are.
    counts: Vec<f64>,
}

impl Side {
    /// Index → count of the buckets that hold something.
    fn buckets(&self) -> Result<BTreeMap<i64, f64>, String> {
        let length: u64 = self.spans.iter().fold(0, |sum, (_, length)| sum.saturating_add(*length));
        if length > MOST_BUCKETS as u64 {
            return Err(too_many());
        }
        let mut before = 0_i64;
        let deltas = self.deltas.iter().map(|delta| {
            before = before.saturating_add(*delta);
            before as f64
        });
        let counts: Vec<f64> = if self.counts.is_empty() { deltas.collect() } else { self.counts.clone() };
        if counts.len() as u64 != length {
            return Err(format!("it has {} counts for {length} buckets", counts.len()));
        }
        let mut index = 0_i64;
        let places = self.spans.iter().flat_map(|(offset, length)| {
            let first = index.saturating_add(*offset);
            index = first.saturating_add(length.cast_signed());
            first..index
        });
        Ok(places.zip(counts).filter(|(_, count)| *count != 0.0).collect())
    }
}

fn too_many() -> String {
    format!("it has more than {MOST_BUCKETS} buckets; lower its resolution where it is made")
}

/// What stands in a message `Histogram` of remote write, and when what it counts began.
pub(super) struct Sent {
    pub at: i64,
    pub start: i64,
    pub histogram: Result<HistogramSample, String>,
}

/// Reads a message `Histogram` of remote write 1.0 or 2.0.
pub(super) fn read(message: &[u8]) -> Result<Sent, Malformed> {
    let (mut at, mut start, mut schema) = (0_i64, 0_i64, 0_i64);
    let (mut count, mut sum, mut threshold, mut zeros) = (0.0, 0.0, 0.0, 0.0);
    let (mut negative, mut positive) = (Side::default(), Side::default());
    for field in Fields::of(message) {
        let (number, field) = field?;
        match number {
            1 => count = field.varint(1)? as f64,
            2 => count = field.double(2)?,
            3 => sum = field.double(3)?,
            4 => schema = field.zigzag(4)?,
            5 => threshold = field.double(5)?,
            6 => zeros = field.varint(6)? as f64,
            7 => zeros = field.double(7)?,
            8 => span(&mut negative, field.bytes(8)?)?,
            9 => deltas(&mut negative, field, 9)?,
            10 => counts(&mut negative, field, 10)?,
            11 => span(&mut positive, field.bytes(11)?)?,
            12 => deltas(&mut positive, field, 12)?,
            13 => counts(&mut positive, field, 13)?,
            15 => at = field.signed(15)?,
            17 => start = field.signed(17)?,
            _ => {}
        }
    }
    let histogram = time(at).and_then(|at| {
        let stale = HistogramSample::stale(at);
        if sum.to_bits() == stale.sum.to_bits() {
            return Ok(stale);
        }
        let buckets = bounded(schema, threshold, zeros, &negative.buckets()?, &positive.buckets()?)?;
        Ok(HistogramSample { at, count, sum, buckets })
    });
    Ok(Sent { at, start, histogram })
}

/// The time of milliseconds since 1970.
pub(super) fn time(milliseconds: i64) -> Result<Timestamp, String> {
    Timestamp::from_millisecond(milliseconds).map_err(|_| format!("{milliseconds} ms since 1970 is no time"))
}

fn span(side: &mut Side, message: &[u8]) -> Result<(), Malformed> {
    let (mut offset, mut length) = (0, 0);
    for field in Fields::of(message) {
        match field? {
            (1, field) => offset = field.zigzag(1)?,
            (2, field) => length = field.varint(2)?,
            _ => {}
        }
    }
    keep(&mut side.spans, (offset, length));
    Ok(())
}

fn deltas(side: &mut Side, field: Field<'_>, number: u32) -> Result<(), Malformed> {
    for delta in varints(field, number)? {
        keep(&mut side.deltas, unzigzag(delta?));
    }
    Ok(())
}

fn counts(side: &mut Side, field: Field<'_>, number: u32) -> Result<(), Malformed> {
    doubles(field, number)?.for_each(|count| keep(&mut side.counts, count));
    Ok(())
}

/// One more than may be is kept, so that it is seen that there are too many.
fn keep<T>(list: &mut Vec<T>, one: T) {
    if list.len() <= MOST_BUCKETS {
        list.push(one);
    }
}

/// The buckets of an exponential histogram with bounds, ascending.
pub(super) fn bounded(
    schema: i64,
    threshold: f64,
    zeros: f64,
    negative: &BTreeMap<i64, f64>,
    positive: &BTreeMap<i64, f64>,
) -> Result<Vec<NativeBucket>, String> {
    if !SCHEMAS.contains(&schema) {
        return Err(format!(
            "its schema is {schema}; histograms with bounds of their own are read from their classic series, which end \
             in _bucket"
        ));
    }
    if negative.len() + positive.len() >= MOST_BUCKETS {
        return Err(too_many());
    }
    let bound = |index: i64| ((index as f64) * (-schema as f64).exp2()).exp2();
    // What lies within the zero bucket belongs to it.
    let side = |(index, count): (&i64, &f64)| {
        let (lower, upper) = (bound(index.saturating_sub(1)).max(threshold), bound(*index));
        NativeBucket { lower, upper, count: *count }
    };
    let below = negative.iter().rev().map(side);
    let below = below.map(|bucket| NativeBucket { lower: -bucket.upper, upper: -bucket.lower, ..bucket });
    let zero = (zeros != 0.0).then_some(NativeBucket { lower: -threshold, upper: threshold, count: zeros });
    Ok(below.chain(zero).chain(positive.iter().map(side)).collect())
}
