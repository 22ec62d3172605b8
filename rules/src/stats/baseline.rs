//! What the old release's history says about its proportion of bad requests, as bounds to test the new one against.
//!
//! Traffic has good and bad ten minutes: counts from separate windows scatter more than independent requests would. The
//! bounds therefore come from a beta-binomial model. The scatter BETWEEN windows gives an intra-class correlation, which
//! shrinks the history to an effective number of requests; the upper bound is a prediction bound for the NEXT window,
//! not merely a bound of the mean. The mean uses a Beta(0.5, 50) prior, so that an error-free history does not become
//! the claim that errors are impossible.
//!
//! What this cannot know: whether the next hour is like the history. A campaign, an incident at a dependency or the
//! morning rush breaks a before/after comparison, and only a concurrent control repairs it. Prefer windows of the same
//! hour of the week, ten minutes each, at least twelve of them.
//!
//! The prior enters the mean and again its distribution, so a SHORT history of a service that fails often is pulled down
//! towards 1 %: 50 bad of 100 requests give an upper bound of 32 %. From [`FEWEST_BASELINE_REQUESTS`] on, the usual
//! margin of 1.25 covers the pull; below it, leave before/after alone.
//!
//! Source: the moment (ANOVA) estimator of the intra-class correlation of the beta-binomial model; design effect after
//! L. Kish, "Survey Sampling".

use serde::{Deserialize, Serialize};

use super::error::{StatsError, counts, open_unit};
use super::numerics::beta_quantile;

/// Requests from which a steady history's `1.25 * upper` is not below the proportion it showed, for `delta` to 0.05.
pub const FEWEST_BASELINE_REQUESTS: f64 = 1_000.0;

/// Prior shapes of the mean: worth half a bad and fifty good requests, mean 1 %.
const PRIOR_BAD: f64 = 0.5;
const PRIOR_GOOD: f64 = 50.0;

/// With fewer windows their scatter says nothing, and the correlation is taken as 0.
const FEWEST_WINDOWS_FOR_CORRELATION: usize = 3;

/// Above this the windows have nothing in common and a larger estimate is noise.
const MOST_CORRELATION: f64 = 0.5;

/// One window of the old release's history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineWindow {
    /// Bad requests in the window.
    pub bad: f64,
    /// All requests in the window.
    pub total: f64,
}

/// The history in numbers. Proportions are between 0 and 1, counts are requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Posterior mean of the proportion.
    pub mean: f64,
    /// Windows that had requests.
    pub windows: usize,
    /// Requests in them.
    pub requests: f64,
    /// Bad requests in them.
    pub bad: f64,
    /// How much alike two requests of one window are, 0 (independent) to 0.5.
    pub intra_class_correlation: f64,
    /// By how much the correlation inflates the variance of the mean, at least 1.
    pub design_effect: f64,
    /// `requests / design_effect`: the independent requests the history is worth.
    pub effective_requests: f64,
    /// Upper prediction bound for the proportion of the next window: the `1 - delta/2` quantile of the window's Beta
    /// around the `1 - delta/2` quantile of the mean.
    pub upper: f64,
    /// Lower credible bound of the mean, its `delta/2` quantile. For comparisons that must not credit the old release
    /// with more errors than it had.
    pub lower: f64,
}

/// Fits the beta-binomial baseline; windows without requests say nothing and are left out. `delta`, between 0 and 1, is
/// the probability that a window like these exceeds `upper`; it adds to the alpha of the test that uses it.
///
/// # Errors
/// When no window has requests, a count is not finite, `bad` is negative or above `total`, or `delta` is outside (0, 1).
pub fn beta_binomial_baseline(windows: &[BaselineWindow], delta: f64) -> Result<Baseline, StatsError> {
    open_unit("the miss probability delta of the baseline", delta)?;
    for window in windows {
        counts(window.bad, window.total)?;
    }
    let used: Vec<BaselineWindow> = windows.iter().copied().filter(|window| window.total > 0.0).collect();
    if used.is_empty() {
        return Err(StatsError::Empty { quantity: "requests in any baseline window" });
    }
    let requests: f64 = used.iter().map(|window| window.total).sum();
    let bad: f64 = used.iter().map(|window| window.bad).sum();
    let squares = used.iter().map(|window| window.total * window.total).sum::<f64>() / requests;
    let mean = (bad + PRIOR_BAD) / (requests + PRIOR_BAD + PRIOR_GOOD);
    let correlation = intra_class_correlation(&used, requests, squares, mean);
    let design_effect = 1.0 + correlation * (squares - 1.0);
    let effective_requests = requests / design_effect;
    let shape_bad = PRIOR_BAD + mean * effective_requests;
    let shape_good = PRIOR_GOOD + (1.0 - mean) * effective_requests;
    let mean_upper = beta_quantile(shape_bad, shape_good, 1.0 - delta / 2.0)?;
    let lower = beta_quantile(shape_bad, shape_good, delta / 2.0)?;
    let upper = if correlation > 0.0 {
        let weight = (1.0 - correlation) / correlation;
        beta_quantile(mean_upper * weight, (1.0 - mean_upper) * weight, 1.0 - delta / 2.0)?.max(mean_upper)
    } else {
        mean_upper
    };
    Ok(Baseline {
        mean,
        windows: used.len(),
        requests,
        bad,
        intra_class_correlation: correlation,
        design_effect,
        effective_requests,
        upper,
        lower,
    })
}

/// Moment estimate: the variance of the windows' proportions against what independent requests would give.
/// `squares` is the request-weighted mean window size, requests.
fn intra_class_correlation(windows: &[BaselineWindow], requests: f64, squares: f64, mean: f64) -> f64 {
    if windows.len() < FEWEST_WINDOWS_FOR_CORRELATION {
        return 0.0;
    }
    let freedom = (windows.len() - 1) as f64;
    let scatter: f64 =
        windows.iter().map(|window| window.total * (window.bad / window.total - mean).powi(2)).sum();
    let typical_size = (requests - squares) / freedom;
    let excess = scatter / freedom / (mean * (1.0 - mean)) - 1.0;
    // Windows of one request each cannot show correlation; the floor keeps the division defined.
    (excess / (typical_size - 1.0).max(1e-9)).clamp(0.0, MOST_CORRELATION)
}
