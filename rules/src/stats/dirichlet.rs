//! Shares of traffic: is the split over several arms, or the mix of status classes, the one that was configured?
//!
//! A canary that serves nothing has no errors either. Its missing requests are evidence, and this is the test that
//! counts them: the Bayes factor of a Dirichlet mixture against fixed shares is a martingale while the shares hold.
//!
//! ```text
//! log E = ln Gamma(A) - ln Gamma(A + N) + sum_i [ ln Gamma(a_i + c_i) - ln Gamma(a_i) - c_i ln t_i ]
//! A = sum of the prior's a_i,  N = sum of the counts c_i,  t_i = the shares in the null
//! ```
//!
//! That form dies at scale: its terms are of size `N ln N`, and at a billion requests their rounding reaches into the
//! digits that are wanted. So the large parts are cancelled on paper. With Stirling's form of every log-gamma,
//! `log E = G(a + c) - G(a)`,
//!
//! ```text
//! G(v) = S sum_i t_i h(v_i/(S t_i) - 1) + (ln S - sum_i ln v_i)/2 + sum_i R(v_i) - R(S),      S = sum v_i
//! h(u) = (1 + u) ln(1 + u) - u >= 0,      R = what Stirling's leading terms leave of ln Gamma
//! ```
//!
//! which reads as it should: the divergence of the observed shares from `t`, less half a logarithm per free share.
//!
//! Source: Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022).

use super::error::{StatsError, counts, open_unit, within};
use super::numerics::log_gamma_remainder;

/// How far the shares of the null may be from summing to one: written decimals such as 0.333 0.333 0.334, not a typo.
const SHARE_SLACK: f64 = 1e-6;

/// Log e-value, nats, of a Dirichlet(`alpha0`) mixture against the fixed shares `shares0`, after `counts_seen` requests
/// per arm (dimensionless, need not be whole). One entry per arm in all three, at least two arms. The shares are
/// divided by their sum. Rounding stays near `1e-16 * |count - expected count|` nats, at a billion requests too.
///
/// A usual `alpha0` is ten times the number of arms, split by `shares0`. Requests that come in clusters must be divided
/// by the cluster size first; the anchored start means evidence before a late change has to be worked off.
///
/// # Errors
/// When the lists differ in length or hold fewer than two arms, a count is negative, not finite or above 1e15, a share
/// is not strictly between 0 and 1, the shares do not sum to one, or an entry of `alpha0` is not positive and finite.
pub fn log_e_dirichlet(counts_seen: &[f64], shares0: &[f64], alpha0: &[f64]) -> Result<f64, StatsError> {
    let expected = counts_seen.len();
    if expected < 2 {
        return Err(StatsError::Empty { quantity: "second arm to share the traffic with" });
    }
    for (quantity, found) in [
        ("the list of shares in the null hypothesis", shares0.len()),
        ("the list of Dirichlet parameters", alpha0.len()),
    ] {
        if found != expected {
            return Err(StatsError::Length { quantity, expected, found });
        }
    }
    counts(0.0, counts_seen.iter().sum())?;
    for ((&count, &share), &alpha) in counts_seen.iter().zip(shares0).zip(alpha0) {
        counts(0.0, count)?;
        open_unit("a share in the null hypothesis", share)?;
        within("a Dirichlet parameter", alpha, alpha > 0.0, "a positive number")?;
    }
    let sum: f64 = shares0.iter().sum();
    within("the sum of the shares", sum, (sum - 1.0).abs() <= SHARE_SLACK, "1, up to a millionth")?;
    let shares = || shares0.iter().map(|share| share / sum);
    let after = counts_seen.iter().zip(alpha0).map(|(count, alpha)| count + alpha);
    Ok(reduced(after, shares()) - reduced(alpha0.iter().copied(), shares()))
}

/// `G` of the module's text.
fn reduced(values: impl Iterator<Item = f64> + Clone, shares: impl Iterator<Item = f64>) -> f64 {
    let sum: f64 = values.clone().sum();
    let mut result = 0.5 * sum.ln() - log_gamma_remainder(sum);
    for (value, share) in values.zip(shares) {
        let wanted = sum * share;
        result += wanted * divergence(value / wanted, (value - wanted) / wanted);
        result += log_gamma_remainder(value) - 0.5 * value.ln();
    }
    result
}

/// `h(u)`, from `1 + u` where that is the small one and from `u` where that is.
fn divergence(one_plus_u: f64, u: f64) -> f64 {
    let log = if u.abs() < 0.5 { u.ln_1p() } else { one_plus_u.ln() };
    one_plus_u * log - u
}
