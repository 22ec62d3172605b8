//! How much more errors scatter than independent requests would: the `cluster` of a test.
//!
//! Retry storms, one unlucky client or one failed batch make errors come in bunches, and a test that takes every error
//! for a separate witness raises false alarms on real traffic (99 % of watches in one simulation with clusters of five).
//! Dividing the counts by the dispersion repairs it. With the largest possible cluster in its place the guarantee is
//! exact; with an estimate it is asymptotic and was checked by simulation.
//!
//! Source: Pearson's chi-square per degree of freedom; the split into two arms makes it blind to shared trends.

use serde::{Deserialize, Serialize};

use super::error::{StatsError, counts};
use super::exact;

/// What to assume when the history is too short to estimate anything.
pub const DEFAULT_DISPERSION: f64 = 3.0;

/// Blocks with at least one error that an estimate needs.
pub const FEWEST_BLOCKS: usize = 20;

/// Errors and requests of one block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Bad requests.
    #[serde(with = "exact")]
    pub bad: f64,
    /// All requests.
    #[serde(with = "exact")]
    pub total: f64,
}

/// The dispersion of the split of errors between two halves of the OLD release's pods, at least 1, one entry per block:
/// `sum (x_a - t m)^2 / sum t (1 - t) m`, inflated by one standard error `1 + sqrt(2/blocks)`, where `m` is the errors of
/// both halves and `t` the first half's share of the requests. `None` below [`FEWEST_BLOCKS`] informative blocks: use
/// [`DEFAULT_DISPERSION`].
///
/// # Errors
/// When a count is not finite, negative, or has more bad requests than requests.
pub fn pair_dispersion(blocks: &[(Counts, Counts)]) -> Result<Option<f64>, StatsError> {
    let (mut informative, mut scatter, mut expected) = (0_usize, 0.0, 0.0);
    for (first, second) in blocks {
        counts(first.bad, first.total)?;
        counts(second.bad, second.total)?;
        let bad = first.bad + second.bad;
        if bad > 0.0 && first.total > 0.0 && second.total > 0.0 {
            let share = first.total / (first.total + second.total);
            scatter += (first.bad - share * bad).powi(2);
            expected += share * (1.0 - share) * bad;
            informative += 1;
        }
    }
    if informative < FEWEST_BLOCKS {
        return Ok(None);
    }
    let inflation = 1.0 + (2.0 / informative as f64).sqrt();
    Ok(Some((scatter / expected * inflation).max(1.0)))
}

/// The dispersion of a single series around its own neighbourhood, at least 1: chi-square per block against the mean of
/// up to `span` blocks on either side, the block itself left out. Weaker than [`pair_dispersion`], for services with one
/// pod. `None` when fewer than [`FEWEST_BLOCKS`] blocks have requests: use [`DEFAULT_DISPERSION`].
///
/// # Errors
/// When a count is not finite, negative, or has more bad requests than requests.
pub fn pearson_dispersion(blocks: &[Counts], span: usize) -> Result<Option<f64>, StatsError> {
    let (mut informative, mut scatter, mut expected) = (0_usize, 0.0, 0.0);
    for block in blocks {
        counts(block.bad, block.total)?;
    }
    for (index, block) in blocks.iter().enumerate().filter(|(_, block)| block.total > 0.0) {
        let around =
            index.saturating_sub(span)..blocks.len().min(index.saturating_add(span).saturating_add(1));
        let (mut bad, mut total) = (0.0, 0.0);
        for neighbour in around.filter(|neighbour| *neighbour != index) {
            bad += blocks[neighbour].bad;
            total += blocks[neighbour].total;
        }
        let local = ((bad + 0.5) / (total + 1.0)).clamp(1e-9, 1.0 - 1e-9);
        // The second factor is the uncertainty of the local mean itself.
        expected += block.total * local * (1.0 - local) * (1.0 + block.total / total.max(1.0));
        scatter += (block.bad - block.total * local).powi(2);
        informative += 1;
    }
    if informative < FEWEST_BLOCKS {
        return Ok(None);
    }
    Ok(Some((scatter / expected).max(1.0)))
}
