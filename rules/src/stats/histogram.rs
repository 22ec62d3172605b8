//! Latency as counts: what a histogram proves about "slower than", and where its buckets cannot tell.
//!
//! Bucket `i` covers `(bounds[i-1], bounds[i]]`, as Prometheus' `le` does; the first begins at 0, the last has no end.
//! A request in a bucket is somewhere in it, so every question has two answers, "definitely" and "possibly", and the
//! tests take the one that speaks against an alarm: canary definitely slower, control possibly slower. Nothing is ever
//! interpolated inside a bucket. A p95 that moved within its bucket did not move here, and the code says so
//! ([`Histogram::ratio_edges`]) instead of inventing a position.
//!
//! The quantile interval inverts one-sided tests at the edges: an edge lies below the quantile when "F(edge) >= q" is
//! rejected, above it when "F(edge) <= q" is. A false rejection at any edge implies one at the quantile itself, so one
//! error budget covers all edges and, the tests being e-processes, all looks.
//!
//! Source: Howard and Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
//! identification" (Bernoulli 2022), here with Beta mixtures at bucket resolution.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::confidence::{Side, log_e_bernoulli};
use super::error::{MOST_REQUESTS, StatsError, log_threshold, open_unit, within};
use super::exponential::ExponentialHistogram;

/// Most edges of one histogram. Client libraries ship 11, native histograms hold some hundreds; the limit bounds what
/// a hostile endpoint makes us look at.
const MOST_EDGES: usize = 4_096;

/// Weight of the Beta prior behind a quantile interval: as if 25 requests had been seen, `25 q` below the quantile.
const PRIOR_REQUESTS: f64 = 25.0;

/// How close two edges are for "the same edge": `3 * 0.1` must find the edge written as 0.3.
const SAME_EDGE: f64 = 1e-9;

/// Counts per bucket, borrowed or owned. Values are zero or more, in the unit of the edges (seconds for latency).
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram<'a> {
    bounds: Cow<'a, [f64]>,
    counts: Cow<'a, [f64]>,
    total: f64,
}

/// An interval that may have no upper end: `lower <= x`, and `x <= upper` where one is known. Never holds an infinity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenInterval {
    /// Lower bound, zero or more; 0 says nothing.
    pub lower: f64,
    /// Upper bound; `None` when it lies beyond the last edge or nothing bounds it.
    pub upper: Option<f64>,
}

/// The pair of edges at which a ratio question is put: canary above `canary` against control above `control`. Both are
/// edges, so "definitely" and "possibly" agree there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatioEdges {
    /// The smallest edge at or above the wanted threshold, in the unit of the edges.
    pub control: f64,
    /// The smallest edge at or above `control` times the wanted factor.
    pub canary: f64,
    /// `canary / control`, at least the wanted factor: the ratio that evidence at these edges proves.
    pub factor: f64,
    /// Whether this is another question than the one asked, because the buckets are too wide for that one.
    pub resolution_limited: bool,
}

impl<'a> Histogram<'a> {
    /// A histogram with the finite upper edges `bounds`, strictly ascending and positive (0 is allowed first), and
    /// `counts`, one more: how many values in each bucket, NOT cumulative, the one without end last. Counts need not be
    /// whole: divided by a cluster size they are not.
    ///
    /// # Errors
    /// When the lengths do not fit, there are more than 4 096 edges, an edge is not finite, negative or out of order,
    /// or a count is negative, not finite or sums to more than 1e15.
    pub fn new(
        bounds: impl Into<Cow<'a, [f64]>>,
        counts: impl Into<Cow<'a, [f64]>>,
    ) -> Result<Self, StatsError> {
        let (bounds, counts) = (bounds.into(), counts.into());
        if bounds.len() > MOST_EDGES {
            let quantity = "the list of bucket edges";
            return Err(StatsError::Length { quantity, expected: MOST_EDGES, found: bounds.len() });
        }
        if counts.len() != bounds.len() + 1 {
            let quantity = "the list of bucket counts (one per edge and one above the last)";
            return Err(StatsError::Length { quantity, expected: bounds.len() + 1, found: counts.len() });
        }
        let mut last = -1.0;
        for &edge in bounds.iter() {
            within("a bucket edge", edge, edge >= 0.0, "zero or more")?;
            within("a bucket edge", edge, edge > last, "a number above the edge before it")?;
            last = edge;
        }
        for &count in counts.iter() {
            within("a bucket count", count, count >= 0.0, "zero or more")?;
        }
        let total = counts.iter().sum();
        within("the sum of the bucket counts", total, total <= MOST_REQUESTS, "at most 1e15")?;
        Ok(Self { bounds, counts, total })
    }

