//! Raw samples in exponential buckets, so that a list of durations is judged like a native histogram.
//!
//! Schema `s` has edges `2^(i 2^-s)`: bucket `i` covers `(edge(i-1), edge(i)]`. The edges of a schema are every second
//! edge of the next finer one, so histograms of different resolution are brought to the coarser one WITHOUT loss of
//! truth: two neighbours become one. That direction is the only one, and it is the one taken before two histograms are
//! added or compared. The same happens by itself when samples spread over more buckets than one histogram may hold.
//!
//! Source: Prometheus' native histograms (schemas -4 to 8, zero bucket) and the exponential histogram of OpenTelemetry
//! (160 buckets, perfect subsetting).

use std::collections::BTreeMap;

use super::error::{StatsError, counts, within};
use super::histogram::Histogram;

/// Values up to here are one bucket, the zero bucket: a quarter of a nanosecond in seconds. `2^-32` is an edge of every
/// schema, so no bucket of any resolution straddles it.
pub const ZERO_THRESHOLD: f64 = 1.0 / 4_294_967_296.0;

/// Largest sample, `2^50`: far beyond any duration in any unit, and far from where edges overflow.
const LARGEST_SAMPLE: f64 = 1_125_899_906_842_624.0;

/// Coarsest schema: edges grow by 65 536.
const COARSEST: i8 = -4;

/// Finest schema: edges grow by 0.27 %.
const FINEST: i8 = 8;

/// Most populated buckets: OpenTelemetry's default. At 9 % steps it spans a microsecond to a second and more.
const MOST_BUCKETS: usize = 160;

/// Counts in exponential buckets, only the populated ones stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ExponentialHistogram {
    schema: i8,
    zero: f64,
    buckets: BTreeMap<i32, f64>,
}

impl ExponentialHistogram {
    /// An empty histogram whose edges grow by `2^(2^-schema)`.
    ///
    /// # Errors
    /// When `schema` is outside -4..=8.
    pub fn new(schema: i8) -> Result<Self, StatsError> {
        let known = (COARSEST..=FINEST).contains(&schema);
        within(
            "the schema of an exponential histogram",
            schema.into(),
            known,
            "a whole number from -4 to 8",
        )?;
        Ok(Self { schema, zero: 0.0, buckets: BTreeMap::new() })
    }

    /// Takes in one sample. When it would need a 161st bucket the schema drops until 160 are enough.
    ///
    /// # Errors
    /// When the value is negative, not finite or above `2^50`. The histogram is unchanged.
    pub fn observe(&mut self, value: f64) -> Result<(), StatsError> {
        let sane = (0.0..=LARGEST_SAMPLE).contains(&value);
        within("a sample of a histogram", value, sane, "a number from 0 to 2^50")?;
        if value <= ZERO_THRESHOLD {
            self.zero += 1.0;
        } else {
            *self.buckets.entry(index(self.schema, value)).or_insert(0.0) += 1.0;
        }
        self.fit();
        Ok(())
    }

    /// Adds the counts of `other`, at the coarser of the two schemas.
    ///
    /// # Errors
    /// When the counts would sum to more than 1e15. The histogram is unchanged.
    pub fn add(&mut self, other: &Self) -> Result<(), StatsError> {
        counts(0.0, self.total() + other.total())?;
        let mut other = other.clone();
        while self.schema > other.schema {
            self.halve();
        }
        while other.schema > self.schema {
            other.halve();
        }
        self.zero += other.zero;
        for (index, count) in other.buckets {
            *self.buckets.entry(index).or_insert(0.0) += count;
        }
        self.fit();
        Ok(())
    }

    /// Brings the histogram to a coarser schema: `2^(schema difference)` neighbours become one bucket.
    ///
    /// # Errors
    /// When `schema` is finer than the current one, which no merge can give back, or below -4. The histogram is
    /// unchanged.
    pub fn merge_down(&mut self, schema: i8) -> Result<(), StatsError> {
        let expected = "from -4 to the schema the histogram has: buckets can be merged, never split";
        let coarser = (COARSEST..=self.schema).contains(&schema);
        within("the schema to merge down to", schema.into(), coarser, expected)?;
        while self.schema > schema {
            self.halve();
        }
        Ok(())
    }

    /// The current resolution: edges grow by `2^(2^-schema)`.
    #[must_use]
    pub fn schema(&self) -> i8 {
        self.schema
    }

    /// How many values there are.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.zero + self.buckets.values().sum::<f64>()
    }

    /// The same counts with explicit edges. Only the edges next to populated buckets are written: an empty stretch is
    /// one empty bucket, which answers every question as its many parts would.
    ///
    /// # Errors
    /// Those of [`Histogram::new`], passed on; what [`Self::observe`] and [`Self::add`] let in does not cause any.
    pub fn to_histogram(&self) -> Result<Histogram<'static>, StatsError> {
        let (mut bounds, mut counts) = (vec![ZERO_THRESHOLD], vec![self.zero]);
        let mut last = ZERO_THRESHOLD;
        for (&index, &count) in &self.buckets {
            let (lower, upper) = (edge(self.schema, index - 1), edge(self.schema, index));
            if lower > last {
                bounds.push(lower);
                counts.push(0.0);
            }
            bounds.push(upper);
            counts.push(count);
            last = upper;
        }
        counts.push(0.0);
        Histogram::new(bounds, counts)
    }

    /// One schema coarser: buckets `2j - 1` and `2j` become `j`.
    fn halve(&mut self) {
        let mut merged = BTreeMap::new();
        for (&index, &count) in &self.buckets {
            *merged.entry((index + 1).div_euclid(2)).or_insert(0.0) += count;
        }
        self.buckets = merged;
        self.schema -= 1;
    }

    fn fit(&mut self) {
        // The coarsest schema has six buckets in the allowed range, so this ends.
        while self.buckets.len() > MOST_BUCKETS {
            self.halve();
        }
    }
}

/// `2^(index 2^-schema)`. The exponent is exact, so equal edges of different schemas are equal to the last bit.
fn edge(schema: i8, index: i32) -> f64 {
    let exponent = f64::from(index) * 2.0_f64.powi(-i32::from(schema));
    // A whole power of two by itself, so that it is exact whatever the platform's exp2 does.
    let whole = exponent.floor();
    (exponent - whole).exp2() * 2.0_f64.powi(whole as i32)
}

/// The bucket of a value above the zero threshold: the logarithm's guess, put right against the edges themselves.
fn index(schema: i8, value: f64) -> i32 {
    let mut index = (value.log2() * 2.0_f64.powi(schema.into())).ceil() as i32;
    while edge(schema, index) < value {
        index += 1;
    }
    while edge(schema, index - 1) >= value {
        index -= 1;
    }
    index
}
