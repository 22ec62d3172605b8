//! What is known about one proportion, at every moment: a confidence sequence, the closed-form Beta-mixture test it
//! comes from, and how many requests are still needed.
//!
//! A confidence sequence is an interval that covers the true proportion at ALL looks together with probability
//! `1 - alpha`. It is what severity is judged from (the bound, never the point) and what an inconclusive end is
//! reported with. It speaks of one fixed proportion over the whole count: for a proportion that moved, it covers no
//! particular moment.
//!
//! Source: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences"
//! (Annals of Statistics 2021), the beta-binomial mixture; J. Ville, "Etude critique de la notion de collectif" (1939).

use serde::{Deserialize, Serialize};

use super::error::{StatsError, counts, log_threshold, open_unit, within};
use super::numerics::{log_beta, log_beta_inc, log_beta_sf};

/// Both shapes of the mixture behind the confidence sequence: Jeffreys' prior, near-optimal at all sample sizes.
const JEFFREYS: f64 = 0.5;

/// `ln B(1/2, 1/2) = ln pi`.
const LOG_BETA_JEFFREYS: f64 = 1.144_729_885_849_400_2;

/// Halvings of a bisection; a bound above 1e-60 is found to its last bit well before this.
const BISECTIONS: u32 = 200;

/// The largest number of requests [`zero_error_requests`] looks at.
const MOST_REQUESTS: u64 = 1_000_000_000;

/// Evidence wanted beyond the threshold, nats: the mixture's price of not knowing the effect size in advance.
const MIXTURE_PRICE: f64 = 2.0;

/// A closed interval of proportions, `0 <= lower <= upper <= 1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
}

/// Which alternatives a closed-form Beta mixture puts its weight on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Null `p <= p0`: the prior is cut to `(p0, 1)`.
    Greater,
    /// Null `p >= p0`: the prior is cut to `(0, p0)`.
    Less,
    /// Null `p == p0`: the whole prior.
    Both,
}

/// The `1 - alpha` confidence sequence for a proportion after `bad` of `total` requests:
/// `{p : ln B(1/2 + x, 1/2 + n - x) - ln pi - x ln p - (n - x) ln(1 - p) < ln(1/alpha)}`, rounded outward.
/// No requests give \[0, 1\]: nothing is known.
///
/// # Errors
/// When `bad` is negative or above `total`, a number is not finite, or `alpha` is outside (0, 1).
pub fn bernoulli_confidence_sequence(bad: f64, total: f64, alpha: f64) -> Result<Interval, StatsError> {
    counts(bad, total)?;
    let threshold = log_threshold(alpha)?;
    if total == 0.0 {
        return Ok(Interval { lower: 0.0, upper: 1.0 });
    }
    let good = total - bad;
    let constant = log_beta(JEFFREYS + bad, JEFFREYS + good)? - LOG_BETA_JEFFREYS - threshold;
    // Convex in p with its minimum at bad/total, where it is negative: one root on either side.
    let excluded = |p: f64| constant - times_log(bad, p.ln()) - times_log(good, (-p).ln_1p()) > 0.0;
    let centre = bad / total;
    let lower = if bad == 0.0 { 0.0 } else { bisect(centre, 0.0, excluded) };
    let upper = if good == 0.0 { 1.0 } else { bisect(centre, 1.0, excluded) };
    Ok(Interval { lower, upper })
}

/// Log e-value, nats, of a Beta(a, b) mixture against `p0` after `bad` of `total` requests, in closed form:
/// `ln B(a + x, b + n - x) - ln B(a, b) - x ln p0 - (n - x) ln(1 - p0)`, plus the log ratio of the posterior and prior
/// mass on the alternatives when they are one-sided. Needs the anchored start; the kernel handles unknown starts.
///
/// # Errors
/// When a count, `p0` or a shape is out of range, or the incomplete beta function does not converge.
pub fn log_e_bernoulli(bad: f64, total: f64, p0: f64, a: f64, b: f64, side: Side) -> Result<f64, StatsError> {
    counts(bad, total)?;
    open_unit("the tested proportion p0", p0)?;
    let good = total - bad;
    let (after_a, after_b) = (a + bad, b + good);
    let ratio = log_beta(after_a, after_b)? - log_beta(a, b)? - bad * p0.ln() - good * (-p0).ln_1p();
    let mass = match side {
        Side::Both => 0.0,
        Side::Greater => log_beta_sf(after_a, after_b, p0)? - log_beta_sf(a, b, p0)?,
        Side::Less => log_beta_inc(after_a, after_b, p0)? - log_beta_inc(a, b, p0)?,
    };
    Ok(ratio + mass)
}

/// The fewest requests, all of them good, after which [`bernoulli_confidence_sequence`] at level `alpha` excludes
/// `target` and everything above: 851 for 1 % at alpha 0.01.
///
/// # Errors
/// When `target` or `alpha` is outside (0, 1), or more than a billion requests would be needed.
pub fn zero_error_requests(target: f64, alpha: f64) -> Result<u64, StatsError> {
    open_unit("the target proportion", target)?;
    let enough = |requests: u64| -> Result<bool, StatsError> {
        Ok(bernoulli_confidence_sequence(0.0, requests as f64, alpha)?.upper < target)
    };
    if !enough(MOST_REQUESTS)? {
        let expected = "a target that a billion requests can show";
        return Err(StatsError::OutOfRange { quantity: "the target proportion", value: target, expected });
    }
    let (mut low, mut high) = (1, MOST_REQUESTS);
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle)? { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}

/// About how many requests a sequential test of `null` needs when the truth is `truth`:
/// `(ln(1/alpha) + 2) / KL(truth || null)`, rounded up, where KL is the Bernoulli divergence in nats per request.
/// For a sentence like "needs about 240 more requests"; it is an estimate, not a bound.
///
/// # Errors
/// When `null` or `alpha` is outside (0, 1), `truth` is outside \[0, 1\], or the two proportions are equal, which no
/// number of requests tells apart.
pub fn requests_needed(truth: f64, null: f64, alpha: f64) -> Result<u64, StatsError> {
    open_unit("the proportion in the null hypothesis", null)?;
    within("the true proportion", truth, (0.0..=1.0).contains(&truth), "a number from 0 to 1")?;
    let threshold = log_threshold(alpha)?;
    let divergence =
        times_log(truth, (truth / null).ln()) + times_log(1.0 - truth, ((1.0 - truth) / (1.0 - null)).ln());
    if divergence <= 0.0 {
        let expected = "a proportion clearly different from the one in the null hypothesis";
        return Err(StatsError::OutOfRange { quantity: "the true proportion", value: truth, expected });
    }
    // `as` saturates: a divergence near zero reads as "more requests than can be counted".
    Ok(((threshold + MIXTURE_PRICE) / divergence).ceil() as u64)
}

/// `count * log` with `0 * -inf = 0`.
fn times_log(count: f64, log: f64) -> f64 {
    if count == 0.0 { 0.0 } else { count * log }
}

/// The excluded side of the root between `inside` (not excluded) and `outside`; `outside` itself if nothing is.
fn bisect(mut inside: f64, mut outside: f64, excluded: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (inside + outside);
        if middle == inside || middle == outside {
            break;
        }
        if excluded(middle) { outside = middle } else { inside = middle }
    }
    outside
}
