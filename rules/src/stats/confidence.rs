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

/// How far a bound may lie beyond the root, as a share of itself: a thousandth of what the published vectors are asked for.
const OUTWARD: f64 = 1e-12;

/// Newton steps after which the search is left to bisection. Five or six are usual.
const NEWTON_STEPS: u32 = 20;

/// A step this short leaves an error of its square.
const SHORT_STEP: f64 = 1e-8;

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
/// `{p : ln B(1/2 + x, 1/2 + n - x) - ln pi - x ln p - (n - x) ln(1 - p) < ln(1/alpha)}`, rounded outward by 1e-12 of
/// itself. No requests give \[0, 1\]: nothing is known.
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
    let lower = match (bad, good) {
        (0.0, _) => 0.0,
        (_, 0.0) => bound((constant / bad).exp(), centre, 0.0, excluded),
        _ => bound(newton(bad, good, constant, -1.0), centre, 0.0, excluded),
    };
    let upper = match (bad, good) {
        (_, 0.0) => 1.0,
        (0.0, _) => bound(-(constant / good).exp_m1(), centre, 1.0, excluded),
        _ => bound(newton(bad, good, constant, 1.0), centre, 1.0, excluded),
    };
    Ok(Interval { lower, upper })
}

/// Where `constant - bad ln p - good ln(1 - p)` is zero, on the side of its minimum that `side` names (1 above, -1 below).
/// A guess: whoever uses it looks whether it is right. By Newton's method over the log odds `t`, in which it reads
/// `constant - bad t + (bad + good) ln(1 + e^t)`: convex and smooth on the whole line, so that a step never leaves it.
fn newton(bad: f64, good: f64, constant: f64, side: f64) -> f64 {
    let total = bad + good;
    let centre = (bad / good).ln();
    let depth = bad * centre - total * centre.exp().ln_1p() - constant;
    // As if it were a parabola.
    let mut log_odds = centre + side * (2.0 * depth * total / (bad * good)).sqrt();
    for _ in 0..NEWTON_STEPS {
        let odds = log_odds.exp();
        let value = constant - bad * log_odds + total * odds.ln_1p();
        let step = value / (total * odds / (1.0 + odds) - bad);
        log_odds -= step;
        if step.abs() < SHORT_STEP {
            break;
        }
    }
    let odds = log_odds.exp();
    odds / (1.0 + odds)
}

/// The excluded side of the root between `inside` and `outside`: a hair beyond `guess` if the root is shown to be there.
fn bound(guess: f64, inside: f64, outside: f64, excluded: impl Fn(f64) -> bool) -> f64 {
    let hair = guess * OUTWARD * (outside - inside).signum();
    let (inner, outer) = (guess - hair, guess + hair);
    if outer < 1.0 && excluded(outer) && !excluded(inner) { outer } else { bisect(inside, outside, excluded) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_search_finds_what_bisection_finds() {
        for total in [1.0, 1.7, 3.0, 40.0, 500.0, 166.7, 6e4, 1e7, 1e10] {
            for share in [0.0, 1e-9, 1e-4, 0.01, 0.3, 0.5, 0.9, 0.999_9, 1.0] {
                for alpha in [1e-9, 0.005, 0.2] {
                    let bad: f64 = share * total;
                    let good = total - bad;
                    let found = bernoulli_confidence_sequence(bad, total, alpha).unwrap();
                    let constant = log_beta(JEFFREYS + bad, JEFFREYS + good).unwrap()
                        - LOG_BETA_JEFFREYS
                        - log_threshold(alpha).unwrap();
                    let excluded =
                        |p: f64| constant - times_log(bad, p.ln()) - times_log(good, (-p).ln_1p()) > 0.0;
                    let lower = if bad == 0.0 { 0.0 } else { bisect(bad / total, 0.0, excluded) };
                    let upper = if good == 0.0 { 1.0 } else { bisect(bad / total, 1.0, excluded) };
                    let what = format!("{bad} of {total} at {alpha}: {found:?}, {lower} to {upper}");
                    // Two hundred halvings do not reach below 1e-60; the quick search does.
                    assert!((found.lower - lower).abs() <= 3.0 * OUTWARD * lower + 1e-60, "{what}");
                    assert!((found.upper - upper).abs() <= 3.0 * OUTWARD * upper, "{what}");
                    assert!(found.lower == 0.0 || excluded(found.lower), "{what}");
                    assert!(found.upper == 1.0 || excluded(found.upper), "{what}");
                }
            }
        }
    }
}