    /// Raw samples in buckets that grow by `2^(2^-schema)`, see [`ExponentialHistogram`]. `schema` 3 gives 9 % steps.
    ///
    /// # Errors
    /// When `schema` is outside -4..=8, or a sample is negative, not finite or above 2^50.
    pub fn of_samples(values: &[f64], schema: i8) -> Result<Histogram<'static>, StatsError> {
        let mut histogram = ExponentialHistogram::new(schema)?;
        for &value in values {
            histogram.observe(value)?;
        }
        histogram.to_histogram()
    }

    /// The finite upper edges, ascending.
    #[must_use]
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// Values per bucket, one entry more than there are edges.
    #[must_use]
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// How many values there are.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.total
    }

    /// How many values are above `tau`, as `(definitely, possibly)`: the buckets that begin at or above `tau`, and the
    /// buckets that end above it. Equal when `tau` is an edge. The first bucket is never "definitely".
    /// Nothing is known about a `tau` that is not finite: `(0, total)`.
    #[must_use]
    pub fn exceed(&self, tau: f64) -> (f64, f64) {
        if !tau.is_finite() {
            return (0.0, self.total);
        }
        let begins = self.bounds.partition_point(|&edge| edge < tau) + 1;
        let ends = self.bounds.partition_point(|&edge| edge <= tau);
        let sum = |from: usize| self.counts.iter().skip(from).sum();
        (sum(begins), sum(ends))
    }

    /// The time-uniform `1 - alpha` interval of the `q`-quantile at bucket resolution: `lower` is the largest edge `e`
    /// at which "F(e) >= q" is rejected at `alpha/2`, `upper` the smallest at which "F(e) <= q" is. The tests are
    /// Beta(25 q, 25 (1 - q)) mixtures. No values give `0..`. Covers one fixed distribution over the whole count, of
    /// independent values: divide counts that come in clusters by the cluster size first.
    ///
    /// # Errors
    /// When `q` or `alpha` is not strictly between 0 and 1, or the counts are beyond the incomplete beta function.
    pub fn quantile_interval(&self, q: f64, alpha: f64) -> Result<OpenInterval, StatsError> {
        open_unit("the level of the quantile", q)?;
        open_unit("the error probability alpha", alpha)?;
        let threshold = log_threshold(alpha / 2.0)?;
        let mut below = 0.0;
        let cumulative: Vec<f64> = self
            .counts
            .iter()
            .take(self.bounds.len())
            .map(|count| {
                below += count;
                // The last partial sum may round to just above the total.
                below.min(self.total)
            })
            .collect();
        let rejects = |below: f64, side: Side| -> Result<bool, StatsError> {
            let (a, b) = (PRIOR_REQUESTS * q, PRIOR_REQUESTS * (1.0 - q));
            Ok(log_e_bernoulli(below, self.total, q, a, b, side)? >= threshold)
        };
        // Evidence against "F(e) >= q" only falls from edge to edge, evidence against "F(e) <= q" only grows.
        let too_low = first_that(&cumulative, |below| Ok(!rejects(below, Side::Less)?))?;
        let too_high = first_that(&cumulative, |below| rejects(below, Side::Greater))?;
        let lower = too_low.checked_sub(1).map_or(0.0, |edge| self.bounds[edge]);
        Ok(OpenInterval { lower, upper: self.bounds.get(too_high).copied() })
    }

    /// Where the question "more than `factor` times as slow, around `tau`" can be put to these buckets: the smallest
    /// edge at or above `tau`, and the smallest edge at or above `factor` times that edge. A bucket from 0.25 to 0.5
    /// proves no ratio below 2, and then says so in [`RatioEdges::resolution_limited`]. `None` when no pair of edges is
    /// left: everything interesting lies beyond the last one. `factor` 1 asks for the same edge in both arms.
    ///
    /// # Errors
    /// When `tau` is not positive and finite or `factor` is below 1 or not finite.
    pub fn ratio_edges(&self, tau: f64, factor: f64) -> Result<Option<RatioEdges>, StatsError> {
        within("the latency threshold", tau, tau > 0.0, "a positive number")?;
        within("the factor of a latency ratio", factor, factor >= 1.0, "1 or more")?;
        let at_or_above = |wanted: f64| {
            let same = wanted * (1.0 - SAME_EDGE);
            self.bounds.get(self.bounds.partition_point(|&edge| edge < same)).copied()
        };
        let Some(control) = at_or_above(tau) else { return Ok(None) };
        let Some(canary) = at_or_above(control * factor) else { return Ok(None) };
        let moved = |edge: f64, wanted: f64| edge > wanted * (1.0 + SAME_EDGE);
        let resolution_limited = moved(control, tau) || moved(canary, control * factor);
        Ok(Some(RatioEdges { control, canary, factor: canary / control, resolution_limited }))
    }
}

/// The time-uniform `1 - alpha` interval of the ratio of two `q`-quantiles, canary over control (dimensionless):
/// `[L_canary / U_control, U_canary / L_control]` with `alpha/2` for each arm. An end that an open interval leaves
/// unknown is 0 below and `None` above.
///
/// # Errors
/// As [`Histogram::quantile_interval`].
pub fn quantile_ratio_interval(
    canary: &Histogram<'_>,
    control: &Histogram<'_>,
    q: f64,
    alpha: f64,
) -> Result<OpenInterval, StatsError> {
    let canary = canary.quantile_interval(q, alpha / 2.0)?;
    let control = control.quantile_interval(q, alpha / 2.0)?;
    let lower = match control.upper {
        Some(upper) if upper > 0.0 => canary.lower / upper,
        _ => 0.0,
    };
    let upper = canary.upper.filter(|_| control.lower > 0.0).map(|upper| upper / control.lower);
    Ok(OpenInterval { lower, upper })
}

/// The first position whose entry holds, for a predicate that once true stays true; the length when none does.
fn first_that(values: &[f64], holds: impl Fn(f64) -> Result<bool, StatsError>) -> Result<usize, StatsError> {
    let (mut low, mut high) = (0, values.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(values[middle])? { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}
